package site

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"time"

	"github.com/hawser/hawser/internal/arm"
	"github.com/hawser/hawser/internal/az"
)

const (
	// maxWait is how long a request waits for a change. It stays below the
	// front door's own limit and what proxies leave alone.
	maxWait = 30 * time.Second
	// retryPassing is how soon a reference is read again whose failure no
	// change of the store will end.
	retryPassing = 2 * time.Second
	// maxTries bounds how often an environment is made again because the site
	// was written meanwhile.
	maxTries = 8
	// maxWaiting bounds the requests that wait at one site: one for each
	// process of the app, and no more than a caller gone wild should hold.
	maxWaiting = 1000
	// maxKnown bounds the sites whose last environment is remembered.
	maxKnown = 50_000
)

// Environment is what a process of a site sees at one moment.
type Environment struct {
	ETag       string            `json:"etag"`
	Unchanged  bool              `json:"unchanged"`
	Site       string            `json:"site"`
	SiteID     az.ID             `json:"siteId"`
	State      string            `json:"state,omitempty"`
	TenantID   string            `json:"tenantId"`
	Variables  []Variable        `json:"environment,omitempty"`
	References []ReferenceStatus `json:"references,omitempty"`
	Identities *Identities       `json:"identities,omitempty"`
	Authority  string            `json:"authority"`
	Tenant     string            `json:"tenant"`
	// Restarted changes when somebody asks for a restart, and the etag with it.
	Restarted az.Micros `json:"restarted,omitempty"`
}

// Identities are the managed identities of a site that exist.
type Identities struct {
	System *IdentityIDs  `json:"system"`
	User   []IdentityIDs `json:"user"`
}

// IdentityIDs are the names of one managed identity.
type IdentityIDs struct {
	ID          string `json:"id,omitempty"` // of a user-assigned identity
	PrincipalID string `json:"principalId"`
	ClientID    string `json:"clientId"`
}

// snapshot is what is remembered of a site's environment: no value, only what
// tells that nothing has changed. It holds as long as its watch has not fired.
type snapshot struct {
	etag    string
	refs    []ReferenceStatus
	watch   *watch
	passing bool // a failure may end without a change
}

// Environment returns a site's environment for a caller with the right
// Microsoft.Web/sites/runtimeEnvironment/action. With an etag it waits until
// the environment is another one, or until wait is over.
func (s *Sites) Environment(ctx context.Context, caller az.Principal, site az.ID, etag string, wait time.Duration) (*Environment, error) {
	if err := s.cfg.Guard.Check(ctx, caller, actionEnvironment, site); err != nil {
		return nil, err
	}
	r, err := s.load(ctx, site)
	if err != nil {
		return nil, err
	}
	return s.await(ctx, caller, r, etag, wait)
}

// await returns the environment as soon as its etag is not the given one. The
// caller's right was checked; after each change it is checked again.
func (s *Sites) await(ctx context.Context, caller az.Principal, r *arm.Resource[properties], etag string, wait time.Duration) (*Environment, error) {
	id := r.ID
	if wait > 0 {
		if err := s.queue(id); err != nil {
			return nil, err
		}
		defer s.leave(id)
	}
	timer := time.NewTimer(min(max(wait, 0), maxWait))
	defer timer.Stop()
	for {
		snap := s.valid(id)
		if snap == nil || snap.etag != etag {
			env, made, err := s.make(ctx, r)
			if err != nil {
				return nil, err
			}
			// An app that runs keeps what it has while a failure lasts that is
			// not its owner's doing: it must not be restarted with less.
			if env.ETag != etag && (etag == "" || !made.passing) {
				return env, nil
			}
			snap = made
		}
		r = nil // no settings stay in memory while nothing happens
		changed, err := s.pause(ctx, snap, timer)
		if err != nil {
			return nil, err
		}
		if !changed {
			return s.unchanged(id, etag), nil
		}
		if err := s.cfg.Guard.Check(ctx, caller, actionEnvironment, id); err != nil {
			return nil, err
		}
		if r, err = s.load(ctx, id); err != nil {
			return nil, err
		}
	}
}

