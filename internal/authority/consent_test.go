package authority

import (
	"context"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/hawser/hawser/internal/directory"
	"github.com/hawser/hawser/internal/store"
)

const appCB = "https://app.example/cb"

func web(o *directory.Object) { o.WebURIs = []string{appCB} }

// scopes gives an application scopes of its own.
func (p *plane) api(t testing.TB, name string, version int, change func(*directory.Object), scopes ...directory.Scope) registered {
	return p.register(t, name, func(o *directory.Object) {
		o.IdentifierURIs = []string{"api://" + name}
		o.TokenVersion, o.Scopes = version, scopes
		if change != nil {
			change(o)
		}
	})
}

func scope(id, value, kind string) directory.Scope {
	return directory.Scope{ID: id, Value: value, Type: kind, Enabled: true, UserDisplayName: "May " + value}
}

const scopeID = "11111111-2222-3333-4444-555555555555"

func TestConsentLimitsTheToken(t *testing.T) {
	p := onSQLite(t)
	p.person(t, "ann@hawser.localhost")
	api := p.api(t, "orders", 2, nil, scope(scopeID, "Orders.Read", "User"), scope("21111111-2222-3333-4444-555555555555", "Orders.Write", "User"),
		scope("31111111-2222-3333-4444-555555555555", "Orders.Admin", "Admin"))
	c := p.register(t, "web", web)
	b := p.browser(t)
	ask := func(scope string, more ...string) view {
		return b.signIn(t, b.get(t, p.authorizeURL(c.AppID, appCB, scope, more...)), "ann@hawser.localhost")
	}
	token := func(code string, more ...string) reply {
		return p.redeem(t, c.AppID, appCB, code, append([]string{"client_secret", c.secret}, more...)...)
	}
	v := ask("api://orders/Orders.Read openid offline_access")
	if !v.has("consent") || !strings.Contains(v.body, "May Orders.Read") || strings.Contains(v.body, "Orders.Write") {
		t.Fatalf("no consent page: %s\n%s", v.url, v.body)
	}
	if v := b.get(t, p.authorizeURL(c.AppID, appCB, "api://orders/Orders.Read", "prompt", "none")); v.param("error") != "consent_required" {
		t.Errorf("silently without consent: %s", v.url)
	}
	if no := b.submit(t, v, "consent", "answer", "decline"); no.param("error") != "access_denied" || !strings.Contains(no.param("error_description"), "AADSTS65004") || no.param("state") != "st&1" {
		t.Errorf("declined: %s", no.url)
	}
	v = b.submit(t, ask("api://orders/Orders.Read openid offline_access"), "consent", "answer", "accept")
	if !v.left {
		t.Fatalf("%s\n%s", v.url, v.body)
	}
	r := token(v.param("code"))
	if r.status != 200 {
		t.Fatal(r)
	}
	got := claimsOf(t, r.text("access_token"))
	if got["scp"] != "Orders.Read" || got["aud"] != api.AppID || got["ver"] != "2.0" || got["azp"] != c.AppID || got["azpacr"] != "1" || got["preferred_username"] != "ann@hawser.localhost" {
		t.Errorf("%v", got)
	}
	// What was not consented to is not had by asking at the token endpoint.
	if r := p.refresh(t, c.AppID, r.text("refresh_token"), "api://orders/Orders.Write", "client_secret", c.secret); r.code() != 65001 || r.text("suberror") != "consent_required" {
		t.Errorf("consent bypassed: %s", r)
	}
	if r := p.refresh(t, c.AppID, r.text("refresh_token"), "https://vault.azure.net/.default", "client_secret", c.secret); r.code() != 650057 {
		t.Errorf("another resource: %s", r)
	}
	// More is asked for, and only that.
	v = ask("api://orders/Orders.Read api://orders/Orders.Write")
	if !v.has("consent") || strings.Contains(v.body, "May Orders.Read") {
		t.Fatalf("incremental consent: %s", v.body)
	}
	r = token(b.submit(t, v, "consent", "answer", "accept").param("code"))
	if s := strings.Fields(claimsOf(t, r.text("access_token"))["scp"].(string)); len(s) != 2 {
		t.Errorf("scp %v", s)
	}
	if v := ask("api://orders/Orders.Read openid", "prompt", "consent"); !v.has("consent") {
		t.Errorf("prompt=consent: %s", v.url)
	}
	// What only administrators may consent to.
	if v := ask("api://orders/Orders.Admin"); !strings.Contains(v.param("error_description"), "AADSTS90094") {
		t.Errorf("%s\n%s", v.url, v.body)
	}
	// What is not there, several resources, a resource that is not registered.
	for scope, want := range map[string]string{"api://orders/Nothing": "AADSTS650053", "api://orders/Orders.Read User.Read": "AADSTS70011", "api://nobody/x": "AADSTS500011"} {
		if v := ask(scope); !strings.Contains(v.param("error_description"), want) {
			t.Errorf("%s: %s", scope, v.url)
		}
	}
}

