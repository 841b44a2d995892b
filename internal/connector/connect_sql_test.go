package connector

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/guard"
)

func (r *sqlRig) link(auth, client string, a Access, more string) string {
	return fmt.Sprintf(`{"properties":{"targetService":{"type":"AzureResource","id":"%s/databases/shop"},"authInfo":{"authType":%q%s},"clientType":%q,"hawser":{"access":%q}}}`,
		r.server, auth, more, client, a)
}

func (r *sqlRig) there(login string) bool {
	_, ok := r.s.Login(login)
	return ok
}

// TestSQLConnectionFromBeginningToEnd: the login has the identity's name, as
// az's flow gives it, and the settings name no user.
func TestSQLConnectionFromBeginningToEnd(t *testing.T) {
	eachPlane(t, func(t *testing.T, p *rig) {
		r := p.withSQL("sql1")
		p.must(boss, "PUT", r.server+"/databases/shop", `{"location":"local","properties":{}}`)
		link := sites + "web" + linkers + "c1"
		before, assigned := p.traces()
		plan := fmt.Sprint(at(p.must(boss, "POST", link+"/dryrun", r.link(authSystem, "nodejs", Write, "")), "steps"))
		if !strings.Contains(plan, "SQL Server Login") || !strings.Contains(plan, "web") || strings.Contains(plan, sqlOwnerPassword) || r.there("web") {
			t.Errorf("the dry run says %s", plan)
		}
		p.must(boss, "PUT", link, r.link(authSystem, "nodejs", Write, ""))
		who := p.identity("web")
		sqlTries(t, r.mustEnter(who, "shop"), true, true, true, false)
		s := p.settings("web")
		if len(s) != 4 || s["AZURE_SQL_SERVER"] != "sql1.database.hawser.test" || s["AZURE_SQL_PORT"] != "11433" || s["AZURE_SQL_DATABASE"] != "shop" || s["AZURE_SQL_AUTHENTICATIONTYPE"] != "azure-active-directory-default" {
			t.Errorf("the settings are %v", s)
		}
		p.must(boss, "PUT", link, r.link(authSystem, "nodejs", Write, "")) // safe to repeat
		if !p.valid(link) || !r.there("web") {
			t.Errorf("%v", p.must(boss, "POST", link+"/validateLinker", ""))
		}
		if d, err := p.cfg.Guard.Explain(t.Context(), who.ObjectID, guard.Data(guard.ActionSQLLogin), az.MustParseID(r.server)); err != nil || !d.Allowed {
			t.Errorf("the identity may not log in at the server: %v, %v", d, err)
		}

		// A user-assigned identity and an application have logins of their own.
		const uid = group + "/providers/Microsoft.ManagedIdentity/userAssignedIdentities/shared"
		one := p.must(boss, "PUT", uid, `{"location":"local"}`)
		p.must(boss, "PATCH", sites+"web", fmt.Sprintf(`{"identity":{"type":"SystemAssigned,UserAssigned","userAssignedIdentities":{%q:{}}}}`, uid))
		p.must(boss, "PUT", link+"u", r.link(authUser, "go", Read, fmt.Sprintf(`,"clientId":%q`, text(one, "properties", "clientId"))))
		sqlTries(t, r.mustEnter(as(text(one, "properties", "principalId")), "shop"), true, false, false, false)
		want := "server=sql1.database.hawser.test;port=11433;database=shop;fedauth=ActiveDirectoryManagedIdentity;user id=" + text(one, "properties", "clientId") + ";"
		if got := p.settings("web")["AZURE_SQL_C1U_CONNECTIONSTRING"]; got != want || !r.there("shared") {
			t.Errorf("the setting is %q, want %q", got, want)
		}
		app, sp := p.ownApplication("own app")
		p.must(boss, "PUT", link+"p", r.link(authPrincipal, "dotnet", Owner, fmt.Sprintf(`,"clientId":%q,"secret":"topsecret1"`, app)))
		sqlTries(t, r.mustEnter(as(sp), "shop"), true, true, true, true)
		if !r.there("own app") || !p.valid(link+"p") || !p.valid(link+"u") {
			t.Errorf("%v", p.must(boss, "POST", link+"p/validateLinker", ""))
		}
		p.must(boss, "DELETE", link+"p", "")
		p.must(boss, "DELETE", link+"u", "")

		p.must(boss, "PUT", link, r.link(authSystem, "nodejs", Read, "")) // less is less at once
		sqlTries(t, r.mustEnter(who, "shop"), true, false, false, false)
		p.must(boss, "DELETE", link, "")
		if _, err := r.enter(who, "shop"); !az.Is(err, az.Forbidden) {
			t.Errorf("after the end of the connection: %v", err)
		}
		for _, login := range []string{"web", "shared", "own app"} {
			if r.there(login) {
				t.Errorf("the login %q outlived its connection", login)
			}
		}
		if s := p.settings("web"); len(s) != 0 {
			t.Errorf("left behind: %v", s)
		}
		if n, a := p.traces(); n != before || a != assigned {
			t.Errorf("%d roles and %d assignments are left", n-before, a-assigned)
		}
	})
}

