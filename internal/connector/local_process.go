package connector

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// localProcess is a server that runs.
type localProcess struct {
	socket string
	pid    int
	done   <-chan struct{} // closed when it has ended; nil if it is not our child
	dir    string
}

func (p *localProcess) alive() bool {
	if p.done == nil {
		return localPID(p.dir) == p.pid && answers(p.socket)
	}
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// stop ends a server in order: sessions are cut, data are safe.
func (p *localProcess) stop() {
	interrupt(p.pid)
	deadline := time.Now().Add(localStop)
	for p.alive() {
		if time.Now().After(deadline) {
			quit(p.pid) // the next start recovers
			if p.done != nil {
				<-p.done
			}
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func answers(socket string) bool {
	conn, err := net.DialTimeout("unix", filepath.Join(socket, ".s.PGSQL.5432"), time.Second)
	if err == nil {
		_ = conn.Close()
	}
	return err == nil
}

// start runs a server until it takes connections.
func (l *locals) start(ctx context.Context, dir, socket string) (*localProcess, error) {
	if pid := localPID(dir); pid > 0 && answers(socket) {
		return &localProcess{socket: socket, pid: pid, dir: dir}, nil // a plane that was killed left it behind
	}
	log, err := openLocalLog(dir + ".log")
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()
	where := socket
	if socket == dir {
		where = "." // as the server sees it
	}
	p := &localProcess{socket: socket, dir: dir}
	if err := l.launch(p, log, where); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, localStart)
	defer cancel()
	for {
		switch {
		case localReady(dir, p.pid):
			return p, nil
		case !p.alive():
			return nil, fmt.Errorf("postgres ended while it started; see %s", log.Name())
		}
		select {
		case <-ctx.Done():
			p.stop()
			return nil, ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func openLocalLog(path string) (*os.File, error) {
	flags := os.O_CREATE | os.O_WRONLY | os.O_APPEND
	if info, err := os.Stat(path); err == nil && info.Size() > maxLocalLog {
		flags |= os.O_TRUNC
	}
	return os.OpenFile(path, flags, 0o600)
}

// launch starts the process on a thread that lives as long as the process does:
// where the system ends children with their parent, it means the thread.
func (l *locals) launch(p *localProcess, log *os.File, where string) error {
	l.mu.Lock()
	closed := l.closed
	l.mu.Unlock()
	if closed {
		return errors.New("the plane is about to stop")
	}
	cmd, release, err := localCommand(context.Background(), filepath.Join(l.bin, "postgres"), p.dir, nil,
		"-c", "listen_addresses=", "-k", where, "-c", "unix_socket_permissions=0700", "-c", "port=5432",
		"-c", "password_encryption=scram-sha-256", "-c", "max_connections=200", "-c", "log_min_error_statement=panic")
	if err != nil {
		return err
	}
	cmd.Stdout, cmd.Stderr = log, log
	started, done := make(chan error), make(chan struct{})
	go func() { // ends with the server, which stop ends
		runtime.LockOSThread()
		err := cmd.Start()
		release()
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
		close(done)
	}()
	if err := <-started; err != nil {
		return err
	}
	p.pid, p.done = cmd.Process.Pid, done
	return nil
}

// localPID is the process that postmaster.pid names; 0 for none.
func localPID(dir string) int {
	pid, _ := localLock(dir)
	return pid
}

// localReady reports whether the server takes connections. Source: PostgreSQL,
// src/include/utils/pidfile.h: line 1 is the pid, line 8 the status.
func localReady(dir string, pid int) bool {
	got, status := localLock(dir)
	return got == pid && status == "ready"
}

func localLock(dir string) (pid int, status string) {
	b, err := os.ReadFile(filepath.Join(dir, "postmaster.pid"))
	if err != nil {
		return 0, ""
	}
	lines := strings.Split(string(b), "\n")
	pid, _ = strconv.Atoi(strings.TrimSpace(lines[0]))
	if len(lines) > 7 {
		status = strings.TrimSpace(lines[7])
	}
	return pid, status
}

// localEnv is all that the server is told: nothing of the plane's environment,
// which may hold its secrets.
func localEnv() []string {
	return []string{"PATH=/usr/bin:/bin", "LC_ALL=C", "PGSYSCONFDIR=/nonexistent"}
}

func plainCommand(ctx context.Context, bin, dir string, password *os.File, args ...string) *exec.Cmd {
	args = append([]string{"-D", dir}, args...)
	if password != nil {
		args = append(args, "--pwfile", password.Name())
	}
	cmd := exec.CommandContext(ctx, bin, args...)
	cmd.Dir, cmd.Env = dir, localEnv()
	return cmd
}
