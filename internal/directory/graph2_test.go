package directory

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/store"
)

func TestGroupsByGraph(t *testing.T) {
	each(t, func(w *world) {
		g, t := newGraph(w), w.t
		ann, asAnn := w.user("ann", "Group.ReadWrite.All")
		bob, _ := w.user("bob")
		ref := func(id string) object {
			return object{"@odata.id": "https://graph.microsoft.com/v1.0/directoryObjects/" + id}
		}
		outer := g.want(201, "POST", "/groups", object{"displayName": "outer", "mailNickname": "o", "mailEnabled": false, "securityEnabled": true,
			"owners@odata.bind": []any{"https://x/v1.0/users/" + ann}, "members@odata.bind": []any{"https://x/v1.0/users/" + bob}})["id"].(string)
		inner := w.group("inner")
		g.want(204, "PATCH", "/groups/"+outer, object{"members@odata.bind": []any{"https://x/v1.0/directoryObjects/" + inner}, "description": "all"})
		g.want(204, "POST", "/groups/"+inner+"/members/$ref", ref(ann))
		g.want(400, "POST", "/groups/"+inner+"/members/$ref", ref(outer)) // a circle
		g.want(400, "POST", "/groups/"+inner+"/members/$ref", ref(inner))
		g.want(404, "POST", "/groups/"+inner+"/members/$ref", ref(az.NewGUID()))
		g.want(400, "POST", "/groups/"+inner+"/members/$ref", object{"@odata.id": "https://x/"})
		g.want(400, "POST", "/groups", object{"displayName": "m", "groupTypes": []any{"Unified"}})
		for path, want := range map[string][]string{
			"/groups/" + outer + "/members":                                                   {bob, inner},
			"/groups/" + outer + "/members/microsoft.graph.user":                              {bob},
			"/groups/" + outer + "/members/microsoft.graph.group":                             {inner},
			"/groups/" + outer + "/members/microsoft.graph.device":                            {},
			"/groups/" + outer + "/transitiveMembers":                                         {ann, bob, inner},
			"/groups/" + outer + "/transitiveMembers/microsoft.graph.user?$top=9":             {ann, bob},
			"/groups/" + inner + "/memberOf":                                                  {outer},
			"/groups/" + outer + "/owners":                                                    {ann},
			"/users/" + ann + "/transitiveMemberOf":                                           {inner, outer},
			"/users/" + ann + "/ownedObjects":                                                 {outer},
			"/groups/" + outer + "/members?$filter=" + escape("startswith(displayName,'in')"): {inner},
		} {
			got := map[string]bool{}
			for _, id := range ids(g.want(200, "GET", path, nil)) {
				got[id] = true
			}
			wanted := map[string]bool{}
			for _, id := range want {
				wanted[id] = true
			}
			if d := cmp.Diff(wanted, got); d != "" {
				t.Errorf("%s: %s", path, d)
			}
		}
		if n := g.text("/groups/" + outer + "/transitiveMembers/microsoft.graph.user/$count"); n != "2" {
			t.Errorf("counted %s", n)
		}
		shown := g.want(200, "GET", "/groups?$expand=members($select=id)&$filter="+escape("displayName eq 'outer'")+"&$count=true", nil)
		members := shown["value"].([]any)[0].(object)["members"].([]any)
		if len(members) != 2 || len(members[0].(object)) != 2 || shown["@odata.count"] != 1.0 {
			t.Errorf("expanded %v", shown)
		}
		if got := g.want(200, "POST", "/directoryObjects/"+ann+"/checkMemberGroups", object{"groupIds": []any{outer}})["value"].([]any); len(got) != 1 {
			t.Errorf("checkMemberGroups %v", got)
		}
		// An owner manages his group's members; nobody else does by a scope alone.
		g.as = asAnn
		g.want(204, "DELETE", "/groups/"+outer+"/members/"+bob+"/$ref", nil)
		g.want(204, "POST", "/groups/"+outer+"/members/$ref", ref(bob))
		g.want(403, "POST", "/groups/"+inner+"/members/$ref", ref(bob))
		g.want(403, "POST", "/groups", object{"displayName": "mine"})
		// As soon as the group may do something, only those who hand out rights do.
		w.role(outer, guard.RoleReader, "/subscriptions/s")
		g.want(403, "POST", "/groups/"+outer+"/members/$ref", ref(ann))
		g.want(403, "POST", "/groups/"+outer+"/owners/$ref", ref(bob))
		g.want(403, "DELETE", "/groups/"+outer, nil)
		g.as = az.Principal{ObjectID: az.NewGUID(), Kind: az.ServicePrincipal, Roles: []string{"Group.ReadWrite.All", "GroupMember.ReadWrite.All"}}
		g.want(403, "POST", "/groups/"+inner+"/members/$ref", ref(bob)) // inner is in outer
		g.want(403, "PATCH", "/groups/"+inner, object{"members@odata.bind": []any{"x/" + bob}})
		g.as = w.owner
		g.want(204, "DELETE", "/groups/"+outer+"/owners/"+ann+"/$ref", nil)
		g.want(404, "DELETE", "/groups/"+outer+"/owners/"+ann+"/$ref", nil)
		g.want(204, "DELETE", "/groups/"+outer, nil)
	})
}

