// CREDENTIAL VAULT PREFIX: every operation on secrets.
import { SecretClient } from "@azure/keyvault-secrets";
import { credential, refusal, say } from "./common.mjs";

const [cred, vault, prefix] = process.argv.slice(2);
const client = new SecretClient(vault, credential(cred));
const name = `${prefix}-a`;
const set = (n, value) => client.setSecret(n, value, { contentType: "text/plain", tags: { team: "blue" } });
const count = async () => {
  let n = 0;
  for await (const _ of client.listPropertiesOfSecretVersions(name)) n++;
  return n;
};
const epoch = (date) => Math.floor(date.getTime() / 1000);

// Versions.
const first = await set(name, "first");
await set(name, "second");
say("get", (await client.getSecret(name)).value);
const old = await client.getSecret(name, { version: first.properties.version });
say("get-version", old.value, old.properties.contentType, old.properties.tags.team, old.properties.enabled);
say("level", old.properties.recoveryLevel, old.properties.recoverableDays);
say("versions", await count());

// Properties.
const { version } = (await client.getSecret(name)).properties;
const u = await client.updateSecretProperties(name, version, {
  contentType: "application/json", tags: { team: "green" },
  notBefore: new Date(Date.UTC(2020, 0, 2, 3, 4, 5)), expiresOn: new Date(Date.UTC(2035, 0, 2, 3, 4, 5)),
});
say("update", u.contentType, u.tags.team, epoch(u.notBefore), epoch(u.expiresOn));
await client.updateSecretProperties(name, version, { enabled: false });
say("disabled", await refusal(client.getSecret(name)));
await client.updateSecretProperties(name, version, { enabled: true });
say("enabled", await refusal(client.getSecret(name)));

// More than one page.
for (let i = 0; i < 30; i++) await set(`${prefix}-l${String(i).padStart(2, "0")}`, "x");
let n = 0;
for await (const item of client.listPropertiesOfSecrets()) if (item.name.startsWith(`${prefix}-`)) n++;
say("list", n);

// Deletion.
const remove = async () => {
  const poller = await client.beginDeleteSecret(name, { intervalInMs: 50 });
  return poller.pollUntilDone();
};
const d = await remove();
say("deleted", d.name, Boolean(d.properties.recoveryId) && d.properties.scheduledPurgeDate > d.properties.deletedOn);
say("get-deleted", await refusal(client.getSecret(name)));
say("set-deleted", await refusal(set(name, "third")));
await client.getDeletedSecret(name);
let found = false;
for await (const item of client.listDeletedSecrets()) found ||= item.name === name;
say("list-deleted", found);
await (await client.beginRecoverDeletedSecret(name, { intervalInMs: 50 })).pollUntilDone();
say("recovered", (await client.getSecret(name)).value);

// Backup.
const blob = await client.backupSecret(name);
await remove();
await client.purgeDeletedSecret(name);
say("purged", await refusal(client.getDeletedSecret(name)));
await client.restoreSecretBackup(blob);
say("restored", (await client.getSecret(name)).value, await count());

// Refusals.
say("missing", await refusal(client.getSecret(`${prefix}-none`)));
say("max", await refusal(set(`${prefix}-max`, "m".repeat(25600))));
say("too-big", await refusal(set(`${prefix}-big`, "b".repeat(25601))));
