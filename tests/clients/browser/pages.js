// Clicks through every page and form of the web pages. `node pages.js HTTP AMQP FOLDER` prints `ok NAME` for each scenario.
"use strict";

const amqp = require("amqplib");
const { api, launch, open, play } = require("./stage.js");

const [base, url, folder] = process.argv.slice(2);

async function main() {
  const ask = api(base);
  const vhost = "ui <b>";
  const V = encodeURIComponent(vhost);
  // A vhost with everything that a page can show; its name is one that has to be escaped everywhere.
  await ask("PUT", `vhosts/${V}`, { description: "browser tests" });
  await ask("PUT", `permissions/${V}/guest`, { configure: ".*", write: ".*", read: ".*" });
  await ask("PUT", `exchanges/${V}/orders`, { type: "topic", durable: true });
  await ask("PUT", `exchanges/${V}/dead`, { type: "fanout", durable: true });
  await ask("PUT", `queues/${V}/work`, { durable: true, arguments: { "x-dead-letter-exchange": "dead", "x-max-priority": 5 } });
  await ask("PUT", `queues/${V}/dead_letters`, { durable: true });
  await ask("PUT", `queues/${V}/${encodeURIComponent("<img src=x onerror=alert(1)>")}`, { durable: true });
  await ask("POST", `bindings/${V}/e/orders/q/work`, { routing_key: "order.#" });
  await ask("POST", `bindings/${V}/e/dead/q/dead_letters`, { routing_key: "" });
  await ask("PUT", `policies/${V}/lengths`, { pattern: "^work", "apply-to": "queues", definition: { "max-length": 100000 }, priority: 1 });

  const connection = await amqp.connect(`${url}/${V}`, { clientProperties: { connection_name: "browser-test" } });
  connection.on("error", () => {});
  const channel = await connection.createConfirmChannel();
  channel.on("error", () => {});
  await channel.prefetch(10);
  // Ten messages that die in `work` and come to lie in `dead_letters`, with a history.
  for (let number = 0; number < 10; number += 1) channel.publish("orders", "order.new", Buffer.from(JSON.stringify({ number, text: "<script>alert(2)</script>" })), { contentType: "application/json", persistent: true });
  await channel.waitForConfirms();
  for (let number = 0; number < 10; number += 1) {
    const got = await channel.get("work");
    channel.nack(got, false, false);
  }
  await channel.consume("work", () => {}, { consumerTag: "worker" });

  const browser = await launch();
  const { context, page, problems } = await open(browser);
  const stage = { ask, amqp, base, browser, channel, connection, context, folder, page, problems, url, V, vhost };
  const scenarios = { ...require("./pages/entry.js"), ...require("./pages/topology.js"), ...require("./pages/queue.js"), ...require("./pages/clients.js"), ...require("./pages/admin.js"), ...require("./pages/looks.js"), ...require("./pages/leaving.js") };
  await play(scenarios, stage, folder);
  await browser.close();
  await connection.close().catch(() => {});
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
