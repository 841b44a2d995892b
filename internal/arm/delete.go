package arm

import (
	"context"
	"net/http"
	"sort"
	"strings"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/rest"
	"github.com/hawser/hawser/internal/store"
)

// Delete deletes a resource and everything below it for a caller; it is no
// error if there is none.
func (t *Type[P]) Delete(ctx context.Context, caller az.Principal, id az.ID) error {
	_, err := t.api.deleteAs(ctx, t.api.internalCall(caller, http.MethodDelete, id), t)
	return err
}

// serveDelete answers DELETE: 200 if something was deleted (or what the type's
// clients take instead), else 204.
func (a *API) serveDelete(ctx context.Context, call *Call, t AnyType) (any, error) {
	was, err := a.deleteAs(ctx, call, t)
	if err != nil || !was {
		return nil, err
	}
	status := http.StatusOK
	if n := t.info().deleted; n != 0 {
		status = n
	}
	return &rest.Reply{Status: status}, nil
}

func (a *API) deleteAs(ctx context.Context, call *Call, t AnyType) (was bool, err error) {
	call.right = t.info().delete
	if err := call.Check(ctx, call.right, call.ID); err != nil {
		return false, err
	}
	for range maxTries {
		row, ok, err := a.cfg.Store.Resource(ctx, call.ID)
		if err != nil {
			return false, err
		}
		if err := precondition(call.Header, row.ETag, ok); err != nil {
			return false, err
		}
		if !ok {
			return was, a.nothingToDelete(ctx, t.info(), call.ID, was)
		}
		was = true
		if err = a.cascade(ctx, call, row); err == nil {
			err = t.remove(ctx, call, row)
		}
		if err != errRaced {
			return true, err
		}
	}
	return false, az.Errorf(az.Conflict, "AnotherOperationInProgress", "Other requests keep changing the resource '%s' or what is in it; try again.", call.ID)
}

// nothingToDelete is 204, but a wrong place is worth a word.
func (a *API) nothingToDelete(ctx context.Context, i *info, id az.ID, was bool) error {
	if was {
		return nil
	}
	if err := a.container(i, id, a.outside(ctx)); err != nil {
		return err
	}
	if i.name == groupsName {
		return notFound(id)
	}
	return nil
}

// cascade deletes what lies below a resource, each in a transaction of its
// own, in an order in which nothing loses what it leans on: the deepest first
// (a connection before its site), then the types registered last (servers and
// sites before the identities they use). It stops at the first refusal; what
// was deleted until then stays deleted, and a repetition goes on from there.
func (a *API) cascade(ctx context.Context, call *Call, of store.Resource) error {
	below, err := a.cfg.Store.ResourcesWithin(ctx, of.ID)
	if err != nil {
		return err
	}
	rank := map[string]int{}
	for n, t := range a.order {
		rank[strings.ToLower(t.info().name)] = n
	}
	level := func(id az.ID) int { return strings.Count(id.Key(), "/") }
	of2 := func(id az.ID) int { return rank[strings.ToLower(id.Type())] }
	sort.SliceStable(below, func(i, j int) bool {
		x, y := below[i].ID, below[j].ID
		if level(x) != level(y) {
			return level(x) > level(y)
		}
		return of2(x) > of2(y)
	})
	for _, row := range below {
		t := a.types[strings.ToLower(row.ID.Type())]
		if t == nil {
			err = a.cfg.Store.Write(ctx, func(tx *store.Tx) error { _, err := tx.DeleteResource(row.ID); return err })
		} else {
			c := *call
			c.ID = row.ID
			err = t.remove(ctx, &c, row)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// remove deletes one resource with nothing below it, without asking for
// rights: they were asked for at the top. errRaced: it was changed, or got
// something below it, since row was read.
func (t *Type[P]) remove(ctx context.Context, call *Call, row store.Resource) error {
	r, err := decode[P](t.api.cfg.Sealer, row, true)
	if err != nil {
		return err
	}
	if t.hooks.Deleting != nil {
		if err := t.hooks.Deleting(ctx, call, r); err != nil {
			return err
		}
	}
	err = t.api.cfg.Store.Write(ctx, func(tx *store.Tx) error {
		cur, there, err := tx.Resource(row.ID)
		if err != nil || !there {
			return err
		}
		if below, err := tx.AnyWithin(row.ID); err != nil {
			return err
		} else if below || cur.ETag != row.ETag {
			return errRaced
		}
		if t.hooks.Delete != nil {
			if err := t.hooks.Delete(tx, r); err != nil {
				return err
			}
		}
		_, err = tx.DeleteResource(row.ID)
		return err
	})
	if err == nil && t.hooks.Deleted != nil {
		t.hooks.Deleted(ctx, r)
	}
	return err
}
