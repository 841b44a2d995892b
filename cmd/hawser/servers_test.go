package main

import (
	"net/url"
	"strings"
	"testing"

	"github.com/hawser/hawser/hawsertest"
	"github.com/hawser/hawser/internal/gateway/dbtest"
)

// TestServersOfOtherKinds: attach, connect, principal, rotate and doctor with a
// real MariaDB and a real Redis, found by name.
func TestServersOfOtherKinds(t *testing.T) {
	p := hawsertest.Start(t)
	my, cache := dbtest.MariaDB(t), dbtest.Redis(t)
	db := my.Database(t)
	mysql := url.URL{Scheme: "mysql", User: url.UserPassword(my.User, my.Password), Host: my.Addr, Path: "/" + db, RawQuery: "sslmode=verify-full&sslrootcert=" + my.CAFile}
	redis := url.URL{Scheme: "rediss", User: url.UserPassword("", cache.Password), Host: cache.Addr, RawQuery: "sslrootcert=" + cache.CAFile}
	for _, c := range []struct {
		status int
		args   []string
		want   string
	}{
		{2, []string{"attach", "x", "ftp://h"}, "kind of server"},
		{2, []string{"attach", "x", "mysql://h/d?encrypt=strict"}, "encrypt"},
		{1, []string{"attach", "x", "mysql://h/d?sslrootcert=/no/such/file"}, "CA"},
		{1, []string{"connect", "web", "my1"}, "no server, vault or account"},
		{0, []string{"attach", "my1", mysql.String()}, "my1.mysql.hawser.localhost"},
		{0, []string{"attach", "cache1", redis.String()}, "cache1.redis.hawser.localhost"},
		{0, []string{"app", "create", "web"}, ""},
		{0, []string{"connect", "web", "my1", "--access", "read", "--client", "nodejs"}, "AZURE_MYSQL_HOST"}, // the kind and the only database are found
		{0, []string{"connect", "web", "cache1", "--client", "go"}, "AZURE_REDIS_HOST"},
		{0, []string{"connect", "web", "my1", "--dry-run"}, "GRANT"},
		{2, []string{"connect", "web", "my1", "--user", "u"}, "--secret"},
		{1, []string{"connect", "web", "my1", "--secret", "--name", "s"}, ""}, // no password came
		{0, []string{"connect", "web", "my1", "--secret", "--user", "u", "--password-stdin", "--name", "s", "--client", "nodejs"}, "(hidden)"},
		{0, []string{"connection", "validate", "web", "my1"}, "success"},
		{0, []string{"connection", "validate", "web", "cache1"}, "success"},
		{0, []string{"connection", "rotate", "web", "my1"}, "aad_my1"},
		{0, []string{"connection", "rotate", "web", "cache1"}, "hawser-"},
		{1, []string{"connection", "rotate", "web", "s"}, "no backend password"},
		{0, []string{"user", "create", "ann"}, ""},
		{0, []string{"principal", "add", "my1", "ann@hawser.localhost", "--access", "write"}, "Ready"},
		{0, []string{"principal", "list", "my1", "--output", "tsv"}, db + ":write"},
		{2, []string{"principal", "add", "my1", "ann@hawser.localhost", "--policy", "Data Owner"}, "--access"},
		{0, []string{"principal", "add", "cache1", "ann@hawser.localhost", "--policy", "Data Owner"}, "Data Owner"},
		{0, []string{"principal", "add", "cache1", "ann@hawser.localhost", "--access", "read"}, "Data Reader"}, // one has one policy
		{2, []string{"principal", "add", "cache1", "ann@hawser.localhost", "--role", "x"}, "no roles"},
		{0, []string{"principal", "list", "cache1"}, "ann@hawser.localhost"},
		{0, []string{"principal", "remove", "cache1", "ann@hawser.localhost"}, ""},
		{1, []string{"principal", "remove", "cache1", "ann@hawser.localhost"}, "no access policy"},
		{0, []string{"principal", "remove", "my1", "ann@hawser.localhost"}, ""},
		{1, []string{"principal", "list", "nowhere"}, "no database server"},
		{0, []string{"connection", "delete", "web", "cache1"}, ""},
		{1, []string{"attach", "cache2", redis.String()}, "already: use that one"}, // a principal has one policy at a server
		{0, []string{"attach", "my2", mysql.String()}, ""},
		{0, []string{"vault", "create", "my2"}, ""},
		{2, []string{"connect", "web", "my2"}, "--type: keyvault, mysql-flexible"},
	} {
		r := command(t, p, c.args...)
		if r.status != c.status || !strings.Contains(r.out+r.err, c.want) {
			t.Errorf("hawser %v: status %d, want %d with %q\n%s%s", c.args, r.status, c.status, c.want, r.out, r.err)
		}
		if strings.Contains(r.out+r.err, my.Password) || strings.Contains(r.out, cache.Password) {
			t.Errorf("hawser %v shows a password: %s", c.args, r.out)
		}
	}
	if r := command(t, p, "doctor", "--output", "tsv"); !strings.Contains(r.out, "MySQL server my1") || !strings.Contains(r.out, "Redis server cache1") {
		t.Errorf("doctor: %s%s", r.out, r.err)
	}
}
