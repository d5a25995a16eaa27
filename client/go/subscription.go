package runhub

import (
	"context"
	"errors"
	"io"
	"iter"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	v1 "github.com/runhub/runhub/client/go/runhubv1"
)

// Subscription is a stream of events without a gap or a duplicate, however often the connection breaks or the server
// restarts. It is for one goroutine at a time.
type Subscription struct {
	events  v1.EventServiceClient
	server  v1.ServerServiceClient
	once    tries
	request *v1.SubscribeEventsRequest
	// Of the server it was subscribed to first, here or in another process.
	logID string
	// What has come of the snapshot so far, while parts of it come.
	snapshot   *v1.RunSnapshot
	isCaughtUp bool
	isOver     bool
}

// SubscribeOption says more about a subscription than its request does.
type SubscribeOption func(*Subscription)

// InLog says for which log the request's position is good: the [Subscription.LogID] of the subscription it comes from. If
// the server's is another one, the subscription brings [ErrOtherLog] and nothing else.
func InLog(id string) SubscribeOption {
	return func(subscription *Subscription) { subscription.logID = id }
}

// Subscribe makes a subscription. It connects when its updates are ranged over.
func (c *Client) Subscribe(request *v1.SubscribeEventsRequest, options ...SubscribeOption) *Subscription {
	subscription := &Subscription{events: c.Events, server: c.Server, once: c.once, request: proto.CloneOf(request)}
	for _, option := range options {
		option(subscription)
	}
	return subscription
}

// LogID names the server's log, which the position is good for. Empty before it is known.
func (s *Subscription) LogID() string {
	return s.logID
}

// Position is the cursor, to go on with in another process, with [InLog]: the last position received. False before the
// first of a subscription that began without one.
func (s *Subscription) Position() (int64, bool) {
	return s.request.GetAfterPosition(), s.request.AfterPosition != nil
}

// Updates brings what the server sends:
//   - `snapshot`, with FROM_SNAPSHOT: the run, whole, once and first;
//   - `event`, and `bookmark` while there is none;
//   - `caught_up`, once, when everything stored was brought;
//   - `end` with RUN_ENDED or RUN_DELETED, after which nothing follows.
//
// It waits for as long as the context allows while the server is away. An error is the last that comes: the context's,
// what the server refuses ([RunNotFound], [PositionCompacted]), or [ErrOtherLog].
//
// Leaving the loop closes the stream. Ranging again goes on after the last position.
func (s *Subscription) Updates(ctx context.Context) iter.Seq2[*v1.SubscribeEventsResponse, error] {
	return func(yield func(*v1.SubscribeEventsResponse, error) bool) {
		ctx, closeStream := context.WithCancel(ctx)
		defer closeStream()
		reader := &reader{Subscription: s, delays: s.once.newDelays(noLimit)}
		for !s.isOver {
			response, err := reader.receive(ctx)
			if err != nil {
				yield(nil, err)
				return
			}
			if update := s.take(response); update != nil && !yield(update, nil) {
				return
			}
		}
	}
}

// take moves the cursor, and returns what of a message is to be shown.
func (s *Subscription) take(response *v1.SubscribeEventsResponse) *v1.SubscribeEventsResponse {
	switch message := response.GetMessage().(type) {
	case *v1.SubscribeEventsResponse_Snapshot:
		return s.takePart(message.Snapshot)
	case *v1.SubscribeEventsResponse_Event:
		s.moveTo(message.Event.GetPosition())
	case *v1.SubscribeEventsResponse_Bookmark:
		s.moveTo(message.Bookmark.GetPosition())
	case *v1.SubscribeEventsResponse_CaughtUp:
		s.moveTo(message.CaughtUp.GetPosition())
		if s.isCaughtUp {
			return nil
		}
		s.isCaughtUp = true
	case *v1.SubscribeEventsResponse_End:
		s.moveTo(message.End.GetPosition())
		// Its successor goes on from here.
		if message.End.GetReason() == v1.EndReason_END_REASON_DRAINING {
			return nil
		}
		s.isOver = true
	default:
		return nil
	}
	return response
}

// takePart puts a snapshot together. Only its last part has a position.
func (s *Subscription) takePart(part *v1.RunSnapshot) *v1.SubscribeEventsResponse {
	if s.snapshot == nil {
		s.snapshot = new(v1.RunSnapshot)
	}
	proto.Merge(s.snapshot, part)
	if part.GetPosition() == 0 {
		return nil
	}
	whole := s.snapshot
	s.snapshot = nil
	s.moveTo(whole.GetPosition())
	return &v1.SubscribeEventsResponse{Message: &v1.SubscribeEventsResponse_Snapshot{Snapshot: whole}}
}

func (s *Subscription) moveTo(position int64) {
	s.request.AfterPosition = &position
}

// reader is one loop over a subscription.
type reader struct {
	*Subscription
	delays *delays
	// Nil while it is to be opened.
	stream grpc.ServerStreamingClient[v1.SubscribeEventsResponse]
}

// receive returns the next message, from as many streams as it takes.
func (r *reader) receive(ctx context.Context) (*v1.SubscribeEventsResponse, error) {
	for {
		response, err := r.try(ctx)
		if err == nil {
			r.delays.reset()
			return response, nil
		}
		r.stream = nil
		if !isPassing(err) && !isOutOfTime(err) {
			return nil, err
		}
		if !r.delays.wait(ctx, err) {
			return nil, r.once.givenUp(ctx, fromStatus(err))
		}
	}
}

// isOutOfTime tells whether the call for the log's id had no answer in its deadline. A subscription has none.
func isOutOfTime(err error) bool {
	return status.Code(err) == codes.DeadlineExceeded
}

func (r *reader) try(ctx context.Context) (*v1.SubscribeEventsResponse, error) {
	if r.stream == nil {
		if err := r.open(ctx); err != nil {
			return nil, err
		}
	}
	response, err := r.stream.Recv()
	if errors.Is(err, io.EOF) {
		return nil, &Error{Code: codes.Unavailable, Message: "the stream broke off before its end"}
	}
	return response, err
}

func (r *reader) open(ctx context.Context) error {
	if err := r.checkLog(ctx); err != nil {
		return err
	}
	// Broken off within the snapshot it begins anew.
	r.snapshot = nil
	stream, err := r.events.SubscribeEvents(ctx, r.request)
	r.stream = stream
	return err
}

// checkLog makes sure that the cursor is good for this server: after a restore, say, it would skip or repeat without a
// word.
func (r *reader) checkLog(ctx context.Context) error {
	info, err := r.server.GetServerInfo(ctx, &v1.GetServerInfoRequest{})
	if err != nil {
		return err
	}
	if r.logID != "" && r.logID != info.GetLogId() {
		return ErrOtherLog
	}
	r.logID = info.GetLogId()
	return nil
}
