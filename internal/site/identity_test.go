package site

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/rest"
	"github.com/hawser/hawser/internal/store"
	"github.com/hawser/hawser/internal/store/storetest"
)

const vaultAudience = "https://vault.azure.net"

func (r *rig) token(body string) string {
	r.t.Helper()
	return text(r.must(owner, "POST", app1+"/runtimeToken", body), "accessToken")
}

func (r *rig) assignmentsTo(oid string) int {
	r.t.Helper()
	rows, err := r.st.Resources(context.Background(), store.ResourceQuery{Type: guard.RoleAssignmentType})
	if err != nil {
		r.t.Fatal(err)
	}
	n := 0
	for _, row := range rows {
		if strings.Contains(string(row.Body), oid) {
			n++
		}
	}
	return n
}

// TestSystemIdentityLivesAndDies follows the system-assigned identity: it is
// made with the app, and once it is off, nothing of it is left and no token of
// it is accepted.
func TestSystemIdentityLivesAndDies(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		r := newPlane(t, st).withTokens()
		ctx := context.Background()
		first := r.create(systemIdentity, nil)
		oid := text(first, "identity", "principalId")
		o, ok, err := r.dir.Get(ctx, oid)
		if err != nil || !ok || !o.IsManagedIdentity() || o.Name != "app1" || text(first, "identity", "tenantId") != testNames.Tenant {
			t.Fatalf("no principal behind the app: %v %v %v", o, ok, err)
		}
		r.grant(guard.RoleSecretsUser, oid, vaultID)
		token := r.token(`{"resource":"` + vaultAudience + `"}`)
		who, err := r.auth.Verify(ctx, token, rest.Vault)
		if err != nil || who.ObjectID != oid || !who.Identity.Equal(az.MustParseID(app1)) {
			t.Fatalf("the token is not of the app: %+v %v", who, err)
		}
		if again := r.must(owner, "PUT", app1, `{"location":"local","identity":{"type":"SystemAssigned"},"properties":{}}`); text(again, "identity", "principalId") != oid {
			t.Error("writing the app gave it another identity")
		}
		r.must(owner, "PATCH", app1, `{"identity":{"type":"None"}}`)
		if _, ok, _ := r.dir.Get(ctx, oid); ok || r.assignmentsTo(oid) != 0 {
			t.Error("the principal or its assignments are left")
		}
		if _, err := r.auth.Verify(ctx, token, rest.Vault); !az.Is(err, az.Unauthorized) {
			t.Errorf("a token of an identity that is gone was accepted: %v", err)
		}
		r.refused(owner, "POST", app1+"/runtimeToken", `{"resource":"`+vaultAudience+`"}`, 400, "IdentityNotFound")
		second := text(r.must(owner, "PATCH", app1, `{"identity":{"type":"SystemAssigned"}}`), "identity", "principalId")
		if second == "" || second == oid {
			t.Errorf("the new identity is %q, the old was %q", second, oid)
		}
		if _, err := r.auth.Verify(ctx, token, rest.Vault); !az.Is(err, az.Unauthorized) {
			t.Errorf("an old token came back to life: %v", err)
		}
		token = r.token(`{"resource":"` + vaultAudience + `"}`)
		r.must(owner, "DELETE", app1, "")
		if _, ok, _ := r.dir.Get(ctx, second); ok {
			t.Error("deleting the app left its principal")
		}
		if _, err := r.auth.Verify(ctx, token, rest.Vault); !az.Is(err, az.Unauthorized) {
			t.Errorf("a token of a deleted app was accepted: %v", err)
		}
		r.refused(owner, "POST", app1+"/runtimeToken", `{"resource":"`+vaultAudience+`"}`, 404, "")
	})
}

