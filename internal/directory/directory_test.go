package directory

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/rest"
	"github.com/hawser/hawser/internal/seal"
	"github.com/hawser/hawser/internal/store"
	"github.com/hawser/hawser/internal/store/storetest"
)

func TestMain(m *testing.M) { os.Exit(storetest.Main(m)) }

// world is a directory with everything real behind it and an owner.
type world struct {
	*Directory
	t     *testing.T
	st    *store.Store
	owner az.Principal
	now   time.Time
	gone  []string // principals whose assignments were asked to go
}

func newWorld(t *testing.T, st *store.Store) *world {
	t.Helper()
	ctx := context.Background()
	w := &world{t: t, st: st, now: time.Now()}
	log := slog.New(slog.DiscardHandler)
	clock := func() time.Time { return w.now }
	audit, err := guard.OpenLog(ctx, guard.LogConfig{Dir: t.TempDir(), Plane: "p", Key: []byte(strings.Repeat("a", 32)), Clock: clock, Logger: log,
		Checkpoint: guard.Checkpoint{Save: func(context.Context, []byte) error { return nil }, Load: func(context.Context) ([]byte, bool, error) { return nil, false, nil }}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = audit.Close() })
	kek, err := seal.NewKEK()
	if err != nil {
		t.Fatal(err)
	}
	sealer, _, err := seal.New(kek)
	if err != nil {
		t.Fatal(err)
	}
	w.Directory = New(Config{Store: st, Guard: guard.New(st, audit, log), Sealer: sealer, Clock: clock, Log: log,
		Names:    az.Names{Domain: "hawser.localhost", Port: "8443", Tenant: az.NewGUID()},
		Unassign: func(_ *store.Tx, oid string) error { w.gone = append(w.gone, oid); return nil }})
	w.owner = az.Principal{ObjectID: az.NewGUID(), AppID: az.NewGUID(), Kind: az.ServicePrincipal}
	w.write(func(tx *store.Tx) error {
		body := fmt.Sprintf(`{"properties":{"roleDefinitionId":"/providers/Microsoft.Authorization/roleDefinitions/%s","principalId":"%s"}}`, guard.RoleOwner, w.owner.ObjectID)
		return tx.PutResource(store.Resource{ID: az.MustParseID("/providers/Microsoft.Authorization/roleAssignments/" + az.NewGUID()), ETag: "1", Body: []byte(body)}, "")
	})
	return w
}

func each(t *testing.T, fn func(*world)) {
	storetest.Each(t, func(t *testing.T, st *store.Store) { fn(newWorld(t, st)) })
}

func (w *world) write(fn func(*store.Tx) error) {
	w.t.Helper()
	if err := w.st.Write(context.Background(), fn); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) group(name string) (id string) {
	w.write(func(tx *store.Tx) error {
		o, err := w.AddGroup(tx, Object{Name: name})
		if err == nil {
			id = o.ID
		}
		return err
	})
	return id
}

