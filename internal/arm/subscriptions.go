package arm

import (
	"context"
	"net/http"
	"sort"
	"strings"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/store"
)

var (
	actionSubscriptionRead  = guard.Control("Microsoft.Resources/subscriptions/read")
	actionLocationsRead     = guard.Control("Microsoft.Resources/subscriptions/locations/read")
	actionProvidersRead     = guard.Control("Microsoft.Resources/subscriptions/providers/read")
	actionProvidersRegister = guard.Control("Microsoft.Resources/subscriptions/providers/register/action")
	actionResourcesRead     = guard.Control("Microsoft.Resources/subscriptions/resources/read")
	// anybody marks routes that are open to every caller with a token; see Handle.
	anybody guard.Action
)

// ownRoutes are the exact paths of this package.
func (a *API) ownRoutes() {
	const sub = "/subscriptions/{subscription}"
	a.Handle(http.MethodGet, "/tenants", anybody, a.tenants)
	a.Handle(http.MethodGet, "/subscriptions", anybody, a.subscriptions)
	a.Handle(http.MethodGet, sub, anybody, a.getSubscription)
	a.Handle(http.MethodGet, sub+"/locations", actionLocationsRead, a.locations)
	a.Handle(http.MethodGet, sub+"/providers", actionProvidersRead, a.providers)
	a.Handle(http.MethodGet, sub+"/providers/{namespace}", actionProvidersRead, a.provider)
	a.Handle(http.MethodPost, sub+"/providers/{namespace}/register", actionProvidersRegister, a.provider)
	a.HandleOwn(http.MethodGet, sub+"/resources", a.resources)
	a.HandleOwn(http.MethodGet, sub+"/resourceGroups/{group}/resources", a.resources)
	a.HandleOwn(http.MethodGet, sub+"/providers/Hawser.Resources/operationStatuses/{id}", a.operationStatus)
	a.HandleOwn(http.MethodGet, sub+"/providers/Hawser.Resources/operationResults/{id}", a.operationResult)
	a.Handle(http.MethodGet, "{scope}/providers/Microsoft.Authorization/permissions", anybody, a.permissions)
	a.Handle(http.MethodPost, "{scope}/providers/Hawser.Authorization/why", anybody, a.why)
}

// tenants answers GET /tenants: whoever has a token is of the one tenant.
func (a *API) tenants(_ context.Context, _ *Call) (any, error) {
	t := a.cfg.Names.Tenant
	return Page{Value: []any{map[string]any{
		"id": "/tenants/" + t, "tenantId": t, "tenantCategory": "Home", "displayName": a.cfg.TenantName,
		"defaultDomain": a.cfg.Names.Domain, "domains": []string{a.cfg.Names.Domain},
	}}}, nil
}

// subscriptions answers GET /subscriptions: the one there is, to whoever holds
// any role in it, anywhere.
func (a *API) subscriptions(ctx context.Context, call *Call) (any, error) {
	in, err := a.hasRoleIn(ctx, call.Caller, a.subscription())
	if err != nil {
		return nil, err
	}
	page := Page{Value: []any{}}
	if in {
		page.Value = append(page.Value, a.subscriptionBody())
	}
	return page, nil
}

// getSubscription answers GET of the subscription.
func (a *API) getSubscription(ctx context.Context, call *Call) (any, error) {
	call.ID = call.path
	in := strings.EqualFold(call.ID.Subscription(), a.cfg.Names.Subscription)
	if in {
		var err error
		if in, err = a.hasRoleIn(ctx, call.Caller, call.ID); err != nil {
			return nil, err
		}
	}
	if !in {
		if err := call.Check(ctx, actionSubscriptionRead, call.ID); err != nil {
			return nil, err
		}
		return nil, notFound(call.ID)
	}
	return a.subscriptionBody(), nil
}

