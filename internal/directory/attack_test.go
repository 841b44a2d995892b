package directory

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/guard"
)

// TestPlatformsOwnStay: who may write all applications cannot lock everybody
// out by the platform's own resources and clients.
func TestPlatformsOwnStay(t *testing.T) {
	w, g := sqlite(t)
	if err := w.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	graph, arm, cli, vault := "/servicePrincipals/"+w.firstPartyID(AppGraph), "/servicePrincipals/"+w.firstPartyID(AppARM), "/servicePrincipals/"+w.firstPartyID(AppAzureCLI), "/servicePrincipals/"+w.firstPartyID(AppKeyVault)
	admin := az.Principal{ObjectID: az.NewGUID(), Kind: az.ServicePrincipal, Roles: []string{"Application.ReadWrite.All"}}
	for _, c := range []struct {
		as     az.Principal
		path   string
		body   object
		status int
	}{
		{admin, vault, object{"accountEnabled": false}, 403},
		{admin, cli, object{"accountEnabled": false}, 403},
		{admin, cli, object{"notes": "x"}, 403},
		{admin, graph, object{"appRoleAssignmentRequired": true}, 400},
		{w.owner, graph, object{"accountEnabled": false}, 400},
		{w.owner, arm, object{"accountEnabled": false}, 400},
		{w.owner, cli, object{"appRoleAssignmentRequired": true}, 400},
		{w.owner, cli, object{"accountEnabled": false}, 204},
		{w.owner, cli, object{"accountEnabled": true}, 204},
	} {
		g.as = c.as
		if status, out := g.call("PATCH", c.path, c.body); status != c.status {
			t.Errorf("%s %v: %d, want %d: %v", c.path, c.body, status, c.status, out)
		}
	}
}

// TestOwnedByMakesNoOthersPrincipal: Application.ReadWrite.OwnedBy is no way to
// a secret of an application that somebody else owns.
func TestOwnedByMakesNoOthersPrincipal(t *testing.T) {
	w, g := sqlite(t)
	app := g.want(201, "POST", "/applications", object{"displayName": "somebody's"})
	robot := g.want(201, "POST", "/applications", object{"displayName": "robot"})
	oid := g.want(201, "POST", "/servicePrincipals", object{"appId": robot["appId"]})["id"].(string)
	g.as = az.Principal{ObjectID: oid, AppID: robot["appId"].(string), Kind: az.ServicePrincipal, Roles: []string{"Application.ReadWrite.OwnedBy"}}
	g.want(403, "POST", "/servicePrincipals", object{"appId": app["appId"]})
	mine := g.want(201, "POST", "/applications", object{"displayName": "mine"})
	sp := g.want(201, "POST", "/servicePrincipals", object{"appId": mine["appId"]})
	g.want(200, "POST", "/servicePrincipals/"+sp["id"].(string)+"/addPassword", nil)
	g.as = w.owner
	g.want(201, "POST", "/servicePrincipals", object{"appId": app["appId"]})
}

// TestLookAlikes: nobody can be given a name that looks like another's, and no
// application a URI that begins like another's.
func TestLookAlikes(t *testing.T) {
	w, g := sqlite(t)
	w.user("admin")
	for _, upn := range []string{"\u0430dmin@hawser.localhost", "ADMIN@HAWSER.localhost", "admin@hawser.localhost.", "admin@hawser.localhost\u200b", "admin\u200d@hawser.localhost",
		"\uff41dmin@hawser.localhost", "adm\u0131n@hawser.localhost", "admin @hawser.localhost", "admin.@hawser.localhost", "admin@hawser..localhost", "a/../b@hawser.localhost",
		"a\u0308dmin@x", "admin@haw\u017fer.localhost", "\"admin\"@hawser.localhost", "<b>@hawser.localhost"} {
		if status, out := g.call("POST", "/users", object{"displayName": "x", "userPrincipalName": upn, "mailNickname": "x", "accountEnabled": true, "passwordProfile": object{"password": "long enough"}}); status != 400 {
			t.Errorf("%q is taken: %d %v", upn, status, out)
		}
	}
	other := g.want(201, "POST", "/applications", object{"displayName": "other"})["appId"].(string)
	app := g.want(201, "POST", "/applications", object{"displayName": "app"})
	for uri, status := range map[string]int{"api://" + other: 400, "api://" + other + "/": 400, "api://" + strings.ToUpper(other) + "/x": 400, "api://" + other + "/" + other: 400,
		"https://vault.azure.net.": 400, "HTTPS://VAULT.AZURE.NET./": 400,
		"api://" + app["appId"].(string): 204, "api://" + w.cfg.Names.Tenant + "/" + app["appId"].(string): 204, "api://" + app["appId"].(string) + "/x": 204, "api://name": 204} {
		if got, out := g.call("PATCH", "/applications/"+app["id"].(string), object{"identifierUris": []string{uri}}); got != status {
			t.Errorf("%s: %d %v", uri, got, out)
		}
	}
}

