package redis_test

import (
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
	"github.com/redis/go-redis/v9/auth"

	"github.com/hawser/hawser/internal/gateway"
	"github.com/hawser/hawser/internal/gateway/redis"
)

// TestGoRedis: what an app does, by RESP2 and RESP3.
func TestGoRedis(t *testing.T) {
	for _, proto := range []int{2, 3} {
		t.Run(fmt.Sprintf("RESP%d", proto), func(t *testing.T) {
			d := open(t)
			c := d.client(t, func(o *goredis.Options) {
				o.Protocol = proto
				o.DisableIdentity = false
				o.ClientName = "tester"
				o.DB = 1
			})
			ctx := limited(t)
			if err := c.Set(ctx, key(t, "a"), "b", 0).Err(); err != nil {
				t.Fatal(err)
			}
			if got, err := c.Get(ctx, key(t, "a")).Result(); err != nil || got != "b" {
				t.Errorf("GET gives %q, %v", got, err)
			}
			if got, err := c.ClientGetName(ctx).Result(); err != nil || got != "tester" {
				t.Errorf("the connection is called %q, %v", got, err)
			}
			big := strings.Repeat("0123456789abcdef", 1<<16)
			pipe := c.Pipeline()
			for i := range 200 {
				pipe.Set(ctx, key(t, "p", i), i, 0)
			}
			pipe.Set(ctx, key(t, "big"), big, 0)
			gotten := pipe.Get(ctx, key(t, "big"))
			if _, err := pipe.Exec(ctx); err != nil || gotten.Val() != big {
				t.Errorf("a pipeline fails: %v", err)
			}
			if info, err := c.Do(ctx, "CLIENT", "INFO").Text(); err != nil || !strings.Contains(info, "user=hawser-"+appOID) || !strings.Contains(info, fmt.Sprintf("resp=%d", proto)) {
				t.Errorf("the backend's connection is %q, %v", info, err)
			}
		})
	}
}

// Subscriptions, in both protocols, among other commands.
func TestPubSub(t *testing.T) {
	for _, proto := range []int{2, 3} {
		t.Run(fmt.Sprintf("RESP%d", proto), func(t *testing.T) {
			d := open(t)
			c := d.client(t, func(o *goredis.Options) { o.Protocol = proto })
			ctx := limited(t)
			sub := c.Subscribe(ctx, key(t, "a"), key(t, "b"))
			defer sub.Close()
			for range 2 {
				if _, err := sub.Receive(ctx); err != nil {
					t.Fatal(err)
				}
			}
			if err := sub.PSubscribe(ctx, key(t, "*")); err != nil {
				t.Fatal(err)
			}
			if _, err := sub.Receive(ctx); err != nil {
				t.Fatal(err)
			}
			for i := range 100 {
				if n, err := c.Publish(ctx, key(t, "b"), fmt.Sprint(i, strings.Repeat("x", i*100))).Result(); err != nil || n != 2 {
					t.Fatalf("%d heard it: %v", n, err)
				}
			}
			for i := range 200 {
				m, err := sub.ReceiveMessage(ctx)
				if err != nil || m.Payload != fmt.Sprint(i/2, strings.Repeat("x", i/2*100)) {
					t.Fatalf("message %d is %v, %v", i, m, err)
				}
			}
			if err := sub.Ping(ctx); err != nil {
				t.Error(err)
			}
			if err := sub.Unsubscribe(ctx); err != nil {
				t.Error(err)
			}
		})
	}
}

// A subscriber brings a newer token between messages: more than Redis lets a
// RESP2 client do, which is what it needs here.
func TestSubscriberBringsANewerToken(t *testing.T) {
	for _, proto := range []string{"2", "3"} {
		d := open(t)
		c, other := d.enter(t), d.enter(t)
		channel := key(t, proto)
		c.send(cmd("HELLO", proto), cmd("SUBSCRIBE", channel))
		if _, err := c.reply(); err != nil {
			t.Fatal(err)
		}
		if _, err := c.reply(); err != nil {
			t.Fatal(err)
		}
		other.send(cmd("PUBLISH", channel, "1"))
		other.want(":1")
		c.send(cmd("AUTH", appOID, nextTok))
		first, err := c.reply()
		if err != nil || !strings.HasSuffix(first, "[message "+channel+" 1]") {
			t.Errorf("first comes %q, %v", first, err)
		}
		c.want("+OK")
		other.send(cmd("PUBLISH", channel, "2"))
		other.want(":1")
		if then, err := c.reply(); err != nil || !strings.HasSuffix(then, "[message "+channel+" 2]") {
			t.Errorf("then comes %q, %v", then, err)
		}
	}
}

