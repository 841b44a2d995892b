package connector

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/gateway/dbtest"
	"github.com/hawser/hawser/internal/guard"
)

const caches = group + "/providers/Microsoft.Cache/redis/"

// redisRig is a plane and a real server that is one of its caches.
type redisRig struct {
	*rig
	s     *dbtest.Server
	cache string
	owner *redisBackend
}

func (r *rig) withRedis(s *dbtest.Server, name string) *redisRig {
	r.t.Helper()
	out := &redisRig{rig: r, s: s, cache: caches + name, owner: redisOwner(s)}
	r.must(boss, "PUT", out.cache, out.body(""))
	r.t.Cleanup(func() { _, _ = r.call(boss, "DELETE", out.cache, "") })
	return out
}

func (r *redisRig) body(settings string) string {
	ca, err := os.ReadFile(r.s.CAFile)
	if err != nil {
		r.t.Fatal(err)
	}
	return fmt.Sprintf(`{"location":"local","properties":{"sku":{"name":"Standard","family":"C","capacity":1},"redisConfiguration":{%s},"administratorLoginPassword":%q,"hawser":{"url":"rediss://127.0.0.1:%d","caCertificate":%q}}}`,
		settings, r.s.Password, portOf(r.t, r.s.Addr), ca)
}

func (r *redisRig) assign(name, oid, policy string) {
	r.t.Helper()
	r.must(boss, "PUT", r.cache+"/accessPolicyAssignments/"+name, assignBody(oid, policy))
}

func assignBody(oid, policy string) string {
	return fmt.Sprintf(`{"properties":{"accessPolicyName":%q,"objectId":%q,"objectIdAlias":"somebody"}}`, policy, oid)
}

// may logs somebody in as the gateway does.
func (r *redisRig) may(oid string) (*redis.Client, error) {
	b, err := r.Authorize(r.t.Context(), as(oid), Login{Kind: Redis, Server: az.MustParseID(r.cache).Name(), User: oid})
	if err != nil {
		return nil, err
	}
	c, err := r.owner.login(r.t.Context(), r.owner.addr(), r.owner.Host, b.User, b.Password)
	if err == nil {
		r.t.Cleanup(func() { _ = c.Close() })
		err = c.Ping(r.t.Context()).Err()
	}
	return c, err
}

func (r *redisRig) mustMay(oid string) *redis.Client {
	r.t.Helper()
	c, err := r.may(oid)
	if err != nil {
		r.t.Fatal(err)
	}
	return c
}

func (r *redisRig) mayNot(oid, why string) {
	r.t.Helper()
	if _, err := r.may(oid); !az.Is(err, az.Forbidden) {
		r.t.Errorf("%s: %v", why, err)
	}
}

func (r *redisRig) users() string {
	r.t.Helper()
	names, err := redisAs(r.t, r.owner, r.owner.User, r.owner.Password).ACLUsers(r.t.Context()).Result()
	if err != nil {
		r.t.Fatal(err)
	}
	return strings.Join(names, " ")
}

