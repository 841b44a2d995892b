package redis

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/gateway"
)

// FuzzCommand: a command is read the same whole or in part, and writing it
// again gives what is read again.
func FuzzCommand(f *testing.F) {
	for _, s := range []string{"*1\r\n$4\r\nPING\r\n", "*3\r\n$4\r\nAUTH\r\n$1\r\na\r\n$0\r\n\r\n", "PING \"a\\x41\\n\" 'it\\'s'\r\n", "\r\n", "*0\r\n", "*-1\r\n", "*1\r\n$-1\r\n",
		"*99999999999999999999\r\n", "*2\r\n$4\r\nPING\r\n:", "*1\r\n$65536\r\n", "a'b'\n", "\x00\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		args, n, err := parseCommand(b, beforeLogin)
		if n < 0 || n > len(b) || err != nil && n != 0 || len(args) > beforeLogin.args {
			t.Fatalf("%d of %d bytes, %d arguments, %v", n, len(b), len(args), err)
		}
		if n == 0 {
			return
		}
		for i := max(0, n-300); i < n; i++ {
			if _, m, err := parseCommand(b[:i], beforeLogin); m != 0 || err != nil {
				t.Fatalf("the first %d of %d bytes give %d, %v", i, n, m, err)
			}
		}
		if len(args) == 0 {
			return
		}
		raw := appendCommand(nil, args...)
		if b[0] == '*' && !bytes.Equal(raw, b[:n]) {
			t.Fatalf("%q is written as %q", b[:n], raw)
		}
		again, m, err := parseCommand(raw, limits{args: beforeLogin.args, bulk: beforeLogin.bulk, total: len(raw)})
		if m != len(raw) || err != nil || fmt.Sprintf("%q", again) != fmt.Sprintf("%q", args) {
			t.Fatalf("%q is read as %q, %v", raw, again, err)
		}
	})
}

// FuzzReplyWalker: cut at any place, the walk finds the same borders; and what
// can be decoded ends where the walk says.
func FuzzReplyWalker(f *testing.F) {
	for _, s := range []string{"+OK\r\n", "-ERR x\r\n:1\r\n", "$3\r\nabc\r\n$-1\r\n*-1\r\n", "*2\r\n*1\r\n+a\r\n%1\r\n+k\r\n_\r\n", ">3\r\n+message\r\n$1\r\na\r\n$1\r\nb\r\n",
		"|1\r\n+a\r\n+b\r\n:5\r\n", "*?\r\n:1\r\n*1\r\n:2\r\n.\r\n", "$?\r\n;4\r\nabcd\r\n;0\r\n", "=7\r\ntxt:abc\r\n(123\r\n#t\r\n,1.5\r\n!5\r\nERR x\r\n~0\r\n", "*99999999999999\r\n",
		"-" + strings.Repeat("x", 600) + "\r\n", "%?\r\n+a\r\n:1\r\n.\r\n"} {
		f.Add([]byte(s), uint64(3))
	}
	f.Fuzz(func(t *testing.T, b []byte, seed uint64) {
		var whole replyWalker
		end, ev, err := walkAll(&whole, b)
		if whole.atBorder() && err == nil && ev != half {
			decodes(t, b)
		}
		r := rand.New(rand.NewPCG(seed, 1))
		var parts replyWalker
		var held []byte
		var perr error
		for rest := b; len(rest) > 0 && perr == nil; {
			n := 1 + r.IntN(len(rest))
			chunk := append(held, rest[:n]...)
			rest = rest[n:]
			var at int
			at, _, perr = walkAll(&parts, chunk)
			held = bytes.Clone(chunk[at:])
		}
		if (err == nil) != (perr == nil) {
			t.Fatalf("whole: %v, in parts: %v", err, perr)
		}
		if err == nil && (whole.replies != parts.replies || whole.pending != parts.pending || len(b)-end != len(held)) {
			t.Fatalf("whole: %+v, in parts: %+v, held %q", whole, parts, held)
		}
	})
}

// walkAll walks through a chunk whatever it finds.
func walkAll(w *replyWalker, b []byte) (at int, ev event, err error) {
	w.begin()
	for {
		if at, ev, err = w.walk(b, at, false); err != nil || ev != wholeLine {
			return at, ev, err
		}
	}
}

