package arm

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/rest"
	"github.com/hawser/hawser/internal/store"
)

// errRaced ends a transaction that found another version than the one it was
// made for. It never reaches a client.
var errRaced = &az.Error{Kind: az.Precondition, Code: "raced"}

// maxTries bounds how often a write is begun again because somebody else wrote
// the same resource meanwhile.
const maxTries = 8

// Put creates or replaces a resource for a caller, as HTTP's PUT does. r.ETag,
// if set, is the version it must replace. Everything is taken from r, its
// Secrets too; only a nil Identity keeps the one there is. The result is what
// was stored.
func (t *Type[P]) Put(ctx context.Context, caller az.Principal, r *Resource[P]) (*Resource[P], error) {
	call := t.api.internalCall(caller, http.MethodPut, r.ID)
	if r.ETag != "" {
		call.Header.Set("If-Match", `"`+r.ETag+`"`)
	}
	out, _, err := t.save(ctx, call, func(old *Resource[P]) (*Resource[P], error) {
		n := r.clone()
		if n.Identity == nil && old != nil {
			n.Identity = old.Identity.clone()
		}
		return n, nil
	})
	return out, err
}

// Update changes a resource for a caller who may write it. fn gets a copy of
// what is stored, with its Secrets, and is run again if somebody else wrote
// meanwhile.
func (t *Type[P]) Update(ctx context.Context, caller az.Principal, id az.ID, fn func(*Resource[P]) error) (*Resource[P], error) {
	call := t.api.internalCall(caller, http.MethodPatch, id)
	out, _, err := t.save(ctx, call, func(old *Resource[P]) (*Resource[P], error) {
		n := old.clone()
		return n, fn(n)
	})
	return out, err
}

// Write stores a resource inside a transaction, without rights and hooks, and
// gives it a new ETag. r.ETag must be that of the stored version, "" for none;
// r must be made or read in the same transaction, which may be run twice.
func (t *Type[P]) Write(tx *store.Tx, r *Resource[P]) error {
	expected := r.ETag
	r.ETag = az.NewGUID()
	row, err := encode(t.api.cfg.Sealer, r)
	if err != nil {
		return err
	}
	return tx.PutResource(row, expected)
}

func (t *Type[P]) put(ctx context.Context, call *Call, patch bool) (any, error) {
	var old *Resource[P]
	out, created, err := t.save(ctx, call, func(cur *Resource[P]) (*Resource[P], error) {
		old = cur
		return t.fromBody(call, cur, patch)
	})
	if err != nil {
		return nil, err
	}
	status := http.StatusOK
	if t.hooks.Status != 0 {
		status = t.hooks.Status
	}
	if created && t.hooks.PutCreated != 0 {
		status = t.hooks.PutCreated
	}
	switch {
	case t.hooks.Work != nil:
		return t.begin(ctx, call, out, old)
	case t.hooks.Poll:
		return t.ended(ctx, call, out, status)
	}
	return t.reply(ctx, call, out, status)
}

// save is what every change of a resource goes through: right, version,
// place, identity, Check; then, in one transaction, Apply and the row.
func (t *Type[P]) save(ctx context.Context, call *Call, change func(old *Resource[P]) (*Resource[P], error)) (out *Resource[P], created bool, err error) {
	call.right = t.about.write
	if err := call.Check(ctx, call.right, call.ID); err != nil {
		return nil, false, err
	}
	return t.saveChecked(ctx, call, change, true)
}

func (t *Type[P]) saveChecked(ctx context.Context, call *Call, change func(old *Resource[P]) (*Resource[P], error), check bool) (out *Resource[P], created bool, err error) {
	for range maxTries {
		old, err := t.Load(ctx, call.ID)
		if err != nil {
			return nil, false, err
		}
		r, err := t.prepare(ctx, call, old, change, check)
		if err != nil {
			return nil, false, err
		}
		out, err := t.commit(ctx, r, old)
		if err == errRaced {
			continue
		}
		if err != nil {
			return nil, false, err
		}
		if t.hooks.After != nil {
			t.hooks.After(ctx, out, old)
		}
		return out, old == nil, nil
	}
	return nil, false, az.Errorf(az.Conflict, "AnotherOperationInProgress", "Other requests keep changing the resource '%s'; try again.", call.ID)
}

