package conformance

import (
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
)

// TestHostsFile: `hawser up --hosts auto` keeps the plane's names in the hosts
// file while it runs, so that clients need nothing but `hawser env`.
func TestHostsFile(t *testing.T) {
	w := newWorld(t, "--domain", "auto.localhost", "--hosts", "auto")
	for _, e := range ecosystems {
		t.Run(e.name, func(t *testing.T) {
			w.as(t)
			lines(t, w.with([]string{"--as", "admin"}, e.program("read", "default", w.vaultURL("kv1"), "plain")...), "get "+plainValue)
		})
	}
	w.stop()
	b, err := os.ReadFile("/etc/hosts")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(b), "auto.localhost") {
		t.Errorf("the names stayed in the hosts file:\n%s", b)
	}
	if !strings.Contains(string(b), hostLine()) {
		t.Errorf("other lines of the hosts file were lost:\n%s", b)
	}
}

// TestAzureNamesMachine: a whole machine whose code names Azure's own hosts,
// for clients that know no proxy. The tests' network has no way out, so what
// answers is the plane.
func TestAzureNamesMachine(t *testing.T) {
	w := newWorld(t, "--listen", "127.0.0.1:443", "--hosts", "auto", "--azure-names")
	for _, e := range ecosystems {
		for _, cred := range []string{"default", "secret"} {
			t.Run(e.name+"/"+cred, func(t *testing.T) {
				w.as(t)
				r := w.with([]string{"--as", "admin", "--azure-names"}, e.program("read", cred, "https://kv1.vault.azure.net", "plain")...)
				lines(t, r, "get "+plainValue)
			})
		}
	}
}

// TestLife: how a plane starts, says how it is, and ends.
func TestLife(t *testing.T) {
	p := start(t)
	c := p.caller(t)
	for path, want := range map[string]int{"/healthz": 200, "/readyz": 200} {
		resp, err := c.Get("https://127.0.0.1:" + p.port() + path)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s: status %d, want %d", path, resp.StatusCode, want)
		}
	}
	t.Run("the plane's metrics are not on its public listener", func(t *testing.T) {
		resp, err := c.Get("https://127.0.0.1:" + p.port() + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			t.Error("anybody can read the metrics")
		}
	})
	t.Run("plain HTTP and unknown hosts", func(t *testing.T) {
		if resp, err := http.Get("http://127.0.0.1:" + p.port() + "/healthz"); err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				t.Error("answered without TLS")
			}
		}
		if status, _ := p.get(t, "login.microsoftonline.com", "/common/discovery/instance", ""); status == "200" {
			t.Error("a plane without Azure's names has a certificate for them")
		}
	})
	before := p.env
	p.stop()
	p.boot()
	if p.env.TenantID != before.TenantID || p.env.SubscriptionID != before.SubscriptionID || p.env.Admin != before.Admin {
		t.Error("the second start did not find what the first had made")
	}
	t.Run("two planes in one directory", func(t *testing.T) {
		r := execute(t, clean(t), hawser, "up", "--data", p.dir, "--listen", "127.0.0.1:0", "--pg", "127.0.0.1:0", "--mysql", "off", "--tds", "off", "--redis", "off", "--hosts", "off", "--imds", "off")
		if r.code != 1 || r.stderr == "" {
			t.Errorf("exit status %d, %q", r.code, r.stderr)
		}
	})
	t.Run("a port that is taken", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = l.Close() }()
		r := execute(t, clean(t), hawser, "up", "--data", newDir(t), "--listen", l.Addr().String(), "--pg", "127.0.0.1:0", "--mysql", "off", "--tds", "off", "--redis", "off", "--hosts", "off", "--imds", "off")
		if r.code != 1 || !strings.Contains(r.stderr, l.Addr().String()) {
			t.Errorf("exit status %d, %q", r.code, r.stderr)
		}
	})
}