// What a person was shown is what is granted, and only a page of this
// authority, in this browser, can say yes.
func TestConsentCannotBeForged(t *testing.T) {
	p := onSQLite(t)
	p.person(t, "ann@hawser.localhost")
	p.person(t, "eve@hawser.localhost")
	p.api(t, "orders", 2, nil, scope(scopeID, "Orders.Read", "User"))
	c := p.register(t, "web", web)
	b, eve := p.browser(t), p.browser(t)
	to := p.authorizeURL(c.AppID, appCB, "api://orders/Orders.Read")
	v := b.signIn(t, b.get(t, to), "ann@hawser.localhost")
	action, fields := v.form(t, "consent")
	fields.Set("answer", "accept")
	stolen := eve.signIn(t, eve.get(t, to), "eve@hawser.localhost")
	_, hers := stolen.form(t, "consent")
	for name, got := range map[string]view{
		"from another site":           b.post(t, action, fields, "https://evil.example", "cross-site"),
		"from a sister site":          b.post(t, action, fields, "https://evil.hawser.localhost:8443", "same-site"),
		"without a state":             b.post(t, action, url.Values{"answer": {"accept"}}, loginOrigin, "same-origin"),
		"with another browser's":      b.post(t, action, url.Values{"answer": {"accept"}, "state": hers["state"]}, loginOrigin, "same-origin"),
		"for everybody, by a visitor": b.post(t, action, url.Values{"answer": {"accept"}, "admin": {"1"}, "state": fields["state"]}, loginOrigin, "same-origin"),
	} {
		if got.left || got.status/100 != 4 {
			t.Errorf("%s: %d %s", name, got.status, got.url)
		}
	}
	if g, err := p.dir.Grants(context.Background(), c.Principal.ID, ""); err != nil || len(g) != 0 {
		t.Errorf("%v %v", g, err)
	}
}

func TestAdminConsent(t *testing.T) {
	p := onSQLite(t)
	boss := p.person(t, "boss@hawser.localhost")
	p.person(t, "ann@hawser.localhost")
	p.owner(t, boss.ID)
	api := p.api(t, "orders", 2, nil, scope(scopeID, "Orders.Admin", "Admin"))
	c := p.register(t, "web", func(o *directory.Object) {
		web(o)
		o.Required = []directory.RequiredAccess{{Resource: api.AppID, Access: []directory.RequiredRole{{ID: scopeID, Type: "Scope"}}}}
	})
	to := "/" + p.names.Tenant + "/adminconsent?" + url.Values{"client_id": {c.AppID}, "redirect_uri": {appCB}, "state": {"s"}}.Encode()
	b := p.browser(t)
	if v := b.signIn(t, b.get(t, to), "ann@hawser.localhost"); !strings.Contains(v.param("error_description"), "AADSTS90093") {
		t.Errorf("anybody may: %s\n%s", v.url, v.body)
	}
	b = p.browser(t)
	v := b.signIn(t, b.get(t, to), "boss@hawser.localhost")
	v = b.submit(t, v, "consent", "answer", "accept")
	if v.param("admin_consent") != "True" || v.param("tenant") != p.names.Tenant || v.param("state") != "s" {
		t.Fatalf("%s\n%s", v.url, v.body)
	}
	ann := p.browser(t)
	r := p.redeem(t, c.AppID, appCB, p.codeFor(t, ann, "ann@hawser.localhost", p.authorizeURL(c.AppID, appCB, "api://orders/.default openid")), "client_secret", c.secret)
	if claimsOf(t, r.text("access_token"))["scp"] != "Orders.Admin" {
		t.Error(r)
	}
}

