package conformance

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"
)

// orderDesk is examples/behalf on a plane: web asks api for the person who is
// signed in, api asks Graph and PostgreSQL for that person.
type orderDesk struct {
	*plane
	ann, ben, eve person
	sales         string // the group of Ann and Ben, which is a role of the database
	web, api      string // client ids
	apiLog        *tail
}

// orders is what examples/behalf shows.
type orders struct {
	Profile struct {
		Name string `json:"displayName"`
		UPN  string `json:"userPrincipalName"`
	} `json:"profile"`
	Role string `json:"role"`
	Rows []struct {
		Item  string `json:"item"`
		Owner string `json:"owner"`
	} `json:"rows"`
}

func newOrderDesk(t *testing.T) *orderDesk {
	t.Helper()
	d := &orderDesk{plane: start(t)}
	all := d.people("Ann", "Ben", "Eve")
	d.ann, d.ben, d.eve = all[0], all[1], all[2]
	d.sales = d.group("sales", d.ann.ID, d.ben.ID)
	db := d.attach("pg1")
	db.exec(t, fmt.Sprintf(`create table orders (id int primary key, item text not null, owner text not null);
		insert into orders values (1, 'rope', '%[1]s'), (2, 'anchor', '%[2]s'), (3, 'lantern', '%[1]s'), (4, 'bell', '%[3]s');
		alter table orders enable row level security;
		create policy own_orders on orders using (owner = current_user)`, d.ann.UPN, d.ben.UPN, d.eve.UPN))
	d.mapRole("pg1", "sales_"+db.name, d.sales, db.name, "read")
	_, pg, _ := strings.Cut(d.env.Gateways["pg"], ":")
	d.make("app", "api")
	d.make("app", "web")
	d.cli("app", "set", "api", "GRAPH_URL=https://graph."+d.env.Domain+":"+d.port(),
		"DATABASE_URL=postgres://pg1.postgres."+d.env.Domain+":"+pg+"/"+db.name+"?sslmode=verify-full&sslrootcert="+d.env.CAFile)
	d.apiLog = d.start("api", []string{"--auth", "--auth-action", "401"}, behalfAPI).errs
	d.api = d.clientOf("api")
	d.cli("app", "set", "web", "API_URL="+d.site("api"), "API_SCOPE=api://"+d.api+"/user_impersonation")
	d.start("web", []string{"--auth", "--auth-scope", "openid profile offline_access api://{clientId}/user_impersonation"}, "node", "../examples/behalf/web/app.js")
	d.web = d.clientOf("web")
	for _, c := range [][3]string{{d.web, d.web, "user_impersonation"}, {d.web, d.api, "user_impersonation"}, {d.api, graphAppID, "User.Read"}, {d.api, databaseAppID, "user_impersonation"}} {
		d.consent(d.servicePrincipal(c[0]), d.servicePrincipal(c[1]), c[2])
	}
	return d
}

// databaseAppID is Azure Database for PostgreSQL and MySQL.
const databaseAppID = "123cd850-d9df-40bd-94d5-c9f07b7fa203"

// clientOf waits for the registration that hawser run --auth makes for an app.
func (p *plane) clientOf(app string) (id string) {
	p.t.Helper()
	eventually(p.t, startLimit, "the app "+app+" has a registration", func() bool {
		id = p.setting(app, "WEBSITE_AUTH_CLIENT_ID")
		return id != ""
	})
	return id
}

// setting is one of an app's settings.
func (p *plane) setting(app, name string) string {
	p.t.Helper()
	var all []struct{ Name, Value string }
	p.json(&all, "app", "settings", app, "--reveal")
	for _, s := range all {
		if s.Name == name {
			return s.Value
		}
	}
	return ""
}

// look opens the app's page in a browser that may be signed in already.
func (d *orderDesk) look(t *testing.T, v *visitor) (o orders) {
	t.Helper()
	v.left = nil
	eventually(t, startLimit, "the app answers", func() bool { // it may still be starting
		if err := v.arrive(d.site("web") + "/json"); err != nil {
			t.Fatal(err)
		}
		return v.status != http.StatusBadGateway && v.status != http.StatusServiceUnavailable || strings.Contains(v.text, "the log says why")
	})
	if v.status == http.StatusOK {
		if err := json.Unmarshal([]byte(v.text), &o); err != nil {
			t.Fatalf("%v in %s (%q)", err, v.text, v.trail)
		}
	}
	return o
}

