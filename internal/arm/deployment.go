package arm

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/hawser/hawser/internal/arm/template"
	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/rest"
	"github.com/hawser/hawser/internal/store"
)

// StateRunning is a deployment's state while its resources are put.
const StateRunning = "Running"

const (
	// maxDeployments is how many a scope's history holds; the oldest goes.
	// Source: Azure Resource Manager limits, 800 deployments per group.
	maxDeployments = 800
	// maxNestedDeployments bounds templates in templates. Source: "Using linked
	// and nested templates", at most five levels.
	maxNestedDeployments = 5
	// maxDeploymentName bounds a deployment's name. Source: Azure naming rules.
	maxDeploymentName = 64
)

// deploymentProperties is a deployment's history. What is secret (the
// template, which may hold anything, and outputs made of secrets) lies in the
// resource's Secrets; values of secure parameters are not kept at all.
type deploymentProperties struct {
	Mode            string                    `json:"mode"`
	Correlation     string                    `json:"correlationId"`
	TemplateHash    string                    `json:"templateHash"`
	Parameters      map[string]shownParameter `json:"parameters,omitempty"`
	Outputs         map[string]shownOutput    `json:"outputs,omitempty"`
	OutputResources []resourceRef             `json:"outputResources,omitempty"`
	Error           *failure                  `json:"error,omitempty"`

	Caller     string                `json:"hawserCaller"`
	Started    az.Micros             `json:"hawserStarted"`
	Ended      az.Micros             `json:"hawserEnded,omitempty"`
	Operations []deploymentOperation `json:"hawserOperations,omitempty"`
}

type shownParameter struct {
	Type  string `json:"type"`
	Value any    `json:"value,omitempty"`
}

type shownOutput struct {
	Type  string `json:"type"`
	Value any    `json:"value,omitempty"`
}

type resourceRef struct {
	ID string `json:"id"`
}

// deploymentOperation is what became of one resource.
type deploymentOperation struct {
	ID      string    `json:"id"`
	Kind    string    `json:"kind"` // Create or Delete
	State   string    `json:"state"`
	Target  string    `json:"target"`
	Started az.Micros `json:"started"`
	Ended   az.Micros `json:"ended"`
	Status  int       `json:"status"`
	Error   *failure  `json:"error,omitempty"`
}

// The names under which a deployment's secrets lie.
const (
	secretTemplate = "template"
	secretOutputs  = "outputs"
)

type deployment = Resource[deploymentProperties]

// deploymentType is deployments of templates: at a resource group or the
// subscription. deployment_request.go reads what a request asks for,
// deployment_run.go puts the resources.
func (a *API) deploymentType() *Type[deploymentProperties] {
	t := Define(template.DeploymentsType, []string{"2025-04-01", "2024-03-01", "2022-09-01", "2021-04-01", "2020-10-01", "2019-10-01"}, Hooks[deploymentProperties]{
		Extension: true,
		NoState:   true,
		Apply:     a.forgetDeployments,
		View: func(_ context.Context, call *Call, r *deployment) (any, error) {
			return a.showDeployment(r), nil
		},
	})
	t.about.put, t.about.fetch, t.about.discard, t.about.head = a.putDeployment, a.getDeployment, a.deleteDeployment, a.deploymentExists
	return t
}

// deploymentRoutes are the addresses below a deployment's, and of those that
// are only asked about.
func (a *API) deploymentRoutes() {
	const at = "{scope}/providers/Microsoft.Resources/deployments/{name}/"
	a.HandleOwn(http.MethodPost, at+"validate", a.validateDeployment)
	a.HandleOwn(http.MethodPost, at+"whatIf", a.whatIfDeployment)
	a.HandleOwn(http.MethodPost, at+"exportTemplate", a.exportDeployment)
	a.HandleOwn(http.MethodPost, at+"cancel", a.cancelDeployment)
	a.HandleOwn(http.MethodGet, at+"operations", a.deploymentOperations)
	a.HandleOwn(http.MethodGet, at+"operations/{operation}", a.deploymentOperations)
	// The older form, which az and the SDKs use for groups.
	const old = "/subscriptions/{subscription}/resourceGroups/{group}/deployments/{name}/operations"
	a.HandleOwn(http.MethodGet, old, a.deploymentOperations)
	a.HandleOwn(http.MethodGet, old+"/{operation}", a.deploymentOperations)
}

