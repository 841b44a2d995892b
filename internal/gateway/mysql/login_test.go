package mysql_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	osexec "os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	driver "github.com/go-sql-driver/mysql"

	"github.com/hawser/hawser/internal/gateway"
	"github.com/hawser/hawser/internal/gateway/mysql"
)

func TestDriverLogsInWithAToken(t *testing.T) {
	d := open(t)
	c := d.login()
	if got := ask(t, c, "SELECT CONCAT(CURRENT_USER(), '/', DATABASE())"); got != "app@%/appdb" {
		t.Error(got)
	}
	if got := ask(t, c, "SELECT ?", "prepared"); got != "prepared" {
		t.Error(got)
	}
	if got := ask(t, d.login(func(c *driver.Config) { c.DBName = "" }), "SELECT DATABASE()"); got != "NULL" {
		t.Error(got)
	}
}

// shell runs a program that logs in as app; the token is in the environment.
func (d *door) shell(name string, args ...string) (string, error) {
	_, port, _ := net.SplitHostPort(d.addr)
	for i := range args {
		args[i] = strings.NewReplacer("$PORT", port, "$CA", d.ca).Replace(args[i])
	}
	cmd := osexec.Command(name, args...)
	cmd.Env = append(os.Environ(), "MYSQL_PWD="+appTok, "PORT="+port, "CA="+d.ca, "TOKEN="+appTok)
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func TestMariaDBShell(t *testing.T) {
	d := open(t)
	args := []string{"--no-defaults", "-h", "127.0.0.1", "-P", "$PORT", "-u", "app", "--ssl", "--ssl-ca=$CA", "--ssl-verify-server-cert", "-N", "-B", "-e", "SELECT CURRENT_USER(), DATABASE(); SELECT 2", "appdb"}
	for range 2 { // the first time the version is the neutral one
		if got, err := d.shell("mariadb", args...); err != nil || got != "app@%\tappdb\n2" {
			t.Errorf("%q, %v", got, err)
		}
	}
	got, err := d.shell("mariadb", "--no-defaults", "-h", "127.0.0.1", "-P", "$PORT", "-u", "app", "--skip-ssl", "-e", "SELECT 1")
	if err == nil || !strings.Contains(got, "ERROR 3159 (HY000): Connections using insecure transport are prohibited while --require_secure_transport=ON.") {
		t.Errorf("%q, %v", got, err)
	}
}

func TestPyMySQL(t *testing.T) {
	d := open(t)
	const program = `
import os, pymysql
c = pymysql.connect(host="127.0.0.1", port=int(os.environ["PORT"]), user="app", password=os.environ["TOKEN"], database="appdb", ssl={"ca": os.environ["CA"], "check_hostname": False})
with c.cursor() as cur:
    cur.execute("SELECT CURRENT_USER(), %s", ("parameter",))
    print(cur.fetchone())
    cur.execute("CREATE TEMPORARY TABLE t (n INT)")
    cur.executemany("INSERT INTO t VALUES (%s)", [(i,) for i in range(100)])
    cur.execute("SELECT COUNT(*) FROM t")
    print(cur.fetchone())
c.close()
`
	if got, err := d.shell("/usr/bin/python3", "-c", program); err != nil || got != "('app@%', 'parameter')\n(100,)" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestTokenAtOnce sends the token in the first packet, as clients do that were
// told to use mysql_clear_password.
func TestTokenAtOnce(t *testing.T) {
	d := open(t)
	for _, token := range []string{appTok, "long" + strings.Repeat("x", 60_000)} {
		w := d.under()
		w.write(packet(2, response(loginFlags|capLenenc, "app", append([]byte(token), 0), "appdb", "mysql_clear_password")))
		if seq, body := w.read(); seq != 3 || body[0] != 0 {
			t.Fatalf("answered %d %q", seq, body)
		}
		w.command(0x0e, "")
		if _, err := w.answer(); err != nil {
			t.Error(err)
		}
	}
}

func TestServerIsChosen(t *testing.T) {
	d := open(t)
	for _, c := range []struct {
		name, user, sni string
		want            string // the server asked for, or the refusal
	}{
		{name: "the only one", want: ""},
		{name: "host name", sni: "s1." + domain, want: "s1"},
		{name: "host name in capitals", sni: "S1." + strings.ToUpper(domain), want: "s1"},
		{name: "foreign host name", sni: "localhost", want: ""},
		{name: "user", user: "app@s1", want: "s1"},
		{name: "user with host", user: "app@s1." + domain, want: "s1"},
		{name: "all agree", sni: "s1." + domain, user: "app@S1", want: "s1"},
		{name: "host and user differ", sni: "s1." + domain, user: "app@s2", want: "names two servers"},
		{name: "no such server", user: "app@nope", want: `there is no server "nope"`},
		{name: "below a server", sni: "x.s1." + domain, want: "no server has such a host name"},
		{name: "a mail address is a user", user: "app@corp.example", want: "Access denied for user 'app@corp.example'@'127.0.0.1' (using password: YES)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn, done, err := d.try(func(f *driver.Config) {
				f.TLS = &tls.Config{ServerName: c.sni, InsecureSkipVerify: true} // names the test certificate does not have
				if c.user != "" {
					f.User = c.user
				}
			})
			if err != nil {
				if c.want == "" || !strings.Contains(err.Error(), c.want) {
					t.Fatal(err)
				}
				return
			}
			defer done()
			all := d.targets()
			if got := all[len(all)-1]; got.Server != c.want || got.User != "app" {
				t.Errorf("asked for %+v", got)
			}
			if got := ask(t, conn, "SELECT CURRENT_USER()"); got != "app@%" {
				t.Errorf("got %q", got)
			}
		})
	}
}

