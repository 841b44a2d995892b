package arm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/hawser/hawser/internal/arm/template"
	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/rest"
	"github.com/hawser/hawser/internal/store"
)

// putDeployment answers PUT: what is wrong with the template is said at once,
// the resources are put in the background, as the caller.
func (a *API) putDeployment(ctx context.Context, call *Call) (any, error) {
	if err := call.Check(ctx, a.deployments.about.write, call.ID); err != nil {
		return nil, err
	}
	d, err := a.readDeployment(ctx, call, call.ID)
	if err != nil {
		return nil, err
	}
	r, created, err := a.beginDeployment(ctx, call, d)
	if err != nil {
		return nil, err
	}
	work := &deploying{api: a, call: call, deploymentRequest: d, etag: r.ETag}
	op, err := a.startWork(ctx, call, func(ctx context.Context) (any, error) { return nil, work.do(ctx) })
	if err != nil {
		return nil, err
	}
	status := http.StatusOK
	if created {
		status = http.StatusCreated
	}
	reply, err := a.deployments.reply(ctx, call, r, status)
	if err != nil {
		return nil, err
	}
	for k, v := range a.pollHeader(call, op) {
		reply.Header[k] = v
	}
	reply.Header.Del("Location") // the SDKs follow Azure-AsyncOperation, then read the deployment
	return reply, nil
}

// beginDeployment writes a deployment's first record.
func (a *API) beginDeployment(ctx context.Context, call *Call, d *deploymentRequest) (*deployment, bool, error) {
	text, err := json.Marshal(d.raw)
	if err != nil {
		return nil, false, az.Errorf(az.Internal, "", "").Because(err)
	}
	own := *call
	own.ID = d.id
	return a.deployments.saveChecked(ctx, &own, func(old *deployment) (*deployment, error) {
		if old != nil && a.deploymentState(old) == StateRunning {
			return nil, az.Errorf(az.Conflict, "DeploymentActive", "Unable to edit or replace deployment '%s': previous deployment from '%s' is still active. Wait for its end, or cancel it.", d.id.Name(), old.Properties.Started.Time().Format(time.RFC3339))
		}
		return &deployment{Location: d.location, Tags: d.tags, State: StateRunning, Secrets: map[string]az.Secret{secretTemplate: az.NewSecret(string(text))},
			Properties: deploymentProperties{Mode: d.mode, Correlation: az.Correlation(ctx), TemplateHash: templateHash(text), Parameters: shownParameters(d.run),
				Caller: call.Caller.ObjectID, Started: az.MicrosOf(a.now())}}, nil
	}, true)
}

// deploying is a deployment that is going on.
type deploying struct {
	*deploymentRequest
	api   *API
	call  *Call
	outer *deploying // the deployment around this one
	depth int        // how many there are around this one
	etag  string     // of the record: another's means that it is no longer ours

	ops    []deploymentOperation
	failed map[string]bool
	made   map[string]bool // folded ids
	errs   []failure
}

// errStopped ends a deployment that was cancelled, deleted or replaced.
var errStopped = az.Errorf(az.Conflict, "DeploymentCancelled", "The deployment was cancelled.")

// deploymentError is the error of a deployment: what failed, by resource.
type deploymentError struct {
	err     *az.Error
	details []failure
}

func (e *deploymentError) Error() string { return e.err.Error() }
func (e *deploymentError) Unwrap() error { return e.err }

// do puts the resources in their order. What needs something that failed is
// left out; the rest goes on, as in Azure.
func (d *deploying) do(ctx context.Context) error {
	d.failed, d.made = map[string]bool{}, map[string]bool{}
	d.watch(ctx)
	for _, res := range d.plan {
		if err := d.step(ctx, res); err != nil {
			return err
		}
	}
	if len(d.errs) == 0 && d.mode == modeComplete {
		if err := d.deleteOthers(ctx); err != nil {
			return err
		}
	}
	var outputs []template.Output
	if len(d.errs) == 0 {
		var err error
		if outputs, err = d.run.Outputs(); err != nil {
			d.errs = append(d.errs, *failed(err))
		}
	}
	return d.end(ctx, outputs)
}

// watch lets expressions see resources that are there, as the caller.
func (d *deploying) watch(ctx context.Context) {
	d.run.Attach(func(id az.ID, version string, full bool) (any, bool, error) {
		v, err := d.ask(ctx, http.MethodGet, id, version, nil)
		if err != nil {
			return nil, false, err
		}
		m, _ := v.(map[string]any)
		secret := id.IsType(template.DeploymentsType) // its outputs may be made of secrets
		if full {
			return v, secret, nil
		}
		return field(m, "properties"), secret, nil
	}, func(id az.ID, function, version string, body any) (any, error) {
		return d.ask(ctx, http.MethodPost, id.Child(function), version, body)
	})
}

