package connector

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hawser/hawser/internal/az"
	"github.com/hawser/hawser/internal/directory"
	"github.com/hawser/hawser/internal/guard"
	"github.com/hawser/hawser/internal/store"
)

// TestTargetSettings: the settings of wire/service-connector.md §3.
func TestTargetSettings(t *testing.T) {
	t.Parallel()
	base := map[string]target{
		"storage-blob":   {Account: "a", Endpoint: "https://a.blob.core.windows.net/", Suffix: "core.windows.net"},
		"storage-file":   {Account: "a", Endpoint: "https://a.file.core.windows.net/", Suffix: "core.windows.net"},
		"storage-queue":  {Account: "a", Endpoint: "https://a.queue.core.windows.net/", Suffix: "core.windows.net"},
		"keyvault":       {Endpoint: "https://v.vault.azure.net/"},
		"cosmos-sql":     {Endpoint: "https://c.documents.azure.com:443/", Management: "https://management.azure.com", Resource: az.MustParseID("/subscriptions/s/resourceGroups/g/providers/Microsoft.DocumentDB/databaseAccounts/c")},
		"redis":          {Host: "r.redis.cache.windows.net", Port: 6380, Database: "0"},
		"mysql-flexible": {Host: "m.mysql.database.azure.com", Port: 3306, Database: "d", User: "u"},
		"sql":            {Host: "s.database.windows.net", Port: 1433, Database: "d", User: "u"},
	}
	const s, u, p, c = authSystem, authUser, authPrincipal, authSecret
	for _, x := range []struct {
		kind, auth, client string
		want               []string
	}{
		{"storage-blob", s, "python", []string{"RESOURCEENDPOINT=https://a.blob.core.windows.net/"}},
		{"storage-blob", u, "go", []string{"RESOURCEENDPOINT=https://a.blob.core.windows.net/", "CLIENTID=cid"}},
		{"storage-blob", p, "none", []string{"RESOURCEENDPOINT=https://a.blob.core.windows.net/", "CLIENTID=cid", "!CLIENTSECRET=k", "TENANTID=t"}},
		{"storage-blob", c, "nodejs", []string{"!CONNECTIONSTRING=DefaultEndpointsProtocol=https;AccountName=a;AccountKey=k;EndpointSuffix=core.windows.net"}},
		{"storage-blob", c, "springBoot", []string{"azure.storage.account-name=a", "!azure.storage.account-key=k", "azure.storage.blob-endpoint=https://a.blob.core.windows.net/"}},
		{"storage-queue", c, "springBoot", []string{"!CONNECTIONSTRING=DefaultEndpointsProtocol=https;AccountName=a;AccountKey=k;EndpointSuffix=core.windows.net"}},
		{"storage-file", c, "springBoot", []string{"azure.storage.account-name=a", "!azure.storage.account-key=k", "azure.storage.file-endpoint=https://a.file.core.windows.net/"}},
		{"keyvault", s, "dotnet", []string{"RESOURCEENDPOINT=https://v.vault.azure.net/", "SCOPE=https://management.azure.com/.default"}},
		{"keyvault", p, "dotnet", []string{"RESOURCEENDPOINT=https://v.vault.azure.net/", "SCOPE=https://management.azure.com/.default", "CLIENTID=cid", "!CLIENTSECRET=k", "TENANTID=t"}},
		{"cosmos-sql", s, "java", []string{"RESOURCEENDPOINT=https://c.documents.azure.com:443/",
			"LISTCONNECTIONSTRINGURL=https://management.azure.com/subscriptions/s/resourceGroups/g/providers/Microsoft.DocumentDB/databaseAccounts/c/listConnectionStrings?api-version=2021-04-15",
			"SCOPE=https://management.azure.com/.default"}},
		{"cosmos-sql", c, "java", []string{"!CONNECTIONSTRING=AccountEndpoint=https://c.documents.azure.com:443/;AccountKey=k"}},
		{"redis", c, "dotnet", []string{"!CONNECTIONSTRING=r.redis.cache.windows.net:6380,password=k,ssl=True,defaultDatabase=0"}},
		{"redis", c, "go", []string{"!CONNECTIONSTRING=rediss://:k@r.redis.cache.windows.net:6380/0"}},
		{"redis", c, "springBoot", []string{"spring.redis.host=r.redis.cache.windows.net", "spring.redis.port=6380", "spring.redis.database=0", "!spring.redis.password=k", "spring.redis.ssl=true"}},
		{"mysql-flexible", s, "dotnet", []string{"CONNECTIONSTRING=Server=m.mysql.database.azure.com;Database=d;Port=3306;User Id=u;SSL Mode=Required;"}},
		{"mysql-flexible", c, "dotnet", []string{"!CONNECTIONSTRING=Server=m.mysql.database.azure.com;Database=d;Port=3306;User Id=u;SSL Mode=Required;Password=k;"}},
		{"mysql-flexible", s, "java", []string{"CONNECTIONSTRING=jdbc:mysql://m.mysql.database.azure.com:3306/d?sslmode=required&user=u"}},
		{"mysql-flexible", c, "django", []string{"NAME=d", "HOST=m.mysql.database.azure.com", "USER=u", "!PASSWORD=k"}},
		{"mysql-flexible", s, "go", []string{"CONNECTIONSTRING=u@tcp(m.mysql.database.azure.com:3306)/d?tls=true"}},
		{"mysql-flexible", c, "go", []string{"!CONNECTIONSTRING=u:k@tcp(m.mysql.database.azure.com:3306)/d?tls=true"}},
		{"mysql-flexible", u, "nodejs", []string{"HOST=m.mysql.database.azure.com", "USER=u", "DATABASE=d", "PORT=3306", "SSL=true", "CLIENTID=cid"}},
		{"mysql-flexible", c, "php", []string{"DBNAME=d", "HOST=m.mysql.database.azure.com", "PORT=3306", "FLAG=MYSQL_CLIENT_SSL", "USERNAME=u", "!PASSWORD=k"}},
		{"mysql-flexible", s, "ruby", []string{"DATABASE=d", "HOST=m.mysql.database.azure.com", "USERNAME=u", "SSLMODE=required"}},
		{"mysql-flexible", p, "springBoot", []string{"spring.datasource.url=jdbc:mysql://m.mysql.database.azure.com:3306/d?sslmode=required", "spring.datasource.username=u",
			"spring.cloud.azure.credential.client-id=cid", "!spring.cloud.azure.credential.client-secret=k", "spring.cloud.azure.profile.tenant-id=t", "spring.datasource.azure.passwordless-enabled=true"}},
		{"sql", s, "dotnet", []string{"CONNECTIONSTRING=Server=tcp:s.database.windows.net;Database=d;Authentication=Active Directory Default;TrustServerCertificate=True"}},
		{"sql", u, "dotnet", []string{"CONNECTIONSTRING=Server=tcp:s.database.windows.net;Database=d;Authentication=Active Directory Default;User Id=cid;TrustServerCertificate=True"}},
		{"sql", c, "dotnet", []string{"!CONNECTIONSTRING=Data Source=s.database.windows.net,1433;Initial Catalog=d;User ID=u;Password=k"}},
		{"sql", u, "java", []string{"CONNECTIONSTRING=jdbc:sqlserver://s.database.windows.net:1433;databaseName=d;authentication=ActiveDirectoryMSI;msiClientId=cid;"}},
		{"sql", c, "java", []string{"!CONNECTIONSTRING=jdbc:sqlserver://s.database.windows.net:1433;databaseName=d;user=u;password=k;"}},
		{"sql", s, "springBoot", []string{"spring.datasource.url=jdbc:sqlserver://s.database.windows.net:1433;databaseName=d;authentication=ActiveDirectoryMSI;"}},
		{"sql", s, "python", []string{"SERVER=s.database.windows.net", "PORT=1433", "DATABASE=d", "AUTHENTICATION=ActiveDirectoryMsi"}},
		{"sql", u, "python", []string{"SERVER=s.database.windows.net", "PORT=1433", "DATABASE=d", "AUTHENTICATION=ActiveDirectoryMsi", "USER=cid"}},
		{"sql", c, "python", []string{"SERVER=s.database.windows.net", "PORT=1433", "DATABASE=d", "USER=u", "!PASSWORD=k"}},
		{"sql", u, "nodejs", []string{"SERVER=s.database.windows.net", "PORT=1433", "DATABASE=d", "AUTHENTICATIONTYPE=azure-active-directory-default", "CLIENTID=cid"}},
		{"sql", c, "nodejs", []string{"SERVER=s.database.windows.net", "PORT=1433", "DATABASE=d", "USERNAME=u", "!PASSWORD=k"}},
		{"sql", c, "django", []string{"HOST=s.database.windows.net", "PORT=1433", "NAME=d", "USER=u", "!PASSWORD=k"}},
		{"sql", c, "go", []string{"!CONNECTIONSTRING=server=s.database.windows.net;port=1433;database=d;user id=u;password=k;"}},
	} {
		y := base[x.kind]
		k := kindNamed(x.kind)
		y.Kind, y.Auth, y.Client, y.Prefix, y.ClientID, y.Tenant, y.Password = x.kind, x.auth, x.client, k.prefix, "cid", "t", az.NewSecret("k")
		var got []string
		for _, one := range y.settings() {
			secret := ""
			if !one.Secret.IsZero() {
				secret = "!"
			}
			got = append(got, secret+strings.TrimPrefix(one.Name, k.prefix)+"="+one.reveal())
		}
		if diff := cmp.Diff(x.want, got); diff != "" {
			t.Errorf("%s %s %s: (-want +got)\n%s", x.kind, x.auth, x.client, diff)
		}
	}
	// Every client type has settings for every target and way, with no secret in clear.
	for _, k := range kinds {
		for _, auth := range k.auth {
			for client := range clients {
				y := target{Kind: k.word, Auth: auth, Client: client, Prefix: k.prefix, Password: az.NewSecret("verysecret"), Host: "h", Port: 1, Database: "d", User: "u", Account: "a", Endpoint: "https://a/"}
				all := y.settings()
				if len(all) == 0 {
					t.Errorf("%s %s %s has no settings", k.word, auth, client)
				}
				for _, one := range all {
					if strings.Contains(one.Value, "verysecret") {
						t.Errorf("%s %s %s: %s shows a secret", k.word, auth, client, one.Name)
					}
				}
			}
		}
	}
}