// decodes checks that values end where the walk finds borders.
func decodes(t *testing.T, b []byte) {
	var w replyWalker
	w.begin()
	for at := 0; at < len(b); {
		v, n, err := parseValue(b[at:], maxDepth)
		if err != nil {
			return // of a kind that is not decoded
		}
		next, _, werr := w.walk(b, at, true)
		if werr != nil || next != at+n {
			t.Fatalf("a value of %d bytes at %d ends for the walker at %d, %v", n, at, next, werr)
		}
		if again := v.appendTo(nil); !bytes.Equal(again, b[at:next]) {
			t.Fatalf("%q is written as %q", b[at:next], again)
		}
		at = next
	}
}

// FuzzClientWalker: whatever a client sends and however it is cut, the backend
// gets whole commands as they were sent, or none; and never one of ours.
func FuzzClientWalker(f *testing.F) {
	for _, s := range []string{"*1\r\n$4\r\nPING\r\n", "*3\r\n$3\r\nSET\r\n$1\r\na\r\n$7\r\nmonitor\r\n*1\r\n$7\r\nMONITOR\r\n", "*2\r\n$4\r\nAUTH\r\n$1\r\na\r\n*1\r\n$3\r\nGET\r\n", "ping\r\n*0\r\nMONITOR\r\n",
		"*1\r\n$5\r\nRESET\r\n*1\r\n$4\r\nPING\r\n", "*1\r\n$5\r\nMULTI\r\n*2\r\n$6\r\nCLIENT\r\n$4\r\nLIST\r\n", "*3\r\n$6\r\nCLIENT\r\n$5\r\nREPLY\r\n$3\r\nOFF\r\n*1\r\n$5\r\nRESET\r\n", "*1\r\n$4\r\nQUIT\r\n*1\r\n$4\r\nPING\r\n",
		"*2\r\n$7\r\nCLUSTER\r\n$5\r\nSLOTS\r\n", "*5\r\n$5\r\nHELLO\r\n$1\r\n3\r\n$4\r\nAUTH\r\n$1\r\na\r\n$1\r\nb\r\n"} {
		f.Add([]byte(s), uint64(3))
	}
	f.Fuzz(func(t *testing.T, b []byte, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 1))
		whole, wnext := passed(t, b, func(n int) int { return n })
		parts, pnext := passed(t, b, func(n int) int { return 1 + r.IntN(n) })
		if wnext != pnext || !bytes.Equal(whole, parts) {
			t.Fatalf("whole: %q, %v; in parts: %q, %v", whole, wnext, parts, pnext)
		}
		for rest := whole; len(rest) > 0; {
			args, n, err := parseCommand(rest, limits{args: maxArgs, bulk: maxBulk, total: maxBulk})
			if err != nil || n == 0 {
				break // the end of what broke the protocol, or has not come yet
			}
			if len(args) > 0 {
				if act := actionOf(args[0]); act == fenced || act == auth && string(args[1]) != "backend-user" {
					t.Fatalf("%q reaches the backend", rest[:n])
				}
			}
			rest = rest[n:]
		}
	})
}

// passed returns what a backend gets of bytes that come in pieces.
func passed(t *testing.T, b []byte, piece func(int) int) ([]byte, gateway.Next) {
	var got bytes.Buffer
	s := offline(t, &got)
	src := &clientSide{nil, s}
	p := make([]byte, len(b)+tailSize)
	for len(b) > 0 {
		n := piece(len(b))
		src.Conn = sliceConn{Reader: bytes.NewReader(b[:n])}
		b = b[n:]
		m, err := src.Read(p)
		if err != nil {
			t.Fatal(err)
		}
		pass, next := s.fromClient(p[:m])
		if pass > 0 {
			if _, err := s.pump.Backend.Write(p[:pass]); err != nil {
				t.Fatal(err)
			}
		}
		if next == gateway.Break {
			return got.Bytes(), next
		}
	}
	return got.Bytes(), gateway.GoOn
}

// sliceConn is a connection of a test without a network.
type sliceConn struct {
	net.Conn
	io.Reader
	io.Writer
}

