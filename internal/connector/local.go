package connector

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hawser/hawser/internal/az"
)

// Local says where a plane may run PostgreSQL servers of its own.
type Local struct {
	// Dir is where their data lie; "" runs none.
	Dir string
	// Plane is this plane's id: a server runs on the plane that made it.
	Plane string
}

// localPlace says that a plane runs the server itself: there is nobody to
// adopt it from. A body cannot give it.
type localPlace struct {
	Plane    string `json:"plane"`
	Machine  string `json:"machine,omitempty"` // for people
	Instance string `json:"instance"`          // with the server's name it names the directory
}

const (
	// localOwner is the superuser of a server that the plane runs.
	localOwner = "hawser_plane"
	// localStart bounds the wait for a server that starts: it may have a crash
	// to recover from.
	localStart = 30 * time.Second
	// localStop bounds the wait for a server that stops, with its sessions cut.
	localStop = 4 * time.Second
	// localInit bounds initdb.
	localInit = 40 * time.Second
	// maxLocalSocket bounds a Unix socket's path. Source: sun_path has 104 bytes
	// on BSD and macOS, 108 on Linux, the zero at the end included.
	maxLocalSocket = 103
	// maxLocalLog is how long a server's log may get before it begins anew.
	maxLocalLog = 10 << 20
	// maxLocals bounds the servers of one plane: each takes some 40 MB on disk
	// and as much memory, and whoever may create a server can create many.
	maxLocals = 32
)

// locals runs PostgreSQL servers on this machine. Each listens on a socket that
// only this plane's user can reach, is started when it is first needed, and
// ends with the plane.
type locals struct {
	cfg Local
	bin string // where initdb and postgres are
	why string // why none can be run here; "" if they can
	log *slog.Logger

	mu      sync.Mutex // guards what follows
	closed  bool
	servers map[string]*localServer // by instance
	short   string                  // a directory for sockets, where Dir lies too deep
}

// localServer is one server. Its lock is held while it starts and stops.
type localServer struct {
	mu   sync.Mutex
	proc *localProcess
	kept bool // its resource was seen
}

func newLocals(cfg Local, log *slog.Logger) *locals {
	l := &locals{cfg: cfg, log: log, servers: map[string]*localServer{}}
	if cfg.Dir == "" {
		l.why = "this plane is told to run none (--local-servers off)"
		return l
	}
	if l.why = localRefusal(); l.why != "" {
		return l
	}
	if l.bin = localBinaries(); l.bin == "" {
		l.why = "PostgreSQL is not installed on the plane's machine"
	}
	return l
}

// localBinaries finds the newest installed server.
func localBinaries() string {
	best, newest := "", -1
	for _, pattern := range []string{"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql@*/bin", "/usr/local/opt/postgresql@*/bin"} {
		dirs, _ := filepath.Glob(pattern)
		for _, d := range dirs {
			digits := strings.TrimLeft(filepath.Base(filepath.Dir(d)), "abcdefghijklmnopqrstuvwxyz-@")
			if v, err := strconv.Atoi(digits); err == nil && v > newest && hasBinaries(d) {
				best, newest = d, v
			}
		}
	}
	if best == "" {
		if path, err := exec.LookPath("initdb"); err == nil && filepath.IsAbs(path) && hasBinaries(filepath.Dir(path)) {
			best = filepath.Dir(path)
		}
	}
	return best
}

func hasBinaries(dir string) bool {
	for _, name := range []string{"initdb", "postgres"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			return false
		}
	}
	return true
}

// instanceForm is what names a directory: nothing else gets into a path.
var instanceForm = regexp.MustCompile(`^[0-9a-f]{8}$`)

// newPlace is a place for a server of this plane.
func (l *locals) newPlace() *localPlace {
	machine, _ := os.Hostname()
	return &localPlace{Plane: l.cfg.Plane, Machine: machine, Instance: az.NewGUID()[:8]}
}

// dir is where a server's data lie.
func (l *locals) dir(name string, p *localPlace) (string, error) {
	if !instanceForm.MatchString(p.Instance) || !validServerName(name) {
		return "", az.Errorf(az.Internal, "", "")
	}
	return filepath.Join(l.cfg.Dir, name+"-"+p.Instance), nil
}