func TestRedirectsAreExact(t *testing.T) {
	p := onSQLite(t)
	c := p.register(t, "web", func(o *directory.Object) {
		o.WebURIs = []string{appCB, "https://app.example/q?a=b"}
		o.NativeURIs = []string{"http://localhost", "http://127.0.0.1/cb", "myapp://auth"}
	})
	f := c.Facts()
	for uri, want := range map[string]redirectKind{
		appCB: webRedirect, "https://app.example/q?a=b": webRedirect, "http://localhost": nativeRedirect, "http://localhost:1": nativeRedirect, "http://localhost:65535/": nativeRedirect,
		"http://127.0.0.1:4/cb": nativeRedirect, "myapp://auth": nativeRedirect,
		"": "", "https://app.example/cb/": "", "https://app.example/CB": "", "https://APP.example/cb": "", "https://app.example/cb?x=1": "", "https://app.example/cb#f": "",
		"https://app.example:443/cb": "", "http://app.example/cb": "", "https://app.example/cb/../x": "", "https://app.example%2fcb": "", "https://app.example.evil.example/cb": "",
		"https://app.example@evil.example/cb": "", "//evil.example/cb": "", "https://evil.example/?" + appCB: "",
		"http://localhost:80:80": "", "http://localhost.evil.example:1": "", "http://localhost@evil.example": "", "http://x@localhost:1": "", "http://localhost:1/other": "",
		"https://localhost:1": "", "http://127.0.0.1:4": "", "http://[::1]:4/cb": "", "http://localhost:1?x=y": "", "http://localhost:0": "", "http://localhost:99999": "",
		"http://localhost:1#": "", "javascript:alert(1)": "", "http://localhost\\@evil.example": "", "http://LOCALHOST:1": "",
	} {
		if kind, ok := matchRedirect(f, uri); kind != want || ok != (want != "") {
			t.Errorf("%q: %q", uri, kind)
		}
	}
	// An error is shown here, not sent to an address that is not registered.
	b := p.browser(t)
	for _, to := range []string{p.authorizeURL(c.AppID, "https://evil.example/", "openid"), p.authorizeURL("0b17a0e4-0000-4000-8000-000000000000", appCB, "openid"),
		p.authorizeURL(c.AppID, "https://evil.example/", "openid", "response_type", "nonsense", "prompt", "none")} {
		if v := b.get(t, to); v.left || v.status != 400 || !strings.Contains(v.body, `id="correlation"`) {
			t.Errorf("%s: %d %s", to, v.status, v.url)
		}
	}
}

