package proxy

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/jackc/pgx/v5/pgconn"
	goredis "github.com/redis/go-redis/v9"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/gateway"
	"github.com/hawser/hawser/internal/gateway/dbtest"
	"github.com/hawser/hawser/internal/gateway/mysql"
	"github.com/hawser/hawser/internal/gateway/pg"
	"github.com/hawser/hawser/internal/gateway/redis"
	"github.com/hawser/hawser/internal/gateway/tds"
	"github.com/hawser/hawser/internal/gateway/tds/tdstest"
	"github.com/hawser/hawser/internal/store/storetest"
)

// postgresServer is the real PostgreSQL behind the tests of this package,
// started when the first asks: fuzzing workers never do.
var postgresServer struct {
	once sync.Once
	s    *storetest.Postgres
	err  error
}

func realPostgres(t testing.TB) *storetest.Postgres {
	t.Helper()
	p := &postgresServer
	p.once.Do(func() { p.s, p.err = startPostgres() })
	if p.err != nil {
		t.Fatal(p.err)
	}
	return p.s
}

func startPostgres() (*storetest.Postgres, error) {
	s, err := storetest.NewPostgres()
	if err != nil {
		return nil, err
	}
	conn, err := pgconn.Connect(context.Background(), s.URL("postgres"))
	if err != nil {
		return s, err
	}
	for _, sql := range []string{"CREATE ROLE app LOGIN PASSWORD 'app secret'", "CREATE DATABASE appdb OWNER app", "CREATE DATABASE otherdb"} {
		err = errors.Join(err, conn.Exec(context.Background(), sql).Close())
	}
	return s, errors.Join(err, conn.Close(context.Background()))
}

func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "program" {
		os.Exit(program(os.Args[2:]))
	}
	code := m.Run()
	if postgresServer.s != nil {
		postgresServer.s.Remove()
	}
	os.Exit(code)
}

const testOID = "11111111-1111-1111-1111-111111111111"

// plane is the small plane of a test: real gateways before real servers, a
// source of tokens, and what was asked of them.
type plane struct {
	t     testing.TB
	roots *x509.CertPool
	caPEM []byte
	cert  tls.Certificate
	addr  map[Kind]string

	mu      sync.Mutex // guards all below
	serial  int        // of the last token; every one before it is good, too
	life    time.Duration
	fetched int
	noToken error
	targets []gateway.Target
	shown   []string // tokens
}

// newPlane opens the gateways of the kinds named.
func newPlane(t testing.TB, kinds ...Kind) *plane {
	t.Helper()
	return newPlaneFor(t, func(p *plane) { p.certifyFor("s1.db.test", "localhost") }, kinds...)
}

func newPlaneFor(t testing.TB, certify func(*plane), kinds ...Kind) *plane {
	t.Helper()
	for _, k := range kinds { // servers outlive a test, and have goroutines
		switch k {
		case Postgres:
			realPostgres(t)
		case MySQL:
			dbtest.MariaDB(t)
		case Redis:
			dbtest.Redis(t)
		}
	}
	before := runtime.NumGoroutine() + 1 // os/signal keeps one
	p := &plane{t: t, addr: map[Kind]string{}, life: time.Hour}
	certify(p)
	t.Cleanup(func() { settle(t, before+len(kinds)) }) // database drivers keep one
	for _, k := range kinds {
		p.open(k)
	}
	return p
}

func (p *plane) certifyFor(names ...string) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		p.t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		DNSNames: names, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		p.t.Fatal(err)
	}
	p.cert = tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	c, _ := x509.ParseCertificate(der)
	p.roots = x509.NewCertPool()
	p.roots.AddCert(c)
	p.caPEM = pemOf(der)
}

// gatewayDoor is what the real gateways have in common.
type gatewayDoor interface {
	Serve(net.Listener) error
	Shutdown(context.Context)
}

