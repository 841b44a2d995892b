package conformance

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// changeLimit is the promise: a new secret reaches a running app within two
// seconds.
const changeLimit = 2 * time.Second

// TestRun: what a program under `hawser run` gets, and does not get.
func TestRun(t *testing.T) {
	w := newWorld(t)
	w.cli("app", "set", "web", "COLOR=blue", "REF=@Microsoft.KeyVault(VaultName=kv1;SecretName=plain)",
		"URI=@Microsoft.KeyVault(SecretUri="+w.vaultURL("kv1")+"/secrets/plain)", "LOST=@Microsoft.KeyVault(VaultName=kv1;SecretName=none)")

	t.Run("the environment", func(t *testing.T) {
		w.as(t)
		r := execute(t, append(clean(t), "HAWSER_DATA="+w.dir, "HAWSER_CLIENT_SECRET=leak", "AZURE_CLIENT_SECRET=leak", "IDENTITY_HEADER=leak", "KEPT=kept"),
			hawser, "run", "web", "--", "env")
		if r.code != 0 {
			t.Fatal(r.stderr)
		}
		got := map[string]string{}
		for line := range strings.Lines(r.stdout) {
			k, v, _ := strings.Cut(strings.TrimRight(line, "\n"), "=")
			got[k] = v
		}
		for k, v := range map[string]string{"COLOR": "blue", "APPSETTING_COLOR": "blue", "REF": plainValue, "URI": plainValue, "KEPT": "kept",
			"LOST": "@Microsoft.KeyVault(VaultName=kv1;SecretName=none)", "WEBSITE_SITE_NAME": "web", "AZURE_TENANT_ID": "adfs"} {
			if got[k] != v {
				t.Errorf("%s is %q, want %q", k, got[k], v)
			}
		}
		for _, k := range []string{"IDENTITY_ENDPOINT", "IDENTITY_HEADER", "MSI_ENDPOINT", "MSI_SECRET", "AZURE_AUTHORITY_HOST",
			"SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"} {
			if got[k] == "" {
				t.Errorf("%s is not set", k)
			}
		}
		for k, v := range got {
			if strings.HasPrefix(k, "HAWSER_") || v == "leak" || v == w.env.Admin.ClientSecret {
				t.Errorf("%s=%s leaked into the app", k, v)
			}
		}
		if !strings.Contains(r.stderr, "LOST") {
			t.Errorf("nobody was warned of the reference that did not resolve: %s", r.stderr)
		}
		refs := w.cli("app", "references", "web")
		if !strings.Contains(refs, "SecretNotFound") || !strings.Contains(refs, "Resolved") {
			t.Errorf("references:\n%s", refs)
		}
	})
	t.Run("exit status", func(t *testing.T) {
		w.as(t)
		for want, argv := range map[int][]string{0: {"true"}, 7: {"sh", "-c", "exit 7"}, 127: {"/no/such/program"}, 126: {"/etc/hosts"}, 128 + 9: {"sh", "-c", "kill -9 $$"}} {
			if r := w.run("web", nil, argv...); r.code != want {
				t.Errorf("%v: exit status %d, want %d\n%s", argv, r.code, want, r.stderr)
			}
		}
		if r := w.try("run", "nobody-made-this-app", "--", "true"); r.code != 1 {
			t.Errorf("an unknown app: exit status %d, want 1", r.code)
		}
		if r := w.try("run"); r.code != 2 {
			t.Errorf("no app: exit status %d, want 2", r.code)
		}
	})
	t.Run("a signal before the program is there", func(t *testing.T) {
		for wait := time.Duration(0); wait < 60*time.Millisecond; wait += 4 * time.Millisecond {
			cmd := exec.Command(hawser, "run", "web", "--data", w.dir, "--", "sleep", "600")
			cmd.Env = clean(t)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(wait)
			_ = cmd.Process.Signal(syscall.SIGTERM)
			ended := make(chan error, 1)
			go func() { ended <- cmd.Wait() }()
			select {
			case <-ended:
			case <-time.After(startLimit):
				_ = cmd.Process.Kill()
				t.Fatalf("SIGTERM after %s was lost", wait)
			}
		}
	})
	t.Run("signals", func(t *testing.T) {
		w.as(t)
		a := w.start("web", nil, "sh", "-c", `trap 'echo got USR1' USR1; trap 'echo got TERM; exit 9' TERM; echo up; while :; do sleep 0.05; done`)
		a.wait(t, "up")
		_ = a.cmd.Process.Signal(syscall.SIGUSR1)
		a.wait(t, "got USR1")
		_ = a.cmd.Process.Signal(syscall.SIGTERM)
		if s := a.status(t); s != 9 || a.wait(t, "got TERM") == "" {
			t.Errorf("exit status %d, want the program's own 9", s)
		}
	})
	t.Run("a stranger with a stolen header gets no token", func(t *testing.T) {
		w.as(t)
		a := w.start("web", nil, "sh", "-c", `echo "endpoint $IDENTITY_ENDPOINT $IDENTITY_HEADER"; sleep 30`)
		f := strings.Fields(a.wait(t, "endpoint"))
		req, err := http.NewRequest(http.MethodGet, f[1]+"?resource=https%3A%2F%2Fvault.azure.net&api-version=2019-08-01", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-IDENTITY-HEADER", f[2])
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode < 400 {
				t.Errorf("a process outside the app's tree got status %d", resp.StatusCode)
			}
		}
	})
}

