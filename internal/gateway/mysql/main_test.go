package mysql_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
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

	driver "github.com/go-sql-driver/mysql"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/gateway"
	"github.com/hawser/hawser/internal/gateway/dbtest"
	"github.com/hawser/hawser/internal/gateway/gatewaytest"
	"github.com/hawser/hawser/internal/gateway/mysql"
)

const (
	domain       = "mysql.hawser.test"
	appOID       = "11111111-1111-1111-1111-111111111111"
	colleagueOID = "22222222-2222-2222-2222-222222222222"
	appTok       = "eyJhbGciOiJSUzI1NiJ9.app.sig"
	colleague    = "eyJhbGciOiJSUzI1NiJ9.colleague.sig"
)

var prepare sync.Once

// server is the real MariaDB behind the tests of this package, with the users
// of the small plane.
func server(t testing.TB) *dbtest.Server {
	t.Helper()
	s := dbtest.MariaDB(t)
	prepare.Do(func() {
		s.Exec(t, "CREATE DATABASE appdb", "CREATE DATABASE otherdb", "CREATE DATABASE private",
			"CREATE USER app IDENTIFIED BY 'app secret'", "GRANT ALL ON appdb.* TO app", "GRANT ALL ON otherdb.* TO app",
			"CREATE USER team IDENTIFIED BY 'team secret'", "GRANT ALL ON appdb.* TO team",
			"CREATE USER modern IDENTIFIED VIA ed25519 USING PASSWORD('modern secret')", "GRANT ALL ON appdb.* TO modern",
			"CREATE USER nopw", "CREATE ROLE extra", "GRANT extra TO app")
	})
	return s
}

// door is a gateway under test with the rules of a small plane: two tokens,
// two principals, a map of users.
type door struct {
	*mysql.Gateway
	t      testing.TB
	addr   string
	ca     string // file
	roots  *x509.CertPool
	target *dbtest.Server

	mu        sync.Mutex
	users     map[string]az.Secret // user → backend password
	events    []gateway.Event
	asked     []gateway.Target
	down      bool // the store is away
	tls       *tls.Config
	addrOf    string // the backend, where it is not target
	statement func(context.Context, string) (string, bool)
}

func (d *door) verify(_ context.Context, token az.Secret) (az.Principal, error) {
	switch token.Reveal() {
	case appTok:
		return az.Principal{ObjectID: appOID, Kind: az.ServicePrincipal}, nil
	case colleague:
		return az.Principal{ObjectID: colleagueOID, Kind: az.User}, nil
	case "aud":
		return az.Principal{}, az.Errorf(az.Unauthorized, gateway.InvalidAudience, "wrong audience")
	case "late":
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
	password, ok := d.users[want.User]
	if !ok {
		return gateway.Grant{}, az.Errorf(az.Forbidden, "NotMapped", "user is not mapped")
	}
	addr := d.addrOf
	if addr == "" {
		addr = d.target.Addr
	}
	return gateway.Grant{Server: az.MustParseID("/subscriptions/s/providers/Microsoft.DBforMySQL/flexibleServers/s1"),
		Addr: addr, TLS: d.tls, User: want.User, Password: password, Database: want.Database, Record: d.record, Statement: d.statement}, nil
}

func (d *door) record(_ context.Context, e gateway.Event) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.events = append(d.events, e)
}

func (d *door) ends() []gateway.Event {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []gateway.Event
	for _, e := range d.events {
		if e.Ended {
			out = append(out, e)
		}
	}
	return out
}

func (d *door) targets() []gateway.Target {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.asked)
}

func (d *door) revoke(user string) {
	d.mu.Lock()
	delete(d.users, user)
	d.mu.Unlock()
}

func (d *door) recheck() int {
	return d.Recheck(context.Background(), gateway.Authorize(d.authorize).Still())
}

// terminate does what the connector does: KILL as the owner.
func (d *door) terminate(ctx context.Context, _ az.ID, _ string, thread uint64) error {
	db, err := sql.Open("mysql", fmt.Sprintf("root:%s@unix(%s)/", d.target.Password, d.target.Socket))
	if err != nil {
		return err
	}
	defer db.Close()
	_, err = db.ExecContext(ctx, fmt.Sprintf("KILL %d", thread))
	return err
}

