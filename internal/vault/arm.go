package vault

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"strings"

	"github.com/hawser/hawser/internal/arm"
	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/store"
)

// Type is the vaults' ARM type.
const Type = "Microsoft.KeyVault/vaults"

// Source: api-versions that azure-cli, Terraform and armkeyvault send.
var versions = []string{"2026-02-01", "2024-11-01", "2023-07-01", "2023-02-01", "2022-07-01", "2021-10-01", "2019-09-01", "2016-10-01"}

// properties are a vault's, as ARM has them.
type properties struct {
	TenantID        string         `json:"tenantId"`
	SKU             sku            `json:"sku"`
	AccessPolicies  []accessPolicy `json:"accessPolicies"`
	Deployment      *bool          `json:"enabledForDeployment,omitempty"`
	DiskEncryption  *bool          `json:"enabledForDiskEncryption,omitempty"`
	Templates       *bool          `json:"enabledForTemplateDeployment,omitempty"`
	SoftDelete      *bool          `json:"enableSoftDelete,omitempty"`
	RetentionDays   *int           `json:"softDeleteRetentionInDays,omitempty"`
	RBAC            *bool          `json:"enableRbacAuthorization,omitempty"`
	PurgeProtection *bool          `json:"enablePurgeProtection,omitempty"`
	NetworkACLs     *networkACLs   `json:"networkAcls,omitempty"`
	PublicAccess    string         `json:"publicNetworkAccess,omitempty"`
	CreateMode      string         `json:"createMode,omitempty"` // of a request; never stored
	VaultURI        string         `json:"vaultUri,omitempty"`   // of a reply; never stored
}

type sku struct {
	Family string `json:"family"`
	Name   string `json:"name"`
}

type networkACLs struct {
	Bypass        string            `json:"bypass,omitempty"`
	DefaultAction string            `json:"defaultAction,omitempty"`
	IPRules       []json.RawMessage `json:"ipRules"`
	NetworkRules  []json.RawMessage `json:"virtualNetworkRules"`
}

// Register gives the front door the vaults and their other addresses.
func (v *Vaults) Register(api *arm.API) {
	api.Register(v.Types()...)
	v.handleRoutes(api)
}

// Types are the vaults' ARM types, without the routes that Register adds.
func (v *Vaults) Types() []arm.AnyType { return []arm.AnyType{v.resources} }

func (v *Vaults) resourceType() *arm.Type[properties] {
	return arm.Define(Type, versions, arm.Hooks[properties]{
		Check: v.checkVault, Apply: v.applyVault, Delete: v.deleteVault, View: v.viewVault, Documents: v.policyDocuments()})
}

type resource = arm.Resource[properties]

func armInvalid(code, format string, args ...any) error {
	return az.Errorf(az.Invalid, code, format, args...)
}

// validVaultName follows Azure's naming rules.
func validVaultName(s string) bool {
	if len(s) < 3 || len(s) > 24 || strings.Contains(s, "--") || strings.HasSuffix(s, "-") {
		return false
	}
	letter := func(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }
	for i := 0; i < len(s); i++ {
		if !letter(s[i]) && (i == 0 || s[i] != '-' && (s[i] < '0' || s[i] > '9')) {
			return false
		}
	}
	return true
}

func invalidVaultName(name string) *az.Error {
	return az.Errorf(az.Invalid, "VaultNameNotValid", "The vault name '%s' is invalid. A vault's name must be between 3-24 alphanumeric characters. The name must begin with a letter, end with a letter or digit, and not contain consecutive hyphens.", name)
}

func vaultExists(name string) *az.Error {
	return az.Errorf(az.Conflict, "VaultAlreadyExists", "The vault name '%s' is already in use. Vault names are globally unique so it is possible that the name is already taken. If you are sure that the vault name was not taken then it is possible that a vault with the same name was recently deleted but not purged after being placed in a recoverable state.", name)
}

func vaultHeld() *az.Error {
	return az.Errorf(az.Conflict, "ConflictError", "A vault with the same name already exists in deleted state. You need to either recover or purge existing key vault. Follow this link https://go.microsoft.com/fwlink/?linkid=2149745 for more information on soft delete.")
}

