package hawsertest_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hawser/hawser/client"
	"github.com/hawser/hawser/hawsertest"
	"github.com/hawser/hawser/internal/store/storetest"
)

var target *storetest.Postgres

func TestMain(m *testing.M) {
	var err error
	if target, err = storetest.NewPostgres(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := storetest.Main(m)
	target.Remove()
	os.Exit(code)
}

// two are two planes on one store, with a real server attached as pg1.
type two struct {
	t      *testing.T
	a, b   *hawsertest.Plane
	c      *client.Client
	group  string // the resource group's id
	server string
}

type object = map[string]any

func newTwo(t *testing.T) *two {
	t.Helper()
	url := storetest.Database(t)
	w := &two{t: t, a: hawsertest.Start(t, hawsertest.Store(url))}
	dir, err := os.MkdirTemp("", "hawser")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	kek, err := os.ReadFile(filepath.Join(w.a.Data, "kek"))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "kek"), kek, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	w.b = hawsertest.Start(t, hawsertest.Store(url), hawsertest.Dir(dir))
	w.c = w.a.Client(t)
	w.group = "/subscriptions/" + w.a.Info.SubscriptionID + "/resourceGroups/hawser"
	w.server = w.group + "/providers/Microsoft.DBforPostgreSQL/flexibleServers/pg1"
	w.put(w.server, object{"location": "local", "properties": object{"administratorLogin": target.SuperUser, "administratorLoginPassword": target.Password,
		"hawser": object{"host": target.Host, "port": target.Port, "sslMode": "disable"}}})
	return w
}

func (w *two) try(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *two) put(path string, body any) (out object) {
	w.t.Helper()
	w.try(w.c.Put(w.t.Context(), path, body, &out))
	return out
}

func (w *two) graph(method, path string, body any) (out object) {
	w.t.Helper()
	w.try(w.c.DoHost(w.t.Context(), "graph."+w.a.Info.Domain, method, "/v1.0"+path, body, &out))
	return out
}

// app makes an app and returns its id and its identity's object id.
func (w *two) app(name string) (id, oid string) {
	w.t.Helper()
	id = w.c.SiteID(name)
	out := w.put(id, object{"location": "local", "identity": object{"type": "SystemAssigned"}, "properties": object{}})
	return id, out["identity"].(object)["principalId"].(string)
}

func (w *two) connect(site, name string) (linker, role string) {
	w.t.Helper()
	linker = site + "/providers/Microsoft.ServiceLinker/linkers/" + name
	w.put(linker, object{"properties": object{"targetService": object{"type": "AzureResource", "id": w.server + "/databases/postgres"},
		"authInfo": object{"authType": "systemAssignedIdentity"}, "clientType": "go"}})
	return linker, "aad_" + name
}

// login gives PostgreSQL Login to somebody.
func (w *two) login(oid string) {
	w.t.Helper()
	const role = "/providers/Microsoft.Authorization/roleDefinitions/"
	var defs struct{ Value []struct{ ID string } }
	w.try(w.c.Get(w.t.Context(), w.group+"/providers/Microsoft.Authorization/roleDefinitions?$filter=roleName%20eq%20'PostgreSQL%20Login'", &defs))
	if len(defs.Value) != 1 {
		w.t.Fatalf("%d roles %s", len(defs.Value), role)
	}
	guid := fmt.Sprintf("%s-0000-4000-8000-000000000000", oid[:8])
	w.put(w.server+"/providers/Microsoft.Authorization/roleAssignments/"+guid, object{"properties": object{"roleDefinitionId": defs.Value[0].ID, "principalId": oid}})
}

func (w *two) mapped(role, oid string) (id string) {
	w.t.Helper()
	id = w.server + "/principals/" + role
	w.put(id, object{"properties": object{"principalId": oid, "database": "postgres", "access": "read"}})
	return id
}

// enter opens a session at each plane with one token.
func (w *two) enter(site, role string) []*pgx.Conn {
	w.t.Helper()
	token, err := w.c.RuntimeToken(w.t.Context(), site, client.TokenRequest{Resource: "https://ossrdbms-aad.database.windows.net"})
	w.try(err)
	var out []*pgx.Conn
	for _, p := range []*hawsertest.Plane{w.a, w.b} {
		host, port, err := net.SplitHostPort(p.Info.Gateways["pg"])
		w.try(err)
		conf, err := pgx.ParseConfig(fmt.Sprintf("host=%s port=%s user=%s dbname=postgres sslmode=require", host, port, role))
		w.try(err)
		conf.Password = token.AccessToken
		conn, err := pgx.ConnectConfig(w.t.Context(), conf)
		w.try(err)
		w.t.Cleanup(func() { _ = conn.Close(context.Background()) })
		out = append(out, conn)
	}
	return out
}

