package server

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/gateway"
	"github.com/hawser/hawser/internal/store"
)

const (
	// recheckEvery bounds how long a session outlives a right that was lost in
	// a way no change announces: an assignment is a change, a server's fault is
	// not.
	recheckEvery = 30 * time.Second
	// askEvery is how often the store is asked whether it is still there to say
	// who lost what, while sessions are open.
	askEvery = time.Second
	// storeGrace is how long open sessions go on while the store cannot be
	// asked. Shorter, each restart of it would end them all; longer, a
	// revocation made elsewhere would wait for this plane's network.
	storeGrace = 10 * time.Second
)

// doubt is since when it cannot be said who may stay; zero: it can.
type doubt struct{ since time.Time }

func (d *doubt) note(sure bool, now time.Time) {
	switch {
	case sure:
		d.since = time.Time{}
	case d.since.IsZero():
		d.since = now
	}
}

// over reports whether the doubt has lasted too long.
func (d *doubt) over(now time.Time) bool { return !d.since.IsZero() && now.Sub(d.since) > storeGrace }

// recheck looks at the open sessions again after every change that may have
// taken somebody's right, so that a revocation ends them within a second.
func (s *Server) recheck(run context.Context, g *gateway.Gate, ask gateway.Authorize) {
	bell := make(chan struct{}, 1)
	s.store.Listen(func(changes []store.Change) {
		for _, c := range changes {
			switch c.Topic {
			case store.TopicSecret, store.TopicMeta, store.TopicKeys:
				continue
			}
			select {
			case bell <- struct{}{}:
			default:
			}
			return
		}
	})
	s.work.Go(func() { s.keepWatch(run, g, ask, bell) })
}

// keepWatch is the loop behind recheck.
func (s *Server) keepWatch(run context.Context, g *gateway.Gate, ask gateway.Authorize, bell <-chan struct{}) {
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	var unsure doubt
	var last time.Time
	for due := true; ; {
		select {
		case <-run.Done():
			return
		case <-bell:
			due = true
		case <-tick.C:
		}
		now := s.cfg.Clock()
		err := s.store.Fresh(run)
		switch {
		case err != nil && unsure.over(now):
			g.Recheck(run, func(context.Context, gateway.Session) error { return err })
		case err != nil:
			if unsure.since.IsZero() && run.Err() == nil {
				s.cfg.Log.Warn("server: the store cannot be asked who may stay in a database; open sessions have a while yet", "grace", storeGrace, "error", err)
			}
			unsure.note(false, now)
		case due || !unsure.since.IsZero() || now.Sub(last) >= recheckEvery:
			due, last = false, now
			unsure.note(s.examine(run, g, ask, unsure.over(now)), now)
		}
	}
}

// examine asks about every open session and reports whether there was an
// answer for each. Those without one end only when patience is at an end.
func (s *Server) examine(run context.Context, g *gateway.Gate, ask gateway.Authorize, impatient bool) (sure bool) {
	still := ask.Still()
	var without atomic.Bool
	g.Recheck(run, func(ctx context.Context, session gateway.Session) error {
		err := still(ctx, session)
		if az.Is(err, az.Unavailable) && !impatient {
			without.Store(true)
			return nil
		}
		return err
	})
	return !without.Load()
}
