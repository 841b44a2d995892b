package directory

import (
	"context"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/seal"
	"github.com/hawser/hawser/internal/store"
)

// Config is what a directory is made of.
type Config struct {
	Store  *store.Store
	Guard  *guard.Guard // decides on callers' writes; nil serves only what has no caller
	Sealer *seal.Sealer // hashes client secrets
	Names  az.Names
	Clock  az.Clock     // nil means the real one
	Log    *slog.Logger // nil discards
	// Keep is the application id of the plane's administrator, who cannot be
	// deleted; "" keeps nobody.
	Keep string
	// Named reports whether lists that resources keep themselves, such as access
	// policies of vaults, let one of some objects do anything: that counts as a
	// role of theirs does. nil knows of none.
	Named func(ctx context.Context, oids []string) (bool, error)
	// Unassign removes a deleted principal's role assignments in the same
	// transaction; nil leaves them (they give nobody anything).
	Unassign func(tx *store.Tx, principal string) error
}

// Directory is the plane's one tenant. Its methods may be called concurrently.
//
// Reads come from caches that the change feed empties: a caller that answers
// a request must have confirmed the feed (store.Confirm) at its start.
type Directory struct {
	cfg     Config
	store   *store.Store
	objects *cache[*Object]
	clients *cache[*Client]
	names   *cache[*Object] // by identifier URI
	grants  *cache[[]Grant] // by client "/" user
	roles   *cache[[]held]  // app roles by principal
	counts  *cache[int64]   // of all objects of some kinds

	schemas map[az.PrincipalKind]*schema // what Graph knows of each kind
	guesses guesses
	scans   chan struct{} // holds one for each request that reads objects one by one

	// hashing bounds the passwords that Graph hashes at a time: each takes
	// 19 MiB and a core.
	hashing chan struct{}

	mu       sync.Mutex        // guards clientOf
	clientOf map[string]string // object id → application id of the cached client it is part of
}

// New makes a directory over a store.
func New(cfg Config) *Directory {
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	d := &Directory{cfg: cfg, store: cfg.Store, objects: newCache[*Object](), clients: newCache[*Client](),
		names: newCache[*Object](), grants: newCache[[]Grant](), roles: newCache[[]held](), counts: newCache[int64](), schemas: newSchemas(),
		scans: make(chan struct{}, maxScans), clientOf: map[string]string{}, hashing: make(chan struct{}, max(2, runtime.GOMAXPROCS(0)))}
	cfg.Store.Listen(d.note)
	return d
}

// note is the feed's listener.
func (d *Directory) note(changes []store.Change) {
	for _, c := range changes {
		switch c.Topic {
		case store.TopicReset:
			d.objects.dropAll()
			d.clients.dropAll()
			d.names.dropAll()
			d.grants.dropAll()
			d.roles.dropAll()
			d.counts.dropAll()
			d.mu.Lock()
			clear(d.clientOf)
			d.mu.Unlock()
		case store.TopicObject:
			d.objects.drop(c.Key)
			d.counts.dropAll()
			d.names.dropAll() // registrations change seldom, and a name may move
			d.dropClient(c.Key)
		case store.TopicCredential:
			owner, _, _ := strings.Cut(c.Key, "/")
			d.dropClient(owner)
		case store.TopicGrant:
			if strings.HasSuffix(c.Key, "/") { // everybody's
				d.grants.dropAll()
			} else {
				d.grants.drop(c.Key)
			}
		case store.TopicAppRole:
			d.roles.drop(c.Key)
		}
	}
}

func (d *Directory) dropClient(object string) {
	d.mu.Lock()
	app := d.clientOf[object]
	delete(d.clientOf, object)
	d.mu.Unlock()
	d.clients.drop(app) // also when it is not cached: one may be being read
}

// Get returns the object with an id; ok is false if there is none. The object
// is shared: it must not be changed.
func (d *Directory) Get(ctx context.Context, id string) (o *Object, ok bool, err error) {
	if o, ok := d.objects.get(id); ok {
		return o, true, nil
	}
	id = strings.ToLower(id)
	gen := d.objects.gen.Load()
	r, ok, err := d.store.Object(ctx, id)
	if err != nil || !ok {
		return nil, false, err
	}
	if o, err = fromRow(r); err != nil {
		return nil, false, err
	}
	d.objects.put(gen, id, o)
	return o, true, nil
}

