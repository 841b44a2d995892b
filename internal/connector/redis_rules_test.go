package connector

import (
	"context"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/gateway/dbtest"
)

func TestRedisRules(t *testing.T) {
	never := strings.Fields(redisNever)
	for text, want := range map[string][]string{
		"+@all allkeys":                   append([]string{"+@all", "allkeys", "allchannels"}, never...),
		"+GET ~App:* resetchannels":       append([]string{"+get", "~App:*", "resetchannels"}, never...),
		"+@read  %R~a:* %W~b:* &news:*":   append([]string{"+@read", "%R~a:*", "%W~b:*", "&news:*"}, never...),
		"+@read ~a:* (+set ~b:*) (+get )": append(append([]string{"+@read", "~a:*", "allchannels"}, never...), "(+set ~b:* allchannels "+redisNever+")", "(+get allchannels "+redisNever+")"),
		"-@all +cluster|info allkeys":     append([]string{"-@all", "+cluster|info", "allkeys", "allchannels"}, never...),
		"allkeys resetkeys ~a":            append([]string{"allkeys", "resetkeys", "~a", "allchannels"}, never...),
	} {
		if got, err := redisRules(text); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %q, %v; want %q", text, got, err, want)
		}
	}
	for _, bad := range []string{
		"", " ", ">password", "<password", "#" + strings.Repeat("0", 64), "!" + strings.Repeat("0", 64), "nopass", "resetpass", "on", "off", "reset", "sanitize-payload",
		"clearselectors", "+@everything", "+nosuch", "+get|set", "+@read >x", "~", "%R~", "%X~a", "&", "allkeys ~a", "~* ~a", "allchannels &a", "~a'b", `~a"b`, "~a\x01b",
		"+acl", "+acl|setuser", "+ACL|WHOAMI", "+config", "+config|get", "+debug", "+shutdown", "+replicaof", "+slaveof", "+module", "+monitor", "+client|kill", "+sync",
		"+psync", "+migrate", "+failover", "+cluster|reset", "+script|debug", "+@read (+set", "+@read (+set ~a ( +get ) )", "+@read (+config ~a)", "+@read (>x)", "(+get ~a)b)",
		"+@read )", "allcommands", strings.Repeat("+get ", maxRedisTerms+1), strings.Repeat("x", maxRedisPermissions+1),
	} {
		if got, err := redisRules(bad); !az.Is(err, az.Invalid) {
			t.Errorf("%q was read: %q, %v", bad, got, err)
		}
	}
}

func FuzzRedisRules(f *testing.F) {
	for _, p := range redisBuiltIn {
		f.Add(p)
	}
	f.Add("+@read ~a (+set ~b) &c")
	f.Fuzz(func(t *testing.T, text string) {
		rules, err := redisRules(text)
		if err != nil {
			return
		}
		for _, r := range rules {
			in, selector := strings.CutPrefix(r, "(")
			if !selector && strings.ContainsAny(r, " \t\r\n\"'") || selector && !strings.HasSuffix(in, redisNever+")") {
				t.Errorf("%q gives the term %q", text, r)
			}
			if strings.ContainsAny(in[:1], "><#!") || slices.Contains([]string{"on", "off", "nopass", "reset", "resetpass", "clearselectors"}, strings.ToLower(r)) {
				t.Errorf("%q gives the term %q", text, r)
			}
		}
		if i := slices.Index(rules, "-@admin"); i < 0 || !slices.Equal(rules[i:i+len(strings.Fields(redisNever))], strings.Fields(redisNever)) {
			t.Errorf("%q does not end in what nobody may: %q", text, rules)
		}
	})
}

// redisOwner is the owner of a real server.
func redisOwner(s *dbtest.Server) *redisBackend {
	return &redisBackend{Host: s.Socket, Port: 6379, SSLMode: sslDisable, User: s.User, Password: az.NewSecret(s.Password)}
}

