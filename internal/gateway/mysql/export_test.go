package mysql

import "github.com/hawser/hawser/internal/az"

// Warm says how many connections to a server are kept, and drops them.
func (g *Gateway) Warm(server az.ID) int { return g.pool.Drop(server.Key()) }
