package arm

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"net/http"
	"strings"

	"github.com/hawser/hawser/internal/arm/template"
	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/guard"
)

// Modes of a deployment.
const (
	modeIncremental = "Incremental"
	modeComplete    = "Complete"
)

// deploymentRequest is what the body of a PUT, of validate or of whatIf asks.
type deploymentRequest struct {
	id       az.ID
	mode     string
	location string
	tags     map[string]string
	raw      any // the template
	run      *template.Run
	plan     []*template.Resource
}

// readDeployment reads a body. It is JSON as templates are: with comments, and
// as az sends it.
func (a *API) readDeployment(ctx context.Context, call *Call, id az.ID) (*deploymentRequest, error) {
	scope := id.Parent()
	if err := checkDeploymentID(id); err != nil {
		return nil, err
	}
	if err := a.scopeExists(scope, a.outside(ctx)); err != nil {
		return nil, err
	}
	v, err := template.Decode(call.Body)
	if err != nil {
		return nil, az.Errorf(az.Invalid, "InvalidRequestContent", "The request content is invalid and could not be deserialized.").Because(err)
	}
	body, _ := v.(map[string]any)
	p, _ := field(body, "properties").(map[string]any)
	if p == nil {
		return nil, az.Errorf(az.Invalid, "InvalidRequestContent", "The request's body has no properties.")
	}
	d := &deploymentRequest{id: id, raw: field(p, "template")}
	if err := d.takeBasics(body, p, scope); err != nil {
		return nil, err
	}
	values, err := parameterValues(field(p, "parameters"))
	if err != nil {
		return nil, err
	}
	parsed, err := template.Parse(d.raw)
	if err != nil {
		return nil, err
	}
	host, err := a.deploymentHost(ctx, call, id, d.location, d.mode)
	if err != nil {
		return nil, err
	}
	if d.run, err = parsed.Bind(values, host, template.NewBudget()); err != nil {
		return nil, err
	}
	return d, a.planDeployment(d)
}

// checkDeploymentID is what holds for nested deployments too.
func checkDeploymentID(id az.ID) error {
	if scope := id.Parent(); !isGroup(scope) && !isSubscription(scope) {
		return az.Errorf(az.Invalid, "InvalidDeploymentScope", "A deployment can be at a resource group or at the subscription.")
	}
	if len(id.Name()) > maxDeploymentName {
		return az.Errorf(az.Invalid, "InvalidDeploymentName", "A deployment's name can have at most %d characters.", maxDeploymentName)
	}
	return nil
}

func deploymentMode(mode string, scope az.ID) (string, error) {
	switch {
	case mode == "" || strings.EqualFold(mode, modeIncremental):
		return modeIncremental, nil
	case strings.EqualFold(mode, modeComplete) && isGroup(scope):
		return modeComplete, nil
	}
	return "", az.Errorf(az.Invalid, "InvalidDeploymentMode", "The mode of a deployment must be 'Incremental', or at a resource group 'Complete'.")
}

// field reads a member whatever its case.
func field(m map[string]any, name string) any { v, _, _ := findFold(m, name); return v }

func (d *deploymentRequest) takeBasics(body, p map[string]any, scope az.ID) error {
	d.location, _ = field(body, "location").(string)
	if isSubscription(scope) && d.location == "" {
		return az.Errorf(az.Invalid, "LocationRequired", "The location property is required for a deployment at a subscription.")
	}
	if tags, ok := field(body, "tags").(map[string]any); ok {
		d.tags = map[string]string{}
		for k, v := range tags {
			d.tags[k] = fmt.Sprint(v)
		}
	}
	mode, _ := field(p, "mode").(string)
	var err error
	if d.mode, err = deploymentMode(mode, scope); err != nil {
		return err
	}
	for _, link := range []string{"templateLink", "parametersLink"} {
		if field(p, link) != nil {
			return az.Errorf(az.Invalid, "InvalidRequestContent", "The property '%s' is not served here: nothing is fetched from other places. Send the template and its parameters in the request.", link)
		}
	}
	if d.raw == nil {
		return az.Errorf(az.Invalid, "InvalidRequestContent", "The request's body has no template.")
	}
	return nil
}

// parameterValues takes {"name": {"value": …}}, or a whole parameter file.
func parameterValues(v any) (map[string]any, error) {
	given, _ := v.(map[string]any)
	if inner, is := field(given, "parameters").(map[string]any); is && field(given, "$schema") != nil {
		given = inner
	}
	out := make(map[string]any, len(given))
	for name, x := range given {
		p, _ := x.(map[string]any)
		value, _, ok := findFold(p, "value")
		if field(p, "reference") != nil {
			return nil, az.Errorf(az.Invalid, "InvalidDeploymentParameterValue", "The parameter '%.64s' is a Key Vault reference, which deployments do not read here. Give its value, or use a Key Vault reference in the app's settings.", name)
		}
		if !ok {
			return nil, az.Errorf(az.Invalid, "InvalidDeploymentParameterValue", "The parameter '%.64s' has no value: the form is {\"name\": {\"value\": …}}.", name)
		}
		out[name] = value
	}
	return out, nil
}

