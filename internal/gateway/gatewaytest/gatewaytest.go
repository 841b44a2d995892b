// Package gatewaytest holds the promises that every database gateway makes,
// whatever it speaks, as tests that each of them runs: Run.
//
// A protocol brings its gateway, a real server, and a driver that people use;
// the suite brings the rules of a small plane and the attacks. What only one
// protocol has is tested in its own package.
package gatewaytest

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/gateway"
)

// Protocol is a gateway, its real server and its real client.
type Protocol struct {
	// Domain is what follows the server's name in host names: postgres.D.
	Domain string
	// New makes the gateway.
	New func(Config) (Gateway, error)
	// Grant is how the real server is reached by the role of App.
	Grant gateway.Grant
	// User is what a client names to get that role.
	User string
	// Open logs in with a driver.
	Open func(ctx context.Context, at At) (Client, error)
	// Denied reports whether an error of Open is the protocol's own answer to
	// somebody who may not log in.
	Denied func(error) bool
	// Secure brings a new connection under TLS as a client does.
	Secure func(net.Conn, *tls.Config) (net.Conn, error)
	// Plain is a login without TLS, as far as bytes can be sent at once.
	Plain []byte
}

// Config is what every gateway's Config has.
type Config struct {
	Rules  gateway.Rules
	TLS    *tls.Config
	Domain string
	Limits gateway.Limits
	Log    *slog.Logger
	Clock  az.Clock
}

// Gateway is what every gateway is.
type Gateway interface {
	Serve(net.Listener) error
	Shutdown(context.Context)
	Sessions() []gateway.Session
	Recheck(context.Context, func(context.Context, gateway.Session) error) int
	End(id string, why gateway.Reason) bool
}

// At is where and as whom a client logs in.
type At struct {
	Addr  string // of the gateway
	Host  string // the server's name under the domain, for TLS
	Roots *x509.CertPool
	User  string
	Token string
	Dial  func(ctx context.Context) (net.Conn, error)
}

// Client is one session of a driver.
type Client interface {
	// Ask makes a round trip to the server.
	Ask(ctx context.Context) error
	// Sleep makes the server work for a minute.
	Sleep(ctx context.Context) error
	// Load makes the server answer with n bytes or a little more, and reads
	// them.
	Load(ctx context.Context, n int) error
	// Close says goodbye.
	Close() error
}

// App is the principal whose token is GoodToken.
const App = "11111111-1111-1111-1111-111111111111"

// GoodToken is App's token; every other is refused.
const GoodToken = "eyJhbGciOiJSUzI1NiJ9.eyJvaWQiOiIxMTExMTExMS0xMTExLTExMTEtMTExMS0xMTExMTExMTExMTEifQ.c2ln"

// refused are tokens and why each is.
var refused = map[string]*az.Error{
	"eyJ.another-audience.sig": az.Errorf(az.Unauthorized, gateway.InvalidAudience, "wrong audience"),
	"eyJ.expired.sig":          az.Errorf(az.Unauthorized, gateway.ExpiredToken, "expired"),
	"eyJ.no-oid.sig":           az.Errorf(az.Unauthorized, gateway.MissingOid, "no oid"),
	"eyJ.forged.sig":           az.Errorf(az.Unauthorized, "BadSignature", "the signature is wrong"),
	"eyJ.of-somebody-else.sig": nil, // valid, and not mapped
	"not a token":              az.Errorf(az.Unauthorized, gateway.InvalidFormat, "not a token"),
}

const somebodyElse = "22222222-2222-2222-2222-222222222222"

// plane is the small plane behind a door, and the door.
type plane struct {
	Gateway
	p     Protocol
	addr  string
	roots *x509.CertPool
	log   lockedBuffer

	mu      sync.Mutex
	grant   gateway.Grant
	revoked bool
	events  []gateway.Event
}

func (p *plane) verify(_ context.Context, token az.Secret) (az.Principal, error) {
	if token.Reveal() == GoodToken {
		return az.Principal{ObjectID: App, Kind: az.ServicePrincipal, Expires: time.Now().Add(time.Hour)}, nil
	}
	err, known := refused[token.Reveal()]
	if known && err == nil {
		return az.Principal{ObjectID: somebodyElse, Kind: az.User, Expires: time.Now().Add(time.Hour)}, nil
	}
	if !known {
		err = az.Errorf(az.Unauthorized, gateway.InvalidFormat, "not a token")
	}
	return az.Principal{}, err
}

func (p *plane) authorize(_ context.Context, who az.Principal, want gateway.Target) (gateway.Grant, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case want.Server != "" && want.Server != "s1":
		return gateway.Grant{}, az.Errorf(az.Invalid, "ServerNotFound", "there is no server of this name")
	case p.revoked || who.ObjectID != App:
		return gateway.Grant{}, az.Errorf(az.Forbidden, "RoleNotMapped", "the role is mapped to somebody else")
	}
	g := p.grant
	g.Record = p.record
	if g.Database == "" {
		g.Database = want.Database
	}
	return g, nil
}

func (p *plane) record(_ context.Context, e gateway.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.events = append(p.events, e)
}

func (p *plane) recorded() []gateway.Event {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]gateway.Event(nil), p.events...)
}

// revoke takes the right and has the open sessions looked at.
func (p *plane) revoke() int {
	p.mu.Lock()
	p.revoked = true
	p.mu.Unlock()
	return p.Recheck(context.Background(), gateway.Authorize(p.authorize).Still())
}

// open starts a door and checks at the end of the test that nothing of it is
// left.
func open(t testing.TB, p Protocol, limits gateway.Limits, change ...func(*plane)) *plane {
	t.Helper()
	before := runtime.NumGoroutine()
	d := &plane{p: p, grant: p.Grant}
	d.grant.Server = az.MustParseID("/subscriptions/s/resourceGroups/g/providers/Microsoft.Test/servers/s1")
	for _, f := range change {
		f(d)
	}
	var cert tls.Certificate
	cert, _, d.roots = Certificate(t, p.Domain)
	var err error
	d.Gateway, err = p.New(Config{Rules: gateway.Rules{Verify: d.verify, Authorize: d.authorize}, Domain: p.Domain, Limits: limits, Clock: time.Now,
		TLS: &tls.Config{Certificates: []tls.Certificate{cert}}, Log: slog.New(slog.NewTextHandler(&d.log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	if err != nil {
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
		Settle(t, before)
		d.noSecrets(t)
	})
	return d
}

// noSecrets looks for what must never be logged.
func (p *plane) noSecrets(t testing.TB) {
	t.Helper()
	for what, secret := range map[string]string{"the token": GoodToken, "the backend's password": p.p.Grant.Password.Reveal(), "a refused token": "eyJ.forged.sig"} {
		if secret != "" && bytes.Contains(p.log.bytes(), []byte(secret)) {
			t.Errorf("the log holds %s", what)
		}
	}
}

// Settle waits for goroutines to be as few as before.
func Settle(t testing.TB, before int) {
	t.Helper()
	for deadline := time.Now().Add(15 * time.Second); ; time.Sleep(10 * time.Millisecond) {
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

// Certificate makes one for localhost, 127.0.0.1 and every name below a domain.
// file holds it in PEM, and roots trust it.
func Certificate(t testing.TB, domain string) (cert tls.Certificate, file string, roots *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		DNSNames: []string{"localhost", "*." + domain}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	file = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	roots = x509.NewCertPool()
	roots.AppendCertsFromPEM(text)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, file, roots
}

// lockedBuffer is a log that many write.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) bytes() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Clone(l.b.Bytes())
}
