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

// Of the ErrorInfo of every refusal by a Runhub server.
const domain = "runhub"

var (
	// ErrClosed is behind what failed because the client was closed.
	ErrClosed = errors.New("the client is closed")
	// ErrOtherLog is the end of a subscription whose server has another database than when it began, or than it was begun
	// for by [InLog], where its cursor means nothing.
	ErrOtherLog = errors.New("the server's log is another one now: a cursor of the old one means nothing in it")
)

// Error is why a call did not do what it was for.
//
// When the caller's context ended, errors.Is finds context.Canceled or context.DeadlineExceeded in it, and the context's
// cause: the [LeaseLost], for example.
type Error struct {
	// What to match on. Empty when the call never reached a handler, or its answer got lost.
	Reason Reason
	// gRPC's code, as status.Code(err) also says.
	Code codes.Code
	// For people only.
	Message string
	// The particulars that the reason documents.
	Metadata map[string]string
	// What could not be taken.
	Fields []FieldError
	// After how long to make the same call again. 0: the server has not said.
	RetryDelay time.Duration

	answer *status.Status
	// What on this side ended the call, and what it had met by then.
	behind []error
}

// FieldError is a field that could not be taken.
type FieldError struct {
	// Its path in the request: tasks[1].title.
	Field string
	// What is wrong with it, for people.
	Problem string
}

func (e *Error) Error() string {
	if e.Reason == "" {
		return fmt.Sprintf("%v: %s", e.Code, e.Message)
	}
	return fmt.Sprintf("%s: %s", e.Reason, e.Message)
}

// Is matches the reason.
func (e *Error) Is(target error) bool {
	reason, ok := target.(Reason)
	return ok && reason == e.Reason
}

// Unwrap returns what on this side ended the call, if something did.
func (e *Error) Unwrap() []error {
	return e.behind
}

// GRPCStatus is the error as gRPC has it.
func (e *Error) GRPCStatus() *status.Status {
	if e.answer == nil {
		return status.New(e.Code, e.Message)
	}
	return e.answer
}

// fromStatus takes apart what gRPC returned.
func fromStatus(err error) *Error {
	answer := status.Convert(err)
	lost := &Error{Code: answer.Code(), Message: answer.Message(), answer: answer}
	refused := *lost
	for _, detail := range answer.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			if detail.GetDomain() == domain {
				refused.Reason, refused.Metadata = Reason(detail.GetReason()), detail.GetMetadata()
			}
		case *errdetails.BadRequest:
			for _, violation := range detail.GetFieldViolations() {
				refused.Fields = append(refused.Fields, FieldError{violation.GetField(), violation.GetDescription()})
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

// ended is the error of a call whose context ended. It keeps what the call had met until then.
func ended(ctx context.Context, met *Error) *Error {
	code := status.FromContextError(ctx.Err()).Code()
	message := ctx.Err().Error()
	if met.Code != code {
		message += "; before that: " + met.Error()
	}
	return &Error{Code: code, Message: message, behind: []error{ctx.Err(), context.Cause(ctx), met}}
}

// closed is the error of a call on a closed client.
func closed() *Error {
	return &Error{Code: codes.Canceled, Message: ErrClosed.Error(), behind: []error{ErrClosed}}
}

// isPassing tells whether the same call may well succeed later: the server is away, shutting down or too busy, or the
// connection broke.
func isPassing(err error) bool {
	var e *Error
	if !errors.As(err, &e) || e.behind != nil {
		return false
	}
	switch e.Reason {
	case "":
		return isBroken(e.Code)
	case Overloaded:
		return true
	default:
		return e.Code == codes.Unavailable
	}
}

// isBroken tells whether a broken connection shows so. gRPC for Go says UNAVAILABLE however it breaks; what stands between
// may reset a stream alone, which is INTERNAL or CANCELLED, or answer in its own words, which is UNKNOWN.
func isBroken(code codes.Code) bool {
	switch code {
	case codes.Unavailable, codes.Internal, codes.Canceled, codes.Unknown:
		return true
	default:
		return false
	}
}
