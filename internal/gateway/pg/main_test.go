package pg_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/gateway"
	"github.com/hawser/hawser/internal/gateway/gatewaytest"
	"github.com/hawser/hawser/internal/gateway/pg"
	"github.com/hawser/hawser/internal/store/storetest"
)

// server is the real PostgreSQL behind every test of this package.
var server *storetest.Postgres

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	flag.Parse()
	var err error
	if server, err = storetest.NewPostgres(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer server.Remove()
	conn, err := pgconn.Connect(context.Background(), server.URL("postgres"))
	if err == nil {
		for _, sql := range []string{"CREATE ROLE app LOGIN PASSWORD 'app secret'", "CREATE ROLE other LOGIN PASSWORD 'other secret'",
			`CREATE ROLE "Group With Space" LOGIN PASSWORD 'group secret'`, "CREATE DATABASE appdb OWNER app", "CREATE DATABASE otherdb",
			"REVOKE CONNECT ON DATABASE otherdb FROM public", "GRANT other TO app"} {
			if err = conn.Exec(context.Background(), sql).Close(); err != nil {
				break
			}
		}
		_ = conn.Close(context.Background())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

const (
	domain  = "postgres.hawser.test"
	appOID  = "11111111-1111-1111-1111-111111111111"
	appTok  = "eyJhbGciOiJSUzI1NiJ9.app.sig"
	lateTok = "eyJhbGciOiJSUzI1NiJ9.late.sig"
)

// door is a gateway under test with the rules of a small plane: one token, one
// principal, a map of roles.
type door struct {
	*pg.Gateway
	addr   string
	host   string
	port   string
	ca     string // file
	pool   *x509.CertPool
	target *storetest.Postgres

	mu     sync.Mutex
	roles  map[string]az.Secret // role → backend password, for appOID
	events []gateway.Event
	asked  []gateway.Target
	down   bool // the store is away
	tls    *tls.Config
	addrOf string // the backend, where it is not target
}

func (d *door) verify(_ context.Context, token az.Secret) (az.Principal, error) {
	switch token.Reveal() {
	case appTok:
		return az.Principal{ObjectID: appOID, Kind: az.ServicePrincipal}, nil
	case "colleague":
		return az.Principal{ObjectID: "22222222-2222-2222-2222-222222222222", Kind: az.User}, nil
	case "aud":
		return az.Principal{}, az.Errorf(az.Unauthorized, gateway.InvalidAudience, "wrong audience")
	case lateTok:
		return az.Principal{}, az.Errorf(az.Unauthorized, gateway.ExpiredToken, "expired")
	case "no-oid":
		return az.Principal{}, az.Errorf(az.Unauthorized, gateway.MissingOid, "no oid")
	case "forged":
		return az.Principal{}, az.Errorf(az.Unauthorized, "BadSignature", "the signature is wrong")
	case "store-away":
		return az.Principal{}, az.Errorf(az.Unavailable, "Store", "the store is away").Because(&net.OpError{Op: "dial", Net: "tcp", Err: errors.New("10.0.0.7: refused")})
	}
	if strings.HasPrefix(token.Reveal(), "long") {
		return az.Principal{ObjectID: appOID}, nil
	}
	return az.Principal{}, az.Errorf(az.Unauthorized, gateway.InvalidFormat, "not a token")
}

func (d *door) authorize(_ context.Context, who az.Principal, want gateway.Target) (gateway.Grant, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked = append(d.asked, want)
	if d.down {
		return gateway.Grant{}, az.Errorf(az.Unavailable, "Store", "the store is away")
	}
	if want.Server != "" && want.Server != "s1" {
		return gateway.Grant{}, az.Errorf(az.Invalid, "NoServer", "there is no server %q", want.Server)
	}
	password, ok := d.roles[want.User]
	if !ok {
		return gateway.Grant{}, az.Errorf(az.Forbidden, "NotMapped", "role is not mapped")
	}
	addr := d.addrOf
	if addr == "" {
		addr = d.target.Addr()
	}
	return gateway.Grant{Server: az.MustParseID("/subscriptions/s/providers/Microsoft.DBforPostgreSQL/flexibleServers/s1"),
		Addr: addr, TLS: d.tls, User: want.User, Password: password, Database: want.Database, Record: d.record}, nil
}

func (d *door) record(_ context.Context, e gateway.Event) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.events = append(d.events, e)
}

func (d *door) revoke(role string) {
	d.mu.Lock()
	delete(d.roles, role)
	d.mu.Unlock()
}

func (d *door) recheck() int {
	return d.Recheck(context.Background(), gateway.Authorize(d.authorize).Still())
}

// open starts a gateway in front of the shared server and checks at the end
// that nothing of it is left running.
func open(t testing.TB, change ...func(*pg.Config, *door)) *door {
	t.Helper()
	before := runtime.NumGoroutine()
	d := &door{target: server, roles: map[string]az.Secret{"app": az.NewSecret("app secret"),
		"Group With Space": az.NewSecret("group secret"), "team@corp": az.NewSecret("x")}}
	cert := d.certificate(t)
	conf := pg.Config{Rules: gateway.Rules{Verify: d.verify, Authorize: d.authorize},
		TLS: &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return cert, nil }}, Domain: domain,
		OAuth: pg.OAuth{Discovery: "https://login.hawser.test/.well-known/openid-configuration", Scope: "db"},
		Log:   slog.New(slog.DiscardHandler), Clock: time.Now}
	if testing.Verbose() {
		conf.Log = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	for _, f := range change {
		f(&conf, d)
	}
	var err error
	if d.Gateway, err = pg.New(conf); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d.addr = l.Addr().String()
	d.host, d.port, _ = net.SplitHostPort(d.addr)
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
		gatewaytest.Settle(t, before)
	})
	return d
}