// Deep nesting is walked once and ends.
func TestDeepGroups(t *testing.T) {
	w, g := sqlite(t)
	ann, _ := w.user("ann")
	const depth = 300
	last := ann
	var first string
	for i := range depth {
		id := w.group(fmt.Sprintf("g%03d", i))
		w.addMembers(id, last)
		if last = id; i == 0 {
			first = id
		}
	}
	if got := g.want(200, "POST", "/users/"+ann+"/getMemberGroups", object{"securityEnabledOnly": false})["value"].([]any); len(got) != depth {
		t.Errorf("%d groups", len(got))
	}
	if got := g.want(200, "POST", "/users/"+ann+"/checkMemberGroups", object{"groupIds": []any{last}})["value"].([]any); len(got) != 1 {
		t.Errorf("the outermost group is not found: %v", got)
	}
	g.want(400, "POST", "/groups/"+first+"/members/$ref", object{"@odata.id": "x/" + last})
}

// Nobody gains by the directory what he could not give himself.
func TestNoEscalation(t *testing.T) {
	w, g := sqlite(t)
	if err := w.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	boss, _ := w.user("boss")
	w.role(boss, guard.RoleOwner, "/")
	ann, asAnn := w.user("ann", asUser)
	app := g.want(201, "POST", "/applications", object{"displayName": "a"})
	appPath := "/applications/" + app["id"].(string)
	sp := g.want(201, "POST", "/servicePrincipals", object{"appId": app["appId"]})["id"].(string)
	owned := g.want(201, "POST", "/applications", object{"displayName": "owned"})
	ownedSP := g.want(201, "POST", "/servicePrincipals", object{"appId": owned["appId"]})["id"].(string)
	g.want(204, "POST", "/applications/"+owned["id"].(string)+"/owners/$ref", object{"@odata.id": "x/" + ann})
	w.role(sp, guard.RoleReader, "/")
	w.role(ownedSP, guard.RoleReader, "/")
	graphSP := w.firstPartyID(AppGraph)
	admin := az.Principal{ObjectID: az.NewGUID(), Kind: az.ServicePrincipal, Roles: []string{"User.ReadWrite.All", "Application.ReadWrite.All", "AppRoleAssignment.ReadWrite.All",
		"DelegatedPermissionGrant.ReadWrite.All", "Directory.ReadWrite.All"}}
	assignment := object{"principalId": sp, "resourceId": graphSP, "appRoleId": "19dbc75e-c2e2-444c-a770-ec69d8559fc7"}
	for _, c := range []struct {
		name, method, path string
		as                 az.Principal
		body               any
		status             int
	}{
		{"an owner's password", "PATCH", "/users/" + boss, admin, object{"passwordProfile": object{"password": "long enough"}}, 403},
		{"an owner's name", "PATCH", "/users/" + boss, admin, object{"userPrincipalName": "x@y"}, 403},
		{"an owner", "DELETE", "/users/" + boss, admin, nil, 403},
		{"who owns what may do more", "PATCH", "/users/" + ann, admin, object{"passwordProfile": object{"password": "long enough"}}, 403},
		{"a secret of what may do more", "POST", appPath + "/addPassword", admin, nil, 403},
		{"the same by its principal", "POST", "/servicePrincipals/" + sp + "/addPassword", admin, nil, 403},
		{"a certificate of it", "PATCH", appPath, admin, object{"keyCredentials": []any{}}, 403},
		{"its redirect URIs", "PATCH", appPath, admin, object{"web": object{"redirectUris": []any{"https://evil.example"}}}, 403},
		{"a federated credential of it", "POST", appPath + "/federatedIdentityCredentials", admin, object{"name": "n", "issuer": "https://i", "subject": "s", "audiences": []any{"a"}}, 403},
		{"an owner of it", "POST", appPath + "/owners/$ref", admin, object{"@odata.id": "x/" + ann}, 403},
		{"itself", "DELETE", appPath, admin, nil, 403},
		{"a permission of Graph", "POST", "/servicePrincipals/" + sp + "/appRoleAssignments", admin, assignment, 403},
		{"a permission of Graph, from its side", "POST", "/servicePrincipals/" + graphSP + "/appRoleAssignedTo", admin, assignment, 403},
		{"consent for Graph", "POST", "/oauth2PermissionGrants", admin, object{"clientId": sp, "consentType": "AllPrincipals", "resourceId": graphSP, "scope": asUser}, 403},
		{"a secret of one's own application", "POST", "/applications/" + owned["id"].(string) + "/addPassword", asAnn, nil, 200},
		{"a secret of another", "POST", appPath + "/addPassword", asAnn, nil, 403},
		{"a role for oneself", "POST", "/users/" + ann + "/appRoleAssignments", asAnn, object{"principalId": ann, "resourceId": graphSP}, 403},
		{"a role for what one owns", "POST", "/servicePrincipals/" + ownedSP + "/appRoleAssignments", asAnn, object{"principalId": ownedSP, "resourceId": graphSP, "appRoleId": assignment["appRoleId"]}, 403},
		{"consent for oneself", "POST", "/oauth2PermissionGrants", asAnn, object{"clientId": ownedSP, "consentType": "Principal", "principalId": ann, "resourceId": graphSP, "scope": asUser}, 403},
		{"the platform's own", "DELETE", "/servicePrincipals/" + graphSP, w.owner, nil, 400},
		{"the owner of the tenant", "POST", "/servicePrincipals/" + sp + "/appRoleAssignments", w.owner, assignment, 201},
		{"what he gave is there", "POST", "/servicePrincipals/" + sp + "/appRoleAssignments", w.owner, assignment, 400},
		{"one's own password by the owner of the tenant", "PATCH", "/users/" + boss, w.owner, object{"jobTitle": "x"}, 204},
	} {
		g.as = c.as
		if status, out := g.call(c.method, c.path, c.body); status != c.status {
			t.Errorf("%s: %d, want %d: %v", c.name, status, c.status, out)
		}
	}
	values, assigned, err := w.AppRoles(context.Background(), graphSP, []string{sp})
	if err != nil || !assigned || cmp.Diff([]string{"Directory.ReadWrite.All"}, values) != "" {
		t.Errorf("app roles %v %v %v", values, assigned, err)
	}
}

