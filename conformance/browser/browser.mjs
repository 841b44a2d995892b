// What the browser tests share: Chromium, a look at each page, the virtual
// authenticator, one-time codes.
import { createHmac } from "node:crypto";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { chromium } from "playwright-core";

export const story = JSON.parse(process.env.STORY);
export const ok = (name) => console.log("ok", name);
export function expect(what, got, want) {
  const same = want instanceof RegExp ? want.test(got) : got === want;
  if (!same) throw new Error(`${what}: got ${JSON.stringify(got)}, want ${want}`);
}

// Chromium finds *.localhost by itself, and trusts the plane's CA by the
// database of certificates in its home directory: nothing is switched off but
// the sandbox, which does not work for root.
export const launch = () => chromium.launch({
  executablePath: story.chromium, args: process.getuid() === 0 ? ["--no-sandbox"] : [], timeout: 30_000,
});

export const looks = {
  light: { viewport: { width: 1200, height: 800 }, colorScheme: "light" },
  dark: { viewport: { width: 1200, height: 800 }, colorScheme: "dark" },
  mobile: { viewport: { width: 360, height: 740 }, colorScheme: "light", isMobile: true, hasTouch: true, deviceScaleFactor: 2 },
};

// person opens a browser window of its own; what a page complains about in the
// console (a blocked script, a missing file) fails the test.
export async function person(browser, look, more) {
  const context = await browser.newContext({ ...looks[look], ...more });
  context.setDefaultTimeout(15_000);
  const page = await context.newPage();
  const complaints = [];
  page.on("console", (m) => ["error", "warning"].includes(m.type()) && complaints.push(m.text()));
  page.on("pageerror", (e) => complaints.push(e.message));
  return { context, page, complaints, look };
}

// shot keeps a picture of the page and checks what everybody needs of it.
export async function shot(who, name) {
  const { page, look } = who;
  mkdirSync(story.artefacts, { recursive: true });
  await page.screenshot({ path: join(story.artefacts, `${name}-${look}.png`), fullPage: true, animations: "disabled" });
  const faults = await page.evaluate(inspect);
  const wide = await page.evaluate(() => document.documentElement.scrollWidth > window.innerWidth);
  if (wide) faults.push("it must be scrolled sideways");
  const complaints = who.complaints.splice(0).filter((c) => !(story.expected ?? []).some((e) => c.includes(e)));
  if (faults.length || complaints.length) throw new Error(`${name} (${look}), ${page.url()}: ${[...faults, ...complaints].join("; ")}`);
}

// inspect runs in the page: what a screen reader, a keyboard and weak eyes
// need (WCAG 2.2: 1.1.1, 1.3.1, 1.4.3, 2.4.2, 2.5.8, 3.1.1, 4.1.2).
function inspect() {
  const faults = [];
  const all = (selector) => [...document.querySelectorAll(selector)];
  const shown = (e) => e.checkVisibility({ visibilityProperty: true, opacityProperty: true }) && !e.closest("[aria-hidden=true]");
  const label = (e) => (e.getAttribute("aria-label") || [...(e.labels ?? [])].map((l) => l.textContent).join(" ") || e.textContent || "").trim();
  if (!document.documentElement.lang) faults.push("it has no language");
  if (!document.title.trim()) faults.push("it has no title");
  if (all("main").length !== 1) faults.push(`it has ${all("main").length} main landmarks`);
  if (all("h1").length !== 1) faults.push(`it has ${all("h1").length} first headings`);
  const levels = all("h1,h2,h3,h4").map((h) => Number(h.tagName[1]));
  levels.forEach((l, i) => i && l > levels[i - 1] + 1 && faults.push(`a heading of level ${l} follows one of level ${levels[i - 1]}`));
  for (const e of all("input:not([type=hidden]),select,textarea,button,a[href]").filter(shown)) {
    const what = e.id || e.name || e.outerHTML.slice(0, 60);
    if (!label(e)) faults.push(`${what} has no name`);
    const box = (e.type === "checkbox" && e.closest("label") || e).getBoundingClientRect();
    const inText = e.tagName === "A" && getComputedStyle(e).display === "inline";
    if (!inText && (box.width < 24 || box.height < 24)) faults.push(`${what} is only ${Math.round(box.width)}×${Math.round(box.height)}`);
  }
  for (const e of all("img").filter(shown)) if (!e.alt) faults.push("an image has no text");
  for (const e of all("[aria-describedby],[aria-labelledby]")) {
    for (const id of (e.getAttribute("aria-describedby") ?? e.getAttribute("aria-labelledby")).split(" ")) {
      if (!document.getElementById(id)) faults.push(`there is no #${id} to describe ${e.id}`);
    }
  }
  const ids = all("[id]").map((e) => e.id);
  for (const id of new Set(ids.filter((x, i) => ids.indexOf(x) !== i))) faults.push(`#${id} is there twice`);
  // Contrast of text: 4.5, of large text 3.
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgb = (color) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const over = (top, below) => top.slice(0, 3).map((v, i) => v * top[3] / 255 + below[i] * (1 - top[3] / 255));
  const behind = (e) => {
    const layers = [];
    for (let n = e; n; n = n.parentElement) layers.push(rgb(getComputedStyle(n).backgroundColor));
    return layers.reverse().reduce((below, top) => over(top, below), rgb("Canvas").slice(0, 3));
  };
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let n = walk.nextNode(); n; n = walk.nextNode()) {
    const e = n.parentElement;
    if (!n.data.trim() || !shown(e) || e.closest(":disabled,script,style,noscript")) continue;
    const style = getComputedStyle(e), back = behind(e);
    const [a, b] = [light(over(rgb(style.color), back)), light(back)].sort((x, y) => y - x);
    const size = parseFloat(style.fontSize), large = size >= 24 || size >= 18.66 && Number(style.fontWeight) >= 700;
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < (large ? 3 : 4.5)) faults.push(`"${n.data.trim().slice(0, 30)}" has a contrast of only ${ratio.toFixed(2)}`);
  }
  return faults;
}

// authenticator plugs a passkey device into a window.
export async function authenticator({ context, page }) {
  const cdp = await context.newCDPSession(page);
  await cdp.send("WebAuthn.enable");
  const { authenticatorId } = await cdp.send("WebAuthn.addVirtualAuthenticator", { options: {
    protocol: "ctap2", transport: "internal", hasResidentKey: true, hasUserVerification: true, isUserVerified: true, automaticPresenceSimulation: true,
  } });
  return {
    count: async () => (await cdp.send("WebAuthn.getCredentials", { authenticatorId })).credentials.length,
    unplug: () => cdp.send("WebAuthn.removeVirtualAuthenticator", { authenticatorId }),
  };
}

// code is RFC 6238's for now, or a number of steps of 30 s later.
export function code(secret, later = 0) {
  const bits = [...secret.replace(/\s/g, "").toUpperCase()].map((c) => "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".indexOf(c).toString(2).padStart(5, "0")).join("");
  const key = Buffer.from(bits.match(/.{8}/g).map((b) => parseInt(b, 2)));
  const counter = Buffer.alloc(8);
  counter.writeBigUInt64BE(BigInt(Math.floor(Date.now() / 30_000) + later));
  const mac = createHmac("sha1", key).update(counter).digest();
  return String((mac.readUInt32BE(mac[19] & 15) & 0x7fffffff) % 1_000_000).padStart(6, "0");
}