// TestSQLConnectionsMeetOthers: names that are taken, failures that leave
// nothing, and a login of the server's own.
func TestSQLConnectionsMeetOthers(t *testing.T) {
	onePlane(t, func(t *testing.T, p *rig) {
		r := p.withSQL("sql1")
		p.must(boss, "PUT", r.server+"/databases/shop", `{"location":"local","properties":{}}`)
		link := sites + "web" + linkers + "c1"
		before, assigned := p.traces()
		p.refused(boss, "PUT", link, r.link(authSystem, "nodejs", Write, `,"userName":"sa"`), 400, "InvalidName")
		p.refused(boss, "PUT", link, strings.Replace(r.link(authSystem, "nodejs", Write, ""), "/databases/shop", "/databases/master", 1), 400, "InvalidName")
		p.refused(boss, "PUT", link, strings.Replace(r.link(authSystem, "nodejs", Write, ""), "/databases/shop", "/databases/nowhere", 1), 404, "DatabaseNotFound")
		p.refused(webmaster, "PUT", link, r.link(authSystem, "nodejs", Write, ""), 403, "LinkedAuthorizationFailed")
		if n, a := p.traces(); n != before || a != assigned || len(p.settings("web")) != 0 {
			t.Errorf("%d roles and %d assignments are left", n-before, a-assigned)
		}

		// The name of the app is another principal's on this server: the login
		// gets a suffix.
		p.must(boss, "PUT", r.server+"/principals/web", fmt.Sprintf(`{"properties":{"principalId":%q,"database":"shop","access":"read"}}`, p.user("ann")))
		p.must(boss, "PUT", link, r.link(authSystem, "java", Write, ""))
		user := text(p.must(boss, "GET", link, ""), "properties", "hawser", "user")
		if !strings.HasPrefix(user, "web_") || !r.there(user) {
			t.Errorf("the login is called %q", user)
		}
		sqlTries(t, r.mustEnter(p.identity("web"), "shop"), true, true, true, false)
		p.must(boss, "DELETE", link, "")
		if r.there(user) || !r.there("web") {
			t.Error("the wrong login went")
		}

		own := fmt.Sprintf(`,"name":"sa","secretInfo":{"secretType":"rawValue","value":%q}`, sqlOwnerPassword)
		p.must(boss, "PUT", link, r.link(authSecret, "java", Read, own))
		got, _ := p.settings("web")["AZURE_SQL_CONNECTIONSTRING"].(string)
		if want := fmt.Sprintf("jdbc:sqlserver://localhost:%d;databaseName=shop;user=sa;password=%s;", r.Port, jdbcValue(sqlOwnerPassword)); got != want || !p.valid(link) {
			t.Errorf("the setting is %q, want %q", url.QueryEscape(got), url.QueryEscape(want))
		}
		p.must(boss, "PUT", link, r.link(authSecret, "java", Read, strings.Replace(own, sqlOwnerPassword, "wrong", 1)))
		if p.valid(link) {
			t.Error("a connection with the wrong password is valid")
		}
	})
}
