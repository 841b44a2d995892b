package redis_test

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	goredis "github.com/redis/go-redis/v9"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/gateway/dbtest"
	"github.com/hawser/hawser/internal/gateway/redis"
)

// nodes starts a real cluster of three masters.
func nodes(t *testing.T) []*dbtest.Server {
	t.Helper()
	var all []*dbtest.Server
	var addrs []string
	for range 3 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		_, bus, _ := net.SplitHostPort(l.Addr().String())
		_ = l.Close()
		s := dbtest.StartRedis(t, "--cluster-enabled", "yes", "--cluster-port", bus)
		users(t, s.Plain, s.Password, nil)
		all, addrs = append(all, s), append(addrs, s.Plain)
	}
	args := append([]string{"--cluster", "create"}, addrs...)
	out, err := exec.CommandContext(limited(t), "redis-cli", append(args, "--cluster-yes", "-a", all[0].Password, "--no-auth-warning")...).CombinedOutput()
	if err != nil {
		t.Fatalf("redis-cli --cluster create: %v\n%s", err, out)
	}
	for _, s := range all {
		c := goredis.NewClient(&goredis.Options{Addr: s.Plain, Password: s.Password})
		eventually(t, "the cluster is up", func() bool {
			info, _ := c.ClusterInfo(context.Background()).Result()
			return strings.Contains(info, "cluster_state:ok")
		})
		_ = c.Close()
	}
	return all
}

// TestCluster: a cluster client comes to every node through the gateway, and
// to nothing else.
func TestCluster(t *testing.T) {
	all := nodes(t)
	d := open(t, func(_ *redis.Config, d *door) { d.grant.Addr, d.grant.TLS = all[0].Plain, nil })
	t.Run("go-redis", func(t *testing.T) { clusterClient(t, d) })
	t.Run("redirections", func(t *testing.T) { redirections(t, d, all) })
	t.Run("names", func(t *testing.T) { clusterNames(t, d, all) })
	t.Run("a port leads to its own server only", func(t *testing.T) { doorOfAnother(t, d) })
	for _, e := range d.recorded() {
		if e.Session.Grant.Addr != all[0].Plain {
			t.Errorf("a session is recorded at %s", e.Session.Grant.Addr)
		}
	}
}

func clusterClient(t *testing.T, d *door) {
	for _, proto := range []int{2, 3} {
		var mu sync.Mutex
		var dialled []string
		c := goredis.NewClusterClient(&goredis.ClusterOptions{Addrs: []string{d.addr}, TLSConfig: d.clientTLS("s1." + domain), Username: appOID, Password: appTok, Protocol: proto,
			NewClient: func(o *goredis.Options) *goredis.Client {
				host, port, _ := net.SplitHostPort(o.Addr)
				mu.Lock()
				dialled = append(dialled, o.Addr)
				mu.Unlock()
				if host == "s1."+domain { // no DNS here
					o.Addr = net.JoinHostPort("127.0.0.1", port)
				}
				return goredis.NewClient(o)
			}})
		defer c.Close()
		ctx := limited(t)
		for i := range 100 {
			if err := c.Set(ctx, fmt.Sprint("cluster", i), i, 0).Err(); err != nil {
				t.Fatal(err)
			}
		}
		pipe := c.Pipeline()
		var got []*goredis.StringCmd
		for i := range 100 {
			got = append(got, pipe.Get(ctx, fmt.Sprint("cluster", i)))
		}
		if _, err := pipe.Exec(ctx); err != nil {
			t.Error(err)
		}
		for i, g := range got {
			if g.Val() != fmt.Sprint(i) {
				t.Errorf("key %d is %q, %v", i, g.Val(), g.Err())
			}
		}
		var masters atomic.Int32
		if err := c.ForEachMaster(ctx, func(ctx context.Context, c *goredis.Client) error {
			masters.Add(1)
			return c.Ping(ctx).Err()
		}); err != nil || masters.Load() < 3 {
			t.Errorf("%d masters, %v", masters.Load(), err)
		}
		mu.Lock()
		defer mu.Unlock()
		for _, addr := range dialled {
			if !strings.HasPrefix(addr, "s1."+domain+":") && addr != d.addr {
				t.Errorf("the client was sent to %s", addr)
			}
		}
	}
}

