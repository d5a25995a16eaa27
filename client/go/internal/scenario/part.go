package scenario

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	runhub "github.com/runhub/runhub/client/go"
)

const (
	// The time limit of a step.
	stepLimit = 60 * time.Second
	// The time limit of a step that expects an error or a lost lease. After more time, the client has retried a refused
	// call, or the lease was lost for another reason.
	shortStepLimit = 10 * time.Second
)

// part plays the steps of one part. It holds the part's variables and background work.
type part struct {
	// The context of the background work.
	ctx        context.Context
	background sync.WaitGroup
	server     server
	client     *runhub.Client

	variables  map[string]any
	calls      map[string]chan result
	leases     map[string]*heldLease
	collectors map[string]*collector
}

// step is one step with its variables substituted. Exactly one of the verbs is set.
type step struct {
	// A comment in the scenario.
	Why     string            `json:"why"`
	Expect  any               `json:"expect"`
	Save    map[string]string `json:"save"`
	Refused *refused          `json:"refused"`
	As      string            `json:"as"`

	// The verbs and their members. The README of the scenarios explains them.
	Call      string          `json:"call"`
	With      json.RawMessage `json:"with"`
	Answer    string          `json:"answer"`
	Server    string          `json:"server"`
	Hold      json.RawMessage `json:"hold"`
	Lost      string          `json:"lost"`
	Because   runhub.Cause    `json:"because"`
	LetGo     string          `json:"let_go"`
	Work      json.RawMessage `json:"work"`
	Subscribe json.RawMessage `json:"subscribe"`
	Seen      string          `json:"seen"`
	Event     any             `json:"event"`
	End       string          `json:"end"`
	Kinds     []string        `json:"kinds"`
	CLI       []string        `json:"cli"`
}

func newPart(ctx context.Context, server server, client *runhub.Client) *part {
	return &part{
		ctx:        ctx,
		server:     server,
		client:     client,
		variables:  make(map[string]any),
		calls:      make(map[string]chan result),
		leases:     make(map[string]*heldLease),
		collectors: make(map[string]*collector),
	}
}

// play plays one step, compares its answer with the expected one, and saves its variables.
func (p *part) play(raw map[string]any) error {
	step, err := p.parse(raw)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(p.ctx, step.limit())
	defer cancel()
	answer, err := p.do(ctx, step)
	if err != nil {
		return err
	}
	if step.Expect != nil {
		if err := match("answer", step.Expect, answer); err != nil {
			return err
		}
	}
	return p.save(step.Save, answer)
}

// limit returns the time limit of the step.
func (s *step) limit() time.Duration {
	if s.Refused != nil || s.Lost != "" {
		return shortStepLimit
	}
	return stepLimit
}

// do does what the step's verb says, and returns its answer. Nil if the verb has no answer.
func (p *part) do(ctx context.Context, step *step) (any, error) {
	switch {
	case step.Call != "" && step.As != "":
		return nil, p.startCall(step)
	case step.Call != "":
		return step.Refused.check(p.call(ctx, step.Call, step.With))
	case step.Answer != "":
		return p.answer(ctx, step)
	case step.Server != "":
		return nil, p.sendToStage(step.Server)
	case step.Hold != nil:
		return nil, p.hold(step)
	case step.Lost != "":
		return nil, p.lost(ctx, step)
	case step.LetGo != "":
		return nil, p.letGo(ctx, step)
	case step.Work != nil:
		return p.work(ctx, step)
	case step.Subscribe != nil:
		return nil, p.subscribe(step)
	case step.Seen != "":
		return p.seen(ctx, step)
	case step.CLI != nil:
		return nil, p.commandLine(ctx, step.CLI)
	default:
		return nil, errors.New("the step has no verb")
	}
}

// sendToStage sends a command to the stage and waits until it is done.
func (p *part) sendToStage(command string) error {
	if p.server.stage == nil {
		return errors.New("the verb server needs a stage, but --server names a server without one")
	}
	return p.server.stage.execute(command)
}

// parse substitutes the variables in a step and parses it. It fails if the step has an unknown member, because the member
// would be a check that this runner does not make.
func (p *part) parse(raw map[string]any) (*step, error) {
	substituted, err := p.substitute(raw)
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(substituted)
	if err != nil {
		return nil, err
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	step := new(step)
	return step, decoder.Decode(step)
}

// substitute returns the value with each string "$name" replaced by the variable. It fails if a variable is not set.
func (p *part) substitute(value any) (any, error) {
	switch value := value.(type) {
	case string:
		name, ok := strings.CutPrefix(value, "$")
		if !ok {
			return value, nil
		}
		known, ok := p.variables[name]
		if !ok {
			return nil, fmt.Errorf("the variable %s is not set", name)
		}
		return known, nil
	case map[string]any:
		substituted := make(map[string]any, len(value))
		for key, member := range value {
			var err error
			if substituted[key], err = p.substitute(member); err != nil {
				return nil, err
			}
		}
		return substituted, nil
	case []any:
		substituted := make([]any, len(value))
		for i, member := range value {
			var err error
			if substituted[i], err = p.substitute(member); err != nil {
				return nil, err
			}
		}
		return substituted, nil
	default:
		return value, nil
	}
}

// save sets the variables from the paths in the answer. It fails if a path names nothing.
func (p *part) save(paths map[string]string, answer any) error {
	for name, path := range paths {
		value, err := find(answer, path)
		if err != nil {
			return err
		}
		p.variables[name] = value
	}
	return nil
}
