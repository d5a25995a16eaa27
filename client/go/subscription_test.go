package runhub

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	v1 "github.com/runhub/runhub/client/go/runhubv1"
)

type update = v1.SubscribeEventsResponse

// streamScript lists the messages that the fake server sends on one stream, and the error that ends the stream.
type streamScript struct {
	updates []*update
	err     error
}

// sendScripts returns a handler that sends the updates of one script to each stream. If no script remains, the handler
// sends nothing until the client closes the stream.
func sendScripts(scripts ...streamScript) func(int, grpc.ServerStreamingServer[update]) error {
	return func(call int, stream grpc.ServerStreamingServer[update]) error {
		if call > len(scripts) {
			return neverAnswer(stream.Context(), call)
		}
		for _, update := range scripts[call-1].updates {
			if err := stream.Send(update); err != nil {
				return err
			}
		}
		return scripts[call-1].err
	}
}

func eventMessage(position int64) *update {
	return &update{Message: &v1.SubscribeEventsResponse_Event{Event: &v1.Event{Position: position}}}
}

func bookmarkMessage(position int64) *update {
	return &update{Message: &v1.SubscribeEventsResponse_Bookmark{Bookmark: &v1.Bookmark{Position: position}}}
}

func caughtUpMessage(position int64) *update {
	return &update{Message: &v1.SubscribeEventsResponse_CaughtUp{CaughtUp: &v1.CaughtUp{Position: position}}}
}

func endMessage(reason v1.EndReason, position int64) *update {
	return &update{Message: &v1.SubscribeEventsResponse_End{End: &v1.End{Reason: reason, Position: position}}}
}

func runEndedMessage(position int64) *update {
	return endMessage(v1.EndReason_END_REASON_RUN_ENDED, position)
}

func snapshotPartMessage(snapshot *v1.RunSnapshot) *update {
	return &update{Message: &v1.SubscribeEventsResponse_Snapshot{Snapshot: snapshot}}
}

// readAll reads the subscription until the subscription ends or fails, and returns the updates and the error.
func readAll(ctx context.Context, subscription *Subscription) (updates []*update, err error) {
	for update, failure := range subscription.Updates(ctx) {
		if failure != nil {
			err = failure
			continue
		}
		updates = append(updates, update)
	}
	return updates, err
}

func checkUpdates(t *testing.T, got []*update, want ...*update) {
	t.Helper()
	isSame := func(a, b *update) bool { return a.String() == b.String() }
	if !slices.EqualFunc(got, want, isSame) {
		t.Errorf("the subscription yielded %v, not %v", got, want)
	}
}

// requestedCursors returns the cursors of the received requests. A cursor of -1 means that the request has no cursor.
func requestedCursors(server *fakeServer) (cursors []int64) {
	for _, request := range server.subscribed {
		if request.AfterPosition == nil {
			cursors = append(cursors, -1)
		} else {
			cursors = append(cursors, request.GetAfterPosition())
		}
	}
	return cursors
}

func TestSubscriptionResumesAfterLastPositionOfAnyMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &fakeServer{subscribe: sendScripts(
			streamScript{[]*update{eventMessage(3), eventMessage(5)}, down},
			streamScript{[]*update{bookmarkMessage(7)}, status.Error(codes.Canceled, "reset")},
			streamScript{[]*update{caughtUpMessage(8)}, nil},
			streamScript{nil, refusal(codes.Unavailable, Draining)},
			streamScript{nil, status.Error(codes.Internal, "a proxy has reset the stream")},
			streamScript{nil, status.Error(codes.Unknown, "a proxy has sent an HTML page")},
			streamScript{[]*update{caughtUpMessage(8), eventMessage(9), runEndedMessage(9)}, nil},
		)}
		request := &v1.SubscribeEventsRequest{RunId: "run"}
		subscription := server.serve(t).Subscribe(request)
		if _, ok := subscription.Position(); ok {
			t.Error("the subscription has a position before the first message")
		}
		updates, err := readAll(t.Context(), subscription)
		if err != nil {
			t.Error(err)
		}
		wanted := []*update{
			eventMessage(3), eventMessage(5), bookmarkMessage(7), caughtUpMessage(8), eventMessage(9), runEndedMessage(9),
		}
		checkUpdates(t, updates, wanted...)
		if cursors := requestedCursors(server); !slices.Equal(cursors, []int64{-1, 5, 7, 8, 8, 8, 8}) {
			t.Error(cursors)
		}
		if position, ok := subscription.Position(); position != 9 || !ok || request.AfterPosition != nil {
			t.Error(position, ok, request)
		}
	})
}

