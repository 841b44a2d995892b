package site

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/store"
	"github.com/hawser/hawser/internal/store/storetest"
)

func ref(name string) string { return "@Microsoft.KeyVault(VaultName=kv1;SecretName=" + name + ")" }

// TestReferencesByPolicies: in a vault that goes by access policies an app's
// references are read by what the policies give the app, and by nothing else.
func TestReferencesByPolicies(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		r := newPlane(t, st)
		oid := text(r.create(systemIdentity, nil), "identity", "principalId")
		r.secret("s1", "value one")
		r.settings(map[string]string{"SECRET": ref("s1")})
		policies := func(list string) {
			r.write(func(tx *store.Tx) error {
				v := az.MustParseID(vaultID)
				return tx.PutVault(store.Vault{Name: v.Name(), Serial: 7, ID: v, Location: "local", RetentionDays: 90, Body: []byte(list)})
			})
		}
		one := func(object, app, words string) string {
			if app != "" {
				app = `,"applicationId":"` + app + `"`
			}
			return `[{"tenantId":"` + testNames.Tenant + `","objectId":"` + object + `"` + app + `,"permissions":{"secrets":[` + words + `]}}]`
		}
		group := az.NewGUID()
		r.write(func(tx *store.Tx) error { return tx.AddMember(group, oid) })
		for name, c := range map[string]struct {
			list string
			want Status
		}{
			"get":              {one(oid, "", `"get"`), Resolved},
			"all":              {one(oid, "", `"all"`), Resolved},
			"a group's":        {one(group, "", `"get"`), Resolved},
			"list only":        {one(oid, "", `"list","set","delete","purge"`), AccessToKeyVaultDenied},
			"another's":        {one(az.NewGUID(), "", `"all"`), AccessToKeyVaultDenied},
			"none":             {`[]`, AccessToKeyVaultDenied},
			"through an app":   {one(oid, az.NewGUID(), `"get"`), AccessToKeyVaultDenied},
			"none, with roles": {`[]`, AccessToKeyVaultDenied},
		} {
			if name == "none, with roles" { // a role counts for nothing there
				r.grant(guard.RoleSecretsUser, oid, vaultID)
			}
			policies(c.list)
			if env := r.environment(owner, "", 0); env.status("SECRET") != c.want || (env.value("SECRET") == "value one") != (c.want == Resolved) {
				t.Errorf("%s: %+v", name, env.References)
			}
		}
	})
}

// TestEnvironment is what an app sees: settings under both names, connection
// strings under their prefixes, references replaced, and no identity but its
// own used to read them.
func TestEnvironment(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		r := newPlane(t, st)
		oid := text(r.create(systemIdentity, nil), "identity", "principalId")
		r.grant(guard.RoleSecretsUser, oid, vaultID)
		r.secret("s1", "value one")
		r.settings(map[string]string{"PLAIN": "p", "SECRET": ref("s1"), "BY.URI": "@Microsoft.KeyVault(SecretUri=https://kv1.vault.azure.net/secrets/s1/)",
			"INSIDE": "x " + ref("s1"), "GONE": ref("none")})
		r.must(owner, "PUT", app1+"/config/connectionstrings", `{"properties":{"db":{"value":"`+ref("s1")+`","type":"postgresql"}}}`)
		env := r.environment(owner, "", 0)
		for name, want := range map[string]string{"PLAIN": "p", "APPSETTING_PLAIN": "p", "SECRET": "value one", "APPSETTING_SECRET": "value one",
			"BY_URI": "value one", "INSIDE": "x " + ref("s1"), "GONE": ref("none"), "POSTGRESQLCONNSTR_db": "value one", "WEBSITE_SITE_NAME": "app1",
			"APPSETTING_WEBSITE_SITE_NAME": "app1", "WEBSITE_RESOURCE_GROUP": "hawser"} {
			if got := env.value(name); got != want {
				t.Errorf("%s is %q, want %q", name, got, want)
			}
		}
		if env.Authority != "https://login.hawser.test:8443/" || env.Tenant != az.AliasTenant || env.TenantID != testNames.Tenant || env.SiteID.String() != app1 || env.Unchanged {
			t.Errorf("the environment names %+v", env)
		}
		if len(env.References) != 4 || env.status("GONE") != SecretNotFound || env.status("SECRET") != Resolved || env.status("db") != Resolved {
			t.Errorf("references are %+v", env.References)
		}
		if again := r.environment(owner, "", 0); again.ETag != env.ETag || env.ETag == "" {
			t.Errorf("nothing changed, but the etag did")
		}
		if same := r.environment(owner, env.ETag, 0); !same.Unchanged || len(same.Variables) != 0 || same.ETag != env.ETag {
			t.Errorf("nothing changed, but the answer is %+v", same)
		}
		// The sealer of another plane gives another etag for the same values.
		if b, err := json.Marshal(env); err != nil || strings.Contains(env.ETag, "value") || len(b) == 0 {
			t.Error(err)
		}
		// What was read, was read by the app: the audit log says so.
		if n := r.audited(oid, "Microsoft.KeyVault/vaults/secrets/getSecret/action"); n == 0 {
			t.Error("no record of the app's reads")
		}
	})
}

