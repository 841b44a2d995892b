package gateway

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/hawser/hawser/internal/az"
)

// Limits bound what strangers can make a gateway hold. A zero field takes the
// default named beside it.
type Limits struct {
	Sessions            int           // 5,000: the idle-session figure this gateway is measured with
	Handshakes          int           // 2,000 connections that have not logged in yet
	HandshakesPerSource int           // half of Handshakes: one source cannot take every place
	Handshake           time.Duration // 30 s from accept to logged in; PostgreSQL's authentication_timeout is 60 s
	IdleBeforePark      time.Duration // 1 s without a byte before a session's buffers and goroutines are given back
}

func (l Limits) orDefaults() Limits {
	def := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	def(&l.Sessions, 5000)
	def(&l.Handshakes, 2000)
	def(&l.HandshakesPerSource, (l.Handshakes+1)/2)
	if l.Handshake <= 0 {
		l.Handshake = 30 * time.Second
	}
	if l.IdleBeforePark <= 0 {
		l.IdleBeforePark = time.Second
	}
	return l
}

// Options make a Gate.
type Options struct {
	Protocol string // in logs and metrics: pg, mysql, …
	Limits   Limits
	Log      *slog.Logger
	Metrics  *metrics.Set // nil for none
	Clock    az.Clock
}

// Gate accepts connections and holds the sessions that came of them.
type Gate struct {
	protocol string
	limits   Limits
	log      *slog.Logger
	clock    az.Clock
	counts   counters
	small    *bufferPool
	large    *bufferPool
	hmac     [32]byte // makes password fingerprints in warm keys useless elsewhere
	park     *parker  // nil where the system cannot wait for many sockets at once

	ctx  context.Context // ends with Shutdown; parent of every handshake
	stop context.CancelFunc
	idle sync.WaitGroup // Serve loops, handshakes, sessions and the reaper

	mu         sync.Mutex // guards all below
	stopping   bool
	listeners  map[net.Listener]struct{}
	handshakes map[net.Conn]struct{}
	sources    map[netip.Addr]int
	sessions   map[string]*live
	generation uint64 // counts Rechecks
}

// New makes a Gate. Shutdown ends it.
func New(o Options) (*Gate, error) {
	if o.Metrics == nil {
		o.Metrics = metrics.NewSet()
	}
	g := &Gate{protocol: o.Protocol, limits: o.Limits.orDefaults(), log: o.Log, clock: o.Clock,
		small: newBufferPool(smallBuffer), large: newBufferPool(largeBuffer),
		listeners: map[net.Listener]struct{}{}, handshakes: map[net.Conn]struct{}{},
		sources: map[netip.Addr]int{}, sessions: map[string]*live{}}
	g.counts = newCounters(o.Metrics, o.Protocol, g)
	_, _ = rand.Read(g.hmac[:]) // never fails: crypto/rand crashes the program instead
	var err error
	if g.park, err = newParker(); err != nil {
		return nil, err
	}
	g.ctx, g.stop = context.WithCancel(context.Background())
	g.idle.Add(1)
	go g.reap() // ends with g.ctx
	return g, nil
}

// Serve accepts on l until Shutdown, giving each connection to handle in a
// goroutine of its own. The context handed to handle ends at the handshake
// deadline; handle must have returned soon after. The connection is handle's
// to close, unless Start took it over.
func (g *Gate) Serve(l net.Listener, handle func(context.Context, net.Conn)) error {
	g.mu.Lock()
	if g.stopping {
		g.mu.Unlock()
		return net.ErrClosed
	}
	g.listeners[l] = struct{}{}
	g.idle.Add(1)
	g.mu.Unlock()
	defer func() {
		g.mu.Lock()
		delete(g.listeners, l)
		g.mu.Unlock()
		g.idle.Done()
	}()
	for {
		c, err := l.Accept()
		if err != nil {
			if g.ctx.Err() != nil {
				return nil
			}
			if !waitAfterAccept(g.ctx, err) {
				return err
			}
			g.log.Warn("cannot accept a connection", "protocol", g.protocol, "error", err)
			continue
		}
		source, err := g.enter(c)
		if err != nil {
			g.Refused("limit")
			c.Close()
			continue
		}
		go g.handshake(c, source, handle) // ends by the deadline
	}
}