func TestSubscriptionYieldsNothingAfterTheEnd(t *testing.T) {
	for _, reason := range []v1.EndReason{v1.EndReason_END_REASON_RUN_ENDED, v1.EndReason_END_REASON_RUN_DELETED} {
		synctest.Test(t, func(t *testing.T) {
			server := &fakeServer{subscribe: sendScripts(streamScript{[]*update{endMessage(reason, 2)}, nil})}
			subscription := server.serve(t).Subscribe(&v1.SubscribeEventsRequest{})
			updates, err := readAll(t.Context(), subscription)
			checkUpdates(t, updates, endMessage(reason, 2))
			again, againErr := readAll(t.Context(), subscription)
			if err != nil || againErr != nil || len(again) != 0 || len(server.subscribed) != 1 {
				t.Error(err, againErr, again, len(server.subscribed))
			}
		})
	}
}

func TestSnapshotPartsAreJoinedAndBrokenSnapshotStartsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := snapshotPartMessage(&v1.RunSnapshot{Run: &v1.Run{Id: "run"}, PendingTasks: []*v1.Task{{Id: "a"}}})
		last := snapshotPartMessage(&v1.RunSnapshot{PendingTasks: []*v1.Task{{Id: "b"}}, Position: 4})
		server := &fakeServer{subscribe: sendScripts(
			streamScript{[]*update{first}, down},
			streamScript{[]*update{first, last}, down},
			streamScript{[]*update{runEndedMessage(5)}, nil},
		)}
		updates, err := readAll(t.Context(), server.serve(t).Subscribe(&v1.SubscribeEventsRequest{}))
		if err != nil {
			t.Error(err)
		}
		whole := &v1.RunSnapshot{Run: &v1.Run{Id: "run"}, PendingTasks: []*v1.Task{{Id: "a"}, {Id: "b"}}, Position: 4}
		checkUpdates(t, updates, snapshotPartMessage(whole), runEndedMessage(5))
		if cursors := requestedCursors(server); !slices.Equal(cursors, []int64{-1, -1, 4}) {
			t.Error(cursors)
		}
	})
}

func TestDrainingIsNotYielded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		draining := endMessage(v1.EndReason_END_REASON_DRAINING, 6)
		server := &fakeServer{subscribe: sendScripts(
			streamScript{[]*update{eventMessage(3), draining}, refusal(codes.Unavailable, Draining, retryAfter(5*time.Second))},
			streamScript{[]*update{runEndedMessage(7)}, nil},
		)}
		updates, err := readAll(t.Context(), server.serve(t).Subscribe(&v1.SubscribeEventsRequest{}))
		if err != nil {
			t.Error(err)
		}
		checkUpdates(t, updates, eventMessage(3), runEndedMessage(7))
		if cursors := requestedCursors(server); !slices.Equal(cursors, []int64{-1, 6}) {
			t.Error(cursors)
		}
		if waited := server.times[1].Sub(server.times[0]); waited != 5*time.Second {
			t.Error("the subscription must resume after 5s, but resumed after ", waited)
		}
	})
}

func TestPermanentErrorEndsTheSubscription(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		refused := refusal(codes.OutOfRange, PositionCompacted)
		server := &fakeServer{subscribe: sendScripts(
			streamScript{[]*update{eventMessage(3)}, refused},
			streamScript{nil, refused},
		)}
		subscription := server.serve(t).Subscribe(&v1.SubscribeEventsRequest{})
		updates, err := readAll(t.Context(), subscription)
		checkUpdates(t, updates, eventMessage(3))
		if !errors.Is(err, PositionCompacted) {
			t.Error(err)
		}
		if _, err := readAll(t.Context(), subscription); !errors.Is(err, PositionCompacted) {
			t.Error("a second loop ended with: ", err)
		}
	})
}

// requestedLogs returns the log_ids of the received requests. An empty log_id means that the request has no log_id.
func requestedLogs(server *fakeServer) (logs []string) {
	for _, request := range server.subscribed {
		logs = append(logs, request.GetLogId())
	}
	return logs
}

