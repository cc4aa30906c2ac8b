// What the browser tests share: Debian's Chromium, the HTTP API, a client that works, screenshots, axe.
"use strict";

const assert = require("node:assert/strict");
const fs = require("node:fs");
const path = require("node:path");
const { chromium } = require("playwright-core");

const AXE = fs.readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const LIMIT_MS = 45_000;

/** Chromium without a sandbox (tests run as root) and without talking to its maker. */
function launch() {
  return chromium.launch({
    executablePath: process.env.WARREN_CHROMIUM ?? "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
  });
}

const TYPES = { ".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".png": "image/png", ".ico": "image/x-icon", ".ejs": "text/plain" };

/** Serves what is not the API from a folder instead of from the node. */
function serve(context, folder, headers = {}) {
  return context.route((address) => !address.pathname.startsWith("/api/"), (route) => {
    const wanted = decodeURIComponent(new URL(route.request().url()).pathname);
    const file = path.join(folder, path.normalize(wanted === "/" ? "/index.html" : wanted));
    if (!file.startsWith(folder) || !fs.existsSync(file)) return route.fulfill({ status: 404 });
    return route.fulfill({ status: 200, contentType: TYPES[path.extname(file)] ?? "application/octet-stream", headers, body: fs.readFileSync(file) });
  });
}

/** The HTTP API, as a user. */
function api(base, user = "guest", password = "guest") {
  const authorization = `Basic ${Buffer.from(`${user}:${password}`).toString("base64")}`;
  return async (method, target, body) => {
    const response = await fetch(`${base}/api/${target}`, { method, headers: { authorization, "content-type": "application/json" }, body: body === undefined ? undefined : JSON.stringify(body) });
    const text = await response.text();
    assert.ok(response.ok, `${method} ${target}: ${response.status} ${text}`);
    return text === "" ? null : JSON.parse(text);
  };
}

/** A page that collects whatever goes wrong in it. A dialog of the browser is wrong unless the page `asks` by them. */
async function open(browser, { width = 1280, height = 900, dark = false, asks = false } = {}) {
  const context = await browser.newContext({ viewport: { width, height }, colorScheme: dark ? "dark" : "light", acceptDownloads: true });
  // Who works on the pages sees changes without building the broker: WARREN_UI=broker/ui.
  if (process.env.WARREN_UI) await serve(context, path.resolve(process.env.WARREN_UI), { "content-security-policy": "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'" });
  const page = await context.newPage();
  page.setDefaultTimeout(LIMIT_MS);
  const problems = [];
  page.on("pageerror", (error) => problems.push(`script: ${error.message}`));
  page.on("console", (message) => {
    // A refused request is a line on the console too; the tests look at the answers themselves.
    if (message.type() === "error" && !message.text().startsWith("Failed to load resource")) problems.push(`console: ${message.text()}`);
  });
  page.on("dialog", (dialog) => {
    if (asks && dialog.type() === "confirm") return void dialog.accept().catch(() => {});
    problems.push(`dialog: ${dialog.message()}`);
    return void dialog.dismiss().catch(() => {});
  });
  return { context, page, problems };
}

/** Keeps a picture of the whole page, for people to look at. */
async function shot(page, folder, name) {
  fs.mkdirSync(folder, { recursive: true });
  await page.screenshot({ path: path.join(folder, `${name}.png`), fullPage: true });
}

/** Fails with what axe finds wrong for people who cannot see, or not well, or have no mouse. */
async function accessible(page, name) {
  // By way of the debugger: the page itself lets no foreign script in.
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"] }));
  const told = violations.map((it) => `${it.id} (${it.impact}): ${it.help}\n    ${it.nodes.slice(0, 3).map((node) => `${node.html.slice(0, 160)} ${node.any[0]?.message ?? ""}`).join("\n    ")}`);
  assert.equal(told.length, 0, `${name}: ${told.join("\n  ")}`);
}

/** Runs scenarios in order, says `ok NAME` for each, and stops at the first that fails with a picture of it. */
async function play(scenarios, stage, folder) {
  for (const [name, scenario] of Object.entries(scenarios)) {
    if (process.env.ONLY && !process.env.ONLY.split(",").includes(name)) continue;
    try {
      await scenario(stage);
      assert.deepEqual(stage.problems, [], `${name}: the page complains`);
    } catch (error) {
      await shot(stage.page, folder, `failed-${name}`).catch(() => {});
      console.error(`FAILED ${name} at ${stage.page.url()}: ${error.stack}`, stage.problems);
      process.exitCode = 1;
      if (!process.env.KEEP) return;
      stage.problems.length = 0;
      await stage.page.keyboard.press("Escape").catch(() => {});
      continue;
    }
    console.log(`ok ${name}`);
  }
}

module.exports = { accessible, api, launch, open, play, serve, shot };
