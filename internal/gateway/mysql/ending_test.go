package mysql_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	driver "github.com/go-sql-driver/mysql"

	"github.com/hawser/hawser/internal/gateway"
)

func TestKill(t *testing.T) {
	d := open(t, parkAlways)
	sleeping, byID := d.raw(0), d.raw(0)
	told := sleeping.id
	sleeping.command(3, "SELECT SLEEP(63)")
	waitRunning(t, d, "SELECT SLEEP(63)")
	killer := d.login()
	for _, form := range []string{"KILL QUERY %d", " kill  query\t%d ; ", "KILL SOFT QUERY %d"} {
		exec(t, killer, fmt.Sprintf(form, told))
		_, err := sleeping.answer()
		if err == nil { // the columns' end
			_, err = sleeping.answer()
		}
		var e rawError
		if !errors.As(err, &e) || e.errno != 1317 {
			t.Errorf("%s: %v", form, err)
		}
		sleeping.command(3, "SELECT SLEEP(63)")
		waitRunning(t, d, "SELECT SLEEP(63)")
	}
	byID.command(0x0c, string(binary.LittleEndian.AppendUint32(nil, told))) // COM_PROCESS_KILL
	if _, err := byID.answer(); err != nil {
		t.Error(err)
	}
	sleeping.over()
	waitIdle(t, d, "SELECT SLEEP(63)")
	if _, err := killer.ExecContext(background(t), fmt.Sprintf("KILL %d", told)); errno(err) != 1094 {
		t.Errorf("a session that is over: %v", err)
	}
	own := ask(t, killer, "SELECT CONNECTION_ID()")
	if _, err := killer.ExecContext(background(t), "KILL QUERY "+own); err != nil && errno(err) != 1317 {
		t.Errorf("itself: %v", err)
	}
	if got := ask(t, killer, "SELECT 'kill 5'"); got != "kill 5" {
		t.Error(got)
	}
}

// TestKillIsForOnesOwn: another principal with the same user at the server
// kills nothing, neither by the id a client was told nor by the server's.
func TestKillIsForOnesOwn(t *testing.T) {
	d := open(t)
	w := d.raw(0)
	told := w.id
	c := d.login()
	real := ask(t, c, "SELECT CONNECTION_ID()")
	other := d.login(func(c *driver.Config) { c.Passwd = colleague })
	for _, id := range []string{strconv.Itoa(int(told)), real} {
		if _, err := other.ExecContext(background(t), "KILL QUERY "+id); errno(err) != 1095 {
			t.Errorf("%s: %v", id, err)
		}
		if _, err := other.ExecContext(background(t), "KILL "+id); errno(err) != 1095 {
			t.Errorf("%s: %v", id, err)
		}
	}
	w.command(0x0e, "")
	if _, err := w.answer(); err != nil {
		t.Error(err)
	}
	if got := ask(t, c, "SELECT 1"); got != "1" {
		t.Error(got)
	}
}

// TestShellsCtrlC has the mariadb shell interrupt its own query.
func TestShellsCtrlC(t *testing.T) {
	d := open(t)
	done := make(chan string, 1)
	go func() {
		out, _ := d.shell("timeout", "-s", "INT", "2", "mariadb", "--no-defaults", "-h", "127.0.0.1", "-P", "$PORT", "-u", "app", "--ssl", "--ssl-ca=$CA", "-N", "-e", "SELECT SLEEP(62)", "appdb")
		done <- out
	}()
	waitRunning(t, d, "SELECT SLEEP(62)")
	out := <-done
	waitIdle(t, d, "SELECT SLEEP(62)")
	t.Logf("the shell says %q", out)
}

// waitRunning waits until a statement is being run, waitIdle until it is not.
func waitRunning(t testing.TB, d *door, statement string) { await(t, d, statement, true) }
func waitIdle(t testing.TB, d *door, statement string)    { await(t, d, statement, false) }

func await(t testing.TB, d *door, statement string, running bool) {
	t.Helper()
	db := d.target.Open(t, "")
	defer db.Close()
	eventually(t, fmt.Sprintf("%s runs: %v", statement, running), func() bool {
		var n int
		if err := db.QueryRow("SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO = ? AND COMMAND <> 'Killed'", statement).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n > 0 == running
	})
}

