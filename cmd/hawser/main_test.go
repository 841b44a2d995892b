package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/hawser/hawser/hawsertest"
	"github.com/hawser/hawser/internal/store/storetest"
)

// beMain makes the test binary the command itself.
const beMain = "HAWSER_TEST_BE_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(beMain) != "" {
		_ = os.Unsetenv(beMain)
		os.Exit(execute(os.Args[1:]))
	}
	os.Exit(storetest.Main(m))
}

// result is what a command did.
type result struct {
	out, err string
	status   int
}

// command runs the real command in a process of its own.
func command(t *testing.T, p *hawsertest.Plane, args ...string) result {
	t.Helper()
	c := exec.Command(os.Args[0], args...)
	c.Env = []string{beMain + "=1", "GORACE=atexit_sleep_ms=0", "PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}
	if p != nil {
		c.Env = append(c.Env, "HAWSER_DATA="+p.Data)
	}
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr, c.Stdin = &out, &errs, strings.NewReader("from standard input\n")
	err := c.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return result{out.String(), errs.String(), c.ProcessState.ExitCode()}
}

// walk visits every command that does something.
func walk(c *cobra.Command, fn func(*cobra.Command)) {
	if !c.HasSubCommands() {
		fn(c)
	}
	for _, sub := range c.Commands() {
		walk(sub, fn)
	}
}

func TestEveryCommandHasAnExampleThatIsTrue(t *testing.T) {
	n := 0
	walk((&cli{}).root(), func(c *cobra.Command) {
		n++
		if c.Short == "" || c.Args == nil {
			t.Errorf("%s: no short text, or any number of arguments is taken", c.CommandPath())
		}
		if !strings.Contains(c.Example, c.CommandPath()) {
			t.Errorf("%s: no example of it: %q", c.CommandPath(), c.Example)
		}
		for line := range strings.Lines(c.Example) {
			line, _, _ = strings.Cut(line, " -- ")
			_, line, found := strings.Cut(line, c.CommandPath())
			for _, word := range strings.Fields(line) {
				word, _, _ = strings.Cut(strings.Trim(word, `")`), "=")
				if name, long := strings.CutPrefix(word, "--"); found && long && c.Flag(name) == nil {
					t.Errorf("%s: its example has a flag that it has not: %s", c.CommandPath(), word)
				}
			}
		}
	})
	if n < 30 {
		t.Errorf("only %d commands were looked at", n)
	}
}

func TestExitStatuses(t *testing.T) {
	p := hawsertest.Start(t)
	if r := command(t, p, "app", "create", "web"); r.status != 0 {
		t.Fatal(r)
	}
	for _, c := range []struct {
		args   string
		status int
		says   string
	}{
		{"nonsense", 2, "nonsense"},
		{"app nonsense", 2, "is no command of hawser app"},
		{"app create", 2, "arg"},
		{"app list more", 2, "hawser app list --help"},
		{"app set web novalue", 2, "KEY=VALUE"},
		{"status --no-such-flag", 2, "no-such-flag"},
		{"status --output yaml", 2, "yaml"},
		{"role assign Reader", 2, "required"},
		{"env --as somebody", 2, "admin"},
		{"env --tenant x", 2, "alias or guid"},
		{"run web", 2, "COMMAND"},
		{"run web true", 2, "COMMAND"},
		{"run web --on-change x -- true", 2, "on-change"},
		{"run web --identity x -- true", 2, "identity"},
		{"attach pg1 nothing", 2, "postgres://"},
		{"attach pg1 :::", 2, "postgres://"},
		{"up --log-level loud", 2, "loud"},
		{"app show nobody", 1, "nobody"},
		{"app create web", 1, "exists already"},
		{"vault show kv1", 1, "kv1"},
		{"secret get kv1 x", 1, ""},
		{"role assign Nobody --to web --scope web", 1, "hawser role list"},
		{"role assign Reader --to nobody --scope web", 1, "nobody is called"},
		{"connect web pg1", 1, ""},
		{"connection delete web no/such", 1, ""},
		{"run nobody -- true", 1, "nobody"},
		{"run web -- /no/such/program", 127, "no such program"},
		{"run web -- /etc/passwd", 126, "passwd"},
	} {
		r := command(t, p, strings.Fields(c.args)...)
		if r.status != c.status || !strings.Contains(r.err, c.says) {
			t.Errorf("hawser %s: status %d, %q; want %d with %q", c.args, r.status, r.err, c.status, c.says)
		}
		if r.out != "" || !strings.Contains(r.err, "hawser: ") || strings.Contains(r.err, "goroutine ") {
			t.Errorf("hawser %s: printed %q, and as error %q", c.args, r.out, r.err)
		}
	}
	if r := command(t, p, "run", "web", "--", "sh", "-c", "exit 7"); r.status != 7 {
		t.Errorf("the app's status is lost: %+v", r)
	}
	for _, none := range []string{"status", "app list", "run web -- true"} {
		c := append([]string{"--data", t.TempDir()}, strings.Fields(none)...)
		if r := command(t, nil, c...); r.status != 1 || !strings.Contains(r.err, "hawser up") {
			t.Errorf("without a plane, %s: %+v", none, r)
		}
	}
}

// TestEveryResultIsJSON walks through what a newcomer does, and reads every
// answer as a program would.
func TestEveryResultIsJSON(t *testing.T) {
	p := hawsertest.Start(t)
	silent := map[string]bool{"set": true, "unset": true, "delete": true, "assign": true, "remove": true, "recover": true, "purge": true, "reference-identity": true}
	for _, line := range []string{
		"app list", "vault list", "identity list", "status", "role list",
		"vault create kv1", "secret list kv1", "secret list kv1 --deleted", "secret set kv1 name value", "secret set kv1 other", "secret get kv1 other", "secret list kv1",
		"secret delete kv1 other", "secret recover kv1 other", "vault show kv1", "app create web", "app settings web", "app references web",
		"app set web COLOR=blue REF=@Microsoft.KeyVault(VaultName=kv1;SecretName=name)", "app settings web", "app settings web --reveal", "app references web", "app unset web COLOR",
		"app show web", "app list", "identity create shared", "identity show shared", "identity list", "identity assign web shared", "app reference-identity web --identity shared",
		"identity remove web shared", "role list --scope kv1", "why web Microsoft.KeyVault/vaults/secrets/getSecret/action kv1", "connection list web",
		"token https://vault.azure.net", "token https://vault.azure.net --app web", "audit", "audit --last 3", "audit --verify", "seal rotate", "env",
		"app delete web", "identity delete shared", "vault delete kv1",
	} {
		args := strings.Fields(line)
		r := command(t, p, append(args, "--output", "json")...)
		if r.status != 0 {
			t.Errorf("hawser %s: %+v", line, r)
			continue
		}
		var v any
		switch err := json.Unmarshal([]byte(r.out), &v); {
		case r.out == "" && len(args) > 1 && silent[args[1]]:
		case err != nil:
			t.Errorf("hawser %s: %v in %q", line, err, r.out)
		case v == nil:
			t.Errorf("hawser %s: null", line)
		}
	}
}

func TestTablesAndTSVHaveOneRowEach(t *testing.T) {
	p := hawsertest.Start(t)
	command(t, p, "app", "create", "web")
	command(t, p, "app", "set", "web", "A=one\ttwo\nthree")
	if r := command(t, p, "app", "settings", "web", "--reveal", "-o", "tsv"); r.out != "A\tone two three\n" {
		t.Errorf("%q", r.out)
	}
}

func TestCompletion(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if r := command(t, nil, "completion", shell); r.status != 0 || len(r.out) < 1000 {
			t.Errorf("%s: %d bytes, status %d, %s", shell, len(r.out), r.status, r.err)
		}
	}
	if r := command(t, nil, "__complete", "app", ""); r.status != 0 || !strings.Contains(r.out, "create\t") {
		t.Errorf("%+v", r)
	}
}

func TestNamesOfOthersMoveNoCursor(t *testing.T) {
	evil := "a\x1b[2J\u009b2J\u202e\u2066\r\nb\u200f\x07"
	for what, s := range map[string]string{"a cell": clean([]string{evil})[0], "an error": sentence(fmt.Errorf("no %s", evil))} {
		if strings.ContainsAny(s, "\x1b\u009b\u202e\u2066\u200f\r\n\x07") {
			t.Errorf("%s: %q", what, s)
		}
		if !strings.Contains(s, "a") || !strings.Contains(s, "b") {
			t.Errorf("%s: %q", what, s)
		}
	}
}
