// Steps that many scenarios take.
"use strict";

const assert = require("node:assert/strict");

/** Opens a page and waits until it shows what the node said. */
async function visit({ page, base }, route) {
  await page.goto(`${base}/#/${route}`);
  await page.locator("main h1").waitFor();
  await page.locator(".refreshed", { hasText: "Refreshed" }).waitFor();
}

/** Opens the folded section with this heading, and returns it. */
async function section(page, title) {
  const element = page.locator("details.section").filter({ has: page.locator("summary h2", { hasText: title }) }).first();
  await element.waitFor();
  if (!(await element.evaluate((it) => it.open))) await element.locator("summary").first().click();
  return element;
}

/** Waits for a message to the reader. */
async function says(page, text) {
  await page.locator(".toast", { hasText: text }).first().waitFor();
  for (const button of await page.locator(".toast button").all()) await button.click().catch(() => {});
}

/** Confirms the dialog that is open, typing what it asks for. */
async function confirm(page, label, typed) {
  const dialog = page.locator("dialog[open]");
  await dialog.waitFor();
  const button = dialog.getByRole("button", { name: label, exact: true });
  if (typed) {
    assert.equal(await button.isDisabled(), true, "nothing dangerous before the name was typed");
    await dialog.locator("input").fill(typed);
  }
  await button.click();
  await dialog.waitFor({ state: "detached" });
}

/** Fills the first empty row of an editor of arguments. */
async function argument(scope, legend, name, value, type = "string") {
  const rows = scope.locator("fieldset", { hasText: legend }).first().locator(".argument");
  const row = rows.last();
  await row.locator(".argument-name").fill(name);
  const filled = rows.nth((await rows.count()) - 2);
  await filled.locator(".argument-value").fill(value);
  await filled.locator("select").selectOption(type);
}

/** The rows of a list whose text has this. */
const row = (page, text) => page.locator("table.rows tbody tr", { hasText: text });

module.exports = { argument, confirm, row, says, section, visit };
