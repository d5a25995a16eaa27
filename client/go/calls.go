package runhub

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
)

// The server cuts a longer `wait` to this.
const longestWait = 5 * time.Minute

// repeated makes calls until they are answered, within a deadline. Streams are opened once.
type repeated struct {
	tries
	deadline time.Duration
}

func (r repeated) Invoke(ctx context.Context, method string, args, reply any, options ...grpc.CallOption) error {
	request, ok := args.(proto.Message)
	if !ok {
		return r.tries.Invoke(ctx, method, args, reply, options...)
	}
	request = identified(request)
	asked, begun := wait(request), time.Now()
	limit := r.deadline + asked
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err := r.repeat(limited, limit, func() error {
		return r.tries.Invoke(limited, method, waiting(request, asked, time.Since(begun)), reply, options...)
	})
	var met *Error
	if isPassing(err) && errors.As(err, &met) {
		return r.givenUp(ctx, met)
	}
	return err
}

// identified is the request with a request_id, if it takes one: all tries are one call then. The caller's own message
// stays as it is.
func identified(request proto.Message) proto.Message {
	field := request.ProtoReflect().Descriptor().Fields().ByName("request_id")
	if field == nil || request.ProtoReflect().Has(field) {
		return request
	}
	request = proto.Clone(request)
	request.ProtoReflect().Set(field, protoreflect.ValueOfString(uuid.Must(uuid.NewV7()).String()))
	return request
}

// wait is how long the server is asked to hold the call.
func wait(request proto.Message) time.Duration {
	field := waitField(request)
	if field == nil || field.Message() == nil {
		return 0
	}
	asked, ok := request.ProtoReflect().Get(field).Message().Interface().(*durationpb.Duration)
	if !ok {
		return 0
	}
	return min(max(asked.AsDuration(), 0), longestWait)
}

func waitField(request proto.Message) protoreflect.FieldDescriptor {
	return request.ProtoReflect().Descriptor().Fields().ByName("wait")
}

// waiting is the request as it is sent after some time: a further try waits for what is left, so that it is answered
// within the deadline. What is waited for is no part of a call's content: with its request_id it stays the same call.
func waiting(request proto.Message, asked, gone time.Duration) proto.Message {
	// The first try, which is sent as it is.
	if asked == 0 || gone < firstDelay/2 {
		return request
	}
	request = proto.Clone(request)
	left := durationpb.New(max(asked-gone, 0)).ProtoReflect()
	request.ProtoReflect().Set(waitField(request), protoreflect.ValueOfMessage(left))
	return request
}

// tries makes calls once, and says by an [Error] why they failed.
type tries struct {
	conn *grpc.ClientConn
	// Ends when the client is closed.
	open context.Context
}

func (t tries) Invoke(ctx context.Context, method string, args, reply any, options ...grpc.CallOption) error {
	return t.failure(ctx, args, t.conn.Invoke(ctx, method, args, reply, options...))
}

func (t tries) NewStream(
	ctx context.Context, desc *grpc.StreamDesc, method string, options ...grpc.CallOption,
) (grpc.ClientStream, error) {
	raw, err := t.conn.NewStream(ctx, desc, method, options...)
	if err != nil {
		return nil, t.failure(ctx, nil, err)
	}
	return stream{raw, ctx, t}, nil
}

// stream is one whose errors are typed too.
type stream struct {
	grpc.ClientStream
	// Of the caller. The stream's own also ends when the stream does.
	ctx   context.Context
	tries tries
}

func (s stream) SendMsg(message any) error {
	return s.tries.failure(s.ctx, message, s.ClientStream.SendMsg(message))
}

func (s stream) RecvMsg(message any) error {
	return s.tries.failure(s.ctx, nil, s.ClientStream.RecvMsg(message))
}

// failure is the typed error of what was sent, if anything.
func (t tries) failure(ctx context.Context, sent any, err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	failure := fromStatus(err)
	switch {
	case failure.Reason != "":
		return failure
	case failure.Code == codes.Internal:
		// Would look like a broken connection: text that is not UTF-8, say.
		if unfit := encode(sent); unfit != nil {
			return &Error{Code: codes.InvalidArgument, Message: unfit.Error(), behind: []error{unfit}}
		}
	}
	return t.givenUp(ctx, failure)
}

// givenUp is the error of what was not tried again: what it had met, unless it was this side that ended it.
func (t tries) givenUp(ctx context.Context, met *Error) *Error {
	switch {
	case ctx.Err() != nil:
		return ended(ctx, met)
	case t.open.Err() != nil:
		return closed()
	default:
		return met
	}
}

func encode(message any) error {
	request, ok := message.(proto.Message)
	if !ok {
		return nil
	}
	_, err := proto.Marshal(request)
	return err
}
