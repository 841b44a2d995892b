package redis_test

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/gateway"
	"github.com/hawser/hawser/internal/gateway/dbtest"
	"github.com/hawser/hawser/internal/gateway/redis"
)

// A newer token is taken in the middle of a pipeline and answered in its turn;
// the backend never sees it.
func TestNewerTokenInAPipeline(t *testing.T) {
	d := open(t)
	c := d.enter(t)
	k := key(t)
	c.send(cmd("DEL", k), cmd("RPUSH", k, "a", "b"), cmd("AUTH", appOID, nextTok), cmd("LRANGE", k, "0", "-1"), cmd("HELLO", "3", "AUTH", appOID, nextTok, "SETNAME", "x"),
		cmd("CLIENT", "GETNAME"), cmd("HGETALL", k), "auth "+appOID+" "+nextTok+"\r\n", "  \r\n", cmd("DEL", k))
	c.want(":0", ":2", "+OK", "*[a b]", "%[server redis …", "x", "-WRONGTYPE …", "+OK", ":1")
}

// A token that does not count leaves the session as it was.
func TestWorseTokens(t *testing.T) {
	d := open(t)
	c := d.enter(t)
	c.send(cmd("AUTH", otherOID, otherTok), cmd("AUTH", appOID, otherTok), cmd("AUTH", otherOID, appTok), cmd("AUTH", appOID, "forged"), cmd("AUTH", appTok),
		cmd("HELLO", "3", "AUTH", otherOID, otherTok), cmd("HELLO", "3", "AUTH", appOID), cmd("AUTH", appOID, "away"), cmd("AUTH"), cmd("AUTH", "a", "b", "c"), cmd("ACL"), cmd("PING"))
	c.want(wrongPass, wrongPass, wrongPass, wrongPass, wrongPass, wrongPass, "-ERR Syntax error in HELLO option", "-ERR the login cannot be decided now: try again",
		"-ERR wrong number of arguments for 'auth' command", "-ERR syntax error", "-NOPERM …", "+PONG")
	for range 10 {
		c.send(cmd("AUTH", appOID, "forged"))
	}
	if said := c.ended(); !strings.HasSuffix(said, "-ERR Protocol error: too many failed logins\r\n") {
		t.Errorf("at last it says %q", said)
	}
}

// In a transaction AUTH and what is refused make EXEC fail, as in Redis.
func TestTransactions(t *testing.T) {
	d := open(t)
	c := d.enter(t)
	k := key(t)
	c.send(cmd("MULTI"), cmd("SET", k, "1"), cmd("EXEC"), cmd("multi"), cmd("SET", k, "2"), cmd("AUTH", appOID, nextTok), cmd("EXEC"), cmd("GET", k),
		cmd("MULTI"), cmd("SET", k, "3"), cmd("MONITOR"), cmd("EXEC"), cmd("MULTI"), cmd("CLUSTER", "SLOTS"), cmd("DISCARD"), cmd("AUTH", appOID, nextTok),
		cmd("MULTI"), cmd("HELLO", "3", "AUTH", appOID, nextTok), cmd("INCR", k), cmd("EXEC"), cmd("DEL", k))
	const no = "-ERR Command not allowed inside a transaction"
	c.want("+OK", "+QUEUED", "*[+OK]", "+OK", "+QUEUED", no, "-EXECABORT …", "1",
		"+OK", "+QUEUED", "-NOPERM …", "-EXECABORT …", "+OK", no, "+OK", "+OK",
		"+OK", "+QUEUED", "+QUEUED", "*[%[server…", ":1")
}

