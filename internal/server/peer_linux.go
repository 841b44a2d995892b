package server

import (
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// ownPeer returns the process at the other end of a Unix socket if it belongs
// to the plane's own user or to root.
func ownPeer(c net.Conn) (pid int, err error) {
	raw, err := c.(*net.UnixConn).SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var serr error
	if err := raw.Control(func(fd uintptr) { cred, serr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return 0, err
	}
	if serr != nil {
		return 0, serr
	}
	if cred.Uid != 0 && int(cred.Uid) != os.Geteuid() {
		return 0, fmt.Errorf("user %d is not the plane's", cred.Uid)
	}
	return int(cred.Pid), nil
}
