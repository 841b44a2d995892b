//go:build !linux

package gateway

import (
	"errors"
	"net"
)

// parker does not exist outside Linux: idle sessions keep their goroutines and
// small buffers there.
type parker struct{}

func newParker() (*parker, error) { return nil, nil }

func (*parker) close() {}

func (*parker) add(func(), net.Conn, net.Conn) (uint64, error) {
	return 0, errors.ErrUnsupported
}

func (*parker) remove(uint64) bool { return false }
