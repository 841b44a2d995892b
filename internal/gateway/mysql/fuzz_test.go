package mysql

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"

	"github.com/hawser/hawser/internal/gateway"
)

// FuzzHandshakeResponse checks that whatever passes is one user, at most one
// server, and no capability that was not offered.
func FuzzHandshakeResponse(f *testing.F) {
	head := func(flags uint32) []byte {
		return append(binary.LittleEndian.AppendUint32(nil, flags), make([]byte, 28)...)
	}
	f.Add(append(head(mandatory), "app\x00\x03abcplugin\x00"...), "mysql.test")
	f.Add(append(head(mandatory|capLenencAuth|capConnectWithDB|capConnectAttrs), "app@s1\x00\xfc\x03\x00abcdb\x00mysql_clear_password\x00\x04\x01a\x01b"...), "mysql.test")
	f.Add(append(head(mandatory|capConnectWithDB), "app@s1.mysql.test\x00\x00db\x00p"...), "mysql.test")
	f.Add(head(mandatory), "")
	f.Add([]byte{1}, "")
	f.Fuzz(func(t *testing.T, body []byte, domain string) {
		r, err := parseResponse(body, domain)
		if err != nil {
			var told *refusal
			if !errors.As(err, &told) || len(told.encode(2)) > 1<<10 {
				t.Fatalf("not a refusal of modest size: %v", err)
			}
			return
		}
		if r.flags&^uint32(offered) != 0 || r.server != "" && !gateway.IsServerName(r.server) || len(r.user) > maxName || len(r.auth) > len(body) {
			t.Fatalf("let in %+v", r)
		}
		for _, s := range []string{r.user, r.database, r.plugin} {
			if bytes.IndexByte([]byte(s), 0) >= 0 || !bytes.Contains(body, []byte(s)) {
				t.Fatalf("made up %q", s)
			}
		}
	})
}

// FuzzBackendGreeting checks the reader of a server's greeting.
func FuzzBackendGreeting(f *testing.F) {
	f.Add(greeting("8.0.36", 7))
	f.Add(greeting("5.5.5-10.11.6-MariaDB", 1<<30))
	f.Add([]byte("\xff\x10\x04Too many connections"))
	f.Add([]byte("\xff\x10\x04#08004Too many connections"))
	f.Add(greeting("8.0.36", 7)[:40])
	f.Fuzz(func(t *testing.T, body []byte) {
		h, err := parseGreeting(body)
		if err != nil {
			var r *refusal
			if !errors.As(backendRefusal(err, &response{}), &r) || len(r.encode(2)) > 1<<10 {
				t.Fatalf("not a refusal of modest size: %v", err)
			}
			return
		}
		if len(h.scramble) != scrambleSize || h.flags&capPluginAuth == 0 {
			t.Fatalf("let in %+v", h)
		}
		v := versions{of: map[string]string{}}
		v.learn("s", h.version)
		again, err := parseGreeting(greeting(v.told(), h.id))
		if err != nil || again.id != h.id || again.flags != offered || again.plugin != native {
			t.Fatalf("told %+v, %v", again, err)
		}
	})
}

// scripted is a server's side of a login, and what it was sent.
type scripted struct {
	io.Reader
	sent bytes.Buffer
}

func (s *scripted) Write(b []byte) (int, error) { return s.sent.Write(b) }