// waitAfterAccept pauses after an error that may pass, such as running out of
// descriptors, and reports whether to go on.
func waitAfterAccept(ctx context.Context, err error) bool {
	if errors.Is(err, net.ErrClosed) {
		return false
	}
	select {
	case <-ctx.Done():
		return false
	case <-time.After(50 * time.Millisecond):
		return true
	}
}

var errTooMany = errors.New("too many connections")

// enter counts a connection in, or says that there is no room for it.
func (g *Gate) enter(c net.Conn) (netip.Addr, error) {
	source := sourceOf(c.RemoteAddr())
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.stopping || len(g.handshakes) >= g.limits.Handshakes || g.sources[source] >= g.limits.HandshakesPerSource {
		return source, errTooMany
	}
	g.handshakes[c] = struct{}{}
	g.sources[source]++
	g.idle.Add(1)
	return source, nil
}

func (g *Gate) leave(c net.Conn, source netip.Addr) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.handshakes, c)
	if g.sources[source]--; g.sources[source] == 0 {
		delete(g.sources, source)
	}
	g.idle.Done()
}

func (g *Gate) handshake(c net.Conn, source netip.Addr, handle func(context.Context, net.Conn)) {
	defer g.leave(c, source)
	g.counts.connections.Inc()
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetKeepAliveConfig(keepAlive)
	}
	deadline := time.Now().Add(g.limits.Handshake) // sockets know the system's clock only
	_ = c.SetDeadline(deadline)
	ctx, cancel := context.WithDeadline(g.ctx, deadline)
	defer cancel()
	roomy(0)
	handle(ctx, Quick(c))
}

// roomy makes its goroutine's stack as large as a TLS handshake needs it while
// there is next to nothing on it: growing by doubling in the depths of
// crypto/tls, with all its frames to copy, is a tenth of what a login costs.
// It ends with the handshake, so Limits.Handshakes bounds it: 32 MiB for 2,000.
//
//go:noinline
func roomy(at byte) byte {
	var room [10 << 10]byte // the next size is 16 KiB
	return room[at]
}

// keepAlive finds dead peers in two minutes; PostgreSQL leaves it to the
// system, whose default is two hours.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 60 * time.Second, Interval: 15 * time.Second, Count: 4}

// sourceOf folds an address to what one stranger is likely to own: an IPv4
// address or an IPv6 /64.
func sourceOf(a net.Addr) netip.Addr {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	ip, _ := netip.AddrFromSlice(t.IP)
	ip = ip.Unmap()
	if ip.Is6() {
		if p, err := ip.WithZone("").Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return ip
}

// Shutdown closes the listeners, drops handshakes, ends every session in the
// protocol's words and waits for all of it; when ctx ends first it closes the
// sockets and waits on.
func (g *Gate) Shutdown(ctx context.Context) {
	g.mu.Lock()
	first := !g.stopping
	g.stopping = true
	g.stop()
	for l := range g.listeners {
		l.Close()
	}
	for c := range g.handshakes {
		_ = c.SetDeadline(time.Unix(1, 0))
	}
	g.mu.Unlock()
	for _, s := range g.all() {
		s.pump.end(Stopping)
	}
	done := make(chan struct{})
	go func() { // ends when all is idle, which is what we wait for
		g.idle.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		g.closeAll()
		<-done
	}
	if first {
		g.park.close()
	}
}

func (g *Gate) closeAll() {
	g.mu.Lock()
	for c := range g.handshakes {
		c.Close()
	}
	g.mu.Unlock()
	for _, s := range g.all() {
		s.pump.closeNow()
	}
}

// reap looks for sessions that have been idle and gives back what they hold.
// It ends with the gate.
func (g *Gate) reap() {
	defer g.idle.Done()
	if g.park == nil {
		<-g.ctx.Done()
		return
	}
	tick := time.NewTicker(g.limits.IdleBeforePark)
	defer tick.Stop()
	for {
		select {
		case <-g.ctx.Done():
			return
		case <-tick.C:
			for _, s := range g.all() {
				s.pump.parkIfIdle()
			}
		}
	}
}
