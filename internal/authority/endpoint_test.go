package authority

import (
	"bytes"
	"context"
	"crypto/rsa"
	"encoding/json"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/google/go-cmp/cmp"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/directory"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/rest"
	"github.com/hawser/hawser/internal/store"
	"github.com/hawser/hawser/internal/store/storetest"
)

func TestDiscovery(t *testing.T) {
	p := onSQLite(t)
	tid := p.names.Tenant
	const own, azure = "https://login.hawser.localhost:8443", "https://login.microsoftonline.com"
	for _, c := range []struct{ host, path, base, token, issuer string }{
		{loginHost, "/" + tid + "/v2.0", own + "/" + tid, "/oauth2/v2.0/token", own + "/" + tid + "/v2.0"},
		{loginHost, "/" + strings.ToUpper(tid) + "/v2.0", own + "/" + tid, "/oauth2/v2.0/token", own + "/" + tid + "/v2.0"},
		{loginHost, "/" + tid, own + "/" + tid, "/oauth2/token", "https://sts.windows.net/" + tid + "/"},
		{loginHost, "/adfs", own + "/adfs", "/oauth2/token", own + "/" + tid + "/v2.0"},
		{loginHost, "/hawser.localhost/v2.0", own + "/hawser.localhost", "/oauth2/v2.0/token", own + "/" + tid + "/v2.0"},
		{loginHost, "/common/v2.0", own + "/common", "/oauth2/v2.0/token", own + "/{tenantid}/v2.0"},
		{loginHost, "/organizations/v2.0", own + "/organizations", "/oauth2/v2.0/token", own + "/{tenantid}/v2.0"},
		{"login.microsoftonline.com", "/" + tid + "/v2.0", azure + "/" + tid, "/oauth2/v2.0/token", azure + "/" + tid + "/v2.0"},
		{"login.microsoftonline.us", "/" + tid + "/v2.0", "https://login.microsoftonline.us/" + tid, "/oauth2/v2.0/token", "https://login.microsoftonline.us/" + tid + "/v2.0"},
	} {
		r := p.do(t, "GET", c.host, c.path+"/.well-known/openid-configuration?", "")
		if r.status != 200 || r.json["token_endpoint"] != c.base+c.token || r.json["issuer"] != c.issuer {
			t.Errorf("%s %s: %s", c.host, c.path, r)
			continue
		}
		for _, k := range []string{"authorization_endpoint", "device_authorization_endpoint", "jwks_uri", "end_session_endpoint"} {
			if s, _ := r.json[k].(string); !strings.HasPrefix(s, c.base+"/") {
				t.Errorf("%s: %s is %v", c.path, k, r.json[k])
			}
		}
		jwks := strings.TrimPrefix(r.json["jwks_uri"].(string), "https://"+c.host)
		if k := p.do(t, "GET", c.host, jwks, ""); k.status != 200 {
			t.Errorf("%s: jwks_uri %s: %s", c.path, jwks, k)
		}
	}
	for path, want := range map[string]int{"/" + az.NewGUID() + "/v2.0": 90002, "/contoso.example": 90002, "/%3Cscript%3E/v2.0": 900023} {
		if r := p.do(t, "GET", loginHost, path+"/.well-known/openid-configuration", ""); r.status != 400 || r.code() != want {
			t.Errorf("%s: %s", path, r)
		}
	}
}

