package scenario

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protojson"

	runhub "github.com/runhub/runhub/client/go"
	v1 "github.com/runhub/runhub/client/go/runhubv1"
)

// held is work in the background whose lease is kept.
type held struct {
	letGo chan struct{}
	// How the work ended: nil when it was let go.
	ended chan error
}

func (p *part) hold(step *step) error {
	claim := new(v1.Claim)
	if err := protojson.Unmarshal(step.Hold, claim); err != nil {
		return err
	}
	held := &held{letGo: make(chan struct{}), ended: make(chan error, 1)}
	p.held[step.As] = held
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

func (p *part) lost(ctx context.Context, step *step) error {
	err := p.end(ctx, step.Lost, func(*held) {})
	var lost *runhub.LeaseLost
	if !errors.As(err, &lost) || lost.Because != step.Because {
		return fmt.Errorf("wanted the lease lost (%s), came: %v", step.Because, err)
	}
	return nil
}

func (p *part) letGo(ctx context.Context, step *step) error {
	return p.end(ctx, step.LetGo, func(held *held) { close(held.letGo) })
}

// end waits for how the work ends after what is done about it.
func (p *part) end(ctx context.Context, name string, do func(*held)) error {
	held, ok := p.held[name]
	if !ok {
		return fmt.Errorf("nothing is held as %q", name)
	}
	do(held)
	select {
	case err := <-held.ended:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// work is an agent that works until there is nothing left to do.
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
			return doneSoFar(done), nil
		case err != nil:
			return nil, err
		case answer.GetClaim() != nil:
			if err := p.workOn(ctx, answer.GetClaim()); err != nil {
				return nil, err
			}
			done++
		case answer.GetUnclaimable().GetPending() == 0:
			return doneSoFar(done), nil
		}
	}
}

func doneSoFar(count int) any {
	return map[string]any{"done": float64(count)}
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