// TestChange: a new version of a secret reaches the app, whole, in time.
func TestChange(t *testing.T) {
	w := newWorld(t)
	w.cli("secret", "set", "kv1", "color", "red")
	w.cli("app", "set", "web", "REF=@Microsoft.KeyVault(VaultName=kv1;SecretName=color)")
	const program = `echo "color $REF"; trap 'echo "hup $REF"' HUP; while :; do sleep 0.05; done`
	for _, c := range []struct{ mode, value, want string }{
		{"restart", "green", "color green"},
		{"signal", "yellow", "hup"},
	} {
		t.Run(c.mode, func(t *testing.T) {
			w.as(t)
			a := w.start("web", []string{"--on-change", c.mode, "--grace", "1s"}, "sh", "-c", program)
			a.wait(t, "color ")
			w.cli("secret", "set", "kv1", "color", c.value)
			set := time.Now()
			a.wait(t, c.want)
			if d := time.Since(set); d > changeLimit {
				t.Errorf("the app was told after %s", d)
			}
		})
	}
	t.Run("none", func(t *testing.T) {
		w.as(t)
		a := w.start("web", []string{"--on-change", "none"}, "sh", "-c", program)
		a.wait(t, "color ")
		w.cli("secret", "set", "kv1", "color", "violet")
		w.run("web", nil, "true") // by now the news is everywhere
		time.Sleep(changeLimit / 2)
		if got := a.lines(); len(got) != 1 {
			t.Errorf("an app that asked for no change was changed: %v", got)
		}
	})
}

// TestPlaneRestart: an app goes on while its plane is restarted, and gets
// tokens again after it.
func TestPlaneRestart(t *testing.T) {
	w := newWorld(t)
	file := filepath.Join(t.TempDir(), "now")
	ask := `curl -s -o /dev/null -w '%{http_code}' -H "X-IDENTITY-HEADER: $IDENTITY_HEADER" "$IDENTITY_ENDPOINT?api-version=2019-08-01&resource=`
	script := fmt.Sprintf(`echo "first $(%[1]shttps://vault.azure.net")"; while [ ! -e %[2]s ]; do sleep 0.05; done
echo "cached $(%[1]shttps://vault.azure.net")"; while [ -e %[2]s ]; do sleep 0.05; done
echo "new $(%[1]shttps://management.azure.com/")"`, ask, file)
	a := w.start("web", nil, "sh", "-c", script)
	if l := a.wait(t, "first"); l != "first 200" {
		t.Fatal(l)
	}
	w.kill()
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if l := a.wait(t, "cached"); l != "cached 200" {
		t.Errorf("while the plane was down: %s", l)
	}
	w.boot()
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if l := a.wait(t, "new"); l != "new 200" {
		t.Errorf("after the plane came back: %s", l)
	}
	if s := a.status(t); s != 0 {
		t.Errorf("exit status %d\n%s", s, a.errs)
	}
}
