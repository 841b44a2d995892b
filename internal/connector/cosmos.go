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

// CosmosType is the type of Cosmos DB accounts.
const CosmosType = "Microsoft.DocumentDB/databaseAccounts"

var cosmosVersions = []string{"2022-08-15-preview", "2023-04-15", "2024-08-15"}

// The names of an account's keys, by keyKind of regenerateKey.
const (
	cosmosPrimary           = "primary"
	cosmosSecondary         = "secondary"
	cosmosPrimaryReadonly   = "primaryReadonly"
	cosmosSecondaryReadonly = "secondaryReadonly"
)

var cosmosKinds = []string{cosmosPrimary, cosmosSecondary, cosmosPrimaryReadonly, cosmosSecondaryReadonly}

// cosmosProperties is a Cosmos DB account. Its keys are in the Secrets.
type cosmosProperties struct {
	Locations           []cosmosLocation `json:"locations,omitempty"`
	OfferType           string           `json:"databaseAccountOfferType,omitempty"`
	Consistency         json.RawMessage  `json:"consistencyPolicy,omitempty"`
	Capabilities        []cosmosName     `json:"capabilities,omitempty"`
	IPRules             json.RawMessage  `json:"ipRules,omitempty"`
	Backup              json.RawMessage  `json:"backupPolicy,omitempty"`
	CORS                json.RawMessage  `json:"cors,omitempty"`
	DefaultIdentity     string           `json:"defaultIdentity,omitempty"`
	DisableLocalAuth    bool             `json:"disableLocalAuth,omitempty"`
	AutomaticFailover   bool             `json:"enableAutomaticFailover,omitempty"`
	MultipleWrites      bool             `json:"enableMultipleWriteLocations,omitempty"`
	FreeTier            bool             `json:"enableFreeTier,omitempty"`
	AnalyticalStorage   bool             `json:"enableAnalyticalStorage,omitempty"`
	NoKeyMetadataWrites bool             `json:"disableKeyBasedMetadataWriteAccess,omitempty"`
	VNetFilter          bool             `json:"isVirtualNetworkFilterEnabled,omitempty"`
	PublicNetworkAccess string           `json:"publicNetworkAccess,omitempty"`
	MinimalTLSVersion   string           `json:"minimalTlsVersion,omitempty"`
	Instance            string           `json:"instanceId,omitempty"`
}

type cosmosName struct {
	Name string `json:"name"`
}

type cosmosLocation struct {
	ID       string `json:"id,omitempty"`
	Name     string `json:"locationName"`
	Endpoint string `json:"documentEndpoint,omitempty"`
	State    string `json:"provisioningState,omitempty"`
	Priority int    `json:"failoverPriority"`
	Zones    bool   `json:"isZoneRedundant"`
}

// cosmosDeleted is the status of a deletion: az 2.45 takes 202 and 204 only.
const cosmosDeleted = http.StatusNoContent

var cosmosAccountName = label{min: 3, max: 44, dashes: true}

// maxCosmosLocations bounds the regions of an account; Azure has fewer.
const maxCosmosLocations = 60

func (c *Connector) cosmosType() *arm.Type[cosmosProperties] {
	read := arm.ResourceAction[cosmosProperties]{Run: func(_ context.Context, _ *arm.Call, r *arm.Resource[cosmosProperties]) (any, error) {
		return map[string]any{"primaryReadonlyMasterKey": r.Secrets[cosmosPrimaryReadonly].Reveal(), "secondaryReadonlyMasterKey": r.Secrets[cosmosSecondaryReadonly].Reveal()}, nil
	}}
	return arm.Define(CosmosType, cosmosVersions, arm.Hooks[cosmosProperties]{
		Check: c.checkCosmos, Apply: c.applyCosmos, View: c.viewCosmos, DeleteStatus: cosmosDeleted,
		Actions: map[string]arm.ResourceAction[cosmosProperties]{
			"listKeys":              {Run: listCosmosKeys},
			"readonlykeys":          read,
			"listConnectionStrings": {Run: c.listCosmosStrings},
			"regenerateKey":         {Run: c.regenerateCosmosKey},
		},
	})
}