func (r *rig) audited(oid, action string) int {
	r.t.Helper()
	n := 0
	err := r.guard.Audit().Each(context.Background(), 0, func(_ []byte, rec guard.Record) bool {
		if rec.Who == oid && rec.Action == action {
			n++
		}
		return true
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return n
}

// TestReferenceStatuses makes each status of the enum that a reference can be
// left in.
func TestReferenceStatuses(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		r := newPlane(t, st)
		oid := text(r.create(systemIdentity, nil), "identity", "principalId")
		r.grant(guard.RoleSecretsUser, oid, vaultID)
		r.putVault(groupID+"/providers/Microsoft.KeyVault/vaults/kv2", 8)
		r.secret("s1", "one")
		r.secret("nul", "a\x00b")
		r.secret("off", "x")
		if status, out := r.send(r.kv, officer, "PUT", "https://kv1.vault.hawser.test/secrets/off?api-version=7.4", `{"value":"x","attributes":{"enabled":false}}`); status != 200 {
			t.Fatal(string(out))
		}
		missing := strings.Repeat("0", 32)
		want := map[string]Status{"OK": Resolved, "SYNTAX": InvalidSyntax, "VAULT": VaultNotFound, "HOST": VaultNotFound, "SECRET": SecretNotFound,
			"VERSION": SecretVersionNotFound, "DENIED": AccessToKeyVaultDenied, "OFF": AccessToKeyVaultDenied, "NUL": OtherReasons, "CONFIG": OtherReasons}
		given := map[string]string{"OK": ref("s1"), "SYNTAX": "@Microsoft.KeyVault(Name=s1)", "VAULT": "@Microsoft.KeyVault(VaultName=nowhere;SecretName=s1)",
			"HOST": "@Microsoft.KeyVault(SecretUri=https://evil.example/secrets/s1)", "SECRET": ref("none"), "VERSION": "@Microsoft.KeyVault(VaultName=kv1;SecretName=s1;SecretVersion=" + missing + ")",
			"DENIED": "@Microsoft.KeyVault(VaultName=kv2;SecretName=s1)", "OFF": ref("off"), "NUL": ref("nul"),
			"CONFIG": "@Microsoft.AppConfiguration(Endpoint=https://s.azconfig.io; Key=k)"}
		r.settings(given)
		r.must(owner, "PUT", app1+"/config/connectionstrings", `{"properties":{"OK":{"value":"@Microsoft.KeyVault()","type":"Custom"}}}`)
		r.checkStatuses(given, want)

		off := map[string]Status{}
		for name, s := range want {
			if off[name] = s; s != InvalidSyntax && name != "HOST" && name != "CONFIG" {
				off[name] = MSINotEnabled
			}
		}
		r.must(owner, "PATCH", app1, `{"identity":{"type":"None"}}`)
		r.checkStatuses(given, off)

		r.must(owner, "PATCH", app1, `{"identity":{"type":"SystemAssigned"}}`)
		o, _, _ := r.dir.Get(context.Background(), text(r.must(owner, "GET", app1, ""), "identity", "principalId"))
		disabled := *o
		disabled.Enabled = false
		r.write(func(tx *store.Tx) error { return r.dir.Update(tx, &disabled) })
		for name, s := range off {
			if s == MSINotEnabled {
				off[name] = UnauthorizedClient
			}
		}
		r.checkStatuses(given, off)
	})
}

