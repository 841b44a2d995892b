package tds_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	mssql "github.com/microsoft/go-mssqldb"
	"github.com/microsoft/go-mssqldb/msdsn"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/gateway"
	"github.com/hawser/hawser/internal/gateway/gatewaytest"
	"github.com/hawser/hawser/internal/gateway/tds"
	"github.com/hawser/hawser/internal/gateway/tds/tdstest"
)

const (
	domain = "database.hawser.test"
	appOID = "11111111-1111-1111-1111-111111111111"
	appTok = "eyJhbGciOiJSUzI1NiJ9.app.sig"
	stsURL = "https://login.hawser.test/adfs"
	secret = "app }secret; ä"
)

// door is a gateway under test with the rules of a small plane: one server,
// one token, one principal.
type door struct {
	*tds.Gateway
	addr string
	port string
	ca   string // file
	pool *x509.CertPool
	sql  *tdstest.Server

	mu     sync.Mutex
	grant  gateway.Grant
	revoke bool
	full   bool
	down   bool
	asked  []gateway.Target
	events []gateway.Event
}

func (d *door) verify(_ context.Context, token az.Secret) (az.Principal, error) {
	switch token.Reveal() {
	case appTok:
		return az.Principal{ObjectID: appOID, Kind: az.ServicePrincipal}, nil
	case "colleague":
		return az.Principal{ObjectID: "22222222-2222-2222-2222-222222222222", Kind: az.User}, nil
	case "aud":
		return az.Principal{}, az.Errorf(az.Unauthorized, gateway.InvalidAudience, "wrong audience")
	case "late":
		return az.Principal{}, az.Errorf(az.Unauthorized, gateway.ExpiredToken, "expired")
	case "away":
		return az.Principal{}, az.Errorf(az.Unavailable, "Store", "the store is away")
	case "timeout":
		return az.Principal{}, az.Errorf(az.Unavailable, "Store", "the store is away").Because(context.DeadlineExceeded)
	case "nobody":
		return az.Principal{}, nil
	}
	if strings.HasPrefix(token.Reveal(), "long") {
		return az.Principal{ObjectID: appOID, Kind: az.ServicePrincipal}, nil
	}
	return az.Principal{}, az.Errorf(az.Unauthorized, "BadSignature", "the signature is wrong")
}

func (d *door) authorize(_ context.Context, _ az.Principal, want gateway.Target) (gateway.Grant, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked = append(d.asked, want)
	switch {
	case want.Server != "" && want.Server != "s1":
		return gateway.Grant{}, az.Errorf(az.Invalid, "ServerNotFound", "there is no server of this name")
	case d.down:
		return gateway.Grant{}, az.Errorf(az.Unavailable, "Store", "the store is away")
	case d.full:
		return gateway.Grant{}, az.Errorf(az.TooMany, "TooManySessions", "too many")
	case d.revoke:
		return gateway.Grant{}, az.Errorf(az.Forbidden, "NotMapped", "the principal has no role")
	}
	g := d.grant
	g.Record = d.record
	if g.Database == "" {
		g.Database = want.Database
	}
	return g, nil
}

func (d *door) record(_ context.Context, e gateway.Event) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.events = append(d.events, e)
}

func (d *door) set(f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f()
}

func (d *door) targets() []gateway.Target {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.asked)
}

func (d *door) recheck() int {
	return d.Recheck(context.Background(), gateway.Authorize(d.authorize).Still())
}

var serverID = az.MustParseID("/subscriptions/s/resourceGroups/g/providers/Microsoft.Sql/servers/s1")

