//go:build !unix

package proxy

import (
	"errors"
	"net"
)

func listenPrivate(string) (net.Listener, error) {
	return nil, errors.New("cannot open a Unix socket that is one user's alone on this system: use --listen")
}

func listenShared(path string) (net.Listener, error) { return net.Listen("unix", path) }