// open starts a gateway in front of the shared server and checks at the end
// that nothing of it is left running.
func open(t testing.TB, change ...func(*mysql.Config, *door)) *door {
	t.Helper()
	d := &door{t: t, target: server(t), users: map[string]az.Secret{"app": az.NewSecret("app secret"), "team": az.NewSecret("team secret"),
		"modern": az.NewSecret("modern secret"), "nopw": az.NewSecret(""), "absent": az.NewSecret("x")}}
	before := runtime.NumGoroutine()
	cert := d.certificate(t)
	conf := mysql.Config{Rules: gateway.Rules{Verify: d.verify, Authorize: d.authorize},
		TLS: &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return cert, nil }}, Domain: domain,
		Terminate: d.terminate, Log: slog.New(slog.DiscardHandler), Clock: time.Now}
	if testing.Verbose() {
		conf.Log = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	for _, f := range change {
		f(&conf, d)
	}
	var err error
	if d.Gateway, err = mysql.New(conf); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d.addr = l.Addr().String()
	served := make(chan error, 1)
	go func() { served <- d.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
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

// eventually waits for something to become true.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: it did not happen", what)
		}
	}
}

func (d *door) certificate(t testing.TB) *tls.Certificate {
	t.Helper()
	var cert tls.Certificate
	cert, d.ca, d.roots = gatewaytest.Certificate(t, domain)
	return &cert
}

// config is the driver's configuration of app's login.
func (d *door) config(change ...func(*driver.Config)) *driver.Config {
	c := driver.NewConfig()
	c.Net, c.Addr, c.User, c.Passwd, c.DBName = "tcp", d.addr, "app", appTok, "appdb"
	c.AllowCleartextPasswords, c.Timeout = true, 10*time.Second
	c.TLS = &tls.Config{RootCAs: d.roots, ServerName: "localhost"}
	c.Logger = log{d.t}
	for _, f := range change {
		f(c)
	}
	return c
}

// log is the driver's log, which would go to the test program's stderr.
type log struct{ t testing.TB }

func (l log) Print(v ...any) { fmt.Fprintln(l.t.Output(), v...) }

// try logs in with the driver.
func (d *door) try(change ...func(*driver.Config)) (*sql.Conn, func(), error) {
	connector, err := driver.NewConnector(d.config(change...))
	if err != nil {
		return nil, nil, err
	}
	db := sql.OpenDB(connector)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c, err := db.Conn(ctx)
	if err != nil {
		_ = db.Close()
		return nil, nil, err
	}
	return c, func() { _ = c.Close(); _ = db.Close() }, nil
}

// login is try, which must succeed.
func (d *door) login(change ...func(*driver.Config)) *sql.Conn {
	d.t.Helper()
	c, done, err := d.try(change...)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(done)
	return c
}

// visit logs in, does something and says goodbye, and waits until the backend
// connection is warm again or gone.
func (d *door) visit(do func(*sql.Conn), change ...func(*driver.Config)) {
	d.t.Helper()
	c, done, err := d.try(change...)
	if err != nil {
		d.t.Fatal(err)
	}
	do(c)
	done()
	eventually(d.t, "the session ends", func() bool { return len(d.Sessions()) == 0 })
}

func background(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// ask runs a query that has one answer.
func ask(t testing.TB, c *sql.Conn, query string, args ...any) string {
	t.Helper()
	var s sql.NullString
	if err := c.QueryRowContext(background(t), query, args...).Scan(&s); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	if !s.Valid {
		return "NULL"
	}
	return s.String
}

func exec(t testing.TB, c *sql.Conn, query string, args ...any) {
	t.Helper()
	if _, err := c.ExecContext(background(t), query, args...); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

// errno returns the number of a server's error.
func errno(err error) uint16 {
	var e *driver.MySQLError
	if errors.As(err, &e) {
		return e.Number
	}
	return 0
}

type azID = az.ID

func secret(s string) az.Secret { return az.NewSecret(s) }

// grant is app's.
func (d *door) grant() gateway.Grant {
	d.t.Helper()
	g, err := d.authorize(context.Background(), az.Principal{}, gateway.Target{User: "app"})
	if err != nil {
		d.t.Fatal(err)
	}
	return g
}
