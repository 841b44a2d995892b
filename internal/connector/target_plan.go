package connector

import (
	"context"
	"crypto/subtle"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/hawser/hawser/internal/arm"
	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/store"
)

// What a connection to another target than PostgreSQL needs, does and undoes.

// The ports of servers. Source: wire/service-connector.md §3.
const (
	mysqlPort = 3306
	sqlPort   = 1433
	redisPort = 6380
	// managedRedisPort is that of Azure Managed Redis. Source: its documentation, "Architecture".
	managedRedisPort = 10000
	// maxRedisDatabases is what a cache of the standard tier has. Source: Azure
	// Cache for Redis, "databases" setting.
	maxRedisDatabases = 64
)

// takeService reads the last part of a target's id.
func (p *plan) takeService(name string) error {
	m := p.linker.Properties.Made
	switch {
	case p.kind.word == kindVault:
	case p.kind.accountType() == StorageType:
		if !strings.EqualFold(name, "default") {
			return az.Errorf(az.Invalid, "UnsupportedTarget", "The service of a storage account is named default.")
		}
	case p.kind.word == kindRedis:
		n, err := strconv.Atoi(name)
		if err != nil || n < 0 || n >= maxRedisDatabases {
			return az.Errorf(az.Invalid, "UnsupportedTarget", "The database of a cache is a number from 0 to %d.", maxRedisDatabases-1)
		}
		m.Database = strconv.Itoa(n)
	default:
		m.Database = name
		return checkName("database", name)
	}
	return nil
}

// needTargetRights is needRights: what the connection gives, its maker must be
// allowed to give.
func (p *plan) needTargetRights(ctx context.Context) error {
	k, m := p.kind, p.linker.Properties.Made
	p.rights = []need{{guard.Control(k.accountType() + "/read"), p.server}, {actionWriteConfig, p.site}}
	if p.linker.Properties.AuthInfo.AuthType == authSecret {
		if k.keys != "" {
			p.rights = append(p.rights, need{guard.Control(k.keys), p.server})
		}
		return nil
	}
	if k.word == kindVault {
		policies, _, err := p.c.cfg.Vaults.ByPolicies(ctx, p.server)
		if err != nil {
			return err
		}
		if m.Policies = policies; policies {
			p.rights = append(p.rights, need{guard.Control(k.typ + "/accessPolicies/write"), p.server})
			return nil
		}
	}
	if k.word == kindCosmos {
		p.rights = append(p.rights, need{guard.Control(CosmosType + "/sqlRoleAssignments/write"), p.server})
	}
	if k.roles[m.Access] != "" {
		p.rights = append(p.rights, need{actionAssignRole, p.server})
	}
	return nil
}

// findTarget is find: both sides are there, and the settings can be written.
func (p *plan) findTarget(ctx context.Context) error {
	m, a := p.linker.Properties.Made, p.linker.Properties.AuthInfo
	row, ok, err := p.c.cfg.Store.Resource(ctx, p.server)
	if err != nil {
		return err
	}
	if !ok {
		return az.Errorf(az.NotFound, "ResourceNotFound", "The target '%s' was not found. Create it, or check its name and resource group.", p.server.Name())
	}
	p.server, m.Server = row.ID, row.ID
	if p.kind.word == kindCosmos {
		if err := p.databaseThere(ctx); err != nil {
			return err
		}
	}
	if m.Kind = az.ServicePrincipal; a.AuthType == authSecret {
		return p.takeKey(ctx)
	}
	return nil
}

func (p *plan) databaseThere(ctx context.Context) error {
	_, ok, err := p.c.cfg.Store.Resource(ctx, p.target)
	if err == nil && !ok {
		err = az.Errorf(az.NotFound, "ResourceNotFound", "The database '%s' was not found in '%s'. Create it first.", p.target.Name(), p.server.Name())
	}
	return err
}

