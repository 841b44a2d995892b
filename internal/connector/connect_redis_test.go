package connector

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/gateway/dbtest"
)

// cacheRig is a rig with a real Redis attached as cache1.
type cacheRig struct {
	*rig
	db    *dbtest.Server
	cache string
}

func withRedis(r *rig) *cacheRig {
	r.t.Helper()
	x := &cacheRig{rig: r, db: dbtest.Redis(r.t), cache: caches + "cache1"}
	host, port, _ := net.SplitHostPort(x.db.Addr)
	ca, err := os.ReadFile(x.db.CAFile)
	if err != nil {
		r.t.Fatal(err)
	}
	r.must(boss, "PUT", x.cache, fmt.Sprintf(`{"location":"local","properties":{"sku":{"name":"Standard","family":"C","capacity":1},"administratorLoginPassword":%q,"hawser":{"host":%q,"port":%s,"sslMode":"verify-full","caCertificate":%q}}}`,
		x.db.Password, host, port, ca))
	return x
}

func (x *cacheRig) body(auth, client string, a Access, more string) string {
	return fmt.Sprintf(`{"properties":{"targetService":{"type":"AzureResource","id":"%s/databases/2"},"authInfo":{"authType":%q%s},"clientType":%q,"hawser":{"access":%q}}}`, x.cache, auth, more, client, a)
}

// enter logs in at the real server with what Authorize gives.
func (x *cacheRig) enter(who az.Principal) (*redis.Client, error) {
	b, err := x.Authorize(x.t.Context(), who, Login{Redis, "cache1", "", who.ObjectID})
	if err != nil {
		return nil, err
	}
	c := redis.NewClient(&redis.Options{Addr: x.db.Addr, TLSConfig: x.db.TLS(), Username: b.User, Password: b.Password.Reveal(), MaxRetries: -1, DisableIdentity: true})
	x.t.Cleanup(func() { _ = c.Close() })
	return c, c.Ping(x.t.Context()).Err()
}

func (x *cacheRig) may(who az.Principal, commands map[string]bool) {
	x.t.Helper()
	c, err := x.enter(who)
	if err != nil {
		x.t.Fatalf("login: %v", err)
	}
	for line, want := range commands {
		var args []any
		for _, f := range strings.Fields(line) {
			args = append(args, f)
		}
		if err := c.Do(x.t.Context(), args...).Err(); (err == nil || err == redis.Nil) != want {
			x.t.Errorf("%s: allowed %v, want %v (%v)", line, err == nil, want, err)
		}
	}
}

// there asks the server for the user of a principal.
func (x *cacheRig) there(oid string) bool {
	x.t.Helper()
	c := redis.NewClient(&redis.Options{Addr: x.db.Addr, TLSConfig: x.db.TLS(), Password: x.db.Password})
	defer c.Close()
	all, err := c.ACLList(context.Background()).Result()
	if err != nil {
		x.t.Fatal(err)
	}
	return strings.Contains(strings.Join(all, "\n"), "user "+redisUser(oid)+" ")
}

var (
	cacheRead  = map[string]bool{"GET c3": true, "SET c3 x": false, "FLUSHALL": false, "ACL LIST": false}
	cacheWrite = map[string]bool{"GET c3": true, "SET c3 x": true, "FLUSHALL": false, "ACL LIST": false}
)

func TestRedisConnectionFromBeginningToEnd(t *testing.T) {
	eachPlane(t, func(t *testing.T, r *rig) {
		x := withRedis(r)
		link := sites + "web" + linkers + "c1"
		before, assigned := r.traces()
		plan := fmt.Sprint(at(r.must(boss, "POST", link+"/dryrun", x.body(authSystem, "nodejs", "", "")), "steps"))
		if !strings.Contains(plan, "Data Contributor") || !strings.Contains(plan, "ACL SETUSER") {
			t.Errorf("the dry run says %s", plan)
		}
		r.must(boss, "PUT", link, x.body(authSystem, "nodejs", "", ""))
		who := r.identity("web")
		x.may(who, cacheWrite)
		if s := r.settings("web"); len(s) != 2 || s["AZURE_REDIS_HOST"] != "cache1.redis.hawser.test" || s["AZURE_REDIS_PORT"] != "16380" {
			t.Errorf("the settings are %v", s)
		}
		r.must(boss, "PUT", link, x.body(authSystem, "nodejs", "", "")) // safe to repeat
		if !r.valid(link) {
			t.Errorf("%v", r.must(boss, "POST", link+"/validateLinker", ""))
		}
		all := at(r.must(boss, "GET", x.cache+"/accessPolicyAssignments", ""), "value").([]any)
		if len(all) != 1 || text(all[0], "properties", "accessPolicyName") != "Data Contributor" || text(all[0], "properties", "objectId") != who.ObjectID {
			t.Errorf("the assignments are %v", all)
		}

		// A second connection of the same identity shares its policy: the most
		// that any asks for, and what is left when one goes.
		second := sites + "web" + linkers + "c2"
		r.must(boss, "PUT", second, x.body(authSystem, "none", Read, ""))
		if s := r.settings("web"); s["AZURE_REDIS_C2_HOST"] != "cache1.redis.hawser.test" {
			t.Errorf("the settings are %v", s)
		}
		x.may(who, cacheWrite)
		r.must(boss, "DELETE", link, "")
		x.may(who, cacheRead)
		if _, err := x.enter(r.made("other")); !az.Is(err, az.Forbidden) {
			t.Errorf("another app's identity gets in: %v", err)
		}
		r.must(boss, "DELETE", second, "")
		if _, err := x.enter(who); !az.Is(err, az.Forbidden) {
			t.Errorf("after the end of the connections: %v", err)
		}
		if x.there(who.ObjectID) {
			t.Error("the user outlived its connections")
		}
		if s := r.settings("web"); len(s) != 0 {
			t.Errorf("left behind: %v", s)
		}
		if p, a := r.traces(); p != before || a != assigned {
			t.Errorf("%d roles and %d assignments are left", p-before, a-assigned)
		}
	})
}

