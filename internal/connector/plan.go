package connector

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/hawser/hawser/internal/arm"
	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/site"
	"github.com/hawser/hawser/internal/store"
	"github.com/hawser/hawser/internal/vault"
)

// plan is what a connection is going to be: the request, validated, with
// everything in it found. It has changed nothing.
type plan struct {
	c      *Connector
	linker *arm.Resource[linkerProperties]
	old    *arm.Resource[linkerProperties] // nil: a new one
	site   az.ID
	kind   *kind
	target az.ID // as the request names it
	server az.ID // its account
	vault  az.ID // where secrets go; Root: nowhere
	rights []need
	real   engine        // after find; nil where no real server stands behind the target
	who    site.Assigned // the identity; zero PrincipalID: it is to be made
	name   string        // of the application that the connection is for
	prev   []roleUse     // what the connection had of its role before
}

// need is a right that the caller must have beside that on the linker.
type need struct {
	action guard.Action
	scope  az.ID
}

// maxLinkerName leaves room for "aad_" in PostgreSQL's 63 bytes. Source of the
// characters: Service Connector, "connection name".
const maxLinkerName = 59

// plan reads a request and refuses what it cannot mean. It looks at nothing
// that the caller might not see.
func (c *Connector) plan(ctx context.Context, call *arm.Call, r, old *arm.Resource[linkerProperties]) (*plan, error) {
	p := &plan{c: c, linker: r, old: old, site: r.ID.Parent()}
	props := &r.Properties
	given := props.Made.given()
	props.Made = &made{}
	if !p.site.IsType(site.Type) {
		return nil, az.Errorf(az.Invalid, "UnsupportedSource", "Connections are served for apps (%s) only.", site.Type)
	}
	if !validLinkerName(r.ID.Name()) {
		return nil, az.Errorf(az.Invalid, "InvalidLinkerName", "A connection's name must have 1 to %d letters, digits, dots, dashes and underscores.", maxLinkerName)
	}
	if err := p.takeTarget(); err != nil {
		return nil, err
	}
	var err error
	if props.ClientType, err = checkClient(props.ClientType); err != nil {
		return nil, err
	}
	if props.Made.Access, err = accessOr(string(given), p.kind.usual); err != nil {
		return nil, err
	}
	if err := p.takeStore(); err != nil {
		return nil, err
	}
	if err := p.takeAuth(); err != nil {
		return nil, err
	}
	if err := p.takePrefix(ctx); err != nil {
		return nil, err
	}
	if err := checkKeys(props.ConfigurationInfo); err != nil {
		return nil, err
	}
	return p, p.needRights(ctx)
}