// elsewhere refuses what only another plane can do.
func (l *locals) elsewhere(name string, p *localPlace) error {
	if p.Plane == l.cfg.Plane && l.cfg.Plane != "" {
		return nil
	}
	return az.Errorf(az.Invalid, "ServerOnAnotherPlane", "The PostgreSQL server '%s' runs on another plane's machine (%s): ask that plane, or move its data to a server that all planes reach.", name, orText(p.Machine, p.Plane))
}

func (l *locals) server(instance string) *localServer {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.servers[instance] == nil {
		l.servers[instance] = &localServer{}
	}
	return l.servers[instance]
}

// create makes a server's data, with a superuser's password. Until keep is
// called it counts as the rest of a request that failed.
func (l *locals) create(ctx context.Context, name string, p *localPlace, password az.Secret) error {
	dir, err := l.dir(name, p)
	if err != nil {
		return err
	}
	if err := l.makeRoom(dir); err != nil {
		return err
	}
	if err := l.initdb(ctx, dir, password); err != nil {
		l.remove(name, p)
		return l.failed("make its data directory", err)
	}
	return nil
}

// makeRoom marks the place of a server that is to be made, if there is one.
func (l *locals) makeRoom(dir string) error {
	l.mu.Lock() // no two find the last place free
	defer l.mu.Unlock()
	if err := os.MkdirAll(l.cfg.Dir, 0o700); err != nil {
		return l.failed("make a directory for its data", err)
	}
	all, err := os.ReadDir(l.cfg.Dir)
	if err != nil {
		return l.failed("look for its place", err)
	}
	there := map[string]bool{} // a server is there by its directory or by the mark
	for _, e := range all {
		if _, instance, ok := cutLast(strings.TrimSuffix(e.Name(), ".new"), "-"); ok && instanceForm.MatchString(instance) {
			there[instance] = true
		}
	}
	if len(there) >= maxLocals {
		return az.Errorf(az.Invalid, "TooManyLocalServers", "This plane runs %d PostgreSQL servers of its own already, which is the limit. Delete one, make a database on one that is there, or adopt a server that runs elsewhere.", maxLocals)
	}
	if err := os.WriteFile(dir+".new", nil, 0o600); err != nil {
		return l.failed("make a directory for its data", err)
	}
	return nil
}

func (l *locals) failed(what string, err error) error {
	return az.Errorf(az.Unavailable, "LocalServerFailed", "The plane's own PostgreSQL server cannot %s; the plane's log says why.", what).Because(err)
}

func (l *locals) initdb(ctx context.Context, dir string, password az.Secret) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	pw, err := os.CreateTemp(l.cfg.Dir, "new-") // 0600
	if err != nil {
		return err
	}
	defer func() { _ = pw.Close(); _ = os.Remove(pw.Name()) }()
	if _, err := pw.WriteString(password.Reveal() + "\n"); err != nil {
		return err
	}
	locale := "C"
	if runtime.GOOS == "linux" {
		locale = "C.UTF-8"
	}
	ctx, cancel := context.WithTimeout(ctx, localInit)
	defer cancel()
	cmd, done, err := localCommand(ctx, filepath.Join(l.bin, "initdb"), dir, pw,
		"-U", localOwner, "-A", "scram-sha-256", "-E", "UTF8", "--locale", locale, "--no-instructions")
	if err != nil {
		return err
	}
	defer done()
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, out)
	}
	return nil
}

// keep says that a server's resource is there.
func (l *locals) keep(name string, p *localPlace) {
	dir, err := l.dir(name, p)
	if err != nil || l.elsewhere(name, p) != nil {
		return
	}
	_ = os.Remove(dir + ".new")
	s := l.server(p.Instance)
	s.mu.Lock()
	s.kept = true
	s.mu.Unlock()
}