// Transactions with WATCH, scripts, blocking commands, and client-side caching
// pushes.
func TestWhatAppsDo(t *testing.T) {
	d := open(t)
	c := d.client(t, func(o *goredis.Options) { o.PoolSize = 20 })
	ctx := limited(t)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 10 {
				var err error = goredis.TxFailedErr
				for errors.Is(err, goredis.TxFailedErr) {
					err = c.Watch(ctx, func(tx *goredis.Tx) error {
						n, err := tx.Get(ctx, key(t, "n")).Int()
						if err != nil && !errors.Is(err, goredis.Nil) {
							return err
						}
						_, err = tx.TxPipelined(ctx, func(p goredis.Pipeliner) error { return p.Set(ctx, key(t, "n"), n+1, 0).Err() })
						return err
					}, key(t, "n"))
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	if n, err := c.Get(ctx, key(t, "n")).Int(); err != nil || n != 80 {
		t.Errorf("80 transactions counted %d, %v", n, err)
	}
	done := make(chan string, 1)
	go func() {
		s, _ := c.BLPop(ctx, 0, key(t, "list")).Result()
		done <- fmt.Sprint(s)
	}()
	time.Sleep(50 * time.Millisecond)
	if err := c.RPush(ctx, key(t, "list"), "x").Err(); err != nil {
		t.Error(err)
	}
	if got := <-done; got != "["+key(t, "list")+" x]" {
		t.Errorf("BLPOP gives %s", got)
	}
	deep := "local t = {} for i = 1, 100 do t = {t, i, redis.error_reply('MOVED 1 10.0.0.1:6379')} end return t"
	r := d.enter(t)
	r.send(cmd("EVAL", deep, "0"), cmd("PING"))
	r.want("*[*[*[…", "+PONG")
	if err := c.Eval(ctx, "return redis.error_reply('MOVED 1 10.0.0.1:6379')", nil).Err(); err == nil || err.Error() != "MOVED 1 10.0.0.1:6379" {
		t.Errorf("a script's error is %v", err)
	}
	if n, err := c.Wait(ctx, 0, time.Second).Result(); err != nil || n != 0 {
		t.Errorf("WAIT gives %d, %v", n, err)
	}
}

// tokens gives go-redis a new token now and then, as go-redis-entraid does.
type tokens struct {
	mu        sync.Mutex
	listeners []auth.CredentialsListener
}

func (p *tokens) Subscribe(l auth.CredentialsListener) (auth.Credentials, auth.UnsubscribeFunc, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.listeners = append(p.listeners, l)
	return auth.NewBasicCredentials(appOID, appTok), func() error { return nil }, nil
}

// TestStreamingCredentials: connections of a pool live on with newer tokens,
// under load, beyond the first one's end.
func TestStreamingCredentials(t *testing.T) {
	const life = 1200 * time.Millisecond
	d := open(t, func(_ *redis.Config, d *door) { d.life = life })
	p := &tokens{}
	c := d.client(t, func(o *goredis.Options) {
		o.Username, o.Password, o.StreamingCredentialsProvider, o.PoolSize = "", "", p, 4
	})
	ctx := limited(t)
	stop := time.Now().Add(2 * life)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for time.Now().Before(stop) {
				if err := c.Ping(ctx).Err(); err != nil {
					t.Error(err)
					return
				}
				time.Sleep(time.Millisecond)
			}
		})
	}
	for time.Now().Before(stop) {
		time.Sleep(life / 4)
		p.mu.Lock()
		for _, l := range p.listeners {
			l.OnNext(auth.NewBasicCredentials(appOID, nextTok))
		}
		p.mu.Unlock()
	}
	all.Wait()
	oldest := time.Duration(0)
	for _, s := range d.Sessions() {
		oldest = max(oldest, time.Since(s.Started))
	}
	for _, e := range d.recorded() { // go-redis gives some connections up at a new token, and forgets some
		if oldest = max(oldest, e.Duration); e.Ended && e.Reason != gateway.ClientLeft && e.Reason != gateway.Expired {
			t.Errorf("a session ended because %s", e.Reason)
		}
	}
	if oldest <= life {
		t.Errorf("no session outlived its first token: the oldest is of %s", oldest)
	}
}

// TestRedisCLI: the shell, and its pipe mode.
func TestRedisCLI(t *testing.T) {
	d := open(t)
	_, port, _ := net.SplitHostPort(d.addr)
	run := func(stdin string, args ...string) string {
		t.Helper()
		c := exec.CommandContext(limited(t), "redis-cli", append([]string{"-h", "127.0.0.1", "-p", port, "--tls", "--cacert", d.ca, "--sni", "s1." + domain, "--user", appOID, "--no-auth-warning"}, args...)...)
		c.Env = append(os.Environ(), "REDISCLI_AUTH="+appTok)
		c.Stdin = strings.NewReader(stdin)
		out, err := c.CombinedOutput()
		if err != nil {
			t.Errorf("redis-cli %v: %v\n%s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	if got := run("", "SET", key(t), "1"); got != "OK" {
		t.Errorf("SET gives %q", got)
	}
	if got := run("", "-3", "INCR", key(t)); got != "2" {
		t.Errorf("INCR gives %q", got)
	}
	if got := run("PING\nGET "+key(t)+"\nMONITOR\nDEL "+key(t)+"\n", "--pass", appTok); !strings.HasPrefix(got, "PONG\n2\nNOPERM ") || !strings.HasSuffix(got, "\n1") {
		t.Errorf("the shell says %q", got)
	}
	var load strings.Builder
	for i := range 5000 {
		load.WriteString(cmd("SET", key(t, i), "v"))
	}
	if got := run(load.String(), "--pipe"); !strings.Contains(got, "errors: 0, replies: 5000") {
		t.Errorf("--pipe says %q", got)
	}
}

// Values of any size pass, and none is held.
func TestBigValues(t *testing.T) {
	d := open(t)
	c := d.client(t)
	ctx := limited(t)
	const size = 64 << 20
	big := strings.Repeat("0123456789abcdef", size/16)
	if err := c.Set(ctx, key(t), big, 0).Err(); err != nil {
		t.Fatal(err)
	}
	got, err := c.Get(ctx, key(t)).Result()
	if err != nil || got != big {
		t.Errorf("%d bytes come back, %v", len(got), err)
	}
	if err := c.Del(ctx, key(t)).Err(); err != nil {
		t.Error(err)
	}
}
