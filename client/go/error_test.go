package runhub

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestErrorHasAllDetailsThatTheServerSent(t *testing.T) {
	bad := &errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{
		{Field: "goal", Description: "is blank"}, {Field: "tasks[1].title", Description: "is too long"},
	}}
	var err error = fromStatus(refusal(codes.InvalidArgument, InvalidField, bad, retryAfter(2*time.Second)))
	if !errors.Is(fmt.Errorf("planning: %w", err), InvalidField) || errors.Is(err, StaleLease) {
		t.Errorf("errors.Is must find INVALID_FIELD and no other reason in %v", err)
	}
	if status.Code(err) != codes.InvalidArgument || len(status.Convert(err).Details()) != 3 {
		t.Errorf("gRPC does not find the status and its three details in %v", err)
	}
	var e *Error
	if !errors.As(err, &e) || e.Error() != "INVALID_FIELD: refused by the test" || e.Message != "refused by the test" {
		t.Fatal(err)
	}
	if e.Metadata["current_status"] != "RUNNING" {
		t.Error(e.Metadata)
	}
	if !slices.Equal(e.Fields, []FieldError{{"goal", "is blank"}, {"tasks[1].title", "is too long"}}) {
		t.Error(e.Fields)
	}
	if e.RetryDelay != 2*time.Second {
		t.Error(e.RetryDelay)
	}
}

func TestUnknownReasonIsKeptAsText(t *testing.T) {
	err := fromStatus(refusal(codes.Aborted, "REASON_OF_A_NEWER_SERVER"))
	if err.Reason != "REASON_OF_A_NEWER_SERVER" || !errors.Is(err, Reason("REASON_OF_A_NEWER_SERVER")) {
		t.Error(err.Reason)
	}
}

func TestErrorThatTheServerDidNotSendHasNoReason(t *testing.T) {
	info := &errdetails.ErrorInfo{Domain: "proxy", Reason: "NO_ROUTE"}
	foreign, detailsErr := status.New(codes.Unavailable, "no route").WithDetails(info)
	if detailsErr != nil {
		t.Fatal(detailsErr)
	}
	for _, err := range []error{down, foreign.Err()} {
		if e := fromStatus(err); e.Reason != "" || e.Metadata != nil || e.Code != codes.Unavailable {
			t.Error(e)
		}
	}
}

func TestErrorWithoutAReasonIsTemporaryIfTheConnectionMayHaveBroken(t *testing.T) {
	for code := codes.Canceled; code <= codes.Unauthenticated; code++ {
		wanted := slices.Contains([]codes.Code{codes.Unavailable, codes.Internal, codes.Unknown, codes.Canceled}, code)
		if got := isTemporary(fromStatus(status.Error(code, "from a proxy"))); got != wanted {
			t.Errorf("an error with the code %v and without a reason is temporary: %v", code, got)
		}
		// A reason shows that the server itself has sent the error.
		wanted = code == codes.Unavailable
		if got := isTemporary(fromStatus(refusal(code, "REASON_OF_A_NEWER_SERVER"))); got != wanted {
			t.Errorf("an error with the code %v and a reason is temporary: %v", code, got)
		}
	}
	// The error of a call that the caller or the closed client has cancelled has a cause.
	if isTemporary(closedError()) {
		t.Error("the error of a closed client is temporary")
	}
}

func TestErrorWithoutAResponseReturnsItsStatusCode(t *testing.T) {
	if code := status.Code(&Error{Reason: StaleLease, Code: codes.FailedPrecondition}); code != codes.FailedPrecondition {
		t.Error(code)
	}
}

func TestValueAcceptsAnyJSON(t *testing.T) {
	type file struct {
		Path string `json:"path"`
	}
	value := MustValue(map[string]any{"lines": 120, "files": []file{{"a"}}, "none": nil})
	text, err := value.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	var lines any = value.GetStructValue().GetFields()["lines"].GetNumberValue()
	if lines != 120.0 {
		t.Error(string(text))
	}
	if _, err := Value(math.Inf(1)); err == nil {
		t.Error("Value has accepted infinity, which JSON can't represent")
	}
}
