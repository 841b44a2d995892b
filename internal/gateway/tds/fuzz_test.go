package tds

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/hawser/hawser/internal/gateway"
)

func someLogin() *login7 {
	return &login7{version: version74, packetSize: 8000, progVersion: 7, pid: 8, lcid: 0x409, flags1: 0xe0, flags2: 3, timeZone: 60, host: "host", app: "app",
		server: "s1", library: "lib", language: "us_english", database: "db", clientID: [6]byte{1, 2, 3, 4, 5, 6},
		features: []feature{{0x0a, []byte{1}}, {featureFedAuth, []byte{3, 2, 0, 0, 0, 'x', 0}}}}
}

// TestLoginRoundTrip: what is written for a backend reads back as it was
// asked, and without what is not the backend's matter.
func TestLoginRoundTrip(t *testing.T) {
	asks := someLogin()
	asks.flags2 |= 0x30 // replication
	asks.flags3 |= flags3Instance | flags3Change
	b := (&backendLogin{login7: asks.forBackend(), user: "role", password: "pass wörd"}).encode()
	got, err := parseLogin(b)
	if err != nil {
		t.Fatal(err)
	}
	want := *asks
	want.user, want.password, want.features = "role", true, asks.features[:1]
	want.flags1, want.flags2, want.flags3 = 0xe0|flags1FailDB, 3, flags3Extension
	if d := cmp.Diff(&want, got, cmp.AllowUnexported(login7{}, feature{})); d != "" {
		t.Error(d)
	}
	off := binary.LittleEndian.Uint16(b[offText+4*textPassword:])
	if bytes.Contains(b, appendUTF16(nil, "pass")) || b[off] == 'p' {
		t.Error("the password is readable")
	}
}