func TestInstanceDiscovery(t *testing.T) {
	p := onSQLite(t)
	tid := p.names.Tenant
	for ask, want := range map[string]string{
		"https://login.hawser.localhost:8443/" + tid + "/oauth2/v2.0/authorize":      "https://login.hawser.localhost:8443/" + tid + "/v2.0/.well-known/openid-configuration",
		"https://login.hawser.localhost/" + tid + "/oauth2/v2.0/authorize":           "https://login.hawser.localhost:8443/" + tid + "/v2.0/.well-known/openid-configuration",
		"https://login.microsoftonline.com/common/oauth2/authorize":                  "https://login.microsoftonline.com/common/v2.0/.well-known/openid-configuration",
		"https://login.chinacloudapi.cn/organizations/oauth2/v2.0/authorize":         "https://login.chinacloudapi.cn/organizations/v2.0/.well-known/openid-configuration",
		"https://evil.example/" + tid + "/oauth2/v2.0/authorize":                     "",
		"https://login.hawser.localhost:9/" + tid + "/oauth2/v2.0/authorize":         "",
		"https://login.hawser.localhost.evil.example/x/oauth2/v2.0/authorize":        "",
		"http://login.hawser.localhost:8443/" + tid + "/oauth2/v2.0/authorize":       "",
		"https://x@login.hawser.localhost:8443/" + tid + "/oauth2/v2.0/authorize":    "",
		"https://login.hawser.localhost:8443/%22onload/oauth2/v2.0/authorize":        "",
		"https://management.hawser.localhost:8443/" + tid + "/oauth2/v2.0/authorize": "",
		"": "",
	} {
		for _, host := range []string{loginHost, "login.microsoftonline.com"} {
			r := p.do(t, "GET", host, "/common/discovery/instance?api-version=1.1&authorization_endpoint="+url.QueryEscape(ask), "")
			if want == "" {
				if r.status != 400 || r.json["error"] != "invalid_instance" || r.code() != 50049 {
					t.Errorf("%q: %s", ask, r)
				}
				continue
			}
			if r.status != 200 || r.json["tenant_discovery_endpoint"] != want {
				t.Errorf("%q: %s", ask, r)
			}
			if !strings.Contains(r.body, `"aliases":["login.hawser.localhost:8443","login.hawser.localhost"]`) || !strings.Contains(r.body, `"sts.windows.net"`) {
				t.Errorf("aliases: %s", r.body)
			}
		}
	}
}

func TestTokensVerifyWithTheirPublishedKeys(t *testing.T) {
	p := onSQLite(t)
	r := p.do(t, "GET", loginHost, "/"+p.names.Tenant+"/discovery/v2.0/keys", "")
	var set jose.JSONWebKeySet
	if err := json.Unmarshal([]byte(r.body), &set); err != nil || len(set.Keys) < 2 {
		t.Fatalf("%d keys, %v", len(set.Keys), err)
	}
	tok, err := jwt.ParseSigned(p.token(t, "https://management.core.windows.net//.default"), []jose.SignatureAlgorithm{jose.RS256})
	if err != nil {
		t.Fatal(err)
	}
	keys := set.Key(tok.Headers[0].KeyID)
	if len(keys) != 1 {
		t.Fatalf("%d keys of the token's kid", len(keys))
	}
	var std jwt.Claims
	all := map[string]any{}
	if err := tok.Claims(keys[0].Key, &std, &all); err != nil {
		t.Fatal(err)
	}
	if err := std.Validate(jwt.Expected{Issuer: "https://sts.windows.net/" + p.names.Tenant + "/", AnyAudience: jwt.Audience{"https://management.core.windows.net/"}, Subject: p.admin.ID}); err != nil {
		t.Error(err)
	}
	// The certificate is the key's, and both names are its thumbprints.
	k := keys[0]
	if len(k.Certificates) != 1 || !k.Key.(*rsa.PublicKey).Equal(k.Certificates[0].PublicKey) {
		t.Fatal("x5c is not the key's")
	}
	if got := thumbprint(k.Certificates[0].Raw); got != k.KeyID || tok.Headers[0].ExtraHeaders["x5t"] != got {
		t.Errorf("x5t %v, kid %s, certificate %s", tok.Headers[0].ExtraHeaders["x5t"], k.KeyID, got)
	}
	for claim, want := range map[string]any{"appid": p.appID, "appidacr": "1", "idtyp": "app", "oid": p.admin.ID, "sub": p.admin.ID, "tid": p.names.Tenant, "ver": "1.0",
		"idp": "https://sts.windows.net/" + p.names.Tenant + "/"} {
		if all[claim] != want {
			t.Errorf("%s is %v, want %v", claim, all[claim], want)
		}
	}
	for _, claim := range []string{"aio", "rh", "uti", "iat", "nbf", "exp"} {
		if all[claim] == nil {
			t.Errorf("no %s", claim)
		}
	}
	if all["scp"] != nil || all["roles"] != nil || all["xms_mirid"] != nil {
		t.Errorf("claims that an application's token does not have: %v", all)
	}
	if life := all["exp"].(float64) - all["iat"].(float64); life < 3600 || life > 5400 {
		t.Errorf("it lives for %v s", life)
	}
}

