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

// In all of these the client is closed after a second. A goroutine that stays fails its bubble.

// later makes a client pause before its next try.
var later = refusal(codes.ResourceExhausted, Overloaded, retryAfter(20*time.Second))

// closeSoon returns a function that checks whether it was the end of the client that ended something, and at once.
func closeSoon(t *testing.T, client *Client) func(error) {
	closed := time.Now().Add(time.Second)
	time.AfterFunc(time.Second, func() { _ = client.Close() })
	return func(err error) {
		t.Helper()
		var e *Error
		if !errors.As(err, &e) || e.Code != codes.Canceled || e.Message != "the client is closed" || !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
		if errors.Is(err, context.Canceled) {
			t.Error("no context has ended: ", err)
		}
		if late := time.Since(closed); late != 0 {
			t.Error("ended late: ", late)
		}
	}
}

func TestACallEndsWithItsClient(t *testing.T) {
	for name, handler := range map[string]func(context.Context, int) error{"answer": hang, "next try": always(later)} {
		t.Run("awaits its "+name, func(t *testing.T) {
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

func TestASubscriptionEndsWithItsClient(t *testing.T) {
	pausing := func(int, grpc.ServerStreamingServer[update]) error { return later }
	for name, handler := range map[string]func(int, grpc.ServerStreamingServer[update]) error{
		"message": saying(), "next try": pausing,
	} {
		t.Run("awaits its "+name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client := (&fake{subscribe: handler}).serve(t)
				check := closeSoon(t, client)
				for range 2 {
					_, err := drain(t.Context(), client.Subscribe(&v1.SubscribeEventsRequest{}))
					check(err)
				}
			})
		})
	}
}

func TestALeaseOfAClosedClientIsLostAsUnanswered(t *testing.T) {
	for name, handler := range map[string]func(context.Context, int) (v1.LeaseState, error){
		"answer":    func(ctx context.Context, call int) (v1.LeaseState, error) { return 0, hang(ctx, call) },
		"next try":  refusing(later),
		"next beat": answering(extended),
	} {
		t.Run("awaits its "+name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client := (&fake{beat: handler}).serve(t)
				check := closeSoon(t, client)
				began := time.Now()
				ctx, keeper := client.KeepLease(t.Context(), claimFor(time.Minute))
				<-ctx.Done()
				check(context.Cause(ctx).(*LeaseLost).behind)
				wantLost(t, context.Cause(ctx), Unanswered, began, time.Second)
				<-keeper.ended
				_, keeper = client.KeepLease(t.Context(), claimFor(time.Minute))
				wantLost(t, keeper.Run(untilCancelled), Unanswered, began, time.Second)
			})
		})
	}
}
