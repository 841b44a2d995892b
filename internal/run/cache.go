package run

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hawser/hawser/client"
	"github.com/hawser/hawser/internal/az"
)

const (
	maxTokens    = 1024             // identities times resources of one app; real apps use a handful
	fetchTimeout = 30 * time.Second // one token from the plane
	negativeFor  = time.Second      // so a client in a loop costs the plane one request a second
)

// cacheKey is what makes two token requests the same.
type cacheKey struct {
	kind     selector
	id       string // folded: ids are compared without regard to case
	resource string // byte for byte, as the answer echoes it
}

// answer is a token made ready to be written: the strings are quoted JSON.
type answer struct {
	token, resource, client string
	clientUpper             string
	expires, notBefore      int64
	refresh                 int64
}

// cache holds the app's tokens, shared by all of its processes. One request
// to the plane serves all who wait for the same token.
type cache struct {
	fetch  func(context.Context, client.TokenRequest) (client.Token, error)
	clock  az.Clock
	log    *slog.Logger
	hits   *limiter
	misses *limiter

	ctx  context.Context // of the fetches; ended by Close
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu     sync.RWMutex // guards slots, gen and closed
	slots  map[cacheKey]*slot
	gen    int // raised by reset: what was fetched before is not kept
	closed bool
}

// slot is one token. ans is read without a lock; the rest is guarded by mu.
type slot struct {
	ans   atomic.Pointer[answer]
	retry atomic.Int64 // no background refresh before this time, in nanoseconds

	mu     sync.Mutex
	call   *call
	failed error
	until  time.Time // failed is answered until then
}

// call is one request to the plane; done is closed when ans or err is set.
type call struct {
	done chan struct{}
	ans  *answer
	err  error
}

func newCache(ctx context.Context, clock az.Clock, l Limits, fetch func(context.Context, client.TokenRequest) (client.Token, error), log *slog.Logger) *cache {
	l.fill()
	c := &cache{fetch: fetch, clock: clock, log: log, slots: map[cacheKey]*slot{},
		hits: newLimiter(l.Hits), misses: newLimiter(l.Misses)}
	c.ctx, c.stop = context.WithCancel(context.WithoutCancel(ctx))
	return c
}

// Close ends what is under way and waits for it.
func (c *cache) Close() error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.stop()
	c.wg.Wait()
	return nil
}

// reset forgets every token: an identity came or went.
func (c *cache) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.slots = map[cacheKey]*slot{}
	c.gen++
}

// get answers from memory, or asks the plane once however many wait. A token
// past its refresh time is renewed behind the caller's back and serves until
// it ends.
func (c *cache) get(ctx context.Context, r *request) (*answer, error) {
	now := c.clock()
	k := cacheKey{r.kind, strings.ToLower(r.id), r.resource}
	c.mu.RLock()
	s := c.slots[k]
	c.mu.RUnlock()
	if s != nil {
		if a := s.ans.Load(); a != nil && now.Unix() < a.expires {
			if wait := c.hits.take(now); wait > 0 {
				return nil, throttled(wait)
			}
			if now.Unix() >= a.refresh && now.UnixNano() >= s.retry.Load() {
				c.refresh(s, k, r, now)
			}
			return a, nil
		}
	}
	return c.wait(ctx, s, k, r, now)
}

