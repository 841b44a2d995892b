package pg_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hawser/hawser/internal/gateway"
)

// TestWarmConnectionsCarryNothingOver leaves everything a session can leave
// and looks for it from the next session on the same backend.
func TestWarmConnectionsCarryNothingOver(t *testing.T) {
	d := open(t)
	for _, end := range []string{"", "BEGIN; SELECT 1", "BEGIN; SELECT 1/0"} {
		a := d.mustConnect(t, "")
		pid := ask(t, a, "SELECT pg_backend_pid()::text")
		if _, err := a.Exec(background(t), `CREATE TEMP TABLE left_over (n int); SET search_path = left_over_schema; SET my.own = 'left over';
			SET ROLE other; LISTEN left_over; SELECT pg_advisory_lock(7); SET application_name = 'left over';
			PREPARE left_over AS SELECT 1; SET statement_timeout = 12345; SELECT set_config('TimeZone', 'Asia/Tokyo', false);
			DECLARE left_over CURSOR WITH HOLD FOR SELECT 1`); err != nil {
			t.Fatal(err)
		}
		if end != "" {
			_, _ = a.Exec(background(t), end)
		}
		closeConn(a)
		b := d.connectTo(t, pid)
		if got := ask(t, b, `SELECT concat_ws('|', current_user, session_user, current_setting('search_path'), current_setting('my.own', true), current_setting('application_name'),
			current_setting('statement_timeout'), (SELECT count(*) FROM pg_prepared_statements WHERE name = 'left_over'), (SELECT count(*) FROM pg_cursors WHERE is_holdable),
			(SELECT count(*) FROM pg_listening_channels()), (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'), to_regclass('pg_temp.left_over') IS NULL)`); got !=
			`app|app|"$user", public|||0|0|0|0|0|t` {
			t.Errorf("after %q: %s", end, got)
		}
		if got := b.PgConn().ParameterStatus("TimeZone"); got == "Asia/Tokyo" {
			t.Error("the greeting tells another session's time zone")
		}
		if got := b.PgConn().ParameterStatus("application_name"); got != "" {
			t.Errorf("the greeting tells another session's name %q", got)
		}
		closeConn(b)
	}
}

// connectTo logs in until it gets the warm backend with the process id.
func (d *door) connectTo(t testing.TB, pid string) *pgx.Conn {
	t.Helper()
	var others []*pgx.Conn
	defer func() {
		for _, o := range others {
			closeConn(o)
		}
	}()
	for range 50 {
		c := d.mustConnect(t, "")
		if ask(t, c, "SELECT pg_backend_pid()::text") == pid {
			return c
		}
		others = append(others, c)
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatal("the backend connection was not kept")
	return nil
}

func TestWarmConnectionsAreNotSharedOrUsedUnasked(t *testing.T) {
	d := open(t)
	a := d.mustConnect(t, "")
	pid := ask(t, a, "SELECT pg_backend_pid()::text")
	closeConn(a)
	closeConn(d.connectTo(t, pid)) // it is warm
	for _, more := range []string{"dbname=postgres", "application_name=x", "user='Group With Space'", "options='-c work_mem=1MB'"} {
		c := d.mustConnect(t, more)
		if ask(t, c, "SELECT pg_backend_pid()::text") == pid {
			t.Errorf("%s got the backend of another kind of session", more)
		}
	}
	before := len(d.targets())
	closeConn(d.connectTo(t, pid))
	if len(d.targets()) == before {
		t.Error("a warm connection was handed out without asking")
	}
	grant, _ := d.authorize(context.Background(), principal{}, gateway.Target{User: "app"})
	time.Sleep(50 * time.Millisecond)
	d.Forget(grant.Server)
	server.Exec(t, "postgres", "SELECT 1")
	waitGone(t, pid)
}

func TestDeadWarmConnectionsAreNotHandedOut(t *testing.T) {
	d := open(t)
	for range 3 {
		a := d.mustConnect(t, "")
		pid := ask(t, a, "SELECT pg_backend_pid()::text")
		closeConn(a)
		closeConn(d.connectTo(t, pid))
		time.Sleep(50 * time.Millisecond)
		server.Exec(t, "postgres", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'")
		waitGone(t, pid)
		b := d.mustConnect(t, "")
		if got := ask(t, b, "SELECT 'alive'"); got != "alive" {
			t.Error(got)
		}
	}
}

// TestWarmConnectionsAreOnePrincipals: two who may take the same role get no
// connection of each other's, since DISCARD ALL does not reach everything.
func TestWarmConnectionsAreOnePrincipals(t *testing.T) {
	d := open(t)
	a := d.mustConnect(t, "")
	pid := ask(t, a, "SELECT pg_backend_pid()::text")
	closeConn(a)
	closeConn(d.connectTo(t, pid)) // it is warm
	for range 3 {
		b := d.mustConnect(t, "password=colleague")
		if ask(t, b, "SELECT pg_backend_pid()::text") == pid {
			t.Fatal("a principal got another's connection")
		}
		closeConn(b)
	}
}
