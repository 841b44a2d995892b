package pg_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/gateway"
	"github.com/hawser/hawser/internal/gateway/pg"
)

// TestBackendMustAsk: a backend that lets a role in without its password is
// another than the one that was registered, unless it was registered as such.
func TestBackendMustAsk(t *testing.T) {
	const role = "trusted_here"
	server.Exec(t, "postgres", "create role "+role+" login superuser")
	path := filepath.Join(server.DataDir, "pg_hba.conf")
	hba, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, append([]byte("host all "+role+" all trust\n"), hba...), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = os.WriteFile(path, hba, 0o600)
		server.Exec(t, "postgres", "select pg_reload_conf()")
	})
	server.Exec(t, "postgres", "select pg_reload_conf()")
	for { // until the server has read it; the test's own time bounds it
		conf, err := pgconn.ParseConfig(server.URL("postgres"))
		if err != nil {
			t.Fatal(err)
		}
		conf.User, conf.Password = role, "any"
		if c, err := pgconn.ConnectConfig(t.Context(), conf); err == nil {
			_ = c.Close(t.Context())
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	for unproved, want := range map[bool]string{false: "08006", true: ""} {
		d := open(t, func(c *pg.Config, d *door) {
			d.roles[role] = az.NewSecret("any")
			c.Rules.Authorize = func(ctx context.Context, who az.Principal, target gateway.Target) (gateway.Grant, error) {
				g, err := d.authorize(ctx, who, target)
				g.Unproved = unproved
				return g, err
			}
		})
		conn, err := d.connect(t, "user="+role)
		if err == nil {
			closeConn(conn)
		}
		var pe *pgconn.PgError
		if (err == nil) != (want == "") || err != nil && (!errors.As(err, &pe) || pe.Code != want) {
			t.Errorf("registered as one that does not ask %v: %v", unproved, err)
		}
	}
}
