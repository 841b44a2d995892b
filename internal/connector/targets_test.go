package connector

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/guard"
)

// account is a thing with keys.
type account struct {
	typ, name, body string
	list            string   // action that lists the keys
	renew           string   // action that renews one
	key             string   // body that names the first
	first, second   []string // where they are in the list
	bits            int
}

var accounts = []account{
	{"Microsoft.Storage/storageAccounts", "stor1", `{"location":"local","kind":"StorageV2","sku":{"name":"Standard_LRS"},"properties":{}}`,
		"listKeys", "regenerateKey", `{"keyName":"key1"}`, nil, nil, 512},
	{"Microsoft.DocumentDB/databaseAccounts", "cos1", `{"location":"local","properties":{"databaseAccountOfferType":"Standard","locations":[{"locationName":"local","failoverPriority":0}]}}`,
		"listKeys", "regenerateKey", `{"keyKind":"primary"}`, []string{"primaryMasterKey"}, []string{"secondaryMasterKey"}, 512},
	{"Microsoft.Cache/redis", "red1", `{"location":"local","properties":{"sku":{"name":"Basic","family":"C","capacity":0}}}`,
		"listKeys", "regenerateKey", `{"keyType":"Primary"}`, []string{"primaryKey"}, []string{"secondaryKey"}, 264},
	{"Microsoft.CognitiveServices/accounts", "cog1", `{"location":"local","kind":"OpenAI","sku":{"name":"S0"},"properties":{}}`,
		"listKeys", "regenerateKey", `{"keyName":"Key1"}`, []string{"key1"}, []string{"key2"}, 0},
}

func (a account) id() string { return group + "/providers/" + a.typ + "/" + a.name }

func (a account) keys(r *rig) (first, second string) {
	r.t.Helper()
	out := r.must(boss, "POST", a.id()+"/"+a.list, "")
	if a.first != nil {
		return text(out, a.first...), text(out, a.second...)
	}
	keys, _ := out["keys"].([]any)
	if len(keys) != 2 {
		r.t.Fatalf("%s has the keys %v", a.typ, out)
	}
	return text(keys[0], "value"), text(keys[1], "value")
}

// TestKeys: keys are random, shown to those who may list them and to nobody
// else, and one is renewed without the other.
func TestKeys(t *testing.T) {
	eachPlane(t, func(t *testing.T, r *rig) {
		for _, a := range accounts {
			made := r.must(boss, "PUT", a.id(), a.body)
			one, two := a.keys(r)
			if one == "" || one == two {
				t.Errorf("%s: the keys are %q and %q", a.typ, one, two)
			}
			if b, err := base64.StdEncoding.DecodeString(one); a.bits != 0 && (err != nil || 8*len(b) != a.bits) {
				t.Errorf("%s: the key has %d bits: %v", a.typ, 8*len(b), err)
			}
			again := r.must(boss, "PUT", a.id(), a.body)
			list := r.must(reader, "GET", group+"/providers/"+a.typ, "")
			for what, v := range map[string]any{"the reply to PUT": made, "a second PUT": again, "GET": r.must(reader, "GET", a.id(), ""), "a list": list} {
				if s := fmt.Sprint(v); strings.Contains(s, one) || strings.Contains(s, two) {
					t.Errorf("%s: %s holds a key", a.typ, what)
				}
			}
			if now, _ := a.keys(r); now != one {
				t.Errorf("%s: a PUT changed a key", a.typ)
			}
			r.refused(reader, "POST", a.id()+"/"+a.list, "", 403, "AuthorizationFailed")
			r.refused(reader, "POST", a.id()+"/"+a.renew, a.key, 403, "AuthorizationFailed")
			r.refused(stranger, "GET", a.id(), "", 403, "AuthorizationFailed")
			r.must(boss, "POST", a.id()+"/"+a.renew, a.key)
			if new1, new2 := a.keys(r); new1 == one || new1 == "" || new2 != two {
				t.Errorf("%s: after a renewal the keys are %q and %q; were %q and %q", a.typ, new1, new2, one, two)
			}
			if status, _ := r.call(boss, "POST", a.id()+"/"+a.renew, `{"keyName":"key3","keyKind":"x","keyType":"x"}`); status != 400 {
				t.Errorf("%s: a key of no name was renewed: %d", a.typ, status)
			}
			if rows := r.records(a.typ+"/"+a.list+"/action", guard.Refused); len(rows) != 1 {
				t.Errorf("%s: %d refusals are recorded", a.typ, len(rows))
			}
			r.must(boss, "DELETE", a.id(), "")
			if left, err := r.st.ResourcesWithin(t.Context(), az.MustParseID(a.id())); err != nil || len(left) != 0 {
				t.Errorf("%s: a deletion left %v, %v", a.typ, left, err)
			}
		}
	})
}

