package connector

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hawser/hawser/internal/arm"
	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/site"
)

// validation is the answer of validateLinker. Source:
// wire/service-connector.md §1.
type validation struct {
	ResourceID string           `json:"resourceId"`
	Status     string           `json:"status"`
	Properties validationReport `json:"properties"`
}

type validationReport struct {
	LinkerName string            `json:"linkerName"`
	Available  bool              `json:"isConnectionAvailable"`
	Started    string            `json:"reportStartTimeUtc"`
	Ended      string            `json:"reportEndTimeUtc"`
	SourceID   string            `json:"sourceId"`
	TargetID   string            `json:"targetId"`
	AuthType   string            `json:"authType"`
	Details    []validationCheck `json:"validationDetail"`
}

type validationCheck struct {
	Name        string  `json:"name"`
	Description *string `json:"description"`
	Result      string  `json:"result"` // success, failure or warning
	Message     *string `json:"errorMessage"`
	Code        *string `json:"errorCode"`
}

// wordsOf is what may be said of an error.
func wordsOf(err error) (code, message string) {
	if err == nil {
		return "", ""
	}
	var e *az.Error
	if errors.As(err, &e) && e.Kind != az.Internal {
		return e.Code, e.Message
	}
	return "InternalError", "The check could not be made; see the plane's log."
}

// check runs one check and notes its result; it reports whether it passed.
func (v *validationReport) check(name string, fn func() error) bool {
	c := validationCheck{Name: name, Result: "success"}
	if err := fn(); err != nil {
		code, message := wordsOf(err)
		c.Result, c.Code, c.Message = "failure", &code, &message
		v.Available = false
	}
	v.Details = append(v.Details, c)
	return c.Result == "success"
}

func failed(code, format string, args ...any) error {
	return az.Errorf(az.Invalid, code, format, args...)
}

// validateLinker looks at everything a connection needs, on both sides.
func (c *Connector) validateLinker(ctx context.Context, call *arm.Call, r *arm.Resource[linkerProperties]) (any, error) {
	p, m := &r.Properties, r.Properties.Made
	stamp := func() string { return c.cfg.Clock().UTC().Format(time.RFC3339Nano) }
	v := validationReport{LinkerName: r.ID.Name(), Available: true, Started: stamp(), SourceID: r.ID.Parent().String(), TargetID: p.TargetService.ID, AuthType: p.AuthInfo.AuthType}
	if m.Target != "" {
		c.validateTarget(ctx, call, r, &v)
	} else {
		c.validatePostgres(ctx, call, r, &v)
	}
	v.check("The app settings of the connection are present", func() error { return c.checkSettings(ctx, r) })
	v.Ended = stamp()
	return validation{ResourceID: r.ID.String(), Status: arm.StateSucceeded, Properties: v}, nil
}

func (c *Connector) validatePostgres(ctx context.Context, call *arm.Call, r *arm.Resource[linkerProperties], v *validationReport) {
	p, m := &r.Properties, r.Properties.Made
	var srv *backend
	if v.check("The target existence is validated", func() (err error) { srv, err = c.server(ctx, m.Server); return err }) {
		v.check("The target server can be reached and has the database", func() error { return srv.has(ctx, m.Database) })
		if p.AuthInfo.AuthType == authSecret {
			v.check("The database login and password are accepted", func() error { return c.checkPassword(ctx, srv, r) })
		} else {
			c.checkIdentity(ctx, call, srv, r, v)
		}
	}
}

func (c *Connector) checkIdentity(ctx context.Context, call *arm.Call, srv *backend, r *arm.Resource[linkerProperties], v *validationReport) {
	m := r.Properties.Made
	c.checkAppHas(ctx, call, r, v)
	v.check("The identity may log in to the database", func() error {
		d, err := c.cfg.Guard.Explain(ctx, m.PrincipalID, familyOf(m.Server).login, loginScope(m.Server, m.Database))
		if err == nil && !d.Allowed {
			err = failed("RoleAssignmentMissing", "No role assignment lets the identity log in at %s: create the connection again.", loginScope(m.Server, m.Database))
		}
		return err
	})
	v.check("The database role exists, is the identity's and can log in", func() error { return c.checkRole(ctx, srv, r) })
}