// TestRevocationEndsASession takes the right away from sessions that are idle,
// parked, busy, waiting, and streaming to a client that does not read.
func TestRevocationEndsASession(t *testing.T) {
	d := open(t, parkAlways)
	idle, busy, stuck := d.login(), d.login(), d.raw(0)
	stuck.command(3, "SELECT REPEAT('z', 1000) FROM seq_1_to_100000000")
	kept := d.login(func(c *driver.Config) { c.User = "team" })
	failed := make(chan error, 1)
	go func() {
		var n int
		failed <- busy.QueryRowContext(context.Background(), "SELECT SLEEP(61)").Scan(&n)
	}()
	waitRunning(t, d, "SELECT SLEEP(61)")
	d.revoke("app")
	start := time.Now()
	if n := d.recheck(); n != 3 {
		t.Errorf("%d sessions ended", n)
	}
	if err := <-failed; errno(err) != 1927 || !strings.Contains(err.Error(), "the right to be here was lost") {
		t.Errorf("busy: %v", err)
	}
	if _, err := idle.ExecContext(background(t), "DO 1"); err == nil {
		t.Error("idle: it goes on")
	}
	eventually(t, "all end", func() bool { return len(d.Sessions()) == 1 })
	t.Logf("ended after %v", time.Since(start))
	waitIdle(t, d, "SELECT SLEEP(61)")
	waitIdle(t, d, "SELECT REPEAT('z', 1000) FROM seq_1_to_100000000")
	if got := ask(t, kept, "SELECT 'kept'"); got != "kept" {
		t.Error(got)
	}
	for _, e := range d.ends() {
		if e.Reason != gateway.RightLost || e.Session.Who.ObjectID != appOID || !e.Session.Grant.Password.IsZero() {
			t.Errorf("recorded %+v", e)
		}
	}
}

// TestLastWords are read by a client as the answer to what it asks next, or
// between two packets of what it reads.
func TestLastWords(t *testing.T) {
	d := open(t)
	idle := d.raw(0)
	stream := d.raw(capDeprecateEOF)
	stream.command(3, "SELECT REPEAT('z', 700) FROM seq_1_to_100000000")
	var last byte
	for range 1000 {
		last, _ = stream.read()
	}
	d.revoke("app")
	d.recheck()
	idle.wants(1, 1927)
	idle.over()
	for {
		seq, body := stream.read()
		if seq != last+1 {
			t.Fatalf("packet %d follows %d", seq, last)
		}
		if last = seq; body[0] == 0xff {
			if n := binary.LittleEndian.Uint16(body[1:]); n != 1927 {
				t.Errorf("got %d", n)
			}
			break
		}
	}
	stream.over()
}

func TestEndAndShutdown(t *testing.T) {
	d := open(t, parkAlways)
	w := d.raw(0)
	if !d.End(d.Sessions()[0].ID, gateway.Asked) || d.End("nobody", gateway.Asked) {
		t.Error("End found the wrong session")
	}
	w.wants(1, 1927)
	w.over()
	w = d.raw(0)
	stuck := d.raw(0)
	stuck.command(3, "SELECT REPEAT('z', 1000) FROM seq_1_to_10000000")
	d.dial() // a handshake that never begins
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	d.Shutdown(ctx)
	if ctx.Err() != nil {
		t.Error("shutdown had to be forced")
	}
	w.wants(1, 1053)
}

func TestBackendIsKilled(t *testing.T) {
	d := open(t)
	w := d.raw(0)
	id := strconv.FormatUint(uint64(d.threads(t)[0]), 10)
	d.target.Exec(t, "KILL "+id)
	_, err := w.answer()
	var e rawError
	if errors.As(err, &e) && e.errno != 1927 && e.errno != 1158 {
		t.Errorf("got %v", err)
	}
	w.over()
	if got := ask(t, d.login(), "SELECT 'next'"); got != "next" {
		t.Error(got)
	}
}

// threads are the server's ids of app's threads.
func (d *door) threads(t testing.TB) (ids []int) {
	t.Helper()
	db := d.target.Open(t, "")
	defer db.Close()
	rows, err := db.Query("SELECT ID FROM information_schema.PROCESSLIST WHERE USER = 'app'")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var id int
		if err := rows.Scan(&id); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	return ids
}
