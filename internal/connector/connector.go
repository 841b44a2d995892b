package connector

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hawser/hawser/internal/arm"
	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/directory"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/site"
	"github.com/hawser/hawser/internal/store"
	"github.com/hawser/hawser/internal/vault"
)

// The resource types of this package.
const (
	ServerType        = "Microsoft.DBforPostgreSQL/flexibleServers"
	DatabaseType      = ServerType + "/databases"
	AdministratorType = ServerType + "/administrators"
	FirewallRuleType  = ServerType + "/firewallRules"
	PrincipalType     = ServerType + "/principals" // ours: Azure keeps these in the server
	LinkerType        = "Microsoft.ServiceLinker/linkers"
	DryRunType        = "Microsoft.ServiceLinker/dryruns"
)

// Config is what a Connector is made of. All but Clock, Log and RotateAfter
// are needed.
type Config struct {
	Store     *store.Store
	Guard     *guard.Guard
	API       *arm.API // where its types are registered
	Directory *directory.Directory
	Sites     *site.Sites
	Vaults    *vault.Vaults
	Names     az.Names
	Clock     az.Clock
	Log       *slog.Logger
	// Endpoint says where an app reaches a server's gateway: <server>.postgres.D
	// where names resolve, 127.0.0.1 where they don't, and the gateway's port.
	Endpoint func(kind Kind, server string) (host string, port int)
	// RotateAfter is how old a backend password may get; 0 means DefaultRotateAfter.
	RotateAfter time.Duration
	// Local says where the plane may run servers of its own.
	Local Local
}

// DefaultRotateAfter is how old a backend password gets. Nobody but the plane
// knows it; but PostgreSQL lets every session set its own role's password, and
// this bounds how long one set that way, past the gateway, is good for.
const DefaultRotateAfter = 24 * time.Hour

// Connector is Service Connector for PostgreSQL. Its methods may be called
// concurrently.
type Connector struct {
	cfg            Config
	servers        *arm.Type[serverProperties]
	databases      *arm.Type[databaseProperties]
	administrators *arm.Type[administratorProperties]
	firewall       *arm.Type[firewallProperties]
	principals     principalTypes // of every kind of server
	linkers        *arm.Type[linkerProperties]
	dryRuns        *arm.Type[dryRunProperties]
	targets
	locals *locals

	known atomic.Pointer[knownServers] // nil: to be read
	mu    sync.Mutex                   // guards gen and the writing of known
	gen   uint64                       // counts changes of servers
	roles roleCache
}

// New makes a connector. Register gives it an address, and Run is to be
// started by whoever made it.
func New(cfg Config) *Connector {
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.RotateAfter == 0 {
		cfg.RotateAfter = DefaultRotateAfter
	}
	c := &Connector{cfg: cfg, locals: newLocals(cfg.Local, cfg.Log)}
	c.servers, c.databases, c.firewall = c.serverType(), c.databaseType(), c.firewallType()
	c.administrators, c.principals = c.administratorType(), c.principalTypesOf()
	c.linkers, c.dryRuns = c.linkerType(), c.dryRunType()
	c.makeTargets()
	cfg.Store.Listen(c.note)
	return c
}

// Register adds the types and the routes beside them to the front door.
func (c *Connector) Register(api *arm.API) {
	api.Register(c.Types()...)
	c.routes(api)
}

// Types are the ARM types of servers and connections. A cascade deletes what
// was registered last first.
func (c *Connector) Types() []arm.AnyType {
	out := append(c.targetTypes(), c.servers, c.databases, c.firewall)
	out = append(out, c.principals.any()...)
	return append(out, c.administrators, c.linkers, c.dryRuns)
}

const (
	// sweepEvery is how often connections that were left half made are looked
	// for, and roles whose server was away when they should have been dropped.
	sweepEvery = time.Minute
	// fullEvery is how often every role is asked whether what uses it is still
	// there, and how old its password is.
	fullEvery = time.Hour
)

// Run does the connector's own work until ctx ends. Of several planes one does
// it at a time.
func (c *Connector) Run(ctx context.Context) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	holder := az.NewGUID()
	var full time.Time
	for {
		now := c.cfg.Clock()
		if err := c.sweepLocals(ctx, now); err != nil && ctx.Err() == nil {
			c.cfg.Log.Warn("connector: the plane's own database servers could not be looked after; it will be tried again", "error", err)
		}
		taken, err := c.cfg.Store.TakeLease(ctx, "connector/sweep", holder, az.MicrosOf(now.Add(2*sweepEvery)))
		if err == nil && taken {
			all := now.Sub(full) > fullEvery
			if err = c.sweep(ctx, all); all {
				full = now
				err = errors.Join(err, c.RotateBackendPasswords(ctx))
			}
		}
		if err != nil && ctx.Err() == nil {
			c.cfg.Log.Warn("connector: not every role could be looked after; it will be tried again", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
