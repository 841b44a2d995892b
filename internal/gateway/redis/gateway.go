package redis

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"

	"github.com/VictoriaMetrics/metrics"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/gateway"
)

// Config makes a Gateway.
type Config struct {
	Rules gateway.Rules
	// TLS holds GetCertificate (or Certificates); the rest is ours. P-256 keys
	// make logins several times cheaper than RSA ones.
	TLS    *tls.Config
	Domain string // what follows <server>. in host names: redis.D
	Limits gateway.Limits
	// Terminate ends a backend connection, by its client id, whose session was
	// ended and which the server did not close when we did. Nil for no such
	// means.
	Terminate func(ctx context.Context, server az.ID, user string, session uint64) error
	// Repair is called when a server refuses a user's password: after it, the
	// login is authorised and tried once more. Nil for no such means.
	Repair func(ctx context.Context, server az.ID, user string) error
	// Log gets one line a refused login; Metrics may be nil.
	Log     *slog.Logger
	Metrics *metrics.Set
	Clock   az.Clock
}

// Gateway is a Redis gateway. The embedded Gate has Sessions, Recheck and End.
type Gateway struct {
	*gateway.Gate
	rules     gateway.Rules
	tls       *tls.Config
	domain    string
	log       *slog.Logger
	clock     az.Clock
	terminate func(ctx context.Context, server az.ID, user string, session uint64) error
	repair    func(ctx context.Context, server az.ID, user string) error
	ending    chan struct{}  // room for those who terminate: each takes a connection to the server
	work      sync.WaitGroup // what goes on after a session's end, and the nodes' listeners
	watch     sync.WaitGroup // of the clock
	ctx       context.Context
	stop      context.CancelFunc

	mu       sync.Mutex // guards all below
	host     string     // that Serve listens at: the nodes' doors are opened there too
	stopping bool
	mine     map[connection]*session
	timed    map[*session]struct{} // whose tokens have timers
	clusters map[string]*topology  // by server
}

// connection names a connection at a backend.
type connection struct {
	addr string
	id   uint64
}

// New makes a gateway that Serve then runs. Shutdown ends it.
func New(c Config) (*Gateway, error) {
	if c.TLS == nil || c.TLS.GetCertificate == nil && len(c.TLS.Certificates) == 0 {
		return nil, errors.New("cannot make a Redis gateway without a certificate")
	}
	gate, err := gateway.New(gateway.Options{Protocol: "redis", Limits: c.Limits, Log: c.Log, Metrics: c.Metrics, Clock: c.Clock})
	if err != nil {
		return nil, err
	}
	g := &Gateway{Gate: gate, rules: c.Rules, tls: serverTLS(c.TLS), domain: strings.ToLower(c.Domain), log: c.Log, clock: c.Clock,
		terminate: c.Terminate, repair: c.Repair, ending: make(chan struct{}, 4),
		mine: map[connection]*session{}, timed: map[*session]struct{}{}, clusters: map[string]*topology{}}
	g.ctx, g.stop = context.WithCancel(context.Background())
	g.watch.Go(g.watchClock) // ends with g.ctx
	return g, nil
}

// serverTLS completes the configuration of the client's side.
func serverTLS(c *tls.Config) *tls.Config {
	c = c.Clone()
	c.MinVersion = tls.VersionTLS12
	c.NextProtos = nil
	// X25519 alone of the fast ones: a post-quantum share costs half as much
	// again for each login (2,460 against 3,700 handshakes a second).
	c.CurvePreferences = []tls.CurveID{tls.X25519, tls.CurveP256, tls.CurveP384}
	c.SessionTicketsDisabled = true // Redis clients seldom resume; a ticket costs a write and memory
	c.DynamicRecordSizingDisabled = true
	return c
}

// Serve accepts on l until Shutdown.
func (g *Gateway) Serve(l net.Listener) error {
	if host, _, err := net.SplitHostPort(l.Addr().String()); err == nil {
		g.mu.Lock()
		g.host = host
		g.mu.Unlock()
	}
	return g.Gate.Serve(l, func(ctx context.Context, c net.Conn) { g.accept(ctx, c, nil) })
}

// Shutdown ends every session in order. When ctx ends, the servers' connections
// are left to themselves.
func (g *Gateway) Shutdown(ctx context.Context) {
	g.mu.Lock()
	g.stopping = true // no node's door is opened from here on
	g.mu.Unlock()
	g.Gate.Shutdown(ctx)
	defer context.AfterFunc(ctx, g.stop)()
	g.work.Wait()
	g.stop()
	g.watch.Wait()
}

// Forget drops what is known of a server's nodes: call it when the server's
// address or credentials change.
func (g *Gateway) Forget(server az.ID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if t := g.clusters[server.Key()]; t != nil {
		t.forget()
	}
}
