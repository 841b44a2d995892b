package mysql_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/hawser/hawser/internal/gateway/mysql"
)

// peer is a scripted server, for what MariaDB 10.11 does not do: the plugins of
// MySQL 8, after its published protocol, and lies.
type peer struct {
	t        testing.TB
	addr     string
	version  string
	flags    uint32
	plugin   string // of the greeting
	scramble []byte
	greeting []byte // another one in its place
	cert     *tls.Certificate
	script   func(*peerConn) // after the client's response
	replies  []string        // to its first command
	allRoles bool            // activate_all_roles_on_login is on

	mu   sync.Mutex
	seen bytes.Buffer // all that the gateway sent, under TLS or not
}

// peerConn is one connection to a peer.
type peerConn struct {
	net.Conn
	p      *peer
	seq    byte // of the next packet
	flags  uint32
	answer []byte // to the greeting's plugin
	plugin string
}

const peerFlags = 1<<32 - 1 - 1<<29 // all but what nobody uses

func startPeer(t testing.TB, p *peer) *peer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.t, p.addr = t, l.Addr().String()
	if p.version == "" {
		p.version = "8.0.36"
	}
	if p.flags == 0 {
		p.flags = peerFlags
	}
	if p.cert == nil {
		p.flags &^= capSSL
	}
	p.scramble = []byte("abcdefghijklmnopqrst")
	var all sync.WaitGroup
	all.Go(func() { // ends with l
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { // ends with its script or the gateway's connection
				defer c.Close()
				p.serve(c)
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		all.Wait()
	})
	return p
}

// Write remembers what was read.
func (p *peer) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seen.Write(b)
}

func (p *peer) saw(s string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return bytes.Contains(p.seen.Bytes(), []byte(s))
}

func (p *peer) serve(raw net.Conn) {
	b := append(append([]byte{10}, p.version...), 0, 7, 0, 0, 0)
	b = append(append(b, p.scramble[:8]...), 0, byte(p.flags), byte(p.flags>>8), 45, 2, 0, byte(p.flags>>16), byte(p.flags>>24), 21)
	b = append(append(b, make([]byte, 10)...), p.scramble[8:]...)
	b = append(append(append(b, 0), p.plugin...), 0)
	if p.greeting != nil {
		b = p.greeting
	}
	c := &peerConn{Conn: raw, p: p}
	c.send(b)
	body, ok := c.read()
	if ok && p.cert != nil {
		c.Conn = tls.Server(raw, &tls.Config{Certificates: []tls.Certificate{*p.cert}})
		body, ok = c.read()
	}
	if !ok || len(body) < 32 {
		return
	}
	c.flags = binary.LittleEndian.Uint32(body)
	_, rest, _ := bytes.Cut(body[32:], []byte{0})
	c.answer = rest[1 : 1+rest[0]]
	names := bytes.Split(bytes.TrimSuffix(rest[1+rest[0]:], []byte{0}), []byte{0})
	c.plugin = string(names[len(names)-1])
	p.script(c)
}

func (c *peerConn) send(body []byte) {
	_, _ = c.Write(packet(c.seq, body))
	c.seq++
}

func (c *peerConn) read() ([]byte, bool) {
	seq, body, err := readRaw(c)
	_, _ = c.p.Write(body)
	c.seq = seq + 1
	return body, err == nil
}

// serveCommands answers as an idle server does until the client leaves.
func (c *peerConn) serveCommands() {
	ok := []byte{0, 0, 0, 2, 0, 0, 0}
	for {
		body, alive := c.read()
		switch {
		case !alive || body[0] == 1:
			return
		case bytes.HasPrefix(body, []byte("\x03SELECT DATABASE()")):
			c.send([]byte{3})
			for range 3 {
				c.send([]byte("\x03def\x00\x00\x00\x01a\x00\x0c\x2d\x00\x00\x00\x00\x00\xfd\x00\x00\x00\x00\x00"))
			}
			if c.flags&capDeprecateEOF == 0 {
				c.send([]byte{0xfe, 0, 0, 2, 0})
			}
			if c.p.allRoles {
				c.send([]byte("\x05appdb\x011\x00"))
			} else {
				c.send([]byte("\x05appdb\xfb\x00"))
			}
			c.send([]byte{0xfe, 0, 0, 2, 0})
		default:
			c.send(ok)
		}
	}
}

var ok0 = []byte{0, 0, 0, 2, 0, 0, 0}

