//go:build unix

package run

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/hawser/hawser/client"
)

func TestExitStatus(t *testing.T) {
	p := newPlane(t)
	plain := p.dir + "/plain"
	p.write(plain, []byte("no program"))
	for _, c := range []struct {
		name string
		args []string
		argv []string
		want int
		fail bool
	}{
		{"success", []string{"exit", "0"}, nil, 0, false},
		{"failure", []string{"exit", "42"}, nil, 42, false},
		{"signal", []string{"kill"}, nil, 137, false},
		{"not found", nil, []string{"no-such-program-anywhere"}, 127, true},
		{"no such path", nil, []string{"/no/such/program"}, 127, true},
		{"not executable", nil, []string{plain}, 126, true},
		{"a directory", nil, []string{p.dir}, 126, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := start(t, p, Config{Argv: c.argv}, c.args...)
			code, _ := r.wait()
			if code != c.want || (r.err != nil) != c.fail {
				t.Fatalf("status %d, error %v; want %d, error %v", code, r.err, c.want, c.fail)
			}
		})
	}
}

func TestEnvironmentOfTheApp(t *testing.T) {
	p := newPlane(t, client.Variable{Name: "A", Value: "one"}, client.Variable{Name: "APPSETTING_A", Value: "one"},
		client.Variable{Name: "HAWSER_X", Value: "no"}, client.Variable{Name: "IDENTITY_ENDPOINT", Value: "http://evil"})
	r := start(t, p, Config{Environ: []string{"PATH=" + os.Getenv("PATH"), "KEEP=me", "HAWSER_CLIENT_SECRET=s", "AZURE_CLIENT_ID=p",
		"AZURE_CLIENT_SECRET=p", "IDENTITY_HEADER=p", "MSI_SECRET=p", "IMDS_ENDPOINT=p", "WEBSITE_SITE_NAME=p", "APPSETTING_P=p"}}, "env")
	code, lines := r.wait()
	if code != 0 || len(lines) != 1 {
		t.Fatalf("status %d, lines %q, error %v", code, lines, r.err)
	}
	var env []string
	if err := json.Unmarshal([]byte(lines[0]), &env); err != nil {
		t.Fatal(err)
	}
	get := func(n string) string { return lookup(env, n) }
	for name, want := range map[string]string{"A": "one", "APPSETTING_A": "one", "KEEP": "me", "WEBSITE_SITE_NAME": "app1",
		"AZURE_TENANT_ID": "adfs", "AZURE_AUTHORITY_HOST": "https://login." + testDomain + ":8443", "SSL_CERT_FILE": p.dir + "/ca.pem",
		"NODE_EXTRA_CA_CERTS": p.dir + "/ca.pem", "REQUESTS_CA_BUNDLE": p.dir + "/ca.pem", "CURL_CA_BUNDLE": p.dir + "/ca.pem"} {
		if got := get(name); got != want {
			t.Errorf("%s=%q, want %q", name, got, want)
		}
	}
	if get("IDENTITY_HEADER") == "p" || len(get("IDENTITY_HEADER")) < 32 || get("MSI_SECRET") != get("IDENTITY_HEADER") {
		t.Error("the identity header is not a random one in both variables")
	}
	if e := get("IDENTITY_ENDPOINT"); !strings.HasPrefix(e, "http://127.0.0.1:") || !strings.HasSuffix(e, "/msi/token") || get("MSI_ENDPOINT") != e {
		t.Errorf("IDENTITY_ENDPOINT=%q MSI_ENDPOINT=%q", e, get("MSI_ENDPOINT"))
	}
	for _, kv := range env {
		n, _, _ := strings.Cut(kv, "=")
		if strings.HasPrefix(n, "HAWSER_") || slices.Contains([]string{"AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET", "IMDS_ENDPOINT", "APPSETTING_P"}, n) {
			t.Errorf("%s reached the app", n)
		}
	}
}

func TestTokenForTheTree(t *testing.T) {
	p := newPlane(t)
	for _, verb := range []string{"token", "nested"} {
		r := start(t, p, Config{}, verb, "https://vault.azure.net")
		code, lines := r.wait()
		if code != 0 || len(lines) != 1 || !strings.HasPrefix(lines[0], `200 {"access_token":"jwt-`) {
			t.Fatalf("%s: status %d, lines %q, log %s", verb, code, lines, r.log)
		}
	}
}