func (c *Connector) checkCosmos(_ context.Context, _ *arm.Call, r, old *arm.Resource[cosmosProperties]) error {
	p := &r.Properties
	if !cosmosAccountName.ok(r.ID.Name()) {
		return az.Errorf(az.Invalid, "BadRequest", "DatabaseAccount name '%s' must have 3 to 44 lower-case letters, digits and dashes, with no dash at either end.", r.ID.Name())
	}
	located(r)
	switch r.Kind = orText(r.Kind, "GlobalDocumentDB"); r.Kind {
	case "GlobalDocumentDB":
	default:
		return az.Errorf(az.Invalid, "BadRequest", "Only accounts of the kind GlobalDocumentDB (the NoSQL API) are served here.")
	}
	if len(p.Locations) > maxCosmosLocations {
		return az.Errorf(az.Invalid, "BadRequest", "An account can have at most %d locations.", maxCosmosLocations)
	}
	if len(p.Locations) == 0 {
		p.Locations = []cosmosLocation{{Name: r.Location}}
	}
	for i, l := range p.Locations { // what else a body says of them is ours to say
		p.Locations[i] = cosmosLocation{Name: l.Name, Priority: l.Priority, Zones: l.Zones}
	}
	p.OfferType = orText(p.OfferType, "Standard")
	if p.Instance = az.NewGUID(); old != nil {
		p.Instance = old.Properties.Instance
	}
	withKeys(r, newKey, cosmosKinds...)
	return nil
}

// The built-in roles of Cosmos DB's own access control. Source: "Configure
// role-based access control … Azure Cosmos DB", built-in role definitions.
var cosmosBuiltIn = map[string]cosmosRoleProperties{
	"00000000-0000-0000-0000-000000000001": {Name: "Cosmos DB Built-in Data Reader", Type: "BuiltInRole", Permissions: []cosmosPermission{{DataActions: []string{
		"Microsoft.DocumentDB/databaseAccounts/readMetadata", "Microsoft.DocumentDB/databaseAccounts/sqlDatabases/containers/executeQuery",
		"Microsoft.DocumentDB/databaseAccounts/sqlDatabases/containers/readChangeFeed", "Microsoft.DocumentDB/databaseAccounts/sqlDatabases/containers/items/read"}}}},
	"00000000-0000-0000-0000-000000000002": {Name: "Cosmos DB Built-in Data Contributor", Type: "BuiltInRole", Permissions: []cosmosPermission{{DataActions: []string{
		"Microsoft.DocumentDB/databaseAccounts/readMetadata", "Microsoft.DocumentDB/databaseAccounts/sqlDatabases/containers/*",
		"Microsoft.DocumentDB/databaseAccounts/sqlDatabases/containers/items/*"}}}},
}

func (c *Connector) applyCosmos(tx *store.Tx, r, old *arm.Resource[cosmosProperties]) error {
	if old != nil {
		return nil
	}
	if err := onlyOne(tx, CosmosType, r.ID, az.Errorf(az.Conflict, "Conflict", "Dns record for %s under zone Document is already taken.", r.ID.Name())); err != nil {
		return err
	}
	for id, p := range cosmosBuiltIn {
		p.AssignableScopes = []string{r.ID.String()}
		if err := c.cosmosRoles.Write(tx, &arm.Resource[cosmosRoleProperties]{ID: r.ID.Child("sqlRoleDefinitions", id), Properties: p, Created: tx.Now(), Updated: tx.Now()}); err != nil {
			return err
		}
	}
	return nil
}