// wake returns the directory of a server's socket and starts the server if it
// does not run.
func (l *locals) wake(ctx context.Context, name string, p *localPlace) (socket string, err error) {
	if err := l.elsewhere(name, p); err != nil {
		return "", err
	}
	dir, err := l.dir(name, p)
	if err != nil {
		return "", err
	}
	s := l.server(p.Instance)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc != nil && s.proc.alive() {
		return s.proc.socket, nil
	}
	if l.why != "" {
		return "", az.Errorf(az.Invalid, "LocalServerOff", "The PostgreSQL server '%s' is this plane's own and cannot be started: %s.", name, l.why)
	}
	if _, err := os.Stat(filepath.Join(dir, "PG_VERSION")); errors.Is(err, os.ErrNotExist) {
		return "", az.Errorf(az.Invalid, "LocalDataMissing", "The data of the PostgreSQL server '%s' are not on this machine: put its directory back to %s.", name, filepath.Base(l.cfg.Dir)+"/"+filepath.Base(dir))
	}
	if socket, err = l.socketDir(dir, p.Instance); err != nil {
		return "", l.failed("get a place for its socket", err)
	}
	if s.proc, err = l.start(ctx, dir, socket); err != nil {
		return "", l.failed("start", err)
	}
	l.log.Info("connector: a PostgreSQL server of the plane's own was started", "server", name)
	return socket, nil
}

// socketDir is the data directory itself, or a shorter one.
func (l *locals) socketDir(dir, instance string) (string, error) {
	if len(filepath.Join(dir, ".s.PGSQL.65535")) <= maxLocalSocket {
		return dir, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.short == "" {
		short, err := os.MkdirTemp("", "hawser-pg-") // 0700
		if err != nil {
			return "", err
		}
		if err := os.Chmod(short, 0o711); err != nil { // what is in it is 0700
			return "", err
		}
		l.short = short
	}
	socket := filepath.Join(l.short, instance)
	if err := os.Mkdir(socket, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return "", err
	}
	return socket, giveToLocalUser(socket)
}

// remove ends a server and deletes its data.
func (l *locals) remove(name string, p *localPlace) {
	dir, err := l.dir(name, p)
	if err != nil || l.elsewhere(name, p) != nil {
		return
	}
	l.rest(p.Instance)
	l.mu.Lock()
	delete(l.servers, p.Instance)
	l.mu.Unlock()
	for _, path := range []string{dir, dir + ".log", dir + ".new"} {
		if rerr := os.RemoveAll(path); rerr != nil {
			err = rerr
		}
	}
	if err != nil {
		l.log.Warn("connector: the data of a deleted PostgreSQL server could not be removed", "directory", dir, "error", err)
	}
}

// rest stops a server until it is needed again.
func (l *locals) rest(instance string) {
	s := l.server(instance)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc != nil {
		s.proc.stop()
		s.proc = nil
	}
}

// close stops all servers.
func (l *locals) close() {
	l.mu.Lock()
	l.closed = true
	all := make([]string, 0, len(l.servers))
	for instance := range l.servers {
		all = append(all, instance)
	}
	l.mu.Unlock()
	var wg sync.WaitGroup
	for _, instance := range all {
		wg.Go(func() { l.rest(instance) })
	}
	wg.Wait()
	if l.short != "" {
		_ = os.RemoveAll(l.short)
	}
}

// localLeftOver is how old the data of a request that failed get before they
// are removed: no request lasts as long.
const localLeftOver = 15 * time.Minute

// sweep removes what belongs to no server: the data of servers that another
// plane deleted, which were seen with their resource, and those of requests
// that failed. Other directories are only told of: they may be what a store
// that was restored has forgotten.
func (l *locals) sweep(now time.Time, mine map[string]bool) {
	found, err := os.ReadDir(l.cfg.Dir)
	if l.cfg.Dir == "" || err != nil {
		return
	}
	for _, e := range found {
		name, instance, ok := cutLast(e.Name(), "-")
		if !ok || !e.IsDir() || !instanceForm.MatchString(instance) {
			continue
		}
		place := &localPlace{Plane: l.cfg.Plane, Instance: instance}
		if mine[instance] {
			l.keep(name, place)
			continue
		}
		s := l.server(instance)
		s.mu.Lock()
		kept := s.kept
		s.mu.Unlock()
		fresh, err := os.Stat(filepath.Join(l.cfg.Dir, e.Name()+".new"))
		if kept || err == nil && now.Sub(fresh.ModTime()) > localLeftOver {
			l.remove(name, place)
		} else if err != nil {
			l.log.Warn("connector: the data of a PostgreSQL server belong to no resource; remove the directory if they are not needed", "directory", e.Name())
		}
	}
}

func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}
