package run

import (
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/hawser/hawser/client"
)

// A child started by a change that ends with an error within this time counts
// as one that would not start, and is started again.
const startWindow = 5 * time.Second

// supervisor owns the child. Everything in it belongs to the goroutine of
// loop, which alone starts and signals; other goroutines only send.
type supervisor struct {
	*session
	env      *client.Environment
	environ  []string
	proc     *process
	signals  chan os.Signal
	changes  chan *client.Environment
	restarts backoff
	stopping bool // somebody asked for the end: no start any more
	asked    bool // the running child got a signal that ends most programs
	changed  bool // the running child was started by a change, not by the user
	replace  bool // the running child was told to end because of a change
	halted   bool // the app was stopped at the plane: no child until it is started there
	kill     <-chan time.Time
	again    <-chan time.Time
	last     int // exit status of the last child
}

// supervise starts the child, and returns its status when it has ended for
// good.
func (s *session) supervise(ctx context.Context, env *client.Environment) (int, error) {
	v := &supervisor{session: s, env: env, signals: make(chan os.Signal, 16), changes: make(chan *client.Environment, 1)}
	v.environ = s.environFor(env)
	signal.Notify(v.signals, forwarded()...)
	defer signal.Stop(v.signals)
	select {
	case <-v.Ended: // while the environment was asked for: nobody would be told
		return exitSignal + int(syscall.SIGTERM), nil
	default:
	}
	stop := adopt(s)
	defer stop()
	if v.halted = env.Stopped(); v.halted {
		v.Logger.Warn("the app is stopped: it will run when somebody starts it at the plane")
	} else if code, err := v.start(); err != nil {
		return code, err
	}
	watched := make(chan struct{})
	wctx, cancel := context.WithCancel(ctx)
	go func() { defer close(watched); s.watch(wctx, env, v.changes) }()
	defer func() { cancel(); <-watched }()
	return v.loop(ctx), nil
}

func (s *session) environFor(env *client.Environment) []string {
	x := s.extra
	x.forced, x.domain = s.AzureNames, strings.ToLower(s.plane.Domain)
	if d := s.doors.Load(); d != nil {
		x.doors = *d
	}
	return environ(s.Environ, env, x, s.Identity)
}

func (v *supervisor) loop(ctx context.Context) int {
	done := ctx.Done()
	for {
		var exited <-chan exit
		if v.proc != nil {
			exited = v.proc.exited
		}
		select {
		case e := <-exited:
			if v.ended(e) {
				return v.last
			}
		case sig := <-v.signals:
			if v.forward(sig) {
				return v.last
			}
		case env := <-v.changes:
			v.change(env)
		case <-v.kill:
			v.Logger.Warn("the app did not end in time: killing it", "grace", v.Grace)
			v.proc.kill()
			v.kill = nil
		case <-v.again:
			v.again = nil
			v.restart()
		case <-done:
			done = nil
			if v.proc == nil {
				return v.last
			}
			v.stopping = true
			v.end()
		}
	}
}

// start starts the child with the present environment.
func (v *supervisor) start() (int, error) {
	path, err := find(v.Argv[0], v.environ)
	if err == nil {
		err = v.child.start(func() (int, error) {
			p, err := startProcess(path, v.session, v.environ)
			if err != nil {
				return 0, err
			}
			v.proc = p
			return p.pid, nil
		})
	}
	if err != nil {
		return shellStatus(err), &startError{v.Argv[0], err}
	}
	return 0, nil
}

// startError says which program could not be started.
type startError struct {
	program string
	cause   error
}

func (e *startError) Error() string {
	if shellStatus(e.cause) == exitNotFound {
		return "cannot start " + e.program + ": no such program"
	}
	return "cannot start " + e.program + ": " + e.cause.Error()
}

func (e *startError) Unwrap() error { return e.cause }

// ended handles the end of the child and reports whether the run is over.
func (v *supervisor) ended(e exit) bool {
	lived := v.Clock().Sub(v.proc.since)
	v.proc, v.kill, v.last = nil, nil, e.code
	switch {
	case v.stopping || v.asked:
		return true
	case v.halted:
		v.replace = false
		v.Logger.Info("the app has ended and stays stopped")
		return false
	case v.replace:
		v.replace = false
		v.restarts.reset()
		v.restart()
		return false
	case v.changed && e.code != 0 && lived < startWindow:
		v.retry("the app ended at once after the change")
		return false
	}
	return true
}

