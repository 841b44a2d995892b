package easyauth

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/store"
)

// Limits of what is kept in memory. A full cache is emptied.
const (
	maxCachedApps = 10_000
	// maxCachedSessions times the few KiB of a session's tokens and claims.
	maxCachedSessions = 4096
	// sessionAge is how long a session is kept: its use, which is noted on any
	// plane every 10 minutes, is not told to the others.
	sessionAge = time.Minute
	// processAge is how long processes are: their heartbeats are not told either.
	processAge = Heartbeat / 2
)

// cache keeps what was read from the store until the change feed says that it
// changed. Who uses it must have asked the feed (store.Confirm or Fresh) in the
// same request.
type cache[V any] struct {
	limit int
	age   time.Duration // 0: any
	clock az.Clock

	mu  sync.RWMutex // guards the rest
	all map[string]kept[V]
	gen uint64 // counts drops: what was read before one is not kept
}

type kept[V any] struct {
	v    V
	read time.Time
}

func newCache[V any](limit int, age time.Duration, clock az.Clock) *cache[V] {
	return &cache[V]{limit: limit, age: age, clock: clock, all: map[string]kept[V]{}}
}

// get returns what is kept under a key, or reads and keeps it. What read says
// is not there is not kept.
func (c *cache[V]) get(key string, read func() (V, bool, error)) (V, bool, error) {
	now := c.clock()
	c.mu.RLock()
	k, ok := c.all[key]
	gen := c.gen
	c.mu.RUnlock()
	if ok && (c.age == 0 || now.Sub(k.read).Abs() < c.age) {
		return k.v, true, nil
	}
	v, ok, err := read()
	if err != nil || !ok {
		return v, false, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gen == gen {
		if len(c.all) >= c.limit {
			clear(c.all)
		}
		c.all[key] = kept[V]{v, now}
	}
	return v, true, nil
}

// drop forgets one entry.
func (c *cache[V]) drop(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gen++
	delete(c.all, key)
}

// dropIf forgets the entries of which is says so.
func (c *cache[V]) dropIf(is func(V) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gen++
	for key, k := range c.all {
		if is(k.v) {
			delete(c.all, key)
		}
	}
}

// app is an app as the front knows it: its settings are read once.
type app struct {
	site *Site
	set  *settings
}

// changed is the caches' ear on the feed.
func (f *Front) changed(changes []store.Change) {
	for _, c := range changes {
		switch c.Topic {
		case store.TopicReset:
			f.apps.dropIf(func(app) bool { return true })
			f.sessions.dropIf(func(*session) bool { return true })
			f.upstreams.dropIf(func([]store.Upstream) bool { return true })
		case store.TopicResource:
			f.apps.dropIf(func(a app) bool { return a.site.ID.Key() == c.Key })
		case store.TopicUpstream:
			f.upstreams.drop(c.Key)
		case store.TopicFront:
			if strings.HasPrefix(c.Key, "/") { // every session of a site
				f.sessions.dropIf(func(s *session) bool { return s.Site == c.Key })
				continue
			}
			f.sessions.drop(c.Key)
		}
	}
}

// app finds the app of a host name's label; ok is false if there is none.
func (f *Front) app(ctx context.Context, name string) (a app, ok bool, err error) {
	if err := f.cfg.Store.Fresh(ctx); err != nil {
		return app{}, false, err
	}
	return f.apps.get(strings.ToLower(name), func() (app, bool, error) {
		site, err := f.cfg.Site(ctx, name)
		if err != nil || site == nil {
			return app{}, false, err
		}
		set, err := parse(f.cfg.Names, site.Auth)
		return app{site, set}, err == nil, err
	})
}

// cached is open for who has asked the feed.
func (f *Front) cached(ctx context.Context, key string) (*session, error) {
	s, _, err := f.sessions.get(key, func() (*session, bool, error) {
		s, err := f.open(ctx, key)
		return s, s != nil, err
	})
	return s, err
}
