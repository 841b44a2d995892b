package arm

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/store"
)

const (
	authz      = "/providers/Microsoft.Authorization"
	subScope   = "/subscriptions/" + subID
	guid1      = "bbbbbbbb-0000-0000-0000-000000000001"
	guid2      = "bbbbbbbb-0000-0000-0000-000000000002"
	guid3      = "bbbbbbbb-0000-0000-0000-000000000003"
	readerRole = subScope + authz + "/roleDefinitions/" + guard.RoleReader
)

func assignment(role, who string) string {
	return fmt.Sprintf(`{"properties":{"roleDefinitionId":%q,"principalId":%q}}`, role, who)
}

func at(scope, guid string) string { return scope + authz + "/roleAssignments/" + guid }

func TestRoleAssignments(t *testing.T) {
	eachPlane(t, all(nil), func(t *testing.T, p *plane) {
		withGroup(p).must(200, owner, "PUT", boxes+"/b", `{}`)
		p.must(403, stranger, "GET", boxes+"/b", "")
		a := p.must(201, owner, "PUT", at(boxes+"/b", guid1), `{"properties":{"roleDefinitionId":"`+readerRole+`","principalId":"`+strings.ToUpper(stranger)+`","principalType":"User"}}`)
		for k, want := range map[string]any{"scope": boxes + "/b", "principalId": stranger, "roleDefinitionId": readerRole, "principalType": "User"} {
			if a.at("properties", k) != want {
				t.Errorf("properties.%s is %v, want %v", k, a.at("properties", k), want)
			}
		}
		p.must(200, stranger, "GET", boxes+"/b", "")
		p.must(201, owner, "PUT", at(boxes+"/b", guid1), assignment(readerRole, stranger))
		for _, c := range []struct{ name, path, body, code string }{
			{"same triple", at(boxes+"/b", guid2), assignment(readerRole, stranger), "409 RoleAssignmentExists"},
			{"other principal under the same name", at(boxes+"/b", guid1), assignment(readerRole, robot), "400 RoleAssignmentUpdateNotPermitted"},
			{"nobody", at(boxes+"/b", guid2), assignment(readerRole, "cccccccc-0000-0000-0000-000000000001"), "400 PrincipalNotFound"},
			{"no GUID", at(boxes+"/b", "mine"), assignment(readerRole, robot), "400 InvalidRoleAssignmentId"},
			{"no object id", at(boxes+"/b", guid2), assignment(readerRole, "bob"), "400 InvalidPrincipalId"},
			{"no such role", at(boxes+"/b", guid2), assignment(subScope+authz+"/roleDefinitions/"+guid3, robot), "400 RoleDefinitionDoesNotExist"},
			{"no role id", at(boxes+"/b", guid2), assignment("/Reader", robot), "400 InvalidRoleDefinitionId"},
			{"no such scope", at(boxes+"/none", guid2), assignment(readerRole, robot), "404 ResourceNotFound"},
			{"other subscription", at("/subscriptions/"+guid3, guid2), assignment(readerRole, robot), "404 SubscriptionNotFound"},
			{"other type of principal", at(boxes+"/b", guid2), `{"properties":{"roleDefinitionId":"` + readerRole + `","principalId":"` + robot + `","principalType":"Group"}}`, "400 UnmatchedPrincipalType"},
			{"condition", at(boxes+"/b", guid2), `{"properties":{"roleDefinitionId":"` + readerRole + `","principalId":"` + robot + `","condition":"x"}}`, "400 ConditionNotSupported"},
		} {
			if a := p.do(owner, "PUT", c.path, c.body); fmt.Sprint(a.status, " ", a.code()) != c.code {
				t.Errorf("%s: %d %s, want %s", c.name, a.status, a.code(), c.code)
			}
		}
		p.must(403, stranger, "PUT", at(boxes+"/b", guid2), assignment(readerRole, stranger))
		p.must(403, viewer, "DELETE", at(boxes+"/b", guid1), "")
		p.must(200, owner, "DELETE", at(boxes+"/b", guid1), "")
		p.must(204, owner, "DELETE", at(boxes+"/b", guid1), "")
		p.must(403, stranger, "GET", boxes+"/b", "")
	})
}

