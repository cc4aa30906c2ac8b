// How the pages look and whom they serve: dark, narrow, by keyboard, for people who cannot see, for users who may less.
"use strict";

const assert = require("node:assert/strict");
const { accessible, api, open, shot } = require("../stage.js");
const { section, visit } = require("./helpers.js");

/** Every page, with the vhost of the tests. */
const routes = (V, node) => ({
  overview: "", node: `nodes/${encodeURIComponent(node)}`, connections: "connections", channels: "channels", exchanges: "exchanges", exchange: `exchanges/${V}/orders`,
  queues: "queues", queue: `queues/${V}/work`, users: "users", user: "users/guest", vhosts: "vhosts", vhost: `vhosts/${V}`, policies: "policies", policy: `policies/${V}/lengths`,
  limits: "limits", flags: "feature-flags", cluster: "cluster-name",
});

async function nameOfNode(ask) {
  return (await ask("GET", "overview")).node;
}

/** Opens every section, so that what is in them is looked at too. */
async function unfold(page) {
  await page.evaluate(() => document.querySelectorAll("details.section").forEach((it) => { it.open = true; }));
}

module.exports = {
  async everything_is_accessible(stage) {
    const { page, V, ask } = stage;
    for (const [name, route] of Object.entries(routes(V, await nameOfNode(ask)))) {
      await visit(stage, route);
      await unfold(page);
      await accessible(page, name);
    }
  },

  async dark(stage) {
    const { page, V, ask, folder } = stage;
    await visit(stage, "");
    await page.keyboard.press("t");
    assert.equal(await page.evaluate(() => document.documentElement.dataset.theme), "dark");
    for (const [name, route] of Object.entries(routes(V, await nameOfNode(ask)))) {
      await visit(stage, route);
      await unfold(page);
      await accessible(page, `${name} in the dark`);
      if (["overview", "queues", "queue", "policies"].includes(name)) await shot(page, folder, `dark-${name}`);
    }
    await page.keyboard.press("t");
    assert.equal(await page.evaluate(() => document.documentElement.dataset.theme), "light");
  },

  async on_a_phone(stage) {
    const { page, V, ask, folder } = stage;
    await page.setViewportSize({ width: 390, height: 800 });
    for (const [name, route] of Object.entries(routes(V, await nameOfNode(ask)))) {
      await visit(stage, route);
      await unfold(page);
      const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
      if (wide > 0) {
        const who = await page.evaluate(() => [...document.querySelectorAll("main *, header *")].filter((it) => it.getBoundingClientRect().right > document.documentElement.clientWidth + 1 && !it.closest(".scroll")).slice(0, 3).map((it) => it.outerHTML.slice(0, 120)));
        assert.fail(`${name} is ${wide} pixels wider than a phone: ${who.join(" | ")}`);
      }
      if (["overview", "queues", "queue", "users"].includes(name)) await shot(page, folder, `phone-${name}`);
    }
    await page.setViewportSize({ width: 1280, height: 900 });
  },

  async keyboard(stage) {
    const { page, folder } = stage;
    await visit(stage, "");
    for (const [letter, title] of [["q", "Queues"], ["e", "Exchanges"], ["c", "Connections"], ["h", "Channels"], ["a", "Users"], ["o", "Overview"], ["q", "Queues"]]) {
      await page.keyboard.press("g");
      await page.keyboard.press(letter);
      await page.getByRole("heading", { level: 1, name: title, exact: true }).waitFor();
    }
    await page.locator("table.rows tbody tr").first().waitFor();
    await page.keyboard.press("j");
    const first = await page.evaluate(() => document.activeElement.textContent);
    await page.keyboard.press("j");
    const second = await page.evaluate(() => document.activeElement.textContent);
    assert.notEqual(first, second);
    // A refresh does not take the keyboard away.
    await page.keyboard.press("r");
    await page.waitForTimeout(500);
    assert.equal(await page.evaluate(() => document.activeElement.textContent), second);
    await page.keyboard.press("Enter");
    await page.getByRole("heading", { level: 1, name: /^Queue / }).waitFor();
    await page.keyboard.press("Control+k");
    await page.getByRole("searchbox", { name: /Find a queue/ }).fill("dead");
    await page.locator(".found a", { hasText: "dead_letters" }).waitFor();
    await shot(page, folder, "finder");
    await accessible(page, "finder");
    await page.keyboard.press("ArrowDown");
    await page.keyboard.press("Enter");
    await page.getByRole("heading", { level: 1, name: /dead/ }).waitFor();
    await page.keyboard.press("?");
    await page.getByRole("dialog", { name: "Keyboard" }).waitFor();
    await page.keyboard.press("Escape");
    await page.getByRole("dialog").waitFor({ state: "detached" });
  },

  async users_who_may_less(stage) {
    const { ask, base, browser, V, folder } = stage;
    await ask("PUT", "users/reader", { password: "pw", tags: "management" });
    await ask("PUT", `permissions/${V}/reader`, { configure: "^$", write: "^$", read: ".*" });
    const { context, page, problems } = await open(browser);
    await page.goto(base);
    await page.getByLabel("Username:").fill("reader");
    await page.getByLabel("Password:").fill("pw");
    await page.getByRole("button", { name: "Log in" }).click();
    await page.getByRole("heading", { name: "Overview", level: 1 }).waitFor();
    assert.equal(await page.getByRole("link", { name: "Admin" }).count(), 0, "no tab that leads to refusals");
    for (const route of ["", "connections", "channels", "exchanges", `exchanges/${V}/orders`, "queues", `queues/${V}/work`]) {
      await visit({ page, base }, route);
      assert.equal(await page.locator(".trouble").isVisible(), false, `${route} shows a refusal`);
    }
    // What the node refuses is said in its words, and the session goes on.
    const purge = await section(page, "Purge");
    await purge.getByRole("button", { name: "Purge Messages" }).click();
    await page.locator("dialog[open] input").fill("work");
    await page.locator("dialog[open]").getByRole("button", { name: "Purge", exact: true }).click();
    await page.locator(".toast, .refreshed").first().waitFor();
    await shot(page, folder, "reader");
    assert.deepEqual(problems, []);
    await context.close();
    await ask("DELETE", "users/reader");
    void api;
  },
};
