package proxy

import (
	"bytes"
	"encoding/binary"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// readWriter reads from one and forgets what is written.
type readWriter struct{ *bytes.Reader }

func (readWriter) Write(p []byte) (int, error) { return len(p), nil }

func FuzzPostgresStartup(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x12\x00\x03\x00\x00user\x00a\x00\x00"))
	f.Add([]byte("\x00\x00\x00\x08\x04\xd2\x16\x2f\x00\x00\x00\x10\x04\xd2\x16\x2e12345678"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := pgReadStartup(readWriter{bytes.NewReader(b)})
		if err != nil || s.cancel != nil {
			return
		}
		out := s.encode("role", "db")
		again, err := pgParseStartup(binary.BigEndian.Uint32(out[4:]), out[8:])
		if err != nil || int(binary.BigEndian.Uint32(out)) != len(out) {
			t.Fatalf("%q: %v", out, err)
		}
		users := 0
		for _, p := range again.params {
			if p[0] == "user" {
				users++
				if p[1] != "role" {
					t.Fatalf("the server is told the user %q", p[1])
				}
			}
		}
		if users != 1 {
			t.Fatalf("%d users", users)
		}
	})
}

func FuzzPostgresAuthentication(f *testing.F) {
	f.Add([]byte("R\x00\x00\x00\x08\x00\x00\x00\x03R\x00\x00\x00\x08\x00\x00\x00\x00"))
	f.Add([]byte("v\x00\x00\x00\x0c\x00\x00\x00\x00\x00\x00\x00\x00R\x00\x00\x00\x08\x00\x00\x00\x0a"))
	f.Add([]byte("E\x00\x00\x00\x0aMno\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		d := &Door{}
		greeting, err := d.pgAuthenticate(readWriter{bytes.NewReader(b)}, newSecret("token"))
		if err == nil && !bytes.HasSuffix(greeting, []byte("R\x00\x00\x00\x08\x00\x00\x00\x00")) && len(greeting) < 9 {
			t.Fatalf("let in with %q", greeting)
		}
	})
}

func FuzzMySQLGreeting(f *testing.F) {
	f.Add([]byte("\x0a8.0.36\x00\x01\x00\x00\x00abcdefgh\x00\xff\xff\xff\x02\x00\xff\xdf\x15\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00abcdefghijkl\x00caching_sha2_password\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		g, err := parseGreeting(b)
		if err != nil {
			return
		}
		again, err := parseGreeting(g.plain())
		if err != nil || again.caps&mysqlSSL != 0 || again.plugin != mysqlNative || !bytes.Equal(again.thread, g.thread) {
			t.Fatalf("%+v, %v", again, err)
		}
	})
}

func FuzzMySQLHandshake(f *testing.F) {
	f.Add([]byte("\x0d\xa2\x3a\x00\x00\x00\x00\x01\x21" + strings.Repeat("\x00", 23) + "me\x00\x14" + strings.Repeat("s", 20) + "db\x00mysql_native_password\x00\x03\x01a\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := parseHandshake(b)
		if err != nil {
			return
		}
		g := &mysqlGreeting{caps: 0xffffffff, plugin: mysqlNative}
		database := string(h.database)
		h.become("role", "", g)
		again, err := parseHandshake(clearSSL(h.encode()))
		if err != nil {
			t.Fatal(err)
		}
		if string(again.user) != "role" || string(again.database) != database || again.plugin != mysqlNative || !bytes.Equal(again.rest, h.rest) {
			t.Fatalf("%+v became %+v", h, again)
		}
	})
}

func clearSSL(b []byte) []byte {
	binary.LittleEndian.PutUint32(b, binary.LittleEndian.Uint32(b)&^mysqlSSL)
	return b
}

// What the server gets must not depend on how the bytes came, and must hold no
// user or password of the program's.
func FuzzRedisCommands(f *testing.F) {
	f.Add([]byte("*3\r\n$4\r\nAUTH\r\n$1\r\nu\r\n$6\r\nsecret\r\nPING\r\n"), 3)
	f.Add([]byte("*2\r\n$3\r\nGET\r\n$4\r\nauth\r\nHELLO 3 AUTH a b\r\n\r\nSET k v\n"), 1)
	f.Add([]byte("*3\r\n$30\r\n"+strings.Repeat("n", 30)+"\r\n$0\r\n\r\n$2\r\nab\r\n*0\r\n*-1\r\n*1\r\n$5\r\nRESET\r\n"), 7)
	f.Fuzz(func(t *testing.T, b []byte, size int) {
		if size < 1 || size > 1000 || len(b) > 10000 {
			return
		}
		whole, names, err := feed(b, len(b)+1)
		cut, cutNames, cutErr := feed(b, size)
		if (err == nil) != (cutErr == nil) || err == nil && (!bytes.Equal(whole, cut) || cmp.Diff(names, cutNames) != "") {
			t.Fatalf("whole %q %v %v, cut by %d %q %v %v", whole, names, err, size, cut, cutNames, cutErr)
		}
	})
}

func feed(b []byte, size int) (out []byte, names []string, err error) {
	var c commands
	for len(b) > 0 {
		n := min(size, len(b))
		part, err := c.walk(bytes.Clone(b[:n]), func(name string, _ []string) ([]byte, error) {
			names = append(names, name)
			if name == "AUTH" {
				return []byte("REPLACED"), nil
			}
			return nil, nil
		})
		out = append(out, part...)
		if err != nil {
			return out, names, err
		}
		b = b[n:]
	}
	return out, names, nil
}

// The program's replies must come through whole, however they are cut, and
// ours must not.
func FuzzRedisReplies(f *testing.F) {
	f.Add([]byte("+OK\r\n$5\r\nhello\r\n*2\r\n:1\r\n$-1\r\n+OK\r\n"), 2, 3)
	f.Add([]byte("%1\r\n+a\r\n_\r\n>2\r\n+x\r\n+y\r\n|1\r\n+k\r\n+v\r\n,1.5\r\n+OK\r\n+OK\r\n-ERR no\r\n"), 4, 1)
	f.Fuzz(func(t *testing.T, b []byte, at, size int) {
		if size < 1 || size > 1000 || len(b) > 5000 {
			return
		}
		ends, ok := borders(b)
		if !ok || len(ends) == 0 {
			return
		}
		marker := []byte("$32\r\n" + strings.Repeat("m", 32) + "\r\n")
		if bytes.Contains(b, []byte("mmmm")) || bytes.Contains(b, []byte("-NOPERM")) {
			return
		}
		cut := ends[max(at, 0)%len(ends)]
		stream := append(append(append(bytes.Clone(b[:cut]), replyOK...), marker...), b[cut:]...)
		r := replies{marker: marker}
		var awaited atomic.Int32
		awaited.Store(1)
		var got []byte
		buf := make([]byte, 64)
		for len(stream) > 0 {
			n := min(size, len(stream))
			if err := r.walk(stream[:n], &awaited); err != nil {
				t.Fatal(err)
			}
			if r.untouched {
				got = append(got, stream[:n]...)
			}
			for n := r.take(buf); n > 0; n = r.take(buf) {
				got = append(got, buf[:n]...)
			}
			stream = stream[n:]
		}
		if !bytes.Equal(got, b) {
			t.Fatalf("got %q of %q, ours at %d", got, b, cut)
		}
	})
}

// borders are the ends of whole replies; ok says that b ends with one.
func borders(b []byte) (ends []int, ok bool) {
	r := replies{marker: []byte("$1")}
	var none atomic.Int32
	for i := range b {
		if r.walk(b[i:i+1], &none) != nil {
			return nil, false
		}
		r.ready = nil
		if r.need == 0 && r.skip == 0 && len(r.held) == 0 {
			ends = append(ends, i+1)
		}
	}
	return ends, r.need == 0 && r.skip == 0 && len(r.held) == 0
}

func FuzzTDSPrelogin(f *testing.F) {
	f.Add(preloginOptions{tdsVersion: {16, 0, 0, 0, 0, 0}, tdsEncryption: {1}, 4: {0}}.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		o, err := parsePrelogin(b)
		if err != nil || len(b) > 30000 {
			return
		}
		again, err := parsePrelogin(o.federated().encode())
		if err != nil || again[tdsEncryption][0] != tdsEncryptOn || again[tdsFedAuth][0] != 1 {
			t.Fatalf("%v, %v", again, err)
		}
	})
}

