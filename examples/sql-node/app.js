// An app without a secret: it queries Azure SQL as its managed identity. The
// settings are those of Service Connector.
import { DefaultAzureCredential } from "@azure/identity";
import { Connection, Request } from "tedious";

// For a user-assigned identity the connection names its client id.
const credential = new DefaultAzureCredential({ managedIdentityClientId: process.env.AZURE_SQL_CLIENTID });
const { token } = await credential.getToken("https://database.windows.net/.default");

const connection = new Connection({
  server: process.env.AZURE_SQL_SERVER,
  authentication: { type: "azure-active-directory-access-token", options: { token } },
  options: { database: process.env.AZURE_SQL_DATABASE, port: Number(process.env.AZURE_SQL_PORT), encrypt: true },
});
const row = await new Promise((resolve, reject) => {
  let found;
  connection.on("error", reject);
  connection.connect((error) => {
    if (error) return reject(error);
    const request = new Request("SELECT SUSER_SNAME() AS login, DB_NAME() AS db", (e) => (e ? reject(e) : resolve(found)));
    request.on("row", (columns) => { found = columns.map((c) => c.value); });
    connection.execSql(request);
  });
});
console.log(`SQL Server: connected to ${row[1]} as ${row[0]} with a token`);
connection.close();
