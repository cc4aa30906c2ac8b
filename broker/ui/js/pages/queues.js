// Queues: the list, what can be done to several at once, and the form for a new one.

import { vhostForm } from "../adding.js";
import { del, path, post, put } from "../api.js";
import { h, link } from "../dom.js";
import { bytes, cellRate, count, detailRate, plural, rate } from "../format.js";
import { argumentsEditor, field, select, text } from "../forms.js";
import { copies, features } from "../features.js";
import { List, ofOneNode } from "../list.js";
import { attempt, confirm, dialog, section, state } from "../parts.js";
import { to } from "../router.js";

const published = (it) => it.message_stats;

const columns = [
  { id: "vhost", label: "Virtual host", group: "Overview", sort: "vhost", cell: (it) => it.vhost },
  { id: "name", label: "Name", group: "Overview", sort: "name", cell: (it) => link(to("queues", it.vhost, it.name), it.name) },
  { id: "node", label: "Node", group: "Overview", sort: "node", cell: (it) => [it.node, " ", copies(it)], off: ofOneNode },
  { id: "type", label: "Type", group: "Overview", sort: "type", cell: (it) => it.type },
  { id: "features", label: "Features", group: "Overview", cell: (it) => [features(it), ofOneNode([]) ? copies(it) : null] },
  { id: "consumers", label: "Consumers", group: "Overview", sort: "consumers", cell: (it) => count(it.consumers), kind: "number", off: true },
  { id: "capacity", label: "Consumer capacity", group: "Overview", sort: "consumer_capacity", cell: (it) => (typeof it.consumer_capacity === "number" ? `${Math.round(it.consumer_capacity * 100)}%` : ""), kind: "number", off: true },
  { id: "state", label: "State", group: "Overview", sort: "state", cell: (it) => queueState(it) },
  { id: "ready", label: "Ready", group: "Messages", sort: "messages_ready", cell: (it) => count(it.messages_ready), kind: "number" },
  { id: "unacked", label: "Unacked", group: "Messages", sort: "messages_unacknowledged", cell: (it) => count(it.messages_unacknowledged), kind: "number" },
  { id: "total", label: "Total", group: "Messages", sort: "messages", cell: (it) => count(it.messages), kind: "number" },
  { id: "growth", label: "Growth", group: "Messages", sort: "messages_details.rate", cell: (it) => growth(detailRate(it, "messages")), kind: "number", off: true },
  { id: "bytes", label: "Bytes", group: "Messages", sort: "message_bytes", cell: (it) => bytes(it.message_bytes), kind: "number", off: true },
  { id: "in", label: "incoming", group: "Message rates", sort: "message_stats.publish_details.rate", cell: (it) => cellRate(published(it), "publish"), kind: "number" },
  { id: "out", label: "deliver / get", group: "Message rates", sort: "message_stats.deliver_get_details.rate", cell: (it) => cellRate(published(it), "deliver_get"), kind: "number" },
  { id: "redelivered", label: "redelivered", group: "Message rates", sort: "message_stats.redeliver_details.rate", cell: (it) => cellRate(published(it), "redeliver"), kind: "number", off: true },
  { id: "ack", label: "ack", group: "Message rates", sort: "message_stats.ack_details.rate", cell: (it) => cellRate(published(it), "ack"), kind: "number" },
];

/** What the columns above read: the node sends nothing else. */
const FIELDS = ["name", "vhost", "node", "type", "durable", "auto_delete", "exclusive", "arguments", "policy", "operator_policy", "effective_policy_definition", "state", "idle_since", "paused", "consumers", "consumer_capacity", "messages", "messages_details", "messages_ready", "messages_unacknowledged", "message_bytes", "copies",
  ...["publish", "deliver_get", "redeliver", "ack"].map((it) => `message_stats.${it}_details.rate`)];

export function queueState(it) {
  if (it.paused) return state("paused", "Consumers get nothing until it is resumed");
  if (it.idle_since) return state("idle", `Idle since ${it.idle_since}`);
  return state(it.state);
}

const growth = (value) => (value ? `${value > 0 ? "+" : ""}${rate(value)}` : "");

const CHIPS = [
  { id: "messages", label: "has messages", title: "Queues with messages", where: "messages>0" },
  { id: "no_consumers", label: "no consumers", title: "Queues that nobody consumes", where: "consumers=0" },
  { id: "unsynchronised", label: "unsynchronised", title: "Queues of which a copy is missing", where: "unsynchronised_copies>0" },
  { id: "dlx", label: "DLX", title: "Queues with a dead letter exchange", where: "arguments.x-dead-letter-exchange|effective_policy_definition.dead-letter-exchange" },
];

/** What the "Add" links of the form offer: label, argument, type, explanation. */
const QUICK = [
  ["Auto expire", "x-expires", "number", "After how many milliseconds without use the queue is deleted."],
  ["Message TTL", "x-message-ttl", "number", "After how many milliseconds a message is dropped or dead lettered."],
  ["Overflow behaviour", "x-overflow", "string", "What happens to a full queue: drop-head, reject-publish or reject-publish-dlx."],
  ["Single active consumer", "x-single-active-consumer", "boolean", "Only one consumer at a time gets messages; the next takes over when it goes."],
  ["Dead letter exchange", "x-dead-letter-exchange", "string", "Where messages go that are rejected, expire or are pushed out."],
  ["Dead letter routing key", "x-dead-letter-routing-key", "string", "With which routing key; without, with the message's own."],
  ["Max length", "x-max-length", "number", "How many ready messages the queue holds."],
  ["Max length bytes", "x-max-length-bytes", "number", "How many octets of ready messages the queue holds."],
];
const CLASSIC = [["Maximum priority", "x-max-priority", "number", "How many priorities the queue tells apart; up to 10 is wise."], ["Lazy mode", "x-queue-mode", "string", "lazy keeps as much as possible on disk."]];
const QUORUM = [["Delivery limit", "x-delivery-limit", "number", "How often a message is delivered before it is dropped or dead lettered."], ["Initial cluster size", "x-quorum-initial-group-size", "number", "On how many nodes the queue starts."]];

