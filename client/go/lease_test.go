package runhub

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	v1 "github.com/runhub/runhub/client/go/runhubv1"
)

const (
	extended        = v1.LeaseState_LEASE_STATE_EXTENDED
	lost            = v1.LeaseState_LEASE_STATE_LOST
	pauseRequested  = v1.LeaseState_LEASE_STATE_PAUSE_REQUESTED
	cancelRequested = v1.LeaseState_LEASE_STATE_CANCEL_REQUESTED
)

// claimFor returns a claim with the passed lease duration.
func claimFor(lease time.Duration) *v1.Claim {
	return &v1.Claim{LeaseToken: "token", LeaseDuration: durationpb.New(lease)}
}

// answerHeartbeats returns a handler that answers the heartbeats with the passed states in order. The handler answers
// all later heartbeats with the last state.
func answerHeartbeats(states ...v1.LeaseState) func(context.Context, int) (v1.LeaseState, error) {
	return func(_ context.Context, call int) (v1.LeaseState, error) {
		return states[min(call, len(states))-1], nil
	}
}

// refuseHeartbeats returns a handler that refuses every heartbeat with the error `err`.
func refuseHeartbeats(err error) func(context.Context, int) (v1.LeaseState, error) {
	return func(context.Context, int) (v1.LeaseState, error) { return 0, err }
}

// waitUntilCanceled is a function for Lease.Run that waits until the context is cancelled, and returns the context's
// error.
func waitUntilCanceled(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

// checkLeaseLost checks the cause of a lost lease and the time until the loss. checkLeaseLost returns the LeaseLost
// that the error contains.
func checkLeaseLost(t *testing.T, err error, because Cause, began time.Time, after time.Duration) *LeaseLost {
	t.Helper()
	var lost *LeaseLost
	if !errors.As(err, &lost) || lost.Because != because {
		t.Fatalf("the lease must be lost with the cause %s, but the error is: %v", because, err)
	}
	if took := time.Since(began); took != after {
		t.Errorf("the lease must be lost after %v, but was lost after %v", after, took)
	}
	return lost
}

func TestFirstHeartbeatIsSentImmediatelyAndOthersAfterAThirdOfTheLease(t *testing.T) {
	intervals := map[time.Duration]time.Duration{
		3 * time.Second:  time.Second,
		10 * time.Minute: 10 * time.Second,
		0:                time.Second / 3,
	}
	for lease, interval := range intervals {
		synctest.Test(t, func(t *testing.T) {
			server := &fakeServer{heartbeat: answerHeartbeats(extended)}
			began := time.Now()
			_, keeper := server.serve(t).KeepLease(t.Context(), claimFor(lease))
			time.Sleep(2*interval + interval/2)
			keeper.Stop()
			if len(server.heartbeats) != 3 || server.heartbeats[0].GetBeats()[0].GetLeaseToken() != "token" {
				t.Fatal(server.heartbeats)
			}
			for i, at := range server.times {
				if at.Sub(began) != time.Duration(i)*interval {
					t.Errorf("with a lease of %v, heartbeat %d was sent after %v", lease, i, at.Sub(began))
				}
			}
		})
	}
}

func TestLostLeaseCancelsTheAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &fakeServer{heartbeat: answerHeartbeats(extended, lost)}
		began := time.Now()
		ctx, keeper := server.serve(t).KeepLease(t.Context(), claimFor(3*time.Second))
		err := keeper.Run(waitUntilCanceled)
		checkLeaseLost(t, err, Taken, began, time.Second)
		checkLeaseLost(t, context.Cause(ctx), Taken, began, time.Second)
		if keeper.State() != lost {
			t.Error(keeper.State())
		}
		time.Sleep(time.Minute)
		if len(server.heartbeats) != 2 {
			t.Errorf("the keeper sent %d heartbeats", len(server.heartbeats))
		}
	})
}

func TestLeaseIsLostIfNoHeartbeatIsAnsweredForALeaseDuration(t *testing.T) {
	handlers := map[string]func(context.Context, int) error{"down": alwaysReturn(down), "hangs": neverAnswer}
	for name, handler := range handlers {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := &fakeServer{heartbeat: func(ctx context.Context, call int) (v1.LeaseState, error) {
					if call == 1 {
						return extended, nil
					}
					return 0, handler(ctx, call)
				}}
				began := time.Now()
				_, keeper := server.serve(t).KeepLease(t.Context(), claimFor(3*time.Second))
				err := keeper.Run(waitUntilCanceled)
				lost := checkLeaseLost(t, err, Unanswered, began, 3*time.Second)
				if status.Code(errors.Unwrap(lost)) != codes.Unavailable {
					t.Error(lost)
				}
				synctest.Wait()
				if len(server.heartbeats) < 3 {
					t.Errorf("the keeper sent %d heartbeats", len(server.heartbeats))
				}
			})
		})
	}
}

