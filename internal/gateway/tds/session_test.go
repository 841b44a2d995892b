package tds_test

import (
	"context"
	"database/sql"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/gateway"
	"github.com/hawser/hawser/internal/gateway/tds"
	"github.com/hawser/hawser/internal/gateway/tds/tdstest"
)

// TestSessionIsCopied: what drivers do in sessions goes through: large answers,
// transactions, attentions, resets by the driver's pool.
func TestSessionIsCopied(t *testing.T) {
	for _, more := range []string{"", "packet size=16000", "encrypt=strict"} {
		t.Run(more, func(t *testing.T) {
			d := open(t, tdstest.Options{})
			c := d.mustConnect(t, how{more: more})
			sumOf(t, c, 20000)
			if got := ask(t, c, "SELECT @p1", strings.Repeat("ä", 100_000)); len(got) != 200_000 {
				t.Errorf("a long parameter came back with %d bytes", len(got))
			}
			tx, err := c.BeginTx(background(t), nil)
			if err != nil {
				t.Fatal(err)
			}
			var n int
			if err := tx.QueryRow("SELECT @@TRANCOUNT").Scan(&n); err != nil || n != 1 {
				t.Errorf("in %d transactions: %v", n, err)
			}
			if err := tx.Rollback(); err != nil {
				t.Error(err)
			}
			short, cancel := context.WithCancel(context.Background()) // after a deadline the driver gives the connection up
			time.AfterFunc(50*time.Millisecond, cancel)
			if _, err := c.ExecContext(short, "WAITFOR DELAY '00:00:30'"); err == nil {
				t.Error("an attention did not end a WAITFOR")
			}
			if got := ask(t, c, "SELECT 'alive'"); got != "alive" {
				t.Error(got)
			}
			if _, err := c.ExecContext(background(t), "RAISERROR('mine', 16, 1)"); number(err) != 50000 {
				t.Errorf("an error came as %v", err)
			}
		})
	}
}

// sumOf reads a large answer.
func sumOf(t testing.TB, c *sql.Conn, n int64) {
	t.Helper()
	rows, err := c.QueryContext(background(t), "SELECT value, REPLICATE('x', 200) FROM GENERATE_SERIES(1, "+itoa(n)+")")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var sum, v int64
	var text string
	for rows.Next() {
		if err := rows.Scan(&v, &text); err != nil || len(text) != 200 {
			t.Fatal(err)
		}
		sum += v
	}
	if rows.Err() != nil || sum != n*(n+1)/2 {
		t.Errorf("the sum is %d: %v", sum, rows.Err())
	}
}

// TestLostRight: the client hears why, and what it ran is over in the server.
func TestLostRight(t *testing.T) {
	d := open(t, tdstest.Options{}, func(c *tds.Config, _ *door) {
		c.Terminate = func(context.Context, az.ID, string, uint64) error {
			t.Error("a session that stopped by itself was terminated")
			return nil
		}
	})
	idle, busy := d.mustConnect(t, how{}), d.mustConnect(t, how{})
	ask(t, idle, "SELECT 1")
	done := make(chan error, 1)
	go func() {
		_, err := busy.ExecContext(context.Background(), "WAITFOR DELAY '00:01:00'")
		done <- err
	}()
	time.Sleep(100 * time.Millisecond)
	d.set(func() { d.revoke = true })
	began := time.Now()
	if n := d.recheck(); n != 2 {
		t.Errorf("%d sessions lost their right", n)
	}
	if err := <-done; err == nil {
		t.Error("a query was answered after the right was lost")
	}
	eventually(t, "the server's sessions end", func() bool { return len(d.sql.Sessions()) == 0 })
	if took := time.Since(began); took > time.Second {
		t.Errorf("it took %v", took)
	}
	if _, err := idle.ExecContext(background(t), "SELECT 1"); err == nil {
		t.Error("an idle session goes on")
	}
}

// TestStubbornBackend: a server that does not heed an attention is told by
// another way to end the session.
func TestStubbornBackend(t *testing.T) {
	release := make(chan struct{})
	var once sync.Once
	terminated := make(chan uint64, 1)
	d := open(t, tdstest.Options{Exec: func(_ context.Context, _ *tdstest.Session, sql string, _ []tdstest.Param) (tdstest.Result, bool) {
		return tdstest.Result{Wait: func() { <-release }}, sql == "EXEC dbo.stubborn"
	}}, func(c *tds.Config, _ *door) {
		c.Terminate = func(_ context.Context, server az.ID, user string, session uint64) error {
			if !server.Equal(serverID) || user != "app" {
				t.Errorf("terminate %s at %s", user, server)
			}
			terminated <- session
			return nil
		}
	})
	t.Cleanup(func() { once.Do(func() { close(release) }) })
	c := d.mustConnect(t, how{})
	spid := ask(t, c, "SELECT @@SPID")
	go func() { _, _ = c.ExecContext(context.Background(), "EXEC dbo.stubborn") }()
	time.Sleep(100 * time.Millisecond)
	id := d.Sessions()[0].ID
	d.End(id, gateway.Asked)
	select {
	case n := <-terminated:
		if itoa(int64(n)) != spid {
			t.Errorf("session %d was terminated, want %s", n, spid)
		}
	case <-time.After(5 * time.Second):
		t.Error("the session was not terminated")
	}
	once.Do(func() { close(release) })
}