// checkVault validates and fills in what a request leaves open.
func (v *Vaults) checkVault(ctx context.Context, c *arm.Call, r, old *resource) error {
	p := &r.Properties
	p.VaultURI = ""
	if old == nil && !validVaultName(r.ID.Name()) {
		return invalidVaultName(r.ID.Name())
	}
	switch strings.ToLower(p.CreateMode) {
	case "", "default":
		p.CreateMode = ""
	case "recover":
		if old != nil {
			return vaultExists(r.ID.Name())
		}
		p.CreateMode = modeRecover
		return v.loadDeleted(ctx, r)
	default:
		return armInvalid("BadRequest", "The property 'createMode' must be 'default' or 'recover'.")
	}
	if r.Location == "" {
		return armInvalid("LocationRequired", "The location property is required for this definition.")
	}
	var was *properties
	if old != nil {
		was = &old.Properties
	}
	for _, check := range []func(was *properties) error{p.checkBasics(v.names.Tenant), p.checkModel(c.Version, v.names.Tenant), p.checkRetention, p.checkNetwork} {
		if err := check(was); err != nil {
			return err
		}
	}
	if was != nil && was.rbac() != p.rbac() {
		// Who turns roles into policies or back decides who gets in. Source:
		// Key Vault RBAC guide, "Changing permission model".
		return c.Check(ctx, actAssign, r.ID)
	}
	return nil
}

var actAssign = guard.Control("Microsoft.Authorization/roleAssignments/write")

const modeRecover = "recover"

func (p *properties) checkBasics(tenant string) func(*properties) error {
	return func(*properties) error {
		if p.TenantID == "" || strings.EqualFold(p.TenantID, az.AliasTenant) {
			p.TenantID = tenant
		}
		if !strings.EqualFold(p.TenantID, tenant) {
			return armInvalid("BadRequest", "The property 'tenantId' must be '%s', the tenant of this plane.", tenant)
		}
		if p.SKU.Name == "" {
			p.SKU = sku{"A", "standard"}
		}
		if !strings.EqualFold(p.SKU.Family, "A") || !strings.EqualFold(p.SKU.Name, "standard") && !strings.EqualFold(p.SKU.Name, "premium") {
			return armInvalid("BadRequest", "The property 'sku' must have the family 'A' and the name 'standard' or 'premium'.")
		}
		return nil
	}
}

// rolesByDefault is the api-version from which a vault that is made without a
// word about it goes by roles. Source: Key Vault 2026-02-01, "default access
// control"; before, the default is access policies.
const rolesByDefault = "2026-02-01"

// checkModel decides between roles and access policies. A request that does
// not say leaves a vault as it is. A call of another package has no
// api-version, and means roles.
func (p *properties) checkModel(version, tenant string) func(*properties) error {
	return func(was *properties) error {
		if p.AccessPolicies == nil {
			p.AccessPolicies = []accessPolicy{}
		}
		if p.RBAC == nil {
			rbac := version == "" || version >= rolesByDefault
			if was != nil {
				rbac = was.rbac()
			}
			p.RBAC = &rbac
		}
		return checkPolicies(p.AccessPolicies, tenant)
	}
}

func (p *properties) rbac() bool { return p.RBAC != nil && *p.RBAC }

func (p *properties) checkRetention(was *properties) error {
	yes := true
	if p.SoftDelete != nil && !*p.SoftDelete {
		return armInvalid("BadRequest", "The property \"enableSoftDelete\" cannot be set to false. Enabling the 'soft delete' functionality is an irreversible action.")
	}
	p.SoftDelete = &yes
	days := maxRetention
	if was != nil && was.RetentionDays != nil {
		days = *was.RetentionDays
		if p.RetentionDays != nil && *p.RetentionDays != days {
			return armInvalid("BadRequest", "The property \"softDeleteRetentionInDays\" has been set already and it can't be modified.")
		}
	}
	if p.RetentionDays == nil {
		p.RetentionDays = &days
	}
	if *p.RetentionDays < minRetention || *p.RetentionDays > maxRetention {
		return armInvalid("BadRequest", "The property \"softDeleteRetentionInDays\" must be from %d to %d.", minRetention, maxRetention)
	}
	if was != nil && was.purgeProtected() {
		if p.PurgeProtection != nil && !*p.PurgeProtection {
			return armInvalid("BadRequest", "The property \"enablePurgeProtection\" cannot be set to false. Enabling the purge protection for a vault is an irreversible action.")
		}
		p.PurgeProtection = &yes
	}
	if p.PurgeProtection != nil && !*p.PurgeProtection {
		p.PurgeProtection = nil // Azure shows it only when it is on
	}
	return nil
}

func (p *properties) purgeProtected() bool { return p.PurgeProtection != nil && *p.PurgeProtection }

