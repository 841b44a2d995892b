package run

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hawser/hawser/client"
	"github.com/hawser/hawser/internal/az"
)

type fetchFunc = func(context.Context, client.TokenRequest) (client.Token, error)

var testNow = time.Unix(1_700_000_000, 0)

// tokenFor is a source that always has a token.
func tokenFor(_ context.Context, r client.TokenRequest) (client.Token, error) {
	return client.Token{AccessToken: "jwt", ExpiresOn: testNow.Unix() + 86400, NotBefore: testNow.Unix() - 300, RefreshOn: testNow.Unix() + 43200,
		Resource: "not the echoed one", ClientID: "5e29463d-0000-4000-8000-00000000000a", ObjectID: "oid"}, nil
}

// endpoint starts an identity endpoint that takes this process for the app's.
func endpoint(t testing.TB, d Dialect, fetch fetchFunc, l Limits) *identity {
	t.Helper()
	cfg := Config{Client: &client.Client{}, Site: "app1", Argv: []string{"x"}, Identity: d, Limits: l, ArcDir: t.TempDir(),
		Clock: func() time.Time { return testNow }, Logger: slog.New(slog.DiscardHandler)}
	if err := cfg.fill(); err != nil {
		t.Fatal(err)
	}
	s := &session{Config: cfg, child: &tree{anyone: true}}
	s.cache = newCache(t.Context(), cfg.Clock, cfg.Limits, fetch, cfg.Logger)
	id, err := startIdentity(s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = id.Close(); _ = s.cache.Close() })
	return id
}

type call1 struct {
	method, path, body string
	header             map[string]string
	host               string
}

// ask sends a request; "$S" in a header stands for the secret.
func ask(t testing.TB, id *identity, c call1) (*http.Response, string) {
	t.Helper()
	if c.method == "" {
		c.method = http.MethodGet
	}
	req, err := http.NewRequest(c.method, "http://"+id.addr+c.path, strings.NewReader(c.body))
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range c.header {
		req.Header.Set(k, strings.ReplaceAll(v, "$S", id.header))
	}
	if c.host != "" {
		req.Host = strings.ReplaceAll(c.host, "PORT", id.addr[strings.LastIndexByte(id.addr, ':')+1:])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(b)
}

func h(pairs ...string) map[string]string {
	m := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i]] = pairs[i+1]
	}
	return m
}

const q2019 = "?api-version=2019-08-01&resource=https%3A%2F%2Fvault.azure.net"

func TestAppServiceRequests(t *testing.T) {
	id := endpoint(t, AppService, tokenFor, Limits{})
	secret := h("X-IDENTITY-HEADER", "$S")
	for _, c := range []struct {
		name string
		call call1
		want int
	}{
		{"2019-08-01", call1{path: "/msi/token" + q2019, header: secret}, 200},
		{"slash at the end", call1{path: "/msi/token/" + q2019, header: secret}, 200},
		{"two slashes", call1{path: "//msi/token//" + q2019, header: secret}, 200},
		{"as localhost", call1{path: "/msi/token" + q2019, header: secret, host: "localhost:PORT"}, 200},
		{"2017-09-01, resource as az sends it", call1{path: "/msi/token/?resource=https://management.core.windows.net/&api-version=2017-09-01", header: h("secret", "$S")}, 200},
		{"2017-09-01 with an empty clientid", call1{path: "/msi/token?resource=x&api-version=2017-09-01&clientid=", header: h("secret", "$S")}, 200},
		{"form", call1{method: "POST", path: "/msi/token", body: q2019[1:], header: h("X-IDENTITY-HEADER", "$S", "Content-Type", "application/x-www-form-urlencoded")}, 200},
		{"no header", call1{path: "/msi/token" + q2019}, 401},
		{"wrong header", call1{path: "/msi/token" + q2019, header: h("X-IDENTITY-HEADER", "x")}, 401},
		{"the other version's header", call1{path: "/msi/token" + q2019, header: h("secret", "$S")}, 401},
		{"unknown version", call1{path: "/msi/token?api-version=2020-01-01&resource=x", header: secret}, 400},
		{"no version", call1{path: "/msi/token?resource=x", header: secret}, 400},
		{"no resource", call1{path: "/msi/token?api-version=2019-08-01", header: secret}, 400},
		{"two resources", call1{path: "/msi/token" + q2019 + "&resource=y", header: secret}, 400},
		{"two identities", call1{path: "/msi/token" + q2019 + "&client_id=a&object_id=b", header: secret}, 400},
		{"bad escape", call1{path: "/msi/token?api-version=2019-08-01&resource=%zz", header: secret}, 400},
		{"control character", call1{path: "/msi/token?api-version=2019-08-01&resource=a%0ab", header: secret}, 400},
		{"too long", call1{path: "/msi/token" + q2019 + strings.Repeat("a", maxQuery), header: secret}, 400},
		{"forwarded", call1{path: "/msi/token" + q2019, header: h("X-IDENTITY-HEADER", "$S", "X-Forwarded-For", "1.2.3.4")}, 400},
		{"rebound name", call1{path: "/msi/token" + q2019, header: secret, host: "evil.example:PORT"}, 400},
		{"another port", call1{path: "/msi/token" + q2019, header: secret, host: "127.0.0.1:1"}, 400},
		{"IMDS's path", call1{path: imdsTokenPath + "?api-version=2018-02-01&resource=x", header: h("Metadata", "true")}, 404},
		{"method", call1{method: "PUT", path: "/msi/token" + q2019, header: secret}, 405},
	} {
		t.Run(c.name, func(t *testing.T) {
			resp, body := ask(t, id, c.call)
			if resp.StatusCode != c.want {
				t.Fatalf("%d %s, want %d", resp.StatusCode, body, c.want)
			}
			var b struct {
				StatusCode    int
				Message       string
				CorrelationID string
			}
			if c.want != 200 && (json.Unmarshal([]byte(body), &b) != nil || b.StatusCode != c.want || b.Message == "" || !az.IsGUID(b.CorrelationID)) {
				t.Errorf("not App Service's error form: %s", body)
			}
			if strings.Contains(body, id.header) {
				t.Error("the answer holds the secret")
			}
		})
	}
}