export function queues(root, params, app) {
  const list = new List({
    id: "queues", label: "Queues", noun: "queues", columns, fields: FIELDS, chips: CHIPS, key: (it) => `${it.vhost} ${it.name}`,
    path: () => (app.vhost === "" ? path("queues") : path("queues", app.vhost)),
    actions: bulkActions(),
    onTotal: (total) => all.setTitle(`All queues (${count(total)})`),
    rowKind: (it) => (it.messages_ready > 0 && it.consumers === 0 ? "waiting" : ""),
  });
  const all = section("queues", "All queues", list.element);
  const add = addForm(app, () => list.refresh());
  root.append(all.element, section("add-queue", "Add a new queue", add.element, { open: false }).element);
  return { refresh: () => list.refresh(), overview: add.follow };
}

function bulkActions() {
  const each = async (rows, work, success) => attempt(() => Promise.all(rows.map(work)), success);
  return [
    { label: "Purge", danger: true, run: async (rows) => {
      const messages = rows.reduce((sum, it) => sum + (it.messages_ready ?? 0), 0);
      if (!await confirm("Purge", `Drop the ${count(messages)} ready messages of ${plural(rows.length, "queue")}? They cannot be brought back.`, { label: "Purge", typed: "purge" })) return false;
      return each(rows, (it) => del(path("queues", it.vhost, it.name, "contents")), "Purged.");
    } },
    { label: "Delete", danger: true, run: async (rows) => {
      if (!await confirm("Delete", `Delete ${plural(rows.length, "queue")} with everything in them? ${rows.slice(0, 10).map((it) => it.name).join(", ")}${rows.length > 10 ? " …" : ""}`, { label: "Delete", typed: "delete" })) return false;
      return each(rows, (it) => del(path("queues", it.vhost, it.name)), "Deleted.");
    } },
    { label: "Move messages", run: async (rows) => {
      const target = await askTarget(rows);
      return target ? each(rows, (it) => post(path("queues", it.vhost, it.name, "move"), { destination: target }), `Messages moved to ${target}.`) : false;
    } },
    { label: "Pause", run: (rows) => each(rows, (it) => put(path("queues", it.vhost, it.name, "pause")), "Paused: consumers get nothing until resumed.") },
    { label: "Resume", run: (rows) => each(rows, (it) => del(path("queues", it.vhost, it.name, "pause")), "Resumed.") },
  ];
}

function askTarget(rows) {
  const hosts = new Set(rows.map((it) => it.vhost));
  if (hosts.size > 1) return attempt(() => Promise.reject(new Error("Messages are moved within one virtual host: select queues of one."))).then(() => null);
  return dialog("Move messages", (close) => {
    const target = text({ required: true });
    return h("form", { onsubmit: (event) => { event.preventDefault(); close(target.value); } }, h("p", {}, `All ready messages of ${plural(rows.length, "queue")} go to:`), field("Destination queue:", target, { required: true }),
      h("div", { class: "actions" }, h("button", { type: "button", onclick: () => close(null) }, "Cancel"), h("button", { type: "submit", class: "primary" }, "Move")));
  });
}

function addForm(app, done) {
  const type = select([["classic", "Classic"], ["quorum", "Quorum"]], { onchange: () => draw() });
  const name = text({ maxlength: 255 });
  const durable = select([["true", "Durable"], ["false", "Transient"]]);
  const autoDelete = select([["false", "No"], ["true", "Yes"]]);
  const classicOnly = h("div", {}, field("Durability:", durable), field("Auto delete:", autoDelete, { helpText: ["If yes, the queue deletes itself after its last consumer is gone."] }));
  const place = h("div");
  let editor = null;
  function draw() {
    const quorum = type.value === "quorum";
    const before = editor ? safely(() => editor.value()) : {};
    editor = argumentsEditor("Arguments", [...QUICK, ...(quorum ? QUORUM : CLASSIC)]);
    editor.set(before);
    place.replaceChildren(editor.element);
    classicOnly.hidden = quorum;
  }
  draw();
  return vhostForm(app, {
    fields: [
      field("Type:", type, { helpText: ["Classic: one copy, or mirrored by a policy.", "Quorum: replicated over several nodes, always durable; a message is confirmed when a majority has it."] }),
      field("Name:", name, { required: true }), classicOnly, place,
    ],
    label: "Add queue",
    async save(vhost) {
      const quorum = type.value === "quorum";
      await put(path("queues", vhost, name.value), {
        durable: quorum || durable.value === "true",
        auto_delete: !quorum && autoDelete.value === "true",
        arguments: { ...editor.value(), "x-queue-type": type.value },
      });
      await done();
    },
    success: "Queue added.",
    emptied() { editor.set({}); draw(); },
  });
}

function safely(work) {
  try {
    return work();
  } catch {
    return {};
  }
}
