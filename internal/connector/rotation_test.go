package connector

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"errors"
	"log/slog"
	"net"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/gateway"
	gatemysql "github.com/hawser/hawser/internal/gateway/mysql"
	"github.com/hawser/hawser/internal/guard"
)

// door opens a MySQL gateway before the rig's servers, as the plane does, but
// that a token is an object id. It returns a pool whose connections log in as
// user with that token.
func (m *mysqlRig) door(oid, user string) *sql.DB {
	m.t.Helper()
	web := httptest.NewTLSServer(nil) // for its certificate
	m.t.Cleanup(web.Close)
	rules := gateway.Rules{
		Verify: func(_ context.Context, token az.Secret) (az.Principal, error) { return as(token.Reveal()), nil },
		Authorize: func(ctx context.Context, who az.Principal, want gateway.Target) (gateway.Grant, error) {
			b, err := m.Authorize(ctx, who, Login{MySQL, want.Server, want.Database, want.User})
			if err != nil {
				return gateway.Grant{}, err
			}
			conf, err := gateway.BackendTLS(b.TLS.Mode, b.TLS.Host, b.TLS.Roots)
			return gateway.Grant{Server: b.Server, Addr: b.Addr, TLS: conf, User: b.User, Password: b.Password, Database: b.Database, Record: func(context.Context, gateway.Event) {}}, err
		},
	}
	g, err := gatemysql.New(gatemysql.Config{Rules: rules, TLS: &tls.Config{Certificates: web.TLS.Certificates}, Domain: "mysql.hawser.test",
		Terminate: m.Terminate, Repair: m.Repair, Log: slog.New(slog.DiscardHandler), Clock: m.now})
	if err != nil {
		m.t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		m.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { _ = g.Serve(l); close(done) }() // ends by Shutdown
	m.t.Cleanup(func() { g.Shutdown(context.Background()); <-done })
	cfg := mysql.NewConfig()
	cfg.User, cfg.Passwd, cfg.Net, cfg.Addr, cfg.DBName, cfg.AllowCleartextPasswords = user, oid, "tcp", l.Addr().String(), m.name, true
	cfg.TLS = &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "127.0.0.1"}
	cfg.TLS.RootCAs.AddCert(web.Certificate())
	c, err := mysql.NewConnector(cfg)
	if err != nil {
		m.t.Fatal(err)
	}
	db := sql.OpenDB(c)
	m.t.Cleanup(func() { _ = db.Close() })
	return db
}

// TestRotationUnderLoad: while the backend password of a connection's role
// changes again and again, sessions that are open go on and new ones get in:
// not one query fails, and the app did nothing.
func TestRotationUnderLoad(t *testing.T) {
	onePlane(t, func(t *testing.T, r *rig) {
		m := withMySQL(r)
		link, user := sites+"web"+linkers+m.conn("r"), "aad_"+m.conn("r")
		r.must(boss, "PUT", link, m.body(authSystem, "go", Write, ""))
		who := r.identity("web")
		db := m.door(who.ObjectID, user)
		db.SetMaxIdleConns(0) // each query outside of a Conn is a login of its own
		settings := r.settings("web")

		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		var work sync.WaitGroup
		var queries, logins atomic.Int64
		repeat := func(n *atomic.Int64, fn func() error) {
			work.Go(func() {
				for ctx.Err() == nil {
					if err := fn(); err != nil && !errors.Is(err, context.Canceled) {
						t.Errorf("a query failed: %v", err)
						return
					}
					n.Add(1)
				}
			})
		}
		for range 3 {
			session, err := db.Conn(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = session.Close() })
			repeat(&queries, func() error {
				_, err := session.ExecContext(t.Context(), "INSERT INTO todo (what) VALUES ('x')")
				return err
			})
			repeat(&logins, func() error {
				var one int
				return db.QueryRowContext(t.Context(), "SELECT 1").Scan(&one)
			})
		}
		passwords := map[string]bool{}
		role := principalID(az.MustParseID(m.server), user)
		note := func() {
			p, err := r.principals.Load(t.Context(), role)
			if err != nil || p == nil {
				t.Fatal(err)
			}
			passwords[p.Secrets[passwordSecret].Reveal()] = true
		}
		note()
		r.offset.Add(int64(DefaultRotateAfter) + int64(fullEvery)) // on schedule
		if err := r.RotateBackendPasswords(t.Context()); err != nil {
			t.Fatal(err)
		}
		note()
		for range 10 { // on demand, with logins in between
			before := logins.Load()
			r.must(boss, "POST", role.String()+"/rotate", "")
			note()
			for logins.Load() < before+5 && !t.Failed() {
				time.Sleep(time.Millisecond)
			}
		}
		stop()
		work.Wait()
		if len(passwords) != 12 {
			t.Errorf("%d passwords, want 12", len(passwords))
		}
		if queries.Load() < 50 || logins.Load() < 50 {
			t.Errorf("only %d queries and %d logins", queries.Load(), logins.Load())
		}
		if now := r.settings("web"); len(now) != 1 || now["AZURE_MYSQL_CONNECTIONSTRING"] != settings["AZURE_MYSQL_CONNECTIONSTRING"] {
			t.Errorf("the settings changed from %v to %v", settings, now)
		}
		if !r.valid(link) {
			t.Errorf("%v", r.must(boss, "POST", link+"/validateLinker", ""))
		}
		r.refused(reader, "POST", role.String()+"/rotate", "", 403, "AuthorizationFailed")
		if n := len(r.records(MySQLServerType+"/principals/rotate/action", guard.Allowed)); n == 0 {
			t.Error("a rotation on demand is not in the audit log")
		}
	})
}