func TestIdentityClaims(t *testing.T) {
	p := onSQLite(t)
	id := az.MustParseID("/subscriptions/S/resourceGroups/G/providers/Microsoft.ManagedIdentity/userAssignedIdentities/Web")
	var oid, appID string
	p.write(t, func(tx *store.Tx) (err error) { oid, appID, err = p.dir.CreateIdentity(tx, id, "Web"); return err })
	tok, err := p.IdentityToken(context.Background(), IdentityRequest{ObjectID: oid, Resource: "https://vault.azure.net"})
	if err != nil {
		t.Fatal(err)
	}
	c := part(t, tok.AccessToken.Reveal(), 1)
	for claim, want := range map[string]any{"aud": "https://vault.azure.net", "appid": appID, "appidacr": "2", "oid": oid, "sub": oid, "ver": "1.0", "idtyp": "app",
		"xms_mirid": "/subscriptions/S/resourcegroups/G/providers/Microsoft.ManagedIdentity/userAssignedIdentities/Web"} {
		if c[claim] != want {
			t.Errorf("%s is %v, want %v", claim, c[claim], want)
		}
	}
	if life := c["exp"].(float64) - c["iat"].(float64); life != 86400 {
		t.Errorf("it lives for %v s", life)
	}
	if tok.ClientID != appID || tok.ResourceID.String() != id.String() || tok.ExpiresOn.Unix() != int64(c["exp"].(float64)) {
		t.Errorf("got %+v", tok)
	}
	if d := tok.ExpiresOn.Sub(tok.RefreshOn); d < 11*time.Hour || d > 13*time.Hour {
		t.Errorf("it is refreshed %s before its end", d)
	}
	fresh, err := p.IdentityToken(context.Background(), IdentityRequest{ObjectID: oid, Resource: "https://vault.azure.net", Refresh: true})
	if err != nil || fresh.AccessToken.Reveal() == tok.AccessToken.Reveal() {
		t.Errorf("refresh gave the same token (%v)", err)
	}
	p.clock.advance(13 * time.Hour)
	later, err := p.IdentityToken(context.Background(), IdentityRequest{ObjectID: oid, Resource: "https://vault.azure.net"})
	if err != nil || later.AccessToken.Reveal() == fresh.AccessToken.Reveal() {
		t.Errorf("past half of its life the old token is served (%v)", err)
	}
	for _, r := range []string{"", "https://nowhere.example", "x", "\x00", "https://vault.azure.net/.default"} {
		if _, err := p.IdentityToken(context.Background(), IdentityRequest{ObjectID: oid, Resource: r}); !az.Is(err, az.Invalid) || asAZ(err).Code != "invalid_resource" {
			t.Errorf("%q: %v", r, err)
		}
	}
	if _, err := p.IdentityToken(context.Background(), IdentityRequest{ObjectID: p.admin.ID, Resource: "https://vault.azure.net"}); !az.Is(err, az.Invalid) {
		t.Errorf("an application is no managed identity: %v", err)
	}
}