func FuzzTDSLogin(f *testing.F) {
	l := &login7{fixed: make([]byte, loginFixed), fields: map[int][]byte{loginUser: utf16LE("sa"), loginPassword: utf16LE("secret")},
		features: [][]byte{{0x0a, 1, 0, 0, 0, 1}, {featureFedAuth, 1, 0, 0, 0, 2}}}
	f.Add(l.encode("host", "db", newSecret("token"), 1))
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := parseLogin7(b)
		if err != nil || len(b) > 30000 {
			return
		}
		again, err := parseLogin7(l.encode("host", "db", newSecret("token"), 0))
		if err != nil {
			t.Fatal(err)
		}
		if len(again.fields[loginUser])+len(again.fields[loginPassword])+len(again.fields[loginSSPI]) != 0 || string(fromUTF16LE(again.fields[loginServer])) != "host" {
			t.Fatalf("%+v", again.fields)
		}
		tokens := 0
		for _, f := range again.features {
			if f[0] == featureFedAuth {
				tokens++
			}
		}
		if tokens != 1 {
			t.Fatalf("%d tokens", tokens)
		}
	})
}

func FuzzTDSAnswer(f *testing.F) {
	f.Add(tdsError(18456, 14, "no"), true)
	f.Add([]byte{tokenFeatureAck, featureFedAuth, 0, 0, 0, 0, 0x0a, 1, 0, 0, 0, 1, featureEnd, tokenDone, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, false)
	f.Add([]byte{tokenEnvChange, 12, 0, envRouting, 7, 0, 0, 0x99, 5, 1, 0, 'h', 0, 0, 0}, true)
	f.Fuzz(func(t *testing.T, b []byte, asked bool) {
		a, err := readLoginAnswer(b, asked)
		if err != nil {
			return
		}
		again, err := readLoginAnswer(a.tokens, asked)
		if err != nil || !bytes.Equal(again.tokens, a.tokens) {
			t.Fatalf("%q became %q, %v", a.tokens, again.tokens, err)
		}
	})
}

func FuzzTDSMessage(f *testing.F) {
	f.Add(tdsPackets(tdsReply, bytes.Repeat([]byte("x"), 5000), 512))
	f.Fuzz(func(t *testing.T, b []byte) {
		s := &tdsStream{rw: readWriter{bytes.NewReader(b)}}
		kind, m, err := s.read()
		if err != nil {
			return
		}
		s = &tdsStream{rw: readWriter{bytes.NewReader(tdsPackets(kind, m, tdsMinSize))}}
		if k, again, err := s.read(); err != nil || k != kind || !bytes.Equal(again, m) {
			t.Fatalf("%v", err)
		}
	})
}

func FuzzClaims(f *testing.F) {
	f.Add(testToken(testOID, 1))
	f.Add("a.e30.c")
	f.Fuzz(func(_ *testing.T, s string) { _, _ = claimsOf(newSecret(s)) })
}

func FuzzURL(f *testing.F) {
	f.Add("postgres://web@srv1.postgres.database.azure.com/app")
	f.Add("rediss://cache.redis.cache.windows.net:6380/2?db=1")
	f.Fuzz(func(t *testing.T, s string) {
		if up, err := ParseURL(s); err == nil && (up.Host == "" || up.Addr == "") {
			t.Fatalf("%+v", up)
		}
	})
}
