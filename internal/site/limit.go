package site

import (
	"sync"
	"time"
)

const (
	// DefaultTokenRate is how many tokens a second one identity gets. It is far
	// above what an app needs, whose own endpoint keeps tokens until they are
	// old, and stops one that asks in a loop. IMDS stops at 20 a second.
	DefaultTokenRate = 1000
	// maxBuckets bounds the identities whose use is remembered.
	maxBuckets = 100_000
)

// limiter gives each identity a number of tokens a second, and as many in
// store for a burst.
type limiter struct {
	rate float64

	mu      sync.Mutex // guards buckets
	buckets map[string]bucket
}

type bucket struct {
	left float64
	at   time.Time
}

func newLimiter(rate float64) *limiter {
	return &limiter{rate: rate, buckets: map[string]bucket{}}
}

// take returns how long to wait, zero if there is no need to.
func (l *limiter) take(now time.Time, who string) time.Duration {
	if l.rate < 0 {
		return 0
	}
	full := max(l.rate, 1)
	l.mu.Lock()
	defer l.mu.Unlock()
	b, known := l.buckets[who]
	if !known {
		if len(l.buckets) >= maxBuckets {
			clear(l.buckets)
		}
		b = bucket{full, now}
	}
	if since := now.Sub(b.at); since > 0 { // a clock set back gives nothing
		b.left = min(full, b.left+since.Seconds()*l.rate)
	}
	b.at = now
	wait := time.Duration(0)
	if b.left < 1 {
		wait = time.Duration((1 - b.left) / l.rate * float64(time.Second))
	} else {
		b.left--
	}
	l.buckets[who] = b
	return wait
}
