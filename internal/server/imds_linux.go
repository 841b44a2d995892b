package server

import (
	"bytes"
	"errors"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

// listenLinkLocal binds the metadata address. A machine that lacks it gets it
// on its loopback interface, if this process may do that, until undo.
func listenLinkLocal(address string) (l net.Listener, undo func(), err error) {
	undo = func() {}
	l, err = net.Listen("tcp", address)
	if !errors.Is(err, syscall.EADDRNOTAVAIL) {
		return l, undo, err
	}
	host, _, _ := net.SplitHostPort(address)
	if out, ierr := exec.Command("ip", "addr", "add", host+"/32", "dev", "lo").CombinedOutput(); ierr != nil {
		return nil, undo, errors.New("the address is not on this machine and cannot be added: " + firstLine(out, ierr))
	}
	undo = func() { _ = exec.Command("ip", "addr", "del", host+"/32", "dev", "lo").Run() }
	if l, err = net.Listen("tcp", address); err != nil {
		undo()
	}
	return l, undo, err
}

func firstLine(out []byte, err error) string {
	for i, c := range out {
		if c == '\n' {
			return string(out[:i])
		}
	}
	return err.Error()
}

// born returns when a process was started, in the kernel's own words; "" if
// there is none. The program's name before it may hold anything, so the last
// parenthesis counts. Source: proc_pid_stat(5), field 22.
func born(pid int) string {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return ""
	}
	const starttime, first = 22, 3
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(f) <= starttime-first {
		return ""
	}
	return f[starttime-first]
}
