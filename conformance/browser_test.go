package conformance

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// storyLimit is for a slow machine that is busy; half a minute is usual.
const storyLimit = 3 * time.Minute

// TestBrowser: Chromium, driven by Playwright, signs people in with a password,
// one-time codes and passkeys, consents, uses an app behind built-in
// authentication, refreshes and signs out; in the dark, in the hand, and
// without JavaScript. A picture of each page is kept in bin/artefacts.
func TestBrowser(t *testing.T) {
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatal("cannot find chromium: install the package chromium")
	}
	p := start(t)
	p.make("app", "web")
	site := p.start("web", []string{"--auth", "--auth-scope", "openid profile email offline_access api://{clientId}/user_impersonation"}, "node", "browser/app.mjs")
	site.wait(t, "listening")

	landing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte("<!doctype html><title>Landed</title><link rel=icon href=data:,>"))
	}))
	defer landing.Close()
	at := "http://localhost:" + landing.URL[strings.LastIndexByte(landing.URL, ':')+1:]
	api := p.offer("Orders", 2, []string{"read"})
	client := p.register("Order desk", map[string]any{"web": map[string]any{"redirectUris": []string{at + "/callback"}}})
	public := p.register("Scanner", map[string]any{"isFallbackPublicClient": true})
	authorize := func(more url.Values) string {
		q := url.Values{"client_id": {client.AppID}, "response_type": {"code"}, "redirect_uri": {at + "/callback"}, "state": {"s"},
			"scope": {"openid " + api.uri() + "/read"}, "code_challenge": {s256(rightVerifier)}, "code_challenge_method": {"S256"}}
		for k, v := range more {
			q[k] = v
		}
		return p.env.Authority + "/" + p.env.TenantID + "/oauth2/v2.0/authorize?" + q.Encode()
	}
	first, second := p.deviceCode(public, api.uri()+"/read"), p.deviceCode(public, api.uri()+"/read")
	artefacts, err := filepath.Abs("../bin/artefacts")
	if err != nil {
		t.Fatal(err)
	}
	story := map[string]any{
		"chromium": chromium, "artefacts": artefacts, "site": p.site("web"), "login": p.env.Authority, "tenant": p.env.TenantID, "landing": at,
		"people":    lower(p.people("Ann", "Ben", "Eve", "Dan")),
		"authorize": map[string]string{"select": authorize(url.Values{"prompt": {"select_account"}}), "consent": authorize(url.Values{"prompt": {"consent"}})},
		"wrong":     authorize(url.Values{"redirect_uri": {"https://evil.example/"}}),
		"device":    map[string]string{"url": first.URL, "code": first.Code, "again": second.URL},
		"only":      os.Getenv("STORY_ONLY"),
	}
	b, err := json.Marshal(story)
	if err != nil {
		t.Fatal(err)
	}
	env := append(clean(t), "STORY="+string(b))
	trustInBrowser(t, env, p.env.CAFile)
	r := executeFor(t, storyLimit, env, "node", "browser/story.mjs")
	want := []string{"password and consent", "refresh", "cookies", "sign-out", "one-time codes set up", "password and one-time code", "passkey set up",
		"passkey alone", "password and passkey", "another passkey is refused", "two accounts", "device", "error page", "dark", "mobile", "without JavaScript"}
	lines(t, r, "ok "+strings.Join(want, "\nok "))
}

// lower is people as the browser's program reads them.
func lower(people []person) []map[string]string {
	var out []map[string]string
	for _, p := range people {
		out = append(out, map[string]string{"upn": p.UPN, "password": p.Password, "name": p.Name, "id": p.ID})
	}
	return out
}

// trustInBrowser puts a CA where Chromium looks for the user's own.
func trustInBrowser(t testing.TB, env []string, ca string) {
	t.Helper()
	db := filepath.Join(home(t), ".pki", "nssdb")
	if err := os.MkdirAll(db, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"-N", "--empty-password"}, {"-A", "-n", "plane", "-t", "C,,", "-i", ca}} {
		if r := execute(t, env, append([]string{"certutil", "-d", "sql:" + db}, args...)...); r.code != 0 {
			t.Fatalf("certutil (package libnss3-tools): %s%s", r.stdout, r.stderr)
		}
	}
}

// site is the address of an app.
func (p *plane) site(name string) string { return "https://" + name + "." + p.env.Suffixes["sites"] }

// deviceGrant is what a device shows.
type deviceGrant struct {
	Code string `json:"user_code"`
	URL  string `json:"verification_uri"`
}

func (p *plane) deviceCode(client application, scope string) (d deviceGrant) {
	p.t.Helper()
	resp, err := p.caller(p.t).PostForm(p.env.Authority+"/"+p.env.TenantID+"/oauth2/v2.0/devicecode",
		url.Values{"client_id": {client.AppID}, "scope": {scope}})
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	err = json.NewDecoder(resp.Body).Decode(&d)
	if err == nil && d.Code == "" {
		err = errors.New("no code came")
	}
	if err != nil {
		p.t.Fatalf("devicecode: %s: %v", strconv.Itoa(resp.StatusCode), err)
	}
	return d
}
