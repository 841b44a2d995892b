package gateway

import (
	"context"
	"sync"
	"time"

	"github.com/hawser/hawser/internal/az"
)

// recordTimeout bounds the writing of a session's last record.
const recordTimeout = 5 * time.Second

// recheckWorkers is how many sessions are checked at once; a check is a read
// from memory or one from the store.
const recheckWorkers = 16

// Session is one logged-in client. Its Grant holds no password.
type Session struct {
	ID      string
	Who     az.Principal
	Target  Target
	Grant   Grant
	Started time.Time
}

// live is a session and what moves its bytes.
type live struct {
	Session
	pump *Pump
}

// ErrStale is Admit's answer when rights changed after the session was
// authorised: authorise again.
var ErrStale = az.Errorf(az.Conflict, "Stale", "rights changed during login")

// ErrFull is Admit's answer when the gate holds as many sessions as it may.
var ErrFull = az.Errorf(az.TooMany, "TooManySessions", "too many sessions are open: close some and try again")

// ErrStopping is Admit's answer during Shutdown.
var ErrStopping = az.Errorf(az.Unavailable, "Stopping", "the gateway is stopping: try again")

// Generation is to be read before Authorize and handed to Admit.
func (g *Gate) Generation() uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.generation
}

// Admit adds a session whose bytes p will move, and records its start. From
// here on Recheck and End find it. It refuses a session that was authorised
// before the last Recheck began, because that one did not see it. Every
// admitted pump must be started or dropped.
func (g *Gate) Admit(ctx context.Context, s Session, p *Pump, generation uint64) error {
	s.Grant.Password = az.Secret{}
	if err := g.enlist(s, p, generation); err != nil {
		return err
	}
	if s.Grant.Record != nil {
		s.Grant.Record(ctx, Event{Session: s})
	}
	return nil
}

func (g *Gate) enlist(s Session, p *Pump, generation uint64) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.stopping:
		return ErrStopping
	case generation != g.generation:
		return ErrStale
	case len(g.sessions) >= g.limits.Sessions:
		return ErrFull
	}
	l := &live{Session: s, pump: p}
	p.gate, p.session = g, l
	g.sessions[s.ID] = l
	g.idle.Add(1)
	return nil
}

// Start begins to copy. It returns at once.
func (g *Gate) Start(p *Pump) {
	g.counts.logins.Inc()
	p.start()
}

// Drop ends an admitted session that Start never followed.
func (g *Gate) Drop(p *Pump) { g.finished(p, ClientLost) }

// finished records a session's end, once nothing of it is left running.
func (g *Gate) finished(p *Pump, reason Reason) {
	s := p.session
	sent, received := p.sent.Load(), p.received.Load()
	g.counts.sent.AddInt64(sent)
	g.counts.received.AddInt64(received)
	if s.Grant.Record != nil {
		ctx, cancel := context.WithTimeout(context.Background(), recordTimeout)
		s.Grant.Record(ctx, Event{Session: s.Session, Ended: true, Reason: reason,
			Duration: g.clock().Sub(s.Started), Sent: sent, Received: received})
		cancel()
	}
	g.mu.Lock()
	delete(g.sessions, s.ID)
	g.mu.Unlock()
	g.idle.Done()
}

func (g *Gate) all() []*live {
	g.mu.Lock()
	defer g.mu.Unlock()
	out := make([]*live, 0, len(g.sessions))
	for _, s := range g.sessions {
		out = append(out, s)
	}
	return out
}

func (g *Gate) open() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.sessions)
}

// Renew gives an open session the principal of a newer token, after which
// Recheck asks about that one. It refuses what was authorised before the last
// Recheck began: authorise again. Only the session's own FromClient calls it.
func (g *Gate) Renew(p *Pump, who az.Principal, generation uint64) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if generation != g.generation {
		return ErrStale
	}
	next := *p.session // others may be reading the old one
	next.Who = who
	p.session = &next
	g.sessions[next.ID] = &next
	return nil
}

// Sessions returns the open sessions, in no order.
func (g *Gate) Sessions() []Session {
	all := g.all()
	out := make([]Session, len(all))
	for i, s := range all {
		out[i] = s.Session
	}
	return out
}

// End ends one session and reports whether it was open.
func (g *Gate) End(id string, why Reason) bool {
	g.mu.Lock()
	s := g.sessions[id]
	g.mu.Unlock()
	if s == nil {
		return false
	}
	s.pump.end(why)
	return true
}

// Recheck asks check about every open session and ends those it returns an
// error for; logins under way are made to authorise again. Call it after every
// change of rights. It returns how many sessions it ended.
func (g *Gate) Recheck(ctx context.Context, check func(context.Context, Session) error) int {
	g.mu.Lock()
	g.generation++
	g.mu.Unlock()
	var (
		workers sync.WaitGroup
		mu      sync.Mutex // guards ended
		ended   int
	)
	work := make(chan *live)
	for range recheckWorkers {
		workers.Go(func() { // ends with work
			for s := range work {
				err := check(ctx, s.Session)
				if err == nil {
					continue
				}
				g.log.Info("a session lost its right", "protocol", g.protocol, "session", s.ID, "principal", s.Who.ObjectID, "error", err)
				s.pump.end(RightLost)
				mu.Lock()
				ended++
				mu.Unlock()
			}
		})
	}
	for _, s := range g.all() {
		work <- s
	}
	close(work)
	workers.Wait()
	return ended
}
