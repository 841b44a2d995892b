package conformance

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestRemote: a plane on another machine, found by its address, its CA and a
// sign-in; nothing of its data directory is at hand.
func TestRemote(t *testing.T) {
	w := newWorld(t)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	copyFile(t, w.env.CAFile, ca)
	remote := append(clean(t), "HAWSER_URL=https://127.0.0.1:"+w.port(), "HAWSER_CA="+ca,
		"HAWSER_CLIENT_ID="+w.env.Admin.ClientID, "HAWSER_CLIENT_SECRET="+w.env.Admin.ClientSecret)
	call := func(args ...string) result { return execute(t, remote, append([]string{hawser}, args...)...) }
	if r := call("app", "list", "--output", "tsv"); r.code != 0 || !strings.Contains(r.stdout, "web") {
		t.Errorf("app list: %+v", r)
	}
	if r := call("secret", "get", "kv1", "plain"); strings.TrimSpace(r.stdout) != plainValue {
		t.Errorf("secret get: %+v", r)
	}
	for _, e := range ecosystems {
		t.Run("hawser run, "+e.name, func(t *testing.T) {
			lines(t, call(append([]string{"run", "web", "--"}, e.program("read", "managed", w.vaultURL("kv1"), "plain")...)...), "get "+plainValue)
		})
	}
	t.Run("what only the owner of the data directory may", func(t *testing.T) {
		for _, args := range [][]string{{"env", "--json", "--as", "admin"}, {"token", vaultScope}} {
			if r := call(args...); r.code == 0 || strings.Contains(r.stdout, w.env.Admin.ClientSecret) {
				t.Errorf("hawser %v answered from afar: %+v", args, r)
			}
		}
	})
	t.Run("without the CA", func(t *testing.T) {
		env := append(clean(t), "HAWSER_URL=https://127.0.0.1:"+w.port(), "HAWSER_CLIENT_ID="+w.env.Admin.ClientID, "HAWSER_CLIENT_SECRET="+w.env.Admin.ClientSecret)
		if r := execute(t, env, hawser, "app", "list"); r.code != 1 || !strings.Contains(r.stderr, "certificate") {
			t.Errorf("%+v", r)
		}
	})
	t.Run("with another secret", func(t *testing.T) {
		if r := execute(t, append(remote, "HAWSER_CLIENT_SECRET=wrong"), hawser, "app", "list"); r.code != 1 || strings.Contains(r.stderr, w.env.Admin.ClientSecret) {
			t.Errorf("%+v", r)
		}
	})
}

// TestKEK: where the key-encryption key may come from, and that nothing opens
// without it.
func TestKEK(t *testing.T) {
	key := base64.StdEncoding.EncodeToString([]byte("0123456789abcdef0123456789abcdef"))
	credentials := t.TempDir()
	if err := os.WriteFile(filepath.Join(credentials, "hawser-kek"), []byte(key), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, env := range map[string]string{"environment": "HAWSER_KEK=" + key, "passphrase": "HAWSER_PASSPHRASE=correct horse battery staple",
		"systemd credential": "CREDENTIALS_DIRECTORY=" + credentials} {
		t.Run(name, func(t *testing.T) {
			p := &plane{t: t, dir: newDir(t), extraEnv: []string{env}}
			p.boot()
			t.Cleanup(func() {
				if p.cmd != nil {
					p.kill()
				}
			})
			p.make("vault", "kv1")
			p.cli("secret", "set", "kv1", "s", "sealed")
			if _, err := os.Stat(filepath.Join(p.dir, "kek")); err == nil {
				t.Error("a KEK lies in the data directory all the same")
			}
			p.kill()
			r := execute(t, clean(t), hawser, "up", "--data", p.dir, "--listen", "127.0.0.1:0", "--pg", "127.0.0.1:0", "--mysql", "off", "--tds", "off", "--redis", "off", "--hosts", "off", "--imds", "off")
			if r.code != 1 || strings.Contains(r.stdout, "ready") {
				t.Fatalf("a plane started without its KEK: %+v", r)
			}
			p.boot()
			if got := p.cli("secret", "get", "kv1", "s"); got != "sealed" {
				t.Errorf("got %q", got)
			}
		})
	}
	t.Run("rotation", func(t *testing.T) {
		p := start(t)
		p.make("vault", "kv1")
		p.cli("secret", "set", "kv1", "s", "sealed")
		old, err := os.ReadFile(filepath.Join(p.dir, "kek"))
		if err != nil {
			t.Fatal(err)
		}
		p.cli("seal", "rotate")
		p.cli("seal", "rotate", "--kek")
		if now, err := os.ReadFile(filepath.Join(p.dir, "kek")); err != nil || string(now) == string(old) {
			t.Errorf("the KEK is the same as before (%v)", err)
		}
		for range 2 {
			if got := p.cli("secret", "get", "kv1", "s"); got != "sealed" {
				t.Errorf("got %q", got)
			}
			p.kill()
			p.boot()
		}
	})
}

// TestNameIsNoIdentity: an app made again under an old name has none of the
// rights of the one before.
func TestNameIsNoIdentity(t *testing.T) {
	w := newWorld(t)
	read := func() result {
		return w.run("web", nil, ecosystems[0].program("read", "managed", w.vaultURL("kv1"), "plain")...)
	}
	lines(t, read(), "get "+plainValue)
	w.cli("app", "delete", "web")
	if again := w.make("app", "web"); again.Identity.PrincipalID == w.web.Identity.PrincipalID {
		t.Error("the new app has the old one's identity")
	}
	lines(t, read(), "get 403 Forbidden")
}
