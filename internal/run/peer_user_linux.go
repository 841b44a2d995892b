package run

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// diagUser is where struct inet_diag_msg has the socket's user.
// Source: linux/inet_diag.h.
const diagUser = unix.NLMSG_HDRLEN + 64

// PeerUsers says whose the other end of a TCP connection within this machine
// is: the users of the connected socket and of the one that listens there. Both
// count. Some kernels say root of a connection that nobody has accepted yet; and
// who accepts one may have stopped listening since.
func PeerUsers(c net.Conn) (users []uint32, err error) {
	there, ok1 := addrPort(c.RemoteAddr())
	here, ok2 := addrPort(c.LocalAddr())
	if !ok1 || !ok2 {
		return nil, errors.New("not a TCP connection")
	}
	nobody := netip.AddrPortFrom(netip.IPv4Unspecified(), 0)
	if there.Addr().Is6() {
		nobody = netip.AddrPortFrom(netip.IPv6Unspecified(), 0)
	}
	for _, other := range []netip.AddrPort{here, nobody} {
		u, err := socketUser(there, other)
		if err != nil {
			return nil, err
		}
		users = append(users, u)
	}
	return users, nil
}

// socketUser asks the kernel for exactly one socket's user.
func socketUser(src, dst netip.AddrPort) (uint32, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return 0, err
	}
	defer func() { _ = unix.Close(fd) }()
	timeout := unix.NsecToTimeval(int64(time.Second))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
		return 0, err
	}
	if err := unix.Sendto(fd, diagQuestion(src, dst), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return 0, err
	}
	var buf [1024]byte
	n, _, err := unix.Recvfrom(fd, buf[:], 0)
	if err != nil {
		return 0, err
	}
	if n < diagUser+4 || binary.NativeEndian.Uint16(buf[4:]) != byFamily {
		return 0, errNoSocket
	}
	return binary.NativeEndian.Uint32(buf[diagUser:]), nil
}