const providers = group + "/providers/"

// furnish makes one of each target.
func (r *rig) furnish() {
	r.t.Helper()
	for path, body := range map[string]string{
		"Microsoft.Storage/storageAccounts/acct1":       `{"location":"local","sku":{"name":"Standard_LRS"},"kind":"StorageV2","properties":{}}`,
		"Microsoft.DocumentDB/databaseAccounts/cosmos1": `{"location":"local","properties":{"databaseAccountOfferType":"Standard","locations":[{"locationName":"local"}]}}`,
		"Microsoft.Cache/redis/cache1":                  `{"location":"local","properties":{"sku":{"name":"Standard","family":"C","capacity":1}}}`,
		"Microsoft.Sql/servers/sql1":                    `{"location":"local","properties":{"administratorLogin":"sa1","administratorLoginPassword":"Passw0rd!x"}}`,
		"Microsoft.DBforMySQL/flexibleServers/my1":      `{"location":"local","sku":{"name":"Standard_B1ms","tier":"Burstable"},"properties":{"administratorLogin":"my","administratorLoginPassword":"Passw0rd!x"}}`,
		"Microsoft.KeyVault/vaults/byrole":              fmt.Sprintf(`{"location":"local","properties":{"tenantId":%q,"sku":{"family":"A","name":"standard"},"accessPolicies":[],"enableRbacAuthorization":true}}`, rigNames.Tenant),
		"Microsoft.KeyVault/vaults/bypolicy":            fmt.Sprintf(`{"location":"local","properties":{"tenantId":%q,"sku":{"family":"A","name":"standard"},"accessPolicies":[{"tenantId":%[1]q,"objectId":%q,"permissions":{"secrets":["all"]}}]}}`, rigNames.Tenant, boss),
	} {
		r.must(boss, "PUT", providers+path, body)
	}
	r.must(boss, "PUT", providers+"Microsoft.DocumentDB/databaseAccounts/cosmos1/sqlDatabases/db1", `{"properties":{"resource":{"id":"db1"}}}`)
	r.must(boss, "PUT", providers+"Microsoft.Sql/servers/sql1/databases/db1", `{"location":"local","properties":{}}`)
	r.must(boss, "PUT", providers+"Microsoft.DBforMySQL/flexibleServers/my1/databases/db1", `{"properties":{}}`)
}