func TestAuthorizeErrorsGoToTheClient(t *testing.T) {
	p := onSQLite(t)
	c := p.register(t, "web", web)
	implicit := p.register(t, "implicit", func(o *directory.Object) { web(o); o.ImplicitID = true })
	b := p.browser(t)
	for _, q := range []struct {
		client   registered
		more     []string
		code, in string
	}{
		{c, []string{"response_type", "token"}, "unsupported_response_type", "?"},
		{c, []string{"response_type", ""}, "invalid_request", "?"},
		{c, []string{"response_type", "id_token"}, "unsupported_response_type", "#"},
		{implicit, []string{"response_type", "id_token", "nonce", ""}, "invalid_request", "#"},
		{implicit, []string{"response_type", "code id_token", "response_mode", "query"}, "unsupported_response_mode", "#"},
		{c, []string{"response_mode", "body"}, "unsupported_response_mode", "?"},
		{c, []string{"prompt", "none login"}, "invalid_request", "?"},
		{c, []string{"prompt", "nonsense"}, "invalid_request", "?"},
		{c, []string{"prompt", "none"}, "login_required", "?"},
		{c, []string{"prompt", "none", "response_mode", "fragment"}, "login_required", "#"},
		{c, []string{"code_challenge_method", "plain"}, "invalid_request", "?"},
		{c, []string{"code_challenge_method", ""}, "invalid_request", "?"},
		{c, []string{"code_challenge", "short"}, "invalid_request", "?"},
		{c, []string{"code_challenge", ""}, "invalid_request", "?"},
		{c, []string{"scope", ""}, "invalid_request", "?"},
		{c, []string{"claims", "{"}, "invalid_request", "?"},
	} {
		v := b.get(t, p.authorizeURL(q.client.AppID, appCB, "openid", q.more...))
		if !v.left || v.param("error") != q.code || v.param("state") != "st&1" || v.param("iss") == "" || !strings.HasPrefix(v.url.String(), appCB+q.in) {
			t.Errorf("%v: %s", q.more, v.url)
		}
	}
	// A client that cannot keep a secret needs PKCE.
	if v := b.get(t, p.authorizeURL(cli, loopback, "openid", "code_challenge", "", "code_challenge_method", "")); !strings.Contains(v.param("error_description"), "AADSTS9002325") {
		t.Errorf("%s", v.url)
	}
}

func TestIDTokenByFormAndFragment(t *testing.T) {
	p := onSQLite(t)
	u := p.person(t, "ann@hawser.localhost")
	c := p.register(t, "web", func(o *directory.Object) { web(o); o.ImplicitID = true })
	p.grantFor(t, c, u.ID, directory.AppGraph, "openid", "profile", "email")
	b := p.browser(t)
	v := b.signIn(t, b.get(t, p.authorizeURL(c.AppID, appCB, "openid profile email", "response_type", "code id_token", "response_mode", "form_post")), u.UPN)
	if !v.has("form-post") {
		t.Fatalf("%s\n%s", v.url, v.body)
	}
	action, f := v.form(t, "form-post")
	if action != appCB || f.Get("code") == "" || f.Get("state") != "st&1" {
		t.Fatalf("%s %v", action, f)
	}
	id := claimsOf(t, f.Get("id_token"))
	if id["c_hash"] != halfHash(f.Get("code")) || id["nonce"] != "n1" || id["email"] != u.UPN || id["aud"] != c.AppID {
		t.Errorf("%v", id)
	}
	v = b.get(t, p.authorizeURL(c.AppID, appCB, "openid", "response_type", "id_token", "code_challenge", "", "code_challenge_method", ""))
	if v.url.Fragment == "" || v.param("code") != "" {
		t.Fatalf("%s", v.url)
	}
	got, err := p.VerifyFor(context.Background(), v.param("id_token"), []string{c.AppID}, "")
	if err != nil || !got.ID || got.Principal.ObjectID != u.ID || got.All["nonce"] != "n1" {
		t.Errorf("%+v %v", got, err)
	}
	if _, err := p.VerifyFor(context.Background(), v.param("id_token"), []string{"another"}, ""); err == nil {
		t.Error("another audience's token was taken")
	}
	if _, ok := got.All["preferred_username"]; ok {
		t.Error("a name without the scope profile")
	}
}