// checkStatuses compares what the environment and both forms of the status
// route say, and that what is not resolved stays literal.
func (r *rig) checkStatuses(given map[string]string, want map[string]Status) {
	r.t.Helper()
	env := r.environment(owner, "", 0)
	list := r.must(reader, "GET", app1+"/config/configreferences/appsettings", "")
	shown := map[string]any{}
	for _, v := range at(list, "value").([]any) {
		shown[text(v, "name")] = v
	}
	if len(shown) != len(want) {
		r.t.Errorf("%d references are shown, want %d", len(shown), len(want))
	}
	for name, status := range want {
		if got := env.status(name); got != status {
			r.t.Errorf("%s: the environment says %s, want %s", name, got, status)
		}
		if got := env.value(name); (got == given[name]) == (status == Resolved) {
			r.t.Errorf("%s is %q with status %s", name, got, status)
		}
		one := r.must(reader, "GET", app1+"/config/configreferences/appsettings/"+name, "")
		for _, v := range []any{one, shown[name]} {
			if text(v, "properties", "status") != string(status) || text(v, "properties", "details") == "" || text(v, "properties", "reference") != given[name] {
				r.t.Errorf("%s is shown as %v, want %s", name, v, status)
			}
		}
	}
}

// TestTimedOut is for the one status that needs a vault that does not answer.
func TestTimedOut(t *testing.T) {
	r := newPlane(t, storetest.Open(t, store.Config{Dir: t.TempDir()}), func(c *Config) { c.ReferenceTimeout = 1 })
	r.create(systemIdentity, map[string]string{"A": ref("s1")})
	if env := r.environment(owner, "", 0); env.status("A") != FetchTimedOut || env.value("A") != ref("s1") {
		t.Errorf("%+v", env)
	}
}

// TestAPassingFailureRestartsNobody: an app that runs is not told of an
// environment in which a secret is missing only because the store was slow.
func TestAPassingFailureRestartsNobody(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		r := newPlane(t, st)
		r.grant(guard.RoleSecretsUser, text(r.create(systemIdentity, map[string]string{"A": ref("s1")}), "identity", "principalId"), vaultID)
		r.secret("s1", "one")
		env := r.environment(owner, "", 0)
		r.Sites.cfg.ReferenceTimeout = 1
		r.secret("s1", "two")
		if again := r.environment(owner, env.ETag, 0); !again.Unchanged || again.ETag != env.ETag {
			t.Errorf("a passing failure is told as a change: %+v", again.References)
		}
		r.Sites.cfg.ReferenceTimeout = DefaultReferenceTimeout
		if again := r.environment(owner, env.ETag, 10); again.value("A") != "two" {
			t.Errorf("the failure is over, but A is %q", again.value("A"))
		}
	})
}

func TestWaitingIsBounded(t *testing.T) {
	r := newPlane(t, storetest.Open(t, store.Config{Dir: t.TempDir()}))
	r.create(systemIdentity, nil)
	env := r.environment(owner, "", 0)
	r.Sites.waiting[strings.ToLower(app1)] = maxWaiting
	r.refused(owner, "POST", app1+"/runtimeEnvironment", `{"etag":"`+env.ETag+`","waitSeconds":1}`, 429, "TooManyRequests")
	if !r.environment(owner, env.ETag, 0).Unchanged {
		t.Error("one that does not wait was refused")
	}
}

func TestStatusOfErrors(t *testing.T) {
	ctx := context.Background()
	for _, c := range []struct {
		err  error
		want Status
	}{
		{errors.New("odd"), OtherReasons},
		{az.Errorf(az.Unavailable, "", ""), OtherReasons},
		{az.Errorf(az.TooMany, "", ""), OtherReasons},
		{az.Errorf(az.Internal, "", ""), OtherReasons},
		{az.Errorf(az.Unauthorized, "", ""), UnauthorizedClient},
		{az.Errorf(az.Forbidden, "Forbidden", ""), AccessToKeyVaultDenied},
		{az.Errorf(az.Unavailable, "", "").Because(context.DeadlineExceeded), FetchTimedOut},
	} {
		status, details := statusOf(ctx, c.err, Reference{"kv1", "s1", ""}, "app1")
		if status != c.want || details == "" || strings.Contains(details, "odd") {
			t.Errorf("%v gives %s %q, want %s", c.err, status, details, c.want)
		}
	}
}