func (w *world) firstPartyID(app string) string {
	o, ok, err := w.ByAppID(context.Background(), app)
	if err != nil || !ok {
		w.t.Fatal(app, ok, err)
	}
	return o.ID
}

func TestApplicationsKeepWhatTheyAreTold(t *testing.T) {
	w, g := sqlite(t)
	scope, role := az.NewGUID(), az.NewGUID()
	body := object{"displayName": "api", "signInAudience": "AzureADMyOrg", "identifierUris": []any{"api://thing"}, "isFallbackPublicClient": true,
		"groupMembershipClaims": "SecurityGroup", "notes": "n", "tags": []any{"t"},
		"web":          object{"redirectUris": []any{"https://a.example/cb", "http://localhost:3000/cb"}, "logoutUrl": "https://a.example/out", "implicitGrantSettings": object{"enableIdTokenIssuance": true, "enableAccessTokenIssuance": false}},
		"spa":          object{"redirectUris": []any{"https://spa.example"}},
		"publicClient": object{"redirectUris": []any{"myapp://auth", "http://localhost"}},
		"api": object{"requestedAccessTokenVersion": 2.0, "knownClientApplications": []any{az.NewGUID()},
			"oauth2PermissionScopes":    []any{object{"id": scope, "value": "Read", "type": "User", "isEnabled": true, "adminConsentDisplayName": "r", "adminConsentDescription": "r", "userConsentDisplayName": "r", "userConsentDescription": "r"}},
			"preAuthorizedApplications": []any{object{"appId": az.NewGUID(), "delegatedPermissionIds": []any{scope}}}},
		"appRoles":               []any{object{"id": role, "value": "Admin", "displayName": "Admins", "description": "d", "allowedMemberTypes": []any{"User"}, "isEnabled": true}},
		"requiredResourceAccess": []any{object{"resourceAppId": AppGraph, "resourceAccess": []any{object{"id": "e1fe6dd8-ba31-4d61-89e7-88639da4683d", "type": "Scope"}}}},
		"optionalClaims":         object{"idToken": []any{object{"name": "email", "essential": true, "additionalProperties": []any{}}}, "accessToken": []any{}, "saml2Token": []any{}},
	}
	app := g.want(201, "POST", "/applications", body)
	path := "/applications/" + app["id"].(string)
	for _, got := range []object{g.want(200, "GET", path, nil), g.want(200, "GET", "/applications(appId='"+app["appId"].(string)+"')", nil),
		g.want(200, "GET", "/applications?$filter="+escape("identifierUris/any(s:s eq 'api://thing')"), nil)["value"].([]any)[0].(object)} {
		for k, want := range body {
			shown, _ := got[k].(object)
			if part, ok := want.(object); ok {
				for kk, x := range part {
					if d := cmp.Diff(x, shown[kk]); d != "" {
						t.Errorf("%s/%s: %s", k, kk, d)
					}
				}
			} else if d := cmp.Diff(want, got[k]); d != "" {
				t.Errorf("%s: %s", k, d)
			}
		}
	}
	g.want(204, "PATCH", path, object{"web": object{"redirectUris": []any{}}, "optionalClaims": nil, "displayName": "renamed"})
	after := g.want(200, "GET", path, nil)
	if n := len(after["web"].(object)["redirectUris"].([]any)); n != 0 || after["optionalClaims"] != nil || after["web"].(object)["logoutUrl"] != "https://a.example/out" {
		t.Errorf("after the patch: %v", after)
	}
	for _, bad := range []object{
		{"web": object{"redirectUris": []any{"javascript:alert(1)"}}}, {"web": object{"redirectUris": []any{"http://a.example"}}}, {"web": object{"redirectUris": []any{"https://*.example"}}},
		{"web": object{"redirectUris": []any{"https://a.example/#x"}}}, {"spa": object{"redirectUris": []any{"myapp://x"}}}, {"publicClient": object{"redirectUris": []any{"data:text/html,x"}}},
		{"web": object{"redirectUris": []any{"https://u@a.example"}}}, {"web": object{"implicitGrantSettings": object{"enableAccessTokenIssuance": true}}},
		{"api": object{"oauth2PermissionScopes": []any{object{"id": "x", "value": "Read"}}}}, {"api": object{"oauth2PermissionScopes": []any{object{"id": scope, "value": "a b"}}}},
		{"api": object{"preAuthorizedApplications": []any{object{"appId": az.NewGUID(), "delegatedPermissionIds": []any{az.NewGUID()}}}}},
		{"appRoles": []any{object{"id": role, "value": "x", "displayName": "x"}}}, {"appRoles": []any{object{"id": DefaultRole, "value": "x", "displayName": "x", "allowedMemberTypes": []any{"User"}}}},
		{"groupMembershipClaims": "Everything"}, {"requiredResourceAccess": []any{object{"resourceAppId": "x"}}}, {"signInAudience": "Mars"}, {"web": "x"},
		{"passwordCredentials": []any{object{"secretText": "mine"}}},
	} {
		g.want(400, "PATCH", path, bad)
	}
	// Secrets of the application and of its service principal prove one client,
	// and each shows its own.
	sp := "/servicePrincipals/" + g.want(201, "POST", "/servicePrincipals", object{"appId": app["appId"]})["id"].(string)
	for _, at := range []string{path, sp} {
		secret := g.want(200, "POST", at+"/addPassword", nil)
		c, _, _ := w.Client(context.Background(), app["appId"].(string))
		if w.MatchSecret(c, secret["secretText"].(string)) != SecretRight {
			t.Errorf("%s: the secret proves nothing", at)
		}
		shown := g.want(200, "GET", at, nil)["passwordCredentials"].([]any)
		if len(shown) != 1 || shown[0].(object)["keyId"] != secret["keyId"] {
			t.Errorf("%s shows %v", at, shown)
		}
		if at == sp {
			g.want(404, "POST", path+"/removePassword", object{"keyId": secret["keyId"]})
			g.want(204, "POST", sp+"/removePassword", object{"keyId": secret["keyId"]})
		}
	}
	fed := g.want(201, "POST", path+"/federatedIdentityCredentials", object{"name": "gh", "issuer": "https://i.example", "subject": "s", "audiences": []any{"api://AzureADTokenExchange"}})
	g.want(204, "PATCH", path+"/federatedIdentityCredentials/"+fed["id"].(string), object{"subject": "s2"})
	if got := g.want(200, "GET", path+"/federatedIdentityCredentials/gh", nil); got["subject"] != "s2" || got["issuer"] != "https://i.example" {
		t.Errorf("the changed credential is %v", got)
	}
	g.want(400, "PATCH", path+"/federatedIdentityCredentials/gh", object{"issuer": "http://i.example"})
	g.want(400, "POST", path+"/addKey", object{})
}

