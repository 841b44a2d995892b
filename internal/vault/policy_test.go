package vault

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/store"
	"github.com/hawser/hawser/internal/store/storetest"
)

const group = "00000000-0000-4000-8000-0000000000a0"

// putPolicies makes kv1 a vault that goes by these policies.
func (r *rig) putPolicies(list ...accessPolicy) {
	r.t.Helper()
	body, err := json.Marshal(list)
	if err != nil {
		r.t.Fatal(err)
	}
	r.putVault(store.Vault{Name: "kv1", Serial: 7, ID: kvID, Location: "local", RetentionDays: 90, Body: body})
}

func policyFor(oid string, secrets ...string) accessPolicy {
	return accessPolicy{TenantID: tenant, ObjectID: oid, Permissions: permissions{Secrets: secrets}}
}

// TestEachPermissionOpensItsOperations: with one word of secrets' permissions,
// exactly the operations of that word are allowed; all others are refused.
func TestEachPermissionOpensItsOperations(t *testing.T) {
	r := sqliteRig(t)
	r.set("s1", "v")
	r.set("gone", "v")
	blob := r.must(200, r.do(officer, "POST", "/secrets/s1/backup", ""))
	r.must(200, r.do(officer, "DELETE", "/secrets/gone", ""))
	backup := `{"value":` + string(blob.Body.Value) + `}`
	ops := []struct{ word, method, path, body string }{
		{"get", "GET", "/secrets/s1/", ""}, {"get", "GET", "/deletedsecrets/gone", ""},
		{"list", "GET", "/secrets", ""}, {"list", "GET", "/secrets/s1/versions", ""}, {"list", "GET", "/deletedsecrets", ""},
		{"set", "PUT", "/secrets/s1", `{"value":"v"}`}, {"set", "PATCH", "/secrets/s1", `{"tags":{}}`},
		{"backup", "POST", "/secrets/s1/backup", ""}, {"restore", "POST", "/secrets/restore", backup},
		{"recover", "POST", "/deletedsecrets/nothing/recover", ""}, {"purge", "DELETE", "/deletedsecrets/nothing", ""},
		{"delete", "DELETE", "/secrets/nothing", ""},
	}
	for _, word := range append([]string{allWord}, secretWords...) {
		r.putPolicies(policyFor(user, word))
		for _, op := range ops {
			p := r.do(user, op.method, op.path, op.body)
			if may := word == allWord || op.word == word; may == (p.Status == 403) {
				t.Errorf("%s with %q: %s %s: %d %s", user, word, op.method, op.path, p.Status, p.Raw)
			}
			if word != allWord && op.word != word {
				r.refused(p, 403, "Forbidden", "AccessDenied", "does not have secrets "+op.word+" permission on key vault 'kv1;location=local'")
			}
			// Roles count for nothing here.
			r.refused(r.do(officer, op.method, op.path, op.body), 403, "Forbidden", "AccessDenied", "")
		}
	}
	last := r.lastRecord()
	if last.Outcome != guard.Refused || last.Who != officer || last.Reason != "no access policy allows it" {
		t.Errorf("the refusal is recorded as %+v", last)
	}
	// A permission for keys is none for secrets.
	r.putPolicies(accessPolicy{TenantID: tenant, ObjectID: user, Permissions: permissions{Keys: []string{allWord}, Certificates: []string{allWord}}})
	r.must(403, r.do(user, "GET", "/secrets/s1/", ""))
	// With roles, policies count for nothing.
	r.putVault(store.Vault{Name: "kv1", Serial: 7, ID: kvID, Location: "local", RetentionDays: 90, RBAC: true,
		Body: []byte(`[{"objectId":"` + stranger + `","permissions":{"secrets":["all"]}}]`)})
	r.refused(r.do(stranger, "GET", "/secrets/s1/", ""), 403, "Forbidden", "ForbiddenByRbac", "")
}

func (r *rig) lastRecord() (last guard.Record) {
	r.t.Helper()
	if err := r.guard.Audit().Each(context.Background(), 0, func(_ []byte, rec guard.Record) bool { last = rec; return true }); err != nil {
		r.t.Fatal(err)
	}
	return last
}