func linkTo(target, auth, client, more string) string {
	return fmt.Sprintf(`{"properties":{"targetService":{"type":"AzureResource","id":"%s%s"},"authInfo":{"authType":%q%s},"clientType":%q}}`, providers, target, auth, more, client)
}

func (r *rig) valid(link string) bool {
	r.t.Helper()
	return at(r.must(boss, "POST", link+"/validateLinker", ""), "properties", "isConnectionAvailable") == true
}

// TestConnectionsToTargets: each is made, repeated, checked and undone, and
// leaves nothing.
func TestConnectionsToTargets(t *testing.T) {
	onePlane(t, func(t *testing.T, r *rig) {
		r.furnish()
		before, assigned := r.traces()
		for _, c := range []struct {
			target, auth, more, setting, want string
			roles                             int
		}{
			{"Microsoft.Storage/storageAccounts/acct1/blobServices/default", authSystem, "", "AZURE_STORAGEBLOB_RESOURCEENDPOINT", "https://acct1.blob.hawser.test:8443/", 1},
			{"Microsoft.Storage/storageAccounts/acct1/queueServices/default", authSystem, "", "AZURE_STORAGEQUEUE_RESOURCEENDPOINT", "https://acct1.queue.hawser.test:8443/", 1},
			{"Microsoft.Storage/storageAccounts/acct1/tableServices/default", authSystem, "", "AZURE_STORAGETABLE_RESOURCEENDPOINT", "https://acct1.table.hawser.test:8443/", 1},
			{"Microsoft.Storage/storageAccounts/acct1/blobServices/default", authSecret, "", "AZURE_STORAGEBLOB_CONNECTIONSTRING", "AccountName=acct1;AccountKey=", 0},
			{"Microsoft.Storage/storageAccounts/acct1/fileServices/default", authSecret, "", "AZURE_STORAGEFILE_CONNECTIONSTRING", "EndpointSuffix=hawser.test:8443", 0},
			{"Microsoft.KeyVault/vaults/byrole", authSystem, "", "AZURE_KEYVAULT_RESOURCEENDPOINT", "https://byrole.vault.hawser.test:8443/", 1},
			{"Microsoft.KeyVault/vaults/bypolicy", authSystem, "", "AZURE_KEYVAULT_SCOPE", "https://management.azure.com/.default", 0},
			{"Microsoft.DocumentDB/databaseAccounts/cosmos1/sqlDatabases/db1", authSystem, "", "AZURE_COSMOS_RESOURCEENDPOINT", "https://cosmos1.documents.hawser.test:8443/", 0},
			{"Microsoft.DocumentDB/databaseAccounts/cosmos1/sqlDatabases/db1", authSecret, "", "AZURE_COSMOS_CONNECTIONSTRING", "AccountEndpoint=https://cosmos1.documents.", 0},
			{"Microsoft.Cache/redis/cache1/databases/3", authSecret, "", "AZURE_REDIS_CONNECTIONSTRING", "@cache1.redis.hawser.test:6380/3", 0},
			{"Microsoft.Sql/servers/sql1/databases/db1", authSystem, "", "AZURE_SQL_AUTHENTICATION", "ActiveDirectoryMsi", 0},
			{"Microsoft.DBforMySQL/flexibleServers/my1/databases/db1", authSystem, "", "AZURE_MYSQL_USER", "aad_c1", 0},
			{"Microsoft.DBforMySQL/flexibleServers/my1/databases/db1", authSecret, `,"name":"u1","secretInfo":{"secretType":"rawValue","value":"p1"}`, "AZURE_MYSQL_PASSWORD", "p1", 0},
		} {
			link, body := sites+"web"+linkers+"c1", linkTo(c.target, c.auth, "python", c.more)
			plan := r.must(boss, "POST", link+"/dryrun", body)
			if len(at(plan, "steps").([]any)) == 0 {
				t.Errorf("%s: nothing would be done", c.target)
			}
			if _, a := r.traces(); a != assigned {
				t.Errorf("%s: a dry run assigned a role", c.target)
			}
			r.must(boss, "PUT", link, body)
			got := r.must(boss, "PUT", link, body) // safe to repeat
			if strings.Contains(fmt.Sprint(got), "AccountKey") || strings.Contains(fmt.Sprint(got), "p1") {
				t.Errorf("%s: the connection shows its secret: %v", c.target, got)
			}
			if v, _ := r.settings("web")[c.setting].(string); !strings.Contains(v, c.want) {
				t.Errorf("%s: %s is %q, want %q", c.target, c.setting, v, c.want)
			}
			if _, a := r.traces(); a != assigned+c.roles {
				t.Errorf("%s: %d assignments, want %d", c.target, a-assigned, c.roles)
			}
			if !r.valid(link) {
				t.Errorf("%s %s: %v", c.target, c.auth, r.must(boss, "POST", link+"/validateLinker", ""))
			}
			r.must(boss, "DELETE", link, "")
			if s := r.settings("web"); len(s) != 0 {
				t.Errorf("%s: left behind %v", c.target, s)
			}
			if p, a := r.traces(); p != before || a != assigned {
				t.Errorf("%s: %d roles, %d assignments left", c.target, p-before, a-assigned)
			}
		}
		if rows, err := r.st.Resources(t.Context(), store.ResourceQuery{Type: CosmosType + "/sqlRoleAssignments"}); err != nil || len(rows) != 0 {
			t.Errorf("%d role assignments are left in the account: %v", len(rows), err)
		}
		policies, _ := at(r.must(boss, "GET", providers+"Microsoft.KeyVault/vaults/bypolicy", ""), "properties", "accessPolicies").([]any)
		if len(policies) != 1 {
			t.Errorf("the vault's policies are %v", policies)
		}
	})
}

