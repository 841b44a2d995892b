package tds_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/gateway"
	"github.com/hawser/hawser/internal/gateway/tds"
	"github.com/hawser/hawser/internal/gateway/tds/tdstest"
)

// loginAck, done and change are tokens of an answer to LOGIN7.
func loginAck() []byte {
	body := append(append([]byte{1, 0x74, 0, 0, 4, 1}, utf16le("S")...), 1, 2, 3, 4)
	return append([]byte{0xad, byte(len(body)), 0}, body...)
}

func done(status byte) []byte { return append([]byte{0xfd, status}, make([]byte, 11)...) }

func change(kind byte, body ...byte) []byte {
	return append([]byte{0xe3, byte(len(body) + 1), 0, kind}, body...)
}

// scripted is a plain backend that lets everybody in and then does as it is
// told.
func scripted(t testing.TB, prelogin, welcome []byte, session func(net.Conn)) func(*tds.Config, *door) {
	return func(_ *tds.Config, d *door) {
		d.grant.TLS = nil
		d.grant.Addr = liar(t, prelogin, func(c net.Conn) {
			_, _ = c.Write(packet(4, 1, welcome))
			if session != nil {
				session(c)
			}
		})
	}
}

// in logs in by hand and returns the connection and the answer.
func (d *door) in(t testing.TB, hello, login []byte) (net.Conn, []byte) {
	t.Helper()
	s := d.secured(t, hello)
	_, _ = s.Write(packet(16, 1, login))
	b, err := readPacket(s)
	if err != nil || bytes.Contains(b, utf16le("ailed")) {
		t.Fatalf("%q: %v", text16(b), err)
	}
	return s, b
}

// TestNamesOfOtherServers: what a backend says about other servers (the
// partner of a mirrored database, a user's instance, routing of either kind)
// never reaches the client, which would go there with its token.
func TestNamesOfOtherServers(t *testing.T) {
	evil := utf16le("evil.test")
	name := append([]byte{byte(len(evil) / 2)}, evil...)
	routed := append(binary.LittleEndian.AppendUint16([]byte{0, 0x99, 5}, uint16(len(evil)/2)), evil...)
	routed = append(binary.LittleEndian.AppendUint16(nil, uint16(len(routed))), append(routed, 0, 0)...)
	for kind, body := range map[byte][]byte{13: append(slices.Clone(name), 0), 19: append(slices.Clone(name), 0), 21: routed} {
		db := append([]byte{2}, append(utf16le("db"), 0)...)
		d := open(t, tdstest.Options{}, scripted(t, plainHello(2), slices.Concat(change(1, db...), change(kind, body...), loginAck(), done(0)), nil))
		_, b := d.in(t, helloWith(nil, 0), login7(withToken(3, appTok, nil)))
		if bytes.Contains(b, evil) {
			t.Errorf("ENVCHANGE %d reached the client", kind)
		}
		if !bytes.Contains(b, utf16le("db")) {
			t.Error("the database did not reach the client")
		}
	}
}

// TestFeaturesThatPass: a backend is asked for features that are known here,
// without that by which it could send the client elsewhere.
func TestFeaturesThatPass(t *testing.T) {
	d := open(t, tdstest.Options{})
	var all [][]byte
	for _, id := range []byte{0x04, 0x09, 0x0a, 0x0f, 0x10, 0x77} {
		all = append(all, feature(id, []byte{1}))
	}
	d.in(t, helloWith(nil, 0), login7(append(all, withToken(3, appTok, nil))...))
	var got []byte
	for _, f := range d.sql.Seen()[0].Features {
		got = append(got, f.ID)
	}
	if want := []byte{0x04, 0x09, 0x0a, 0x10}; !slices.Equal(got, want) {
		t.Errorf("the backend was asked for %x, want %x", got, want)
	}
}

// TestSentBehindAnAttention: the acknowledgement of an attention answers
// nothing that was sent behind it. The backend that still runs that is not
// kept, and is stopped when the session is ended, by KILL if it must be: while
// its connection is there, so that its number is nobody else's.
func TestSentBehindAnAttention(t *testing.T) {
	for name, leaves := range map[string]bool{"the client leaves": true, "it is ended": false} {
		t.Run(name, func(t *testing.T) {
			acked, over, killed := make(chan struct{}), make(chan []byte, 1), make(chan bool, 1)
			gone := make(chan struct{})
			d := open(t, tdstest.Options{}, scripted(t, plainHello(2), append(loginAck(), done(0)...), func(c net.Conn) {
				for range 3 {
					_, _ = readPacket(c)
				}
				_, _ = c.Write(packet(4, 1, done(0x20)))
				close(acked)
				rest, _ := io.ReadAll(c)
				close(gone)
				over <- rest
			}), func(c *tds.Config, _ *door) {
				c.Terminate = func(context.Context, az.ID, string, uint64) error {
					select {
					case <-gone:
						killed <- false
					default:
						killed <- true
					}
					return nil
				}
			})
			s, _ := d.in(t, helloWith(nil, 0), login7(withToken(3, appTok, nil)))
			_, _ = s.Write(slices.Concat(packet(1, 1, []byte("first")), packet(6, 1, nil), packet(1, 1, []byte("second"))))
			<-acked
			if _, err := readPacket(s); err != nil {
				t.Fatal(err)
			}
			if leaves {
				_ = s.Close()
				if rest := <-over; len(rest) != 0 {
					t.Errorf("a busy backend was sent %x", rest)
				}
				return
			}
			d.End(d.Sessions()[0].ID, gateway.Asked)
			select {
			case there := <-killed:
				if !there {
					t.Error("it was ended in the server after its connection had been closed")
				}
			case <-time.After(5 * time.Second):
				t.Error("it was not ended in the server")
			}
			if rest := <-over; !bytes.Equal(rest, packet(6, 1, nil)) {
				t.Errorf("the backend was sent %x", rest)
			}
		})
	}
}

