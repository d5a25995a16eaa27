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

// Subscription is a stream of events without a gap or a duplicate. The subscription resumes after broken connections
// and restarts of the server. Only one goroutine at a time may use a Subscription.
type Subscription struct {
	events v1.EventServiceClient
	server v1.ServerServiceClient
	conn   singleCallConn
	state  subscriptionState
}

// Subscribe returns a subscription to the events that match the request. When the caller ranges over
// [Subscription.Updates], the subscription opens a stream.
//
// To continue an earlier subscription, set AfterPosition and LogId of the request to the [Subscription.Position] and
// the [Subscription.LogID] of the earlier subscription. If the server has another log, the subscription yields only an
// error with the reason [LogChanged].
func (c *Client) Subscribe(request *v1.SubscribeEventsRequest) *Subscription {
	return &Subscription{
		events: c.Events,
		server: c.Server,
		conn:   c.single,
		state:  subscriptionState{request: proto.CloneOf(request)},
	}
}

// LogID returns the log_id of the log in which the position is valid. Before the first message, LogID returns the
// request's log_id, or an empty string if the request has no log_id.
func (s *Subscription) LogID() string {
	return s.state.request.GetLogId()
}

// Position returns the cursor, which is the last position received or, before the first message, the request's cursor.
// Another process can continue the subscription with the cursor and [Subscription.LogID]. Position returns false if
// there is no cursor yet.
func (s *Subscription) Position() (int64, bool) {
	return s.state.request.GetAfterPosition(), s.state.request.AfterPosition != nil
}

// Updates returns an iterator over the messages of the subscription: - `snapshot` contains the whole state of the run.
// If the request starts with FROM_SNAPSHOT, `snapshot` comes first. - `event` contains an event that matches the
// request. - `bookmark` means that every matching event up to the bookmark's position has been yielded. - `caught_up`
// means that all stored events have been yielded. The subscription yields `caught_up` only once. - `end` is the last
// message. The reason for the end is RUN_ENDED or RUN_DELETED.
//
// While the server is down, the loop waits for the server until the context ends. An error is the last item of the
// loop. The error is the context's error, [ErrClosed], or another error that is not temporary, such as [RunNotFound],
// [PositionCompacted] or [LogChanged].
//
// If the caller leaves the loop, the stream is closed. A later loop resumes after the last position.
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

// reader reads a subscription during one loop. When a stream breaks, the reader opens the next stream.
type reader struct {
	*Subscription
	backoff *backoff
	// Current stream of the reader. If the method `receive` must first open a stream, the value is nil.
	stream grpc.ServerStreamingClient[v1.SubscribeEventsResponse]
}

// receive returns the next message. When a stream breaks, receive opens the next stream. receive fails with the first
// error that is not temporary, or when the context ends.
func (r *reader) receive(ctx context.Context) (*v1.SubscribeEventsResponse, error) {
	for {
		response, err := r.receiveOnce(ctx)
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

// hasTimedOut reports whether the call that reads the server's log_id has reached its deadline. The subscription itself
// has no deadline, so the reader retries the call.
func hasTimedOut(err error) bool {
	return status.Code(err) == codes.DeadlineExceeded
}

func (r *reader) receiveOnce(ctx context.Context) (*v1.SubscribeEventsResponse, error) {
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

func (r *reader) open(ctx context.Context) (err error) {
	if !r.state.hasLog() {
		info, err := r.server.GetServerInfo(ctx, &v1.GetServerInfoRequest{})
		if err != nil {
			return err
		}
		r.state.setLog(info.GetLogId())
	}
	r.stream, err = r.events.SubscribeEvents(ctx, r.state.nextRequest())
	return err
}