// Commands that would show or disturb others are refused in their turn.
func TestFences(t *testing.T) {
	d := open(t)
	c, other := d.enter(t), d.dial(t, "s1."+domain)
	other.send(cmd("AUTH", otherOID, otherTok), cmd("CLIENT", "ID"))
	other.want("+OK")
	foreign, _ := other.reply()
	foreign = foreign[1:]
	for _, refused := range [][]string{
		{"MONITOR"}, {"monitor"}, {"SYNC"}, {"PSYNC", "?", "-1"}, {"REPLCONF", "listening-port", "1"}, {"REPLICAOF", "NO", "ONE"}, {"SLAVEOF", "NO", "ONE"}, {"FAILOVER"},
		{"MIGRATE", "h", "1", "k", "0", "1"}, {"SHUTDOWN"}, {"DEBUG", "SLEEP", "0"}, {"MODULE", "LIST"}, {"ACL", "LIST"}, {"CONFIG", "GET", "*"}, {"SAVE"}, {"BGSAVE"},
		{"SLOWLOG", "GET"}, {"LATENCY", "LATEST"}, {"RESTORE-ASKING", "k", "0", "x"},
		{"CLIENT", "LIST"}, {"client", "list"}, {"CLIENT", "KILL", "ID", foreign}, {"CLIENT", "PAUSE", "1"}, {"CLIENT", "UNPAUSE"}, {"CLIENT", "NO-EVICT", "on"},
		{"CLIENT", "TRACKING", "ON", "REDIRECT", foreign}, {"CLIENT", "UNBLOCK", foreign}, {"CLIENT", "SOMETHING"}, {"CLIENT", ""},
		{"CLUSTER", "RESET"}, {"CLUSTER", "FAILOVER"}, {"CLUSTER", "MEET", "127.0.0.1", "1"}, {"CLUSTER", "LINKS"},
	} {
		c.send(cmd(refused...), cmd("PING", "next"))
		c.want("-NOPERM This user has no permissions to run the '…", "next")
		for step := range refused { // and cut anywhere
			text := cmd(refused...) + cmd("PING", "next")
			cut := (step*13 + 5) % len(text)
			c.send(text[:cut])
			time.Sleep(time.Millisecond)
			c.send(text[cut:])
			c.want("-NOPERM This user has no permissions to run the '…", "next")
		}
	}
	c.send(cmd("CLIENT", "ID"))
	own, _ := c.reply()
	c.send(cmd("CLIENT", "TRACKING", "ON", "REDIRECT", own[1:]), cmd("CLIENT", "TRACKING", "OFF"), cmd("CLIENT", "UNBLOCK", own[1:]), cmd("CLIENT", "NO-TOUCH", "x"), cmd("CLIENT"),
		cmd("CLUSTER", "INFO"), cmd("CLUSTER", "SLOTS"), cmd("EVAL", "return redis.call('client','list')", "0"), cmd("EVAL", "return redis.pcall('acl','whoami')", "0"))
	c.want("+OK", "+OK", "-NOPERM this user …", "-ERR …", "-ERR wrong number…", "-ERR This instance has cluster support disabled", "-ERR This instance has cluster support disabled", "-ERR …", "-ERR …")
}

// CLIENT REPLY: what gets no answer from Redis gets none from us.
func TestClientReply(t *testing.T) {
	d := open(t)
	c := d.enter(t)
	c.send(cmd("CLIENT", "REPLY", "SKIP"), cmd("PING", "unheard"), cmd("PING", "1"),
		cmd("CLIENT", "REPLY", "SKIP"), cmd("AUTH", appOID, nextTok), cmd("MONITOR"), cmd("PING", "2"),
		cmd("CLIENT", "REPLY", "OFF"), cmd("AUTH", appOID, nextTok), cmd("MONITOR"), cmd("GET", "a"), cmd("CLIENT", "REPLY", "ON"), cmd("AUTH", appOID, nextTok), cmd("PING", "3"))
	c.want("1", "-NOPERM …", "2", "+OK", "+OK", "3")
	c.send(cmd("RESET"))
	if said := c.ended(); !strings.HasPrefix(said, "-ERR Protocol error: RESET after CLIENT REPLY") {
		t.Errorf("it says %q", said)
	}
}

// RESET forgets everything, the login as well, and never leaves the client as
// the backend's default user.
func TestReset(t *testing.T) {
	d := open(t)
	c := d.enter(t)
	c.send(cmd("HELLO", "3", "SETNAME", "before"), cmd("SELECT", "3"), cmd("MULTI"), cmd("SET", "a", "b"), cmd("RESET"), cmd("GET", "a"), cmd("HELLO"), cmd("HELLO", "3"),
		cmd("CLIENT", "LIST"), cmd("CLUSTER", "SLOTS"), "PING\r\n", cmd("AUTH", otherOID, otherTok), cmd("RESET"), cmd("AUTH", appOID, nextTok), cmd("CLIENT", "GETNAME"), cmd("CLIENT", "INFO"))
	c.want("%[…", "+OK", "+OK", "+QUEUED", "+RESET", noAuth, "-NOAUTH HELLO …", "-NOAUTH HELLO …", noAuth, noAuth, noAuth, wrongPass, "+RESET", "+OK", "nil")
	info, err := c.reply()
	if err != nil || !strings.Contains(info, "user=hawser-"+appOID) || !strings.Contains(info, " db=0 ") || !strings.Contains(info, "resp=2") {
		t.Errorf("the backend's connection is %q, %v", info, err)
	}
	c.send(cmd("SUBSCRIBE", "a", "b"), cmd("RESET"), cmd("HELLO", "3", "AUTH", appOID, appTok), cmd("PING"), cmd("RESET", "x"), cmd("QUIT"), cmd("PING"))
	c.want("*[subscribe a :1]", "*[subscribe b :2]", "+RESET", "%[…", "+PONG", "-ERR wrong number…", "+OK")
	if said := c.ended(); said != "" {
		t.Errorf("after QUIT it says %q", said)
	}
	eventually(t, "the end is recorded", func() bool { return len(d.recorded()) == 2 })
	if r := d.recorded()[1].Reason; r != gateway.ClientLeft {
		t.Errorf("it ended because %s", r)
	}
}