func TestRefusalsAreInTheServersWords(t *testing.T) {
	d := open(t)
	usual := func(user string) string {
		return fmt.Sprintf("Access denied for user '%s'@'127.0.0.1' (using password: YES)", user)
	}
	for _, c := range []struct {
		token, user string
		errno       uint16
		text        string
	}{
		{"forged", "app", 1045, usual("app")},
		{appTok, "root", 1045, usual("root")},
		{appTok, "nobody", 1045, usual("nobody")},
		{appTok, "", 1045, usual("")},
		{"aud", "app", 1045, usual("app") + `: The access token does not have a valid audience claim. Please acquire a new token for the resource "https://ossrdbms-aad.database.windows.net".`},
		{"app secret", "app", 1045, usual("app") + ": The access token has invalid format. Please ensure the token is passed exactly as returned by the authentication endpoint and retry."},
		{"no-oid", "app", 1045, usual("app") + ": The access token doesn't have a valid oid claim. Acquire a new token and try again"},
		{"late", "app", 1045, usual("app") + ": The access token has expired. Acquire a new token and try again"},
		{"", "app", 1045, "Access denied for user 'app'@'127.0.0.1' (using password: NO)"},
		{"store-away", "app", 1105, "the login cannot be decided now: try again"},
	} {
		_, done, err := d.try(func(f *driver.Config) { f.Passwd, f.User = c.token, c.user })
		var e *driver.MySQLError
		if !errors.As(err, &e) {
			t.Errorf("%s as %s: %v", c.token, c.user, err)
			if err == nil {
				done()
			}
			continue
		}
		if e.Number != c.errno || e.Message != c.text {
			t.Errorf("%s as %s: %d %s", c.token, c.user, e.Number, e.Message)
		}
	}
}

func TestBackendTroubleIsToldWithoutInsides(t *testing.T) {
	d := open(t)
	refused := func(want uint16, change ...func(*driver.Config)) {
		t.Helper()
		_, done, err := d.try(change...)
		if err == nil {
			done()
		}
		if errno(err) != want {
			t.Fatalf("got %v, want %d", err, want)
		}
		if strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), d.target.Addr) {
			t.Errorf("told too much: %v", err)
		}
	}
	refused(1044, func(c *driver.Config) { c.DBName = "nope" })
	refused(1044, func(c *driver.Config) { c.DBName = "private" })
	refused(1429, func(c *driver.Config) { c.User = "absent" })
	d.mu.Lock()
	d.addrOf = "127.0.0.1:1"
	d.mu.Unlock()
	refused(1429)
}

