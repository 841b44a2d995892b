// What two people do with a browser, from the first sign-in to the last
// sign-out. Each step prints "ok NAME"; a picture of each page is kept.
import { authenticator, code, expect, launch, ok, person, shot, story } from "./browser.mjs";

const { site, login, people: [ann, ben, eve], authorize, wrong, device } = story;
const heading = (page, name) => page.getByRole("heading", { level: 1, name });
const press = (page, name) => page.getByRole("button", { name, exact: true }).click();

async function name(who, upn, picture) {
  await heading(who.page, "Sign in").waitFor();
  if (picture) await shot(who, picture);
  await who.page.getByLabel("Account name").fill(upn);
  await press(who.page, "Next");
}

async function password(who, text, picture) {
  await heading(who.page, "Enter your password").waitFor();
  if (picture) await shot(who, picture);
  await who.page.getByLabel("Password", { exact: true }).fill(text);
  await press(who.page, "Sign in");
}

async function otc(who, digits, picture) {
  await heading(who.page, "Prove that it is you").waitFor();
  if (picture) await shot(who, picture);
  await who.page.getByLabel("Code from your authenticator app").fill(digits);
  await press(who.page, "Verify");
}

async function consent(who, picture) {
  await heading(who.page, /asks for permission$/).waitFor();
  if (picture) await shot(who, picture);
  await press(who.page, "Accept");
}

async function atApp(who, upn) {
  await who.page.waitForURL((u) => u.origin === site);
  await who.page.locator("#name").waitFor();
  expect("the app's visitor", await who.page.locator("#name").textContent(), upn);
}

const signOut = async (who, picture) => {
  await who.page.goto(`${site}/.auth/logout`);
  await heading(who.page, /signed out/i).waitFor();
  if (picture) await shot(who, picture);
};

// fetched asks the app from the page that is open in it, with its cookies.
const fetched = ({ page }, path) => page.evaluate(async (p) => {
  const r = await fetch(p, { headers: { accept: "application/json" } });
  return { status: r.status, text: await r.text() };
}, path);

// A password, consent, the app, its tokens, the end of the session.
async function withPassword(browser) {
  const who = await person(browser, "light");
  const { page, context } = who;
  await page.goto(site);
  await name(who, ann.upn, "name");
  await password(who, "this is not it", "password");
  await page.getByRole("alert").waitFor();
  await shot(who, "password-wrong");
  await page.getByLabel("Password", { exact: true }).fill(ann.password);
  await press(page, "Sign in");
  await consent(who, "consent");
  await atApp(who, ann.upn);
  await shot(who, "app");
  ok("password and consent");

  const me = await fetched(who, "/.auth/me");
  expect("/.auth/me", me.status, 200);
  const [before] = JSON.parse(me.text);
  expect("who /.auth/me names", before.user_id, ann.upn);
  const refresh = await fetched(who, "/.auth/refresh");
  expect("/.auth/refresh", refresh.status, 200);
  const [after] = JSON.parse((await fetched(who, "/.auth/me")).text);
  expect("a new token", after.access_token !== before.access_token, true);
  ok("refresh");

  const cookies = (await context.cookies()).filter((c) => c.domain.startsWith("web.") || c.domain.startsWith("login."));
  for (const c of cookies) expect(`the cookie ${c.name} is closed to scripts and plain HTTP`, `${c.httpOnly} ${c.secure}`, "true true");
  ok("cookies");

  await page.goto(site); // no question is asked again
  await atApp(who, ann.upn);
  await signOut(who, "signed-out");
  await page.goto(site);
  await heading(page, /^(Sign in|Choose an account)$/).waitFor();
  ok("sign-out");
  await context.close();
}