func TestSecrets(t *testing.T) {
	each(t, func(w *world) {
		ctx, t := context.Background(), w.t
		var app *Object
		var one, two az.Secret
		var oneID string
		w.write(func(tx *store.Tx) (err error) {
			if app, err = w.AddApplication(tx, Object{Name: "app"}); err != nil {
				return err
			}
			if _, err = w.AddServicePrincipal(tx, app.AppID); err != nil {
				return err
			}
			c, s, err := w.AddSecret(tx, app.ID, "one", 0, az.MicrosOf(w.now.Add(time.Hour)))
			if err != nil {
				return err
			}
			one, oneID = s, c.ID
			_, two, err = w.AddSecret(tx, app.ID, "two", 0, 0)
			return err
		})
		if n := len(one.Reveal()); n != SecretLength || one.Reveal() == two.Reveal() {
			t.Errorf("secrets of %d characters, equal %v", n, one.Reveal() == two.Reveal())
		}
		match := func(secret string, want SecretState) {
			t.Helper()
			c, ok, err := w.Client(ctx, strings.ToUpper(app.AppID))
			if err != nil || !ok {
				t.Fatal(ok, err)
			}
			if got := w.MatchSecret(c, secret); got != want {
				t.Errorf("got %v, want %v", got, want)
			}
		}
		match(one.Reveal(), SecretRight)
		match(two.Reveal(), SecretRight)
		match(one.Reveal()+"x", SecretWrong)
		match("", SecretWrong)
		if w.MatchSecret(nil, one.Reveal()) != SecretWrong {
			t.Error("nobody's secret matches")
		}
		w.now = w.now.Add(2 * time.Hour)
		match(one.Reveal(), SecretExpired)
		match(two.Reveal(), SecretRight)
		w.now = w.now.Add(-2 * time.Hour)
		w.write(func(tx *store.Tx) error { _, err := tx.DeleteCredential(app.ID, oneID); return err })
		match(one.Reveal(), SecretWrong)
		rows, err := w.st.Credentials(ctx, app.ID)
		if err != nil || len(rows) != 1 {
			t.Fatal(rows, err)
		}
		if b, _ := json.Marshal(rows); strings.Contains(string(b), two.Reveal()) {
			t.Error("a secret lies in the store")
		}
		// A row moved to another owner proves nothing.
		var other *Object
		w.write(func(tx *store.Tx) (err error) {
			if other, err = w.AddApplication(tx, Object{Name: "other"}); err != nil {
				return err
			}
			if _, err = w.AddServicePrincipal(tx, other.AppID); err != nil {
				return err
			}
			moved := rows[0]
			moved.Owner = other.ID
			return tx.PutCredential(moved)
		})
		c, _, _ := w.Client(ctx, other.AppID)
		if w.MatchSecret(c, two.Reveal()) != SecretWrong {
			t.Error("a moved secret opens another application")
		}
	})
}

func TestRemovingAnApplicationTakesAllAlong(t *testing.T) {
	each(t, func(w *world) {
		ctx, t := context.Background(), w.t
		group := w.group("g")
		var app, sp *Object
		w.write(func(tx *store.Tx) (err error) {
			if app, err = w.AddApplication(tx, Object{Name: "app", Facts: Facts{IdentifierURIs: []string{"api://Name"}}}); err != nil {
				return err
			}
			if sp, err = w.AddServicePrincipal(tx, app.AppID); err != nil {
				return err
			}
			if _, _, err = w.AddSecret(tx, app.ID, "", 0, 0); err != nil {
				return err
			}
			return w.AddMember(tx, group, sp.ID)
		})
		if o, ok, err := w.ByName(ctx, "API://name"); err != nil || !ok || o.ID != app.ID {
			t.Fatal(o, ok, err)
		}
		if _, ok, _ := w.ByAppID(ctx, app.AppID); !ok {
			t.Fatal("no principal")
		}
		w.write(func(tx *store.Tx) error { return w.Remove(tx, app.ID) })
		if _, ok, _ := w.ByAppID(ctx, app.AppID); ok {
			t.Error("the principal is still there")
		}
		if _, ok, _ := w.Get(ctx, sp.ID); ok {
			t.Error("the principal is still cached")
		}
		if _, ok, _ := w.ByName(ctx, "api://name"); ok {
			t.Error("the identifier URI is still taken")
		}
		if m, _ := w.st.MembersOf(ctx, group); len(m) != 0 {
			t.Errorf("members %v", m)
		}
		if c, _ := w.st.Credentials(ctx, app.ID); len(c) != 0 {
			t.Errorf("credentials %v", c)
		}
		if len(w.gone) == 0 || w.gone[0] != sp.ID {
			t.Errorf("assignments were kept: %v", w.gone)
		}
		w.write(func(tx *store.Tx) error { return w.Remove(tx, app.ID) }) // again
	})
}

