package conformance

import (
	"bufio"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// app is a program that runs under `hawser run` while the test goes on.
type app struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	errs *tail

	mu   sync.Mutex // guards seen
	seen []string   // lines of standard output
}

// start is run for a program that stays.
func (p *plane) start(name string, flags []string, argv ...string) *app {
	p.t.Helper()
	args := append(append([]string{"run", name, "--data", p.dir}, flags...), "--")
	a := &app{cmd: exec.Command(hawser, append(args, argv...)...), done: make(chan struct{}), errs: &tail{}}
	a.cmd.Env = clean(p.t)
	a.cmd.Stderr = a.errs
	out, err := a.cmd.StdoutPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	if err := a.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	go func() { // ends with the program, which the cleanup ends
		defer close(a.done)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			a.mu.Lock()
			a.seen = append(a.seen, lines.Text())
			a.mu.Unlock()
		}
		_ = a.cmd.Wait()
	}()
	p.t.Cleanup(func() {
		_ = a.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-a.done:
		case <-time.After(15 * time.Second):
			_ = a.cmd.Process.Kill()
			<-a.done
		}
	})
	return a
}

// lines are what the program has printed so far.
func (a *app) lines() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]string(nil), a.seen...)
}

// wait waits for a line that starts with a word.
func (a *app) wait(t testing.TB, prefix string) string {
	t.Helper()
	deadline := time.Now().Add(startLimit)
	for ended := false; ; {
		for _, l := range a.lines() {
			if strings.HasPrefix(l, prefix) {
				return l
			}
		}
		if ended || time.Now().After(deadline) {
			t.Fatalf("the app did not print %q (ended: %t)\n%s\n%s", prefix, ended, strings.Join(a.lines(), "\n"), a.errs)
		}
		select {
		case <-a.done:
			ended = true
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// status waits for the end and returns the exit status.
func (a *app) status(t testing.TB) int {
	t.Helper()
	select {
	case <-a.done:
	case <-time.After(startLimit):
		t.Fatalf("the app did not end\n%s", a.errs)
	}
	return a.cmd.ProcessState.ExitCode()
}
