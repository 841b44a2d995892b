package connector

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/hawser/hawser/internal/arm"
	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/rest"
)

// accepted200 is the reply of an action that has nothing to say.
var accepted200 = &rest.Reply{Status: http.StatusOK}

// cosmosDatabaseProperties is a database of an account, as a PUT brings it.
type cosmosDatabaseProperties struct {
	Resource struct {
		ID string `json:"id"`
	} `json:"resource"`
	Options json.RawMessage `json:"options,omitempty"`
}

// cosmosContainerProperties is a container of a database.
type cosmosContainerProperties struct {
	Resource cosmosContainer `json:"resource"`
	Options  json.RawMessage `json:"options,omitempty"`
}

type cosmosContainer struct {
	ID           string              `json:"id"`
	PartitionKey *cosmosPartitionKey `json:"partitionKey,omitempty"`
	Indexing     json.RawMessage     `json:"indexingPolicy,omitempty"`
	DefaultTTL   *int                `json:"defaultTtl,omitempty"`
	UniqueKeys   json.RawMessage     `json:"uniqueKeyPolicy,omitempty"`
	Conflicts    json.RawMessage     `json:"conflictResolutionPolicy,omitempty"`
	AnalyticTTL  *int64              `json:"analyticalStorageTtl,omitempty"`
}

type cosmosPartitionKey struct {
	Paths   []string `json:"paths"`
	Kind    string   `json:"kind,omitempty"`
	Version int      `json:"version,omitempty"`
}

// checkCosmosID: the resource's name is the document store's own id of it.
// Source: "Azure Cosmos DB service quotas", maximum length of names.
func checkCosmosID(what string, id az.ID, given *string) error {
	name := id.Name()
	if *given == "" {
		*given = name
	}
	if *given != name {
		return az.Errorf(az.Invalid, "BadRequest", "resource.id must be the name of the %s in the address.", what)
	}
	if len(name) > 255 || strings.ContainsAny(name, `/\#?`) || strings.HasSuffix(name, " ") {
		return az.Errorf(az.Invalid, "BadRequest", "The name of a %s may have 255 characters, none of / \\ # ? and no blank at its end.", what)
	}
	return nil
}

// withCosmosMarks adds the members that the document store gives every thing.
func withCosmosMarks[P any](r *arm.Resource[P], resource any, options json.RawMessage) (any, error) {
	rid := az.NamedGUID("hawser/rid", r.ID.Key())
	shown, err := merged(resource, map[string]any{"_rid": base64.StdEncoding.EncodeToString([]byte(rid[:8])), "_ts": r.Updated.Time().Unix(), "_etag": `"` + r.ETag + `"`})
	return map[string]any{"resource": shown, "options": or(options, `{}`)}, err
}

func (c *Connector) cosmosDatabaseType() *arm.Type[cosmosDatabaseProperties] {
	return arm.Define(CosmosType+"/sqlDatabases", cosmosVersions, arm.Hooks[cosmosDatabaseProperties]{
		NoState: true, DeleteStatus: cosmosDeleted,
		Check: func(_ context.Context, _ *arm.Call, r, _ *arm.Resource[cosmosDatabaseProperties]) error {
			return checkCosmosID("database", r.ID, &r.Properties.Resource.ID)
		},
		View: func(_ context.Context, _ *arm.Call, r *arm.Resource[cosmosDatabaseProperties]) (any, error) {
			return withCosmosMarks(r, r.Properties.Resource, r.Properties.Options)
		},
	})
}

// maxPartitionPaths is the depth of a hierarchical partition key. Source:
// "Hierarchical partition keys in Azure Cosmos DB".
const maxPartitionPaths = 3

func (c *Connector) cosmosContainerType() *arm.Type[cosmosContainerProperties] {
	return arm.Define(CosmosType+"/sqlDatabases/containers", cosmosVersions, arm.Hooks[cosmosContainerProperties]{
		NoState: true, DeleteStatus: cosmosDeleted,
		Check: func(_ context.Context, _ *arm.Call, r, old *arm.Resource[cosmosContainerProperties]) error {
			p := &r.Properties.Resource
			if old != nil && p.PartitionKey == nil {
				p.PartitionKey = old.Properties.Resource.PartitionKey
			}
			if p.PartitionKey == nil || len(p.PartitionKey.Paths) == 0 || len(p.PartitionKey.Paths) > maxPartitionPaths {
				return az.Errorf(az.Invalid, "BadRequest", "A container needs partitionKey.paths: 1 to %d paths such as /id.", maxPartitionPaths)
			}
			for _, path := range p.PartitionKey.Paths {
				if !strings.HasPrefix(path, "/") || len(path) < 2 {
					return az.Errorf(az.Invalid, "BadRequest", "Each path of the partition key must begin with a slash, as /id does.")
				}
			}
			if p.PartitionKey.Kind == "" {
				p.PartitionKey.Kind = "Hash"
			}
			if old != nil && strings.Join(p.PartitionKey.Paths, "\n") != strings.Join(old.Properties.Resource.PartitionKey.Paths, "\n") {
				return az.Errorf(az.Invalid, "BadRequest", "Document collection partition key cannot be changed.")
			}
			return checkCosmosID("container", r.ID, &p.ID)
		},
		View: func(_ context.Context, _ *arm.Call, r *arm.Resource[cosmosContainerProperties]) (any, error) {
			p := r.Properties.Resource
			p.Indexing = or(p.Indexing, `{"indexingMode":"consistent","automatic":true,"includedPaths":[{"path":"/*"}],"excludedPaths":[{"path":"/\"_etag\"/?"}]}`)
			p.Conflicts = or(p.Conflicts, `{"mode":"LastWriterWins","conflictResolutionPath":"/_ts","conflictResolutionProcedure":""}`)
			return withCosmosMarks(r, p, r.Properties.Options)
		},
	})
}

