package connector

import (
	"context"
	"slices"
	"strings"

	"github.com/hawser/hawser/internal/az"
)

// ownRole finds a principal's role where a client names none (SQL Server): his
// own before those of his groups, one that is for the database before one that
// is not, then by name. Nil means that there is none: nobody's role is told.
func (c *Connector) ownRole(ctx context.Context, who az.Principal, srv *served, database string) (taking, error) {
	t := taking{srv: srv}
	all, err := c.groupRoles(ctx, srv.id)
	if err != nil {
		return t, err
	}
	groups, err := c.cfg.Guard.Groups(ctx, who.ObjectID)
	if err != nil {
		return t, err
	}
	rank := func(r *role) int {
		n := 0
		if r.holder == who.ObjectID {
			n += 2
		}
		if _, there := r.scopes[database]; there || r.any {
			n++
		}
		return n
	}
	for _, r := range all {
		if r.holder != who.ObjectID && !slices.Contains(groups, r.holder) {
			continue
		}
		if t.role == nil || rank(r) > rank(t.role) || rank(r) == rank(t.role) && r.name < t.role.name {
			t.role, t.user = r, r.name
		}
	}
	return t, nil
}

// throughOf lists the roles of the groups that a principal is in, by id.
func (c *Connector) throughOf(ctx context.Context, server az.ID, oid string) ([]*role, error) {
	roles, err := c.groupRoles(ctx, server)
	if err != nil || len(roles) == 0 {
		return nil, err
	}
	groups, err := c.cfg.Guard.Groups(ctx, oid)
	if err != nil || len(groups) == 0 {
		return nil, err
	}
	in := make(map[string]bool, len(groups))
	for _, g := range groups {
		in[g] = true
	}
	var out []*role
	for _, r := range roles {
		if in[r.holder] {
			out = append(out, r)
		}
	}
	return out, nil
}

// groupRoles lists the roles of a server that are groups', by id; for SQL
// Server, where clients name no role, all of them.
func (c *Connector) groupRoles(ctx context.Context, server az.ID) ([]*role, error) {
	known, stale, gen := c.roles.groupsOf(server.Key())
	if known != nil && len(stale) == 0 {
		return known.list, nil
	}
	next := &groupRoles{}
	if known == nil {
		rows, err := c.principalRows(ctx, server)
		if err != nil {
			return nil, err
		}
		for _, p := range rows {
			next.add(server, p)
		}
	} else {
		next.list = slices.DeleteFunc(slices.Clone(known.list), func(r *role) bool { return slices.Contains(stale, r.id.Key()) })
		for _, key := range stale {
			id, err := az.ParseID(key)
			if err != nil {
				return nil, err
			}
			row, ok, err := c.cfg.Store.Resource(ctx, id)
			if err != nil {
				return nil, err
			}
			if !ok {
				continue
			}
			p, err := readPrincipal(row)
			if err != nil {
				return nil, err
			}
			next.add(server, p)
		}
	}
	slices.SortFunc(next.list, func(a, b *role) int { return strings.Compare(a.id.Key(), b.id.Key()) })
	c.roles.putGroups(gen, server.Key(), next)
	return next.list, nil
}

// groupRoles is what is known of a server's roles of groups.
type groupRoles struct {
	list  []*role // never changed once others see it
	stale map[string]struct{}
}

func (g *groupRoles) add(server az.ID, p principalRow) {
	if (p.Properties.PrincipalType == az.Group || server.IsType(SQLServerType)) && p.Properties.Status == roleReady {
		g.list = append(g.list, roleOf(server, p))
	}
}

// groupsOf returns what is known of a server's groups, and whose roles changed
// since it was read.
func (r *roleCache) groupsOf(server string) (known *groupRoles, stale []string, gen uint64) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if known = r.groups[server]; known != nil {
		for id := range known.stale {
			stale = append(stale, id)
		}
	}
	return known, stale, r.gen
}

func (r *roleCache) putGroups(gen uint64, server string, g *groupRoles) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.gen != gen {
		return
	}
	if r.groups == nil {
		r.groups = map[string]*groupRoles{}
	}
	g.stale = map[string]struct{}{}
	r.groups[server] = g
}
