package connector

import (
	"strings"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/vault"
)

// kind is what a connection can lead to. The kinds are one table; what they
// have in common is in plan.go, what sets them apart is here and in their
// settings (names.go, target_settings.go).
type kind struct {
	word   string // az's: az webapp connection create {word}
	typ    string // the type of the target's id
	prefix string // of the settings' names
	auth   []string
	// settings writes the settings; forms are the client types that it knows by
	// themselves, nil for all alike.
	settings func(target) []setting
	// usual is the access if none is asked for; roles are what an identity is
	// assigned at the account for each, and probe the action that they are for.
	usual Access
	roles map[Access]string
	probe string
	// keys is the action that gives the account's keys, "" if it has none; with
	// login a secret is a name and a password instead.
	keys  string
	login bool
	// connection is the type of the site's connection string.
	connection string
	// server is the kind of real server behind it, if there can be one.
	server Kind
}

// The kinds that other code names.
const (
	kindPostgres = "postgres-flexible"
	kindVault    = "keyvault"
	kindCosmos   = "cosmos-sql"
	kindRedis    = "redis"
	kindMySQL    = "mysql-flexible"
	kindSQL      = "sql"
)

var (
	identities = []string{authSystem, authUser, authPrincipal}
	everyAuth  = []string{authSystem, authUser, authPrincipal, authSecret}
	onlySecret = []string{authSecret}
)

// kinds are what az 2.45 offers for a web app and this plane serves. Source:
// wire/service-connector.md §1 to §3.
var kinds = []*kind{
	{word: kindPostgres, typ: DatabaseType, prefix: prefix, auth: everyAuth, settings: postgresSettings, usual: Write, login: true, connection: "PostgreSQL", server: PostgreSQL},
	{word: kindMySQL, typ: MySQLServerType + "/databases", prefix: "AZURE_MYSQL_", auth: everyAuth, settings: mysqlClient, usual: Write, login: true, connection: "MySql", server: MySQL},
	{word: kindSQL, typ: SQLServerType + "/databases", prefix: "AZURE_SQL_", auth: everyAuth, settings: sqlSettings, usual: Write, login: true, connection: "SQLAzure", server: SQLServer},
	{word: "storage-blob", typ: StorageType + "/blobServices", prefix: "AZURE_STORAGEBLOB_", auth: everyAuth, settings: storageSettings("blob"), usual: Write, keys: StorageType + "/listKeys/action",
		roles: map[Access]string{Read: guard.RoleBlobReader, Write: guard.RoleBlobContributor, Owner: guard.RoleBlobOwner}, probe: StorageType + "/blobServices/containers/blobs/read"},
	{word: "storage-queue", typ: StorageType + "/queueServices", prefix: "AZURE_STORAGEQUEUE_", auth: everyAuth, settings: storageSettings("queue"), usual: Write, keys: StorageType + "/listKeys/action",
		roles: map[Access]string{Read: guard.RoleQueueReader, Write: guard.RoleQueueContributor, Owner: guard.RoleQueueContributor}, probe: StorageType + "/queueServices/queues/messages/read"},
	{word: "storage-table", typ: StorageType + "/tableServices", prefix: "AZURE_STORAGETABLE_", auth: everyAuth, settings: storageSettings("table"), usual: Write, keys: StorageType + "/listKeys/action",
		roles: map[Access]string{Read: guard.RoleTableReader, Write: guard.RoleTableContributor, Owner: guard.RoleTableContributor}, probe: StorageType + "/tableServices/tables/entities/read"},
	{word: "storage-file", typ: StorageType + "/fileServices", prefix: "AZURE_STORAGEFILE_", auth: onlySecret, settings: storageSettings("file"), usual: Write, keys: StorageType + "/listKeys/action"},
	{word: kindVault, typ: vault.Type, prefix: "AZURE_KEYVAULT_", auth: identities, settings: vaultSettings, usual: Read,
		roles: map[Access]string{Read: guard.RoleSecretsUser, Write: guard.RoleSecretsOfficer, Owner: guard.RoleSecretsOfficer}, probe: "Microsoft.KeyVault/vaults/secrets/getSecret/action"},
	{word: kindCosmos, typ: CosmosType + "/sqlDatabases", prefix: "AZURE_COSMOS_", auth: everyAuth, settings: cosmosSettings, usual: Write, keys: CosmosType + "/listKeys/action",
		roles: map[Access]string{Owner: guard.RoleCosmosContributor}},
	{word: kindRedis, typ: RedisType + "/databases", prefix: "AZURE_REDIS_", auth: everyAuth, settings: redisSettings, usual: Write, keys: RedisType + "/listKeys/action", connection: "RedisCache", server: Redis},
}

// kindNamed finds a kind; "" is PostgreSQL, from when there was no other.
func kindNamed(word string) *kind {
	for _, k := range kinds {
		if k.word == word {
			return k
		}
	}
	return kinds[0]
}

// kindOf finds what a target's id means.
func kindOf(id az.ID) *kind {
	for _, k := range kinds {
		if id.IsType(k.typ) && !id.IsCollection() {
			return k
		}
	}
	return nil
}

// account is the resource that rights are asked of and given at.
func (k *kind) account(id az.ID) az.ID {
	if k.word == kindVault {
		return id
	}
	return id.Parent()
}

// accountType is the type of that resource.
func (k *kind) accountType() string {
	if k.word == kindVault {
		return k.typ
	}
	return k.typ[:strings.LastIndexByte(k.typ, '/')]
}

// serves reports whether the kind has a way of authentication.
func (k *kind) serves(auth string) bool {
	for _, a := range k.auth {
		if a == auth {
			return true
		}
	}
	return false
}

// family is the kind of real server behind it; nil if there is none.
func (k *kind) family() *family { return k.server.family() }

func kindWords() string {
	var all []string
	for _, k := range kinds {
		all = append(all, k.typ)
	}
	return strings.Join(all, ", ")
}
