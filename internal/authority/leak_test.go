package authority

import (
	"encoding/json"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/hawser/hawser/internal/directory"
)

func TestNoSecretOfASignInIsWrittenDown(t *testing.T) {
	var log lockedBuffer
	p := onSQLite(t, func(c *Config) {
		c.Password = true
		c.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	u := p.person(t, "ann@hawser.localhost")
	c := p.register(t, "web", web)
	api := p.api(t, "orders", 2, nil, scope(scopeID, "Orders.Read", "User"))
	p.grantFor(t, c, u.ID, api.AppID, "Orders.Read")
	p.grantFor(t, c, u.ID, directory.AppGraph, "User.Read")
	b := p.browser(t)
	v := b.submit(t, b.get(t, p.authorizeURL(c.AppID, appCB, "api://orders/Orders.Read offline_access openid")), "signin-name", "loginfmt", "typed-as-a-name@hawser.localhost")
	b.submit(t, v, "signin-password", "passwd", "typed-as-a-password")
	code := p.codeFor(t, b, u.UPN, p.authorizeURL(c.AppID, appCB, "api://orders/Orders.Read offline_access openid", "state", "state-of-the-client", "nonce", "nonce-of-the-client"))
	r := p.redeem(t, c.AppID, appCB, code, "client_secret", c.secret)
	if r.status != 200 {
		t.Fatal(r)
	}
	p.redeem(t, c.AppID, appCB, code, "client_secret", c.secret)
	p.redeem(t, c.AppID, appCB, "1.code-of-nobody", "client_secret", "secret-of-nobody")
	p.refresh(t, c.AppID, r.text("refresh_token"), "", "client_secret", c.secret)
	p.refresh(t, c.AppID, "1.refresh-token-of-nobody", "", "client_secret", c.secret)
	p.ask(t, behalfForm(c, r.text("access_token"), "User.Read"))
	p.ask(t, behalfForm(api, r.text("id_token"), "User.Read"))
	p.ask(t, behalfForm(api, r.text("access_token"), "User.Read", "claims", `{"access_token":{"acrs":{"essential":true,"value":"c1"}}}`))
	p.ask(t, url.Values{"grant_type": {"password"}, "client_id": {cli}, "username": {"typed-as-a-name@hawser.localhost"}, "password": {"typed-as-a-password"}, "scope": {"openid"}})
	p.do(t, "GET", loginHost, "/oidc/userinfo", "", "Authorization", "Bearer "+r.text("id_token"))
	dev := p.beginDeviceCode(t)
	b.submit(t, b.get(t, "/device"), "device", "user_code", "BBBBBBBBB")
	p.ask(t, deviceForm(dev.text("device_code")))
	b.get(t, "/"+p.names.Tenant+"/oauth2/v2.0/logout?id_token_hint="+r.text("id_token"))
	audit, err := json.Marshal(p.allRecords(t))
	if err != nil {
		t.Fatal(err)
	}
	text := log.String() + string(audit)
	if !strings.Contains(text, "invalid_grant") {
		t.Error("nothing was written down: the test looks at the wrong place")
	}
	origin, err := url.Parse(loginOrigin)
	if err != nil {
		t.Fatal(err)
	}
	secrets := map[string]string{"password": testPassword, "typed name": "typed-as-a-name", "typed password": "typed-as-a-password", "code": code, "client secret": c.secret, "interface's secret": api.secret, "verifier": testVerifier,
		"access token": r.text("access_token"), "id token": r.text("id_token"), "refresh token": r.text("refresh_token"), "foreign code": "code-of-nobody", "foreign secret": "secret-of-nobody",
		"foreign refresh token": "refresh-token-of-nobody", "device code": dev.text("device_code"), "user code": dev.text("user_code"), "typed user code": "BBBBBBBBB", "nonce": "nonce-of-the-client", "state": "state-of-the-client"}
	for _, k := range b.c.Jar.Cookies(origin) {
		secrets["cookie "+k.Name] = k.Value
	}
	for what, s := range secrets {
		if s == "" || strings.Contains(text, s) || len(s) > 40 && strings.Contains(text, s[len(s)-30:]) {
			t.Errorf("the %s is written down, or empty", what)
		}
	}
}

type lockedBuffer struct {
	mu sync.Mutex // guards b
	b  strings.Builder
}

func (l *lockedBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestOversizedRequests(t *testing.T) {
	p := onSQLite(t)
	b := p.browser(t)
	big := strings.Repeat("x", maxAuthorize)
	if v := b.get(t, p.authorizeURL(cli, loopback, "openid", "state", big)); v.left || v.status != 400 {
		t.Errorf("a large state: %d %s", v.status, v.url)
	}
	if res := b.raw(t, "POST", "/"+p.names.Tenant+"/oauth2/v2.0/authorize", url.Values{"client_id": {cli}, "state": {big}}); res.StatusCode != 400 || res.Header.Get("Location") != "" {
		t.Errorf("as a form: %d", res.StatusCode)
	}
	if v := b.get(t, p.authorizeURL(cli, loopback, strings.Repeat("User.Read ", maxScopes+1))); v.param("error") != "invalid_scope" {
		t.Errorf("many scopes: %s", v.url)
	}
	many := url.Values{}
	for i := range maxParameters + 1 {
		many.Set("p"+strings.Repeat("a", i), "1")
	}
	token := "/" + p.names.Tenant + "/oauth2/v2.0/token"
	for what, form := range map[string]url.Values{"many parameters": many, "a large code": {"grant_type": {"authorization_code"}, "client_id": {cli}, "code": {strings.Repeat("x", maxCode+1)}},
		"a large refresh token":  {"grant_type": {"refresh_token"}, "client_id": {cli}, "refresh_token": {"1." + strings.Repeat("A", 40_000)}},
		"a large claims request": {"grant_type": {"refresh_token"}, "client_id": {cli}, "refresh_token": {"1.x"}, "claims": {strings.Repeat("[", maxClaims)}},
		"a large assertion":      {"grant_type": {"urn:ietf:params:oauth:grant-type:jwt-bearer"}, "client_id": {p.appID}, "client_secret": {p.secret.Reveal()}, "requested_token_use": {"on_behalf_of"}, "assertion": {strings.Repeat("a.", maxToken)}}} {
		if res := p.do(t, "POST", loginHost, token, form.Encode()); res.status != 400 {
			t.Errorf("%s: %.200s", what, res)
		}
	}
	if res := p.do(t, "POST", loginHost, token, "grant_type="+strings.Repeat("x", maxForm)); res.status != 413 {
		t.Errorf("a large form: %d", res.status)
	}
	if v := b.get(t, "/device?state="+big+big); v.status/100 != 4 {
		t.Errorf("a large address: %d", v.status)
	}
}