// sha2 is the server's half of caching_sha2_password. known: it has the hash
// in its cache.
func (c *peerConn) sha2(password string, known bool, key *rsa.PrivateKey) {
	one := sha256.Sum256([]byte(password))
	two := sha256.Sum256(one[:])
	three := sha256.Sum256(append(two[:], c.p.scramble...))
	got := make([]byte, 32)
	for i := range got {
		if len(c.answer) == 32 {
			got[i] = c.answer[i] ^ three[i]
		}
	}
	if known {
		if sha256.Sum256(got) == two {
			c.send([]byte{1, 3})
			c.send(ok0)
			c.serveCommands()
			return
		}
		c.deny()
		return
	}
	c.send([]byte{1, 4})
	c.full(password, key, 2)
}

// full takes the password itself, over TLS as it is, else under the key.
func (c *peerConn) full(password string, key *rsa.PrivateKey, ask byte) {
	body, _ := c.read()
	if _, secure := c.Conn.(*tls.Conn); !secure && len(body) == 1 && body[0] == ask {
		der, _ := x509.MarshalPKIXPublicKey(key.Public())
		c.send(append([]byte{1}, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})...))
		sealed, _ := c.read()
		var err error
		if body, err = rsa.DecryptOAEP(sha1.New(), nil, key, sealed, nil); err != nil {
			c.deny()
			return
		}
		for i := range body {
			body[i] ^= c.p.scramble[i%20]
		}
	}
	if string(body) != password+"\x00" {
		c.deny()
		return
	}
	c.send(ok0)
	c.serveCommands()
}

func (c *peerConn) deny() { c.send([]byte("\xff\x15\x04#28000Access denied")) }

func rsaKey(t testing.TB) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// certified is a certificate for a peer.
func certified(t testing.TB) *tls.Certificate { return (&door{t: t}).certificate(t) }

// TestPluginsOfMySQL8 logs in to an honest peer in every way, twice, the second
// time with another peer's answer to a wrong password.
func TestPluginsOfMySQL8(t *testing.T) {
	key := rsaKey(t)
	for name, p := range map[string]*peer{
		"fast":         {plugin: "caching_sha2_password", script: func(c *peerConn) { c.sha2("app secret", true, nil) }},
		"full":         {plugin: "caching_sha2_password", script: func(c *peerConn) { c.sha2("app secret", false, key) }},
		"full, TLS":    {plugin: "caching_sha2_password", cert: certified(t), script: func(c *peerConn) { c.sha2("app secret", false, key) }},
		"fast, TLS":    {plugin: "caching_sha2_password", cert: certified(t), script: func(c *peerConn) { c.sha2("app secret", true, key) }},
		"sha256":       {plugin: "sha256_password", script: func(c *peerConn) { c.sha256("app secret", key) }},
		"sha256, TLS":  {plugin: "sha256_password", cert: certified(t), script: func(c *peerConn) { c.sha256("app secret", key) }},
		"switched":     {plugin: "dialog", script: func(c *peerConn) { c.change("caching_sha2_password"); c.sha2("app secret", false, key) }},
		"from native":  {plugin: "mysql_native_password", script: func(c *peerConn) { c.change("sha256_password"); c.full("app secret", key, 1) }},
		"without ends": {plugin: "caching_sha2_password", flags: peerFlags, version: "5.7.44", script: func(c *peerConn) { c.sha2("app secret", true, nil) }},
	} {
		t.Run(name, func(t *testing.T) {
			startPeer(t, p)
			d := open(t, func(_ *mysql.Config, d *door) {
				d.addrOf = p.addr
				if p.cert != nil {
					d.tls = &tls.Config{InsecureSkipVerify: true}
				}
			})
			d.t = t
			c, done, err := d.try()
			if err != nil {
				t.Fatal(err)
			}
			if err := c.PingContext(background(t)); err != nil {
				t.Error(err)
			}
			done()
			d.warmed() // the reset is MySQL's
			if p.cert == nil && p.saw("app secret") {
				t.Error("the password passed in clear")
			}
			if !p.saw("\x03SET collation_connection = 45") || p.saw("SET ROLE DEFAULT") != (p.version == "8.0.36") {
				t.Error("the reset was another")
			}
			d.Forget(d.grant().Server)
			d.mu.Lock()
			d.users["app"] = secret("a wrong one")
			d.mu.Unlock()
			if _, _, err := d.try(); errno(err) != 1429 {
				t.Errorf("with a wrong password: %v", err)
			}
		})
	}
}

// change sends an AuthSwitchRequest and takes the answer.
func (c *peerConn) change(plugin string) {
	c.send(append(append(append([]byte{0xfe}, plugin...), 0), append(c.p.scramble, 0)...))
	if plugin != "sha256_password" {
		c.answer, _ = c.read()
	}
}