// redirections: MOVED leads to a port of the gateway's, where the key is.
func redirections(t *testing.T, d *door, all []*dbtest.Server) {
	c := d.dial(t, "localhost")
	c.send(cmd("AUTH", appOID, appTok))
	c.want("+OK")
	doors := map[string]bool{}
	for i := range 50 {
		c.send(cmd("SET", fmt.Sprint("moved", i), "x"))
		said, err := c.reply()
		if err != nil {
			t.Fatal(err)
		}
		if said == "+OK" {
			continue
		}
		words := strings.Fields(said)
		if len(words) != 3 || words[0] != "-MOVED" || !strings.HasPrefix(words[2], "localhost:") {
			t.Fatalf("the redirection is %q", said)
		}
		for _, s := range all {
			if strings.HasSuffix(s.Plain, words[2][9:]) {
				t.Errorf("the client is sent past the gateway: %q", said)
			}
		}
		doors[words[2][10:]] = true
		n := d.dialAt(t, "127.0.0.1:"+words[2][10:], "localhost")
		n.send(cmd("HELLO", "3", "AUTH", appOID, appTok), cmd("SET", fmt.Sprint("moved", i), "x"))
		n.want("%[…", "+OK")
		_ = n.Close()
	}
	if len(doors) != 2 {
		t.Errorf("redirections lead to %v, want two ports", doors)
	}
	// What a script says leads nowhere.
	c.send(cmd("EVAL", "return redis.error_reply('MOVED 1 10.0.0.1:6379')", "0"), cmd("EVAL", "return redis.error_reply('ASK 1 "+all[1].Plain+"')", "0"))
	c.want("-MOVED 1 10.0.0.1:6379", "-ASK 1 localhost:…")
}

// clusterNames: every answer that names nodes names them as they are reached.
func clusterNames(t *testing.T, d *door, all []*dbtest.Server) {
	for _, proto := range []string{"2", "3"} {
		c := d.enter(t)
		c.send(cmd("HELLO", proto))
		if _, err := c.reply(); err != nil {
			t.Fatal(err)
		}
		for _, sub := range []string{"SLOTS", "SHARDS", "NODES", "slots"} {
			c.send(cmd("PING", "before"), cmd("CLUSTER", sub), cmd("PING", "after"))
			c.want("before")
			said, err := c.reply()
			if err != nil {
				t.Fatal(err)
			}
			c.want("after")
			if strings.Count(said, "s1."+domain) < 3 {
				t.Errorf("CLUSTER %s says %q", sub, said)
			}
			for _, s := range all {
				_, port, _ := net.SplitHostPort(s.Plain)
				if strings.Contains(said, ":"+port) || strings.Contains(said, " "+port+" ") {
					t.Errorf("CLUSTER %s names %s: %q", sub, port, said)
				}
			}
		}
		c.send(cmd("CLUSTER", "KEYSLOT", "a"), cmd("MULTI"), cmd("CLUSTER", "NODES"), cmd("DISCARD"))
		c.want(":15495", "+OK", "-ERR Command not allowed inside a transaction", "+OK")
	}
}

// doorOfAnother: the port of a node is no way to another server.
func doorOfAnother(t *testing.T, d *door) {
	c := d.enter(t)
	c.send(cmd("CLUSTER", "SLOTS"))
	said, _ := c.reply()
	_, after, _ := strings.Cut(said, "s1."+domain+" :")
	port, _, _ := strings.Cut(after, " ")
	d.mu.Lock()
	d.elsewhere = az.MustParseID("/subscriptions/s/resourceGroups/g/providers/Microsoft.Cache/redis/s9")
	d.mu.Unlock()
	n := d.dialAt(t, "127.0.0.1:"+port, "localhost")
	n.send(cmd("AUTH", appOID, appTok))
	n.want(wrongPass)
	d.mu.Lock()
	d.elsewhere = az.ID{}
	d.mu.Unlock()
}
