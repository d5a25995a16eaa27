package scenario

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protojson"

	runhub "github.com/runhub/runhub/client/go"
	v1 "github.com/runhub/runhub/client/go/runhubv1"
)

// heldLease is a lease that is renewed during background work.
type heldLease struct {
	// Channel that is closed to end the work.
	endRequested chan struct{}
	// Channel for the error of the work. The error is nil if a step has ended the work.
	ended chan error
}

// keepLease renews the lease of a claim during background work. The work ends only when the lease is lost, when a later
// step ends the work, or when p.ctx ends. keepLease fails if the step's claim is not valid.
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

// waitUntilLost waits until the work is cancelled. It fails if the lease was not lost for the expected reason.
func (p *participantRunner) waitUntilLost(ctx context.Context, step *step) error {
	held, err := p.lease(step.Lost)
	if err != nil {
		return err
	}
	var lost *runhub.LeaseLost
	if err := held.wait(ctx); !errors.As(err, &lost) || lost.Because != step.Cause {
		return fmt.Errorf(
			"the lease %q must be lost with the cause %s, but its attempt ended with the error %v", step.Lost, step.Cause, err)
	}
	return nil
}

// stopKeeper ends the work and waits until the work has ended. It fails if the work was cancelled before the step, or
// if the context ends first.
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

// wait waits until the work has ended, and returns the error of the work. It fails if the context ends first.
func (h *heldLease) wait(ctx context.Context) error {
	select {
	case err := <-h.ended:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// work claims and completes tasks as one agent, and returns the number of completed tasks. It returns when the run has
// ended or has no pending task. It fails if a call fails or a lease is lost.
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
			return workAnswer(done), nil
		case err != nil:
			return nil, err
		case answer.GetClaim() != nil:
			if err := p.workOn(ctx, answer.GetClaim()); err != nil {
				return nil, err
			}
			done++
		case answer.GetUnclaimable().GetPending() == 0:
			return workAnswer(done), nil
		}
	}
}

// workAnswer returns the answer of the verb `work`, which contains the number of completed tasks.
func workAnswer(done int) any {
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
