package tds

import (
	"net"

	"github.com/hawser/hawser/internal/gateway"
)

// scribed wraps a client's connection if its grant wants that.
func scribed(c net.Conn, grant gateway.Grant, b *backend) net.Conn { return c }