// findDescribed is find where nothing real stands behind a server: the
// connection is settings and no more, as the server is a description.
func (p *plan) findDescribed(ctx context.Context, f *family) error {
	m, a := p.linker.Properties.Made, p.linker.Properties.AuthInfo
	if p.kind.login {
		if err := p.databaseThere(ctx); err != nil {
			return err
		}
	}
	m.Host, m.Port = p.c.cfg.Names.Of(f.surface, strings.ToLower(p.server.Name())), map[Kind]int{MySQL: mysqlPort, SQLServer: sqlPort, Redis: redisPort}[f.kind]
	switch {
	case a.AuthType == authSecret && a.Name != "":
		m.User = a.Name
	case a.AuthType == authSecret:
		return p.takeKey(ctx)
	case p.kind.login:
		m.User = orText(a.UserName, azUser(p.linker.ID))
	}
	return nil
}

// takeKey takes the account's first key, which the settings are to hold.
func (p *plan) takeKey(ctx context.Context) error {
	keys, err := p.c.targetKeys(ctx, p.kind, p.server)
	if err != nil {
		return err
	}
	if len(keys) == 0 || keys[0].IsZero() {
		return az.Errorf(az.Invalid, "NoKeys", "The target '%s' has no key to connect with.", p.server.Name())
	}
	p.linker.Secrets = map[string]az.Secret{linkerSecret: keys[0]}
	return nil
}

// targetKeys are the keys of an account with which it can be written to.
func (c *Connector) targetKeys(ctx context.Context, k *kind, account az.ID) ([]az.Secret, error) {
	switch {
	case k.accountType() == StorageType:
		return c.storageKeys(ctx, account)
	case k.word == kindRedis:
		return c.redisKeys(ctx, account)
	case k.word == kindCosmos:
		all, err := c.cosmosKeys(ctx, account)
		if err != nil || all == nil {
			return nil, err
		}
		return []az.Secret{all[cosmosPrimary], all[cosmosSecondary]}, nil
	}
	return nil, nil
}

// targetEndpoint is the URL that clients of an account use.
func (c *Connector) targetEndpoint(kind, account string) string {
	switch kind {
	case kindVault:
		return c.cfg.Names.VaultURL(account)
	case kindCosmos:
		// Azure writes the port, too; clients take either.
		return strings.TrimSuffix(c.endpoint(account, string(az.SurfaceDocuments)), "/") + cosmosPort(c.cfg.Names) + "/"
	}
	if service, ok := strings.CutPrefix(kind, "storage-"); ok {
		return c.endpoint(account, service)
	}
	return ""
}

func cosmosPort(n az.Names) string {
	if strings.Contains(n.HostPort("x"), ":") {
		return "" // it is there
	}
	return ":443"
}

// application finds the principal of an application that a connection is for.
func (p *plan) application(ctx context.Context) error {
	a := p.linker.Properties.AuthInfo
	o, ok, err := p.c.cfg.Directory.ByAppID(ctx, strings.ToLower(a.ClientID))
	if err != nil {
		return err
	}
	if !ok || !o.Enabled || a.PrincipalID != "" && !strings.EqualFold(a.PrincipalID, o.ID) {
		return az.Errorf(az.Invalid, "PrincipalNotFound", "There is no service principal with the client id %s, or its object id is another one.", a.ClientID)
	}
	a.PrincipalID = o.ID
	p.who.PrincipalID, p.who.ClientID, p.name = o.ID, strings.ToLower(a.ClientID), o.Name
	return nil
}

// grants says what the identity is to be given; grantTx gives it.
func (p *plan) grants(context.Context) error {
	m := p.linker.Properties.Made
	m.PrincipalID = p.who.PrincipalID
	if m.Policies {
		if m.Access != Read {
			return az.Errorf(az.Invalid, "InvalidAccess", "The vault '%s' goes by access policies: a connection can give access read there; for more, set a policy.", p.server.Name())
		}
		return nil
	}
	if role := p.kind.roles[m.Access]; role != "" {
		m.RoleID, m.Assignment = role, assignmentID(p.linker.ID, p.server)
	}
	if p.kind.word == kindCosmos {
		m.CosmosRole = p.server.Child("sqlRoleAssignments", az.NamedGUID("hawser/connection", p.linker.ID.Key(), p.server.Key()))
	}
	return nil
}

// cosmosRoleOf is the built-in role of an access. Source: wire/databases.md §6.
func cosmosRoleOf(a Access) string {
	if a == Read {
		return "00000000-0000-0000-0000-000000000001"
	}
	return "00000000-0000-0000-0000-000000000002"
}

