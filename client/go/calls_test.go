package runhub

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	v1 "github.com/runhub/runhub/client/go/runhubv1"
)

// down is the error of a call while the server is down.
var down = status.Error(codes.Unavailable, "down")

// failFirstCalls returns a handler that fails the first `calls` calls with the error `with`. Later calls succeed.
func failFirstCalls(calls int, with error) func(context.Context, int) error {
	return func(_ context.Context, call int) error {
		if call <= calls {
			return with
		}
		return nil
	}
}

// alwaysReturn returns a handler that returns the error `err` for every call.
func alwaysReturn(err error) func(context.Context, int) error {
	return func(context.Context, int) error { return err }
}

// neverAnswer is a handler that sends no response. When the context of the call ends, the handler returns.
func neverAnswer(ctx context.Context, _ int) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestTemporaryErrorIsRetriedWithTheSameRequestID(t *testing.T) {
	temporary := map[string]error{
		"unavailable": down,
		"overloaded":  refusal(codes.ResourceExhausted, Overloaded),
		"draining":    refusal(codes.Unavailable, Draining),
		"store full":  refusal(codes.Unavailable, StoreFull, retryAfter(time.Second)),
		"unknown":     refusal(codes.Unavailable, "REASON_OF_A_NEWER_SERVER"),
		"cancelled":   status.Error(codes.Canceled, "stream terminated by RST_STREAM with error code: CANCEL"),
		"reset":       status.Error(codes.Internal, "stream terminated by RST_STREAM with error code: INTERNAL_ERROR"),
		"HTML page":   status.Error(codes.Unknown, "malformed header: missing HTTP content-type"),
	}
	for name, err := range temporary {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := &fakeServer{createRun: failFirstCalls(3, err)}
				request := &v1.CreateRunRequest{Goal: "try"}
				answer, err := server.serve(t).Runs.CreateRun(t.Context(), request)
				if err != nil || answer.GetRun().GetGoal() != "try" {
					t.Fatal(answer, err)
				}
				if request.GetRequestId() != "" {
					t.Error("the client must not change the caller's request")
				}
				checkSameID(t, server.runs, 4)
			})
		})
	}
}

// checkSameID checks that the client made `count` calls and that each retry has the request_id of the first call.
func checkSameID(t *testing.T, requests []*v1.CreateRunRequest, count int) {
	t.Helper()
	if len(requests) != count {
		t.Fatalf("the client made %d calls, but must make %d", len(requests), count)
	}
	for _, request := range requests {
		if id := request.GetRequestId(); id == "" || id != requests[0].GetRequestId() {
			t.Errorf("the request_id of a retry is %q, but the request_id of the first call is %q", id, requests[0].GetRequestId())
		}
	}
}

func TestRetryWaitsAtLeastForTheRetryDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		err := refusal(codes.ResourceExhausted, Overloaded, retryAfter(3*time.Second))
		server := &fakeServer{createRun: failFirstCalls(2, err)}
		if _, err := server.serve(t).Runs.CreateRun(t.Context(), &v1.CreateRunRequest{}); err != nil {
			t.Fatal(err)
		}
		for i, at := range server.times[1:] {
			if gap := at.Sub(server.times[i]); gap < 3*time.Second {
				t.Error("the retry must wait at least 3s, but waited only ", gap)
			}
		}
	})
}

func TestDelaysGrowUpToTheLongestDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &fakeServer{createRun: failFirstCalls(12, down)}
		if _, err := server.serve(t).Runs.CreateRun(t.Context(), &v1.CreateRunRequest{}); err != nil {
			t.Fatal(err)
		}
		first := server.times[1].Sub(server.times[0])
		last := server.times[12].Sub(server.times[11])
		if first > 100*time.Millisecond || last < time.Second || last > longestDelay {
			t.Error(first, last)
		}
	})
}

func TestPermanentErrorIsNotRetried(t *testing.T) {
	permanent := map[string]error{
		"message too large":    status.Error(codes.ResourceExhausted, "too large"),
		"invalid field":        refusal(codes.InvalidArgument, InvalidField),
		"internal error":       refusal(codes.Internal, Internal),
		"unknown reason":       refusal(codes.Aborted, "REASON_OF_A_NEWER_SERVER"),
		"unimplemented method": status.Error(codes.Unimplemented, "unknown method"),
	}
	for name, err := range permanent {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := &fakeServer{createRun: alwaysReturn(err)}
				_, got := server.serve(t).Runs.CreateRun(t.Context(), &v1.CreateRunRequest{})
				if status.Code(got) != status.Code(err) || len(server.runs) != 1 {
					t.Error(got, len(server.runs))
				}
			})
		})
	}
}

func TestClientAcceptsResponseOf16MiB(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &fakeServer{createRun: alwaysReturn(nil)}
		client := server.serve(t)
		fits := &v1.CreateRunRequest{Goal: strings.Repeat("x", 16<<20-64)}
		if _, err := client.Runs.CreateRun(t.Context(), fits); err != nil {
			t.Error(err)
		}
		tooLarge := &v1.CreateRunRequest{Goal: strings.Repeat("x", 16<<20)}
		_, err := client.Runs.CreateRun(t.Context(), tooLarge)
		if status.Code(err) != codes.ResourceExhausted || len(server.runs) != 2 {
			t.Error(err, len(server.runs))
		}
	})
}

func TestDeadlineCoversAllRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &fakeServer{createRun: alwaysReturn(down)}
		client := server.serve(t, WithDeadline(3*time.Second))
		begin := time.Now()
		_, err := client.Runs.CreateRun(t.Context(), &v1.CreateRunRequest{})
		if took := time.Since(begin); took != 3*time.Second || status.Code(err) != codes.Unavailable {
			t.Error(took, err)
		}
		if len(server.runs) < minRetries {
			t.Errorf("the client must make at least %d calls, but made %d", minRetries, len(server.runs))
		}
	})
}

func TestCallEndsAtDeadlineWithLastErrorBeforeTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &fakeServer{createRun: func(ctx context.Context, call int) error {
			if call == 1 {
				return down
			}
			return neverAnswer(ctx, call)
		}}
		_, err := server.serve(t).Runs.CreateRun(t.Context(), &v1.CreateRunRequest{})
		if status.Code(err) != codes.Unavailable {
			t.Error(err)
		}
	})
}

func TestWaitIsAddedToTheDeadlineOfAHangingCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := (&fakeServer{claim: neverAnswer}).serve(t)
		limits := map[time.Duration]time.Duration{
			0:                30 * time.Second,
			20 * time.Second: 50 * time.Second,
			24 * time.Hour:   330 * time.Second,
			-time.Hour:       30 * time.Second,
		}
		for wait, want := range limits {
			begin := time.Now()
			_, err := client.Tasks.ClaimTask(t.Context(), &v1.ClaimTaskRequest{Wait: durationpb.New(wait)})
			if took := time.Since(begin); took != want || status.Code(err) != codes.DeadlineExceeded {
				t.Errorf("the call with a wait of %v ended after %v: %v", wait, took, err)
			}
		}
	})
}

func TestRetryRequestsTheRemainingWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &fakeServer{claim: func(_ context.Context, call int) error {
			if call > 1 {
				return nil
			}
			time.Sleep(50 * time.Second)
			return down
		}}
		request := &v1.ClaimTaskRequest{Wait: durationpb.New(time.Minute)}
		if _, err := server.serve(t).Tasks.ClaimTask(t.Context(), request); err != nil {
			t.Fatal(err)
		}
		first := server.claims[0].GetWait().AsDuration()
		second := server.claims[1].GetWait().AsDuration()
		elapsed := server.times[1].Sub(server.times[0])
		if first != time.Minute || second != time.Minute-elapsed {
			t.Errorf("the first wait is %v, and the second is %v after %v", first, second, elapsed)
		}
		if server.claims[0].GetRequestId() != server.claims[1].GetRequestId() {
			t.Error("the retry must have the request_id of the first call")
		}
		if request.GetWait().AsDuration() != time.Minute {
			t.Error("the client must not change the caller's request")
		}
	})
}

func TestEarlierDeadlineOfTheCallerAppliesToAllRetries(t *testing.T) {
	handlers := map[string]func(context.Context, int) error{"down": alwaysReturn(down), "hangs": neverAnswer}
	for name, handler := range handlers {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client := (&fakeServer{createRun: handler}).serve(t)
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
				defer cancel()
				begin := time.Now()
				_, err := client.Runs.CreateRun(ctx, &v1.CreateRunRequest{})
				if took := time.Since(begin); took != 2*time.Second || !errors.Is(err, context.DeadlineExceeded) {
					t.Error(took, err)
				}
				if status.Code(err) != codes.DeadlineExceeded {
					t.Error(status.Code(err))
				}
			})
		})
	}
}

func TestCallThatTheCallerCancelsIsNotRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &fakeServer{createRun: neverAnswer}
		client := server.serve(t)
		ctx, cancel := context.WithCancelCause(t.Context())
		why := errors.New("the user cancelled the CreateRun call: call CreateRun again")
		time.AfterFunc(time.Second, func() { cancel(why) })
		_, err := client.Runs.CreateRun(ctx, &v1.CreateRunRequest{})
		if !errors.Is(err, context.Canceled) || !errors.Is(err, why) || status.Code(err) != codes.Canceled {
			t.Error(err)
		}
		// The call returns before the server is notified of the cancellation. Without this wait, the test could miss a
		// retry.
		synctest.Wait()
		if len(server.runs) != 1 {
			t.Errorf("the client must make one call, but made %d", len(server.runs))
		}
	})
}

func TestRequestIDOfTheCallerIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &fakeServer{createRun: failFirstCalls(1, down)}
		_, err := server.serve(t).Runs.CreateRun(t.Context(), &v1.CreateRunRequest{RequestId: "mine"})
		if err != nil || server.runs[0].GetRequestId() != "mine" {
			t.Error(err)
		}
		checkSameID(t, server.runs, 2)
	})
}

func TestRequestWithoutRequestIDFieldIsSentUnchanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		server := &fakeServer{heartbeat: func(_ context.Context, call int) (v1.LeaseState, error) {
			calls = call
			return v1.LeaseState_LEASE_STATE_EXTENDED, failFirstCalls(1, down)(nil, call)
		}}
		request := &v1.HeartbeatRequest{Beats: []*v1.Beat{{LeaseToken: "a"}}}
		if _, err := server.serve(t).Tasks.Heartbeat(t.Context(), request); err != nil || calls != 2 {
			t.Error(calls, err)
		}
		if withRequestID(request) != request {
			t.Error("the heartbeat was copied")
		}
	})
}

func TestMessageThatCannotBeEncodedIsNotRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		_, err := (&fakeServer{}).serve(t).Runs.CreateRun(t.Context(), &v1.CreateRunRequest{Goal: "\xff"})
		if status.Code(err) != codes.InvalidArgument || time.Since(begin) != 0 {
			t.Error(time.Since(begin), err)
		}
	})
}
