// RabbitMQ's own management pages, from where Debian's package puts them, in front of our HTTP API: every page and
// form is opened. `node rabbitmq.js HTTP AMQP FOLDER` prints `ok PAGE`, and fails with what the pages missed.
"use strict";

const amqp = require("amqplib");
const fs = require("node:fs");
const path = require("node:path");
const { api, launch, open, serve, shot } = require("./stage.js");

const [base, url, folder] = process.argv.slice(2);
const HOME = "/usr/lib/rabbitmq/lib";

/** Where the package has the pages. */
function pages() {
  const server = fs.readdirSync(HOME).find((it) => it.startsWith("rabbitmq_server-"));
  const plugins = path.join(HOME, server, "plugins");
  const plugin = fs.readdirSync(plugins).find((it) => /^rabbitmq_management-[\d.]+$/.test(it));
  return path.join(plugins, plugin, "priv/www");
}

async function main() {
  const ask = api(base);
  await ask("PUT", "vhosts/theirs", {});
  await ask("PUT", "permissions/theirs/guest", { configure: ".*", write: ".*", read: ".*" });
  await ask("PUT", "exchanges/theirs/x", { type: "topic", durable: true, arguments: { "alternate-exchange": "amq.fanout" } });
  await ask("PUT", "queues/theirs/q", { durable: true, arguments: { "x-message-ttl": 600000 } });
  await ask("PUT", "queues/theirs/agreed", { durable: true, arguments: { "x-queue-type": "quorum" } });
  await ask("POST", "bindings/theirs/e/x/q/q", { routing_key: "#", arguments: { a: 1 } });
  await ask("PUT", "policies/theirs/p", { pattern: "^q", "apply-to": "queues", definition: { "max-length": 1000 }, priority: 1 });
  await ask("PUT", "operator-policies/theirs/o", { pattern: "^q", "apply-to": "queues", definition: { "max-length": 2000 }, priority: 1 });
  await ask("PUT", "vhost-limits/theirs/max-connections", { value: 500 });
  await ask("PUT", "user-limits/guest/max-channels", { value: 500 });
  const connection = await amqp.connect(`${url}/theirs`, { clientProperties: { connection_name: "their-test" } });
  const channel = await connection.createConfirmChannel();
  await channel.prefetch(5);
  for (let number = 0; number < 5; number += 1) channel.publish("x", "k", Buffer.from(`m${number}`));
  await channel.waitForConfirms();
  await channel.consume("q", () => {}, { consumerTag: "theirs" });

  const www = pages();
  const browser = await launch();
  const { context, page, problems } = await open(browser, { height: 1400 });
  const refused = new Set();
  await serve(context, www);
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
  const channelName = (await ask("GET", "channels"))[0].name;
  const connectionName = (await ask("GET", "connections"))[0].name;
  const { node } = await ask("GET", "overview");
  const e = encodeURIComponent;
  const visits = {
    overview: ["", "Overview"], node: [`nodes/${e(node)}`, "Node"], connections: ["connections", "Connections"], connection: [`connections/${e(connectionName)}`, "Connection"],
    channels: ["channels", "Channels"], channel: [`channels/${e(channelName)}`, "Channel"], exchanges: ["exchanges", "Exchanges"], exchange: ["exchanges/theirs/x", "Exchange"],
    default_exchange: ["exchanges/theirs/amq.default", "Exchange"], queues: ["queues", "Queues"], queue: ["queues/theirs/q", "Queue"], quorum_queue: ["queues/theirs/agreed", "Queue"],
    users: ["users", "Users"], user: ["users/guest", "User"], vhosts: ["vhosts", "Virtual Hosts"], vhost: ["vhosts/theirs", "Virtual Host"], flags: ["feature-flags", "Feature Flags"],
    policies: ["policies", "Policies"], policy: ["policies/theirs/p", "Policy"], operator_policy: ["operators/theirs/o", "Policy"], limits: ["limits", "Limits"], cluster: ["cluster-name", "Cluster name"],
  };
  const found = [];
  for (const [name, [route, heading]] of Object.entries(visits)) {
    refused.clear();
    problems.length = 0;
    await page.goto(`${base}/#/${route}`);
    let wrong = [];
    try {
      await page.locator("#main h1", { hasText: heading }).first().waitFor({ timeout: 10_000 });
      // Their sections fold; what is in them is drawn when they open.
      await page.evaluate(() => [...document.querySelectorAll(".section-hidden > h2")].forEach((it) => it.click()));
      await page.waitForTimeout(300);
      const text = await page.locator("#main").innerText();
      wrong = text.split("\n").map((line) => line.trim()).filter((line) => /\bNaN\b|undefined|\[object Object\]|JS error/.test(line));
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
  await browser.close();
  await connection.close();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
