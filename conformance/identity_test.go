package conformance

import (
	"fmt"
	"strings"
	"testing"
)

// TestManagedIdentity: a token for each identity an app has, named in every
// way that the libraries offer, and none for one it does not have.
func TestManagedIdentity(t *testing.T) {
	w := newWorld(t)
	shared := w.make("identity", "shared")
	w.cli("identity", "assign", "web", "shared")
	for _, e := range ecosystems {
		t.Run(e.name, func(t *testing.T) {
			w.as(t)
			r := w.run("web", nil, e.program("identity", shared.Properties.ClientID, shared.Properties.PrincipalID, shared.ID)...)
			got := r.facts(t)
			for _, library := range []string{"sdk", "msal"} {
				if e.name == "python" && library == "msal" && got["msal-system"] == "" {
					continue // Debian's MSAL is older than its managed identity; the program says so
				}
				for _, kind := range kinds {
					want := shared.Properties.PrincipalID + " " + vaultScope
					switch kind {
					case "system":
						want = w.web.Identity.PrincipalID + " " + vaultScope
					case "unknown":
						want = "refused"
					}
					if got[library+"-"+kind] != want {
						t.Errorf("%s with %s: got %q, want %q\n%s", library, kind, got[library+"-"+kind], want, r.stderr)
					}
				}
			}
		})
	}
	t.Run("an identity of another app is refused", func(t *testing.T) {
		w.as(t)
		r := w.run("other", nil, ecosystems[0].program("identity", shared.Properties.ClientID, shared.Properties.PrincipalID, shared.ID)...)
		for _, kind := range kinds[1:] {
			if got := r.facts(t)["sdk-"+kind]; got != "refused" {
				t.Errorf("%s: got %q", kind, got)
			}
		}
	})
}

// curl runs curl under `hawser run` and returns status and body.
func (w *world) curl(t *testing.T, flags []string, args string) (status, body string) {
	t.Helper()
	r := w.run("web", flags, "sh", "-c", `curl -sS -w '\n%{http_code}' `+args)
	if r.code != 0 {
		t.Fatalf("curl %s: %s", args, r.stderr)
	}
	i := strings.LastIndexByte(r.stdout, '\n')
	return r.stdout[i+1:], r.stdout[:i]
}

// TestIdentityEndpoint: what a raw client meets at the endpoint.
func TestIdentityEndpoint(t *testing.T) {
	w := newWorld(t)
	url := `"$IDENTITY_ENDPOINT?resource=https%3A%2F%2Fvault.azure.net&api-version=2019-08-01"`
	header := ` -H "X-IDENTITY-HEADER: $IDENTITY_HEADER"`
	for _, c := range []struct{ name, args, status string }{
		{"with the header", url + header, "200"},
		{"without the header", url, "401"},
		{"with another header", url + ` -H "X-IDENTITY-HEADER: 00000000-0000-0000-0000-000000000000"`, "401"},
		{"forwarded by a proxy", url + header + ` -H "X-Forwarded-For: 10.0.0.1"`, "4"},
		{"under another host name", url + header + ` -H "Host: evil.example"`, "4"},
		{"without an api-version", `"$IDENTITY_ENDPOINT?resource=https%3A%2F%2Fvault.azure.net"` + header, "400"},
		{"without a resource", `"$IDENTITY_ENDPOINT?api-version=2019-08-01"` + header, "400"},
		{"2017-09-01", `"$MSI_ENDPOINT?resource=https://vault.azure.net&api-version=2017-09-01" -H "secret: $MSI_SECRET"`, "200"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w.as(t)
			status, body := w.curl(t, nil, c.args)
			if !strings.HasPrefix(status, c.status) {
				t.Errorf("status %s, want %s…: %s", status, c.status, body)
			}
			if status == "200" && !strings.Contains(body, `"expires_on":"`) {
				t.Errorf("no expires_on as a string in %s", body)
			}
			if status != "200" && strings.Contains(body, "eyJ") {
				t.Errorf("a refusal holds a token: %s", body)
			}
		})
	}
	t.Run("sovereign clouds' resources get tokens too", func(t *testing.T) {
		w.as(t)
		for _, resource := range []string{"https://vault.azure.cn", "https://vault.usgovcloudapi.net"} {
			status, body := w.curl(t, nil, fmt.Sprintf(`"$IDENTITY_ENDPOINT?resource=%s&api-version=2019-08-01"`, resource)+header)
			if status != "200" || !strings.Contains(body, `"resource":"`+resource+`"`) {
				t.Errorf("%s: %s %s", resource, status, body)
			}
		}
	})
}