func TestTokenEndpointForms(t *testing.T) {
	p := onSQLite(t)
	basic := func(id, secret string) []string {
		return []string{"Authorization", "Basic " + strings.TrimRight(b64std(url.QueryEscape(id)+":"+url.QueryEscape(secret)), "\n")}
	}
	with := func(kv ...string) url.Values {
		f := p.secretForm("https://vault.azure.net/.default")
		for i := 0; i < len(kv); i += 2 {
			if kv[i+1] == "" {
				f.Del(kv[i])
			} else {
				f.Set(kv[i], kv[i+1])
			}
		}
		return f
	}
	v2 := "/" + p.names.Tenant + "/oauth2/v2.0/token"
	v1 := "/" + p.names.Tenant + "/oauth2/token"
	for _, c := range []struct {
		name, path, body string
		header           []string
		status, code     int
		err              string
	}{
		{"post", v2, with().Encode(), nil, 200, 0, ""},
		{"charset", v2, with().Encode(), []string{"Content-Type", "application/x-www-form-urlencoded; charset=utf-8"}, 200, 0, ""},
		{"query is ignored", v2 + "?client-request-id=x&client_secret=y", with().Encode(), nil, 200, 0, ""},
		{"msal-go's scopes", v2, with("scope", "https://vault.azure.net/.default openid offline_access profile").Encode(), nil, 200, 0, ""},
		{"unknown parameters", v2, with("client_info", "1", "claims", "{", "x-client-current-telemetry", "5|").Encode(), nil, 200, 0, ""},
		{"basic", v2, with("client_id", "", "client_secret", "").Encode(), basic(p.appID, p.secret.Reveal()), 200, 0, ""},
		{"basic and the same id", v2, with("client_secret", "").Encode(), basic(p.appID, p.secret.Reveal()), 200, 0, ""},
		{"client id in upper case", v2, with("client_id", strings.ToUpper(p.appID)).Encode(), nil, 200, 0, ""},
		{"v1", v1, with("scope", "", "resource", "https://vault.azure.net").Encode(), nil, 200, 0, ""},
		{"alias v1", "/adfs/oauth2/token", with().Encode(), nil, 200, 0, ""},
		{"alias v1 with resource", "/adfs/oauth2/token", with("scope", "", "resource", "https://vault.azure.net").Encode(), nil, 200, 0, ""},
		{"alias v2", "/adfs/oauth2/v2.0/token", with().Encode(), nil, 200, 0, ""},
		{"domain", "/hawser.localhost/oauth2/v2.0/token", with().Encode(), nil, 200, 0, ""},
		{"double slash", "/" + v2, with().Encode(), nil, 200, 0, ""},

		{"wrong secret", v2, with("client_secret", "x").Encode(), nil, 401, 7000215, "invalid_client"},
		{"no secret", v2, with("client_secret", "").Encode(), nil, 401, 7000218, "invalid_client"},
		{"unknown client", v2, with("client_id", az.NewGUID()).Encode(), nil, 400, 700016, "unauthorized_client"},
		{"client id no GUID", v2, with("client_id", "me\x00").Encode(), nil, 400, 700016, "unauthorized_client"},
		{"no client id", v2, with("client_id", "").Encode(), nil, 400, 900144, "invalid_request"},
		{"no grant", v2, with("grant_type", "").Encode(), nil, 400, 900144, "invalid_request"},
		{"no scope", v2, with("scope", "").Encode(), nil, 400, 900144, "invalid_request"},
		{"no resource", v1, with("scope", "").Encode(), nil, 400, 900144, "invalid_request"},
		{"scope without default", v2, with("scope", "https://vault.azure.net").Encode(), nil, 400, 1002012, "invalid_scope"},
		{"only OpenID scopes", v2, with("scope", "openid profile").Encode(), nil, 400, 70011, "invalid_scope"},
		{"two resources", v2, with("scope", "https://vault.azure.net/.default https://management.azure.com/.default").Encode(), nil, 400, 70011, "invalid_scope"},
		{"default twice", v2, with("scope", "https://vault.azure.net/.default/.default").Encode(), nil, 400, 500011, "invalid_resource"},
		{"bare default", v2, with("scope", "/.default").Encode(), nil, 400, 1002012, "invalid_scope"},
		{"password grant", v2, with("grant_type", "password").Encode(), nil, 400, 70003, "unsupported_grant_type"},
		{"strange grant", v2, with("grant_type", "<b>").Encode(), nil, 400, 70003, "unsupported_grant_type"},
		{"basic and post", v2, with().Encode(), basic(p.appID, p.secret.Reveal()), 400, 9002313, "invalid_request"},
		{"basic for another", v2, with("client_secret", "").Encode(), basic(az.NewGUID(), p.secret.Reveal()), 400, 9002313, "invalid_request"},
		{"bad basic", v2, with("client_secret", "").Encode(), []string{"Authorization", "Basic %"}, 400, 9002313, "invalid_request"},
		{"bearer", v2, with().Encode(), []string{"Authorization", "Bearer x"}, 400, 9002313, "invalid_request"},
		{"twice", v2, with().Encode() + "&scope=https%3A%2F%2Fmanagement.azure.com%2F.default", nil, 400, 9002313, "invalid_request"},
		{"twice, encoded", v2, with().Encode() + "&client%5Fid=x", nil, 400, 9002313, "invalid_request"},
		{"bad escape", v2, "grant_type=%zz", nil, 400, 9002313, "invalid_request"},
		{"secret and assertion", v2, with("client_assertion", "x", "client_assertion_type", assertionType).Encode(), nil, 400, 9002313, "invalid_request"},
		{"assertion of no type", v2, with("client_secret", "", "client_assertion", "x").Encode(), nil, 400, 9002313, "invalid_request"},
		{"common", "/common/oauth2/v2.0/token", with().Encode(), nil, 400, 50059, "invalid_request"},
		{"unknown tenant", "/" + az.NewGUID() + "/oauth2/v2.0/token", with().Encode(), nil, 400, 90002, "invalid_request"},
		{"JSON", v2, `{"grant_type":"client_credentials"}`, []string{"Content-Type", "application/json"}, 415, 0, "invalid_request"},
		{"too large", v2, strings.Repeat("a", maxForm+1), nil, 413, 0, "invalid_request"},
		{"too many parameters", v2, strings.Join(many(maxParameters+1), "&"), nil, 400, 9002313, "invalid_request"},
		{"empty", v2, "", []string{"Content-Type", "application/x-www-form-urlencoded"}, 400, 900144, "invalid_request"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p.failures = newThrottle(p.clock.now, maxFailures, maxPeerFailures)
			r := p.do(t, "POST", loginHost, c.path, c.body, c.header...)
			if r.status != c.status || r.code() != c.code || c.err != "" && r.json["error"] != c.err {
				t.Fatalf("want %d %d %s, got %s", c.status, c.code, c.err, r)
			}
			if c.status == 200 {
				if _, err := p.Verify(context.Background(), r.json["access_token"].(string), rest.Vault); err != nil || r.json["token_type"] != "Bearer" {
					t.Errorf("%v %s", err, r)
				}
				if !strings.Contains(r.header.Get("Cache-Control"), "no-store") {
					t.Error("the reply may be stored")
				}
				return
			}
			if strings.Contains(r.body, p.secret.Reveal()) || strings.Contains(r.body, "<b>") {
				t.Errorf("the reply holds what it must not: %s", r.body)
			}
		})
	}
}

