package mysql

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"

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
	Domain string // what follows <server>. in host names: mysql.D
	Limits gateway.Limits
	Warm   gateway.Warm
	// Terminate ends a backend thread whose session lost its right while a
	// statement ran, which a closed connection does not stop. Nil for no such
	// means.
	Terminate func(ctx context.Context, server az.ID, user string, thread uint64) error
	// Repair is called when a server refuses a user's password, which any
	// session of the user can have changed: after it, the login is authorised
	// and tried once more. Nil for no such means.
	Repair func(ctx context.Context, server az.ID, user string) error
	// Log gets one line a refused login; Metrics may be nil.
	Log     *slog.Logger
	Metrics *metrics.Set
	Clock   az.Clock
}

// Gateway is a MySQL gateway. The embedded Gate has Sessions, Recheck and End.
type Gateway struct {
	*gateway.Gate
	rules    gateway.Rules
	tls      *tls.Config
	domain   string
	log      *slog.Logger
	clock    az.Clock
	pool     *gateway.Pool[*backend]
	versions versions

	terminate func(ctx context.Context, server az.ID, user string, thread uint64) error
	repair    func(ctx context.Context, server az.ID, user string) error
	ending    chan struct{} // room for those who terminate: each takes a connection to the server
	recycling sync.WaitGroup
	ctx       context.Context // of what recycling waits for
	stop      context.CancelFunc

	lastID   atomic.Uint32
	mu       sync.Mutex // guards sessions
	sessions map[uint32]*session
}

// New makes a gateway that Serve then runs. Shutdown ends it.
func New(c Config) (*Gateway, error) {
	if c.TLS == nil || c.TLS.GetCertificate == nil && len(c.TLS.Certificates) == 0 {
		return nil, errors.New("cannot make a MySQL gateway without a certificate")
	}
	gate, err := gateway.New(gateway.Options{Protocol: "mysql", Limits: c.Limits, Log: c.Log, Metrics: c.Metrics, Clock: c.Clock})
	if err != nil {
		return nil, err
	}
	g := &Gateway{Gate: gate, rules: c.Rules, tls: serverTLS(c.TLS), domain: strings.ToLower(c.Domain), log: c.Log, clock: c.Clock,
		terminate: c.Terminate, repair: c.Repair, ending: make(chan struct{}, 4), pool: gateway.NewPool[*backend](c.Warm),
		versions: versions{of: map[string]string{}}, sessions: map[uint32]*session{}}
	g.ctx, g.stop = context.WithCancel(context.Background())
	var b [4]byte
	_, _ = rand.Read(b[:])
	g.lastID.Store(binary.LittleEndian.Uint32(b[:]))
	return g, nil
}

// serverTLS completes the configuration of the client's side.
func serverTLS(c *tls.Config) *tls.Config {
	c = c.Clone()
	c.MinVersion = tls.VersionTLS12
	c.NextProtos = nil
	// As for PostgreSQL: a post-quantum share costs half as much again for
	// each login.
	c.CurvePreferences = []tls.CurveID{tls.X25519, tls.CurveP256, tls.CurveP384}
	c.SessionTicketsDisabled = true // drivers don't resume; a ticket costs a write and memory
	c.DynamicRecordSizingDisabled = true
	return c
}

// Serve accepts on l until Shutdown.
func (g *Gateway) Serve(l net.Listener) error { return g.Gate.Serve(l, g.accept) }

// Shutdown ends every session in order and closes the warm connections. When
// ctx ends, the servers' threads are left to themselves.
func (g *Gateway) Shutdown(ctx context.Context) {
	g.Gate.Shutdown(ctx)
	g.pool.Close()
	defer context.AfterFunc(ctx, g.stop)()
	g.recycling.Wait()
	g.stop()
}

// Forget closes the warm connections to a server, and lets none that is in use
// now become warm: call it when the server's address, credentials or users
// change.
func (g *Gateway) Forget(server az.ID) { g.pool.Forget(server.Key()) }

// newID returns a thread id for a greeting: from 2^30 up, which no server
// counts up to, and below 2^31, because some clients keep it in a signed int.
func (g *Gateway) newID() uint32 { return 1<<30 | g.lastID.Add(1)&(1<<30-1) }
