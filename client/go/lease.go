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

// Cause is why a lease is lost.
type Cause string

const (
	// Taken means that the server answered LOST: the task was requeued, moved, or claimed by another agent. The server
	// would reject a report.
	Taken Cause = "taken"
	// Unanswered means that the server has answered no heartbeat for a whole lease duration, or that the client was closed.
	// Another agent may hold the task. The server still accepts a report if no agent has claimed the task.
	Unanswered Cause = "unanswered"
	// Refused means that the server refused a heartbeat and would refuse it again, for example because its progress is over
	// 1 MiB.
	Refused Cause = "refused"
)

var lostTexts = map[Cause]string{
	Taken:      "the lease is lost: the task was requeued, moved, or claimed by another agent",
	Unanswered: "the lease may be lost: the server has answered no heartbeat for a whole lease duration",
	Refused:    "the lease can't be kept: the server refuses its heartbeats",
}

// LeaseLost is the cause (context.Cause) of a context that ended because the lease is lost.
type LeaseLost struct {
	Because Cause
	// The error of the last heartbeat. Nil if the server answered it.
	cause error
}

// Error returns why the lease is lost, and the error of the last heartbeat.
func (l *LeaseLost) Error() string {
	if l.cause == nil {
		return lostTexts[l.Because]
	}
	return fmt.Sprintf("%s: %v", lostTexts[l.Because], l.cause)
}

// Unwrap returns the error of the last heartbeat. Nil if the server answered it.
func (l *LeaseLost) Unwrap() error {
	return l.cause
}

// Lease is a lease that heartbeats keep in the background. It is safe for concurrent use.
type Lease struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	// Closed when no further heartbeat is sent.
	ended chan struct{}

	// Protects the fields below.
	lock sync.Mutex
	// The latest progress that no answered heartbeat has carried. Nil if there is none.
	progress *structpb.Value
	state    v1.LeaseState
	// The channels that callers wait on. The channel of the current state is closed.
	reached map[v1.LeaseState]chan struct{}
}

// KeepLease keeps the lease of a claim until [Lease.Stop] or until the context ends. Do the work under the returned
// context. It ends when the lease is lost; its cause is then a *[LeaseLost].
//
// Report on the task after Stop and under the context that you passed in: a heartbeat that is sent after the completion is
// answered LOST. [Lease.Run] stops the heartbeats when the work ends.
//
// The keeper sends the first heartbeat at once, because the claim may have been answered long before this call. A holder
// that has lost the task in the meantime then learns of it early. Each further heartbeat follows after a third of the
// lease duration, but after 10 s at the latest. If the client is closed, the lease is lost as [Unanswered] at once.
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
		token:        claim.GetLeaseToken(),
		duration:     max(claim.GetLeaseDuration().AsDuration(), shortestLease),
		extendedFrom: time.Now(),
	}
	go heartbeats.sendUntilLost(ctx)
	return ctx, lease
}

// Stop stops the heartbeats and ends the context of the work. It returns when no heartbeat is being sent. The lease itself
// is valid until it expires. Call Stop when the work has ended. Further calls do nothing.
func (l *Lease) Stop() {
	l.cancel(nil)
	<-l.ended
}

// Run does the work under the lease's context and then stops the heartbeats, so that the caller can report on the task.
//
// Run returns the work's error. If the lease is lost, it returns a *[LeaseLost], even if the work ended without an error;
// an error of the work that is not only the cancellation is joined to it. If the lease is lost before Run is called, Run
// does not begin the work.
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
	// Compares without errors.Is, because an error that wraps the cancellation may contain other errors too.
	if err == nil || err == context.Canceled || err == error(lost) {
		return lost
	}
	return errors.Join(lost, err)
}

// Progress sets the progress that the next heartbeat carries: any value that encoding/json takes, at most 1 MiB as JSON. It
// replaces a progress that is not answered yet. An answered progress is not sent again. Progress fails if encoding/json
// fails.
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

// State returns the state in the last answered heartbeat: EXTENDED before the first one, LOST once the lease is lost.
func (l *Lease) State() v1.LeaseState {
	l.lock.Lock()
	defer l.lock.Unlock()
	return l.state
}

// CancelRequested returns a channel that is closed when the run is being cancelled. The task should then be finished or
// released within the grace. The context of the work does not end. If the lease is lost first, the channel stays open, so
// also wait for the context's Done.
func (l *Lease) CancelRequested() <-chan struct{} {
	return l.reachedChannel(v1.LeaseState_LEASE_STATE_CANCEL_REQUESTED)
}

// PauseRequested returns a channel that is closed when the run is paused. The work should then stop at a good point; the
// keeper goes on keeping the lease. To wait for a later pause, call PauseRequested again after this one is over. If the
// lease is lost first, the channel stays open, so also wait for the context's Done.
func (l *Lease) PauseRequested() <-chan struct{} {
	return l.reachedChannel(v1.LeaseState_LEASE_STATE_PAUSE_REQUESTED)
}

// Resumed returns a channel that is closed when the run is neither paused nor being cancelled. If the lease is lost first,
// the channel stays open, so also wait for the context's Done.
func (l *Lease) Resumed() <-chan struct{} {
	return l.reachedChannel(v1.LeaseState_LEASE_STATE_EXTENDED)
}

func (l *Lease) reachedChannel(state v1.LeaseState) <-chan struct{} {
	l.lock.Lock()
	defer l.lock.Unlock()
	return l.reachedChannelLocked(state)
}

// reachedChannelLocked returns the channel that is closed when the lease reaches the state. The caller must hold the lock.
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
	// The channel of the old state is closed. Callers that ask for that state from now on wait for its return.
	delete(l.reached, l.state)
	close(l.reachedChannelLocked(state))
	l.state = state
}

func (l *Lease) setLost(lost *LeaseLost) {
	l.setState(v1.LeaseState_LEASE_STATE_LOST)
	l.cancel(lost)
}

// pendingProgress returns the progress that no answered heartbeat has carried. Nil if there is none.
func (l *Lease) pendingProgress() *structpb.Value {
	l.lock.Lock()
	defer l.lock.Unlock()
	return l.progress
}

// progressAnswered forgets an answered progress, unless a newer one was set in the meantime.
func (l *Lease) progressAnswered(progress *structpb.Value) {
	l.lock.Lock()
	defer l.lock.Unlock()
	if l.progress == progress {
		l.progress = nil
	}
}