func TestIdentitiesLiveWithTheirResource(t *testing.T) {
	each(t, func(w *world) {
		ctx, t := context.Background(), w.t
		site := az.MustParseID("/subscriptions/s/resourceGroups/G/providers/Microsoft.Web/sites/App")
		var oid, app, again string
		w.write(func(tx *store.Tx) (err error) {
			if oid, app, err = w.CreateIdentity(tx, site, "App"); err != nil {
				return err
			}
			again, _, err = w.CreateIdentity(tx, az.MustParseID(strings.ToUpper(site.String())), "App")
			return err
		})
		if again != oid {
			t.Error("a second identity for one resource")
		}
		o, ok, err := w.Get(ctx, oid)
		if err != nil || !ok || o.AppID != app || !o.IsManagedIdentity() || o.IsUserAssigned() || o.Resource.String() != site.String() {
			t.Fatalf("%+v %v %v", o, ok, err)
		}
		w.write(func(tx *store.Tx) error { return w.DeleteIdentity(tx, oid) })
		if _, ok, _ := w.Get(ctx, oid); ok {
			t.Error("it outlives its resource")
		}
		w.write(func(tx *store.Tx) (err error) { again, _, err = w.CreateIdentity(tx, site, "App"); return err })
		if again == oid {
			t.Error("a new identity has the old object id")
		}
	})
}

func TestGroupsRefuseCycles(t *testing.T) {
	each(t, func(w *world) {
		a, b, c := w.group("a"), w.group("b"), w.group("c")
		add := func(group, member string) error {
			return w.st.Write(context.Background(), func(tx *store.Tx) error { return w.AddMember(tx, group, member) })
		}
		for _, s := range []struct {
			group, member string
			kind          az.Kind
			ok            bool
		}{{a, b, 0, true}, {b, c, 0, true}, {a, c, 0, true}, {c, a, az.Invalid, false}, {b, a, az.Invalid, false}, {a, a, az.Invalid, false},
			{a, b, az.Invalid, false}, {a, az.NewGUID(), az.NotFound, false}, {az.NewGUID(), a, az.NotFound, false}} {
			if err := add(s.group, s.member); (err == nil) != s.ok || !s.ok && !az.Is(err, s.kind) {
				w.t.Errorf("%v: %v", s, err)
			}
		}
	})
}

func TestPasswords(t *testing.T) {
	w := newWorld(t, storetest.Open(t, store.Config{Dir: t.TempDir()}))
	p := NewPassword()
	var u *Object
	w.write(func(tx *store.Tx) (err error) {
		u, err = w.AddUser(tx, Object{Name: "First Person", UPN: "First@hawser.localhost", Enabled: true}, HashPassword(p))
		return err
	})
	for _, c := range []struct {
		user string
		p    az.Secret
		want bool
	}{{u.ID, p, true}, {u.ID, az.NewSecret(p.Reveal() + "x"), false}, {u.ID, az.Secret{}, false}, {az.NewGUID(), p, false}} {
		if got, err := w.CheckPassword(context.Background(), c.user, c.p); err != nil || got != c.want {
			t.Errorf("got %v %v, want %v", got, err, c.want)
		}
	}
	rows, _ := w.st.Credentials(context.Background(), u.ID)
	if len(rows) != 1 || !strings.HasPrefix(string(rows[0].Hash), "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Errorf("stored %s", rows[0].Hash)
	}
	if passwordMatches(az.Secret{}, noPassword) || passwordMatches(p, "$argon2id$") || passwordMatches(p, "") {
		t.Error("a hash of nothing matches")
	}
}

// graph is the Graph surface on a listener, called by anybody.
type graph struct {
	w   *world
	srv *httptest.Server
	as  az.Principal
}

func newGraph(w *world) *graph {
	g := &graph{w: w, as: w.owner}
	s := w.Surface()
	s.Verify = func(_ context.Context, _ *http.Request, a rest.Audience) (az.Principal, error) {
		if g.as.IsZero() || a != rest.Graph {
			return az.Principal{}, az.Errorf(az.Unauthorized, "InvalidAuthenticationToken", "no")
		}
		return g.as, nil
	}
	g.srv = httptest.NewServer(s.Handler())
	w.t.Cleanup(g.srv.Close)
	return g
}

func (g *graph) call(method, path string, body any) (int, map[string]any) {
	g.w.t.Helper()
	var r io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			g.w.t.Fatal(err)
		}
		r = strings.NewReader(string(b))
	}
	req, err := http.NewRequest(method, g.srv.URL+"/v1.0"+path, r)
	if err != nil {
		g.w.t.Fatal(err)
	}
	req.Host = "graph.hawser.localhost:8443"
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		g.w.t.Fatal(err)
	}
	defer res.Body.Close()
	var out map[string]any
	_ = json.NewDecoder(res.Body).Decode(&out)
	return res.StatusCode, out
}