// TestRedisPolicies: the resources, as Azure shows and refuses them.
func TestRedisPolicies(t *testing.T) {
	eachPlane(t, func(t *testing.T, p *rig) {
		r := p.withRedis(dbtest.Redis(t), "cache1")
		shown := p.must(reader, "GET", r.cache, "")
		if text(shown, "properties", "redisConfiguration", aadEnabled) != "True" || text(shown, "properties", "redisVersion") != "7.0" || strings.Contains(fmt.Sprint(shown), r.s.Password) {
			t.Errorf("the cache is %v", shown)
		}
		all, _ := at(p.must(reader, "GET", r.cache+"/accessPolicies", ""), "value").([]any)
		if len(all) != len(redisBuiltIn) {
			t.Fatalf("the policies are %v", all)
		}
		for _, one := range all {
			if text(one, "properties", "permissions") != redisBuiltIn[text(one, "name")] || text(one, "properties", "type") != "BuiltIn" || text(one, "properties", "provisioningState") != "Succeeded" {
				t.Errorf("a policy is %v", one)
			}
		}
		p.must(boss, "PUT", r.cache+"/accessPolicies/Data Owner", `{"properties":{"permissions":"+@all allkeys"}}`)
		p.refused(boss, "PUT", r.cache+"/accessPolicies/data owner", `{"properties":{"permissions":"+@read allkeys"}}`, 400, "InvalidParameter")
		p.refused(boss, "DELETE", r.cache+"/accessPolicies/Data Reader", "", 400, "CannotDelete")
		p.refused(boss, "PUT", r.cache+"/accessPolicies/my policy", `{"properties":{"permissions":"+@all nopass"}}`, 400, "InvalidPermissions")
		p.refused(boss, "PUT", r.cache+"/accessPolicies/my policy", `{"properties":{"permissions":"+waitaof allkeys"}}`, 400, "InvalidPermissions") // of 7.2; the server is older
		p.refused(boss, "PUT", r.cache+"/accessPolicies/a_b", `{"properties":{"permissions":"+get"}}`, 400, "InvalidParameter")
		p.refused(reader, "PUT", r.cache+"/accessPolicies/my policy", `{"properties":{"permissions":"+get"}}`, 403, "AuthorizationFailed")
		made := p.must(boss, "PUT", r.cache+"/accessPolicies/my policy", `{"properties":{"permissions":"+get +ping ~a:*"}}`)
		if text(made, "properties", "type") != "Custom" {
			t.Errorf("the policy is %v", made)
		}

		ann, bob := p.user("ann"), p.user("bob")
		at := r.cache + "/accessPolicyAssignments/"
		p.refused(boss, "PUT", at+"ann", assignBody(az.NewGUID(), "Data Reader"), 400, "PrincipalNotFound")
		p.refused(boss, "PUT", at+"ann", assignBody(ann, "nothing"), 404, "AccessPolicyNotFound")
		p.refused(reader, "PUT", at+"ann", assignBody(ann, "Data Reader"), 403, "AuthorizationFailed")
		reply := p.must(boss, "PUT", at+"ann", assignBody(ann, "MY policy"))
		if text(reply, "properties", "accessPolicyName") != "my policy" || text(reply, "properties", "objectId") != ann || text(reply, "properties", "objectIdAlias") != "somebody" || strings.Contains(fmt.Sprint(reply), "hawser") && strings.Contains(fmt.Sprint(reply), "Kind") {
			t.Errorf("the assignment is %v", reply)
		}
		p.refused(boss, "PUT", at+"ann2", assignBody(ann, "Data Reader"), 409, "AccessPolicyAssignmentExists")
		p.refused(boss, "PUT", at+"ann", assignBody(bob, "Data Reader"), 409, "ObjectIdCannotBeChanged")
		p.refused(boss, "DELETE", r.cache+"/accessPolicies/my policy", "", 409, "AccessPolicyInUse")
		user := r.cache + "/principals/" + redisUser(ann)
		p.refused(boss, "DELETE", user, "", 400, "CannotDelete")
		if status, _ := p.call(boss, "PUT", r.cache+"/principals/"+redisUser(bob), fmt.Sprintf(`{"properties":{"principalId":%q}}`, bob)); status < 400 {
			t.Error("a user was made beside the policies")
		}
		if out := fmt.Sprint(p.must(boss, "GET", user, "")); strings.Contains(out, "password") {
			t.Errorf("the role is %v", out)
		}
		p.must(boss, "DELETE", at+"ann", "")
		p.must(boss, "DELETE", r.cache+"/accessPolicies/my policy", "")
		if u := r.users(); strings.Contains(u, ann) {
			t.Errorf("the users are %s", u)
		}
		if status, out := p.call(boss, "GET", user, ""); status != 404 {
			t.Errorf("the role is still there: %d %s", status, out)
		}
		p.must(boss, "PUT", at+"bob", assignBody(bob, "Data Owner"))
		p.must(boss, "DELETE", r.cache, "")
		if u := r.users(); strings.Contains(u, bob) {
			t.Errorf("a deleted cache leaves the users %s", u)
		}
	})
}

