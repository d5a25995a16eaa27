package scenario

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"google.golang.org/protobuf/encoding/protojson"

	runhub "github.com/runhub/runhub/client/go"
	v1 "github.com/runhub/runhub/client/go/runhubv1"
)

// collected is what a subscription has brought so far.
type collected struct {
	lock     sync.Mutex
	events   []*v1.Event
	caughtUp int
	end      *v1.End
	// Its last, if it was one.
	err error
	// Closed and made anew whenever there is more.
	more chan struct{}
}

func (p *part) subscribe(step *step) error {
	request := new(v1.SubscribeEventsRequest)
	if err := protojson.Unmarshal(step.Subscribe, request); err != nil {
		return err
	}
	collected := &collected{more: make(chan struct{})}
	p.subscriptions[step.As] = collected
	subscription := p.client.Subscribe(request)
	p.background.Go(func() { collected.collect(p.ctx, subscription) })
	return nil
}

func (c *collected) collect(ctx context.Context, subscription *runhub.Subscription) {
	for update, err := range subscription.Updates(ctx) {
		c.add(update, err)
	}
}

func (c *collected) add(update *v1.SubscribeEventsResponse, err error) {
	c.lock.Lock()
	defer c.lock.Unlock()
	switch message := update.GetMessage().(type) {
	case *v1.SubscribeEventsResponse_Event:
		c.events = append(c.events, message.Event)
	case *v1.SubscribeEventsResponse_CaughtUp:
		c.caughtUp++
	case *v1.SubscribeEventsResponse_End:
		c.end = message.End
	}
	c.err = err
	close(c.more)
	c.more = make(chan struct{})
}

func (p *part) seen(ctx context.Context, step *step) (any, error) {
	collected, ok := p.subscriptions[step.Seen]
	if !ok {
		return nil, fmt.Errorf("no subscription %q", step.Seen)
	}
	if step.End != "" {
		return nil, collected.checkEnd(ctx, step)
	}
	var found any
	err := collected.wait(ctx, func() (bool, error) {
		var err error
		found, err = collected.first(step.Event)
		return found != nil, err
	})
	return found, err
}

// first returns the first event that matches, nil if there is none.
func (c *collected) first(want any) (any, error) {
	for _, event := range c.events {
		shown, err := toJSON(event)
		if err != nil {
			return nil, err
		}
		if match("event", want, shown) == nil {
			return shown, nil
		}
	}
	return nil, nil
}

// wait waits until it is there, which is looked at under the lock.
func (c *collected) wait(ctx context.Context, isThere func() (bool, error)) error {
	for {
		more, isDone, err := c.look(isThere)
		if isDone || err != nil {
			return err
		}
		select {
		case <-more:
		case <-ctx.Done():
			return fmt.Errorf("it has not come: %w; seen so far: %v", ctx.Err(), c.kinds())
		}
	}
}

func (c *collected) look(isThere func() (bool, error)) (more chan struct{}, isDone bool, err error) {
	c.lock.Lock()
	defer c.lock.Unlock()
	isDone, err = isThere()
	switch {
	case isDone || err != nil:
	case c.err != nil:
		err = fmt.Errorf("the subscription has failed: %w", c.err)
	case c.end != nil:
		err = errors.New("the subscription has ended without it")
	}
	return c.more, isDone, err
}

func (c *collected) kinds() []string {
	c.lock.Lock()
	defer c.lock.Unlock()
	kinds := make([]string, 0, len(c.events))
	for _, event := range c.events {
		kinds = append(kinds, event.GetKind())
	}
	return kinds
}

func (c *collected) checkEnd(ctx context.Context, step *step) error {
	if err := c.wait(ctx, func() (bool, error) { return c.end != nil, nil }); err != nil {
		return err
	}
	if reason := c.end.GetReason().String(); reason != step.End {
		return differs("end", step.End, reason)
	}
	if kinds := c.kinds(); !slices.Equal(step.Kinds, kinds) {
		return differs("kinds", step.Kinds, kinds)
	}
	if c.caughtUp != 1 {
		return fmt.Errorf("it was caught up %d times", c.caughtUp)
	}
	isInOrder := func(a, b *v1.Event) int { return int(a.GetPosition() - b.GetPosition()) }
	if !slices.IsSortedFunc(c.events, isInOrder) || len(slices.CompactFunc(slices.Clone(c.events), isSame)) != len(c.events) {
		return errors.New("an event came twice or late")
	}
	return nil
}

func isSame(a, b *v1.Event) bool {
	return a.GetPosition() == b.GetPosition()
}
