//go:build unix

package run

import (
	"bufio"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hawser/hawser/client"
)

func setting(p *testPlane, pairs ...string) {
	p.set(func(e *client.Environment) {
		vars := []client.Variable{}
		for i := 0; i < len(pairs); i += 2 {
			vars = append(vars, client.Variable{Name: pairs[i], Value: pairs[i+1]})
		}
		e.Variables = vars
	})
}

func expect(t *testing.T, r *running, want string) string {
	t.Helper()
	got := r.line()
	if !strings.HasPrefix(got, strings.Fields(want)[0]) || !strings.HasSuffix(got, strings.TrimPrefix(want, strings.Fields(want)[0])) {
		t.Fatalf("the app said %q, want %q; log:\n%s", got, want, r.log)
	}
	return got
}

func TestChangeRestartsWithTheWholeNewEnvironment(t *testing.T) {
	p := newPlane(t, client.Variable{Name: "A", Value: "1"}, client.Variable{Name: "B", Value: "1"})
	r := start(t, p, Config{}, "serve")
	expect(t, r, "start 1 1")
	setting(p, "A", "2") // B is gone: it must not be carried over
	expect(t, r, "signal terminated")
	expect(t, r, "start 2 ")
	setting(p, "A", "3", "B", "3")
	expect(t, r, "signal terminated")
	expect(t, r, "start 3 3")
	r.cancel()
	code, rest := r.wait()
	if code != 7 || len(rest) != 1 {
		t.Fatalf("status %d, rest %q", code, rest)
	}
}

func TestChangeSignals(t *testing.T) {
	p := newPlane(t, client.Variable{Name: "A", Value: "1"})
	r := start(t, p, Config{OnChange: Signal}, "serve")
	expect(t, r, "start 1 ")
	setting(p, "A", "2")
	expect(t, r, "signal hangup")
}

func TestChangeOfIdentitiesOnlyDoesNotRestart(t *testing.T) {
	p := newPlane(t, client.Variable{Name: "A", Value: "1"})
	r := start(t, p, Config{}, "serve")
	expect(t, r, "start 1 ")
	p.set(func(e *client.Environment) { e.Identities.System = &client.Identity{PrincipalID: "x"} })
	setting(p, "A", "2") // only this one may be seen
	expect(t, r, "signal terminated")
	expect(t, r, "start 2 ")
	if n := strings.Count(r.log.String(), "restarting it"); n != 1 {
		t.Errorf("%d restarts, want 1:\n%s", n, r.log)
	}
}

func TestStubbornAppIsKilledAfterTheGrace(t *testing.T) {
	p := newPlane(t, client.Variable{Name: "A", Value: "1"})
	r := start(t, p, Config{Grace: 50 * time.Millisecond}, "serve", "stubborn")
	expect(t, r, "start 1 ")
	setting(p, "A", "2")
	expect(t, r, "signal terminated")
	expect(t, r, "start 2 ")
}

func TestAppThatWillNotStartAgainIsRetried(t *testing.T) {
	p := newPlane(t, client.Variable{Name: "A", Value: "1"})
	r := start(t, p, Config{}, "serve", "may-fail")
	expect(t, r, "start 1 ")
	setting(p, "A", "2", "FAIL", "yes")
	expect(t, r, "signal terminated")
	expect(t, r, "failing")
	expect(t, r, "failing") // tried again
	setting(p, "A", "3")
	for {
		l := r.line()
		if l == "failing" {
			continue
		}
		if !strings.HasSuffix(l, " 3 ") {
			t.Fatalf("got %q", l)
		}
		break
	}
	if !strings.Contains(r.log.String(), "trying again") {
		t.Errorf("the log does not say that it is tried again:\n%s", r.log)
	}
}

