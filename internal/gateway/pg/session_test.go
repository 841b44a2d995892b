package pg_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/hawser/hawser/internal/gateway"
	"github.com/hawser/hawser/internal/gateway/pg"
)

// parkAlways makes every pause of a millisecond an idle one, so that sessions
// park and wake all the time.
func parkAlways(c *pg.Config, _ *door) { c.Limits.IdleBeforePark = time.Millisecond }

func background(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestCancel(t *testing.T) {
	d := open(t, parkAlways)
	for _, more := range []string{"", "max_protocol_version=3.2", "sslnegotiation=direct"} {
		c := d.mustConnect(t, more)
		done := make(chan error, 1)
		go func() {
			_, err := c.Exec(context.Background(), "SELECT pg_sleep(60)")
			done <- err
		}()
		waitRunning(t, "pg_sleep(60)")
		if err := c.PgConn().CancelRequest(background(t)); err != nil {
			t.Fatal(err)
		}
		var pe *pgconn.PgError
		if err := <-done; !errors.As(err, &pe) || pe.Code != "57014" {
			t.Fatalf("%s: %v", more, err)
		}
		if got := ask(t, c, "SELECT 'still here'"); got != "still here" {
			t.Error(got)
		}
	}
}

// TestForeignCancelIsIgnored sends cancel requests, plain and over TLS, with
// the right process id and a wrong key, and with the backend's own.
func TestForeignCancelIsIgnored(t *testing.T) {
	d := open(t)
	f, _, key := d.loginRaw(t)
	send(t, f, &pgproto3.Query{String: "SELECT pg_sleep(0.5)"})
	waitRunning(t, "pg_sleep(0.5)")
	wrong := bytes.Clone(key.SecretKey)
	wrong[3] ^= 1
	for _, k := range [][]byte{wrong, wrong[:3], append(bytes.Clone(key.SecretKey), 0), nil} {
		for _, secure := range []bool{false, true} {
			var raw net.Conn
			if secure {
				_, raw = d.dialTLS(t)
			} else if raw, _ = net.Dial("tcp", d.addr); raw == nil {
				t.Fatal("cannot dial")
			}
			msg, _ := (&pgproto3.CancelRequest{ProcessID: key.ProcessID, SecretKey: k}).Encode(nil)
			_, _ = raw.Write(msg)
			if b, _ := io.ReadAll(raw); len(b) != 0 {
				t.Errorf("answered %q", b)
			}
			raw.Close()
		}
	}
	for {
		switch m := receive(t, f).(type) {
		case *pgproto3.ErrorResponse:
			t.Fatalf("cancelled: %s", m.Message)
		case *pgproto3.ReadyForQuery:
			return
		}
	}
}

func TestCopyBothWays(t *testing.T) {
	d := open(t)
	c := d.mustConnect(t, "")
	const rows, size = 50, 1 << 20
	if _, err := c.Exec(background(t), "CREATE TEMP TABLE big (n int, v text)"); err != nil {
		t.Fatal(err)
	}
	var in bytes.Buffer
	for i := range rows {
		fmt.Fprintf(&in, "%d\t%s\n", i, strings.Repeat(string(rune('a'+i%26)), size))
	}
	sent := bytes.Clone(in.Bytes())
	tag, err := c.PgConn().CopyFrom(background(t), &in, "COPY big FROM STDIN")
	if err != nil || tag.RowsAffected() != rows {
		t.Fatal(tag, err)
	}
	var out bytes.Buffer
	if _, err := c.PgConn().CopyTo(background(t), &out, "COPY (SELECT * FROM big ORDER BY n) TO STDOUT"); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(sent, out.Bytes()) {
		t.Error("what came back is not what was sent")
	}
	_, err = c.PgConn().CopyFrom(background(t), strings.NewReader("not a number\tx\n"), "COPY big FROM STDIN")
	var pe *pgconn.PgError
	if !errors.As(err, &pe) || pe.Code != "22P02" {
		t.Errorf("a bad COPY: %v", err)
	}
	if got := ask(t, c, "SELECT count(*)::text FROM big"); got != strconv.Itoa(rows) {
		t.Error(got)
	}
}

func TestListenNotifyWhileParked(t *testing.T) {
	d := open(t, parkAlways)
	a, b := d.mustConnect(t, ""), d.mustConnect(t, "")
	if _, err := a.Exec(background(t), "LISTEN news"); err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		time.Sleep(5 * time.Millisecond) // long enough to park
		if _, err := b.Exec(background(t), "SELECT pg_notify('news', $1)", strconv.Itoa(i)); err != nil {
			t.Fatal(err)
		}
		n, err := a.WaitForNotification(background(t))
		if err != nil || n.Payload != strconv.Itoa(i) {
			t.Fatalf("%v, %v", n, err)
		}
	}
}

