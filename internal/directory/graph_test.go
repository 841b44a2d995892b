package directory

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/store"
	"github.com/hawser/hawser/internal/store/storetest"
)

func escape(s string) string { return url.QueryEscape(s) }

// text gets what is no JSON.
func (g *graph) text(path string) string {
	g.w.t.Helper()
	req, _ := http.NewRequest("GET", g.srv.URL+"/v1.0"+path, nil)
	req.Header.Set("ConsistencyLevel", "eventual")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		g.w.t.Fatal(err)
	}
	defer res.Body.Close()
	b, _ := io.ReadAll(res.Body)
	return string(b)
}

// oldPassword is hashed once: hashing takes its time by design.
var oldPassword = sync.OnceValue(func() string { return HashPassword(az.NewSecret("old password")) })

// user makes a person and the principal of a token for some scopes.
func (w *world) user(upn string, scopes ...string) (string, az.Principal) {
	var id string
	w.write(func(tx *store.Tx) error {
		o, err := w.AddUser(tx, Object{Name: strings.ToUpper(upn), UPN: upn + "@hawser.localhost", Enabled: true}, oldPassword())
		if err == nil {
			id = o.ID
		}
		return err
	})
	return id, az.Principal{ObjectID: id, AppID: az.NewGUID(), Kind: az.User, Scopes: scopes}
}

// role gives a principal a role of the control plane.
func (w *world) role(oid, role, scope string) {
	w.write(func(tx *store.Tx) error {
		body := `{"properties":{"roleDefinitionId":"/providers/Microsoft.Authorization/roleDefinitions/` + role + `","principalId":"` + oid + `"}}`
		return tx.PutResource(store.Resource{ID: az.MustParseID(scope + "/providers/Microsoft.Authorization/roleAssignments/" + az.NewGUID()), ETag: "1", Body: []byte(body)}, "")
	})
}

func (w *world) addMembers(group string, members ...string) {
	for _, m := range members {
		w.write(func(tx *store.Tx) error { return w.AddMember(tx, group, m) })
	}
}

func sqlite(t *testing.T) (*world, *graph) {
	w := newWorld(t, storetest.Open(t, store.Config{Dir: t.TempDir()}))
	return w, newGraph(w)
}

func TestMe(t *testing.T) {
	w, g := sqlite(t)
	ann, asAnn := w.user("ann", "User.Read", "openid")
	bob, _ := w.user("bob")
	inner, outer := w.group("inner"), w.group("outer")
	w.addMembers(inner, ann)
	w.addMembers(outer, inner, bob)
	g.as = asAnn
	me := g.want(200, "GET", "/me", nil)
	if me["id"] != ann || me["@odata.context"] != "https://graph.hawser.localhost:8443/v1.0/$metadata#users/$entity" {
		t.Errorf("me is %v", me)
	}
	if got := g.want(200, "GET", "/me?$select=displayName", nil); got["displayName"] != "ANN" || got["id"] != nil {
		t.Errorf("selected %v", got)
	}
	if got := ids(g.want(200, "GET", "/me/memberOf", nil)); len(got) != 1 || got[0] != inner {
		t.Errorf("memberOf %v", got)
	}
	if got := ids(g.want(200, "GET", "/me/transitiveMemberOf/microsoft.graph.group?$count=true", nil)); len(got) != 2 {
		t.Errorf("transitiveMemberOf %v", got)
	}
	if got := g.want(200, "POST", "/me/getMemberObjects", object{"securityEnabledOnly": true})["value"].([]any); len(got) != 2 {
		t.Errorf("getMemberObjects %v", got)
	}
	if got := g.want(200, "POST", "/me/checkMemberGroups", object{"groupIds": []any{outer, az.NewGUID()}})["value"].([]any); len(got) != 1 || got[0] != outer {
		t.Errorf("checkMemberGroups %v", got)
	}
	g.want(200, "GET", "/users/"+ann, nil)
	g.want(200, "GET", "/users/ANN@hawser.localhost", nil)
	g.want(403, "GET", "/users/"+bob, nil)
	g.want(403, "GET", "/users", nil)
	g.want(403, "GET", "/users/"+bob+"/memberOf", nil)
	g.want(403, "GET", "/groups", nil)
	g.want(403, "PATCH", "/me", object{"displayName": "King"})
	g.want(403, "POST", "/me/changePassword", object{"currentPassword": "old password", "newPassword": "new password"})
	g.as = w.owner
	g.want(400, "GET", "/me", nil)
}