// TestMalformedLogins: every offset outside, every list without an end.
func TestMalformedLogins(t *testing.T) {
	good := (&backendLogin{login7: *someLogin()}).encode()
	if _, err := parseLogin(good); err != nil {
		t.Fatal(err)
	}
	le := binary.LittleEndian
	for name, spoil := range map[string]func([]byte) []byte{
		"length too long":      func(b []byte) []byte { le.PutUint32(b, uint32(len(b)+1)); return b },
		"bytes behind":         func(b []byte) []byte { return append(b, 0) },
		"cut":                  func(b []byte) []byte { return b[:90] },
		"offset in the header": func(b []byte) []byte { le.PutUint16(b[offText:], 10); return b },
		"offset outside":       func(b []byte) []byte { le.PutUint16(b[offText+4*textApp:], 65000); return b },
		"text too long":        func(b []byte) []byte { le.PutUint16(b[offText+2:], 129); return b },
		"length outside":       func(b []byte) []byte { le.PutUint16(b[offText+4*textDatabase+2:], 128); return b },
		"database file":        func(b []byte) []byte { le.PutUint16(b[offAttach:], 94); le.PutUint16(b[offAttach+2:], 1); return b },
		"big-endian":           func(b []byte) []byte { b[24] |= 1; return b },
		"NUL in a name":        func(b []byte) []byte { b[fixedSize], b[fixedSize+1] = 0, 0; return b },
		"extension outside":    func(b []byte) []byte { le.PutUint16(b[offText+4*textExtension:], 60000); return b },
		"features outside": func(b []byte) []byte {
			le.PutUint32(b[le.Uint16(b[offText+4*textExtension:]):], 1<<31)
			return b
		},
		"features in the header": func(b []byte) []byte { le.PutUint32(b[le.Uint16(b[offText+4*textExtension:]):], 4); return b },
		"features without end":   func(b []byte) []byte { b[len(b)-1] = 7; return b },
	} {
		if _, err := parseLogin(spoil(bytes.Clone(good))); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	twice := someLogin()
	twice.features = append(twice.features, twice.features[1])
	if _, err := parseLogin((&backendLogin{login7: *twice}).encode()); err == nil {
		t.Error("FEDAUTH twice: accepted")
	}
}

func TestServerName(t *testing.T) {
	for in, want := range map[string]string{"s1.database.d.test": "s1", "tcp:S1.database.d.test,1433": "s1", `s1.database.d.test\inst`: "s1", "s1": "s1", "localhost": "", "127.0.0.1": "",
		"127.0.0.1,1433": "", "::1": "", "db.elsewhere.test": "", "": "", "a.b.database.d.test": "!", ".database.d.test": "!"} {
		got, err := serverName(in, "database.d.test")
		if err != nil {
			got = "!"
		}
		if got != want {
			t.Errorf("%q means %q, want %q", in, got, want)
		}
	}
}

// TestFedAuth: both libraries, and what is wrong with either.
func TestFedAuth(t *testing.T) {
	nonce := bytes.Repeat([]byte{7}, nonceSize)
	token := []byte{4, 0, 0, 0, 'a', 0, 'b', 0}
	for name, c := range map[string]struct {
		data []byte
		echo bool
		ok   bool
	}{
		"token":            {append([]byte{2}, token...), false, true},
		"token and nonce":  {append(append([]byte{3}, token...), nonce...), true, true},
		"library 2":        {[]byte{5, 3}, true, true},
		"wrong echo":       {[]byte{5, 3}, false, false},
		"no echo":          {[]byte{4, 3}, true, false},
		"live id":          {append([]byte{1}, token...), true, false},
		"token too long":   {append([]byte{3}, 5, 0, 0, 0, 'a'), true, false},
		"half a nonce":     {append(append([]byte{3}, token...), nonce[:31]...), true, false},
		"more than nonce":  {append(append(append([]byte{3}, token...), nonce...), 1), true, false},
		"library 2 + more": {[]byte{5, 3, 1}, true, false},
		"nothing":          {nil, false, false},
	} {
		if _, err := parseFedAuth(c.data, c.echo); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzPrelogin(f *testing.F) {
	f.Add(encodePrelogin([]option{{optVersion, serverVersion}, {optEncryption, []byte{1}}, {optNonce, make([]byte, nonceSize)}}))
	f.Add([]byte{0, 0, 11, 0, 6, 1, 0, 17, 0, 1, 0xff, 1, 2, 3, 4, 5, 6, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := parsePrelogin(b)
		if err != nil {
			return
		}
		if h.nonce != nil && len(h.nonce) != nonceSize {
			t.Error("a nonce of another length")
		}
		if _, err := parsePrelogin(h.answer(make([]byte, nonceSize), false)); err != nil {
			t.Errorf("our answer cannot be read: %v", err)
		}
	})
}

func FuzzLogin7(f *testing.F) {
	f.Add((&backendLogin{login7: *someLogin(), user: "u", password: "p"}).encode())
	f.Add(make([]byte, fixedSize))
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := parseLogin(b)
		if err != nil {
			return
		}
		again, err := parseLogin((&backendLogin{login7: l.forBackend()}).encode())
		if err != nil {
			if old(l.version) {
				return // never written to a backend
			}
			t.Fatalf("what we write cannot be read: %v", err)
		}
		for _, x := range again.features {
			if x.id == featureFedAuth {
				t.Error("the token's feature went on")
			}
		}
		if again.integrated || again.password || again.user != "" {
			t.Error("another way to log in went on")
		}
	})
}

func FuzzFeatureExt(f *testing.F) {
	f.Add(appendFeatures(nil, someLogin().features))
	f.Add([]byte{2, 255, 255, 255, 255, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		all, err := parseFeatures(b)
		if err != nil {
			return
		}
		if out := appendFeatures(nil, all); !bytes.HasPrefix(b, out) {
			t.Errorf("%x became %x", b, out)
		}
		for _, x := range all {
			_, _ = parseFedAuth(x.data, true)
			_, _, _ = parseToken(x.data)
		}
	})
}

// aWelcome is a login response as servers write it.
func aWelcome() []byte {
	ack := append([]byte{1, 0x74, 0, 0, 4, 1}, appendUTF16(nil, "S")...)
	ack = append(ack, 1, 2, 3, 4)
	b := append([]byte{tokenEnvChange, 4, 0, 1, 0, 0, 0}, tokenLoginAck, byte(len(ack)), 0)
	b = append(b, ack...)
	b = append(b, tokenEnvChange, 0x13, 0, envPacketSize, 4, '8', 0, '0', 0, '0', 0, '0', 0, 4, '4', 0, '0', 0, '9', 0, '6', 0)
	b = append(b, tokenFeatureAck, 0x0a, 1, 0, 0, 0, 1, 0xff)
	return append(append(b, tokenDone), make([]byte, 12)...)
}

func FuzzLoginResponse(f *testing.F) {
	f.Add(aWelcome())
	f.Add((&refusal{all: []message{{18456, 1, 14, "no"}}}).encode(version74, "s"))
	asked := []feature{{0x0a, []byte{1}}}
	if w, err := parseWelcome(aWelcome(), version74, asked); err != nil || w.packetSize != 8000 || !w.acked(0x0a) {
		f.Fatalf("%+v %v", w, err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		w, err := parseWelcome(b, version74, asked)
		if err != nil {
			return
		}
		if w.packetSize < minPacket || w.packetSize > maxPacket {
			t.Errorf("packets of %d", w.packetSize)
		}
		l := someLogin()
		data, _, err := readMessage(bytes.NewReader(w.greeting(l, 7, nil)), typeReply, maxGreeting*2)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(data, []byte{tokenFeatureAck, featureFedAuth, 0, 0, 0, 0}) {
			t.Error("the token is not acknowledged")
		}
		_ = checkReset(b)
	})
}

// FuzzWalker: however a stream is cut, the same borders are found.
func FuzzWalker(f *testing.F) {
	f.Add(append(appendMessage(nil, typeReply, 0, 5, minPacket, make([]byte, 900)), appendMessage(nil, typeReply, 0, 5, minPacket, nil)...), false)
	f.Add([]byte{smpID, 8, 0, 0, 24, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 4, 1, 0, 8, 0, 0, 0, 0}, true)
	f.Fuzz(func(t *testing.T, b []byte, mars bool) {
		whole, okWhole := walked(b, len(b)+1, mars)
		pieces, okPieces := walked(b, 3, mars)
		if okWhole != okPieces || okWhole && !cmp.Equal(whole, pieces) {
			t.Errorf("whole %v %v, in pieces %v %v", whole, okWhole, pieces, okPieces)
		}
		whole, okWhole = sent(b, len(b)+1, mars)
		pieces, okPieces = sent(b, 3, mars)
		if okWhole != okPieces || okWhole && !cmp.Equal(whole, pieces) {
			t.Errorf("from a client: whole %v %v, in pieces %v %v", whole, okWhole, pieces, okPieces)
		}
	})
}

// sent is walked for what a client sends.
func sent(b []byte, size int, mars bool) (ends []int, ok bool) {
	s := session{b: &backend{mars: mars}, lane: &lane{}, up: walker{mars: mars, within: mars}}
	for base := 0; base < len(b); base += size {
		chunk := b[base:min(base+size, len(b))]
		if pass, next := s.fromClient(chunk); next != gateway.GoOn || pass != len(chunk) {
			return nil, false
		}
	}
	return []int{int(s.up.skip), int(s.up.have), int(s.up.inner), int(s.asked.Load()), len(s.attentions)}, true
}

func walked(b []byte, size int, mars bool) (ends []int, ok bool) {
	s := session{b: &backend{mars: mars}, down: walker{mars: mars}}
	for base := 0; base < len(b); base += size {
		chunk := b[base:min(base+size, len(b))]
		border, ok := s.fromBackend(chunk)
		if !ok {
			return nil, false
		}
		if border == len(chunk) != s.down.atBorder() && !mars {
			return nil, false
		}
	}
	return []int{int(s.down.skip), int(s.down.have)}, true
}

// pieces notes what is written to it at once.
type pieces struct {
	net.Conn
	all [][]byte
}

func (p *pieces) Write(b []byte) (int, error) {
	p.all = append(p.all, bytes.Clone(b))
	return len(b), nil
}

// TestPacketByPacket: under TLS each packet or frame is written by itself,
// however it came, and no part of one.
func TestPacketByPacket(t *testing.T) {
	for _, mars := range []bool{false, true} {
		want := [][]byte{}
		for _, n := range []int{0, 1, 5000, 0, 30000, 7} {
			b := appendMessage(nil, typeBatch, 0, 0, maxPacket, make([]byte, n))
			if mars {
				h := binary.LittleEndian.AppendUint32([]byte{smpID, smpData, 0, 0}, uint32(smpHeader+len(b)))
				b = append(append(h, make([]byte, 8)...), b...)
			}
			want = append(want, b)
		}
		in := append(bytes.Join(want, nil), want[2][:9]...)
		for _, size := range []int{1, 3, 7, 4096, len(in)} {
			out := &pieces{}
			l := &lane{Conn: out, apart: true, mars: mars}
			for at := 0; at < len(in); at += size {
				b := in[at:min(at+size, len(in))]
				if n, err := l.Write(b); n != len(b) || err != nil {
					t.Fatal(n, err)
				}
			}
			if !cmp.Equal(out.all, want) {
				t.Errorf("MARS %t, by %d: %d writes", mars, size, len(out.all))
			}
		}
	}
}

// readerConn is a connection that only reads.
type readerConn struct {
	net.Conn
	io.Reader
}

func (c readerConn) Read(p []byte) (int, error) { return c.Reader.Read(p) }

func batch(sql string) []byte { return appendUTF16(bytes.Clone(noTransaction), sql) }

// call is an RPC by number whose statement is a text of a kind.
func call(proc byte, statement []byte) []byte {
	b := append(bytes.Clone(noTransaction), 0xff, 0xff, proc, 0, 0, 0)
	if proc != 10 {
		b = append(b, 0, 1, typeIntN, 4, 0)                                                // the handle
		b = append(b, 0, 0, typeNVarChar, 0x40, 0x1f, 9, 4, 0, 0, 0, 4, 0, '@', 0, 'p', 0) // the parameters
	}
	b = append(append(b, 0, 0), statement...)
	return append(b, 0, 0, typeIntN, 4, 4, 1, 0, 0, 0) // a parameter behind
}

func nvarchar(s string) []byte {
	raw := appendUTF16(nil, s)
	b := []byte{typeNVarChar, 0x40, 0x1f, 9, 4, 0, 0, 0}
	return append(binary.LittleEndian.AppendUint16(b, uint16(len(raw))), raw...)
}

func nvarcharMax(s string) []byte {
	raw := appendUTF16(nil, s)
	b := []byte{typeNVarChar, 0xff, 0xff, 9, 4, 0, 0, 0}
	b = binary.LittleEndian.AppendUint64(b, uint64(len(raw)))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(raw)))
	return append(append(b, raw...), 0, 0, 0, 0)
}

