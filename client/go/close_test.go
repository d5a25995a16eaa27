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

// Each of these tests closes the client after a second. A goroutine that is still running fails the synctest bubble.

// later is an error after which the client waits before the next try.
var later = refusal(codes.ResourceExhausted, Overloaded, retryAfter(20*time.Second))

// closeSoon closes the client after a second. The returned function checks that the error is that of a closed client and
// that it came at once.
func closeSoon(t *testing.T, client *Client) func(error) {
	closedAt := time.Now().Add(time.Second)
	time.AfterFunc(time.Second, func() { _ = client.Close() })
	return func(err error) {
		t.Helper()
		var e *Error
		if !errors.As(err, &e) || e.Code != codes.Canceled || e.Message != "the client is closed" || !errors.Is(err, ErrClosed) {
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
	handlers := map[string]func(context.Context, int) error{"answer": hang, "next try": always(later)}
	for name, handler := range handlers {
		t.Run("during the wait for the "+name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client := (&fake{createRun: handler}).serve(t)
				check := closeSoon(t, client)
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
		"message":  streaming(),
		"next try": func(int, grpc.ServerStreamingServer[update]) error { return later },
	}
	for name, handler := range handlers {
		t.Run("during the wait for the "+name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client := (&fake{subscribe: handler}).serve(t)
				check := closeSoon(t, client)
				for range 2 {
					_, err := readAll(t.Context(), client.Subscribe(&v1.SubscribeEventsRequest{}))
					check(err)
				}
			})
		})
	}
}

func TestLeaseOfClosedClientIsLostAsUnanswered(t *testing.T) {
	handlers := map[string]func(context.Context, int) (v1.LeaseState, error){
		"answer":         func(ctx context.Context, call int) (v1.LeaseState, error) { return 0, hang(ctx, call) },
		"next try":       refusing(later),
		"next heartbeat": answering(extended),
	}
	for name, handler := range handlers {
		t.Run("during the wait for the "+name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client := (&fake{heartbeat: handler}).serve(t)
				check := closeSoon(t, client)
				began := time.Now()
				ctx, keeper := client.KeepLease(t.Context(), claimFor(time.Minute))
				<-ctx.Done()
				check(context.Cause(ctx).(*LeaseLost).cause)
				wantLost(t, context.Cause(ctx), Unanswered, began, time.Second)
				<-keeper.ended
				_, keeper = client.KeepLease(t.Context(), claimFor(time.Minute))
				wantLost(t, keeper.Run(untilCancelled), Unanswered, began, time.Second)
			})
		})
	}
}