// wait joins the request under way for the token, or starts it.
func (c *cache) wait(ctx context.Context, s *slot, k cacheKey, r *request, now time.Time) (*answer, error) {
	if s == nil {
		var err error
		if s, err = c.slot(k, now); err != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	call := s.call
	if call == nil {
		if a := s.ans.Load(); a != nil && now.Unix() < a.expires { // it has just come
			s.mu.Unlock()
			return a, nil
		}
		if s.failed != nil && now.Before(s.until) {
			err := s.failed
			s.mu.Unlock()
			if wait := c.misses.take(now); wait > 0 {
				return nil, throttled(wait)
			}
			return nil, err
		}
		if wait := c.misses.take(now); wait > 0 {
			s.mu.Unlock()
			return nil, throttled(wait)
		}
		call = c.begin(s, k, r.wire(s.ans.Load() != nil))
	}
	s.mu.Unlock()
	select {
	case <-call.done:
		return call.ans, call.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// refresh starts a renewal in the background if none is under way.
func (c *cache) refresh(s *slot, k cacheKey, r *request, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.call == nil && c.misses.take(now) == 0 {
		c.begin(s, k, r.wire(true))
	}
}

// slot finds or makes the place of a token, emptying another if all are
// taken. Distinct resources come under the limit of misses before they cost a
// place here: who cannot ask the plane cannot drive others out.
func (c *cache) slot(k cacheKey, now time.Time) (*slot, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.slots[k]; s != nil {
		return s, nil
	}
	if len(c.slots) >= maxTokens && !c.evict(now) {
		return nil, throttled(time.Second)
	}
	s := &slot{}
	c.slots[k] = s
	return s, nil
}

// evict takes out a token that has ended, a failed one, or else any one that
// nobody waits for. c.mu is held.
func (c *cache) evict(now time.Time) bool {
	var victim *cacheKey
	for k, s := range c.slots {
		if !s.mu.TryLock() {
			continue
		}
		idle, a := s.call == nil, s.ans.Load()
		s.mu.Unlock()
		if !idle {
			continue
		}
		if a == nil || a.expires <= now.Unix() {
			delete(c.slots, k)
			return true
		}
		if victim == nil {
			victim = &k
		}
	}
	if victim != nil {
		delete(c.slots, *victim)
	}
	return victim != nil
}

// begin starts a request to the plane; s.mu is held. Its goroutine belongs to
// the cache, not to the caller, who may go away.
func (c *cache) begin(s *slot, k cacheKey, r client.TokenRequest) *call {
	call := &call{done: make(chan struct{})}
	s.call = call
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.closed {
		call.err = errClosed
		s.call = nil
		close(call.done)
		return call
	}
	gen := c.gen
	c.wg.Add(1)
	go func() {
		defer c.wg.Done()
		ctx, cancel := context.WithTimeout(c.ctx, fetchTimeout)
		defer cancel()
		t, err := c.fetch(ctx, r)
		c.finish(s, k, gen, t, err)
	}()
	return call
}

var errClosed = errors.New("the run has ended")

// finish stores the outcome. A refresh that failed leaves the old token and
// is tried again a little later.
func (c *cache) finish(s *slot, k cacheKey, gen int, t client.Token, err error) {
	now := c.clock()
	if err == nil && t.ExpiresOn <= now.Unix() {
		err = errors.New("the plane gave a token that has already ended: compare the clocks")
	}
	c.mu.RLock()
	current := c.gen == gen
	c.mu.RUnlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	call := s.call
	s.call = nil
	if err != nil {
		call.err, s.failed, s.until = err, err, now.Add(negativeFor)
		s.retry.Store(now.Add(retryAfter(err)).UnixNano())
		c.log.Warn("cannot get a token from the plane", "resource", k.resource, "identity", k.kind.String(), "error", err)
	} else {
		call.ans, s.failed = newAnswer(t, k.resource), nil
		if current {
			s.ans.Store(call.ans)
		}
	}
	close(call.done)
}

func newAnswer(t client.Token, resource string) *answer {
	a := &answer{token: quote(t.AccessToken), resource: quote(resource), client: quote(t.ClientID),
		clientUpper: quote(strings.ToUpper(t.ClientID)), expires: t.ExpiresOn, notBefore: t.NotBefore, refresh: t.RefreshOn}
	if a.refresh <= 0 || a.refresh > a.expires {
		a.refresh = a.expires
	}
	return a
}

// quote writes a JSON string without touching characters that HTML minds:
// clients compare the resource byte for byte.
func quote(s string) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(s) // a string cannot fail
	return strings.TrimSuffix(b.String(), "\n")
}

func throttled(wait time.Duration) error {
	return &client.Error{Status: http.StatusTooManyRequests, Code: "TooManyRequests",
		Message: "Too many token requests: wait and try again.", RetryAfter: wait}
}

func retryAfter(err error) time.Duration {
	var e *client.Error
	if errors.As(err, &e) && e.RetryAfter > 0 {
		return e.RetryAfter
	}
	return 5 * time.Second // half a minute of tries before the shortest tokens end
}