func TestBodies(t *testing.T) {
	guid := "5e29463d-0000-4000-8000-00000000000a"
	imdsBody := map[string]string{"access_token": "jwt", "client_id": guid, "expires_in": "86400", "ext_expires_in": "86400",
		"expires_on": "1700086400", "not_before": "1699999700", "resource": "https://x/?a&b", "token_type": "Bearer"}
	appBody := map[string]string{"access_token": "jwt", "client_id": strings.ToUpper(guid), "expires_on": "1700086400",
		"not_before": "1699999700", "resource": "https://x/?a&b", "token_type": "Bearer"}
	for _, c := range []struct {
		dialect Dialect
		call    call1
		want    map[string]string
	}{
		{AppService, call1{path: "/msi/token?api-version=2019-08-01&resource=https://x/?a%26b", header: h("X-IDENTITY-HEADER", "$S")}, appBody},
		{AppService, call1{path: "/msi/token?api-version=2017-09-01&resource=https://x/?a%26b", header: h("secret", "$S")}, appBody},
		{IMDS, call1{path: imdsTokenPath + "?api-version=2018-02-01&resource=https://x/?a%26b&msi_res_id=/r", header: h("Metadata", "true")}, imdsBody},
		{CloudShell, call1{method: "POST", path: "/oauth2/token", body: "resource=https://x/?a%26b", header: h("Metadata", "true", "Content-Type", "application/x-www-form-urlencoded")}, imdsBody},
	} {
		id := endpoint(t, c.dialect, tokenFor, Limits{})
		resp, body := ask(t, id, c.call)
		var got map[string]string
		if err := json.Unmarshal([]byte(body), &got); err != nil || resp.StatusCode != 200 {
			t.Fatalf("%s: %d %s %v", c.dialect, resp.StatusCode, body, err)
		}
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("%s:\n%s", c.dialect, d)
		}
		if ct := resp.Header.Get("Content-Type"); ct != "application/json; charset=utf-8" || resp.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: content type %q, cache control %q", c.dialect, ct, resp.Header.Get("Cache-Control"))
		}
	}
}