// TestWarmConnections: what a session leaves is gone for the next one, which
// is asked about like the first.
func TestWarmConnections(t *testing.T) {
	d := open(t, tdstest.Options{})
	for _, left := range []string{"CREATE TABLE #left (n int)", "EXEC sp_set_session_context N'left', N'over'", "USE other", "BEGIN TRAN", "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"} {
		a := d.mustConnect(t, how{})
		spid := ask(t, a, "SELECT @@SPID")
		if _, err := a.ExecContext(background(t), left); err != nil {
			t.Fatal(err)
		}
		id, _ := strconv.ParseUint(spid, 10, 16)
		before, resets := len(d.targets()), d.sql.Resets(uint16(id))
		leave(t, a)
		eventually(t, "the backend is reset at once", func() bool { return d.sql.Resets(uint16(id)) > resets })
		b := d.connectTo(t, spid)
		if got := ask(t, b, "SELECT OBJECT_ID('tempdb..#left')") + ask(t, b, "SELECT SESSION_CONTEXT(N'left')") + "|" + ask(t, b, "SELECT DB_NAME()") + "|" +
			ask(t, b, "SELECT @@TRANCOUNT") + "|" + ask(t, b, "SELECT transaction_isolation_level"); got != "|appdb|0|READ COMMITTED" {
			t.Errorf("after %q: %s", left, got)
		}
		if len(d.targets()) == before {
			t.Error("a warm connection was handed out without asking")
		}
		leave(t, b)
		eventually(t, "it is warm again", func() bool { return len(d.Sessions()) == 0 })
	}
}

// connectTo logs in until it gets the warm backend.
func (d *door) connectTo(t testing.TB, spid string) *sql.Conn {
	t.Helper()
	for range 50 {
		c := d.mustConnect(t, how{})
		if ask(t, c, "SELECT @@SPID") == spid {
			return c
		}
		defer leave(t, c)
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatal("the backend connection was not kept")
	return nil
}

// TestWarmConnectionsAreNotShared: another login, another principal, a dead
// backend, a changed server: each gets a connection of its own.
func TestWarmConnectionsAreNotShared(t *testing.T) {
	d := open(t, tdstest.Options{})
	a := d.mustConnect(t, how{})
	spid := ask(t, a, "SELECT @@SPID")
	leave(t, a)
	leave(t, d.connectTo(t, spid)) // it is warm
	for name, h := range map[string]how{"database": {more: "database=other"}, "application": {more: "app name=x"}, "packet size": {more: "packet size=8000"},
		"principal": {token: "colleague"}, "intent": {more: "applicationintent=ReadOnly"}} {
		c := d.mustConnect(t, h)
		if ask(t, c, "SELECT @@SPID") == spid {
			t.Errorf("another %s got the same backend", name)
		}
		leave(t, c)
	}
	leave(t, d.connectTo(t, spid))
	eventually(t, "it is warm again", func() bool { return len(d.Sessions()) == 0 })
	time.Sleep(20 * time.Millisecond)
	d.Forget(serverID)
	eventually(t, "the warm ones are closed", func() bool { return len(d.sql.Sessions()) == 0 })
	b := d.mustConnect(t, how{})
	spid = ask(t, b, "SELECT @@SPID")
	leave(t, b)
	leave(t, d.connectTo(t, spid))
	eventually(t, "it is warm again", func() bool { return len(d.Sessions()) == 0 })
	for _, s := range d.sql.Sessions() {
		d.sql.Kill(s.ID)
	}
	eventually(t, "they are dead", func() bool { return len(d.sql.Sessions()) == 0 })
	if got := ask(t, d.mustConnect(t, how{}), "SELECT 'alive'"); got != "alive" {
		t.Error(got)
	}
}

// TestBusyBackendIsNotKept: a client that leaves in the midst of something
// leaves nothing warm.
func TestBusyBackendIsNotKept(t *testing.T) {
	d := open(t, tdstest.Options{Lenient: true})
	var raw net.Conn
	c := d.mustConnect(t, how{dial: func(ctx context.Context) (net.Conn, error) {
		var err error
		raw, err = d.dialer()(ctx)
		return raw, err
	}})
	ask(t, c, "SELECT 1")
	time.AfterFunc(50*time.Millisecond, func() { _ = raw.Close() })
	_, _ = c.ExecContext(context.Background(), "WAITFOR DELAY '00:00:30'")
	eventually(t, "its backend is gone", func() bool { return len(d.sql.Sessions()) == 0 })
}

// TestRecord: both ends of a session are recorded, without a password.
func TestRecord(t *testing.T) {
	d := open(t, tdstest.Options{})
	c := d.mustConnect(t, how{})
	ask(t, c, "SELECT 1")
	leave(t, c)
	eventually(t, "the end is recorded", func() bool { d.mu.Lock(); defer d.mu.Unlock(); return len(d.events) == 2 })
	e := d.events[1]
	if !e.Ended || e.Reason != gateway.ClientLeft || e.Sent == 0 || e.Received == 0 || !e.Session.Grant.Password.IsZero() {
		t.Errorf("%+v", e)
	}
}
