//go:build !linux && !darwin

package server

import "net"

// ownPeer trusts the rights of the socket's file: this system names no peer.
func ownPeer(net.Conn) (pid int, err error) { return 0, nil }