// grantTx gives the identity of a connection what it is for.
func (c *Connector) grantTx(tx *store.Tx, linker az.ID, m *made) error {
	if !m.Assignment.IsRoot() {
		if err := c.assignRole(tx, m.Assignment, m.PrincipalID, m.Kind, orText(m.RoleID, guard.RolePostgresLogin)); err != nil {
			return err
		}
	}
	if !m.CosmosRole.IsRoot() {
		r, err := c.cosmosAssigns.Read(tx, m.CosmosRole)
		if err != nil {
			return err
		}
		if r == nil {
			r = &arm.Resource[cosmosAssignmentProperties]{ID: m.CosmosRole}
		}
		want := cosmosAssignmentProperties{RoleDefinitionID: m.Server.Child("sqlRoleDefinitions", cosmosRoleOf(m.Access)).String(),
			Scope: m.Server.String(), PrincipalID: m.PrincipalID}
		if r.Properties != want {
			r.Properties = want
			if err := c.cosmosAssigns.Write(tx, r); err != nil {
				return err
			}
		}
	}
	if !m.CachePolicy.IsRoot() {
		return c.writePolicyTx(tx, linker, m.CachePolicy, m)
	}
	if !m.Policies {
		return nil
	}
	added, err := c.cfg.Vaults.LendSecrets(tx, m.Server, m.PrincipalID)
	if err != nil {
		return err
	}
	others, err := c.policyUsers(tx, az.ID{}, m)
	if err != nil {
		return err
	}
	m.Policy = added
	for _, o := range others { // what another connection added, or this one before, is this one's too
		for _, word := range o.Policy {
			if !slices.Contains(m.Policy, word) {
				m.Policy = append(m.Policy, word)
			}
		}
	}
	return nil
}

// policyUsers are the connections whose identity has the same policy in the
// same vault, but one.
func (c *Connector) policyUsers(tx *store.Tx, but az.ID, m *made) ([]*made, error) {
	rows, err := tx.Resources(store.ResourceQuery{Type: LinkerType})
	if err != nil {
		return nil, err
	}
	var out []*made
	for _, row := range rows {
		r, err := c.linkers.Read(tx, row.ID)
		if err != nil {
			return nil, err
		}
		if r == nil || r.ID.Equal(but) || r.Properties.Made == nil {
			continue
		}
		if o := r.Properties.Made; o.Policies && o.PrincipalID == m.PrincipalID && o.Server.Equal(m.Server) {
			out = append(out, o)
		}
	}
	return out, nil
}

// ungrantTx takes back what a connection gave before and does not give now.
func (c *Connector) ungrantTx(tx *store.Tx, linker az.ID, now, old *made) error {
	if !old.CosmosRole.IsRoot() && !old.CosmosRole.Equal(now.CosmosRole) {
		if _, err := tx.DeleteResource(old.CosmosRole); err != nil {
			return err
		}
	}
	if !old.CachePolicy.IsRoot() && !old.CachePolicy.Equal(now.CachePolicy) {
		if err := c.writePolicyTx(tx, linker, old.CachePolicy, nil); err != nil {
			return err
		}
	}
	if old.Policies && !(now.Policies && now.PrincipalID == old.PrincipalID && now.Server.Equal(old.Server)) {
		others, err := c.policyUsers(tx, linker, old)
		if err != nil {
			return err
		}
		if len(others) == 0 {
			if err := c.cfg.Vaults.ReturnSecrets(tx, old.Server, old.PrincipalID, old.Policy); err != nil {
				return err
			}
		}
	}
	for setting, name := range old.Vaulted {
		if now.KeyVault.Equal(old.KeyVault) && now.Vaulted[setting] == name {
			continue
		}
		if err := c.cfg.Vaults.Drop(tx, old.KeyVault.Name(), name); err != nil {
			return err
		}
	}
	return nil
}

