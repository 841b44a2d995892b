// CREDENTIAL VAULT NAME
import { SecretClient } from "@azure/keyvault-secrets";
import { credential, say } from "./common.mjs";

const [cred, vault, name] = process.argv.slice(2);
try {
  say("get", (await new SecretClient(vault, credential(cred)).getSecret(name)).value);
} catch (e) {
  if (!e.statusCode) throw e;
  say("get", e.statusCode, e.code);
}
