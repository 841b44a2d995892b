package connector

import (
	"context"
	"encoding/json"
	"strings"

	"github.com/hawser/hawser/internal/arm"
	"github.com/hawser/hawser/internal/az"
)

// dryRunProperties is Microsoft.ServiceLinker/dryruns: what a connection would
// do. Source: Microsoft.ServiceLinker 2022-11-01-preview, DryrunResource.
type dryRunProperties struct {
	Parameters    json.RawMessage `json:"parameters,omitempty"`
	Prerequisites []prerequisite  `json:"prerequisiteResults"`
	Operations    []operation     `json:"operationPreviews"`
	Notes         []string        `json:"hawserNotes,omitempty"`
}

// prerequisite is something that stands in the way.
type prerequisite struct {
	Type            string   `json:"type"` // basicError or permissionsMissing
	Code            string   `json:"code,omitempty"`
	Message         string   `json:"message,omitempty"`
	Scope           string   `json:"scope,omitempty"`
	Permissions     []string `json:"permissions,omitempty"`
	RecommendedRole string   `json:"recommendedRole,omitempty"`
}

// operation is one step.
type operation struct {
	Name        string   `json:"name"`
	Type        string   `json:"operationType"` // configAuth or configConnection
	Description string   `json:"description"`
	Action      string   `json:"action"`
	Scope       string   `json:"scope"`
	SQL         []string `json:"hawserSql,omitempty"` // what would run on the server
	Settings    []string `json:"hawserSettings,omitempty"`
}

// dryRunParameters is a connection that somebody thinks of.
type dryRunParameters struct {
	ActionName string `json:"actionName"`
	LinkerName string `json:"linkerName"` // ours; without it the dry run's own name
	linkerProperties
}

func (c *Connector) dryRunType() *arm.Type[dryRunProperties] {
	return arm.Define(DryRunType, linkerVersions, arm.Hooks[dryRunProperties]{Extension: true, Check: c.checkDryRun})
}

func (c *Connector) checkDryRun(ctx context.Context, call *arm.Call, r, _ *arm.Resource[dryRunProperties]) error {
	var in dryRunParameters
	if err := json.Unmarshal(r.Properties.Parameters, &in); err != nil {
		return az.Errorf(az.Invalid, "InvalidRequestContent", "A dry run needs parameters: those of a connection, and actionName createOrUpdate.").Because(err)
	}
	if in.ActionName != "" && !strings.EqualFold(in.ActionName, "createOrUpdate") {
		return az.Errorf(az.Invalid, "UnsupportedAction", "Of the actions of a dry run, createOrUpdate is served.")
	}
	if in.AuthInfo != nil && (in.AuthInfo.SecretInfo != nil || in.AuthInfo.Secret != "") {
		return az.Errorf(az.Invalid, "UnsupportedAuthType", "Leave secret and secretInfo out of a dry run: dry runs are kept in clear.")
	}
	if in.LinkerName == "" {
		in.LinkerName = r.ID.Name()
	}
	if !validLinkerName(in.LinkerName) {
		return az.Errorf(az.Invalid, "InvalidLinkerName", "linkerName cannot be the name of a connection.")
	}
	id := r.ID.Parent().Child("providers", "Microsoft.ServiceLinker", "linkers", in.LinkerName)
	old, err := c.linkers.Load(ctx, id)
	if err != nil {
		return err
	}
	out, err := c.previewAll(ctx, call, &arm.Resource[linkerProperties]{ID: id, Properties: in.linkerProperties}, old)
	if err != nil {
		return err
	}
	// What is not known here is not kept: it could be a secret.
	in.Made = &made{Access: in.Made.given()}
	if out.Parameters, err = json.Marshal(in); err != nil {
		return err
	}
	r.Properties = *out
	return nil
}

// dryRunLinker answers POST {linker}/dryrun with the body of a PUT: what that
// PUT would do, as steps. What stands in its way is an error, as the PUT's.
func (c *Connector) dryRunLinker(ctx context.Context, call *arm.Call) (any, error) {
	r := &arm.Resource[linkerProperties]{ID: call.ID.Child("providers", "Microsoft.ServiceLinker", "linkers", call.Param("linker"))}
	old, err := c.linkers.Load(ctx, r.ID)
	if err != nil {
		return nil, err
	}
	if old != nil && len(call.Body) == 0 {
		*r = *old
	} else if err := call.DecodeProperties(&r.Properties); err != nil {
		return nil, err
	}
	p, err := c.plan(ctx, call, r, old)
	if err != nil {
		return nil, err
	}
	out := &dryRunProperties{}
	if err := p.preview(ctx, call, out); err != nil {
		return nil, err
	}
	reply := dryRunSteps{Steps: []dryRunStep{}, Notes: out.Notes}
	for _, o := range out.Operations {
		reply.Steps = append(reply.Steps, dryRunStep{o.Name, o.Description, o.SQL, o.Settings})
	}
	return reply, nil
}

type dryRunSteps struct {
	Steps []dryRunStep `json:"steps"`
	Notes []string     `json:"notes,omitempty"`
}

type dryRunStep struct {
	Name     string   `json:"name"`
	Does     string   `json:"does"`
	SQL      []string `json:"sql,omitempty"`
	Settings []string `json:"settings,omitempty"`
}

