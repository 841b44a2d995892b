package run

import (
	"log/slog"
	"net"
	"sync"
	"time"
)

// tree is the set of processes that belong to the app: the child and its
// descendants, and where orphans are adopted, every descendant of ours.
type tree struct {
	shared bool // this process has other children: only below the app's own pid
	mu     sync.Mutex
	pid    int    // of the running child, or of the last one; guarded by mu
	born   uint64 // when that one was started: its number may be another's by now; guarded by mu
	recent int    // who was last found to hold a connection; guarded by mu
	anyone bool   // tests and benchmarks: the caller's own process is let in
	lines  *limiter
}

func newTree(shared bool) *tree { return &tree{shared: shared, lines: newLimiter(reportRate)} }

// reportRate bounds the log lines a second about strangers, who would fill
// the disk otherwise.
const reportRate = 10

// report logs that a stranger was refused.
func (t *tree) report(log *slog.Logger, what string, p *peer, now time.Time) {
	if t.lines.take(now) > 0 {
		return
	}
	if p == nil {
		log.Warn(what)
		return
	}
	log.Warn(what, "from", p.conn.RemoteAddr().String(), "reason", p.err)
}

// start starts the child by f and notes its process id. The lock is held over
// both, or the reaper could take a child that dies at once for an orphan.
func (t *tree) start(f func() (pid int, err error)) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	pid, err := f()
	if err == nil {
		t.pid, t.born = pid, bornAt(pid)
	}
	return err
}

// main returns the child's process id, 0 before the first.
func (t *tree) main() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.pid
}

// orphans calls f with each of the given processes that is not the child.
func (t *tree) orphans(f func(pid int), list func() []int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, pid := range list() {
		if pid != t.pid {
			f(pid)
		}
	}
}

// peer is what the listeners know of the other end of one connection. The
// lookup is made once, when the first request is there: by then the goroutine
// is the connection's own, and slow lookups hold nobody else up.
type peer struct {
	conn net.Conn
	once sync.Once
	ok   bool
	err  error
}

// allowed reports whether the connection's other end is one of the app's
// processes.
func (t *tree) allowed(p *peer) bool {
	p.once.Do(func() {
		if t.anyone || !peersKnown {
			p.ok = true
			return
		}
		_, p.err = t.find(p.conn)
		p.ok = p.err == nil
	})
	return p.ok
}

type peerKey struct{}
