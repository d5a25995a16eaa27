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
	// jitter is the fraction by which a delay varies at random. The jitter spreads the calls of clients that lost the
	// connection to a server at the same time.
	jitter = 0.25
	// minRetries limits a delay to a tenth of the time limit for a call and all its retries, so that the client still
	// reaches a server that restarts shortly before the deadline.
	minRetries = 10

	noLimit time.Duration = math.MaxInt64
)

// repeat makes a call and retries the call while the error is temporary. The parameter `limit` is the time limit for
// the call and all its retries, which the caller's context must enforce. repeat returns the first error that is not
// temporary. If the context ends or the client is closed, repeat returns the last error of the call.
func (s singleCallConn) repeat(ctx context.Context, limit time.Duration, call func() error) error {
	backoff := s.newBackoff(limit)
	var last error
	for {
		err := call()
		// The previous error of the call names the cause of the failure. The error of the context does not name this
		// cause.
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

// backoff waits before each retry of a call, with delays that grow up to longestDelay (2 s).
type backoff struct {
	conn   singleCallConn
	delays exponential.ExponentialBackOff
}

// newBackoff returns a backoff whose delays grow up to a tenth of `limit`, but at most up to longestDelay. The
// parameter `limit` is the time limit for a call and all its retries.
func (s singleCallConn) newBackoff(limit time.Duration) *backoff {
	return &backoff{conn: s, delays: exponential.ExponentialBackOff{
		InitialInterval:     firstDelay,
		Multiplier:          2,
		RandomizationFactor: jitter,
		MaxInterval:         min(longestDelay, limit/minRetries),
	}}
}

// reset sets the next delay to firstDelay.
func (b *backoff) reset() {
	b.delays.Reset()
}

// wait waits before the next retry. The delay is at least the retry delay in the error `last`. wait returns false if
// the context ends or the client is closed during the delay.
func (b *backoff) wait(ctx context.Context, last error) bool {
	delay := min(b.delays.NextBackOff(), longestDelay)
	var e *Error
	if errors.As(last, &e) {
		delay = max(delay, e.RetryDelay)
	}
	return b.conn.sleep(ctx, delay)
}

// sleep waits for the delay. sleep returns false if the context ends or the client is closed during the delay.
func (s singleCallConn) sleep(ctx context.Context, delay time.Duration) bool {
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
