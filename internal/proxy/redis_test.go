package proxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

func redisCLI(t testing.TB, args ...string) string {
	t.Helper()
	c := exec.Command("redis-cli", args...)
	c.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}
	out, _ := c.CombinedOutput()
	return strings.TrimSpace(string(out))
}

func TestRedisCLIWithoutPassword(t *testing.T) {
	p := newPlane(t, Redis)
	d := p.door(Redis)
	socket := d.unix(t, Redis)
	if got := redisCLI(t, "-u", "redis://"+d.addr+"/0", "SET", "k1", "v1"); got != "OK" {
		t.Errorf("SET: %q", got)
	}
	if got := redisCLI(t, "-s", socket, "GET", "k1"); got != "v1" {
		t.Errorf("GET by Unix socket: %q", got)
	}
	if got := redisCLI(t, "-p", d.port(), "--user", "somebody", "--pass", "wrong", "--no-auth-warning", "GET", "k1"); got != "v1" {
		t.Errorf("with a user and password: %q", got)
	}
	if got := redisCLI(t, "-p", d.port(), "-3", "GET", "k1"); got != `"v1"` && got != "v1" {
		t.Errorf("RESP3: %q", got)
	}
}

func TestRedisRefusals(t *testing.T) {
	p := newPlane(t, Redis)
	for name, c := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"stranger":     {strangers, "NOPERM hawser: only the programs"},
		"nobody there": {nobodyThere(t), "ERR hawser: cannot reach s1 now"},
		"not its name": {func(c *Config) { c.Host = "s2.db.test" }, "cannot trust the server at s1"},
		"no oid": {func(c *Config) {
			c.Token = func(context.Context) (s secret, ends time.Time, err error) {
				return newSecret("a.e30.c"), time.Now().Add(time.Hour), nil
			}
		}, "names nobody"},
		"somebody else": {func(c *Config) {
			c.Token = func(context.Context) (s secret, ends time.Time, err error) {
				return newSecret(testToken("22222222-2222-2222-2222-222222222222", 0)), time.Now().Add(time.Hour), nil
			}
		}, "refused the login"},
	} {
		t.Run(name, func(t *testing.T) {
			d := p.door(Redis, c.change)
			if got := redisCLI(t, "-p", d.port(), "PING"); !strings.Contains(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// conn is a session as the proxy has it, for looking at from the inside: the
// door copies nothing here.
func (p *plane) redisPair(t testing.TB) (*redisConn, *bufio.Reader) {
	t.Helper()
	d := p.door(Redis)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	r, err := d.redisLogin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.stop(); _ = r.Close() })
	_ = r.SetDeadline(time.Now().Add(20 * time.Second))
	return r, bufio.NewReader(r)
}

func say2(t testing.TB, r *redisConn, text string) {
	t.Helper()
	if _, err := r.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
}

func expect(t testing.TB, b *bufio.Reader, want string) {
	t.Helper()
	got := make([]byte, len(want))
	for i := range got {
		c, err := b.ReadByte()
		if err != nil {
			t.Fatalf("after %q of %q: %v", got[:i], want, err)
		}
		got[i] = c
	}
	if string(got) != want {
		t.Fatalf("got %q, want %q", got, want)
	}
}

// A later token is shown on the open connection, and the program sees nothing
// of it: neither between its replies nor where it waits.
func TestRedisRenewal(t *testing.T) {
	p := newPlane(t, Redis)
	r, b := p.redisPair(t)
	p.mu.Lock()
	p.serial, p.life = 1, 2*time.Hour
	p.mu.Unlock()
	say2(t, r, "*3\r\n$3\r\nSET\r\n$3\r\nren\r\n$1\r\n1\r\n*2\r\n$3\r\nGET\r\n$3\r\nre")
	r.renew() // in the middle of a command: it has to wait
	if n := len(p.seen()); n != 1 {
		t.Fatalf("%d tokens were shown in the middle of a command", n)
	}
	say2(t, r, "n\r\n")
	say2(t, r, "SET ren 2\r\nPING\r\n")
	expect(t, b, "+OK\r\n$1\r\n1\r\n+OK\r\n+PONG\r\n")
	if seen := p.seen(); len(seen) != 2 || seen[1] != testToken(testOID, 1) {
		t.Fatalf("%d tokens were shown", len(seen))
	}
	say2(t, r, "MULTI\r\n")
	p.mu.Lock()
	p.serial, p.life = 2, 3*time.Hour
	p.mu.Unlock()
	r.renew()
	say2(t, r, "INCR ren\r\n")
	say2(t, r, "EXEC\r\nPING\r\n")
	expect(t, b, "+OK\r\n+QUEUED\r\n*1\r\n:3\r\n+PONG\r\n")
	if seen := p.seen(); len(seen) != 3 {
		t.Fatalf("%d tokens were shown", len(seen))
	}
}

// What a program says of users and passwords is the token's, wherever it says
// it.
func TestRedisLoginsOfPrograms(t *testing.T) {
	p := newPlane(t, Redis)
	r, b := p.redisPair(t)
	say2(t, r, "AUTH secret\r\n*3\r\n$4\r\nauth\r\n$1\r\nu\r\n$1\r\np\r\nPING\r\n")
	expect(t, b, "+OK\r\n+OK\r\n+PONG\r\n")
	say2(t, r, "*1\r\n$5\r\nRESET\r\nPING\r\n")
	expect(t, b, "+RESET\r\n+PONG\r\n")
	say2(t, r, "HELLO 3 AUTH x y SETNAME me\r\nCLIENT GETNAME\r\n")
	expect(t, b, "%7\r\n$6\r\nserver\r\n")
	for line := ""; line != "me\r\n"; { // the rest of HELLO's reply, and the name
		l, err := b.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		line = l
	}
	for _, tok := range p.seen() {
		if tok != testToken(testOID, 0) {
			t.Errorf("the gateway was shown %q", tok)
		}
	}
}

// Many programs with pipelines and subscriptions while tokens are renewed.
func TestRedisRenewalUnderLoad(t *testing.T) {
	p := newPlane(t, Redis)
	d := p.door(Redis)
	ctx := context.Background()
	var renewing, all sync.WaitGroup
	stop := make(chan struct{})
	var conns []*redisConn
	var mu sync.Mutex
	remember := func(_ context.Context, network, addr string) (net.Conn, error) {
		r, err := d.redisLogin(ctx)
		if err == nil {
			mu.Lock()
			conns = append(conns, r)
			mu.Unlock()
		}
		return r, err
	}
	renewing.Go(func() {
		for i := 1; ; i++ {
			select {
			case <-stop:
				return
			case <-time.After(2 * time.Millisecond):
			}
			p.mu.Lock()
			p.serial, p.life = i, time.Hour+time.Duration(i)*time.Minute
			p.mu.Unlock()
			mu.Lock()
			list := append([]*redisConn(nil), conns...)
			mu.Unlock()
			for _, r := range list {
				r.renew()
			}
		}
	})
	for protocol := 2; protocol <= 3; protocol++ {
		for i := range 4 {
			all.Go(func() {
				c := goredis.NewClient(&goredis.Options{Dialer: remember, Protocol: protocol, PoolSize: 1, DisableIdentity: true})
				defer c.Close()
				for j := range 150 {
					pipe := c.Pipeline()
					key := fmt.Sprintf("load-%d-%d", protocol, i)
					set := pipe.Set(ctx, key, strings.Repeat("v", j*50), time.Minute)
					get := pipe.Get(ctx, key)
					n := pipe.LPush(ctx, key+"-list", "+OK", "server")
					list := pipe.LRange(ctx, key+"-list", 0, 5)
					pipe.Del(ctx, key+"-list")
					if _, err := pipe.Exec(ctx); err != nil || set.Val() != "OK" || len(get.Val()) != j*50 || n.Val() != 2 || len(list.Val()) != 2 {
						t.Errorf("round %d: %v %q %d %d", j, err, set.Val(), len(get.Val()), n.Val())
						return
					}
				}
			})
		}
	}
	all.Wait()
	close(stop)
	renewing.Wait()
	for _, r := range conns {
		r.stop()
		_ = r.Close()
	}
	if n := len(p.seen()); n < 20 {
		t.Errorf("only %d tokens were shown", n)
	}
}

func TestRedisPublish(t *testing.T) {
	d := newPlane(t, Redis).door(Redis)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for protocol := 2; protocol <= 3; protocol++ {
		c := goredis.NewClient(&goredis.Options{Addr: d.addr, Protocol: protocol, Username: "x", Password: "y"})
		sub := c.Subscribe(ctx, "news")
		if _, err := sub.Receive(ctx); err != nil {
			t.Fatal(err)
		}
		if err := c.Publish(ctx, "news", "hello").Err(); err != nil {
			t.Fatal(err)
		}
		m, err := sub.ReceiveMessage(ctx)
		if err != nil || m.Payload != "hello" {
			t.Errorf("RESP%d: %v %v", protocol, m, err)
		}
		_ = sub.Close()
		_ = c.Close()
	}
}

// A session whose token cannot be had in the middle ends, and says so in the
// log.
func TestRedisNoTokenAnyMore(t *testing.T) {
	p := newPlane(t, Redis)
	r, _ := p.redisPair(t)
	p.mu.Lock()
	p.noToken = errors.New("gone")
	p.mu.Unlock()
	r.renew() // keeps what it has
	if _, err := r.Write([]byte("PING\r\n")); err != nil {
		t.Errorf("a session whose token still lives: %v", err)
	}
	if _, err := r.Write([]byte("AUTH a b\r\n")); err == nil {
		t.Error("a login without a token went on")
	}
}
