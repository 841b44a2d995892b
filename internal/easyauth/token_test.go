package easyauth

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/directory"
	"github.com/hawser/hawser/internal/store"
	"github.com/hawser/hawser/internal/store/storetest"
)

// access is the claims of an access token for app1, changed by f.
func (r *rig) access(oid string, f func(map[string]any)) string {
	c := map[string]any{"aud": "api://" + clientID, "oid": oid, "idtyp": "user", "azp": caller1, "scp": "user_impersonation", "exp": r.now().Add(time.Hour).Unix(), "upn": "alice@hawser.test"}
	if f != nil {
		f(c)
	}
	return r.auth.sign(c)
}

func TestBearerTokens(t *testing.T) {
	r := plane(t)
	r.app("app1", echo)
	alice := r.user("alice")
	good := r.access(alice, nil)
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(good, ".")
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + parts[1] + "."
	for name, c := range map[string]struct {
		header string
		want   int
	}{
		"good":              {"Bearer " + good, 200},
		"any case":          {"bEARER " + good, 200},
		"v2 audience":       {"Bearer " + r.access(alice, func(c map[string]any) { c["aud"] = clientID }), 200},
		"other audience":    {"Bearer " + r.access(alice, func(c map[string]any) { c["aud"] = "api://" + otherID }), 401},
		"expired":           {"Bearer " + r.access(alice, func(c map[string]any) { c["exp"] = r.now().Add(-time.Second).Unix() }), 401},
		"an id token":       {"Bearer " + r.access(alice, func(c map[string]any) { delete(c, "idtyp"); c["aud"] = clientID }), 401},
		"alg none":          {"Bearer " + none, 401},
		"alg none, signed":  {"Bearer " + none + parts[2], 401},
		"another key":       {"Bearer " + signWith(t, other, map[string]any{"aud": clientID, "oid": alice, "idtyp": "user", "exp": r.now().Add(time.Hour).Unix()}), 401},
		"cut":               {"Bearer " + good[:len(good)-2], 401},
		"nothing":           {"Bearer ", 401},
		"no bearer":         {"Basic YTpi", 302},
		"two in one header": {"Bearer " + good + ", Bearer " + good, 401},
	} {
		a := r.browser().get("/", "Authorization", c.header)
		if a.StatusCode != c.want {
			t.Errorf("%s: %d, want %d: %s", name, a.StatusCode, c.want, a.text)
		}
		if c.want == 401 && !strings.Contains(a.Header.Get("WWW-Authenticate"), `error="invalid_token"`) {
			t.Errorf("%s: challenge %q", name, a.Header.Get("WWW-Authenticate"))
		}
		if c.want == 200 && (a.seen(t, "X-MS-CLIENT-PRINCIPAL-ID") != alice || a.seen(t, "Authorization") != c.header || a.seen(t, "X-MS-TOKEN-AAD-ACCESS-TOKEN") != "") {
			t.Errorf("%s: the app saw %s", name, a.text)
		}
	}
	if a := r.browser().get("/", "Authorization", "Bearer "+good, "Authorization", "Bearer "+good); a.StatusCode != 401 {
		t.Errorf("two headers: %d", a.StatusCode)
	}
	// A token that is not good is not made good by a cookie beside it: the app
	// would read who the token says.
	b := r.browser()
	b.signIn(alice)
	if a := b.get("/", "Authorization", "Bearer "+none); a.StatusCode != 401 {
		t.Errorf("a forged token beside a cookie: %d", a.StatusCode)
	}
}

