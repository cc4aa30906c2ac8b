// Exchanges and the list of queues: adding, binding, explaining, publishing, searching, pages, several at once.
"use strict";

const assert = require("node:assert/strict");
const { shot } = require("../stage.js");
const { argument, confirm, row, says, section, visit } = require("./helpers.js");

module.exports = {
  async exchanges(stage) {
    const { page, folder, vhost } = stage;
    await visit(stage, "exchanges");
    const add = await section(page, "Add a new exchange");
    await add.getByLabel("Virtual host:").selectOption(vhost);
    await add.getByLabel("Name:").fill("made");
    await add.getByLabel("Type:").selectOption("direct");
    await add.getByRole("button", { name: "Alternate exchange" }).click();
    await add.locator(".argument-value").first().fill("dead");
    await add.getByRole("button", { name: "Add exchange" }).click();
    await says(page, "Exchange added.");
    await page.getByRole("searchbox", { name: "Filter Exchanges" }).fill("mad");
    await page.getByText(/^1 of \d+ exchanges$/).waitFor();
    await row(page, "made").getByText("AE", { exact: true }).waitFor();
    assert.equal(await page.locator("table.rows tbody tr").count(), 1);
    await page.getByRole("searchbox", { name: "Filter Exchanges" }).fill("");
    await row(page, "orders").waitFor();
    await shot(page, folder, "exchanges");
  },

  async exchange(stage) {
    const { page, folder, vhost, V, ask } = stage;
    await visit(stage, `exchanges/${V}/made`);
    await page.getByRole("heading", { level: 1, name: `Exchange: made in virtual host ${vhost}` }).waitFor();
    const bindings = await section(page, "Bindings");
    await bindings.getByLabel("Destination:").fill("work");
    await bindings.getByLabel("Routing key:").fill("k1");
    await argument(bindings, "Arguments", "x-note", "7", "number");
    await bindings.getByRole("button", { name: "Bind", exact: true }).click();
    await says(page, "Bound.");
    await bindings.getByRole("cell", { name: "k1" }).waitFor();
    const [made] = (await ask("GET", `bindings/${V}/e/made/q/work`));
    assert.deepEqual(made.arguments, { "x-note": 7 });
    const explain = await section(page, "Explain routing");
    await explain.getByLabel("Routing key:").fill("k1");
    await explain.getByRole("button", { name: "Explain" }).click();
    await explain.getByText("It would reach 1 queue").waitFor();
    await explain.getByRole("link", { name: "work" }).waitFor();
    await explain.getByLabel("Routing key:").fill("nothing");
    await explain.getByRole("button", { name: "Explain" }).click();
    await explain.getByText(/dead_letters|alternate/).first().waitFor();
    const publish = await section(page, "Publish message");
    await publish.getByLabel("Routing key:").fill("k1");
    await publish.getByLabel("Delivery mode:").selectOption("2");
    await argument(publish, "Headers", "h", "1", "number");
    await publish.getByRole("button", { name: "content_type" }).click();
    await publish.locator("fieldset", { hasText: "Properties" }).locator(".argument-value").first().fill("text/plain");
    await publish.getByLabel("Payload:").fill("hello");
    await publish.getByRole("button", { name: "Publish message" }).click();
    await says(page, "Message published.");
    await shot(page, folder, "exchange");
    await bindings.getByRole("button", { name: "Unbind" }).click();
    await confirm(page, "Unbind");
    await says(page, "Unbound.");
    await bindings.getByRole("cell", { name: "k1" }).waitFor({ state: "detached" });
    await visit(stage, `exchanges/${V}/orders`);
    await (await section(page, "Bindings")).getByRole("cell", { name: "order.#" }).waitFor();
    await visit(stage, `exchanges/${V}/amq.default`);
    await page.getByText("Every queue is bound to the default exchange").waitFor();
    await visit(stage, `exchanges/${V}/made`);
    const remove = await section(page, "Delete this exchange");
    await remove.getByRole("button", { name: "Delete" }).click();
    await confirm(page, "Delete", "made");
    await page.getByRole("heading", { level: 1, name: "Exchanges" }).waitFor();
  },

  async queues(stage) {
    const { page, folder, vhost, V, ask } = stage;
    await visit(stage, "queues");
    const add = await section(page, "Add a new queue");
    await add.getByLabel("Virtual host:").selectOption(vhost);
    await add.getByLabel("Type:").selectOption("quorum");
    await add.getByLabel("Name:").fill("agreed");
    assert.equal(await add.getByLabel("Durability:").isVisible(), false, "a quorum queue is always durable");
    await add.getByRole("button", { name: "Delivery limit" }).click();
    await add.locator(".argument-value").first().fill("5");
    await add.getByRole("button", { name: "Add queue" }).click();
    await says(page, "Queue added.");
    const agreed = await ask("GET", `queues/${V}/agreed`);
    assert.deepEqual([agreed.type, agreed.arguments["x-delivery-limit"]], ["quorum", 5]);
    await add.getByLabel("Type:").selectOption("classic");
    await add.getByLabel("Name:").fill("short");
    await add.getByLabel("Durability:").selectOption("false");
    await add.getByRole("button", { name: "Max length", exact: true }).click();
    await add.locator(".argument-value").first().fill("ten");
    await add.getByRole("button", { name: "Add queue" }).click();
    await says(page, "x-max-length has to be a number, but is \"ten\"");
    await add.locator(".argument-value").first().fill("10");
    await add.getByRole("button", { name: "Add queue" }).click();
    await says(page, "Queue added.");
    assert.equal((await ask("GET", `queues/${V}/short`)).durable, false);
    await row(page, "short").getByText("Lim", { exact: true }).waitFor();
    // A name that would be a script in a page that is not careful.
    await row(page, "<img src=x onerror=alert(1)>").waitFor();
    await shot(page, folder, "queues");
  },

  async searching(stage) {
    const { page, V, ask } = stage;
    await Promise.all(Array.from({ length: 60 }, (_, number) => ask("PUT", `queues/${V}/many.${String(number).padStart(2, "0")}`, { durable: false })));
    await visit(stage, "queues");
    const search = page.getByRole("searchbox", { name: "Filter Queues" });
    await page.keyboard.press("/");
    assert.equal(await search.evaluate((it) => it === document.activeElement), true, "/ goes to the search");
    await search.fill("many");
    await page.getByText(/^60 of \d+ queues$/).waitFor();
    await page.getByLabel("Rows on a page").selectOption("20");
    await page.getByText("of 3").waitFor();
    assert.equal(await page.locator("table.rows tbody tr").count(), 20, "the node sends one page");
    const [asked] = await Promise.all([page.waitForRequest(/page=2/), page.getByRole("button", { name: "Next page" }).click()]);
    assert.match(asked.url(), /page_size=20.*name=many/);
    await row(page, "many.20").waitFor();
    assert.match(page.url(), /page=2/);
    await page.reload();
    await row(page, "many.20").waitFor();
    await page.getByRole("checkbox", { name: "Regex", exact: true }).check();
    await search.fill("many\\.0[0-4]$");
    await page.getByText(/^5 of \d+ queues$/).waitFor();
    await search.fill("many[");
    await page.getByRole("alert").filter({ hasText: /regex/i }).waitFor();
    await search.fill("many\\.0[0-4]$");
    await page.getByText(/^5 of \d+ queues$/).waitFor();
    await page.getByRole("button", { name: "Name", exact: true }).click();
    await page.locator("th[aria-sort=ascending]", { hasText: "Name" }).waitFor();
    await page.getByRole("button", { name: "Name ▲" }).click();
    await page.locator("table.rows tbody tr:first-child", { hasText: "many.04" }).waitFor();
    await page.getByRole("button", { name: "Choose columns" }).click();
    await page.getByRole("checkbox", { name: "Messages: Bytes" }).check();
    await page.keyboard.press("Escape");
    await page.getByRole("button", { name: "Bytes", exact: true }).waitFor();
    // Several at once: nothing happens before the word was typed.
    await page.getByRole("checkbox", { name: "Select all rows on this page" }).check();
    await page.getByText("5 selected").waitFor();
    await page.locator(".bulk").getByRole("button", { name: "Delete" }).click();
    await confirm(page, "Delete", "delete");
    await says(page, "Deleted.");
    await page.getByText(/^0 of \d+ queues$/).waitFor();
    await page.getByRole("checkbox", { name: "Regex", exact: true }).uncheck();
    await search.fill("");
    // The node picks, from all pages.
    await page.getByText("of 4").waitFor();
    await page.getByRole("button", { name: "has messages" }).click();
    await page.getByText(/^\d of \d+ queues$/).waitFor();
    await row(page, "dead_letters").waitFor();
    assert.equal(await row(page, "many").count(), 0);
    await page.getByRole("button", { name: "DLX", exact: true }).click();
    await page.getByText(/^\d of \d+ queues$/).waitFor();
    await row(page, "dead_letters").waitFor({ state: "detached" });
    await page.getByRole("button", { name: "has messages" }).click();
    await row(page, "work").waitFor();
    await page.getByRole("button", { name: "DLX", exact: true }).click();
    await page.getByLabel("Rows on a page").selectOption("100");
  },
};
