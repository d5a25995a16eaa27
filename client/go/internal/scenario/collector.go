package scenario

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"google.golang.org/protobuf/encoding/protojson"

	runhub "github.com/runhub/runhub/client/go"
	v1 "github.com/runhub/runhub/client/go/runhubv1"
)

// collector reads a subscription in the background and stores the received messages.
type collector struct {
	// Name of the subscription in the scenario.
	name string
	// Mutex that protects the fields below.
	lock     sync.Mutex
	events   []*v1.Event
	caughtUp int
	// Last message of the subscription. If the subscription has not ended, the value is nil.
	end *v1.End
	// Error that ended the subscription. If the subscription has not failed, the value is nil.
	err error
	// Channel that is closed and replaced when a message or an error arrives.
	grown chan struct{}
}

func (p *participantRunner) subscribe(step *step) error {
	request := new(v1.SubscribeEventsRequest)
	if err := protojson.Unmarshal(step.Subscribe, request); err != nil {
		return err
	}
	collector := &collector{name: step.As, grown: make(chan struct{})}
	p.collectors[step.As] = collector
	subscription := p.client.Subscribe(request)
	p.background.Go(func() { collector.collect(p.ctx, subscription) })
	return nil
}

// collect stores all messages of the subscription until the subscription ends.
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

// waitForMessage waits for the event or the end that the step expects. waitForMessage returns the event, or nil if the
// step expects the end. waitForMessage fails if the subscription ends before the event, or if the context ends first.
func (p *participantRunner) waitForMessage(ctx context.Context, step *step) (any, error) {
	collector, ok := p.collectors[step.Seen]
	if !ok {
		return nil, fmt.Errorf("there is no subscription %q: add a step with `subscribe` and `as` first", step.Seen)
	}
	if step.End != "" {
		return nil, collector.checkEnd(ctx, step)
	}
	var found any
	err := collector.wait(ctx, func() (bool, error) {
		var err error
		found, err = collector.firstMatchLocked(step.Event)
		return found != nil, err
	})
	return found, err
}

// firstMatchLocked returns the first event that matches the expected event. firstMatchLocked returns nil if no event
// matches. The caller must hold c.lock.
func (c *collector) firstMatchLocked(expected any) (any, error) {
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

// wait waits until the condition is true, and holds c.lock during each evaluation of the condition. wait fails if the
// subscription or the context ends first.
func (c *collector) wait(ctx context.Context, condition func() (bool, error)) error {
	for {
		grown, isTrue, err := c.evaluate(condition)
		if isTrue || err != nil {
			return err
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return fmt.Errorf(
				"subscription %q has received only events of the kinds %v and not the expected message (%w): check the scenario's steps before this step", c.name, c.kinds(), ctx.Err())
		}
	}
}

// evaluate returns whether the condition is true, and a channel that is closed when the condition must be evaluated
// again. evaluate fails if the subscription has ended and the condition is false.
func (c *collector) evaluate(condition func() (bool, error)) (grown chan struct{}, isTrue bool, err error) {
	c.lock.Lock()
	defer c.lock.Unlock()
	isTrue, err = condition()
	switch {
	case isTrue || err != nil:
	case c.err != nil:
		err = fmt.Errorf("subscription %q failed before the expected message arrived (%w): check the scenario's steps before this step", c.name, c.err)
	case c.end != nil:
		err = fmt.Errorf("subscription %q ended with %v before the expected message arrived: check the scenario's steps before this step", c.name, c.end.GetReason())
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

// checkEnd waits for the end of the subscription. checkEnd fails if the reason for the end or the kinds of the received
// events differ from the values in the step, if the positions do not ascend, or if the subscription has not caught up
// exactly once.
func (c *collector) checkEnd(ctx context.Context, step *step) error {
	if err := c.wait(ctx, func() (bool, error) { return c.end != nil, nil }); err != nil {
		return err
	}
	if reason := c.end.GetReason().String(); reason != step.End {
		return differenceError("end", step.End, reason)
	}
	if kinds := c.kinds(); !slices.Equal(step.Kinds, kinds) {
		return differenceError("kinds", step.Kinds, kinds)
	}
	if c.caughtUp != 1 {
		return fmt.Errorf("subscription %q must catch up exactly once, but has caught up %d times: report the bug", c.name, c.caughtUp)
	}
	for i := 1; i < len(c.events); i++ {
		if last, next := c.events[i-1].GetPosition(), c.events[i].GetPosition(); next <= last {
			return fmt.Errorf("subscription %q must receive ascending positions, but received %d after %d: report the bug", c.name, next, last)
		}
	}
	return nil
}