func TestPolicy(t *testing.T) {
	r := plane(t)
	r.app("app1", echo)
	alice, bob := r.user("alice"), r.user("bob")
	var inner, outer string
	r.write(func(tx *store.Tx) error {
		a, err := r.dir.AddGroup(tx, directory.Object{Name: "inner"})
		if err != nil {
			return err
		}
		b, err := r.dir.AddGroup(tx, directory.Object{Name: "outer"})
		if err != nil {
			return err
		}
		inner, outer = a.ID, b.ID
		if err := r.dir.AddMember(tx, outer, inner); err != nil {
			return err
		}
		return r.dir.AddMember(tx, inner, alice)
	})
	aad := func(f func(v map[string]any)) string {
		return on(func(m map[string]any) {
			f(at(m, "identityProviders", "azureActiveDirectory", "validation"))
		})
	}
	for name, c := range map[string]struct {
		settings   string
		alice, bob int
	}{
		"everybody": {on(nil), 200, 200},
		"group":     {aad(func(v map[string]any) { at(v, "jwtClaimChecks")["allowedGroups"] = []string{outer} }), 200, 403},
		"principals by group": {aad(func(v map[string]any) {
			at(v, "defaultAuthorizationPolicy", "allowedPrincipals")["groups"] = []string{inner}
		}), 200, 403},
		"identity": {aad(func(v map[string]any) {
			at(v, "defaultAuthorizationPolicy", "allowedPrincipals")["identities"] = []string{strings.ToUpper(bob)}
		}), 403, 200},
		"group or identity": {aad(func(v map[string]any) {
			p := at(v, "defaultAuthorizationPolicy", "allowedPrincipals")
			p["identities"], p["groups"] = []string{bob}, []string{inner}
		}), 200, 200},
		"client":              {aad(func(v map[string]any) { at(v, "jwtClaimChecks")["allowedClientApplications"] = []string{caller1} }), 200, 200},
		"another client":      {aad(func(v map[string]any) { at(v, "jwtClaimChecks")["allowedClientApplications"] = []string{otherID} }), 403, 403},
		"another application": {aad(func(v map[string]any) { at(v, "defaultAuthorizationPolicy")["allowedApplications"] = []string{otherID} }), 403, 403},
		"group and other app": {aad(func(v map[string]any) {
			at(v, "jwtClaimChecks")["allowedGroups"] = []string{inner}
			at(v, "defaultAuthorizationPolicy")["allowedApplications"] = []string{otherID}
		}), 403, 403},
		"identity, not in grp": {aad(func(v map[string]any) {
			at(v, "jwtClaimChecks")["allowedGroups"] = []string{inner}
			at(v, "defaultAuthorizationPolicy", "allowedPrincipals")["identities"] = []string{bob}
		}), 403, 403},
	} {
		r.auths("app1", c.settings)
		for oid, want := range map[string]int{alice: c.alice, bob: c.bob} {
			if a := r.browser().get("/", "Authorization", "Bearer "+r.access(oid, nil)); a.StatusCode != want {
				t.Errorf("%s: %d, want %d", name, a.StatusCode, want)
			}
		}
	}
	if !strings.Contains(r.audit(), "not among the allowed groups") {
		t.Error("refusals are not recorded")
	}
	// A sign-in of somebody who may not use the app opens no session.
	r.auths("app1", aad(func(v map[string]any) { at(v, "jwtClaimChecks")["allowedGroups"] = []string{inner} }))
	b := r.browser()
	if a := b.callback(r.authorize(b.get("/").Header.Get("Location"), bob)); a.StatusCode != 403 || b.cookie(sessionCookie) != "" {
		t.Errorf("%d", a.StatusCode)
	}
	// Who leaves a group loses an open session with the next request.
	b = r.browser()
	b.signIn(alice)
	if a := b.get("/"); a.StatusCode != 200 {
		t.Fatal(a.StatusCode)
	}
	r.write(func(tx *store.Tx) error { _, err := tx.RemoveMember(inner, alice); return err })
	if a := b.get("/"); a.StatusCode != 403 {
		t.Errorf("after leaving the group: %d", a.StatusCode)
	}
}

func TestSignInWithATokenOfTheClientsOwn(t *testing.T) {
	r := plane(t)
	r.app("app1", echo)
	r.auths("app2", on(nil))
	alice, bob := r.user("alice"), r.user("bob")
	id := func(oid, aud string) string {
		return r.auth.sign(map[string]any{"aud": aud, "oid": oid, "exp": r.now().Add(time.Hour).Unix(), "preferred_username": "alice@hawser.test"})
	}
	post := func(id, access string) answer {
		body, _ := json.Marshal(map[string]string{"id_token": id, "access_token": access})
		return r.browser().do("POST", "/.auth/login/aad", strings.NewReader(string(body)), "Content-Type", "application/json")
	}
	backend := r.access(alice, func(c map[string]any) { c["aud"] = "api://backend" })
	a := post(id(alice, clientID), backend)
	token, _ := a.json(t)["authenticationToken"].(string)
	if a.StatusCode != 200 || token == "" || len(a.Header["Set-Cookie"]) != 0 {
		t.Fatalf("%d %s", a.StatusCode, a.text)
	}
	in := r.browser().get("/", "X-ZUMO-AUTH", token)
	if in.seen(t, "X-MS-CLIENT-PRINCIPAL-ID") != alice || in.seen(t, "X-MS-TOKEN-AAD-ACCESS-TOKEN") != backend || in.seen(t, "X-ZUMO-AUTH") != "" {
		t.Errorf("%s", in.text)
	}
	if a := r.browser().get("https://"+r.host("app2")+"/", "X-ZUMO-AUTH", token); a.StatusCode != 302 {
		t.Errorf("the token opens another app: %d", a.StatusCode)
	}
	if a := r.browser().get("/", "Cookie", sessionCookie+"="+token); a.StatusCode != 302 {
		t.Errorf("the token is a cookie: %d", a.StatusCode)
	}
	if a := post("", r.access(alice, nil)); a.StatusCode != 200 {
		t.Errorf("with an access token for the app: %d %s", a.StatusCode, a.text)
	}
	for name, a := range map[string]answer{
		"another client's":       post(id(alice, otherID), ""),
		"two people's":           post(id(alice, clientID), r.access(bob, nil)),
		"for another API":        post("", backend),
		"an access token as id":  post(r.access(alice, nil), ""),
		"an id token as access":  post("", id(alice, clientID)),
		"an application's token": post("", r.access(alice, func(c map[string]any) { c["idtyp"] = "app" })),
		"nothing":                post("", ""),
	} {
		if a.StatusCode < 400 || strings.Contains(a.text, "authenticationToken") {
			t.Errorf("%s: %d %s", name, a.StatusCode, a.text)
		}
	}
	if a := r.browser().get("/.auth/logout", "X-ZUMO-AUTH", token); a.StatusCode != 302 {
		t.Fatal(a.StatusCode)
	}
	if a := r.browser().get("/", "X-ZUMO-AUTH", token); a.StatusCode != 302 {
		t.Errorf("after the sign-out: %d", a.StatusCode)
	}
}

