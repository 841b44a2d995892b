package authority

import (
	"context"
	"encoding/json"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/directory"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/rest"
)

// The older endpoints, and the alias under which SDKs look for no instance.
func TestOlderEndpoints(t *testing.T) {
	p := onSQLite(t)
	u := p.person(t, "ann@hawser.localhost")
	b := p.browser(t)
	q := func(more ...string) string {
		return with(url.Values{"client_id": {cli}, "redirect_uri": {loopback}, "response_type": {"code"}, "code_challenge": {challengeOf(testVerifier)},
			"code_challenge_method": {"S256"}, "nonce": {"n"}}, more...).Encode()
	}
	form := func(code string, more ...string) string {
		return with(url.Values{"grant_type": {"authorization_code"}, "client_id": {cli}, "redirect_uri": {loopback}, "code": {code}, "code_verifier": {testVerifier}}, more...).Encode()
	}
	v := b.signIn(t, b.get(t, "/common/oauth2/authorize?"+q("resource", "https://management.core.windows.net/")), u.UPN)
	if v.param("iss") != "https://sts.windows.net/"+p.names.Tenant+"/" {
		t.Errorf("%s", v.url)
	}
	r := p.do(t, "POST", loginHost, "/common/oauth2/token", form(v.param("code"), "resource", "https://vault.azure.net"))
	if _, err := p.Verify(context.Background(), r.text("access_token"), rest.Vault); err != nil || r.text("resource") != "https://vault.azure.net" || r.text("expires_on") == "" || r.text("refresh_token") == "" {
		t.Fatalf("%s %v", r, err)
	}
	id := claimsOf(t, r.text("id_token"))
	if id["ver"] != "1.0" || id["iss"] != "https://sts.windows.net/"+p.names.Tenant+"/" || id["upn"] != u.UPN || id["unique_name"] != u.UPN {
		t.Errorf("%v", id)
	}
	v = b.get(t, "/adfs/oauth2/authorize?"+q("scope", "https://management.core.windows.net//.default openid profile offline_access"))
	r = p.do(t, "POST", loginHost, "/adfs/oauth2/token", form(v.param("code")))
	if _, err := p.Verify(context.Background(), r.text("access_token"), rest.ARM); err != nil || claimsOf(t, r.text("id_token"))["ver"] != "2.0" || claimsOf(t, r.text("id_token"))["iss"] != v.param("iss") {
		t.Fatalf("%s %v", r, err)
	}
	for path, field := range map[string]string{"/common/oauth2/devicecode": "verification_url", "/adfs/oauth2/devicecode": "verification_uri"} {
		d := p.do(t, "POST", loginHost, path, url.Values{"client_id": {cli}, "resource": {"https://management.core.windows.net/"}, "scope": {"openid"}}.Encode())
		if d.status != 200 || d.text(field) == "" {
			t.Errorf("%s: %s", path, d)
		}
	}
	if v := b.get(t, "/nobody.example/oauth2/v2.0/authorize?"+q("scope", "openid")); v.status != 400 || !strings.Contains(v.body, "AADSTS90002") {
		t.Errorf("%d %s", v.status, v.body)
	}
	// A request by form finds the session by the redirect that follows.
	f, err := url.ParseQuery(q("scope", "openid"))
	if err != nil {
		t.Fatal(err)
	}
	if v := b.post(t, "/common/oauth2/v2.0/authorize", f, "https://app.example", "cross-site"); v.param("code") == "" {
		t.Errorf("%d %s", v.status, v.body)
	}
}

