package site

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/directory"
	"github.com/hawser/hawser/internal/store"
	"github.com/hawser/hawser/internal/store/storetest"
)

var groupObject = directory.Object{ID: "99999999-0000-4000-8000-000000000001", Name: "readers"}

// TestWhoMayWhat is the table of rights: values need config/list/action, which
// Reader does not have, and everything is closed to a stranger.
func TestWhoMayWhat(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		r := newPlane(t, st).withTokens()
		r.create(systemIdentity, map[string]string{"A": "the value", "R": "@Microsoft.KeyVault(x)"})
		all, readers := []string{owner, contributor, webmaster}, []string{owner, contributor, webmaster, reader}
		for _, c := range []struct {
			method, path, body string
			who                []string
		}{
			{"GET", app1, "", readers},
			{"GET", app1 + "/config/web", "", readers},
			{"GET", app1 + "/config/slotConfigNames", "", readers},
			{"GET", app1 + "/config/configreferences/appsettings", "", readers},
			{"GET", app1 + "/config/configreferences/appsettings/R", "", readers},
			{"GET", app1 + "/config/configreferences/connectionstrings", "", readers},
			{"POST", app1 + "/config/configreferences/appsettings/refresh", "", all},
			{"POST", app1 + "/config/appsettings/list", "", all},
			{"POST", app1 + "/config/connectionstrings/list", "", all},
			{"PUT", app1 + "/config/appsettings", `{"properties":{"A":"the value","R":"@Microsoft.KeyVault(x)"}}`, all},
			{"PUT", app1 + "/config/connectionstrings", `{"properties":{}}`, all},
			{"PUT", app1 + "/config/slotConfigNames", `{"properties":{"appSettingNames":["A"]}}`, all},
			{"PATCH", app1, `{"tags":{"a":"b"}}`, all},
			{"POST", app1 + "/restart", "", all},
			{"POST", app1 + "/stop", "", all},
			{"POST", app1 + "/start", "", all},
			{"POST", app1 + "/publishxml", `{"format":"WebDeploy"}`, all},
			{"POST", app1 + "/runtimeEnvironment", `{}`, all},
			{"POST", app1 + "/runtimeEnvironment", "", all},
			{"POST", app1 + "/runtimeToken", `{"resource":"` + vaultAudience + `"}`, all},
		} {
			for _, who := range []string{owner, contributor, webmaster, reader, stranger} {
				status, out := r.call(who, c.method, c.path, c.body)
				may := contains(c.who, who)
				if may != (status == 200) || !may && status != 403 {
					t.Errorf("%s %s as %s: %d %s", c.method, c.path[len(siteBase):], who[len(who)-1:], status, out)
				}
				if !may && strings.Contains(out, "the value") {
					t.Errorf("%s %s shows a value to %s", c.method, c.path, who)
				}
			}
			if status, _ := r.call("", c.method, c.path, c.body); status != 401 {
				t.Errorf("%s %s without a token: %d", c.method, c.path, status)
			}
		}
		if out := r.refused(reader, "GET", app1+"/config/appsettings", "", 405, ""); strings.Contains(out, "the value") {
			t.Error(out)
		}
		if _, out := r.call(reader, "GET", app1, ""); strings.Contains(out, "the value") {
			t.Error("the app's own document shows a setting")
		}
		r.refused(stranger, "POST", siteBase+"none/runtimeEnvironment", `{}`, 403, "") // not even whether it is there
	})
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

