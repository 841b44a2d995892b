package connector

import (
	"context"
	"strings"

	"github.com/hawser/hawser/internal/arm"
	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/site"
	"github.com/hawser/hawser/internal/store"
)

// linkerVersions are the api-versions that az 2.45 and azurerm send
// (wire/service-connector.md §1); any other is served, too.
var linkerVersions = []string{"2022-05-01", "2022-11-01-preview", "2024-04-01"}

// The rights that a connection needs beside that on the linker itself.
var (
	actionWriteConfig  = guard.Control(site.Type + "/config/write")
	actionAssignPolicy = guard.Control(RedisAssignmentType + "/write")
)

// linkerProperties is a connection. What is in clear here holds no password:
// Check moves it to the resource's Secrets.
type linkerProperties struct {
	TargetService     *targetService     `json:"targetService"`
	AuthInfo          *authInfo          `json:"authInfo"`
	ClientType        string             `json:"clientType"`
	SecretStore       *secretStore       `json:"secretStore,omitempty"`
	VNetSolution      *vnetSolution      `json:"vNetSolution,omitempty"`
	Scope             string             `json:"scope,omitempty"`
	ConfigurationInfo *configurationInfo `json:"configurationInfo,omitempty"`
	// Made is what Azure has no words for: the access, which a body gives, and
	// what the connection did, so that it can be undone, which it cannot.
	Made *made `json:"hawser,omitempty"`
}

type targetService struct {
	Type string `json:"type"`
	ID   string `json:"id"`
}

type authInfo struct {
	AuthType       string      `json:"authType"`
	UserName       string      `json:"userName,omitempty"` // decodes az 2.45's "username", too
	Name           string      `json:"name,omitempty"`
	ClientID       string      `json:"clientId,omitempty"`
	SubscriptionID string      `json:"subscriptionId,omitempty"`
	PrincipalID    string      `json:"principalId,omitempty"`
	Secret         string      `json:"secret,omitempty"` // of a body; Check moves it away
	SecretInfo     *secretInfo `json:"secretInfo,omitempty"`
}

type secretInfo struct {
	SecretType string `json:"secretType"`
	Value      string `json:"value,omitempty"`
	Name       string `json:"name,omitempty"`
}

type secretStore struct {
	KeyVaultID         string `json:"keyVaultId,omitempty"`
	KeyVaultSecretName string `json:"keyVaultSecretName,omitempty"`
}

type vnetSolution struct {
	Type string `json:"type,omitempty"`
}

type configurationInfo struct {
	Action         string            `json:"action,omitempty"` // enable or optOut
	CustomizedKeys map[string]string `json:"customizedKeys,omitempty"`
}

// made is what a connection may do and what it did.
type made struct {
	Access      Access           `json:"access"`
	Prefix      string           `json:"prefix"`
	Host        string           `json:"host"` // what the settings name
	Port        int              `json:"port"`
	Server      az.ID            `json:"server"`
	Database    string           `json:"database"`
	User        string           `json:"user"`
	PrincipalID string           `json:"principalId,omitempty"`
	Kind        az.PrincipalKind `json:"principalType,omitempty"`
	Role        az.ID            `json:"role,omitzero"`
	Assignment  az.ID            `json:"assignment,omitzero"`
	Clear       bool             `json:"withoutTLS,omitempty"` // what Host and Port name does not do TLS
	// What follows is of targets besides PostgreSQL.
	Target     string `json:"target,omitempty"`           // az's word
	RoleID     string `json:"roleDefinition,omitempty"`   // of Assignment; "" is PostgreSQL Login
	CosmosRole az.ID  `json:"sqlRoleAssignment,omitzero"` // Cosmos DB's own
	// CachePolicy gives the identity its data access policy of a cache.
	CachePolicy az.ID    `json:"accessPolicyAssignment,omitzero"`
	Policies    bool     `json:"accessPolicy,omitempty"` // the vault goes by policies
	Policy      []string `json:"accessPolicyAdded,omitempty"`
	// Vaulted are the names of secrets in KeyVault, by setting.
	KeyVault az.ID             `json:"keyVault,omitzero"`
	Vaulted  map[string]string `json:"secrets,omitempty"`
}

// given is the access that a body asks for.
func (m *made) given() Access {
	if m == nil {
		return ""
	}
	return m.Access
}

// linkerSecret is the name of a connection's own password among its Secrets.
const linkerSecret = "secret"

func (c *Connector) linkerType() *arm.Type[linkerProperties] {
	return arm.Define(LinkerType, linkerVersions, arm.Hooks[linkerProperties]{
		Extension: true,
		Poll:      true, // else az 2.45 shows no authType
		Check:     c.checkLinker,
		Apply:     c.applyLinker,
		After:     c.afterLinker,
		Delete:    c.deleteLinker,
		Deleted: func(ctx context.Context, r *arm.Resource[linkerProperties]) {
			if m := r.Properties.Made; m != nil {
				c.tidy(ctx, m.Role, m.cacheRole())
			}
		},
		Actions: map[string]arm.ResourceAction[linkerProperties]{
			"listConfigurations": {Run: c.listConfigurations},
			"validateLinker":     {Run: c.validateLinker},
		},
	})
}

