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

// codeNoBackend is the code of the error for a server that is a description.
const codeNoBackend = "ServerHasNoBackend"

func failed(code, format string, args ...any) error {
	return az.Errorf(az.Invalid, code, format, args...)
}

// validateLinker looks at everything a connection needs, on both sides.
func (c *Connector) validateLinker(ctx context.Context, call *arm.Call, r *arm.Resource[linkerProperties]) (any, error) {
	p, m := &r.Properties, r.Properties.Made
	stamp := func() string { return c.cfg.Clock().UTC().Format(time.RFC3339Nano) }
	v := validationReport{LinkerName: r.ID.Name(), Available: true, Started: stamp(), SourceID: r.ID.Parent().String(), TargetID: p.TargetService.ID, AuthType: p.AuthInfo.AuthType}
	if kindNamed(m.Target).family() == nil {
		c.validateTarget(ctx, call, r, &v)
	} else {
		c.validateServer(ctx, call, r, &v)
	}
	if len(m.Vaulted) > 0 {
		v.check("The app may read the vault that holds the secrets", func() error { return c.checkVault(ctx, call, r) })
	}
	v.check("The app settings of the connection are present", func() error { return c.checkSettings(ctx, r) })
	v.Ended = stamp()
	return validation{ResourceID: r.ID.String(), Status: arm.StateSucceeded, Properties: v}, nil
}

// validateServer looks at a database server, by logging in to the real one as
// the gateway or the app does.
func (c *Connector) validateServer(ctx context.Context, call *arm.Call, r *arm.Resource[linkerProperties], v *validationReport) {
	p, m := &r.Properties, r.Properties.Made
	srv, err := c.engine(ctx, m.Server)
	if code, _ := wordsOf(err); code == codeNoBackend && m.Target != "" {
		c.validateTarget(ctx, call, r, v)
		v.warn("A real server stands behind the target", err)
		return
	}
	if !v.check("The target existence is validated", func() error { return err }) {
		return
	}
	v.check("The target server can be reached and has the database", func() error { return srv.has(ctx, m.Database) })
	switch {
	case p.AuthInfo.AuthType == authSecret:
		v.check("The database login and password are accepted", func() error { return c.checkPassword(ctx, srv, r) })
	case m.Target == kindRedis:
		c.checkAppHas(ctx, call, r, v)
		v.check("The identity has its access policy in the cache", func() error { return c.checkPolicy(ctx, srv, r) })
	default:
		c.checkIdentity(ctx, call, srv, r, v)
	}
}

// warn notes what is no failure.
func (v *validationReport) warn(name string, err error) {
	code, message := wordsOf(err)
	v.Details = append(v.Details, validationCheck{Name: name, Result: "warning", Code: &code, Message: &message})
}

func (c *Connector) checkIdentity(ctx context.Context, call *arm.Call, srv engine, r *arm.Resource[linkerProperties], v *validationReport) {
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
func (c *Connector) checkRole(ctx context.Context, srv engine, r *arm.Resource[linkerProperties]) error {
	m := r.Properties.Made
	p, err := c.principals.Load(ctx, m.Role)
	if err != nil {
		return err
	}
	if p == nil || p.Properties.Status != roleReady || p.Properties.PrincipalID != m.PrincipalID {
		return failed("RoleNotMapped", "The role %q is not mapped to the identity: create the connection again.", m.User)
	}
	return srv.probe(ctx, m.User, p.Secrets[passwordSecret], m.Database, p.Properties.access(m.Database, true))
}

func (c *Connector) checkPassword(ctx context.Context, srv engine, r *arm.Resource[linkerProperties]) error {
	secret := r.Secrets[linkerSecret]
	if isReference(secret) {
		return nil // the app's reference is the app's to read; site says whether it resolves
	}
	return srv.probe(ctx, r.Properties.Made.User, secret, r.Properties.Made.Database, "")
}

// checkVault: a secret that the app cannot read is none.
func (c *Connector) checkVault(ctx context.Context, call *arm.Call, r *arm.Resource[linkerProperties]) error {
	all, err := c.cfg.Sites.IdentitiesOf(ctx, call.Caller, r.ID.Parent())
	if err != nil {
		return err
	}
	vault := r.Properties.Made.KeyVault
	for _, one := range all {
		if ok, err := c.cfg.Vaults.MayRead(ctx, one.PrincipalID, one.ClientID, vault); err != nil || ok {
			return err
		}
	}
	return failed("VaultNotReadable", "No identity of the app may read secrets of the vault '%s': connect the app to it, too.", vault.Name())
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