func TestWhoSignsIn(t *testing.T) {
	p := onSQLite(t)
	ann, bob := p.person(t, "ann@hawser.localhost"), p.person(t, "bob@hawser.localhost")
	b := p.browser(t)
	to := func(more ...string) string { return p.authorizeURL(cli, loopback, "openid profile", more...) }
	oid := func(v view) any {
		t.Helper()
		r := p.redeem(t, cli, loopback, v.param("code"))
		if r.status != 200 {
			t.Fatalf("%s %s", r, v.body)
		}
		return claimsOf(t, r.text("id_token"))["oid"]
	}
	if got := oid(b.signIn(t, b.get(t, to()), ann.UPN)); got != ann.ID {
		t.Errorf("%v", got)
	}
	if v := b.get(t, to("prompt", "login")); v.left {
		t.Errorf("prompt=login was answered by a session: %s", v.url)
	}
	if v := b.get(t, to("prompt", "select_account")); !v.has("signin-pick") {
		t.Errorf("%s", v.body)
	}
	if v := b.get(t, to("login_hint", bob.UPN)); v.left {
		t.Errorf("somebody else's session: %s", v.url)
	}
	v := b.get(t, to("login_hint", bob.UPN))
	if got := oid(b.submit(t, v, "signin-password", "passwd", testPassword)); got != bob.ID {
		t.Errorf("%v", got)
	}
	if v := b.get(t, to()); !v.has("signin-pick") {
		t.Errorf("two accounts and no question: %s", v.url)
	}
	if v := b.get(t, to("prompt", "none")); v.param("error") != "interaction_required" {
		t.Errorf("%s", v.url)
	}
	if got := oid(b.get(t, to("prompt", "none", "login_hint", ann.UPN))); got != ann.ID {
		t.Errorf("%v", got)
	}
	p.clock.advance(time.Hour)
	if v := b.get(t, to("max_age", "60", "login_hint", ann.UPN)); v.left {
		t.Errorf("an old session: %s", v.url)
	}
	if v := b.get(t, to("max_age", "60", "login_hint", ann.UPN, "prompt", "none")); v.param("error") != "login_required" {
		t.Errorf("%s", v.url)
	}
	if got := oid(b.get(t, to("max_age", "7200", "login_hint", ann.UPN))); got != ann.ID {
		t.Errorf("%v", got)
	}
	// A second factor is asked for, and is not passed over in silence.
	want := `{"id_token":{"acrs":{"essential":true,"value":"c1"}}}`
	if v := b.get(t, to("claims", want, "login_hint", ann.UPN)); v.left {
		t.Errorf("%s", v.url)
	}
	if v := b.get(t, to("amr_values", "mfa", "login_hint", ann.UPN, "prompt", "none")); v.param("error") != "interaction_required" {
		t.Errorf("%s", v.url)
	}
}

// A ticket is good for one request of one browser.
func TestTicketsAndCodesStayWithTheirBrowser(t *testing.T) {
	p := onSQLite(t)
	u := p.person(t, "ann@hawser.localhost")
	b, eve := p.browser(t), p.browser(t)
	to := p.authorizeURL(cli, loopback, "openid profile offline_access")
	v := b.get(t, to)
	v = b.submit(t, v, "signin-name", "loginfmt", u.UPN)
	action, f := v.form(t, "signin-password")
	f.Set("passwd", testPassword)
	req := b.post(t, action, f, loginOrigin, "same-origin")
	code := req.param("code")
	if code == "" {
		t.Fatal(req.body)
	}
	if v := eve.get(t, to+"&ticket=abc"); v.left {
		t.Errorf("a ticket of nobody's: %s", v.url)
	}
	// Who signs out before the code is redeemed gets nothing by it.
	v = b.get(t, "/"+p.names.Tenant+"/oauth2/v2.0/logout")
	b.submit(t, v, "leave", "answer", "accept")
	if r := p.redeem(t, cli, loopback, code); r.code() != 50173 {
		t.Errorf("%s", r)
	}
}

func TestEverySignInIsRecorded(t *testing.T) {
	p := onSQLite(t)
	u := p.person(t, "ann@hawser.localhost")
	b := p.browser(t)
	b.get(t, p.authorizeURL(cli, "https://evil.example", "openid"))
	b.get(t, p.authorizeURL(cli, loopback, "openid", "prompt", "none"))
	code := p.codeFor(t, b, u.UPN, p.authorizeURL(cli, loopback, "openid offline_access"))
	p.redeem(t, cli, loopback, code)
	p.redeem(t, cli, loopback, code)
	got := map[string]bool{}
	for _, r := range p.allRecords(t) {
		got[r.Action+" "+r.Outcome+" "+r.Reason] = true
		if b, _ := json.Marshal(r); strings.Contains(string(b), code) || strings.Contains(string(b), testVerifier) {
			t.Errorf("a secret in the audit: %s", b)
		}
		if r.Reason == "invalid_grant 54005" && !strings.Contains(r.Detail, "twice") {
			t.Errorf("%+v", r)
		}
	}
	for _, want := range []string{"authorize refused invalid_request 50011", "authorize refused login_required 50058", "authorize allowed ",
		"authorization_code allowed ", "authorization_code refused invalid_grant 54005"} {
		if !got[want] {
			t.Errorf("no record %q in %v", want, got)
		}
	}
}