// TestRedisLogin: who gets in, as whom, and what ends it.
func TestRedisLogin(t *testing.T) {
	eachPlane(t, func(t *testing.T, p *rig) {
		r := p.withRedis(dbtest.Redis(t), "cache1")
		ann, bob := p.user("ann"), p.user("bob")
		r.mayNot(ann, "nobody has a policy")
		r.assign("ann", ann, "Data Reader")
		c := r.mustMay(ann)
		redisTries(t, c, map[string]bool{"GET k": true, "SET k v": false, "ACL LIST": false})
		r.mayNot(bob, "another one's policy")
		if _, err := p.Authorize(t.Context(), as(bob), Login{Kind: Redis, Server: "cache1", User: ann}); !az.Is(err, az.Forbidden) {
			t.Errorf("one got in under another's name: %v", err)
		}
		if rows := p.records(guard.ActionRedisLogin, guard.Allowed); len(rows) != 1 || rows[0].Assignment != "ann (Data Reader)" || rows[0].Who != ann {
			t.Errorf("the records are %+v", rows)
		}
		if rows := p.records(guard.ActionRedisLogin, guard.Refused); len(rows) != 3 {
			t.Errorf("%d refusals are recorded", len(rows))
		}
		r.assign("ann", ann, "Data Contributor") // more, so the session gets it
		if err := c.Set(t.Context(), "login:k", "v", 0).Err(); err == nil {
			t.Error("a session outlived a change of its policy")
		}
		c = r.mustMay(ann)
		redisTries(t, c, map[string]bool{"SET login:k v": true, "FLUSHALL": false})
		p.must(boss, "PUT", r.cache, r.body(`"aad-enabled":"false"`))
		r.mayNot(ann, "tokens are turned off")
		p.must(boss, "PUT", r.cache, r.body(``))
		r.mustMay(ann)
		p.must(boss, "DELETE", r.cache+"/accessPolicyAssignments/ann", "")
		r.mayNot(ann, "the assignment is gone")
		if err := c.Ping(t.Context()).Err(); err == nil {
			t.Error("a session outlived its assignment")
		}
	})
}

// TestRedisGroups: members come in by their own names, as the group's user.
func TestRedisGroups(t *testing.T) {
	onePlane(t, func(t *testing.T, p *rig) {
		r := p.withRedis(dbtest.Redis(t), "cache1")
		ann, bob := p.user("ann"), p.user("bob")
		readers, writers := p.group("readers", ann, bob), p.group("writers", ann)
		r.assign("b-readers", readers, "Data Reader")
		redisTries(t, r.mustMay(bob), map[string]bool{"GET k": true, "SET k v": false})
		r.assign("a-writers", writers, "Data Contributor")
		redisTries(t, r.mustMay(ann), map[string]bool{"SET group:k v": true}) // the lowest name
		r.assign("z-ann", ann, "Data Reader")
		redisTries(t, r.mustMay(ann), map[string]bool{"SET group:k v": false}) // her own before her groups'
		if _, err := p.Authorize(t.Context(), as(bob), Login{Kind: Redis, Server: "cache1", User: readers}); !az.Is(err, az.Forbidden) {
			t.Errorf("one got in under a group's name: %v", err)
		}
		if _, err := p.Recheck(t.Context(), as(bob), Login{Kind: Redis, Server: "cache1", User: bob}); err != nil {
			t.Error(err)
		}
		p.must(boss, "DELETE", r.cache+"/accessPolicyAssignments/b-readers", "")
		if _, err := p.Recheck(t.Context(), as(bob), Login{Kind: Redis, Server: "cache1", User: bob}); !az.Is(err, az.Forbidden) {
			t.Errorf("an open session: %v", err)
		}
	})
}

// TestRedisPolicyChange: a policy that gives less ends sessions; one that is
// written again does not.
func TestRedisPolicyChange(t *testing.T) {
	onePlane(t, func(t *testing.T, p *rig) {
		r := p.withRedis(dbtest.Redis(t), "cache1")
		ann := p.user("ann")
		policy := r.cache + "/accessPolicies/app data"
		p.must(boss, "PUT", policy, `{"properties":{"permissions":"+@read +@write +ping ~app:*"}}`)
		r.assign("ann", ann, "app data")
		c := r.mustMay(ann)
		redisTries(t, c, map[string]bool{"SET app:1 v": true, "SET other v": false})
		p.must(boss, "PUT", policy, `{"properties":{"permissions":"+@read +@write +ping ~app:*"}}`)
		r.assign("ann", ann, "app data")
		if err := c.Ping(t.Context()).Err(); err != nil {
			t.Errorf("a policy that did not change ended a session: %v", err)
		}
		p.must(boss, "PUT", policy, `{"properties":{"permissions":"+@read +ping ~app:*"}}`)
		if err := c.Ping(t.Context()).Err(); err == nil {
			t.Error("a session outlived the shrinking of its policy")
		}
		redisTries(t, r.mustMay(ann), map[string]bool{"SET app:1 v": false, "GET app:1": true})
	})
}

