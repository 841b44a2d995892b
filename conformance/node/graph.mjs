// GRAPH TOKEN: Microsoft's Graph client, as programs use it.
import { BatchRequestContent, BatchResponseContent, Client, GraphError, PageIterator } from "@microsoft/microsoft-graph-client";
import { say } from "./common.mjs";

const [base, token] = process.argv.slice(2);
const client = Client.init({
  baseUrl: base + "/", customHosts: new Set([new URL(base).hostname]), authProvider: (done) => done(null, token),
});
const refused = async (promise) => {
  try {
    await promise;
    return "allowed";
  } catch (e) {
    if (!(e instanceof GraphError)) throw e;
    return `${e.statusCode} ${e.code}${e.requestId ? "" : " without request id"}`;
  }
};

const made = [];
for (const name of ["ann", "bob", "cy"]) {
  made.push(await client.api("/users").post({
    accountEnabled: true, displayName: `Graph ${name}`, mailNickname: name, userPrincipalName: `graph-${name}@example.com`,
    passwordProfile: { password: "correct horse battery", forceChangePasswordNextSignIn: false },
  }));
}
const [ann, bob, cy] = made;
say("user", (await client.api(`/users/${ann.id}`).select(["displayName", "userPrincipalName"]).get()).userPrincipalName);
say("upn", (await client.api("/users/graph-bob@example.com").get()).displayName);
const found = await client.api("/users").filter("startswith(displayName,'Graph ')").orderby("displayName desc").count(true)
  .header("ConsistencyLevel", "eventual").top(2).get();
say("page", found.value.map((u) => u.displayName).join(","), found["@odata.count"]);
const all = [];
await new PageIterator(client, found, (u) => { all.push(u.displayName); return true; }).iterate();
say("all", all.join(","));
say("search", (await client.api("/users").header("ConsistencyLevel", "eventual").search('"displayName:cy"').get()).value.length);
say("count", await client.api("/users/$count").filter("startswith(displayName,'Graph ')").header("ConsistencyLevel", "eventual").get());
await client.api(`/users/${ann.id}`).patch({ jobTitle: "Clerk" });
say("job", (await client.api(`/users/${ann.id}`).select("jobTitle").get()).jobTitle);

const group = await client.api("/groups").post({ displayName: "Graph team", mailNickname: "gt", mailEnabled: false, securityEnabled: true,
  "members@odata.bind": [`${base}/v1.0/users/${ann.id}`] });
const outer = await client.api("/groups").post({ displayName: "Graph all", mailNickname: "ga", mailEnabled: false, securityEnabled: true });
await client.api(`/groups/${outer.id}/members/$ref`).post({ "@odata.id": `${base}/v1.0/directoryObjects/${group.id}` });
say("cycle", await refused(client.api(`/groups/${group.id}/members/$ref`).post({ "@odata.id": `${base}/v1.0/directoryObjects/${outer.id}` })));
say("members", (await client.api(`/groups/${outer.id}/transitiveMembers/microsoft.graph.user`).get()).value.map((u) => u.displayName).join(","));
say("types", (await client.api(`/groups/${outer.id}/transitiveMembers`).get()).value.map((o) => o["@odata.type"]).sort().join(","));
say("memberOf", (await client.api(`/users/${ann.id}/transitiveMemberOf`).get()).value.length);
say("check", (await client.api(`/users/${ann.id}/checkMemberGroups`).post({ groupIds: [outer.id] })).value[0] === outer.id);
say("expand", (await client.api("/groups").filter("displayName eq 'Graph team'").expand("members($select=id)").get()).value[0].members[0].id === ann.id);

const app = await client.api("/applications").post({ displayName: "Graph app", web: { redirectUris: ["https://app.example/cb"] },
  appRoles: [{ id: crypto.randomUUID(), value: "Reader", displayName: "Readers", description: "read", allowedMemberTypes: ["User"], isEnabled: true }] });
const sp = await client.api("/servicePrincipals").post({ appId: app.appId });
const secret = await client.api(`/applications/${app.id}/addPassword`).post({ passwordCredential: { displayName: "one" } });
say("secret", secret.secretText.length, secret.hint === secret.secretText.slice(0, 3));
say("byAppId", (await client.api(`/applications(appId='${app.appId}')`).get()).web.redirectUris[0]);
await client.api(`/users/${bob.id}/appRoleAssignments`).post({ principalId: bob.id, resourceId: sp.id, appRoleId: app.appRoles[0].id });
say("assigned", (await client.api(`/servicePrincipals/${sp.id}/appRoleAssignedTo`).get()).value[0].principalDisplayName);

const batch = new BatchRequestContent([
  { id: "1", request: new Request(`${base}/v1.0/users/${cy.id}`, { method: "GET" }) },
  { id: "2", request: new Request(`${base}/v1.0/groups`, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ displayName: "Graph batch" }) }), dependsOn: ["1"] },
  { id: "3", request: new Request(`${base}/v1.0/users/${crypto.randomUUID()}`, { method: "GET" }), dependsOn: ["2"] },
]);
const answers = new BatchResponseContent(await client.api("/$batch").post(await batch.getContent()));
say("batch", ...["1", "2", "3"].map((id) => answers.getResponseById(id).status));

say("beta", (await client.api(`/users/${ann.id}`).version("beta").get()).displayName);
say("missing", await refused(client.api(`/users/${crypto.randomUUID()}`).get()));
say("duplicate", await refused(client.api("/users").post({ accountEnabled: true, displayName: "x", mailNickname: "x", userPrincipalName: "GRAPH-ANN@example.com", passwordProfile: { password: "correct horse battery" } })));
say("filter", await refused(client.api("/users").filter("nothing eq 'x'").get()));
say("me", await refused(client.api("/me").get()));
const stranger = Client.init({ baseUrl: base + "/", customHosts: new Set([new URL(base).hostname]), authProvider: (done) => done(null, "no.token.this") });
say("stranger", await refused(stranger.api("/users").get()));
for (const path of [`/users/${ann.id}`, `/groups/${group.id}`, `/applications/${app.id}`]) await client.api(path).delete();
say("deleted", await refused(client.api(`/users/${ann.id}`).get()));