func TestKeyVaultReferenceIdentity(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		r := newPlane(t, st)
		id, oid, _ := r.userIdentity("id1")
		r.secret("s1", "one")
		r.create(`{"type":"SystemAssigned, UserAssigned","userAssignedIdentities":{"`+id.String()+`":{}}}`, map[string]string{"A": ref("s1")})
		r.grant(guard.RoleSecretsUser, oid, vaultID)
		if got := r.environment(owner, "", 0).status("A"); got != AccessToKeyVaultDenied {
			t.Errorf("read as the system-assigned identity: %s", got)
		}
		r.refused(owner, "PATCH", app1, `{"properties":{"keyVaultReferenceIdentity":"`+identityBase+`other"}}`, 400, "")
		r.refused(owner, "PATCH", app1, `{"properties":{"keyVaultReferenceIdentity":"me"}}`, 400, "")
		r.must(owner, "PATCH", app1, `{"properties":{"keyVaultReferenceIdentity":"`+strings.ToUpper(id.String())+`"}}`)
		env := r.environment(owner, "", 0)
		if env.status("A") != Resolved || env.value("A") != "one" {
			t.Errorf("read as the user-assigned identity: %+v", env.References)
		}
		one := r.must(reader, "GET", app1+"/config/configreferences/appsettings/A", "")
		if text(one, "properties", "identityType", "type") != "UserAssigned" || text(one, "properties", "activeVersion") == "" {
			t.Errorf("%v", one)
		}
		r.must(owner, "PATCH", app1, `{"identity":{"type":"SystemAssigned"}}`)
		if got := r.environment(owner, "", 0).status("A"); got != MSINotEnabled {
			t.Errorf("read as an identity that was taken away: %s", got)
		}
		r.must(owner, "PATCH", app1, `{"properties":{"keyVaultReferenceIdentity":"systemassigned"}}`)
		if got := text(r.must(owner, "GET", app1, ""), "properties", "keyVaultReferenceIdentity"); got != "SystemAssigned" {
			t.Errorf("keyVaultReferenceIdentity is %q", got)
		}
	})
}

// TestTooMuchForAnEnvironment: what the references bring is bounded, and the
// one that does not fit is named.
func TestTooMuchForAnEnvironment(t *testing.T) {
	r := newPlane(t, storetest.Open(t, store.Config{Dir: t.TempDir()}))
	r.grant(guard.RoleSecretsUser, text(r.create(systemIdentity, nil), "identity", "principalId"), vaultID)
	r.secret("big", strings.Repeat("x", 25<<10))
	all := map[string]string{}
	for i := range maxResolved/(25<<10) + 1 {
		all[fmt.Sprintf("K%02d", i)] = ref("big")
	}
	r.settings(all)
	env := r.environment(owner, "", 0)
	last := fmt.Sprintf("K%02d", len(all)-1)
	if env.status("K00") != Resolved || env.status(last) != OtherReasons || env.value(last) != ref("big") {
		t.Errorf("%s %s %s", env.status("K00"), env.status(last), env.value(last))
	}
}

