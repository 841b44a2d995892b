// Package hawsertest runs a plane inside a test:
//
//	plane := hawsertest.Start(t)
//	client := plane.Client(t)
//
// The plane is the real one, with every check in force; it lives in a
// temporary directory, on free ports, and ends with the test.
package hawsertest

import (
	"context"
	"os"
	"testing"

	"github.com/hawser/hawser/client"
	"github.com/hawser/hawser/internal/server"
)

// Option changes how a plane is started.
type Option func(*server.Config)

// Store keeps the plane's data at a postgres:// URL instead of in SQLite; two
// planes with the same URL are two planes of one tenant.
func Store(url string) Option { return func(c *server.Config) { c.Store = url } }

// Dir keeps the plane's files in a directory that the test made (0700), so that
// a plane can be stopped and started again on them.
func Dir(dir string) Option { return func(c *server.Config) { c.Data = dir } }

// Plane is a running plane.
type Plane struct {
	// Info is what plane.json says: addresses, ids, the CA's files.
	Info client.Plane
	// Data is the plane's data directory: what --data and HAWSER_DATA take.
	Data string

	server *server.Server
}

// Start starts a plane that ends with the test. It fails the test if it cannot.
func Start(t testing.TB, options ...Option) *Plane {
	t.Helper()
	cfg := server.Config{Listen: "127.0.0.1:0", PG: "127.0.0.1:0", MySQL: "127.0.0.1:0", TDS: "127.0.0.1:0", Redis: "127.0.0.1:0", Admin: "127.0.0.1:0", Hosts: "off", IMDS: "off"}
	for _, o := range options {
		o(&cfg)
	}
	if cfg.Data == "" {
		// Not t.TempDir: the path of a Unix socket may have 100 characters.
		dir, err := os.MkdirTemp("", "hawser")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		cfg.Data = dir
	}
	s, err := server.Start(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	p := &Plane{Info: s.Plane(), Data: cfg.Data, server: s}
	t.Cleanup(p.Stop)
	return p
}

// Stop stops the plane; its data stay until the test ends.
func (p *Plane) Stop() { _ = p.server.Close() }

// Client returns a client that acts as the plane's administrator.
func (p *Plane) Client(t testing.TB) *client.Client {
	t.Helper()
	c, err := client.Open(client.Options{Data: p.Data})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}
