// CLIENT-ID OBJECT-ID RESOURCE-ID of a user-assigned identity: a token by
// every way of naming an identity, with @azure/identity and with MSAL.
import { ManagedIdentityCredential } from "@azure/identity";
import { ManagedIdentityApplication } from "@azure/msal-node";
import { claims, say } from "./common.mjs";

const [clientId, objectId, resourceId] = process.argv.slice(2);
const none = "00000000-0000-0000-0000-00000000dead";
const resource = "https://vault.azure.net";
const show = async (name, token) => {
  try {
    const c = claims(await token());
    say(name, c.oid, c.aud);
  } catch {
    say(name, "refused");
  }
};
for (const [kind, id] of Object.entries({
  "system": undefined, "client-id": { clientId }, "object-id": { objectId }, "resource-id": { resourceId }, "unknown": { clientId: none },
})) {
  await show(`sdk-${kind}`, async () => (await new ManagedIdentityCredential(id).getToken(`${resource}/.default`)).token);
}
for (const [kind, id] of Object.entries({
  "system": undefined, "client-id": { userAssignedClientId: clientId }, "object-id": { userAssignedObjectId: objectId },
  "resource-id": { userAssignedResourceId: resourceId }, "unknown": { userAssignedClientId: none },
})) {
  const app = new ManagedIdentityApplication(id ? { managedIdentityIdParams: id } : undefined);
  await show(`msal-${kind}`, async () => (await app.acquireToken({ resource })).accessToken);
}
