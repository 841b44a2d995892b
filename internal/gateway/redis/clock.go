package redis

import "time"

const (
	clockLook = time.Second            // between looks at the clock
	clockLeap = 250 * time.Millisecond // by which it may differ from the time that passed between two
)

// watchClock looks whether the clock has leapt ahead: timers know nothing of a
// clock that was set or of a machine that slept, and a token that ended
// meanwhile would hold its session open for as long.
func (g *Gateway) watchClock() {
	tick := time.NewTicker(clockLook)
	defer tick.Stop()
	wall, since := g.clock().Round(0), time.Now() // Round takes away what only counts time that passed
	for {
		select {
		case <-g.ctx.Done():
			return
		case <-tick.C:
		}
		now, passed := g.clock().Round(0), time.Since(since)
		since = time.Now()
		leap := now.Sub(wall) - passed
		if wall = now; leap > clockLeap {
			g.expireAll()
		}
	}
}

// expireAll ends the sessions whose tokens have ended and sets the timers of
// the others by the clock as it is.
func (g *Gateway) expireAll() {
	g.mu.Lock()
	all := make([]*session, 0, len(g.timed))
	for s := range g.timed {
		all = append(all, s)
	}
	g.mu.Unlock()
	for _, s := range all {
		s.expire()
	}
}
