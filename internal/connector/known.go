package connector

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/store"
)

// served is a server as the gateway needs it.
type served struct {
	id    az.ID
	fam   *family
	addr  string
	tls   TLS
	entra bool
	local *localPlace // the plane runs it, and starts it when it is needed
	none  bool        // nothing stands behind it
	// unproved: it may ask for no password.
	unproved bool
}

// ofServer reports whether a folded id is that of a server or below one.
func ofServer(key string) bool {
	return slices.ContainsFunc(families, func(f *family) bool { return strings.Contains(key, f.path()) })
}

func (c *Connector) forgetServers() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gen++
	c.known.Store(nil)
}

// knownServers are the servers by folded name, by kind.
type knownServers map[Kind]map[string]*served

func (c *Connector) readServers(ctx context.Context) (*knownServers, error) {
	c.mu.Lock()
	gen := c.gen
	c.mu.Unlock()
	all := knownServers{}
	for _, f := range families {
		rows, err := c.cfg.Store.Resources(ctx, store.ResourceQuery{Type: string(f.kind)})
		if err != nil {
			return nil, err
		}
		all[f.kind] = make(map[string]*served, len(rows))
		for _, row := range rows {
			if s := f.served(row); s != nil {
				all[f.kind][strings.ToLower(row.ID.Name())] = s
			}
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gen == gen { // else it changed while it was read, and the next one reads again
		c.known.Store(&all)
	}
	return &all, nil
}

// takesTokens reports whether logins by token are turned on.
func takesTokens(f *family, a *authConfig, redis json.RawMessage) bool {
	if f.kind == Redis {
		return takesRedisTokens(redis)
	}
	return a == nil || a.ActiveDirectoryAuth != disabled
}

// served reads a server's resource. Nil for one that cannot be read: it lets
// nobody in.
func (f *family) served(row store.Resource) *served {
	var b struct {
		Properties struct {
			Hawser     *realServer     `json:"hawser"`
			AuthConfig *authConfig     `json:"authConfig"`
			Redis      json.RawMessage `json:"redisConfiguration"`
		} `json:"properties"`
	}
	if err := json.Unmarshal(row.Body, &b); err != nil {
		return nil
	}
	h := b.Properties.Hawser
	if h == nil {
		return &served{id: row.ID, fam: f, none: true}
	}
	cfg, err := h.tls()
	if err != nil {
		return nil
	}
	if h.Local != nil {
		cfg.Mode = sslDisable // a socket of the plane's own
	}
	return &served{id: row.ID, fam: f, addr: h.addr(f.kind), tls: cfg, local: h.Local, unproved: h.Unproved || h.Local != nil,
		entra: takesTokens(f, b.Properties.AuthConfig, b.Properties.Redis)}
}