// open starts a gateway in front of a TDS peer and checks at the end that
// nothing of it is left running.
func open(t testing.TB, o tdstest.Options, change ...func(*tds.Config, *door)) *door {
	t.Helper()
	before := runtime.NumGoroutine()
	t.Cleanup(func() { gatewaytest.Settle(t, before) })
	o.Databases = append(o.Databases, "appdb", "other")
	d := &door{sql: tdstest.Start(t, o)}
	d.sql.SetLogin(tdstest.Login{Name: "app", Password: secret})
	d.grant = gateway.Grant{Server: serverID, Addr: d.sql.Addr(), TLS: d.sql.ClientTLS(), User: "app", Password: az.NewSecret(secret)}
	if o.Encryption == tdstest.NotSupported {
		d.grant.TLS = nil
	}
	cert := d.certificate(t)
	conf := tds.Config{Rules: gateway.Rules{Verify: d.verify, Authorize: d.authorize}, TLS: &tls.Config{Certificates: []tls.Certificate{cert}},
		Domain: domain, STSURL: stsURL, Log: slog.New(slog.DiscardHandler), Clock: time.Now}
	if testing.Verbose() {
		conf.Log = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	for _, f := range change {
		f(&conf, d)
	}
	var err error
	if d.Gateway, err = tds.New(conf); err != nil {
		t.Fatal(err)
	}
	d.serve(t)
	return d
}

func (d *door) serve(t testing.TB) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d.addr = l.Addr().String()
	_, d.port, _ = net.SplitHostPort(d.addr)
	served := make(chan error, 1)
	go func() { served <- d.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		d.Shutdown(ctx)
		if err := <-served; err != nil {
			t.Error(err)
		}
		if n := len(d.Sessions()); n != 0 {
			t.Errorf("%d sessions are left", n)
		}
	})
}

func (d *door) certificate(t testing.TB) tls.Certificate {
	t.Helper()
	var cert tls.Certificate
	cert, d.ca, d.pool = gatewaytest.Certificate(t, domain)
	return cert
}

// how is a login by go-mssqldb.
type how struct {
	token   string // "" for appTok
	library int    // 0 for SecurityToken
	more    string // added to the connection string, and wins
	host    string // in TLS; "" for s1's
	asked   func(spn, sts string)
	dial    func(context.Context) (net.Conn, error)
}

// Dial makes how a dialer of the driver's.
func (h how) DialContext(ctx context.Context, _, _ string) (net.Conn, error) { return h.dial(ctx) }

// HostName keeps the driver from looking names up.
func (h how) HostName() string { return "" }

// connector is go-mssqldb set up to log in.
func (d *door) connector(t testing.TB, h how) driver.Connector {
	t.Helper()
	if h.token == "" {
		h.token = appTok
	}
	if h.host == "" {
		h.host = "s1." + domain
	}
	conf, err := msdsn.Parse(fmt.Sprintf("server=127.0.0.1;port=%s;database=appdb;encrypt=true;certificate=%s;hostnameincertificate=%s;dial timeout=10;%s", d.port, d.ca, h.host, h.more))
	if err != nil {
		t.Fatal(err)
	}
	var c *mssql.Connector
	if h.library == 0 || h.library == mssql.FedAuthLibrarySecurityToken {
		c, err = mssql.NewSecurityTokenConnector(conf, func(context.Context) (string, error) { return h.token, nil })
	} else {
		c, err = mssql.NewActiveDirectoryTokenConnector(conf, mssql.FedAuthADALWorkflowMSI, func(_ context.Context, spn, sts string) (string, error) {
			if h.asked != nil {
				h.asked(spn, sts)
			}
			return h.token, nil
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	if h.dial != nil {
		c.Dialer = h
	}
	return c
}

// connect opens one session.
func (d *door) connect(t testing.TB, h how) (*sql.Conn, error) {
	t.Helper()
	db := sql.OpenDB(d.connector(t, h))
	db.SetMaxOpenConns(1)
	t.Cleanup(func() { _ = db.Close() })
	return db.Conn(background(t))
}

func (d *door) mustConnect(t testing.TB, h how) *sql.Conn {
	t.Helper()
	c, err := d.connect(t, h)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// leave closes a session for good: the driver's pool would keep it.
func leave(t testing.TB, c *sql.Conn) {
	t.Helper()
	_ = c.Raw(func(any) error { return driver.ErrBadConn })
	_ = c.Close()
}

func background(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// ask runs a query that has one text answer.
func ask(t testing.TB, c *sql.Conn, query string, args ...any) string {
	t.Helper()
	var s sql.NullString
	if err := c.QueryRowContext(background(t), query, args...).Scan(&s); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return s.String
}

// number is the number of a server's error, 0 for anything else.
func number(err error) int32 {
	var e mssql.Error
	if errors.As(err, &e) {
		return e.Number
	}
	return 0
}

// eventually waits for something to become true.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: it did not happen", what)
		}
	}
}