func (p *plane) open(k Kind) {
	conf := &tls.Config{Certificates: []tls.Certificate{p.cert}}
	rules := gateway.Rules{Verify: p.verify, Authorize: p.authorize(k)}
	log := slog.New(slog.DiscardHandler)
	var g gatewayDoor
	var err error
	switch k {
	case Postgres:
		g, err = pg.New(pg.Config{Rules: rules, TLS: conf, Domain: "db.test", Log: log, Clock: time.Now})
	case MySQL:
		g, err = mysql.New(mysql.Config{Rules: rules, TLS: conf, Domain: "db.test", Log: log, Clock: time.Now})
	case Redis:
		g, err = redis.New(redis.Config{Rules: rules, TLS: conf, Domain: "db.test", Log: log, Clock: time.Now})
	case SQLServer:
		g, err = tds.New(tds.Config{Rules: rules, TLS: conf, Domain: "db.test", STSURL: "https://login.test/t", Log: log, Clock: time.Now})
	}
	if err != nil {
		p.t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		p.t.Fatal(err)
	}
	p.addr[k] = l.Addr().String()
	done := make(chan struct{})
	go func() { defer close(done); _ = g.Serve(l) }()
	p.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		g.Shutdown(ctx)
		<-done
	})
}

func (p *plane) verify(_ context.Context, token az.Secret) (az.Principal, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.shown = append(p.shown, token.Reveal())
	c, err := claimsOf(token)
	if err != nil || c.ObjectID != testOID {
		return az.Principal{}, az.Errorf(az.Unauthorized, gateway.InvalidFormat, "not a token")
	}
	return az.Principal{ObjectID: testOID, Kind: az.ServicePrincipal, Expires: time.Now().Add(p.life)}, nil
}

var testServers = map[Kind]az.ID{
	Postgres:  az.MustParseID("/subscriptions/s/resourceGroups/g/providers/Microsoft.DBforPostgreSQL/flexibleServers/s1"),
	MySQL:     az.MustParseID("/subscriptions/s/resourceGroups/g/providers/Microsoft.DBforMySQL/flexibleServers/s1"),
	Redis:     az.MustParseID("/subscriptions/s/resourceGroups/g/providers/Microsoft.Cache/redis/s1"),
	SQLServer: az.MustParseID("/subscriptions/s/resourceGroups/g/providers/Microsoft.Sql/servers/s1"),
}

// authorize lets the role app in, and gives the real server of a kind.
func (p *plane) authorize(k Kind) gateway.Authorize {
	grant := gateway.Grant{Server: testServers[k], User: "app", Password: az.NewSecret("app secret")}
	switch k {
	case Postgres:
		grant.Addr = realPostgres(p.t).Addr()
	case MySQL:
		s := dbtest.MariaDB(p.t)
		s.Exec(p.t, "CREATE DATABASE IF NOT EXISTS appdb", "CREATE DATABASE IF NOT EXISTS otherdb",
			"CREATE USER IF NOT EXISTS app IDENTIFIED BY 'app secret'", "GRANT ALL ON appdb.* TO app", "GRANT ALL ON otherdb.* TO app")
		grant.Addr, grant.TLS = s.Addr, s.TLS()
	case Redis:
		s := dbtest.Redis(p.t)
		c := goredis.NewClient(&goredis.Options{Addr: s.Addr, Password: s.Password, TLSConfig: s.TLS()})
		if err := c.Do(context.Background(), "ACL", "SETUSER", "app", "reset", "on", ">app secret", "+@all", "-@admin", "allkeys", "allchannels").Err(); err != nil {
			p.t.Fatal(err)
		}
		_ = c.Close()
		grant.Addr, grant.TLS = s.Addr, s.TLS()
	case SQLServer:
		s := tdstest.Start(p.t, tdstest.Options{})
		s.SetLogin(tdstest.Login{Name: "app", Password: "app secret"})
		grant.Addr, grant.TLS = s.Addr(), s.ClientTLS()
	}
	return func(_ context.Context, _ az.Principal, want gateway.Target) (gateway.Grant, error) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.targets = append(p.targets, want)
		known := want.User == "app" || want.User == testOID || want.User == "" && k == SQLServer
		if !known || want.Server != "" && want.Server != "s1" {
			return gateway.Grant{}, az.Errorf(az.Forbidden, "NotMapped", "not mapped")
		}
		g := grant
		g.Database = want.Database
		return g, nil
	}
}