// sha256 is the server's half of sha256_password as the greeting's plugin: the
// first answer came with the response.
func (c *peerConn) sha256(password string, key *rsa.PrivateKey) {
	if _, secure := c.Conn.(*tls.Conn); secure {
		if string(c.answer) != password+"\x00" {
			c.deny()
			return
		}
		c.send(ok0)
		c.serveCommands()
		return
	}
	c.Conn = &prefixed{Conn: c.Conn, head: packet(c.seq-1, c.answer)}
	c.full(password, key, 1)
}

// prefixed is a connection with something before it.
type prefixed struct {
	net.Conn
	head []byte
}

func (p *prefixed) Read(b []byte) (int, error) {
	if len(p.head) > 0 {
		n := copy(b, p.head)
		p.head = p.head[n:]
		return n, nil
	}
	return p.Conn.Read(b)
}

// TestServersThatLieAtLogin: none of them gets the password, and the client is
// told in the gateway's words.
func TestServersThatLieAtLogin(t *testing.T) {
	hangUp := func(*peerConn) {}
	sendAll := func(packets ...string) func(*peerConn) {
		return func(c *peerConn) {
			for _, p := range packets {
				c.send([]byte(p))
			}
			_, _ = io.Copy(c.p, c)
		}
	}
	for name, c := range map[string]struct {
		peer  *peer
		tls   bool // the grant wants it
		errno uint16
	}{
		"clear password":          {&peer{plugin: "mysql_native_password", script: sendAll("\xfemysql_clear_password\x00")}, false, 1429},
		"clear password, TLS":     {&peer{plugin: "mysql_native_password", cert: certified(t), script: sendAll("\xfemysql_clear_password\x00")}, true, 1429},
		"greets with clear":       {&peer{plugin: "mysql_clear_password", script: sendAll("\xfemysql_clear_password\x00")}, false, 1429},
		"old password":            {&peer{plugin: "mysql_native_password", script: sendAll("\xfe")}, false, 1429},
		"old plugin":              {&peer{plugin: "mysql_old_password", script: sendAll("\xfemysql_old_password\x00abcdefgh\x00")}, false, 1429},
		"dialog":                  {&peer{plugin: "dialog", script: sendAll("\xfedialog\x00\x04Password: ")}, false, 1429},
		"no TLS":                  {&peer{plugin: "mysql_native_password", script: hangUp}, true, 1429},
		"full without a key":      {&peer{plugin: "caching_sha2_password", script: sendAll("\x01\x04", "", "\x01no key")}, false, 1429},
		"more than it may":        {&peer{plugin: "mysql_native_password", script: sendAll("\x01\x04")}, false, 1429},
		"never ends":              {&peer{plugin: "caching_sha2_password", script: sendAll(strings.Split(strings.Repeat("\x01\x03|", 30)+"\x00", "|")...)}, false, 1429},
		"hangs up":                {&peer{plugin: "mysql_native_password", script: hangUp}, false, 1429},
		"a strange packet":        {&peer{plugin: "mysql_native_password", script: sendAll("\x55")}, false, 1429},
		"an empty packet":         {&peer{plugin: "mysql_native_password", script: sendAll("")}, false, 1429},
		"a short OK":              {&peer{plugin: "mysql_native_password", script: sendAll("\x00\xfe")}, false, 1429},
		"a long packet":           {&peer{plugin: "mysql_native_password", script: func(c *peerConn) { _, _ = c.Write([]byte{255, 255, 255, 2}) }}, false, 1429},
		"another number":          {&peer{plugin: "mysql_native_password", script: func(c *peerConn) { c.seq = 9; c.send(ok0) }}, false, 1429},
		"protocol 9":              {&peer{greeting: []byte("\x093.21\x00aaaabbbbbbbb\x00"), script: hangUp}, false, 1429},
		"a cut greeting":          {&peer{greeting: []byte("\x0a8.0\x00\x01\x02"), script: hangUp}, false, 1429},
		"an empty greeting":       {&peer{greeting: []byte{}, script: hangUp}, false, 1429},
		"too many":                {&peer{greeting: []byte("\xff\x10\x04Too many connections"), script: hangUp}, false, 1040},
		"blocked":                 {&peer{greeting: []byte("\xff\x69\x04Host '10.1.2.3' is blocked"), script: hangUp}, false, 1429},
		"old":                     {&peer{plugin: "mysql_native_password", flags: peerFlags &^ capDeprecateEOF, script: sendAll("\x00\x00\x00\x02\x00\x00\x00")}, false, 1429},
		"a key of another's make": {&peer{plugin: "sha256_password", script: sendAll("\x01" + string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte("x")})))}, false, 1429},
	} {
		t.Run(name, func(t *testing.T) {
			startPeer(t, c.peer)
			d := open(t, func(_ *mysql.Config, d *door) {
				d.addrOf = c.peer.addr
				if c.tls {
					d.tls = &tls.Config{InsecureSkipVerify: true}
				}
			})
			w := d.under()
			w.write(packet(2, response(loginFlags|capDeprecateEOF, "app", nil, "appdb", "")))
			w.read()
			w.write(packet(4, []byte(appTok)))
			_, err := w.answer()
			var e rawError
			if !errors.As(err, &e) || e.errno != c.errno || strings.Contains(e.text, "10.1.2.3") {
				t.Errorf("got %v", err)
			}
			w.over()
			if c.peer.saw("app secret") {
				t.Error("it has the password")
			}
		})
	}
}

