package guard

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sort"
	"strings"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/store"
)

// Guard decides and records. Its methods may be called concurrently.
type Guard struct {
	store  *store.Store
	rights *rights
	log    *Log
	slog   *slog.Logger
}

// New makes a guard over a store's assignments and an audit log.
func New(st *store.Store, log *Log, logger *slog.Logger) *Guard {
	return &Guard{store: st, rights: newRights(st), log: log, slog: logger}
}

// Audit is the guard's log, for reading and verifying it.
func (g *Guard) Audit() *Log { return g.log }

// Decision is the answer to "may WHO do ACTION at WHERE", with its reason.
type Decision struct {
	Allowed    bool
	Assignment az.ID  // the assignment that allows it
	Role       string // its role's name
	Via        string // the group through which it is held, "" if directly
	// Suggest names the least built-in role that would allow the action.
	Suggest string
}

// Denied is the error of a Check that was refused. It wraps an az.Error of
// kind Forbidden whose message says which assignment is missing.
type Denied struct {
	Caller  az.Principal
	Action  Action
	Scope   az.ID
	Suggest string
	err     *az.Error
}

func (d *Denied) Error() string { return d.err.Error() }
func (d *Denied) Unwrap() error { return d.err }

// Check decides whether the caller may do the action at the scope, and records
// the decision. A nil error means yes and that the record is written. Without
// a record there is no answer: Unavailable.
func (g *Guard) Check(ctx context.Context, caller az.Principal, a Action, scope az.ID) error {
	if caller.IsZero() {
		return az.Errorf(az.Unauthorized, "Unauthorized", "The request has no caller.")
	}
	v, err := g.viewOf(ctx, caller.ObjectID)
	if err != nil {
		return err
	}
	h, ok := v.find(a, scope.Key())
	e := Event{Kind: EventDecision, Caller: caller, Action: a.Name, Where: scope.String()}
	if ok {
		e.Outcome, e.Assignment, e.Role = Allowed, h.id.String(), h.role.Name
		return g.Record(ctx, e)
	}
	d := denied(caller, a, scope)
	e.Outcome, e.Reason = Refused, "no assignment allows it"
	if err := g.Record(ctx, e); err != nil {
		return err
	}
	return d
}

// CheckAnywhere is Check for what lies at no scope of its own: it is allowed
// to whoever may do the action at some scope, whichever that is.
func (g *Guard) CheckAnywhere(ctx context.Context, caller az.Principal, a Action) error {
	if caller.IsZero() {
		return az.Errorf(az.Unauthorized, "Unauthorized", "The request has no caller.")
	}
	v, err := g.viewOf(ctx, caller.ObjectID)
	if err != nil {
		return err
	}
	if h, ok := v.anywhere(a); ok {
		return g.Record(ctx, Event{Kind: EventDecision, Caller: caller, Action: a.Name, Where: az.Root.String(),
			Outcome: Allowed, Assignment: h.id.String(), Role: h.role.Name})
	}
	return g.Check(ctx, caller, a, az.Root)
}

// Record writes an event that is no decision of this guard: a sign-in, a
// refused token, the start or end of a database session. An error means that
// what it records must not be answered.
func (g *Guard) Record(ctx context.Context, e Event) error {
	if e.Correlation == "" {
		e.Correlation = az.Correlation(ctx)
	}
	if err := g.log.Append(e); err != nil {
		g.slog.Error("guard: the audit record could not be written, so the request was not answered", "error", err)
		return az.Errorf(az.Unavailable, "ServiceUnavailable", "The audit record could not be written, so nothing was done. Try again.").Because(err)
	}
	return nil
}

func (g *Guard) viewOf(ctx context.Context, oid string) (*view, error) {
	if err := g.store.Fresh(ctx); err != nil {
		return nil, err
	}
	return g.rights.view(ctx, oid)
}

