package pg_test

import (
	"context"
	"testing"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/gateway/pg"
)

// TestOneSessionCannotLockItsRoleOut: PostgreSQL lets each session change its
// own role's password; those who share the role must still get in.
func TestOneSessionCannotLockItsRoleOut(t *testing.T) {
	restore := func() { server.Exec(t, "postgres", "ALTER ROLE app PASSWORD 'app secret'") }
	t.Cleanup(restore)
	repairs := 0
	d := open(t, func(c *pg.Config, _ *door) {
		c.Warm.PerKey = -1
		c.Repair = func(_ context.Context, id az.ID, user string) error {
			if repairs++; id.Name() != "s1" || user != "app" {
				t.Errorf("repair of %s at %s", user, id)
			}
			restore()
			return nil
		}
	})
	c := d.mustConnect(t, "")
	if _, err := c.Exec(background(t), "ALTER ROLE app PASSWORD 'mine'"); err != nil {
		t.Fatal(err)
	}
	closeConn(d.mustConnect(t, "password=colleague"))
	closeConn(d.mustConnect(t, ""))
	if repairs != 1 {
		t.Errorf("%d repairs, want 1", repairs)
	}
	d.mu.Lock()
	d.roles["app"] = az.NewSecret("never right")
	d.mu.Unlock()
	if _, err := d.connect(t, ""); err == nil || repairs != 2 {
		t.Errorf("after a repair in vain: %v, %d repairs", err, repairs)
	}
}
