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

// longestWait is the longest time for which the server holds a call. The server shortens a longer `wait` to this limit.
const longestWait = 5 * time.Minute

// retryConn makes calls, and retries a call that fails with a temporary error. retryConn tries only once to open a
// stream.
type retryConn struct {
	singleCallConn
	// Time limit for a call and all its retries. The request's `wait` is added to this limit.
	deadline time.Duration
}

// Invoke makes a unary call and retries the call while the error is temporary. Invoke fails with the first error that
// is not temporary, or when the time limit of the call has passed.
func (r retryConn) Invoke(ctx context.Context, method string, args, reply any, options ...grpc.CallOption) error {
	request, ok := args.(proto.Message)
	if !ok {
		return r.singleCallConn.Invoke(ctx, method, args, reply, options...)
	}
	request = withRequestID(request)
	wait := requestedWait(request)
	limit := r.deadline + wait
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	started := time.Now()
	err := r.repeat(limited, limit, func() error {
		next := withRemainingWait(request, wait, time.Since(started))
		return r.singleCallConn.Invoke(limited, method, next, reply, options...)
	})
	var last *Error
	if isTemporary(err) && errors.As(err, &last) {
		return r.finalError(ctx, last)
	}
	return err
}

// withRequestID returns a copy of the request with a new request_id, so that the server detects each retry as a
// duplicate of the first call. If the RPC has no request_id or the caller has set a request_id, withRequestID returns
// the request itself. The caller's message stays unchanged: a second call with the same message gets another
// request_id.
func withRequestID(request proto.Message) proto.Message {
	field := request.ProtoReflect().Descriptor().Fields().ByName("request_id")
	if field == nil || request.ProtoReflect().Has(field) {
		return request
	}
	request = proto.Clone(request)
	request.ProtoReflect().Set(field, protoreflect.ValueOfString(uuid.Must(uuid.NewV7()).String()))
	return request
}

// requestedWait returns the time for which the server may hold the call: the request's `wait`, limited to longestWait.
// requestedWait returns 0 if the request has no `wait` or a negative `wait`.
func requestedWait(request proto.Message) time.Duration {
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

// withRemainingWait returns a copy of the request whose `wait` is reduced by the elapsed time, so that the server
// answers a retry before the deadline. The server does not compare the `wait` of duplicate requests, so the server
// still detects the retry as a duplicate.
func withRemainingWait(request proto.Message, wait, elapsed time.Duration) proto.Message {
	// The first call must send the caller's `wait` unchanged. A retry starts at least firstDelay/2 after the first
	// call, so a shorter elapsed time means that this call is the first.
	if wait == 0 || elapsed < firstDelay/2 {
		return request
	}
	request = proto.Clone(request)
	rest := durationpb.New(max(wait-elapsed, 0)).ProtoReflect()
	request.ProtoReflect().Set(waitField(request), protoreflect.ValueOfMessage(rest))
	return request
}

// singleCallConn makes each call once and returns errors of the type Error.
type singleCallConn struct {
	connections *connections
	// Context that ends when the client is closed.
	lifetime context.Context
}

// Invoke makes a unary call once. If the call fails, Invoke returns an error of the type Error.
func (s singleCallConn) Invoke(ctx context.Context, method string, args, reply any, options ...grpc.CallOption) error {
	return s.typedError(ctx, args, s.connections.Invoke(ctx, method, args, reply, options...))
}

// NewStream opens a stream that returns errors of the type Error. NewStream fails with an Error if the stream can't be
// opened.
func (s singleCallConn) NewStream(
	ctx context.Context, desc *grpc.StreamDesc, method string, options ...grpc.CallOption,
) (grpc.ClientStream, error) {
	raw, err := s.connections.NewStream(ctx, desc, method, options...)
	if err != nil {
		return nil, s.typedError(ctx, nil, err)
	}
	return typedStream{ClientStream: raw, ctx: ctx, conn: s}, nil
}

// typedStream is a stream that returns errors of the type Error.
type typedStream struct {
	grpc.ClientStream
	// Context of the caller, which shows whether the caller ended the stream. Whenever the stream ends, the context of
	// ClientStream also ends.
	ctx  context.Context
	conn singleCallConn
}

func (s typedStream) SendMsg(message any) error {
	return s.conn.typedError(s.ctx, message, s.ClientStream.SendMsg(message))
}

func (s typedStream) RecvMsg(message any) error {
	return s.conn.typedError(s.ctx, nil, s.ClientStream.RecvMsg(message))
}

// typedError converts an error of gRPC to an Error, and returns nil and io.EOF unchanged. The parameter `sent` is the
// message that was sent, or nil if no message was sent.
func (s singleCallConn) typedError(ctx context.Context, sent any, err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	typed := fromStatus(err)
	if typed.Reason != "" {
		return typed
	}
	if typed.Code == codes.Internal {
		// gRPC reports a message that can't be encoded, for example text that is not UTF-8, with the same code as a broken
		// connection. Without this check, the client would retry the call until the deadline, although no retry can succeed.
		if encodeErr := encodingError(sent); encodeErr != nil {
			return &Error{Code: codes.InvalidArgument, Message: encodeErr.Error(), causes: []error{encodeErr}}
		}
	}
	return s.finalError(ctx, typed)
}

// finalError returns the error with which a call ends. If the caller's context has ended or the client is closed, the
// returned error reports this cause. Otherwise, finalError returns the error `last`.
func (s singleCallConn) finalError(ctx context.Context, last *Error) *Error {
	switch {
	case ctx.Err() != nil:
		return contextError(ctx, last)
	case s.lifetime.Err() != nil:
		return closedError()
	default:
		return last
	}
}

// encodingError encodes the message and returns the encoding error. encodingError returns nil if the encoding succeeds,
// or if the message is not a protobuf message.
func encodingError(message any) error {
	request, ok := message.(proto.Message)
	if !ok {
		return nil
	}
	_, err := proto.Marshal(request)
	return err
}