// TestTargetNames: names are host names, one for the whole plane.
func TestTargetNames(t *testing.T) {
	onePlane(t, func(t *testing.T, r *rig) {
		second := subscription + "/resourceGroups/second"
		r.must(boss, "PUT", second, `{"location":"local"}`)
		sql := account{typ: SQLServerType, name: "sql1", body: `{"location":"local","properties":{"administratorLogin":"boss","administratorLoginPassword":"Secret.1234"}}`}
		mysql := account{typ: MySQLServerType, name: "my1", body: sql.body}
		for _, a := range append(accounts, sql, mysql) {
			made := r.must(boss, "PUT", a.id(), a.body)
			if strings.Contains(fmt.Sprint(made), "Secret.1234") {
				t.Errorf("%s: the reply holds the password", a.typ)
			}
			if status, out := r.call(boss, "PUT", second+"/providers/"+a.typ+"/"+a.name, a.body); status != 409 {
				t.Errorf("%s: a name was given twice: %d %s", a.typ, status, out)
			}
			for _, bad := range []string{"a_b", "-a", "a.b", strings.Repeat("a", 70)} {
				if status, out := r.call(boss, "PUT", group+"/providers/"+a.typ+"/"+bad, a.body); status != 400 {
					t.Errorf("%s: the name %q: %d %s", a.typ, bad, status, out)
				}
			}
		}
		storage := subscription + "/providers/Microsoft.Storage/checkNameAvailability"
		for name, want := range map[string]any{"stor1": false, "stor2": true, "No": false} {
			if got := r.must(boss, "POST", storage, `{"name":"`+name+`","type":"Microsoft.Storage/storageAccounts"}`); got["nameAvailable"] != want {
				t.Errorf("storage %s: %v", name, got)
			}
		}
	})
}

// TestTargetParts: what cannot be without its whole, and what is refused.
func TestTargetParts(t *testing.T) {
	onePlane(t, func(t *testing.T, r *rig) {
		storage, cosmos := accounts[0], accounts[1]
		r.must(boss, "PUT", storage.id(), storage.body)
		blobs := storage.id() + "/blobServices/default"
		r.must(reader, "GET", blobs, "")
		r.refused(boss, "DELETE", blobs, "", 400, "CannotDelete")
		r.must(boss, "PUT", blobs+"/containers/pictures", `{"properties":{}}`)
		r.refused(boss, "PUT", blobs+"/containers/open", `{"properties":{"publicAccess":"Blob"}}`, 409, "PublicAccessNotPermitted")
		r.refused(boss, "PUT", blobs+"/containers/Bad", `{"properties":{}}`, 400, "InvalidResourceName")
		if status, out := r.call(boss, "POST", storage.id()+"/listAccountSas", `{}`); status == 200 || !strings.Contains(out, "NotSupported") {
			t.Errorf("listAccountSas: %d %s", status, out)
		}

		r.must(boss, "PUT", cosmos.id(), cosmos.body)
		const reads = "00000000-0000-0000-0000-000000000001"
		r.refused(boss, "DELETE", cosmos.id()+"/sqlRoleDefinitions/"+reads, "", 400, "CannotDelete")
		r.refused(boss, "PUT", cosmos.id()+"/sqlRoleDefinitions/"+reads, `{"properties":{"roleName":"x","permissions":[{"dataActions":["Microsoft.DocumentDB/databaseAccounts/*"]}]}}`, 400, "BadRequest")
		ann := r.user("ann")
		assign := func(role, scope, who string) (int, string) {
			return r.call(boss, "PUT", cosmos.id()+"/sqlRoleAssignments/"+az.NewGUID(), fmt.Sprintf(`{"properties":{"roleDefinitionId":%q,"scope":%q,"principalId":%q}}`, role, scope, who))
		}
		good := cosmos.id() + "/sqlRoleDefinitions/" + reads
		for _, x := range []struct {
			role, scope, who string
			status           int
		}{
			{good, cosmos.id(), ann, 200}, {reads, "/", ann, 200}, {good, cosmos.id() + "/dbs/shop/colls/c", ann, 200},
			{good, cosmos.id(), az.NewGUID(), 400}, {az.NewGUID(), "/", ann, 404}, {good, "/subscriptions/x", ann, 400},
			{strings.Replace(good, "cos1", "cos2", 1), "/", ann, 400},
		} {
			if status, out := assign(x.role, x.scope, x.who); status != x.status {
				t.Errorf("%s at %s to %s: %d %s", x.role, x.scope, x.who, status, out)
			}
		}
		r.must(boss, "PUT", cosmos.id()+"/sqlDatabases/shop", `{"properties":{"resource":{"id":"shop"}}}`)
		r.refused(boss, "PUT", cosmos.id()+"/sqlDatabases/shop/containers/c", `{"properties":{"resource":{"id":"c"}}}`, 400, "BadRequest")
		r.must(boss, "PUT", cosmos.id()+"/sqlDatabases/shop/containers/c", `{"properties":{"resource":{"id":"c","partitionKey":{"paths":["/id"]}}}}`)
		r.refused(boss, "PUT", cosmos.id()+"/sqlDatabases/shop/containers/c", `{"properties":{"resource":{"id":"c","partitionKey":{"paths":["/other"]}}}}`, 400, "BadRequest")
		r.must(boss, "DELETE", group, "") // everything goes
	})
}
