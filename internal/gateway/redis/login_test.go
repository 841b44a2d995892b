package redis_test

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/gateway"
	"github.com/hawser/hawser/internal/gateway/redis"
)

const (
	wrongPass = "-WRONGPASS invalid username-password pair or user is disabled."
	noAuth    = "-NOAUTH Authentication required."
)

func TestPlainConnectionIsTold(t *testing.T) {
	d := open(t)
	c, err := net.Dial("tcp", d.addr)
	if err != nil {
		t.Fatal(err)
	}
	r := wrap(t, c)
	r.send(cmd("AUTH", appOID, appTok))
	if said := r.ended(); !strings.HasPrefix(said, "-ERR ") || !strings.Contains(said, "TLS") {
		t.Errorf("it says %q", said)
	}
	if n := len(d.recorded()); n != 0 {
		t.Errorf("%d sessions were recorded", n)
	}
}

// What a client may say before it has logged in.
func TestBeforeLogin(t *testing.T) {
	d := open(t)
	for _, test := range []struct{ send, want string }{
		{cmd("PING"), noAuth},
		{cmd("GET", "a"), noAuth},
		{cmd("CLIENT", "SETNAME", "a"), noAuth},
		{cmd(""), noAuth},
		{"PING\r\n", noAuth},
		{"\r\n*0\r\n*-1\r\nPING\n", noAuth},
		{cmd("RESET"), "+RESET"},
		{cmd("HELLO"), "-NOAUTH HELLO …"},
		{cmd("HELLO", "3"), "-NOAUTH HELLO …"},
		{cmd("HELLO", "4", "AUTH", appOID, appTok), "-NOPROTO unsupported protocol version"},
		{cmd("HELLO", "x"), "-ERR Protocol version is not an integer or out of range"},
		{cmd("HELLO", "3", "AUTH", appOID), "-ERR Syntax error in HELLO option…"},
		{cmd("HELLO", "3", "AUTH", appOID, appTok, "AUTH", otherOID, otherTok), "-ERR Syntax error in HELLO option…"},
		{cmd("HELLO", "3", "NONSENSE"), "-ERR Syntax error in HELLO option…"},
		{cmd("AUTH"), "-ERR wrong number of arguments for 'auth' command"},
		{cmd("AUTH", appTok), wrongPass},
		{cmd("AUTH", "a", "b", "c"), "-ERR syntax error"},
		{cmd("AUTH", "default", appTok), wrongPass},
		{cmd("AUTH", appOID, otherTok), wrongPass},
		{cmd("AUTH", "", appTok), wrongPass},
		{cmd("AUTH", appOID, ""), wrongPass},
		{cmd("AUTH", appOID, "forged"), wrongPass},
		{cmd("AUTH", appTok, appOID), wrongPass},
		{cmd("AUTH", appOID, "endless"), "-WRONGPASS the access token has expired…"},
		{cmd("AUTH", appOID, "aud"), "-WRONGPASS the access token is for another resource…"},
		{cmd("AUTH", appOID, "expired"), "-WRONGPASS the access token has expired…"},
		{cmd("AUTH", appOID, "away"), "-ERR the login cannot be decided now: try again"},
		{cmd("HELLO", "3", "AUTH", appOID, "forged"), wrongPass},
	} {
		c := d.dial(t, "s1."+domain)
		c.send(test.send)
		c.want(test.want)
		c.send(cmd("AUTH", strings.ToUpper(appOID), appTok), cmd("PING")) // and may still log in
		c.want("+OK", "+PONG")
		_ = c.Close()
	}
	eventually(t, "all leave", func() bool { return len(d.Sessions()) == 0 })
}

// What ends a connection that has not logged in.
func TestBrokenBeforeLogin(t *testing.T) {
	d := open(t)
	long := strings.Repeat("x", 65<<10)
	var all sync.WaitGroup
	for _, test := range []struct{ send, want string }{
		{"*11\r\n", "-ERR Protocol error: unauthenticated multibulk length\r\n"},
		{"*2147483648\r\n", "-ERR Protocol error: invalid multibulk length\r\n"},
		{"*99999999999999999999\r\n", "-ERR Protocol error: invalid multibulk length\r\n"},
		{"*+3\r\n", "-ERR Protocol error: invalid multibulk length\r\n"},
		{"*03\r\n", "-ERR Protocol error: invalid multibulk length\r\n"},
		{"*1\n$4\nPING\n", "-ERR Protocol error: invalid multibulk length\r\n"},
		{"*1\r\n:4\r\n", "-ERR Protocol error: expected '$'\r\n"},
		{"*1\r\n$-1\r\n", "-ERR Protocol error: invalid bulk length\r\n"},
		{"*1\r\n$65537\r\n", "-ERR Protocol error: unauthenticated bulk length\r\n"},
		{"*1\r\n$4\r\nPINGxx", "-ERR Protocol error: expected the end of a line\r\n"},
		{long, "-ERR Protocol error: too big inline request\r\n"},
		{"AUTH \"a\r\n", "-ERR Protocol error: unbalanced quotes in request\r\n"},
		{cmd("QUIT"), "+OK\r\n"},
		{strings.Repeat(cmd("AUTH", appOID, "forged"), 10), strings.Repeat(wrongPass+"\r\n", 10)},
	} {
		all.Go(func() { // side by side: each waits a little for what the client still sends
			c := d.dial(t, "s1."+domain)
			c.send(test.send)
			if got := c.ended(); got != test.want {
				t.Errorf("%.40q gives %q, want %q", test.send, got, test.want)
			}
		})
	}
	all.Wait()
	if n := len(d.recorded()); n != 0 {
		t.Errorf("%d sessions were recorded", n)
	}
}

