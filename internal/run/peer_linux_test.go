package run

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// accept makes a connection from this process and returns the server's end.
func accept(t *testing.T, network, addr string) net.Conn {
	t.Helper()
	l, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial(network, l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestPeerProcess(t *testing.T) {
	pid, err := PeerProcess(accept(t, "tcp4", "127.0.0.1:0"))
	if err != nil || pid != os.Getpid() {
		t.Fatalf("pid %d, %v; want %d", pid, err, os.Getpid())
	}
}

// TestPeerTableAgrees: the fallback must find the socket netlink finds.
func TestPeerTableAgrees(t *testing.T) {
	c := accept(t, "tcp4", "127.0.0.1:0")
	there, _ := addrPort(c.RemoteAddr())
	here, _ := addrPort(c.LocalAddr())
	want, err := tableInode("/proc/net/tcp", there, here)
	if err != nil {
		t.Fatal(err)
	}
	if !holds(os.Getpid(), want) {
		t.Fatal("the table's socket is not ours")
	}
	if answer, err := diag(there, here); err == nil && inodeOf(answer) != want {
		t.Fatalf("netlink says %d, the table %d", inodeOf(answer), want)
	}
}

func TestSearchTable(t *testing.T) {
	text := "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n" +
		"   0: 0100007F:1F90 0100007F:D431 01 00000000:00000000 00:00000000 00000000  1000        0 4242 1\n"
	if n, err := searchTable(text, "0100007F:1F90", "0100007F:D431"); n != 4242 || err != nil {
		t.Fatal(n, err)
	}
	if _, err := searchTable(text, "0100007F:1F91", "0100007F:D431"); err == nil {
		t.Fatal("found a socket that is not there")
	}
}

func TestIsDescendant(t *testing.T) {
	c := exec.Command("sleep", "60")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Process.Kill(); _ = c.Wait() }()
	for _, x := range []struct {
		pid, of int
		want    bool
	}{{c.Process.Pid, os.Getpid(), true}, {os.Getpid(), os.Getpid(), true}, {os.Getpid(), c.Process.Pid, false}, {1, os.Getpid(), false}, {0, 0, false}, {1 << 30, 1, false}} {
		if got := IsDescendant(x.pid, x.of); got != x.want {
			t.Errorf("IsDescendant(%d, %d) = %v", x.pid, x.of, got)
		}
	}
}

// TestStrangersAreRefused: this test is not a process the run started, and
// knows the header all the same.
func TestStrangersAreRefused(t *testing.T) {
	p := newPlane(t)
	r := start(t, p, Config{Argv: []string{"/bin/sh", "-c", "echo $IDENTITY_ENDPOINT; echo $IDENTITY_HEADER; exec sleep 60"}})
	endpoint, header := r.line(), r.line()
	req, _ := http.NewRequest(http.MethodGet, endpoint+"?api-version=2019-08-01&resource=x", nil)
	req.Header.Set("X-IDENTITY-HEADER", header)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if resp.StatusCode != 403 || !strings.Contains(string(b), `"statusCode":403`) || p.asked() != 0 {
		t.Fatalf("%d %s, %d tokens asked", resp.StatusCode, b, p.asked())
	}
	if !strings.Contains(r.log.String(), "a process that the app did not start") {
		t.Error("no record of it in the log")
	}
}

// TestOrphansStayTheApps: the child ends at once, and what it left behind is
// adopted. With no child left the run would end, so a second keeps it.
func TestOrphansStayTheApps(t *testing.T) {
	p := newPlane(t)
	exe, _ := os.Executable()
	c := exec.Command(exe, "supervise", p.dir, "/bin/sh", "-c",
		fmt.Sprintf("%s app orphan https://vault.azure.net; read line", exe))
	in, _ := c.StdinPipe()
	out, _ := c.StdoutPipe()
	c.Stderr = os.Stderr
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	s := bufio.NewScanner(out)
	if !s.Scan() || !strings.HasPrefix(s.Text(), "200 ") {
		t.Errorf("the orphan got %q", s.Text())
	}
	fmt.Fprintln(in, "end")
	if err := c.Wait(); err != nil {
		t.Error(err)
	}
}
