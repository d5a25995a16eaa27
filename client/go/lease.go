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

// Cause is why a lease is over.
type Cause string

const (
	// Taken means that the server says so: the task was taken back, moved or given to somebody else. A report would be
	// refused.
	Taken Cause = "taken"
	// Unanswered means that no beat was answered for as long as the lease lasts: by now somebody else may have the task. A
	// report is still taken if nobody has it, by another client if this one was closed.
	Unanswered Cause = "unanswered"
	// Refused means that the server refused a beat and would refuse it again: a progress over 1 MiB, say.
	Refused Cause = "refused"
)

// LeaseLost is the cause (context.Cause) of a context whose lease is over.
type LeaseLost struct {
	Because Cause
	behind  error
}

func (l *LeaseLost) Error() string {
	if l.behind == nil {
		return fmt.Sprintf("the lease is lost (%s)", l.Because)
	}
	return fmt.Sprintf("the lease is lost (%s): %v", l.Because, l.behind)
}

// Unwrap returns what the last try of a beat met; nil when the task was taken.
func (l *LeaseLost) Unwrap() error {
	return l.behind
}

// Lease is a lease that is kept by heartbeats in the background. It is safe for concurrent use.
type Lease struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	ended  chan struct{}

	lock     sync.Mutex
	progress *structpb.Value
	state    v1.LeaseState
	reached  map[v1.LeaseState]chan struct{}
}

// KeepLease keeps the lease of a claim until [Lease.Stop], or until the context ends. The work is done under the context
// it returns, which ends when the lease is lost, with a *[LeaseLost] as its cause.
//
// The report on the task follows after Stop, under the context given here: a beat after a completion would be answered
// that the lease is lost. [Lease.Run] takes care of that.
//
// The first beat goes out at once: how long ago the claim was answered is unknown here, and who lost the task meanwhile
// hears of it before much work. Then it beats at a third of the lease, but every 10 s at the latest. A client that is
// closed keeps no lease: it is lost as unanswered, at once.
func (c *Client) KeepLease(ctx context.Context, claim *v1.Claim) (context.Context, *Lease) {
	ctx, cancel := context.WithCancelCause(ctx)
	lease := &Lease{
		ctx:     ctx,
		cancel:  cancel,
		ended:   make(chan struct{}),
		reached: make(map[v1.LeaseState]chan struct{}),
	}
	lease.enter(v1.LeaseState_LEASE_STATE_EXTENDED)
	beater := &beater{
		lease:    lease,
		once:     c.once,
		tasks:    v1.NewTaskServiceClient(c.once),
		token:    claim.GetLeaseToken(),
		duration: max(claim.GetLeaseDuration().AsDuration(), shortestLease),
		answered: time.Now(),
	}
	go beater.keep(ctx)
	return ctx, lease
}

// Stop ends the beating and the work's context. It returns when no beat is under way any more; the lease itself lives on
// until it expires. To be called once the work has come to its end; again does no harm.
func (l *Lease) Stop() {
	l.cancel(nil)
	<-l.ended
}

// Run does the work under the lease's context, then stops beating, so that the report can follow.
//
// The error is the work's own. If the lease was lost it is the *[LeaseLost], also when the work came to its end; an error
// of the work that is more than the cancellation is joined to it.
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
	// Not errors.Is: what only wraps the cancellation may say more.
	if err == nil || err == context.Canceled || err == error(lost) {
		return lost
	}
	return errors.Join(lost, err)
}

// Progress sets what the next beat says of how far the work is: what encoding/json takes, at most 1 MiB. Until a beat is
// answered the latest wins; once it is answered it is not sent again. The error is one of encoding/json.
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

// State is how the lease stands by the last answered beat: EXTENDED before the first, LOST from when it is over, by
// answer or by silence.
func (l *Lease) State() v1.LeaseState {
	l.lock.Lock()
	defer l.lock.Unlock()
	return l.state
}

// CancelRequested is closed when the run is being cancelled: finish or release the task within the grace. That does not
// end the work's context. To be waited for beside that context's Done, as the two below.
func (l *Lease) CancelRequested() <-chan struct{} {
	return l.reaches(v1.LeaseState_LEASE_STATE_CANCEL_REQUESTED)
}

// PauseRequested is closed when the run is paused: come to a good place to stop. The lease is kept. Asked for again, it
// waits for the next pause once this one is over.
func (l *Lease) PauseRequested() <-chan struct{} {
	return l.reaches(v1.LeaseState_LEASE_STATE_PAUSE_REQUESTED)
}

// Resumed is closed when the run is neither paused nor being cancelled.
func (l *Lease) Resumed() <-chan struct{} {
	return l.reaches(v1.LeaseState_LEASE_STATE_EXTENDED)
}

func (l *Lease) reaches(state v1.LeaseState) <-chan struct{} {
	l.lock.Lock()
	defer l.lock.Unlock()
	return l.waiting(state)
}

// waiting is what those hear who wait for a state. Only under the lock.
func (l *Lease) waiting(state v1.LeaseState) chan struct{} {
	if l.reached[state] == nil {
		l.reached[state] = make(chan struct{})
	}
	return l.reached[state]
}

func (l *Lease) enter(state v1.LeaseState) {
	l.lock.Lock()
	defer l.lock.Unlock()
	if state == l.state {
		return
	}
	// Who asks for the state that is left waits for its return.
	delete(l.reached, l.state)
	close(l.waiting(state))
	l.state = state
}

func (l *Lease) lose(lost *LeaseLost) {
	l.enter(v1.LeaseState_LEASE_STATE_LOST)
	l.cancel(lost)
}

// unsent is the progress that no answered beat has brought yet.
func (l *Lease) unsent() *structpb.Value {
	l.lock.Lock()
	defer l.lock.Unlock()
	return l.progress
}

// brought forgets a progress that was answered, unless a newer one was set meanwhile.
func (l *Lease) brought(progress *structpb.Value) {
	l.lock.Lock()
	defer l.lock.Unlock()
	if l.progress == progress {
		l.progress = nil
	}
}