func TestIMDSRequests(t *testing.T) {
	id := endpoint(t, IMDS, tokenFor, Limits{})
	meta := h("Metadata", "true")
	token := imdsTokenPath + "?api-version=2018-02-01&resource=x"
	for _, c := range []struct {
		name string
		call call1
		want int
		code string
	}{
		{"token", call1{path: token, header: meta}, 200, ""},
		{"azidentity's probe", call1{path: imdsTokenPath}, 400, "invalid_request"},
		{"python's probe", call1{path: token}, 400, "invalid_request"},
		{"True is not true", call1{path: token, header: h("Metadata", "True")}, 400, "invalid_request"},
		{"no api-version", call1{path: imdsTokenPath + "?resource=x", header: meta}, 400, "invalid_request"},
		{"odd api-version", call1{path: imdsTokenPath + "?resource=x&api-version=latest", header: meta}, 400, "invalid_request"},
		{"no resource", call1{path: imdsTokenPath + "?api-version=2018-02-01", header: meta}, 400, "invalid_request"},
		{"forwarded", call1{path: token, header: h("Metadata", "true", "X-Forwarded-For", "x")}, 400, "invalid_request"},
		{"rebound name", call1{path: token, header: meta, host: "evil.example"}, 400, "invalid_request"},
		{"unknown path", call1{path: "/metadata/x", header: meta}, 404, "unknown_source"},
		{"App Service's path", call1{path: "/msi/token" + q2019, header: meta}, 404, "unknown_source"},
		{"method", call1{method: "DELETE", path: token, header: meta}, 405, "method_not_allowed"},
		{"compute", call1{path: "/metadata/instance/compute?api-version=2021-02-01", header: meta}, 200, ""},
		{"location", call1{path: "/metadata/instance/compute/location?format=text&api-version=2021-01-01", header: meta}, 200, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			resp, body := ask(t, id, c.call)
			if resp.StatusCode != c.want || c.code != "" && !strings.Contains(body, `{"error":"`+c.code+`","error_description":"`) {
				t.Fatalf("%d %s, want %d %s", resp.StatusCode, body, c.want, c.code)
			}
		})
	}
}

func TestErrorsOfThePlane(t *testing.T) {
	fail := func(e error) fetchFunc {
		return func(context.Context, client.TokenRequest) (client.Token, error) { return client.Token{}, e }
	}
	for _, c := range []struct {
		name     string
		err      error
		app      int
		appText  string
		imdsCode string
		imdsText string
	}{
		{"no such identity", &client.Error{Status: 400, Code: "IdentityNotFound", Message: "x"}, 400, textNoIdentity, "invalid_request", "Identity not found"},
		{"no such resource", &client.Error{Status: 400, Code: "InvalidResource", Message: "AADSTS500011: no"}, 400, "AADSTS500011: no", "invalid_resource", "AADSTS500011: no"},
		{"no such resource, in our words", &client.Error{Status: 400, Code: "InvalidResource", Message: "no"}, 400, "AADSTS50001: ", "invalid_resource", "AADSTS50001: "},
		{"forbidden", &client.Error{Status: 403, Message: "no role"}, 403, "no role", "forbidden", "no role"},
		{"throttled", &client.Error{Status: 429, RetryAfter: 7 * time.Second}, 429, "Too many", "too_many_requests", "Too many"},
		{"plane's own fault", &client.Error{Status: 500, Message: "inside"}, 503, "Failed to retrieve", "unknown", "Failed to retrieve"},
		{"plane away", fmt.Errorf("dial unix /secret/place"), 503, "Failed to retrieve", "unknown", "Failed to retrieve"},
		{"az.Error", az.Errorf(az.Invalid, "IdentityNotFound", "x"), 400, textNoIdentity, "invalid_request", "Identity not found"},
	} {
		t.Run(c.name, func(t *testing.T) {
			resp, body := ask(t, endpoint(t, AppService, fail(c.err), Limits{}), call1{path: "/msi/token" + q2019, header: h("X-IDENTITY-HEADER", "$S")})
			if resp.StatusCode != c.app || !strings.Contains(body, c.appText) || !strings.Contains(body, fmt.Sprintf(`"statusCode":%d`, c.app)) {
				t.Errorf("app service: %d %s", resp.StatusCode, body)
			}
			if c.app == 429 && resp.Header.Get("Retry-After") != "7" || c.app == 503 && resp.Header.Get("Retry-After") == "" {
				t.Errorf("Retry-After is %q", resp.Header.Get("Retry-After"))
			}
			resp, body = ask(t, endpoint(t, IMDS, fail(c.err), Limits{}), call1{path: imdsTokenPath + "?api-version=2018-02-01&resource=x", header: h("Metadata", "true")})
			if resp.StatusCode != c.app || !strings.Contains(body, `"error":"`+c.imdsCode+`"`) || !strings.Contains(body, c.imdsText) {
				t.Errorf("imds: %d %s", resp.StatusCode, body)
			}
			if strings.Contains(body, "secret/place") || strings.Contains(body, "inside") || strings.Contains(body, "unreachable") {
				t.Errorf("the body says too much: %s", body)
			}
		})
	}
}