// TestValidateTellsTheTruth: what was taken from a connection is missed.
func TestValidateTellsTheTruth(t *testing.T) {
	onePlane(t, func(t *testing.T, r *rig) {
		r.furnish()
		link := sites + "web" + linkers
		r.must(boss, "PUT", link+"blob", linkTo("Microsoft.Storage/storageAccounts/acct1/blobServices/default", authSystem, "go", ""))
		r.must(boss, "PUT", link+"key", linkTo("Microsoft.Storage/storageAccounts/acct1/blobServices/default", authSecret, "go", ""))
		r.must(boss, "PUT", link+"vault", linkTo("Microsoft.KeyVault/vaults/bypolicy", authSystem, "go", ""))
		r.must(boss, "PUT", link+"cosmos", linkTo("Microsoft.DocumentDB/databaseAccounts/cosmos1/sqlDatabases/db1", authSystem, "go", ""))
		for _, c := range []string{"blob", "key", "vault", "cosmos"} {
			if !r.valid(link + c) {
				t.Errorf("%s is not valid", c)
			}
		}
		rows, err := r.st.Resources(t.Context(), store.ResourceQuery{Type: guard.RoleAssignmentType, Parent: az.MustParseID(providers + "Microsoft.Storage/storageAccounts/acct1")})
		if err != nil || len(rows) != 1 {
			t.Fatalf("%d assignments: %v", len(rows), err)
		}
		r.must(boss, "DELETE", rows[0].ID.String(), "")
		r.must(boss, "POST", providers+"Microsoft.Storage/storageAccounts/acct1/regenerateKey", `{"keyName":"key1"}`)
		r.must(boss, "PUT", providers+"Microsoft.KeyVault/vaults/bypolicy/accessPolicies/remove", fmt.Sprintf(`{"properties":{"accessPolicies":[{"tenantId":%q,"objectId":%q,"permissions":{"secrets":["get","list"]}}]}}`,
			rigNames.Tenant, r.identity("web").ObjectID))
		r.must(boss, "DELETE", providers+"Microsoft.DocumentDB/databaseAccounts/cosmos1/sqlDatabases/db1", "")
		for _, c := range []string{"blob", "key", "vault", "cosmos"} {
			if r.valid(link + c) {
				t.Errorf("%s is valid all the same: %v", c, r.must(boss, "POST", link+c+"/validateLinker", ""))
			}
		}
	})
}