// Two planes, many requests: the refresh token is spent once, and everybody is
// answered with what came for it.
func TestRefreshOnTwoPlanes(t *testing.T) {
	one, two := storetest.Pair(t)
	r := newRig(t, one, nil)
	r2 := newRig(t, two, r)
	r.auths("app1", on(nil))
	r.app("app1", echo)
	alice, b := r.user("alice"), r.browser()
	b.signIn(alice)
	before := b.get("/").seen(t, "X-MS-TOKEN-AAD-REFRESH-TOKEN")
	cookie := sessionCookie + "=" + b.cookie(sessionCookie) + "; " + bindingCookie + "=" + b.cookie(bindingCookie)
	asked := r.auth.asked.Load()
	const many = 8
	var wait sync.WaitGroup
	status := make([]int, 2*many)
	for i := range status {
		to := r
		if i%2 == 1 {
			to = r2
		}
		at := r.browserAt(to)
		wait.Go(func() { status[i] = at.get("/.auth/refresh", "Cookie", cookie).StatusCode })
	}
	wait.Wait()
	if want := strings.Repeat("200 ", 2*many); strings.Trim(fmt.Sprint(status), "[]")+" " != want {
		t.Errorf("%v", status)
	}
	if n := r.auth.burnt.Load(); n != 0 {
		t.Errorf("%d families of refresh tokens were ended", n)
	}
	if n := r.auth.asked.Load() - asked; n < 1 || n > 2*many {
		t.Errorf("the authority was asked %d times", n)
	}
	after := r.browserAt(r2).get("/", "Cookie", cookie).seen(t, "X-MS-TOKEN-AAD-REFRESH-TOKEN")
	if after == "" || after == before {
		t.Error("the other plane has the old token")
	}
	// A sign-out here ends it there.
	b.get("/.auth/logout")
	if a := r.browserAt(r2).get("/", "Cookie", cookie); a.StatusCode != 302 {
		t.Errorf("signed out, and in on the other plane: %d", a.StatusCode)
	}
}

func TestRefresh(t *testing.T) {
	r := plane(t)
	r.app("app1", echo)
	alice, b := r.user("alice"), r.browser()
	b.signIn(alice)
	r.offset.Store(int64(9 * time.Hour)) // the session is over, and may be renewed
	if a := b.get("/"); a.StatusCode != 302 {
		t.Fatalf("%d", a.StatusCode)
	}
	if a := b.get("/.auth/refresh"); a.StatusCode != 200 {
		t.Fatalf("%d %s", a.StatusCode, a.text)
	}
	if a := b.get("/.auth/me"); a.StatusCode != 200 {
		t.Fatalf("after the renewal: %d", a.StatusCode)
	}
	r.offset.Store(int64(100 * time.Hour)) // longer than tokenRefreshExtensionHours
	if a := b.get("/.auth/refresh"); a.StatusCode != 401 {
		t.Errorf("after the extension: %d", a.StatusCode)
	}
	if a := r.browser().get("/.auth/refresh"); a.StatusCode != 401 {
		t.Errorf("nobody: %d", a.StatusCode)
	}
	r.offset.Store(0)
	b = r.browser()
	b.signIn(alice)
	r.change(alice, func(o *directory.Object) { o.Enabled = false })
	if a := b.get("/.auth/refresh"); a.StatusCode != 401 {
		t.Errorf("a disabled person: %d", a.StatusCode)
	}
}

