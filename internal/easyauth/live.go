package easyauth

import (
	"context"
	"sync"
	"time"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/store"
)

// live knows the requests that somebody's sign-in holds open: streams,
// WebSockets, long uploads. Who loses the right to the app while one is open
// loses it too.
type live struct {
	f    *Front
	bell chan struct{}
	stop context.CancelFunc
	done sync.WaitGroup

	mu   sync.Mutex // guards all
	all  map[*open]struct{}
	over bool
}

// open is one such request.
type open struct {
	v      *visit
	cancel context.CancelFunc
}

const (
	// liveEvery is how often open requests are looked at without any change:
	// sessions end by time too.
	liveEvery = 30 * time.Second
	// livePause lets changes gather before open requests are looked at again,
	// and keeps that below the second in which a revocation takes effect.
	livePause = 200 * time.Millisecond
)

func newLive(f *Front) *live {
	ctx, stop := context.WithCancel(context.Background())
	l := &live{f: f, bell: make(chan struct{}, 1), stop: stop, all: map[*open]struct{}{}}
	f.cfg.Store.Listen(func(changes []store.Change) {
		for _, c := range changes {
			switch c.Topic {
			case store.TopicSecret, store.TopicMeta, store.TopicKeys, store.TopicUpstream, store.TopicCredential:
				continue
			}
			select {
			case l.bell <- struct{}{}:
			default:
			}
			return
		}
	})
	l.done.Go(func() { l.watch(ctx) })
	return l
}

// begin notes a request until done is called.
func (l *live) begin(v *visit) (context.Context, func()) {
	ctx, cancel := context.WithCancel(v.ctx)
	o := &open{v, cancel}
	l.mu.Lock()
	if l.over {
		cancel()
	}
	l.all[o] = struct{}{}
	l.mu.Unlock()
	return ctx, func() {
		cancel()
		l.mu.Lock()
		delete(l.all, o)
		l.mu.Unlock()
	}
}

func (l *live) watch(ctx context.Context) {
	tick := time.NewTicker(liveEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-l.bell:
			select {
			case <-time.After(livePause):
			case <-ctx.Done():
				return
			}
		}
		for _, o := range l.named() {
			if !o.v.still(ctx) {
				o.cancel()
			}
		}
	}
}

// named are the open requests that are somebody's.
func (l *live) named() []*open {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []*open
	for o := range l.all {
		if o.v.who != nil {
			out = append(out, o)
		}
	}
	return out
}

// still reports whether a request that was let in would be let in now. Without
// an answer it goes on: a store that is away for a moment ends no streams.
func (v *visit) still(ctx context.Context) bool {
	n := *v
	n.ctx = ctx
	a, ok, err := v.f.app(ctx, v.site.ID.Name())
	if err != nil {
		return !az.Is(err, az.Invalid) // settings that say nothing let nobody stay
	}
	if !ok || a.site.Stopped || !a.site.ID.Equal(v.site.ID) || !a.set.Enabled {
		return false
	}
	n.set = a.set
	// Also where strangers are let in: the app was told whose request it is.
	if s := v.who.session; s != nil {
		now, err := v.f.cached(ctx, s.Key)
		if err != nil {
			return true
		}
		if now == nil {
			return false
		}
		if c, err := n.stands(now, false); err != nil || c == nil {
			return err != nil
		}
	} else if alive, err := v.f.principalStands(ctx, v.who.principal, v.began); err != nil || !alive {
		return err != nil
	}
	return n.admitted(ctx, v.who)
}

func (l *live) close() {
	l.stop()
	l.done.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.over = true
	for o := range l.all {
		o.cancel()
	}
}
