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

// ErrNoStage means that there is no stage and no cargo to build it.
var ErrNoStage = errors.New("RUNHUB_STAGE is not set, and there is no cargo to build the stage")

// stage is a server behind a proxy, which is told when to break.
type stage struct {
	address, binary, direct string

	process *exec.Cmd
	input   io.WriteCloser
	output  *bufio.Reader
	// One command at a time.
	lock sync.Mutex
}

func startStage(ctx context.Context, root string) (*stage, error) {
	path, err := stagePath(ctx, root)
	if err != nil {
		return nil, err
	}
	// Not ended with the context: it ends with its input, and takes the database with it.
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
		return nil, errors.Join(fmt.Errorf("the stage said %q: %w", ready, err), stage.close())
	}
	return stage, nil
}

func (s *stage) server() server {
	return server{address: s.address, binary: s.binary, direct: s.direct, stage: s}
}

// stagePath is where the stage is, once it is built.
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
		return "", fmt.Errorf("building the stage: %w", err)
	}
	return filepath.Join(root, "target", "release", "examples", "stage"), nil
}

// tell has the stage do something, and returns when it is done.
func (s *stage) tell(command string) error {
	s.lock.Lock()
	defer s.lock.Unlock()
	if _, err := fmt.Fprintln(s.input, command); err != nil {
		return err
	}
	answer, err := s.output.ReadString('\n')
	if err != nil {
		return fmt.Errorf("the stage is gone: %w", err)
	}
	if answer = strings.TrimSpace(answer); answer != "ok" {
		return fmt.Errorf("the stage: %s: %s", command, answer)
	}
	return nil
}

func (s *stage) close() error {
	return errors.Join(s.input.Close(), s.process.Wait())
}
