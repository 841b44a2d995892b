package pg_test

import (
	"context"
	"io"
	"net"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/gateway/pg"
)

// TestALostRightEndsWhatIgnoresACancel: a loop in the server that catches the
// cancel request goes on without a client; it must not outlive the right.
func TestALostRightEndsWhatIgnoresACancel(t *testing.T) {
	admin, err := pgconn.Connect(background(t), server.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = admin.Close(context.Background()) }()
	running := func(pid string) bool {
		r := admin.ExecParams(background(t), "select 1 from pg_stat_activity where pid = $1", [][]byte{[]byte(pid)}, nil, nil, nil).Read()
		if r.Err != nil {
			t.Fatal(r.Err)
		}
		return len(r.Rows) > 0
	}
	d := open(t, func(c *pg.Config, _ *door) {
		c.Terminate = func(ctx context.Context, _ az.ID, user string, pid uint64) error {
			conn, err := pgconn.Connect(ctx, server.URL("postgres"))
			if err != nil {
				return err
			}
			defer func() { _ = conn.Close(ctx) }()
			return conn.ExecParams(ctx, "select pg_terminate_backend(pid) from pg_stat_activity where pid = $1 and usename = $2",
				[][]byte{[]byte(strconv.Itoa(int(pid))), []byte(user)}, nil, nil, nil).Read().Err
		}
	})
	c := d.mustConnect(t, "")
	pid := ask(t, c, "select pg_backend_pid()::text")
	done := make(chan error, 1)
	go func() {
		_, err := c.Exec(context.Background(), `do $$ begin loop begin perform pg_sleep(0.05); exception when query_canceled then null; end; end loop; end $$`)
		done <- err
	}()
	for ask(t, d.mustConnect(t, ""), "select state from pg_stat_activity where pid = "+pid) != "active" {
		time.Sleep(10 * time.Millisecond)
	}
	d.revoke("app")
	d.recheck()
	if err := <-done; err == nil {
		t.Error("the query ended well")
	}
	for end := time.Now().Add(10 * time.Second); running(pid); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the server still runs what the session began")
		}
	}
}

// TestTheEndOfIdleSessionsAsksTheServerNothing: a cancel request is one more
// connection; thousands of sessions may end together.
func TestTheEndOfIdleSessionsAsksTheServerNothing(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var reached atomic.Int32
	go func() { // ends with l
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			reached.Add(1)
			s, err := net.Dial("tcp", server.Addr())
			if err != nil {
				_ = c.Close()
				continue
			}
			go func() { _, _ = io.Copy(s, c); _ = s.Close() }()
			go func() { _, _ = io.Copy(c, s); _ = c.Close() }()
		}
	}()
	d := open(t, func(_ *pg.Config, d *door) { d.addrOf = l.Addr().String() })
	for range 5 {
		ask(t, d.mustConnect(t, ""), "select 'x'")
	}
	d.revoke("app")
	if n := d.recheck(); n != 5 {
		t.Errorf("%d sessions ended", n)
	}
	for end := time.Now().Add(10 * time.Second); len(d.Sessions()) > 0 && time.Now().Before(end); {
		time.Sleep(5 * time.Millisecond)
	}
	if n := reached.Load(); n != 5 {
		t.Errorf("%d connections to the server for 5 sessions", n)
	}
}