func TestPlaneMayRestart(t *testing.T) {
	p := newPlane(t, client.Variable{Name: "A", Value: "1"})
	r := start(t, p, Config{}, "serve")
	expect(t, r, "start 1 ")
	p.stop()
	setting(p, "A", "2")
	p.listen()
	expect(t, r, "signal terminated")
	expect(t, r, "start 2 ")
}

func TestAnAppIsStoppedStartedAndRestartedAtThePlane(t *testing.T) {
	for _, on := range []OnChange{Restart, Signal, None} {
		p := newPlane(t, client.Variable{Name: "A", Value: "1"})
		r := start(t, p, Config{OnChange: on}, "serve")
		expect(t, r, "start 1 ")
		p.set(func(e *client.Environment) { e.State = "Stopped" })
		expect(t, r, "signal terminated")
		setting(p, "A", "2") // must not start it
		p.set(func(e *client.Environment) { e.State = "Running" })
		expect(t, r, "start 2 ")
		p.set(func(e *client.Environment) { e.Restarted++ })
		expect(t, r, "signal terminated")
		expect(t, r, "start 2 ")
		p.set(func(e *client.Environment) { e.State = "Stopped" })
		expect(t, r, "signal terminated")
		r.cancel()
		if code, rest := r.wait(); code != 7 || len(rest) != 0 {
			t.Fatalf("%s: status %d, rest %q", on, code, rest)
		}
	}
}

func TestAStoppedAppIsNotStarted(t *testing.T) {
	p := newPlane(t, client.Variable{Name: "A", Value: "1"})
	p.env.State = "Stopped"
	r := start(t, p, Config{}, "serve")
	for !strings.Contains(r.log.String(), "the app is stopped") {
		time.Sleep(time.Millisecond)
	}
	p.set(func(e *client.Environment) { e.State = "Running" })
	expect(t, r, "start 1 ")
}

func TestUnknownAppIsRefusedAtOnce(t *testing.T) {
	p := newPlane(t)
	code, err := Run(t.Context(), Config{Client: p.client(), Site: "nobody", Argv: []string{"true"}, SharedProcess: true})
	if code != 1 || err == nil || !strings.Contains(err.Error(), "There is no such app.") {
		t.Fatalf("%d, %v", code, err)
	}
}

func TestUnresolvedReferencesAreNamed(t *testing.T) {
	p := newPlane(t)
	p.env.References = []client.Reference{{Name: "DB", Status: "AccessToKeyVaultDenied", Details: "no role"}, {Name: "OK", Status: "Resolved"}}
	r := start(t, p, Config{}, "exit", "0")
	r.wait()
	if log := r.log.String(); !strings.Contains(log, "setting=DB status=AccessToKeyVaultDenied") || strings.Contains(log, "setting=OK") {
		t.Errorf("log:\n%s", log)
	}
}

// whole starts `hawser run`'s own process, as users have it.
func whole(t *testing.T, p *testPlane, args ...string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(exe, append([]string{"supervise", p.dir, exe, "app"}, args...)...)
	c.Stderr = os.Stderr
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
	return c, bufio.NewScanner(out)
}

func TestSignalsReachTheAppAndItsStatusComesBack(t *testing.T) {
	p := newPlane(t)
	c, out := whole(t, p, "serve")
	out.Scan()
	for _, s := range []struct {
		sig  syscall.Signal
		want string
	}{{syscall.SIGHUP, "signal hangup"}, {syscall.SIGUSR1, "signal user defined signal 1"},
		{syscall.SIGWINCH, "signal window changed"}, {syscall.SIGINT, "signal interrupt"}, {syscall.SIGTERM, "signal terminated"}} {
		if err := c.Process.Signal(s.sig); err != nil {
			t.Fatal(err)
		}
		if !out.Scan() || out.Text() != s.want {
			t.Fatalf("after %v the app said %q, want %q", s.sig, out.Text(), s.want)
		}
	}
	_ = c.Wait()
	if code := c.ProcessState.ExitCode(); code != 7 {
		t.Errorf("status %d, want the app's 7", code)
	}
}
