// An app without a secret: it queries Azure Database for MySQL as its managed
// identity. The settings are those of Service Connector.
import { DefaultAzureCredential } from "@azure/identity";
import mysql from "mysql2/promise";

// For a user-assigned identity the connection names its client id.
const credential = new DefaultAzureCredential({ managedIdentityClientId: process.env.AZURE_MYSQL_CLIENTID });

// The token is the password. mysql2 sends it only when it is told to, and only
// over TLS.
const accessToken = await credential.getToken("https://ossrdbms-aad.database.windows.net/.default");
const connection = await mysql.createConnection({
  host: process.env.AZURE_MYSQL_HOST,
  user: process.env.AZURE_MYSQL_USER,
  password: accessToken.token,
  database: process.env.AZURE_MYSQL_DATABASE,
  port: Number(process.env.AZURE_MYSQL_PORT),
  ssl: process.env.AZURE_MYSQL_SSL === "true" ? {} : undefined,
  enableCleartextPlugin: true,
});
const [[row]] = await connection.execute("select current_user() as user, database() as db, version() as version");
console.log(`MySQL: connected to ${row.db} as ${row.user} with a token, server ${row.version}`);
await connection.end();