// TestTwoConnectionsToOneVault share a policy: the last one takes it along.
func TestTwoConnectionsToOneVault(t *testing.T) {
	onePlane(t, func(t *testing.T, r *rig) {
		r.furnish()
		link := sites + "web" + linkers
		for _, c := range []string{"a", "b"} {
			r.must(boss, "PUT", link+c, linkTo("Microsoft.KeyVault/vaults/bypolicy", authSystem, "go", ""))
		}
		r.must(boss, "DELETE", link+"a", "")
		if !r.valid(link + "b") {
			t.Error("the end of one connection broke the other")
		}
		r.must(boss, "DELETE", link+"b", "")
		if all := at(r.must(boss, "GET", providers+"Microsoft.KeyVault/vaults/bypolicy", ""), "properties", "accessPolicies").([]any); len(all) != 1 {
			t.Errorf("policies: %v", all)
		}
	})
}

// TestSecretsGoToTheVault: with secretStore the setting is a reference, and
// the secret is in the vault; other ways need what they say they need.
func TestSecretsGoToTheVault(t *testing.T) {
	onePlane(t, func(t *testing.T, r *rig) {
		r.furnish()
		link := sites + "web" + linkers + "c1"
		stored := func(target, auth, more string) string {
			return strings.TrimSuffix(linkTo(target, auth, "none", more), "}}") + `,"secretStore":{"keyVaultId":"` + providers + `Microsoft.KeyVault/vaults/bypolicy"}}}`
		}
		blob := "Microsoft.Storage/storageAccounts/acct1/blobServices/default"
		r.must(boss, "PUT", sites+"web"+linkers+"kv", linkTo("Microsoft.KeyVault/vaults/bypolicy", authSystem, "go", ""))
		r.must(boss, "PUT", link, stored(blob, authSecret, ""))
		first, _ := r.settings("web")["AZURE_STORAGEBLOB_CONNECTIONSTRING"].(string)
		if !strings.HasPrefix(first, "@Microsoft.KeyVault(SecretUri=https://bypolicy.vault.hawser.test:8443/secrets/c1-AZURE-STORAGEBLOB-CONNECTIONSTRING-") {
			t.Fatalf("the setting is %q", first)
		}
		name := strings.TrimSuffix(first[strings.LastIndexByte(first, '/')+1:], ")")
		read := func() (string, error) {
			s, err := r.cfg.Vaults.Get(t.Context(), r.identity("web"), "bypolicy", name, "")
			return s.Value.Reveal(), err
		}
		if v, err := read(); err != nil || !strings.Contains(v, "AccountKey=") {
			t.Errorf("the secret is %q: %v", v, err)
		}
		if !r.valid(link) {
			t.Errorf("%v", r.must(boss, "POST", link+"/validateLinker", ""))
		}
		r.must(boss, "PUT", link, stored(blob, authSecret, ""))
		if again := r.settings("web")["AZURE_STORAGEBLOB_CONNECTIONSTRING"]; again != first {
			t.Errorf("repeated, the setting is %q", again)
		}
		r.refused(contributor, "PUT", sites+"web"+linkers+"c2", stored(blob, authSecret, ""), 403, "Forbidden")
		r.must(boss, "DELETE", link, "")
		if _, err := read(); !az.Is(err, az.NotFound) {
			t.Errorf("the secret outlived its connection: %v", err)
		}

		my := "Microsoft.DBforMySQL/flexibleServers/my1/databases/db1"
		r.must(boss, "PUT", link, stored(my, authSecret, `,"name":"u","secretInfo":{"secretType":"keyVaultSecretReference","name":"mine"}`))
		if v := r.settings("web")["AZURE_MYSQL_PASSWORD"]; v != "@Microsoft.KeyVault(SecretUri=https://bypolicy.vault.hawser.test:8443/secrets/mine)" {
			t.Errorf("the setting is %q", v)
		}
		r.refused(boss, "PUT", link, linkTo(my, authSecret, "none", `,"name":"u","secretInfo":{"secretType":"keyVaultSecretReference","name":"mine"}`), 400, "UnsupportedSecretType")
		r.refused(boss, "PUT", link, linkTo(my, authSecret, "java", `,"name":"u","secretInfo":{"secretType":"keyVaultSecretUri","value":"https://x/secrets/y"}`), 400, "UnsupportedSecretType")
		r.refused(boss, "PUT", sites+"web"+linkers+"c3", linkTo(my, authSecret, "none", `,"name":"u"`), 400, "MissingSecret")
		r.refused(boss, "PUT", link, linkTo(my+"x", authSystem, "none", ""), 404, "ResourceNotFound")
		r.refused(boss, "PUT", link, linkTo("Microsoft.Cache/redis/cache1/databases/99", authSecret, "none", ""), 400, "UnsupportedTarget")
		r.refused(boss, "PUT", link, linkTo("Microsoft.Storage/storageAccounts/acct1/fileServices/default", authSystem, "none", ""), 400, "UnsupportedAuthType")
		r.refused(webmaster, "PUT", link, linkTo(blob, authSystem, "none", ""), 403, "LinkedAuthorizationFailed")
		r.refused(contributor, "PUT", link, linkTo(blob, authSystem, "none", ""), 403, "LinkedAuthorizationFailed")
	})
}