// pause waits until the snapshot may no longer hold, or the time is over.
func (s *Sites) pause(ctx context.Context, snap *snapshot, timer *time.Timer) (changed bool, err error) {
	var retry <-chan time.Time
	if snap.passing {
		t := time.NewTimer(retryPassing)
		defer t.Stop()
		retry = t.C
	}
	select {
	case <-snap.watch.fired:
		return true, nil
	case <-retry:
		s.hub.fire(snap.watch)
		return true, nil
	case <-timer.C:
		return false, nil
	case <-s.closed:
		return false, nil
	case <-ctx.Done():
		return false, az.Errorf(az.Unavailable, "ServiceUnavailable", "The request was ended while it waited for a change.").Because(ctx.Err())
	}
}

// queue counts a request that will wait; leave takes it out again.
func (s *Sites) queue(site az.ID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting[site.Key()] >= maxWaiting {
		e := az.Errorf(az.TooMany, "TooManyRequests", "%d requests wait for a change of the app '%s' already. Ask without waitSeconds, or later.", maxWaiting, site.Name())
		e.RetryAfter = retryPassing
		return e
	}
	s.waiting[site.Key()]++
	return nil
}

func (s *Sites) leave(site az.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting[site.Key()]--; s.waiting[site.Key()] == 0 {
		delete(s.waiting, site.Key())
	}
}

func (s *Sites) unchanged(site az.ID, etag string) *Environment {
	return &Environment{ETag: etag, Unchanged: true, Site: site.Name(), SiteID: site, TenantID: s.cfg.Names.Tenant,
		Authority: s.authorityHost(), Tenant: s.tenantName()}
}

// authorityHost is what AZURE_AUTHORITY_HOST says.
func (s *Sites) authorityHost() string { return s.cfg.Names.Origin(az.SurfaceLogin) + "/" }

// tenantName is what AZURE_TENANT_ID says: the alias or the GUID.
func (s *Sites) tenantName() string {
	if s.cfg.Names.ChallengeTenant != "" {
		return s.cfg.Names.ChallengeTenant
	}
	return az.AliasTenant
}

// make builds a site's environment of one moment. r may be older than that:
// at the end the site's version is compared, so that settings, identities and
// the secrets that were read in between belong together.
func (s *Sites) make(ctx context.Context, r *arm.Resource[properties]) (*Environment, *snapshot, error) {
	for range maxTries {
		watch := s.hub.join()
		env, snap, err := s.build(ctx, r, watch)
		if err != nil {
			s.hub.fire(watch)
			return nil, nil, err
		}
		row, ok, err := s.cfg.Store.Resource(ctx, r.ID)
		if err == nil && ok && row.ETag == r.ETag {
			return env, s.remember(r.ID, snap), nil
		}
		s.hub.fire(watch)
		if err != nil {
			return nil, nil, err
		}
		if r, err = s.load(ctx, r.ID); err != nil {
			return nil, nil, err
		}
	}
	return nil, nil, az.Errorf(az.Conflict, "AnotherOperationInProgress", "Other requests keep changing the app '%s'; try again.", r.ID.Name())
}

func (s *Sites) build(ctx context.Context, r *arm.Resource[properties], watch *watch) (*Environment, *snapshot, error) {
	d, err := documentOf(r)
	if err != nil {
		return nil, nil, err
	}
	who, err := s.identities(ctx, r)
	if err != nil {
		return nil, nil, err
	}
	sku, err := s.sku(ctx, r.Properties.ServerFarmID)
	if err != nil {
		return nil, nil, err
	}
	auth, err := authFacts(r, s.cfg.Names)
	if err != nil {
		return nil, nil, err
	}
	by, no := referenceIdentity(r, who)
	refs := s.resolve(ctx, r.ID, d, who, by, no)
	if err := ctx.Err(); err != nil {
		return nil, nil, az.Errorf(az.Unavailable, "ServiceUnavailable", "The request was ended before the app's references were read.").Because(err)
	}
	env := &Environment{Site: r.ID.Name(), SiteID: r.ID, State: r.Properties.State, TenantID: s.cfg.Names.Tenant,
		Variables:  variables(d.App, d.Connections, append(facts(r.ID, r.Location, sku, s.cfg.Names), auth...)),
		References: refs, Identities: shownIdentities(who), Authority: s.authorityHost(), Tenant: s.tenantName(),
		Restarted: r.Properties.Restarted}
	if env.ETag, err = s.etag(env); err != nil {
		return nil, nil, err
	}
	snap := &snapshot{etag: env.ETag, refs: refs, watch: watch}
	for i := range refs {
		snap.passing = snap.passing || refs[i].passing
	}
	s.hub.narrow(watch, dependencies(r, refs))
	return env, snap, nil
}