// TestEveryLossOfARightEndsTheSessionsAtEveryPlane takes the right to be in a
// database away in every way there is.
func TestEveryLossOfARightEndsTheSessionsAtEveryPlane(t *testing.T) {
	w := newTwo(t)
	ctx := t.Context()
	gone := func(path string) { w.t.Helper(); w.try(w.c.Delete(ctx, path)) }
	for i, c := range []struct {
		name string
		// setup returns the app, the role, and what takes the right away
		setup func(name string) (site, role string, lose func())
	}{
		{"the connection is deleted", func(n string) (string, string, func()) {
			site, _ := w.app(n)
			linker, role := w.connect(site, n)
			return site, role, func() { gone(linker) }
		}},
		{"the role assignment is deleted", func(n string) (string, string, func()) {
			site, oid := w.app(n)
			_, role := w.connect(site, n)
			return site, role, func() {
				var all struct{ Value []struct{ ID string } }
				w.try(w.c.Get(ctx, w.server+"/databases/postgres/providers/Microsoft.Authorization/roleAssignments?$filter=principalId%20eq%20'"+oid+"'", &all))
				for _, a := range all.Value {
					gone(a.ID)
				}
			}
		}},
		{"the app is deleted", func(n string) (string, string, func()) {
			site, _ := w.app(n)
			_, role := w.connect(site, n)
			return site, role, func() { gone(site) }
		}},
		{"the identity is turned off", func(n string) (string, string, func()) {
			site, _ := w.app(n)
			_, role := w.connect(site, n)
			return site, role, func() { w.try(w.c.Patch(ctx, site, object{"identity": object{"type": "None"}}, nil)) }
		}},
		{"the principal is disabled", func(n string) (string, string, func()) {
			site, oid := w.app(n)
			_, role := w.connect(site, n)
			return site, role, func() { w.graph("PATCH", "/servicePrincipals/"+oid, object{"accountEnabled": false}) }
		}},
		{"a nested group's membership ends", func(n string) (string, string, func()) {
			site, oid := w.app(n)
			outer := w.graph("POST", "/groups", object{"displayName": n + "o", "mailNickname": n + "o", "mailEnabled": false, "securityEnabled": true})["id"].(string)
			inner := w.graph("POST", "/groups", object{"displayName": n + "i", "mailNickname": n + "i", "mailEnabled": false, "securityEnabled": true})["id"].(string)
			ref := func(id string) object {
				return object{"@odata.id": "https://graph.microsoft.com/v1.0/directoryObjects/" + id}
			}
			w.graph("POST", "/groups/"+outer+"/members/$ref", ref(inner))
			w.graph("POST", "/groups/"+inner+"/members/$ref", ref(oid))
			w.login(outer)
			w.mapped(n, outer)
			return site, n, func() { w.graph("DELETE", "/groups/"+outer+"/members/"+inner+"/$ref", nil) }
		}},
		{"the group is deleted", func(n string) (string, string, func()) {
			site, oid := w.app(n)
			g := w.graph("POST", "/groups", object{"displayName": n, "mailNickname": n, "mailEnabled": false, "securityEnabled": true})["id"].(string)
			w.graph("POST", "/groups/"+g+"/members/$ref", object{"@odata.id": "https://graph.microsoft.com/v1.0/directoryObjects/" + oid})
			w.login(oid) // the right stays; the mapping goes
			w.mapped(n, g)
			return site, n, func() { w.graph("DELETE", "/groups/"+g, nil) }
		}},
		{"the mapping is deleted", func(n string) (string, string, func()) {
			site, oid := w.app(n)
			w.login(oid)
			id := w.mapped(n, oid)
			return site, n, func() { gone(id) }
		}},
		{"an administrator is removed", func(n string) (string, string, func()) {
			site, oid := w.app(n)
			id := w.server + "/administrators/" + oid
			w.put(id, object{"properties": object{"principalType": "ServicePrincipal", "principalName": n, "tenantId": w.a.Info.TenantID}})
			return site, n, func() { gone(id) }
		}},
		{"tokens are turned off for the server", func(n string) (string, string, func()) {
			site, _ := w.app(n)
			_, role := w.connect(site, n)
			return site, role, func() {
				w.try(w.c.Patch(ctx, w.server, object{"properties": object{"authConfig": object{"activeDirectoryAuth": "Disabled"}}}, nil))
			}
		}},
		{"the server is deleted", func(n string) (string, string, func()) {
			w.try(w.c.Patch(ctx, w.server, object{"properties": object{"authConfig": object{"activeDirectoryAuth": "Enabled"}}}, nil))
			site, _ := w.app(n)
			_, role := w.connect(site, n)
			return site, role, func() { gone(w.server) }
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			was := w.t
			w.t = t
			defer func() { w.t = was }()
			site, role, lose := c.setup(fmt.Sprintf("app%d", i))
			ended := make(chan error, 2)
			for _, conn := range w.enter(site, role) {
				go func() {
					_, err := conn.Exec(context.Background(), "select pg_sleep(60)")
					ended <- err
				}()
			}
			lose()
			start := time.Now()
			for range 2 {
				select {
				case err := <-ended:
					if err == nil || !strings.Contains(err.Error(), "terminat") && !strings.Contains(err.Error(), "EOF") && !strings.Contains(err.Error(), "reset") {
						t.Errorf("it ended otherwise: %v", err)
					}
				case <-time.After(10 * time.Second):
					t.Fatal("a session goes on")
				}
			}
			t.Logf("over after %s", time.Since(start).Round(time.Millisecond))
		})
	}
}