// TestSettingsLieSealed looks at what the store keeps.
func TestSettingsLieSealed(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		r := newPlane(t, st)
		r.must(owner, "PUT", app1, `{"location":"local","properties":{"siteConfig":{"linuxFxVersion":"GO|1.19",
			"appSettings":[{"name":"A","value":"known-secret-1"}],"connectionStrings":[{"name":"db","connectionString":"known-secret-2","type":"SQLAzure"}]}}}`)
		row, ok, err := st.Resource(context.Background(), az.MustParseID(app1))
		if err != nil || !ok || len(row.Sealed) == 0 {
			t.Fatal(ok, err)
		}
		if bytes.Contains(row.Body, []byte("known-secret")) || bytes.Contains(row.Sealed, []byte("known-secret")) {
			t.Errorf("a setting lies in clear: %s", row.Body)
		}
		env := r.environment(owner, "", 0)
		if env.value("A") != "known-secret-1" || env.value("SQLAZURECONNSTR_db") != "known-secret-2" {
			t.Errorf("settings given at the creation are not there: %v", env)
		}
		got := r.must(owner, "POST", app1+"/config/connectionstrings/list", "")
		if text(got, "properties", "db", "value") != "known-secret-2" || text(got, "properties", "db", "type") != "SQLAzure" {
			t.Errorf("%v", got)
		}
	})
}

// TestAzRoundTrips are the requests that az makes: it reads the whole app and
// writes it back changed.
func TestAzRoundTrips(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		r := newPlane(t, st)
		r.must(owner, "PUT", app1, `{"location":"West Europe","kind":"app,linux","properties":{"reserved":true,"isXenon":false,"siteConfig":{"appSettings":[{"name":"A","value":"1"}],"linuxFxVersion":"PYTHON|3.10"}}}`)
		status, whole := r.call(owner, "GET", app1, "")
		if status != 200 {
			t.Fatal(whole)
		}
		for _, want := range []string{`"state":"Running"`, `"defaultHostName":"app1.sites.hawser.test:8443"`, `"hostType":"Repository"`, `"kind":"app,linux"`,
			`"type":"Microsoft.Web/sites"`, `"resourceGroup":"hawser"`, `"linuxFxVersion":"PYTHON|3.10"`} {
			if !strings.Contains(whole, want) {
				t.Errorf("%s is not in %s", want, whole)
			}
		}
		if status, out := r.call(owner, "PUT", app1, whole); status != 200 { // 201 breaks the CLI
			t.Fatal(status, out)
		}
		if got := r.environment(owner, "", 0).value("A"); got != "1" {
			t.Errorf("writing the app back took its settings away: %q", got)
		}
		names := r.must(owner, "GET", app1+"/config/slotConfigNames", "")
		if p, ok := at(names, "properties").(map[string]any); !ok || p["appSettingNames"] != nil {
			t.Errorf("slotConfigNames of a new app are %v", names)
		}
		r.must(owner, "PUT", app1+"/config/slotConfigNames", `{"properties":{"appSettingNames":["A"]}}`)
		web := r.must(owner, "PATCH", app1+"/config/web", `{"properties":{"alwaysOn":true}}`)
		if at(web, "properties", "alwaysOn") != true || text(web, "properties", "linuxFxVersion") != "PYTHON|3.10" {
			t.Errorf("%v", web)
		}
		if _, out := r.call(owner, "POST", app1+"/publishxml", `{"format":"WebDeploy"}`); !strings.Contains(out, `<publishData><publishProfile`) || !strings.Contains(out, `publishMethod="FTP"`) {
			t.Errorf("publishxml: %s", out)
		}
		if _, out := r.call(owner, "GET", "/providers/Microsoft.Web/webAppStacks", ""); !strings.Contains(out, `"runtimeVersion":"PYTHON|3.10"`) {
			t.Errorf("stacks: %s", out)
		}
		r.must(owner, "POST", app1+"/stop", "")
		if got := text(r.must(owner, "GET", app1, ""), "properties", "state"); got != "Stopped" {
			t.Errorf("a stopped app is %s", got)
		}
		r.must(owner, "PUT", app1, whole)
		if got := text(r.must(owner, "GET", app1, ""), "properties", "state"); got != "Stopped" {
			t.Errorf("a body set the state to %s", got)
		}
		r.refused(owner, "PUT", siteBase+"app2", `{"location":"local","properties":{"serverFarmId":"`+groupID+`/providers/Microsoft.Web/serverfarms/none"}}`, 400, "")
		for _, bad := range []string{`{"properties":{"a b":"c"}}`, `{"properties":{"a":{"b":1}}}`, `{"properties":{"a":"` + strings.Repeat("x", maxSettingValue+1) + `"}}`, `{}`, `[]`, `{"properties":`} {
			r.refused(owner, "PUT", app1+"/config/appsettings", bad, 400, "")
		}
		r.refused(owner, "POST", app1+"/runtimeEnvironment", `{"waitSeconds":31}`, 400, "")
		if got := r.environment(owner, "", 0).value("A"); got != "1" {
			t.Errorf("a refused write changed the settings: %q", got)
		}
	})
}

