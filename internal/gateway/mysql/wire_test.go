package mysql_test

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"
)

// Capability flags that the raw clients of these tests send.
const (
	capLocalFiles   = 1 << 7
	capSSL          = 1 << 11
	capMultiStmts   = 1 << 16
	capLenenc       = 1 << 21
	capSessionTrack = 1 << 23
	capDeprecateEOF = 1 << 24
	loginFlags      = 1<<0 | 1<<9 | 1<<13 | 1<<15 | 1<<17 | 1<<18 | 1<<19 // long password, 4.1, transactions, secure, results, plugins
)

// packet is body as one packet.
func packet(seq byte, body []byte) []byte {
	n := len(body)
	return append([]byte{byte(n), byte(n >> 8), byte(n >> 16), seq}, body...)
}

// response is the body of a HandshakeResponse41; an empty database or plugin
// is left out.
func response(flags uint32, user string, auth []byte, database, plugin string) []byte {
	if database != "" {
		flags |= 1 << 3
	}
	b := binary.LittleEndian.AppendUint32(nil, flags)
	b = binary.LittleEndian.AppendUint32(b, 1<<24)
	b = append(append(b, 45), make([]byte, 23)...)
	b = append(append(b, user...), 0)
	if flags&capLenenc != 0 && len(auth) > 250 {
		b = append(b, 0xfc, byte(len(auth)), byte(len(auth)>>8))
	} else {
		b = append(b, byte(len(auth)))
	}
	b = append(b, auth...)
	if database != "" {
		b = append(append(b, database...), 0)
	}
	return append(append(b, plugin...), 0)
}

func sslRequest() []byte {
	b := binary.LittleEndian.AppendUint32(nil, loginFlags|capSSL)
	return append(b, make([]byte, 28)...)
}

// secure reads the greeting and brings the connection under TLS.
func secure(c net.Conn, conf *tls.Config) (net.Conn, error) {
	if _, _, err := readRaw(c); err != nil {
		return nil, err
	}
	return upgrade(c, conf)
}

func upgrade(c net.Conn, conf *tls.Config) (net.Conn, error) {
	if _, err := c.Write(packet(1, sslRequest())); err != nil {
		return nil, err
	}
	t := tls.Client(c, conf)
	return t, t.Handshake()
}

func readRaw(c io.Reader) (seq byte, body []byte, err error) {
	var h [4]byte
	if _, err := io.ReadFull(c, h[:]); err != nil {
		return 0, nil, err
	}
	body = make([]byte, int(h[0])|int(h[1])<<8|int(h[2])<<16)
	_, err = io.ReadFull(c, body)
	return h[3], body, err
}

// wire is a client that knows no manners.
type wire struct {
	net.Conn
	t  testing.TB
	id uint32 // that the greeting told
}

// dial opens a connection and reads nothing.
func (d *door) dial() *wire {
	d.t.Helper()
	c, err := net.Dial("tcp", d.addr)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return &wire{Conn: c, t: d.t}
}

// under is a connection under TLS, with nothing said there yet.
func (d *door) under() *wire {
	d.t.Helper()
	w := d.dial()
	_, hello := w.read()
	_, rest, _ := bytes.Cut(hello, []byte{0})
	w.id = binary.LittleEndian.Uint32(rest)
	c, err := upgrade(w.Conn, &tls.Config{RootCAs: d.roots, ServerName: "localhost"})
	if err != nil {
		d.t.Fatal(err)
	}
	w.Conn = c
	return w
}

// raw is app's session, with further capabilities.
func (d *door) raw(flags uint32) *wire {
	d.t.Helper()
	w := d.under()
	w.write(packet(2, response(loginFlags|flags, "app", nil, "appdb", "mysql_native_password")))
	if seq, body := w.read(); seq != 3 || body[0] != 0xfe || string(body[1:]) != "mysql_clear_password\x00" {
		d.t.Fatalf("asked %d %q", seq, body)
	}
	w.write(packet(4, append([]byte(appTok), 0)))
	if seq, body := w.read(); seq != 5 || body[0] != 0 {
		d.t.Fatalf("answered %d %q", seq, body)
	}
	return w
}

func (w *wire) write(b []byte) {
	w.t.Helper()
	if _, err := w.Write(b); err != nil {
		w.t.Fatal(err)
	}
}

func (w *wire) read() (seq byte, body []byte) {
	w.t.Helper()
	seq, body, err := readRaw(w)
	if err != nil {
		w.t.Fatal(err)
	}
	return seq, body
}

// command sends one.
func (w *wire) command(code byte, argument string) {
	w.t.Helper()
	w.write(packet(0, append([]byte{code}, argument...)))
}

// rawError is an ERR packet as it came.
type rawError struct {
	seq   byte
	errno uint16
	state string
	text  string
}

func (e rawError) Error() string {
	return fmt.Sprintf("%d (%s) at %d: %s", e.errno, e.state, e.seq, e.text)
}

// answer reads packets until one that is OK, an error or an end, and counts
// those before it.
func (w *wire) answer() (before int, err error) {
	for ; ; before++ {
		seq, body, err := readRaw(w)
		if err != nil {
			return before, err
		}
		switch {
		case len(body) > 8 && body[0] == 0xff && body[3] == '#':
			return before, rawError{seq, binary.LittleEndian.Uint16(body[1:]), string(body[4:9]), string(body[9:])}
		case body[0] == 0xff:
			return before, fmt.Errorf("a malformed error: %q", body)
		case body[0] == 0 || body[0] == 0xfe && len(body) < 9:
			return before, nil
		}
	}
}

// wants reads an answer that must be this error.
func (w *wire) wants(seq byte, errno uint16) {
	w.t.Helper()
	_, err := w.answer()
	var e rawError
	if !errors.As(err, &e) || e.errno != errno || e.seq != seq {
		w.t.Errorf("got %v, want %d at %d", err, errno, seq)
	}
}

// over reads to the end, which must come.
func (w *wire) over() {
	w.t.Helper()
	_, err := io.Copy(io.Discard, w)
	var ne net.Error
	if errors.As(err, &ne) && ne.Timeout() {
		w.t.Error("the connection was left open")
	}
}