// ask sends a request through the front door and reads the answer.
func (d *deploying) ask(ctx context.Context, method string, id az.ID, version string, body any) (any, error) {
	v, err := d.api.perform(ctx, d.call.Caller, method, id, version, body)
	if err != nil {
		return nil, err
	}
	b, err := json.Marshal(v)
	if err != nil {
		return nil, az.Errorf(az.Internal, "", "").Because(err)
	}
	return template.Decode(b)
}

// perform is a request to the front door, as somebody: with every check that
// one from outside has. It waits for long operations.
func (a *API) perform(ctx context.Context, caller az.Principal, method string, id az.ID, version string, body any) (any, error) {
	call := a.internalCall(caller, method, id)
	call.Version = version
	if body != nil {
		var err error
		if call.Body, err = json.Marshal(body); err != nil {
			return nil, az.Errorf(az.Internal, "", "").Because(err)
		}
	}
	if len(call.Body) > maxBody {
		return nil, az.Errorf(az.Invalid, template.CodeInvalid, "What the template makes for the resource '%s' is larger than the %d bytes allowed.", id, maxBody)
	}
	v, err := a.dispatch(ctx, call)
	if err != nil {
		return nil, err
	}
	reply, ok := v.(*rest.Reply)
	if !ok {
		return v, nil
	}
	if at := reply.Header.Get("Azure-AsyncOperation"); at != "" {
		return reply.Body, a.await(ctx, at)
	}
	return reply.Body, nil
}

// awaitEvery is how often a long operation is looked at.
const awaitEvery = 200 * time.Millisecond

// await waits for the long operation at an address that pollHeader made.
func (a *API) await(ctx context.Context, address string) error {
	_, name, _ := strings.Cut(address, "/operationStatuses/")
	name, _, _ = strings.Cut(name, "?")
	id := a.subscription().Child("providers", "Hawser.Resources", "operations", name)
	tick := time.NewTicker(awaitEvery)
	defer tick.Stop()
	for {
		row, ok, err := a.cfg.Store.Resource(ctx, id)
		if err != nil {
			return err
		}
		var op operation
		if !ok || json.Unmarshal(row.Body, &op) != nil {
			return az.Errorf(az.Internal, "", "").Because(errors.New("arm: a long operation has no record"))
		}
		switch {
		case op.Status == StateSucceeded:
			return nil
		case op.Error != nil:
			return &deploymentError{az.Errorf(az.Conflict, op.Error.Code, "%s", op.Error.Message), op.Error.Details}
		case op.Status != stateInProgress:
			return az.Errorf(az.Conflict, "OperationFailed", "The operation ended without success.")
		}
		select {
		case <-ctx.Done():
			return az.Errorf(az.Unavailable, "OperationTimedOut", "The operation did not end in time.").Because(ctx.Err())
		case <-tick.C:
		}
	}
}

// step puts one resource and records what became of it.
func (d *deploying) step(ctx context.Context, res *template.Resource) error {
	if res.Existing || !res.Enabled {
		return nil
	}
	if err := d.goesOn(ctx); err != nil {
		return d.stopped(ctx, err)
	}
	for _, need := range d.run.Needs(res) {
		if d.failed[need.ID.Key()] {
			d.failed[res.ID.Key()] = true
			return nil
		}
	}
	op := deploymentOperation{ID: strings.ToUpper(strings.ReplaceAll(az.NewGUID(), "-", ""))[:16], Kind: "Create", Target: res.ID.String(), Started: az.MicrosOf(d.api.now()), State: StateSucceeded, Status: http.StatusOK}
	err := d.put(ctx, res)
	if errors.Is(err, errStopped) || ctx.Err() != nil {
		return d.stopped(ctx, err)
	}
	d.record(op, res.ID, err)
	return nil
}

// record notes the outcome of an operation.
func (d *deploying) record(op deploymentOperation, id az.ID, err error) {
	op.Ended = az.MicrosOf(d.api.now())
	if err != nil {
		op.State, op.Status, op.Error = StateFailed, statusOf(err), failed(err)
		d.failed[id.Key()] = true
		d.errs = append(d.errs, *op.Error)
		d.api.cfg.Log.Info("arm: a resource of a deployment was not made", "deployment", d.id.String(), "resource", id.String(), "error", err)
	} else {
		d.made[id.Key()] = true
	}
	d.ops = append(d.ops, op)
}

