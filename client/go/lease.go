package runhub

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/structpb"

	v1 "github.com/runhub/runhub/client/go/runhubv1"
)

// Cause is the reason for the loss of a lease.
type Cause string

const (
	// Taken means that the server answered a heartbeat with LOST, because the task was requeued, ended, or claimed by
	// another agent. The server would reject a report on the task.
	Taken Cause = "taken"
	// Unanswered means that the server has answered no heartbeat for a whole lease duration, or that the client was
	// closed. Another agent may hold the lease of the task. The server accepts a late report only if no other agent has
	// claimed the task.
	Unanswered Cause = "unanswered"
	// Refused means that the server refused a heartbeat and would refuse every retry, for example because the progress
	// is larger than 1 MiB.
	Refused Cause = "refused"
)

var lostTexts = map[Cause]string{
	Taken:      "the lease of task %q is lost, because the task was requeued, ended, or claimed by another agent: stop the attempt",
	Unanswered: "the server answered no heartbeat for task %q for a whole lease duration, so the lease may be lost: stop the attempt",
	Refused:    "the server refused a heartbeat for task %q, so the lease can't be renewed: stop the attempt",
}

// LeaseLost is the cause of a context that ended because the lease was lost. context.Cause returns this error.
type LeaseLost struct {
	Because Cause
	// ID of the task whose lease was lost.
	taskID string
	// Error of the last heartbeat. If the last heartbeat did not fail, the value is nil.
	cause error
}

// Error returns the task id and the reason for the loss of the lease. If the last heartbeat failed, Error also returns
// the error of this heartbeat.
func (l *LeaseLost) Error() string {
	text := fmt.Sprintf(lostTexts[l.Because], l.taskID)
	if l.cause == nil {
		return text
	}
	return fmt.Sprintf("%s: %v", text, l.cause)
}

// Unwrap returns the error of the last heartbeat. Unwrap returns nil if the last heartbeat did not fail.
func (l *LeaseLost) Unwrap() error {
	return l.cause
}

// Lease is a lease that heartbeats renew in the background. A Lease is safe for concurrent use.
type Lease struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	// Channel that is closed after the last heartbeat.
	ended chan struct{}

	// Mutex that protects the fields below.
	lock sync.Mutex
	// Latest progress that the server has not confirmed by the response to a heartbeat. If every progress is confirmed,
	// the value is nil.
	progress *structpb.Value
	state    v1.LeaseState
	// Channels on which callers wait for a state. Only the channel of the current state is closed.
	reached map[v1.LeaseState]chan struct{}
}

// KeepLease renews the lease of a claim until [Lease.Stop] is called or the context ends. Run the attempt under the
// returned context. If the lease is lost, the returned context ends with a *[LeaseLost] as its cause.
//
// Report on the task after Stop, under the context that you passed to KeepLease. After the completion of the task, the
// server answers heartbeats with LOST. When the function `work` returns, [Lease.Run] stops the heartbeats.
//
// KeepLease sends the first heartbeat immediately, because the server may have granted the lease long before this call.
// The interval between heartbeats is a third of the lease duration, but at most 10 s. If the client is closed, the
// lease is lost with the cause [Unanswered].
func (c *Client) KeepLease(ctx context.Context, claim *v1.Claim) (context.Context, *Lease) {
	ctx, cancel := context.WithCancelCause(ctx)
	lease := &Lease{
		ctx:     ctx,
		cancel:  cancel,
		ended:   make(chan struct{}),
		reached: make(map[v1.LeaseState]chan struct{}),
	}
	lease.setState(v1.LeaseState_LEASE_STATE_EXTENDED)
	heartbeats := &heartbeats{
		lease:        lease,
		conn:         c.single,
		tasks:        v1.NewTaskServiceClient(c.single),
		taskID:       claim.GetTask().GetId(),
		token:        claim.GetLeaseToken(),
		duration:     max(claim.GetLeaseDuration().AsDuration(), shortestLease),
		extendedFrom: time.Now(),
	}
	go heartbeats.sendUntilLost(ctx)
	return ctx, lease
}

// Stop stops the heartbeats and ends the context of the attempt. Stop returns after the last heartbeat has ended. The
// lease stays valid until the lease expires. When the attempt has ended, call Stop. Further calls of Stop have no
// effect.
func (l *Lease) Stop() {
	l.cancel(nil)
	<-l.ended
}

