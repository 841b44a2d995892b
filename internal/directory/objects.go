package directory

import (
	"context"
	"strings"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/store"
)

func (d *Directory) objectOperations() []operation {
	return []operation{
		{method: "GET", path: "/directoryObjects/{id}", need: &needs.object, handle: d.show},
		{method: "POST", path: "/directoryObjects/getByIds", need: &needs.objects, handle: d.getByIDs},
		{method: "POST", path: "/directoryObjects/{id}/checkMemberGroups", need: &needs.object, handle: d.checkMembers("groupIds")},
		{method: "POST", path: "/directoryObjects/{id}/checkMemberObjects", need: &needs.object, handle: d.checkMembers("ids")},
		{method: "POST", path: "/directoryObjects/{id}/getMemberGroups", need: &needs.object, handle: d.getMembers},
		{method: "POST", path: "/directoryObjects/{id}/getMemberObjects", need: &needs.object, handle: d.getMembers},
		{method: "GET", path: "/organization", need: &needs.anybody, handle: d.organization},
		{method: "GET", path: "/organization/{tenant}", need: &needs.anybody, handle: d.organization},
		{method: "GET", path: "/domains", need: &needs.anybody, handle: d.domains},
		{method: "GET", path: "/domains/{domain}", need: &needs.anybody, handle: d.domains},
	}
}

// maxIDs bounds getByIds. Source: Microsoft Graph, "up to 1,000".
const maxIDs = 1000

func (d *Directory) getByIDs(ctx context.Context, c *call) (any, error) {
	var b struct {
		IDs   []string `json:"ids"`
		Types []string `json:"types"`
	}
	if err := c.body(&b); err != nil {
		return nil, err
	}
	if len(b.IDs) == 0 || len(b.IDs) > maxIDs {
		return nil, az.Errorf(az.Invalid, "Request_BadRequest", "The property 'ids' must hold 1 to %d ids.", maxIDs)
	}
	for i, id := range b.IDs {
		if b.IDs[i] = strings.ToLower(id); !az.IsGUID(id) {
			return nil, az.Errorf(az.Invalid, "Request_BadRequest", "An id in the property 'ids' is not a GUID.")
		}
	}
	found, err := d.Find(ctx, store.ObjectQuery{IDs: b.IDs})
	if err != nil {
		return nil, err
	}
	v := d.viewer(ctx)
	v.prepare(found)
	out, n := append(c.context(nil, "directoryObjects"), `,"value":[`...), 0
	for _, o := range found {
		if len(b.Types) > 0 && !hasFold(b.Types, d.schemas[o.Kind].typ) && !hasFold(b.Types, "directoryObject") {
			continue
		}
		if n++; n > 1 {
			out = append(out, ',')
		}
		out = append(v.append(out, o, &selection{typed: true, peopleBasic: c.peopleBasic()}), '}')
	}
	return append(out, ']', '}'), v.err
}

// organization shows the plane's one tenant.
func (d *Directory) organization(_ context.Context, c *call) (any, error) {
	v := map[string]any{"id": d.cfg.Names.Tenant, "displayName": "Hawser", "tenantType": "AAD", "countryLetterCode": nil,
		"verifiedDomains": []any{map[string]any{"name": d.cfg.Names.Domain, "isDefault": true, "isInitial": true, "type": "Managed", "capabilities": ""}},
		"assignedPlans":   []any{}, "provisionedPlans": []any{}, "businessPhones": []any{}, "technicalNotificationMails": []any{}}
	if id := c.vars["tenant"]; id != "" {
		if !strings.EqualFold(id, d.cfg.Names.Tenant) {
			return nil, notFound(id)
		}
		v["@odata.context"] = c.base + "/$metadata#organization/$entity"
		return v, nil
	}
	return map[string]any{"@odata.context": c.base + "/$metadata#organization", "value": []any{v}}, nil
}

// domains shows the one domain that is the plane's own.
func (d *Directory) domains(_ context.Context, c *call) (any, error) {
	v := map[string]any{"id": d.cfg.Names.Domain, "authenticationType": "Managed", "isAdminManaged": true, "isDefault": true,
		"isInitial": true, "isRoot": true, "isVerified": true, "supportedServices": []any{}}
	if id := c.vars["domain"]; id != "" {
		if !strings.EqualFold(id, d.cfg.Names.Domain) {
			return nil, notFound("")
		}
		v["@odata.context"] = c.base + "/$metadata#domains/$entity"
		return v, nil
	}
	return map[string]any{"@odata.context": c.base + "/$metadata#domains", "value": []any{v}}, nil
}