// statusOf is the HTTP status that an error of the front door has.
func statusOf(err error) int {
	switch az.KindOf(err) {
	case az.Invalid:
		return http.StatusBadRequest
	case az.Forbidden:
		return http.StatusForbidden
	case az.NotFound:
		return http.StatusNotFound
	case az.Internal:
		return http.StatusInternalServerError
	}
	return http.StatusConflict
}

func (d *deploying) put(ctx context.Context, res *template.Resource) error {
	if strings.EqualFold(res.Type, template.DeploymentsType) {
		return d.nest(ctx, res)
	}
	body, _, err := d.run.Body(res, true)
	if err != nil {
		return err
	}
	_, err = d.api.perform(ctx, d.call.Caller, http.MethodPut, res.ID, res.Version, body)
	return err
}

// nest runs a deployment inside of this one.
func (d *deploying) nest(ctx context.Context, res *template.Resource) error {
	if d.depth+1 >= maxNestedDeployments {
		return az.Errorf(az.Invalid, template.CodeInvalid, "The template has deployments in deployments more than %d levels deep.", maxNestedDeployments)
	}
	if err := d.call.Check(ctx, d.api.deployments.about.write, res.ID); err != nil {
		return err
	}
	n, err := d.run.Nested(res, true)
	if err != nil {
		return err
	}
	location, err := d.run.Member(res, "location")
	if err != nil {
		return err
	}
	in := &deploymentRequest{id: res.ID, raw: n.Raw, location: location}
	if err := checkDeploymentID(res.ID); err != nil {
		return err
	}
	if in.mode, err = deploymentMode(n.Mode, res.ID.Parent()); err != nil {
		return err
	}
	if err := d.api.scopeExists(res.ID.Parent(), d.api.outside(ctx)); err != nil {
		return err
	}
	host, err := d.api.deploymentHost(ctx, d.call, res.ID, in.location, in.mode)
	if err != nil {
		return err
	}
	if in.run, err = n.Bind(host); err != nil {
		return err
	}
	if err := d.api.planDeployment(in); err != nil {
		return err
	}
	r, _, err := d.api.beginDeployment(ctx, d.nestedCall(), in)
	if err != nil {
		return err
	}
	inner := &deploying{deploymentRequest: in, api: d.api, call: d.call, outer: d, depth: d.depth + 1, etag: r.ETag}
	err = inner.do(ctx)
	for id := range inner.made { // they are this deployment's too, in complete mode
		d.made[id] = true
	}
	return err
}

// nestedCall writes a nested deployment's record: without the conditions that
// the outer request had.
func (d *deploying) nestedCall() *Call {
	c := *d.call
	c.Header, c.Method = http.Header{}, http.MethodPut
	return &c
}

// goesOn is asked before each resource: a deployment ends when it, or one
// around it, was cancelled, and when its caller is nobody any more. What rights
// he still has is asked for at each resource's own door.
func (d *deploying) goesOn(ctx context.Context) error {
	for at := d; at != nil; at = at.outer {
		switch err := at.save(ctx, nil); {
		case errors.Is(err, errStopped) && at != d:
			return errOuterStopped
		case err != nil:
			return err
		}
	}
	if there, err := d.api.cfg.CallerStands(ctx, d.call.Caller.ObjectID); err != nil || !there {
		return errors.Join(errCallerGone, err)
	}
	return nil
}

// errOuterStopped ends a deployment inside of one that was cancelled, and
// errCallerGone one whose caller was disabled or deleted.
var (
	errOuterStopped = az.Errorf(az.Conflict, "DeploymentCancelled", "The deployment around this one was cancelled.")
	errCallerGone   = az.Errorf(az.Forbidden, "AuthorizationFailed", "Whoever deployed has been disabled or deleted since.")
)

// save writes how far the deployment is. errStopped: it is not ours any more.
func (d *deploying) save(ctx context.Context, change func(*deployment)) error {
	return d.api.cfg.Store.Write(ctx, func(tx *store.Tx) error {
		r, err := d.api.deployments.Read(tx, d.id)
		if err != nil {
			return err
		}
		if r == nil || r.ETag != d.etag {
			return errStopped
		}
		if change == nil { // no more than a look: its operations are written at the end
			return nil
		}
		change(r)
		r.Updated = tx.Now()
		return d.api.deployments.Write(tx, r)
	})
}

