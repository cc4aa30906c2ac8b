// RabbitMQ's own management pages, from where Debian's package puts them, in front of our HTTP API.
"use strict";

const assert = require("node:assert/strict");
const fs = require("node:fs");
const path = require("node:path");
const { open, serve, shot } = require("./stage.js");

const HOME = "/usr/lib/rabbitmq/lib";

/** Where the package has the pages. */
function pages() {
  const server = fs.readdirSync(HOME).find((it) => it.startsWith("rabbitmq_server-"));
  const plugins = path.join(HOME, server, "plugins");
  const plugin = fs.readdirSync(plugins).find((it) => /^rabbitmq_management-[\d.]+$/.test(it));
  return path.join(plugins, plugin, "priv/www");
}

/** Opens the pages and logs in. */
async function enter(browser, base, folder) {
  const { context, page, problems } = await open(browser, { height: 1400, asks: true });
  const refused = new Set();
  await serve(context, pages());
  page.on("response", (response) => {
    const address = new URL(response.url());
    if (address.pathname.startsWith("/api/") && response.status() >= 400) refused.add(`${response.request().method()} ${address.pathname}${address.search}: ${response.status()}`);
  });
  await page.goto(base);
  await page.locator("input[name=username]").fill("guest");
  await page.locator("input[name=password]").fill("guest");
  await page.locator("input[type=submit]").click();
  await page.locator("h1", { hasText: "Overview" }).waitFor().catch(async (error) => {
    await shot(page, folder, "theirs-login");
    throw new Error(`the login leads nowhere: ${[...refused, ...problems].join("; ")}`, { cause: error });
  });
  return { base, folder, page, problems, refused };
}

/** Opens what is folded: what is in there is drawn then. */
async function unfold(page) {
  // What was opened before is remembered: a click would close it.
  await page.evaluate(() => [...document.querySelectorAll(".section-hidden")].filter((it) => it.querySelector(".hider")?.offsetParent === null).forEach((it) => it.querySelector("h2").click()));
  await page.waitForTimeout(300);
}

/**
 * Visits pages (`{ name: [route, heading, text] }`) with all their sections open: prints `ok NAME` for each that shows
 * what it should, and fails with what the others missed. `text` is what has to be there beside the heading.
 */
async function look({ base, folder, page, problems, refused }, visits) {
  const found = [];
  for (const [name, [route, heading, expected]] of Object.entries(visits)) {
    refused.clear();
    problems.length = 0;
    await page.goto(`${base}/#/${route}`);
    let wrong = [];
    try {
      // The page before this one may still be there: "Queues" is not "Queue". That of a connection has no h1.
      await page.locator("#main h1, #main h2", { hasText: new RegExp(`^\\s*${heading}\\b`) }).first().waitFor({ timeout: 10_000 });
      await unfold(page);
      const text = await page.locator("#main").innerText();
      wrong = text.split("\n").map((line) => line.trim()).filter((line) => /\bNaN\b|undefined|\[object Object\]|JS error/.test(line));
      if (expected && !text.includes(expected)) wrong.push(`no "${expected}" in: ${text}`);
    } catch (error) {
      wrong = [error.message.split("\n")[0]];
    }
    await shot(page, folder, `theirs-${name}`);
    const all = [...refused, ...problems, ...wrong];
    if (all.length === 0) console.log(`ok ${name}`);
    else found.push(`${name}: ${all.join("; ")}`);
  }
  for (const line of found) console.error(`MISSED ${line}`);
  if (found.length > 0) process.exitCode = 1;
}

/**
 * Fills forms and sends them (`{ name: [route, form, values, check] }`): prints `ok NAME` for each whose request is
 * taken and does what `check` looks for, and fails with the rest. `form` is a selector, `values` are by field.
 */
async function send({ base, folder, page, problems }, forms) {
  for (const [name, [route, selector, values, check]] of Object.entries(forms)) {
    problems.length = 0;
    try {
      await page.goto(`${base}/#/`);
      await page.locator("#main h1", { hasText: "Overview" }).waitFor();
      await page.goto(`${base}/#/${route}`);
      await page.locator(selector).first().waitFor({ state: "attached" });
      await unfold(page);
      const form = page.locator(selector).first();
      for (const [field, value] of Object.entries(values)) {
        const element = form.locator(`[name="${field}"]`).first();
        if (await element.evaluate((it) => it.tagName === "SELECT")) await element.selectOption(value);
        else await element.fill(value);
        // Their rows of arguments grow when a key goes up.
        await element.dispatchEvent("keyup");
      }
      const answered = page.waitForResponse((it) => it.request().method() !== "GET" && new URL(it.url()).pathname.startsWith("/api/"));
      await form.locator("input[type=submit]").click();
      const answer = await answered;
      const told = `${answer.request().method()} ${answer.url()} ${answer.request().postData()}: ${answer.status()}`;
      assert.ok(answer.ok(), `${told} ${await answer.text().catch(() => "")}`);
      await check?.();
      assert.deepEqual(problems, []);
    } catch (error) {
      await shot(page, folder, `theirs-failed-${name}`);
      console.error(`MISSED ${name}: ${error.message}`);
      process.exitCode = 1;
      continue;
    }
    console.log(`ok ${name}`);
  }
}

module.exports = { enter, look, send };