func many(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = "p" + az.NewGUID() + "=1"
	}
	return out
}

func b64std(s string) string {
	b, _ := json.Marshal([]byte(s))
	return strings.Trim(string(b), `"`)
}

func TestReplyForms(t *testing.T) {
	p := onSQLite(t)
	form := p.secretForm("https://management.core.windows.net//.default")
	id := az.NewGUID()
	v2 := p.do(t, "POST", loginHost, "/"+p.names.Tenant+"/oauth2/v2.0/token", form.Encode(), "client-request-id", id)
	if _, number := v2.json["expires_in"].(float64); !number || v2.json["refresh_token"] != nil || v2.json["id_token"] != nil || v2.header.Get("client-request-id") != id {
		t.Errorf("v2: %s %v", v2, v2.header)
	}
	form.Del("scope")
	form.Set("resource", "https://management.core.windows.net/")
	v1 := p.do(t, "POST", loginHost, "/"+p.names.Tenant+"/oauth2/token", form.Encode())
	for _, k := range []string{"expires_in", "ext_expires_in", "expires_on", "not_before"} {
		if _, text := v1.json[k].(string); !text {
			t.Errorf("v1: %s is %v", k, v1.json[k])
		}
	}
	if v1.json["resource"] != "https://management.core.windows.net/" {
		t.Errorf("v1: %s", v1)
	}
	form.Set("client_secret", "x")
	bad := p.do(t, "POST", loginHost, "/"+p.names.Tenant+"/oauth2/token", form.Encode(), "client-request-id", id)
	if bad.json["correlation_id"] != id || !strings.HasPrefix(bad.json["error_description"].(string), "AADSTS7000215: ") || bad.json["error_uri"] != "https://login.microsoftonline.com/error?code=7000215" {
		t.Errorf("error: %s", bad)
	}
	rec := p.lastRecord(t, guard.EventSignIn)
	if rec.Outcome != guard.Refused || rec.App != p.appID || rec.Reason != "invalid_client 7000215" || rec.Peer == "" {
		t.Errorf("recorded %+v", rec)
	}
}

