package easyauth

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/directory"
)

func TestSignInAndOut(t *testing.T) {
	r := plane(t)
	r.app("app1", echo)
	alice, b := r.user("alice"), r.browser()

	a := b.get("/private?x=1")
	if a.StatusCode != 302 {
		t.Fatalf("unauthenticated: %d %s", a.StatusCode, a.text)
	}
	q, _ := url.Parse(a.Header.Get("Location"))
	for k, want := range map[string]string{"client_id": clientID, "response_type": "code", "response_mode": "form_post", "code_challenge_method": "S256",
		"redirect_uri": "https://" + r.host("app1") + "/.auth/login/aad/callback", "scope": "openid profile offline_access api://backend/user_impersonation"} {
		if got := q.Query().Get(k); got != want {
			t.Errorf("%s = %q, want %q", k, got, want)
		}
	}
	c := b.callback(r.authorize(a.Header.Get("Location"), alice))
	if c.StatusCode != 302 || c.Header.Get("Location") != "/private?x=1" {
		t.Fatalf("callback: %d %s %s", c.StatusCode, c.Header.Get("Location"), c.text)
	}
	for _, line := range c.Header["Set-Cookie"] {
		if !strings.Contains(line, "; Secure") || !strings.Contains(line, "; HttpOnly") || strings.Contains(line, "Domain") {
			t.Errorf("cookie %s", line)
		}
	}
	in := b.get("/private?x=1")
	for name, want := range map[string]string{"X-MS-CLIENT-PRINCIPAL-ID": alice, "X-MS-CLIENT-PRINCIPAL-NAME": "alice@hawser.test", "X-MS-CLIENT-PRINCIPAL-IDP": "aad",
		"X-Forwarded-Proto": "https", "X-Forwarded-Host": r.host("app1"), "Cookie": ""} {
		if got := in.seen(t, name); got != want {
			t.Errorf("%s = %q, want %q", name, got, want)
		}
	}
	if got := in.json(t)["host"]; got != r.host("app1") {
		t.Errorf("the app's Host is %v", got)
	}
	checkPrincipal(t, in.seen(t, "X-MS-CLIENT-PRINCIPAL"), alice)
	for _, name := range []string{"X-MS-TOKEN-AAD-ID-TOKEN", "X-MS-TOKEN-AAD-ACCESS-TOKEN", "X-MS-TOKEN-AAD-REFRESH-TOKEN"} {
		if in.seen(t, name) == "" {
			t.Errorf("no %s", name)
		}
	}
	if _, err := time.Parse("2006-01-02T15:04:05.0000000Z", in.seen(t, "X-MS-TOKEN-AAD-EXPIRES-ON")); err != nil {
		t.Error(err)
	}
	me := b.get("/.auth/me")
	var list []map[string]any
	if err := json.Unmarshal([]byte(me.text), &list); err != nil || len(list) != 1 || list[0]["user_id"] != "alice@hawser.test" || list[0]["access_token"] == "" {
		t.Errorf("/.auth/me: %s", me.text)
	}
	if me.Header.Get("Cache-Control") != "no-store" || r.browser().get("/.auth/me").StatusCode != 401 {
		t.Error("/.auth/me is kept, or open")
	}
	out := b.get("/.auth/logout?post_logout_redirect_uri=/bye")
	if l := out.Header.Get("Location"); !strings.HasPrefix(l, "https://login.hawser.test:"+r.port+"/"+tenant+"/oauth2/v2.0/logout?") || !strings.Contains(l, "logout%2Fcomplete") {
		t.Errorf("logout leads to %s", l)
	}
	if l := b.get("/.auth/logout/complete").Header.Get("Location"); l != "/bye" {
		t.Errorf("after logout: %s", l)
	}
	if s := b.get("/private").StatusCode; s != 302 {
		t.Errorf("after logout the app answers %d", s)
	}
	for _, want := range []string{`"sign in to app"`, `"sign out of app"`, alice} {
		if !strings.Contains(r.audit(), want) {
			t.Errorf("the audit log has no %s", want)
		}
	}
	if strings.Contains(r.audit(), list[0]["access_token"].(string)) {
		t.Error("the audit log holds a token")
	}
}

