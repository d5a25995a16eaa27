package scenario

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	runhub "github.com/runhub/runhub/client/go"
)

const protoPackage = "runhub.v1."

// result is the response or the error of a call.
type result struct {
	answer any
	err    error
}

// expectedError is the error with which the server must refuse a call. Only the reason is required. If the scenario
// specifies the code, the fields or the metadata, the runner also compares each specified member.
type expectedError struct {
	Reason   runhub.Reason `json:"reason"`
	Code     *codes.Code   `json:"code"`
	Metadata any           `json:"metadata"`
	Fields   []string      `json:"fields"`
}

// call calls an RPC such as TaskService/AddTasks with a request in JSON, and returns the response in JSON. call fails
// if the RPC does not exist, if the request is not valid, or if the call fails.
func (p *participantRunner) call(ctx context.Context, name string, with json.RawMessage) (any, error) {
	request, answer, err := emptyMessages(name)
	if err != nil {
		return nil, err
	}
	if with != nil {
		if err := protojson.Unmarshal(with, request); err != nil {
			return nil, err
		}
	}
	if err := p.client.Conn().Invoke(ctx, "/"+protoPackage+name, request, answer); err != nil {
		return nil, err
	}
	return toJSON(answer)
}

// startCall starts a call in the background. A later step waits for the result of the call.
func (p *participantRunner) startCall(step *step) error {
	// The buffer lets the goroutine end, even if no step waits for the result.
	results := make(chan result, 1)
	p.calls[step.As] = results
	p.background.Go(func() {
		answer, err := p.call(p.ctx, step.Call, step.With)
		results <- result{answer, err}
	})
	return nil
}

// waitForResponse waits for the result of a background call and checks the result. waitForResponse fails if the background
// call does not exist, if the result differs from the expected result, or if the context ends first.
func (p *participantRunner) waitForResponse(ctx context.Context, step *step) (any, error) {
	results, ok := p.calls[step.Answer]
	if !ok {
		return nil, fmt.Errorf("there is no background call %q: add a step with `call` and `as` first", step.Answer)
	}
	select {
	case result := <-results:
		return step.Refused.check(result.answer, result.err)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// check compares the error of a call with the expected error, and fails if the errors differ. If no error is expected,
// e is nil, and check returns the response and the error of the call unchanged.
func (e *expectedError) check(answer any, err error) (any, error) {
	if e == nil {
		return answer, err
	}
	var actual *runhub.Error
	if !errors.As(err, &actual) {
		return nil, fmt.Errorf(
			"the step's call must fail with the reason %s, but returned the response %s and the error %v: check the scenario's steps before this step", e.Reason, show(answer), err)
	}
	if actual.Reason != e.Reason {
		return nil, differenceError("reason", e.Reason, err.Error())
	}
	if e.Code != nil && *e.Code != actual.Code {
		return nil, differenceError("code", e.Code.String(), actual.Code.String())
	}
	if err := e.checkFields(actual.Fields); err != nil {
		return nil, err
	}
	return nil, e.checkMetadata(actual.Metadata)
}

func (e *expectedError) checkFields(got []runhub.FieldError) error {
	var fields []string
	for _, field := range got {
		fields = append(fields, field.Field)
	}
	if e.Fields != nil && !slices.Equal(e.Fields, fields) {
		return differenceError("fields", e.Fields, fields)
	}
	return nil
}

func (e *expectedError) checkMetadata(got map[string]string) error {
	if e.Metadata == nil {
		return nil
	}
	metadata := make(map[string]any)
	for key, value := range got {
		metadata[key] = value
	}
	return match("metadata", e.Metadata, metadata)
}

// emptyMessages returns an empty request and an empty response of an RPC, and fails if the RPC does not exist.
func emptyMessages(name string) (request, answer proto.Message, err error) {
	path := protoreflect.FullName(protoPackage + strings.Replace(name, "/", ".", 1))
	found, err := protoregistry.GlobalFiles.FindDescriptorByName(path)
	if err != nil {
		return nil, nil, fmt.Errorf("the API has no RPC %q (%w): correct the step's `call`", name, err)
	}
	method, ok := found.(protoreflect.MethodDescriptor)
	if !ok {
		return nil, nil, fmt.Errorf("%q is not the name of an RPC: use the form SERVICE/RPC", name)
	}
	input, err := protoregistry.GlobalTypes.FindMessageByName(method.Input().FullName())
	if err != nil {
		return nil, nil, err
	}
	output, err := protoregistry.GlobalTypes.FindMessageByName(method.Output().FullName())
	if err != nil {
		return nil, nil, err
	}
	return input.New().Interface(), output.New().Interface(), nil
}

// toJSON converts a message to the JSON format of the scenarios. toJSON fails if the message can't be encoded.
func toJSON(message proto.Message) (any, error) {
	text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(message)
	if err != nil {
		return nil, err
	}
	var value any
	return value, json.Unmarshal(text, &value)
}

// runCommandLine runs `runhub` with the passed arguments against the server's own address, which bypasses the test
// server's proxy. runCommandLine fails if the command fails.
func (p *participantRunner) runCommandLine(ctx context.Context, arguments []string) error {
	command := exec.CommandContext(ctx, p.server.binary, append(arguments, "--server", p.server.direct)...)
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("the command %v failed (%w), and its output shows the reason:\n%s", command, err, output)
	}
	return nil
}
