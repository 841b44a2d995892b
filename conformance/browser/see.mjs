// SITE UPN, and PASSWORD in the environment: signs somebody in with Chromium
// and prints what they see.
import { chromium } from "playwright-core";

const [site, upn] = process.argv.slice(2);
const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: process.getuid() === 0 ? ["--no-sandbox"] : [] });
try {
  const page = await browser.newPage();
  await page.goto(site);
  await page.getByLabel("Account name").fill(upn);
  await page.getByRole("button", { name: "Next", exact: true }).click();
  await page.getByLabel("Password", { exact: true }).fill(process.env.PASSWORD);
  await page.getByRole("button", { name: "Sign in", exact: true }).click();
  const consent = page.getByRole("button", { name: "Accept", exact: true });
  await page.waitForURL((u) => u.origin === site && !u.pathname.startsWith("/.auth/")).catch(async () => {
    await consent.click({ timeout: 1000 });
    await page.waitForURL((u) => u.origin === site && !u.pathname.startsWith("/.auth/"));
  });
  console.log((await page.locator("body").innerText()).replaceAll("\n\n", "\n").trim());
} finally {
  await browser.close();
}
