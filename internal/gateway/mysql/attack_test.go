package mysql_test

import (
	"encoding/binary"
	"errors"
	"io"
	"strconv"
	"testing"

	"github.com/hawser/hawser/internal/gateway/mysql"
)

// TestProcessKillOfAnyLength: servers take the first four bytes of
// COM_PROCESS_KILL whatever follows, so a longer one is no way around the
// mapping of ids.
func TestProcessKillOfAnyLength(t *testing.T) {
	d := open(t)
	victim := d.login()
	id, err := strconv.ParseUint(ask(t, victim, "SELECT CONNECTION_ID()"), 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	w := d.under()
	w.write(packet(2, response(loginFlags, "app", []byte(colleague+"\x00"), "appdb", "mysql_clear_password")))
	if _, b := w.read(); b[0] != 0 {
		t.Fatalf("%q", b)
	}
	for more, want := range map[int]uint16{0: 1095, 1: 1095, 100: 1095, 200: 1047, 1<<24 - 6: 1047} {
		w.command(0x0c, string(append(binary.LittleEndian.AppendUint32(nil, uint32(id)), make([]byte, more)...)))
		if more > 1<<20 {
			w.write(packet(1, nil))
		}
		_, err := w.answer()
		var e rawError
		if !errors.As(err, &e) || e.errno != want {
			t.Errorf("with %d bytes more: %v, want %d", more, err, want)
		}
	}
	if got := ask(t, victim, "SELECT 'alive'"); got != "alive" {
		t.Error(got)
	}
}

// TestServerThatEndsAFileEarly answers before the client has sent all of it,
// and takes what follows for commands: so does the gateway.
func TestServerThatEndsAFileEarly(t *testing.T) {
	seen := make(chan []byte, 1)
	p := startPeer(t, &peer{plugin: "mysql_native_password", script: func(c *peerConn) {
		c.send(ok0)
		for _, reply := range []string{"\xfbx", string(ok0)} {
			if _, ok := c.read(); !ok {
				return
			}
			c.send([]byte(reply))
		}
		body, _ := c.read()
		seen <- body
		_, _ = io.Copy(io.Discard, c)
	}})
	d := open(t, func(_ *mysql.Config, d *door) { d.addrOf = p.addr })
	w := d.raw(capLocalFiles)
	w.command(3, "LOAD DATA LOCAL INFILE 'x' INTO TABLE t")
	w.read()
	w.write(packet(2, []byte("a line\n")))
	if _, err := w.answer(); err != nil {
		t.Fatal(err)
	}
	w.command(0x11, "root\x00\x00\x00")
	if got := <-seen; len(got) == 0 || got[0] != 3 {
		t.Errorf("the server was sent %q", got)
	}
}
