package server

import (
	"errors"
	"net"
	"os/exec"
	"syscall"
)

// listenLinkLocal binds the metadata address. A machine that lacks it gets it
// on its loopback interface, if this process may do that.
func listenLinkLocal(address string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	if !errors.Is(err, syscall.EADDRNOTAVAIL) {
		return l, err
	}
	host, _, _ := net.SplitHostPort(address)
	if out, ierr := exec.Command("ip", "addr", "add", host+"/32", "dev", "lo").CombinedOutput(); ierr != nil {
		return nil, errors.New("the address is not on this machine and cannot be added: " + firstLine(out, ierr))
	}
	return net.Listen("tcp", address)
}

func firstLine(out []byte, err error) string {
	for i, c := range out {
		if c == '\n' {
			return string(out[:i])
		}
	}
	return err.Error()
}

func alive(pid int) bool { return syscall.Kill(pid, 0) != syscall.ESRCH }