func TestScriptsOfTheirOwnOrigin(t *testing.T) {
	p := onSQLite(t)
	u := p.person(t, "ann@hawser.localhost")
	c := p.register(t, "spa", func(o *directory.Object) { o.SPAURIs = []string{"https://spa.example/app"} })
	p.grantFor(t, c, u.ID, directory.AppGraph, "User.Read")
	b := p.browser(t)
	code := func() string {
		return p.codeFor(t, b, u.UPN, p.authorizeURL(c.AppID, "https://spa.example/app", "User.Read openid offline_access", "response_mode", "fragment"))
	}
	from := func(origin, code string) reply {
		f := url.Values{"grant_type": {"authorization_code"}, "client_id": {c.AppID}, "redirect_uri": {"https://spa.example/app"}, "code": {code}, "code_verifier": {testVerifier}}
		return p.do(t, "POST", loginHost, "/"+p.names.Tenant+"/oauth2/v2.0/token", f.Encode(), "Origin", origin)
	}
	if r := from("https://evil.example", code()); r.code() != 9002326 || r.header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("%s", r)
	}
	r := from("https://spa.example", code())
	if r.status != 200 || r.header.Get("Access-Control-Allow-Origin") != "https://spa.example" || r.header.Get("Access-Control-Allow-Credentials") != "" {
		t.Fatalf("%s %v", r, r.header)
	}
	bad := from("https://spa.example", "1.bad")
	if bad.code() != 70000 || bad.header.Get("Access-Control-Allow-Origin") != "https://spa.example" {
		t.Errorf("%s %v", bad, bad.header)
	}
	// A day after signing in it is over, however often it was refreshed.
	p.clock.advance(23 * 3600e9)
	ref := func(token string) reply {
		return p.do(t, "POST", loginHost, "/"+p.names.Tenant+"/oauth2/v2.0/token",
			url.Values{"grant_type": {"refresh_token"}, "client_id": {c.AppID}, "refresh_token": {token}}.Encode(), "Origin", "https://spa.example")
	}
	r = ref(r.text("refresh_token"))
	if r.status != 200 {
		t.Fatal(r)
	}
	p.clock.advance(2 * 3600e9)
	if r := ref(r.text("refresh_token")); r.code() != 700084 {
		t.Errorf("%s", r)
	}
	if pre := p.do(t, "OPTIONS", loginHost, "/"+p.names.Tenant+"/oauth2/v2.0/token", "", "Origin", "https://spa.example"); pre.status != 204 {
		t.Errorf("%s", pre)
	}
	if r := p.do(t, "POST", loginHost, "/"+p.names.Tenant+"/oauth2/v2.0/token", url.Values{"grant_type": {"refresh_token"}, "client_id": {cli}, "refresh_token": {"1.x"}}.Encode(), "Origin", "https://evil.example"); r.header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("%v", r.header)
	}
}

