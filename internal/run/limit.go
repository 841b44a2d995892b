package run

import (
	"sync/atomic"
	"time"
)

// Limits bound what an app's processes may ask of the identity endpoint. Two
// rates, because two things are protected: the plane, from requests the cache
// cannot answer and from failures, and this process, from a client in a loop.
type Limits struct {
	// Misses per second that reach the plane or end in an error; a burst of
	// one second's worth is allowed. Azure's IMDS allows 20 requests a second;
	// the default is 100, for a start of many processes at once.
	Misses int
	// Answers per second from the cache; default 200,000, above what one
	// machine can send, so that only a smaller number set on purpose throttles.
	Hits int
}

const (
	defaultMisses = 100
	defaultHits   = 200_000
)

func (l *Limits) fill() {
	set(&l.Misses, defaultMisses)
	set(&l.Hits, defaultHits)
}

// limiter is a token bucket of one second's burst, kept as the time at which
// it would be full again: one atomic word, no lock.
type limiter struct {
	cost  int64 // nanoseconds per request
	burst int64
	full  atomic.Int64
}

func newLimiter(perSecond int) *limiter {
	return &limiter{cost: int64(time.Second) / int64(max(perSecond, 1)), burst: int64(time.Second)}
}

// take takes one request out of the bucket; if there is none it returns how
// long to wait.
func (l *limiter) take(now time.Time) (wait time.Duration) {
	t := now.UnixNano()
	for {
		old := l.full.Load()
		next := max(old, t) + l.cost
		if over := next - t - l.burst; over > 0 {
			return time.Duration(over)
		}
		if l.full.CompareAndSwap(old, next) {
			return 0
		}
	}
}