func checkPrincipal(t *testing.T, header, oid string) {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(header)
	var p struct {
		Type   string `json:"auth_typ"`
		Name   string `json:"name_typ"`
		Role   string `json:"role_typ"`
		Claims []claim
	}
	if err != nil || json.Unmarshal(b, &p) != nil {
		t.Fatalf("principal %q", header)
	}
	if p.Type != "aad" || p.Name != nameType || p.Role != roleType {
		t.Errorf("principal %s", b)
	}
	for _, want := range []claim{{msClaims + "objectidentifier", oid}, {wsClaims + "nameidentifier", "s-" + oid}, {msClaims + "tenantid", tenant}, {"roles", "A"}, {"roles", "B"}, {"aud", clientID}} {
		if !slices.Contains(p.Claims, want) {
			t.Errorf("the principal lacks %v: %s", want, b)
		}
	}
}

func TestSessionsThatDoNotCount(t *testing.T) {
	r := plane(t)
	r.auths("app2", on(nil))
	r.app("app1", echo)
	r.app("app2", echo)
	alice, b := r.user("alice"), r.browser()
	b.signIn(alice)
	id, binding := b.cookie(sessionCookie), b.cookie(bindingCookie)
	if len(id) < 43 || len(binding) < 43 || id == binding {
		t.Fatal("weak cookies")
	}
	both := func(id, binding string) string {
		return sessionCookie + "=" + id + "; " + bindingCookie + "=" + binding
	}
	for name, c := range map[string]struct{ host, cookie, zumo string }{
		"half":           {"app1", sessionCookie + "=" + id, ""},
		"other half":     {"app1", bindingCookie + "=" + binding, ""},
		"swapped":        {"app1", both(binding, id), ""},
		"forged":         {"app1", both(random(), random()), ""},
		"one bit":        {"app1", both(id[:42]+string(id[42]^1), binding), ""},
		"another app":    {"app2", both(id, binding), ""},
		"as a token":     {"app1", "", id},
		"as a token too": {"app1", "", id + binding},
	} {
		a := r.browser().get("https://"+r.host(c.host)+"/", "Cookie", c.cookie, "X-Zumo-Auth", c.zumo)
		if a.StatusCode != 302 {
			t.Errorf("%s: %d", name, a.StatusCode)
		}
	}
	// Cookies that another app has set for all of sites.D stand beside the
	// right ones and change nothing.
	if a := r.browser().get("/", "Cookie", sessionCookie+"=evil; "+both(id, binding)); a.seen(t, "X-MS-CLIENT-PRINCIPAL-ID") != alice {
		t.Error("a tossed cookie hides the session")
	}
}

// A session that an attacker had put into a browser does not become the
// victim's: signing in makes new ids and ends what was there.
func TestSignInRotates(t *testing.T) {
	r := plane(t)
	r.app("app1", echo)
	mallory, alice := r.user("mallory"), r.user("alice")
	b := r.browser()
	b.signIn(mallory)
	old := sessionCookie + "=" + b.cookie(sessionCookie) + "; " + bindingCookie + "=" + b.cookie(bindingCookie)
	b.signIn(alice)
	if a := b.get("/"); a.seen(t, "X-MS-CLIENT-PRINCIPAL-ID") != alice {
		t.Error("not alice")
	}
	if a := r.browser().get("/", "Cookie", old); a.StatusCode != 302 {
		t.Error("the session from before still stands")
	}
}

