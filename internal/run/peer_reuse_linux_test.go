package run

import (
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
)

// connected starts a program that connects to l and stays, and returns the
// connection.
func connected(t *testing.T, l net.Listener) (net.Conn, *exec.Cmd) {
	t.Helper()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	cmd := exec.Command("bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/"+port+"; read x <&3")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c, cmd
}

// The number of a child that has ended may be another process's.
func TestNumberOfTheChildIsAnothers(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, cmd := connected(t, l)
	tree := newTree(true)
	_ = tree.start(func() (int, error) { return cmd.Process.Pid, nil })
	if pid, err := tree.find(c); pid != cmd.Process.Pid || err != nil {
		t.Fatalf("the child: %d, %v", pid, err)
	}
	tree.born--
	if pid, err := tree.find(c); !errors.Is(err, errNotOurs) {
		t.Errorf("a process of the same number: %d, %v", pid, err)
	}
}

// The number of a process that opened a Unix connection, handed it on and
// ended may be one of the app's by now. Only root can choose numbers.
func TestNumberOfTheOpenerIsAnothers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	open := exec.Command("python3", "-c", `import os, socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
if os.fork() == 0:
    s.recv(1)
`, path)
	if err := open.Run(); err != nil { // what it left behind holds the connection
		t.Fatal(err)
	}
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	want := open.Process.Pid
	for range 50 {
		if err := os.WriteFile("/proc/sys/kernel/ns_last_pid", []byte(strconv.Itoa(want-1)), 0); err != nil {
			break // not root
		}
		cmd := exec.Command("cat")
		in, _ := cmd.StdinPipe()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = in.Close(); _ = cmd.Wait() }()
		if cmd.Process.Pid == want {
			break
		}
	}
	if pid, err := newTree(false).find(c); !errors.Is(err, errNotOurs) {
		t.Errorf("a process that opened nothing: %d, %v", pid, err)
	}
	_, _ = io.WriteString(c, "end")
}