// want is call that must end with a status.
func (g *graph) want(status int, method, path string, body any) map[string]any {
	g.w.t.Helper()
	got, out := g.call(method, path, body)
	if got != status {
		g.w.t.Fatalf("%s %s: %d, want %d: %v", method, path, got, status, out)
	}
	return out
}

type object = map[string]any

func ids(page object) []string {
	out := []string{}
	for _, v := range page["value"].([]any) {
		out = append(out, v.(object)["id"].(string))
	}
	return out
}

func TestGraphCreateForRBAC(t *testing.T) {
	each(t, func(w *world) {
		g, t := newGraph(w), w.t
		// The calls of "az ad sp create-for-rbac".
		app := g.want(201, "POST", "/applications", object{"displayName": "it's mine", "keyCredentials": []any{}})
		pw := g.want(200, "POST", "/applications/"+app["id"].(string)+"/addPassword", object{"passwordCredential": object{"displayName": "rbac",
			"startDateTime": w.now.Format(time.RFC3339), "endDateTime": w.now.Add(time.Hour).Format(time.RFC3339)}})
		sp := g.want(201, "POST", "/servicePrincipals", object{"appId": app["appId"], "accountEnabled": true})
		c, ok, err := w.Client(context.Background(), app["appId"].(string))
		if err != nil || !ok || w.MatchSecret(c, pw["secretText"].(string)) != SecretRight || c.Principal.ID != sp["id"] {
			t.Errorf("the secret does not prove the client: %v %v", ok, err)
		}
		shown := g.want(200, "GET", "/applications/"+app["id"].(string), nil)["passwordCredentials"].([]any)[0].(object)
		if shown["secretText"] != nil || shown["hint"] != pw["secretText"].(string)[:3] || shown["keyId"] != pw["keyId"] {
			t.Errorf("shown %v", shown)
		}
		for _, f := range []string{"servicePrincipalNames/any(c:c eq '" + app["appId"].(string) + "')", "displayName eq 'it''s mine'", "startswith(displayName,'IT''S')",
			"appId eq '" + app["appId"].(string) + "' and displayName eq 'it''s mine'"} {
			if got := ids(g.want(200, "GET", "/servicePrincipals?$filter="+url.QueryEscape(f), nil)); len(got) != 1 || got[0] != sp["id"] {
				t.Errorf("%s: %v", f, got)
			}
		}
		if got := ids(g.want(200, "GET", "/servicePrincipals?$filter="+url.QueryEscape("startswith(displayName,'%')"), nil)); len(got) != 0 {
			t.Errorf("a wildcard found %v", got)
		}
		by := g.want(200, "POST", "/directoryObjects/getByIds", object{"ids": []any{sp["id"], az.NewGUID()}, "types": []any{"user", "servicePrincipal"}})
		if v := by["value"].([]any); len(v) != 1 || v[0].(object)["@odata.type"] != "#microsoft.graph.servicePrincipal" {
			t.Errorf("getByIds: %v", by)
		}
		g.want(204, "POST", "/applications/"+app["id"].(string)+"/removePassword", object{"keyId": pw["keyId"]})
		if c, _, _ := w.Client(context.Background(), app["appId"].(string)); w.MatchSecret(c, pw["secretText"].(string)) != SecretWrong {
			t.Error("a removed secret still opens")
		}
		g.want(204, "DELETE", "/applications/"+app["id"].(string), nil)
		g.want(404, "GET", "/servicePrincipals/"+sp["id"].(string), nil)
	})
}