// shownDeployment is the properties of a deployment on the wire.
type shownDeployment struct {
	State           string                    `json:"provisioningState"`
	Correlation     string                    `json:"correlationId"`
	Timestamp       string                    `json:"timestamp"`
	Duration        string                    `json:"duration"`
	Mode            string                    `json:"mode"`
	TemplateHash    string                    `json:"templateHash"`
	Parameters      map[string]shownParameter `json:"parameters,omitempty"`
	Outputs         map[string]shownOutput    `json:"outputs,omitempty"`
	OutputResources []resourceRef             `json:"outputResources"`
	Dependencies    []any                     `json:"dependencies"`
	Providers       []shownProvider           `json:"providers"`
	Error           *failure                  `json:"error,omitempty"`
}

type shownProvider struct {
	Namespace string      `json:"namespace"`
	Types     []shownType `json:"resourceTypes"`
}

type shownType struct {
	Name      string   `json:"resourceType"`
	Locations []string `json:"locations"`
}

func (a *API) showDeployment(r *deployment) *shownDeployment {
	p := &r.Properties
	end := p.Ended
	if end == 0 {
		end = az.MicrosOf(a.now())
	}
	s := &shownDeployment{State: a.deploymentState(r), Correlation: p.Correlation, Timestamp: end.Time().Format(timeForm), Duration: isoDuration(end - p.Started),
		Mode: p.Mode, TemplateHash: p.TemplateHash, Parameters: p.Parameters, Outputs: p.Outputs, OutputResources: p.OutputResources,
		Dependencies: []any{}, Providers: []shownProvider{}, Error: p.Error}
	if s.OutputResources == nil {
		s.OutputResources = []resourceRef{}
	}
	seen := map[string]int{}
	for _, op := range p.Operations {
		id, err := az.ParseID(op.Target)
		if err != nil {
			continue
		}
		ns, rest, _ := strings.Cut(id.Type(), "/")
		at, ok := seen[ns]
		if !ok {
			at = len(s.Providers)
			seen[ns] = at
			s.Providers = append(s.Providers, shownProvider{Namespace: ns})
		}
		if key := id.Type(); seen[key] == 0 {
			seen[key] = 1
			s.Providers[at].Types = append(s.Providers[at].Types, shownType{rest, []string{DefaultLocation}})
		}
	}
	return s
}

// timeForm is how deployments write times.
const timeForm = "2006-01-02T15:04:05.0000000Z"

// isoDuration writes a duration as ISO 8601 has it.
func isoDuration(d az.Micros) string {
	t := max(time.Duration(d)*time.Microsecond, 0).Round(time.Millisecond)
	return "PT" + strings.ToUpper(strings.TrimSuffix(time.Duration(t/time.Millisecond*time.Millisecond).String(), "ms"))
}

// deploymentState is what a deployment's state is: one whose plane ended
// without it is not running.
func (a *API) deploymentState(r *deployment) string {
	if r.State == StateRunning && a.now().Sub(r.Properties.Started.Time()) > operationTime+requestTime {
		return StateFailed
	}
	if r.State == "" {
		return StateSucceeded
	}
	return r.State
}

// forgetDeployments makes room in a scope's history.
func (a *API) forgetDeployments(tx *store.Tx, r, old *deployment) error {
	if old != nil {
		return nil
	}
	rows, err := tx.Resources(store.ResourceQuery{Type: template.DeploymentsType, Parent: r.ID.Parent()})
	if err != nil {
		return err
	}
	for len(rows) >= maxDeployments {
		oldest := 0
		for i := range rows {
			if rows[i].Updated < rows[oldest].Updated {
				oldest = i
			}
		}
		if _, err := tx.DeleteResource(rows[oldest].ID); err != nil {
			return err
		}
		rows = append(rows[:oldest], rows[oldest+1:]...)
	}
	return nil
}

// getDeployment answers GET. Outputs made of secrets are shown to whoever
// deployed, and to nobody else: a Reader of the group has no right to keys.
func (a *API) getDeployment(ctx context.Context, call *Call) (any, error) {
	r, err := a.deployments.Get(ctx, call.Caller, call.ID)
	if err != nil {
		return nil, err
	}
	if err := revealOutputs(call, r); err != nil {
		return nil, err
	}
	return a.deployments.reply(ctx, call, r, http.StatusOK)
}

// revealOutputs puts the sealed outputs into a deployment that is shown to the
// one who made it.
func revealOutputs(call *Call, r *deployment) error {
	sealed, ok := r.Secrets[secretOutputs]
	if !ok || r.Properties.Caller != call.Caller.ObjectID {
		return nil
	}
	var values map[string]any
	if err := decodeNumbers([]byte(sealed.Reveal()), &values); err != nil {
		return err
	}
	all := make(map[string]shownOutput, len(r.Properties.Outputs))
	for name, o := range r.Properties.Outputs {
		if v, is := values[name]; is {
			o.Value = v
		}
		all[name] = o
	}
	r.Properties.Outputs = all
	return nil
}

