package run

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// terminal opens a pseudo-terminal.
func terminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close() })
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if slave, err = os.OpenFile(fmt.Sprint("/dev/pts/", n), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { slave.Close() })
	return master, slave
}

// TestTerminal: under a shell with job control the app may read the terminal,
// Ctrl-C reaches it, and Ctrl-Z gives the shell back until fg.
func TestTerminal(t *testing.T) {
	p := newPlane(t)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	master, slave := terminal(t)
	c := exec.Command("/bin/bash", "--norc", "--noprofile", "-i")
	c.Env = append(os.Environ(), "PS1=", "TERM=dumb")
	c.Stdin, c.Stdout, c.Stderr = slave, slave, slave
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	slave.Close()
	hung := time.AfterFunc(20*time.Second, func() { _ = c.Process.Kill(); master.Close() })
	t.Cleanup(func() { hung.Stop(); _ = c.Process.Kill(); _ = c.Wait() })
	lines := bufio.NewScanner(master)
	until := func(want string) {
		t.Helper()
		for lines.Scan() {
			if strings.Contains(lines.Text(), want) {
				return
			}
		}
		t.Fatalf("the terminal never showed %q", want)
	}
	fmt.Fprintf(master, "%s supervise %s /bin/bash -c 'printf %%s%%s\\\\n app- up; read l; printf %%s%%s\\\\n got- $l; exec %s app serve'\n", exe, p.dir, exe)
	until("app-up") // the typed line, which the terminal repeats, has it in two pieces
	fmt.Fprintln(master, "hello")
	until("got-hello")
	until("start")
	fmt.Fprint(master, "\x03")
	until("signal interrupt")
	fmt.Fprint(master, "\x1a")
	until("Stopped")
	fmt.Fprintf(master, "printf %%s%%s\\\\n ba ck\n")
	until("back")
	fmt.Fprintln(master, "fg")
	until("signal continued")
	fmt.Fprint(master, "\x03")
	until("signal interrupt")
	fmt.Fprint(master, "\x1a")
	until("Stopped")
	fmt.Fprintln(master, "kill %1; fg")
	until("signal terminated")
}