// prepare does what can be done outside the transaction.
func (t *Type[P]) prepare(ctx context.Context, call *Call, old *Resource[P], change func(*Resource[P]) (*Resource[P], error), check bool) (*Resource[P], error) {
	etag := ""
	if old != nil {
		etag = old.ETag
	}
	if err := precondition(call.Header, etag, old != nil); err != nil {
		return nil, err
	}
	if err := t.api.container(&t.about, call.ID, t.api.outside(ctx)); err != nil {
		return nil, err
	}
	if old == nil && (call.mustExist || call.Method == http.MethodPatch) {
		return nil, notFound(call.ID)
	}
	if old == nil {
		if err := checkName(call.ID.Name()); err != nil {
			return nil, err
		}
	}
	r, err := change(old)
	if err != nil {
		return nil, err
	}
	var was *Identity
	r.ID, r.ETag = call.ID, etag
	if old != nil {
		r.ID, r.Created, was = old.ID, old.Created, old.Identity
	}
	if err := t.settle(ctx, call, r, old, was); err != nil {
		return nil, err
	}
	if check && t.hooks.Check != nil {
		if err := t.hooks.Check(ctx, call, r, old); err != nil {
			return nil, err
		}
	}
	if check && t.hooks.Work != nil {
		if r.State = StateUpdating; old == nil {
			r.State = StateCreating
		}
	}
	return r, nil
}

// settle applies the rules that all types have.
func (t *Type[P]) settle(ctx context.Context, call *Call, r, old *Resource[P], was *Identity) error {
	if err := checkTags(r.Tags); err != nil {
		return err
	}
	if err := errors.Join(checkWord("location", r.Location), checkWord("kind", r.Kind)); err != nil {
		return err
	}
	if err := t.keepLocation(r, old); err != nil {
		return err
	}
	if err := call.mayAssign(ctx, t.about.write, r.ID, r.Identity, was); err != nil {
		return err
	}
	return fillIdentity(r.Identity, t.api.cfg.Names.Tenant, t.api.outside(ctx), call.mayReplace(ctx))
}

// keepLocation refuses to move a resource.
func (t *Type[P]) keepLocation(r, old *Resource[P]) error {
	if old == nil || old.Location == "" {
		return nil
	}
	if r.Location == "" {
		r.Location = old.Location
	}
	if !sameLocation(r.Location, old.Location) {
		return az.Errorf(az.Conflict, "InvalidResourceLocation", "The resource '%s' already exists in location '%s'. A resource with the same name cannot be created in location '%s'. Please select a new resource name.", r.ID.Name(), old.Location, r.Location)
	}
	return nil
}

// commit writes the resource in one transaction if it is still as old says.
func (t *Type[P]) commit(ctx context.Context, r, old *Resource[P]) (*Resource[P], error) {
	etag := az.NewGUID()
	var out *Resource[P]
	err := t.api.cfg.Store.Write(ctx, func(tx *store.Tx) error {
		out = r.clone()
		cur, there, err := tx.Resource(r.ID)
		if err != nil {
			return err
		}
		if there != (old != nil) || there && cur.ETag != old.ETag {
			return errRaced
		}
		if err := t.api.container(&t.about, r.ID, tx.Resource); err != nil {
			return err
		}
		if err := fillIdentity(out.Identity, t.api.cfg.Names.Tenant, tx.Resource, asDecided); err != nil {
			return err
		}
		if t.hooks.Apply != nil {
			if err := t.hooks.Apply(tx, out, old); err != nil {
				return err
			}
		}
		expected := out.ETag
		out.ETag, out.Updated = etag, tx.Now()
		if old == nil {
			out.Created = tx.Now()
		}
		row, err := encode(t.api.cfg.Sealer, out)
		if err != nil {
			return err
		}
		return tx.PutResource(row, expected)
	})
	return out, err
}

