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

var away = status.Error(codes.Unavailable, "away")

// failing fails so many calls, then lets them through.
func failing(calls int, with error) func(context.Context, int) error {
	return func(_ context.Context, call int) error {
		if call <= calls {
			return with
		}
		return nil
	}
}

func always(err error) func(context.Context, int) error {
	return func(context.Context, int) error { return err }
}

// hang answers when nobody waits any more.
func hang(ctx context.Context, _ int) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestWhatMayPassIsTriedAgainAsTheSameCall(t *testing.T) {
	passing := map[string]error{
		"unavailable": away,
		"overloaded":  refusal(codes.ResourceExhausted, Overloaded),
		"draining":    refusal(codes.Unavailable, Draining),
		"not known":   refusal(codes.Unavailable, "NEW_ONE"),
		"reset":       status.Error(codes.Canceled, "stream terminated by RST_STREAM with error code: CANCEL"),
	}
	for name, err := range passing {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := &fake{createRun: failing(3, err)}
				request := &v1.CreateRunRequest{Goal: "try"}
				answer, err := server.serve(t).Runs.CreateRun(t.Context(), request)
				if err != nil || answer.GetRun().GetGoal() != "try" {
					t.Fatal(answer, err)
				}
				if request.GetRequestId() != "" {
					t.Error("the caller's request was changed")
				}
				checkSameID(t, server.runs, 4)
			})
		})
	}
}

func checkSameID(t *testing.T, requests []*v1.CreateRunRequest, count int) {
	t.Helper()
	if len(requests) != count {
		t.Fatalf("%d tries", len(requests))
	}
	for _, request := range requests {
		if id := request.GetRequestId(); id == "" || id != requests[0].GetRequestId() {
			t.Errorf("request_id %q, at first %q", id, requests[0].GetRequestId())
		}
	}
}

func TestNoTryIsSoonerThanTheServerSays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		err := refusal(codes.ResourceExhausted, Overloaded, retryAfter(3*time.Second))
		server := &fake{createRun: failing(2, err)}
		if _, err := server.serve(t).Runs.CreateRun(t.Context(), &v1.CreateRunRequest{}); err != nil {
			t.Fatal(err)
		}
		for i, time := range server.times[1:] {
			if gap := time.Sub(server.times[i]); gap < 3e9 {
				t.Error("tried again after ", gap)
			}
		}
	})
}

func TestTriesComeLessAndLessOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &fake{createRun: failing(12, away)}
		if _, err := server.serve(t).Runs.CreateRun(t.Context(), &v1.CreateRunRequest{}); err != nil {
			t.Fatal(err)
		}
		first, last := server.times[1].Sub(server.times[0]), server.times[12].Sub(server.times[11])
		if first > 100*time.Millisecond || last < time.Second || last > longestDelay {
			t.Error(first, last)
		}
	})
}

func TestWhatDoesNotPassIsNotTriedAgain(t *testing.T) {
	final := map[string]error{
		"too large":            status.Error(codes.ResourceExhausted, "too large"),
		"a refusal":            refusal(codes.InvalidArgument, InvalidField),
		"an error of a server": refusal(codes.Internal, Internal),
		"an unknown reason":    refusal(codes.Aborted, "NEW_ONE"),
		"no such method":       status.Error(codes.Unimplemented, "what?"),
	}
	for name, err := range final {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := &fake{createRun: always(err)}
				_, got := server.serve(t).Runs.CreateRun(t.Context(), &v1.CreateRunRequest{})
				if status.Code(got) != status.Code(err) || len(server.runs) != 1 {
					t.Error(got, len(server.runs))
				}
			})
		})
	}
}

func TestAnAnswerMayHave16MiBAndNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &fake{createRun: always(nil)}
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

func TestTheDeadlineIsOverAllTries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &fake{createRun: always(away)}
		client := server.serve(t, WithDeadline(3*time.Second))
		begin := time.Now()
		_, err := client.Runs.CreateRun(t.Context(), &v1.CreateRunRequest{})
		if took := time.Since(begin); took != 3*time.Second || status.Code(err) != codes.Unavailable {
			t.Error(took, err)
		}
		if len(server.runs) < leastTries {
			t.Error("tries: ", len(server.runs))
		}
	})
}

