// RabbitMQ's own management pages, from where Debian's package puts them, in front of our HTTP API: every page and
// form is opened. `node rabbitmq.js HTTP AMQP FOLDER` prints `ok PAGE`, and fails with what the pages missed.
"use strict";

const assert = require("node:assert/strict");
const amqp = require("amqplib");
const { api, launch } = require("./stage.js");
const { enter, look, send } = require("./theirs.js");

const [base, url, folder] = process.argv.slice(2);

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

  const browser = await launch();
  const stage = await enter(browser, base, folder);
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
  await look(stage, visits);
  const closed = new Promise((resolve) => { connection.on("close", resolve); });
  connection.on("error", () => {});
  await send(stage, forms(ask, connectionName));
  await closed;
  await browser.close();
}

/** Whether everything expected is there, whatever else is. */
function has(found, expected, what) {
  if (typeof expected !== "object") return assert.equal(found, expected, what);
  return Object.entries(expected).forEach(([key, value]) => has(found?.[key], value, `${what} ${key}`));
}

/** What is sent from their forms, in this order, and what has to come of it. */
function forms(ask, connection) {
  const gone = (target) => () => assert.rejects(ask("GET", target), /404/);
  const like = (target, expected) => async () => has(await ask("GET", target), expected, target);
  const put = (action) => `form[action="#/${action}"][method="put"]`;
  const post = (action) => `form[action="#/${action}"][method="post"]`;
  const remove = (action) => `form[action="#/${action}"][method="delete"]`;
  return {
    add_vhost: ["vhosts", put("vhosts"), { name: "made", description: "by their page", tags: "a,b" }, like("vhosts/made", { description: "by their page", tags: ["a", "b"] })],
    add_user: ["users", put("users-add"), { username: "clerk", password: "pw", password_confirm: "pw", tags: "management" }, like("users/clerk", { tags: ["management"] })],
    set_permission: ["users/clerk", put("permissions"), { vhost: "made", configure: "^c" }, like("permissions/made/clerk", { configure: "^c", write: ".*", read: ".*" })],
    set_topic_permission: ["users/clerk", put("topic-permissions"), { vhost: "made", exchange: "amq.topic", write: "^w" }, like("topic-permissions/made/clerk", [{ exchange: "amq.topic", write: "^w", read: ".*" }])],
    update_user: ["users/clerk", put("users-modify"), { password: "other", password_confirm: "other", tags: "monitoring" }, like("users/clerk", { tags: ["monitoring"] })],
    clear_topic_permission: ["users/clerk", remove("topic-permissions"), {}, gone("topic-permissions/made/clerk")],
    clear_permission: ["users/clerk", remove("permissions"), {}, gone("permissions/made/clerk")],
    add_exchange: ["exchanges", put("exchanges"), { vhost: "made", name: "x", type: "topic" }, like("exchanges/made/x", { type: "topic", durable: true, auto_delete: false })],
    add_queue: ["queues", put("queues"), { vhost: "made", name: "q", arguments_1_mfkey: "x-max-length", arguments_1_mfvalue: "10", arguments_1_mftype: "number" }, like("queues/made/q", { type: "classic", durable: true, arguments: { "x-max-length": 10 } })],
    bind: ["queues/made/q", post("bindings"), { source: "x", routing_key: "a.#" }, like("bindings/made/e/x/q/q", [{ routing_key: "a.#" }])],
    publish: ["exchanges/made/x", post("exchanges/publish"), { routing_key: "a.b", payload: "hello" }, like("queues/made/q", { messages: 1 })],
    publish_to_queue: ["queues/made/q", post("exchanges/publish"), { payload: "again" }, like("queues/made/q", { messages: 2 })],
    get: ["queues/made/q", post("queues/get"), { ackmode: "ack_requeue_false", count: "1" }, like("queues/made/q", { messages: 1 })],
    purge: ["queues/made/q", "form.confirm-purge-queue", {}, like("queues/made/q", { messages: 0 })],
    unbind: ["queues/made/q", remove("bindings"), {}, async () => assert.deepEqual(await ask("GET", "bindings/made/e/x/q/q"), [])],
    add_policy: ["policies", put("policies"), { vhost: "made", name: "p", pattern: "^q", priority: "3", definition_1_mfkey: "max-length", definition_1_mfvalue: "5", definition_1_mftype: "number" }, like("policies/made/p", { pattern: "^q", priority: 3, definition: { "max-length": 5 } })],
    add_operator_policy: ["policies", put("operator_policies"), { vhost: "made", name: "o", pattern: "^q", definitionop_1_mfkey: "max-length", definitionop_1_mfvalue: "4", definitionop_1_mftype: "number" }, like("operator-policies/made/o", { definition: { "max-length": 4 } })],
    delete_policy: ["policies/made/p", remove("policies"), {}, gone("policies/made/p")],
    set_vhost_limit: ["limits", put("limits"), { vhost: "made", name: "max-queues", value: "7" }, like("vhost-limits/made", [{ value: { "max-queues": 7 } }])],
    set_user_limit: ["limits", put("user-limits"), { user: "clerk", name: "max-channels", value: "9" }, like("user-limits/clerk", [{ value: { "max-channels": 9 } }])],
    rename_cluster: ["cluster-name", put("cluster-name"), { name: "theirs" }, like("cluster-name", { name: "theirs" })],
    reset: ["", remove("reset"), {}],
    close_connection: [`connections/${encodeURIComponent(connection)}`, remove("connections"), { reason: "by their page" }],
    delete_queue: ["queues/made/q", "form.confirm-queue", {}, gone("queues/made/q")],
    delete_exchange: ["exchanges/made/x", remove("exchanges"), {}, gone("exchanges/made/x")],
    delete_user: ["users/clerk", remove("users"), {}, gone("users/clerk")],
    delete_vhost: ["vhosts/made", remove("vhosts"), {}, gone("vhosts/made")],
  };
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
