//go:build !linux

package server

import (
	"errors"
	"net"
)

// listenLinkLocal refuses: on this system nobody can tell which process asks,
// and the metadata address has no secret.
func listenLinkLocal(string) (l net.Listener, undo func(), err error) {
	return nil, nil, errors.New("this system cannot tell which process asks")
}

// born tells nothing: on this system nobody asks.
func born(int) string { return "" }