func TestLeaseIsKeptIfAProxyBreaksHeartbeatsOrTheStoreIsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		breaks := []error{
			status.Error(codes.Internal, "a proxy has reset the stream"),
			status.Error(codes.Unknown, "a proxy has sent an HTML page"),
			status.Error(codes.Canceled, "a proxy has cancelled the stream"),
			refusal(codes.Unavailable, StoreFull),
		}
		server := &fakeServer{heartbeat: func(_ context.Context, call int) (v1.LeaseState, error) {
			if call <= len(breaks) {
				return 0, breaks[call-1]
			}
			return extended, nil
		}}
		ctx, keeper := server.serve(t).KeepLease(t.Context(), claimFor(3*time.Second))
		time.Sleep(10 * time.Second)
		if ctx.Err() != nil {
			t.Error(context.Cause(ctx))
		}
		keeper.Stop()
	})
}

func TestHangingHeartbeatIsRetriedAfterAThirdOfTheLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &fakeServer{heartbeat: func(ctx context.Context, call int) (v1.LeaseState, error) {
			if call == 1 {
				return 0, neverAnswer(ctx, call)
			}
			return extended, nil
		}}
		_, keeper := server.serve(t).KeepLease(t.Context(), claimFor(3*time.Second))
		time.Sleep(10 * time.Second)
		keeper.Stop()
		if keeper.State() != extended {
			t.Error(keeper.State())
		}
		gap := server.times[1].Sub(server.times[0])
		if gap < time.Second || gap > 1100*time.Millisecond {
			t.Error("the retry must start after a third of the lease duration, but started after ", gap)
		}
	})
}

func TestRefusedHeartbeatEndsTheLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &fakeServer{heartbeat: refuseHeartbeats(refusal(codes.InvalidArgument, InvalidField))}
		began := time.Now()
		_, keeper := server.serve(t).KeepLease(t.Context(), claimFor(3*time.Second))
		err := keeper.Run(waitUntilCanceled)
		checkLeaseLost(t, err, Refused, began, 0)
		if !errors.Is(err, InvalidField) {
			t.Error(err)
		}
	})
}

func TestLatestProgressIsSentUntilItIsAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &fakeServer{heartbeat: func(_ context.Context, call int) (v1.LeaseState, error) {
			if call == 2 {
				return extended, down
			}
			return extended, nil
		}}
		_, keeper := server.serve(t).KeepLease(t.Context(), claimFor(3*time.Second))
		time.Sleep(time.Millisecond)
		for _, percent := range []int{25, 50} {
			if err := keeper.Progress(map[string]any{"percent": percent}); err != nil {
				t.Error(err)
			}
		}
		time.AfterFunc(time.Second, func() {
			if err := keeper.Progress(75); err != nil {
				t.Error(err)
			}
		})
		time.Sleep(2500 * time.Millisecond)
		keeper.Stop()
		checkProgress(t, server.heartbeats, nil, map[string]any{"percent": 50.0}, 75.0, nil)
		if keeper.Progress(func() {}) == nil {
			t.Error("Progress has accepted a function, which JSON can't represent")
		}
	})
}

func TestProgressSetDuringAHeartbeatIsSentWithTheNextHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &fakeServer{heartbeat: func(context.Context, int) (v1.LeaseState, error) {
			time.Sleep(500 * time.Millisecond)
			return extended, nil
		}}
		_, keeper := server.serve(t).KeepLease(t.Context(), claimFor(3*time.Second))
		for after, progress := range []string{"early", "late"} {
			time.AfterFunc(time.Duration(600+650*after)*time.Millisecond, func() {
				if err := keeper.Progress(progress); err != nil {
					t.Error(err)
				}
			})
		}
		time.Sleep(3750 * time.Millisecond)
		keeper.Stop()
		checkProgress(t, server.heartbeats, nil, "early", "late", nil)
	})
}

// checkProgress checks the progress of each heartbeat. A wanted progress of nil means that the heartbeat carries no
// progress.
func checkProgress(t *testing.T, heartbeats []*v1.HeartbeatRequest, wanted ...any) {
	t.Helper()
	if len(heartbeats) != len(wanted) {
		t.Fatal(heartbeats)
	}
	for i, want := range wanted {
		got := heartbeats[i].GetBeats()[0].GetProgress()
		if (got == nil) != (want == nil) || got != nil && got.String() != MustValue(want).String() {
			t.Errorf("heartbeat %d has the progress %v, not %v", i+1, got, want)
		}
	}
}

func TestStoppedKeeperSendsNoHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &fakeServer{heartbeat: answerHeartbeats(extended)}
		ctx, keeper := server.serve(t).KeepLease(t.Context(), claimFor(3*time.Second))
		time.Sleep(time.Millisecond)
		keeper.Stop()
		keeper.Stop()
		if cause := context.Cause(ctx); cause != context.Canceled {
			t.Error(cause)
		}
		time.Sleep(time.Minute)
		if len(server.heartbeats) != 1 || keeper.State() != extended {
			t.Error(len(server.heartbeats), keeper.State())
		}
	})
}

func TestAttemptCanWaitForRequestsToStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		states := []v1.LeaseState{extended, pauseRequested, extended, pauseRequested, cancelRequested}
		server := &fakeServer{heartbeat: answerHeartbeats(states...)}
		_, keeper := server.serve(t).KeepLease(t.Context(), claimFor(3*time.Second))
		began := time.Now()
		err := keeper.Run(func(ctx context.Context) error {
			requests := []func() <-chan struct{}{
				keeper.Resumed, keeper.PauseRequested, keeper.Resumed, keeper.PauseRequested, keeper.CancelRequested,
			}
			for after, request := range requests {
				<-request()
				if took := time.Since(began); took != time.Duration(after)*time.Second {
					t.Errorf("the attempt was notified of response %d after %v", after, took)
				}
			}
			return ctx.Err()
		})
		if err != nil || keeper.State() != cancelRequested {
			t.Error(err, keeper.State())
		}
	})
}

func TestErrorOfTheAttemptIsReturnedUnchanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := (&fakeServer{heartbeat: answerHeartbeats(extended)}).serve(t)
		_, keeper := client.KeepLease(t.Context(), claimFor(3*time.Second))
		own := errors.New("the agent can't write report.txt, because the disk is full: delete unused files")
		if err := keeper.Run(func(context.Context) error { return own }); err != own {
			t.Error(err)
		}
	})
}

func TestErrorOfTheAttemptIsJoinedToLeaseLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		client := (&fakeServer{heartbeat: answerHeartbeats(extended, lost)}).serve(t)
		_, keeper := client.KeepLease(t.Context(), claimFor(3*time.Second))
		own := errors.New("the agent can't write report.txt, because the disk is full: delete unused files")
		err := keeper.Run(func(ctx context.Context) error {
			<-ctx.Done()
			return own
		})
		checkLeaseLost(t, err, Taken, began, time.Second)
		if !errors.Is(err, own) {
			t.Error(err)
		}
	})
}

func TestErrorJoinedToTheCancellationIsJoinedToLeaseLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		client := (&fakeServer{heartbeat: answerHeartbeats(extended, lost)}).serve(t)
		_, keeper := client.KeepLease(t.Context(), claimFor(3*time.Second))
		own := errors.New("the agent can't write report.txt, because the disk is full: delete unused files")
		err := keeper.Run(func(ctx context.Context) error { return errors.Join(waitUntilCanceled(ctx), own) })
		checkLeaseLost(t, err, Taken, began, time.Second)
		if !errors.Is(err, own) {
			t.Error(err)
		}
	})
}

func TestRunReturnsLeaseLostIfTheAttemptEndsWithoutErrorAfterTheLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		client := (&fakeServer{heartbeat: answerHeartbeats(extended, lost)}).serve(t)
		_, keeper := client.KeepLease(t.Context(), claimFor(3*time.Second))
		err := keeper.Run(func(context.Context) error {
			time.Sleep(2 * time.Second)
			return nil
		})
		checkLeaseLost(t, err, Taken, began, 2*time.Second)
	})
}

func TestCancellationByTheCallerIsNotALostLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &fakeServer{heartbeat: func(ctx context.Context, call int) (v1.LeaseState, error) {
			if call == 1 {
				return extended, nil
			}
			return 0, neverAnswer(ctx, call)
		}}
		outside, cancel := context.WithCancel(t.Context())
		_, keeper := server.serve(t).KeepLease(outside, claimFor(3*time.Second))
		// The caller cancels the context 1.5 s after the start of the test, while the second heartbeat is unanswered.
		time.AfterFunc(1500*time.Millisecond, cancel)
		if err := keeper.Run(waitUntilCanceled); err != context.Canceled {
			t.Error(err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(server.heartbeats) != 2 || keeper.State() != extended {
			t.Error(len(server.heartbeats), keeper.State())
		}
	})
}

func TestRunDoesNotStartTheAttemptAfterTheLeaseIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := (&fakeServer{heartbeat: answerHeartbeats(lost)}).serve(t)
		ctx, keeper := client.KeepLease(t.Context(), claimFor(3*time.Second))
		<-ctx.Done()
		err := keeper.Run(func(context.Context) error {
			t.Error("Run must not call the function `work` after the loss of the lease")
			return nil
		})
		checkLeaseLost(t, err, Taken, time.Now(), 0)
	})
}

func TestCallUnderTheContextOfALostLeaseFailsWithLeaseLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := (&fakeServer{heartbeat: answerHeartbeats(extended, lost), createRun: neverAnswer}).serve(t)
		began := time.Now()
		ctx, keeper := client.KeepLease(t.Context(), claimFor(3*time.Second))
		defer keeper.Stop()
		_, err := client.Runs.CreateRun(ctx, &v1.CreateRunRequest{})
		checkLeaseLost(t, err, Taken, began, time.Second)
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}
