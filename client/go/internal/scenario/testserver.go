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

// ErrNoTestServer means that RUNHUB_TEST_SERVER is not set and that cargo, which builds the test server, is not
// installed.
var ErrNoTestServer = errors.New(
	"can't build `test_server`, because cargo is not installed: install cargo, or set RUNHUB_TEST_SERVER to the path of `test_server`")

// testServer is a process that runs a server behind a proxy and executes commands.
type testServer struct {
	// Address of the proxy, to which clients connect.
	address string
	// Path of the server's `runhub` binary.
	binary string
	// Address of the server itself, which bypasses the proxy.
	direct string

	process *exec.Cmd
	input   io.WriteCloser
	output  *bufio.Reader
	// Mutex that is held while a command is executed, so that each command reads the test server's response to this
	// command.
	lock sync.Mutex
}

// startTestServer starts a test server. The parameter root is the root folder of the project. startTestServer fails if
// the test server can't be built or does not print its addresses.
func startTestServer(ctx context.Context, root string) (*testServer, error) {
	path, err := testServerPath(ctx, root)
	if err != nil {
		return nil, err
	}
	// The end of the context must not kill the test server, because a killed test server would not remove its database.
	// When the input of the test server is closed, the test server exits.
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
	testServer := &testServer{process: process, input: input, output: bufio.NewReader(output)}
	ready, err := testServer.output.ReadString('\n')
	if err == nil {
		_, err = fmt.Sscanf(ready, "ready %s %s %s", &testServer.address, &testServer.binary, &testServer.direct)
	}
	if err != nil {
		err = fmt.Errorf("the program %s must print `ready ADDRESS BINARY DIRECT`, but printed %q (%w): read its standard error", path, ready, err)
		return nil, errors.Join(err, testServer.close())
	}
	return testServer, nil
}

func (s *testServer) server() server {
	return server{address: s.address, binary: s.binary, direct: s.direct, testServer: s}
}

// testServerPath returns the path of the test server's executable. If RUNHUB_TEST_SERVER is not set, testServerPath
// first builds the test server. testServerPath fails with ErrNoTestServer if cargo is not installed, and with another
// error if the build fails.
func testServerPath(ctx context.Context, root string) (string, error) {
	if path := os.Getenv("RUNHUB_TEST_SERVER"); path != "" {
		return path, nil
	}
	if _, err := exec.LookPath("cargo"); err != nil {
		return "", ErrNoTestServer
	}
	build := exec.CommandContext(
		ctx, "cargo", "build", "--release", "--locked", "--bin", "runhub", "--example", "test_server")
	build.Dir, build.Stderr = root, os.Stderr
	if err := build.Run(); err != nil {
		return "", fmt.Errorf("`cargo build --example test_server` failed (%w): correct the errors that cargo printed", err)
	}
	return filepath.Join(root, "target", "release", "examples", "test_server"), nil
}

// execute sends a command to the test server and waits until the test server has executed the command. execute fails if
// the command fails.
func (s *testServer) execute(command string) error {
	s.lock.Lock()
	defer s.lock.Unlock()
	if _, err := fmt.Fprintln(s.input, command); err != nil {
		return err
	}
	answer, err := s.output.ReadString('\n')
	if err != nil {
		return fmt.Errorf("the program `test_server` has exited without a response to the command %q (%w): read the program's standard error", command, err)
	}
	if answer = strings.TrimSpace(answer); answer != "ok" {
		return fmt.Errorf("the program `test_server` did not execute the command %q (%s): read the program's standard error", command, answer)
	}
	return nil
}

// close ends the test server and waits until the process of the test server has exited. close fails if the process
// exits with an error.
func (s *testServer) close() error {
	return errors.Join(s.input.Close(), s.process.Wait())
}
