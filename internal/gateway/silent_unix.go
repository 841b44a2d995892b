//go:build unix

package gateway

import (
	"errors"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// Silent reports whether an idle connection is still open and has nothing to
// read: something means that the server has closed it or said what nobody
// asked. known is false where there is no way to look without reading.
func Silent(c net.Conn) (silent, known bool) {
	sc, ok := Bottom(c).(syscall.Conn)
	if !ok {
		return false, true
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false, true
	}
	err = raw.Control(func(fd uintptr) {
		var b [1]byte
		_, _, rerr := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		silent = errors.Is(rerr, unix.EAGAIN)
	})
	return err == nil && silent, true
}
