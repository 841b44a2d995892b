package conformance

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"time"
)

// mirror is an app that knows nothing of sign-in: it answers with what it got.
const mirror = `
const http = require('http');
http.createServer((q, s) => {
  let n = 0;
  q.on('data', b => { n += b.length });
  q.on('end', () => { s.setHeader('content-type', 'application/json'); s.end(JSON.stringify({ url: q.url, method: q.method, bytes: n, headers: q.headers })) });
}).on('upgrade', (q, s) => {
  s.write('HTTP/1.1 101 Switching Protocols\r\nUpgrade: ' + q.headers.upgrade + '\r\nConnection: Upgrade\r\nX-Who: ' + (q.headers['x-ms-client-principal-id'] || '') + '\r\n\r\n');
  s.pipe(s);
}).listen(process.env.PORT, '127.0.0.1', () => console.log('listening on ' + process.env.PORT, process.env.WEBSITE_AUTH_ENABLED, process.env.WEBSITE_AUTH_CLIENT_ID));
`

type mirrored struct {
	URL     string            `json:"url"`
	Bytes   int               `json:"bytes"`
	Headers map[string]string `json:"headers"`
}

// mirrored reads the page that the browser shows as what the app has answered.
func (v *visitor) mirrored(t testing.TB) mirrored {
	t.Helper()
	var m mirrored
	if err := json.Unmarshal([]byte(v.text), &m); err != nil {
		t.Fatalf("%s: %d %s (%q)", v.at, v.status, v.text, v.trail)
	}
	return m
}

// plain is a request without a browser.
func (p *plane) plain(t testing.TB, method, address string, body io.Reader, header ...string) (int, http.Header, string) {
	t.Helper()
	req, err := http.NewRequest(method, address, body)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	v := p.visit(person{}) // its client finds the plane's names
	resp, err := v.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(b)
}