// TestAppNamesAreHostNames: an app's name is there once on a plane, and free
// again when the app is gone.
func TestAppNamesAreHostNames(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		r := newPlane(t, st)
		r.create(systemIdentity, nil)
		other := subscriptionID + "/resourceGroups/other"
		r.must(owner, "PUT", other, `{"location":"local"}`)
		there := other + "/providers/Microsoft.Web/sites/APP1"
		r.refused(owner, "PUT", there, `{"location":"local","properties":{}}`, 409, "Conflict")
		check := subscriptionID + "/providers/Microsoft.Web/checknameavailability"
		if got := r.must(stranger, "POST", check, `{"name":"App1","type":"Site"}`); at(got, "nameAvailable") != false {
			t.Errorf("a taken name is called available: %v", got)
		}
		r.must(owner, "DELETE", groupID, "")
		if got := r.must(stranger, "POST", check, `{"name":"app1","type":"Site"}`); at(got, "nameAvailable") != true {
			t.Errorf("a free name is called taken: %v", got)
		}
		r.must(owner, "PUT", there, `{"location":"local","properties":{}}`)
		for _, bad := range []string{"a", "-ab", "ab-", "a_b", "a.b", strings.Repeat("a", 61)} {
			r.refused(owner, "PUT", other+"/providers/Microsoft.Web/sites/"+bad, `{"location":"local","properties":{}}`, 400, "")
		}
	})
}

func TestUserAssignedIdentities(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		r := newPlane(t, st).withTokens()
		ctx := context.Background()
		id, oid, client := r.userIdentity("Id1")
		body := `{"location":"local","identity":{"type":"SystemAssigned, UserAssigned","userAssignedIdentities":{"` + id.String() + `":{}}},"properties":{}}`
		// A caller who may write apps may not take any identity he likes.
		r.refused(webmaster, "PUT", app1, body, 403, "LinkedAuthorizationFailed")
		if _, ok, _ := st.Resource(ctx, az.MustParseID(app1)); ok {
			t.Fatal("the refused app was made")
		}
		r.grant(roleMIOperator, webmaster, id.String())
		made := r.must(webmaster, "PUT", app1, body)
		if got := text(made, "identity", "userAssignedIdentities", id.String(), "principalId"); got != oid {
			t.Errorf("the identity shows principal %q, want %q", got, oid)
		}
		system := text(made, "identity", "principalId")
		for by, want := range map[string]string{
			``: system, `"clientId":"` + strings.ToUpper(client) + `"`: oid, `"objectId":"` + oid + `"`: oid,
			`"resourceId":"/` + strings.ToUpper(id.String()) + `/"`: oid, `"resourceId":"` + strings.TrimPrefix(id.String(), "/") + `"`: oid,
			`"resourceId":"` + app1 + `"`: system,
		} {
			in := `{"resource":"` + vaultAudience + `"`
			if by != "" {
				in += "," + by
			}
			out := r.must(owner, "POST", app1+"/runtimeToken", in+"}")
			who, err := r.auth.Verify(ctx, text(out, "accessToken"), rest.Vault)
			if err != nil || who.ObjectID != want || text(out, "objectId") != want || text(out, "resource") != vaultAudience {
				t.Errorf("%s: a token of %s (%v), want %s", by, who.ObjectID, err, want)
			}
		}
		_, other, _ := r.userIdentity("other") // exists, but is not the app's
		r.refused(owner, "POST", app1+"/runtimeToken", `{"resource":"x","objectId":"`+other+`"}`, 400, "IdentityNotFound")
		r.refused(owner, "POST", app1+"/runtimeToken", `{"resource":"","clientId":"`+client+`"}`, 400, "InvalidResource")
		r.refused(owner, "PATCH", app1, `{"identity":{"type":"UserAssigned","userAssignedIdentities":{"`+identityBase+`none":{}}}}`, 400, "")

		// The identity has a life of its own: it ends, and the app's token with it.
		env := r.environment(owner, "", 0)
		if len(env.Identities.User) != 1 || env.Identities.System == nil || env.Identities.User[0].ClientID != client {
			t.Errorf("identities are %+v", env.Identities)
		}
		r.write(func(tx *store.Tx) error {
			if err := r.dir.DeleteIdentity(tx, oid); err != nil {
				return err
			}
			_, err := tx.DeleteResource(id)
			return err
		})
		r.refused(owner, "POST", app1+"/runtimeToken", `{"resource":"`+vaultAudience+`","objectId":"`+oid+`"}`, 400, "IdentityNotFound")
		if env := r.environment(owner, "", 0); len(env.Identities.User) != 0 {
			t.Error("an identity that is gone is shown")
		}
		// Deleting the app leaves identities that are not its own.
		r.must(owner, "DELETE", app1, "")
		if _, ok, _ := r.dir.Get(ctx, other); !ok {
			t.Error("deleting an app took another's identity along")
		}
	})
}