func TestACallThatRunsOutOfTimeSaysWhatTheLastWholeTryMet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &fake{createRun: func(ctx context.Context, call int) error {
			if call == 1 {
				return away
			}
			return hang(ctx, call)
		}}
		_, err := server.serve(t).Runs.CreateRun(t.Context(), &v1.CreateRunRequest{})
		if status.Code(err) != codes.Unavailable {
			t.Error(err)
		}
	})
}

func TestACallWithoutAnAnswerEndsAtTheDeadlineAndItsWaitComesOnTop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := (&fake{claim: hang}).serve(t)
		for wait, want := range map[time.Duration]time.Duration{
			0: 30 * time.Second, 20 * time.Second: 50 * time.Second, 24 * time.Hour: 330 * time.Second, -time.Hour: 30 * time.Second,
		} {
			begin := time.Now()
			_, err := client.Tasks.ClaimTask(t.Context(), &v1.ClaimTaskRequest{Wait: durationpb.New(wait)})
			if took := time.Since(begin); took != want || status.Code(err) != codes.DeadlineExceeded {
				t.Errorf("wait %v: ended after %v: %v", wait, took, err)
			}
		}
	})
}

func TestACallThatIsMadeAgainWaitsForTheRestOfItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &fake{claim: func(_ context.Context, call int) error {
			if call > 1 {
				return nil
			}
			time.Sleep(50 * time.Second)
			return away
		}}
		request := &v1.ClaimTaskRequest{Wait: durationpb.New(time.Minute)}
		if _, err := server.serve(t).Tasks.ClaimTask(t.Context(), request); err != nil {
			t.Fatal(err)
		}
		first, second := server.claims[0].GetWait().AsDuration(), server.claims[1].GetWait().AsDuration()
		if gone := server.times[1].Sub(server.times[0]); first != time.Minute || second != time.Minute-gone {
			t.Errorf("first %v, then %v after %v", first, second, gone)
		}
		if server.claims[0].GetRequestId() != server.claims[1].GetRequestId() {
			t.Error("it is another call")
		}
		if request.GetWait().AsDuration() != time.Minute {
			t.Error("the caller's request was changed")
		}
	})
}

func TestTheCallersOwnDeadlineBoundsAllTries(t *testing.T) {
	for name, handler := range map[string]func(context.Context, int) error{"away": always(away), "hangs": hang} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client := (&fake{createRun: handler}).serve(t)
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

func TestWhatTheCallerCancelsIsNotTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &fake{createRun: hang}
		client := server.serve(t)
		ctx, cancel := context.WithCancelCause(t.Context())
		why := errors.New("lunch")
		time.AfterFunc(time.Second, func() { cancel(why) })
		_, err := client.Runs.CreateRun(ctx, &v1.CreateRunRequest{})
		if !errors.Is(err, context.Canceled) || !errors.Is(err, why) || status.Code(err) != codes.Canceled {
			t.Error(err)
		}
		// A server hears of it later.
		synctest.Wait()
		if len(server.runs) != 1 {
			t.Error("tries: ", len(server.runs))
		}
	})
}

func TestTheCallersOwnRequestIDIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &fake{createRun: failing(1, away)}
		_, err := server.serve(t).Runs.CreateRun(t.Context(), &v1.CreateRunRequest{RequestId: "mine"})
		if err != nil || server.runs[0].GetRequestId() != "mine" {
			t.Error(err)
		}
		checkSameID(t, server.runs, 2)
	})
}

func TestWhatTakesNoRequestIDGetsNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tries := 0
		server := &fake{beat: func(_ context.Context, call int) (v1.LeaseState, error) {
			tries = call
			return v1.LeaseState_LEASE_STATE_EXTENDED, failing(1, away)(nil, call)
		}}
		request := &v1.HeartbeatRequest{Beats: []*v1.Beat{{LeaseToken: "a"}}}
		if _, err := server.serve(t).Tasks.Heartbeat(t.Context(), request); err != nil || tries != 2 {
			t.Error(tries, err)
		}
		if identified(request) != request {
			t.Error("a heartbeat was given something")
		}
	})
}

func TestWhatCannotBeEncodedIsNotTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		_, err := (&fake{}).serve(t).Runs.CreateRun(t.Context(), &v1.CreateRunRequest{Goal: "\xff"})
		if status.Code(err) != codes.InvalidArgument || time.Since(begin) != 0 {
			t.Error(time.Since(begin), err)
		}
	})
}
