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

// result is the answer of a call, or its error.
type result struct {
	answer any
	err    error
}

// refused is the error with which the server must refuse a call. Only the reason is required.
type refused struct {
	Reason   runhub.Reason `json:"reason"`
	Code     *codes.Code   `json:"code"`
	Metadata any           `json:"metadata"`
	Fields   []string      `json:"fields"`
}

// call makes a call by its name, such as TaskService/AddTasks, with a request in JSON. It returns the answer in JSON.
func (p *part) call(ctx context.Context, name string, with json.RawMessage) (any, error) {
	request, answer, err := messages(name)
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

// startCall starts a call in the background.
func (p *part) startCall(step *step) error {
	// The buffer holds the result if no step asks for it.
	results := make(chan result, 1)
	p.calls[step.As] = results
	p.background.Go(func() {
		answer, err := p.call(p.ctx, step.Call, step.With)
		results <- result{answer, err}
	})
	return nil
}

// answer waits for the result of a call in the background.
func (p *part) answer(ctx context.Context, step *step) (any, error) {
	results, ok := p.calls[step.Answer]
	if !ok {
		return nil, fmt.Errorf("no call was started as %q", step.Answer)
	}
	select {
	case result := <-results:
		return step.Refused.check(result.answer, result.err)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// check compares the error of a call with the expected one. If r is nil, the call must not be refused.
func (r *refused) check(answer any, err error) (any, error) {
	if r == nil {
		return answer, err
	}
	var e *runhub.Error
	if !errors.As(err, &e) {
		return nil, fmt.Errorf("expected the error %s, got the answer %s (error: %v)", r.Reason, show(answer), err)
	}
	if e.Reason != r.Reason {
		return nil, difference("reason", r.Reason, err.Error())
	}
	if r.Code != nil && *r.Code != e.Code {
		return nil, difference("code", r.Code.String(), e.Code.String())
	}
	if err := r.checkFields(e.Fields); err != nil {
		return nil, err
	}
	return nil, r.checkMetadata(e.Metadata)
}

func (r *refused) checkFields(got []runhub.FieldError) error {
	var fields []string
	for _, field := range got {
		fields = append(fields, field.Field)
	}
	if r.Fields != nil && !slices.Equal(r.Fields, fields) {
		return difference("fields", r.Fields, fields)
	}
	return nil
}

func (r *refused) checkMetadata(got map[string]string) error {
	if r.Metadata == nil {
		return nil
	}
	metadata := make(map[string]any)
	for key, value := range got {
		metadata[key] = value
	}
	return match("metadata", r.Metadata, metadata)
}

// messages returns an empty request and an empty answer of an RPC. It fails if there is no such RPC.
func messages(name string) (request, answer proto.Message, err error) {
	path := protoreflect.FullName(protoPackage + strings.Replace(name, "/", ".", 1))
	found, err := protoregistry.GlobalFiles.FindDescriptorByName(path)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", name, err)
	}
	method, ok := found.(protoreflect.MethodDescriptor)
	if !ok {
		return nil, nil, fmt.Errorf("%s is not an RPC", name)
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

// toJSON returns a message in the JSON format of the scenarios.
func toJSON(message proto.Message) (any, error) {
	text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(message)
	if err != nil {
		return nil, err
	}
	var value any
	return value, json.Unmarshal(text, &value)
}

// commandLine runs `runhub` with these arguments against the server's own address. It fails if the command fails.
func (p *part) commandLine(ctx context.Context, arguments []string) error {
	command := exec.CommandContext(ctx, p.server.binary, append(arguments, "--server", p.server.direct)...)
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("%v: %w\n%s", command, err, output)
	}
	return nil
}
