// Package scenario runs scenarios with the Go client. client/scenarios/README.md explains the scenarios.
package scenario

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	runhub "github.com/runhub/runhub/client/go"
)

// Language is the name of this runner's language in the runner's output.
const Language = "go"

// Runner runs scenarios with the Go client.
type Runner struct {
	// Address of the server against which the scenarios run. If the address is empty, the runner starts a test server
	// for each scenario.
	Server string
	// Name of the only participant whose steps the runner runs. If the name is empty, the runner runs the steps of all
	// participants.
	Participant string
}

// server is the server against which a scenario runs.
type server struct {
	// Address to which clients connect.
	address string
	// Path of the `runhub` binary for the verb `cli`.
	binary string
	// Address of the server itself, for the verb `cli`. This address bypasses the test server's proxy.
	direct string
	// Test server that controls the server. If the server runs without a test server, the value is nil. The verb `server`
	// then fails.
	testServer *testServer
}

// file is the content of a scenario file.
type file struct {
	About        string                      `json:"about"`
	Participants map[string][]map[string]any `json:"participants"`
}

// Name returns the name of the scenario in a file, which is the file name without its extension.
func Name(path string) string {
	return strings.TrimSuffix(filepath.Base(path), ".json")
}

// RunScenario runs the scenario in a file. RunScenario fails at the first step whose result differs from the expected
// result.
func (r Runner) RunScenario(ctx context.Context, path string) (err error) {
	participants, err := r.participants(path)
	if err != nil {
		return err
	}
	server := server{address: r.Server, direct: r.Server, binary: os.Getenv("RUNHUB_BIN")}
	if r.Server == "" {
		testServer, err := startTestServer(ctx, filepath.Join(filepath.Dir(path), "..", ".."))
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, testServer.close()) }()
		server = testServer.server()
	}
	return runParticipants(ctx, server, participants)
}

// participants returns the steps of each participant to run. participants fails if the file is not a scenario, or if
// the scenario has no participant with the name r.Participant.
func (r Runner) participants(path string) (map[string][]map[string]any, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var file file
	if err := json.Unmarshal(text, &file); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if r.Participant == "" {
		return file.Participants, nil
	}
	steps, ok := file.Participants[r.Participant]
	if !ok {
		return nil, fmt.Errorf(
			"the scenario file %s has no participant %q: pass an existing participant with --participant", path, r.Participant)
	}
	return map[string][]map[string]any{r.Participant: steps}, nil
}

// runParticipants runs the steps of the participants at the same time. If a participant fails, runParticipants ends the
// other participants and returns the error.
func runParticipants(ctx context.Context, server server, participants map[string][]map[string]any) error {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	var running sync.WaitGroup
	for name, steps := range participants {
		running.Go(func() {
			if err := runParticipant(ctx, server, steps); err != nil {
				fail(fmt.Errorf("participant %s: %w", name, err))
			}
		})
	}
	running.Wait()
	return context.Cause(ctx)
}

func runParticipant(ctx context.Context, server server, steps []map[string]any) (err error) {
	client, err := runhub.Connect(server.address)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	runner := newParticipantRunner(ctx, server, client)
	defer func() {
		cancel()
		runner.background.Wait()
		err = errors.Join(err, client.Close())
	}()
	for i, raw := range steps {
		if err := runner.runStep(raw); err != nil {
			text, _ := json.Marshal(raw)
			return fmt.Errorf("step %d: %w\n  %s", i+1, err, text)
		}
	}
	return nil
}