// TestServersThatLieLater: what is not an answer ends the session, and a client
// is never asked for a file that it has no business with.
func TestServersThatLieLater(t *testing.T) {
	for name, c := range map[string]struct {
		ask   string
		reply []string
		flags uint32
	}{
		"a file for a ping":          {"\x0e", []string{"\xfb/etc/passwd"}, capLocalFiles},
		"a file for a long query":    {"\x03SELECT '" + strings.Repeat("x", 60_000) + "'", []string{"\xfb/etc/passwd"}, capLocalFiles},
		"a file for a query":         {"\x03SELECT 1", []string{"\xfb/etc/passwd"}, capLocalFiles},
		"a file from who has none":   {"\x03LOAD DATA LOCAL INFILE 'x' INTO TABLE t", []string{"\xfb/etc/passwd"}, 0},
		"a file for a statement":     {"\x17\x01\x00\x00\x00\x00\x01\x00\x00\x00", []string{"\xfb/etc/passwd"}, capLocalFiles},
		"a file after the answer":    {"\x03SELECT 1 /* infile */", []string{string(ok0), "\xfb/etc/passwd"}, capLocalFiles},
		"two answers":                {"\x0e", []string{string(ok0), string(ok0)}, 0},
		"an empty packet":            {"\x0e", []string{""}, 0},
		"a strange answer":           {"\x0e", []string{"\x05"}, 0},
		"columns that don't add up":  {"\x03SELECT 1", []string{"\x01\x01"}, 0},
		"no columns":                 {"\x03SELECT 1", []string{"\xfe"}, 0},
		"no end of columns":          {"\x03SELECT 1", []string{"\x01", "\x03def", "\x05hello"}, 0},
		"a short OK":                 {"\x03DO 1", []string{"\x00"}, 0},
		"a short statement":          {"\x16SELECT 1", []string{"\x00\x01\x00"}, 0},
		"a short end":                {"\x03SELECT 1", []string{"\x01", "\x03def", "\xfe"}, 0},
		"a short end, short results": {"\x03SELECT 1", []string{"\x01", "\x03def", "\xfe\x00"}, capDeprecateEOF},
	} {
		t.Run(name, func(t *testing.T) {
			p := startPeer(t, &peer{plugin: "mysql_native_password", script: func(c *peerConn) {
				c.send(ok0)
				if _, ok := c.read(); !ok {
					return
				}
				for _, r := range c.p.replies {
					c.send([]byte(r))
				}
				_, _ = io.Copy(c.p, c)
			}, replies: c.reply})
			d := open(t, func(_ *mysql.Config, d *door) { d.addrOf = p.addr })
			w := d.raw(c.flags)
			w.write(packet(0, []byte(c.ask)))
			rest, err := io.ReadAll(w)
			if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Error(err)
			}
			if bytes.Contains(rest, []byte("/etc/passwd")) {
				t.Errorf("the client was told %q", rest)
			}
			eventually(t, "the session ends", func() bool { return len(d.ends()) == 1 })
			if r := d.ends()[0].Reason; r != "the connection to the backend was lost" {
				t.Errorf("it ended because %s", r)
			}
		})
	}
}

// TestUnaskedErrors: what a server says when it ends a connection is passed on.
func TestUnaskedErrors(t *testing.T) {
	p := startPeer(t, &peer{plugin: "mysql_native_password", script: func(c *peerConn) {
		c.send(ok0)
		c.seq = 0
		c.send([]byte("\xff\xbf\x0f#HY000The client was disconnected by the server because of inactivity."))
	}})
	d := open(t, func(_ *mysql.Config, d *door) { d.addrOf = p.addr })
	w := d.raw(0)
	w.wants(0, 4031)
	w.over()
}
