package client

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func noEnv(string) string { return "" }

// request is what a plane saw.
type request struct{ method, host, uri, auth, body string }

// socketPlane is a plane on a unix socket that answers with f.
func socketPlane(t *testing.T, f http.HandlerFunc) (*Client, string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "plane") // short: a socket's path has 107 characters
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l, err := net.Listen("unix", filepath.Join(dir, "hawser.sock"))
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(f)
	s.Listener.Close()
	s.Listener = l
	s.Start()
	t.Cleanup(s.Close)
	writePlane(t, dir, Plane{Domain: "d.test", Listen: "127.0.0.1:8443", SubscriptionID: "sub", TenantID: "tid"})
	c, err := Open(Options{Data: dir, Getenv: noEnv})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c, dir
}

func writePlane(t *testing.T, dir string, p Plane) {
	t.Helper()
	b, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, PlaneFile), b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestDoOverTheSocket(t *testing.T) {
	var seen request
	c, _ := socketPlane(t, func(w http.ResponseWriter, r *http.Request) {
		seen = request{r.Method, r.Host, r.RequestURI, r.Header.Get("Authorization"), ""}
		fmt.Fprint(w, `{"name":"x"}`)
	})
	var out struct{ Name string }
	if err := c.Put(t.Context(), c.SiteID("app1"), map[string]int{"a": 1}, &out); err != nil || out.Name != "x" {
		t.Fatal(err, out)
	}
	want := request{"PUT", "management.d.test", "/subscriptions/sub/resourceGroups/hawser/providers/Microsoft.Web/sites/app1?api-version=" + APIVersion, "", ""}
	if seen != want {
		t.Errorf("got %+v\nwant %+v", seen, want)
	}
	if err := c.DoHost(t.Context(), "kv1.vault.d.test", "GET", "/secrets/a?api-version=7.4", nil, nil); err != nil {
		t.Fatal(err)
	}
	if seen.host != "kv1.vault.d.test" || seen.uri != "/secrets/a?api-version=7.4" {
		t.Errorf("got %+v", seen)
	}
	if c.Plane().Authority != "https://login.d.test:8443" || !c.Local() {
		t.Errorf("%+v", c.Plane())
	}
	if got := c.SiteID("/subscriptions/S/x/"); got != "/subscriptions/S/x" {
		t.Error(got)
	}
}

func TestHostsOutsideThePlaneAreRefused(t *testing.T) {
	c, _ := socketPlane(t, func(http.ResponseWriter, *http.Request) { t.Error("a request was sent") })
	for _, host := range []string{"example.com", "evild.test", "d.test", "x@evil/.d.test", "evil:1#.d.test"} {
		if err := c.DoHost(t.Context(), host, "GET", "/", nil, nil); err == nil {
			t.Errorf("%s was asked", host)
		}
	}
	if c.Do(t.Context(), "GET", "relative", nil, nil) == nil {
		t.Error("a path without a slash was taken")
	}
}

func TestErrors(t *testing.T) {
	for _, x := range []struct {
		body, code, message string
	}{
		{`{"error":{"code":"NotFound","message":"There is no app1."}}`, "NotFound", "There is no app1."},
		{`{"error":"invalid_client","error_description":"AADSTS7000215: no.\r\nTrace ID: x"}`, "invalid_client", "AADSTS7000215: no."},
		{`<html>`, "", ""}, {``, "", ""}, {`{"error":5}`, "", ""}, {`[]`, "", ""},
	} {
		c, _ := socketPlane(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "3")
			w.WriteHeader(429)
			fmt.Fprint(w, x.body)
		})
		var e *Error
		if err := c.Get(t.Context(), "/x", nil); !errors.As(err, &e) {
			t.Fatalf("%v is no *Error", err)
		}
		if e.Status != 429 || e.Code != x.code || e.Message != x.message || e.RetryAfter != 3*time.Second || e.Error() == "" || !IsStatus(e, 429) {
			t.Errorf("%s: %+v", x.body, e)
		}
	}
}

