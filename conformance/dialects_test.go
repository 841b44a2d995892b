package conformance

import (
	"strings"
	"testing"
)

// TestDialects: the other forms in which Azure's machines hand out tokens.
func TestDialects(t *testing.T) {
	w := newWorld(t, "--imds", "auto")
	// Go's library knows no variable for the metadata address: it asks the real
	// one, where the plane itself answers.
	for _, dialect := range []string{"imds", "arc", "cloud-shell"} {
		for _, e := range ecosystems {
			t.Run(dialect+"/"+e.name, func(t *testing.T) {
				w.as(t)
				r := w.run("web", []string{"--identity", dialect}, e.program("read", "managed", w.vaultURL("kv1"), "plain")...)
				lines(t, r, "get "+plainValue)
			})
		}
	}
	t.Run("the metadata address", func(t *testing.T) {
		w.as(t)
		const url = "http://" + metadataAddress + "/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https://vault.azure.net"
		for _, c := range []struct{ name, args, status, body string }{
			{"an app", `-H Metadata:true "` + url + `"`, "200", `"expires_on":"`},
			{"without the header", `"` + url + `"`, "400", "Required metadata header not specified"},
			{"a probe", `"http://` + metadataAddress + `/metadata/identity/oauth2/token"`, "400", "Required metadata header not specified"},
			{"forwarded", `-H Metadata:true -H "X-Forwarded-For: 10.1.2.3" "` + url + `"`, "4", ""},
			{"under another name", `-H Metadata:true -H "Host: evil.example" "` + url + `"`, "4", ""},
			{"a resource that nobody has", `-H Metadata:true "http://` + metadataAddress + `/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https://no.such.example"`, "400", "invalid_resource"},
		} {
			t.Run(c.name, func(t *testing.T) {
				w.as(t)
				status, body := w.curl(t, []string{"--identity", "imds"}, c.args)
				if !strings.HasPrefix(status, c.status) || !strings.Contains(body, c.body) {
					t.Errorf("status %s, want %s with %q: %s", status, c.status, c.body, body)
				}
			})
		}
		t.Run("a process that is no app", func(t *testing.T) {
			r := execute(t, clean(t), "curl", "-sS", "-H", "Metadata:true", url)
			if strings.Contains(r.stdout, "access_token") {
				t.Errorf("got a token: %s", r.stdout)
			}
		})
	})
}