// checkNetwork refuses what would be a promise that nobody keeps: a firewall.
func (p *properties) checkNetwork(*properties) error {
	if p.PublicAccess != "" && !strings.EqualFold(p.PublicAccess, "Enabled") {
		return armInvalid("BadRequest", "The property 'publicNetworkAccess' must be 'Enabled': this plane does not filter a vault's clients by network. Limit who reaches the plane instead.")
	}
	if n := p.NetworkACLs; n != nil {
		if n.DefaultAction != "" && !strings.EqualFold(n.DefaultAction, "Allow") {
			return armInvalid("BadRequest", "The property 'networkAcls.defaultAction' must be 'Allow': this plane does not filter a vault's clients by network. Limit who reaches the plane instead.")
		}
		if n.IPRules == nil {
			n.IPRules = []json.RawMessage{}
		}
		if n.NetworkRules == nil {
			n.NetworkRules = []json.RawMessage{}
		}
	}
	return nil
}

// deletedBody is what is kept of a deleted vault's resource.
type deletedBody struct {
	Tags       map[string]string `json:"tags,omitempty"`
	Properties properties        `json:"properties"`
}

// loadDeleted fills a vault that is to be recovered with what it was.
func (v *Vaults) loadDeleted(ctx context.Context, r *resource) error {
	row, ok, err := v.store.Vault(ctx, r.ID.Name())
	if err != nil {
		return err
	}
	if !ok || row.Deleted == 0 || !row.ID.Equal(r.ID) {
		return deletedVaultNotFound(r.ID.Name())
	}
	var b deletedBody
	if err := json.Unmarshal(row.Body, &b); err != nil {
		return az.Errorf(az.Internal, "", "").Because(err)
	}
	r.Location, r.Tags, r.Properties = row.Location, b.Tags, b.Properties
	r.Properties.CreateMode = modeRecover
	return nil
}

func deletedVaultNotFound(name string) error {
	return az.Errorf(az.NotFound, "DeletedVaultNotFound", "The specified deleted vault '%s' does not exist, or was in another resource group.", name)
}

// applyVault keeps the data plane's row in step with the resource. The row's
// name is what makes vault names unique over the plane.
func (v *Vaults) applyVault(tx *store.Tx, r, old *resource) error {
	recovering := r.Properties.CreateMode == modeRecover
	r.Properties.CreateMode = ""
	row, there, err := tx.Vault(r.ID.Name())
	if err != nil {
		return err
	}
	live := there && row.Deleted == 0
	switch {
	case old != nil && (!live || !row.ID.Equal(r.ID)):
		return az.Errorf(az.Internal, "", "").Because(errNoRow)
	case old == nil && live:
		return vaultExists(r.ID.Name())
	case recovering && (!there || !row.ID.Equal(r.ID)):
		return deletedVaultNotFound(r.ID.Name())
	case old == nil && there && !recovering:
		return vaultHeld()
	case !there:
		row = store.Vault{ID: r.ID, Serial: newSerial()}
	}
	row.Location, row.RetentionDays = r.Location, *r.Properties.RetentionDays
	row.RBAC, row.PurgeProtection = r.Properties.rbac(), r.Properties.purgeProtected()
	row.Deleted, row.PurgeAt = 0, 0
	if row.Body, err = storedPolicies(&r.Properties); err != nil {
		return err
	}
	return tx.PutVault(row)
}

// newSerial draws a number that no other vault had: 62 random bits.
func newSerial() int64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return int64(binary.BigEndian.Uint64(b[:])>>2) | 1
}

// deleteVault keeps a deleted vault, with what is in it, until its retention
// ends or somebody purges it.
func (v *Vaults) deleteVault(tx *store.Tx, r *resource) error {
	row, there, err := tx.Vault(r.ID.Name())
	if err != nil || !there || !row.ID.Equal(r.ID) {
		return err
	}
	if row.Body, err = json.Marshal(deletedBody{r.Tags, r.Properties}); err != nil {
		return err
	}
	row.Deleted = tx.Now()
	row.PurgeAt = after(row.Deleted, row.RetentionDays)
	return tx.PutVault(row)
}

// viewVault adds the vault's address, under the names that the client uses.
func (v *Vaults) viewVault(_ context.Context, c *arm.Call, r *resource) (any, error) {
	p := r.Properties
	p.VaultURI = v.names.VaultURL(r.ID.Name())
	if suffix, ok := azureSuffix[c.Host.Cloud]; ok && c.Host.Azure {
		p.VaultURI = "https://" + fold(r.ID.Name()) + "." + suffix + "/"
	}
	return p, nil
}

// Source: az.Names.Classify's table; the suffix that each cloud's ARM shows.
var azureSuffix = map[az.Cloud]string{az.Public: "vault.azure.net", az.China: "vault.azure.cn",
	az.USGov: "vault.usgovcloudapi.net", az.Germany: "vault.microsoftazure.de"}