func TestPasswordsByGraph(t *testing.T) {
	w, g := sqlite(t)
	ctx := context.Background()
	ann, asAnn := w.user("ann", "Directory.AccessAsUser.All")
	bob, _ := w.user("bob")
	g.as = asAnn
	right := func(user, password string, want bool) {
		t.Helper()
		if got, err := w.CheckPassword(ctx, user, az.NewSecret(password)); err != nil || got != want {
			t.Errorf("%q: %v %v", password, got, err)
		}
	}
	g.want(400, "POST", "/me/changePassword", object{"currentPassword": "wrong", "newPassword": "new password"})
	g.want(400, "POST", "/me/changePassword", object{"currentPassword": "old password", "newPassword": "short"})
	g.want(204, "POST", "/me/changePassword", object{"currentPassword": "old password", "newPassword": "new password"})
	right(ann, "new password", true)
	right(ann, "old password", false)
	if o, _, _ := w.Get(ctx, ann); o.ValidFrom == 0 {
		t.Error("a changed password ends no session")
	}
	g.want(403, "POST", "/users/"+bob+"/changePassword", object{"currentPassword": "old password", "newPassword": "new password"})
	g.want(200, "POST", "/me/revokeSignInSessions", nil)
	for range wrongPasswords {
		g.call("POST", "/me/changePassword", object{"currentPassword": "wrong", "newPassword": "newer password"})
	}
	g.want(429, "POST", "/me/changePassword", object{"currentPassword": "new password", "newPassword": "newer password"})
	w.now = w.now.Add(wrongWindow + time.Second)
	g.want(204, "POST", "/me/changePassword", object{"currentPassword": "new password", "newPassword": "newer password"})
	g.as = w.owner
	g.want(204, "PATCH", "/users/"+bob, object{"passwordProfile": object{"password": "given by admin"}, "jobTitle": "Clerk", "department": nil})
	right(bob, "given by admin", true)
	if o, _, _ := w.Get(ctx, bob); !o.MustChange || o.ValidFrom == 0 || o.Profile["jobTitle"] != "Clerk" {
		t.Errorf("bob is %+v", o)
	}
	g.want(400, "PATCH", "/users/"+bob, object{"jobTitle": 5})
	g.want(204, "PATCH", "/users/"+bob, object{"accountEnabled": false})
	if o, _, _ := w.Get(ctx, bob); o.Enabled {
		t.Error("bob is enabled")
	}
	made := g.want(201, "POST", "/users", object{"displayName": "Cy", "userPrincipalName": "cy@hawser.localhost", "accountEnabled": true, "mailNickname": "cy",
		"passwordProfile": object{"password": "long enough", "forceChangePasswordNextSignIn": false}})
	if o, _, _ := w.Get(ctx, made["id"].(string)); o.MustChange {
		t.Error("cy must change the password")
	}
	g.want(400, "POST", "/users", object{"displayName": "Cy", "userPrincipalName": "CY@hawser.localhost", "passwordProfile": object{"password": "long enough"}})
	g.want(400, "POST", "/users", object{"displayName": "Dee", "userPrincipalName": "dee@hawser.localhost"})
}