func TestAssignmentScopes(t *testing.T) {
	eachPlane(t, all(nil), func(t *testing.T, p *plane) {
		withGroup(p).must(200, owner, "PUT", boxes+"/b", `{}`)
		part := boxes + "/b/secrets/s1" // no resource of its own
		p.must(201, owner, "PUT", at(part, guid1), assignment(readerRole, stranger))
		p.must(201, owner, "PUT", at("", guid2), assignment(readerRole, robot))
		p.must(201, owner, "PUT", at(inGroup, guid3), assignment(readerRole, stranger))
		count := func(scope, filter string) int {
			return len(p.must(200, viewer, "GET", scope+authz+"/roleAssignments?$filter="+filter, "").values())
		}
		for _, c := range []struct {
			scope, filter string
			want          int
		}{
			{subScope, "", 5},          // owner and robot at /, viewer at the subscription, stranger twice
			{subScope, "atScope()", 3}, // without those below
			{boxes + "/b", "atScope()", 4},
			{part, "atScope()", 5},
			{subScope, "principalId%20eq%20'" + strings.ToUpper(stranger) + "'", 2},
			{inGroup, "atScope()%20and%20assignedTo('" + stranger + "')", 1},
		} {
			if n := count(c.scope, c.filter); n != c.want {
				t.Errorf("%s %s: %d assignments, want %d", c.scope, c.filter, n, c.want)
			}
		}
		p.must(400, viewer, "GET", subScope+authz+"/roleAssignments?$filter=owner()", "")
		// Whoever may not read at the scope sees what they may read below.
		if n := len(p.must(200, stranger, "GET", subScope+authz+"/roleAssignments", "").values()); n != 2 {
			t.Errorf("the stranger sees %d assignments, want the two below the group", n)
		}
		// A deletion takes the assignments below along.
		p.must(200, owner, "DELETE", boxes+"/b", "")
		if n := count(subScope, ""); n != 4 {
			t.Errorf("%d assignments after the resource was deleted, want 4", n)
		}
		// So does that of a principal.
		if err := p.store.Write(context.Background(), func(tx *store.Tx) error { return DeleteAssignmentsOf(tx, robot) }); err != nil {
			t.Fatal(err)
		}
		p.must(403, robot, "GET", inGroup, "")
	})
}

func TestLastOwnerStays(t *testing.T) {
	eachPlane(t, nil, func(t *testing.T, p *plane) {
		first := at("", az.NamedGUID("role assignment", "/", owner, guard.RoleOwner))
		if a := p.must(409, owner, "DELETE", first, ""); a.code() != "CannotDeleteLastRbacAdminAssignment" {
			t.Errorf("code %q", a.code())
		}
		p.must(201, owner, "PUT", at(subScope, guid1), assignment(subScope+authz+"/roleDefinitions/"+guard.RoleOwner, robot))
		p.must(200, robot, "GET", subScope, "")
		p.must(200, owner, "DELETE", first, "")
	})
}

const custom = `{"properties":{"roleName":"Box Looker","description":"d","assignableScopes":["` + inGroup + `"],"permissions":[{"actions":["Test.Box/boxes/read"%s]}]}}`