func TestWhatEndsASession(t *testing.T) {
	for name, end := range map[string]func(r *rig, oid string){
		"disabled":      func(r *rig, oid string) { r.change(oid, func(o *directory.Object) { o.Enabled = false }) },
		"signed out":    func(r *rig, oid string) { r.change(oid, func(o *directory.Object) { o.ValidFrom = microsNow(r) }) },
		"other client":  func(r *rig, _ string) { r.auths("app1", strings.ReplaceAll(on(nil), clientID, otherID)) },
		"absolute time": func(r *rig, _ string) { r.offset.Store(int64(8*time.Hour + time.Minute)) },
		"idle time": func(r *rig, _ string) {
			r.auths("app1", on(func(m map[string]any) { at(m, "login", "cookieExpiration")["timeToExpiration"] = "20.00:00:00" }))
			r.offset.Store(int64(8*time.Hour + time.Minute))
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := plane(t)
			r.app("app1", echo)
			if name == "idle time" {
				r.auths("app1", on(func(m map[string]any) { at(m, "login", "cookieExpiration")["timeToExpiration"] = "20.00:00:00" }))
			}
			alice, b := r.user("alice"), r.browser()
			b.signIn(alice)
			if a := b.get("/"); a.StatusCode != 200 {
				t.Fatal(a.StatusCode)
			}
			end(r, alice)
			if a := b.get("/", "Cookie", sessionCookie+"="+b.cookie(sessionCookie)); a.StatusCode != 302 {
				t.Errorf("still in: %d", a.StatusCode)
			}
		})
	}
}

func TestCallbackIsForTheBrowserThatBegan(t *testing.T) {
	r := plane(t)
	r.app("app1", echo)
	alice := r.user("alice")
	begin := func(b *browser) string { return b.get("/").Header.Get("Location") }

	t.Run("another browser", func(t *testing.T) { // signing a victim in as the attacker
		form := r.authorize(begin(r.browser()), alice)
		if a := r.browser().callback(form); a.StatusCode != 403 || len(a.Header["Set-Cookie"]) != 0 {
			t.Errorf("%d %v", a.StatusCode, a.Header["Set-Cookie"])
		}
	})
	t.Run("replayed", func(t *testing.T) {
		b := r.browser()
		form := r.authorize(begin(b), alice)
		if a := b.callback(form); a.StatusCode != 302 {
			t.Fatal(a.text)
		}
		if a := b.callback(form); a.StatusCode != 403 {
			t.Errorf("%d", a.StatusCode)
		}
	})
	t.Run("code of another sign-in", func(t *testing.T) { // code injection: PKCE does not fit
		b := r.browser()
		form := r.authorize(begin(b), alice)
		form.Set("code", r.authorize(begin(r.browser()), alice).Get("code"))
		if a := b.callback(form); a.StatusCode != 403 || b.cookie(sessionCookie) != "" {
			t.Errorf("%d", a.StatusCode)
		}
	})
	t.Run("nonce", func(t *testing.T) {
		b := r.browser()
		if a := b.callback(r.authorize(begin(b), alice, func(c map[string]any) { c["nonce"] = "n" })); a.StatusCode != 403 {
			t.Errorf("%d", a.StatusCode)
		}
	})
	t.Run("id token of another client", func(t *testing.T) {
		b := r.browser()
		if a := b.callback(r.authorize(begin(b), alice, func(c map[string]any) { c["aud"] = otherID })); a.StatusCode != 401 {
			t.Errorf("%d", a.StatusCode)
		}
	})
	t.Run("too late", func(t *testing.T) {
		b := r.browser()
		form := r.authorize(begin(b), alice)
		r.offset.Store(int64(6 * time.Minute))
		defer r.offset.Store(0)
		if a := b.callback(form); a.StatusCode != 403 {
			t.Errorf("%d", a.StatusCode)
		}
	})
	t.Run("by GET", func(t *testing.T) {
		b := r.browser()
		form := r.authorize(begin(b), alice)
		if a := b.get("/.auth/login/aad/callback?" + form.Encode()); a.StatusCode != 400 {
			t.Errorf("%d", a.StatusCode)
		}
	})
	t.Run("an error with markup", func(t *testing.T) {
		b := r.browser()
		u, _ := url.Parse(begin(b))
		a := b.callback(url.Values{"state": {u.Query().Get("state")}, "error": {"access_denied"}, "error_description": {"<script>alert(1)</script>"}})
		if a.StatusCode != 403 || strings.Contains(a.text, "<script>") {
			t.Errorf("%d %s", a.StatusCode, a.text)
		}
	})
	t.Run("many tabs", func(t *testing.T) {
		b := r.browser()
		for range 3 * maxPending {
			begin(b)
		}
		u, _ := url.Parse("https://" + r.host("app1") + "/")
		if n := len(b.Jar.Cookies(u)); n > maxPending {
			t.Errorf("%d cookies of sign-ins", n)
		}
	})
}

