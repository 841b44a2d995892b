package site

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/hawser/hawser/internal/arm"
	"github.com/hawser/hawser/internal/authority"
	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/directory"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/seal"
	"github.com/hawser/hawser/internal/store"
	"github.com/hawser/hawser/internal/vault"
)

// The ARM types of this package.
const (
	Type     = "Microsoft.Web/sites"
	PlanType = "Microsoft.Web/serverfarms"
)

var (
	actionEnvironment = guard.Control(Type + "/runtimeEnvironment/action")
	actionToken       = guard.Control(Type + "/runtimeToken/action")
	actionReadConfig  = guard.Control(Type + "/config/read")
	actionWriteConfig = guard.Control(Type + "/config/write")
)

// Config is what the apps of a plane stand on. All but Clock, Log and the
// limits are needed. The others must have been made before New is called:
// their caches must hear of a change before those who wait here do.
type Config struct {
	Store     *store.Store
	Guard     *guard.Guard
	Sealer    *seal.Sealer
	Directory *directory.Directory
	Vaults    *vault.Vaults
	Authority *authority.Authority
	Names     az.Names
	Clock     az.Clock     // nil: the real one
	Log       *slog.Logger // nil: none
	// TokenRate is how many tokens a second one identity gets; 0 means
	// DefaultTokenRate, below 0 any number.
	TokenRate float64
	// CheckAuth says whether an app's authsettingsV2 can be honoured; nil refuses
	// them all.
	CheckAuth func(raw []byte) error
	// Announce notes where a process of an app listens, as a body of the action
	// upstream says; nil refuses that.
	Announce func(ctx context.Context, site az.ID, body []byte) error
	// ReferenceTimeout bounds the reading of one Key Vault reference; 0 means
	// DefaultReferenceTimeout.
	ReferenceTimeout time.Duration
}

// Sites is all apps of a plane. Its methods may be called concurrently.
type Sites struct {
	cfg    Config
	sites  *arm.Type[properties]
	plans  *arm.Type[plan]
	hub    *hub
	limit  *limiter
	closed chan struct{}
	end    sync.Once // closes closed

	mu      sync.Mutex           // guards known and waiting
	known   map[string]*snapshot // by folded site id
	waiting map[string]int       // requests that wait, by folded site id
}

// New makes the apps of a plane. Register gives them an address.
func New(cfg Config) *Sites {
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.TokenRate == 0 {
		cfg.TokenRate = DefaultTokenRate
	}
	if cfg.ReferenceTimeout == 0 {
		cfg.ReferenceTimeout = DefaultReferenceTimeout
	}
	s := &Sites{cfg: cfg, hub: newHub(), limit: newLimiter(cfg.TokenRate), closed: make(chan struct{}),
		known: map[string]*snapshot{}, waiting: map[string]int{}}
	s.sites = arm.Define(Type, versions, s.siteHooks())
	s.plans = arm.Define(PlanType, versions, arm.Hooks[plan]{Check: checkPlan, View: viewPlan})
	cfg.Store.Listen(s.hub.changed)
	return s
}

// versions are the api-versions that az 2.45 and azurerm send
// (wire/arm-graph.md §4, §8); any other is served, too.
var versions = []string{"2022-03-01", "2023-12-01", "2021-01-01", "2020-09-01"}

// Register adds the types and the routes beside them to the front door.
func (s *Sites) Register(api *arm.API) {
	api.Register(s.Types()...)
	s.Handle(api)
}

// Types are the ARM types of apps.
func (s *Sites) Types() []arm.AnyType { return []arm.AnyType{s.plans, s.sites} }

// Handle adds the routes that are no part of a type: those of the provider,
// and those of Key Vault references, whose addresses are deeper than a
// document's.
func (s *Sites) Handle(api *arm.API) {
	var everybody guard.Action
	api.Handle(http.MethodPost, "/subscriptions/{subscription}/providers/Microsoft.Web/checknameavailability", everybody, s.checkName)
	api.Handle(http.MethodGet, "/providers/Microsoft.Web/webAppStacks", everybody, stacks)
	s.authRoutes(api)
	for _, kind := range []string{kindSettings, kindConnections} {
		base := "{scope}/config/configreferences/" + kind
		api.Handle(http.MethodGet, base, actionReadConfig, s.referenceRoute(kind))
		api.Handle(http.MethodGet, base+"/{key}", actionReadConfig, s.referenceRoute(kind))
		api.Handle(http.MethodPost, base+"/refresh", actionWriteConfig, s.refreshRoute(kind))
	}
}

// Close ends the requests that wait for a change.
func (s *Sites) Close() error {
	s.end.Do(func() { close(s.closed) })
	return nil
}

// load reads a site for the plane's own needs; NotFound if there is none.
func (s *Sites) load(ctx context.Context, id az.ID) (*arm.Resource[properties], error) {
	r, err := s.sites.Load(ctx, id)
	if err == nil && r == nil {
		err = az.Errorf(az.NotFound, "ResourceNotFound", "The app '%s' was not found. Create it, or check its name and resource group.", id.Name())
	}
	return r, err
}