func TestAssignmentRolesAndGroups(t *testing.T) {
	p := onSQLite(t)
	u := p.person(t, "ann@hawser.localhost")
	const roleID = "51111111-2222-3333-4444-555555555555"
	api := p.api(t, "orders", 2, func(o *directory.Object) {
		o.GroupClaims = "SecurityGroup"
		o.AppRoles = []directory.AppRole{{ID: roleID, Value: "Reader", DisplayName: "r", Description: "r", AllowedMemberTypes: []string{"User", "Application"}, Enabled: true}}
		o.OptionalToken = []directory.OptionalClaim{{Name: "email"}, {Name: "auth_time"}, {Name: "login_hint"}}
	}, scope(scopeID, "Orders.Read", "User"))
	c := p.register(t, "web", web)
	p.grantFor(t, c, u.ID, api.AppID, "Orders.Read")
	var group *directory.Object
	p.write(t, func(tx *store.Tx) (err error) {
		if group, err = p.dir.AddGroup(tx, directory.Object{Name: "readers"}); err != nil {
			return err
		}
		sp := *api.Principal
		sp.Assigned = true
		return p.dir.Update(tx, &sp)
	})
	b := p.browser(t)
	to := p.authorizeURL(c.AppID, appCB, "api://orders/Orders.Read")
	if v := b.signIn(t, b.get(t, to), u.UPN); !strings.Contains(v.param("error_description"), "AADSTS50105") {
		t.Fatalf("not assigned: %s\n%s", v.url, v.body)
	}
	p.write(t, func(tx *store.Tx) error {
		if err := p.dir.AddMember(tx, group.ID, u.ID); err != nil {
			return err
		}
		return tx.InsertAppRoleAssignment(store.AppRoleAssignment{ID: "a", Principal: group.ID, Resource: api.Principal.ID, Role: roleID})
	})
	r := p.redeem(t, c.AppID, appCB, p.codeFor(t, b, u.UPN, to), "client_secret", c.secret)
	got := claimsOf(t, r.text("access_token"))
	if roles, _ := got["roles"].([]any); len(roles) != 1 || roles[0] != "Reader" {
		t.Errorf("roles %v", got["roles"])
	}
	if groups, _ := got["groups"].([]any); len(groups) != 1 || groups[0] != group.ID {
		t.Errorf("groups %v", got["groups"])
	}
	if got["email"] != u.UPN || got["auth_time"] == nil || got["login_hint"] != u.UPN {
		t.Errorf("optional claims: %v", got)
	}
	// An application is let in by a role, too.
	if r := p.ask(t, url.Values{"grant_type": {"client_credentials"}, "client_id": {c.AppID}, "client_secret": {c.secret}, "scope": {"api://orders/.default"}}); r.code() != 501051 {
		t.Errorf("%s", r)
	}
	p.write(t, func(tx *store.Tx) error {
		return tx.InsertAppRoleAssignment(store.AppRoleAssignment{ID: "b", Principal: c.Principal.ID, Resource: api.Principal.ID, Role: roleID})
	})
	r = p.ask(t, url.Values{"grant_type": {"client_credentials"}, "client_id": {c.AppID}, "client_secret": {c.secret}, "scope": {"api://orders/.default"}})
	if roles, _ := claimsOf(t, r.text("access_token"))["roles"].([]any); len(roles) != 1 || roles[0] != "Reader" {
		t.Errorf("%s", r)
	}
}

func TestGroupsOverage(t *testing.T) {
	p := onSQLite(t)
	u := p.person(t, "ann@hawser.localhost")
	g := &grant{Person: u}
	f := &directory.Facts{}
	f.GroupClaims = "All"
	many := slices.Repeat([]string{"g"}, maxGroups+1)
	for n, want := range map[int]int{0: 0, 1: 1, maxGroups: maxGroups, maxGroups + 1: 0} {
		got, err := p.groupsFor(context.Background(), g, f, nil, many[:n], false)
		if err != nil || len(got.Groups) != want || (n > maxGroups) != (got.Names["groups"] == "src1") {
			t.Errorf("%d: %+v %v", n, got, err)
		}
	}
	if got, _ := p.groupsFor(context.Background(), g, f, nil, many[:maxGroupsImplicit+1], true); !got.HasGroups || got.Groups != nil {
		t.Errorf("%+v", got)
	}
}

func TestUserInfo(t *testing.T) {
	p := onSQLite(t)
	u := p.person(t, "ann@hawser.localhost")
	r := p.redeem(t, cli, loopback, p.codeFor(t, p.browser(t), u.UPN, p.authorizeURL(cli, loopback, "openid profile email")))
	for _, m := range []string{"GET", "POST"} {
		got := p.do(t, m, loginHost, "/oidc/userinfo", "", "Authorization", "Bearer "+r.text("access_token"))
		if got.status != 200 || got.json["sub"] != claimsOf(t, r.text("id_token"))["sub"] || got.json["name"] != u.Name || got.json["email"] != u.UPN {
			t.Errorf("%s", got)
		}
	}
	for _, auth := range []string{"Bearer " + r.text("id_token"), "Bearer x", "Bearer " + p.token(t, "https://graph.microsoft.com/.default")} {
		if got := p.do(t, "GET", loginHost, "/oidc/userinfo", "", "Authorization", auth); got.status/100 != 4 {
			t.Errorf("%.20s: %s", auth, got)
		}
	}
}