func TestOpenRedirects(t *testing.T) {
	r := plane(t)
	r.auths("app1", on(func(m map[string]any) {
		at(m, "login")["allowedExternalRedirectUrls"] = []string{"https://spa.example.com/app/", "https://exact.example.com/cb", "custom://app/cb"}
	}))
	host := r.host("app1")
	for target, ok := range map[string]bool{
		"/": true, "/a?b=c#d": true, "https://" + host + "/x?y": true, "https://spa.example.com/app/x": true, "https://exact.example.com/cb?q=1": true, "custom://app/cb": true,
		"//evil.example": false, `/\evil.example`: false, `\\evil.example`: false, "/%5cevil.example": false, "/%2fevil.example": false, "https:evil.example": false,
		"/\t/evil.example": false, "/\n/evil.example": false, " //evil.example": false, "///evil.example": false, "https://evil.example": false,
		"https://" + host + "@evil.example/": false, "https://" + host + ".evil.example/": false, "javascript:alert(1)": false, "data:text/html,x": false,
		"https://spa.example.com/app/../x": false, "https://spa.example.com/apple": false, "https://exact.example.com/cb/x": false, "https://user@spa.example.com/app/": false,
		"http://spa.example.com/app/x": false, "evil.example": false, "https:///evil.example": false, "/\x00/evil": false, `https://spa.example.com\@evil.example/app/`: false,
		"/a\r\nSet-Cookie: x=y": false, "https://" + host + "//evil.example": false,
	} {
		in := r.browser().get("/.auth/login/aad?post_login_redirect_uri=" + url.QueryEscape(target)).StatusCode
		out := r.browser().get("/.auth/logout?post_logout_redirect_uri=" + url.QueryEscape(target)).StatusCode
		if want := map[bool]int{true: 302, false: 400}[ok]; in != want || out != want {
			t.Errorf("%q: login %d, logout %d, want %d", target, in, out, want)
		}
	}
	// A path that an app could turn into another host's leads back to a path.
	a := r.browser().get("https://" + host + "//evil.example/x")
	if f := r.authorize(a.Header.Get("Location"), r.user("alice")); f == nil {
		t.Fatal("no sign-in")
	}
}

func TestUnauthenticatedAction(t *testing.T) {
	r := plane(t)
	r.app("app1", echo)
	for action, want := range map[string][2]int{Redirect: {302, 401}, Return401: {401, 401}, Return403: {403, 403}, Anonymous: {200, 200}} {
		r.auths("app1", on(func(m map[string]any) {
			at(m, "globalValidation")["unauthenticatedClientAction"] = action
			at(m, "globalValidation")["requireAuthentication"] = action != Anonymous
		}))
		if a := r.browser().get("/"); a.StatusCode != want[0] {
			t.Errorf("%s: %d", action, a.StatusCode)
		}
		a := r.browser().get("/", "X-Requested-With", "XMLHttpRequest")
		if a.StatusCode != want[1] {
			t.Errorf("%s by script: %d", action, a.StatusCode)
		}
		if w := a.Header.Get("WWW-Authenticate"); a.StatusCode == 401 && (!strings.Contains(w, "/oauth2/v2.0/authorize") || !strings.Contains(w, clientID)) {
			t.Errorf("challenge %q", w)
		}
	}
	r.auths("app1", on(nil))
	if a := r.browser().do("POST", "/", nil); a.StatusCode != 401 {
		t.Errorf("a POST is sent to sign in: %d", a.StatusCode)
	}
}

