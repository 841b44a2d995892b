package run

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hawser/hawser/client"
)

func TestProxyVariables(t *testing.T) {
	for _, c := range []struct {
		name             string
		parent, settings []string // NAME, VALUE, …
		x                extras
		https, no        string
	}{
		{"no proxy anywhere", nil, nil, extras{}, "", ""},
		{"inherited", []string{"HTTPS_PROXY", "http://corp", "NO_PROXY", ".corp, x"}, nil, extras{}, "http://corp", unproxied + ",.corp,x"},
		{"inherited, nothing proxied", []string{"HTTPS_PROXY", "http://corp", "NO_PROXY", "*"}, nil, extras{}, "http://corp", "*"},
		{"ours", []string{"NO_PROXY", "*"}, nil, extras{proxy: "p", domain: "d.test"}, "http://p", unproxied},
		{"ours, a domain below localhost", []string{"no_proxy", ".localhost,corp"}, nil, extras{proxy: "p", domain: "hawser.localhost"}, "http://p", "127.0.0.1,::1,169.254.169.254,corp"},
		{"an exception for the plane", []string{"NO_PROXY", "login.d.test,*.d.test,e.test"}, nil, extras{proxy: "p", domain: "d.test"}, "http://p", unproxied + ",e.test"},
		{"a setting wins", nil, []string{"HTTPS_PROXY", "http://mine"}, extras{proxy: "p", domain: "d.test"}, "http://mine", ""},
		{"but not with Azure's names", []string{"NO_PROXY", "azure.net"}, []string{"HTTPS_PROXY", "http://mine", "NO_PROXY", "azure.com"}, extras{proxy: "p", domain: "d.test", forced: true}, "http://p", unproxied},
	} {
		t.Run(c.name, func(t *testing.T) {
			var parent []string
			for i := 0; i < len(c.parent); i += 2 {
				parent = append(parent, c.parent[i]+"="+c.parent[i+1])
			}
			env := &client.Environment{}
			for i := 0; i < len(c.settings); i += 2 {
				env.Variables = append(env.Variables, client.Variable{Name: c.settings[i], Value: c.settings[i+1]})
			}
			got := environ(parent, env, c.x, AppService)
			if h, n := lookup(got, "HTTPS_PROXY"), lookup(got, "NO_PROXY"); h != c.https || n != c.no {
				t.Errorf("HTTPS_PROXY=%q NO_PROXY=%q, want %q %q", h, n, c.https, c.no)
			}
			if c.x.proxy != "" && c.settings == nil && lookup(got, "https_proxy") != c.https {
				t.Error("the small spelling says something else")
			}
		})
	}
}

func TestAuthorityVariables(t *testing.T) {
	env := &client.Environment{Authority: "https://login.d.test", Tenant: "adfs", TenantID: "guid"}
	for _, c := range []struct {
		x            extras
		setting      string
		host, tenant string
	}{
		{extras{}, "", "https://login.d.test", "adfs"},
		{extras{forced: true}, "", publicAuthority, "guid"},
		{extras{forced: true}, "https://mine", "https://mine", "guid"},
		{extras{}, "https://mine", "https://mine", "adfs"},
	} {
		env.Variables = nil
		if c.setting != "" {
			env.Variables = []client.Variable{{Name: "AZURE_AUTHORITY_HOST", Value: c.setting}}
		}
		got := environ(nil, env, c.x, AppService)
		if h, n := lookup(got, "AZURE_AUTHORITY_HOST"), lookup(got, "AZURE_TENANT_ID"); h != c.host || n != c.tenant {
			t.Errorf("%+v: %q %q", c, h, n)
		}
	}
}

func TestIdentityVariablesAreOursAlone(t *testing.T) {
	env := &client.Environment{Variables: []client.Variable{{Name: "IDENTITY_SERVER_THUMBPRINT", Value: "x"}, {Name: "MSI_SECRET", Value: "x"},
		{Name: "APPSETTING_WEBSITE_SITE_NAME", Value: "a"}, {Name: "BAD=NAME", Value: "x"}, {Name: "NUL", Value: "a\x00b"}}}
	got := environ([]string{"=C:=x", "novalue"}, env, extras{identity: map[string]string{"IMDS_ENDPOINT": "i"}}, Arc)
	if len(got) != 1 || got[0] != "IMDS_ENDPOINT=i" {
		t.Errorf("%q", got)
	}
}

func TestTrustFiles(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	ca, bundle, corp := write("ca", "PLANE"), write("bundle", "SYSTEM PLANE"), write("corp", "CORP")
	for _, c := range []struct {
		name      string
		plane     client.Plane
		parent    string
		proxyCA   []byte
		node, ssl string // contents; "-" means the plane's own file and none written
	}{
		{"the plane's files", client.Plane{CAFile: ca, CABundle: bundle}, "", nil, "-", "-"},
		{"the parent names the system's", client.Plane{CAFile: ca, CABundle: bundle}, systemRoots[0], nil, "-", "-"},
		{"the parent has its own", client.Plane{CAFile: ca, CABundle: bundle}, corp, nil, "PLANE", "CORP\nPLANE"},
		{"this run has a CA", client.Plane{CAFile: ca, CABundle: bundle}, "", []byte("RUN"), "PLANE\nRUN", "SYSTEM PLANE\nPLANE\nRUN"},
		{"a plane with a public certificate", client.Plane{}, "", nil, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &session{Config: Config{}, plane: c.plane}
			if c.parent != "" {
				s.Environ = []string{"SSL_CERT_FILE=" + c.parent}
			}
			if err := s.trust(c.proxyCA); err != nil {
				t.Fatal(err)
			}
			defer s.close()
			if c.node == "-" {
				if s.tempDir != "" || s.extra.trust["NODE_EXTRA_CA_CERTS"] != ca || s.extra.trust["SSL_CERT_FILE"] != bundle {
					t.Errorf("%v, files in %q", s.extra.trust, s.tempDir)
				}
				return
			}
			for name, want := range map[string]string{"NODE_EXTRA_CA_CERTS": c.node, "SSL_CERT_FILE": c.ssl, "REQUESTS_CA_BUNDLE": c.ssl} {
				b, _ := os.ReadFile(s.extra.trust[name])
				if got := strings.TrimSpace(string(b)); got != want {
					t.Errorf("%s holds %q, want %q", name, got, want)
				}
			}
		})
	}
}