func ntext(s string) []byte {
	raw := appendUTF16(nil, s)
	b := []byte{typeNText, 255, 255, 255, 127, 9, 4, 0, 0, 0}
	return append(binary.LittleEndian.AppendUint32(b, uint32(len(raw))), raw...)
}

// TestScribe: of an administrator's bytes only the statements that the plane
// answers are changed, however they are cut.
func TestScribe(t *testing.T) {
	const mine, answer = "CREATE USER [x] FROM EXTERNAL PROVIDER", "SELECT 'answer'"
	message := func(kind byte, size int, data []byte) []byte { return appendMessage(nil, kind, 0, 0, size, data) }
	long := mine + strings.Repeat(" ", maxStatement)
	var in, want []byte
	add := func(a, b []byte) { in, want = append(in, a...), append(want, b...) }
	same := func(b []byte) { add(b, b) }
	same(message(typeBatch, 600, batch("SELECT 1")))
	add(appendMessage(nil, typeBatch, statusReset, 0, 40, batch(mine)), appendMessage(nil, typeBatch, statusReset, 0, 600, batch(answer)))
	same(message(typeBatch, 600, batch(long)))
	back := message(typeBatch, 40, batch(mine))
	back[len(back)-(len(batch(mine))%32)-headerSize+1] |= statusIgnore // of its last packet
	same(back)
	same(message(typeBatch, 600, batch("DROP USER nobody")))
	same(message(typeBulk, 600, bytes.Repeat(batch(mine), 20)))
	same(appendMessage(nil, typeAttention, 0, 0, 600, nil))
	for _, proc := range []byte{10, 11, 13} {
		for _, kind := range []func(string) []byte{nvarchar, nvarcharMax, ntext} {
			add(message(typeRPC, 50, call(proc, kind(mine))), message(typeRPC, 600, call(proc, nvarcharMax(answer))))
			same(message(typeRPC, 50, call(proc, kind("SELECT 2"))))
		}
	}
	same(message(typeRPC, 600, call(12, nvarchar(mine)))) // sp_execute has no statement
	same(message(typeBatch, 600, []byte{1}))
	grant := gateway.Grant{Statement: func(_ context.Context, sql string) (string, bool) { return answer, sql == mine }}
	for name, r := range map[string]io.Reader{"whole": bytes.NewReader(in), "byte by byte": iotest.OneByteReader(bytes.NewReader(in)), "halves": iotest.HalfReader(bytes.NewReader(in))} {
		c := scribed(readerConn{Reader: r}, grant, &backend{welcome: &welcome{packetSize: 600}})
		got, err := io.ReadAll(c)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, want %d: %v", name, len(got), len(want), err)
		}
	}
	c := readerConn{Reader: bytes.NewReader(in)}
	if scribed(c, gateway.Grant{}, &backend{}) != net.Conn(c) {
		t.Error("a session that is no administrator's is read")
	}
}

