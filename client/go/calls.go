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

// The server reduces a longer `wait` to this.
const longestWait = 5 * time.Minute

// retryConn repeats a call within its deadline. It opens a stream once.
type retryConn struct {
	singleTryConn
	// The time for all tries of a call, to which the request's `wait` is added.
	deadline time.Duration
}

// Invoke makes a call, and repeats it while its error is temporary.
func (r retryConn) Invoke(ctx context.Context, method string, args, reply any, options ...grpc.CallOption) error {
	request, ok := args.(proto.Message)
	if !ok {
		return r.singleTryConn.Invoke(ctx, method, args, reply, options...)
	}
	request = withRequestID(request)
	wait := waitOf(request)
	limit := r.deadline + wait
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	begun := time.Now()
	err := r.repeat(limited, limit, func() error {
		next := withRemainingWait(request, wait, time.Since(begun))
		return r.singleTryConn.Invoke(limited, method, next, reply, options...)
	})
	var last *Error
	if isTemporary(err) && errors.As(err, &last) {
		return r.finalError(ctx, last)
	}
	return err
}

// withRequestID returns the request with a request_id, if the RPC takes one and the caller set none. The server therefore
// sees all tries as one call. The caller's message is not changed: if the caller sends it again, that is another call.
func withRequestID(request proto.Message) proto.Message {
	field := request.ProtoReflect().Descriptor().Fields().ByName("request_id")
	if field == nil || request.ProtoReflect().Has(field) {
		return request
	}
	request = proto.Clone(request)
	request.ProtoReflect().Set(field, protoreflect.ValueOfString(uuid.Must(uuid.NewV7()).String()))
	return request
}

// waitOf returns how long the server may hold the call. 0 if the request has no `wait`.
func waitOf(request proto.Message) time.Duration {
	field := waitField(request)
	if field == nil || field.Message() == nil {
		return 0
	}
	wait, ok := request.ProtoReflect().Get(field).Message().Interface().(*durationpb.Duration)
	if !ok {
		return 0
	}
	return min(max(wait.AsDuration(), 0), longestWait)
}

func waitField(request proto.Message) protoreflect.FieldDescriptor {
	return request.ProtoReflect().Descriptor().Fields().ByName("wait")
}

// withRemainingWait returns the request with the rest of its wait, so that the answer to a further try arrives before the
// deadline. The wait is not part of the call's content, so the server still sees all tries as one call.
func withRemainingWait(request proto.Message, wait, elapsed time.Duration) proto.Message {
	// The first try is sent unchanged. Every further try comes at least half of the first delay later.
	if wait == 0 || elapsed < firstDelay/2 {
		return request
	}
	request = proto.Clone(request)
	rest := durationpb.New(max(wait-elapsed, 0)).ProtoReflect()
	request.ProtoReflect().Set(waitField(request), protoreflect.ValueOfMessage(rest))
	return request
}

// singleTryConn makes each call once. Its errors are of the type Error.
type singleTryConn struct {
	conn *grpc.ClientConn
	// Ends when the client is closed.
	lifetime context.Context
}

// Invoke makes one try of a call.
func (s singleTryConn) Invoke(ctx context.Context, method string, args, reply any, options ...grpc.CallOption) error {
	return s.typedError(ctx, args, s.conn.Invoke(ctx, method, args, reply, options...))
}

// NewStream opens a stream whose errors are of the type Error.
func (s singleTryConn) NewStream(
	ctx context.Context, desc *grpc.StreamDesc, method string, options ...grpc.CallOption,
) (grpc.ClientStream, error) {
	raw, err := s.conn.NewStream(ctx, desc, method, options...)
	if err != nil {
		return nil, s.typedError(ctx, nil, err)
	}
	return typedStream{ClientStream: raw, ctx: ctx, conn: s}, nil
}

// typedStream is a stream whose errors are of the type Error.
type typedStream struct {
	grpc.ClientStream
	// The caller's context. The context of ClientStream also ends when the stream ends.
	ctx  context.Context
	conn singleTryConn
}

func (s typedStream) SendMsg(message any) error {
	return s.conn.typedError(s.ctx, message, s.ClientStream.SendMsg(message))
}

func (s typedStream) RecvMsg(message any) error {
	return s.conn.typedError(s.ctx, nil, s.ClientStream.RecvMsg(message))
}

// typedError converts the error of a try to an Error. It returns nil and io.EOF unchanged. `sent` is the message that the
// try sent, or nil.
func (s singleTryConn) typedError(ctx context.Context, sent any, err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	typed := fromStatus(err)
	if typed.Reason != "" {
		return typed
	}
	if typed.Code == codes.Internal {
		// gRPC reports a message that can't be encoded, for example text that is not UTF-8, under the same code as a broken
		// connection. Such a call must not be repeated.
		if encodeErr := encode(sent); encodeErr != nil {
			return &Error{Code: codes.InvalidArgument, Message: encodeErr.Error(), causes: []error{encodeErr}}
		}
	}
	return s.finalError(ctx, typed)
}

// finalError returns the error of a call that is not repeated: the error of the last try, unless the caller's context or
// the close of the client ended the call.
func (s singleTryConn) finalError(ctx context.Context, last *Error) *Error {
	switch {
	case ctx.Err() != nil:
		return contextError(ctx, last)
	case s.lifetime.Err() != nil:
		return closedError()
	default:
		return last
	}
}

// encode returns the error of encoding the message. Nil if there is none, or if the message is not a protobuf message.
func encode(message any) error {
	request, ok := message.(proto.Message)
	if !ok {
		return nil
	}
	_, err := proto.Marshal(request)
	return err
}
