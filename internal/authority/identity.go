package authority

import (
	"context"
	"sync"
	"time"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/guard"
)

// IdentityRequest asks for a managed identity's token. Whoever calls has
// established that the asker is that identity's app.
type IdentityRequest struct {
	ObjectID string // the identity's
	Resource string // as the app named it, without /.default
	Refresh  bool   // sign a new token even if one is remembered
}

// Token is an access token of a managed identity.
type Token struct {
	AccessToken az.Secret
	ExpiresOn   time.Time
	NotBefore   time.Time
	RefreshOn   time.Time // half of its life: from here a new one is signed
	ClientID    string
	ObjectID    string
	ResourceID  az.ID // of the identity
}

// IdentityToken returns a token for a managed identity, the remembered one
// until half of its life is over.
func (a *Authority) IdentityToken(ctx context.Context, req IdentityRequest) (Token, error) {
	if err := a.store.Fresh(ctx); err != nil {
		return Token{}, err
	}
	if !req.Refresh {
		if t, ok := a.issued.get(req.ObjectID, req.Resource, a.clock()); ok {
			return t, nil
		}
	}
	return a.issued.once(ctx, req.ObjectID+"\x00"+req.Resource, func(ctx context.Context) (Token, error) {
		return a.identityToken(ctx, req)
	})
}

func (a *Authority) identityToken(ctx context.Context, req IdentityRequest) (Token, error) {
	if !req.Refresh { // another caller's flight may have just ended
		if t, ok := a.issued.get(req.ObjectID, req.Resource, a.clock()); ok {
			return t, nil
		}
	}
	gen := a.issued.generation()
	o, ok, err := a.dir.Get(ctx, req.ObjectID)
	if err != nil {
		return Token{}, err
	}
	if !ok || !o.Enabled || !o.IsManagedIdentity() {
		return Token{}, az.Errorf(az.Invalid, "IdentityNotFound", "Identity not found")
	}
	t, err := a.target(ctx, req.Resource)
	if err != nil {
		return Token{}, err
	}
	roles, err := a.assigned(ctx, o, nil, t.SP)
	if err != nil {
		return Token{}, err
	}
	now := a.clock()
	signed, err := a.issue(ctx, grant{Principal: o, Target: t, Proof: byCertificate, Host: az.Host{Surface: az.SurfaceLogin}, Life: a.cfg.IdentityLife, Roles: roles})
	if err != nil {
		return Token{}, err
	}
	who := az.Principal{ObjectID: o.ID, AppID: o.AppID, TenantID: a.names.Tenant, Kind: az.ServicePrincipal}
	err = a.guard.Record(ctx, guard.Event{Kind: guard.EventSignIn, Caller: who, Action: "managed identity token", Where: t.Aud, Outcome: guard.Allowed, Detail: o.Resource.String()})
	if err != nil {
		return Token{}, err
	}
	out := Token{AccessToken: az.NewSecret(signed.text), ExpiresOn: signed.expiry, NotBefore: signed.from, RefreshOn: now.Add(a.cfg.IdentityLife / 2),
		ClientID: o.AppID, ObjectID: o.ID, ResourceID: o.Resource}
	a.issued.put(gen, req.Resource, out, t)
	return out, nil
}

// PrincipalToken returns a token for an application's principal, with the life
// of an application's. Whoever calls has established that the asker may act as
// it: the owner of the data directory, on the local socket, as administrator.
func (a *Authority) PrincipalToken(ctx context.Context, req IdentityRequest) (Token, error) {
	if err := a.store.Fresh(ctx); err != nil {
		return Token{}, err
	}
	o, ok, err := a.dir.Get(ctx, req.ObjectID)
	if err != nil {
		return Token{}, err
	}
	if !ok || !o.Enabled || o.Kind != az.ServicePrincipal {
		return Token{}, az.Errorf(az.Invalid, "IdentityNotFound", "The principal does not exist or is disabled.")
	}
	t, err := a.target(ctx, req.Resource)
	if err != nil {
		return Token{}, err
	}
	roles, err := a.assigned(ctx, o, nil, t.SP)
	if err != nil {
		return Token{}, err
	}
	signed, err := a.issue(ctx, grant{Principal: o, Target: t, Proof: byCertificate, Host: az.Host{Surface: az.SurfaceLogin}, Life: appLife(), Roles: roles})
	if err != nil {
		return Token{}, err
	}
	err = a.guard.Record(ctx, guard.Event{Kind: guard.EventSignIn, Caller: a.who(o), Action: "token over the local socket", Where: t.Aud, Outcome: guard.Allowed})
	if err != nil {
		return Token{}, err
	}
	return Token{AccessToken: az.NewSecret(signed.text), ExpiresOn: signed.expiry, NotBefore: signed.from, ClientID: o.AppID, ObjectID: o.ID}, nil
}