// FuzzRPC: without an answer every byte passes as it came, but for an
// unfinished message at the end; what is replaced leaves a message that can be
// read.
func FuzzRPC(f *testing.F) {
	f.Add(appendMessage(nil, typeRPC, 0, 0, 100, call(13, nvarcharMax("create user x from external provider"))))
	f.Add(appendMessage(nil, typeBatch, 0, 0, 100, batch("drop user x")))
	f.Fuzz(func(t *testing.T, in []byte) {
		b := &backend{welcome: &welcome{packetSize: minPacket}}
		c := scribed(readerConn{Reader: iotest.HalfReader(bytes.NewReader(in))}, gateway.Grant{Statement: func(context.Context, string) (string, bool) { return "", false }}, b)
		got, err := io.ReadAll(c)
		if err != nil || !bytes.HasPrefix(in, got) || len(in)-len(got) > maxScribed {
			t.Errorf("%x became %x: %v", in, got, err)
		}
		for _, kind := range []byte{typeBatch, typeRPC} {
			from, to, v, ok := statementOf(kind, in)
			if !ok {
				continue
			}
			if from < 0 || to < from || to > len(in) {
				t.Fatalf("a statement at %d to %d of %d", from, to, len(in))
			}
			if kind == typeRPC {
				out := v.replace(in, appendUTF16(nil, "x"))
				if from, to, _, ok := statementOf(kind, out); !ok || fromUTF16(out[from:to]) != "x" {
					t.Errorf("%x became %x", in, out)
				}
			}
		}
	})
}

