package arm

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/rest"
	"github.com/hawser/hawser/internal/store"
)

// reader reads one row, inside or outside a transaction.
type reader func(id az.ID) (store.Resource, bool, error)

func (a *API) outside(ctx context.Context) reader {
	return func(id az.ID) (store.Resource, bool, error) { return a.cfg.Store.Resource(ctx, id) }
}

// Get reads a resource for a caller. It has its Secrets.
func (t *Type[P]) Get(ctx context.Context, caller az.Principal, id az.ID) (*Resource[P], error) {
	if err := t.api.cfg.Guard.Check(ctx, caller, t.about.read, id); err != nil {
		return nil, err
	}
	return t.mustLoad(ctx, id)
}

// Load reads a resource for the plane's own needs, never to answer a person; a
// missing one is nil without an error.
func (t *Type[P]) Load(ctx context.Context, id az.ID) (*Resource[P], error) {
	if !id.IsType(t.about.name) || id.IsCollection() {
		return nil, nil
	}
	row, ok, err := t.api.cfg.Store.Resource(ctx, id)
	if err != nil || !ok {
		return nil, err
	}
	return decode[P](t.api.cfg.Sealer, row, true)
}

// LoadAll reads every resource of the type for the plane's own needs.
func (t *Type[P]) LoadAll(ctx context.Context) ([]*Resource[P], error) {
	rows, err := t.api.cfg.Store.Resources(ctx, store.ResourceQuery{Type: t.about.name})
	if err != nil {
		return nil, err
	}
	return t.decodeAll(rows)
}

// LoadIn reads every resource of the type directly below a parent, for the
// plane's own needs.
func (t *Type[P]) LoadIn(ctx context.Context, parent az.ID) ([]*Resource[P], error) {
	rows, err := t.api.cfg.Store.Resources(ctx, store.ResourceQuery{Type: t.about.name, Parent: parent})
	if err != nil {
		return nil, err
	}
	return t.decodeAll(rows)
}

