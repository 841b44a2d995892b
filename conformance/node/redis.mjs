// CLIENT CREDENTIAL: ioredis with a token as the password, or @redis/client
// with @redis/entraid, which gets the token itself and renews it.
import { EntraIdCredentialsProviderFactory, REDIS_SCOPE_DEFAULT } from "@redis/entraid";
import { createClient } from "@redis/client";
import Redis from "ioredis";
import { claims, credential, say } from "./common.mjs";

const [kind, cred] = process.argv.slice(2);
const host = process.env.AZURE_REDIS_HOST;
const port = Number(process.env.AZURE_REDIS_PORT ?? 6380);
const scope = "https://redis.azure.com/.default";

const clients = {
  async ioredis() {
    const { token } = await credential(cred).getToken(scope);
    const client = new Redis({ host, port, username: claims(token).oid, password: token, tls: {}, maxRetriesPerRequest: 0, retryStrategy: null, lazyConnect: true });
    await client.connect();
    return { do: (...args) => client.call(...args), end: () => client.quit() };
  },
  async entraid() {
    const provider = EntraIdCredentialsProviderFactory.createForDefaultAzureCredential({
      credential: credential(cred), scopes: REDIS_SCOPE_DEFAULT, options: {},
      tokenManagerConfig: { expirationRefreshRatio: 0.8 },
    });
    const client = createClient({ socket: { host, port, tls: true, reconnectStrategy: false }, RESP: 3, credentialsProvider: provider });
    client.on("error", () => {});
    await client.connect();
    return { do: (...args) => client.sendCommand(args), end: () => client.destroy() };
  },
};
const client = await clients[kind]();
for (const [name, ...args] of [
  ["get", "GET", "thing"], ["set", "SET", "made", "1"], ["flush", "FLUSHALL"], ["become", "ACL", "LIST"],
]) {
  say(name, await client.do(...args).then((v) => v ?? "nothing", (e) => e.message.split(" ")[0]));
}
await client.end();
process.exit(0); // the provider's timer would hold it