func TestClientsThatMayNotSignIn(t *testing.T) {
	p := onSQLite(t)
	scope := "https://vault.azure.net/.default"
	var bare *directory.Object
	var secret az.Secret
	p.write(t, func(tx *store.Tx) (err error) {
		if bare, err = p.dir.AddApplication(tx, directory.Object{Name: "bare"}); err != nil {
			return err
		}
		_, secret, err = p.dir.AddSecret(tx, bare.ID, "", 0, az.MicrosOf(p.clock.now().Add(time.Hour)))
		return err
	})
	form := p.secretForm(scope)
	form.Set("client_id", bare.AppID)
	form.Set("client_secret", secret.Reveal())
	if r := p.ask(t, form); r.code() != 7000229 {
		t.Errorf("without a service principal: %s", r)
	}
	p.write(t, func(tx *store.Tx) error { _, err := p.dir.AddServicePrincipal(tx, bare.AppID); return err })
	if r := p.ask(t, form); r.status != 200 {
		t.Errorf("with one: %s", r)
	}
	p.clock.advance(2 * time.Hour)
	if r := p.ask(t, form); r.status != 401 || r.code() != 7000222 {
		t.Errorf("with an expired secret: %s", r)
	}
	off := *p.admin
	off.Enabled = false
	p.write(t, func(tx *store.Tx) error { return p.dir.Update(tx, &off) })
	if r := p.ask(t, p.secretForm(scope)); r.code() != 7000112 {
		t.Errorf("disabled: %s", r)
	}
}

func TestFailuresAreThrottled(t *testing.T) {
	p := onSQLite(t)
	good := p.secretForm("https://vault.azure.net/.default")
	bad := p.secretForm("https://vault.azure.net/.default")
	bad.Set("client_secret", "wrong")
	other := p.secretForm("https://vault.azure.net/.default")
	other.Set("grant_type", "password")
	for range maxFailures + 1 { // no guess at a secret
		p.ask(t, other)
	}
	if r := p.ask(t, good); r.status != 200 {
		t.Fatalf("refusals of other kinds count: %s", r)
	}
	for i := range maxFailures {
		if r := p.ask(t, bad); r.status != 401 {
			t.Fatalf("%d: %s", i, r)
		}
	}
	r := p.ask(t, good)
	if r.status != 429 || r.header.Get("Retry-After") == "" {
		t.Fatalf("after %d failures: %s", maxFailures, r)
	}
	if err := p.failures.check(p.appID, "192.0.2.1"); err != nil {
		t.Errorf("another peer: %v", err)
	}
	p.clock.advance(failureWindow)
	if r := p.ask(t, good); r.status != 200 {
		t.Errorf("after the window: %s", r)
	}
	for range maxPeerFailures {
		p.failures.note(az.NewGUID(), "192.0.2.9")
	}
	if err := p.failures.check(az.NewGUID(), "192.0.2.9"); !az.Is(err, az.TooMany) {
		t.Errorf("a peer that tries many clients: %v", err)
	}
}

func TestV2IssuerFollowsTheName(t *testing.T) {
	p := onSQLite(t)
	p.write(t, func(tx *store.Tx) error {
		api, err := p.dir.AddApplication(tx, directory.Object{Name: "api", Facts: directory.Facts{IdentifierURIs: []string{"api://x"}, TokenVersion: 2}})
		if err != nil {
			return err
		}
		_, err = p.dir.AddServicePrincipal(tx, api.AppID)
		return err
	})
	for _, host := range []string{loginHost, "login.microsoftonline.com", "login.chinacloudapi.cn"} {
		tok := p.do(t, "POST", host, "/"+p.names.Tenant+"/oauth2/v2.0/token", p.secretForm("api://x/.default").Encode())
		doc := p.do(t, "GET", host, "/"+p.names.Tenant+"/v2.0/.well-known/openid-configuration", "")
		// A generic verifier compares these two.
		if iss := part(t, tok.json["access_token"].(string), 1)["iss"]; iss != doc.json["issuer"] {
			t.Errorf("%s: iss %v, discovery %v", host, iss, doc.json["issuer"])
		}
	}
}

