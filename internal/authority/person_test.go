package authority

import (
	"context"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/directory"
	"github.com/hawser/hawser/internal/rest"
	"github.com/hawser/hawser/internal/store"
)

// codeFor signs somebody in to a client and returns the code.
func (p *plane) codeFor(t testing.TB, b *browser, upn, to string) string {
	t.Helper()
	v := b.signIn(t, b.get(t, to), upn)
	if !v.left || v.param("code") == "" {
		t.Fatalf("no code: %s %s\n%s", v.url, v.param("error_description"), v.body)
	}
	return v.param("code")
}

func TestCodeWithPKCE(t *testing.T) {
	p := onSQLite(t)
	u := p.person(t, "ann@hawser.localhost")
	b := p.browser(t)
	to := p.authorizeURL(cli, loopback, "https://management.core.windows.net//.default openid profile offline_access", "client_info", "1")
	v := b.signIn(t, b.get(t, to), "ann@hawser.localhost")
	if !v.left || !strings.HasPrefix(v.url.String(), loopback+"?") || v.param("state") != "st&1" || v.param("code") == "" {
		t.Fatalf("%s\n%s", v.url, v.body)
	}
	if want := "https://" + loginHost + "/" + p.names.Tenant + "/v2.0"; v.param("iss") != want {
		t.Errorf("iss is %q", v.param("iss"))
	}
	if v.param("session_state") == "" || v.param("client_info") == "" {
		t.Errorf("%s", v.url)
	}
	r := p.redeem(t, cli, loopback, v.param("code"), "client_info", "1")
	if r.status != 200 || r.text("foci") != "1" || r.text("refresh_token") == "" || r.text("client_info") == "" {
		t.Fatal(r)
	}
	if s := strings.Fields(r.text("scope")); !slices.Contains(s, "https://management.core.windows.net//.default") || !slices.Contains(s, "https://management.core.windows.net//user_impersonation") {
		t.Errorf("scope %q", r.text("scope"))
	}
	who, err := p.Verify(context.Background(), r.text("access_token"), rest.ARM)
	if err != nil || who.ObjectID != u.ID || who.Kind != az.User || who.AppID != cli || who.Name != u.UPN || who.MFA {
		t.Fatalf("%+v %v", who, err)
	}
	c := claimsOf(t, r.text("access_token"))
	for k, want := range map[string]any{"aud": "https://management.core.windows.net/", "scp": "user_impersonation", "upn": u.UPN, "unique_name": u.UPN, "oid": u.ID,
		"tid": p.names.Tenant, "ver": "1.0", "appid": cli, "appidacr": "0", "acr": "1", "idtyp": "user", "name": u.Name, "given_name": "Given", "family_name": "Family", "ipaddr": "127.0.0.1"} {
		if c[k] != want {
			t.Errorf("access token %s = %v, want %v", k, c[k], want)
		}
	}
	id := claimsOf(t, r.text("id_token"))
	for k, want := range map[string]any{"aud": cli, "nonce": "n1", "preferred_username": u.UPN, "name": u.Name, "oid": u.ID, "tid": p.names.Tenant, "ver": "2.0",
		"iss": "https://" + loginHost + "/" + p.names.Tenant + "/v2.0", "at_hash": halfHash(r.text("access_token"))} {
		if id[k] != want {
			t.Errorf("id token %s = %v, want %v", k, id[k], want)
		}
	}
	if id["sub"] == c["sub"] || id["sub"] == u.ID || c["sid"] != id["sid"] || id["sid"] == nil {
		t.Errorf("sub %v %v sid %v %v", id["sub"], c["sub"], c["sid"], id["sid"])
	}
	if _, err := p.Verify(context.Background(), r.text("id_token"), rest.ARM); !az.Is(err, az.Unauthorized) {
		t.Errorf("an id token opens a door: %v", err)
	}
	// A second client finds the session.
	if v := b.get(t, p.authorizeURL(cli, loopback, "openid", "prompt", "none")); v.param("code") == "" {
		t.Errorf("no single sign-on: %s", v.url)
	}
}