// TestBeforeTLS: whatever a client says without TLS, it is refused, and no
// token is asked for.
func TestBeforeTLS(t *testing.T) {
	d := open(t, func(c *mysql.Config, _ *door) { c.Limits.Handshake = 2 * time.Second })
	full := response(loginFlags, "app", []byte(appTok), "appdb", "mysql_clear_password")
	for name, c := range map[string]struct {
		send  []byte
		errno uint16 // 0: it is only closed
		seq   byte
	}{
		"a login":                        {packet(1, full), 3159, 2},
		"a login that claims TLS":        {packet(1, append([]byte{0, full[1] | 0x08}, full[2:]...)), 3159, 2},
		"a request for TLS with more":    {packet(1, append(sslRequest(), 0)), 3159, 2},
		"a request without the flag":     {packet(1, response(loginFlags, "", nil, "", "")), 3159, 2},
		"protocol 4.0":                   {packet(1, []byte{5, 0, 0, 0, 1, 'a', 0}), 1043, 2},
		"another number":                 {packet(0, sslRequest()), 1156, 2},
		"too long":                       {append([]byte{0xff, 0xff, 0xff, 1}, full...), 1153, 2},
		"nothing":                        {packet(1, nil), 1043, 2},
		"HTTP":                           {[]byte("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"), 1153, 2},
		"TLS at once":                    {[]byte{0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc}, 1156, 2},
		"TLS that is none":               {append(packet(1, sslRequest()), packet(2, full)...), 0, 0},
		"a login behind the TLS request": {append(packet(1, sslRequest()), full...), 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			w := d.dial()
			w.read()
			w.write(c.send)
			if c.errno != 0 {
				w.t = t
				w.wants(c.seq, c.errno)
			}
			w.over()
		})
	}
	if len(d.targets()) != 0 {
		t.Error("somebody without TLS was authorised")
	}
}

// TestClientSpeaksFirst sends everything up to TLS before it has the greeting,
// which changes nothing: the greeting holds no secret.
func TestClientSpeaksFirst(t *testing.T) {
	d := open(t)
	w := d.dial()
	w.write(packet(1, sslRequest()))
	w.read()
	c := tls.Client(w.Conn, &tls.Config{RootCAs: d.roots, ServerName: "localhost"})
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	w.Conn = c
	w.write(packet(2, response(loginFlags, "app", nil, "", "mysql_native_password")))
	w.read()
	w.write(packet(4, []byte("forged\x00")))
	w.wants(5, 1045)
}

func TestUnderTLS(t *testing.T) {
	d := open(t)
	good := response(loginFlags, "app", nil, "appdb", "mysql_native_password")
	flags := func(f uint32) []byte { return response(f, "app", nil, "appdb", "mysql_native_password") }
	cut := func(n int) []byte { return good[:n] }
	for name, c := range map[string]struct {
		send  []byte
		errno uint16
	}{
		"wrong number":          {packet(1, good), 1156},
		"too long":              {append([]byte{0, 0, 3, 2}, good...), 1153},
		"cut in the head":       {packet(2, cut(20)), 1043},
		"cut in the user":       {packet(2, cut(34)), 1043},
		"cut before the answer": {packet(2, cut(36)), 1043},
		"empty":                 {packet(2, nil), 1043},
		"without 4.1":           {packet(2, flags(loginFlags&^(1<<9))), 1043},
		"without plugins":       {packet(2, flags(loginFlags&^(1<<19))), 1251},
		"with compression":      {packet(2, flags(loginFlags|1<<5)), 1043},
		"with zstd":             {packet(2, flags(loginFlags|1<<26)), 1043},
		"attributes that lie":   {packet(2, append(flags(loginFlags|1<<20), 9, 200, 'a')), 1043},
		"answer longer than it": {packet(2, response(loginFlags|capLenenc, "app", []byte("\xfe\xff\xff\xff\xff\xff\xff\xff\xff"), "", "x")[:40]), 1043},
		"a long user":           {packet(2, response(loginFlags, strings.Repeat("u", 1000), nil, "", "x")), 1043},
	} {
		t.Run(name, func(t *testing.T) {
			w := d.under()
			w.t = t
			w.write(c.send)
			w.wants(3, c.errno)
			w.over()
		})
	}
	for name, c := range map[string]struct {
		send  []byte
		errno uint16
	}{
		"two strings":     {packet(4, []byte("forged\x00more\x00")), 1043},
		"wrong number":    {packet(3, []byte(appTok)), 1156},
		"too long":        {append([]byte{2, 0, 1, 4}, bytes.Repeat([]byte("x"), 70_000)...), 1153},
		"a frame of 16 M": {append([]byte{0xff, 0xff, 0xff, 4}, appTok...), 1153},
		"nothing":         {packet(4, nil), 1045},
		"only a NUL":      {packet(4, []byte{0}), 1045},
	} {
		t.Run("token: "+name, func(t *testing.T) {
			w := d.under()
			w.t = t
			w.write(packet(2, good))
			w.read()
			w.write(c.send)
			w.wants(5, c.errno)
			w.over()
		})
	}
	if len(d.targets()) != 0 {
		t.Error("one of them was authorised")
	}
}

