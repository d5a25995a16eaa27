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

func claimFor(lease time.Duration) *v1.Claim {
	return &v1.Claim{LeaseToken: "token", LeaseDuration: durationpb.New(lease)}
}

// answering answers the beats with these, and all others with the last of them.
func answering(states ...v1.LeaseState) func(context.Context, int) (v1.LeaseState, error) {
	return func(_ context.Context, call int) (v1.LeaseState, error) {
		return states[min(call, len(states))-1], nil
	}
}

func refusing(err error) func(context.Context, int) (v1.LeaseState, error) {
	return func(context.Context, int) (v1.LeaseState, error) { return 0, err }
}

func untilCancelled(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

// wantLost checks why a lease was lost, and how long it took.
func wantLost(t *testing.T, err error, because Cause, began time.Time, after time.Duration) *LeaseLost {
	t.Helper()
	var lost *LeaseLost
	if !errors.As(err, &lost) || lost.Because != because {
		t.Fatalf("wanted the lease lost (%s), came: %v", because, err)
	}
	if took := time.Since(began); took != after {
		t.Errorf("lost after %v, not %v", took, after)
	}
	return lost
}

func TestTheFirstBeatGoesOutAtOnceAndTheOthersAtAThird(t *testing.T) {
	for lease, interval := range map[time.Duration]time.Duration{
		3 * time.Second: time.Second, 10 * time.Minute: 10 * time.Second, 0: time.Second / 3,
	} {
		synctest.Test(t, func(t *testing.T) {
			server := &fake{beat: answering(extended)}
			began := time.Now()
			_, keeper := server.serve(t).KeepLease(t.Context(), claimFor(lease))
			time.Sleep(2*interval + interval/2)
			keeper.Stop()
			if len(server.beats) != 3 || server.beats[0].GetBeats()[0].GetLeaseToken() != "token" {
				t.Fatal(server.beats)
			}
			for i, at := range server.times {
				if at.Sub(began) != time.Duration(i)*interval {
					t.Errorf("lease %v: beat %d after %v", lease, i, at.Sub(began))
				}
			}
		})
	}
}

func TestALeaseThatIsTakenCancelsTheWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &fake{beat: answering(extended, lost)}
		began := time.Now()
		ctx, keeper := server.serve(t).KeepLease(t.Context(), claimFor(3*time.Second))
		err := keeper.Run(untilCancelled)
		wantLost(t, err, Taken, began, time.Second)
		wantLost(t, context.Cause(ctx), Taken, began, time.Second)
		if keeper.State() != lost {
			t.Error(keeper.State())
		}
		time.Sleep(time.Minute)
		if len(server.beats) != 2 {
			t.Error("beats: ", len(server.beats))
		}
	})
}

func TestALeaseIsLostAfterItsDurationOfSilence(t *testing.T) {
	silences := map[string]func(context.Context, int) error{"away": always(away), "hangs": hang}
	for name, silence := range silences {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := &fake{beat: func(ctx context.Context, call int) (v1.LeaseState, error) {
					if call == 1 {
						return extended, nil
					}
					return 0, silence(ctx, call)
				}}
				began := time.Now()
				_, keeper := server.serve(t).KeepLease(t.Context(), claimFor(3*time.Second))
				err := keeper.Run(untilCancelled)
				lost := wantLost(t, err, Unanswered, began, 3*time.Second)
				if status.Code(errors.Unwrap(lost)) != codes.Unavailable {
					t.Error(lost)
				}
				synctest.Wait()
				if len(server.beats) < 3 {
					t.Error("beats: ", len(server.beats))
				}
			})
		})
	}
}

func TestABeatThatHangsIsTriedAgainAfterAThird(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &fake{beat: func(ctx context.Context, call int) (v1.LeaseState, error) {
			if call == 1 {
				return 0, hang(ctx, call)
			}
			return extended, nil
		}}
		_, keeper := server.serve(t).KeepLease(t.Context(), claimFor(3*time.Second))
		time.Sleep(10 * time.Second)
		if keeper.Stop(); keeper.State() != extended {
			t.Error(keeper.State())
		}
		if again := server.times[1].Sub(server.times[0]); again < time.Second || again > 1100*time.Millisecond {
			t.Error(again)
		}
	})
}

func TestABeatThatIsRefusedEndsTheLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &fake{beat: refusing(refusal(codes.InvalidArgument, InvalidField))}
		began := time.Now()
		_, keeper := server.serve(t).KeepLease(t.Context(), claimFor(3*time.Second))
		err := keeper.Run(untilCancelled)
		if wantLost(t, err, Refused, began, 0); !errors.Is(err, InvalidField) {
			t.Error(err)
		}
	})
}

func TestAProgressIsSentOnceAndTheLatestWins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &fake{beat: func(_ context.Context, call int) (v1.LeaseState, error) {
			return extended, map[int]error{2: away}[call]
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
		checkProgress(t, server.beats, nil, map[string]any{"percent": 50.0}, 75.0, nil)
		if keeper.Progress(func() {}) == nil {
			t.Error("a function is no JSON")
		}
	})
}

func TestAProgressSetWhileABeatIsUnderWayIsNotLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &fake{beat: func(context.Context, int) (v1.LeaseState, error) {
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
		checkProgress(t, server.beats, nil, "early", "late", nil)
	})
}