func TestCodeIsRefused(t *testing.T) {
	p := onSQLite(t)
	p.person(t, "ann@hawser.localhost")
	b := p.browser(t)
	web := p.register(t, "web", func(o *directory.Object) {
		o.WebURIs = []string{"https://app.example/cb"}
	})
	other := p.register(t, "other", func(o *directory.Object) { o.WebURIs = []string{"https://app.example/cb"} })
	spa := p.register(t, "spa", func(o *directory.Object) { o.SPAURIs = []string{"https://spa.example/"} })
	for _, r := range []registered{web, other, spa} {
		p.grantFor(t, r, "", directory.AppGraph, "User.Read")
	}
	const cb = "https://app.example/cb"
	code := func(c registered, redirect string, more ...string) string {
		return p.codeFor(t, b, "ann@hawser.localhost", p.authorizeURL(c.AppID, redirect, "User.Read openid offline_access", more...))
	}
	secret := []string{"client_secret", web.secret}
	for _, c := range []struct {
		name string
		code string
		more []string
		want int
	}{
		{"another client", code(web, cb), []string{"client_id", other.AppID, "client_secret", other.secret}, 70000},
		{"no secret", code(web, cb), nil, 7000218},
		{"wrong secret", code(web, cb), []string{"client_secret", "wrong"}, 7000215},
		{"other redirect URI", code(web, cb), append(secret, "redirect_uri", "https://app.example/cb2"), 500112},
		{"no redirect URI", code(web, cb), append(secret, "redirect_uri", ""), 500112},
		{"no verifier", code(web, cb), append(secret, "code_verifier", ""), 50148},
		{"short verifier", code(web, cb), append(secret, "code_verifier", "short"), 50148},
		{"wrong verifier", code(web, cb), append(secret, "code_verifier", strings.Repeat("x", 43)), 501481},
		{"downgrade: a verifier for a code without challenge", code(web, cb, "code_challenge", "", "code_challenge_method", ""), secret, 501481},
		{"not a code", "1.nothing", secret, 70000},
		{"no code", "", append(secret, "code", ""), 900144},
		{"a script's code from a server", code(spa, "https://spa.example/"), []string{"client_id", spa.AppID, "redirect_uri", "https://spa.example/"}, 9002327},
	} {
		r := p.redeem(t, web.AppID, cb, c.code, c.more...)
		if r.code() != c.want || r.status/100 != 4 {
			t.Errorf("%s: %s", c.name, r)
		}
		if c.want == 500112 || c.want == 501481 || c.name == "another client" { // burnt
			if again := p.redeem(t, web.AppID, cb, c.code, secret...); again.code() != 54005 {
				t.Errorf("%s, then right: %s", c.name, again)
			}
		}
	}
	old := code(web, cb)
	p.clock.advance(codeLife)
	if r := p.redeem(t, web.AppID, cb, old, secret...); r.code() != 70008 {
		t.Errorf("an old code: %s", r)
	}
}

func TestCodeTwiceEndsItsFamily(t *testing.T) {
	p := onSQLite(t)
	p.person(t, "ann@hawser.localhost")
	code := p.codeFor(t, p.browser(t), "ann@hawser.localhost", p.authorizeURL(cli, loopback, "openid offline_access User.Read.All"))
	first := p.redeem(t, cli, loopback, code)
	if first.status != 200 {
		t.Fatal(first)
	}
	if r := p.redeem(t, cli, loopback, code); r.code() != 54005 {
		t.Errorf("the second time: %s", r)
	}
	if r := p.refresh(t, cli, first.text("refresh_token"), ""); r.code() != 50173 {
		t.Errorf("the refresh token outlived it: %s", r)
	}
}

// refresh posts a refresh token.
func (p *plane) refresh(t testing.TB, client, token, scope string, more ...string) reply {
	t.Helper()
	return p.ask(t, with(url.Values{"grant_type": {"refresh_token"}, "client_id": {client}, "refresh_token": {token}}, append([]string{"scope", scope}, more...)...))
}

func TestRefresh(t *testing.T) {
	p := onSQLite(t)
	u := p.person(t, "ann@hawser.localhost")
	first := p.redeem(t, cli, loopback, p.codeFor(t, p.browser(t), "ann@hawser.localhost",
		p.authorizeURL(cli, loopback, "https://management.core.windows.net//.default openid profile offline_access")))
	token := first.text("refresh_token")
	// One token for every resource and every word for the tenant, and it is new each time.
	for scope, aud := range map[string]rest.Audience{"https://vault.azure.net/.default openid profile offline_access": rest.Vault, "https://graph.microsoft.com//.default": rest.Graph,
		"https://ossrdbms-aad.database.windows.net/.default": rest.PostgreSQL, "": rest.ARM} {
		r := p.refresh(t, cli, token, scope)
		if r.status != 200 || r.text("refresh_token") == token || r.text("id_token") == "" {
			t.Fatalf("%q: %s", scope, r)
		}
		if who, err := p.Verify(context.Background(), r.text("access_token"), aud); err != nil || who.ObjectID != u.ID {
			t.Errorf("%q: %+v %v", scope, who, err)
		}
		token = r.text("refresh_token")
	}
	for _, word := range []string{"common", "organizations", "adfs", p.names.Domain} {
		f := url.Values{"grant_type": {"refresh_token"}, "client_id": {directory.AppPowerShell}, "refresh_token": {token}, "scope": {"https://vault.azure.net/.default"}}
		r := p.do(t, "POST", loginHost, "/"+word+"/oauth2/v2.0/token", f.Encode())
		if r.status != 200 {
			t.Fatalf("%s: %s", word, r)
		}
		token = r.text("refresh_token")
	}
	// It slides for ninety days at a time.
	p.clock.advance(80 * 24 * time.Hour)
	r := p.refresh(t, cli, token, "")
	if r.status != 200 {
		t.Fatal(r)
	}
	p.clock.advance(refreshLife)
	if r := p.refresh(t, cli, r.text("refresh_token"), ""); r.code() != 700082 {
		t.Errorf("after ninety days: %s", r)
	}
}

