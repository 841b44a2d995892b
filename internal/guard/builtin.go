package guard

// RoleDefinitionType and RoleAssignmentType are the ARM types of RBAC.
const (
	RoleDefinitionType = "Microsoft.Authorization/roleDefinitions"
	RoleAssignmentType = "Microsoft.Authorization/roleAssignments"
)

// Ids of built-in roles that other packages name.
const (
	RoleOwner              = "8e3af657-a8ff-443c-a75c-2fe8c4bcb635"
	RoleContributor        = "b24988ac-6180-42a0-ab88-20f7382dd24c"
	RoleReader             = "acdd72a7-3385-48ef-bd42-f606fba81ae7"
	RoleKeyVaultAdmin      = "00482a5a-887f-4fb3-b363-3b7fe8e74483"
	RoleSecretsUser        = "4633458b-17de-408a-b874-0445c86b69e6"
	RoleSecretsOfficer     = "b86a8fe4-44ce-4948-aee5-eccb2c155cd7"
	RolePostgresLogin      = "6d3a9f0e-2f0b-4c58-9a5e-5b1f4d2c7e10" // ours: Azure has none
	RoleMySQLLogin         = "15d95083-80ef-416f-9d17-4a8687b462dc" // ours
	RoleSQLLogin           = "88524f85-3be5-4316-807f-05d7df982005" // ours
	RoleBlobOwner          = "b7e6dc6d-f1e8-4753-8033-0f276bb0955b"
	RoleBlobContributor    = "ba92f5b4-2d11-453d-a403-e96b0029c9fe"
	RoleBlobReader         = "2a2b9908-6ea1-4ae2-8e65-a410df84e7d1"
	RoleQueueContributor   = "974c5e8b-45b9-4653-ba55-5f855dd0fb88"
	RoleQueueReader        = "19e7f393-937e-4f77-808e-94535e297925"
	RoleTableContributor   = "0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3"
	RoleTableReader        = "76199698-9eea-4c19-bc75-cec21354c6b6"
	RoleCosmosContributor  = "5bd9cd88-fe45-4216-938b-f97437e15450"
	ActionPostgresLogin    = "Microsoft.DBforPostgreSQL/flexibleServers/login/action"
	ActionMySQLLogin       = "Microsoft.DBforMySQL/flexibleServers/login/action"
	ActionSQLLogin         = "Microsoft.Sql/servers/login/action"
	ActionRedisLogin       = "Microsoft.Cache/redis/login/action" // decided by data access policies
	ActionVaultSecretsRoot = "Microsoft.KeyVault/vaults/secrets/"
)