// TestOnBehalfOf: two people use one app and see different rows, since app,
// API, Graph and database all act for the person; nothing else opens any of
// these doors, and what a person loses is lost at once.
func TestOnBehalfOf(t *testing.T) {
	d := newOrderDesk(t)
	ann, ben := d.visit(d.ann), d.visit(d.ben)
	for _, c := range []struct {
		*visitor
		items string
	}{{ann, "rope lantern"}, {ben, "anchor"}} {
		o := d.look(t, c.visitor)
		var items []string
		for _, r := range o.Rows {
			items = append(items, r.Item)
			if r.Owner != c.Person.UPN {
				t.Errorf("%s sees a row of %s", c.Person.Name, r.Owner)
			}
		}
		if o.Profile.Name != c.Person.Name || o.Profile.UPN != c.Person.UPN || o.Role != c.Person.UPN || strings.Join(items, " ") != c.items {
			t.Errorf("%s sees %+v, want %s; status %d %s\napi: %s", c.Person.Name, o, c.items, c.status, c.text, d.apiLog)
		}
	}
	t.Run("somebody outside the group", func(t *testing.T) {
		v := d.visit(d.eve)
		if o := d.look(t, v); v.status == http.StatusOK || len(o.Rows) > 0 || strings.Contains(v.text, "rope") {
			t.Errorf("Eve sees %d %s", v.status, v.text)
		}
		if !strings.Contains(d.apiLog.String(), "28000") && !strings.Contains(d.apiLog.String(), "28P01") {
			t.Errorf("it was not the database's door that stayed shut: %s", d.apiLog)
		}
	})
	t.Run("what opens the API", func(t *testing.T) { d.doors(t, ann) })
	t.Run("who leaves the group", func(t *testing.T) {
		d.as(t)
		d.leave(d.sales, d.ben.ID)
		eventually(t, time.Second, "Ben sees nothing any more", func() bool { return len(d.look(t, ben).Rows) == 0 })
		if o := d.look(t, ann); len(o.Rows) != 2 {
			t.Errorf("Ann sees %+v now", o)
		}
	})
	t.Run("who is disabled", func(t *testing.T) {
		d.as(t)
		d.cli("user", "disable", d.ann.UPN)
		eventually(t, time.Second, "Ann's session is over", func() bool {
			if err := ann.open(d.site("web") + "/json"); err != nil {
				t.Fatal(err)
			}
			return !strings.Contains(ann.text, "rope")
		})
	})
}

// doors tries to open the API with what is not the person's token for it.
func (d *orderDesk) doors(t *testing.T, ann *visitor) {
	d.as(t)
	if err := ann.open(d.site("web") + "/.auth/me"); err != nil {
		t.Fatal(err)
	}
	var me []struct {
		Access string `json:"access_token"`
		ID     string `json:"id_token"`
	}
	if err := json.Unmarshal([]byte(ann.text), &me); err != nil || len(me) != 1 {
		t.Fatalf("/.auth/me: %v %s", err, ann.text)
	}
	web := application{AppID: d.web, Secret: d.setting("web", "MICROSOFT_PROVIDER_AUTHENTICATION_SECRET")}
	behalf := d.ask(url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:jwt-bearer"}, "requested_token_use": {"on_behalf_of"}, "client_id": {web.AppID},
		"client_secret": {web.Secret}, "assertion": {me[0].Access}, "scope": {"api://" + d.api + "/user_impersonation"}})
	if behalf.Access == "" {
		t.Fatal(behalf.About)
	}
	for _, c := range []struct {
		name, token string
		want        int
	}{
		{"the person's token for the API", behalf.Access, 200},
		{"nothing", "", 401},
		{"the person's token for the app before it", me[0].Access, 401},
		{"the person's id token", me[0].ID, 401},
		{"a token for Graph", d.token("https://graph.microsoft.com", ""), 401},
		{"a token with another signature", forge(behalf.Access), 401},
		{"the app's own token, of nobody", d.appToken(web, "api://"+d.api), 502}, // it comes in, and can act for nobody
	} {
		var header []string
		if c.token != "" {
			header = []string{"Authorization", "Bearer " + c.token}
		}
		status, _, body := d.plain(t, http.MethodGet, d.site("api")+"/orders", nil, header...)
		if status != c.want || (status != 200) == strings.Contains(body, "rope") {
			t.Errorf("%s: %d %s, want %d", c.name, status, body, c.want)
		}
	}
	// A token is for one door only.
	if status, body := d.graphAs(behalf.Access, http.MethodGet, "/me", nil); status != http.StatusUnauthorized {
		t.Errorf("Graph takes the API's token: %d %s", status, body)
	}
	// Another app cannot act with a token that was not given to it.
	other := d.register("other", nil)
	stolen := d.ask(url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:jwt-bearer"}, "requested_token_use": {"on_behalf_of"}, "client_id": {other.AppID},
		"client_secret": {other.Secret}, "assertion": {behalf.Access}, "scope": {"https://graph.microsoft.com/User.Read"}})
	if stolen.Access != "" || !strings.Contains(stolen.About, "AADSTS500131") {
		t.Errorf("another app acts for Ann: %+v", stolen)
	}
}

// behalfAPI is the second app, built beside the plane's binary before the
// tests lose their network.
var behalfAPI = os.Getenv(behalfVar)