// restart starts the child anew; if that fails it is tried again later, for
// the app was running before the change and should run again.
func (v *supervisor) restart() {
	v.changed = true
	code, err := v.start()
	if err != nil {
		v.last = code
		v.retry(err.Error())
		return
	}
	v.Logger.Info("started the app with the new environment", "pid", v.proc.pid)
}

func (v *supervisor) retry(why string) {
	d := v.restarts.next()
	v.Logger.Error(why+": trying again", "status", v.last, "in", d.Round(time.Millisecond))
	v.again = time.After(d)
}

// change takes over a new environment. A child waiting to be started again
// gets it at once; a running one is told as asked.
func (v *supervisor) change(env *client.Environment) {
	if !reflect.DeepEqual(env.Identities, v.env.Identities) {
		v.cache.reset()
	}
	next := v.environFor(env)
	same := slices.Equal(next, v.environ)
	ordered := env.Restarted != v.env.Restarted // by a person, whatever OnChange says
	v.env, v.environ = env, next
	if !same {
		v.warn(env)
	}
	if env.Stopped() || v.halted {
		v.obey(env.Stopped())
		return
	}
	switch {
	case same && !ordered, v.stopping, v.replace:
	case v.proc == nil:
		v.again = nil
		v.restarts.reset()
		v.restart()
	case ordered:
		v.Logger.Info("somebody asked for a restart of the app: restarting it")
		v.replaceChild()
	case v.OnChange == Signal:
		v.Logger.Info("the app's environment changed: sending SIGHUP")
		v.proc.signal(hangup)
	case v.OnChange == Restart:
		v.Logger.Info("the app's environment changed: restarting it")
		v.replaceChild()
	}
}

// replaceChild tells the child to end; another will follow it.
func (v *supervisor) replaceChild() {
	v.replace, v.asked = true, false
	v.end()
}

// obey stops the app, or starts one that was stopped.
func (v *supervisor) obey(stop bool) {
	before := v.halted
	v.halted = stop
	switch {
	case v.stopping || before == stop:
	case stop:
		v.Logger.Info("the app was stopped at the plane: ending it")
		v.again = nil
		if v.proc != nil && !v.replace { // else it is ending already
			v.asked = false
			v.end()
		}
	case v.proc != nil: // still ending
		v.replace = true
	default:
		v.Logger.Info("the app was started at the plane")
		v.restarts.reset()
		v.restart()
	}
}

// end asks the child to end and sets the time after which it is killed.
func (v *supervisor) end() {
	v.proc.signal(terminate)
	v.kill = time.After(v.Grace)
}

// forward passes a signal on and reports whether the run is over: without a
// child a signal that ends programs ends the run.
func (v *supervisor) forward(sig os.Signal) bool {
	ends := isFatal(sig)
	if v.proc == nil {
		if ends {
			v.last = signalStatus(sig)
		}
		return ends
	}
	v.asked = v.asked || ends
	v.stopping = v.stopping || sig == terminate
	v.proc.signal(sig)
	return false
}

// find looks a program up as a shell does, in the PATH the app will have;
// entries that are not absolute are passed over.
func find(name string, env []string) (string, error) {
	if os.PathSeparator != '/' {
		return exec.LookPath(name)
	}
	if strings.Contains(name, "/") {
		return name, executable(name)
	}
	err := error(exec.ErrNotFound)
	for _, dir := range filepath.SplitList(lookup(env, "PATH")) {
		if !filepath.IsAbs(dir) {
			continue
		}
		path := filepath.Join(dir, name)
		e := executable(path)
		if e == nil {
			return path, nil
		}
		if errors.Is(e, fs.ErrPermission) {
			err = e
		}
	}
	return "", err
}

func executable(path string) error {
	fi, err := os.Stat(path)
	switch {
	case err != nil:
		return err
	case fi.IsDir() || fi.Mode()&0o111 == 0:
		return &fs.PathError{Op: "exec", Path: path, Err: fs.ErrPermission}
	}
	return nil
}

func shellStatus(err error) int {
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
		return exitNotFound
	}
	return exitNotExecutable
}

// backoff gives growing, jittered waits: 100 ms doubling to 30 s.
type backoff struct {
	n   int
	top time.Duration // 0 means 30 s
}

func (b *backoff) next() time.Duration {
	top := b.top
	if top == 0 {
		top = 30 * time.Second
	}
	d := min(100*time.Millisecond<<min(b.n, 20), top)
	b.n++
	return d*3/4 + rand.N(d/4+1)
}

func (b *backoff) reset() { b.n = 0 }

// sleep waits, or until the context ends.
func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
