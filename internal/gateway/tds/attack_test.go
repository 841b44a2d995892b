package tds_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/hawser/hawser/internal/gateway/tds"
	"github.com/hawser/hawser/internal/gateway/tds/tdstest"
)

func utf16le(s string) []byte {
	var b []byte
	for _, u := range utf16.Encode([]rune(s)) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return b
}

// login7 is a LOGIN7 with features and nothing else.
func login7(features ...[]byte) []byte {
	b := make([]byte, 94)
	le := binary.LittleEndian
	le.PutUint32(b[4:], 0x74000004)
	le.PutUint32(b[8:], 4096)
	b[27] = 0x10
	le.PutUint16(b[56:], 94)
	le.PutUint16(b[58:], 4)
	b = le.AppendUint32(b, 98)
	for _, f := range features {
		b = append(b, f...)
	}
	b = append(b, 0xff)
	le.PutUint32(b, uint32(len(b)))
	return b
}

// feature is an entry of FeatureExt.
func feature(id byte, data []byte) []byte {
	return append(binary.LittleEndian.AppendUint32([]byte{id}, uint32(len(data))), data...)
}

// withToken is FEDAUTH with a token; the options say library and echo.
func withToken(options byte, token string, nonce []byte) []byte {
	raw := utf16le(token)
	return feature(2, append(append(binary.LittleEndian.AppendUint32([]byte{options}, uint32(len(raw))), raw...), nonce...))
}

// helloWith is a PRELOGIN with FEDAUTHREQUIRED and, if there is one, a nonce
// and MARS.
func helloWith(nonce []byte, mars byte) []byte {
	options := []struct {
		id   byte
		data []byte
	}{{0, []byte{1, 2, 3, 4, 5, 6}}, {1, []byte{1}}, {4, []byte{mars}}, {6, []byte{1}}, {7, nonce}}
	if nonce == nil {
		options = options[:4]
	}
	at, body := 5*len(options)+1, []byte(nil)
	var head []byte
	for _, o := range options {
		head = append(head, o.id)
		head = binary.BigEndian.AppendUint16(head, uint16(at+len(body)))
		head = binary.BigEndian.AppendUint16(head, uint16(len(o.data)))
		body = append(body, o.data...)
	}
	return append(append(head, 0xff), body...)
}

// TestRawLogins: what no driver sends is refused in words, and what the
// protocol allows is let in.
func TestRawLogins(t *testing.T) {
	d := open(t, tdstest.Options{})
	for name, c := range map[string]struct {
		login []byte
		want  string // "" for in
	}{
		"good":                 {login7(withToken(3, appTok, nil)), ""},
		"good, big token":      {login7(withToken(3, "long"+strings.Repeat("x", 20_000), nil)), ""},
		"no features":          {login7(), "Login failed for user ''."},
		"no token":             {login7(withToken(3, "", nil)), nobody},
		"FEDAUTH twice":        {login7(withToken(3, appTok, nil), withToken(3, appTok, nil)), "malformed"},
		"no echo":              {login7(withToken(2, appTok, nil)), "malformed"},
		"a nonce nobody asked": {login7(withToken(3, appTok, make([]byte, 32))), "nonce"},
		"live id":              {login7(withToken(1, appTok, nil)), "not supported"},
		"half a character":     {login7(feature(2, []byte{3, 3, 0, 0, 0, 'a', 0, 'b'})), nobody},
		"cut":                  {login7(withToken(3, appTok, nil))[:120], "malformed"},
		"random":               {bytes.Repeat([]byte{0xff}, 300), "malformed"},
		"empty":                {nil, "malformed"},
	} {
		t.Run(name, func(t *testing.T) {
			s := d.secured(t, helloWith(nil, 0))
			for rest := c.login; ; rest = rest[4000:] { // in packets
				if len(rest) <= 4000 {
					_, _ = s.Write(packet(16, 1, rest))
					break
				}
				_, _ = s.Write(packet(16, 0, rest[:4000]))
			}
			b, err := readPacket(s)
			if err != nil {
				t.Fatal(err)
			}
			if in := bytes.Contains(b, []byte{0xae, 2, 0, 0, 0, 0, 0xff}); in != (c.want == "") {
				t.Errorf("in: %v: %q", in, text16(b))
			}
			if !strings.Contains(text16(b), c.want) {
				t.Errorf("answered by %q", text16(b))
			}
		})
	}
}