func TestGraphCertificatesAndFederation(t *testing.T) {
	w := newWorld(t, storetest.Open(t, store.Config{Dir: t.TempDir()}))
	g := newGraph(w)
	app := g.want(201, "POST", "/applications", object{"displayName": "a"})
	path := "/applications/" + app["id"].(string)
	key := base64.StdEncoding.EncodeToString(testCertificate(t))
	g.want(204, "PATCH", path, object{"keyCredentials": []any{object{"type": "AsymmetricX509Cert", "usage": "Verify", "key": key, "displayName": "c"}}})
	k := g.want(200, "GET", path, nil)["keyCredentials"].([]any)[0].(object)
	g.want(204, "PATCH", path, object{"keyCredentials": []any{object{"keyId": k["keyId"], "key": nil}}, "displayName": "b"})
	after := g.want(200, "GET", path, nil)
	if d := cmp.Diff(k, after["keyCredentials"].([]any)[0]); d != "" || after["displayName"] != "b" {
		t.Error(d, after["displayName"])
	}
	g.want(204, "PATCH", path, object{"keyCredentials": []any{}})
	if n := len(g.want(200, "GET", path, nil)["keyCredentials"].([]any)); n != 0 {
		t.Errorf("%d certificates left", n)
	}
	g.want(400, "PATCH", path, object{"keyCredentials": []any{object{"key": "AAAA"}}})
	g.want(400, "PATCH", path, object{"keyCredentials": []any{object{"key": "%%%"}}})
	f := object{"name": "gh", "issuer": "https://token.actions.githubusercontent.com", "subject": "repo:a/b:ref:refs/heads/main", "audiences": []any{"api://AzureADTokenExchange"}}
	made := g.want(201, "POST", path+"/federatedIdentityCredentials", f)
	g.want(400, "POST", path+"/federatedIdentityCredentials", f)
	for _, bad := range []object{{"issuer": "http://x"}, {"issuer": "https://u:p@x"}, {"subject": ""}, {"audiences": []any{}}, {"audiences": []any{"a", "b"}}} {
		c := object{"name": "x", "issuer": f["issuer"], "subject": "s", "audiences": f["audiences"]}
		for k, v := range bad {
			c[k] = v
		}
		g.want(400, "POST", path+"/federatedIdentityCredentials", c)
	}
	if got := ids(g.want(200, "GET", path+"/federatedIdentityCredentials", nil)); len(got) != 1 || got[0] != made["id"] {
		t.Errorf("listed %v", got)
	}
	g.want(200, "GET", path+"/federatedIdentityCredentials/gh", nil)
	g.want(204, "DELETE", path+"/federatedIdentityCredentials/"+made["id"].(string), nil)
	g.want(404, "GET", path+"/federatedIdentityCredentials/gh", nil)
}

func TestGraphPeopleAndGroups(t *testing.T) {
	each(t, func(w *world) {
		g, t := newGraph(w), w.t
		u := g.want(201, "POST", "/users", object{"displayName": "Ann", "userPrincipalName": "Ann@hawser.localhost", "mailNickname": "ann", "accountEnabled": true,
			"passwordProfile": object{"password": "correct horse"}})
		g.want(400, "POST", "/users", object{"displayName": "Ann 2", "userPrincipalName": "ann@HAWSER.localhost", "passwordProfile": object{"password": "correct horse"}})
		g.want(400, "POST", "/users", object{"displayName": "B", "userPrincipalName": "b@x", "passwordProfile": object{"password": "short"}})
		if got := g.want(200, "GET", "/users/ann@hawser.localhost", nil); got["id"] != u["id"] {
			t.Error(got)
		}
		for k, v := range u {
			if s, _ := v.(string); strings.Contains(s, "horse") {
				t.Errorf("%s shows the password", k)
			}
		}
		gr := g.want(201, "POST", "/groups", object{"displayName": "team", "mailNickname": "team", "mailEnabled": false, "securityEnabled": true})
		path := "/groups/" + gr["id"].(string)
		ref := object{"@odata.id": "https://graph.hawser.localhost:8443/v1.0/directoryObjects/" + u["id"].(string)}
		g.want(204, "POST", path+"/members/$ref", ref)
		if out := g.want(400, "POST", path+"/members/$ref", ref); !strings.Contains(out["error"].(object)["message"].(string), "already exist") {
			t.Error(out)
		}
		if got := ids(g.want(200, "GET", path+"/members", nil)); len(got) != 1 || got[0] != u["id"] {
			t.Errorf("members %v", got)
		}
		g.want(204, "DELETE", path+"/members/"+u["id"].(string)+"/$ref", nil)
		g.want(404, "DELETE", path+"/members/"+u["id"].(string)+"/$ref", nil)
		g.want(204, "DELETE", "/users/"+u["id"].(string), nil)
		g.want(404, "GET", "/users/"+u["id"].(string), nil)
	})
}