// TestRedisRotation: a password changes under an open session, and both are
// good until the new one is kept.
func TestRedisRotation(t *testing.T) {
	eachPlane(t, func(t *testing.T, p *rig) {
		r := p.withRedis(dbtest.Redis(t), "cache1")
		ann := p.user("ann")
		r.assign("ann", ann, "Data Reader")
		open := r.mustMay(ann)
		before, err := p.Authorize(t.Context(), as(ann), Login{Kind: Redis, Server: "cache1", User: ann})
		if err != nil {
			t.Fatal(err)
		}
		login := func(password az.Secret) error {
			c, err := r.owner.login(t.Context(), r.owner.addr(), r.owner.Host, before.User, password)
			if err != nil {
				return err
			}
			defer c.Close()
			return c.Ping(t.Context()).Err()
		}
		next := newPassword() // as a rotation that is cut off leaves it
		rules, err := redisRules(redisBuiltIn["Data Reader"])
		if err != nil {
			t.Fatal(err)
		}
		if err := r.owner.addPassword(t.Context(), before.User, next, rules); err != nil {
			t.Fatal(err)
		}
		// What a node that was away has kept, or somebody has given, goes.
		if err := redisAs(t, r.owner, r.owner.User, r.owner.Password).ACLSetUser(t.Context(), before.User, "+@all", "(+get ~x)").Err(); err != nil {
			t.Fatal(err)
		}
		redisTries(t, open, map[string]bool{"SET rotated v": true})
		if err := login(before.Password); err != nil {
			t.Errorf("the old password during a change: %v", err)
		}
		if err := login(next); err != nil {
			t.Errorf("the new password during a change: %v", err)
		}
		p.offset.Add(int64(DefaultRotateAfter + time.Hour))
		if err := p.RotateBackendPasswords(t.Context()); err != nil {
			t.Fatal(err)
		}
		after, err := p.Authorize(t.Context(), as(ann), Login{Kind: Redis, Server: "cache1", User: ann})
		if err != nil || after.Password.Reveal() == before.Password.Reveal() {
			t.Fatalf("the password did not change: %v", err)
		}
		if err := login(after.Password); err != nil {
			t.Errorf("the new password: %v", err)
		}
		for what, old := range map[string]az.Secret{"old": before.Password, "half made": next} {
			if err := login(old); err == nil {
				t.Errorf("the %s password is good after the change", what)
			}
		}
		if err := open.Ping(t.Context()).Err(); err != nil {
			t.Errorf("the change ended an open session: %v", err)
		}
		redisTries(t, open, map[string]bool{"SET rotated v": false, "GET rotated": true})
	})
}