// checkLinker does everything that is not in the plane's own store: an
// identity for the site, a role with its grants on the real server. What the
// connection means to the plane comes in one transaction after it: applyLinker.
func (c *Connector) checkLinker(ctx context.Context, call *arm.Call, r, old *arm.Resource[linkerProperties]) error {
	p, err := c.plan(ctx, call, r, old)
	if err != nil {
		return err
	}
	for _, need := range p.rights {
		if err := call.Linked(ctx, need.action, need.scope); err != nil {
			return err
		}
	}
	if err := p.find(ctx); err != nil {
		return err
	}
	return c.perform(ctx, p.steps(call.Caller))
}

// applyLinker makes the connection true, all of it at once: the role is the
// identity's, an assignment lets it in, the site has its settings.
func (c *Connector) applyLinker(tx *store.Tx, r, old *arm.Resource[linkerProperties]) error {
	copied := *r.Properties.Made // what r points to is shared
	m := &copied
	r.Properties.Made = m
	if !m.Role.IsRoot() {
		if err := c.commitUse(tx, m.Role, r.ID, m.Database); err != nil {
			return err
		}
	}
	if err := c.grantTx(tx, r.ID, m); err != nil {
		return err
	}
	if old != nil {
		if err := c.undoOld(tx, r.ID, m, old.Properties.Made); err != nil {
			return err
		}
	}
	all := site.Settings{App: map[string]string{}, Connections: map[string]site.ConnectionString{}}
	for _, s := range c.settingsOf(r) {
		if s.ConnectionString {
			all.Connections[s.Name] = site.ConnectionString{Value: s.reveal(), Type: orText(kindNamed(m.Target).connection, "Custom")}
		} else {
			all.App[s.Name] = s.reveal()
		}
	}
	if optedOut(r.Properties.ConfigurationInfo) {
		return c.cfg.Sites.RemoveSettings(tx, r.ID.Parent(), r.ID)
	}
	return c.cfg.Sites.SetSettings(tx, r.ID.Parent(), r.ID, all)
}

func optedOut(i *configurationInfo) bool { return i != nil && strings.EqualFold(i.Action, "optOut") }

// undoOld takes back what the connection had made before and does not use now.
func (c *Connector) undoOld(tx *store.Tx, linker az.ID, now, old *made) error {
	if old == nil {
		return nil
	}
	if !old.Assignment.IsRoot() && !old.Assignment.Equal(now.Assignment) {
		if _, err := tx.DeleteResource(old.Assignment); err != nil {
			return err
		}
	}
	if err := c.ungrantTx(tx, linker, now, old); err != nil {
		return err
	}
	if old.Role.IsRoot() || old.Role.Equal(now.Role) {
		return nil
	}
	return c.releaseTx(tx, old.Role, by(linker))
}

func (c *Connector) afterLinker(ctx context.Context, r, old *arm.Resource[linkerProperties]) {
	roles := []az.ID{r.Properties.Made.Role, r.Properties.Made.cacheRole()}
	if old != nil && old.Properties.Made != nil {
		roles = append(roles, old.Properties.Made.Role, old.Properties.Made.cacheRole())
	}
	c.tidy(ctx, roles...)
}

// deleteLinker undoes a connection: what it set, assigned and made, and
// nothing that was there before it.
func (c *Connector) deleteLinker(tx *store.Tx, r *arm.Resource[linkerProperties]) error {
	if err := c.undoOld(tx, r.ID, &made{}, r.Properties.Made); err != nil {
		return err
	}
	return c.cfg.Sites.RemoveSettings(tx, r.ID.Parent(), r.ID)
}

// targetOf is what the settings of a connection tell.
func (c *Connector) targetOf(r *arm.Resource[linkerProperties]) target {
	p, m := &r.Properties, r.Properties.Made
	t := target{Kind: m.Target, Auth: p.AuthInfo.AuthType, Client: p.ClientType, Connection: r.ID.Name(), Database: m.Database, User: m.User,
		ClientID: p.AuthInfo.ClientID, Password: r.Secrets[linkerSecret], Prefix: m.Prefix, Host: m.Host, Port: m.Port,
		Clear: m.Clear, Tenant: c.cfg.Names.Tenant, Management: c.cfg.Names.Origin(az.SurfaceManagement), Resource: m.Server}
	if m.Target == kindRedis && t.User == defaultRedisUser {
		t.User = "" // as a key has none
	}
	if m.Target != "" {
		t.Account = strings.ToLower(m.Server.Name())
		t.Endpoint, t.Suffix = c.targetEndpoint(m.Target, t.Account), c.cfg.Names.HostPort(c.cfg.Names.Domain)
	}
	return t
}

// settingsOf are the settings of a connection, under the names its owner wants.
func (c *Connector) settingsOf(r *arm.Resource[linkerProperties]) []setting {
	p, m := &r.Properties, r.Properties.Made
	all := c.targetOf(r).settings()
	for i, s := range all {
		if name := m.Vaulted[s.Name]; name != "" && !s.Secret.IsZero() {
			all[i].Secret, all[i].Value = az.Secret{}, reference(c.cfg.Names.VaultURL(m.KeyVault.Name())+"secrets/"+name)
		}
		if p.ConfigurationInfo != nil {
			if name := p.ConfigurationInfo.CustomizedKeys[s.Name]; name != "" {
				all[i].Name = name
			}
		}
	}
	return all
}

// reference is the value of a setting that stands for a secret in a vault.
func reference(uri string) string { return "@Microsoft.KeyVault(SecretUri=" + uri + ")" }