// maxIssued bounds the remembered tokens: at about 1.5 KiB each it stays below
// 50 MiB.
const maxIssued = 32 << 10

// issuedCache remembers identities' tokens by object id and resource, and lets
// those who ask for the same one at the same time share one signature.
type issuedCache struct {
	mu     sync.RWMutex // guards all below
	tokens map[string]map[string]Token
	apps   map[string]bool // ids of applications and service principals that tokens are for
	n      int
	gen    uint64 // counts drops: what was signed before one is not kept

	flights sync.Map // object id and resource → *flight
}

// flight is one signature under way; done is closed when it has ended.
type flight struct {
	done  chan struct{}
	token Token
	err   error
}

func newIssuedCache() *issuedCache {
	return &issuedCache{tokens: map[string]map[string]Token{}, apps: map[string]bool{}}
}

func (c *issuedCache) get(oid, resource string, now time.Time) (Token, bool) {
	c.mu.RLock()
	t, ok := c.tokens[oid][resource]
	c.mu.RUnlock()
	return t, ok && now.Before(t.RefreshOn)
}

func (c *issuedCache) generation() uint64 {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.gen
}

func (c *issuedCache) put(gen uint64, resource string, t Token, to target) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if gen != c.gen {
		return
	}
	if c.n >= maxIssued {
		c.clear()
	}
	m := c.tokens[t.ObjectID]
	if m == nil {
		m = map[string]Token{}
		c.tokens[t.ObjectID] = m
	}
	if _, there := m[resource]; !there {
		c.n++
	}
	m[resource] = t
	if to.App != nil {
		c.apps[to.App.ID] = true
	}
	if to.SP != nil {
		c.apps[to.SP.ID] = true
	}
}

// drop forgets an identity's tokens, and all tokens if a registered
// application that some are for has changed.
func (c *issuedCache) drop(object string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gen++
	if c.apps[object] {
		c.clear()
		return
	}
	c.n -= len(c.tokens[object])
	delete(c.tokens, object)
}

func (c *issuedCache) dropAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gen++
	c.clear()
}

func (c *issuedCache) clear() {
	clear(c.tokens)
	clear(c.apps)
	c.n = 0
}

// once runs fn for the first caller of a key; those who come while it runs get
// its result, or their own context's end.
func (c *issuedCache) once(ctx context.Context, key string, fn func(context.Context) (Token, error)) (Token, error) {
	f := &flight{done: make(chan struct{})}
	if old, busy := c.flights.LoadOrStore(key, f); busy {
		f = old.(*flight)
		select {
		case <-f.done:
			return f.token, f.err
		case <-ctx.Done():
			return Token{}, az.Errorf(az.Unavailable, "temporarily_unavailable", "The token could not be signed in time; try again.").Because(ctx.Err())
		}
	}
	defer func() {
		c.flights.Delete(key)
		close(f.done)
	}()
	// The first caller may leave; the others still want the token.
	run, cancel := context.WithTimeout(context.WithoutCancel(ctx), flightTimeout)
	defer cancel()
	f.err = az.Errorf(az.Internal, "", "") // if fn panics
	f.token, f.err = fn(run)
	return f.token, f.err
}

// flightTimeout bounds one shared signature; the queue is worth two seconds.
const flightTimeout = 10 * time.Second