// TestRedisConnectionsMeetOthers: what somebody assigned by hand stays, and a
// login of the server's own leads to the server itself.
func TestRedisConnectionsMeetOthers(t *testing.T) {
	onePlane(t, func(t *testing.T, r *rig) {
		x := withRedis(r)
		link, who := sites+"web"+linkers+"c1", r.made("web")
		hand := x.cache + "/accessPolicyAssignments/byhand"
		r.must(boss, "PUT", hand, fmt.Sprintf(`{"properties":{"accessPolicyName":"Data Reader","objectId":%q,"objectIdAlias":"web"}}`, who.ObjectID))
		_, a := r.traces()
		r.refused(boss, "PUT", link, x.body(authSystem, "go", Write, ""), 409, "AccessPolicyAssignmentExists")
		if s := r.settings("web"); len(s) != 0 {
			t.Errorf("left behind: %v", s)
		}
		r.must(boss, "PUT", link, x.body(authSystem, "go", Read, ""))
		if !r.valid(link) {
			t.Errorf("%v", r.must(boss, "POST", link+"/validateLinker", ""))
		}
		r.must(boss, "DELETE", link, "")
		x.may(who, cacheRead)
		if _, a2 := r.traces(); a2 != a {
			t.Errorf("%d assignments, were %d", a2, a)
		}
		r.refused(webmaster, "PUT", link, x.body(authSystem, "go", Read, ""), 403, "LinkedAuthorizationFailed")
		r.refused(boss, "PUT", link, x.body(authSecret, "go", Read, ""), 400, "MissingSecret")

		own := fmt.Sprintf(`,"name":"default","secretInfo":{"secretType":"rawValue","value":%q}`, x.db.Password)
		r.must(boss, "PUT", link, x.body(authSecret, "python", Read, own))
		if got := r.settings("web")["AZURE_REDIS_CONNECTIONSTRING"]; got != fmt.Sprintf("rediss://:%s@%s/2", x.db.Password, x.db.Addr) || !r.valid(link) {
			t.Errorf("the setting is %v; %v", got, r.must(boss, "POST", link+"/validateLinker", ""))
		}
		r.must(boss, "PUT", link, x.body(authSecret, "python", Read, strings.Replace(own, x.db.Password, "wrong", 1)))
		if r.valid(link) {
			t.Error("a connection with the wrong password is valid")
		}
	})
}

// TestRedisConnectionsOfAServicePrincipal: the secret of the application stays
// out of sight, and the policy is the principal's.
func TestRedisConnectionsOfAServicePrincipal(t *testing.T) {
	onePlane(t, func(t *testing.T, r *rig) {
		x := withRedis(r)
		app, sp := r.ownApplication("own")
		link := sites + "web" + linkers + "c1"
		if got := fmt.Sprint(r.must(boss, "PUT", link, x.body(authPrincipal, "nodejs", Read, fmt.Sprintf(`,"clientId":%q,"secret":"topsecret1"`, app)))); strings.Contains(got, "topsecret1") {
			t.Errorf("shown: %s", got)
		}
		s := r.settings("web")
		if s["AZURE_REDIS_CLIENTID"] != app || s["AZURE_REDIS_CLIENTSECRET"] != "topsecret1" || s["AZURE_REDIS_TENANTID"] != rigNames.Tenant {
			t.Errorf("settings %v", s)
		}
		x.may(as(sp), cacheRead)
		if !r.valid(link) {
			t.Errorf("%v", r.must(boss, "POST", link+"/validateLinker", ""))
		}
		r.must(boss, "DELETE", link, "")
		if x.there(sp) {
			t.Error("the user outlived its connection")
		}
	})
}