func checkProgress(t *testing.T, beats []*v1.HeartbeatRequest, wanted ...any) {
	t.Helper()
	if len(beats) != len(wanted) {
		t.Fatal(beats)
	}
	for i, want := range wanted {
		got := beats[i].GetBeats()[0].GetProgress()
		if (got == nil) != (want == nil) || got != nil && got.String() != MustValue(want).String() {
			t.Errorf("beat %d has %v, not %v", i+1, got, want)
		}
	}
}

func TestAStoppedKeeperBeatsNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &fake{beat: answering(extended)}
		ctx, keeper := server.serve(t).KeepLease(t.Context(), claimFor(3*time.Second))
		time.Sleep(time.Millisecond)
		keeper.Stop()
		keeper.Stop()
		if cause := context.Cause(ctx); cause != context.Canceled {
			t.Error(cause)
		}
		time.Sleep(time.Minute)
		if len(server.beats) != 1 || keeper.State() != extended {
			t.Error(len(server.beats), keeper.State())
		}
	})
}

func TestTheWorkHearsThatItIsAskedToStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &fake{beat: answering(extended, pauseRequested, extended, pauseRequested, cancelRequested)}
		_, keeper := server.serve(t).KeepLease(t.Context(), claimFor(3*time.Second))
		began := time.Now()
		err := keeper.Run(func(ctx context.Context) error {
			for after, asked := range []func() <-chan struct{}{
				keeper.Resumed, keeper.PauseRequested, keeper.Resumed, keeper.PauseRequested, keeper.CancelRequested,
			} {
				<-asked()
				if took := time.Since(began); took != time.Duration(after)*time.Second {
					t.Errorf("answer %d was heard after %v", after, took)
				}
			}
			return ctx.Err()
		})
		if err != nil || keeper.State() != cancelRequested {
			t.Error(err, keeper.State())
		}
	})
}

func TestTheWorksOwnErrorPassesUnchanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, keeper := (&fake{beat: answering(extended)}).serve(t).KeepLease(t.Context(), claimFor(3*time.Second))
		own := errors.New("the disk is full")
		if err := keeper.Run(func(context.Context) error { return own }); err != own {
			t.Error(err)
		}
	})
}

func TestAnErrorBesideALostLeaseIsNotSwallowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		_, keeper := (&fake{beat: answering(extended, lost)}).serve(t).KeepLease(t.Context(), claimFor(3*time.Second))
		own := errors.New("the disk is full")
		err := keeper.Run(func(ctx context.Context) error {
			<-ctx.Done()
			return own
		})
		if wantLost(t, err, Taken, began, time.Second); !errors.Is(err, own) {
			t.Error(err)
		}
	})
}

func TestWhatIsWrappedWithTheCancellationIsNotSwallowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		_, keeper := (&fake{beat: answering(extended, lost)}).serve(t).KeepLease(t.Context(), claimFor(3*time.Second))
		own := errors.New("the disk is full")
		err := keeper.Run(func(ctx context.Context) error { return errors.Join(untilCancelled(ctx), own) })
		if wantLost(t, err, Taken, began, time.Second); !errors.Is(err, own) {
			t.Error(err)
		}
	})
}

func TestALostLeaseIsReportedAlsoWhenTheWorkCameToItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		_, keeper := (&fake{beat: answering(extended, lost)}).serve(t).KeepLease(t.Context(), claimFor(3*time.Second))
		err := keeper.Run(func(context.Context) error {
			time.Sleep(2 * time.Second)
			return nil
		})
		wantLost(t, err, Taken, began, 2*time.Second)
	})
}

func TestACancellationFromOutsideIsNoLostLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &fake{beat: func(ctx context.Context, call int) (v1.LeaseState, error) {
			if call == 1 {
				return extended, nil
			}
			return 0, hang(ctx, call)
		}}
		outside, cancel := context.WithCancel(t.Context())
		_, keeper := server.serve(t).KeepLease(outside, claimFor(3*time.Second))
		// While the second beat is under way.
		time.AfterFunc(1500*time.Millisecond, cancel)
		if err := keeper.Run(untilCancelled); err != context.Canceled {
			t.Error(err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(server.beats) != 2 || keeper.State() != extended {
			t.Error(len(server.beats), keeper.State())
		}
	})
}

func TestWhatIsLostAlreadyIsNotBegun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, keeper := (&fake{beat: answering(lost)}).serve(t).KeepLease(t.Context(), claimFor(3*time.Second))
		<-ctx.Done()
		err := keeper.Run(func(context.Context) error {
			t.Error("it was begun")
			return nil
		})
		wantLost(t, err, Taken, time.Now(), 0)
	})
}

func TestACallOfTheWorkSaysThatTheLeaseIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := (&fake{beat: answering(extended, lost), createRun: hang}).serve(t)
		began := time.Now()
		ctx, keeper := client.KeepLease(t.Context(), claimFor(3*time.Second))
		defer keeper.Stop()
		_, err := client.Runs.CreateRun(ctx, &v1.CreateRunRequest{})
		if wantLost(t, err, Taken, began, time.Second); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}