func TestRefreshReuseEndsTheFamily(t *testing.T) {
	p := onSQLite(t)
	p.person(t, "ann@hawser.localhost")
	b := p.browser(t)
	begin := func() string {
		r := p.redeem(t, cli, loopback, p.codeFor(t, b, "ann@hawser.localhost", p.authorizeURL(cli, loopback, "openid offline_access User.Read.All")))
		if r.status != 200 {
			t.Fatal(r)
		}
		return r.text("refresh_token")
	}
	one := begin()
	two := p.refresh(t, cli, one, "").text("refresh_token")
	// A moment later, from the same address: the same successor, no second line.
	if again := p.refresh(t, cli, one, ""); again.status != 200 || again.text("refresh_token") != two {
		t.Errorf("within the grace: %s", again)
	}
	three := p.refresh(t, cli, two, "").text("refresh_token")
	if again := p.refresh(t, cli, one, ""); again.text("refresh_token") != three {
		t.Errorf("the newest, not a line of its own: %s", again)
	}
	p.clock.advance(reuseGrace + time.Second)
	if r := p.refresh(t, cli, one, ""); r.code() != 50173 {
		t.Errorf("after the grace: %s", r)
	}
	if r := p.refresh(t, cli, three, ""); r.code() != 50173 {
		t.Errorf("the family outlived it: %s", r)
	}
	// From elsewhere there is no grace.
	one = begin()
	id, n, ok := p.readRefresh(one)
	if !ok || n != 1 {
		t.Fatal(id, n, ok)
	}
	if r := p.refresh(t, cli, one, ""); r.status != 200 {
		t.Fatal(r)
	}
	fam, _, err := p.st.TokenFamily(context.Background(), id)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.judge(context.Background(), &fam, n, "192.0.2.7", false); err == nil {
		t.Error("a copy is taken from another address")
	}
	// Nobody makes one without the key, and none is another client's.
	forged := []byte(one)
	forged[10] ^= 1
	web := p.register(t, "web", nil)
	for _, r := range []reply{p.refresh(t, cli, string(forged), ""), p.refresh(t, cli, "1.AAAA", ""), p.refresh(t, web.AppID, begin(), "", "client_secret", web.secret)} {
		if r.code() != 70000 {
			t.Errorf("%s", r)
		}
	}
}

func TestTokensEndWithTheSignIn(t *testing.T) {
	p := onSQLite(t)
	u := p.person(t, "ann@hawser.localhost")
	b := p.browser(t)
	to := p.authorizeURL(cli, loopback, "https://vault.azure.net/.default offline_access openid")
	code := p.codeFor(t, b, u.UPN, to)
	first := p.redeem(t, cli, loopback, p.codeFor(t, b, u.UPN, to))
	if _, err := p.Verify(context.Background(), first.text("access_token"), rest.Vault); err != nil {
		t.Fatal(err)
	}
	p.write(t, func(tx *store.Tx) error { return p.dir.SetPassword(tx, u.ID, passwordHash()) })
	if _, err := p.Verify(context.Background(), first.text("access_token"), rest.Vault); !az.Is(err, az.Unauthorized) {
		t.Errorf("an access token outlived the password: %v", err)
	}
	if _, err := p.VerifyFor(context.Background(), first.text("id_token"), []string{cli}, ""); !az.Is(err, az.Unauthorized) {
		t.Errorf("an id token outlived the password: %v", err)
	}
	if r := p.refresh(t, cli, first.text("refresh_token"), ""); r.code() != 50173 {
		t.Errorf("a refresh token outlived the password: %s", r)
	}
	if r := p.redeem(t, cli, loopback, code); r.code() != 50173 {
		t.Errorf("a code outlived the password: %s", r)
	}
	// Signing in again in the same second is good at once.
	again := p.redeem(t, cli, loopback, p.codeFor(t, b, u.UPN, to))
	if _, err := p.Verify(context.Background(), again.text("access_token"), rest.Vault); err != nil {
		t.Errorf("a new sign-in: %v", err)
	}
	p.write(t, func(tx *store.Tx) error {
		o := *u
		o.Enabled = false
		return p.dir.Update(tx, &o)
	})
	if _, err := p.Verify(context.Background(), again.text("access_token"), rest.Vault); !az.Is(err, az.Unauthorized) {
		t.Errorf("a disabled person's token: %v", err)
	}
	if r := p.refresh(t, cli, again.text("refresh_token"), ""); r.code() != 50057 {
		t.Errorf("a disabled person's refresh token: %s", r)
	}
}
