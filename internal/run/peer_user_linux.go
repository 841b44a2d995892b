package run

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
)

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
		answer, err := diag(there, other)
		if err != nil {
			return nil, err
		}
		users = append(users, binary.NativeEndian.Uint32(answer[diagUser:]))
	}
	return users, nil
}

var errLeftSocket = errors.New("the program at the other end has closed its socket")

// ClientUser says whose the other end of a TCP connection is that came from
// within this machine. A socket that its program has closed is nobody's, though
// what was sent by it may still be read: the kernel says root of it.
func ClientUser(c net.Conn) (uint32, error) {
	there, ok1 := addrPort(c.RemoteAddr())
	here, ok2 := addrPort(c.LocalAddr())
	if !ok1 || !ok2 {
		return 0, errors.New("not a TCP connection")
	}
	answer, err := diag(there, here)
	if err != nil {
		return 0, err
	}
	if inodeOf(answer) == 0 {
		return 0, errLeftSocket
	}
	return binary.NativeEndian.Uint32(answer[diagUser:]), nil
}
