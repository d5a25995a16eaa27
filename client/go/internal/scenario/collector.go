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

// collector reads a subscription in the background and keeps its messages.
type collector struct {
	// Protects the fields below.
	lock     sync.Mutex
	events   []*v1.Event
	caughtUp int
	// The last message. Nil if the subscription has not ended.
	end *v1.End
	// The error that ended the subscription. Nil if there is none.
	err error
	// Closed and replaced when a message or an error arrives.
	grown chan struct{}
}

func (p *part) subscribe(step *step) error {
	request := new(v1.SubscribeEventsRequest)
	if err := protojson.Unmarshal(step.Subscribe, request); err != nil {
		return err
	}
	collector := &collector{grown: make(chan struct{})}
	p.collectors[step.As] = collector
	subscription := p.client.Subscribe(request)
	p.background.Go(func() { collector.collect(p.ctx, subscription) })
	return nil
}

// collect reads the subscription until its end.
func (c *collector) collect(ctx context.Context, subscription *runhub.Subscription) {
	for update, err := range subscription.Updates(ctx) {
		c.add(update, err)
	}
}

func (c *collector) add(update *v1.SubscribeEventsResponse, err error) {
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
	close(c.grown)
	c.grown = make(chan struct{})
}

// seen waits for the event or the end that the step expects.
func (p *part) seen(ctx context.Context, step *step) (any, error) {
	collector, ok := p.collectors[step.Seen]
	if !ok {
		return nil, fmt.Errorf("no subscription was started as %q", step.Seen)
	}
	if step.End != "" {
		return nil, collector.checkEnd(ctx, step)
	}
	var found any
	err := collector.wait(ctx, func() (bool, error) {
		var err error
		found, err = collector.firstLocked(step.Event)
		return found != nil, err
	})
	return found, err
}

// firstLocked returns the first event that matches. Nil if there is none. The caller must hold the lock.
func (c *collector) firstLocked(expected any) (any, error) {
	for _, event := range c.events {
		actual, err := toJSON(event)
		if err != nil {
			return nil, err
		}
		if match("event", expected, actual) == nil {
			return actual, nil
		}
	}
	return nil, nil
}

// wait waits until the condition is true. It evaluates the condition under the lock. It fails if the subscription ends
// before.
func (c *collector) wait(ctx context.Context, condition func() (bool, error)) error {
	for {
		grown, isTrue, err := c.evaluate(condition)
		if isTrue || err != nil {
			return err
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return fmt.Errorf("the message has not arrived: %w; events so far: %v", ctx.Err(), c.kinds())
		}
	}
}

// evaluate returns whether the condition is true, and the channel that tells when to evaluate it again.
func (c *collector) evaluate(condition func() (bool, error)) (grown chan struct{}, isTrue bool, err error) {
	c.lock.Lock()
	defer c.lock.Unlock()
	isTrue, err = condition()
	switch {
	case isTrue || err != nil:
	case c.err != nil:
		err = fmt.Errorf("the subscription failed: %w", c.err)
	case c.end != nil:
		err = errors.New("the subscription ended without the expected message")
	}
	return c.grown, isTrue, err
}

func (c *collector) kinds() []string {
	c.lock.Lock()
	defer c.lock.Unlock()
	kinds := make([]string, 0, len(c.events))
	for _, event := range c.events {
		kinds = append(kinds, event.GetKind())
	}
	return kinds
}

// checkEnd waits for the end. It fails if the end or the events before it are not as expected.
func (c *collector) checkEnd(ctx context.Context, step *step) error {
	if err := c.wait(ctx, func() (bool, error) { return c.end != nil, nil }); err != nil {
		return err
	}
	if reason := c.end.GetReason().String(); reason != step.End {
		return difference("end", step.End, reason)
	}
	if kinds := c.kinds(); !slices.Equal(step.Kinds, kinds) {
		return difference("kinds", step.Kinds, kinds)
	}
	if c.caughtUp != 1 {
		return fmt.Errorf("the subscription has caught up %d times instead of once", c.caughtUp)
	}
	for i := 1; i < len(c.events); i++ {
		if c.events[i].GetPosition() <= c.events[i-1].GetPosition() {
			return fmt.Errorf("the event at position %d is a duplicate or out of order", c.events[i].GetPosition())
		}
	}
	return nil
}
