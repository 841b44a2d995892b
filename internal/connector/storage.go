package connector

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/hawser/hawser/internal/arm"
	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/store"
)

// The resource types of Azure Storage.
const (
	StorageType     = "Microsoft.Storage/storageAccounts"
	BlobServiceType = StorageType + "/blobServices"
	ContainerType   = BlobServiceType + "/containers"
)

var storageVersions = []string{"2022-09-01", "2023-01-01", "2025-08-01"}

// The names of a storage account's keys.
const (
	storageKey1 = "key1"
	storageKey2 = "key2"
)

// storageProperties is a storage account. Its keys are in the Secrets.
type storageProperties struct {
	AccessTier                   string          `json:"accessTier,omitempty"`
	MinimumTLSVersion            string          `json:"minimumTlsVersion,omitempty"`
	HTTPSOnly                    *bool           `json:"supportsHttpsTrafficOnly,omitempty"`
	AllowBlobPublicAccess        *bool           `json:"allowBlobPublicAccess,omitempty"`
	AllowSharedKeyAccess         *bool           `json:"allowSharedKeyAccess,omitempty"`
	DefaultToOAuth               *bool           `json:"defaultToOAuthAuthentication,omitempty"`
	PublicNetworkAccess          string          `json:"publicNetworkAccess,omitempty"`
	HierarchicalNamespace        *bool           `json:"isHnsEnabled,omitempty"`
	AllowCrossTenantReplication  *bool           `json:"allowCrossTenantReplication,omitempty"`
	NetworkACLs                  json.RawMessage `json:"networkAcls,omitempty"`
	Encryption                   json.RawMessage `json:"encryption,omitempty"`
	KeyPolicy                    json.RawMessage `json:"keyPolicy,omitempty"`
	SASPolicy                    json.RawMessage `json:"sasPolicy,omitempty"`
	LargeFileSharesState         string          `json:"largeFileSharesState,omitempty"`
	AzureFilesIdentityBasedLogin json.RawMessage `json:"azureFilesIdentityBasedAuthentication,omitempty"`
	// Made is when each key was made, which a reader may know.
	Made map[string]string `json:"hawserKeyTimes,omitempty"`
}

var storageName = label{min: 3, max: 24}

const storageNameRule = "Storage account name must be between 3 and 24 characters in length and use numbers and lower-case letters only."

func (c *Connector) storageType() *arm.Type[storageProperties] {
	regenerate := arm.ResourceAction[storageProperties]{Run: c.regenerateStorageKey}
	noSAS := arm.ResourceAction[storageProperties]{Run: func(context.Context, *arm.Call, *arm.Resource[storageProperties]) (any, error) {
		return nil, az.Errorf(az.Unsupported, "NotSupported", "Signatures are not made by the control plane here: list the keys and sign with one (az storage account generate-sas does), or use a token instead of a signature.")
	}}
	return arm.Define(StorageType, storageVersions, arm.Hooks[storageProperties]{
		Check: c.checkStorage, Apply: c.applyStorage, View: c.viewStorage,
		Actions: map[string]arm.ResourceAction[storageProperties]{
			"listKeys": {Run: func(_ context.Context, _ *arm.Call, r *arm.Resource[storageProperties]) (any, error) {
				return storageKeyList(r), nil
			}},
			"regenerateKey":  regenerate,
			"listAccountSas": noSAS,
			"listServiceSas": noSAS,
		},
	})
}