func TestList(t *testing.T) {
	c, _ := socketPlane(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Query().Get("page") {
		case "":
			fmt.Fprint(w, `{"value":[1,2],"nextLink":"https://management.d.test:8443/things?page=2"}`)
		case "2":
			fmt.Fprint(w, `{"value":[3]}`)
		case "evil":
			fmt.Fprint(w, `{"value":[],"nextLink":"https://evil.test/things"}`)
		}
	})
	got, err := List[int](t.Context(), c, "/things")
	if err != nil || fmt.Sprint(got) != "[1 2 3]" {
		t.Fatal(got, err)
	}
	if _, err := List[int](t.Context(), c, "/things?page=evil"); err == nil {
		t.Error("it followed a link to another host")
	}
}

func TestOpenSaysWhatToDo(t *testing.T) {
	for _, x := range []struct {
		o    Options
		want string
	}{
		{Options{Getenv: noEnv}, "pass --data DIR"},
		{Options{Data: t.TempDir(), Getenv: noEnv}, "hawser up"},
		{Options{URL: "http://plain", Getenv: noEnv}, "must be https"},
		{Options{URL: "https://user:pass@h", Getenv: noEnv}, "must be https"},
		{Options{URL: "https://management.d.test:1", CA: "/no/such", Getenv: noEnv}, "CA"},
	} {
		_, err := Open(x.o)
		if err == nil || !strings.Contains(err.Error(), x.want) || strings.Contains(err.Error(), "pass@") {
			t.Errorf("%+v: %v, want %q", x.o, err, x.want)
		}
	}
}

// httpsPlane is a plane behind TLS with a token endpoint.
type httpsPlane struct {
	*httptest.Server
	mu     sync.Mutex
	seen   []request
	tokens int
	revoke bool // the next request with a token gets 401
}

