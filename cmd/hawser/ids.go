package main

import (
	"strings"

	"github.com/hawser/hawser/client"
)

// Resource types that commands name.
const (
	typeSite     = "Microsoft.Web/sites"
	typeVault    = "Microsoft.KeyVault/vaults"
	typeIdentity = "Microsoft.ManagedIdentity/userAssignedIdentities"
	typePostgres = "Microsoft.DBforPostgreSQL/flexibleServers"
	typeMySQL    = "Microsoft.DBforMySQL/flexibleServers"
	typeSQL      = "Microsoft.Sql/servers"
	typeRedis    = "Microsoft.Cache/redis"
	typeCosmos   = "Microsoft.DocumentDB/databaseAccounts"
	typeStorage  = "Microsoft.Storage/storageAccounts"
)

// resource is what commands read of any ARM resource.
type resource struct {
	ID         string            `json:"id"`
	Name       string            `json:"name"`
	Type       string            `json:"type"`
	Location   string            `json:"location,omitempty"`
	Tags       map[string]string `json:"tags,omitempty"`
	Identity   *identityBlock    `json:"identity,omitempty"`
	Properties map[string]any    `json:"properties"`
}

type identityBlock struct {
	Type        string                        `json:"type"`
	PrincipalID string                        `json:"principalId,omitempty"`
	TenantID    string                        `json:"tenantId,omitempty"`
	User        map[string]*userIdentityBlock `json:"userAssignedIdentities,omitempty"`
}

type userIdentityBlock struct {
	PrincipalID string `json:"principalId,omitempty"`
	ClientID    string `json:"clientId,omitempty"`
}

func (r resource) text(name string) string {
	s, _ := r.Properties[name].(string)
	return s
}

// location of everything made by a command: this machine is one region.
const location = "local"

// group is the default resource group's id.
func group(c *client.Client) string {
	return "/subscriptions/" + c.Plane().SubscriptionID + "/resourceGroups/" + client.DefaultGroup
}

// id names a resource in the default group; a full id is kept.
func id(c *client.Client, typ, name string) string {
	if strings.HasPrefix(name, "/") {
		return strings.TrimSuffix(name, "/")
	}
	return group(c) + "/providers/" + typ + "/" + name
}

// last is the last segment of an id.
func last(id string) string { return id[strings.LastIndexByte(id, '/')+1:] }

func equalFold(a, b string) bool { return strings.EqualFold(a, b) }
