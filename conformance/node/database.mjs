// CREDENTIAL TABLE, as the tutorial: the settings of Service Connector and a
// token per connection.
import pg from "pg";
import { credential, say } from "./common.mjs";

const [cred, table] = process.argv.slice(2);
const tokens = credential(cred);
const client = new pg.Client({
  host: process.env.AZURE_POSTGRESQL_HOST,
  user: process.env.AZURE_POSTGRESQL_USER,
  password: async () => (await tokens.getToken("https://ossrdbms-aad.database.windows.net/.default")).token,
  database: process.env.AZURE_POSTGRESQL_DATABASE,
  port: Number(process.env.AZURE_POSTGRESQL_PORT),
  ssl: process.env.AZURE_POSTGRESQL_SSL,
});
await client.connect();
const { rows: [r] } = await client.query("select current_user, current_database()");
say("who", r.current_user, r.current_database);
for (const [name, sql] of [
  ["select", `select * from ${table}`], ["insert", `insert into ${table} values (1)`],
  ["create", "create table made_by_the_app (a int)"], ["become", "set role postgres"],
]) {
  say(name, await client.query(sql).then(() => "ok", (e) => e.code));
}
await client.end();