// cosmosRoleProperties is a role of the account's own access control.
type cosmosRoleProperties struct {
	Name             string             `json:"roleName"`
	Type             string             `json:"type"`
	AssignableScopes []string           `json:"assignableScopes"`
	Permissions      []cosmosPermission `json:"permissions"`
}

type cosmosPermission struct {
	DataActions []string `json:"dataActions"`
	Not         []string `json:"notDataActions,omitempty"`
}

// maxCosmosActions bounds a role.
const maxCosmosActions = 200

func (c *Connector) cosmosRoleType() *arm.Type[cosmosRoleProperties] {
	return arm.Define(CosmosType+"/sqlRoleDefinitions", cosmosVersions, arm.Hooks[cosmosRoleProperties]{NoState: true, DeleteStatus: cosmosDeleted, Check: c.checkCosmosRole})
}

func (c *Connector) checkCosmosRole(_ context.Context, _ *arm.Call, r, _ *arm.Resource[cosmosRoleProperties]) error {
	p, account := &r.Properties, r.ID.Parent()
	bad := func(format string, args ...any) error { return az.Errorf(az.Invalid, "BadRequest", format, args...) }
	if _, built := cosmosBuiltIn[r.ID.Name()]; built {
		return bad("A built-in role cannot be changed; make a role of your own.")
	}
	if !az.IsGUID(strings.ToLower(r.ID.Name())) {
		return bad("The name of a role definition must be a GUID.")
	}
	if p.Name == "" || len(p.Name) > 128 || len(p.Permissions) == 0 {
		return bad("A role definition needs a roleName of at most 128 characters and permissions.")
	}
	p.Type = "CustomRole"
	n := 0
	for _, perm := range p.Permissions {
		for _, a := range append(append([]string{}, perm.DataActions...), perm.Not...) {
			if n++; n > maxCosmosActions || !strings.HasPrefix(a, CosmosType+"/") {
				return bad("The permissions of a role must be data actions that begin with %s/, at most %d of them.", CosmosType, maxCosmosActions)
			}
		}
	}
	if len(p.AssignableScopes) == 0 {
		p.AssignableScopes = []string{account.String()}
	}
	for i, s := range p.AssignableScopes {
		scope, err := cosmosScope(account, s)
		if err != nil {
			return err
		}
		p.AssignableScopes[i] = scope
	}
	return nil
}

// cosmosScope makes a scope whole: az and people may write "/" or "/dbs/x".
func cosmosScope(account az.ID, s string) (string, error) {
	full := account.String()
	s = strings.TrimSuffix(s, "/") // az writes "/" behind the account
	switch {
	case s == "" || strings.EqualFold(s, full):
		return full, nil
	case len(s) > len(full) && strings.EqualFold(s[:len(full)], full):
		s = s[len(full):]
	}
	parts := strings.Split(s, "/")
	if len(parts) != 3 && len(parts) != 5 || parts[0] != "" || parts[1] != "dbs" || parts[2] == "" || len(parts) == 5 && (parts[3] != "colls" || parts[4] == "") {
		return "", az.Errorf(az.Invalid, "BadRequest", "A scope must be the account, its /dbs/<database> or its /dbs/<database>/colls/<container>.")
	}
	return full + s, nil
}

// cosmosAssignmentProperties gives a role to a principal.
type cosmosAssignmentProperties struct {
	RoleDefinitionID string `json:"roleDefinitionId"`
	Scope            string `json:"scope"`
	PrincipalID      string `json:"principalId"`
}

func (c *Connector) cosmosAssignmentType() *arm.Type[cosmosAssignmentProperties] {
	return arm.Define(CosmosType+"/sqlRoleAssignments", cosmosVersions, arm.Hooks[cosmosAssignmentProperties]{NoState: true, DeleteStatus: cosmosDeleted, Check: c.checkCosmosAssignment})
}

func (c *Connector) checkCosmosAssignment(ctx context.Context, _ *arm.Call, r, _ *arm.Resource[cosmosAssignmentProperties]) (err error) {
	p, account := &r.Properties, r.ID.Parent()
	if !az.IsGUID(strings.ToLower(r.ID.Name())) {
		return az.Errorf(az.Invalid, "BadRequest", "The name of a role assignment must be a GUID.")
	}
	if p.Scope, err = cosmosScope(account, p.Scope); err != nil {
		return err
	}
	name := p.RoleDefinitionID[strings.LastIndexByte(p.RoleDefinitionID, '/')+1:]
	id := account.Child("sqlRoleDefinitions", strings.ToLower(name))
	if name != p.RoleDefinitionID && !strings.EqualFold(p.RoleDefinitionID, id.String()) {
		return az.Errorf(az.Invalid, "BadRequest", "roleDefinitionId must be the id of a role definition of this account.")
	}
	role, err := c.cosmosRoles.Load(ctx, id)
	if err != nil {
		return err
	}
	if role == nil {
		return az.Errorf(az.NotFound, "NotFound", "The role definition '%s' was not found in this account.", name)
	}
	if !cosmosAssignable(role.Properties.AssignableScopes, p.Scope) {
		return az.Errorf(az.Invalid, "BadRequest", "The role '%s' cannot be assigned at this scope: see its assignableScopes.", role.Properties.Name)
	}
	p.RoleDefinitionID = role.ID.String()
	p.PrincipalID, _, err = c.principal(ctx, p.PrincipalID)
	return err
}

func cosmosAssignable(scopes []string, at string) bool {
	for _, s := range scopes {
		if at == s || strings.HasPrefix(at, s+"/") {
			return true
		}
	}
	return false
}