func TestTokenStoreOff(t *testing.T) {
	r := plane(t)
	r.auths("app1", on(func(m map[string]any) { at(m, "login", "tokenStore")["enabled"] = false }))
	r.app("app1", echo)
	b := r.browser()
	b.signIn(r.user("alice"))
	if a := b.get("/"); a.seen(t, "X-MS-TOKEN-AAD-ID-TOKEN") != "" || a.seen(t, "X-MS-CLIENT-PRINCIPAL-IDP") != "aad" {
		t.Errorf("%s", a.text)
	}
	for path, want := range map[string]int{"/.auth/me": 404, "/.auth/refresh": 403, "/.auth/nothing": 404, "/.auth/login/google": 404, "/.AUTH/me": 404, "/.auth/%6de": 404} {
		if a := b.get(path); a.StatusCode != want {
			t.Errorf("%s: %d, want %d", path, a.StatusCode, want)
		}
	}
}

// What is stored opens nothing elsewhere: a session's row moved to another
// key does not open, and its tokens are not in the store's file.
func TestStoredSessionsAreSealed(t *testing.T) {
	r := plane(t)
	r.app("app1", echo)
	alice, b := r.user("alice"), r.browser()
	b.signIn(alice)
	key := r.sessionKey(az.MustParseID(siteID+"app1"), b.cookie(sessionCookie), b.cookie(bindingCookie))
	row, ok, err := r.st.FrontSession(context.Background(), key)
	if err != nil || !ok {
		t.Fatal("no row", err)
	}
	if strings.Contains(string(row.Sealed), "alice") || strings.Contains(key, b.cookie(sessionCookie)[:20]) {
		t.Error("in clear")
	}
	moved := row
	id, binding := random(), random()
	moved.Key = r.sessionKey(az.MustParseID(siteID+"app1"), id, binding)
	r.write(func(tx *store.Tx) error { return tx.AddFrontSession(moved, maxSessions) })
	if a := r.browser().get("/", "Cookie", sessionCookie+"="+id+"; "+bindingCookie+"="+binding); a.StatusCode == 200 {
		t.Error("a row that was moved opens")
	}
}

func TestMisconfiguredSecret(t *testing.T) {
	r := plane(t)
	r.app("app1", echo)
	r.setting = func(context.Context, az.ID, string) (az.Secret, error) { return az.Secret{}, nil }
	b := r.browser()
	a := b.callback(r.authorize(b.get("/").Header.Get("Location"), r.user("alice")))
	if a.StatusCode != 403 || !strings.Contains(a.text, "client secret is empty") {
		t.Errorf("%d %s", a.StatusCode, a.text)
	}
}

func BenchmarkBearerThroughTheFront(b *testing.B) {
	r := plane(b)
	r.app("app1", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	token := r.access(r.user("alice"), nil)
	c := r.browser()
	b.ReportAllocs()
	for b.Loop() {
		if a := c.get("/", "Authorization", "Bearer "+token); a.StatusCode != 204 {
			b.Fatal(a.StatusCode)
		}
	}
}

func BenchmarkSessionThroughTheFront(b *testing.B) {
	r := plane(b)
	r.app("app1", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	c := r.browser()
	c.signIn(r.user("alice"))
	b.ReportAllocs()
	for b.Loop() {
		if a := c.get("/"); a.StatusCode != 204 {
			b.Fatal(a.StatusCode)
		}
	}
}

// The authority's page tells the apps of a browser that its person has left.
func TestLeavingAtTheAuthority(t *testing.T) {
	r := plane(t)
	r.app("app1", echo)
	b, alice := r.browser(), r.user("alice")
	form := r.authorize(b.get("/").Header.Get("Location"), alice, func(c map[string]any) { c["sid"] = "s1" })
	b.callback(form)
	for sid, want := range map[string]int{"": 200, "s2": 200} {
		b.get("/.auth/logout/frontchannel?sid=" + sid)
		if a := b.get("/"); a.StatusCode != want {
			t.Errorf("sid %q: %d", sid, a.StatusCode)
		}
	}
	a := b.get("/.auth/logout/frontchannel?sid=s1")
	if csp := a.Header.Get("Content-Security-Policy"); !strings.Contains(csp, "frame-ancestors https://login.hawser.test") {
		t.Errorf("who may frame it: %q", csp)
	}
	if a := b.get("/"); a.StatusCode != 302 {
		t.Errorf("still in: %d", a.StatusCode)
	}
}