// TestPolicyHolders: the person, a group it is in (nested), and an application
// on the person's behalf.
func TestPolicyHolders(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		r := newRig(t, st).withVault()
		r.set("s1", "v")
		r.putPolicies(policyFor(group, "get"))
		r.must(403, r.do(stranger, "GET", "/secrets/s1/", ""))
		inner := "00000000-0000-4000-8000-0000000000a1"
		r.write(func(tx *store.Tx) error { return tx.AddMember(inner, stranger) })
		r.write(func(tx *store.Tx) error { return tx.AddMember(group, inner) })
		r.must(200, r.do(stranger, "GET", "/secrets/s1/", ""))
		if last := r.lastRecord(); last.Outcome != guard.Allowed || last.Role != "access policy" || last.Assignment != kvID.String()+"/accessPolicies/"+group {
			t.Errorf("the permission is recorded as %+v", last)
		}
		r.write(func(tx *store.Tx) error { _, err := tx.RemoveMember(group, inner); return err })
		r.must(403, r.do(stranger, "GET", "/secrets/s1/", ""))

		app := "00000000-0000-4000-8000-0000000000b1"
		compound := policyFor(stranger, "get")
		compound.ApplicationID = app
		r.putPolicies(compound)
		for by, want := range map[string]bool{app: true, strings.ToUpper(app): true, stranger: false, "": false} {
			_, err := r.Get(context.Background(), az.Principal{ObjectID: stranger, AppID: by, TenantID: tenant, Kind: az.User}, "kv1", "s1", "")
			if (err == nil) != want || err != nil && !az.Is(err, az.Forbidden) {
				t.Errorf("through %q: %v", by, err)
			}
		}
		if _, err := r.Get(context.Background(), az.Principal{ObjectID: user, AppID: app, TenantID: tenant, Kind: az.User}, "kv1", "s1", ""); !az.Is(err, az.Forbidden) {
			t.Errorf("another person through the application: %v", err)
		}
	})
}

// TestPoliciesOnTwoPlanes: a policy taken away on one plane is gone on the other.
func TestPoliciesOnTwoPlanes(t *testing.T) {
	sa, sb := storetest.Pair(t)
	sealer := newSealer(t)
	a := newRigWith(t, sa, sealer).withVault()
	b := newRigWith(t, sb, sealer)
	a.set("s1", "v")
	for range 10 {
		a.putPolicies(policyFor(user, "get"))
		b.must(200, b.do(user, "GET", "/secrets/s1/", ""))
		b.putPolicies()
		a.must(403, a.do(user, "GET", "/secrets/s1/", ""))
		a.must(403, a.do(user, "GET", "/secrets/s1/", ""))
	}
}

func policyJSON(oid, app, kinds string) string {
	return fmt.Sprintf(`{"tenantId":%q,"objectId":%q,"applicationId":%q,"permissions":{%s}}`, tenant, oid, app, kinds)
}

func vaultWith(policies ...string) string {
	return `{"location":"westeurope","properties":{"tenantId":"` + tenant + `","sku":{"family":"A","name":"standard"},"accessPolicies":[` + strings.Join(policies, ",") + `]}}`
}

