// TYPE CREDENTIAL: tedious with one of its azure-active-directory types, and
// the settings of Service Connector.
import { Connection, Request } from "tedious";
import { credential, say } from "./common.mjs";

const [type, cred] = process.argv.slice(2);
const { AZURE_TENANT_ID: tenantId, AZURE_CLIENT_ID: clientId, AZURE_CLIENT_SECRET: clientSecret } = process.env;
const authentication = {
  async "access-token"() {
    const { token } = await credential(cred).getToken("https://database.windows.net/.default");
    return { type: "azure-active-directory-access-token", options: { token } };
  },
  async "default"() { return { type: "azure-active-directory-default", options: {} }; },
  async "msi-app-service"() { return { type: "azure-active-directory-msi-app-service", options: {} }; },
  async "token-credential"() { return { type: "token-credential", options: { credential: credential(cred) } }; },
  async "service-principal-secret"() { return { type: "azure-active-directory-service-principal-secret", options: { tenantId, clientId, clientSecret } }; },
  async "password"() { return { type: "azure-active-directory-password", options: { userName: process.env.PERSON, password: process.env.PERSON_PASSWORD, clientId: "04b07795-8ddb-461a-bbee-02f9e1bf7b46", tenantId } }; },
  async "login"() { return { type: "default", options: { userName: "sa", password: "whatever" } }; },
};
const connection = new Connection({
  server: process.env.AZURE_SQL_SERVER,
  authentication: await authentication[type](),
  options: { database: process.env.AZURE_SQL_DATABASE, port: Number(process.env.AZURE_SQL_PORT), encrypt: process.env.SQL_ENCRYPT === "strict" ? "strict" : true },
});
connection.on("error", () => {});
const query = (sql) => new Promise((resolve, reject) => {
  let found = [];
  const request = new Request(sql, (e) => (e ? reject(e) : resolve(found)));
  request.on("row", (columns) => { found = columns.map((c) => c.value); });
  connection.execSql(request);
});
const error = await new Promise((resolve) => connection.connect(resolve));
if (error) {
  say("refused", error.message);
} else {
  say("who", ...(await query("SELECT SUSER_SNAME() AS login, DB_NAME() AS db")));
  connection.close();
}
