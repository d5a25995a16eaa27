package runhub

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// domain is the ErrorInfo domain of every error that a Runhub server returns.
const domain = "runhub"

// ErrClosed is the cause of every error that a closed client returns.
var ErrClosed = errors.New("the client is closed: create a new client")

// Error is the error of a failed call.
//
// If the caller's context ended the call, errors.Is finds context.Canceled or context.DeadlineExceeded in the error.
// errors.Is and errors.As also find the cause of the context, for example a [LeaseLost].
type Error struct {
	// Reason for which the server refused the call. If the call did not reach the server's handler, or if the response was
	// dropped, the value is empty.
	Reason Reason
	// gRPC status code of the error. status.Code(err) returns the same code.
	Code codes.Code
	// Explanation for people. Programs must not parse the text.
	Message string
	// Further facts about the error. v1.ErrorReason documents the keys and values. If the error has no reason, the value
	// is empty.
	Metadata map[string]string
	// Invalid fields of the request. If the server reports no invalid field, the value is empty.
	Fields []FieldError
	// Time to wait before the call is retried. If the server specifies no delay, the value is 0.
	RetryDelay time.Duration

	// Status that gRPC returned. If the client created the error, the value is nil.
	answer *status.Status
	// Causes for which the client itself ended the call, such as the end of the caller's context, and the last error of
	// the call. If the error comes from the server or the network, the value is nil.
	causes []error
}

// FieldError describes an invalid field of a request.
type FieldError struct {
	// Path of the field in the request, such as tasks[1].title.
	Field string
	// Description of the problem for people. Programs must not parse the text.
	Problem string
}

// Error returns the reason and the message. If the error has no reason, Error returns the gRPC status code and the
// message.
func (e *Error) Error() string {
	if e.Reason == "" {
		return fmt.Sprintf("%v: %s", e.Code, e.Message)
	}
	return fmt.Sprintf("%s: %s", e.Reason, e.Message)
}

// Is reports whether the target is the error's reason.
func (e *Error) Is(target error) bool {
	reason, ok := target.(Reason)
	return ok && reason == e.Reason
}

// Unwrap returns the causes for which the client itself ended the call, and the last error of the call. Unwrap returns
// nil if the error comes from the server or the network.
func (e *Error) Unwrap() []error {
	return e.causes
}

// GRPCStatus returns the error as a gRPC status.
func (e *Error) GRPCStatus() *status.Status {
	if e.answer == nil {
		return status.New(e.Code, e.Message)
	}
	return e.answer
}

// fromStatus converts an error of gRPC to an Error of this client.
func fromStatus(err error) *Error {
	answer := status.Convert(err)
	lost := &Error{Code: answer.Code(), Message: answer.Message(), answer: answer}
	refused := *lost
	for _, detail := range answer.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			if detail.GetDomain() == domain {
				refused.Reason = Reason(detail.GetReason())
				refused.Metadata = detail.GetMetadata()
			}
		case *errdetails.BadRequest:
			for _, violation := range detail.GetFieldViolations() {
				field := FieldError{Field: violation.GetField(), Problem: violation.GetDescription()}
				refused.Fields = append(refused.Fields, field)
			}
		case *errdetails.RetryInfo:
			refused.RetryDelay = detail.GetRetryDelay().AsDuration()
		}
	}
	if refused.Reason == "" {
		return lost
	}
	return &refused
}

// contextError returns the error of a call whose context has ended. The returned error wraps `last`, the last error of
// the call.
func contextError(ctx context.Context, last *Error) *Error {
	code := status.FromContextError(ctx.Err()).Code()
	message := ctx.Err().Error()
	if last.Code != code {
		message += "; the last error of the call: " + last.Error()
	}
	return &Error{Code: code, Message: message, causes: []error{ctx.Err(), context.Cause(ctx), last}}
}

// closedError returns the error of a call on a closed client.
func closedError() *Error {
	return &Error{Code: codes.Canceled, Message: ErrClosed.Error(), causes: []error{ErrClosed}}
}

// isTemporary reports whether a retry of the call may succeed. If the server is down, shutting down or overloaded, or
// if the connection broke, the error is temporary.
func isTemporary(err error) bool {
	var e *Error
	if !errors.As(err, &e) || e.causes != nil {
		return false
	}
	switch e.Reason {
	case "":
		return mayBeBrokenConnection(e.Code)
	case Overloaded:
		return true
	default:
		return e.Code == codes.Unavailable
	}
}

// mayBeBrokenConnection reports whether an error with this code and without a reason may come from a broken connection.
// gRPC for Go reports a broken connection as UNAVAILABLE. If a proxy resets only the stream, gRPC reports INTERNAL or
// CANCELLED. If a proxy answers without a gRPC status, gRPC reports UNKNOWN.
func mayBeBrokenConnection(code codes.Code) bool {
	switch code {
	case codes.Unavailable, codes.Internal, codes.Canceled, codes.Unknown:
		return true
	default:
		return false
	}
}
