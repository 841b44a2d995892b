package dbtest

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"time"
)

// startWait bounds the wait for a server that is starting.
const startWait = 30 * time.Second

// guardian runs a server until its standard input ends, which it does when the
// test program ends, in whatever way; then it kills the server and, if nobody
// has asked it to keep it, removes the folder.
const guardian = `trap "" INT TERM HUP
dir=$1; shift
"$@" >>"$dir/log" 2>&1 </dev/null & pid=$!
read order
kill -9 $pid 2>/dev/null; wait $pid 2>/dev/null
[ "$order" = keep ] || rm -rf "$dir"`

// guard is a running server.
type guard struct {
	cmd   *exec.Cmd
	stdin *os.File
}

func startGuard(dir, command string, args ...string) (*guard, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	cmd := exec.Command("/bin/sh", append([]string{"-c", guardian, "sh", dir, command}, args...)...)
	cmd.Dir, cmd.Stdin = dir, r
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return &guard{cmd, w}, nil
}

// end kills the server and keeps its folder.
func (g *guard) end() {
	if g == nil { // it never started
		return
	}
	_, _ = g.stdin.WriteString("keep\n")
	_ = g.stdin.Close()
	_ = g.cmd.Wait()
}

// await waits until ready says that a new connection to addr is served.
func await(network, addr, log string, ready func(net.Conn) error) error {
	var err error
	for deadline := time.Now().Add(startWait); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		var c net.Conn
		if c, err = net.Dial(network, addr); err != nil {
			continue
		}
		_ = c.SetDeadline(time.Now().Add(5 * time.Second))
		err = ready(c)
		_ = c.Close()
		if err == nil {
			return nil
		}
	}
	text, _ := os.ReadFile(log)
	return fmt.Errorf("the server at %s does not start: %w\n%s", addr, err, text)
}
