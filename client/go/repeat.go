package runhub

import (
	"context"
	"errors"
	"math"
	"time"

	"github.com/cenkalti/backoff/v5"
)

const (
	firstDelay   = 50 * time.Millisecond
	longestDelay = 2 * time.Second
	jitter       = 0.25
	// So many delays fit into the time there is: a server that is back late in it is still found.
	leastTries = 10

	noLimit time.Duration = math.MaxInt64
)

// repeat makes a call, and again while what stopped it may pass, until the context ends or the client is closed, in at
// most limit. When that ends it, the error is what the last whole try met.
func (t tries) repeat(ctx context.Context, limit time.Duration, try func() error) error {
	delays := t.newDelays(limit)
	var met error
	for {
		err := try()
		if met != nil && ctx.Err() != nil && errors.Is(err, ctx.Err()) {
			return met
		}
		if err == nil || !isPassing(err) {
			return err
		}
		met = err
		if !delays.wait(ctx, err) {
			return met
		}
	}
}

// delays are the times between tries: with jitter, so that those who lost the same server don't come back as one.
type delays struct {
	tries   tries
	backoff backoff.ExponentialBackOff
}

func (t tries) newDelays(limit time.Duration) *delays {
	return &delays{tries: t, backoff: backoff.ExponentialBackOff{
		InitialInterval:     firstDelay,
		Multiplier:          2,
		RandomizationFactor: jitter,
		MaxInterval:         min(longestDelay, limit/leastTries),
	}}
}

func (d *delays) reset() {
	d.backoff.Reset()
}

// wait waits until it is worth trying again after err, and not less than the server told. It returns false when the
// context ends before that, or the client is closed.
func (d *delays) wait(ctx context.Context, err error) bool {
	delay := min(d.backoff.NextBackOff(), longestDelay)
	var e *Error
	if errors.As(err, &e) {
		delay = max(delay, e.RetryDelay)
	}
	return d.tries.sleep(ctx, delay)
}

// sleep returns false when the context ended first, or the client was closed.
func (t tries) sleep(ctx context.Context, delay time.Duration) bool {
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	case <-t.open.Done():
		return false
	}
}
