//go:build !linux

package run

import (
	"errors"
	"net"
)

// peersKnown says whether the process behind a connection can be found.
const peersKnown = false

// PeerProcess cannot be answered on this system.
func PeerProcess(net.Conn) (pid int, err error) {
	return 0, errors.New("cannot find the process behind a connection on this system")
}

// bornAt is not known on this system.
func bornAt(int) uint64 { return 0 }

// IsDescendant is false on this system: nothing is known.
func IsDescendant(pid, of int) bool { return false }

func (t *tree) find(c net.Conn) (int, error) { return PeerProcess(c) }
