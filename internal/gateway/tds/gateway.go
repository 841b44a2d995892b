package tds

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
	// TLS holds GetCertificate (or Certificates); the rest is ours.
	TLS    *tls.Config
	Domain string // what follows <server>. in host names: database.D
	// STSURL is where clients are told to get tokens: an authority and a tenant,
	// without a slash at the end.
	STSURL string
	// SPN is what they are told to get one for; "" for Azure SQL Database's.
	SPN    string
	Limits gateway.Limits
	Warm   gateway.Warm
	// Terminate ends a backend session that an attention and a closed connection
	// did not end. Nil for no such means.
	Terminate func(ctx context.Context, server az.ID, user string, session uint64) error
	// Repair is called when a server refuses a login's password or wants it
	// changed: after it, the login is authorised and tried once more. Nil for no
	// such means.
	Repair func(ctx context.Context, server az.ID, user string) error
	// Log gets one line a refused login; Metrics may be nil.
	Log     *slog.Logger
	Metrics *metrics.Set
	Clock   az.Clock
}

// usualSPN is the resource of Azure SQL Database.
const usualSPN = "https://database.windows.net/"

// Gateway is a SQL Server gateway. The embedded Gate has Sessions, Recheck and
// End.
type Gateway struct {
	*gateway.Gate
	rules      gateway.Rules
	wrappedTLS *tls.Config // of TLS in PRELOGIN packets
	strictTLS  *tls.Config // of TLS first
	domain     string
	stsURL     string
	spn        string
	log        *slog.Logger
	clock      az.Clock
	pool       *gateway.Pool[*backend]

	terminate func(ctx context.Context, server az.ID, user string, session uint64) error
	repair    func(ctx context.Context, server az.ID, user string) error
	ending    chan struct{} // room for those who terminate: each takes a connection to the server
	recycling sync.WaitGroup
	ctx       context.Context // of what recycling waits for
	stop      context.CancelFunc
}

// New makes a gateway that Serve then runs. Shutdown ends it.
func New(c Config) (*Gateway, error) {
	if c.TLS == nil || c.TLS.GetCertificate == nil && len(c.TLS.Certificates) == 0 {
		return nil, errors.New("cannot make a SQL Server gateway without a certificate")
	}
	if c.STSURL == "" {
		return nil, errors.New("cannot make a SQL Server gateway without the URL where clients get tokens")
	}
	if c.SPN == "" {
		c.SPN = usualSPN
	}
	gate, err := gateway.New(gateway.Options{Protocol: "tds", Limits: c.Limits, Log: c.Log, Metrics: c.Metrics, Clock: c.Clock})
	if err != nil {
		return nil, err
	}
	g := &Gateway{Gate: gate, rules: c.Rules, domain: strings.ToLower(c.Domain), stsURL: c.STSURL, spn: c.SPN, log: c.Log, clock: c.Clock,
		pool: gateway.NewPool[*backend](c.Warm), terminate: c.Terminate, repair: c.Repair, ending: make(chan struct{}, 4)}
	g.ctx, g.stop = context.WithCancel(context.Background())
	g.strictTLS = serverTLS(c.TLS)
	g.strictTLS.NextProtos = []string{alpn}
	g.wrappedTLS = serverTLS(c.TLS)
	// No client expects another version inside PRELOGIN packets: with 1.3 its
	// last flight and its login would come in an order that TDS does not have.
	g.wrappedTLS.MaxVersion = tls.VersionTLS12
	return g, nil
}

// serverTLS completes the configuration of the client's side.
func serverTLS(c *tls.Config) *tls.Config {
	c = c.Clone()
	c.MinVersion, c.NextProtos = tls.VersionTLS12, nil
	// X25519 alone of the fast ones: a post-quantum share costs half as much
	// again for each login.
	c.CurvePreferences = []tls.CurveID{tls.X25519, tls.CurveP256, tls.CurveP384}
	c.SessionTicketsDisabled = true // drivers never resume
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