func newHTTPS(t *testing.T) (*httpsPlane, string) {
	p := &httpsPlane{}
	p.Server = httptest.NewTLSServer(http.HandlerFunc(p.serve))
	t.Cleanup(p.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return p, ca
}

// The certificate of httptest is for example.com and *.example.com.
const remote = "example.com"

func (p *httpsPlane) serve(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = r.ParseForm()
	p.seen = append(p.seen, request{r.Method, r.Host, r.RequestURI, r.Header.Get("Authorization"), r.PostForm.Encode()})
	switch {
	case r.URL.Path == "/metadata/endpoints":
		fmt.Fprintf(w, `{"resourceManager":"https://management.%s:1/","authentication":{"loginEndpoint":"https://login.%s:1/"}}`, remote, remote)
	case strings.HasSuffix(r.URL.Path, "/token"):
		p.tokens++
		fmt.Fprintf(w, `{"access_token":"t%d","expires_in":3600}`, p.tokens)
	case p.revoke:
		p.revoke = false
		w.WriteHeader(401)
	case r.URL.Path == "/subscriptions":
		fmt.Fprint(w, `{"value":[{"subscriptionId":"sub","tenantId":"tid"}]}`)
	default:
		fmt.Fprint(w, `{}`)
	}
}

func TestSignInOverHTTPS(t *testing.T) {
	p, ca := newHTTPS(t)
	env := map[string]string{"HAWSER_URL": p.URL, "HAWSER_CA": ca, "HAWSER_CLIENT_ID": "id", "HAWSER_CLIENT_SECRET": "s&cret",
		"HAWSER_TENANT_ID": "tid", "HAWSER_DOMAIN": remote}
	c, err := Open(Options{Getenv: func(n string) string { return env[n] }})
	if err != nil {
		t.Fatal(err)
	}
	if c.Plane().SubscriptionID != "sub" || c.Local() {
		t.Errorf("%+v", c.Plane())
	}
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if err := c.DoHost(context.Background(), "kv1."+remote, "GET", "/a", nil, nil); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if p.tokens != 1 {
		t.Errorf("%d sign-ins", p.tokens)
	}
	first := p.seen[0]
	if first.uri != "/tid/oauth2/v2.0/token" || !strings.HasPrefix(first.host, "login."+remote) || first.auth != "" ||
		first.body != "client_id=id&client_secret=s%26cret&grant_type=client_credentials&scope=https%3A%2F%2Fmanagement.azure.com%2F.default" {
		t.Errorf("sign-in was %+v", first)
	}
	if last := p.seen[len(p.seen)-1]; last.auth != "Bearer t1" {
		t.Errorf("request was %+v", last)
	}
	p.revoke = true
	if err := c.Get(t.Context(), "/a", nil); !IsStatus(err, 401) {
		t.Errorf("%v", err)
	}
	if err := c.Get(t.Context(), "/a", nil); err != nil || p.tokens != 2 {
		t.Errorf("after a refusal: %v, %d sign-ins", err, p.tokens)
	}
}

func TestNamesAreLearntFromAnAddress(t *testing.T) {
	p, ca := newHTTPS(t)
	c, err := Open(Options{URL: p.URL, CA: ca, ClientID: "id", ClientSecret: "s", Getenv: noEnv})
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Plane(); got.Domain != remote || got.TenantID != "tid" || got.SubscriptionID != "sub" {
		t.Errorf("%+v", got)
	}
}

func TestACertificateOfAnotherCAIsRefused(t *testing.T) {
	p, _ := newHTTPS(t)
	if _, err := Open(Options{URL: p.URL, Domain: remote, ClientID: "id", ClientSecret: "s", Getenv: noEnv}); err == nil {
		t.Fatal("an unknown certificate was believed")
	}
	if p.tokens != 0 {
		t.Error("the secret was sent")
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	n := 0
	c, _ := socketPlane(t, func(w http.ResponseWriter, r *http.Request) {
		n++
		http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
	})
	if err := c.Get(t.Context(), "/x", nil); !IsStatus(err, 307) || n != 1 {
		t.Errorf("%v after %d requests", err, n)
	}
}

func TestValuesDoNotPrint(t *testing.T) {
	env := Environment{Variables: []Variable{{"A", "hush"}}}
	tok := Token{AccessToken: "hush", Resource: "r"}
	for _, s := range []string{fmt.Sprintf("%v %+v %#v %s", env, env, env, env.Variables), fmt.Sprintf("%v %+v %#v %s", tok, tok, tok, tok), tok.LogValue().String(), env.Variables[0].LogValue().String()} {
		if strings.Contains(s, "hush") {
			t.Error(s)
		}
	}
}

func TestRuntime(t *testing.T) {
	var body string
	c, _ := socketPlane(t, func(w http.ResponseWriter, r *http.Request) {
		b := make([]byte, 1000)
		n, _ := r.Body.Read(b)
		body = r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:] + " " + string(b[:n])
		fmt.Fprint(w, `{"etag":"e1","environment":[{"name":"A","value":"1"}],"identities":{"system":{"clientId":"c"},"user":[]},"accessToken":"t","expiresOn":5}`)
	})
	env, err := c.RuntimeEnvironment(t.Context(), c.SiteID("a"), "e0", 99)
	if err != nil || env.ETag != "e1" || env.Variables[0].Value != "1" || env.Identities.System.ClientID != "c" {
		t.Fatal(err, env)
	}
	if body != `runtimeEnvironment {"etag":"e0","waitSeconds":30}` {
		t.Error(body)
	}
	tok, err := c.RuntimeToken(t.Context(), c.SiteID("a"), TokenRequest{Resource: "r", ClientID: "c"})
	if err != nil || tok.AccessToken != "t" || tok.ExpiresOn != 5 {
		t.Fatal(err)
	}
	if body != `runtimeToken {"resource":"r","clientId":"c","refresh":false}` {
		t.Error(body)
	}
}
