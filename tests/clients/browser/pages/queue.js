// One queue and its messages.
"use strict";

const assert = require("node:assert/strict");
const { shot } = require("../stage.js");
const { confirm, says, section, visit } = require("./helpers.js");

module.exports = {
  async queue(stage) {
    const { page, folder, V } = stage;
    await visit(stage, `queues/${V}/work`);
    await page.getByRole("heading", { level: 1, name: "Queue work in virtual host ui <b>" }).waitFor();
    await page.getByText("max-length: 100000").waitFor();
    const consumers = await section(page, "Consumers (1)");
    await consumers.getByRole("cell", { name: "worker" }).waitFor();
    const bindings = await section(page, "Bindings");
    await bindings.getByLabel("From exchange:").fill("amq.topic");
    await bindings.getByLabel("Routing key:").fill("a.b");
    await bindings.getByRole("button", { name: "Bind", exact: true }).click();
    await says(page, "Bound.");
    const own = bindings.getByRole("row").filter({ hasText: "a.b" });
    await own.getByRole("button", { name: "Unbind" }).click();
    await confirm(page, "Unbind");
    await says(page, "Unbound.");
    await shot(page, folder, "queue");
  },

  async messages(stage) {
    const { page, folder, V, ask } = stage;
    await visit(stage, `queues/${V}/dead_letters`);
    await page.getByText("10 messages ready and no consumer").waitFor();
    const look = await section(page, "Look at messages");
    await look.getByRole("button", { name: "Look" }).click();
    // Where it died, and why, as a path.
    await look.getByText("(rejected)").first().waitFor();
    assert.equal(await look.locator(".message").count(), 10);
    const first = look.locator(".message").first();
    assert.match(await first.locator(".death").innerText(), /^work → \(rejected\) → here$/);
    assert.match(await first.locator("pre").innerText(), /"text": "<script>alert\(2\)<\/script>"/);
    await first.getByRole("button", { name: "Hex" }).click();
    assert.match(await first.locator("pre").innerText(), /^000000 {2}7b 22/);
    await first.getByRole("button", { name: "Text" }).click();
    await shot(page, folder, "messages");
    const get = await section(page, "Get messages");
    await get.getByLabel("Messages:").fill("2");
    await get.getByRole("button", { name: "Get Message(s)" }).click();
    await get.getByText("2 messages; 8 left behind the last one.").waitFor();
    await get.getByLabel("Ack Mode:").selectOption("ack_requeue_false");
    await get.getByRole("button", { name: "Get Message(s)" }).click();
    await confirm(page, "Get");
    await page.getByText("8 messages ready and").waitFor();
    const move = await section(page, "Move messages");
    await move.getByLabel("Destination queue:").fill("agreed");
    await move.getByLabel("Messages:").fill("3");
    await move.getByRole("button", { name: "Move messages" }).click();
    await confirm(page, "Move");
    await move.getByText("3 messages moved to agreed.").waitFor();
    const back = await section(page, "Requeue dead letters");
    await back.getByRole("button", { name: "Requeue to source" }).click();
    await confirm(page, "Requeue");
    await back.getByText("5 messages sent back (5 to work), 0 left here.").waitFor();
    assert.equal((await ask("GET", `queues/${V}/dead_letters`)).messages, 0);
  },

  async pausing(stage) {
    const { page, V, ask } = stage;
    await visit(stage, `queues/${V}/work`);
    const pause = await section(page, "Pause");
    await pause.getByRole("button", { name: "Pause" }).click();
    await says(page, "Paused");
    await page.getByText("Paused: consumers get nothing. Resume it").waitFor();
    assert.equal((await ask("GET", `queues/${V}/work`)).paused, true);
    await pause.getByRole("button", { name: "Resume" }).click();
    await says(page, "Resumed.");
  },

  async publishing(stage) {
    const { page, V, ask } = stage;
    await visit(stage, `queues/${V}/short`);
    const publish = await section(page, "Publish message");
    await publish.getByLabel("Payload:").fill("AAEC/w==");
    await publish.getByLabel("Payload encoding:").selectOption("base64");
    await publish.getByRole("button", { name: "Publish message" }).click();
    await says(page, "Message published.");
    await page.getByText("1 message ready and").waitFor();
    const look = await section(page, "Look at messages");
    await look.getByRole("button", { name: "Look" }).click();
    await look.getByText("00 01 02 ff").waitFor();
    const purge = await section(page, "Purge");
    await purge.getByRole("button", { name: "Purge Messages" }).click();
    await confirm(page, "Purge", "short");
    assert.equal((await ask("GET", `queues/${V}/short`)).messages, 0);
    const remove = await section(page, "Delete");
    await remove.getByRole("button", { name: "Delete Queue" }).click();
    await confirm(page, "Delete", "short");
    await page.getByRole("heading", { level: 1, name: "Queues" }).waitFor();
    // A page of something that is gone says so.
    await page.goto(`${stage.base}/#/queues/${V}/short`);
    await page.getByText("This is not there (any more).").waitFor();
  },
};
