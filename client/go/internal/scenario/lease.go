package scenario

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protojson"

	runhub "github.com/runhub/runhub/client/go"
	v1 "github.com/runhub/runhub/client/go/runhubv1"
)

// heldLease is a lease that is kept around background work.
type heldLease struct {
	// Closed to end the work.
	letGo chan struct{}
	// The error of the work. Nil if a step has ended the work.
	ended chan error
}

// hold keeps a lease around work that ends only when it is cancelled or let go.
func (p *part) hold(step *step) error {
	claim := new(v1.Claim)
	if err := protojson.Unmarshal(step.Hold, claim); err != nil {
		return err
	}
	held := &heldLease{letGo: make(chan struct{}), ended: make(chan error, 1)}
	p.leases[step.As] = held
	_, lease := p.client.KeepLease(p.ctx, claim)
	p.background.Go(func() {
		held.ended <- lease.Run(func(ctx context.Context) error {
			select {
			case <-ctx.Done():
			case <-held.letGo:
			}
			return ctx.Err()
		})
	})
	return nil
}

// lost waits until the work is cancelled, and fails if the lease was not lost for the expected reason.
func (p *part) lost(ctx context.Context, step *step) error {
	held, err := p.lease(step.Lost)
	if err != nil {
		return err
	}
	var lost *runhub.LeaseLost
	if err := held.wait(ctx); !errors.As(err, &lost) || lost.Because != step.Because {
		return fmt.Errorf("expected a lost lease (%s), got: %v", step.Because, err)
	}
	return nil
}

// letGo ends the work, and fails if the work was cancelled.
func (p *part) letGo(ctx context.Context, step *step) error {
	held, err := p.lease(step.LetGo)
	if err != nil {
		return err
	}
	close(held.letGo)
	return held.wait(ctx)
}

func (p *part) lease(name string) (*heldLease, error) {
	held, ok := p.leases[name]
	if !ok {
		return nil, fmt.Errorf("no lease is held as %q", name)
	}
	return held, nil
}

// wait waits until the work has ended, and returns its error.
func (h *heldLease) wait(ctx context.Context) error {
	select {
	case err := <-h.ended:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// work works as one agent until nothing is left to claim.
func (p *part) work(ctx context.Context, step *step) (any, error) {
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

// workAnswer returns the answer of the verb `work`.
func workAnswer(done int) any {
	return map[string]any{"done": float64(done)}
}

func (p *part) workOn(ctx context.Context, claim *v1.Claim) error {
	_, lease := p.client.KeepLease(ctx, claim)
	if err := lease.Run(func(ctx context.Context) error { return ctx.Err() }); err != nil {
		return err
	}
	_, err := p.client.Tasks.CompleteTask(ctx, &v1.CompleteTaskRequest{
		TaskId: claim.GetTask().GetId(), LeaseToken: &claim.LeaseToken, Summary: "done in " + Language,
	})
	return err
}
