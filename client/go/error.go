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

// The domain in the ErrorInfo of every error that a Runhub server returns.
const domain = "runhub"

var (
	// ErrClosed is the cause of errors of a closed client.
	ErrClosed = errors.New("the client is closed")
	// ErrOtherLog ends a subscription if the server's log is not the one that the subscription follows or that [InLog]
	// names, because the subscription's cursor is not valid in it.
	ErrOtherLog = errors.New(
		"the server's log_id has changed, so the subscription's cursor is not valid: subscribe without a cursor")
)

// Error is why a call failed.
//
// If the caller's context ended the call, errors.Is finds context.Canceled or context.DeadlineExceeded in the error, and
// the context's cause, for example a [LeaseLost].
type Error struct {
	// Why the server refused the call. Empty if the call did not reach the server's handler, or if its answer was lost.
	Reason Reason
	// The gRPC status code, which status.Code(err) returns too.
	Code codes.Code
	// An explanation for people. Programs must not parse it.
	Message string
	// Further facts about the error, as v1.ErrorReason documents them.
	Metadata map[string]string
	// The invalid fields of the request.
	Fields []FieldError
	// How long to wait before repeating the call. 0 if the server gives no delay.
	RetryDelay time.Duration

	// The status that gRPC returned. Nil if this client made the error.
	answer *status.Status
	// The reason why the client ended the call, and the error of the last try. Nil if the server or the network failed the
	// call.
	causes []error
}

// FieldError is an invalid field of a request.
type FieldError struct {
	// The path of the field in the request, such as tasks[1].title.
	Field string
	// Explains, for people, why the field is invalid.
	Problem string
}

// Error returns the reason and the message, or the code and the message if there is no reason.
func (e *Error) Error() string {
	if e.Reason == "" {
		return fmt.Sprintf("%v: %s", e.Code, e.Message)
	}
	return fmt.Sprintf("%s: %s", e.Reason, e.Message)
}

// Is returns whether the target is the error's reason.
func (e *Error) Is(target error) bool {
	reason, ok := target.(Reason)
	return ok && reason == e.Reason
}

// Unwrap returns what ended the call on the client's side, and the error of the last try. Nil if the server or the network
// failed the call.
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

// fromStatus converts gRPC's error to the client's error.
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

// contextError returns the error of a call whose context has ended. It keeps the error of the last try.
func contextError(ctx context.Context, last *Error) *Error {
	code := status.FromContextError(ctx.Err()).Code()
	message := ctx.Err().Error()
	if last.Code != code {
		message += "; the last try failed with: " + last.Error()
	}
	return &Error{Code: code, Message: message, causes: []error{ctx.Err(), context.Cause(ctx), last}}
}

// closedError returns the error of a call on a closed client.
func closedError() *Error {
	return &Error{Code: codes.Canceled, Message: ErrClosed.Error(), causes: []error{ErrClosed}}
}

// isTemporary returns whether the same call may succeed later: the server is down, shutting down or overloaded, or the
// connection broke.
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

// mayBeBrokenConnection returns whether an error without a reason has this code if the connection broke. gRPC for Go
// reports every broken connection as UNAVAILABLE. A proxy may reset only the stream, which gRPC reports as INTERNAL or
// CANCELLED, or may answer without a gRPC status, which gRPC reports as UNKNOWN.
func mayBeBrokenConnection(code codes.Code) bool {
	switch code {
	case codes.Unavailable, codes.Internal, codes.Canceled, codes.Unknown:
		return true
	default:
		return false
	}
}
