package guard

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/store"
)

// assignment is a role assignment, ready to decide with.
type assignment struct {
	id        az.ID
	scope     string // folded
	principal string
	role      *Role
}

// rights is the plane's picture of who holds what. It is filled from the store
// when first asked and follows the change feed.
type rights struct {
	store *store.Store

	mu          sync.Mutex // guards everything below but views
	loaded      bool
	byPrincipal map[string][]*assignment
	byID        map[string]*assignment // folded assignment id
	roles       map[string]*Role       // folded GUID
	memberOf    map[string][]string    // member → groups that hold it directly
	pending     []store.Change         // noted by the feed, not yet read

	views atomic.Pointer[sync.Map] // object id → *view; replaced when anything changes
}

// view is what one principal holds by itself and by its groups, by scope.
type view struct {
	scopes map[string][]held
	groups []string // transitive
}

type held struct {
	*assignment
	via string // the group that holds it, "" if the principal does
}

func newRights(st *store.Store) *rights {
	r := &rights{store: st}
	r.views.Store(new(sync.Map))
	st.Listen(r.note)
	return r
}

// note is the feed's listener: it remembers what to read again and empties the
// views at once.
func (r *rights) note(changes []store.Change) {
	relevant := false
	r.mu.Lock()
	for _, c := range changes {
		if c.Topic == store.TopicReset {
			r.loaded, r.pending, relevant = false, nil, true
		} else if c.Topic == store.TopicMember || c.Topic == store.TopicResource && strings.Contains(c.Key, "/microsoft.authorization/role") {
			r.pending = append(r.pending, c)
			relevant = true
		}
	}
	if relevant {
		r.views.Store(new(sync.Map))
	}
	r.mu.Unlock()
}

