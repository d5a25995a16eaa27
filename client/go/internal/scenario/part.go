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
	stepLimit = 60 * time.Second
	// Of what a client must not try again, or must notice soon.
	shortLimit = 10 * time.Second
)

// part is one part while it is played.
type part struct {
	// Of all that goes on in the background.
	ctx        context.Context
	background sync.WaitGroup
	server     server
	client     *runhub.Client

	variables     map[string]any
	calls         map[string]chan outcome
	held          map[string]*held
	subscriptions map[string]*collected
}

// step is one step with its variables filled in. Which verb it is shows by what is set.
type step struct {
	Why     string            `json:"why"`
	Expect  any               `json:"expect"`
	Save    map[string]string `json:"save"`
	Refused *refused          `json:"refused"`
	As      string            `json:"as"`

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
		ctx:           ctx,
		server:        server,
		client:        client,
		variables:     make(map[string]any),
		calls:         make(map[string]chan outcome),
		held:          make(map[string]*held),
		subscriptions: make(map[string]*collected),
	}
}

// play plays one step: does it, compares its answer, and keeps what is to be kept of it.
func (p *part) play(raw map[string]any) error {
	step, err := p.filledIn(raw)
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

func (s *step) limit() time.Duration {
	if s.Refused != nil || s.Lost != "" {
		return shortLimit
	}
	return stepLimit
}

func (p *part) do(ctx context.Context, step *step) (any, error) {
	switch {
	case step.Call != "" && step.As != "":
		return nil, p.begin(step)
	case step.Call != "":
		return step.Refused.check(p.call(ctx, step.Call, step.With))
	case step.Answer != "":
		return p.answer(ctx, step)
	case step.Server != "":
		return nil, p.tell(step.Server)
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
		return nil, errors.New("a step without a verb")
	}
}

func (p *part) tell(command string) error {
	if p.server.stage == nil {
		return errors.New("there is no stage to tell")
	}
	return p.server.stage.tell(command)
}

func (p *part) filledIn(raw map[string]any) (*step, error) {
	filled, err := p.fillIn(raw)
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(filled)
	if err != nil {
		return nil, err
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	step := new(step)
	return step, decoder.Decode(step)
}

// fillIn puts the variables where "$name" stands as a whole string.
func (p *part) fillIn(value any) (any, error) {
	switch value := value.(type) {
	case string:
		name, ok := strings.CutPrefix(value, "$")
		if !ok {
			return value, nil
		}
		known, ok := p.variables[name]
		if !ok {
			return nil, fmt.Errorf("no variable %q", name)
		}
		return known, nil
	case map[string]any:
		filled := make(map[string]any, len(value))
		for key, member := range value {
			var err error
			if filled[key], err = p.fillIn(member); err != nil {
				return nil, err
			}
		}
		return filled, nil
	case []any:
		filled := make([]any, len(value))
		for i, member := range value {
			var err error
			if filled[i], err = p.fillIn(member); err != nil {
				return nil, err
			}
		}
		return filled, nil
	default:
		return value, nil
	}
}

func (p *part) save(wanted map[string]string, answer any) error {
	for name, path := range wanted {
		value, err := find(answer, path)
		if err != nil {
			return err
		}
		p.variables[name] = value
	}
	return nil
}