// TestRedisRepair: a server that forgets its users when it restarts has them
// made again when it refuses the next login; one with a file of users keeps
// them.
func TestRedisRepair(t *testing.T) {
	onePlane(t, func(t *testing.T, p *rig) {
		file := filepath.Join(t.TempDir(), "users.acl")
		if err := os.WriteFile(file, []byte("user default on >it-is-only-a-test ~* &* +@all\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		ann := p.user("ann")
		for name, keeps := range map[string]bool{"forgets": false, "keeps": true} {
			var options []string
			if keeps {
				options = []string{"--aclfile", file}
			}
			s := dbtest.StartRedis(t, options...)
			r := p.withRedis(s, name)
			r.assign("ann", ann, "Data Reader")
			r.mustMay(ann)
			s.Kill()
			s.Restart(t)
			_, err := r.may(ann)
			if (err == nil) != keeps || !keeps && !strings.Contains(err.Error(), "WRONGPASS") {
				t.Errorf("%s: %v", name, err)
			}
			if err := p.Repair(t.Context(), az.MustParseID(r.cache), redisUser(ann)); err != nil {
				t.Fatal(err)
			}
			redisTries(t, r.mustMay(ann), map[string]bool{"GET k": true, "SET k v": false})
			p.must(boss, "DELETE", r.cache, "")
		}
	})
}

// TestRedisAdoptedLater: a cache without a server keeps its assignments, and
// the server that comes gets their users.
func TestRedisAdoptedLater(t *testing.T) {
	onePlane(t, func(t *testing.T, p *rig) {
		ann := p.user("ann")
		r := &redisRig{rig: p, s: dbtest.Redis(t), cache: caches + "later", owner: redisOwner(dbtest.Redis(t))}
		p.must(boss, "PUT", r.cache, `{"location":"local","properties":{"sku":{"name":"Basic","family":"C","capacity":0}}}`)
		r.assign("ann", ann, "Data Owner")
		if _, err := r.may(ann); !az.Is(err, az.Invalid) {
			t.Errorf("a login to a description: %v", err)
		}
		if err := p.Sweep(t.Context()); err != nil {
			t.Error(err)
		}
		p.must(boss, "PUT", r.cache, r.body(""))
		redisTries(t, r.mustMay(ann), map[string]bool{"SET later:k v": true, "CONFIG GET x": false})
		moved := strings.NewReplacer("administratorLoginPassword", "other", "rediss://127.0.0.1", "rediss://localhost").Replace(r.body(""))
		p.refused(boss, "PUT", r.cache, moved, 400, "PasswordNeeded")
		p.must(boss, "DELETE", r.cache, "")
	})
}

// TestRedisCluster: each node of a cluster has the users.
func TestRedisCluster(t *testing.T) {
	t.Parallel()
	var nodes []*dbtest.Server
	for range 2 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		bus := portOf(t, l.Addr().String())
		_ = l.Close()
		nodes = append(nodes, dbtest.StartRedis(t, "--cluster-enabled", "yes", "--cluster-port", strconv.Itoa(bus)))
	}
	of := func(s *dbtest.Server) *redisBackend {
		b := redisOwner(s)
		b.Host, b.Port = "127.0.0.1", portOf(t, s.Plain)
		return b
	}
	b, other := of(nodes[0]), of(nodes[1])
	owner := redisAs(t, b, b.User, b.Password)
	info, err := redisAs(t, other, other.User, other.Password).Do(t.Context(), "CLUSTER", "NODES").Text()
	if err != nil {
		t.Fatal(err)
	}
	_, bus, _ := strings.Cut(strings.Fields(info)[1], "@")
	bus, _, _ = strings.Cut(bus, ",")
	if err := owner.Do(t.Context(), "CLUSTER", "MEET", "127.0.0.1", other.Port, bus).Err(); err != nil {
		t.Fatal(err)
	}
	for { // until they know each other; the test's own time bounds it
		text, err := owner.ClusterNodes(t.Context()).Result()
		if err != nil {
			t.Fatal(err)
		}
		if list, err := b.nodes(t.Context(), owner); err == nil && len(list) == 1 && strings.Count(text, "handshake") == 0 {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	user, password := redisUser(az.NewGUID()), newPassword()
	if made, _, err := b.setUser(t.Context(), user, password, []string{"+ping"}); err != nil || !made {
		t.Fatal(made, err)
	}
	there := redisAs(t, other, user, password)
	redisAs(t, b, user, password)
	if err := b.dropUser(t.Context(), user); err != nil {
		t.Fatal(err)
	}
	if err := there.Ping(t.Context()).Err(); err == nil {
		t.Error("a session at another node outlived its user")
	}

	// A server may say of any address that it is a node of its cluster.
	if err := redisAs(t, other, other.User, other.Password).ACLSetUser(t.Context(), "default", "nopass").Err(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.setUser(t.Context(), user, password, []string{"+ping"}); codeOf(err) != "ServerTrustsThePlane" {
		t.Errorf("a node that asks for no password: %v", err)
	}
	if all, err := redisAs(t, other, other.User, other.Password).ACLUsers(t.Context()).Result(); err != nil || len(all) != 1 {
		t.Errorf("its users are %v, %v", all, err)
	}
}

// TestRedisOneCacheAServer: two caches in front of one server would give a
// principal's user there the rules of either, whichever came last.
func TestRedisOneCacheAServer(t *testing.T) {
	onePlane(t, func(t *testing.T, p *rig) {
		r := p.withRedis(dbtest.Redis(t), "cache1")
		p.refused(boss, "PUT", caches+"cache2", r.body(""), 409, "BackendInUse")
		p.must(boss, "PUT", r.cache, r.body(""))
		p.must(boss, "PUT", caches+"cache2", `{"location":"local","properties":{"sku":{"name":"Basic","family":"C","capacity":0}}}`)
		p.refused(boss, "PUT", caches+"cache2", r.body(""), 409, "BackendInUse")
	})
}