// Explain gives the decision for any principal without making it theirs: it is
// for "hawser why". Whether the asker may know is the surface's Check.
func (g *Guard) Explain(ctx context.Context, oid string, a Action, scope az.ID) (Decision, error) {
	if err := g.store.Fresh(ctx); err != nil {
		return Decision{}, err
	}
	v, err := g.rights.look(ctx, strings.ToLower(oid))
	if err != nil {
		return Decision{}, err
	}
	if h, ok := v.find(a, scope.Key()); ok {
		return Decision{Allowed: true, Assignment: h.id, Role: h.role.Name, Via: h.via}, nil
	}
	return Decision{Suggest: suggest(a)}, nil
}

// Groups lists the groups, transitive, that a principal is in.
func (g *Guard) Groups(ctx context.Context, oid string) ([]string, error) {
	v, err := g.viewOf(ctx, oid)
	if err != nil {
		return nil, err
	}
	return v.groups, nil
}

// InGroup reports whether the principal is in the group, directly or not.
func (g *Guard) InGroup(ctx context.Context, oid, group string) (bool, error) {
	v, err := g.viewOf(ctx, oid)
	if err != nil {
		return false, err
	}
	for _, x := range v.groups {
		if x == group {
			return true, nil
		}
	}
	return false, nil
}

// RoleNamed finds a role definition by name or GUID; ok is false if none.
func (g *Guard) RoleNamed(ctx context.Context, nameOrID string) (*Role, bool, error) {
	roles, err := g.Roles(ctx)
	if err != nil {
		return nil, false, err
	}
	for _, r := range roles {
		if strings.EqualFold(r.Name, nameOrID) || strings.EqualFold(r.ID, nameOrID) {
			return r, true, nil
		}
	}
	return nil, false, nil
}

// Roles lists every role definition, by name.
func (g *Guard) Roles(ctx context.Context) ([]*Role, error) {
	if err := g.store.Fresh(ctx); err != nil {
		return nil, err
	}
	g.rights.mu.Lock()
	defer g.rights.mu.Unlock()
	if err := g.rights.current(ctx); err != nil {
		return nil, err
	}
	out := make([]*Role, 0, len(g.rights.roles))
	for _, r := range g.rights.roles {
		out = append(out, r)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out, nil
}

func denied(caller az.Principal, a Action, scope az.ID) *Denied {
	d := &Denied{Caller: caller, Action: a, Scope: scope, Suggest: suggest(a)}
	var missing string
	if d.Suggest != "" {
		missing = fmt.Sprintf(" Missing: an assignment to %s of a role that allows it, such as '%s', at this scope or above.", caller.ObjectID, d.Suggest)
	} else {
		missing = fmt.Sprintf(" Missing: an assignment to %s of a custom role that allows it, at this scope or above.", caller.ObjectID)
	}
	d.err = az.Errorf(az.Forbidden, "AuthorizationFailed",
		"The client '%s' with object id '%s' does not have authorization to perform action '%s' over scope '%s' or the scope is invalid. If access was recently granted, please refresh your credentials.%s",
		caller.AppID, caller.ObjectID, a.Name, scope, missing)
	return d
}

// suggest names the built-in role that allows the action and little else. The
// table stands from broad to narrow within a service, so the last one that
// allows it is taken.
func suggest(a Action) string {
	best, width := "", 1<<30
	for _, r := range BuiltIn() {
		if !r.Allows(a) {
			continue
		}
		w := 0
		for _, p := range r.Permissions {
			for _, x := range append(append([]string(nil), p.Actions...), p.DataActions...) {
				w++
				if i := strings.IndexByte(x, '*'); i >= 0 {
					w += max(1, 1000-20*i) // an early star is broad
				}
			}
		}
		if w <= width { // of equals the later one: the table goes from broad to narrow
			best, width = r.Name, w
		}
	}
	return best
}

// AsDenied finds the Denied in err's chain.
func AsDenied(err error) (*Denied, bool) {
	var d *Denied
	ok := errors.As(err, &d)
	return d, ok
}
