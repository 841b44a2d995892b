package directory

import (
	"context"
	"slices"
	"strings"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/store"
)

// Grant lets a client use scopes of a resource for a person or, with an empty
// Principal, for everybody. It never gives more than the person may do.
type Grant struct {
	ID        string
	Client    string // service principal's object id
	Principal string // user's object id; "" for everybody
	Resource  string // service principal's object id
	Scopes    []string
}

const (
	// maxScopes and maxScope bound a grant. Source: Microsoft Graph limits scope
	// to 3,850 characters; a scope's value to 120.
	maxScopes = 200
	maxScope  = 120
)

func grantOf(r store.Grant) Grant {
	return Grant{r.ID, r.Client, r.Principal, r.Resource, strings.Fields(r.Scopes)}
}

// Grants lists what a client may do for a person: what was granted for him and
// what was granted for everybody.
func (d *Directory) Grants(ctx context.Context, client, user string) ([]Grant, error) {
	key := client + "/" + user
	if g, ok := d.grants.get(key); ok {
		return g, nil
	}
	gen := d.grants.gen.Load()
	out := []Grant{}
	whose := []string{""}
	if user != "" {
		whose = append(whose, user)
	}
	for _, p := range whose {
		rows, err := d.store.Grants(ctx, store.GrantQuery{Client: client, Principal: &p})
		if err != nil {
			return nil, err
		}
		for _, r := range rows {
			out = append(out, grantOf(r))
		}
	}
	d.grants.put(gen, key, out)
	return out, nil
}

// AddGrant grants further scopes to a client: for a person, or for everybody
// if user is "". Those that are granted already stay.
func (d *Directory) AddGrant(tx *store.Tx, client, user, resource string, scopes []string) error {
	old, err := tx.Grants(store.GrantQuery{Client: client, Principal: &user, Resource: resource})
	if err != nil {
		return err
	}
	g := store.Grant{ID: az.NewGUID(), Client: client, Principal: user, Resource: resource}
	var all []string
	if len(old) > 0 {
		g.ID, all = old[0].ID, strings.Fields(old[0].Scopes)
	}
	before := len(all)
	for _, s := range scopes {
		if !slices.Contains(all, s) {
			all = append(all, s)
		}
	}
	if len(old) > 0 && len(all) == before {
		return nil
	}
	if err := checkScopes(all); err != nil {
		return err
	}
	for id, kinds := range map[string]az.PrincipalKind{client: az.ServicePrincipal, resource: az.ServicePrincipal, user: az.User} {
		if id == "" {
			continue
		}
		if _, err := existing(tx, kinds, id); err != nil {
			return err
		}
	}
	g.Scopes = strings.Join(all, " ")
	return tx.PutGrant(g)
}

func checkScopes(scopes []string) error {
	if len(scopes) > maxScopes {
		return az.Errorf(az.Invalid, "Request_BadRequest", "A permission grant can hold at most %d scopes.", maxScopes)
	}
	for _, s := range scopes {
		if !isScopeValue(s) {
			return az.Errorf(az.Invalid, "Request_BadRequest", "A scope's value must have 1 to %d of the characters that RFC 6749 allows.", maxScope)
		}
	}
	return nil
}

// isScopeValue admits RFC 6749 §3.3 scope-tokens.
func isScopeValue(s string) bool {
	return s != "" && len(s) <= maxScope && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '\\' })
}

// DefaultRole is the id of the role that assigns somebody to an application
// that declares none. Source: Microsoft Graph, appRoleAssignment.appRoleId.
const DefaultRole = "00000000-0000-0000-0000-000000000000"

// held is one app role that a principal holds.
type held struct{ resource, role string }

// AppRoles returns the values of the roles that a principal holds in an
// application by itself or by its groups: principals is its object id and
// theirs. assigned says whether it is assigned to it at all, be it with the
// default role, which has no value.
func (d *Directory) AppRoles(ctx context.Context, resource string, principals []string) (values []string, assigned bool, err error) {
	holds, err := d.appRolesOf(ctx, principals)
	if err != nil {
		return nil, false, err
	}
	var roles []string
	for _, h := range holds {
		if h.resource == resource {
			assigned = true
			roles = append(roles, h.role)
		}
	}
	if !assigned {
		return nil, false, nil
	}
	declared, err := d.declaredRoles(ctx, resource)
	if err != nil {
		return nil, false, err
	}
	for _, r := range declared {
		if r.Enabled && r.Value != "" && slices.Contains(roles, r.ID) && !slices.Contains(values, r.Value) {
			values = append(values, r.Value)
		}
	}
	return values, true, nil
}

func (d *Directory) declaredRoles(ctx context.Context, resource string) ([]AppRole, error) {
	sp, ok, err := d.Get(ctx, resource)
	if err != nil || !ok || sp.AppID == "" {
		return nil, err
	}
	c, ok, err := d.Client(ctx, sp.AppID)
	if err != nil || !ok {
		return nil, err
	}
	return c.Facts().AppRoles, nil
}

// rolesAtOnce bounds the ids of one question to the store.
const rolesAtOnce = 500

func (d *Directory) appRolesOf(ctx context.Context, principals []string) (out []held, err error) {
	var missing []string
	gen := d.roles.gen.Load()
	for _, p := range principals {
		if h, ok := d.roles.get(p); ok {
			out = append(out, h...)
		} else {
			missing = append(missing, p)
		}
	}
	for part := range slices.Chunk(missing, rolesAtOnce) {
		rows, err := d.store.AppRoleAssignments(ctx, store.AppRoleQuery{Principals: part})
		if err != nil {
			return nil, err
		}
		by := map[string][]held{}
		for _, r := range rows {
			by[r.Principal] = append(by[r.Principal], held{r.Resource, strings.ToLower(r.Role)})
		}
		for _, p := range part {
			d.roles.put(gen, p, by[p])
			out = append(out, by[p]...)
		}
	}
	return out, nil
}