// token is a Source.
func (p *plane) token(context.Context) (az.Secret, time.Time, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fetched++
	if p.noToken != nil {
		return az.Secret{}, time.Time{}, p.noToken
	}
	return az.NewSecret(testToken(testOID, p.serial)), time.Now().Add(p.life), nil
}

// turn makes the tokens that are fetched from now on others.
func (p *plane) turn() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.serial++
}

func (p *plane) seen() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.shown...)
}

func testToken(oid string, serial int) string {
	b, _ := json.Marshal(map[string]any{"oid": oid, "serial": serial, "filler": strings.Repeat("groups ", 300)})
	return "eyJhbGciOiJSUzI1NiJ9." + base64.RawURLEncoding.EncodeToString(b) + ".sig"
}

// testDoor is a door under test.
type testDoor struct {
	*Door
	addr string
	log  *lockedBuffer
}

// door opens a door to the plane's gateway.
func (p *plane) door(k Kind, change ...func(*Config)) *testDoor {
	p.t.Helper()
	d := &testDoor{log: &lockedBuffer{}}
	c := Config{Upstream: Upstream{Kind: k, Name: "s1", Host: "s1.db.test", Addr: p.addr[k], Roots: p.roots, User: "app", Database: "appdb", Token: p.token},
		Log: slog.New(slog.NewTextHandler(d.log, &slog.HandlerOptions{Level: slog.LevelDebug})), Clock: time.Now}
	if k == Redis {
		c.Database = "0"
	}
	for _, f := range change {
		f(&c)
	}
	var err error
	if d.Door, err = New(c); err != nil {
		p.t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		p.t.Fatal(err)
	}
	d.addr = l.Addr().String()
	d.serve(p.t, l)
	p.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		d.Shutdown(ctx)
		if strings.Contains(d.log.String(), "eyJ") {
			p.t.Error("a token is in the log")
		}
	})
	return d
}

func (d *testDoor) serve(t testing.TB, l net.Listener) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := d.Serve(l); err != nil && !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
}

func (d *testDoor) port() string {
	_, port, _ := net.SplitHostPort(d.addr)
	return port
}

// unix opens a socket beside the port.
func (d *testDoor) unix(t testing.TB, k Kind) string {
	dir, err := os.MkdirTemp("", "hwp") // short: a socket's path has 107 characters
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	l, path, err := listenUnix(dir, "c1", k)
	if err != nil {
		t.Fatal(err)
	}
	d.serve(t, l)
	return path
}

var errStrange = errors.New("somebody else")

func strangers(c *Config) { c.Admit = func(net.Conn) error { return errStrange } }

// nobodyThere is an address at which nobody listens.
func nobodyThere(t testing.TB) func(*Config) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_ = l.Close()
	return func(c *Config) { c.Addr = addr }
}

// settle waits for goroutines to be as few as before.
func settle(t testing.TB, before int) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		n := runtime.NumGoroutine()
		if n <= before {
			return
		}
		if time.Now().After(deadline) {
			buf := make([]byte, 1<<20)
			t.Fatalf("%d goroutines were running before, %d are now:\n%s", before, n, buf[:runtime.Stack(buf, true)])
		}
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// deaf is a server that takes connections and answers with fixed bytes; it
// returns its address and what it was told.
func deaf(t testing.TB, answer string) (addr string, heard func() string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var got lockedBuffer
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte(answer))
			_ = c.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
			_, _ = io.Copy(&got, c)
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return l.Addr().String(), got.String
}

func write(t testing.TB, name string, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

type secret = az.Secret

func newSecret(s string) secret { return az.NewSecret(s) }

// planeCredential is the plane's token as a credential of Azure's library.
type planeCredential struct{ p *plane }

func (c planeCredential) GetToken(ctx context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	if len(o.Scopes) != 1 || !strings.HasSuffix(o.Scopes[0], "/.default") {
		return azcore.AccessToken{}, fmt.Errorf("scopes %v", o.Scopes)
	}
	s, ends, err := c.p.token(ctx)
	return azcore.AccessToken{Token: s.Reveal(), ExpiresOn: ends}, err
}
