// Logging in, the overview, definitions.
"use strict";

const assert = require("node:assert/strict");
const fs = require("node:fs");
const { shot } = require("../stage.js");
const { confirm, says, section, visit } = require("./helpers.js");

module.exports = {
  async login({ page, base, folder }) {
    await page.goto(base);
    await page.getByLabel("Username:").fill("guest");
    await page.getByLabel("Password:").fill("wrong");
    await page.getByRole("button", { name: "Log in" }).click();
    await page.getByText("Login failed").waitFor();
    await shot(page, folder, "login");
    await page.getByLabel("Password:").fill("guest");
    await page.getByRole("button", { name: "Log in" }).click();
    await page.getByRole("heading", { name: "Overview", level: 1 }).waitFor();
    // The session outlives the page, and no script can read it.
    await page.reload();
    await page.getByRole("heading", { name: "Overview", level: 1 }).waitFor();
    assert.equal(await page.evaluate(() => document.cookie), "");
    assert.equal(await page.evaluate(() => Object.values(localStorage).some((it) => it.includes("guest:"))), false);
  },

  async overview(stage) {
    const { page, folder } = stage;
    await visit(stage, "");
    await page.getByText(/Queues: \d+/).waitFor();
    await page.getByText("1 of 1 node up, no alarms").waitFor();
    const canvas = page.locator("figure.chart canvas").first();
    await canvas.waitFor();
    // Two rounds make a line to point at.
    await page.getByLabel("Refresh", { exact: true }).selectOption("1");
    await page.waitForTimeout(2500);
    const box = await page.locator("figure.chart .u-over").first().boundingBox();
    await page.mouse.move(box.x + box.width * 0.9, box.y + box.height / 2);
    await page.locator("figure.chart .chart-time", { hasText: /\d\d:\d\d:\d\d/ }).first().waitFor();
    // The cross-hair is shared: the other chart shows the same second.
    await page.locator("figure.chart .chart-time", { hasText: /\d\d:\d\d:\d\d/ }).nth(1).waitFor();
    await page.mouse.down();
    await page.mouse.move(box.x + box.width * 0.3, box.y + box.height / 2, { steps: 5 });
    await page.mouse.up();
    const whole = page.getByRole("button", { name: "Show all" }).first();
    await whole.click();
    await whole.waitFor({ state: "hidden" });
    const line = page.locator("figure.chart .legend-toggle", { hasText: "Unacked" });
    await line.click();
    assert.equal(await line.getAttribute("aria-pressed"), "false");
    await line.click();
    await page.getByLabel("Refresh", { exact: true }).selectOption("5");
    const ports = await section(page, "Ports and contexts");
    await ports.getByRole("cell", { name: "amqp", exact: true }).waitFor();
    await section(page, "Churn statistics");
    await (await section(page, "Reset statistics")).getByRole("button", { name: "Reset statistics" }).click();
    await says(page, "Statistics reset.");
    await page.mouse.move(0, 0);
    await shot(page, folder, "overview");
  },

  async node(stage) {
    const { page, folder } = stage;
    await visit(stage, "");
    await page.locator("td a", { hasText: "rabbit@" }).first().click();
    await page.getByRole("heading", { level: 1, name: /^Node rabbit@/ }).waitFor();
    await page.getByText("Uptime").first().waitFor();
    await section(page, "Advanced");
    await page.getByRole("cell", { name: "topic", exact: true }).waitFor();
    await shot(page, folder, "node");
  },

  async definitions(stage) {
    const { page, ask, folder } = stage;
    await visit(stage, "");
    const out = await section(page, "Export definitions");
    const [download] = await Promise.all([page.waitForEvent("download"), out.getByRole("button", { name: "Download broker definitions" }).click()]);
    const saved = JSON.parse(fs.readFileSync(await download.path(), "utf8"));
    assert.ok(saved.vhosts.some((it) => it.name === stage.vhost), "the export holds the virtual host");
    saved.queues.push({ name: "imported", vhost: stage.vhost, durable: true, auto_delete: false, arguments: {} });
    const into = await section(page, "Import definitions");
    await into.locator("input[type=file]").setInputFiles({ name: "definitions.json", mimeType: "application/json", buffer: Buffer.from(JSON.stringify(saved)) });
    // What it would do, before it does anything.
    await into.getByText(/1 entry: .*imported/).waitFor();
    await shot(page, folder, "definitions");
    await into.getByRole("button", { name: "Upload broker definitions" }).click();
    await confirm(page, "Import");
    await says(page, "Definitions imported.");
    const found = await ask("GET", `queues/${stage.V}/imported`);
    assert.equal(found.name, "imported");
    await into.locator("input[type=file]").setInputFiles({ name: "broken.json", mimeType: "application/json", buffer: Buffer.from("{") });
    await says(page, "broken.json is not JSON");
  },
};