// TestNonce: a client that gives a nonce gets one, must show it, and has its
// own acknowledged.
func TestNonce(t *testing.T) {
	d := open(t, tdstest.Options{})
	mine := bytes.Repeat([]byte{9}, 32)
	for _, right := range []bool{true, false} {
		raw := d.raw(t)
		_, _ = raw.Write(packet(18, 1, helloWith(mine, 0)))
		b, err := readPacket(raw)
		if err != nil {
			t.Fatal(err)
		}
		theirs := b[len(b)-32:]
		if !right {
			theirs = mine
		}
		in := &inPackets{Conn: raw}
		s := tls.Client(in, &tls.Config{RootCAs: d.pool, ServerName: "s1." + domain})
		if err := s.Handshake(); err != nil {
			t.Fatal(err)
		}
		in.over = true
		_, _ = s.Write(packet(16, 1, login7(withToken(3, appTok, theirs))))
		if b, err = readPacket(s); err != nil {
			t.Fatal(err)
		}
		if got := bytes.Contains(b, append([]byte{0xae, 2, 32, 0, 0, 0}, mine...)); got != right {
			t.Errorf("with the right nonce %v: %q", right, text16(b))
		}
	}
}

// TestBadBytes: what is no protocol at all ends the connection.
func TestBadBytes(t *testing.T) {
	d := open(t, tdstest.Options{})
	for name, b := range map[string][]byte{
		"HTTP":              []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
		"short packet":      {18, 1, 0, 4, 0, 0, 0, 0},
		"huge PRELOGIN":     packet(18, 1, make([]byte, 30_000)),
		"empty PRELOGIN":    packet(18, 1, nil),
		"options outside":   packet(18, 1, []byte{0, 0, 200, 0, 6, 0xff}),
		"endless PRELOGIN":  bytes.Repeat(packet(18, 0, nil), 1000),
		"a batch":           packet(1, 1, []byte("SELECT 1")),
		"TLS that is none":  append(packet(18, 1, plainHello(1)), packet(18, 1, []byte("no TLS at all, but long enough"))...),
		"TLS first, no TLS": append([]byte{0x16, 3, 1, 0, 40}, make([]byte, 60)...),
		"batch for TLS":     append(packet(18, 1, plainHello(1)), packet(1, 1, make([]byte, 40))...),
	} {
		c := d.raw(t)
		_, _ = c.Write(b)
		if _, err := io.Copy(io.Discard, c); err != nil && strings.Contains(err.Error(), "timeout") {
			t.Errorf("%s: the connection stays open", name)
		}
	}
	c := tls.Client(d.raw(t), &tls.Config{RootCAs: d.pool, ServerName: "s1." + domain}) // TLS first, without the name of the protocol
	_, _ = c.Write(packet(18, 1, plainHello(1)))
	if b, _ := io.ReadAll(c); !strings.Contains(text16(b), "tds/8.0") {
		t.Errorf("TLS first without ALPN: %q", text16(b))
	}
	if len(d.targets()) != 0 {
		t.Error("somebody was asked about")
	}
}

// TestSecondLogin: within a session nobody logs in again at the backend.
func TestSecondLogin(t *testing.T) {
	d := open(t, tdstest.Options{})
	for _, kind := range []byte{16, 18, 17, 8, 2} {
		s := d.secured(t, helloWith(nil, 0))
		_, _ = s.Write(packet(16, 1, login7(withToken(3, appTok, nil))))
		if _, err := readPacket(s); err != nil {
			t.Fatal(err)
		}
		_, _ = s.Write(packet(kind, 1, login7()))
		if b, _ := io.ReadAll(s); !strings.Contains(text16(b), "malformed") {
			t.Errorf("a packet of type %d: %q", kind, text16(b))
		}
	}
	if n := len(d.sql.Seen()); n != 5 {
		t.Errorf("the server saw %d logins, want 5", n)
	}
}