// TestServicePrincipalConnection: an application of one's own, by its secret.
func TestServicePrincipalConnection(t *testing.T) {
	onePlane(t, func(t *testing.T, r *rig) {
		r.furnish()
		var app, sp string
		r.write(func(tx *store.Tx) error {
			a, err := r.dir.AddApplication(tx, directory.Object{Name: "own"})
			if err != nil {
				return err
			}
			s, err := r.dir.AddServicePrincipal(tx, a.AppID)
			app, sp = a.AppID, s.ID
			return err
		})
		link := sites + "web" + linkers + "c1"
		body := linkTo("Microsoft.Storage/storageAccounts/acct1/blobServices/default", authPrincipal, "python", fmt.Sprintf(`,"clientId":%q,"principalId":%q,"secret":"topsecret1"`, app, sp))
		if got := fmt.Sprint(r.must(boss, "PUT", link, body)); strings.Contains(got, "topsecret1") {
			t.Errorf("shown: %s", got)
		}
		s := r.settings("web")
		if s["AZURE_STORAGEBLOB_CLIENTID"] != app || s["AZURE_STORAGEBLOB_CLIENTSECRET"] != "topsecret1" || s["AZURE_STORAGEBLOB_TENANTID"] != rigNames.Tenant {
			t.Errorf("settings %v", s)
		}
		if d, err := r.cfg.Guard.Explain(t.Context(), sp, guard.Data(kindNamed("storage-blob").probe), az.MustParseID(providers+"Microsoft.Storage/storageAccounts/acct1")); err != nil || !d.Allowed {
			t.Errorf("the application has no role: %v %v", d, err)
		}
		if !r.valid(link) {
			t.Errorf("%v", r.must(boss, "POST", link+"/validateLinker", ""))
		}
		r.refused(boss, "PUT", link, linkTo("Microsoft.Storage/storageAccounts/acct1/blobServices/default", authPrincipal, "python", fmt.Sprintf(`,"clientId":%q,"secret":"x"`, az.NewGUID())), 400, "PrincipalNotFound")
	})
}
