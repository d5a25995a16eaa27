package runhub

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"

	v1 "github.com/runhub/runhub/client/go/runhubv1"
)

const (
	// heartbeatsPerLease is the number of heartbeats per lease duration. With three heartbeats, two heartbeats can be late
	// before the lease expires.
	heartbeatsPerLease = 3
	// longestInterval is the longest time between two heartbeats. The lease holder learns of a cancellation from the
	// response to a heartbeat, and the default grace period of a cancellation is only 30 s.
	longestInterval = 10 * time.Second
	// shortestLease is the shortest lease duration that a server grants. If a claim has no lease duration, this value
	// limits the rate of heartbeats.
	shortestLease = time.Second
)

// heartbeats sends the heartbeats of one lease in the background.
type heartbeats struct {
	lease    *Lease
	conn     singleCallConn
	tasks    v1.TaskServiceClient
	taskID   string
	token    string
	duration time.Duration
	// Time when the last answered heartbeat was sent or, before the first response, when KeepLease was called. The
	// server extends the lease after this time. The lease is therefore valid for at least the lease duration from this
	// time, even if the clocks of client and server differ.
	extendedFrom time.Time
}

// sendUntilLost sends heartbeats until the lease is lost or the context ends.
func (h *heartbeats) sendUntilLost(ctx context.Context) {
	defer close(h.lease.ended)
	interval := min(h.duration/heartbeatsPerLease, longestInterval)
	for {
		state, lost := h.send(ctx)
		if ctx.Err() != nil {
			return
		}
		if lost != nil {
			h.lease.setLost(lost)
			return
		}
		h.lease.setState(state)
		// If the client is closed, the sleep also ends. The next heartbeat then fails and reports the loss of the
		// lease.
		h.conn.sleep(ctx, time.Until(h.extendedFrom.Add(interval)))
		if ctx.Err() != nil {
			return
		}
	}
}

// send sends one heartbeat, and retries the heartbeat until the server answers or the lease may have expired. send
// returns the state of the lease, or the reason for the loss of the lease.
func (h *heartbeats) send(ctx context.Context) (v1.LeaseState, *LeaseLost) {
	left := time.Until(h.extendedFrom.Add(h.duration))
	ctx, cancel := context.WithTimeout(ctx, left)
	defer cancel()
	var state v1.LeaseState
	err := h.conn.repeat(ctx, left, func() (err error) {
		state, err = h.sendOnce(ctx)
		return err
	})
	switch {
	case h.conn.lifetime.Err() != nil:
		return state, h.lostLease(Unanswered, closedError())
	case isTemporary(err):
		return state, h.lostLease(Unanswered, err)
	case err != nil:
		return state, h.lostLease(Refused, err)
	case state == v1.LeaseState_LEASE_STATE_LOST:
		return state, h.lostLease(Taken, nil)
	default:
		return state, nil
	}
}

func (h *heartbeats) lostLease(because Cause, cause error) *LeaseLost {
	return &LeaseLost{Because: because, taskID: h.taskID, cause: cause}
}

// sendOnce sends a heartbeat once and returns the state of the lease. If the server does not answer, for example
// because the connection is dead, sendOnce fails after a third of the lease duration, so that time for a retry remains.
func (h *heartbeats) sendOnce(ctx context.Context) (v1.LeaseState, error) {
	ctx, cancel := context.WithTimeout(ctx, h.duration/heartbeatsPerLease)
	defer cancel()
	sent := time.Now()
	progress := h.lease.pendingProgress()
	beat := &v1.Beat{LeaseToken: h.token, Progress: progress}
	response, err := h.tasks.Heartbeat(ctx, &v1.HeartbeatRequest{Beats: []*v1.Beat{beat}})
	switch {
	case err != nil && ctx.Err() != nil:
		return 0, unansweredError("the server did not answer the heartbeat within a third of the lease duration")
	case err != nil:
		return 0, err
	case len(response.GetResults()) == 0:
		return 0, unansweredError("the response has no result for the heartbeat: report the bug")
	}
	h.extendedFrom = sent
	h.lease.clearConfirmedProgress(progress)
	return response.GetResults()[0].GetState(), nil
}

// unansweredError returns a temporary error for a call without a response.
func unansweredError(message string) error {
	return &Error{Code: codes.Unavailable, Message: message}
}
