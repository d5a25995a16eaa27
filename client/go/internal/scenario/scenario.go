// Package scenario plays scenarios with the Go client. client/scenarios/README.md explains them.
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

// Language is the name of this runner's language in its output.
const Language = "go"

// Player plays scenarios.
type Player struct {
	// The address of the server to play against. If it is empty, each scenario has a stage of its own.
	Server string
	// The only part to play. If it is empty, all parts are played.
	Part string
}

// server is the server that a scenario is played against.
type server struct {
	// The address to which clients connect.
	address string
	// The `runhub` binary for the verb `cli`.
	binary string
	// The server's own address, for the verb `cli`. It bypasses the stage's proxy.
	direct string
	// Nil if the server is running already; the verb `server` then fails.
	stage *stage
}

// file is the content of a scenario's file.
type file struct {
	About string                      `json:"about"`
	Parts map[string][]map[string]any `json:"parts"`
}

// Name returns the name of the scenario in a file: the file's name without its extension.
func Name(path string) string {
	return strings.TrimSuffix(filepath.Base(path), ".json")
}

// Play plays the scenario in a file. It fails with the first step whose result is not as expected.
func (p Player) Play(ctx context.Context, path string) (err error) {
	parts, err := p.parts(path)
	if err != nil {
		return err
	}
	server := server{address: p.Server, direct: p.Server, binary: os.Getenv("RUNHUB_BIN")}
	if p.Server == "" {
		stage, err := startStage(ctx, filepath.Join(filepath.Dir(path), "..", ".."))
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, stage.close()) }()
		server = stage.server()
	}
	return playAll(ctx, server, parts)
}

// parts returns the steps of each part to play. It fails if the file is not a scenario or has no such part.
func (p Player) parts(path string) (map[string][]map[string]any, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var file file
	if err := json.Unmarshal(text, &file); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if p.Part == "" {
		return file.Parts, nil
	}
	steps, ok := file.Parts[p.Part]
	if !ok {
		return nil, fmt.Errorf("%s has no part %q", path, p.Part)
	}
	return map[string][]map[string]any{p.Part: steps}, nil
}

// playAll plays the parts at the same time. If a part fails, playAll ends the other parts and returns the error.
func playAll(ctx context.Context, server server, parts map[string][]map[string]any) error {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	var playing sync.WaitGroup
	for name, steps := range parts {
		playing.Go(func() {
			if err := playPart(ctx, server, steps); err != nil {
				fail(fmt.Errorf("part %s: %w", name, err))
			}
		})
	}
	playing.Wait()
	return context.Cause(ctx)
}

func playPart(ctx context.Context, server server, steps []map[string]any) (err error) {
	client, err := runhub.Connect(server.address)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	part := newPart(ctx, server, client)
	defer func() {
		cancel()
		part.background.Wait()
		err = errors.Join(err, client.Close())
	}()
	for i, raw := range steps {
		if err := part.play(raw); err != nil {
			text, _ := json.Marshal(raw)
			return fmt.Errorf("step %d: %w\n  %s", i+1, err, text)
		}
	}
	return nil
}
