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

// Subscription is a stream of events without a gap or a duplicate, through broken connections and restarts of the server.
// Only one goroutine at a time may use it.
type Subscription struct {
	events v1.EventServiceClient
	server v1.ServerServiceClient
	conn   singleTryConn
	state  subscriptionState
}

// SubscribeOption changes a default of [Client.Subscribe].
type SubscribeOption func(*Subscription)

// InLog names the log in which the request's position is valid: the [Subscription.LogID] of the subscription that the
// position comes from. If the server has another log, the subscription yields only [ErrOtherLog].
func InLog(id string) SubscribeOption {
	return func(subscription *Subscription) { subscription.state.logID = id }
}

// Subscribe returns a subscription. It opens its stream when the caller ranges over its updates.
func (c *Client) Subscribe(request *v1.SubscribeEventsRequest, options ...SubscribeOption) *Subscription {
	subscription := &Subscription{
		events: c.Events,
		server: c.Server,
		conn:   c.single,
		state:  subscriptionState{request: proto.CloneOf(request)},
	}
	for _, option := range options {
		option(subscription)
	}
	return subscription
}

// LogID returns the server's log in which the position is valid. Empty before the first message, unless [InLog] set it.
func (s *Subscription) LogID() string {
	return s.state.logID
}

// Position returns the cursor: the last position received, or the request's cursor. Together with [InLog], the cursor lets
// another process continue the subscription. Position returns false if there is no cursor yet.
func (s *Subscription) Position() (int64, bool) {
	return s.state.request.GetAfterPosition(), s.state.request.AfterPosition != nil
}

// Updates returns the messages of the subscription:
//   - `snapshot`: the whole state of the run if the request starts with FROM_SNAPSHOT, once and first;
//   - `event`: an event that matches the request;
//   - `bookmark`: every matching event up to its position has been yielded;
//   - `caught_up`: all stored events have been yielded, once;
//   - `end`: the last message, with RUN_ENDED or RUN_DELETED.
//
// While the server is down, the loop waits until the context ends. An error is the last item: the context's error, an error
// that is not temporary ([RunNotFound], [PositionCompacted]), or [ErrOtherLog].
//
// Leaving the loop closes the stream. A later loop resumes after the last position.
func (s *Subscription) Updates(ctx context.Context) iter.Seq2[*v1.SubscribeEventsResponse, error] {
	return func(yield func(*v1.SubscribeEventsResponse, error) bool) {
		ctx, closeStream := context.WithCancel(ctx)
		defer closeStream()
		reader := &reader{Subscription: s, backoff: s.conn.newBackoff(noLimit)}
		for !s.state.hasEnded {
			response, err := reader.receive(ctx)
			if err != nil {
				yield(nil, err)
				return
			}
			if update := s.state.receive(response); update != nil && !yield(update, nil) {
				return
			}
		}
	}
}

// reader is one loop over a subscription. It receives messages from one stream after the other.
type reader struct {
	*Subscription
	backoff *backoff
	// Nil if the next receive must open a stream.
	stream grpc.ServerStreamingClient[v1.SubscribeEventsResponse]
}

// receive returns the next message. It opens streams until one of them has a message, and fails with the first error that
// is not temporary.
func (r *reader) receive(ctx context.Context) (*v1.SubscribeEventsResponse, error) {
	for {
		response, err := r.try(ctx)
		if err == nil {
			r.backoff.reset()
			return response, nil
		}
		r.stream = nil
		if !isTemporary(err) && !hasTimedOut(err) {
			return nil, err
		}
		if !r.backoff.wait(ctx, err) {
			return nil, r.conn.finalError(ctx, fromStatus(err))
		}
	}
}

// hasTimedOut returns whether the call for the server's log_id has reached its deadline. The subscription itself has no
// deadline, so it goes on.
func hasTimedOut(err error) bool {
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
		return nil, &Error{Code: codes.Unavailable, Message: "the stream ended without a message `end`"}
	}
	return response, err
}

func (r *reader) open(ctx context.Context) error {
	info, err := r.server.GetServerInfo(ctx, &v1.GetServerInfoRequest{})
	if err != nil {
		return err
	}
	request, err := r.state.begin(info.GetLogId())
	if err != nil {
		return err
	}
	r.stream, err = r.events.SubscribeEvents(ctx, request)
	return err
}
