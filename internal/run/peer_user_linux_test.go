package run

import (
	"bufio"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// TestPeerUsers asks about a program of another user, before and after it has
// taken the connection.
func TestPeerUsers(t *testing.T) {
	if addr := os.Getenv("HAWSER_TEST_LISTEN"); addr != "" {
		listenForTest(addr)
		return
	}
	want := uint32(os.Geteuid())
	cmd := exec.Command("/proc/self/exe", "-test.run", "^TestPeerUsers$")
	if want == 0 {
		want = 65534
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: want, Gid: want}}
	}
	for _, addr := range []string{"127.0.0.1:0", "0.0.0.0:0", "[::]:0"} {
		t.Run(addr, func(t *testing.T) {
			c := *cmd
			c.Env = append(os.Environ(), "HAWSER_TEST_LISTEN="+addr)
			out, err := c.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			in, err := c.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() { _ = in.Close(); _ = c.Wait() }()
			lines := bufio.NewScanner(out)
			if !lines.Scan() {
				t.Fatal("the other program does not listen")
			}
			_, port, err := net.SplitHostPort(strings.TrimSpace(lines.Text()))
			if err != nil {
				t.Fatal(err)
			}
			conn, err := net.Dial("tcp", "127.0.0.1:"+port)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			if users, err := PeerUsers(conn); err != nil || !slices.Contains(users, want) {
				t.Errorf("before it is taken: %v, %v, want %d", users, err, want)
			}
			_, _ = in.Write([]byte("\n"))
			lines.Scan()
			if users, err := PeerUsers(conn); err != nil || len(users) != 2 || users[0] != want || users[1] != want {
				t.Errorf("taken: %v, %v, want %d", users, err, want)
			}
		})
	}
}

// listenForTest says where it listens, and takes a connection when it is told.
func listenForTest(addr string) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		os.Exit(1)
	}
	_, _ = os.Stdout.WriteString(l.Addr().String() + "\n")
	in := bufio.NewReader(os.Stdin)
	_, _ = in.ReadString('\n')
	if c, err := l.Accept(); err == nil {
		defer func() { _ = c.Close() }()
	}
	_, _ = os.Stdout.WriteString("taken\n")
	_, _ = in.ReadString('\n')
}

// A program that has sent its commands and is gone is nobody's, not root's.
func TestClosedClientHasNoUser(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	if user, err := ClientUser(s); err != nil || int(user) != os.Geteuid() {
		t.Errorf("while it is there: %d, %v", user, err)
	}
	_, _ = c.Write([]byte("FLUSHALL\r\n"))
	_ = c.Close()
	if user, err := ClientUser(s); err == nil {
		t.Errorf("after it is gone: user %d", user)
	}
}