// liar is a backend that answers PRELOGIN and LOGIN7 as it is told.
func liar(t testing.TB, prelogin []byte, answer func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { // ends with the listener
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.SetDeadline(time.Now().Add(5 * time.Second))
			_, _ = readPacket(c)
			_, _ = c.Write(packet(4, 1, prelogin))
			if answer != nil {
				if _, err := readPacket(c); err == nil {
					answer(c)
				}
			}
			_, _ = io.Copy(io.Discard, c)
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return l.Addr().String()
}

// TestLyingBackends: a backend that says what it may not is no way in, and the
// client is not told more than that it is not available.
func TestLyingBackends(t *testing.T) {
	ack := append([]byte{1, 0x74, 0, 0, 4, 1}, utf16le("S")...)
	loginAck := append([]byte{0xad, byte(len(ack) + 4), 0}, append(ack, 1, 2, 3, 4)...)
	done := append([]byte{0xfd}, make([]byte, 12)...)
	say := func(parts ...[]byte) func(net.Conn) {
		return func(c net.Conn) { _, _ = c.Write(packet(4, 1, bytes.Join(parts, nil))) }
	}
	plain := plainHello(2)
	for name, c := range map[string]struct {
		prelogin []byte
		answer   func(net.Conn)
		tls      bool
	}{
		"no TLS where it is wanted": {prelogin: plainHello(2), tls: true},
		"TLS off":                   {prelogin: plainHello(0), tls: true},
		"garbage for PRELOGIN":      {prelogin: []byte{1, 2, 3}},
		"MARS that nobody wanted":   {prelogin: helloWith(nil, 1)},
		"no LOGINACK":               {prelogin: plain, answer: say(done)},
		"no DONE":                   {prelogin: plain, answer: say(loginAck)},
		"LOGINACK twice":            {prelogin: plain, answer: say(loginAck, loginAck, done)},
		"another version":           {prelogin: plain, answer: say(bytes.Replace(loginAck, []byte{0x74}, []byte{0x72}, 1), done)},
		"bytes behind DONE":         {prelogin: plain, answer: say(loginAck, done, done)},
		"a feature nobody wanted":   {prelogin: plain, answer: say(loginAck, []byte{0xae, 4, 1, 0, 0, 0, 1, 0xff}, done)},
		"FEDAUTH":                   {prelogin: plain, answer: say(loginAck, []byte{0xae, 2, 0, 0, 0, 0, 0xff}, done)},
		"FEDAUTHINFO":               {prelogin: plain, answer: say([]byte{0xee, 4, 0, 0, 0, 0, 0, 0, 0})},
		"SSPI":                      {prelogin: plain, answer: say([]byte{0xed, 1, 0, 1})},
		"rows":                      {prelogin: plain, answer: say([]byte{0x81, 1, 0})},
		"packets of 100":            {prelogin: plain, answer: say([]byte{0xe3, 9, 0, 4, 3, '1', 0, '0', 0, '0', 0, 0}, loginAck, done)},
		"elsewhere":                 {prelogin: plain, answer: say(loginAck, []byte{0xe3, 12, 0, 20, 7, 0, 0, 1, 0, 1, 0, 'x', 0, 0, 0}, done)},
		"an endless answer": {prelogin: plain, answer: func(c net.Conn) {
			for {
				if _, err := c.Write(packet(4, 0, make([]byte, 30_000))); err != nil {
					return
				}
			}
		}},
		"an endless message of nothing": {prelogin: plain, answer: func(c net.Conn) {
			for {
				if _, err := c.Write(packet(4, 0, nil)); err != nil {
					return
				}
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			d := open(t, tdstest.Options{}, func(_ *tds.Config, d *door) {
				d.grant.Addr = liar(t, c.prelogin, c.answer)
				if !c.tls {
					d.grant.TLS = nil
				}
			})
			if _, err := d.connect(t, how{}); number(err) != 40613 {
				t.Errorf("answered by %v", err)
			}
		})
	}
}

// TestRouting: a server that names another one is followed only where TLS
// proves that one, and only within the first one's domain.
func TestRouting(t *testing.T) {
	for _, host := range []string{"elsewhere.test", "127.0.0.1", "hawser.test", "localhost"} {
		d := open(t, tdstest.Options{Route: func() (string, uint16) { return host, 1433 }}, func(_ *tds.Config, d *door) {
			d.grant.TLS.ServerName = "sql.hawser.test"
		})
		if _, err := d.connect(t, how{}); number(err) != 40613 {
			t.Errorf("routed to %s: %v", host, err)
		}
		if n := len(d.sql.Seen()); n != 1 {
			t.Errorf("%d logins", n)
		}
	}
}

// TestStatements: an administrator's statement becomes the plane's; nobody
// else's are read.
func TestStatements(t *testing.T) {
	const mine = "CREATE USER [x] FROM EXTERNAL PROVIDER"
	statement := func(_ context.Context, sql string) (string, bool) { return "SELECT 'the plane answers'", sql == mine }
	d := open(t, tdstest.Options{}, func(_ *tds.Config, d *door) { d.grant.Statement = statement })
	c := d.mustConnect(t, how{})
	if got := ask(t, c, mine); got != "the plane answers" {
		t.Errorf("as a batch: %q", got)
	}
	if got := ask(t, c, mine, 1); got != "the plane answers" {
		t.Errorf("with a parameter: %q", got)
	}
	if got := ask(t, c, "SELECT 'mine'"); got != "mine" {
		t.Errorf("another: %q", got)
	}
	sumOf(t, c, 1000)
	d.set(func() { d.grant.Statement = nil })
	c = d.mustConnect(t, how{})
	if _, err := c.ExecContext(background(t), mine); number(err) != 102 {
		t.Errorf("as nobody's administrator: %v", err)
	}
}

// TestLateMARS: a client that was promised MARS is not let in where the server
// has none.
func TestLateMARS(t *testing.T) {
	d := open(t, tdstest.Options{})
	s := d.secured(t, helloWith(nil, 1))
	_, _ = s.Write(packet(16, 1, login7(withToken(3, appTok, nil))))
	if b, err := readPacket(s); err != nil || !strings.Contains(text16(b), "not currently available") {
		t.Errorf("%q: %v", text16(b), err)
	}
}

// TestMARS: frames of SMP go through as they are, and what is no frame ends
// the session.
func TestMARS(t *testing.T) {
	ack := append([]byte{1, 0x74, 0, 0, 4, 1}, utf16le("S")...)
	welcome := append(append([]byte{0xad, byte(len(ack) + 4), 0}, append(ack, 1, 2, 3, 4)...), append([]byte{0xfd}, make([]byte, 12)...)...)
	hello := bytes.Replace(helloWith(nil, 1), []byte{1, 2, 3, 4, 5, 6, 1, 1}, []byte{1, 2, 3, 4, 5, 6, 2, 1}, 1)
	d := open(t, tdstest.Options{}, func(_ *tds.Config, d *door) {
		d.grant.TLS = nil
		d.grant.Addr = liar(t, hello, func(c net.Conn) {
			_, _ = c.Write(packet(4, 1, welcome))
			_, _ = io.Copy(c, c)
		})
	})
	s := d.secured(t, helloWith(nil, 1))
	_, _ = s.Write(packet(16, 1, login7(withToken(3, appTok, nil))))
	if _, err := readPacket(s); err != nil {
		t.Fatal(err)
	}
	syn := []byte{0x53, 1, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0}
	data := append([]byte{0x53, 8, 0, 0, 30, 0, 0, 0, 1, 0, 0, 0, 4, 0, 0, 0}, packet(1, 1, []byte("answer"))...)
	for range 100 {
		both := append(bytes.Clone(syn), data...)
		_, _ = s.Write(both)
		got := make([]byte, len(both))
		if _, err := io.ReadFull(s, got); err != nil || !bytes.Equal(got, both) {
			t.Fatalf("%x: %v", got, err)
		}
	}
	_, _ = s.Write(packet(1, 1, []byte("no frame at all.....")))
	if b, err := io.ReadAll(s); len(b) != 0 || err != nil && strings.Contains(err.Error(), "timeout") {
		t.Errorf("%q %v", b, err)
	}
}
