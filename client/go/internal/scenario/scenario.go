// Package scenario plays the scenarios that all clients of Runhub are held to: client/scenarios/README.md says what
// they are.
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

// Language is what this runner calls itself.
const Language = "go"

// Player plays scenarios.
type Player struct {
	// The server to play against. Empty: each scenario has a stage of its own.
	Server string
	// The only part to play. Empty: all.
	Part string
}

// server is what a scenario is played against.
type server struct {
	address string
	// The `runhub` for the command line, and where that connects: past the stage's proxy.
	binary, direct string
	// Nil when the server is somebody else's.
	stage *stage
}

type file struct {
	About string                      `json:"about"`
	Parts map[string][]map[string]any `json:"parts"`
}

// Name is what a scenario's file is called without its ending.
func Name(path string) string {
	return strings.TrimSuffix(filepath.Base(path), ".json")
}

// Play plays the scenario in a file. The error says which part failed at which step.
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

// playAll plays the parts at the same time. The first that fails ends the others.
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