func TestAppRolesAndGrants(t *testing.T) {
	each(t, func(w *world) {
		ctx, t, g := context.Background(), w.t, newGraph(w)
		if err := w.Start(ctx); err != nil {
			t.Fatal(err)
		}
		if err := w.Start(ctx); err != nil { // as every plane does
			t.Fatal(err)
		}
		role := az.NewGUID()
		app := g.want(201, "POST", "/applications", object{"displayName": "a", "appRoles": []any{object{"id": role, "value": "Admin", "displayName": "A", "isEnabled": true, "allowedMemberTypes": []any{"User"}}}})
		sp := g.want(201, "POST", "/servicePrincipals", object{"appId": app["appId"]})["id"].(string)
		ann, _ := w.user("ann")
		group := w.group("g")
		w.addMembers(group, ann)
		roles := func(want []string, assigned bool) {
			t.Helper()
			got, is, err := w.AppRoles(ctx, sp, []string{ann, group})
			if err != nil || is != assigned || cmp.Diff(want, got) != "" {
				t.Errorf("roles %v, assigned %v, %v", got, is, err)
			}
		}
		roles(nil, false)
		a := g.want(201, "POST", "/groups/"+group+"/appRoleAssignments", object{"principalId": group, "resourceId": sp, "appRoleId": role})
		roles([]string{"Admin"}, true)
		if a["principalType"] != "Group" || a["resourceDisplayName"] != "a" {
			t.Errorf("shown as %v", a)
		}
		g.want(201, "POST", "/servicePrincipals/"+sp+"/appRoleAssignedTo", object{"principalId": ann, "resourceId": sp, "appRoleId": DefaultRole})
		if got := ids(g.want(200, "GET", "/servicePrincipals/"+sp+"/appRoleAssignedTo?$top=1", nil)); len(got) != 1 {
			t.Errorf("a page of %d", len(got))
		}
		if got := ids(g.want(200, "GET", "/users/"+ann+"/appRoleAssignments?$filter="+escape("resourceId eq "+sp), nil)); len(got) != 1 {
			t.Errorf("held %v", got)
		}
		g.want(400, "POST", "/users/"+ann+"/appRoleAssignments", object{"principalId": ann, "resourceId": sp, "appRoleId": az.NewGUID()})
		g.want(400, "POST", "/servicePrincipals/"+sp+"/appRoleAssignments", object{"principalId": sp, "resourceId": sp, "appRoleId": role}) // for people only
		g.want(204, "DELETE", "/groups/"+group+"/appRoleAssignments/"+a["id"].(string), nil)
		roles(nil, true)

		graphSP := w.firstPartyID(AppGraph)
		grant := g.want(201, "POST", "/oauth2PermissionGrants", object{"clientId": sp, "consentType": "AllPrincipals", "resourceId": graphSP, "scope": "User.Read openid"})
		w.write(func(tx *store.Tx) error { return w.AddGrant(tx, sp, ann, graphSP, []string{"Group.Read.All"}) })
		w.write(func(tx *store.Tx) error {
			return w.AddGrant(tx, sp, ann, graphSP, []string{"Group.Read.All", "User.Read"})
		})
		scopes := func(user, want string) {
			t.Helper()
			all, err := w.Grants(ctx, sp, user)
			got := []string{}
			for _, g := range all {
				got = append(got, strings.Join(g.Scopes, " "))
			}
			if err != nil || strings.Join(got, "; ") != want {
				t.Errorf("granted %q, %v", got, err)
			}
		}
		scopes(ann, "User.Read openid; Group.Read.All User.Read")
		scopes(az.NewGUID(), "User.Read openid")
		g.want(204, "PATCH", "/oauth2PermissionGrants/"+grant["id"].(string), object{"scope": "openid"})
		scopes(ann, "openid; Group.Read.All User.Read")
		if got := ids(g.want(200, "GET", "/oauth2PermissionGrants?$filter="+escape("clientId eq '"+sp+"' and consentType eq 'AllPrincipals'"), nil)); len(got) != 1 {
			t.Errorf("listed %v", got)
		}
		if got := ids(g.want(200, "GET", "/users/"+ann+"/oauth2PermissionGrants", nil)); len(got) != 1 {
			t.Errorf("listed %v", got)
		}
		g.want(400, "POST", "/oauth2PermissionGrants", object{"clientId": sp, "consentType": "AllPrincipals", "resourceId": graphSP, "scope": "User.Read"})
		g.want(400, "GET", "/oauth2PermissionGrants?$filter="+escape("scope eq 'x'"), nil)
		g.want(204, "DELETE", "/oAuth2PermissionGrants/"+grant["id"].(string), nil)
		scopes(ann, "Group.Read.All User.Read")
		w.write(func(tx *store.Tx) error { return w.Remove(tx, sp) })
		scopes(ann, "")
		if got := g.want(200, "GET", "/oauth2PermissionGrants", nil)["value"].([]any); len(got) != 0 {
			t.Errorf("grants outlive their client: %v", got)
		}
	})
}