// previewAll gathers what a dry run resource shows: what stands in the way is
// part of it.
func (c *Connector) previewAll(ctx context.Context, call *arm.Call, r, old *arm.Resource[linkerProperties]) (*dryRunProperties, error) {
	out := &dryRunProperties{Prerequisites: []prerequisite{}, Operations: []operation{}}
	p, err := c.plan(ctx, call, r, old)
	if err != nil {
		return nil, err
	}
	for _, n := range p.rights {
		d, err := c.cfg.Guard.Explain(ctx, call.Caller.ObjectID, n.action, n.scope)
		if err != nil {
			return nil, err
		}
		if !d.Allowed {
			out.Prerequisites = append(out.Prerequisites, prerequisite{Type: "permissionsMissing", Scope: n.scope.String(), Permissions: []string{n.action.Name}, RecommendedRole: d.Suggest})
		}
	}
	if len(out.Prerequisites) > 0 {
		return out, nil // who may not, is told nothing of the server
	}
	if err := p.preview(ctx, call, out); err != nil {
		return out, out.basic(err)
	}
	return out, nil
}

// preview says what a connection would do, in order. It changes nothing; the
// statements are made by the code that would run them.
func (p *plan) preview(ctx context.Context, call *arm.Call, out *dryRunProperties) error {
	for _, n := range p.rights {
		if err := call.Linked(ctx, n.action, n.scope); err != nil {
			return err
		}
	}
	if err := p.find(ctx); err != nil {
		return err
	}
	switch {
	case p.linker.Properties.AuthInfo.AuthType == authSecret:
	case p.real == nil:
		if p.kind.family() != nil {
			out.Notes = append(out.Notes, "No real server stands behind '"+p.server.Name()+"': the connection would be settings only, until one is attached (hawser attach) and the connection is made again.")
		}
		if err := p.previewGrants(ctx, call.Caller, out); err != nil {
			return err
		}
	case p.kind.server == Redis:
		if err := p.previewPolicy(ctx, call.Caller, out); err != nil {
			return err
		}
	default:
		if err := p.previewRole(ctx, call.Caller, out); err != nil {
			return err
		}
	}
	p.previewSettings(out)
	return nil
}

// basic turns what stands in the way into a prerequisite.
func (d *dryRunProperties) basic(err error) error {
	if k := az.KindOf(err); k != az.Invalid && k != az.NotFound && k != az.Conflict {
		return err
	}
	code, message := wordsOf(err)
	d.Prerequisites = append(d.Prerequisites, prerequisite{Type: "basicError", Code: code, Message: message})
	return nil
}

func (p *plan) previewRole(ctx context.Context, caller az.Principal, out *dryRunProperties) error {
	if err := p.identity(ctx, caller); err != nil {
		return err
	}
	m, f := p.linker.Properties.Made, p.kind.family()
	p.previewIdentity(out)
	if err := p.role(ctx); err != nil {
		return err
	}
	sql, notes, err := p.previewSQL(ctx)
	if err != nil {
		return err
	}
	out.Notes = append(out.Notes, notes...)
	out.Operations = append(out.Operations,
		operation{Name: "databaseRole", Type: "configAuth", Scope: databaseScope(p.server, m.Database).String(), Action: f.writePrincipal().Name,
			Description: "Make the role " + m.User + " and grant it " + string(m.Access) + " access to the database " + m.Database, SQL: sql},
		operation{Name: "roleAssignment", Type: "configAuth", Scope: m.Assignment.Parent().String(), Action: actionAssignRole.Name,
			Description: "Assign the role '" + f.roleWord + "' (" + f.role + ") to the identity"})
	return nil
}

func (p *plan) previewIdentity(out *dryRunProperties) {
	if p.who.PrincipalID == "" {
		out.Operations = append(out.Operations, operation{Name: "identity", Type: "configAuth", Scope: p.site.String(), Action: "Microsoft.Web/sites/write",
			Description: "Give the app its system-assigned identity"})
	}
}

// previewSQL lists the statements.
func (p *plan) previewSQL(ctx context.Context) (sql, notes []string, err error) {
	m := p.linker.Properties.Made
	others, err := p.c.usesOf(ctx, p.server, m.Database)
	if err != nil {
		return nil, nil, err
	}
	spec := roleSpec{Name: m.User, Marker: p.c.marker(p.server, m.User)}
	return p.real.preview(ctx, spec, grant{m.Database, m.Access, others})
}

func (p *plan) previewSettings(out *dryRunProperties) {
	if optedOut(p.linker.Properties.ConfigurationInfo) {
		return
	}
	var names []string
	for _, s := range p.c.settingsOf(p.linker) {
		v := s.Value
		switch {
		case !s.Secret.IsZero() && !p.vault.IsRoot() && !isReference(s.Secret):
			v = reference("…")
		case !s.Secret.IsZero():
			v = az.Redacted
		}
		names = append(names, s.Name+"="+v)
	}
	out.Operations = append(out.Operations, operation{Name: "configuration", Type: "configConnection", Scope: p.site.String(), Action: actionWriteConfig.Name,
		Description: "Write the app's settings", Settings: names})
}