// Who says RESET and no more is cut off, and cannot be again what he was
// without his right.
func TestResetWithoutRight(t *testing.T) {
	d := open(t)
	c := d.enter(t)
	c.send(cmd("RESET"))
	c.want("+RESET")
	d.mu.Lock()
	d.revoked[appOID] = true
	d.mu.Unlock()
	c.send(cmd("AUTH", appOID, nextTok), cmd("PING"))
	c.want(wrongPass, noAuth)
	d.mu.Lock()
	d.ahead = 31 * time.Second
	d.mu.Unlock()
	d.End(d.Sessions()[0].ID, gateway.Asked)
	c.ended()
}

// Inline commands, as somebody types them.
func TestInline(t *testing.T) {
	d := open(t)
	c := d.enter(t)
	c.send("ping\r\nPING \"a\\x41\\n\"\n\r\nPING 'it\\'s'\r\nmonitor\r\n", cmd("PING", "x"), "PING y\r\n")
	c.want("+PONG", "aA\n", "it's", "-NOPERM …", "x", "y")
	c.send("PING 'x\r\n")
	if said := c.ended(); said != "-ERR Protocol error: unbalanced quotes in request\r\n" {
		t.Errorf("it says %q", said)
	}
}

// What breaks the protocol ends the session, after what came before it.
func TestBrokenSessions(t *testing.T) {
	d := open(t)
	for _, test := range []struct{ send, want string }{
		{"*2147483648\r\n", "invalid multibulk length"},
		{"*2\r\n$3\r\nGET\r\n$-1\r\n", "invalid bulk length"},
		{"*2\r\n$3\r\nGET\r\n$536870913\r\n", "invalid bulk length"},
		{"*2\r\n$3\r\nGET\r\n+OK\r\n", "expected '$'"},
		{"*1\r\n$007\r\nMONITOR\r\n", "invalid bulk length"},
		{"*3\r\n$4\r\nAUTH\r\n$65537\r\n", "a command that the gateway answers is too long"},
		{"*1025\r\n$6\r\nCLIENT\r\n", "a command that the gateway answers is too long"},
	} {
		c := d.enter(t)
		c.send(cmd("PING"))
		c.want("+PONG")
		c.send(test.send)
		if got, want := c.ended(), "-ERR Protocol error: "+test.want+"\r\n"; got != want {
			t.Errorf("%q gives %q, want %q", test.send, got, want)
		}
	}
	eventually(t, "the ends are recorded", func() bool { return len(d.recorded()) == 14 })
	for _, e := range d.recorded() {
		if e.Ended && e.Reason != gateway.BadProtocol {
			t.Errorf("it ended because %s", e.Reason)
		}
	}
}