// BuiltIn returns the built-in role definitions, with Azure's ids and actions.
// Source: learn.microsoft.com, Azure built-in roles.
func BuiltIn() []*Role {
	role := func(id, name, about string, p Permission) *Role {
		return &Role{ID: id, Name: name, Description: about, BuiltIn: true, Permissions: []Permission{p}}
	}
	all := []string{"*"}
	support := []string{"Microsoft.Authorization/*/read", "Microsoft.Resources/deployments/*",
		"Microsoft.Resources/subscriptions/resourceGroups/read", "Microsoft.Support/*"}
	with := func(more ...string) []string { return append(more, support...) }
	vaultReads := []string{"Microsoft.KeyVault/checkNameAvailability/read", "Microsoft.KeyVault/deletedVaults/read",
		"Microsoft.KeyVault/locations/*/read", "Microsoft.KeyVault/vaults/*/read", "Microsoft.KeyVault/operations/read"}
	return append([]*Role{
		role(RoleOwner, "Owner", "Grants full access to manage all resources, including the ability to assign roles.", Permission{Actions: all}),
		role(RoleContributor, "Contributor", "Grants full access to manage all resources, but does not allow you to assign roles.",
			Permission{Actions: all, NotActions: []string{"Microsoft.Authorization/*/Delete", "Microsoft.Authorization/*/Write",
				"Microsoft.Authorization/elevateAccess/Action", "Microsoft.Blueprint/blueprintAssignments/write", "Microsoft.Blueprint/blueprintAssignments/delete",
				// In Azure the directory is no resource. Here it is, at the root: who may add a credential to
				// an owner's application, or a member to an owners' group, could assign roles to himself.
				"Hawser.Directory/*/Write", "Hawser.Directory/*/Delete"}}),
		role(RoleReader, "Reader", "View all resources, but does not allow you to make any changes.", Permission{Actions: []string{"*/read"}}),
		role("18d7d88d-d35e-4fb5-a5c3-7773c20a72d9", "User Access Administrator", "Lets you manage user access to resources.",
			Permission{Actions: []string{"*/read", "Microsoft.Authorization/*", "Microsoft.Support/*"}}),
		role("e40ec5ca-96e0-45a2-b4ff-59039f2c2b59", "Managed Identity Contributor", "Create, read, update, and delete user-assigned identities.",
			Permission{Actions: with("Microsoft.ManagedIdentity/userAssignedIdentities/read", "Microsoft.ManagedIdentity/userAssignedIdentities/write",
				"Microsoft.ManagedIdentity/userAssignedIdentities/delete", "Microsoft.ManagedIdentity/userAssignedIdentities/federatedIdentityCredentials/*")}),
		role("f1a07417-d97a-45cb-824c-7a7467783830", "Managed Identity Operator", "Read and assign user-assigned identities.",
			Permission{Actions: with("Microsoft.ManagedIdentity/userAssignedIdentities/*/read", "Microsoft.ManagedIdentity/userAssignedIdentities/read",
				"Microsoft.ManagedIdentity/userAssignedIdentities/*/assign/action", "Microsoft.ManagedIdentity/userAssignedIdentities/assign/action")}),
		role(RoleKeyVaultAdmin, "Key Vault Administrator", "Perform all data plane operations on a key vault and all objects in it.",
			Permission{Actions: with(vaultReads...), DataActions: []string{"Microsoft.KeyVault/vaults/*"}}),
		role(RoleSecretsOfficer, "Key Vault Secrets Officer", "Perform any action on the secrets of a key vault, except manage permissions.",
			Permission{Actions: with(vaultReads...), DataActions: []string{"Microsoft.KeyVault/vaults/secrets/*"}}),
		role(RoleSecretsUser, "Key Vault Secrets User", "Read secret contents.",
			Permission{DataActions: []string{"Microsoft.KeyVault/vaults/secrets/getSecret/action", "Microsoft.KeyVault/vaults/secrets/readMetadata/action"}}),
		role("21090545-7ca7-4776-b22c-e363652d74d2", "Key Vault Reader", "Read metadata of key vaults and its certificates, keys, and secrets.",
			Permission{Actions: with(vaultReads...), DataActions: []string{"Microsoft.KeyVault/vaults/*/read", "Microsoft.KeyVault/vaults/secrets/readMetadata/action"}}),
		role("f25e0fa2-a7c8-4377-a976-54943a77a395", "Key Vault Contributor", "Manage key vaults, but not access to them.",
			Permission{Actions: with("Microsoft.KeyVault/*"), NotActions: []string{"Microsoft.KeyVault/locations/deletedVaults/purge/action",
				"Microsoft.KeyVault/hsmPools/*", "Microsoft.KeyVault/managedHsms/*"}}),
		role("de139f84-1756-47ae-9be6-808fbbe84772", "Website Contributor", "Manage websites, but not web plans or access to them.",
			Permission{Actions: with("Microsoft.Web/certificates/*", "Microsoft.Web/listSitesAssignedToHostName/read", "Microsoft.Web/serverFarms/join/action",
				"Microsoft.Web/serverFarms/read", "Microsoft.Web/sites/*", "Microsoft.ServiceLinker/linkers/*")}),
		role(RolePostgresLogin, "PostgreSQL Login", "Log in to databases of a PostgreSQL server through the gateway. What the session may do there is for the database's own grants.",
			Permission{DataActions: []string{ActionPostgresLogin}}),
		role(RoleMySQLLogin, "MySQL Login", "Log in to a MySQL server through the gateway. What the session may do there is for the server's own grants.",
			Permission{DataActions: []string{ActionMySQLLogin}}),
		role(RoleSQLLogin, "SQL Server Login", "Log in to a SQL server through the gateway. What the session may do there is for the server's own grants.",
			Permission{DataActions: []string{ActionSQLLogin}}),
	}, append(vaultRoles(role, with, vaultReads), targetRoles(role, with)...)...)
}
