// FLOW. Every flow of MSAL Node that applies, as the variable MSAL says; see
// gomsal_test.go for its fields. The programs of the other languages print the
// same lines; only this library has a class for errors that need the person.
import { execFile, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { promisify } from "node:util";
import { ConfidentialClientApplication, CryptoProvider, InteractionRequiredAuthError, PublicClientApplication } from "@azure/msal-node";
import { claims, say } from "./common.mjs";

const c = JSON.parse(process.env.MSAL);
const none = "00000000-0000-0000-0000-00000000dead";

const options = (clientId, more) => ({
  auth: { clientId, authority: c.authority, ...(c.way === "azure" ? {} : { knownAuthorities: [new URL(c.authority).host] }), ...more },
});
const confidential = (clientId, more) => new ConfidentialClientApplication(options(clientId, more));
const pub = () => new PublicClientApplication(options(c.public));

// A token, or what MSAL makes of a refusal.
async function outcome(name, promise) {
  try {
    const r = await promise;
    const t = claims(r.accessToken);
    say(name, ...[t.preferred_username ?? t.upn, t.aud, t.scp, t.roles?.join(" ")].filter(Boolean));
    return r;
  } catch (e) {
    if (!e.errorNo && !e.errorCode) throw e;
    say(name, "refused", ...[e.errorCode, e.errorNo, e.subError, e instanceof InteractionRequiredAuthError && "interaction"].filter(Boolean));
  }
}
const same = (a, b) => Boolean(a && b && a.accessToken === b.accessToken);

async function visit(address, env) {
  const { stdout } = await promisify(execFile)(c.visitor[0], [...c.visitor.slice(1), address], { env: { ...process.env, ...env } });
  const where = stdout.trim();
  if (!where.startsWith(`${c.redirect}?`) && !where.startsWith(`${c.publicRedirect}?`)) throw new Error(`the visitor ended at ${where}`);
  return Object.fromEntries(new URL(where).searchParams);
}

async function app() {
  const scopes = [`${c.api}/.default`];
  let client = confidential(c.client, { clientSecret: c.secret });
  const r = await outcome("secret", client.acquireTokenByClientCredential({ scopes }));
  say("cached", same(r, await client.acquireTokenByClientCredential({ scopes })));
  const pem = readFileSync(c.certificate, "utf8");
  const [privateKey] = pem.match(/-----BEGIN PRIVATE KEY-----[^]*?-----END PRIVATE KEY-----\n/);
  client = confidential(c.client, { clientCertificate: { thumbprintSha256: c.thumbprint256, privateKey } });
  await outcome("certificate", client.acquireTokenByClientCredential({ scopes }));
  for (const [name, clientId, clientSecret, scope] of [
    ["wrong-secret", c.client, "not the secret", scopes[0]], ["unknown-client", none, c.secret, scopes[0]],
    ["unknown-resource", c.client, c.secret, "api://nobody/.default"], ["no-default", c.client, c.secret, c.scope],
  ]) await outcome(name, confidential(clientId, { clientSecret }).acquireTokenByClientCredential({ scopes: [scope] }));
}

async function code() {
  const client = confidential(c.client, { clientSecret: c.secret });
  const scopes = [c.scope], redirectUri = c.redirect;
  const pkce = await new CryptoProvider().generatePkceCodes();
  const authorize = async (more, env) => visit(await client.getAuthCodeUrl({
    scopes, redirectUri, state: "the state", codeChallenge: pkce.challenge, codeChallengeMethod: "S256", ...more,
  }), env);
  const redeem = (got, more) => client.acquireTokenByCode({ scopes, redirectUri, code: got.code, codeVerifier: pkce.verifier, ...more });
  const got = await authorize();
  say("state", got.state);
  const r = await outcome("code", redeem(got));
  const account = r.account;
  say("account", account.username);
  say("cached", same(r, await client.acquireTokenSilent({ scopes, account })));
  await outcome("other", client.acquireTokenSilent({ scopes: [c.other], account }));
  const renewed = await outcome("claims", client.acquireTokenSilent({ scopes, account, claims: '{"access_token":{"nbf":{"essential":true,"value":"1"}}}' }));
  say("renewed", Boolean(renewed) && !same(r, renewed));
  await outcome("never", client.acquireTokenSilent({ scopes: [c.never], account }));
  await client.getTokenCache().removeAccount(account);
  say("removed", await client.acquireTokenSilent({ scopes, account }).then(() => false, () => true));

  // Codes that are not what they should be.
  await outcome("again", redeem(got));
  await outcome("pkce", redeem(await authorize(), { codeVerifier: "another-verifier-that-is-long-enough-for-the-rule-of-43-char" }));
  await outcome("redirect", redeem(await authorize(), { redirectUri: `${redirectUri}/other` }));
  await outcome("form-post", redeem(await authorize({ responseMode: "form_post" })));
  say("none", (await authorize({ prompt: "none" })).error);
  say("declined", (await authorize({ scopes: [c.never] }, { DECLINE: "declined" })).error);

  // A refresh token that came from elsewhere.
  await outcome("refresh", confidential(c.client, { clientSecret: c.secret }).acquireTokenByRefreshToken({ scopes, refreshToken: c.refresh }));
}

async function open(address) {
  spawn(c.visitor[0], [...c.visitor.slice(1), address], { stdio: ["ignore", "ignore", "inherit"] });
}

async function publicClient() {
  const client = pub();
  const r = await outcome("interactive", client.acquireTokenInteractive({ scopes: [c.scope], openBrowser: open, loginHint: c.user }));
  await outcome("other", client.acquireTokenSilent({ scopes: [c.other], account: r.account }));
  const pkce = await new CryptoProvider().generatePkceCodes();
  const request = { scopes: [c.scope], redirectUri: c.publicRedirect };
  const got = await visit(await client.getAuthCodeUrl({ ...request, codeChallenge: pkce.challenge, codeChallengeMethod: "S256" }));
  await outcome("pkce", client.acquireTokenByCode({ ...request, code: got.code, codeVerifier: pkce.verifier }));
}

async function device() {
  const client = pub();
  for (const step of ["device", "declined"]) {
    let ended;
    const token = client.acquireTokenByDeviceCode({
      scopes: [c.scope],
      deviceCodeCallback: ({ verificationUri, userCode }) => {
        const visitor = spawn(c.visitor[0], [...c.visitor.slice(1), verificationUri, userCode],
          { stdio: ["ignore", "ignore", "inherit"], env: { ...process.env, DECLINE: step } });
        ended = new Promise((resolve, reject) => visitor.on("exit", (status) => (status ? reject(new Error("the visitor failed")) : resolve())));
      },
    });
    if (step === "declined") say(step, await token.then(() => false, (e) => e.message.includes("authorization_declined")));
    else await outcome(step, token);
    await ended;
  }
}

async function password() {
  await outcome("confidential", confidential(c.client, { clientSecret: c.secret }).acquireTokenByUsernamePassword({ scopes: [c.scope], username: c.user, password: c.password }));
  for (const [name, username, pass] of [
    ["password", c.user, c.password], ["wrong", c.user, "not the password"], ["nobody", `nobody@${c.user.split("@")[1]}`, c.password],
  ]) await outcome(name, pub().acquireTokenByUsernamePassword({ scopes: [c.scope], username, password: pass }));
}

async function behalf() {
  const client = confidential(c.client, { clientSecret: c.secret });
  const ask = (oboAssertion, scope) => client.acquireTokenOnBehalfOf({ oboAssertion, scopes: [scope] });
  const r = await outcome("behalf", ask(c.assertion, c.deepScope));
  say("cached", same(r, await ask(c.assertion, c.deepScope)));
  const deep = confidential(c.deep, { clientSecret: c.deepSecret });
  await outcome("chained", deep.acquireTokenOnBehalfOf({ oboAssertion: r.accessToken, scopes: [c.graphScope] }));
  for (const [name, assertion, scope] of [
    ["app-only", c.appToken, c.deepScope], ["elsewhere", c.elsewhere, c.deepScope], ["forged", c.forgedToken, c.deepScope], ["never", c.assertion, c.never],
  ]) await outcome(name, ask(assertion, scope));
}

await { app, code, public: publicClient, device, password, behalf }[process.argv[2]]();