// FuzzAuthSwitch lets a server say anything during a login that nobody on the
// way may read: the password is never among what it is sent, and it ends.
func FuzzAuthSwitch(f *testing.F) {
	const password = "the password that nobody may see"
	add := func(bodies ...string) {
		var b []byte
		for i, body := range bodies {
			b = appendPacket(b, byte(2+2*i), []byte(body))
		}
		f.Add(b)
	}
	add("\xfemysql_clear_password\x00", "\x00\x00\x00\x02\x00")
	add("\xfemysql_native_password\x00abcdefghijklmnopqrst\x00", "\x00\x00\x00\x02\x00")
	add("\xfecaching_sha2_password\x00abcdefghijklmnopqrst\x00", "\x01\x04", "\x01-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n")
	add("\xfesha256_password\x00abcdefghijklmnopqrst\x00", "\x01key")
	add("\xfeclient_ed25519\x00abcdefghijklmnopqrstabcdefghijkl", "\x00\x00\x00\x02\x00")
	add("\xfe")
	add("\xff\x15\x04#28000no")
	f.Fuzz(func(t *testing.T, says []byte) {
		s := &scripted{Reader: bytes.NewReader(says)}
		a := &auth{password: password}
		_ = a.begin(cachingSHA2, []byte("abcdefghijklmnopqrst"))
		_, err := a.converse(s, 2)
		if bytes.Contains(s.sent.Bytes(), []byte(password)) {
			t.Fatal("it has the password")
		}
		if err == nil && len(says) == 0 {
			t.Fatal("let in by nobody")
		}
		if s.sent.Len() > maxRounds*(headerSize+512) {
			t.Fatalf("%d bytes were sent", s.sent.Len())
		}
	})
}

// stream is a connection that gives bytes in pieces.
type stream struct {
	net.Conn
	rest []byte
	size int
}

func (s *stream) Read(p []byte) (int, error) {
	if len(s.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), s.size)], s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

func fuzzed(ask bool) *session {
	s := &session{g: &Gateway{sessions: map[uint32]*session{}}, b: &backend{version: "10.11-MariaDB"}, local: true}
	s.up.s, s.down.s = s, s
	if ask {
		s.up.ask = func(_ context.Context, sql string) (string, bool) { return "SELECT 1", len(sql)%2 == 0 }
	}
	return s
}

// commandsOf cuts a stream into commands as a server does, which knows nothing
// of the reads that brought it.
func commandsOf(b []byte) (out [][]byte, rest []byte) {
	for {
		start := b
		var body []byte
		for more := true; more; {
			if len(b) < headerSize || len(b) < headerSize+frameLength(b) {
				return out, start
			}
			n := frameLength(b)
			body, b, more = append(body, b[headerSize:headerSize+n]...), b[headerSize+n:], n == maxFrame
		}
		out = append(out, body)
	}
}

// FuzzWalkerClient feeds a client's stream in pieces of every size: what leaves
// for the server is the same, whole commands in the same order, and none that
// is not served.
func FuzzWalkerClient(f *testing.F) {
	f.Add([]byte("\x05\x00\x00\x00\x03DO 1\x01\x00\x00\x00\x0e\x01\x00\x00\x00\x01"), byte(3), false)
	f.Add([]byte("\x06\x00\x00\x00\x11root\x00\x05\x00\x00\x00\x03DO 1"), byte(1), false)
	f.Add([]byte("\x0b\x00\x00\x00\x03KILL 12345\x05\x00\x00\x00\x0c\x01\x02\x03\x04"), byte(6), false)
	f.Add([]byte("\x0b\x00\x00\x00\x03flush aadu\x0c\x00\x00\x00\x16flush aadu "), byte(2), true)
	f.Add([]byte("\x00\x00\x00\x00"), byte(2), true)
	f.Add([]byte("\x02\x00\x00\x00\x01\x01"), byte(9), true)
	f.Fuzz(func(t *testing.T, says []byte, size byte, ask bool) {
		var outs [2][]byte
		var nexts [2]gateway.Next
		for i, piece := range []int{int(size) + 1, len(says) + 1} {
			s := fuzzed(ask)
			s.up.Conn = &stream{rest: says, size: piece}
			buf := make([]byte, 16+int(size))
			for {
				n, err := s.up.Read(buf)
				if err != nil {
					break
				}
				pass, next := s.up.judge(buf[:n])
				if pass < 0 || pass > n {
					t.Fatalf("pass %d of %d", pass, n)
				}
				outs[i] = append(outs[i], buf[:pass]...)
				if nexts[i] = next; next != gateway.GoOn {
					break
				}
			}
		}
		commands, _ := commandsOf(outs[0])
		whole, _ := commandsOf(outs[1])
		if len(commands) != len(whole) || nexts[0] != nexts[1] {
			t.Fatalf("%q, %v in pieces; %q, %v at once", commands, nexts[0], whole, nexts[1])
		}
		for i, c := range commands {
			if !bytes.Equal(c, whole[i]) {
				t.Fatalf("%q in pieces, %q at once", c, whole[i])
			}
			if len(c) == 0 || answers[c[0]] == unserved {
				t.Fatalf("passed %q", c)
			}
		}
	})
}