func (d *door) certificate(t testing.TB) *tls.Certificate {
	t.Helper()
	var cert tls.Certificate
	cert, d.ca, d.pool = gatewaytest.Certificate(t, domain)
	return &cert
}

// psql runs statements through the real psql; conn are further connection
// settings that win over the usual ones.
func (d *door) psql(t testing.TB, sql, conn string) (string, error) {
	t.Helper()
	cmd := exec.Command("psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-w", "-c", sql,
		fmt.Sprintf("host=localhost hostaddr=127.0.0.1 port=%s user=app dbname=appdb sslmode=verify-full sslrootcert=%s %s", d.port, d.ca, conn))
	cmd.Env = append(os.Environ(), "PGPASSWORD="+appTok, "PGCONNECT_TIMEOUT=10")
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// connect logs in with pgx; more is added to the connection string.
func (d *door) connect(t testing.TB, more string, change ...func(*pgx.ConnConfig)) (*pgx.Conn, error) {
	t.Helper()
	conf, err := pgx.ParseConfig(fmt.Sprintf("host=127.0.0.1 port=%s user=app dbname=appdb password=%s sslmode=verify-full sslrootcert=%s %s", d.port, appTok, d.ca, more))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range change {
		f(conf)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return pgx.ConnectConfig(ctx, conf)
}

func (d *door) mustConnect(t testing.TB, more string, change ...func(*pgx.ConnConfig)) *pgx.Conn {
	t.Helper()
	c, err := d.connect(t, more, change...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeConn(c) })
	return c
}

func closeConn(c *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	_ = c.Close(ctx)
}

// ask runs a query that has one text answer.
func ask(t testing.TB, c *pgx.Conn, sql string, args ...any) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var s string
	if err := c.QueryRow(ctx, sql, args...).Scan(&s); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return s
}

type principal = az.Principal

func az0(s string) az.Secret { return az.NewSecret(s) }

// targets returns what Authorize was asked for.
func (d *door) targets() []gateway.Target {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.asked)
}