// deleteDeployment forgets a deployment; what it made stays.
func (a *API) deleteDeployment(ctx context.Context, call *Call) (any, error) {
	_, err := a.deleteAs(ctx, call, a.deployments)
	return nil, err // 204
}

// deploymentExists answers HEAD.
func (a *API) deploymentExists(ctx context.Context, call *Call) (any, error) {
	if err := call.Check(ctx, a.deployments.about.read, call.ID); err != nil {
		return nil, err
	}
	if _, err := a.deployments.mustLoad(ctx, call.ID); err != nil {
		return nil, err
	}
	return &rest.Reply{Status: http.StatusNoContent}, nil
}

// deploymentAt is the deployment that an address below it names.
func (c *Call) deploymentAt(below int) az.ID {
	segs := segments(c.path)
	segs = segs[:len(segs)-below]
	if len(segs) == 6 && strings.EqualFold(segs[2], "resourceGroups") { // without /providers/Microsoft.Resources
		return az.Root.Child(segs[:4]...).Child("providers", "Microsoft.Resources", "deployments", segs[5])
	}
	return az.Root.Child(segs...)
}

// exportDeployment answers with the template that was deployed, without
// parameters.
func (a *API) exportDeployment(ctx context.Context, call *Call) (any, error) {
	id := call.deploymentAt(1)
	if err := call.Check(ctx, guard.Control(template.DeploymentsType+"/exportTemplate/action"), id); err != nil {
		return nil, err
	}
	r, err := a.deployments.mustLoad(ctx, id)
	if err != nil {
		return nil, err
	}
	return map[string]any{"template": json.RawMessage(r.Secrets[secretTemplate].Reveal())}, nil
}

// cancelDeployment ends a deployment that is running; the worker looks before
// each resource.
func (a *API) cancelDeployment(ctx context.Context, call *Call) (any, error) {
	id := call.deploymentAt(1)
	if err := call.Check(ctx, guard.Control(template.DeploymentsType+"/cancel/action"), id); err != nil {
		return nil, err
	}
	err := a.cfg.Store.Write(ctx, func(tx *store.Tx) error {
		r, err := a.deployments.Read(tx, id)
		switch {
		case err != nil:
			return err
		case r == nil:
			return notFound(id)
		case a.deploymentState(r) != StateRunning:
			return az.Errorf(az.Conflict, "DeploymentCannotBeCancelled", "The deployment '%s' is not running, so it cannot be cancelled.", id.Name())
		}
		r.State, r.Properties.Ended = StateCanceled, tx.Now()
		return a.deployments.Write(tx, r)
	})
	return nil, err
}

// deploymentOperations lists what became of each resource, or shows one.
func (a *API) deploymentOperations(ctx context.Context, call *Call) (any, error) {
	one, below := call.Param("operation"), 1
	if one != "" {
		below = 2
	}
	id := call.deploymentAt(below)
	if err := call.Check(ctx, guard.Control(template.DeploymentsType+"/operations/read"), id); err != nil {
		return nil, err
	}
	r, err := a.deployments.mustLoad(ctx, id)
	if err != nil {
		return nil, err
	}
	page := Page{Value: []any{}}
	for _, op := range r.Properties.Operations {
		v := op.show(id)
		if op.ID == one {
			return v, nil
		}
		page.Value = append(page.Value, v)
	}
	if one != "" {
		return nil, az.Errorf(az.NotFound, "DeploymentOperationNotFound", "The deployment '%s' has no operation of this name.", id.Name())
	}
	return page, nil
}

func (op *deploymentOperation) show(id az.ID) map[string]any {
	p := map[string]any{"provisioningOperation": op.Kind, "provisioningState": op.State, "timestamp": op.Ended.Time().Format(timeForm),
		"duration": isoDuration(op.Ended - op.Started), "statusCode": http.StatusText(op.Status)}
	if target, err := az.ParseID(op.Target); err == nil {
		p["targetResource"] = map[string]any{"id": op.Target, "resourceType": target.Type(), "resourceName": target.Name()}
	}
	if op.Error != nil {
		p["statusMessage"] = map[string]any{"error": op.Error}
	}
	return map[string]any{"id": id.Child("operations", op.ID), "operationId": op.ID, "properties": p}
}