func (a *API) subscriptionBody() map[string]any {
	s := a.cfg.Names.Subscription
	return map[string]any{
		"id": "/subscriptions/" + s, "subscriptionId": s, "tenantId": a.cfg.Names.Tenant, "displayName": a.cfg.TenantName,
		"state": "Enabled", "authorizationSource": "RoleBased", "managedByTenants": []any{},
		"subscriptionPolicies": map[string]any{"locationPlacementId": "Internal_2014-09-01", "quotaId": "Internal_2014-09-01", "spendingLimit": "Off"},
	}
}

// hasRoleIn reports whether somebody, or a group they are in, holds a role at
// a scope, above it or anywhere below it.
func (a *API) hasRoleIn(ctx context.Context, who az.Principal, scope az.ID) (bool, error) {
	mine, err := a.assignmentsOf(ctx, who.ObjectID)
	if err != nil {
		return false, err
	}
	for _, r := range mine {
		if at := r.ID.Parent(); at.Within(scope) || scope.Within(at) {
			return true, nil
		}
	}
	return false, nil
}

// locations are the region that a plane is, and Azure's, which clients
// compare what users write with.
func (a *API) locations(_ context.Context, call *Call) (any, error) {
	names := []string{"Local", "Australia East", "Brazil South", "Canada Central", "Central India", "Central US", "East Asia", "East US", "East US 2",
		"France Central", "Germany West Central", "Italy North", "Japan East", "Korea Central", "North Central US", "North Europe", "Norway East",
		"Poland Central", "South Africa North", "South Central US", "Southeast Asia", "Spain Central", "Sweden Central", "Switzerland North",
		"UAE North", "UK South", "UK West", "West Central US", "West Europe", "West US", "West US 2", "West US 3"}
	page := Page{}
	for _, display := range names {
		name := strings.ToLower(strings.ReplaceAll(display, " ", ""))
		page.Value = append(page.Value, map[string]any{
			"id": a.subscription().Child("locations", name), "name": name, "displayName": display, "regionalDisplayName": display,
			"type": "Region", "metadata": map[string]any{"regionType": "Physical", "regionCategory": "Recommended", "geographyGroup": "Hawser",
				"longitude": "0", "latitude": "0", "physicalLocation": "", "pairedRegion": []any{}},
		})
	}
	return page, nil
}

func (a *API) providers(_ context.Context, _ *Call) (any, error) {
	seen := map[string]string{}
	for _, t := range a.order {
		seen[strings.ToLower(t.info().namespace())] = t.info().namespace()
	}
	names := make([]string, 0, len(seen))
	for _, ns := range seen {
		names = append(names, ns)
	}
	sort.Strings(names)
	page := Page{}
	for _, ns := range names {
		page.Value = append(page.Value, a.providerBody(ns))
	}
	return page, nil
}

func (a *API) provider(_ context.Context, call *Call) (any, error) {
	ns := call.Param("namespace")
	for _, t := range a.order {
		if strings.EqualFold(t.info().namespace(), ns) {
			return a.providerBody(t.info().namespace()), nil
		}
	}
	return nil, az.Errorf(az.NotFound, "InvalidResourceNamespace", "The resource namespace '%s' is invalid.", ns)
}

func (a *API) providerBody(ns string) map[string]any {
	types := []any{}
	for _, t := range a.order {
		i := t.info()
		if i.namespace() != ns {
			continue
		}
		versions := i.versions
		if versions == nil {
			versions = []string{}
		}
		types = append(types, map[string]any{"resourceType": strings.TrimPrefix(i.name, ns+"/"), "locations": []string{"Local"},
			"apiVersions": versions, "capabilities": "SupportsTags, SupportsLocation"})
	}
	return map[string]any{"id": a.subscription().Child("providers", ns), "namespace": ns, "registrationState": "Registered",
		"registrationPolicy": "RegistrationRequired", "resourceTypes": types}
}

// readRight is the right to read a row: that of its type.
func (a *API) readRight(row store.Resource) guard.Action {
	if t := a.types[strings.ToLower(row.ID.Type())]; t != nil {
		return t.info().read
	}
	return actionResourcesRead
}
