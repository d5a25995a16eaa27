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
	// stepLimit is the time limit of a step.
	stepLimit = 60 * time.Second
	// shortStepLimit is the time limit of a step that expects an error or a lost lease. A longer step shows that the
	// client has retried a refused call, or that the lease was lost for another reason.
	shortStepLimit = 10 * time.Second
)

// participantRunner runs the steps of one participant of a scenario, and stores the variables, the background calls,
// the leases and the subscriptions of the participant.
type participantRunner struct {
	// Context of the background calls, leases and subscriptions.
	ctx        context.Context
	background sync.WaitGroup
	server     server
	client     *runhub.Client

	variables  map[string]any
	calls      map[string]chan result
	leases     map[string]*heldLease
	collectors map[string]*collector
}

// step is one step of a scenario after the substitution of its variables. Exactly one verb is set.
type step struct {
	// Comment of the scenario's author. The runner ignores this member.
	Why     string            `json:"why"`
	Expect  any               `json:"expect"`
	Save    map[string]string `json:"save"`
	Refused *expectedError    `json:"refused"`
	As      string            `json:"as"`

	// The verbs of a step and the JSON members that each verb accepts. client/scenarios/README.md explains the verbs.
	Call       string          `json:"call"`
	With       json.RawMessage `json:"with"`
	Answer     string          `json:"answer"`
	Server     string          `json:"server"`
	KeepLease  json.RawMessage `json:"keep_lease"`
	Lost       string          `json:"lost"`
	Cause      runhub.Cause    `json:"cause"`
	StopKeeper string          `json:"stop_keeper"`
	Work       json.RawMessage `json:"work"`
	Subscribe  json.RawMessage `json:"subscribe"`
	Seen       string          `json:"seen"`
	Event      any             `json:"event"`
	End        string          `json:"end"`
	Kinds      []string        `json:"kinds"`
	CLI        []string        `json:"cli"`
}

func newParticipantRunner(ctx context.Context, server server, client *runhub.Client) *participantRunner {
	return &participantRunner{
		ctx:        ctx,
		server:     server,
		client:     client,
		variables:  make(map[string]any),
		calls:      make(map[string]chan result),
		leases:     make(map[string]*heldLease),
		collectors: make(map[string]*collector),
	}
}

// runStep runs one step, compares the response with the expected response, and saves the step's variables. runStep
// fails if the step fails, or if the response differs from the expected response.
func (p *participantRunner) runStep(raw map[string]any) error {
	step, err := p.parse(raw)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(p.ctx, step.limit())
	defer cancel()
	answer, err := p.executeVerb(ctx, step)
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

// executeVerb executes the verb of the step and returns the verb's response. executeVerb returns nil if the verb has no
// response. executeVerb fails if the step has no verb.
func (p *participantRunner) executeVerb(ctx context.Context, step *step) (any, error) {
	switch {
	case step.Call != "" && step.As != "":
		return nil, p.startCall(step)
	case step.Call != "":
		return step.Refused.check(p.call(ctx, step.Call, step.With))
	case step.Answer != "":
		return p.waitForResponse(ctx, step)
	case step.Server != "":
		return nil, p.sendToTestServer(step.Server)
	case step.KeepLease != nil:
		return nil, p.keepLease(step)
	case step.Lost != "":
		return nil, p.waitUntilLost(ctx, step)
	case step.StopKeeper != "":
		return nil, p.stopKeeper(ctx, step)
	case step.Work != nil:
		return p.work(ctx, step)
	case step.Subscribe != nil:
		return nil, p.subscribe(step)
	case step.Seen != "":
		return p.waitForMessage(ctx, step)
	case step.CLI != nil:
		return nil, p.runCommandLine(ctx, step.CLI)
	default:
		return nil, errors.New("the step has no verb: add a verb from the table in client/scenarios/README.md")
	}
}

// sendToTestServer sends a command to the test server and waits until the test server has executed the command.
// sendToTestServer fails if there is no test server, or if the command fails.
func (p *participantRunner) sendToTestServer(command string) error {
	if p.server.testServer == nil {
		return fmt.Errorf("the command %q needs the program `test_server`: run the scenario without --server", command)
	}
	return p.server.testServer.execute(command)
}

// parse substitutes the variables in a step and parses the step. parse fails if a variable is not set. parse also fails
// if the step has an unknown member, because the member would be a check that this runner does not make.
func (p *participantRunner) parse(raw map[string]any) (*step, error) {
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

// substitute returns a copy of the value in which each string "$name" is replaced by the variable of this name.
// substitute fails if a variable is not set.
func (p *participantRunner) substitute(value any) (any, error) {
	switch value := value.(type) {
	case string:
		name, ok := strings.CutPrefix(value, "$")
		if !ok {
			return value, nil
		}
		known, ok := p.variables[name]
		if !ok {
			return nil, fmt.Errorf("the variable %q is not set: add `save` to an earlier step", name)
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

// save sets the variables to the values at the paths in the response. save fails if there is no value at a path.
func (p *participantRunner) save(paths map[string]string, answer any) error {
	for name, path := range paths {
		value, err := find(answer, path)
		if err != nil {
			return err
		}
		p.variables[name] = value
	}
	return nil
}