// FuzzWalkerBackend feeds a server's stream in pieces of every size: the same
// is let through, borders are where packets end, and no request for a file is
// let through that no query asked for.
func FuzzWalkerBackend(f *testing.F) {
	f.Add([]byte("\x07\x00\x00\x01\x00\x00\x00\x02\x00\x00\x00"), []byte{comPing}, byte(3), false)
	f.Add([]byte("\x01\x00\x00\x01\x01\x04\x00\x00\x02\x03def\x05\x00\x00\x03\xfe\x00\x00\x02\x00\x02\x00\x00\x04\x01a\x05\x00\x00\x05\xfe\x00\x00\x0a\x00\x07\x00\x00\x06\x00\x00\x00\x02\x00\x00\x00"), []byte{comQuery}, byte(1), false)
	f.Add([]byte("\x0c\x00\x00\x01\x00\x01\x00\x00\x00\x01\x00\x01\x00\x00\x00\x00\x04\x00\x00\x02\x03def\x04\x00\x00\x03\x03def"), []byte{comStmtPrepare}, byte(7), true)
	f.Add([]byte("\x05\x00\x00\x01\xfbfile\x07\x00\x00\x03\x00\x00\x00\x02\x00\x00\x00"), []byte{comQuery}, byte(2), true)
	f.Add([]byte("\x05\x00\x00\x01\xfbfile"), []byte{comPing, comQuery}, byte(2), true)
	f.Fuzz(func(t *testing.T, says, asked []byte, size byte, short bool) {
		var oks [2]bool
		var ends [2]int
		for i, piece := range []int{int(size) + 1, len(says) + 1} {
			s := fuzzed(false)
			s.down.short = short
			for _, c := range asked[:min(len(asked), 64)] {
				if answers[c] > answerNone {
					s.push(pending{answer: answers[c], local: c == comQuery})
				}
			}
			oks[i], ends[i] = true, -1
			for rest, at := says, 0; len(rest) > 0 && oks[i]; {
				n := min(piece, len(rest))
				border, ok := s.down.walk(rest[:n])
				if border < -1 || border > n {
					t.Fatalf("border %d of %d", border, n)
				}
				if oks[i] = ok; border >= 0 && ok {
					ends[i] = at + border
				}
				rest, at = rest[n:], at+n
			}
			if s.file && !bytes.Contains(asked, []byte{comQuery}) {
				t.Fatal("a file was asked for by nobody's query")
			}
		}
		if oks[0] != oks[1] || oks[0] && max(ends[0], 0) != max(ends[1], 0) {
			t.Fatalf("%v to %d in pieces, %v to %d at once", oks[0], ends[0], oks[1], ends[1])
		}
	})
}

func BenchmarkWalkRows(b *testing.B) {
	var chunk []byte
	for range 300 {
		chunk = appendPacket(chunk, 0, append([]byte{90}, make([]byte, 90)...))
	}
	s := fuzzed(false)
	s.push(pending{answer: answerRows})
	b.ReportAllocs()
	b.SetBytes(int64(len(chunk)))
	for b.Loop() {
		if _, ok := s.down.walk(chunk); !ok {
			b.Fatal("stopped")
		}
	}
}

func BenchmarkWalkQueries(b *testing.B) {
	query := appendPacket(nil, 0, append([]byte{comQuery}, bytes.Repeat([]byte("SELECT i FROM t "), 10)...))
	s := fuzzed(false)
	b.ReportAllocs()
	for b.Loop() {
		if s.up.walk(query) != len(query) {
			b.Fatal("held")
		}
		s.answered()
	}
}