// A session lives as long as its newest token, parked or not.
func TestExpiry(t *testing.T) {
	const life = 400 * time.Millisecond
	d := open(t, func(c *redis.Config, d *door) {
		d.life = life
		c.Limits = gateway.Limits{IdleBeforePark: 10 * time.Millisecond}
	})
	idle, waiting, renewed, listening := d.enter(t), d.enter(t), d.enter(t), d.enter(t)
	idle.send(cmd("PING"))
	idle.want("+PONG")
	waiting.send(cmd("BLPOP", key(t), "0"))
	listening.send(cmd("SUBSCRIBE", key(t)))
	listening.want("*[subscribe …")
	d.mu.Lock()
	d.life = time.Hour
	d.mu.Unlock()
	renewed.send(cmd("AUTH", appOID, nextTok))
	renewed.want("+OK")
	if said := idle.ended(); said != "" {
		t.Errorf("a client that waits for nothing is told %q", said)
	}
	if said := waiting.ended(); said != "-NOAUTH the access token has expired: get a new one and connect again\r\n" {
		t.Errorf("a client that waits is told %q", said)
	}
	if said := listening.ended(); said != "" {
		t.Errorf("a subscriber is told %q", said)
	}
	time.Sleep(life)
	renewed.send(cmd("PING"))
	renewed.want("+PONG")
	eventually(t, "the ends are recorded", func() bool { return len(d.recorded()) == 7 })
	for _, e := range d.recorded() {
		if e.Ended && e.Reason != gateway.Expired {
			t.Errorf("it ended because %s", e.Reason)
		}
	}
}

// A newer token is asked about again, also against a change of rights that is
// under way, and its principal is the one that is asked about from then on.
func TestRenewalIsAuthorized(t *testing.T) {
	d := open(t)
	c := d.enter(t)
	d.mu.Lock()
	before := len(d.asked)
	d.mu.Unlock()
	c.send(cmd("AUTH", appOID, nextTok))
	c.want("+OK")
	d.mu.Lock()
	if last := d.asked[len(d.asked)-1]; len(d.asked) != before+1 || !last.Again || last.Server != "s1" || last.User != appOID {
		t.Errorf("Authorize was asked %+v", last)
	}
	d.revoked[appOID] = true
	d.mu.Unlock()
	c.send(cmd("AUTH", appOID, nextTok), cmd("PING"))
	c.want(wrongPass, "+PONG") // until the change of rights arrives
	if n := d.revoke(appOID); n != 1 {
		t.Errorf("%d sessions were ended", n)
	}
	c.ended()
}

// A lost right ends what waits in the backend too, within the second.
func TestRevocationReachesTheBackend(t *testing.T) {
	d := open(t, func(c *redis.Config, d *door) {
		c.Terminate = func(_ context.Context, _ az.ID, _ string, id uint64) error {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.killed = append(d.killed, id)
			return nil
		}
	})
	a, b := d.enter(t), d.enter(t)
	k := key(t)
	a.send(cmd("BLPOP", k, "0"))
	b.send(cmd("CLIENT", "ID"))
	if _, err := b.reply(); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	if n := d.revoke(appOID); n != 2 {
		t.Errorf("%d sessions were ended", n)
	}
	if said := a.ended(); !strings.HasPrefix(said, "-NOPERM ") {
		t.Errorf("it is told %q", said)
	}
	b.ended()
	if took := time.Since(begun); took > time.Second {
		t.Errorf("it took %s", took)
	}
	o := d.dial(t, "s1."+domain)
	o.send(cmd("AUTH", otherOID, otherTok), cmd("RPUSH", k, "kept"), cmd("LLEN", k), cmd("DEL", k))
	o.want("+OK", ":1", ":1", ":1") // nobody waits for it any more
	if len(d.killed) != 0 {
		t.Errorf("connections %v were killed, which the server had closed", d.killed)
	}
}

// A client that closes its side after its last command.
func TestHalfClose(t *testing.T) {
	d := open(t)
	c := d.enter(t)
	c.send(cmd("PING"))
	c.want("+PONG")
	_ = c.Conn.(interface{ CloseWrite() error }).CloseWrite()
	c.ended()
	eventually(t, "the session ends", func() bool { return len(d.Sessions()) == 0 })
}

// Sessions that do nothing cost next to nothing and wake up.
func TestManyIdle(t *testing.T) {
	plain := dbtest.Redis(t).Plain
	d := open(t, func(c *redis.Config, d *door) {
		c.Limits = gateway.Limits{IdleBeforePark: 20 * time.Millisecond}
		d.grant.Addr, d.grant.TLS = plain, nil
	})
	const n = 1000
	before := runtime.NumGoroutine()
	all := make([]*raw, n)
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := w; i < n; i += 8 {
				all[i] = d.enter(t)
			}
		})
	}
	wg.Wait()
	if runtime.GOOS == "linux" {
		eventually(t, "they are parked", func() bool { return runtime.NumGoroutine() < before+20 })
	}
	for i, c := range all {
		c.send(cmd("PING", fmt.Sprint(i)))
	}
	for i, c := range all {
		c.want(fmt.Sprint(i))
	}
}