// The log of the first stream is in each later request, so that the server of another log refuses the request.
func TestAnotherLogEndsTheSubscription(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &fakeServer{subscribe: sendScripts(
			streamScript{[]*update{eventMessage(3)}, down},
			streamScript{[]*update{eventMessage(4)}, refusal(codes.Unavailable, StoreFull)},
			streamScript{nil, refusal(codes.FailedPrecondition, LogChanged)},
		)}
		server.logID = func(_ context.Context, call int) string {
			return []string{"old", "new"}[call-1]
		}
		updates, err := readAll(t.Context(), server.serve(t).Subscribe(&v1.SubscribeEventsRequest{}))
		checkUpdates(t, updates, eventMessage(3), eventMessage(4))
		if !errors.Is(err, LogChanged) {
			t.Error(err)
		}
		if logs := requestedLogs(server); !slices.Equal(logs, []string{"old", "old", "old"}) {
			t.Error(logs)
		}
	})
}

func TestNewSubscriptionContinuesInTheSameLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &fakeServer{subscribe: sendScripts(
			streamScript{[]*update{eventMessage(3)}, nil},
			streamScript{[]*update{runEndedMessage(4)}, nil},
		)}
		client := server.serve(t)
		before := client.Subscribe(&v1.SubscribeEventsRequest{})
		if before.LogID() != "" {
			t.Error("the subscription has a log before the first message")
		}
		for range before.Updates(t.Context()) {
			break
		}
		if before.LogID() != "log" {
			t.Error(before.LogID())
		}
		position, _ := before.Position()
		request := &v1.SubscribeEventsRequest{AfterPosition: &position, LogId: proto.String(before.LogID())}
		after := client.Subscribe(request)
		updates, err := readAll(t.Context(), after)
		if err != nil || after.LogID() != "log" {
			t.Error(after.LogID(), err)
		}
		checkUpdates(t, updates, runEndedMessage(4))
		if logs := requestedLogs(server); !slices.Equal(logs, []string{"log", "log"}) {
			t.Error(logs)
		}
	})
}

func TestNewSubscriptionYieldsNothingInAnotherLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &fakeServer{subscribe: sendScripts(streamScript{nil, refusal(codes.FailedPrecondition, LogChanged)})}
		subscription := server.serve(t).Subscribe(&v1.SubscribeEventsRequest{LogId: proto.String("old")})
		updates, err := readAll(t.Context(), subscription)
		if !errors.Is(err, LogChanged) || len(updates) != 0 {
			t.Error(err, updates)
		}
		if logs := requestedLogs(server); subscription.LogID() != "old" || !slices.Equal(logs, []string{"old"}) {
			t.Error(subscription.LogID(), logs)
		}
	})
}

func TestLeavingTheLoopClosesTheStreamAndALaterLoopResumes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		closed := make(chan struct{})
		server := &fakeServer{}
		server.subscribe = func(call int, stream grpc.ServerStreamingServer[update]) error {
			if call == 2 {
				return stream.Send(runEndedMessage(4))
			}
			defer close(closed)
			if err := stream.Send(eventMessage(3)); err != nil {
				return err
			}
			return neverAnswer(stream.Context(), call)
		}
		subscription := server.serve(t).Subscribe(&v1.SubscribeEventsRequest{})
		for range subscription.Updates(t.Context()) {
			break
		}
		<-closed
		updates, err := readAll(t.Context(), subscription)
		if err != nil {
			t.Error(err)
		}
		checkUpdates(t, updates, runEndedMessage(4))
		if cursors := requestedCursors(server); !slices.Equal(cursors, []int64{-1, 3}) {
			t.Error(cursors)
		}
	})
}

func TestSubscriptionWaitsUntilItsContextEnds(t *testing.T) {
	handlers := map[string]func(int, grpc.ServerStreamingServer[update]) error{
		"idle": sendScripts(),
		"down": func(int, grpc.ServerStreamingServer[update]) error { return down },
	}
	for name, handler := range handlers {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client := (&fakeServer{subscribe: handler}).serve(t)
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				began := time.Now()
				_, err := readAll(ctx, client.Subscribe(&v1.SubscribeEventsRequest{}))
				if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Hour {
					t.Error(time.Since(began), err)
				}
			})
		})
	}
}

func TestSubscriptionSurvivesTheDeadlineOfItsCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &fakeServer{subscribe: sendScripts(streamScript{[]*update{runEndedMessage(1)}, nil})}
		server.logID = func(ctx context.Context, call int) string {
			if call == 1 {
				<-ctx.Done()
			}
			return "log"
		}
		updates, err := readAll(t.Context(), server.serve(t).Subscribe(&v1.SubscribeEventsRequest{}))
		if err != nil {
			t.Error(err)
		}
		checkUpdates(t, updates, runEndedMessage(1))
	})
}
