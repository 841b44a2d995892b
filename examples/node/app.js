// An app without a secret: it reads a Key Vault secret and queries PostgreSQL
// as its managed identity.
import { DefaultAzureCredential } from "@azure/identity";
import { SecretClient } from "@azure/keyvault-secrets";
import { ManagedIdentityApplication } from "@azure/msal-node";
import pg from "pg";

const credential = new DefaultAzureCredential();

// The secret that the settings name.
const vault = new SecretClient(process.env.KEY_VAULT_URL, credential);
const secret = await vault.getSecret(process.env.SECRET_NAME);
console.log(`Key Vault:  read ${secret.properties.id} (${secret.value.length} characters) with @azure/identity`);

// A setting whose value is a Key Vault reference is a variable like any other.
console.log(`Setting:    GREETING is ${JSON.stringify(process.env.GREETING)}`);

// The token is the password; pg asks for one each time it opens a connection.
const client = new pg.Client({
  host: process.env.AZURE_POSTGRESQL_HOST,
  user: process.env.AZURE_POSTGRESQL_USER,
  password: async () =>
    (await credential.getToken("https://ossrdbms-aad.database.windows.net/.default")).token,
  database: process.env.AZURE_POSTGRESQL_DATABASE,
  port: Number(process.env.AZURE_POSTGRESQL_PORT),
  ssl: process.env.AZURE_POSTGRESQL_SSL,
});
await client.connect();
const { rows } = await client.query(
  "select current_user, current_database(), current_setting('server_version') as version");
console.log(`PostgreSQL: connected to ${rows[0].current_database} as ${rows[0].current_user} with a token, server ${rows[0].version}`);
await client.end();

// The same with MSAL, without the Azure SDK.
const msal = new ManagedIdentityApplication();
const result = await msal.acquireToken({ resource: "https://vault.azure.net" });
console.log(`MSAL:       got a token that lasts until ${result.expiresOn.toISOString()}`);