// TestOneSnapshot writes settings and connection strings together while
// others read: nobody sees half of a change, and who waits sees the last.
func TestOneSnapshot(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		r := newPlane(t, st)
		ctx, id := context.Background(), az.MustParseID(app1)
		link := az.MustParseID(app1 + "/providers/Microsoft.ServiceLinker/linkers/c1")
		r.create(systemIdentity, nil)
		const rounds = 60
		var readers sync.WaitGroup
		for range 4 {
			readers.Go(func() {
				for etag, last := "", ""; last != fmt.Sprint(rounds); {
					env, err := r.Environment(ctx, as(owner), id, etag, maxWait)
					if err != nil || env.Unchanged {
						t.Errorf("%v %v", env, err)
						return
					}
					etag, last = env.ETag, env.value("N")
					if cs := env.value("CUSTOMCONNSTR_N"); cs != last {
						t.Errorf("the setting is of round %s, the connection string of round %s", last, cs)
					}
				}
			})
		}
		for i := 1; i <= rounds; i++ {
			n := fmt.Sprint(i)
			r.write(func(tx *store.Tx) error {
				return r.SetSettings(tx, id, link, Settings{App: map[string]string{"N": n}, Connections: map[string]ConnectionString{"N": {n, "Custom"}}})
			})
		}
		readers.Wait()
		if n := len(r.hub.all); n > 2 {
			t.Errorf("%d watches are left of %d environments", n, rounds)
		}
	})
}

// waiting starts a request that waits for a change, and returns once it waits.
func (r *rig) waiting(etag string) <-chan *Environment {
	r.t.Helper()
	done := make(chan *Environment, 1)
	go func() {
		env, err := r.Environment(context.Background(), as(owner), az.MustParseID(app1), etag, maxWait)
		if err != nil {
			r.t.Errorf("the waiting request: %v", err)
		}
		done <- env
	}()
	return done
}

// changed waits for the answer of a waiting request.
func (r *rig) changed(what string, done <-chan *Environment) *Environment {
	r.t.Helper()
	select {
	case env := <-done:
		if env == nil || env.Unchanged {
			r.t.Fatalf("%s: the request that waits was told nothing", what)
		}
		return env
	case <-time.After(20 * time.Second):
		r.t.Fatalf("%s: the request that waits was not woken", what)
		return nil
	}
}

// TestWakeUps makes every change that an environment can come from, on this
// plane and on another one that shares the store.
func TestWakeUps(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) {
		r := newPlane(t, storetest.Open(t, store.Config{Dir: t.TempDir()}))
		wakeUps(t, r, r)
	})
	t.Run("two planes", func(t *testing.T) {
		a, b := storetest.Pair(t)
		r := newPlane(t, a)
		wakeUps(t, r, newRig(t, b, r.sealer))
	})
}

// wakeUps changes things on one plane while a request waits on the other.
func wakeUps(t *testing.T, on, waits *rig) {
	on.secret("s1", "one")
	plan := groupID + "/providers/Microsoft.Web/serverfarms/p1"
	on.must(owner, "PUT", plan, `{"location":"local","sku":{"name":"B1","tier":"Basic"},"properties":{}}`)
	oid := text(on.create(systemIdentity, map[string]string{"A": ref("s1"), "B": "b"}), "identity", "principalId")
	other, _, _ := on.userIdentity("id1")
	var assignment az.ID
	env := waits.environment(owner, "", 0)
	for _, step := range []struct {
		what   string
		change func()
		good   func(*Environment) bool
	}{
		{"a role is given", func() { assignment = on.grant(guard.RoleSecretsUser, oid, groupID) }, func(e *Environment) bool { return e.value("A") == "one" }},
		{"a new version", func() { on.secret("s1", "two") }, func(e *Environment) bool { return e.value("A") == "two" }},
		{"a newer version", func() { on.secret("S1", "three") }, func(e *Environment) bool { return e.value("A") == "three" }},
		{"a setting", func() { on.settings(map[string]string{"A": ref("s1"), "B": "c", "N": ref("new")}) },
			func(e *Environment) bool { return e.value("B") == "c" && e.status("N") == SecretNotFound }},
		{"a secret that was not there", func() { on.secret("new", "n") }, func(e *Environment) bool { return e.value("N") == "n" }},
		{"a connection string", func() {
			on.must(owner, "PUT", app1+"/config/connectionstrings", `{"properties":{"db":{"value":"v","type":"Custom"}}}`)
		}, func(e *Environment) bool { return e.value("CUSTOMCONNSTR_db") == "v" }},
		{"a restart", func() { on.must(owner, "POST", app1+"/restart", "") }, func(e *Environment) bool { return e.Restarted > 0 }},
		{"a plan", func() { on.must(owner, "PATCH", app1, `{"properties":{"serverFarmId":"`+plan+`"}}`) }, func(e *Environment) bool { return e.value("WEBSITE_SKU") == "Basic" }},
		{"the plan's price", func() {
			on.must(owner, "PUT", plan, `{"location":"local","sku":{"name":"P1","tier":"Premium"},"properties":{}}`)
		}, func(e *Environment) bool { return e.value("WEBSITE_SKU") == "Premium" }},
		{"an identity", func() {
			on.must(owner, "PATCH", app1, `{"identity":{"type":"SystemAssigned, UserAssigned","userAssignedIdentities":{"`+other.String()+`":{}}}}`)
		}, func(e *Environment) bool { return len(e.Identities.User) == 1 }},
		{"a role is taken away", func() { on.revoke(assignment) }, func(e *Environment) bool { return e.status("A") == AccessToKeyVaultDenied && e.value("A") == ref("s1") }},
		{"a group has the role", func() {
			on.write(func(tx *store.Tx) error {
				g, err := on.dir.AddGroup(tx, groupObject)
				if err != nil {
					return err
				}
				return on.dir.AddMember(tx, g.ID, oid)
			})
			on.grant(guard.RoleSecretsUser, groupObject.ID, vaultID)
		}, func(e *Environment) bool { return e.value("A") == "three" }},
		{"the member leaves", func() {
			on.write(func(tx *store.Tx) error { _, err := tx.RemoveMember(groupObject.ID, oid); return err })
		}, func(e *Environment) bool { return e.status("A") == AccessToKeyVaultDenied }},
		{"the identity goes", func() { on.must(owner, "PATCH", app1, `{"identity":{"type":"None"}}`) }, func(e *Environment) bool { return e.status("A") == MSINotEnabled && e.Identities.System == nil }},
	} {
		done := waits.waiting(env.ETag)
		step.change()
		for env = waits.changed(step.what, done); !step.good(env); env = waits.changed(step.what, waits.waiting(env.ETag)) {
			t.Logf("%s: not yet", step.what) // the change was made in two transactions
		}
	}
}

