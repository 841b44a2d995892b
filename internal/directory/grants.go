package directory

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/rest"
	"github.com/hawser/hawser/internal/store"
)

func (d *Directory) grantOperations() []operation {
	return []operation{
		{method: "GET", path: "/oauth2PermissionGrants", need: &needs.readGrants, handle: func(ctx context.Context, c *call) (any, error) { return d.grantList(ctx, c, store.GrantQuery{}) }},
		{method: "POST", path: "/oauth2PermissionGrants", need: &needs.writeGrants, handle: d.createGrant},
		{method: "GET", path: "/oauth2PermissionGrants/{grant}", need: &needs.readGrants, handle: d.showGrant},
		{method: "PATCH", path: "/oauth2PermissionGrants/{grant}", need: &needs.writeGrants, handle: d.patchGrant},
		{method: "DELETE", path: "/oauth2PermissionGrants/{grant}", need: &needs.writeGrants, handle: d.deleteGrant},
	}
}

// smallPage is a page of a list that has no objects: grants and assignments.
type smallPage struct {
	top     int
	after   string
	binding string
}

// smallQuery reads the options of such a list: equality of ids joined by and,
// $top and $skiptoken. Others are ignored, as $select may be.
func (d *Directory) smallQuery(c *call, fields map[string]bool) (map[string]string, smallPage, error) {
	p := smallPage{top: defaultTop}
	all, err := params(c.URL.RawQuery)
	if err != nil {
		return nil, p, err
	}
	filter := all["filter"]
	p.binding = strings.Join([]string{c.path, filter}, "\x00")
	q, err := d.parseQuery(url.Values{"$top": orNone(all["top"])}.Encode(), c.path, d.schemas[""], false)
	if err != nil {
		return nil, p, err
	}
	p.top = q.top
	n, err := parseFilter(filter)
	if err != nil {
		return nil, p, err
	}
	out := map[string]string{}
	if !equalities(n, fields, out) {
		return nil, p, badFilter("this list is filtered by the equality of ids, joined by and")
	}
	if t := all["skiptoken"]; t != "" {
		after, err := d.openToken(t, p.binding)
		if err != nil {
			return nil, p, err
		}
		p.after = after.ID
	}
	return out, p, nil
}

func orNone(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}

func equalities(n *node, fields map[string]bool, out map[string]string) bool {
	switch {
	case n == nil:
		return true
	case n.op == opAnd:
		for i := range n.kids {
			if !equalities(&n.kids[i], fields, out) {
				return false
			}
		}
		return true
	case n.op == opEq && fields[n.path] && n.values[0].kind == litText:
		out[n.path] = n.values[0].text
		return true
	}
	return false
}

func (p *smallPage) next(d *Directory, c *call, last string) string {
	if last == "" {
		return ""
	}
	q, _ := url.ParseQuery(c.URL.RawQuery) // it was read before
	q.Set("$skiptoken", d.sealToken(&Object{ID: last}, &query{binding: p.binding}))
	return c.base + c.path + "?" + q.Encode()
}

func (p *smallPage) reply(c *call, context string, out []any, next string) map[string]any {
	v := map[string]any{"@odata.context": c.base + "/$metadata#" + context, "value": list(out)}
	if next != "" {
		v["@odata.nextLink"] = next
	}
	return v
}

func (d *Directory) grantsOfUser(ctx context.Context, c *call) (any, error) {
	return d.grantList(ctx, c, store.GrantQuery{Principal: &c.target.ID})
}

func (d *Directory) grantsOfClient(ctx context.Context, c *call) (any, error) {
	return d.grantList(ctx, c, store.GrantQuery{Client: c.target.ID})
}

func (d *Directory) grantList(ctx context.Context, c *call, q store.GrantQuery) (any, error) {
	f, p, err := d.smallQuery(c, map[string]bool{"clientid": true, "resourceid": true, "principalid": true, "consenttype": true})
	if err != nil {
		return nil, err
	}
	q.After, q.Limit = p.after, p.top+1
	for name, to := range map[string]*string{"clientid": &q.Client, "resourceid": &q.Resource} {
		if f[name] != "" {
			if *to != "" && *to != f[name] {
				return p.reply(c, "oauth2PermissionGrants", nil, ""), nil
			}
			*to = f[name]
		}
	}
	if who, everybody := f["principalid"], ""; who != "" && q.Principal == nil {
		q.Principal = &who
	} else if f["consenttype"] == "allprincipals" && q.Principal == nil {
		q.Principal = &everybody
	}
	rows, err := d.store.Grants(ctx, q)
	if err != nil {
		return nil, err
	}
	next := ""
	if len(rows) > p.top {
		rows = rows[:p.top]
		next = rows[len(rows)-1].ID
	}
	out := []any{}
	for _, r := range rows {
		if f["consenttype"] == "principal" && r.Principal == "" {
			continue
		}
		out = append(out, grantView(r))
	}
	return p.reply(c, "oauth2PermissionGrants", out, p.next(d, c, next)), nil
}

