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

func TestARefusalHasItsReasonAndParticulars(t *testing.T) {
	bad := &errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{
		{Field: "goal", Description: "is blank"}, {Field: "tasks[1].title", Description: "is too long"},
	}}
	var err error = fromStatus(refusal(codes.InvalidArgument, InvalidField, bad, retryAfter(2*time.Second)))
	if !errors.Is(fmt.Errorf("planning: %w", err), InvalidField) || errors.Is(err, StaleLease) {
		t.Error("the reason does not match")
	}
	if status.Code(err) != codes.InvalidArgument || len(status.Convert(err).Details()) != 3 {
		t.Error("gRPC has lost it")
	}
	var e *Error
	if !errors.As(err, &e) || e.Error() != "INVALID_FIELD: no" || e.Message != "no" || e.Metadata["who"] != "somebody" {
		t.Error(err)
	}
	if !slices.Equal(e.Fields, []FieldError{{"goal", "is blank"}, {"tasks[1].title", "is too long"}}) {
		t.Error(e.Fields)
	}
	if e.RetryDelay != 2*time.Second {
		t.Error(e.RetryDelay)
	}
}

func TestAReasonThatIsNotKnownIsKept(t *testing.T) {
	err := fromStatus(refusal(codes.Aborted, "NEW_ONE"))
	if err.Reason != "NEW_ONE" || !errors.Is(err, Reason("NEW_ONE")) {
		t.Error(err.Reason)
	}
}

func TestWhatReachedNoHandlerHasNoReason(t *testing.T) {
	foreign, detailsErr := status.New(codes.Unavailable, "busy").WithDetails(&errdetails.ErrorInfo{Domain: "proxy", Reason: "X"})
	if detailsErr != nil {
		t.Fatal(detailsErr)
	}
	for _, err := range []error{away, foreign.Err()} {
		if e := fromStatus(err); e.Reason != "" || e.Metadata != nil || e.Code != codes.Unavailable {
			t.Error(e)
		}
	}
}

func TestAnErrorMadeByHandHasItsCode(t *testing.T) {
	if code := status.Code(&Error{Reason: StaleLease, Code: codes.FailedPrecondition}); code != codes.FailedPrecondition {
		t.Error(code)
	}
}

func TestAValueIsAnyJSON(t *testing.T) {
	type file struct {
		Path string `json:"path"`
	}
	value := MustValue(map[string]any{"lines": 120, "files": []file{{"a"}}, "none": nil})
	text, err := value.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	var again any = value.GetStructValue().GetFields()["lines"].GetNumberValue()
	if again != 120.0 {
		t.Error(string(text))
	}
	if _, err := Value(math.Inf(1)); err == nil {
		t.Error("infinity is no JSON")
	}
}
