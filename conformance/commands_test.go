package conformance

import (
	"encoding/json"
	"strings"
	"testing"
)

// TestCommands: exit statuses, forms of output, and sentences that say what to
// do next.
func TestCommands(t *testing.T) {
	w := newWorld(t)
	db := w.attach("pg1")
	w.cli("connect", "web", "pg1", "--database", db.name, "--client", "python", "--access", "read", "--name", db.connection())
	t.Run("output", func(t *testing.T) {
		w.as(t)
		for _, c := range []string{"app list", "app show web", "app settings web", "app references web", "identity list", "vault list", "secret list kv1",
			"role list", "role list --scope kv1", "connection list web", "connection validate web " + db.connection(), "audit --last 3", "status",
			"why web Microsoft.KeyVault/vaults/secrets/getSecret/action kv1", "token https://vault.azure.net --app web"} {
			args := strings.Fields(c)
			if out := w.cli(append(args, "--output", "json")...); !json.Valid([]byte(out)) {
				t.Errorf("%s --output json: %s", c, out)
			}
			if out := w.cli(append(args, "--output", "tsv")...); strings.Contains(out, "  ") {
				t.Errorf("%s --output tsv has columns of spaces:\n%s", c, out)
			}
			w.cli(append(args, "--output", "table")...)
		}
	})
	t.Run("exit status", func(t *testing.T) {
		w.as(t)
		for _, c := range []struct {
			args string
			code int
		}{
			{"app", 0}, {"--help", 0}, {"run --help", 0}, {"no-such-command", 2}, {"app create", 2}, {"app list --no-such-flag", 2}, {"app list --output xml", 2},
			{"app show nobody", 1}, {"secret get kv1 nothing", 1}, {"secret get nowhere x", 1}, {"role assign NoSuchRole --to web --scope kv1", 1},
			{"role assign Reader --to nobody-at-all --scope kv1", 1}, {"role assign Reader --to web --scope nowhere", 1},
			{"attach x mysql://a@b/c", 1}, {"app create web", 1},
		} {
			r := w.try(strings.Fields(c.args)...)
			if r.code != c.code {
				t.Errorf("%s: exit status %d, want %d\n%s", c.args, r.code, c.code, r.stderr)
			}
			if c.code == 1 && (strings.Count(strings.TrimSpace(r.stderr), "\n") > 0 || len(r.stderr) < 20) {
				t.Errorf("%s: not one sentence: %q", c.args, r.stderr)
			}
		}
		r := execute(t, clean(t), hawser, "app", "list", "--data", "/no/such/directory")
		if r.code != 1 || !strings.Contains(r.stderr, "hawser up") {
			t.Errorf("no plane: exit status %d, %q", r.code, r.stderr)
		}
	})
	t.Run("why", func(t *testing.T) {
		w.as(t)
		const get = "Microsoft.KeyVault/vaults/secrets/getSecret/action"
		if out := w.cli("why", "web", get, "kv1"); !strings.Contains(out, "allowed") || !strings.Contains(out, secretsOfficer) {
			t.Errorf("why an app may:\n%s", out)
		}
		out := w.cli("why", "other", get, "kv1")
		if !strings.Contains(out, "denied") || !strings.Contains(out, secretsUser) {
			t.Errorf("why an app may not, and what it would need:\n%s", out)
		}
		status, body := w.get(t, "kv1.vault."+domain, "/secrets/plain?api-version=7.4", w.token(vaultScope, "other"))
		if status != "403" || !strings.Contains(body, "ForbiddenByRbac") || !strings.Contains(body, get) || !strings.Contains(body, w.other.Identity.PrincipalID) {
			t.Errorf("status %s %s", status, body)
		}
	})
	t.Run("nothing secret on the screen", func(t *testing.T) {
		w.as(t)
		w.cli("app", "set", "web", "PASSWORD=hunter2hunter2")
		for _, c := range [][]string{{"app", "settings", "web"}, {"app", "show", "web"}, {"audit"}, {"status"}, {"connection", "list", "web"}, {"vault", "list"}} {
			for _, form := range []string{"table", "json", "tsv"} {
				out := w.cli(append(c, "--output", form)...)
				if strings.Contains(out, "hunter2") || strings.Contains(out, plainValue) || strings.Contains(out, "it is only a test") {
					t.Errorf("%v --output %s shows a secret", c, form)
				}
			}
		}
	})
}

// TestAuditEdit: any edit of the log is found.
func TestAuditEdit(t *testing.T) {
	w := newWorld(t)
	w.cli("audit", "--verify")
	for _, r := range w.audit() {
		if r.Seq == 0 || r.At.IsZero() || r.Action == "" || r.Outcome == "" {
			t.Fatalf("a record that says too little: %+v", r)
		}
	}
	w.stop()
	editLog(t, w.dir)
	w.boot()
	if r := w.try("audit", "--verify"); r.code != 1 {
		t.Errorf("an edited log passes: exit status %d\n%s", r.code, r.stdout)
	}
}