// TestFollow: whither a backend may send the role's password.
func TestFollow(t *testing.T) {
	proved, trusting := &tls.Config{}, &tls.Config{InsecureSkipVerify: true}
	for _, c := range []struct {
		from place
		host string
		ok   bool
	}{
		{place{name: "s1.database.windows.net", tls: proved}, "x9.tr1.westeurope1-a.worker.database.windows.net", true},
		{place{name: "s1.database.windows.net", tls: proved}, `W2.Database.Windows.Net\instance`, true},
		{place{name: "s1.database.windows.net", tls: proved}, "database.windows.net.evil.test", false},
		{place{name: "s1.database.windows.net", tls: proved}, "evildatabase.windows.net", false},
		{place{name: "s1.database.windows.net", tls: trusting}, "s2.database.windows.net", false},
		{place{name: "s1.database.windows.net"}, "s2.database.windows.net", false},
		{place{name: "sql.test", tls: proved}, "evil.test", false},
		{place{name: "localhost", tls: proved}, "evil.localhost", false},
		{place{name: "10.0.0.1", tls: proved}, "9.0.0.1", false},
	} {
		p, err := c.from.follow(&route{c.host, 11001})
		if (err == nil) != c.ok {
			t.Errorf("from %s to %s: %v", c.from.name, c.host, err)
		}
		if c.ok && (p.tls.ServerName != p.name || !strings.HasSuffix(p.addr, ":11001")) {
			t.Errorf("%+v", p)
		}
	}
}