// body is what a PUT or PATCH may bring. Properties are decoded apart.
type body struct {
	Location   *string            `json:"location"`
	Tags       map[string]*string `json:"tags"`
	Kind       *string            `json:"kind"`
	SKU        json.RawMessage    `json:"sku"`
	Identity   json.RawMessage    `json:"identity"`
	Properties json.RawMessage    `json:"properties"`
}

// fromBody makes the resource that a body asks for. Secrets stay: a body that
// does not repeat them does not want them gone.
func (t *Type[P]) fromBody(call *Call, old *Resource[P], patch bool) (*Resource[P], error) {
	var b body
	if err := call.Decode(&b); err != nil {
		return nil, err
	}
	r := &Resource[P]{ID: call.ID}
	if old != nil {
		r = old.clone()
	}
	if err := t.takeProperties(r, b.Properties, patch); err != nil {
		return nil, err
	}
	if b.Location != nil {
		r.Location = *b.Location
	}
	if b.Tags != nil || !patch {
		r.Tags = takeTags(r.Tags, b.Tags, patch)
	}
	if b.Kind != nil {
		r.Kind = *b.Kind
	}
	if len(b.SKU) > 0 && string(b.SKU) != "null" {
		r.SKU = b.SKU
		if patch && old != nil {
			merged, err := mergeJSON(old.SKU, b.SKU)
			if err != nil {
				return nil, err
			}
			r.SKU = merged
		}
	}
	var was *Identity
	if old != nil {
		was = old.Identity
	}
	var err error
	r.Identity, err = parseIdentity(b.Identity, was, patch)
	return r, err
}

func (t *Type[P]) takeProperties(r *Resource[P], given json.RawMessage, patch bool) error {
	if len(given) == 0 || string(given) == "null" {
		given = json.RawMessage("{}")
	}
	if patch {
		was, err := json.Marshal(r.Properties)
		if err != nil {
			return az.Errorf(az.Internal, "", "").Because(err)
		}
		if given, err = mergeJSON(was, given); err != nil {
			return err
		}
	}
	var p P
	if err := rest.DecodeJSON(given, &p); err != nil {
		return err
	}
	r.Properties = p
	return nil
}

// takeTags replaces the tags (PUT) or merges into them (PATCH: null removes).
func takeTags(old map[string]string, given map[string]*string, patch bool) map[string]string {
	out := map[string]string{}
	if patch {
		for k, v := range old {
			out[k] = v
		}
	}
	for k, v := range given {
		for have := range out {
			if strings.EqualFold(have, k) {
				delete(out, have) // tag names are compared without case
			}
		}
		if v != nil {
			out[k] = *v
		}
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

// precondition applies If-Match and If-None-Match.
func precondition(h http.Header, etag string, exists bool) error {
	fail := func() error {
		return az.Errorf(az.Precondition, "PreconditionFailed", "The resource does not have the version that the request's If-Match or If-None-Match header asks for; read it again and repeat.")
	}
	if m := h.Get("If-Match"); m != "" && (!exists || !matchesETag(m, etag)) {
		return fail()
	}
	if m := h.Get("If-None-Match"); m != "" && exists && matchesETag(m, etag) {
		return fail()
	}
	return nil
}

// matchesETag compares a header with an etag: a list, weak marks, quotes or
// none, and * for any.
func matchesETag(header, etag string) bool {
	for part := range strings.SplitSeq(header, ",") {
		part = strings.TrimPrefix(strings.TrimSpace(part), "W/")
		if part == "*" || strings.Trim(part, `"`) == etag {
			return true
		}
	}
	return false
}
