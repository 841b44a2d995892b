package arm

import (
	"context"
	"net/http"
	"sort"
	"strings"

	"github.com/hawser/hawser/internal/arm/template"
	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/store"
)

// change is what a deployment would do to a resource.
type change struct {
	ID     string  `json:"resourceId"`
	Kind   string  `json:"changeType"`
	Before any     `json:"before,omitempty"`
	After  any     `json:"after,omitempty"`
	Delta  []delta `json:"delta,omitempty"`
}

type delta struct {
	Path   string  `json:"path"`
	Kind   string  `json:"propertyChangeType"`
	Before any     `json:"before"`
	After  any     `json:"after"`
	Inner  []delta `json:"children,omitempty"`
}

// whatIfDeployment answers what a deployment would change. Where that is not
// known (expressions that need resources which are not there, values that are
// secret or can't be read back) it says Deploy: the resource is put again, and
// may change.
func (a *API) whatIfDeployment(ctx context.Context, call *Call) (any, error) {
	id := call.deploymentAt(1)
	if err := call.Check(ctx, guard.Control(template.DeploymentsType+"/whatIf/action"), id); err != nil {
		return nil, err
	}
	d, err := a.readDeployment(ctx, call, id)
	if err != nil {
		return nil, err
	}
	changes := []change{}
	work := &deploying{api: a, call: call, deploymentRequest: d}
	for _, res := range d.plan {
		if res.Existing || !res.Enabled {
			continue
		}
		c, err := work.foresee(ctx, res)
		if err != nil {
			return nil, err
		}
		changes = append(changes, c)
	}
	others, err := work.others(ctx)
	if err != nil {
		return nil, err
	}
	return map[string]any{"status": StateSucceeded, "properties": map[string]any{"correlationId": az.Correlation(ctx), "changes": append(changes, others...)}}, nil
}

// foresee works out what a resource's PUT would do.
func (d *deploying) foresee(ctx context.Context, res *template.Resource) (change, error) {
	c := change{ID: res.ID.String(), Kind: "Deploy"}
	var body map[string]any
	known := false
	if !strings.EqualFold(res.Type, template.DeploymentsType) {
		var secret bool
		var err error
		body, secret, err = d.run.Body(res, false)
		if err != nil && !template.ErrNotYet(err) {
			return c, err
		}
		known = err == nil && !secret
	}
	after := map[string]any{"id": c.ID, "name": res.ID.Name(), "type": res.Type, "apiVersion": res.Version}
	if known {
		for k, v := range body {
			after[k] = v
		}
	}
	before, err := d.ask(ctx, http.MethodGet, res.ID, res.Version, nil)
	switch {
	case az.Is(err, az.NotFound):
		c.Kind, c.After = "Create", after
		return c, nil
	case az.Is(err, az.Unsupported):
		return c, nil // a document that can be written, not read
	case err != nil:
		return c, err
	case !known:
		return c, nil
	}
	c.Before, c.After, c.Kind = before, after, "NoChange"
	if c.Delta = differences("", before, body); len(c.Delta) > 0 {
		c.Kind = "Modify"
	}
	return c, nil
}

// differences are the members that a template gives and that are not so. What
// it does not give stays as it is.
func differences(path string, before any, after map[string]any) []delta {
	was, _ := before.(map[string]any)
	names := make([]string, 0, len(after))
	for k := range after {
		names = append(names, k)
	}
	sort.Strings(names)
	var out []delta
	for _, k := range names {
		at := strings.TrimPrefix(path+"."+k, ".")
		old, _, there := findFold(was, k)
		now, isObject := after[k].(map[string]any)
		switch {
		case isObject && there:
			out = append(out, differences(at, old, now)...)
		case after[k] == nil:
		case !there:
			out = append(out, delta{Path: at, Kind: "Create", After: after[k]})
		case !template.Equal(old, after[k]) && !sameWords(old, after[k]):
			out = append(out, delta{Path: at, Kind: "Modify", Before: old, After: after[k]})
		}
	}
	return out
}

// sameWords compares ids and locations, whose case does not count.
func sameWords(a, b any) bool {
	x, ok := a.(string)
	y, ok2 := b.(string)
	return ok && ok2 && sameLocation(x, y)
}

// others are the resources of the group that the template does not name:
// complete mode deletes them. Only what the caller may read is named.
func (d *deploying) others(ctx context.Context) ([]change, error) {
	group := d.id.Parent()
	if !isGroup(group) {
		return nil, nil
	}
	rows, err := d.api.cfg.Store.Resources(ctx, store.ResourceQuery{ResourceGroup: group})
	if err != nil {
		return nil, err
	}
	kind := "Ignore"
	if d.mode == modeComplete {
		kind = "Delete"
	}
	d.made = map[string]bool{}
	for _, res := range d.plan {
		if res.Enabled {
			d.made[res.ID.Key()] = true
		}
	}
	var out []change
	for _, row := range rows {
		t := d.api.types[strings.ToLower(row.ID.Type())]
		if t == nil || t.info().depth() != 1 || t.info().extension || d.keeps(row.ID) {
			continue
		}
		may, err := d.api.cfg.Guard.Explain(ctx, d.call.Caller.ObjectID, t.info().read, row.ID)
		if err != nil {
			return nil, err
		}
		if may.Allowed {
			out = append(out, change{ID: row.ID.String(), Kind: kind, Before: map[string]any{"id": row.ID.String(), "name": row.ID.Name(), "type": t.info().name}})
		}
	}
	return out, nil
}