// etag is a keyed hash over everything, so that it tells a change of any value
// and nothing of the values.
func (s *Sites) etag(env *Environment) (string, error) {
	b, err := json.Marshal(env)
	if err != nil {
		return "", az.Errorf(az.Internal, "", "").Because(err)
	}
	return base64.RawURLEncoding.EncodeToString(s.cfg.Sealer.Hash("site/environment", b)), nil
}

// dependencies are the names of all that an environment was made of.
func dependencies(r *arm.Resource[properties], refs []ReferenceStatus) []string {
	names := []string{onResource(r.ID)}
	if id, err := az.ParseID(r.Properties.ServerFarmID); err == nil {
		names = append(names, onResource(id))
	}
	for _, oid := range principals(r.Identity) {
		names = append(names, onObject(oid))
	}
	seen := map[string]bool{}
	for i := range refs {
		if !refs[i].settled {
			continue
		}
		for _, n := range []string{onVault(refs[i].ref.Vault), onSecret(refs[i].ref.Vault, refs[i].ref.Secret), onAccess} {
			if !seen[n] {
				seen[n] = true
				names = append(names, n)
			}
		}
	}
	return names
}

// valid returns what is remembered of a site's environment if it still holds.
func (s *Sites) valid(site az.ID) *snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	snap := s.known[site.Key()]
	if snap == nil {
		return nil
	}
	if snap.watch.over() {
		delete(s.known, site.Key())
		return nil
	}
	return snap
}

// remember keeps a snapshot and returns the one that is kept: an older one
// with the same etag stays, since others wait on it.
func (s *Sites) remember(site az.ID, snap *snapshot) *snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.known[site.Key()]
	if old != nil && !old.watch.over() {
		if old.etag == snap.etag && !snap.watch.over() {
			s.hub.fire(snap.watch)
			return old
		}
		s.hub.fire(old.watch)
	}
	if len(s.known) >= maxKnown {
		s.forget()
	}
	s.known[site.Key()] = snap
	return snap
}

// forget makes room: what no longer holds goes, and if that is not enough,
// all; mu is held.
func (s *Sites) forget() {
	for key, snap := range s.known {
		if snap.watch.over() {
			delete(s.known, key)
		}
	}
	if len(s.known) < maxKnown*9/10 {
		return
	}
	for _, snap := range s.known {
		s.hub.fire(snap.watch)
	}
	clear(s.known)
}

func shownIdentities(who identitySet) *Identities {
	out := &Identities{User: []IdentityIDs{}}
	for _, a := range who.all {
		if a.ID.IsRoot() {
			out.System = &IdentityIDs{PrincipalID: a.PrincipalID, ClientID: a.ClientID}
		} else {
			out.User = append(out.User, IdentityIDs{a.ID.String(), a.PrincipalID, a.ClientID})
		}
	}
	return out
}

// sku is the name of the plan's price tier, "" without a plan.
func (s *Sites) sku(ctx context.Context, planID string) (string, error) {
	id, err := az.ParseID(planID)
	if planID == "" || err != nil {
		return "", nil
	}
	p, err := s.plans.Load(ctx, id)
	if err != nil || p == nil {
		return "", err
	}
	var sku struct {
		Tier string `json:"tier"`
		Name string `json:"name"`
	}
	if len(p.SKU) > 0 && json.Unmarshal(p.SKU, &sku) == nil && sku.Tier == "" {
		sku.Tier = sku.Name
	}
	return sku.Tier, nil
}
