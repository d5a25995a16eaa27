package runhub

import (
	"google.golang.org/protobuf/proto"

	v1 "github.com/runhub/runhub/client/go/runhubv1"
)

// subscriptionState is the state of a subscription, across all its streams.
type subscriptionState struct {
	// The request for the next stream. Its `after_position` is the cursor.
	request *v1.SubscribeEventsRequest
	// The server's log in which the cursor is valid. Empty before the first stream.
	logID string
	// The parts of the snapshot received so far. Nil if no snapshot is being received.
	snapshot   *v1.RunSnapshot
	isCaughtUp bool
	// Whether the subscription has received its last message.
	hasEnded bool
}

// begin returns the request for the next stream. logID is the log that the server has now. It fails with ErrOtherLog if the
// subscription follows another log. A cursor is valid in one log only: in another one, for example after a restore, it
// would skip or repeat events.
func (s *subscriptionState) begin(logID string) (*v1.SubscribeEventsRequest, error) {
	if s.logID != "" && s.logID != logID {
		return nil, ErrOtherLog
	}
	s.logID = logID
	// If the last stream broke within the snapshot, the server sends the snapshot again from its first part.
	s.snapshot = nil
	return s.request, nil
}

// receive records a message of the server and returns what the subscription yields. Nil if it yields nothing.
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
		// After DRAINING, the subscription resumes at the next server.
		if message.End.GetReason() == v1.EndReason_END_REASON_DRAINING {
			return nil
		}
		s.hasEnded = true
	default:
		// A newer server has sent a kind of message that this client does not know.
		return nil
	}
	return response
}

// receivePart adds a part to the snapshot. Only the last part has a position.
func (s *subscriptionState) receivePart(part *v1.RunSnapshot) *v1.SubscribeEventsResponse {
	if s.snapshot == nil {
		s.snapshot = new(v1.RunSnapshot)
	}
	// Each part continues the lists of the part before, and Merge appends lists.
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