func TestCustomRoles(t *testing.T) {
	eachPlane(t, all(nil), func(t *testing.T, p *plane) {
		withGroup(p).must(200, owner, "PUT", boxes+"/b", `{}`)
		def := subScope + authz + "/roleDefinitions/" + guid1
		a := p.must(201, owner, "PUT", inGroup+authz+"/roleDefinitions/"+guid1, fmt.Sprintf(custom, `,"Test.Box/boxes/write"`))
		if a.at("id") != def || a.at("properties", "type") != "CustomRole" || a.at("properties", "roleName") != "Box Looker" {
			t.Errorf("made: %s", a.raw)
		}
		p.must(201, owner, "PUT", at(inGroup, guid2), assignment(def, stranger))
		p.must(200, stranger, "PUT", boxes+"/b", `{}`)
		p.must(201, owner, "PUT", def, fmt.Sprintf(custom, ""))
		p.must(403, stranger, "PUT", boxes+"/b", `{}`) // the role was narrowed
		p.must(200, stranger, "GET", boxes+"/b", "")
		for name, c := range map[string]struct{ who, path, body, code string }{
			"same name":           {owner, subScope + authz + "/roleDefinitions/" + guid3, fmt.Sprintf(custom, ""), "409 RoleDefinitionWithSameNameExists"},
			"built-in's name":     {owner, subScope + authz + "/roleDefinitions/" + guid3, strings.ReplaceAll(fmt.Sprintf(custom, ""), "Box Looker", "owner"), "409 RoleDefinitionWithSameNameExists"},
			"built-in":            {owner, readerRole, fmt.Sprintf(custom, ""), "403 RoleDefinitionIsBuiltIn"},
			"no actions":          {owner, def, fmt.Sprintf(custom, `,"read"`), "400 InvalidActionOrNotAction"},
			"no scope":            {owner, def, strings.ReplaceAll(fmt.Sprintf(custom, ""), inGroup, inGroup+"x"), "400 LinkedInvalidPropertyId"},
			"the root":            {owner, def, strings.ReplaceAll(fmt.Sprintf(custom, ""), inGroup, "/"), "400 LinkedInvalidPropertyId"},
			"not where assigned":  {owner, at(subScope, guid3), assignment(def, robot), "400 RoleAssignmentScopeNotAssignableToRoleDefinition"},
			"by a reader":         {viewer, def, fmt.Sprintf(custom, ""), "403 AuthorizationFailed"},
			"by whom it is given": {stranger, def, fmt.Sprintf(custom, `,"*"`), "403 AuthorizationFailed"},
			"no GUID":             {owner, subScope + authz + "/roleDefinitions/x", fmt.Sprintf(custom, ""), "400 InvalidRoleDefinitionId"},
		} {
			if a := p.do(c.who, "PUT", c.path, c.body); fmt.Sprint(a.status, " ", a.code()) != c.code {
				t.Errorf("%s: %d %s, want %s", name, a.status, a.code(), c.code)
			}
		}
		if a := p.must(400, owner, "DELETE", def, ""); a.code() != "RoleDefinitionHasAssignments" {
			t.Errorf("code %q", a.code())
		}
		p.must(200, owner, "DELETE", at(inGroup, guid2), "")
		p.must(200, owner, "DELETE", def, "")
		p.must(204, owner, "DELETE", def, "")
		p.must(403, owner, "DELETE", readerRole, "")
		p.must(404, owner, "GET", def, "")
	})
}

// TestRoleScopes: whoever administers one group's access makes and changes roles
// for that group only, also through an address that says so.
func TestRoleScopes(t *testing.T) {
	eachPlane(t, nil, func(t *testing.T, p *plane) {
		const admin = subScope + authz + "/roleDefinitions/18d7d88d-d35e-4fb5-a5c3-7773c20a72d9" // User Access Administrator
		other := inGroup + "2"
		withGroup(p).must(201, owner, "PUT", other, `{"location":"l"}`)
		p.must(201, owner, "PUT", at(inGroup, guid3), assignment(admin, stranger))
		def := inGroup + authz + "/roleDefinitions/"
		mine, wide := fmt.Sprintf(custom, ""), strings.Replace(fmt.Sprintf(custom, ""), inGroup+`"`, inGroup+`","`+other+`"`, 1)
		p.must(201, stranger, "PUT", def+guid1, mine)
		p.must(403, stranger, "PUT", def+guid1, wide)
		p.must(403, stranger, "PUT", def+guid2, strings.ReplaceAll(mine, inGroup, subScope))
		p.must(201, owner, "PUT", def+guid1, wide)
		p.must(403, stranger, "PUT", def+guid1, mine) // it would take the role from the other group
		p.must(403, stranger, "DELETE", def+guid1, "")
		p.must(201, owner, "PUT", def+guid1, mine)
		p.must(200, stranger, "DELETE", def+guid1, "")
	})
}

