package pg_test

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/hawser/hawser/internal/gateway"
	"github.com/hawser/hawser/internal/gateway/pg"
)

// TestBackendOverTLS logs in to a server with TLS in every mode of libpq, and
// cancels over it.
func TestBackendOverTLS(t *testing.T) {
	d := open(t)
	certificate := d.certificate(t)
	key, err := x509.MarshalPKCS8PrivateKey(certificate.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	backendCA, err := os.ReadFile(d.ca)
	if err != nil {
		t.Fatal(err)
	}
	roots := d.pool
	server.EnableTLS(t, backendCA, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))
	d2 := open(t) // whose own certificate is another
	grant, _ := d2.authorize(context.Background(), principal{}, gateway.Target{User: "app"})
	for _, c := range []struct {
		mode, host string
		roots      *x509.CertPool
		ok         bool
	}{
		{"require", "anything", nil, true},
		{"verify-ca", "anything", roots, true},
		{"verify-ca", "localhost", d2.pool, false},
		{"verify-full", "localhost", roots, true},
		{"verify-full", "elsewhere", roots, false},
		{"verify-full", "localhost", d2.pool, false},
	} {
		conf, err := gateway.BackendTLS(c.mode, c.host, c.roots)
		if err != nil {
			t.Fatal(err)
		}
		d2.mu.Lock()
		d2.tls = conf
		d2.mu.Unlock()
		d2.Forget(grant.Server)
		conn, err := d2.connect(t, "")
		if !c.ok {
			var pe *pgconn.PgError
			if !errors.As(err, &pe) || pe.Code != "08006" {
				t.Errorf("%+v: %v", c, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%+v: %v", c, err)
			continue
		}
		if got := ask(t, conn, "SELECT ssl::text FROM pg_stat_ssl WHERE pid = pg_backend_pid()"); got != "true" {
			t.Errorf("%+v: no TLS to the backend", c)
		}
		time.AfterFunc(200*time.Millisecond, func() { _ = conn.PgConn().CancelRequest(context.Background()) })
		_, err = conn.Exec(background(t), "SELECT pg_sleep(30)")
		var pe *pgconn.PgError
		if !errors.As(err, &pe) || pe.Code != "57014" {
			t.Errorf("%+v: cancel: %v", c, err)
		}
		closeConn(conn)
	}
	if _, err := gateway.BackendTLS("prefer", "x", nil); err == nil {
		t.Error("prefer is no way to keep a password")
	}
}

func TestBackendByUnixSocket(t *testing.T) {
	d := open(t, parkAlways, func(_ *pg.Config, d *door) { d.addrOf = server.SocketDir + "/.s.PGSQL." + strconv.Itoa(server.Port) })
	c := d.mustConnect(t, "")
	if got := ask(t, c, "SELECT (inet_client_addr() IS NULL)::text"); got != "true" {
		t.Error("not by the socket")
	}
	time.AfterFunc(100*time.Millisecond, func() { _ = c.PgConn().CancelRequest(context.Background()) })
	if _, err := c.Exec(background(t), "SELECT pg_sleep(30)"); err == nil || !strings.Contains(err.Error(), "57014") {
		t.Errorf("cancel: %v", err)
	}
}

// TestServerCrash kills PostgreSQL under open sessions: they are told, nothing
// leaks, and the same gateway serves the restarted server.
func TestServerCrash(t *testing.T) {
	d := open(t)
	a, b := d.mustConnect(t, ""), d.mustConnect(t, "")
	closeConn(b) // warm
	server.Kill()
	if _, err := a.Exec(background(t), "SELECT 1"); err == nil {
		t.Error("a query without a server succeeded")
	}
	_, err := d.connect(t, "")
	var pe *pgconn.PgError
	if !errors.As(err, &pe) || pe.Code != "08006" {
		t.Errorf("got %v", err)
	}
	if err := server.Restart(); err != nil {
		t.Fatal(err)
	}
	if got := ask(t, d.mustConnect(t, ""), "SELECT 'back'"); got != "back" {
		t.Error(got)
	}
}

// TestFullServerMakesRoom fills the server with our own warm connections and
// then asks for another kind.
func TestFullServerMakesRoom(t *testing.T) {
	server.Exec(t, "postgres", "ALTER ROLE app CONNECTION LIMIT 7")
	defer server.Exec(t, "postgres", "ALTER ROLE app CONNECTION LIMIT -1")
	d := open(t)
	for i := range 7 {
		c := d.mustConnect(t, "application_name=n"+strconv.Itoa(i))
		closeConn(c)
		time.Sleep(20 * time.Millisecond) // until it is warm
	}
	if got := ask(t, d.mustConnect(t, "application_name=one-more"), "SELECT 'in'"); got != "in" {
		t.Error(got)
	}
}