// redisAs logs a user in at a real server.
func redisAs(t testing.TB, b *redisBackend, user string, password az.Secret) *redis.Client {
	t.Helper()
	c, err := b.connect(t.Context(), b.addr(), b.Host, user, password)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// redisTries sends each command and compares whether the user may.
func redisTries(t testing.TB, c *redis.Client, commands map[string]bool) {
	t.Helper()
	for line, want := range commands {
		var args []any
		for _, f := range strings.Fields(line) {
			args = append(args, f)
		}
		err := c.Do(t.Context(), args...).Err()
		if may := err == nil || !strings.HasPrefix(err.Error(), "NOPERM") && !strings.Contains(err.Error(), "DEBUG command not allowed"); may != want {
			t.Errorf("%s: allowed %v, want %v (%v)", line, may, want, err)
		}
	}
}

// TestRedisPoliciesAtTheServer: what a policy gives and keeps is what a real
// server lets its user do.
func TestRedisPoliciesAtTheServer(t *testing.T) {
	t.Parallel()
	b := redisOwner(dbtest.Redis(t))
	nobody := map[string]bool{"ACL WHOAMI": false, "ACL SETUSER default nopass": false, "CONFIG GET requirepass": false, "DEBUG SLEEP 0": false, "SHUTDOWN NOSAVE": false,
		"REPLICAOF 127.0.0.1 1": false, "SLAVEOF NO ONE": false, "MODULE LIST": false, "MONITOR": false, "CLIENT KILL ID 999999": false, "CLIENT LIST": false, "CLIENT PAUSE 1": false, "SYNC": false,
		"PSYNC ? -1": false, "MIGRATE 127.0.0.1 1 k 0 10": false, "BGSAVE": false, "SAVE": false, "BGREWRITEAOF": false, "SLOWLOG GET": false, "LATENCY LATEST": false, "FAILOVER": false,
		"CLUSTER RESET": false, "CLUSTER MEET 127.0.0.1 1": false, "SCRIPT DEBUG NO": false, "PFDEBUG ENCODING k": false, "ROLE": false, "REPLCONF ack 1": false}
	for _, tt := range []struct {
		policy string
		may    map[string]bool
	}{
		{redisBuiltIn["Data Owner"], map[string]bool{"PING": true, "SET own:k v": true, "GET own:k": true, "KEYS nothing*": true, "INFO server": true, "PUBLISH c m": true, "EVAL return(1) 0": true, "CLIENT SETNAME x": true, "CLUSTER INFO": true}},
		{redisBuiltIn["Data Contributor"], map[string]bool{"SET con:k v": true, "GET con:k": true, "DEL con:k": true, "KEYS nothing*": false, "FLUSHALL": false, "FLUSHDB": false, "INFO": false, "SORT con:k": false, "RESTORE con:k 0 x": false, "SWAPDB 0 1": false, "PUBLISH c m": true, "CLUSTER INFO": true, "CLUSTER NODES": true, "CLUSTER SLOTS": true}},
		{redisBuiltIn["Data Reader"], map[string]bool{"GET k": true, "PING": true, "SET k v": false, "DEL k": false, "EVAL return(1) 0": false, "PUBLISH c m": false, "FLUSHALL": false, "EXPIRE k 1": false, "SELECT 0": true, "CLUSTER SLOTS": true}},
		{"+ping +@read +set +@admin +@dangerous ~cache:* %R~shared:* resetchannels +publish", map[string]bool{"SET cache:a 1": true, "GET cache:a": true, "GET other": false, "SET other 1": false, "GET shared:a": true, "SET shared:a 1": false, "PUBLISH c m": false}},
		{"+get ~a:* (+set +@admin +acl|whoami ~b:*)", nil},
		{"+ping +get ~a:* (+set +@all ~b:*)", map[string]bool{"GET a:1": true, "SET a:1 x": false, "SET b:1 x": true, "GET b:1": true, "GET c:1": false}},
	} {
		rules, err := redisRules(tt.policy)
		if tt.may == nil {
			if !az.Is(err, az.Invalid) {
				t.Errorf("%q was read", tt.policy)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		user, password := redisUser(az.NewGUID()), newPassword()
		if made, _, err := b.setUser(t.Context(), user, password, rules); err != nil || !made {
			t.Fatalf("%q: %v, %v", tt.policy, made, err)
		}
		c := redisAs(t, b, user, password)
		redisTries(t, c, tt.may)
		redisTries(t, c, nobody)
		redisMayNothingElse(t, b, user)
		if err := b.dropUser(t.Context(), user); err != nil {
			t.Fatal(err)
		}
		if err := c.Ping(t.Context()).Err(); err == nil {
			t.Error("a dropped user's session goes on")
		}
	}
}

// redisMayNothingElse asks the server about each of its administrators'
// commands.
func redisMayNothingElse(t testing.TB, b *redisBackend, user string) {
	t.Helper()
	owner := redisAs(t, b, b.User, b.Password)
	names, err := owner.Do(t.Context(), "COMMAND", "LIST", "FILTERBY", "ACLCAT", "admin").StringSlice()
	if err != nil || len(names) < 40 {
		t.Fatalf("%d commands of administrators: %v", len(names), err)
	}
	list, err := owner.ACLList(t.Context()).Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range list {
		if strings.HasPrefix(l, "user "+user+" ") && (strings.Contains(l, "nopass") || strings.Contains(l, "+acl") || strings.Contains(l, "+config") || strings.Contains(l, "+@admin")) {
			t.Errorf("the user's rules are %s", l)
		}
	}
	for _, n := range names {
		args := []any{"ACL", "DRYRUN", user}
		for _, f := range strings.Split(n, "|") {
			args = append(args, f)
		}
		said, err := owner.Do(t.Context(), append(args, "x", "x", "x")...).Text()
		if err == nil && said == "OK" {
			t.Errorf("%s may %s", user, n)
		}
	}
}

// TestRedisAdoption: what a server must be for the plane to make users in it.
func TestRedisAdoption(t *testing.T) {
	t.Parallel()
	s := dbtest.Redis(t)
	good := *redisOwner(s)
	if v, err := good.adopt(t.Context()); err != nil || v != "7.0" {
		t.Fatalf("%q, %v", v, err)
	}
	owner := redisAs(t, &good, good.User, good.Password)
	for user, rules := range map[string][]string{"few": {"on", ">x", "allkeys", "+@all", "-acl"}, "less": {"on", ">x", "+ping", "+acl"}, "open": {"on", "nopass", "+@all"}} {
		if err := owner.ACLSetUser(t.Context(), user, rules...).Err(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { owner.ACLDelUser(context.WithoutCancel(t.Context()), user) })
	}
	for _, tt := range []struct {
		change func(*redisBackend)
		code   string
	}{
		{func(b *redisBackend) { b.Password = az.NewSecret("wrong") }, "ServerLoginFailed"},
		{func(b *redisBackend) { b.User = "nobody" }, "ServerLoginFailed"},
		{func(b *redisBackend) { b.User, b.Password = "few", az.NewSecret("x") }, "OwnerLacksPrivilege"},
		{func(b *redisBackend) { b.User, b.Password = "less", az.NewSecret("x") }, "OwnerLacksPrivilege"},
		{func(b *redisBackend) { b.User = "open" }, "ServerTrustsThePlane"},
		{func(b *redisBackend) { b.Host = "/nowhere" }, "ServerUnreachable"},
		{func(b *redisBackend) { b.Host, b.Port, b.SSLMode = "127.0.0.1", portOf(t, s.Plain), sslRequire }, "ServerWithoutTLS"},
		{func(b *redisBackend) { b.Host, b.Port, b.SSLMode = "127.0.0.1", portOf(t, s.Addr), sslVerifyFull }, "ServerCertificateNotTrusted"},
	} {
		b := good
		tt.change(&b)
		if _, err := b.adopt(t.Context()); !az.Is(err, az.Invalid) || codeOf(err) != tt.code {
			t.Errorf("want %s, got %s: %v", tt.code, codeOf(err), err)
		}
	}
	for addr, mode := range map[string]string{s.Addr: sslRequire, s.Plain: sslDisable} {
		b := good
		b.Host, b.Port, b.SSLMode = "127.0.0.1", portOf(t, addr), sslPrefer
		if _, err := b.adopt(t.Context()); err != nil || b.SSLMode != mode {
			t.Errorf("%s is reached by %s: %v", addr, b.SSLMode, err)
		}
	}
}

func portOf(t testing.TB, addr string) int {
	t.Helper()
	_, p, err := net.SplitHostPort(addr)
	n, err2 := strconv.Atoi(p)
	if err != nil || err2 != nil {
		t.Fatal(err, err2)
	}
	return n
}

func codeOf(err error) string {
	code, _ := wordsOf(err)
	return code
}

func TestRedisNodes(t *testing.T) {
	for line, want := range map[string]redisNode{
		"07c3 127.0.0.1:30004@31004,hostname4 slave e7d1 0 1426238317239 4 connected":   {"hostname4:30004", "hostname4"},
		"67ed 127.0.0.1:30002@31002,, master - 0 1426238316232 2 connected 5461-10922":  {"127.0.0.1:30002", ""},
		"67ed 127.0.0.1:30002@31002,,tls-port=0,shard-id=69bc master - 0 0 2 connected": {"127.0.0.1:30002", ""},
		"67ed fd00::1:30002@31002 master - 0 1426238316232 2 connected":                 {"[fd00::1]:30002", ""},
		"e7d1 127.0.0.1:30001@31001 myself,master - 0 0 1 connected 0-5460":             {},
		"e7d1 127.0.0.1:30001@31001 master,fail - 0 0 1 disconnected":                   {},
		"e7d1 :0@0 slave,noaddr - 0 0 1 disconnected":                                   {},
		"": {}, "e7d1": {}, "a b c": {},
	} {
		if got, ok := parseRedisNode(line); got != want && ok || ok != (want.addr != "") {
			t.Errorf("%q: %v, %v", line, got, ok)
		}
	}
}