// TestBoundedProfiles: what nobody decides by is bounded all the same.
func TestBoundedProfiles(t *testing.T) {
	w, g := sqlite(t)
	id, _ := w.user("ann")
	many := make([]string, 200)
	for name, body := range map[string]object{
		"long": {"jobTitle": strings.Repeat("x", 5000)}, "control": {"city": "a\x00b"}, "phones": {"businessPhones": many}, "a phone": {"businessPhones": []string{strings.Repeat("1", 100)}},
	} {
		if status, out := g.call("PATCH", "/users/"+id, body); status != 400 {
			t.Errorf("%s: %d %v", name, status, out)
		}
	}
	app := g.want(201, "POST", "/applications", object{"displayName": "app"})
	g.want(400, "POST", "/applications/"+app["id"].(string)+"/federatedIdentityCredentials",
		object{"name": "n", "issuer": "https://i", "subject": "s", "audiences": []any{"a"}, "description": strings.Repeat("x", 5000)})
}

// TestNamedByLists: an object that a vault's access policies name is as
// guarded as one that holds a role, and so is what leads to it.
func TestNamedByLists(t *testing.T) {
	w, g := sqlite(t)
	outer, inner := w.group("outer"), w.group("inner")
	w.addMembers(outer, inner)
	ann, _ := w.user("ann")
	bob, _ := w.user("bob")
	w.addMembers(inner, ann)
	admin := az.Principal{ObjectID: az.NewGUID(), Kind: az.ServicePrincipal, Roles: []string{"Group.ReadWrite.All", "User.ReadWrite.All"}}
	for _, named := range []bool{true, false} {
		w.cfg.Named = func(_ context.Context, oids []string) (bool, error) {
			return named && slices.Contains(oids, outer), nil
		}
		status := map[bool]int{true: 403, false: 204}[named]
		g.as = admin
		g.want(status, "PATCH", "/users/"+ann, object{"passwordProfile": object{"password": "long enough"}})
		g.want(status, "POST", "/groups/"+inner+"/members/$ref", object{"@odata.id": "x/" + bob})
		if named { // who is in none of it
			g.want(204, "PATCH", "/users/"+bob, object{"passwordProfile": object{"password": "long enough"}})
		}
	}
}

// TestGroupsTellNoProfiles: who may look at groups sees of their members no more
// than anybody's basic profile.
func TestGroupsTellNoProfiles(t *testing.T) {
	w, g := sqlite(t)
	group := w.group("g")
	ann, _ := w.user("ann")
	boss, asBoss := w.user("boss")
	w.role(boss, guard.RoleOwner, "/")
	w.addMembers(group, ann)
	g.want(204, "PATCH", "/users/"+ann, object{"mobilePhone": "+49 123", "department": "secret work"})
	paths := []string{"/groups/" + group + "/members?$select=id,displayName,mobilePhone,department", "/groups/" + group + "/members/microsoft.graph.user?$select=id,displayName,mobilePhone,department",
		"/groups/" + group + "/transitiveMembers?$select=id,displayName,mobilePhone", "/groups?$expand=members($select=id,displayName,mobilePhone)", "/groups/" + group + "?$expand=members($select=id,displayName,mobilePhone)"}
	robot := func(roles ...string) az.Principal {
		return az.Principal{ObjectID: az.NewGUID(), Kind: az.ServicePrincipal, Roles: roles}
	}
	person := func(scopes ...string) az.Principal { p := asBoss; p.Scopes = scopes; return p }
	for _, c := range []struct {
		as   az.Principal
		full bool
	}{{robot("GroupMember.Read.All"), false}, {robot("Group.ReadWrite.All"), false}, {robot("Group.Read.All", "User.Read.All"), true}, {robot("Directory.Read.All"), true}, {w.owner, true},
		{person("Group.Read.All"), false}, {person("Group.Read.All", "User.Read.All"), true}, {person(asUser), true}} {
		g.as = c.as
		for _, path := range paths {
			all, err := json.Marshal(g.want(200, "GET", strings.ReplaceAll(path, " ", "%20"), nil))
			if err != nil || strings.Contains(string(all), "+49 123") != c.full || !strings.Contains(string(all), "ANN") {
				t.Errorf("%v %v: %s gives %s", c.as.Roles, c.as.Scopes, path, all)
			}
		}
	}
	g.as = robot("Group.Read.All")
	for _, query := range []string{"$filter=startswith(department,'secret')", "$filter=accountEnabled%20eq%20true", "$orderby=createdDateTime"} { // nor by asking about them
		g.want(400, "GET", "/groups/"+group+"/members/microsoft.graph.user?"+query, nil)
	}
	g.want(200, "GET", "/groups/"+group+"/members/microsoft.graph.user?$filter=startswith(displayName,'ANN')", nil)
	all, err := json.Marshal(g.want(200, "POST", "/directoryObjects/getByIds", object{"ids": []string{ann}}))
	if err != nil || strings.Contains(string(all), "+49 123") || !strings.Contains(string(all), "ANN") {
		t.Errorf("getByIds gives %s", all)
	}
}

// TestScansAreFew: filters that the store cannot answer read every object; a
// few at a time do, and the others are told to come again.
func TestScansAreFew(t *testing.T) {
	w, g := sqlite(t)
	w.user("ann")
	var release []func()
	for range maxScans {
		r, err := w.beginScan(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		release = append(release, r)
	}
	const scan = "/users?$filter=startswith(department,'x')"
	for _, path := range []string{scan, "/users/$count?$filter=startswith(department,'x')"} {
		if status, out := g.call("GET", path, nil); status != 429 {
			t.Errorf("%s: %d %v", path, status, out)
		}
	}
	g.want(200, "GET", "/users?$filter=startswith(displayName,'a')&$count=true", nil) // by the index
	for _, r := range release {
		r()
	}
	g.want(200, "GET", scan+"&$count=true", nil)
}