func (t *Type[P]) decodeAll(rows []store.Resource) ([]*Resource[P], error) {
	out := make([]*Resource[P], 0, len(rows))
	for _, row := range rows {
		r, err := decode[P](t.api.cfg.Sealer, row, true)
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, nil
}

// Read reads a resource inside a transaction; a missing one is nil.
func (t *Type[P]) Read(tx *store.Tx, id az.ID) (*Resource[P], error) {
	row, ok, err := tx.Resource(id)
	if err != nil || !ok {
		return nil, err
	}
	return decode[P](t.api.cfg.Sealer, row, true)
}

// List reads the resources of the type at a scope (a parent, group or
// subscription) that the caller may read.
func (t *Type[P]) List(ctx context.Context, caller az.Principal, scope az.ID) ([]*Resource[P], error) {
	call := t.api.internalCall(caller, http.MethodGet, scope)
	p, err := t.api.page(ctx, call, t.about.read, t.about.query(scope), listing{})
	if err != nil {
		return nil, err
	}
	return t.decodeAll(p.rows)
}

func (t *Type[P]) mustLoad(ctx context.Context, id az.ID) (*Resource[P], error) {
	r, err := t.Load(ctx, id)
	if err != nil {
		return nil, err
	}
	if r == nil {
		if err := t.api.container(&t.about, id, t.api.outside(ctx)); err != nil {
			return nil, err
		}
		return nil, notFound(id)
	}
	return r, nil
}

func (t *Type[P]) get(ctx context.Context, call *Call) (any, error) {
	call.right = t.about.read
	r, err := t.Get(ctx, call.Caller, call.ID)
	if err != nil {
		return nil, err
	}
	return t.reply(ctx, call, r, http.StatusOK)
}

// reply shows a resource with its ETag.
func (t *Type[P]) reply(ctx context.Context, call *Call, r *Resource[P], status int) (*rest.Reply, error) {
	body, err := t.show(ctx, call, r)
	if err != nil {
		return nil, err
	}
	h := http.Header{}
	h.Set("ETag", `"`+r.ETag+`"`)
	return &rest.Reply{Status: status, Header: h, Body: body}, nil
}

// show makes the wire form of a resource. The view sees no secrets, so that
// none can slip into a reply by mistake.
func (t *Type[P]) show(ctx context.Context, call *Call, r *Resource[P]) (*shown, error) {
	bare := *r
	bare.Secrets = nil
	var properties any = bare.Properties
	if t.hooks.View != nil {
		var err error
		if properties, err = t.hooks.View(ctx, call, &bare); err != nil {
			return nil, err
		}
	}
	raw, err := json.Marshal(properties)
	if err != nil {
		return nil, az.Errorf(az.Internal, "", "").Because(err)
	}
	if !t.hooks.NoState {
		raw = withState(raw, r.State)
	}
	s := &shown{ID: r.ID, Name: r.ID.Name(), Type: t.about.name, Kind: r.Kind, Location: r.Location, Tags: r.Tags, SKU: r.SKU, Properties: raw}
	if r.Identity != nil && r.Identity.Type != IdentityNone {
		s.Identity = r.Identity
	}
	return s, nil
}

func (t *Type[P]) view(ctx context.Context, call *Call, row store.Resource) (any, error) {
	r, err := decode[P](t.api.cfg.Sealer, row, false)
	if err != nil {
		return nil, err
	}
	return t.show(ctx, call, r)
}

// act runs a POST on a resource.
func (t *Type[P]) act(ctx context.Context, call *Call, name string) (any, error) {
	action, full, ok := findFold(t.hooks.Actions, name)
	if !ok {
		return nil, az.Errorf(az.NotFound, "NotFound", "Resources of the type '%s' have no action of this name.", t.about.name)
	}
	suffix := action.Right
	if suffix == "" {
		suffix = full + "/action"
	}
	call.right = guard.Control(t.about.rights + "/" + suffix)
	if err := call.Check(ctx, call.right, call.ID); err != nil {
		return nil, err
	}
	r, err := t.mustLoad(ctx, call.ID)
	if err != nil {
		return nil, err
	}
	return action.Run(ctx, call, r)
}

// findFold looks up a name whatever its case and returns it as the type wrote it.
func findFold[V any](m map[string]V, name string) (v V, full string, ok bool) {
	if v, ok = m[name]; ok {
		return v, name, true
	}
	for k, v := range m {
		if strings.EqualFold(k, name) {
			return v, k, true
		}
	}
	return v, "", false
}

// container says whether the place of an id is there: its subscription, its
// group, its parent resource or, for an extension, the resource it sits on.
func (a *API) container(i *info, id az.ID, read reader) error {
	if i.extension {
		return a.scopeExists(id.Parent(), read)
	}
	if s := id.Subscription(); s == "" || !strings.EqualFold(s, a.cfg.Names.Subscription) {
		return az.Errorf(az.NotFound, "SubscriptionNotFound", "The subscription '%s' could not be found.", s)
	}
	if i.name == groupsName {
		return nil
	}
	group := groupOf(id)
	if _, ok, err := read(group); err != nil {
		return err
	} else if !ok {
		return notFound(group)
	}
	if i.depth() == 1 {
		return nil
	}
	parent := id.Parent()
	if _, ok, err := read(parent); err != nil || ok {
		return err
	}
	return az.Errorf(az.NotFound, "ParentResourceNotFound", "Failed to perform the requested operation on nested resource. Parent resource '%s' not found.", parent.Name())
}

func groupOf(id az.ID) az.ID {
	return az.Root.Child("subscriptions", id.Subscription(), "resourceGroups", id.ResourceGroup())
}

// scopeExists reports whether something can be attached to a scope: the root,
// the subscription, a group, a resource, or a part of a resource that is no
// resource of its own (a vault's secret), if the resource around it is there.
func (a *API) scopeExists(scope az.ID, read reader) error {
	if scope.IsRoot() {
		return nil
	}
	if isSubscription(scope) {
		if !scope.Equal(a.subscription()) {
			return notFound(scope)
		}
		return nil
	}
	for at := scope; at.Type() != "" && !at.IsCollection(); at = at.Parent() {
		t := a.types[strings.ToLower(at.Type())]
		if t == nil {
			if strings.Count(at.Type(), "/") > 1 {
				continue
			}
			return unknownType(at)
		}
		if _, ok, err := read(at); err != nil || ok {
			return err
		}
		return notFound(at)
	}
	return notFound(scope)
}