// ByAppID returns the service principal of an application id.
func (d *Directory) ByAppID(ctx context.Context, appID string) (*Object, bool, error) {
	c, ok, err := d.Client(ctx, appID)
	if err != nil || !ok || c.Principal == nil {
		return nil, false, err
	}
	return c.Principal, true, nil
}

// ByName returns the application that has a URI among its identifier URIs.
func (d *Directory) ByName(ctx context.Context, uri string) (*Object, bool, error) {
	key := strings.ToLower(uri)
	if o, ok := d.names.get(key); ok {
		return o, true, nil
	}
	gen := d.names.gen.Load()
	r, ok, err := d.store.ObjectByName(ctx, key)
	if err != nil || !ok {
		return nil, false, err
	}
	o, err := fromRow(r)
	if err != nil {
		return nil, false, err
	}
	d.names.put(gen, key, o)
	return o, true, nil
}

// Client is what asks for tokens under one application id: a registration
// with its service principal and credentials, or a managed identity.
type Client struct {
	AppID       string
	Application *Object // nil for managed identities
	Principal   *Object // nil if the application has no service principal yet
	Credentials []*Credential
}

// Client returns the client of an application id; ok is false if there is
// none. It is shared: it must not be changed.
func (d *Directory) Client(ctx context.Context, appID string) (c *Client, ok bool, err error) {
	if c, ok := d.clients.get(appID); ok {
		return c, true, nil
	}
	appID = strings.ToLower(appID)
	gen := d.clients.gen.Load()
	c = &Client{AppID: appID}
	if c.Application, err = d.byApp(ctx, Application, appID); err != nil {
		return nil, false, err
	}
	if c.Principal, err = d.byApp(ctx, az.ServicePrincipal, appID); err != nil {
		return nil, false, err
	}
	if c.Application != nil {
		if c.Credentials, err = d.credentials(ctx, c.Application.ID); err != nil {
			return nil, false, err
		}
	}
	if c.Application == nil && c.Principal == nil {
		return nil, false, nil
	}
	if c.Principal != nil { // a later service principal would not be noticed
		d.keepClient(gen, c)
	}
	return c, true, nil
}

func (d *Directory) keepClient(gen uint64, c *Client) {
	d.mu.Lock()
	if len(d.clientOf) > 2*cacheLimit {
		clear(d.clientOf)
		d.clients.dropAll()
		d.mu.Unlock()
		return
	}
	d.clientOf[c.Principal.ID] = c.AppID
	if c.Application != nil {
		d.clientOf[c.Application.ID] = c.AppID
	}
	d.mu.Unlock()
	d.clients.put(gen, c.AppID, c)
}

func (d *Directory) byApp(ctx context.Context, kind az.PrincipalKind, appID string) (*Object, error) {
	r, ok, err := d.store.ObjectByApp(ctx, string(kind), appID)
	if err != nil || !ok {
		return nil, err
	}
	return fromRow(r)
}

// UserByUPN returns the person with a user principal name, in any case.
func (d *Directory) UserByUPN(ctx context.Context, upn string) (*Object, bool, error) {
	if checkText("userPrincipalName", upn, 320) != nil || upn == "" {
		return nil, false, nil
	}
	r, ok, err := d.store.ObjectByUPN(ctx, upn)
	if err != nil || !ok || r.Kind != string(az.User) {
		return nil, false, err
	}
	o, err := fromRow(r)
	return o, err == nil, err
}

// Facts are the application's; a first-party client has none, so its service
// principal's stand for them. They are shared: they must not be changed.
func (c *Client) Facts() *Facts {
	switch {
	case c.Application != nil:
		return &c.Application.Facts
	case c.Principal != nil:
		return &c.Principal.Facts
	}
	return &Facts{}
}

// Find lists objects as they are in the store now.
func (d *Directory) Find(ctx context.Context, q store.ObjectQuery) ([]*Object, error) {
	rows, err := d.store.Objects(ctx, q)
	if err != nil {
		return nil, err
	}
	out := make([]*Object, 0, len(rows))
	for _, r := range rows {
		o, err := fromRow(r)
		if err != nil {
			return nil, err
		}
		out = append(out, o)
	}
	return out, nil
}
