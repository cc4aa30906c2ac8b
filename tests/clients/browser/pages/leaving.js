// The end of a session, and a node that is gone.
"use strict";

const assert = require("node:assert/strict");
const { accessible } = require("../stage.js");
const { visit } = require("./helpers.js");

module.exports = {
  async an_unreachable_node_is_told(stage) {
    const { page, context } = stage;
    await visit(stage, "queues");
    await context.route("**/api/**", (route) => route.abort());
    await page.keyboard.press("r");
    await page.getByText("Not up to date: the node cannot be reached.").waitFor();
    // What was known stays on the page.
    assert.ok(await page.locator("table.rows tbody tr").count() > 0);
    await context.unroute("**/api/**");
    await page.keyboard.press("r");
    await page.locator(".trouble").waitFor({ state: "hidden" });
  },

  async logout(stage) {
    const { page, base } = stage;
    await visit(stage, "queues");
    await page.getByRole("button", { name: "Log out" }).click();
    await page.getByRole("button", { name: "Log in" }).waitFor();
    await accessible(page, "login");
    await page.reload();
    await page.getByRole("button", { name: "Log in" }).waitFor();
    await page.goto(`${base}/#/users`);
    await page.getByRole("button", { name: "Log in" }).waitFor();
  },
};
