package mysql

import "github.com/hawser/hawser/internal/az"

// Warm says how many connections to a server were kept, and drops them.
func (g *Gateway) Warm(server az.ID) int { return g.pool.Drop(server.Key()) }

// Waiting says how many connections are kept.
func (g *Gateway) Waiting() int { return g.pool.Len() }