func TestGraphPages(t *testing.T) {
	each(t, func(w *world) {
		g, t := newGraph(w), w.t
		want := map[string]bool{}
		for i := range 7 {
			want[w.group(fmt.Sprintf("g%d", i))] = true
		}
		path, pages := "/groups?$top=3", 0
		for path != "" {
			page := g.want(200, "GET", path, nil)
			for _, id := range ids(page) {
				if !want[id] {
					t.Errorf("%s came twice or is not ours", id)
				}
				delete(want, id)
			}
			next, _ := page["@odata.nextLink"].(string)
			path = strings.TrimPrefix(next, "https://graph.hawser.localhost:8443/v1.0")
			pages++
		}
		if len(want) != 0 || pages != 3 {
			t.Errorf("%d left after %d pages", len(want), pages)
		}
	})
}

func TestGraphRefusals(t *testing.T) {
	w := newWorld(t, storetest.Open(t, store.Config{Dir: t.TempDir()}))
	g := newGraph(w)
	app := g.want(201, "POST", "/applications", object{"displayName": "a"})
	id := app["id"].(string)
	var identity string
	w.write(func(tx *store.Tx) (err error) {
		identity, _, err = w.CreateIdentity(tx, az.MustParseID("/subscriptions/s/resourceGroups/g/providers/Microsoft.Web/sites/a"), "a")
		return err
	})
	group := w.group("g")
	mi := g.want(200, "GET", "/servicePrincipals/"+identity, nil)
	if mi["servicePrincipalType"] != "ManagedIdentity" || cmp.Diff(mi["alternativeNames"], []any{"isExplicit=False", "/subscriptions/s/resourceGroups/g/providers/Microsoft.Web/sites/a"}) != "" {
		t.Errorf("an identity is shown as %v", mi)
	}
	g.want(400, "DELETE", "/servicePrincipals/"+identity, nil)
	for _, c := range []struct {
		method, path string
		body         any
		status       int
		code         string
	}{
		{"POST", "/applications", object{"displayName": ""}, 400, "Request_BadRequest"},
		{"POST", "/applications", object{"displayName": strings.Repeat("x", 257)}, 400, "Request_BadRequest"},
		{"POST", "/applications", object{"displayName": "a\u0000b"}, 400, "Request_BadRequest"},
		{"POST", "/applications", object{"displayName": "a", "identifierUris": []any{"https://vault.azure.net"}}, 400, "Request_BadRequest"},
		{"POST", "/applications", object{"displayName": "a", "identifierUris": []any{"api://" + az.NewGUID()}}, 400, "Request_BadRequest"},
		{"POST", "/applications", object{"displayName": "a", "identifierUris": []any{"no uri"}}, 400, "Request_BadRequest"},
		{"POST", "/applications", object{"displayName": 5}, 400, "InvalidRequestContent"},
		{"POST", "/applications", nil, 400, "BadParameter"},
		{"POST", "/servicePrincipals", object{"appId": az.NewGUID()}, 400, "Request_BadRequest"},
		{"POST", "/servicePrincipals", object{}, 400, "Request_BadRequest"},
		{"GET", "/applications/" + az.NewGUID(), nil, 404, "Request_ResourceNotFound"},
		{"GET", "/applications/%00", nil, 404, "Request_ResourceNotFound"},
		{"GET", "/groups/" + id, nil, 404, "Request_ResourceNotFound"},
		{"GET", "/groups?$filter=owner%20eq%20'x'", nil, 400, "Request_UnsupportedQuery"},
		{"GET", "/groups?$filter=displayName%20has%20'x'", nil, 400, "Request_UnsupportedQuery"},
		{"GET", "/groups?$filter=displayName%20eq%20'%00'", nil, 400, "Request_UnsupportedQuery"},
		{"GET", "/groups?$top=0", nil, 400, "Request_UnsupportedQuery"},
		{"GET", "/groups?$skiptoken=%00", nil, 400, "Request_UnsupportedQuery"},
		{"POST", "/directoryObjects/getByIds", object{"ids": []any{"x"}}, 400, "Request_BadRequest"},
		{"POST", "/applications/" + id + "/addPassword", object{"passwordCredential": object{"endDateTime": "2001-01-01T00:00:00Z"}}, 400, "Request_BadRequest"},
		{"PUT", "/applications/" + id, object{}, 405, "MethodNotAllowed"},
	} {
		status, out := g.call(c.method, c.path, c.body)
		e, _ := out["error"].(object)
		if status != c.status || e["code"] != c.code || e["innerError"] == nil {
			t.Errorf("%s %s %v: %d %v", c.method, c.path, c.body, status, out)
		}
	}
	// Nobody reads or writes without a right, but for himself; who may read
	// resources somewhere may read the directory.
	someone := az.Principal{ObjectID: identity, AppID: az.NewGUID()}
	g.as = someone
	g.want(200, "GET", "/servicePrincipals/"+strings.ToUpper(identity), nil)
	g.want(200, "GET", "/directoryObjects/"+identity, nil)
	for _, path := range []string{"/applications/" + id, "/applications", "/users", "/groups/" + group + "/members", "/directoryObjects/" + id,
		"/applications/" + id + "/federatedIdentityCredentials", "/servicePrincipals"} {
		g.want(403, "GET", path, nil)
	}
	g.want(403, "POST", "/directoryObjects/getByIds", object{"ids": []any{id}})
	g.want(403, "DELETE", "/users/nobody@hawser.localhost", nil)
	g.as = az.Principal{ObjectID: az.NewGUID(), AppID: az.NewGUID()}
	w.write(func(tx *store.Tx) error {
		body := fmt.Sprintf(`{"properties":{"roleDefinitionId":"/providers/Microsoft.Authorization/roleDefinitions/%s","principalId":"%s"}}`, guard.RoleReader, g.as.ObjectID)
		return tx.PutResource(store.Resource{ID: az.MustParseID("/subscriptions/s/resourceGroups/g/providers/Microsoft.Authorization/roleAssignments/" + az.NewGUID()), ETag: "1", Body: []byte(body)}, "")
	})
	g.want(200, "GET", "/applications/"+id, nil)
	g.as = someone
	for _, c := range []struct{ method, path string }{{"POST", "/applications"}, {"PATCH", "/applications/" + id}, {"DELETE", "/applications/" + id},
		{"POST", "/applications/" + id + "/addPassword"}, {"POST", "/applications/" + id + "/federatedIdentityCredentials"}, {"POST", "/users"}, {"POST", "/groups"},
		{"POST", "/groups/" + group + "/members/$ref"}, {"DELETE", "/groups/" + group}, {"DELETE", "/groups/" + group + "/members/" + identity + "/$ref"}} {
		body := object{"displayName": "x", "passwordProfile": object{"password": "long enough"}, "@odata.id": "x/" + identity, "name": "n", "issuer": "https://i", "subject": "s", "audiences": []any{"a"}}
		status, out := g.call(c.method, c.path, body)
		if e, _ := out["error"].(object); status != 403 || e["code"] != "Authorization_RequestDenied" {
			t.Errorf("%s %s: %d %v", c.method, c.path, status, out)
		}
	}
	g.as = az.Principal{}
	g.want(401, "GET", "/applications", nil)
}

// A plane whose administrator was deleted would not start again.
func TestAdministratorIsKept(t *testing.T) {
	w := newWorld(t, storetest.Open(t, store.Config{Dir: t.TempDir()}))
	g := newGraph(w)
	app := g.want(201, "POST", "/applications", object{"displayName": "admin"})
	sp := g.want(201, "POST", "/servicePrincipals", object{"appId": app["appId"]})
	w.cfg.Keep = app["appId"].(string)
	g.want(400, "DELETE", "/applications/"+app["id"].(string), nil)
	g.want(400, "DELETE", "/servicePrincipals/"+sp["id"].(string), nil)
	w.cfg.Keep = az.NewGUID()
	g.want(204, "DELETE", "/applications/"+app["id"].(string), nil)
}