func TestPipelineLargeObjectsAndBigRows(t *testing.T) {
	d := open(t)
	c := d.mustConnect(t, "")
	batch := &pgx.Batch{}
	for i := range 500 {
		batch.Queue("SELECT $1::int, repeat('x', 2000)", i)
	}
	r := c.SendBatch(background(t), batch)
	for i := range 500 {
		var n int
		var s string
		if err := r.QueryRow().Scan(&n, &s); err != nil || n != i || len(s) != 2000 {
			t.Fatal(i, n, len(s), err)
		}
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	tx, err := c.Begin(background(t))
	if err != nil {
		t.Fatal(err)
	}
	lo := tx.LargeObjects()
	oid, err := lo.Create(background(t), 0)
	if err != nil {
		t.Fatal(err)
	}
	obj, err := lo.Open(background(t), oid, pgx.LargeObjectModeRead|pgx.LargeObjectModeWrite)
	if err != nil {
		t.Fatal(err)
	}
	want := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	if _, err := obj.Write(want); err != nil {
		t.Fatal(err)
	}
	_, _ = obj.Seek(0, io.SeekStart)
	if got, err := io.ReadAll(obj); err != nil || !bytes.Equal(got, want) {
		t.Fatal(len(got), err)
	}
	if err := tx.Rollback(background(t)); err != nil {
		t.Fatal(err)
	}
	size := 100 << 20
	if testing.Short() {
		size = 10 << 20
	}
	var row []byte
	if err := c.QueryRow(background(t), "SELECT repeat('y', $1)", size).Scan(&row); err != nil || len(row) != size {
		t.Fatal(len(row), err)
	}
}

// TestRevocationEndsASession takes the right away from sessions that are idle,
// parked, busy, waiting, and streaming to a client that does not read.
func TestRevocationEndsASession(t *testing.T) {
	d := open(t)
	idle := d.mustConnect(t, "")
	busy := d.mustConnect(t, "")
	stuck, stuckConn, _ := d.loginRaw(t)
	send(t, stuck, &pgproto3.Query{String: "SELECT repeat('z', 1000) FROM generate_series(1, 1000000)"})
	kept := d.mustConnect(t, "user='Group With Space'")
	failed := make(chan error, 1)
	go func() {
		_, err := busy.Exec(context.Background(), "SELECT pg_sleep(61)")
		failed <- err
	}()
	waitRunning(t, "pg_sleep(61)")
	time.Sleep(50 * time.Millisecond) // the stuck one fills its buffers
	d.revoke("app")
	start := time.Now()
	if n := d.recheck(); n != 3 {
		t.Errorf("%d sessions ended", n)
	}
	for name, err := range map[string]error{"busy": <-failed, "idle": func() error { _, err := idle.Exec(background(t), "SELECT 1"); return err }()} {
		var pe *pgconn.PgError
		if !errors.As(err, &pe) || pe.Code != "57P01" || !strings.Contains(pe.Message, "right to be here was lost") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for len(d.Sessions()) != 1 {
		time.Sleep(time.Millisecond)
	}
	t.Logf("ended after %v", time.Since(start))
	waitIdle(t, "pg_sleep(61)")
	waitIdle(t, "generate_series(1, 1000000)")
	stuckConn.Close()
	if got := ask(t, kept, "SELECT 'kept'"); got != "kept" {
		t.Error(got)
	}
	for _, e := range d.ends() {
		if e.Reason != gateway.RightLost || e.Session.Who.ObjectID != appOID || !e.Session.Grant.Password.IsZero() {
			t.Errorf("recorded %+v", e)
		}
	}
}

func (d *door) ends() []gateway.Event {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []gateway.Event
	for _, e := range d.events {
		if e.Ended {
			out = append(out, e)
		}
	}
	return out
}

// TestRevocationInAStream ends a session between two rows of a client that
// reads: it gets the reason, after whole messages only.
func TestRevocationInAStream(t *testing.T) {
	d := open(t)
	f, _, _ := d.loginRaw(t)
	send(t, f, &pgproto3.Query{String: "SELECT repeat('z', 700), generate_series(1, 100000000)"})
	for range 1000 {
		receive(t, f)
	}
	d.revoke("app")
	d.recheck()
	for {
		m, err := f.Receive()
		if err != nil {
			t.Fatalf("no reason was given: %v", err)
		}
		if e, ok := m.(*pgproto3.ErrorResponse); ok {
			if e.Code == "57014" { // the cancelled query's own error may come first
				continue
			}
			if e.Code != "57P01" {
				t.Errorf("got %+v", e)
			}
			return
		}
	}
}

func TestEnd(t *testing.T) {
	d := open(t, parkAlways)
	c := d.mustConnect(t, "")
	time.Sleep(10 * time.Millisecond)
	if !d.End(d.Sessions()[0].ID, gateway.Asked) || d.End("nobody", gateway.Asked) {
		t.Error("End found the wrong session")
	}
	_, err := c.Exec(background(t), "SELECT 1")
	var pe *pgconn.PgError
	if !errors.As(err, &pe) || pe.Code != "57P01" {
		t.Errorf("got %v", err)
	}
}

func TestBackendIsKilled(t *testing.T) {
	d := open(t)
	c := d.mustConnect(t, "")
	pid := ask(t, c, "SELECT pg_backend_pid()::text")
	server.Exec(t, "postgres", "SELECT pg_terminate_backend("+pid+")")
	_, err := c.Exec(background(t), "SELECT 1")
	var pe *pgconn.PgError
	if !errors.As(err, &pe) || pe.Code != "57P01" || !strings.Contains(pe.Message, "administrator") {
		t.Errorf("got %v", err)
	}
	if got, err := d.psql(t, "SELECT 'next'", ""); err != nil || got != "next" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestHalfClose sends a query and the end of the stream at once; PostgreSQL
// answers such a client, so we do.
func TestHalfClose(t *testing.T) {
	d := open(t)
	f, raw, _ := d.loginRaw(t)
	send(t, f, &pgproto3.Query{String: "SELECT pg_sleep(0.2), 'answer'"})
	if err := raw.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	rows := 0
	for {
		m, err := f.Receive()
		if err != nil {
			break
		}
		if _, ok := m.(*pgproto3.DataRow); ok {
			rows++
		}
	}
	if rows != 1 {
		t.Errorf("%d rows", rows)
	}
}

func TestBrokenStreams(t *testing.T) {
	d := open(t)
	for name, b := range map[string]string{
		"length 0": "Q\x00\x00\x00\x00", "length 3 in the second": "S\x00\x00\x00\x04Q\x00\x00\x00\x03", "cut": "Q\x00\x00\x10\x00SELECT",
		"cut header": "Q\x00", "terminate in two": "X\x00\x00", "query and terminate": "Q\x00\x00\x00\x0dSELECT 1\x00X\x00\x00\x00\x04",
		"long terminate": "X\x00\x00\x00\x08abcd", "unsynced": "C\x00\x00\x00\x06S\x00X\x00\x00\x00\x04", "password again": "p\x00\x00\x00\x06a\x00",
	} {
		f, raw, _ := d.loginRaw(t)
		_, _ = raw.Write([]byte(b))
		time.Sleep(5 * time.Millisecond)
		if name == "terminate in two" {
			_, _ = raw.Write([]byte("\x00\x04"))
		}
		if strings.HasPrefix(name, "length") {
			wantAnyError(t, f, "08P01")
		}
		raw.Close()
	}
	for len(d.Sessions()) > 0 {
		time.Sleep(time.Millisecond)
	}
	if got, err := d.psql(t, "SELECT 'fine'", ""); err != nil || got != "fine" {
		t.Errorf("%q, %v", got, err)
	}
}

func wantAnyError(t *testing.T, f *pgproto3.Frontend, code string) {
	t.Helper()
	for {
		m, err := f.Receive()
		if err != nil {
			t.Fatal(err)
		}
		if e, ok := m.(*pgproto3.ErrorResponse); ok {
			if e.Code != code {
				t.Errorf("got %+v", e)
			}
			return
		}
	}
}

// TestShutdown ends sessions of every kind, one of which never reads.
func TestShutdown(t *testing.T) {
	d := open(t, parkAlways)
	c := d.mustConnect(t, "")
	stuck, _, _ := d.loginRaw(t)
	send(t, stuck, &pgproto3.Query{String: "SELECT repeat('z', 1000) FROM generate_series(1, 1000000)"})
	if _, err := net.Dial("tcp", d.addr); err != nil { // a handshake that never begins
		t.Fatal(err)
	}
	time.Sleep(20 * time.Millisecond)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	d.Shutdown(ctx)
	if ctx.Err() != nil {
		t.Error("shutdown had to be forced")
	}
	_, err := c.Exec(background(t), "SELECT 1")
	var pe *pgconn.PgError
	if !errors.As(err, &pe) || pe.Code != "57P01" {
		t.Errorf("got %v", err)
	}
}

// TestChurn logs in, works, pauses and leaves in every way at once, while
// sessions park as often as they can and some are ended from outside.
func TestChurn(t *testing.T) {
	d := open(t, parkAlways)
	var workers sync.WaitGroup
	for w := range 8 {
		workers.Go(func() {
			r := rand.New(rand.NewPCG(uint64(w), 1))
			for i := range 12 {
				if err := d.visit(t, r, w*1000+i); err != nil {
					t.Errorf("worker %d: %v", w, err)
					return
				}
			}
		})
	}
	stop := make(chan struct{})
	var ender sync.WaitGroup
	ender.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(7 * time.Millisecond):
			}
			for _, s := range d.Sessions() {
				if s.Target.Database == "postgres" {
					d.End(s.ID, gateway.Asked)
					break
				}
			}
		}
	})
	workers.Wait()
	close(stop)
	ender.Wait()
}

