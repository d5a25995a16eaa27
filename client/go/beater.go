package runhub

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"

	v1 "github.com/runhub/runhub/client/go/runhubv1"
)

const (
	// A lease is beaten for so often while it lasts: two beats may come late.
	beatsPerLease = 3
	// However long the lease, the holder hears within this that it is asked to stop: a cancel's usual grace is 30 s.
	longestInterval = 10 * time.Second
	// No server gives a shorter lease. It bounds how often is beaten for a claim that does not say.
	shortestLease = time.Second
)

// beater is the goroutine in the background.
type beater struct {
	lease    *Lease
	once     tries
	tasks    v1.TaskServiceClient
	token    string
	duration time.Duration
	// When the last beat that was answered was sent, or the keeper began. The server extends from later than that, so the
	// lease is ours for at least its duration from here, whatever the clocks say.
	answered time.Time
}

// keep beats until the lease is lost or the context ends.
func (b *beater) keep(ctx context.Context) {
	defer close(b.lease.ended)
	interval := min(b.duration/beatsPerLease, longestInterval)
	for {
		state, lost := b.beat(ctx)
		if ctx.Err() != nil {
			return
		}
		if lost != nil {
			b.lease.lose(lost)
			return
		}
		b.lease.enter(state)
		// If it is a closed client that ends this, the next beat says so.
		b.once.sleep(ctx, time.Until(b.answered.Add(interval)))
		if ctx.Err() != nil {
			return
		}
	}
}

// beat is one beat, repeated until it is answered or the lease may be over.
func (b *beater) beat(ctx context.Context) (v1.LeaseState, *LeaseLost) {
	left := time.Until(b.answered.Add(b.duration))
	ctx, cancel := context.WithTimeout(ctx, left)
	defer cancel()
	var state v1.LeaseState
	err := b.once.repeat(ctx, left, func() (err error) {
		state, err = b.try(ctx)
		return err
	})
	switch {
	case b.once.open.Err() != nil:
		return state, &LeaseLost{Because: Unanswered, behind: closed()}
	case isPassing(err):
		return state, &LeaseLost{Because: Unanswered, behind: err}
	case err != nil:
		return state, &LeaseLost{Because: Refused, behind: err}
	case state == v1.LeaseState_LEASE_STATE_LOST:
		return state, &LeaseLost{Because: Taken}
	default:
		return state, nil
	}
}

// try sends one beat. A try that hangs, on a connection that is dead, say, must not use up the lease.
func (b *beater) try(ctx context.Context) (v1.LeaseState, error) {
	ctx, cancel := context.WithTimeout(ctx, b.duration/beatsPerLease)
	defer cancel()
	sent, progress := time.Now(), b.lease.unsent()
	beat := &v1.Beat{LeaseToken: b.token, Progress: progress}
	response, err := b.tasks.Heartbeat(ctx, &v1.HeartbeatRequest{Beats: []*v1.Beat{beat}})
	switch {
	case err != nil && ctx.Err() != nil:
		return 0, unanswered("no answer in time")
	case err != nil:
		return 0, err
	case len(response.GetResults()) == 0:
		return 0, unanswered("an answer to no beat")
	}
	b.answered = sent
	b.lease.brought(progress)
	return response.GetResults()[0].GetState(), nil
}

func unanswered(message string) error {
	return &Error{Code: codes.Unavailable, Message: message}
}