// planDeployment makes the plan and looks at what can be known before: that
// types are served, and that expressions hold.
func (a *API) planDeployment(d *deploymentRequest) error {
	var err error
	if d.plan, err = d.run.Plan(); err != nil {
		return err
	}
	for _, res := range d.plan {
		if res.Existing || !res.Enabled {
			continue
		}
		if _, err := apiVersion("api-version=" + res.Version); err != nil {
			return az.Errorf(az.Invalid, template.CodeInvalid, "The apiVersion of the resource '%s' is not a date such as 2022-09-01.", res.ID)
		}
		if !a.canPut(res.ID) {
			return az.Errorf(az.Invalid, "InvalidTemplateDeployment", "The resource '%s' cannot be deployed: its type '%s' is not served here.", res.ID, res.Type)
		}
		if strings.EqualFold(res.Type, template.DeploymentsType) {
			_, err = d.run.Nested(res, false)
		} else {
			_, _, err = d.run.Body(res, false)
		}
		if err != nil && !template.ErrNotYet(err) {
			return err
		}
	}
	return nil
}

// canPut says whether a PUT at an id leads anywhere.
func (a *API) canPut(id az.ID) bool {
	if t, _, _ := a.resolve(id); t != nil {
		return true
	}
	rt, _ := a.exact(&Call{Method: http.MethodPut, path: id})
	return rt != nil
}

// deploymentHost is the world as a deployment's expressions see it.
func (a *API) deploymentHost(ctx context.Context, call *Call, id az.ID, location, mode string) (template.Host, error) {
	scope := id.Parent()
	sub := a.subscription()
	host := template.Host{Scope: scope, Now: a.now(), NewGUID: az.NewGUID,
		Subscription: map[string]any{"id": sub.String(), "subscriptionId": sub.Name(), "tenantId": a.cfg.Names.Tenant, "displayName": a.cfg.TenantName},
		Tenant:       map[string]any{"tenantId": a.cfg.Names.Tenant, "countryCode": "", "displayName": a.cfg.TenantName},
		Deployer:     map[string]any{"objectId": call.Caller.ObjectID, "tenantId": a.cfg.Names.Tenant},
		Deployment: map[string]any{"name": id.Name(), "properties": map[string]any{"mode": mode, "provisioningState": "Accepted",
			"template": map[string]any{"contentVersion": "1.0.0.0"}}},
	}
	var err error
	if host.Environment, err = a.environment(); err != nil {
		return host, err
	}
	if !isGroup(scope) {
		host.Deployment["location"] = location
		return host, nil
	}
	g, err := a.groups.mustLoad(ctx, scope)
	if err != nil {
		return host, err
	}
	tags := map[string]any{}
	for k, v := range g.Tags {
		tags[k] = v
	}
	host.ResourceGroup = map[string]any{"id": g.ID.String(), "name": g.ID.Name(), "type": groupsName, "location": g.Location, "tags": tags,
		"properties": map[string]any{"provisioningState": StateSucceeded}}
	return host, nil
}

// environment is what environment() gives: the plane as a cloud.
func (a *API) environment() (map[string]any, error) {
	c := a.cloud()
	c.Suffixes["keyvaultDns"] = "." + c.Suffixes["keyVaultDns"]
	c.Suffixes["sqlServerHostname"] = "." + c.Suffixes["sqlServerHostname"]
	delete(c.Suffixes, "keyVaultDns")
	b, err := json.Marshal(c)
	if err != nil {
		return nil, az.Errorf(az.Internal, "", "").Because(err)
	}
	var m map[string]any
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, az.Errorf(az.Internal, "", "").Because(err)
	}
	delete(m, "ossrdbmsResourceId") // az's spelling; names count without case here
	return m, nil
}

// templateHash tells templates apart in the history.
func templateHash(b []byte) string {
	h := fnv.New64a()
	_, _ = h.Write(b) // never fails
	return fmt.Sprint(h.Sum64())
}

// validateDeployment answers whether a deployment would be taken: the
// template, and the caller's right to write each resource.
func (a *API) validateDeployment(ctx context.Context, call *Call) (any, error) {
	id := call.deploymentAt(1)
	if err := call.Check(ctx, guard.Control(template.DeploymentsType+"/validate/action"), id); err != nil {
		return nil, err
	}
	d, err := a.readDeployment(ctx, call, id)
	if err != nil {
		return nil, err
	}
	ids := []resourceRef{}
	for _, res := range d.plan {
		if res.Existing || !res.Enabled {
			continue
		}
		if t, owner, doc := a.resolve(res.ID); t != nil {
			right := t.info().write
			if doc != "" {
				word, _, _ := strings.Cut(doc, "/")
				right = guard.Control(t.info().rights + "/" + word + "/write")
			}
			if err := call.Check(ctx, right, owner); err != nil {
				return nil, err
			}
		}
		ids = append(ids, resourceRef{res.ID.String()})
	}
	return map[string]any{"id": id, "name": id.Name(), "type": template.DeploymentsType, "properties": map[string]any{
		"provisioningState": StateSucceeded, "mode": d.mode, "timestamp": a.now().UTC().Format(timeForm), "duration": "PT0S",
		"correlationId": az.Correlation(ctx), "providers": []any{}, "dependencies": []any{}, "validatedResources": ids,
		"parameters": shownParameters(d.run)}}, nil
}

// shownParameters are the parameters without what is secure.
func shownParameters(run *template.Run) map[string]shownParameter {
	out := map[string]shownParameter{}
	for _, p := range run.Parameters() {
		s := shownParameter{Type: p.Type}
		if !p.Secure {
			s.Value = p.Value
		}
		out[p.Name] = s
	}
	return out
}