func TestKeysRotate(t *testing.T) {
	p := onSQLite(t)
	ctx := context.Background()
	kids := func() (out []string) {
		r := p.do(t, "GET", loginHost, "/common/discovery/keys", "")
		for _, k := range r.json["keys"].([]any) {
			out = append(out, k.(map[string]any)["kid"].(string))
		}
		return out
	}
	kidOf := func(token string) string { return part(t, token, 0)["kid"].(string) }
	start := kids()
	old := p.token(t, "https://management.azure.com/.default")
	if kidOf(old) != start[0] || len(start) != 2 {
		t.Fatalf("signed by %s of %v", kidOf(old), start)
	}
	if err := p.RotateKeys(ctx, false); !az.Is(err, az.Conflict) {
		t.Errorf("a next key that nobody knows yet: %v", err)
	}
	if err := p.RotateKeys(ctx, true); err != nil {
		t.Fatal(err)
	}
	forced := p.token(t, "https://management.azure.com/.default")
	if kidOf(forced) != start[1] || len(kids()) != 3 {
		t.Errorf("after the rotation: signed by %s, published %v", kidOf(forced), kids())
	}
	for _, tok := range []string{old, forced} {
		if _, err := p.Verify(ctx, tok, rest.ARM); err != nil {
			t.Error(err)
		}
	}
	// The clock alone moves the signer on, and the retired key goes.
	p.clock.advance(DefaultRotateEvery + time.Hour)
	if got := kidOf(p.token(t, "https://management.azure.com/.default")); got != kids()[len(kids())-1] {
		t.Errorf("signed by %s of %v", got, kids())
	}
	if len(kids()) != 2 {
		t.Errorf("a retired key is still published: %v", kids())
	}
}

func TestFirstStartOfTwoPlanes(t *testing.T) {
	sa, sb := storetest.Pair(t)
	sh := newShared(t)
	planes := make([]*plane, 2)
	var wg sync.WaitGroup
	for i, st := range []*store.Store{sa, sb} {
		wg.Go(func() { planes[i] = newPlane(t, st, sh) })
	}
	wg.Wait()
	rows, err := sa.SigningKeys(context.Background())
	if err != nil || len(rows) != 2 {
		t.Fatalf("%d keys, %v", len(rows), err)
	}
	q := New(planes[0].cfg)
	if err := q.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	again, err := sb.SigningKeys(context.Background())
	if d := cmp.Diff(rows, again); d != "" || err != nil {
		t.Errorf("a later start made keys: %s %v", d, err)
	}
	ring, err := q.keys.ring(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range rows {
		if bytes.Contains(r.Sealed, ring.keys[i].private.Primes[0].Bytes()) {
			t.Error("a private key is not sealed")
		}
	}
}

func TestKeysAreRevokedAndResealed(t *testing.T) {
	p := onSQLite(t)
	ctx := context.Background()
	token := p.token(t, "https://management.azure.com/.default")
	if _, err := p.Verify(ctx, token, rest.ARM); err != nil {
		t.Fatal(err)
	}
	if n, err := p.Reseal(ctx); n != 0 || err != nil {
		t.Errorf("resealed %d, %v", n, err)
	}
	wrapped, err := p.sealer.Rotate()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.sealer.Reload(wrapped); err != nil {
		t.Fatal(err)
	}
	if n, err := p.Reseal(ctx); n != 2 || err != nil {
		t.Errorf("resealed %d, %v", n, err)
	}
	if _, err := p.Verify(ctx, token, rest.ARM); err != nil {
		t.Errorf("after sealing anew: %v", err)
	}
	if err := p.RevokeKeys(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Verify(ctx, token, rest.ARM); !az.Is(err, az.Unauthorized) {
		t.Errorf("a token of a revoked key, remembered as good: %v", err)
	}
	if _, err := p.Verify(ctx, p.token(t, "https://management.azure.com/.default"), rest.ARM); err != nil {
		t.Errorf("a token of the new key: %v", err)
	}
}
