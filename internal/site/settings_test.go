package site

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hawser/hawser/internal/az"
)

func TestVariables(t *testing.T) {
	got := variables(map[string]string{"A": "1", "B.C": "2", "D:E": "3", "B_C": "4", "WEBSITE_SITE_NAME": "mine", "x-y": "5"},
		map[string]ConnectionString{"db": {"s", "PostgreSQL"}, "my.db": {"t", "SQLAzure"}},
		[]Variable{{"WEBSITE_SITE_NAME", "app1"}})
	want := []Variable{{"APPSETTING_A", "1"}, {"APPSETTING_B_C", "4"}, {"APPSETTING_D__E", "3"}, {"APPSETTING_WEBSITE_SITE_NAME", "mine"},
		{"APPSETTING_x-y", "5"}, {"A", "1"}, {"B_C", "4"}, {"D__E", "3"}, {"POSTGRESQLCONNSTR_db", "s"}, {"SQLAZURECONNSTR_my_db", "t"},
		{"WEBSITE_SITE_NAME", "app1"}, {"x-y", "5"}}
	byName := func(vs []Variable) map[string]string {
		m := map[string]string{}
		for _, v := range vs {
			m[v.Name] = v.Value
		}
		return m
	}
	if d := cmp.Diff(byName(want), byName(got)); d != "" || len(got) != len(want) {
		t.Error(d)
	}
	for i := 1; i < len(got); i++ {
		if got[i-1].Name >= got[i].Name {
			t.Errorf("%s stands before %s", got[i-1].Name, got[i].Name)
		}
	}
}

func TestEveryConnectionType(t *testing.T) {
	for name, prefix := range connectionPrefixes {
		d := document{Connections: map[string]ConnectionString{"db": {"v", strings.ToUpper(name)}}}
		if err := d.check(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		vars := variables(nil, d.Connections, nil)
		if len(vars) != 1 || vars[0] != (Variable{prefix + "db", "v"}) {
			t.Errorf("%s gives %v", name, vars)
		}
	}
}

func TestFactsAreOfThisPlane(t *testing.T) {
	id := az.MustParseID("/subscriptions/s/resourceGroups/g/providers/Microsoft.Web/sites/App1")
	for _, v := range facts(id, "east us", "B1", testNames) {
		want := map[string]string{"WEBSITE_SITE_NAME": "App1", "WEBSITE_HOSTNAME": "app1.sites.hawser.test:8443",
			"WEBSITE_OWNER_NAME": "s+g-eastuswebspace-Linux", "WEBSITE_SKU": "B1"}[v.Name]
		if want != "" && v.Value != want {
			t.Errorf("%s is %q, want %q", v.Name, v.Value, want)
		}
		if v.Name == "REGION_NAME" {
			t.Error("REGION_NAME would send MSAL to a host of Azure")
		}
	}
}

func TestSettingsAreChecked(t *testing.T) {
	many := map[string]string{}
	for i := range maxSettings + 1 {
		many[fmt.Sprint("k", i)] = ""
	}
	big := map[string]string{}
	for i := range 9 {
		big[fmt.Sprint("k", i)] = strings.Repeat("x", maxSettingValue)
	}
	for what, d := range map[string]document{
		"empty name":    {App: map[string]string{"": "v"}},
		"equals sign":   {App: map[string]string{"a=b": "v"}},
		"NUL in name":   {App: map[string]string{"a\x00": "v"}},
		"newline":       {App: map[string]string{"a\nB": "v"}},
		"long name":     {App: map[string]string{strings.Repeat("a", maxSettingName+1): "v"}},
		"reserved name": {App: map[string]string{"hawser_URL": "v"}},
		"mapped to it":  {App: map[string]string{"Hawser.URL": "v"}},
		"NUL in value":  {App: map[string]string{"a": "x\x00y"}},
		"not UTF-8":     {App: map[string]string{"a": "\xff"}},
		"long value":    {App: map[string]string{"a": strings.Repeat("x", maxSettingValue+1)}},
		"too many":      {App: many},
		"too much":      {App: big},
		"no type":       {Connections: map[string]ConnectionString{"db": {"v", "Oracle"}}},
		"slot name":     {Slot: SlotNames{AppSettings: []string{"a b"}}},
	} {
		if err := d.check(); !az.Is(err, az.Invalid) {
			t.Errorf("%s: %v", what, err)
		} else if strings.Contains(err.Error(), "\x00") || strings.Contains(err.Error(), "xxxx") {
			t.Errorf("%s: the error repeats what it refuses: %v", what, err)
		}
	}
	ok := document{App: map[string]string{"a.b:c-d_1": strings.Repeat("x", maxSettingValue), "é": ""}}
	delete(ok.App, "é")
	if err := ok.check(); err != nil {
		t.Error(err)
	}
}

func TestConnectionsOwnTheirSettings(t *testing.T) {
	c1, c2 := az.MustParseID("/subscriptions/s/c1"), az.MustParseID("/subscriptions/s/c2")
	d := document{App: map[string]string{"HOST": "mine", "KEEP": "1"}}
	if err := d.give(c1, Settings{App: map[string]string{"HOST": "db", "USER": "u"}, Connections: map[string]ConnectionString{"cs": {"x", "Custom"}}}); err != nil {
		t.Fatal(err)
	}
	if d.App["HOST"] != "db" || d.App["USER"] != "u" || d.Connections["cs"].Value != "x" {
		t.Errorf("%v", d.App)
	}
	if err := d.give(c2, Settings{App: map[string]string{"HOST": "other"}}); !az.Is(err, az.Conflict) {
		t.Errorf("another connection's setting was overwritten: %v", err)
	}
	if err := d.give(c1, Settings{App: map[string]string{"HOST": "db2"}}); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(map[string]string{"HOST": "db2", "KEEP": "1"}, d.App); d != "" {
		t.Error(d)
	}
	if len(d.Connections) != 0 {
		t.Error("a connection string that is no longer written stays")
	}
	d.replaceApp(map[string]string{"HOST": "db2", "KEEP": "2"})
	d.take(c1, func(string) bool { return true })
	if diff := cmp.Diff(map[string]string{"HOST": "mine", "KEEP": "2"}, d.App); diff != "" {
		t.Errorf("what the connection had found is not back: %s", diff)
	}
	_ = d.give(c1, Settings{App: map[string]string{"HOST": "db"}})
	d.replaceApp(map[string]string{"HOST": "by hand"})
	d.take(c1, func(string) bool { return true })
	if d.App["HOST"] != "by hand" || len(d.Owned) != 0 {
		t.Errorf("a person's later value was undone: %v", d.App)
	}
}

// FuzzSetting checks that any setting that is accepted becomes a variable that
// every system can carry.
func FuzzSetting(f *testing.F) {
	f.Add("A.B:C", "v")
	f.Add("\x00", "\xff")
	f.Add("HAWSER_X", "")
	f.Fuzz(func(t *testing.T, name, value string) {
		d := document{App: map[string]string{name: value}, Connections: map[string]ConnectionString{name: {value, "custom"}}}
		if d.check() != nil {
			return
		}
		for _, v := range variables(d.App, d.Connections, nil) {
			if v.Name == "" || strings.ContainsAny(v.Name, "=\x00.: ") || strings.Contains(v.Value, "\x00") || strings.HasPrefix(strings.ToUpper(v.Name), reservedPrefix) {
				t.Fatalf("%q gives a variable %q", name, v.Name)
			}
		}
	})
}
