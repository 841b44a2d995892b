// CREDENTIAL TABLE, as the tutorial: the settings of Service Connector and a
// token as the password.
import mysql from "mysql2/promise";
import { credential, say } from "./common.mjs";

const [cred, table] = process.argv.slice(2);
const { token } = await credential(cred).getToken("https://ossrdbms-aad.database.windows.net/.default");
const connection = await mysql.createConnection({
  host: process.env.AZURE_MYSQL_HOST,
  user: process.env.AZURE_MYSQL_USER,
  password: token,
  database: process.env.AZURE_MYSQL_DATABASE,
  port: Number(process.env.AZURE_MYSQL_PORT),
  ssl: process.env.AZURE_MYSQL_SSL === "true" ? {} : undefined,
  enableCleartextPlugin: true,
});
const [[r]] = await connection.execute("select substring_index(current_user(), '@', 1) as user, database() as db");
say("who", r.user, r.db);
for (const [name, sql] of [
  ["select", `select * from ${table}`], ["insert", `insert into ${table} values (1)`],
  ["create", "create table made_by_the_app (a int)"], ["become", "select * from mysql.user"],
]) {
  say(name, await connection.query(sql).then(() => "ok", (e) => e.errno));
}
await connection.end();