// stopped ends a deployment whose time is over; one that was cancelled has its
// record already.
func (d *deploying) stopped(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, errStopped):
		return err
	case errors.Is(err, errOuterStopped):
		d.errs = append(d.errs, *failed(errOuterStopped))
		return errors.Join(errStopped, d.end(ctx, nil))
	case errors.Is(err, errCallerGone):
		d.errs = append(d.errs, *failed(errCallerGone))
		return d.end(ctx, nil)
	}
	d.errs = append(d.errs, failure{Code: "DeploymentTimedOut", Message: "The deployment did not end in time, or the plane was stopped. Deploy it again: what is there stays."})
	return d.end(ctx, nil)
}

// end writes the outcome.
func (d *deploying) end(ctx context.Context, outputs []template.Output) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), requestTime)
	defer cancel()
	shown, sealed, err := splitOutputs(outputs)
	if err != nil {
		d.errs = append(d.errs, *failed(err))
	}
	var result error
	if len(d.errs) > 0 {
		result = &deploymentError{az.Errorf(az.Conflict, "DeploymentFailed", "At least one resource deployment operation failed. Please list deployment operations for details. Please see https://aka.ms/arm-deployment-operations for usage details."), d.errs}
	}
	err = d.save(ctx, func(r *deployment) {
		p := &r.Properties
		r.State, p.Ended, p.Operations, p.Outputs = StateSucceeded, az.MicrosOf(d.api.now()), d.ops, shown
		for _, op := range d.ops {
			if op.State == StateSucceeded && op.Kind == "Create" {
				p.OutputResources = append(p.OutputResources, resourceRef{op.Target})
			}
		}
		if sealed != "" {
			r.Secrets[secretOutputs] = az.NewSecret(sealed)
		}
		if result != nil {
			r.State, p.Error = StateFailed, failed(result)
		}
	})
	return errors.Join(result, err)
}

// maxOutputsSize bounds what a deployment's outputs are, written out.
// Source: Azure Resource Manager, a deployment is at most 4 MB; a quarter of it.
const maxOutputsSize = 1 << 20

// splitOutputs parts the outputs: what may be shown, and what is made of
// secrets. Those of a secure type are named without a value, as in Azure.
func splitOutputs(outputs []template.Output) (shown map[string]shownOutput, sealed string, err error) {
	shown, secret := map[string]shownOutput{}, map[string]any{}
	for _, o := range outputs {
		s := shownOutput{Type: o.Type}
		switch {
		case o.Secure:
		case o.Secret:
			secret[o.Name] = o.Value
		default:
			s.Value = o.Value
		}
		shown[o.Name] = s
	}
	b, err := json.Marshal([]any{shown, secret})
	if err == nil && len(b) > maxOutputsSize {
		err = fmt.Errorf("%d bytes", len(b))
	}
	if err != nil {
		return map[string]shownOutput{}, "", az.Errorf(az.Invalid, template.CodeInvalid, "The outputs of the template are larger than the %d bytes allowed.", maxOutputsSize).Because(err)
	}
	if len(secret) == 0 {
		return shown, "", nil
	}
	b, err = json.Marshal(secret)
	return shown, string(b), err
}

// deleteOthers is complete mode: what is in the group and not in the template
// goes, in the order in which a cascade deletes, each as the caller.
func (d *deploying) deleteOthers(ctx context.Context) error {
	for i := len(d.api.order) - 1; i >= 0; i-- {
		info := d.api.order[i].info()
		if info.depth() != 1 || info.extension || info.name == groupsName {
			continue
		}
		rows, err := d.api.cfg.Store.Resources(ctx, store.ResourceQuery{ResourceGroup: d.id.Parent(), Type: info.name})
		if err != nil {
			return err
		}
		for _, row := range rows {
			if d.keeps(row.ID) {
				continue
			}
			if err := d.goesOn(ctx); err != nil {
				return d.stopped(ctx, err)
			}
			op := deploymentOperation{ID: strings.ToUpper(strings.ReplaceAll(az.NewGUID(), "-", ""))[:16], Kind: "Delete", Target: row.ID.String(), Started: az.MicrosOf(d.api.now()), State: StateSucceeded, Status: http.StatusOK}
			_, err := d.api.perform(ctx, d.call.Caller, http.MethodDelete, row.ID, "2021-04-01", nil)
			d.record(op, row.ID, err)
		}
	}
	return nil
}

// keeps says whether a resource is one that the template names, or has a part
// that it names.
func (d *deploying) keeps(id az.ID) bool {
	for key := range d.made {
		if key == id.Key() || strings.HasPrefix(key, id.Key()+"/") {
			return true
		}
	}
	for _, res := range d.plan {
		if res.Existing && res.ID.Within(id) {
			return true
		}
	}
	return false
}
