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
	// jitter is the fraction by which a delay varies at random. It spreads the calls of clients that lost their server
	// at the same time.
	jitter = 0.25
	// leastTries limits a delay to a tenth of the time limit for all tries, so that the client still reaches a server
	// that restarts shortly before the deadline.
	leastTries = 10

	noLimit time.Duration = math.MaxInt64
)

// repeat makes a call and repeats the call while its error is temporary. The parameter limit is the time limit for all
// tries, which the caller's context must enforce. repeat returns the first error that is not temporary. If the context
// ends or the client is closed, repeat returns the error of the last try that ended.
func (s singleTryConn) repeat(ctx context.Context, limit time.Duration, try func() error) error {
	backoff := s.newBackoff(limit)
	var last error
	for {
		err := try()
		// The error of the previous try names the cause of the failure. The error of the context does not.
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

// backoff waits between the tries of a call, with delays that grow up to longestDelay (2 s).
type backoff struct {
	conn   singleTryConn
	delays exponential.ExponentialBackOff
}

// newBackoff returns a backoff whose delays grow up to a tenth of the time limit for all tries, or up to longestDelay.
func (s singleTryConn) newBackoff(limit time.Duration) *backoff {
	return &backoff{conn: s, delays: exponential.ExponentialBackOff{
		InitialInterval:     firstDelay,
		Multiplier:          2,
		RandomizationFactor: jitter,
		MaxInterval:         min(longestDelay, limit/leastTries),
	}}
}

// reset sets the next delay to firstDelay.
func (b *backoff) reset() {
	b.delays.Reset()
}

// wait waits before the next try. The delay is at least the retry delay in the error of the last try. wait returns
// false if the context ends or the client is closed during the delay.
func (b *backoff) wait(ctx context.Context, last error) bool {
	delay := min(b.delays.NextBackOff(), longestDelay)
	var e *Error
	if errors.As(last, &e) {
		delay = max(delay, e.RetryDelay)
	}
	return b.conn.sleep(ctx, delay)
}

// sleep waits for the delay. sleep returns false if the context ends or the client is closed during the delay.
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
