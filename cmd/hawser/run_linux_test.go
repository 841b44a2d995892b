package main

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/hawser/hawser/hawsertest"
)

// TestAnAppCannotReadItsSupervisorsSecret: hawser run may hold the credential
// of a plane elsewhere; the app runs as the same user and must not find it,
// neither in its own environment nor in that of its parent.
func TestAnAppCannotReadItsSupervisorsSecret(t *testing.T) {
	p := hawsertest.Start(t)
	if r := command(t, p, "app", "create", "web"); r.status != 0 {
		t.Fatal(r)
	}
	var env planeEnv
	if r := command(t, p, "env", "--json", "--as", "admin"); json.Unmarshal([]byte(r.out), &env) != nil || env.Admin == nil {
		t.Fatalf("%+v", r)
	}
	dir, err := os.MkdirTemp("", "hawser-run-test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	bin, ca := filepath.Join(dir, "hawser"), filepath.Join(dir, "ca.pem")
	for to, from := range map[string]string{bin: os.Args[0], ca: p.Info.CAFile} {
		b, err := os.ReadFile(from)
		if err == nil {
			err = os.WriteFile(to, b, 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	c := exec.Command(bin, "run", "web", "--", "sh", "-c", `env; curl -sS -H "X-IDENTITY-HEADER: $IDENTITY_HEADER" "$IDENTITY_ENDPOINT?api-version=2019-08-01&resource=https://vault.azure.net"; echo "and $PPID:"; tr '\0' '\n' </proc/$PPID/environ`)
	c.Dir, c.Stderr = "/", os.Stderr
	c.Env = []string{beMain + "=1", "GORACE=atexit_sleep_ms=0", "PATH=" + os.Getenv("PATH"), "HAWSER_URL=https://" + p.Info.Listen, "HAWSER_CA=" + ca, "HAWSER_DOMAIN=" + p.Info.Domain,
		"HAWSER_CLIENT_ID=" + env.Admin.ClientID, "HAWSER_CLIENT_SECRET=" + env.Admin.ClientSecret, "HAWSER_TENANT_ID=" + p.Info.TenantID}
	if os.Geteuid() == 0 { // root reads everything
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	out, _ := c.Output()
	if !strings.Contains(string(out), "WEBSITE_SITE_NAME=web") || !strings.Contains(string(out), `{"access_token":"`) {
		t.Fatalf("the app did not run: %s", out)
	}
	if strings.Contains(string(out), env.Admin.ClientSecret) || strings.Contains(string(out), "HAWSER_") {
		t.Errorf("the app sees what is its supervisor's:\n%s", out)
	}
}

// TestAnAppFollowsItsStateAtThePlane: az webapp stop, start and restart mean
// the process.
func TestAnAppFollowsItsStateAtThePlane(t *testing.T) {
	p := hawsertest.Start(t)
	if r := command(t, p, "app", "create", "web"); r.status != 0 {
		t.Fatal(r)
	}
	c := exec.Command(os.Args[0], "run", "web", "--", "sh", "-c", `echo start; trap 'echo stop; exit 0' TERM; while :; do sleep 0.02; done`)
	c.Env, c.Stderr = []string{beMain + "=1", "GORACE=atexit_sleep_ms=0", "PATH=" + os.Getenv("PATH"), "HAWSER_DATA=" + p.Data}, os.Stderr
	out, err := c.StdoutPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Process.Signal(syscall.SIGTERM); _ = c.Wait() }()
	lines, plane := bufio.NewScanner(out), p.Client(t)
	expect := func(want ...string) {
		t.Helper()
		for _, w := range want {
			if !lines.Scan() || lines.Text() != w {
				t.Fatalf("the app said %q, want %q", lines.Text(), w)
			}
		}
	}
	expect("start")
	for _, step := range [][]string{{"restart", "stop", "start"}, {"stop", "stop"}, {"start", "start"}} {
		if err := plane.Action(t.Context(), plane.SiteID("web"), step[0], nil, nil); err != nil {
			t.Fatal(err)
		}
		expect(step[1:]...)
	}
}