func grantView(g store.Grant) map[string]any {
	kind := "Principal"
	if g.Principal == "" {
		kind = "AllPrincipals"
	}
	return map[string]any{"id": g.ID, "clientId": g.Client, "consentType": kind, "principalId": text(g.Principal), "resourceId": g.Resource, "scope": g.Scopes}
}

type grantBody struct {
	Client    string      `json:"clientId"`
	Consent   string      `json:"consentType"`
	Principal string      `json:"principalId"`
	Resource  string      `json:"resourceId"`
	Scope     opt[string] `json:"scope"`
}

func (d *Directory) createGrant(ctx context.Context, c *call) (any, error) {
	var b grantBody
	if err := c.body(&b); err != nil {
		return nil, err
	}
	b.Client, b.Principal, b.Resource = strings.ToLower(b.Client), strings.ToLower(b.Principal), strings.ToLower(b.Resource)
	switch {
	case b.Consent == "AllPrincipals" && b.Principal == "", b.Consent == "Principal" && az.IsGUID(b.Principal):
	default:
		return nil, az.Errorf(az.Invalid, "Request_BadRequest", "The property 'consentType' must be AllPrincipals, or Principal with a 'principalId'.")
	}
	if err := d.guardGrant(ctx, c, b.Resource, b.Scope.v); err != nil {
		return nil, err
	}
	var made []store.Grant
	err := d.store.Write(ctx, func(tx *store.Tx) (err error) {
		q := store.GrantQuery{Client: b.Client, Principal: &b.Principal, Resource: b.Resource}
		if made, err = tx.Grants(q); err != nil {
			return err
		}
		if len(made) > 0 {
			return az.Errorf(az.Conflict, "Request_MultipleObjectsWithSameKeyValue", "Permission entry already exists.")
		}
		if err := d.AddGrant(tx, b.Client, b.Principal, b.Resource, strings.Fields(b.Scope.v)); err != nil {
			return err
		}
		made, err = tx.Grants(q)
		return err
	})
	if err != nil {
		return nil, err
	}
	if len(made) != 1 {
		return nil, az.Errorf(az.Invalid, "Request_BadRequest", "The property 'scope' must name at least one scope.")
	}
	v := grantView(made[0])
	v["@odata.context"] = c.base + "/$metadata#oauth2PermissionGrants/$entity"
	return &rest.Reply{Status: http.StatusCreated, Body: v}, nil
}

// guardGrant asks for the right to consent, and for more where a permission of
// the platform is granted. That goes for one person's as for everybody's: a
// client with a scope acts with all that the person may.
func (d *Directory) guardGrant(ctx context.Context, c *call, resource, scope string) error {
	if strings.TrimSpace(scope) == "" {
		return az.Errorf(az.Invalid, "Request_BadRequest", "The property 'scope' must name at least one scope.")
	}
	r, err := d.resource(ctx, resource)
	if err != nil {
		return err
	}
	return d.guardPermission(ctx, c, r)
}

func (d *Directory) grantNamed(ctx context.Context, c *call) (store.Grant, error) {
	id := strings.ToLower(c.vars["grant"])
	if !az.IsGUID(id) {
		return store.Grant{}, notFound(id)
	}
	all, err := d.store.Grants(ctx, store.GrantQuery{ID: id})
	if err != nil {
		return store.Grant{}, err
	}
	if len(all) != 1 {
		return store.Grant{}, notFound(id)
	}
	return all[0], nil
}

func (d *Directory) showGrant(ctx context.Context, c *call) (any, error) {
	g, err := d.grantNamed(ctx, c)
	if err != nil {
		return nil, err
	}
	return grantView(g), nil
}

func (d *Directory) patchGrant(ctx context.Context, c *call) (any, error) {
	var b grantBody
	if err := c.body(&b); err != nil {
		return nil, err
	}
	g, err := d.grantNamed(ctx, c)
	if err != nil {
		return nil, err
	}
	if !b.Scope.there {
		return nil, nil
	}
	if err := d.guardGrant(ctx, c, g.Resource, b.Scope.v); err != nil {
		return nil, err
	}
	scopes := strings.Fields(b.Scope.v)
	if err := checkScopes(scopes); err != nil {
		return nil, err
	}
	return nil, d.store.Write(ctx, func(tx *store.Tx) error {
		now, err := tx.Grants(store.GrantQuery{ID: g.ID})
		if err == nil && len(now) != 1 { // what was withdrawn meanwhile stays so
			err = notFound(g.ID)
		}
		g.Scopes = strings.Join(scopes, " ")
		if err == nil {
			err = tx.PutGrant(g)
		}
		return err
	})
}

func (d *Directory) deleteGrant(ctx context.Context, c *call) (any, error) {
	g, err := d.grantNamed(ctx, c)
	if err != nil {
		return nil, err
	}
	return nil, d.store.Write(ctx, func(tx *store.Tx) error { return tx.DeleteGrant(g) })
}
