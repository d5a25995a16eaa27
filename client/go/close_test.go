package runhub

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	v1 "github.com/runhub/runhub/client/go/runhubv1"
)

// Each test in this file closes the client after one second. If a goroutine is still running at the end of a test, the
// synctest bubble fails the test.

// later is an OVERLOADED error with a retry delay of 20 s.
var later = refusal(codes.ResourceExhausted, Overloaded, retryAfter(20*time.Second))

// closeAfterOneSecond starts a timer that closes the client after one second. closeAfterOneSecond returns a function
// that checks the error of a call. When the timer closes the client, the call must fail with ErrClosed.
func closeAfterOneSecond(t *testing.T, client *Client) func(error) {
	closedAt := time.Now().Add(time.Second)
	time.AfterFunc(time.Second, func() { _ = client.Close() })
	return func(err error) {
		t.Helper()
		var e *Error
		if !errors.As(err, &e) || e.Code != codes.Canceled || e.Message != ErrClosed.Error() || !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
		if errors.Is(err, context.Canceled) {
			t.Error("the error names a context, but no context has ended: ", err)
		}
		if late := time.Since(closedAt); late != 0 {
			t.Errorf("the error came %v after the close", late)
		}
	}
}

func TestCloseEndsCall(t *testing.T) {
	handlers := map[string]func(context.Context, int) error{"answer": neverAnswer, "next try": alwaysReturn(later)}
	for name, handler := range handlers {
		t.Run("during the wait for the "+name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client := (&fakeServer{createRun: handler}).serve(t)
				check := closeAfterOneSecond(t, client)
				for range 2 {
					_, err := client.Runs.CreateRun(t.Context(), &v1.CreateRunRequest{})
					check(err)
				}
			})
		})
	}
}

func TestCloseEndsSubscription(t *testing.T) {
	handlers := map[string]func(int, grpc.ServerStreamingServer[update]) error{
		"message":  sendScripts(),
		"next try": func(int, grpc.ServerStreamingServer[update]) error { return later },
	}
	for name, handler := range handlers {
		t.Run("during the wait for the "+name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client := (&fakeServer{subscribe: handler}).serve(t)
				check := closeAfterOneSecond(t, client)
				for range 2 {
					_, err := readAll(t.Context(), client.Subscribe(&v1.SubscribeEventsRequest{}))
					check(err)
				}
			})
		})
	}
}

func TestCloseEndsLeasesWithCauseUnanswered(t *testing.T) {
	handlers := map[string]func(context.Context, int) (v1.LeaseState, error){
		"answer":         func(ctx context.Context, call int) (v1.LeaseState, error) { return 0, neverAnswer(ctx, call) },
		"next try":       refuseHeartbeats(later),
		"next heartbeat": answerHeartbeats(extended),
	}
	for name, handler := range handlers {
		t.Run("during the wait for the "+name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client := (&fakeServer{heartbeat: handler}).serve(t)
				check := closeAfterOneSecond(t, client)
				began := time.Now()
				ctx, keeper := client.KeepLease(t.Context(), claimFor(time.Minute))
				<-ctx.Done()
				check(context.Cause(ctx).(*LeaseLost).cause)
				checkLeaseLost(t, context.Cause(ctx), Unanswered, began, time.Second)
				<-keeper.ended
				_, keeper = client.KeepLease(t.Context(), claimFor(time.Minute))
				checkLeaseLost(t, keeper.Run(waitUntilCanceled), Unanswered, began, time.Second)
			})
		})
	}
}
