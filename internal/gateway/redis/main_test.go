package redis_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/gateway"
	"github.com/hawser/hawser/internal/gateway/dbtest"
	"github.com/hawser/hawser/internal/gateway/gatewaytest"
	"github.com/hawser/hawser/internal/gateway/redis"
)

const (
	domain   = "redis.hawser.test"
	appOID   = "11111111-1111-1111-1111-111111111111"
	otherOID = "22222222-2222-2222-2222-222222222222"
	appTok   = "eyJhbGciOiJSUzI1NiJ9.app.sig"
	nextTok  = "eyJhbGciOiJSUzI1NiJ9.next.sig"
	otherTok = "eyJhbGciOiJSUzI1NiJ9.other.sig"
	appPass  = "a password of the backend"
)

// door is a gateway under test with the rules of a small plane.
type door struct {
	*redis.Gateway
	addr string
	pool *x509.CertPool
	ca   string // file
	log  lockedBuffer

	mu      sync.Mutex
	life    time.Duration // of the next token verified
	ahead   time.Duration // of the clock
	revoked map[string]bool
	grant   gateway.Grant
	events  []gateway.Event
	asked   []gateway.Target
	killed  []uint64

	elsewhere az.ID // the server that Authorize grants, if not s1
}

func (d *door) now() time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	return time.Now().Add(d.ahead)
}

func (d *door) verify(_ context.Context, token az.Secret) (az.Principal, error) {
	d.mu.Lock()
	end := time.Now().Add(d.ahead + d.life)
	d.mu.Unlock()
	switch t := token.Reveal(); {
	case t == appTok, t == nextTok, strings.HasPrefix(t, "long"):
		return az.Principal{ObjectID: appOID, Kind: az.ServicePrincipal, Expires: end}, nil
	case t == otherTok:
		return az.Principal{ObjectID: otherOID, Kind: az.ServicePrincipal, Expires: end}, nil
	case t == "endless":
		return az.Principal{ObjectID: appOID}, nil
	case t == "aud":
		return az.Principal{}, az.Errorf(az.Unauthorized, gateway.InvalidAudience, "wrong audience")
	case t == "expired":
		return az.Principal{}, az.Errorf(az.Unauthorized, gateway.ExpiredToken, "expired")
	case t == "away":
		return az.Principal{}, az.Errorf(az.Unavailable, "Store", "the store is away")
	}
	return az.Principal{}, az.Errorf(az.Unauthorized, gateway.InvalidFormat, "not a token")
}

func (d *door) authorize(_ context.Context, who az.Principal, want gateway.Target) (gateway.Grant, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked = append(d.asked, want)
	if want.Server != "" && want.Server != "s1" {
		return gateway.Grant{}, az.Errorf(az.Invalid, "NoServer", "there is no server %q", want.Server)
	}
	if d.revoked[who.ObjectID] || want.User != who.ObjectID {
		return gateway.Grant{}, az.Errorf(az.Forbidden, "NotMapped", "not mapped")
	}
	g := d.grant
	g.Server = az.MustParseID("/subscriptions/s/resourceGroups/g/providers/Microsoft.Cache/redis/s1")
	if !d.elsewhere.IsRoot() {
		g.Server = d.elsewhere
	}
	g.User, g.Record = "hawser-"+who.ObjectID, d.record
	return g, nil
}

func (d *door) record(_ context.Context, e gateway.Event) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.events = append(d.events, e)
}

func (d *door) recorded() []gateway.Event {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]gateway.Event(nil), d.events...)
}

func (d *door) revoke(oid string) int {
	d.mu.Lock()
	d.revoked[oid] = true
	d.mu.Unlock()
	return d.Recheck(context.Background(), gateway.Authorize(d.authorize).Still())
}

// users makes the ACL users of the two principals at a server.
func users(t testing.TB, addr, password string, conf *tls.Config) {
	t.Helper()
	c := goredis.NewClient(&goredis.Options{Addr: addr, Password: password, TLSConfig: conf})
	defer c.Close()
	for _, oid := range []string{appOID, otherOID} {
		if err := c.Do(context.Background(), "ACL", "SETUSER", "hawser-"+oid, "reset", "on", ">"+appPass, "+@all", "-@admin", "allkeys", "allchannels").Err(); err != nil {
			t.Fatal(err)
		}
	}
}

// open starts a gateway in front of the shared Redis and checks at the end
// that nothing of it is left running and that no secret is in its log.
func open(t testing.TB, change ...func(*redis.Config, *door)) *door {
	t.Helper()
	real := dbtest.Redis(t)
	users(t, real.Addr, real.Password, real.TLS())
	before := runtime.NumGoroutine()
	d := &door{life: time.Hour, revoked: map[string]bool{}, grant: gateway.Grant{Addr: real.Addr, TLS: real.TLS(), Password: az.NewSecret(appPass)}}
	conf := redis.Config{Rules: gateway.Rules{Verify: d.verify, Authorize: d.authorize}, Domain: domain, Clock: d.now,
		Log: slog.New(slog.NewTextHandler(&d.log, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	conf.TLS = &tls.Config{Certificates: []tls.Certificate{d.certificate(t)}}
	for _, f := range change {
		f(&conf, d)
	}
	var err error
	if d.Gateway, err = redis.New(conf); err != nil {
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
		for _, secret := range []string{appTok, nextTok, otherTok, appPass} {
			if strings.Contains(d.log.String(), secret) {
				t.Errorf("the log holds a secret:\n%s", d.log.String())
			}
		}
		if t.Failed() {
			t.Log(d.log.String())
		}
	})
	return d
}

func (d *door) certificate(t testing.TB) tls.Certificate {
	t.Helper()
	var cert tls.Certificate
	cert, d.ca, d.pool = gatewaytest.Certificate(t, domain)
	return cert
}

func (d *door) clientTLS(host string) *tls.Config {
	return &tls.Config{RootCAs: d.pool, ServerName: host, MinVersion: tls.VersionTLS12}
}

// client is a go-redis client of the app's.
func (d *door) client(t testing.TB, change ...func(*goredis.Options)) *goredis.Client {
	t.Helper()
	o := &goredis.Options{Addr: d.addr, TLSConfig: d.clientTLS("s1." + domain), Username: appOID, Password: appTok, MaxRetries: -1, DialerRetries: 1, DisableIdentity: true}
	for _, f := range change {
		f(o)
	}
	c := goredis.NewClient(o)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func limited(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// eventually waits for something to become true.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: it did not happen", what)
		}
	}
}

// key is a name that no other test uses.
func key(t testing.TB, more ...any) string {
	return "{" + t.Name() + "}" + fmt.Sprint(more...)
}

// lockedBuffer is a log that many write.
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
