package connector

import (
	"strings"
	"testing"

	"github.com/hawser/hawser/internal/az"
)

func TestAConnectionFromBeginningToEnd(t *testing.T) {
	eachPlane(t, func(t *testing.T, r *rig) {
		name := r.conn("c1")
		link, user := sites+"web"+linkers+name, "aad_"+name
		r.must(boss, "PUT", sites+"web/config/appsettings", `{"properties":{"MINE":"1","AZURE_POSTGRESQL_HOST":"was there"}}`)
		before, beforeAssigned := r.traces()
		got := r.must(boss, "PUT", link, r.linkBody("nodejs", Write, ""))
		if text(got, "properties", "provisioningState") != "Succeeded" || text(got, "properties", "hawser", "access") != "write" {
			t.Errorf("the connection is shown as %v", got)
		}
		who := r.identity("web")
		tries(t, r.mustEnter(who, user), map[string]bool{`insert into todo (what) values ('x')`: true, `create table x (i int)`: false})
		s := r.settings("web")
		for k, want := range map[string]string{"MINE": "1", "AZURE_POSTGRESQL_HOST": "pg1.postgres.hawser.test", "AZURE_POSTGRESQL_USER": user,
			"AZURE_POSTGRESQL_DATABASE": r.f.db, "AZURE_POSTGRESQL_PORT": "15432", "AZURE_POSTGRESQL_SSL": "true"} {
			if s[k] != want {
				t.Errorf("the setting %s is %q, want %q", k, s[k], want)
			}
		}
		r.must(boss, "PUT", link, r.linkBody("nodejs", Write, "")) // safe to repeat
		r.mustEnter(who, user)

		report := r.must(boss, "POST", link+"/validateLinker", "")
		if at(report, "properties", "isConnectionAvailable") != true {
			t.Errorf("validateLinker: %v", report)
		}
		if n := len(at(report, "properties", "validationDetail").([]any)); n != 6 {
			t.Errorf("%d checks", n)
		}
		confs := at(r.must(boss, "POST", link+"/listConfigurations", ""), "configurations").([]any)
		if len(confs) != 5 || text(confs[0], "name") != "AZURE_POSTGRESQL_HOST" {
			t.Errorf("listConfigurations: %v", confs)
		}
		if all := at(r.must(boss, "GET", sites+"web"+strings.TrimSuffix(linkers, "/"), ""), "value").([]any); len(all) != 1 {
			t.Errorf("list: %v", all)
		}

		// Less access is less at once, for what the role was given before too.
		r.must(boss, "PUT", link, r.linkBody("nodejs", Read, ""))
		tries(t, r.mustEnter(who, user), map[string]bool{`insert into todo (what) values ('x')`: false, `select * from todo`: true})

		r.must(boss, "DELETE", link, "")
		if _, err := r.enter(who, user); !az.Is(err, az.Forbidden) {
			t.Errorf("after the end of the connection: %v", err)
		}
		if r.roleExists(user) {
			t.Error("the role is still there")
		}
		if s := r.settings("web"); s["AZURE_POSTGRESQL_HOST"] != "was there" || s["MINE"] != "1" || len(s) != 2 {
			t.Errorf("the settings are %v", s)
		}
		if p, a := r.traces(); p != before || a != beforeAssigned {
			t.Errorf("%d roles and %d assignments are left, were %d and %d", p, a, before, beforeAssigned)
		}
		r.f.asOwner(t, `select * from todo`)
	})
}
