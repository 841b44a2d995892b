package arm

import (
	"context"
	"encoding/base64"
	"net/url"
	"strconv"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/store"
)

// pageSize is how many items a page has unless $top says fewer.
// Source: Azure Resource Manager, "Resources - List", $top is at most 1,000.
const pageSize = 1000

// Page is a list on the wire.
type Page struct {
	Value    []any  `json:"value"`
	NextLink string `json:"nextLink,omitempty"`
}

// listing says which part of a list is wanted.
type listing struct {
	top   int    // 0: everything
	after string // folded id
	keep  func(row store.Resource) bool
	right func(row store.Resource) guard.Action // nil: the list's own
}

type rowPage struct {
	rows []store.Resource
	next string // "" at the end
}

// query is how the type's resources at a scope are found.
func (i *info) query(scope az.ID) store.ResourceQuery {
	q := store.ResourceQuery{Type: i.name}
	if isSubscription(scope) && i.name != groupsName && !i.extension {
		q.Subscription = scope.Subscription()
	} else {
		q.Parent = scope
	}
	return q
}

// paging reads $top and $skiptoken.
func (c *Call) paging() (listing, error) {
	l := listing{top: pageSize}
	if s := c.query("$top"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > pageSize {
			return l, az.Errorf(az.Invalid, "InvalidTopParameter", "The $top query parameter must be a number from 1 to %d.", pageSize)
		}
		l.top = n
	}
	if s := c.query("$skiptoken"); s != "" {
		b, err := base64.RawURLEncoding.DecodeString(s)
		id, err2 := az.ParseID(string(b))
		if err != nil || err2 != nil {
			return l, az.Errorf(az.Invalid, "InvalidSkipToken", "The $skiptoken query parameter is not one that was given out; start the list again.")
		}
		l.after = id.Key()
	}
	return l, nil
}

// nextLink is where a list goes on: absolute, on the host that the client
// used, with its own query.
func (c *Call) nextLink(next string) string {
	if next == "" {
		return ""
	}
	q := url.Values{}
	for k, v := range c.Query {
		if foldASCII(k) != "$skiptoken" {
			q[k] = v
		}
	}
	q.Set("$skiptoken", base64.RawURLEncoding.EncodeToString([]byte(next)))
	return c.BaseURL + (&url.URL{Path: c.path.String()}).EscapedPath() + "?" + q.Encode()
}

// list answers GET of a type's collection.
func (a *API) list(ctx context.Context, call *Call, t AnyType, scope az.ID) (any, error) {
	return a.listKept(ctx, call, t, scope, nil)
}

func (a *API) listKept(ctx context.Context, call *Call, t AnyType, scope az.ID, keep func(store.Resource) bool) (any, error) {
	l, err := call.paging()
	if err != nil {
		return nil, err
	}
	l.keep = keep
	i := t.info()
	p, err := a.page(ctx, call, i.read, i.query(scope), l)
	if err != nil {
		return nil, err
	}
	if len(p.rows) == 0 && l.after == "" {
		if err := a.scopeExists(scope, a.outside(ctx)); err != nil {
			return nil, err
		}
	}
	return a.showPage(ctx, call, p)
}

func (a *API) showPage(ctx context.Context, call *Call, p rowPage) (any, error) {
	out := Page{Value: make([]any, 0, len(p.rows)), NextLink: call.nextLink(p.next)}
	for _, row := range p.rows {
		t, _, _ := a.resolve(row.ID)
		if t == nil {
			continue
		}
		v, err := t.view(ctx, call, row)
		if err != nil {
			return nil, err
		}
		out.Value = append(out.Value, v)
	}
	return out, nil
}

// batch is how many rows are read at a time while a list is filtered.
const batch = 500

// page reads the rows that the caller may read: all of them if the right is
// held at the scope, else each by its own right; one record either way. A
// caller who may read nothing at all is refused.
func (a *API) page(ctx context.Context, call *Call, right guard.Action, q store.ResourceQuery, l listing) (rowPage, error) {
	d, err := a.cfg.Guard.Explain(ctx, call.Caller.ObjectID, right, call.ID)
	if err != nil {
		return rowPage{}, err
	}
	if d.Allowed {
		if err := call.Check(ctx, right, call.ID); err != nil {
			return rowPage{}, err
		}
		return a.collect(ctx, q, l, func(store.Resource) (bool, error) { return true, nil })
	}
	may := map[string]bool{}
	p, err := a.collect(ctx, q, l, func(row store.Resource) (bool, error) { return a.mayRead(ctx, call, right, row, l, may) })
	if err != nil {
		return rowPage{}, err
	}
	if len(p.rows) == 0 && l.after == "" {
		return rowPage{}, call.Check(ctx, right, call.ID) // refuses, and says what is missing
	}
	return p, a.cfg.Guard.Record(ctx, guard.Event{Kind: guard.EventDecision, Caller: call.Caller, Action: right.Name, Where: call.ID.String(),
		Outcome: guard.Allowed, Reason: "no assignment allows it here, so the list holds only what the caller may read below"})
}

// collect reads rows until a page is full of those that are wanted and may be
// read, and one more is known to follow.
func (a *API) collect(ctx context.Context, q store.ResourceQuery, l listing, may func(store.Resource) (bool, error)) (p rowPage, err error) {
	q.After, q.Limit = l.after, batch
	for {
		rows, err := a.cfg.Store.Resources(ctx, q)
		if err != nil {
			return p, err
		}
		for _, row := range rows {
			q.After = row.ID.Key()
			if l.keep != nil && !l.keep(row) {
				continue
			}
			if ok, err := may(row); err != nil {
				return p, err
			} else if !ok {
				continue
			}
			if l.top > 0 && len(p.rows) == l.top {
				p.next = p.rows[l.top-1].ID.Key()
				return p, nil
			}
			p.rows = append(p.rows, row)
		}
		if len(rows) < batch {
			return p, nil
		}
	}
}

// mayRead asks for a row by itself. may remembers the answer for everything
// directly below a parent, by folded parent and action.
func (a *API) mayRead(ctx context.Context, call *Call, right guard.Action, row store.Resource, l listing, may map[string]bool) (bool, error) {
	if l.right != nil {
		right = l.right(row)
	}
	key := row.ID.Parent().Key() + " " + right.Name
	if ok, asked := may[key]; !asked {
		d, err := a.cfg.Guard.Explain(ctx, call.Caller.ObjectID, right, row.ID.Parent())
		if err != nil {
			return false, err
		}
		may[key] = d.Allowed
	} else if ok {
		return true, nil
	}
	if may[key] {
		return true, nil
	}
	d, err := a.cfg.Guard.Explain(ctx, call.Caller.ObjectID, right, row.ID)
	return d.Allowed, err
}