func TestPoliciesAreValidated(t *testing.T) {
	d := newDoor(t, storetest.Open(t, store.Config{Dir: t.TempDir()}))
	many := make([]string, maxPolicies+1)
	for i := range many {
		many[i] = policyJSON(fmt.Sprintf("00000000-0000-4000-8000-%012d", i), "", "")
	}
	for name, list := range map[string][]string{
		"an unknown word":     {policyJSON(user, "", `"secrets":["got"]`)},
		"a word of keys":      {policyJSON(user, "", `"secrets":["encrypt"]`)},
		"no GUID":             {policyJSON("me", "", "")},
		"no application":      {policyJSON(user, "app", "")},
		"the same twice":      {policyJSON(user, "", ""), policyJSON(strings.ToUpper(user), "", "")},
		"another tenant":      {strings.Replace(policyJSON(user, "", ""), tenant, stranger, 1)},
		"too many":            many,
		"words of wrong form": {policyJSON(user, "", `"secrets":"all"`)},
	} {
		if p := d.ask(owner, "PUT", inG1+"vaults/kv1", vaultWith(list...)); p.status != 400 {
			t.Errorf("%s: %d %.300s", name, p.status, p.raw)
		}
	}
	p := d.want(200, "PUT", inG1+"vaults/kv1", vaultWith(policyJSON(strings.ToUpper(user), "", `"secrets":["GET","get","List"],"keys":["UNWRAPKEY"]`), policyJSON(user, stranger, "")))
	got, _ := json.Marshal(p.Properties["accessPolicies"])
	want := `[{"objectId":"` + user + `","permissions":{"keys":["unwrapKey"],"secrets":["get","list"]},"tenantId":"` + tenant + `"},` +
		`{"applicationId":"` + stranger + `","objectId":"` + user + `","permissions":{},"tenantId":"` + tenant + `"}]`
	if string(got) != want || p.Properties["enableRbacAuthorization"] != false {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	d.want(200, "PUT", inG1+"vaults/kv2", vaultWith(many[:maxPolicies]...))
}

// TestPolicyDocuments: add, replace and remove, and who may.
func TestPolicyDocuments(t *testing.T) {
	d := newDoor(t, storetest.Open(t, store.Config{Dir: t.TempDir()}))
	d.want(200, "PUT", inG1+"vaults/kv1", vaultWith())
	secret := "https://kv1.vault.hawser.test:8443/secrets/s1?api-version=7.4"
	change := func(word, policy string) string {
		p := d.want(200, "PUT", inG1+"vaults/kv1/accessPolicies/"+word, `{"properties":{"accessPolicies":[`+policy+`]}}`)
		if p.Type != "Microsoft.KeyVault/vaults/accessPolicies" {
			t.Errorf("%s: type %s", word, p.Type)
		}
		list, _ := json.Marshal(p.Properties["accessPolicies"])
		var all []accessPolicy
		if err := json.Unmarshal(list, &all); err != nil || len(all) > 1 {
			t.Fatalf("%s: %s", word, p.raw)
		}
		if len(all) == 0 {
			return "none"
		}
		return strings.Join(all[0].Permissions.Secrets, ",") + ";" + strings.Join(all[0].Permissions.Keys, ",")
	}
	for _, c := range []struct {
		word, kinds, want string
		put, get          int
	}{
		{"add", `"secrets":["set"]`, "set;", 200, 403},
		{"add", `"secrets":["get"],"keys":["get"]`, "set,get;get", 200, 200},
		{"remove", `"secrets":["SET"]`, "get;get", 403, 200},
		{"replace", `"secrets":["all"]`, "all;", 200, 200},
		{"remove", `"secrets":["get","purge","delete","recover"]`, "list,set,backup,restore;", 200, 403},
		{"remove", `"secrets":["all"]`, "none", 403, 403},
		{"remove", `"secrets":["all"]`, "none", 403, 403},
	} {
		if got := change(c.word, policyJSON(user, "", c.kinds)); got != c.want {
			t.Errorf("%s %s: %s, want %s", c.word, c.kinds, got, c.want)
		}
		if p := d.send(user, "PUT", secret, `{"value":"v"}`); p.Status != c.put {
			t.Errorf("after %s %s: set answers %d", c.word, c.kinds, p.Status)
		}
		if p := d.send(user, "GET", secret, ""); p.Status != c.get {
			t.Errorf("after %s %s: get answers %d", c.word, c.kinds, p.Status)
		}
	}
	add := `{"properties":{"accessPolicies":[` + policyJSON(reader, "", `"secrets":["all"]`) + `]}}`
	for _, word := range []string{"add", "replace", "remove"} {
		if p := d.ask(reader, "PUT", inG1+"vaults/kv1/accessPolicies/"+word, add); p.status != 403 || !strings.Contains(p.raw, "Microsoft.KeyVault/vaults/accessPolicies/write") {
			t.Errorf("a reader may %s: %s", word, p.raw)
		}
	}
	d.refusal(404, "ResourceNotFound", "PUT", inG1+"vaults/kv9/accessPolicies/add", add)
	d.refusal(400, "BadRequest", "PUT", inG1+"vaults/kv1/accessPolicies/add", `{"properties":{}}`)
	d.refusal(404, "InvalidResourceType", "PUT", inG1+"vaults/kv1/accessPolicies/clear", add)
	// Policies come back with a vault that was deleted.
	d.want(200, "PUT", inG1+"vaults/kv1/accessPolicies/add", strings.ReplaceAll(add, reader, user))
	d.must(200, d.send(user, "PUT", secret, `{"value":"v"}`))
	d.want(200, "DELETE", inG1+"vaults/kv1", "")
	d.must(404, d.send(user, "GET", secret, ""))
	d.want(200, "PUT", inG1+"vaults/kv1", `{"location":"westeurope","properties":{"tenantId":"`+tenant+`","createMode":"recover"}}`)
	d.must(200, d.send(user, "GET", secret, ""))
}

func FuzzPolicies(f *testing.F) {
	f.Add(`[{"objectId":"` + user + `","permissions":{"secrets":["get"]}}]`)
	f.Fuzz(func(t *testing.T, s string) {
		var list []accessPolicy
		if json.Unmarshal([]byte(s), &list) != nil || checkPolicies(list, tenant) != nil {
			return
		}
		body, err := storedPolicies(&properties{AccessPolicies: list})
		if err != nil {
			t.Fatal(err)
		}
		l, err := newLive(store.Vault{Body: body})
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range list {
			_, got := l.policies.holds(a.ObjectID, a.ApplicationID, mayGet)
			want := bitsOf(a.Permissions.Secrets)&mayGet != 0
			if want && !got {
				t.Errorf("%s is stored, but opens nothing", s)
			}
		}
	})
}

// TestWhatPoliciesAnswer: who is named by a policy, and why somebody may.
func TestWhatPoliciesAnswer(t *testing.T) {
	r := sqliteRig(t)
	ctx := context.Background()
	compound := policyFor(stranger, "get")
	compound.ApplicationID = "00000000-0000-4000-8000-0000000000b1"
	r.putPolicies(policyFor(user, "get"), policyFor(group, "all"), compound, accessPolicy{TenantID: tenant, ObjectID: officer, Permissions: permissions{Keys: []string{"get"}}})
	for oid, want := range map[string]bool{user: true, strings.ToUpper(group): true, stranger: true, officer: false, owner: false} {
		if got, err := r.Named(ctx, []string{az.NewGUID(), oid}); err != nil || got != want {
			t.Errorf("%s is named: %v %v", oid, got, err)
		}
	}
	s1 := kvID.Child("secrets", "s1")
	entry := func(holder string) string { return kvID.String() + "/accessPolicies/" + holder }
	for _, c := range []struct {
		oid    string
		groups []string
		a      guard.Action
		at     az.ID
		entry  string
		goes   bool
	}{
		{user, nil, actGet.Action, s1, entry(user), true},
		{strings.ToUpper(user), nil, actGet.Action, kvID, entry(user), true},
		{user, nil, actSet.Action, s1, "", true},
		{user, []string{group}, actSet.Action, s1, entry(group), true},
		{stranger, nil, actGet.Action, s1, "", true},
		{officer, nil, actGet.Action, s1, "", true},
		{user, nil, guard.Control("Microsoft.KeyVault/vaults/read"), kvID, "", false},
		{user, nil, actGet.Action, kvID.Parent(), "", false},
		{user, nil, actGet.Action, az.Root, "", false},
		{user, nil, actGet.Action, kvID.Parent().Child("providers", "Microsoft.KeyVault", "vaults", "none"), "", false},
	} {
		got, goes, err := r.Explain(ctx, c.oid, c.groups, c.a, c.at)
		if err != nil || got != c.entry || goes != c.goes {
			t.Errorf("%s %s at %s: %q %v %v", c.oid, c.a.Name, c.at, got, goes, err)
		}
	}
	r.putVault(store.Vault{Name: "kv1", Serial: 7, ID: kvID, Location: "local", RetentionDays: 90, RBAC: true})
	if got, err := r.Named(ctx, []string{user}); err != nil || got {
		t.Errorf("with roles a policy names: %v %v", got, err)
	}
	if _, goes, err := r.Explain(ctx, user, nil, actGet.Action, s1); err != nil || goes {
		t.Errorf("with roles a policy decides: %v %v", goes, err)
	}
}
