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

// outcome is what came of a call in the background.
type outcome struct {
	answer any
	err    error
}

// refused is how a call must be refused.
type refused struct {
	Reason   runhub.Reason `json:"reason"`
	Code     *codes.Code   `json:"code"`
	Metadata any           `json:"metadata"`
	Fields   []string      `json:"fields"`
}

// call makes a call by its name, as TaskService/AddTasks, with a request and an answer in JSON.
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

func (p *part) begin(step *step) error {
	// Holds the answer if nobody comes for it.
	answer := make(chan outcome, 1)
	p.calls[step.As] = answer
	p.background.Go(func() {
		came, err := p.call(p.ctx, step.Call, step.With)
		answer <- outcome{came, err}
	})
	return nil
}

func (p *part) answer(ctx context.Context, step *step) (any, error) {
	call, ok := p.calls[step.Answer]
	if !ok {
		return nil, fmt.Errorf("no call %q", step.Answer)
	}
	select {
	case came := <-call:
		return step.Refused.check(came.answer, came.err)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// check compares how a call was refused with what was wanted; nil means not at all.
func (r *refused) check(answer any, err error) (any, error) {
	if r == nil {
		return answer, err
	}
	var e *runhub.Error
	if !errors.As(err, &e) {
		return nil, fmt.Errorf("wanted a refusal by %s, came %s (%v)", r.Reason, show(answer), err)
	}
	if e.Reason != r.Reason {
		return nil, differs("reason", r.Reason, err.Error())
	}
	if r.Code != nil && *r.Code != e.Code {
		return nil, differs("code", r.Code.String(), e.Code.String())
	}
	var fields []string
	for _, field := range e.Fields {
		fields = append(fields, field.Field)
	}
	if r.Fields != nil && !slices.Equal(r.Fields, fields) {
		return nil, differs("fields", r.Fields, fields)
	}
	metadata := make(map[string]any)
	for key, value := range e.Metadata {
		metadata[key] = value
	}
	if r.Metadata == nil {
		return nil, nil
	}
	return nil, match("metadata", r.Metadata, metadata)
}

// messages are an empty request and an empty answer of an RPC.
func messages(name string) (request, answer proto.Message, err error) {
	path := protoreflect.FullName(protoPackage + strings.Replace(name, "/", ".", 1))
	found, err := protoregistry.GlobalFiles.FindDescriptorByName(path)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", name, err)
	}
	method, ok := found.(protoreflect.MethodDescriptor)
	if !ok {
		return nil, nil, fmt.Errorf("%s is no RPC", name)
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

// toJSON is a message as the scenarios show it.
func toJSON(message proto.Message) (any, error) {
	text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(message)
	if err != nil {
		return nil, err
	}
	var value any
	return value, json.Unmarshal(text, &value)
}

func (p *part) commandLine(ctx context.Context, arguments []string) error {
	command := exec.CommandContext(ctx, p.server.binary, append(arguments, "--server", p.server.direct)...)
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("%v: %w\n%s", command, err, output)
	}
	return nil
}
