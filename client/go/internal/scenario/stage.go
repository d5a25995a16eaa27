package scenario

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
)

// ErrNoStage means that RUNHUB_STAGE names no stage and that cargo is not installed to build one.
var ErrNoStage = errors.New("RUNHUB_STAGE is not set and cargo is not installed, so there is no stage: set RUNHUB_STAGE")

// stage is a process that runs a server behind a proxy and takes commands.
type stage struct {
	// The proxy's address, to which clients connect.
	address string
	// The `runhub` binary of the server.
	binary string
	// The server's own address, which bypasses the proxy.
	direct string

	process *exec.Cmd
	input   io.WriteCloser
	output  *bufio.Reader
	// Held while a command is executed, so that its answer is not read by another one.
	lock sync.Mutex
}

// startStage starts a stage. It fails if the stage does not get ready. `root` is the project's root.
func startStage(ctx context.Context, root string) (*stage, error) {
	path, err := stagePath(ctx, root)
	if err != nil {
		return nil, err
	}
	// The stage does not end with the context. It ends when its input ends, and removes its database before.
	process := exec.Command(path)
	process.Stderr = os.Stderr
	input, err := process.StdinPipe()
	if err != nil {
		return nil, err
	}
	output, err := process.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := process.Start(); err != nil {
		return nil, err
	}
	stage := &stage{process: process, input: input, output: bufio.NewReader(output)}
	ready, err := stage.output.ReadString('\n')
	if err == nil {
		_, err = fmt.Sscanf(ready, "ready %s %s %s", &stage.address, &stage.binary, &stage.direct)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("the stage printed %q, not `ready ADDRESS BINARY DIRECT`: %w", ready, err), stage.close())
	}
	return stage, nil
}

func (s *stage) server() server {
	return server{address: s.address, binary: s.binary, direct: s.direct, stage: s}
}

// stagePath returns the path of the stage's executable. It builds the stage unless RUNHUB_STAGE names one.
func stagePath(ctx context.Context, root string) (string, error) {
	if path := os.Getenv("RUNHUB_STAGE"); path != "" {
		return path, nil
	}
	if _, err := exec.LookPath("cargo"); err != nil {
		return "", ErrNoStage
	}
	build := exec.CommandContext(ctx, "cargo", "build", "--release", "--locked", "--bin", "runhub", "--example", "stage")
	build.Dir, build.Stderr = root, os.Stderr
	if err := build.Run(); err != nil {
		return "", fmt.Errorf("can't build the stage: %w", err)
	}
	return filepath.Join(root, "target", "release", "examples", "stage"), nil
}

// execute sends a command to the stage and waits until it is done. It fails if the command fails.
func (s *stage) execute(command string) error {
	s.lock.Lock()
	defer s.lock.Unlock()
	if _, err := fmt.Fprintln(s.input, command); err != nil {
		return err
	}
	answer, err := s.output.ReadString('\n')
	if err != nil {
		return fmt.Errorf("the stage has ended: %w", err)
	}
	if answer = strings.TrimSpace(answer); answer != "ok" {
		return fmt.Errorf("the stage answered %s with: %s", command, answer)
	}
	return nil
}

// close ends the stage and waits until it has ended.
func (s *stage) close() error {
	return errors.Join(s.input.Close(), s.process.Wait())
}