func TestRoleDefinitionLists(t *testing.T) {
	eachPlane(t, all(nil), func(t *testing.T, p *plane) {
		withGroup(p).must(201, owner, "PUT", subScope+authz+"/roleDefinitions/"+guid1, fmt.Sprintf(custom, ""))
		list := func(scope, filter string) []any {
			return p.must(200, viewer, "GET", scope+authz+"/roleDefinitions?$filter="+filter, "").values()
		}
		one := list(subScope, "roleName%20eq%20'key%20vault%20secrets%20user'")
		if len(one) != 1 || one[0].(map[string]any)["name"] != guard.RoleSecretsUser {
			t.Fatalf("by name: %v", one)
		}
		perms := one[0].(map[string]any)["properties"].(map[string]any)["permissions"].([]any)[0].(map[string]any)
		if fmt.Sprint(perms["actions"]) != "[]" || len(perms["dataActions"].([]any)) != 2 {
			t.Errorf("permissions: %v", perms)
		}
		if n := len(list(subScope, "type%20eq%20'CustomRole'")); n != 0 {
			t.Errorf("%d custom roles at the subscription, want none: it is assignable in the group only", n)
		}
		if n := len(list(inGroup, "type%20eq%20'CustomRole'")); n != 1 {
			t.Errorf("%d custom roles in the group, want 1", n)
		}
		if n := len(list(inGroup, "")); n != len(guard.BuiltIn())+1 {
			t.Errorf("%d roles", n)
		}
		p.must(200, viewer, "GET", readerRole, "")
		p.must(403, stranger, "GET", readerRole, "")
		p.must(404, viewer, "GET", subScope+authz+"/roleDefinitions/"+guid3, "")
	})
}

func TestWhyAndPermissions(t *testing.T) {
	eachPlane(t, all(nil), func(t *testing.T, p *plane) {
		ask := func(who, about, action string) answer {
			return p.do(who, "POST", inGroup+"/providers/Hawser.Authorization/why", `{"principalId":"`+about+`","action":"`+action+`"}`)
		}
		if a := ask(owner, viewer, "Test.Box/boxes/read"); a.at("allowed") != true || a.at("role") != "Reader" || !strings.HasPrefix(fmt.Sprint(a.at("assignment")), subScope) {
			t.Errorf("reader: %s", a.raw)
		}
		if a := ask(viewer, stranger, "Test.Box/boxes/read"); a.at("allowed") != false || a.at("suggest") != "Reader" {
			t.Errorf("stranger: %s", a.raw)
		}
		if a := ask(stranger, stranger, "Test.Box/boxes/read"); a.status != 200 || a.at("allowed") != false {
			t.Errorf("about oneself: %d %s", a.status, a.raw)
		}
		if a := ask(stranger, viewer, "Test.Box/boxes/read"); a.status != 403 {
			t.Errorf("about others: %d %s", a.status, a.raw)
		}
		if a := ask(owner, viewer, "*"); a.status != 400 {
			t.Errorf("a pattern: %d %s", a.status, a.raw)
		}
		v := p.must(200, viewer, "GET", inGroup+authz+"/permissions", "").values()
		if len(v) != 1 || fmt.Sprint(v[0].(map[string]any)["actions"]) != "[*/read]" {
			t.Errorf("permissions: %v", v)
		}
		if n := len(p.must(200, stranger, "GET", inGroup+authz+"/permissions", "").values()); n != 0 {
			t.Errorf("the stranger has %d permissions", n)
		}
	})
}

// A principal that is deleted after the request was looked at, and before it
// is written, gets no role.
func TestNoRoleForAPrincipalThatIsBeingDeleted(t *testing.T) {
	eachPlane(t, all(nil), func(t *testing.T, p *plane) {
		withGroup(p)
		p.api.cfg.PrincipalThere = func(_ *store.Tx, oid string) (bool, error) { return oid != robot, nil }
		if a := p.do(owner, "PUT", at(inGroup, guid1), assignment(readerRole, robot)); a.status != 400 || a.code() != "PrincipalNotFound" {
			t.Errorf("%d %s", a.status, a.raw)
		}
		p.must(404, owner, "GET", at(inGroup, guid1), "")
	})
}