// TestHandshakesThatStop leaves at every byte of a login.
func TestHandshakesThatStop(t *testing.T) {
	d := open(t)
	good := packet(2, response(loginFlags, "app", nil, "appdb", "mysql_native_password"))
	for n := 0; n < len(good); n += 7 {
		w := d.under()
		w.write(good[:n])
		if err := w.Conn.(*tls.Conn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		w.over()
	}
	ssl := packet(1, sslRequest())
	for n := range len(ssl) {
		w := d.dial()
		w.write(ssl[:n])
		_ = w.Conn.(*net.TCPConn).CloseWrite()
		w.over()
	}
	eventually(t, "all handshakes end", func() bool { return len(d.Sessions()) == 0 })
}

// TestGreeting looks at what a client is told before it has said anything.
func TestGreeting(t *testing.T) {
	d := open(t)
	ids, scrambles := map[uint32]bool{}, map[string]bool{}
	for range 20 {
		w := d.dial()
		_, b := w.read()
		version, rest, _ := bytes.Cut(b[1:], []byte{0})
		if b[0] != 10 || string(version) != "5.7.44-hawser" || !bytes.HasSuffix(b, []byte("\x00mysql_native_password\x00")) {
			t.Fatalf("greeted with %q", b)
		}
		id := uint32(rest[0]) | uint32(rest[1])<<8 | uint32(rest[2])<<16 | uint32(rest[3])<<24
		if ids[id] || id>>30 != 1 {
			t.Errorf("the id is %d", id)
		}
		scramble := string(rest[4:12]) + string(rest[31:43])
		if scrambles[scramble] || strings.ContainsRune(scramble, 0) {
			t.Errorf("the scramble is %q", scramble)
		}
		ids[id], scrambles[scramble] = true, true
	}
	d.login()
	_, b := d.dial().read()
	if !bytes.Contains(b, []byte("MariaDB\x00")) && !bytes.Contains(b, []byte("MariaDB-")) {
		t.Errorf("the version is not the server's: %q", b)
	}
}

// TestRepair: a server that refuses a user's password has it set again, once.
func TestRepair(t *testing.T) {
	var repairs atomic.Int32
	d := open(t, func(c *mysql.Config, d *door) {
		c.Repair = func(context.Context, azID, string) error {
			repairs.Add(1)
			d.mu.Lock()
			defer d.mu.Unlock()
			d.users["app"] = secret("app secret")
			return nil
		}
		d.users["app"] = secret("another")
	})
	if got := ask(t, d.login(), "SELECT 'in'"); got != "in" || repairs.Load() != 1 {
		t.Error(got, repairs.Load())
	}
}

// TestBackendWays logs in by every plugin that MariaDB has, with TLS in every
// mode, and by the socket.
func TestBackendWays(t *testing.T) {
	d := open(t)
	for _, mode := range []string{"disable", "require", "verify-ca", "verify-full", "socket"} {
		for _, user := range []string{"app", "modern"} {
			conf, err := gateway.BackendTLS(strings.Replace(mode, "socket", "disable", 1), "localhost", d.target.CA)
			if err != nil {
				t.Fatal(err)
			}
			d.mu.Lock()
			d.tls, d.addrOf = conf, ""
			if mode == "socket" {
				d.addrOf = d.target.Socket
			}
			d.mu.Unlock()
			c, done, err := d.try(func(c *driver.Config) { c.User = user })
			if err != nil {
				t.Errorf("%s, %s: %v", mode, user, err)
				continue
			}
			if got := ask(t, c, "SELECT VARIABLE_VALUE <> '' FROM information_schema.SESSION_STATUS WHERE VARIABLE_NAME = 'SSL_CIPHER'"); got != map[bool]string{true: "1", false: "0"}[conf != nil] {
				t.Errorf("%s: TLS is %s", mode, got)
			}
			done()
			eventually(t, "it ends", func() bool { return len(d.Sessions()) == 0 })
			d.Forget(d.grant().Server)
		}
	}
	conf, _ := gateway.BackendTLS("verify-full", "elsewhere", d.target.CA)
	d.mu.Lock()
	d.tls, d.addrOf = conf, ""
	d.mu.Unlock()
	if _, _, err := d.try(); errno(err) != 1429 {
		t.Errorf("another's certificate: %v", err)
	}
}

// TestNoPassword: an account of the server without a password is one, too.
func TestNoPassword(t *testing.T) {
	d := open(t)
	if got := ask(t, d.login(func(c *driver.Config) { c.User, c.DBName = "nopw", "" }), "SELECT CURRENT_USER()"); got != "nopw@%" {
		t.Error(got)
	}
}