func TestArcChallenge(t *testing.T) {
	id := endpoint(t, Arc, tokenFor, Limits{})
	path := imdsTokenPath + "?api-version=2020-06-01&resource=x&mi_res_id=/Sub/ID"
	resp, body := ask(t, id, call1{path: path, header: h("Metadata", "true")})
	file, ok := strings.CutPrefix(resp.Header.Get("WWW-Authenticate"), "Basic realm=")
	if resp.StatusCode != 401 || !ok || filepath.Dir(file) != id.arc.path || filepath.Ext(file) != ".key" {
		t.Fatalf("%d %q %s", resp.StatusCode, resp.Header.Get("WWW-Authenticate"), body)
	}
	fi, err := os.Stat(file)
	if err != nil || fi.Mode().Perm()&0o007 != 0 || fi.Size() > 4096 {
		t.Fatal(fi, err)
	}
	key, _ := os.ReadFile(file)
	if resp, body := ask(t, id, call1{path: path, header: h("Metadata", "true", "Authorization", "Basic wrong")}); resp.StatusCode != 403 {
		t.Errorf("a wrong key: %d %s", resp.StatusCode, body)
	}
	resp, body = ask(t, id, call1{path: path, header: h("Metadata", "true", "Authorization", "Basic "+string(key))})
	if resp.StatusCode != 200 || !strings.Contains(body, `"mi_res_id":"/Sub/ID"`) || !strings.Contains(body, `"expires_in":"86400"`) {
		t.Fatalf("%d %s", resp.StatusCode, body)
	}
	if _, err := os.Stat(file); !os.IsNotExist(err) {
		t.Error("the key file is still there")
	}
	if resp, _ := ask(t, id, call1{path: path, header: h("Metadata", "true", "Authorization", "Basic "+string(key))}); resp.StatusCode != 403 {
		t.Errorf("a key used twice: %d", resp.StatusCode)
	}
	ask(t, id, call1{path: path, header: h("Metadata", "true")})
	_ = id.Close()
	if left, _ := os.ReadDir(id.arc.path); len(left) != 0 {
		t.Errorf("%d key files stay after the end", len(left))
	}
}

// TestArcEchoesTheClientID: MSAL fails unless its own spelling comes back.
func TestArcEchoesTheClientID(t *testing.T) {
	id := endpoint(t, Arc, tokenFor, Limits{})
	path := imdsTokenPath + "?api-version=2020-06-01&resource=x&client_id=5E29463D-0000-4000-8000-00000000000A"
	resp, _ := ask(t, id, call1{path: path, header: h("Metadata", "true")})
	key, err := os.ReadFile(strings.TrimPrefix(resp.Header.Get("WWW-Authenticate"), "Basic realm="))
	if err != nil {
		t.Fatal(err)
	}
	_, body := ask(t, id, call1{path: path, header: h("Metadata", "true", "Authorization", "Basic "+string(key))})
	if !strings.Contains(body, `"client_id":"5E29463D-0000-4000-8000-00000000000A"`) {
		t.Fatal(body)
	}
}

func TestRateLimits(t *testing.T) {
	id := endpoint(t, AppService, tokenFor, Limits{Misses: 5, Hits: 20})
	get := func(resource string) *http.Response {
		resp, _ := ask(t, id, call1{path: "/msi/token?api-version=2019-08-01&resource=" + resource, header: h("X-IDENTITY-HEADER", "$S")})
		return resp
	}
	for i := range 5 {
		if r := get(fmt.Sprint("r", i)); r.StatusCode != 200 {
			t.Fatalf("resource %d: %d", i, r.StatusCode)
		}
	}
	if r := get("one-more"); r.StatusCode != 429 || r.Header.Get("Retry-After") != "1" {
		t.Errorf("a sixth resource in one second: %d, Retry-After %q", r.StatusCode, r.Header.Get("Retry-After"))
	}
	for i := range 20 { // what is cached still comes
		if r := get("r0"); r.StatusCode != 200 {
			t.Fatalf("hit %d: %d", i, r.StatusCode)
		}
	}
	if r := get("r0"); r.StatusCode != 429 {
		t.Errorf("hit 21 in one second: %d", r.StatusCode)
	}
}

