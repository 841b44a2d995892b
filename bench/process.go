package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of processor time in /proc: 100 a second on every Linux.
const tick = 10 * time.Millisecond

// processorTime is what processes have used so far, 0 where /proc is not.
func processorTime(pids []int) time.Duration {
	var sum time.Duration
	for _, pid := range pids {
		b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		if err != nil {
			continue
		}
		f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
		if len(f) < 13 {
			continue
		}
		user, _ := strconv.Atoi(f[11])
		system, _ := strconv.Atoi(f[12])
		sum += time.Duration(user+system) * tick
	}
	return sum
}

// residentKiB is a process's resident memory.
func residentKiB(pid int) float64 {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			v, _ := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return v
		}
	}
	return 0
}

func loadAverage() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Fields(string(b))[0]
}

// binaries finds what is measured and the bare servers: built by make bench.
func binaries() (hawser, floor string, err error) {
	hawser, floor = "bin/hawser", "bin/bench-floor"
	if v := os.Getenv("HAWSER_BIN"); v != "" {
		hawser = v
	}
	if v := os.Getenv("BENCH_FLOOR"); v != "" {
		floor = v
	}
	for _, p := range []*string{&hawser, &floor} {
		if *p, err = filepath.Abs(*p); err != nil {
			return "", "", err
		}
		if _, err := os.Stat(*p); err != nil {
			return "", "", fmt.Errorf("cannot find %s: run make bench in the repository", *p)
		}
	}
	return hawser, floor, nil
}

// server is a child process that says "ready …" when it serves.
type server struct {
	cmd   *exec.Cmd
	ready string // what stood after "ready "
	log   *bytes.Buffer
	ended chan struct{}
}

const startLimit = 60 * time.Second

// serve starts a child and waits for its line.
func serve(argv ...string) (*server, error) {
	s := &server{cmd: exec.Command(argv[0], argv[1:]...), log: &bytes.Buffer{}, ended: make(chan struct{})}
	s.cmd.Stderr = s.log
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	lines := make(chan string, 1)
	go s.watch(out, lines)
	select {
	case line, ok := <-lines:
		if !ok {
			return nil, fmt.Errorf("%s ended instead of serving:\n%s", strings.Join(argv, " "), s.log)
		}
		s.ready = line
		return s, nil
	case <-time.After(startLimit):
		s.stop()
		return nil, errors.New(argv[0] + " does not serve")
	}
}

// watch ends with the process.
func (s *server) watch(out io.Reader, lines chan<- string) {
	for r := bufio.NewScanner(out); r.Scan(); {
		if line, ok := strings.CutPrefix(r.Text(), "ready "); ok {
			select {
			case lines <- line:
			default:
			}
		}
	}
	_ = s.cmd.Wait()
	close(lines)
	close(s.ended)
}

func (s *server) pid() int { return s.cmd.Process.Pid }

func (s *server) stop() {
	_ = s.cmd.Process.Signal(os.Interrupt)
	select {
	case <-s.ended:
	case <-time.After(10 * time.Second):
		_ = s.cmd.Process.Kill()
		<-s.ended
	}
}

// startFloor starts one of the bare servers; it ends with the part.
func (b *bench) startFloor(args ...string) (*server, error) {
	s, err := serve(append([]string{b.floor}, args...)...)
	if err == nil {
		b.after(s.stop)
	}
	return s, err
}

// output runs a program to its end and returns what it printed.
func (b *bench) output(argv ...string) (string, error) { return b.outputIn("", argv...) }

// outputIn is output in a directory; "" is the one we are in.
func (b *bench) outputIn(dir string, argv ...string) (string, error) {
	cmd := exec.CommandContext(b.ctx, argv[0], argv[1:]...)
	cmd.Dir = dir
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w\n%s%s", filepath.Base(argv[0])+" "+strings.Join(argv[1:min(4, len(argv))], " "), err, out, &errs)
	}
	return strings.TrimSpace(string(out)), nil
}

// joined writes files into one of the part's directory.
func (b *bench) joined(name string, files ...string) (string, error) {
	var all []byte
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			return "", err
		}
		all = append(all, text...)
	}
	out := filepath.Join(b.dir, name)
	return out, os.WriteFile(out, all, 0o600)
}

// psql runs statements one by one.
func (b *bench) psql(url string, statements ...string) (string, error) {
	argv := []string{"psql", url, "-XAtq", "-v", "ON_ERROR_STOP=1"}
	for _, s := range statements {
		argv = append(argv, "-c", s)
	}
	return b.output(argv...)
}

// listenAnywhere takes a free port of this machine.
func listenAnywhere() (net.Listener, error) { return net.Listen("tcp", "127.0.0.1:0") }
