package mysql_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	driver "github.com/go-sql-driver/mysql"

	"github.com/hawser/hawser/internal/gateway"
	"github.com/hawser/hawser/internal/gateway/mysql"
)

// parkAlways makes every pause of a millisecond an idle one, so that sessions
// park and wake all the time.
func parkAlways(c *mysql.Config, _ *door) { c.Limits.IdleBeforePark = time.Millisecond }

func TestPreparedStatements(t *testing.T) {
	d := open(t, parkAlways)
	c := d.login()
	exec(t, c, "CREATE TEMPORARY TABLE t (n INT, v TEXT)")
	st, err := c.PrepareContext(background(t), "INSERT INTO t VALUES (?, ?)")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 50 {
		if _, err := st.Exec(i, strings.Repeat("v", i*100)); err != nil {
			t.Fatal(err)
		}
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	rows, err := c.QueryContext(background(t), "SELECT n, v FROM t WHERE n >= ? ORDER BY n", 10)
	if err != nil {
		t.Fatal(err)
	}
	n := 10
	for ; rows.Next(); n++ {
		var i int
		var v string
		if err := rows.Scan(&i, &v); err != nil || i != n || len(v) != n*100 {
			t.Fatal(i, len(v), err)
		}
	}
	if n != 50 || rows.Err() != nil {
		t.Error(n, rows.Err())
	}
	if _, err := c.PrepareContext(background(t), "SELECT FROM WHERE"); errno(err) != 1064 {
		t.Errorf("a bad statement: %v", err)
	}
	if got := ask(t, c, "SELECT COUNT(*) FROM t"); got != "50" {
		t.Error(got)
	}
}

func TestManyResults(t *testing.T) {
	d := open(t)
	c := d.login(func(c *driver.Config) { c.MultiStatements = true })
	rows, err := c.QueryContext(background(t), "SELECT 1; DO 0; SELECT 2, 3; SELECT 4 FROM DUAL WHERE FALSE; SET @a = 1")
	if err != nil {
		t.Fatal(err)
	}
	var sets []int
	for more := true; more; more = rows.NextResultSet() {
		n := 0
		for rows.Next() {
			n++
		}
		columns, _ := rows.Columns()
		sets = append(sets, n, len(columns))
	}
	if err := rows.Err(); err != nil || fmt.Sprint(sets) != "[1 1 1 2 0 1]" && fmt.Sprint(sets) != "[1 1 0 0 1 2 0 1 0 0]" {
		t.Errorf("%v, %v", sets, err)
	}
	_ = rows.Close()
	exec(t, c, "CREATE OR REPLACE PROCEDURE p(IN n INT) BEGIN SELECT n; SELECT n + 1; END")
	for range 3 {
		if got := ask(t, c, "CALL p(?)", 7); got != "7" {
			t.Error(got)
		}
	}
	if _, err := c.ExecContext(background(t), "SELECT 1; SELECT nonsense; SELECT 2"); errno(err) != 1054 {
		t.Errorf("got %v", err)
	}
	if got := ask(t, c, "SELECT 'still here'"); got != "still here" {
		t.Error(got)
	}
	single := d.login()
	if _, err := single.ExecContext(background(t), "SELECT 1; SELECT 2"); errno(err) != 1064 {
		t.Errorf("several statements without the capability: %v", err)
	}
}

// TestLargeRows moves 64 MiB and more in one value, both ways, by both
// protocols, and values whose length is that of a frame.
func TestLargeRows(t *testing.T) {
	d := open(t)
	c := d.login(func(c *driver.Config) { c.MaxAllowedPacket = 256 << 20 })
	sizes := []int{1<<24 - 2, 1<<24 - 1, 1 << 24, 64 << 20}
	if testing.Short() {
		sizes = sizes[1:3]
	}
	for _, size := range sizes {
		value := make([]byte, size)
		for i := range value {
			value[i] = byte('a' + i%23)
		}
		var back []byte
		if err := c.QueryRowContext(background(t), "SELECT ?", value).Scan(&back); err != nil || !bytes.Equal(value, back) {
			t.Fatalf("%d bytes by a statement: %d, %v", size, len(back), err)
		}
	}
	var n int
	long := "SELECT LENGTH('" + strings.Repeat("q", 17<<20) + "')"
	if err := c.QueryRowContext(background(t), long).Scan(&n); err != nil || n != 17<<20 {
		t.Fatal(n, err)
	}
	if err := c.QueryRowContext(background(t), "SELECT LENGTH(REPEAT('r', ?))", 40<<20).Scan(&n); err != nil || n != 40<<20 {
		t.Fatal(n, err)
	}
	// Whole frames of a query, the last of which is empty.
	w := d.raw(0)
	for _, size := range []int{1<<24 - 1, 2 * (1<<24 - 1)} {
		text := append([]byte{3}, ("SELECT 1 -- " + strings.Repeat("c", size-13))...)
		for seq := byte(0); ; seq++ {
			n := min(len(text), 1<<24-1)
			w.write(packet(seq, text[:n]))
			if text = text[n:]; n < 1<<24-1 {
				break
			}
		}
		if before, err := w.answer(); before != 2 || err != nil {
			t.Fatal(before, err)
		}
		if before, err := w.answer(); before != 1 || err != nil {
			t.Fatal(before, err)
		}
	}
}

// TestFiles: LOAD DATA LOCAL asks the client for a file, which may be long,
// empty, or of packets that look like commands.
func TestFiles(t *testing.T) {
	d := open(t, parkAlways)
	c := d.login(func(c *driver.Config) { c.MaxAllowedPacket = 1 << 10 }) // many packets: their numbers go round
	exec(t, c, "CREATE TEMPORARY TABLE t (v TEXT)")
	for name, lines := range map[string]int{"long": 20_000, "empty": 0, "short": 3} {
		text := strings.Repeat("\x11line of a file with 40 bytes, more or less\n", lines)
		driver.RegisterReaderHandler(name, func() io.Reader { return strings.NewReader(text) })
		exec(t, c, "DELETE FROM t")
		r, err := c.ExecContext(background(t), "/* a comment */ LOAD DATA LOCAL INFILE 'Reader::"+name+"' INTO TABLE t")
		if err != nil {
			t.Fatal(name, err)
		}
		if n, _ := r.RowsAffected(); n != int64(lines) {
			t.Errorf("%s: %d rows", name, n)
		}
		if got := ask(t, c, "SELECT COUNT(*) FROM t"); got != strconv.Itoa(lines) {
			t.Error(name, got)
		}
	}
	exec(t, c, "DELETE FROM t")
	exec(t, c, "PREPARE p FROM \"LOAD DATA LOCAL INFILE 'Reader::short' INTO TABLE t\"")
	exec(t, c, "EXECUTE p")
	exec(t, c, "CREATE OR REPLACE TABLE loaded (v TEXT)")
	st, err := d.login().PrepareContext(background(t), "LOAD DATA LOCAL INFILE 'Reader::short' INTO TABLE loaded")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := st.Exec(); err != nil {
		t.Errorf("by a prepared statement: %v", err)
	}
	if _, err := d.login().ExecContext(background(t), "/* "+strings.Repeat("long ", 20_000)+" */ LOAD DATA LOCAL INFILE 'Reader::short' INTO TABLE loaded"); err != nil {
		t.Error("by a long statement")
	}
	if got := ask(t, c, "SELECT COUNT(*) FROM t"); got != "3" {
		t.Error(got)
	}
	if _, err := c.ExecContext(background(t), "LOAD DATA LOCAL INFILE 'Reader::short' INTO TABLE nosuch"); errno(err) != 1146 {
		t.Errorf("into a table that is not there: %v", err)
	}
	if got := ask(t, c, "SELECT 'still here'"); got != "still here" {
		t.Error(got)
	}
	// A client that cannot is not asked.
	w := d.raw(0)
	w.command(3, "CREATE TEMPORARY TABLE t (v TEXT)")
	if _, err := w.answer(); err != nil {
		t.Fatal(err)
	}
	w.command(3, "LOAD DATA LOCAL INFILE '/etc/passwd' INTO TABLE t")
	if _, err := w.answer(); err == nil {
		t.Error("the file was asked for")
	}
}

// TestFileIsNoWayAroundTheFence sends, ahead of the server's request for a
// file, what would end it, and then a command that is not served.
func TestFileIsNoWayAroundTheFence(t *testing.T) {
	d := open(t)
	w := d.raw(capLocalFiles)
	w.command(3, "CREATE TEMPORARY TABLE t (v TEXT)")
	if _, err := w.answer(); err != nil {
		t.Fatal(err)
	}
	load := packet(0, append([]byte{3}, "LOAD DATA LOCAL INFILE 'x' INTO TABLE t"...))
	w.write(append(load, packet(2, nil)...)) // an empty packet where a command has to be
	w.over()
	w = d.raw(capLocalFiles)
	w.command(3, "CREATE TEMPORARY TABLE t (v TEXT)")
	if _, err := w.answer(); err != nil {
		t.Fatal(err)
	}
	w.write(append(load, packet(0, []byte{0x0e})...)) // a ping that the server takes for the file
	w.over()
	eventually(t, "both sessions end", func() bool { return len(d.Sessions()) == 0 })
}

// TestCommandsThatAreNotServed: each is answered by an error in its place, and
// the session goes on.
func TestCommandsThatAreNotServed(t *testing.T) {
	d := open(t)
	for _, flags := range []uint32{0, capDeprecateEOF | capSessionTrack | capMultiStmts} {
		w := d.raw(flags)
		for code, argument := range map[byte]string{
			0x08: "", 0x0b: "", 0x0d: "", 0x0f: "", 0x10: "", 0x12: "\x04\x00\x00\x00\x00\x00\x01\x00\x00\x00", 0x13: "\x01a\x01b", 0x14: "", 0x15: "\x01\x00\x00\x00",
			0x1d: "", 0x1e: strings.Repeat("x", 100_000), 0x20: "", 0x40: "", 0xfa: "", 0xfe: "", 0xff: "",
		} {
			w.command(code, argument)
			w.wants(1, 1047)
		}
		w.command(0x11, "root\x00\x00\x00")
		w.wants(1, 1227)
		w.command(0x11, "root\x00"+strings.Repeat("x", 1<<24)[:1<<24-7]) // of a whole frame
		w.write(packet(1, []byte("and the rest")))
		w.wants(1, 1227)
		w.command(3, "DO 1")
		if _, err := w.answer(); err != nil {
			t.Error(err)
		}
		// The order of answers holds when all comes at once, also in pieces.
		all := bytes.Join([][]byte{packet(0, []byte("\x03DO 1")), packet(0, []byte("\x11root\x00")), packet(0, []byte{0x0e}), packet(0, []byte{0x0d}), packet(0, []byte{0x0e})}, nil)
		for size := 1; size < len(all); size += 7 {
			for b := all; len(b) > 0; {
				n := min(size, len(b))
				w.write(b[:n])
				b = b[n:]
			}
			for i, want := range []uint16{0, 1227, 0, 1047, 0} {
				_, err := w.answer()
				var e rawError
				if errors.As(err, &e); e.errno != want {
					t.Fatalf("in pieces of %d: answer %d is %v", size, i, err)
				}
			}
		}
	}
}

// TestCommandsThatAre sends every kind of command by hand, in both forms of
// results, and looks whether the session is idle after each: then its backend
// is kept.
func TestCommandsThatAre(t *testing.T) {
	d := open(t)
	for _, flags := range []uint32{0, capDeprecateEOF, capDeprecateEOF | capSessionTrack} {
		w := d.raw(flags)
		ok := func(ends int) {
			t.Helper()
			for range ends {
				if _, err := w.answer(); err != nil {
					t.Fatal(err)
				}
			}
		}
		ends := 2 // of a result
		if flags&capDeprecateEOF != 0 {
			ends = 1
		}
		w.command(0x02, "otherdb")
		ok(1)
		w.command(0x02, "appdb")
		ok(1)
		w.command(0x03, "CREATE OR REPLACE TABLE fields (a INT, b TEXT)")
		ok(1)
		w.command(0x04, "fields\x00")
		ok(1)
		w.command(0x04, "nosuch\x00")
		w.wants(1, 1146)
		w.command(0x09, "") // statistics: text
		w.read()
		w.command(0x0a, "")
		ok(ends)
		w.command(0x0c, "\x01\x00\x00\x00") // COM_PROCESS_KILL
		if _, err := w.answer(); err == nil {
			t.Error("thread 1 was killed")
		}
		w.command(0x0e, "")
		ok(1)
		w.command(0x16, "SELECT seq FROM seq_1_to_10 WHERE seq > ?")
		_, prepared := w.read()
		for range 1 + 1 { // a parameter and a column
			w.read()
		}
		if flags&capDeprecateEOF == 0 {
			w.read()
			w.read()
		}
		id := string(prepared[1:5])
		w.command(0x18, id+"\x00\x005") // long data: no answer
		w.command(0x1a, id)             // reset
		ok(1)
		w.command(0x17, id+"\x01\x01\x00\x00\x00\x00\x01\x03\x00\x05\x00\x00\x00") // execute with a cursor
		cursor := w.rows()
		if cursor != 0 {
			t.Errorf("%d rows with a cursor", cursor)
		}
		w.command(0x1c, id+"\x02\x00\x00\x00") // fetch two
		if n := w.rowsOnly(); n != 2 {
			t.Errorf("%d rows fetched", n)
		}
		w.command(0x17, id+"\x00\x01\x00\x00\x00\x00\x01\x03\x00\x05\x00\x00\x00")
		if n := w.rows(); n != 5 && flags == 0 {
			t.Errorf("%d rows", n)
		}
		w.command(0x19, id) // close: no answer
		w.command(0x1f, "")
		ok(1)
		w.command(0x03, "SELECT CONNECTION_ID()")
		w.rows()
		w.command(0x01, "")
		w.over()
		eventually(t, "the session ends", func() bool { return len(d.Sessions()) == 0 })
		eventually(t, "the backend is warm", func() bool { return d.Warm(d.grant().Server) > 0 })
		d.Forget(d.grant().Server)
	}
}

// rows reads a result whose columns may be ended or not, and counts its rows.
func (w *wire) rows() int {
	w.t.Helper()
	_, count := w.read()
	if count[0] == 0xff {
		w.t.Fatalf("got %q", count)
	}
	for range count[0] {
		w.read()
	}
	_, next := w.read()
	if next[0] != 0xfe {
		return 1 + w.rowsOnly()
	}
	if status := binary.LittleEndian.Uint16(next[3:]); len(next) == 5 && status&0x40 == 0 {
		return w.rowsOnly()
	}
	return 0
}

func (w *wire) rowsOnly() (n int) {
	w.t.Helper()
	for ; ; n++ {
		_, row := w.read()
		switch {
		case row[0] == 0xff:
			w.t.Fatalf("got %q", row)
		case row[0] == 0xfe:
			return n
		}
	}
}

// TestHalfClose sends a query and the end of the stream at once; a server
// answers such a client, so we do.
func TestHalfClose(t *testing.T) {
	d := open(t)
	w := d.raw(0)
	w.command(3, "SELECT SLEEP(0.2)")
	if err := w.Conn.(*tls.Conn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if n := w.rows(); n != 1 {
		t.Errorf("%d rows", n)
	}
	w.over()
}

func TestBrokenStreams(t *testing.T) {
	d := open(t)
	for name, b := range map[string]string{
		"number 1": "\x01\x00\x00\x01\x0e", "empty": "\x00\x00\x00\x00", "empty, second": "\x01\x00\x00\x00\x0e\x00\x00\x00\x00",
		"a long goodbye": "\x02\x00\x00\x00\x01\x01", "cut": "\x00\x10\x00\x00\x03SELECT", "cut header": "\x01\x00",
		"a query and goodbye": "\x05\x00\x00\x00\x03DO 1\x01\x00\x00\x00\x01", "goodbye in two": "\x01\x00",
	} {
		w := d.raw(0)
		w.write([]byte(b))
		switch {
		case strings.HasPrefix(name, "cut"):
		case name == "goodbye in two":
			w.write([]byte("\x00\x00\x01"))
			w.over()
		case strings.HasPrefix(name, "number"), strings.HasPrefix(name, "empty"), strings.HasPrefix(name, "a long"):
			var e rawError
			_, err := w.answer()
			if name == "empty, second" && err == nil { // the ping's
				_, err = w.answer()
			}
			if !errors.As(err, &e) || e.errno != 1156 {
				t.Errorf("%s: %v", name, err)
			}
			w.over()
		default:
			w.over()
		}
		w.Close()
	}
	eventually(t, "all end", func() bool { return len(d.Sessions()) == 0 })
	if got := ask(t, d.login(), "SELECT 'fine'"); got != "fine" {
		t.Error(got)
	}
}

// TestFloodOfCommands: who pipelines without reading is cut off before what is
// noted about it grows.
func TestFloodOfCommands(t *testing.T) {
	d := open(t)
	w := d.raw(0)
	pings := bytes.Repeat(packet(0, []byte{0x0e}), 4096)
	w.write(packet(0, []byte("\x03SELECT SLEEP(10)")))
	for {
		if _, err := w.Write(pings); err != nil {
			break
		}
	}
	eventually(t, "it is cut off", func() bool { return len(d.Sessions()) == 0 })
	if r := d.ends()[0].Reason; r != gateway.BadProtocol {
		t.Errorf("it ended because %s", r)
	}
}

// TestChurn logs in, works, pauses and leaves in every way at once, while
// sessions park as often as they can and some are ended from outside.
func TestChurn(t *testing.T) {
	d := open(t, parkAlways)
	rounds := 30
	if testing.Short() {
		rounds = 10
	}
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 1))
			for range rounds {
				c, done, err := d.try(func(c *driver.Config) { c.Logger = &driver.NopLogger{} })
				if err != nil {
					t.Error(err)
					return
				}
				var s string
				for j := range r.IntN(5) {
					want := strings.Repeat("x", r.IntN(100_000))
					if err := c.QueryRowContext(context.Background(), "SELECT ?", want).Scan(&s); err != nil || s != want {
						t.Errorf("query %d: %d bytes, %v", j, len(s), err)
					}
					time.Sleep(time.Duration(r.IntN(4)) * time.Millisecond)
				}
				if r.IntN(4) == 0 {
					ctx, cancel := context.WithTimeout(context.Background(), time.Duration(r.IntN(5))*time.Millisecond)
					_, _ = c.ExecContext(ctx, "SELECT SLEEP(0.05)")
					cancel()
				}
				done()
			}
		})
	}
	all.Wait()
	eventually(t, "all end", func() bool { return len(d.Sessions()) == 0 })
}

// TestIdleSessions parks many and wakes them.
func TestIdleSessions(t *testing.T) {
	n := 1000
	if testing.Short() {
		n = 100
	}
	d := open(t, func(c *mysql.Config, _ *door) { c.Limits.IdleBeforePark = 20 * time.Millisecond; c.Warm.PerKey = -1 })
	connector, err := driver.NewConnector(d.config())
	if err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(connector)
	defer db.Close()
	conns := make([]*sql.Conn, n)
	var all sync.WaitGroup
	for part := range 8 {
		all.Go(func() {
			for i := part; i < n; i += 8 {
				var err error
				if conns[i], err = db.Conn(context.Background()); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	if t.Failed() {
		return
	}
	if got := len(d.Sessions()); got != n {
		t.Fatalf("%d sessions", got)
	}
	time.Sleep(100 * time.Millisecond) // in which they park
	for _, c := range conns {
		if got := ask(t, c, "SELECT 'awake'"); got != "awake" {
			t.Fatal(got)
		}
		_ = c.Close()
	}
}