// TestAttentions: one without an end, and a flood of them, break the protocol.
func TestAttentions(t *testing.T) {
	for name, b := range map[string][]byte{"no end": packet(6, 0, nil), "a flood": bytes.Repeat(packet(6, 1, nil), 100)} {
		d := open(t, tdstest.Options{Lenient: true}, scripted(t, plainHello(2), append(loginAck(), done(0)...), nil))
		s, _ := d.in(t, helloWith(nil, 0), login7(withToken(3, appTok, nil)))
		_, _ = s.Write(b)
		if b, err := io.ReadAll(s); !bytes.Contains(b, utf16le("malformed")) {
			t.Errorf("%s: %q %v", name, text16(b), err)
		}
	}
}

// TestWithinFrames: what may not come to the backend may not come within a
// frame of SMP either.
func TestWithinFrames(t *testing.T) {
	hello := bytes.Replace(helloWith(nil, 1), []byte{1, 2, 3, 4, 5, 6, 1, 1}, []byte{1, 2, 3, 4, 5, 6, 2, 1}, 1)
	frame := func(b []byte) []byte {
		return append([]byte{0x53, 8, 0, 0, byte(16 + len(b)), 0, 0, 0, 1, 0, 0, 0, 4, 0, 0, 0}, b...)
	}
	good := frame(packet(1, 1, []byte("batch")))
	for name, bad := range map[string][]byte{
		"LOGIN7":      frame(packet(16, 1, []byte("login"))),
		"PRELOGIN":    frame(packet(18, 1, []byte("hello"))),
		"half of one": frame(packet(1, 1, nil)[:7]),
		"two in one":  frame(append(packet(1, 1, nil), packet(16, 1, []byte("login"))...)),
		"nothing":     frame(nil),
	} {
		got := make(chan []byte, 1)
		d := open(t, tdstest.Options{}, scripted(t, hello, append(loginAck(), done(0)...), func(c net.Conn) {
			b, _ := io.ReadAll(c)
			got <- b
		}))
		s, _ := d.in(t, helloWith(nil, 1), login7(withToken(3, appTok, nil)))
		for _, b := range good { // in any pieces
			_, _ = s.Write([]byte{b})
		}
		eventually(t, "the frame arrives", func() bool { return len(d.Sessions()) == 1 })
		time.Sleep(20 * time.Millisecond)
		_, _ = s.Write(bad)
		if b := <-got; !bytes.Equal(b, good) {
			t.Errorf("%s: the backend was sent %x", name, b)
		}
	}
}

// TestTokenInTheWrongField: a token where a name should be is not shown again,
// to the log least of all.
func TestTokenInTheWrongField(t *testing.T) {
	var log bytes.Buffer
	d := open(t, tdstest.Options{}, func(c *tds.Config, _ *door) { c.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	const token = "eyJhbGciOiJSUzI1NiIsImtpZCI6IjEifQ.eyJvaWQiOiIxIn0.c2ln"
	err := d.byPassword(t, token, "x")
	eventually(t, "it is over", func() bool { return len(d.Sessions()) == 0 })
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	d.Shutdown(ctx)
	if number(err) != 18456 || strings.Contains(err.Error(), token) || strings.Contains(log.String(), token) || !strings.Contains(log.String(), "login refused") {
		t.Errorf("%v\n%s", err, log.String())
	}
}

// TestNoTLSWithinTLS: a client of TDS 8 that says in its PRELOGIN that it does
// no TLS, as it is within one already, is told no other.
func TestNoTLSWithinTLS(t *testing.T) {
	d := open(t, tdstest.Options{}, func(_ *tds.Config, d *door) { d.grant.TLS.NextProtos = []string{"tds/8.0"} })
	s := tls.Client(d.raw(t), &tls.Config{RootCAs: d.pool, ServerName: "s1." + domain, NextProtos: []string{"tds/8.0"}})
	_, _ = s.Write(packet(18, 1, plainHello(2)))
	if b, err := readPacket(s); err != nil || b[encryptionAt(b)] != 2 {
		t.Fatalf("PRELOGIN is answered by %x: %v", b, err)
	}
	login := login7(withToken(2, appTok, nil))
	copy(login[4:], []byte{0, 0, 0, 8})
	_, _ = s.Write(packet(16, 1, login))
	if b, err := readPacket(s); err != nil || bytes.Contains(b, utf16le("ailed")) {
		t.Errorf("%q: %v", text16(b), err)
	}
}