func (c *Connector) checkStorage(_ context.Context, _ *arm.Call, r, old *arm.Resource[storageProperties]) error {
	p := &r.Properties
	if !storageName.ok(r.ID.Name()) {
		return az.Errorf(az.Invalid, "AccountNameInvalid", "%s is not a valid storage account name. %s", r.ID.Name(), storageNameRule)
	}
	located(r)
	r.Kind = orText(r.Kind, "StorageV2")
	switch r.Kind {
	case "StorageV2", "Storage", "BlobStorage", "BlockBlobStorage", "FileStorage":
	default:
		return az.Errorf(az.Invalid, "InvalidKind", "The kind of a storage account must be StorageV2, Storage, BlobStorage, BlockBlobStorage or FileStorage.")
	}
	name := orText(skuName(r.SKU), "Standard_RAGRS")
	tier, _, ok := strings.Cut(name, "_")
	if !ok || tier != "Standard" && tier != "Premium" || len(name) > 30 || strings.ContainsAny(name, `"\`) {
		return az.Errorf(az.Invalid, "InvalidSku", "The sku's name must be one such as Standard_LRS or Premium_LRS.")
	}
	r.SKU = json.RawMessage(`{"name":"` + name + `","tier":"` + tier + `"}`)
	yes, no := true, false
	if p.HTTPSOnly == nil {
		p.HTTPSOnly = &yes
	}
	if p.AllowBlobPublicAccess == nil {
		p.AllowBlobPublicAccess = &no
	}
	switch p.MinimumTLSVersion = orText(p.MinimumTLSVersion, "TLS1_2"); p.MinimumTLSVersion {
	case "TLS1_0", "TLS1_1", "TLS1_2", "TLS1_3":
	default:
		return az.Errorf(az.Invalid, "InvalidTlsVersion", "minimumTlsVersion must be TLS1_0, TLS1_1, TLS1_2 or TLS1_3.")
	}
	if p.AccessTier == "" && r.Kind != "Storage" {
		p.AccessTier = "Hot"
	}
	if p.Made = nil; old != nil {
		p.Made = old.Properties.Made
	}
	if p.Made == nil {
		now := c.cfg.Clock().UTC().Format(time.RFC3339Nano)
		p.Made = map[string]string{storageKey1: now, storageKey2: now}
	}
	withKeys(r, newKey, storageKey1, storageKey2)
	return nil
}

func (c *Connector) applyStorage(tx *store.Tx, r, old *arm.Resource[storageProperties]) error {
	if old != nil {
		return nil
	}
	if err := onlyOne(tx, StorageType, r.ID, az.Errorf(az.Conflict, "StorageAccountAlreadyTaken", "The storage account named %s is already taken.", r.ID.Name())); err != nil {
		return err
	}
	return c.blobServices.Write(tx, &arm.Resource[blobServiceProperties]{ID: r.ID.Child("blobServices", "default"), Created: tx.Now(), Updated: tx.Now()})
}

func (c *Connector) viewStorage(_ context.Context, _ *arm.Call, r *arm.Resource[storageProperties]) (any, error) {
	p, name := r.Properties, r.ID.Name()
	endpoints := map[string]string{}
	for _, service := range []string{"blob", "queue", "table", "file", "web", "dfs"} {
		endpoints[service] = c.endpoint(name, service)
	}
	made := p.Made
	p.Made = nil
	return merged(p, map[string]any{
		"primaryEndpoints":           endpoints,
		"primaryLocation":            r.Location,
		"statusOfPrimary":            "available",
		"creationTime":               r.Created.Time().Format(time.RFC3339Nano),
		"keyCreationTime":            made,
		"networkAcls":                or(p.NetworkACLs, `{"bypass":"AzureServices","virtualNetworkRules":[],"ipRules":[],"defaultAction":"Allow"}`),
		"encryption":                 or(p.Encryption, `{"keySource":"Microsoft.Storage","services":{"blob":{"enabled":true,"keyType":"Account"},"file":{"enabled":true,"keyType":"Account"}}}`),
		"privateEndpointConnections": []any{},
	})
}

// merged adds members to what a struct shows.
func merged(v any, more map[string]any) (map[string]any, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, az.Errorf(az.Internal, "", "").Because(err)
	}
	m := map[string]json.RawMessage{}
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, az.Errorf(az.Internal, "", "").Because(err)
	}
	out := make(map[string]any, len(m)+len(more))
	for k, v := range m {
		out[k] = v
	}
	for k, v := range more {
		out[k] = v
	}
	return out, nil
}

func storageKeyList(r *arm.Resource[storageProperties]) any {
	keys := []any{}
	for _, name := range []string{storageKey1, storageKey2} {
		keys = append(keys, map[string]any{"keyName": name, "value": r.Secrets[name].Reveal(), "permissions": "FULL", "creationTime": r.Properties.Made[name]})
	}
	return map[string]any{"keys": keys}
}

func (c *Connector) regenerateStorageKey(ctx context.Context, call *arm.Call, r *arm.Resource[storageProperties]) (any, error) {
	var in struct {
		Name string `json:"keyName"`
	}
	if err := call.Decode(&in); err != nil {
		return nil, err
	}
	name := strings.ToLower(in.Name)
	if name != storageKey1 && name != storageKey2 {
		return nil, az.Errorf(az.Invalid, "InvalidValuesForRequestParameters", "keyName must be key1 or key2.")
	}
	out, err := rekey(ctx, c.cfg.Store, c.storage, r.ID, func(r *arm.Resource[storageProperties], now time.Time) {
		r.Secrets[name] = newKey()
		r.Properties.Made[name] = now.UTC().Format(time.RFC3339Nano)
	})
	if err != nil {
		return nil, err
	}
	return storageKeyList(out), nil
}

// storageKeys gives the plane both keys of an account: signatures by either are
// valid. An account that is not there has none.
func (c *Connector) storageKeys(ctx context.Context, id az.ID) ([]az.Secret, error) {
	return keysOf(ctx, c.storage, id, storageKey1, storageKey2)
}

func (c *Connector) storageRoutes(api *arm.API) {
	api.Handle(http.MethodPost, "/subscriptions/{subscription}/providers/Microsoft.Storage/checkNameAvailability", guard.Action{},
		func(ctx context.Context, call *arm.Call) (any, error) {
			var in struct {
				Name string `json:"name"`
			}
			if err := call.Decode(&in); err != nil {
				return nil, err
			}
			if !storageName.ok(in.Name) {
				return map[string]any{"nameAvailable": false, "reason": "AccountNameInvalid", "message": storageNameRule}, nil
			}
			taken, err := c.nameTaken(ctx, StorageType, in.Name)
			if err != nil || !taken {
				return map[string]any{"nameAvailable": true}, err
			}
			return map[string]any{"nameAvailable": false, "reason": "AlreadyExists", "message": "The storage account named " + in.Name + " is already taken."}, nil
		})
	keep(api, BlobServiceType, "default")
}

// blobServiceProperties is the blob service of an account; each has one.
type blobServiceProperties struct {
	CORS               json.RawMessage `json:"cors,omitempty"`
	DeleteRetention    json.RawMessage `json:"deleteRetentionPolicy,omitempty"`
	ContainerRetention json.RawMessage `json:"containerDeleteRetentionPolicy,omitempty"`
	Versioning         *bool           `json:"isVersioningEnabled,omitempty"`
	ChangeFeed         json.RawMessage `json:"changeFeed,omitempty"`
}

func (c *Connector) blobServiceType() *arm.Type[blobServiceProperties] {
	return arm.Define(BlobServiceType, storageVersions, arm.Hooks[blobServiceProperties]{
		NoState: true,
		Check: func(_ context.Context, _ *arm.Call, r, _ *arm.Resource[blobServiceProperties]) error {
			if !strings.EqualFold(r.ID.Name(), "default") {
				return az.Errorf(az.Invalid, "InvalidResourceName", "An account's blob service is called 'default'.")
			}
			return nil
		},
		View: func(_ context.Context, _ *arm.Call, r *arm.Resource[blobServiceProperties]) (any, error) {
			p := r.Properties
			return merged(p, map[string]any{"cors": or(p.CORS, `{"corsRules":[]}`), "deleteRetentionPolicy": or(p.DeleteRetention, `{"enabled":false}`)})
		},
	})
}

// containerProperties is a blob container.
type containerProperties struct {
	PublicAccess string            `json:"publicAccess,omitempty"`
	Metadata     map[string]string `json:"metadata,omitempty"`
}

func (c *Connector) containerType() *arm.Type[containerProperties] {
	return arm.Define(ContainerType, storageVersions, arm.Hooks[containerProperties]{
		NoState: true,
		Check:   c.checkContainer,
		View: func(_ context.Context, _ *arm.Call, r *arm.Resource[containerProperties]) (any, error) {
			return merged(r.Properties, map[string]any{"publicAccess": orText(r.Properties.PublicAccess, "None"), "leaseStatus": "Unlocked", "leaseState": "Available",
				"lastModifiedTime": r.Updated.Time().Format(time.RFC3339), "hasImmutabilityPolicy": false, "hasLegalHold": false, "deleted": false, "version": "",
				"defaultEncryptionScope": "$account-encryption-key", "denyEncryptionScopeOverride": false, "remainingRetentionDays": 0})
		},
	})
}

func (c *Connector) checkContainer(ctx context.Context, _ *arm.Call, r, _ *arm.Resource[containerProperties]) error {
	name := r.ID.Name()
	if !(label{min: 3, max: 63, dashes: true}).ok(name) && name != "$root" && name != "$web" || strings.Contains(name, "--") {
		return az.Errorf(az.Invalid, "InvalidResourceName", "A container's name must have 3 to 63 lower-case letters, digits and single dashes, with no dash at either end.")
	}
	p := &r.Properties
	switch strings.ToLower(p.PublicAccess) {
	case "", "none":
		p.PublicAccess = ""
		return nil
	case "blob":
		p.PublicAccess = "Blob"
	case "container":
		p.PublicAccess = "Container"
	default:
		return az.Errorf(az.Invalid, "InvalidPublicAccess", "publicAccess must be None, Blob or Container.")
	}
	account, err := c.storage.Load(ctx, r.ID.Parent().Parent())
	if err != nil || account == nil {
		return err
	}
	if a := account.Properties.AllowBlobPublicAccess; a == nil || !*a {
		return az.Errorf(az.Conflict, "PublicAccessNotPermitted", "Public access is not permitted on this storage account.")
	}
	return nil
}