func TestSortedPages(t *testing.T) {
	each(t, func(w *world) {
		g, t := newGraph(w), w.t
		var want []string
		for i := range 25 {
			w.user(fmt.Sprintf("u%02d", (i*7)%25))
			want = append(want, fmt.Sprintf("U%02d", 24-i))
		}
		for _, filter := range []string{"", "&$filter=" + escape("endswith(userPrincipalName,'.localhost')"), "&$search=" + escape(`"displayName:u"`)} {
			var got []string
			path := "/users?$orderby=displayName%20desc&$top=7&$count=true&$select=displayName" + filter
			var tokens []string
			for path != "" {
				page := g.want(200, "GET", path, nil)
				for _, v := range page["value"].([]any) {
					got = append(got, v.(object)["displayName"].(string))
				}
				if page["@odata.count"] != 25.0 {
					t.Errorf("counted %v", page["@odata.count"])
				}
				next, _ := page["@odata.nextLink"].(string)
				tokens = append(tokens, next)
				path = strings.TrimPrefix(next, "https://graph.hawser.localhost:8443/v1.0")
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("%s: %s", filter, d)
			}
			// A token of one query is none of another.
			other := strings.Replace(strings.TrimPrefix(tokens[0], "https://graph.hawser.localhost:8443/v1.0"), "+desc", "+asc", 1)
			g.want(400, "GET", other, nil)
		}
	})
}