func TestVerifyForAccessTokens(t *testing.T) {
	c := newChain(t, onSQLite(t))
	r := c.userToken(t, c.browser(t), "api://first/Use openid")
	ctx := context.Background()
	for _, auds := range [][]string{{"api://first"}, {"other", "api://first"}} {
		got, err := c.VerifyFor(ctx, r.text("access_token"), auds, "")
		if err != nil || got.ID || got.Principal.ObjectID != c.user.ID || got.Principal.Kind != az.User || got.All["scp"] != "Use" {
			t.Errorf("%+v %v", got, err)
		}
	}
	app := c.ask(t, c.appForm("api://first/.default"))
	if got, err := c.VerifyFor(ctx, app.text("access_token"), []string{"api://first"}, ""); err != nil || got.Principal.Kind != az.ServicePrincipal {
		t.Errorf("%+v %v", got, err)
	}
	graph := c.ask(t, behalfForm(c.first, r.text("access_token"), "api://next/Use"))
	for _, bad := range []string{"", "x.y.z", graph.text("access_token"), r.text("access_token")[:50], c.token(t, "https://vault.azure.net/.default")} {
		if _, err := c.VerifyFor(ctx, bad, []string{"api://first"}, ""); !az.Is(err, az.Unauthorized) {
			t.Errorf("%.20s: %v", bad, err)
		}
	}
	c.clock.advance(2 * time.Hour)
	if _, err := c.VerifyFor(ctx, r.text("access_token"), []string{"api://first"}, ""); !az.Is(err, az.Unauthorized) {
		t.Errorf("an old token: %v", err)
	}
	// What was found good before is not when its key is taken back.
	fresh := c.ask(t, c.appForm("api://first/.default")).text("access_token")
	for range 2 {
		if _, err := c.VerifyFor(ctx, fresh, []string{"api://first"}, ""); err != nil {
			t.Fatal(err)
		}
		if _, err := c.VerifyFor(ctx, fresh, []string{"api://next"}, ""); !az.Is(err, az.Unauthorized) {
			t.Errorf("a remembered token at another audience: %v", err)
		}
	}
	if err := c.RevokeKeys(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := c.VerifyFor(ctx, fresh, []string{"api://first"}, ""); !az.Is(err, az.Unauthorized) {
		t.Errorf("a token of a key that was taken back: %v", err)
	}
}

func (c *chain) appForm(scope string) url.Values {
	return url.Values{"grant_type": {"client_credentials"}, "client_id": {c.client.AppID}, "client_secret": {c.client.secret}, "scope": {scope}}
}

// A family's tokens are for the platform's own clients to share; nobody else's.
func TestFamilyIsFirstPartyOnly(t *testing.T) {
	p := onSQLite(t)
	u := p.person(t, "ann@hawser.localhost")
	native := p.register(t, "native", func(o *directory.Object) { o.NativeURIs, o.PublicClient = []string{"http://localhost"}, true })
	p.grantFor(t, native, u.ID, directory.AppGraph, "User.Read")
	b := p.browser(t)
	r := p.redeem(t, native.AppID, loopback, p.codeFor(t, b, u.UPN, p.authorizeURL(native.AppID, loopback, "User.Read offline_access openid")))
	if r.status != 200 || r.text("foci") != "" {
		t.Fatal(r)
	}
	if x := p.refresh(t, cli, r.text("refresh_token"), ""); x.code() != 70000 {
		t.Errorf("az used another client's: %s", x)
	}
	az := p.redeem(t, cli, loopback, p.codeFor(t, b, u.UPN, p.authorizeURL(cli, loopback, "offline_access openid")))
	if x := p.refresh(t, native.AppID, az.text("refresh_token"), ""); x.code() != 70000 {
		t.Errorf("another client used az's: %s", x)
	}
}

func (p *plane) allRecords(t *testing.T) (out []guard.Record) {
	t.Helper()
	err := p.guard.Audit().Each(context.Background(), 0, func(_ []byte, r guard.Record) bool {
		out = append(out, r)
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