func (c *Connector) viewCosmos(_ context.Context, _ *arm.Call, r *arm.Resource[cosmosProperties]) (any, error) {
	p, url := r.Properties, c.endpoint(r.ID.Name(), string(az.SurfaceDocuments))
	all, policies := []cosmosLocation{}, []any{}
	for _, l := range p.Locations {
		id := r.ID.Name() + "-" + strings.ToLower(strings.ReplaceAll(l.Name, " ", ""))
		all = append(all, cosmosLocation{ID: id, Name: l.Name, Endpoint: url, State: arm.StateSucceeded, Priority: l.Priority, Zones: l.Zones})
		policies = append(policies, map[string]any{"id": id, "locationName": l.Name, "failoverPriority": l.Priority})
	}
	writes := all[:1]
	if p.MultipleWrites {
		writes = all
	}
	capabilities := p.Capabilities
	if capabilities == nil {
		capabilities = []cosmosName{}
	}
	return merged(p, map[string]any{
		"documentEndpoint": url, "locations": all, "readLocations": all, "writeLocations": writes, "failoverPolicies": policies,
		"consistencyPolicy":   or(p.Consistency, `{"defaultConsistencyLevel":"Session","maxIntervalInSeconds":5,"maxStalenessPrefix":100}`),
		"publicNetworkAccess": orText(p.PublicNetworkAccess, enabled), "capabilities": capabilities, "ipRules": or(p.IPRules, `[]`),
		"virtualNetworkRules": []any{}, "EnabledApiTypes": "Sql", "disableLocalAuth": p.DisableLocalAuth,
		"enableAutomaticFailover": p.AutomaticFailover, "enableMultipleWriteLocations": p.MultipleWrites, "enableFreeTier": p.FreeTier,
		"enableAnalyticalStorage": p.AnalyticalStorage, "isVirtualNetworkFilterEnabled": p.VNetFilter,
	})
}

func listCosmosKeys(_ context.Context, _ *arm.Call, r *arm.Resource[cosmosProperties]) (any, error) {
	out := map[string]any{}
	for _, kind := range cosmosKinds {
		out[kind+"MasterKey"] = r.Secrets[kind].Reveal()
	}
	return out, nil
}

func (c *Connector) listCosmosStrings(_ context.Context, _ *arm.Call, r *arm.Resource[cosmosProperties]) (any, error) {
	all := []any{}
	for i, kind := range cosmosKinds {
		about := []string{"Primary", "Secondary", "Primary Read-Only", "Secondary Read-Only"}[i] + " SQL Connection String"
		all = append(all, map[string]any{"description": about, "keyKind": strings.ToUpper(kind[:1]) + kind[1:], "type": "Sql",
			"connectionString": "AccountEndpoint=" + c.endpoint(r.ID.Name(), string(az.SurfaceDocuments)) + ";AccountKey=" + r.Secrets[kind].Reveal() + ";"})
	}
	return map[string]any{"connectionStrings": all}, nil
}

func (c *Connector) regenerateCosmosKey(ctx context.Context, call *arm.Call, r *arm.Resource[cosmosProperties]) (any, error) {
	var in struct {
		Kind string `json:"keyKind"`
	}
	if err := call.Decode(&in); err != nil {
		return nil, err
	}
	kind := ""
	for _, k := range cosmosKinds {
		if strings.EqualFold(k, in.Kind) {
			kind = k
		}
	}
	if kind == "" {
		return nil, az.Errorf(az.Invalid, "BadRequest", "keyKind must be primary, secondary, primaryReadonly or secondaryReadonly.")
	}
	_, err := rekey(ctx, c.cfg.Store, c.cosmos, r.ID, func(r *arm.Resource[cosmosProperties], _ time.Time) { r.Secrets[kind] = newKey() })
	if err != nil {
		return nil, err
	}
	return accepted200, nil
}

// cosmosKeys gives the plane an account's keys by kind; none if it is not there.
func (c *Connector) cosmosKeys(ctx context.Context, id az.ID) (map[string]az.Secret, error) {
	r, err := c.cosmos.Load(ctx, id)
	if err != nil || r == nil {
		return nil, err
	}
	return r.Secrets, nil
}

func (c *Connector) cosmosRoutes(api *arm.API) {
	api.Handle(http.MethodGet, "/providers/Microsoft.DocumentDB/databaseAccountNames/{name}", guard.Action{}, c.cosmosNameTaken)
	for id := range cosmosBuiltIn {
		keep(api, CosmosType+"/sqlRoleDefinitions", id)
	}
}

// cosmosNameTaken answers az cosmosdb check-name-exists: 200 or 404.
func (c *Connector) cosmosNameTaken(ctx context.Context, call *arm.Call) (any, error) {
	taken, err := c.nameTaken(ctx, CosmosType, call.Param("name"))
	if err == nil && !taken {
		err = az.Errorf(az.NotFound, "NotFound", "No account has this name.")
	}
	return map[string]any{}, err
}
