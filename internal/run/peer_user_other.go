//go:build !linux

package run

import (
	"errors"
	"net"
)

// PeerUsers cannot be answered on this system.
func PeerUsers(net.Conn) ([]uint32, error) {
	return nil, errors.New("cannot find the user behind a connection on this system")
}

// ClientUser cannot be answered on this system.
func ClientUser(net.Conn) (uint32, error) {
	return 0, errors.New("cannot find the user behind a connection on this system")
}