// visit is one client's life. One in database postgres may be ended any time.
func (d *door) visit(t *testing.T, r *rand.Rand, id int) error {
	doomed := id%3 == 0
	more := ""
	if doomed {
		more = "dbname=postgres"
	}
	c, err := d.connect(t, more)
	if err != nil {
		if doomed {
			return nil
		}
		return err
	}
	ctx := background(t)
	for range 1 + r.IntN(20) {
		var n int
		var s string
		size := []int{1, 4000, 40000, 400000}[r.IntN(4)]
		err := c.QueryRow(ctx, "SELECT $1::int, repeat('x', $2)", id, size).Scan(&n, &s)
		if err != nil && doomed {
			break
		}
		if err != nil || n != id || len(s) != size {
			return fmt.Errorf("got %d and %d bytes: %w", n, len(s), err)
		}
		time.Sleep(time.Duration(r.IntN(4)) * time.Millisecond)
	}
	if r.IntN(3) == 0 {
		_ = c.PgConn().Conn().Close() // without a goodbye
		return nil
	}
	closeConn(c)
	return nil
}

// waitRunning waits until a query with the text runs.
func waitRunning(t testing.TB, text string) { t.Helper(); waitActivity(t, text, true) }

// waitIdle waits until none does.
func waitIdle(t testing.TB, text string) { t.Helper(); waitActivity(t, text, false) }

func waitActivity(t testing.TB, text string, want bool) {
	t.Helper()
	waitSQL(t, fmt.Sprintf("SELECT (count(*) > 0)::text FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid() AND strpos(query, '%s') > 0", text), strconv.FormatBool(want))
}

func waitGone(t testing.TB, pid string) {
	t.Helper()
	waitSQL(t, "SELECT count(*)::text FROM pg_stat_activity WHERE pid = "+pid, "0")
}

func waitSQL(t testing.TB, sql, want string) {
	t.Helper()
	c, err := pgx.Connect(context.Background(), server.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer closeConn(c)
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		if ask(t, c, sql) == want {
			return
		}
	}
	t.Fatalf("%s never gave %s", sql, want)
}