// TestFront: an app that knows nothing of sign-in, started with --auth, lets
// in only who has signed in, and is told who that is.
func TestFront(t *testing.T) {
	p := start(t)
	both := p.people("Ann", "Bob")
	ann, bob := both[0], both[1]
	p.cli("app", "create", "mirror")
	a := p.start("mirror", []string{"--auth", "--auth-scope", "openid profile offline_access api://{clientId}/user_impersonation"}, "node", "-e", mirror)
	said := strings.Fields(a.wait(t, "listening"))
	if len(said) != 5 || said[3] != "True" {
		t.Fatalf("the app saw %q", said)
	}
	client, origin := said[4], "https://mirror.sites."+p.env.Domain+":"+p.port()
	if !strings.Contains(a.errs.String(), origin) {
		t.Errorf("hawser run does not say where the app is: %s", a.errs)
	}
	site := "/subscriptions/" + p.env.SubscriptionID + "/resourceGroups/hawser/providers/Microsoft.Web/sites/mirror"

	t.Run("a person", func(t *testing.T) {
		v := p.visit(ann)
		if err := v.arrive(origin + "/hello?a=b"); err != nil {
			t.Fatal(err)
		}
		m := v.mirrored(t)
		if m.URL != "/hello?a=b" || m.Headers["x-ms-client-principal-id"] != ann.ID || m.Headers["x-ms-client-principal-name"] != ann.UPN || m.Headers["x-ms-client-principal-idp"] != "aad" {
			t.Errorf("the app was told %v", m)
		}
		b, err := base64.StdEncoding.DecodeString(m.Headers["x-ms-client-principal"])
		if err != nil || !strings.Contains(string(b), `{"typ":"http://schemas.microsoft.com/identity/claims/objectidentifier","val":"`+ann.ID+`"}`) {
			t.Errorf("principal %s", b)
		}
		for _, k := range []string{"x-ms-token-aad-id-token", "x-ms-token-aad-access-token", "x-ms-token-aad-refresh-token", "x-ms-token-aad-expires-on"} {
			if m.Headers[k] == "" {
				t.Errorf("no %s", k)
			}
		}
		if c := m.Headers["cookie"]; strings.Contains(c, "AppService") {
			t.Errorf("the app sees the session: %s", c)
		}
		// The token is one for the app's own API.
		code, _, text := p.plain(t, "GET", origin+"/api", nil, "Authorization", "Bearer "+m.Headers["x-ms-token-aad-access-token"])
		if code != 200 || !strings.Contains(text, ann.ID) {
			t.Errorf("as a bearer token: %d %s", code, text)
		}
		// An id token opens no API.
		if code, h, _ := p.plain(t, "GET", origin+"/api", nil, "Authorization", "Bearer "+m.Headers["x-ms-token-aad-id-token"]); code != 401 || !strings.Contains(h.Get("WWW-Authenticate"), client) {
			t.Errorf("an id token as a bearer token: %d %v", code, h)
		}
		before := m.Headers["x-ms-token-aad-refresh-token"]
		if err := v.open("/.auth/refresh"); err != nil || v.status != 200 {
			t.Fatalf("refresh: %v %d %s", err, v.status, v.text)
		}
		if err := v.open("/"); err != nil {
			t.Fatal(err)
		}
		if m = v.mirrored(t); m.Headers["x-ms-token-aad-refresh-token"] == before {
			t.Error("the refresh token is the old one")
		}
		if err := v.open("/.auth/me"); err != nil || !strings.Contains(v.text, ann.UPN) {
			t.Errorf("/.auth/me: %v %s", err, v.text)
		}
		if err := v.arrive("/.auth/logout?post_logout_redirect_uri=/.auth/logout/done"); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(v.text, "You are signed out") {
			t.Errorf("the sign-out ends at %s: %d %s (%q)", v.at, v.status, v.text, v.trail)
		}
		if err := v.open("/.auth/me"); err != nil || v.status != 401 {
			t.Errorf("after the sign-out: %d %s (%q)", v.status, v.text, v.trail)
		}
	})
	t.Run("an application", func(t *testing.T) {
		other := p.register("caller", nil)
		token := p.clientToken(t, other, "api://"+client+"/.default")
		code, _, text := p.plain(t, "POST", origin+"/api", strings.NewReader("body"), "Authorization", "Bearer "+token)
		if code != 200 || !strings.Contains(text, `"bytes":4`) || !strings.Contains(text, other.Service) {
			t.Errorf("%d %s", code, text)
		}
		wrong := p.clientToken(t, other, p.env.ResourceManager+"/.default")
		if code, _, _ := p.plain(t, "GET", origin+"/api", nil, "Authorization", "Bearer "+wrong); code != 401 {
			t.Errorf("a token for another audience: %d", code)
		}
	})
	// policy lets in only a group; "" everybody.
	policy := func(t *testing.T, group string) {
		var doc struct {
			Properties map[string]any `json:"properties"`
		}
		if err := p.arm().Get(t.Context(), site+"/config/authsettingsV2", &doc); err != nil {
			t.Fatal(err)
		}
		validation := doc.Properties["identityProviders"].(map[string]any)["azureActiveDirectory"].(map[string]any)["validation"].(map[string]any)
		delete(validation, "defaultAuthorizationPolicy")
		if group != "" {
			validation["defaultAuthorizationPolicy"] = map[string]any{"allowedPrincipals": map[string]any{"groups": []string{group}}}
		}
		if err := p.arm().Put(t.Context(), site+"/config/authsettingsV2", doc, nil); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("only a group", func(t *testing.T) {
		group := p.group("friends", ann.ID)
		policy(t, group)
		v, w := p.visit(ann), p.visit(bob)
		if err := v.arrive(origin + "/"); err != nil || v.mirrored(t).Headers["x-ms-client-principal-id"] != ann.ID {
			t.Errorf("Ann: %v", err)
		}
		if err := w.arrive(origin + "/"); err != nil || w.status != 403 {
			t.Errorf("Bob: %v %d %s", err, w.status, w.text)
		}
		p.leave(group, ann.ID)
		eventually(t, 2*time.Second, "Ann left the group and is still let in", func() bool { return v.open("/") == nil && v.status == 403 })
	})
	t.Run("run again", func(t *testing.T) { // --auth changes nothing that is as it should be
		p.as(t)
		b := p.start("mirror", []string{"--auth"}, "node", "-e", mirror)
		if again := strings.Fields(b.wait(t, "listening")); again[4] != client {
			t.Errorf("another registration: %q", again)
		}
	})
	t.Run("the app has ended", func(t *testing.T) {
		policy(t, "")
		_ = a.cmd.Process.Signal(syscall.SIGTERM)
		<-a.done
		token := p.clientToken(t, p.register("late", nil), "api://"+client+"/.default")
		code, _, _ := p.plain(t, "GET", origin+"/api", nil, "Authorization", "Bearer "+token)
		if code != 503 {
			t.Errorf("%d, want 503", code)
		}
	})
}

// TestAuthByAz: az shows and changes the same settings, in the form of v1.
func TestAuthByAz(t *testing.T) {
	p := start(t)
	p.cli("app", "create", "web")
	id := p.register("web sign-in", nil)
	env := []string{"AZURE_CONFIG_DIR=" + t.TempDir(), "AZURE_CORE_COLLECT_TELEMETRY=no", "REQUESTS_CA_BUNDLE=" + p.env.CABundle}
	if r := execute(t, append(clean(t), env...), hawser, "az-setup", "--data", p.dir); r.code != 0 {
		t.Fatalf("az-setup: %s", r.stderr)
	}
	az := func(args ...string) result {
		t.Helper()
		return execute(t, append(clean(t), env...), append(append([]string{"az"}, args...), "--only-show-errors")...)
	}
	lines(t, az("webapp", "auth", "show", "--resource-group", "hawser", "--name", "web", "--query", "enabled"), "false")
	lines(t, az("webapp", "auth", "update", "--resource-group", "hawser", "--name", "web", "--enabled", "true", "--action", "LoginWithAzureActiveDirectory",
		"--aad-client-id", id.AppID, "--aad-client-secret", id.Secret, "--aad-allowed-token-audiences", "api://web", "--token-store", "true",
		"--query", "[enabled,clientId,clientSecretSettingName,defaultProvider]", "--output", "tsv"),
		"true\n"+id.AppID+"\nMICROSOFT_PROVIDER_AUTHENTICATION_SECRET\nAzureActiveDirectory")
	address := p.env.ResourceManager + "/subscriptions/" + p.env.SubscriptionID + "/resourceGroups/hawser/providers/Microsoft.Web/sites/web/config/authsettingsV2?api-version=2022-03-01"
	lines(t, az("rest", "--method", "get", "--url", address, "--query", "properties.[platform.enabled,globalValidation.unauthenticatedClientAction]", "--output", "tsv"), "true\nRedirectToLoginPage")
	if r := az("rest", "--method", "put", "--url", address, "--body", `{"properties":{"identityProviders":{"google":{"registration":{"clientId":"g"}}}}}`); r.code == 0 || !strings.Contains(r.stderr, "not served here") {
		t.Errorf("another provider: %d %s", r.code, r.stderr)
	}
}

// clientToken is an application's own token.
func (p *plane) clientToken(t testing.TB, a application, scope string) string {
	t.Helper()
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {a.AppID}, "client_secret": {a.Secret}, "scope": {scope}}
	code, _, text := p.plain(t, "POST", p.env.Authority+"/"+p.env.TenantID+"/oauth2/v2.0/token", strings.NewReader(form.Encode()), "Content-Type", "application/x-www-form-urlencoded")
	var out struct {
		Token string `json:"access_token"`
	}
	if code != 200 || json.Unmarshal([]byte(text), &out) != nil {
		t.Fatalf("no token for %s: %d %s", scope, code, text)
	}
	return out.Token
}
