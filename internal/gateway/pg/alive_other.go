//go:build !unix

package pg

import "net"

// alive asks the server, because there is no way to look without reading.
func alive(c net.Conn) bool {
	b := backend{conn: c}
	return b.reset(false) == nil
}