func validLinkerName(s string) bool {
	if s == "" || len(s) > maxLinkerName {
		return false
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c != '_' && c != '-' && c != '.' && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}

func (p *plan) takeTarget() error {
	t := p.linker.Properties.TargetService
	bad := az.Errorf(az.Invalid, "UnsupportedTarget", "targetService must be of the type AzureResource, and its id that of one of: %s.", kindWords())
	if t == nil || t.Type != "" && !strings.EqualFold(t.Type, "AzureResource") {
		return bad
	}
	id, err := az.ParseID(t.ID)
	if err != nil {
		return bad
	}
	if p.kind = kindOf(id); p.kind == nil {
		return bad
	}
	t.Type = "AzureResource"
	p.target, p.server = id, p.kind.account(id)
	m := p.linker.Properties.Made
	if m.Server = p.server; p.kind.word != kindPostgres {
		m.Target = p.kind.word
	}
	if f := p.kind.family(); f != nil && f.kind != Redis {
		m.Database = id.Name()
		return f.checkDatabase(m.Database)
	}
	return p.takeService(id.Name())
}

// takeStore reads where secrets are to go.
func (p *plan) takeStore() error {
	s := p.linker.Properties.SecretStore
	if s == nil || s.KeyVaultID == "" {
		p.linker.Properties.SecretStore = nil
		return nil
	}
	id, err := az.ParseID(s.KeyVaultID)
	if err != nil || !id.IsType(vault.Type) || id.IsCollection() {
		return az.Errorf(az.Invalid, "UnsupportedSecretStore", "secretStore.keyVaultId must be the id of a vault (%s).", vault.Type)
	}
	p.vault = id
	return nil
}

func (p *plan) takeAuth() error {
	a := p.linker.Properties.AuthInfo
	if a == nil {
		return az.Errorf(az.Invalid, "MissingAuthInfo", "A connection needs authInfo; the way without a secret is {\"authType\":\"%s\"}.", authSystem)
	}
	copied := *a // the one given may be another resource's
	a = &copied
	p.linker.Properties.AuthInfo = a
	for _, known := range everyAuth {
		if strings.EqualFold(a.AuthType, known) {
			a.AuthType = known
		}
	}
	if !p.kind.serves(a.AuthType) {
		return az.Errorf(az.Invalid, "UnsupportedAuthType", "The authentication type is not served for %s; use %s.", p.kind.word, strings.Join(p.kind.auth, ", "))
	}
	given := az.NewSecret(a.Secret)
	a.Secret = ""
	p.linker.Secrets = nil
	switch a.AuthType {
	case authSystem:
		a.ClientID, a.PrincipalID, a.SecretInfo = "", "", nil
	case authUser:
		a.PrincipalID, a.SecretInfo = "", nil
		if !az.IsGUID(a.ClientID) {
			return az.Errorf(az.Invalid, "MissingClientId", "A connection with a user-assigned identity needs its clientId.")
		}
	case authPrincipal:
		a.SecretInfo = nil
		if given.IsZero() && p.old != nil && strings.EqualFold(p.old.Properties.AuthInfo.ClientID, a.ClientID) {
			given = p.old.Secrets[linkerSecret]
		}
		if !az.IsGUID(a.ClientID) || given.IsZero() {
			return az.Errorf(az.Invalid, "MissingSecret", "A connection with a service principal needs its clientId and secret; the way without a secret is %s.", authSystem)
		}
		p.linker.Secrets = map[string]az.Secret{linkerSecret: given}
	case authSecret:
		if p.kind.word == kindRedis && a.SecretInfo != nil {
			a.Name = orText(a.Name, defaultRedisUser)
		}
		if p.kind.login || a.Name != "" {
			return p.takeSecret(a)
		}
		a.SecretInfo = nil // the account's key, which find takes
		return nil
	}
	if f := p.kind.family(); f != nil && f.kind != Redis && a.UserName != "" {
		return f.checkRole(a.UserName)
	}
	a.UserName = ""
	return nil
}

// takeSecret moves a password from the body to the resource's Secrets. It ends
// up in the site's settings, sealed like all of them.
func (p *plan) takeSecret(a *authInfo) error {
	if err := checkName("database login", a.Name); err != nil {
		return err
	}
	given := az.Secret{}
	if i := a.SecretInfo; i != nil {
		kept := secretInfo{SecretType: i.SecretType}
		switch strings.ToLower(i.SecretType) {
		case "rawvalue":
			given = az.NewSecret(i.Value)
			if i.Value == "" {
				given = p.oldPassword()
			}
		case "keyvaultsecreturi":
			kept.Value, given = i.Value, az.NewSecret(reference(i.Value))
		case "keyvaultsecretreference":
			if p.vault.IsRoot() || !validSecretName(i.Name) {
				return az.Errorf(az.Invalid, "UnsupportedSecretType", "secretInfo of the type keyVaultSecretReference needs the name of a secret, and secretStore.keyVaultId.")
			}
			kept.Name, given = i.Name, az.NewSecret(reference(p.c.cfg.Names.VaultURL(p.vault.Name())+"secrets/"+i.Name))
		default:
			return az.Errorf(az.Invalid, "UnsupportedSecretType", "secretInfo.secretType must be rawValue, keyVaultSecretUri or keyVaultSecretReference.")
		}
		if isReference(given) && !p.separatePassword() {
			return az.Errorf(az.Invalid, "UnsupportedSecretType", "The settings of the client type %s hold the password inside a connection string, where a Key Vault reference cannot stand; use nodejs, django, springBoot or none.", p.linker.Properties.ClientType)
		}
		a.SecretInfo = &kept
	} else {
		given = p.oldPassword()
	}
	if given.IsZero() {
		return az.Errorf(az.Invalid, "MissingSecret", "A connection with the authentication type secret needs name and secretInfo; the way without a secret is %s.", authSystem)
	}
	p.linker.Secrets = map[string]az.Secret{linkerSecret: given}
	return nil
}

// oldPassword is what the connection has already, for the same target.
func (p *plan) oldPassword() az.Secret {
	if p.old == nil || p.old.Properties.AuthInfo.AuthType != authSecret || !strings.EqualFold(p.old.Properties.TargetService.ID, p.linker.Properties.TargetService.ID) {
		return az.Secret{}
	}
	return p.old.Secrets[linkerSecret]
}

func isReference(s az.Secret) bool { return strings.HasPrefix(s.Reveal(), "@Microsoft.KeyVault(") }

// separatePassword reports whether the password is a setting by itself.
func (p *plan) separatePassword() bool {
	const probe = "a password"
	t := target{Kind: p.kind.word, Auth: authSecret, Client: p.linker.Properties.ClientType, Password: az.NewSecret(probe)}
	for _, s := range t.settings() {
		if !s.Secret.IsZero() && s.reveal() != probe {
			return false
		}
	}
	return true
}

// takePrefix gives the first connection of a site to a kind of target the short
// names, and later ones names of their own. A connection keeps what it has.
func (p *plan) takePrefix(ctx context.Context) error {
	m := p.linker.Properties.Made
	m.Prefix = p.kind.prefix
	if p.old != nil && p.old.Properties.Made != nil && kindNamed(p.old.Properties.Made.Target) == p.kind {
		m.Prefix = p.old.Properties.Made.Prefix
		return nil
	}
	others, err := p.c.linkers.LoadIn(ctx, p.site)
	if err != nil {
		return err
	}
	for _, o := range others {
		if !o.ID.Equal(p.linker.ID) && o.Properties.Made != nil && o.Properties.Made.Prefix == p.kind.prefix {
			m.Prefix = ownPrefix(p.kind.prefix, p.linker.ID.Name())
		}
	}
	return nil
}

func checkKeys(i *configurationInfo) error {
	if i == nil {
		return nil
	}
	for _, v := range i.CustomizedKeys {
		if len(v) > 256 || strings.ContainsAny(v, "=\x00\n\r") {
			return az.Errorf(az.Invalid, "InvalidCustomizedKeys", "A name in customizedKeys cannot be that of a setting.")
		}
	}
	return nil
}

// needRights lists what the caller must be allowed to do to both sides: a
// connection is not a way around what somebody may do by hand.
func (p *plan) needRights(ctx context.Context) error {
	f := p.kind.family()
	if f == nil {
		return p.needTargetRights(ctx)
	}
	p.rights = []need{{f.readServer(), p.server}, {actionWriteConfig, p.site}}
	a := p.linker.Properties.AuthInfo
	switch {
	case a.AuthType == authSecret && f.kind == Redis && a.Name == "":
		p.rights = append(p.rights, need{guard.Control(p.kind.keys), p.server})
	case a.AuthType == authSecret:
	case f.kind == Redis:
		p.rights = append(p.rights, need{actionAssignPolicy, p.server})
	default:
		p.rights = append(p.rights, need{f.writePrincipal(), p.server}, need{actionAssignRole, loginScope(p.server, p.linker.Properties.Made.Database)})
	}
	return nil
}

// find looks up both sides, after the rights were asked for.
func (p *plan) find(ctx context.Context) error {
	f := p.kind.family()
	if f == nil {
		return p.findTarget(ctx)
	}
	row, ok, err := p.c.cfg.Store.Resource(ctx, p.server)
	if err != nil {
		return err
	}
	if !ok {
		return az.Errorf(az.NotFound, "ResourceNotFound", "The %s server '%s' was not found. Attach it, or check its name and resource group.", f.word, p.server.Name())
	}
	p.linker.Properties.Made.Server, p.server = row.ID, row.ID
	p.linker.Properties.Made.Kind = az.ServicePrincipal
	s := f.served(row)
	switch p.real, err = p.c.engine(ctx, p.server); {
	case err == nil && s != nil:
		return p.findReal(ctx, f, s)
	case s != nil && s.none && f.kind != PostgreSQL:
		return p.findDescribed(ctx, f)
	}
	return err
}

// findReal looks at the real server.
func (p *plan) findReal(ctx context.Context, f *family, s *served) error {
	m, a := p.linker.Properties.Made, p.linker.Properties.AuthInfo
	if err := p.real.has(ctx, m.Database); err != nil {
		return err
	}
	host, port, hidden := p.real.where()
	switch {
	case a.AuthType == authSecret && hidden:
		return az.Errorf(az.Invalid, "UnsupportedAuthType", "The server '%s' is the plane's own and is reached through the gateway only, which takes tokens: use %s or %s.", p.server.Name(), authSystem, authUser)
	case a.AuthType == authSecret && a.Name == "":
		return az.Errorf(az.Invalid, "MissingSecret", "The real server behind '%s' does not know the keys that Azure would make: give the name of a user of its own, and secretInfo; the way without a secret is %s.", p.server.Name(), authSystem)
	case a.AuthType == authSecret:
		m.User, m.Host, m.Port, m.Clear = a.Name, host, port, s.tls.Mode == sslDisable
		return nil
	case !s.entra:
		return az.Errorf(az.Invalid, "EntraAuthDisabled", "Authentication by token is turned off for the server '%s': %s.", p.server.Name(), f.turnOn())
	}
	m.Host, m.Port = p.c.cfg.Endpoint(f.kind, p.server.Name())
	return nil
}

// turnOn is how tokens are let in.
func (f *family) turnOn() string {
	if f.kind == Redis {
		return "set aad-enabled in its redisConfiguration to true"
	}
	return "set its authConfig.activeDirectoryAuth to Enabled"
}

// identity finds the identity that the connection is for.
func (p *plan) identity(ctx context.Context, caller az.Principal) error {
	if p.linker.Properties.AuthInfo.AuthType == authPrincipal {
		return p.application(ctx)
	}
	all, err := p.c.cfg.Sites.IdentitiesOf(ctx, caller, p.site)
	if err != nil {
		return err
	}
	a := p.linker.Properties.AuthInfo
	for _, one := range all {
		if a.AuthType == authSystem && one.ID.IsRoot() || a.AuthType == authUser && strings.EqualFold(one.ClientID, a.ClientID) {
			p.who = one
			return nil
		}
	}
	if a.AuthType == authUser {
		return az.Errorf(az.Invalid, "IdentityNotAssigned", "No identity with the client id %s is assigned to the app '%s'. Assign it first.", a.ClientID, p.site.Name())
	}
	return nil
}

// role names the database role: what the request says, else what az would call
// it; if that is another principal's on this server, with a suffix that is
// always the same for this one.
func (p *plan) role(ctx context.Context) error {
	f := p.kind.family()
	m, a := p.linker.Properties.Made, p.linker.Properties.AuthInfo
	m.PrincipalID, m.User = p.who.PrincipalID, a.UserName
	if m.User == "" {
		m.User = p.usualRole(f)
		taken, err := p.c.principals.Load(ctx, principalID(p.server, m.User))
		if err != nil {
			return err
		}
		if taken != nil && taken.Properties.PrincipalID != m.PrincipalID {
			suffix := "_" + az.NamedGUID("hawser/role-suffix", m.PrincipalID)[:8]
			m.User = cut(m.User, f.maxRole-len(suffix)) + suffix
		}
	}
	if m.Role = principalID(p.server, m.User); f.kind != PostgreSQL {
		m.RoleID = f.role
	}
	m.Assignment = assignmentID(p.linker.ID, loginScope(p.server, m.Database))
	return f.checkRole(m.User)
}

// usualRole is the name that az gives the role of a connection. Source:
// wire/service-connector.md §4, 7.
func (p *plan) usualRole(f *family) string {
	if f.kind != SQLServer {
		return azUser(p.linker.ID)
	}
	switch p.linker.Properties.AuthInfo.AuthType {
	case authUser:
		return p.who.ID.Name()
	case authPrincipal:
		return p.name
	}
	return p.site.Name()
}

// cut shortens a name to so many bytes, between two letters.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// azUser is the database user of a connection, by the name that az gives it.
func azUser(linker az.ID) string { return "aad_" + linker.Name() }

func (p *plan) claim() claim {
	m := p.linker.Properties.Made
	return claim{Server: p.server, By: p.linker.ID, Role: m.User, OID: m.PrincipalID, Kind: m.Kind, Database: m.Database, Access: m.Access}
}

// step is a part of a connection. undo must work whether do has finished, has
// stopped half way or was done twice.
type step struct {
	name string
	do   func(context.Context) error
	undo func(context.Context) error // nil: there is nothing to undo
}

// steps are what is to be done outside the plane's own store, in order.
func (p *plan) steps(caller az.Principal) []step {
	last := append(p.storeSecrets(caller), step{name: "write the connection down", do: p.rehearse})
	if p.linker.Properties.AuthInfo.AuthType == authSecret {
		return last
	}
	out := []step{p.identityStep(caller)}
	switch {
	case p.real == nil:
		out = append(out, step{name: "find what the identity is to be given", do: p.grants})
	case p.kind.server == Redis:
		out = append(out, p.policyStep())
	default:
		out = append(out, p.roleStep())
	}
	return append(out, last...)
}

// identityStep turns the app's identity on, if it is needed and off.
func (p *plan) identityStep(caller az.Principal) step {
	made := false
	return step{
		name: "turn the app's identity on",
		do: func(ctx context.Context) (err error) {
			if err := p.identity(ctx, caller); err != nil || p.who.PrincipalID != "" {
				return err
			}
			made = true
			p.who, err = p.c.cfg.Sites.EnsureSystemIdentity(ctx, caller, p.site)
			return err
		},
		undo: func(ctx context.Context) error {
			if !made {
				return nil
			}
			return p.c.cfg.Sites.DropSystemIdentity(ctx, caller, p.site)
		},
	}
}

func (p *plan) roleStep() step {
	return step{
		name: "make the database role and grant its access",
		do: func(ctx context.Context) error {
			if err := p.role(ctx); err != nil {
				return err
			}
			return p.c.makeRole(ctx, p.real, p.claim(), &p.prev)
		},
		undo: func(ctx context.Context) error { return p.c.dropClaim(ctx, p.claim(), p.prev) },
	}
}

// errRehearsed ends a transaction that was only to be tried.
var errRehearsed = az.Errorf(az.Conflict, "Rehearsed", "")

// rehearse writes the connection in a transaction that is not committed. What
// could stop the real one is found while the steps can still be undone; what
// stops it all the same (the store is lost just then) is left to Sweep.
func (p *plan) rehearse(ctx context.Context) error {
	err := p.c.cfg.Store.Write(ctx, func(tx *store.Tx) error {
		if err := p.c.applyLinker(tx, p.linker, p.old); err != nil {
			return err
		}
		return errRehearsed
	})
	if errors.Is(err, errRehearsed) {
		return nil
	}
	return err
}

// perform does steps in order; when one fails, it undoes those before it, the
// last first, and that one too.
func (c *Connector) perform(ctx context.Context, steps []step) error {
	for i, s := range steps {
		err := s.do(ctx)
		if err == nil {
			continue
		}
		undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
		defer cancel()
		for ; i >= 0; i-- {
			if steps[i].undo == nil {
				continue
			}
			if uerr := steps[i].undo(undo); uerr != nil {
				c.cfg.Log.Warn("connector: a step of a connection could not be undone", "step", steps[i].name, "error", uerr)
			}
		}
		return fmt.Errorf("cannot %s: %w", s.name, err)
	}
	return nil
}
