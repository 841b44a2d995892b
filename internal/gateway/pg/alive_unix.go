//go:build unix

package pg

import (
	"errors"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// alive reports whether an idle connection is still open and silent. Anything
// to read means that the server has closed it or said something unasked.
func alive(c net.Conn) bool {
	sc, ok := bottom(c).(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	silent := false
	err = raw.Control(func(fd uintptr) {
		var b [1]byte
		_, _, rerr := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		silent = errors.Is(rerr, unix.EAGAIN)
	})
	return err == nil && silent
}