func TestWrongSecretsAreThrottled(t *testing.T) {
	id := endpoint(t, AppService, tokenFor, Limits{Misses: 3})
	var last int
	for range 4 {
		resp, _ := ask(t, id, call1{path: "/msi/token" + q2019, header: h("X-IDENTITY-HEADER", "guess")})
		last = resp.StatusCode
	}
	if last != 429 {
		t.Errorf("the fourth guess in one second got %d, want 429", last)
	}
}

func TestIMDSHandlerForThePlane(t *testing.T) {
	var got client.TokenRequest
	hd := IMDSHandler(func(ctx context.Context, r client.TokenRequest) (client.Token, error) {
		got = r
		return tokenFor(ctx, r)
	}, IMDSOptions{Clock: func() time.Time { return testNow }})
	req, _ := http.NewRequest(http.MethodGet, "http://169.254.169.254"+imdsTokenPath+"?api-version=2018-02-01&resource=r&object_id=o", nil)
	req.Header.Set("Metadata", "true")
	rec := newRecorder()
	hd.ServeHTTP(rec, req)
	if rec.status != 200 || !strings.Contains(rec.body.String(), `"access_token":"jwt"`) {
		t.Fatalf("%d %s", rec.status, rec.body.String())
	}
	if d := cmp.Diff(client.TokenRequest{Resource: "r", ObjectID: "o"}, got); d != "" {
		t.Error(d)
	}
}

type recorder struct {
	header http.Header
	status int
	body   strings.Builder
}

func newRecorder() *recorder                        { return &recorder{header: http.Header{}, status: 200} }
func (r *recorder) Header() http.Header             { return r.header }
func (r *recorder) WriteHeader(s int)               { r.status = s }
func (r *recorder) Write(b []byte) (n int, e error) { return r.body.Write(b) }

func FuzzTokenRequest(f *testing.F) {
	for _, s := range []string{q2019[1:], "resource=a+b&clientid=", "resource=%zz", "a=b;c=d&&=", "resource=x&client_id=1&mi_res_id=2", "api-version=2018-02-01&resource=\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var r request
		if r.parse(s) != nil {
			return
		}
		if hasControl(r.resource) || hasControl(r.id) || len(r.resource) > maxResource || len(r.id) > maxResource {
			t.Errorf("took %q", s)
		}
		if (r.kind == bySystem) != (r.id == "") {
			t.Errorf("%q: kind %v with id %q", s, r.kind, r.id)
		}
		if !json.Valid([]byte(quote(r.resource))) {
			t.Errorf("%q cannot be echoed", r.resource)
		}
	})
}

func FuzzIdentityEndpoint(f *testing.F) {
	f.Add("GET", "/msi/token", q2019[1:], "X-Identity-Header", "guess", "127.0.0.1:1")
	f.Add("POST", "//msi/token/", "resource=x", "Secret", "", "localhost:1")
	id := &identity{dialect: AppService, header: newSecret(), tree: &tree{anyone: true}, log: slog.New(slog.DiscardHandler), failing: newLimiter(1 << 30)}
	id.cache = newCache(context.Background(), time.Now, Limits{}, tokenFor, id.log)
	id.imds = &imds{get: id.cache.get, clock: time.Now, hosts: []string{"127.0.0.1:1", "localhost:1"}, log: id.log}
	f.Fuzz(func(t *testing.T, method, path, query, name, value, host string) {
		if len(path) == 0 || path[0] != '/' {
			path = "/" + path
		}
		req := (&http.Request{Method: method, Host: host, Header: http.Header{http.CanonicalHeaderKey(name): {value}},
			Body: io.NopCloser(strings.NewReader(query))}).WithContext(context.WithValue(context.Background(), peerKey{}, &peer{}))
		req.URL = mustURL(path, query)
		rec := newRecorder()
		id.ServeHTTP(rec, req)
		if rec.status == 200 || !json.Valid([]byte(rec.body.String())) {
			t.Errorf("%d %s", rec.status, rec.body.String())
		}
	})
}

func mustURL(path, query string) *url.URL { return &url.URL{Path: path, RawQuery: query} }
