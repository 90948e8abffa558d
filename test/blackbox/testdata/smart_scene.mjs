// A SMART app in a real browser: fhirclient's own build, a standalone launch
// against the development authorization server, the patient picker, and the
// patient's name on the app's page. SMART_ISS names the data store's endpoint,
// SMART_BROWSER the browser.
import { chromium } from "playwright-core";
import { createRequire } from "node:module";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import http from "node:http";
import os from "node:os";
import path from "node:path";

const patience = 120_000; // milliseconds for each step: the machine may be busy
const library = path.join(path.dirname(createRequire(import.meta.url).resolve("fhirclient/package.json")), "build", "fhir-client.js");

const pages = {
  "/launch": `FHIR.oauth2.authorize({ clientId: "picture", scope: "launch/patient patient/*.rs openid fhirUser offline_access",
      iss: new URLSearchParams(location.search).get("iss"), redirectUri: "/app", pkceMode: "required" })
      .catch(e => { document.getElementById("said").textContent = "failed: " + e })`,
  "/app": `FHIR.oauth2.ready().then(async client => {
      const patient = await client.patient.read();
      const others = await client.request("Patient?_summary=count");
      const seen = await client.request("Observation?_summary=count");
      document.getElementById("said").textContent = JSON.stringify({ id: patient.id, family: patient.name[0].family,
        chosen: client.patient.id, patients: others.total, observations: seen.total, scope: client.state.tokenResponse.scope });
    }).catch(e => { document.getElementById("said").textContent = "failed: " + e })`,
};

const app = http.createServer((request, response) => {
  const where = new URL(request.url, "http://app").pathname;
  if (where === "/fhir-client.js") {
    response.setHeader("Content-Type", "text/javascript");
    return response.end(readFileSync(library));
  }
  if (!(where in pages)) {
    response.statusCode = 404;
    return response.end();
  }
  response.setHeader("Content-Type", "text/html; charset=utf-8");
  response.end(`<!doctype html><title>app</title><p id="said"></p><script src="/fhir-client.js"></script><script>${pages[where]}</script>`);
});
await new Promise(resolve => app.listen(0, "127.0.0.1", resolve));
const own = `http://127.0.0.1:${app.address().port}`;

const profile = mkdtempSync(path.join(os.tmpdir(), "smart-browser-"));
const context = await chromium.launchPersistentContext(profile, {
  executablePath: process.env.SMART_BROWSER, headless: true, timeout: patience,
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"],
});
try {
  const page = await context.newPage();
  page.setDefaultTimeout(patience);
  page.setDefaultNavigationTimeout(patience);
  await page.goto(`${own}/launch?iss=${encodeURIComponent(process.env.SMART_ISS)}`);
  const first = page.locator('input[name="patient"]').first();
  await first.waitFor();
  if (!(await page.textContent("body")).includes("do not use it with real patients")) throw new Error("the picker does not say what it is");
  const chosen = await first.getAttribute("value");
  await first.check();
  await page.click('button[value="allow"]');
  await page.waitForURL(own + "/app**");
  await page.waitForFunction(() => document.getElementById("said")?.textContent);
  const text = await page.textContent("#said");
  if (text.startsWith("failed")) throw new Error(text);
  const said = JSON.parse(text);
  if (said.id !== chosen || said.chosen !== chosen || !said.family) throw new Error(`the app shows ${text}, not ${chosen}`);
  if (said.patients !== 1) throw new Error(`the app may count ${said.patients} patients`);
  console.log(text);
} finally {
  await context.close();
  app.close();
  rmSync(profile, { recursive: true, force: true });
}
console.log("done");