// TestWaitingEnds: a request that waits ends when its caller loses the right,
// when the app goes, when the plane closes, and when its time is over.
func TestWaitingEnds(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		r := newPlane(t, st)
		ctx, id := context.Background(), az.MustParseID(app1)
		r.create(systemIdentity, map[string]string{"A": "1"})
		right := r.grant(roleWebsite, stranger, app1)
		env, err := r.Environment(ctx, as(stranger), id, "", 0)
		if err != nil {
			t.Fatal(err)
		}
		wait := func(who string) chan error {
			done := make(chan error, 1)
			go func() {
				e, err := r.Environment(ctx, as(who), id, env.ETag, maxWait)
				if err == nil && !e.Unchanged {
					err = fmt.Errorf("a change was told: %v", e)
				}
				done <- err
			}()
			return done
		}
		lost := wait(stranger)
		r.revoke(right)
		r.settings(map[string]string{"A": "2"})
		if err := <-lost; !az.Is(err, az.Forbidden) {
			t.Errorf("the right was lost, but: %v", err)
		}
		env = r.environment(owner, "", 0)
		if e, err := r.Environment(ctx, as(owner), id, env.ETag, time.Millisecond); err != nil || !e.Unchanged {
			t.Errorf("the time was over, but: %v %v", e, err)
		}
		left, cancel := context.WithCancel(ctx)
		cancel()
		if _, err := r.Environment(left, as(owner), id, env.ETag, maxWait); err == nil {
			t.Error("the client left, and the wait went on")
		}
		gone := wait(owner)
		r.must(owner, "DELETE", app1, "")
		if err := <-gone; !az.Is(err, az.NotFound) {
			t.Errorf("the app is gone, but: %v", err)
		}
		if n := len(r.hub.all); n > 1 {
			t.Errorf("%d watches are left", n)
		}
		r.create(systemIdentity, map[string]string{"A": "1"})
		env = r.environment(owner, "", 0)
		closing := wait(owner)
		_ = r.Close()
		if err := <-closing; err != nil {
			t.Errorf("the plane closed, but: %v", err)
		}
		if len(r.Sites.waiting) != 0 {
			t.Errorf("some still wait: %v", r.Sites.waiting)
		}
	})
}