// One-time codes: set up by the person, asked for ever after.
async function withCodes(browser) {
  const who = await person(browser, "light");
  const { page, context } = who;
  await page.goto(`${login}/account`);
  await name(who, ann.upn);
  await password(who, ann.password);
  await heading(page, "Your account").waitFor();
  await shot(who, "account");
  await press(page, "Set up an authenticator app");
  const secret = await page.locator("#secret").textContent();
  await shot(who, "enrol");
  await page.getByLabel("Code", { exact: true }).fill("000000");
  await press(page, "Confirm");
  await page.getByRole("alert").waitFor();
  expect("the secret after a wrong code", await page.locator("#secret").textContent(), secret);
  await page.getByLabel("Code", { exact: true }).fill(code(secret));
  await press(page, "Confirm");
  await page.getByRole("button", { name: "Remove the authenticator app" }).waitFor();
  await shot(who, "account-with-codes");
  ok("one-time codes set up");
  await context.close();

  const again = await person(browser, "light");
  await again.page.goto(site);
  await name(again, ann.upn);
  await password(again, ann.password);
  await otc(again, code(secret, 1), "code");
  await atApp(again, ann.upn);
  ok("password and one-time code");
  await again.context.close();
}

// A passkey: made by the person, used without a name and as the second factor.
async function withPasskey(browser) {
  const who = await person(browser, "light");
  const { page, context } = who;
  const key = await authenticator(who);
  await page.goto(`${login}/account`);
  await name(who, eve.upn);
  await password(who, eve.password);
  await heading(page, "Your account").waitFor();
  await press(page, "Add a passkey");
  await page.getByLabel("Name of the passkey").fill("Virtual key");
  await shot(who, "passkey-add");
  await press(page, "Add a passkey");
  await page.getByRole("button", { name: "Remove Virtual key" }).waitFor();
  expect("passkeys in the device", await key.count(), 1);
  await shot(who, "account-with-passkey");
  ok("passkey set up");

  await press(page, "Sign out");
  await heading(page, /signed out/i).waitFor();
  await page.goto(site);
  await heading(page, "Sign in").waitFor();
  await press(page, "Sign in with a passkey");
  await consent(who);
  await atApp(who, eve.upn);
  ok("passkey alone");

  await signOut(who);
  await context.clearCookies();
  await page.goto(site);
  await name(who, eve.upn);
  await password(who, eve.password);
  await heading(page, "Prove that it is you").waitFor();
  await shot(who, "second-factor-passkey");
  await press(page, "Use your passkey");
  await atApp(who, eve.upn);
  ok("password and passkey");

  await signOut(who);
  await context.clearCookies();
  await key.unplug();
  await authenticator(who); // another device, which knows nobody
  await page.goto(site);
  await heading(page, "Sign in").waitFor();
  await press(page, "Sign in with a passkey");
  await page.getByRole("status").filter({ hasText: /\S/ }).first().waitFor();
  await shot(who, "passkey-unknown");
  ok("another passkey is refused");
  await context.close();
}

// Two people in one browser.
async function withTwo(browser) {
  const who = await person(browser, "light");
  const { page, context } = who;
  await page.goto(authorize.select);
  await name(who, ben.upn);
  await password(who, ben.password);
  await consent(who);
  await page.waitForURL((u) => u.origin === story.landing);
  await page.goto(authorize.select);
  await heading(page, "Choose an account").waitFor();
  await press(page, "Use another account");
  await name(who, story.people[3].upn);
  await password(who, story.people[3].password);
  await consent(who);
  await page.waitForURL((u) => u.origin === story.landing);
  await page.goto(authorize.select);
  await heading(page, "Choose an account").waitFor();
  await shot(who, "pick");
  await page.getByRole("button", { name: ben.upn }).click();
  await page.waitForURL((u) => u.origin === story.landing && u.searchParams.has("code"));
  ok("two accounts");
  await context.close();
}