func TestExcludedPaths(t *testing.T) {
	r := plane(t)
	r.app("app1", echo)
	r.auths("app1", on(func(m map[string]any) { at(m, "globalValidation")["excludedPaths"] = []string{"/health", "/public/*"} }))
	for path, open := range map[string]bool{
		"/health": true, "/public/a/b.css": true, "/public/": true, "/health?x=/private": true,
		"/health/": false, "/healthz": false, "/publicity": false, "/public": false, "/Public/a": false, "/public/../private": false, "/public/%2e%2e/private": false,
		"/public/..%2fprivate": false, "/public//private": false, `/public/..%5cprivate`: false, "/public/;/private": false, "/private/public/x": false, "/public/%00": false,
	} {
		a := r.browser().get(path)
		if (a.StatusCode == 200) != open {
			t.Errorf("%s: %d", path, a.StatusCode)
		}
		if open && a.seen(t, "X-MS-CLIENT-PRINCIPAL-ID") != "" {
			t.Errorf("%s: somebody's", path)
		}
	}
}

func TestWithoutAuthenticationTheFrontOnlyProxies(t *testing.T) {
	r := plane(t)
	r.auths("app1", `{}`)
	r.app("app1", echo)
	a := r.browser().get("/.auth/me", "X-MS-CLIENT-PRINCIPAL-ID", "me")
	if a.StatusCode != 200 || a.seen(t, "X-MS-CLIENT-PRINCIPAL-ID") != "" {
		t.Errorf("%d %s", a.StatusCode, a.text)
	}
	if a := r.browser().get("https://" + r.host("none") + "/"); a.StatusCode != 404 {
		t.Errorf("an app that is not there: %d", a.StatusCode)
	}
	r.site("app1", &Site{ID: az.MustParseID(siteID + "app1"), Stopped: true})
	if a := r.browser().get("/"); a.StatusCode != 403 {
		t.Errorf("a stopped app: %d", a.StatusCode)
	}
}

func TestCrossSiteRequestsWithACookie(t *testing.T) {
	r := plane(t)
	r.app("app1", echo)
	b := r.browser()
	b.signIn(r.user("alice"))
	for name, c := range map[string]struct {
		method string
		header []string
		want   int
	}{
		"own page":           {"POST", []string{"Sec-Fetch-Site", "same-origin", "Origin", "https://" + r.host("app1")}, 200},
		"no browser":         {"POST", nil, 200},
		"old browser":        {"POST", []string{"Origin", "https://" + r.host("app1")}, 200},
		"other app here":     {"POST", []string{"Sec-Fetch-Site", "same-site", "Origin", "https://" + r.host("app2")}, 403},
		"other app, old":     {"DELETE", []string{"Origin", "https://" + r.host("app2")}, 403},
		"elsewhere":          {"POST", []string{"Sec-Fetch-Site", "cross-site"}, 403},
		"sandboxed":          {"POST", []string{"Origin", "null"}, 403},
		"link from anywhere": {"GET", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate"}, 200},
	} {
		if a := b.do(c.method, "/", nil, c.header...); a.StatusCode != c.want {
			t.Errorf("%s: %d, want %d", name, a.StatusCode, c.want)
		}
	}
}

func TestHTTPSIsNeeded(t *testing.T) {
	r := plane(t)
	r.app("app1", echo)
	s := &http.Server{Handler: r.Front, ReadHeaderTimeout: time.Second}
	l := listen(t)
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close() })
	req, _ := http.NewRequest("GET", "http://"+l.Addr().String()+"/x", nil)
	req.Host = r.host("app1")
	resp, err := (&http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if l := resp.Header.Get("Location"); resp.StatusCode != 302 || l != "https://"+r.host("app1")+"/x" {
		t.Errorf("%d %s", resp.StatusCode, l)
	}
}