// A token opens what its scopes say and its person may; never more of either.
func TestScopesAndRights(t *testing.T) {
	w, g := sqlite(t)
	ann, _ := w.user("ann")
	bob, asBob := w.user("bob")
	w.role(ann, guard.RoleOwner, "/")
	w.role(bob, guard.RoleReader, "/subscriptions/s")
	app := g.want(201, "POST", "/applications", object{"displayName": "a"})["id"].(string)
	group := w.group("g")
	as := func(oid string, scopes ...string) az.Principal {
		return az.Principal{ObjectID: oid, AppID: az.NewGUID(), Kind: az.User, Scopes: scopes}
	}
	service := func(roles ...string) az.Principal {
		return az.Principal{ObjectID: az.NewGUID(), AppID: az.NewGUID(), Kind: az.ServicePrincipal, Roles: roles}
	}
	for _, c := range []struct {
		name   string
		as     az.Principal
		method string
		path   string
		body   any
		status int
	}{
		{"owner without the scope", as(ann, "User.Read"), "GET", "/users", nil, 403},
		{"owner with the scope", as(ann, "User.Read.All"), "GET", "/users", nil, 200},
		{"owner, reading scope", as(ann, "Group.Read.All"), "PATCH", "/groups/" + group, object{"description": "x"}, 403},
		{"owner, writing scope", as(ann, "Group.ReadWrite.All"), "PATCH", "/groups/" + group, object{"description": "x"}, 204},
		{"owner, as himself", as(ann, asUser), "PATCH", "/applications/" + app, object{"notes": "x"}, 204},
		{"reader with the scope", as(bob, "User.Read.All"), "GET", "/users", nil, 200},
		{"reader, writing scope", as(bob, "User.ReadWrite.All", asUser), "PATCH", "/users/" + bob, object{"displayName": "x"}, 403},
		{"reader, writing scope", as(bob, "Application.ReadWrite.All"), "POST", "/applications/" + app + "/addPassword", nil, 403},
		{"nobody", as(az.NewGUID(), "User.Read.All"), "GET", "/users", nil, 403},
		{"no scopes at all", as(ann), "GET", "/users", nil, 403},
		{"no scopes at all", as(ann), "GET", "/me", nil, 403},
		{"app without a role", service(), "GET", "/users", nil, 403},
		{"app with a role", service("User.Read.All"), "GET", "/users", nil, 200},
		{"app with another", service("User.Read.All"), "GET", "/groups", nil, 403},
		{"app, reading role", service("Directory.Read.All"), "POST", "/groups", object{"displayName": "x"}, 403},
		{"app, writing role", service("Group.Create"), "POST", "/groups", object{"displayName": "x"}, 201},
		{"app with a person's scope", az.Principal{ObjectID: az.NewGUID(), Kind: az.ServicePrincipal, Scopes: []string{"User.Read.All"}}, "GET", "/users", nil, 403},
		{"person with an app's role", az.Principal{ObjectID: ann, Kind: az.User, Roles: []string{"User.Read.All"}}, "GET", "/users", nil, 403},
		{"anybody", as(az.NewGUID()), "GET", "/organization", nil, 200},
	} {
		g.as = c.as
		if status, out := g.call(c.method, c.path, c.body); status != c.status {
			t.Errorf("%s: %s %s: %d, want %d: %v", c.name, c.method, c.path, status, c.status, out)
		}
	}
	// Basic profiles show no more and can be asked for by no more.
	g.as = az.Principal{ObjectID: asBob.ObjectID, Kind: az.User, Scopes: []string{"User.ReadBasic.All"}}
	seen := g.want(200, "GET", "/users/"+ann, nil)
	if _, there := seen["accountEnabled"]; there || seen["displayName"] != "ANN" {
		t.Errorf("a basic profile is %v", seen)
	}
	g.want(400, "GET", "/users?$filter="+escape("accountEnabled eq true"), nil)
	g.want(400, "GET", "/users?$expand=memberOf", nil)
	for _, u := range g.want(200, "GET", "/users?$select=id,accountEnabled", nil)["value"].([]any) {
		if _, there := u.(object)["accountEnabled"]; there {
			t.Errorf("a basic profile is %v", u)
		}
	}
	assertRefused(t, w, "the token holds no scope that allows it")
}

// assertRefused finds a refusal in the audit log.
func assertRefused(t *testing.T, w *world, reason string) {
	t.Helper()
	found := false
	err := w.cfg.Guard.Audit().Each(context.Background(), 0, func(_ []byte, r guard.Record) bool {
		found = found || r.Outcome == guard.Refused && r.Reason == reason
		return !found
	})
	if err != nil || !found {
		t.Errorf("no record of a refusal because %s: %v", reason, err)
	}
}