func (c sliceConn) Read(p []byte) (int, error)  { return c.Reader.Read(p) }
func (c sliceConn) Write(p []byte) (int, error) { return c.Writer.Write(p) }

// offline makes a session without a network, whose tokens are all refused.
func offline(t testing.TB, to io.Writer) *session {
	g := &Gateway{log: slog.New(slog.DiscardHandler), clock: time.Now, mine: map[connection]*session{}, clusters: map[string]*topology{},
		rules: gateway.Rules{Verify: refuseAll}}
	var err error
	if g.Gate, err = gateway.New(gateway.Options{Protocol: "redis", Log: g.log, Clock: time.Now}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.Gate.Shutdown(t.Context()) })
	conn := sliceConn{Writer: to}
	l := &login{g: g, conn: conn, host: "s1.redis.test"}
	info := gateway.Session{Who: az.Principal{ObjectID: "o", Expires: time.Now().Add(time.Hour)}, Grant: gateway.Grant{User: "backend-user", Password: az.NewSecret("p")}}
	s := newSession(l, info, &backend{conn: conn, addr: "10.0.0.7:6379", nonce: []byte("HAWSER-TEST-")}, nil)
	s.timer = time.NewTimer(time.Hour)
	t.Cleanup(func() { s.timer.Stop() })
	return s
}

// FuzzRedirect: what a cluster says is renamed or passes as it is, however it
// is cut, and never stops the stream.
func FuzzRedirect(f *testing.F) {
	for _, s := range []string{"-MOVED 1 10.0.0.8:6379\r\n", "-ASK 1 :6379\r\n", "-MOVED 1 ::1:6379\r\n", "-MOVED x\r\n", "-MOVED 1 10.0.0.8:99999\r\n+OK\r\n",
		"*1\r\n*3\r\n:0\r\n:5\r\n*4\r\n$8\r\n10.0.0.8\r\n:6379\r\n$1\r\nx\r\n*2\r\n$2\r\nip\r\n$1\r\ny\r\n", "$37\r\nabc 10.0.0.8:6379@1,h myself,master -\n\r\n",
		"*1\r\n*4\r\n$5\r\nslots\r\n*0\r\n$5\r\nnodes\r\n*1\r\n*4\r\n$2\r\nip\r\n$8\r\n10.0.0.8\r\n$4\r\nport\r\n:6379\r\n", ">1\r\n+x\r\n$-1\r\n", "-ERR unknown command 'HAWSER-TEST-1', with\r\n+RESET\r\n+OK\r\n"} {
		f.Add([]byte(s), uint64(1), true)
		f.Add([]byte(s), uint64(9), false)
	}
	f.Fuzz(func(t *testing.T, b []byte, seed uint64, naming bool) {
		r := rand.New(rand.NewPCG(seed, 1))
		whole, werr := heard(t, b, naming, func(n int) int { return n })
		parts, perr := heard(t, b, naming, func(n int) int { return 1 + r.IntN(n) })
		if (werr == nil) != (perr == nil) || werr == nil && !bytes.Equal(whole, parts) {
			t.Fatalf("whole: %q, %v; in parts: %q, %v", whole, werr, parts, perr)
		}
	})
}

// heard returns what a client gets of bytes that come in pieces.
func heard(t *testing.T, b []byte, naming bool, piece func(int) int) ([]byte, error) {
	s := offline(t, io.Discard)
	s.t.asked, s.t.heard = time.Now(), time.Now()
	known := &node{addr: "10.0.0.8:6379", port: "7001"}
	s.t.nodes = map[string]*node{known.addr: known, "h:6379": known}
	s.naming = naming
	s.mark(mark{what: replace, reply: []byte("+REPLACED\r\n")})
	var got []byte
	p := make([]byte, max(4096, 2*len(b)))
	for len(b) > 0 {
		n := piece(len(b))
		in := bytes.NewReader(b[:n])
		b = b[n:]
		for {
			m, err := s.readBackend(sliceConn{Reader: in}, p)
			if border, _ := s.fromBackend(nil); m > 0 && (border < -1 || border > m) {
				t.Fatalf("a border at %d of %d", border, m)
			}
			got = append(got, p[:m]...)
			if err != nil {
				if err != io.EOF {
					return got, err
				}
				break
			}
		}
	}
	return got, nil
}
