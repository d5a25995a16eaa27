package scenario

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protojson"

	runhub "github.com/runhub/runhub/client/go"
	v1 "github.com/runhub/runhub/client/go/runhubv1"
)

// heldLease is a lease that is renewed during an attempt in the background.
type heldLease struct {
	// Channel that is closed to end the attempt.
	endRequested chan struct{}
	// Channel for the error of the attempt. If a step has ended the attempt, the error is nil.
	ended chan error
}

// keepLease starts an attempt in the background, and renews the lease of the step's claim during the attempt. Only the
// loss of the lease, a later step, or the end of p.ctx ends the attempt. keepLease fails if the step's claim is not
// valid.
func (p *participantRunner) keepLease(step *step) error {
	claim := new(v1.Claim)
	if err := protojson.Unmarshal(step.KeepLease, claim); err != nil {
		return err
	}
	held := &heldLease{endRequested: make(chan struct{}), ended: make(chan error, 1)}
	p.leases[step.As] = held
	_, lease := p.client.KeepLease(p.ctx, claim)
	p.background.Go(func() {
		held.ended <- lease.Run(func(ctx context.Context) error {
			select {
			case <-ctx.Done():
			case <-held.endRequested:
			}
			return ctx.Err()
		})
	})
	return nil
}

// waitUntilLost waits until the attempt is cancelled. waitUntilLost fails if the lease was not lost for the expected
// reason.
func (p *participantRunner) waitUntilLost(ctx context.Context, step *step) error {
	held, err := p.lease(step.Lost)
	if err != nil {
		return err
	}
	var lost *runhub.LeaseLost
	if err := held.wait(ctx); !errors.As(err, &lost) || lost.Because != step.Cause {
		return fmt.Errorf(
			"the lease %q must be lost with the cause %s, but the attempt ended with the error %v: check the scenario's steps before this step",
			step.Lost, step.Cause, err)
	}
	return nil
}

// stopKeeper ends the attempt and waits until the attempt has ended. stopKeeper fails if the attempt was cancelled
// before the step, or if the context ends first.
func (p *participantRunner) stopKeeper(ctx context.Context, step *step) error {
	held, err := p.lease(step.StopKeeper)
	if err != nil {
		return err
	}
	close(held.endRequested)
	return held.wait(ctx)
}

func (p *participantRunner) lease(name string) (*heldLease, error) {
	held, ok := p.leases[name]
	if !ok {
		return nil, fmt.Errorf("there is no held lease %q: add a step with `keep_lease` and `as` first", name)
	}
	return held, nil
}

// wait waits until the attempt has ended, and returns the error of the attempt. wait fails if the context ends first.
func (h *heldLease) wait(ctx context.Context) error {
	select {
	case err := <-h.ended:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// work claims and completes tasks as one agent until the run has ended or has no pending task, and returns the number
// of completed tasks. work fails if a call fails or a lease is lost.
func (p *participantRunner) work(ctx context.Context, step *step) (any, error) {
	request := new(v1.ClaimTaskRequest)
	if err := protojson.Unmarshal(step.Work, request); err != nil {
		return nil, err
	}
	done := 0
	for {
		answer, err := p.client.Tasks.ClaimTask(ctx, request)
		switch {
		case errors.Is(err, runhub.RunEnded):
			return newDoneResult(done), nil
		case err != nil:
			return nil, err
		case answer.GetClaim() != nil:
			if err := p.workOn(ctx, answer.GetClaim()); err != nil {
				return nil, err
			}
			done++
		case answer.GetUnclaimable().GetPending() == 0:
			return newDoneResult(done), nil
		}
	}
}

// newDoneResult returns the result of the verb `work`, which contains the number of completed tasks.
func newDoneResult(done int) any {
	return map[string]any{"done": float64(done)}
}

func (p *participantRunner) workOn(ctx context.Context, claim *v1.Claim) error {
	_, lease := p.client.KeepLease(ctx, claim)
	if err := lease.Run(func(ctx context.Context) error { return ctx.Err() }); err != nil {
		return err
	}
	_, err := p.client.Tasks.CompleteTask(ctx, &v1.CompleteTaskRequest{
		TaskId: claim.GetTask().GetId(), LeaseToken: &claim.LeaseToken, Summary: "done in " + Language,
	})
	return err
}
