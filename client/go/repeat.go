package runhub

import (
	"context"
	"errors"
	"math"
	"time"

	exponential "github.com/cenkalti/backoff/v5"
)

const (
	firstDelay   = 50 * time.Millisecond
	longestDelay = 2 * time.Second
	// Jitter spreads the calls of clients that lost their server at the same time.
	jitter = 0.25
	// A delay is at most a tenth of the time for all tries, so that the client still reaches a server that returns shortly
	// before the deadline.
	leastTries = 10

	noLimit time.Duration = math.MaxInt64
)

// repeat makes a call, and repeats it while its error is temporary. `limit` is the time for all tries, which the caller's
// context enforces. Repeat returns the first error that is not temporary. If the context ends or the client is closed, it
// returns the error of the last try that ended.
func (s singleTryConn) repeat(ctx context.Context, limit time.Duration, try func() error) error {
	backoff := s.newBackoff(limit)
	var last error
	for {
		err := try()
		// The context's error does not tell the cause. The error of an earlier try does.
		if last != nil && ctx.Err() != nil && errors.Is(err, ctx.Err()) {
			return last
		}
		if err == nil || !isTemporary(err) {
			return err
		}
		last = err
		if !backoff.wait(ctx, err) {
			return last
		}
	}
}

// backoff is the delays before each further try.
type backoff struct {
	conn   singleTryConn
	delays exponential.ExponentialBackOff
}

// newBackoff returns the delays for tries that have this limit in total.
func (s singleTryConn) newBackoff(limit time.Duration) *backoff {
	return &backoff{conn: s, delays: exponential.ExponentialBackOff{
		InitialInterval:     firstDelay,
		Multiplier:          2,
		RandomizationFactor: jitter,
		MaxInterval:         min(longestDelay, limit/leastTries),
	}}
}

// reset makes the next delay the first one again.
func (b *backoff) reset() {
	b.delays.Reset()
}

// wait waits before the next try, at least for the retry delay in the error of the last one. It returns false if the
// context ends or the client is closed before that.
func (b *backoff) wait(ctx context.Context, last error) bool {
	delay := min(b.delays.NextBackOff(), longestDelay)
	var e *Error
	if errors.As(last, &e) {
		delay = max(delay, e.RetryDelay)
	}
	return b.conn.sleep(ctx, delay)
}

// sleep returns false if the context ends or the client is closed before the delay is over.
func (s singleTryConn) sleep(ctx context.Context, delay time.Duration) bool {
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	case <-s.lifetime.Done():
		return false
	}
}