// view returns the principal's view, made new if anything changed.
func (r *rights) view(ctx context.Context, oid string) (*view, error) {
	if v, ok := r.views.Load().Load(oid); ok {
		return v.(*view), nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.current(ctx); err != nil {
		return nil, err
	}
	v := r.build(oid)
	r.views.Load().Store(oid, v) // mu keeps note from replacing the map in between
	return v, nil
}

// look is view for whoever is asked about. One who holds nothing is not
// remembered: it may be anybody's invention, and of those there is no end.
func (r *rights) look(ctx context.Context, oid string) (*view, error) {
	if v, ok := r.views.Load().Load(oid); ok {
		return v.(*view), nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.current(ctx); err != nil {
		return nil, err
	}
	v := r.build(oid)
	if len(v.scopes) > 0 {
		r.views.Load().Store(oid, v)
	}
	return v, nil
}

// current brings the picture up to date; mu is held.
func (r *rights) current(ctx context.Context) error {
	if !r.loaded {
		return r.load(ctx)
	}
	for len(r.pending) > 0 {
		c := r.pending[0]
		if strings.Contains(c.Key, "/microsoft.authorization/roledefinitions/") {
			// Assignments point at their roles, and decisions read those
			// without a lock: start afresh rather than change one.
			return r.load(ctx)
		}
		if err := r.reread(ctx, c); err != nil {
			return err
		}
		r.pending = r.pending[1:]
	}
	return nil
}

func (r *rights) load(ctx context.Context) error {
	r.loaded, r.pending = false, nil
	r.byPrincipal, r.byID = map[string][]*assignment{}, map[string]*assignment{}
	r.roles, r.memberOf = map[string]*Role{}, map[string][]string{}
	for _, role := range BuiltIn() {
		r.roles[role.ID] = role
	}
	for _, typ := range []string{RoleDefinitionType, RoleAssignmentType} {
		all, err := r.store.Resources(ctx, store.ResourceQuery{Type: typ})
		if err != nil {
			return err
		}
		for _, res := range all {
			r.put(res)
		}
	}
	err := r.store.Members(ctx, func(group, member string) {
		r.memberOf[member] = append(r.memberOf[member], group)
	})
	r.loaded = err == nil
	return err
}

// reread applies one change.
func (r *rights) reread(ctx context.Context, c store.Change) error {
	if c.Topic == store.TopicMember {
		group, member, _ := strings.Cut(c.Key, "/")
		is, err := r.store.IsMember(ctx, group, member)
		if err != nil {
			return err
		}
		groups := removeString(r.memberOf[member], group)
		if is {
			groups = append(groups, group)
		}
		r.memberOf[member] = groups
		return nil
	}
	id, err := az.ParseID(c.Key)
	if err != nil {
		return nil
	}
	res, ok, err := r.store.Resource(ctx, id)
	if err != nil {
		return err
	}
	if ok {
		r.put(res)
		return nil
	}
	r.drop(id.Key())
	return nil
}

func (r *rights) drop(key string) {
	old := r.byID[key]
	if old == nil {
		return
	}
	delete(r.byID, key)
	list := r.byPrincipal[old.principal]
	kept := make([]*assignment, 0, len(list))
	for _, a := range list {
		if a != old {
			kept = append(kept, a)
		}
	}
	r.byPrincipal[old.principal] = kept
}

// put takes a role definition or assignment into the picture. One that cannot
// be read gives nobody anything.
func (r *rights) put(res store.Resource) {
	if res.ID.IsType(RoleDefinitionType) {
		if role, err := ParseRole(res.ID.Name(), res.Body); err == nil {
			if old := r.roles[role.ID]; old == nil || !old.BuiltIn {
				r.roles[role.ID] = role
			}
		}
		return
	}
	if !res.ID.IsType(RoleAssignmentType) {
		return
	}
	r.drop(res.ID.Key())
	var body struct {
		Properties struct {
			RoleDefinitionID az.ID  `json:"roleDefinitionId"`
			PrincipalID      string `json:"principalId"`
		} `json:"properties"`
	}
	if json.Unmarshal(res.Body, &body) != nil {
		return
	}
	role := r.roles[strings.ToLower(body.Properties.RoleDefinitionID.Name())]
	if role == nil {
		return
	}
	a := &assignment{id: res.ID, scope: res.ID.Parent().Key(), principal: strings.ToLower(body.Properties.PrincipalID), role: role}
	r.byID[res.ID.Key()] = a
	r.byPrincipal[a.principal] = append(r.byPrincipal[a.principal], a)
}

// ParseRole reads a stored custom role definition.
func ParseRole(guid string, body []byte) (*Role, error) {
	var b struct {
		Properties struct {
			RoleName    string       `json:"roleName"`
			Description string       `json:"description"`
			Permissions []Permission `json:"permissions"`
		} `json:"properties"`
	}
	if err := json.Unmarshal(body, &b); err != nil {
		return nil, fmt.Errorf("cannot read role definition %s: %w", guid, err)
	}
	return &Role{ID: strings.ToLower(guid), Name: b.Properties.RoleName, Description: b.Properties.Description,
		Permissions: b.Properties.Permissions}, nil
}

// build gathers what the principal and its groups hold; mu is held.
func (r *rights) build(oid string) *view {
	v := &view{scopes: map[string][]held{}}
	add := func(holder, via string) {
		for _, a := range r.byPrincipal[holder] {
			v.scopes[a.scope] = append(v.scopes[a.scope], held{a, via})
		}
	}
	add(oid, "")
	v.groups = r.groupsOf(oid)
	for _, g := range v.groups {
		add(g, g)
	}
	return v
}

// groupsOf walks nested groups; a cycle ends because each is visited once.
func (r *rights) groupsOf(oid string) []string {
	var out []string
	seen := map[string]bool{oid: true}
	queue := []string{oid}
	for len(queue) > 0 {
		for _, g := range r.memberOf[queue[0]] {
			if !seen[g] {
				seen[g] = true
				out = append(out, g)
				queue = append(queue, g)
			}
		}
		queue = queue[1:]
	}
	return out
}

// find returns the assignment that allows the action at the scope. It walks
// from the scope itself up to the root.
func (v *view) find(a Action, scope string) (held, bool) {
	for {
		for _, h := range v.scopes[scope] {
			if h.role.Allows(a) {
				return h, true
			}
		}
		if scope == "/" {
			return held{}, false
		}
		if i := strings.LastIndexByte(scope, '/'); i > 0 {
			scope = scope[:i]
		} else {
			scope = "/"
		}
	}
}

// anywhere returns an assignment that allows the action at its own scope: the
// first by its id, so that the same question is recorded in the same way.
func (v *view) anywhere(a Action) (best held, ok bool) {
	for _, list := range v.scopes {
		for _, h := range list {
			if h.role.Allows(a) && (!ok || h.id.Key() < best.id.Key()) {
				best, ok = h, true
			}
		}
	}
	return best, ok
}

func removeString(list []string, s string) []string {
	kept := make([]string, 0, len(list)+1)
	for _, x := range list {
		if x != s {
			kept = append(kept, x)
		}
	}
	return kept
}
