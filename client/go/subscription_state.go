package runhub

import (
	"google.golang.org/protobuf/proto"

	v1 "github.com/runhub/runhub/client/go/runhubv1"
)

// subscriptionState is the state of a subscription across all its streams.
type subscriptionState struct {
	// Request for the next stream. Its `after_position` is the cursor, and its `log_id` names the log in which the cursor
	// is valid.
	request *v1.SubscribeEventsRequest
	// Snapshot parts that have been received, merged into one snapshot. If no snapshot is being received, the value is
	// nil.
	snapshot   *v1.RunSnapshot
	isCaughtUp bool
	// True after the subscription has received its last message.
	hasEnded bool
}

// hasLog reports whether the request names the log that the subscription follows.
func (s *subscriptionState) hasLog() bool {
	return s.request.LogId != nil
}

// setLog sets the log that the subscription follows to the log of the first stream. A cursor is valid in one log only.
// In another log, for example after a restore, the cursor would skip or repeat events. Every request therefore names
// the log, and the server refuses the request if the server has another log.
func (s *subscriptionState) setLog(id string) {
	s.request.LogId = &id
}

// nextRequest returns the request for the next stream.
func (s *subscriptionState) nextRequest() *v1.SubscribeEventsRequest {
	// If the last stream broke during the snapshot, the server sends the snapshot again from its first part. Without
	// the reset, the parts of the last stream would appear twice.
	s.snapshot = nil
	return s.request
}

// receive records a message of the server and returns the message that the subscription yields. receive returns nil if
// the subscription yields nothing for this message.
func (s *subscriptionState) receive(response *v1.SubscribeEventsResponse) *v1.SubscribeEventsResponse {
	switch message := response.GetMessage().(type) {
	case *v1.SubscribeEventsResponse_Snapshot:
		return s.receivePart(message.Snapshot)
	case *v1.SubscribeEventsResponse_Event:
		s.moveCursorTo(message.Event.GetPosition())
	case *v1.SubscribeEventsResponse_Bookmark:
		s.moveCursorTo(message.Bookmark.GetPosition())
	case *v1.SubscribeEventsResponse_CaughtUp:
		s.moveCursorTo(message.CaughtUp.GetPosition())
		if s.isCaughtUp {
			return nil
		}
		s.isCaughtUp = true
	case *v1.SubscribeEventsResponse_End:
		s.moveCursorTo(message.End.GetPosition())
		// DRAINING ends only the stream. The subscription resumes on the next server, so the caller must not see an
		// end.
		if message.End.GetReason() == v1.EndReason_END_REASON_DRAINING {
			return nil
		}
		s.hasEnded = true
	default:
		// A newer server may send a kind of message that this client does not know. The client must ignore the message.
		return nil
	}
	return response
}

// receivePart adds a part to the snapshot. receivePart returns the whole snapshot after the last part, and nil after
// any other part. Only the last part has a position.
func (s *subscriptionState) receivePart(part *v1.RunSnapshot) *v1.SubscribeEventsResponse {
	if s.snapshot == nil {
		s.snapshot = new(v1.RunSnapshot)
	}
	// Each part continues the lists of the previous part. Merge is correct here, because Merge appends lists.
	proto.Merge(s.snapshot, part)
	if part.GetPosition() == 0 {
		return nil
	}
	whole := s.snapshot
	s.snapshot = nil
	s.moveCursorTo(whole.GetPosition())
	return &v1.SubscribeEventsResponse{Message: &v1.SubscribeEventsResponse_Snapshot{Snapshot: whole}}
}

func (s *subscriptionState) moveCursorTo(position int64) {
	s.request.AfterPosition = &position
}