func TestBatch(t *testing.T) {
	w, g := sqlite(t)
	ann, _ := w.user("ann")
	item := func(id, method, url string, more ...any) object {
		o := object{"id": id, "method": method, "url": url}
		for i := 0; i+1 < len(more); i += 2 {
			o[more[i].(string)] = more[i+1]
		}
		return o
	}
	out := g.want(200, "POST", "/$batch", object{"requests": []any{
		item("later", "GET", "/groups?$filter="+escape("displayName eq 'made'"), "dependsOn", []any{"make"}),
		item("make", "POST", "/groups", "body", object{"displayName": "made"}, "headers", object{"Content-Type": "application/json"}),
		item("ann", "GET", "users/"+ann), item("none", "GET", "/v1.0/users/"+az.NewGUID()), item("after", "GET", "/users", "dependsOn", []any{"none"}),
		item("self", "POST", "/$batch", "body", object{}), item("count", "GET", "/users/$count"), item("gone", "DELETE", "/users/"+ann), item("out", "GET", "https://evil.example/users"),
	}})
	got := map[string]float64{}
	for _, r := range out["responses"].([]any) {
		got[r.(object)["id"].(string)] = r.(object)["status"].(float64)
		if r.(object)["id"] == "later" && len(ids(r.(object)["body"].(object))) != 1 {
			t.Error("what comes later does not see what was made")
		}
	}
	if d := cmp.Diff(map[string]float64{"later": 200, "make": 201, "ann": 200, "none": 404, "after": 424, "self": 400, "count": 200, "gone": 204, "out": 404}, got); d != "" {
		t.Error(d)
	}
	many := []any{}
	for i := range 21 {
		many = append(many, item(fmt.Sprint(i), "GET", "/users"))
	}
	for _, bad := range []any{object{"requests": many}, object{"requests": []any{}}, object{}, object{"requests": []any{item("1", "GET", "/a"), item("1", "GET", "/b")}},
		object{"requests": []any{item("1", "GET", "/a", "dependsOn", []any{"2"}), item("2", "GET", "/a", "dependsOn", []any{"1"})}},
		object{"requests": []any{item("1", "GET", "/a", "dependsOn", []any{"9"})}}, object{"requests": []any{item("1", "TRACE", "/a")}},
		object{"requests": []any{item("1", "POST", "/users", "body", strings.Repeat("x", maxGraphBody+1))}}, object{"requests": "x"}} {
		g.want(400, "POST", "/$batch", bad)
	}
	g.want(413, "POST", "/$batch", object{"requests": strings.Repeat("x", maxBatchBody)})
	g.want(413, "POST", "/groups", object{"displayName": strings.Repeat("x", maxGraphBody)})
	// Each request of a batch is permitted by itself.
	g.as = az.Principal{ObjectID: az.NewGUID(), Kind: az.ServicePrincipal}
	for _, r := range g.want(200, "POST", "/$batch", object{"requests": []any{item("1", "GET", "/users")}})["responses"].([]any) {
		if r.(object)["status"] != 403.0 {
			t.Errorf("a batch opens %v", r)
		}
	}
	g.as = az.Principal{}
	g.want(401, "POST", "/$batch", object{"requests": many[:1]})
}
