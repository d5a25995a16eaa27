package runhub

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"

	v1 "github.com/runhub/runhub/client/go/runhubv1"
)

const (
	// With three heartbeats per lease duration, two may be late without losing the lease.
	heartbeatsPerLease = 3
	// The longest time between two heartbeats. The holder learns of a request to stop with the next heartbeat, and the
	// usual grace of a cancellation is 30 s.
	longestInterval = 10 * time.Second
	// The shortest lease that a server grants. It limits the rate of heartbeats if a claim has no lease duration.
	shortestLease = time.Second
)

// heartbeats sends the heartbeats of a lease in the background.
type heartbeats struct {
	lease    *Lease
	conn     singleTryConn
	tasks    v1.TaskServiceClient
	token    string
	duration time.Duration
	// When the last answered heartbeat was sent, or when the keeper began. The server extends the lease from a later time,
	// so the lease is valid for at least its duration from here, whatever the clocks say.
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
		// If the close of the client ends the sleep, the next heartbeat fails at once.
		h.conn.sleep(ctx, time.Until(h.extendedFrom.Add(interval)))
		if ctx.Err() != nil {
			return
		}
	}
}

// send sends one heartbeat, and repeats it until it is answered or the lease may have expired. It returns the state of the
// lease, or why the lease is lost.
func (h *heartbeats) send(ctx context.Context) (v1.LeaseState, *LeaseLost) {
	left := time.Until(h.extendedFrom.Add(h.duration))
	ctx, cancel := context.WithTimeout(ctx, left)
	defer cancel()
	var state v1.LeaseState
	err := h.conn.repeat(ctx, left, func() (err error) {
		state, err = h.try(ctx)
		return err
	})
	switch {
	case h.conn.lifetime.Err() != nil:
		return state, &LeaseLost{Because: Unanswered, cause: closedError()}
	case isTemporary(err):
		return state, &LeaseLost{Because: Unanswered, cause: err}
	case err != nil:
		return state, &LeaseLost{Because: Refused, cause: err}
	case state == v1.LeaseState_LEASE_STATE_LOST:
		return state, &LeaseLost{Because: Taken}
	default:
		return state, nil
	}
}

// try makes one try of a heartbeat. A try that hangs, for example on a dead connection, must leave time for another one.
func (h *heartbeats) try(ctx context.Context) (v1.LeaseState, error) {
	ctx, cancel := context.WithTimeout(ctx, h.duration/heartbeatsPerLease)
	defer cancel()
	sent := time.Now()
	progress := h.lease.pendingProgress()
	beat := &v1.Beat{LeaseToken: h.token, Progress: progress}
	response, err := h.tasks.Heartbeat(ctx, &v1.HeartbeatRequest{Beats: []*v1.Beat{beat}})
	switch {
	case err != nil && ctx.Err() != nil:
		return 0, unanswered("no answer before the deadline of the try")
	case err != nil:
		return 0, err
	case len(response.GetResults()) == 0:
		return 0, unanswered("the answer has no result for the heartbeat")
	}
	h.extendedFrom = sent
	h.lease.progressAnswered(progress)
	return response.GetResults()[0].GetState(), nil
}

// unanswered returns the error of a try without an answer, which may be repeated.
func unanswered(message string) error {
	return &Error{Code: codes.Unavailable, Message: message}
}