// TestNothingIsLeftOfAnApp: who had rights at an app has none at one that is
// made later under the same name, and its settings are gone.
func TestNothingIsLeftOfAnApp(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		r := newPlane(t, st)
		r.create(systemIdentity, map[string]string{"A": "1"})
		r.grant(roleWebsite, stranger, app1)
		if got := r.environment(stranger, "", 0).value("A"); got != "1" {
			t.Fatal(got)
		}
		r.must(owner, "DELETE", app1, "")
		r.create(systemIdentity, nil)
		r.refused(stranger, "POST", app1+"/runtimeEnvironment", `{}`, 403, "AuthorizationFailed")
		if got := r.environment(owner, "", 0).value("A"); got != "(none)" {
			t.Errorf("a new app has the settings of the old: %q", got)
		}
	})
}

func TestTokensAreLimited(t *testing.T) {
	r := newPlane(t, storetest.Open(t, store.Config{Dir: t.TempDir()}), func(c *Config) { c.TokenRate = 3 }).withTokens()
	r.create(systemIdentity, nil)
	in, limited := `{"resource":"`+vaultAudience+`"}`, ""
	for range 50 {
		status, out := r.call(owner, "POST", app1+"/runtimeToken", in)
		if status == 429 {
			limited = out
			break
		}
	}
	if !strings.Contains(limited, `"TooManyRequests"`) {
		t.Fatalf("nobody was stopped: %s", limited)
	}
	r.offset.Add(2e9)
	r.token(in)
}

func TestEnsureSystemIdentity(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		r := newPlane(t, st)
		ctx, id := context.Background(), az.MustParseID(app1)
		uid, _, _ := r.userIdentity("id1")
		r.create(fmt.Sprintf(`{"type":"UserAssigned","userAssignedIdentities":{%q:{}}}`, uid), map[string]string{"A": "1"})
		if _, err := r.EnsureSystemIdentity(ctx, as(reader), id); !az.Is(err, az.Forbidden) {
			t.Errorf("a reader gave an app an identity: %v", err)
		}
		one, err := r.EnsureSystemIdentity(ctx, as(webmaster), id)
		if err != nil || !one.ID.IsRoot() || one.ClientID == "" {
			t.Fatal(one, err)
		}
		two, err := r.EnsureSystemIdentity(ctx, as(webmaster), id)
		if err != nil || one != two {
			t.Errorf("asked twice, it is %v and %v (%v)", one, two, err)
		}
		all, err := r.IdentitiesOf(ctx, as(reader), id)
		if err != nil || len(all) != 2 {
			t.Errorf("identities are %v, %v", all, err)
		}
		for range 2 {
			if err := r.DropSystemIdentity(ctx, as(webmaster), id); err != nil {
				t.Fatal(err)
			}
		}
		if _, ok, _ := r.dir.Get(ctx, one.PrincipalID); ok {
			t.Error("the identity was taken away, and is there")
		}
		if env := r.environment(owner, "", 0); env.value("A") != "1" || env.Identities.System != nil || len(env.Identities.User) != 1 {
			t.Errorf("the app lost its settings: %+v", env)
		}
	})
}
