package pg

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"

	"github.com/VictoriaMetrics/metrics"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/gateway"
)

// Config makes a Gateway.
type Config struct {
	Rules gateway.Rules
	// TLS holds GetCertificate (or Certificates); the rest is ours. P-256 keys
	// make logins several times cheaper than RSA ones.
	TLS    *tls.Config
	Domain string // what follows <server>. in host names: postgres.D
	OAuth  OAuth
	Limits gateway.Limits
	Warm   gateway.Warm
	// Terminate ends a backend process whose session lost its right and which
	// a cancel request and a closed connection did not end: code in the server
	// can catch the one and does not look at the other. Nil for no such means.
	Terminate func(ctx context.Context, server az.ID, user string, pid uint64) error
	// Repair is called when a server refuses a role's password, which any
	// session of the role can have changed: after it, the login is authorised
	// and tried once more. Nil for no such means.
	Repair func(ctx context.Context, server az.ID, user string) error
	// Log gets one line a refused login; Metrics may be nil.
	Log     *slog.Logger
	Metrics *metrics.Set
	Clock   az.Clock
}

// OAuth is what a client of OAUTHBEARER is told when it has no valid token:
// RFC 7628, section 3.2.2.
type OAuth struct {
	Discovery string // URL of the OpenID configuration
	Scope     string
}

// Gateway is a PostgreSQL gateway. The embedded Gate has Sessions, Recheck and
// End.
type Gateway struct {
	*gateway.Gate
	rules  gateway.Rules
	tls    *tls.Config
	domain string
	oauth  OAuth
	log    *slog.Logger
	clock  az.Clock
	base   *pgconn.Config // never changed; copied for each login to a backend
	pool   *gateway.Pool[*backend]

	terminate func(ctx context.Context, server az.ID, user string, pid uint64) error
	repair    func(ctx context.Context, server az.ID, user string) error
	ending    chan struct{} // room for those who terminate: each takes a connection to the server
	recycling sync.WaitGroup
	ctx       context.Context // of what recycling waits for
	stop      context.CancelFunc

	mu   sync.Mutex // guards keys
	keys map[uint32]*session
}

// New makes a gateway that Serve then runs. Shutdown ends it.
func New(c Config) (*Gateway, error) {
	if c.TLS == nil || c.TLS.GetCertificate == nil && len(c.TLS.Certificates) == 0 {
		return nil, errors.New("cannot make a PostgreSQL gateway without a certificate")
	}
	base, err := baseConfig()
	if err != nil {
		return nil, err
	}
	gate, err := gateway.New(gateway.Options{Protocol: "pg", Limits: c.Limits, Log: c.Log, Metrics: c.Metrics, Clock: c.Clock})
	if err != nil {
		return nil, err
	}
	g := &Gateway{Gate: gate, rules: c.Rules, tls: serverTLS(c.TLS), domain: strings.ToLower(c.Domain), oauth: c.OAuth,
		log: c.Log, clock: c.Clock, base: base, terminate: c.Terminate, repair: c.Repair, ending: make(chan struct{}, 4), pool: gateway.NewPool[*backend](c.Warm), keys: map[uint32]*session{}}
	g.ctx, g.stop = context.WithCancel(context.Background())
	return g, nil
}

// serverTLS completes the configuration of the client's side.
func serverTLS(c *tls.Config) *tls.Config {
	c = c.Clone()
	c.MinVersion = tls.VersionTLS12
	c.NextProtos = []string{alpn}
	// X25519 alone of the fast ones: a post-quantum share costs half as much
	// again for each login (2,460 against 3,700 handshakes a second).
	c.CurvePreferences = []tls.CurveID{tls.X25519, tls.CurveP256, tls.CurveP384}
	c.SessionTicketsDisabled = true // libpq never resumes; a ticket costs a write and memory
	c.DynamicRecordSizingDisabled = true
	return c
}

// Serve accepts on l until Shutdown.
func (g *Gateway) Serve(l net.Listener) error { return g.Gate.Serve(l, g.accept) }

// Shutdown ends every session in order and closes the warm connections.
func (g *Gateway) Shutdown(ctx context.Context) {
	g.Gate.Shutdown(ctx)
	g.pool.Close()
	defer context.AfterFunc(ctx, g.stop)()
	g.recycling.Wait()
	g.stop()
}

// Forget closes the warm connections to a server, and lets none that is in use
// now become warm: call it when the server's address, credentials or roles
// change.
func (g *Gateway) Forget(server az.ID) { g.pool.Forget(server.Key()) }