// Everything may come in one packet, or byte by byte, and is answered in turn.
func TestPipelineFromTheFirstByte(t *testing.T) {
	d := open(t)
	big := "long" + strings.Repeat("x", 60<<10)
	for _, token := range []string{appTok, big} {
		for _, step := range []int{1 << 20, 4096, 7, 1} {
			if step == 1 && token == big {
				continue // a record for each of 60,000 bytes
			}
			c := d.dial(t, "s1."+domain)
			k := key(t, len(token), step)
			all := cmd("GET", k) + cmd("HELLO", "3", "AUTH", appOID, token, "SETNAME", "me") + cmd("CLIENT", "GETNAME") + cmd("SELECT", "0") +
				cmd("SET", k, "v") + cmd("GET", k) + cmd("DEL", k)
			go func() {
				for at := 0; at < len(all); at += step {
					_, _ = c.Write([]byte(all[at:min(len(all), at+step)]))
				}
			}()
			c.want(noAuth, "%[server redis …", "me", "+OK", "+OK", "v", ":1")
			_ = c.Close()
		}
	}
}

// The server is named by TLS, or by nothing.
func TestServerByHostName(t *testing.T) {
	d := open(t)
	for _, test := range []struct{ host, want string }{
		{"s1." + domain, "+OK"},
		{"S1." + domain, "+OK"},
		{"localhost", "+OK"},
		{"s2." + domain, `-ERR there is no server "s2"`},
	} {
		c := d.dial(t, test.host)
		c.send(cmd("AUTH", appOID, appTok))
		c.want(test.want)
		_ = c.Close()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	var servers []string
	for _, a := range d.asked {
		servers = append(servers, a.Server)
		if a.User != appOID || a.Peer == nil || a.CorrelationID == "" {
			t.Errorf("Authorize is asked %+v", a)
		}
	}
	if got := strings.Join(servers, " "); got != "s1 s1  s2" {
		t.Errorf("the servers are %q", got)
	}
}

func TestUnmappedPrincipal(t *testing.T) {
	d := open(t, func(_ *redis.Config, d *door) { d.revoked[appOID] = true })
	c := d.dial(t, "s1."+domain)
	c.send(cmd("AUTH", appOID, appTok), cmd("AUTH", otherOID, otherTok), cmd("PING"))
	c.want(wrongPass, "+OK", "+PONG")
}

// A backend whose password was changed by somebody is repaired once.
func TestRepair(t *testing.T) {
	var repaired int
	d := open(t, func(c *redis.Config, d *door) {
		d.grant.Password = az.NewSecret("not the password")
		c.Repair = repairing(d, &repaired)
	})
	d.enter(t).send(cmd("QUIT"))
	d.mu.Lock()
	defer d.mu.Unlock()
	if repaired != 1 {
		t.Errorf("it was repaired %d times", repaired)
	}
}

// A wrong password at the backend is no news for the client.
func TestBackendRefusesUs(t *testing.T) {
	d := open(t, func(_ *redis.Config, d *door) { d.grant.Password = az.NewSecret("not the password") })
	c := d.dial(t, "s1."+domain)
	c.send(cmd("AUTH", appOID, appTok))
	c.want("-ERR the Redis server refused the gateway: its registration needs attention")
}

// A server that lies or is none.
func TestLyingBackend(t *testing.T) {
	const ok, id = "+OK\r\n", ":7\r\n"
	for i, says := range []string{
		"", "HTTP/1.1 400 Bad Request\r\n", "-NOAUTH x\r\n" + id + "-ERR x\r\n-ERR y\r\n", "+OKAY\r\n" + id + "-ERR x\r\n-ERR y\r\n",
		ok + id + "-ERR unknown command\r\n-ERR y\r\n", ok + id + ok + "-ERR y\r\n", "*1\r\n", "*99999999999999\r\n", "$-7\r\n", "$99999999999999999\r\n",
		strings.Repeat("*1\r\n", 100_000), ok + id + "%marker%-ERR y\r\n+MORE\r\n", strings.Repeat(">1\r\n+x\r\n", 1000), "|1\r\n+a\r\n+b\r\n+OK\r\n",
	} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			l := liar(t, says)
			d := open(t, func(c *redis.Config, d *door) {
				d.grant.Addr, d.grant.TLS = l, nil
				c.Limits = gateway.Limits{Handshake: 300 * time.Millisecond}
			})
			c := d.dial(t, "s1."+domain)
			c.send(cmd("AUTH", appOID, appTok))
			if got, err := c.reply(); err == nil && got != "-ERR the Redis server cannot be reached now: try again" {
				t.Errorf("the client is told %q", got)
			}
			if n := len(d.recorded()); n != 0 {
				t.Errorf("%d sessions began", n)
			}
		})
	}
}
