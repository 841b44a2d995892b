//go:build !unix

package gateway

import "net"

// Silent cannot look without reading on this system.
func Silent(net.Conn) (silent, known bool) { return false, false }
