package conformance

import (
	"context"
	"crypto/tls"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/hawser/hawser/internal/gateway/dbtest"
)

const redisAudience = "https://redis.azure.com"

// cache is a real Redis, known to the plane as a server.
type cache struct{ owner *redis.Client }

// attachRedis attaches the tests' Redis, which holds the key "thing".
func (p *plane) attachRedis(server string) cache {
	p.t.Helper()
	s := dbtest.Redis(p.t)
	c := cache{redis.NewClient(&redis.Options{Addr: s.Addr, Username: s.User, Password: s.Password,
		TLSConfig: &tls.Config{RootCAs: s.CA, ServerName: "localhost", MinVersion: tls.VersionTLS12}})}
	p.t.Cleanup(func() { _ = c.owner.Close() })
	if err := c.owner.Set(context.Background(), "thing", "real", 0).Err(); err != nil {
		p.t.Fatal(err)
	}
	u := url.URL{Scheme: "rediss", User: url.UserPassword(s.User, s.Password), Host: s.Addr, RawQuery: "sslmode=verify-full&sslrootcert=" + s.CAFile}
	p.cli("attach", server, u.String())
	return c
}

// redisClients are the clients: a language, and what its program is told.
var redisClients = []struct {
	name     string
	language ecosystem
	told     []string
}{
	{"go-redis", ecosystems[0], []string{"default"}},
	{"ioredis", ecosystems[1], []string{"ioredis", "default"}},
	{"@redis/client with @redis/entraid", ecosystems[1], []string{"entraid", "default"}},
	{"redis-py", ecosystems[2], []string{"default"}},
}

// TestRedis: four clients against a real Redis, each with the settings that
// `hawser connect` wrote and exactly the rights that it was asked for.
func TestRedis(t *testing.T) {
	w := newWorld(t)
	hidden := start(t, "--domain", "nowhere.localhost")
	for _, at := range []struct {
		name string
		*plane
	}{{"names that resolve", w.plane}, {"names that do not resolve", hidden}} {
		c := at.attachRedis("cache1")
		for access, want := range map[string]string{
			"read":  "get real\nset NOPERM\nflush NOPERM\nbecome NOPERM",
			"write": "get real\nset OK\nflush NOPERM\nbecome NOPERM",
			"owner": "get real\nset OK\nflush OK\nbecome NOPERM",
		} {
			app := "reads" + access
			at.make("app", app)
			at.cli("connect", app, "cache1", "--type", "redis", "--access", access)
			for _, e := range redisClients {
				t.Run(at.name+"/"+e.name+"/"+access, func(t *testing.T) {
					at.as(t)
					lines(t, at.run(app, nil, e.language.program("redis", e.told...)...), want)
					c.owner.Set(context.Background(), "thing", "real", 0) // the owner may have flushed it
				})
			}
		}
	}
}

// TestRedisShell: redis-cli at the gateway.
func TestRedisShell(t *testing.T) {
	w := newWorld(t)
	w.attachRedis("cache1")
	w.cli("connect", "web", "cache1", "--type", "redis", "--access", "read")
	_, port, _ := strings.Cut(w.env.Gateways["redis"], ":")
	web, other := w.token(redisAudience, "web"), w.token(redisAudience, "other")
	shell := func(user, token string, more ...string) result {
		args := append([]string{"redis-cli", "-h", "cache1.redis." + domain, "-p", port, "--user", user, "--no-auth-warning"}, more...)
		return execute(t, append(clean(t), "REDISCLI_AUTH="+token), args...)
	}
	secure := []string{"--tls", "--cacert", w.env.CAFile, "GET", "thing"}
	oid := w.web.Identity.PrincipalID
	if r := shell(oid, web, secure...); strings.TrimSpace(r.stdout) != "real" {
		t.Errorf("%s%s", r.stdout, r.stderr)
	}
	for what, r := range map[string]result{
		"somebody else's token":                 shell(oid, other, secure...),
		"another's name":                        shell(w.other.Identity.PrincipalID, web, secure...),
		"no token":                              shell(oid, "", secure...),
		"a token for another thing":             shell(oid, w.token(vaultScope, "web"), secure...),
		"no TLS":                                shell(oid, web, "GET", "thing"),
		"somebody without a data access policy": shell(w.other.Identity.PrincipalID, other, secure...),
	} {
		if strings.Contains(r.stdout, "real") {
			t.Errorf("%s: let in", what)
		}
		if strings.Contains(r.stdout+r.stderr, web) {
			t.Errorf("%s: the answer repeats the token", what)
		}
	}
}

// TestRedisEnd: a session ends with its right, and a new token keeps one open.
func TestRedisEnd(t *testing.T) {
	w := newWorld(t)
	w.attachRedis("cache1")
	w.cli("connect", "web", "cache1", "--type", "redis", "--access", "write")
	open := func(token string) *redis.Client {
		c := redis.NewClient(&redis.Options{Addr: w.env.Gateways["redis"], Username: w.web.Identity.PrincipalID, Password: token, MaxRetries: -1, PoolSize: 1,
			TLSConfig: &tls.Config{InsecureSkipVerify: true}}) // the session is the subject here
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	ctx, cancel := context.WithTimeout(context.Background(), commandLimit)
	defer cancel()
	c := open(w.token(redisAudience, "web"))
	sub := c.Subscribe(ctx, "news")
	defer func() { _ = sub.Close() }()
	if _, err := sub.Receive(ctx); err != nil {
		t.Fatal(err)
	}
	if err := c.Get(ctx, "thing").Err(); err != nil {
		t.Fatal(err)
	}
	w.cli("connection", "delete", "web", "cache1")
	eventually(t, 5*time.Second, "the session ends", func() bool { return c.Get(ctx, "thing").Err() != nil })
	if err := open(w.token(redisAudience, "web")).Ping(ctx).Err(); err == nil || !strings.Contains(err.Error(), "WRONGPASS") {
		t.Errorf("a new session: %v", err)
	}
}