// Run calls the function `work` under the lease's context and then stops the heartbeats, so that the caller can report
// on the task.
//
// Run returns the error of the function `work`. If the lease is lost, Run returns a *[LeaseLost], even if `work`
// returns no error. If `work` returns an error other than the cancellation, Run joins this error to the *[LeaseLost].
// If the lease is lost before Run is called, Run does not call `work`.
func (l *Lease) Run(work func(ctx context.Context) error) error {
	defer l.Stop()
	if l.ctx.Err() != nil {
		return context.Cause(l.ctx)
	}
	err := work(l.ctx)
	var lost *LeaseLost
	if !errors.As(context.Cause(l.ctx), &lost) {
		return err
	}
	// The comparison does not use errors.Is, because an error that wraps the cancellation may contain other errors,
	// which Run must not drop.
	if err == nil || err == context.Canceled || err == error(lost) {
		return lost
	}
	return errors.Join(lost, err)
}

// Progress sets the progress that the next heartbeat carries. The progress is any value that encoding/json can encode
// to at most 1 MiB of JSON. A new progress replaces a progress that the server has not confirmed. The client does not
// send a confirmed progress again. Progress fails if encoding/json can't encode the value.
func (l *Lease) Progress(progress any) error {
	value, err := Value(progress)
	if err != nil {
		return err
	}
	l.lock.Lock()
	defer l.lock.Unlock()
	l.progress = value
	return nil
}

// State returns the lease state in the last answered heartbeat. The state is EXTENDED before the first response and
// LOST after the loss of the lease.
func (l *Lease) State() v1.LeaseState {
	l.lock.Lock()
	defer l.lock.Unlock()
	return l.state
}

// CancelRequested returns a channel that is closed when the run is being cancelled. Finish or release the task within
// the grace period of the cancellation. The context of the attempt does not end. If the lease is lost first, the
// channel stays open, so also wait for the Done channel of the context.
func (l *Lease) CancelRequested() <-chan struct{} {
	return l.reachedChannel(v1.LeaseState_LEASE_STATE_CANCEL_REQUESTED)
}

// PauseRequested returns a channel that is closed when the run is paused. The attempt should then stop at a suitable
// point. The lease is renewed during the pause. To wait for a later pause, call PauseRequested again after the run is
// resumed. If the lease is lost first, the channel stays open, so also wait for the Done channel of the context.
func (l *Lease) PauseRequested() <-chan struct{} {
	return l.reachedChannel(v1.LeaseState_LEASE_STATE_PAUSE_REQUESTED)
}

// Resumed returns a channel that is closed when the run is neither paused nor being cancelled. If the lease is lost
// first, the channel stays open, so also wait for the Done channel of the context.
func (l *Lease) Resumed() <-chan struct{} {
	return l.reachedChannel(v1.LeaseState_LEASE_STATE_EXTENDED)
}

func (l *Lease) reachedChannel(state v1.LeaseState) <-chan struct{} {
	l.lock.Lock()
	defer l.lock.Unlock()
	return l.reachedChannelLocked(state)
}

// reachedChannelLocked returns the channel that is closed when the lease reaches the state. The caller must hold
// l.lock.
func (l *Lease) reachedChannelLocked(state v1.LeaseState) chan struct{} {
	if l.reached[state] == nil {
		l.reached[state] = make(chan struct{})
	}
	return l.reached[state]
}

func (l *Lease) setState(state v1.LeaseState) {
	l.lock.Lock()
	defer l.lock.Unlock()
	if state == l.state {
		return
	}
	// The channel of the old state is already closed. After the deletion, a later caller gets a new channel, which is
	// closed when the lease reaches the old state again.
	delete(l.reached, l.state)
	close(l.reachedChannelLocked(state))
	l.state = state
}

func (l *Lease) setLost(lost *LeaseLost) {
	l.setState(v1.LeaseState_LEASE_STATE_LOST)
	l.cancel(lost)
}

// pendingProgress returns the latest progress that the server has not confirmed. pendingProgress returns nil if every
// progress is confirmed.
func (l *Lease) pendingProgress() *structpb.Value {
	l.lock.Lock()
	defer l.lock.Unlock()
	return l.progress
}

// clearConfirmedProgress deletes the pending progress after the server has confirmed this progress. If a newer progress
// was set in the meantime, clearConfirmedProgress keeps the newer progress.
func (l *Lease) clearConfirmedProgress(progress *structpb.Value) {
	l.lock.Lock()
	defer l.lock.Unlock()
	if l.progress == progress {
		l.progress = nil
	}
}