// previewGrants says what the identity would be given.
func (p *plan) previewGrants(ctx context.Context, caller az.Principal, out *dryRunProperties) error {
	if err := p.identity(ctx, caller); err != nil {
		return err
	}
	p.previewIdentity(out)
	if err := p.grants(ctx); err != nil {
		return err
	}
	m := p.linker.Properties.Made
	add := func(name, action, text string) {
		out.Operations = append(out.Operations, operation{Name: name, Type: "configAuth", Scope: p.server.String(), Action: action, Description: text})
	}
	if m.Policies {
		add("accessPolicy", p.kind.typ+"/accessPolicies/write", "Add get and list for secrets to the identity's access policy")
	}
	if m.RoleID != "" {
		name := m.RoleID
		if r, ok, err := p.c.cfg.Guard.RoleNamed(ctx, m.RoleID); err == nil && ok {
			name = r.Name
		}
		add("roleAssignment", actionAssignRole.Name, fmt.Sprintf("Assign the role '%s' (%s) to the identity", name, m.RoleID))
	}
	if !m.CosmosRole.IsRoot() {
		add("sqlRoleAssignment", CosmosType+"/sqlRoleAssignments/write", "Assign the Cosmos DB data role "+cosmosRoleOf(m.Access)+" to the identity")
	}
	return nil
}

// validateTarget looks at both sides of a connection that is not PostgreSQL's.
func (c *Connector) validateTarget(ctx context.Context, call *arm.Call, r *arm.Resource[linkerProperties], v *validationReport) {
	p, m, k := &r.Properties, r.Properties.Made, kindNamed(r.Properties.Made.Target)
	there := v.check("The target existence is validated", func() error {
		ids := []az.ID{m.Server}
		if id, err := az.ParseID(p.TargetService.ID); err == nil && (k.login || k.word == kindCosmos) {
			ids = append(ids, id)
		}
		for _, id := range ids {
			if _, ok, err := c.cfg.Store.Resource(ctx, id); err != nil || !ok {
				return errorsFirst(err, failed("TargetMissing", "The target %s does not exist.", id))
			}
		}
		return nil
	})
	if !there {
		return
	}
	if p.AuthInfo.AuthType == authSecret {
		if k.keys != "" {
			v.check("The key is one of the target's", func() error { return c.checkKey(ctx, k, r) })
		}
	} else {
		c.checkAppHas(ctx, call, r, v)
		c.checkGrants(ctx, k, r, v)
	}
}

func (c *Connector) checkKey(ctx context.Context, k *kind, r *arm.Resource[linkerProperties]) error {
	keys, err := c.targetKeys(ctx, k, r.Properties.Made.Server)
	if err != nil {
		return err
	}
	have := r.Secrets[linkerSecret]
	for _, key := range keys {
		if !key.IsZero() && subtle.ConstantTimeCompare([]byte(key.Reveal()), []byte(have.Reveal())) == 1 {
			return nil
		}
	}
	return failed("KeyChanged", "The target's keys were renewed since: create the connection again.")
}

func (c *Connector) checkGrants(ctx context.Context, k *kind, r *arm.Resource[linkerProperties], v *validationReport) {
	m := r.Properties.Made
	if k.word == kindVault {
		v.check("The identity may read the vault's secrets", func() error {
			ok, err := c.cfg.Vaults.MayRead(ctx, m.PrincipalID, r.Properties.AuthInfo.ClientID, m.Server)
			if err == nil && !ok {
				err = failed("AccessMissing", "Nothing lets the identity read secrets of %s: create the connection again.", m.Server)
			}
			return err
		})
		return
	}
	if k.probe != "" {
		v.check("The identity has the role", func() error {
			d, err := c.cfg.Guard.Explain(ctx, m.PrincipalID, guard.Data(k.probe), m.Server)
			if err == nil && !d.Allowed {
				err = failed("RoleAssignmentMissing", "No role assignment lets the identity in at %s: create the connection again.", m.Server)
			}
			return err
		})
	}
	if m.CosmosRole.IsRoot() {
		return
	}
	v.check("The identity has the Cosmos DB role", func() error {
		got, err := c.cosmosAssigns.Load(ctx, m.CosmosRole)
		if err == nil && (got == nil || got.Properties.PrincipalID != m.PrincipalID) {
			err = failed("RoleAssignmentMissing", "The account's role assignment to the identity is gone: create the connection again.")
		}
		return err
	})
}