// A device is signed in by somebody who reads its code.
async function withDevice(browser) {
  const who = await person(browser, "light");
  const { page, context } = who;
  await page.goto(device.url);
  if (await page.getByLabel("Code", { exact: true }).count()) {
    await shot(who, "device");
    await page.getByLabel("Code", { exact: true }).fill("WRONGCODE");
    await press(page, "Next");
    await page.getByRole("alert").waitFor();
    await shot(who, "device-wrong");
    await page.getByLabel("Code", { exact: true }).fill(device.code.toLowerCase());
    await press(page, "Next");
  }
  await name(who, ben.upn);
  await password(who, ben.password);
  await heading(page, "Sign in a device?").waitFor();
  expect("the code on the page", (await page.locator(".bigcode").textContent()).replace(/\W/g, ""), device.code.replace(/\W/g, ""));
  await shot(who, "device-confirm");
  await press(page, "Continue");
  await heading(page, /You can close this page|asks for permission/).waitFor();
  if (await heading(page, /asks for permission/).count()) await consent(who);
  await heading(page, "You can close this page").waitFor();
  await shot(who, "device-done");
  ok("device");
  await context.close();
}

async function errors(browser) {
  const who = await person(browser, "light");
  await who.page.goto(wrong);
  await heading(who.page, "That did not work").waitFor();
  expect("the correlation id", await who.page.locator("#correlation").textContent(), /^[0-9a-f-]{36}$/);
  who.complaints.length = 0; // the browser notes the status 400
  await shot(who, "error");
  ok("error page");
  await who.context.close();
}

// The same pages in the dark and in the hand.
async function variants(browser) {
  for (const look of ["dark", "mobile"]) {
    const who = await person(browser, look);
    const { page, context } = who;
    await page.goto(authorize.consent);
    await name(who, ben.upn, "name");
    await password(who, ben.password, "password");
    await heading(page, /asks for permission$/).waitFor();
    await shot(who, "consent");
    await page.goto(`${login}/account`);
    await heading(page, "Your account").waitFor();
    await shot(who, "account");
    await press(page, "Set up an authenticator app");
    await page.locator("#secret").waitFor();
    await shot(who, "enrol");
    await page.goto(authorize.select);
    await heading(page, "Choose an account").waitFor();
    await shot(who, "pick");
    await page.goto(device.again);
    await heading(page, /./).waitFor();
    await shot(who, "device");
    await page.goto(wrong);
    await heading(page, "That did not work").waitFor();
    who.complaints.length = 0;
    await shot(who, "error");
    await page.goto(`${login}/${story.tenant}/oauth2/v2.0/logout`);
    await page.getByRole("button", { name: "Sign out" }).waitFor(); // nobody is signed out by a link
    await shot(who, "leave");
    await press(page, "Sign out");
    await heading(page, /signed out/i).waitFor();
    await shot(who, "signed-out");
    await context.close();
    ok(look);
  }
}

// Everything but passkeys works without JavaScript.
async function withoutScript(browser) {
  const who = await person(browser, "light", { javaScriptEnabled: false });
  const { page, context } = who;
  await page.goto(`${login}/account`);
  await name(who, ben.upn, "name-without-script");
  await password(who, ben.password);
  await heading(page, "Your account").waitFor();
  await press(page, "Set up an authenticator app");
  const secret = await page.locator("#secret").textContent();
  await page.getByLabel("Code", { exact: true }).fill(code(secret));
  await press(page, "Confirm");
  await page.getByRole("button", { name: "Remove the authenticator app" }).waitFor();
  await shot(who, "account-without-script");
  await press(page, "Sign out");
  await heading(page, /signed out/i).waitFor();
  await page.goto(site);
  await heading(page, /^(Sign in|Choose an account)$/).waitFor();
  if (await heading(page, "Choose an account").count()) await press(page, "Use another account");
  await name(who, ben.upn);
  await password(who, ben.password);
  await otc(who, code(secret, 1), "code-without-script");
  await consent(who, "consent-without-script");
  if (await page.locator("#form-post").count()) await press(page, "Continue");
  await atApp(who, ben.upn);
  ok("without JavaScript");
  await context.close();
}

const browser = await launch();
try {
  for (const chapter of [withPassword, withCodes, withPasskey, withTwo, withDevice, errors, variants, withoutScript]) {
    if (story.only && chapter.name !== story.only) continue;
    await chapter(browser);
  }
} finally {
  await browser.close();
}