// checkAppHas: an application's principal need not be the app's.
func (c *Connector) checkAppHas(ctx context.Context, call *arm.Call, r *arm.Resource[linkerProperties], v *validationReport) {
	m := r.Properties.Made
	if r.Properties.AuthInfo.AuthType == authPrincipal {
		v.check("The service principal exists", func() error {
			o, ok, err := c.cfg.Directory.Get(ctx, m.PrincipalID)
			if err == nil && (!ok || !o.Enabled) {
				err = failed("PrincipalMissing", "The service principal with the object id %s is gone or disabled.", m.PrincipalID)
			}
			return err
		})
		return
	}
	v.check("The app has the identity", func() error {
		all, err := c.cfg.Sites.IdentitiesOf(ctx, call.Caller, r.ID.Parent())
		if err == nil && !slices.ContainsFunc(all, func(a site.Assigned) bool { return a.PrincipalID == m.PrincipalID }) {
			err = failed("IdentityMissing", "The identity with the object id %s is not the app's any more: create the connection again.", m.PrincipalID)
		}
		return err
	})
}

// checkRole logs in as the role, as the gateway does, and compares what it may
// do with what it should.
func (c *Connector) checkRole(ctx context.Context, srv *backend, r *arm.Resource[linkerProperties]) error {
	m := r.Properties.Made
	p, err := c.principals.Load(ctx, m.Role)
	if err != nil {
		return err
	}
	if p == nil || p.Properties.Status != roleReady || p.Properties.PrincipalID != m.PrincipalID {
		return failed("RoleNotMapped", "The role %q is not mapped to the identity: create the connection again.", m.User)
	}
	conn, err := srv.loginAs(ctx, m.User, p.Secrets[passwordSecret], m.Database)
	if err != nil {
		return err
	}
	return conn.Close(context.WithoutCancel(ctx))
}

func (c *Connector) checkPassword(ctx context.Context, srv *backend, r *arm.Resource[linkerProperties]) error {
	secret := r.Secrets[linkerSecret]
	if isReference(secret) {
		return nil // the app's reference is the app's to read; site says whether it resolves
	}
	conn, err := srv.loginAs(ctx, r.Properties.Made.User, secret, r.Properties.Made.Database)
	if err != nil {
		return err
	}
	return conn.Close(context.WithoutCancel(ctx))
}

// loginAs logs in as somebody else than the owner.
func (b *backend) loginAs(ctx context.Context, user string, password az.Secret, database string) (*pgx.Conn, error) {
	other := *b
	other.Owner, other.Password = user, password
	return other.connect(ctx, database)
}

func (c *Connector) checkSettings(ctx context.Context, r *arm.Resource[linkerProperties]) error {
	have, err := c.cfg.Sites.SettingsOf(ctx, r.ID.Parent(), r.ID)
	if err != nil {
		return err
	}
	if optedOut(r.Properties.ConfigurationInfo) {
		return nil
	}
	var missing []string
	for _, s := range c.settingsOf(r) {
		value, there := have.App[s.Name]
		if s.ConnectionString {
			var cs site.ConnectionString
			cs, there = have.Connections[s.Name]
			value = cs.Value
		}
		if !there || value != s.reveal() {
			missing = append(missing, s.Name)
		}
	}
	if len(missing) > 0 {
		return failed("SettingsMissing", "The settings %s are gone or were changed: create the connection again.", strings.Join(missing, ", "))
	}
	return nil
}

// configuration is one setting of a connection, as listConfigurations says it.
type configuration struct {
	Name        string `json:"name"`
	Value       string `json:"value"`
	ConfigType  string `json:"configType"`
	Description string `json:"description,omitempty"`
}

// listConfigurations shows what the connection wrote. A password among it is
// shown to those who hold the action, as Azure does.
func (c *Connector) listConfigurations(_ context.Context, _ *arm.Call, r *arm.Resource[linkerProperties]) (any, error) {
	out := []configuration{}
	for _, s := range c.settingsOf(r) {
		kind := "Default"
		if strings.HasPrefix(s.reveal(), "@Microsoft.KeyVault(") {
			kind = "KeyVaultSecret"
		}
		out = append(out, configuration{Name: s.Name, Value: s.reveal(), ConfigType: kind})
	}
	return map[string]any{"configurations": out}, nil
}