// TestConnectorWritesInATransaction: all of what a connection writes is there,
// or nothing.
func TestConnectorWritesInATransaction(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		r := newPlane(t, st)
		ctx, id := context.Background(), az.MustParseID(app1)
		link := az.MustParseID(app1 + "/providers/Microsoft.ServiceLinker/linkers/c1")
		r.create(systemIdentity, map[string]string{"AZURE_X": "mine", "KEEP": "1"})
		all := Settings{App: map[string]string{"AZURE_X": "theirs", "AZURE_Y": "y"}, Connections: map[string]ConnectionString{"pg": {"cs", "PostgreSQL"}}}
		failing := az.Errorf(az.Conflict, "", "later step")
		if err := st.Write(ctx, func(tx *store.Tx) error {
			if err := r.SetSettings(tx, id, link, all); err != nil {
				return err
			}
			return failing
		}); !az.Is(err, az.Conflict) {
			t.Fatal(err)
		}
		if env := r.environment(owner, "", 0); env.value("AZURE_X") != "mine" || env.value("AZURE_Y") != "(none)" {
			t.Error("a write that failed left something")
		}
		for range 2 { // safe to repeat
			r.write(func(tx *store.Tx) error { return r.SetSettings(tx, id, link, all) })
		}
		env := r.environment(owner, "", 0)
		if env.value("AZURE_X") != "theirs" || env.value("AZURE_Y") != "y" || env.value("POSTGRESQLCONNSTR_pg") != "cs" || env.value("KEEP") != "1" {
			t.Errorf("%v", env)
		}
		got, err := r.SettingsOf(ctx, id, link)
		if err != nil || len(got.App) != 2 || got.App["AZURE_Y"] != "y" || got.Connections["pg"].Value != "cs" {
			t.Errorf("the connection owns %#v, %v", got, err)
		}
		other := az.MustParseID(app1 + "/providers/Microsoft.ServiceLinker/linkers/c2")
		if err := st.Write(ctx, func(tx *store.Tx) error { return r.SetSettings(tx, id, other, all) }); !az.Is(err, az.Conflict) {
			t.Errorf("two connections own one setting: %v", err)
		}
		if err := st.Write(ctx, func(tx *store.Tx) error {
			return r.SetSettings(tx, id, other, Settings{App: map[string]string{"a=b": ""}})
		}); !az.Is(err, az.Invalid) {
			t.Errorf("a connection wrote a bad name: %v", err)
		}
		r.write(func(tx *store.Tx) error { return r.RemoveSettings(tx, id, link) })
		env = r.environment(owner, "", 0)
		if env.value("AZURE_X") != "mine" || env.value("AZURE_Y") != "(none)" || env.value("POSTGRESQLCONNSTR_pg") != "(none)" {
			t.Errorf("%v", env)
		}
		none := az.MustParseID(siteBase + "none")
		r.write(func(tx *store.Tx) error { return r.RemoveSettings(tx, none, link) })
		if err := st.Write(ctx, func(tx *store.Tx) error { return r.SetSettings(tx, none, link, all) }); !az.Is(err, az.NotFound) {
			t.Errorf("settings of no app were written: %v", err)
		}
	})
}
