// Policies and operator policies: lists, an editor that shows what it matches before it is saved, and one by itself.

import { vhostForm } from "../adding.js";
import { del, get, path, put } from "../api.js";
import { button, fill, h, link } from "../dom.js";
import { argumentsEditor, field, form, select, text } from "../forms.js";
import { List } from "../list.js";
import { preview } from "../matches.js";
import { attempt, confirm, definition, facts, section } from "../parts.js";
import { go, to } from "../router.js";

const KINDS = {
  policies: { page: "policies", title: "User policies", add: "Add / update a policy", label: "Add / update policy", done: "Policy set." },
  "operator-policies": { page: "operators", title: "Operator policies", add: "Add / update an operator policy", label: "Add / update operator policy", done: "Operator policy set." },
};

/** What the "Add" links offer: label, key, type, explanation. */
const QUEUE = [
  ["Message TTL", "message-ttl", "number", "After how many milliseconds messages are dropped or dead lettered."],
  ["Auto expire", "expires", "number", "After how many milliseconds without use a queue is deleted."],
  ["Max length", "max-length", "number", "How many ready messages a queue holds."],
  ["Max length bytes", "max-length-bytes", "number", "How many octets of ready messages a queue holds."],
  ["Overflow behaviour", "overflow", "string", "drop-head, reject-publish or reject-publish-dlx."],
  ["Delivery limit", "delivery-limit", "number", "Quorum queues: how often a message is delivered at most."],
];
const USER = [
  ...QUEUE,
  ["Dead letter exchange", "dead-letter-exchange", "string", "Where rejected and expired messages go."],
  ["Dead letter routing key", "dead-letter-routing-key", "string", "With which routing key; without, with their own."],
  ["HA mode", "ha-mode", "string", "Mirrors: all, exactly or nodes."],
  ["HA params", "ha-params", "number", "How many mirrors for exactly; a list of nodes for nodes."],
  ["HA sync mode", "ha-sync-mode", "string", "manual or automatic."],
  ["HA mirror promotion on shutdown", "ha-promote-on-shutdown", "string", "when-synced, or always: a mirror that lacks messages may take over from a node that is stopped."],
  ["HA mirror promotion on failure", "ha-promote-on-failure", "string", "when-synced, or always: a mirror that lacks messages may take over from a node that died."],
  ["HA minimum in sync", "ha-min-in-sync", "number", "With fewer copies in sync, publishes are refused."],
  ["Leader locator", "queue-leader-locator", "string", "Where new queues start: client-local or balanced."],
  ["Alternate exchange", "alternate-exchange", "string", "Exchanges: where unroutable messages go."],
];

/** An empty pattern fits every name. */
const EVERYTHING = "The pattern is a regular expression; ^ starts at the beginning of the name.";

export function policies(root, params, app) {
  const parts = Object.keys(KINDS).map((kind) => half(root, app, kind));
  return {
    overview: () => parts.forEach((part) => part.follow()),
    refresh: () => Promise.all(parts.map((part) => part.refresh())),
  };
}

function half(root, app, kind) {
  const own = KINDS[kind];
  const editor = policyForm(app, kind, () => list.refresh());
  const remove = (it) => async () => {
    if (!await confirm("Clear", `Remove the policy ${it.name} from ${it.vhost}? What it set is undone at once.`, { label: "Clear" })) return;
    if (await attempt(() => del(path(kind, it.vhost, it.name)), "Policy cleared.")) list.refresh();
  };
  const list = new List({
    id: kind, label: own.title, noun: "policies", here: true, key: (it) => `${it.vhost} ${it.name}`,
    columns: [
      { id: "vhost", label: "Virtual Host", sort: "vhost", cell: (it) => it.vhost },
      { id: "name", label: "Name", sort: "name", cell: (it) => link(to(own.page, it.vhost, it.name), it.name) },
      { id: "pattern", label: "Pattern", sort: "pattern", cell: (it) => h("code", {}, it.pattern) },
      { id: "apply", label: "Apply to", sort: "apply-to", cell: (it) => it["apply-to"] },
      { id: "definition", label: "Definition", cell: (it) => definition(it.definition) },
      { id: "priority", label: "Priority", sort: "priority", cell: (it) => it.priority, kind: "number" },
      { id: "clear", label: "", cell: (it) => [button("Edit", () => { add.element.open = true; editor.edit(it); }), " ", button("Clear", remove(it))] },
    ],
    read: async () => (await get(app.vhost === "" ? path(kind) : path(kind, app.vhost))),
  });
  const add = section(`add-${kind}`, own.add, editor.element, { open: false });
  root.append(section(kind, own.title, list.element).element, add.element);
  return { refresh: () => list.refresh(), follow: editor.follow };
}

/** Which kinds of names "apply to" means. */
const affected = (apply) => (apply === "exchanges" ? ["exchanges"] : apply === "all" ? ["queues", "exchanges"] : ["queues"]);

function policyForm(app, kind, done) {
  const own = KINDS[kind];
  const name = text({ maxlength: 255 });
  const pattern = text({ value: "^" });
  const apply = select(kind === "policies"
    ? [["all", "Exchanges and queues"], ["exchanges", "Exchanges"], ["queues", "Queues"], ["classic_queues", "Classic queues"], ["quorum_queues", "Quorum queues"]]
    : [["queues", "Queues"], ["classic_queues", "Classic queues"], ["quorum_queues", "Quorum queues"]]);
  const priority = h("input", { type: "number", value: 0, step: 1 });
  const editor = argumentsEditor("Definition", kind === "policies" ? USER : QUEUE);
  const matches = preview(["queues", "exchanges"], EVERYTHING);
  let looked = null;
  const adding = vhostForm(app, {
    fields: [
      field("Name:", name, { required: true }), field("Pattern:", pattern, { required: true, hint: matches.element }),
      field("Apply to:", apply), field("Priority:", priority, { helpText: ["Of several policies that match, the one with the highest priority applies."] }), editor.element,
    ],
    label: own.label,
    async save(vhost) {
      const value = editor.value();
      if (Object.keys(value).length === 0) throw new Error("The definition is empty: add at least one setting.");
      await put(path(kind, vhost, name.value), { pattern: pattern.value, "apply-to": apply.value, priority: Number(priority.value) || 0, definition: value });
      await done();
    },
    success: own.done,
    emptied() { editor.set({}); look(); },
  });
  const { element, vhost } = adding;
  const look = () => matches.show(vhost.value, pattern.value, { only: affected(apply.value) });
  for (const control of [pattern, apply, vhost]) control.addEventListener("input", look);
  return {
    element,
    follow() {
      adding.follow();
      if (looked !== vhost.value) { looked = vhost.value; look(); }
    },
    edit(it) {
      vhost.value = it.vhost;
      name.value = it.name;
      pattern.value = it.pattern;
      apply.value = it["apply-to"];
      priority.value = it.priority ?? 0;
      editor.set(it.definition);
      look();
      pattern.focus();
    },
  };
}

export function policy(root, { vhost, name }, app, kind) {
  const about = h("div");
  const matches = preview(["queues", "exchanges"], EVERYTHING);
  root.append(
    section("policy", "Overview", about).element,
    section("policy-matches", "What the pattern matches", [matches.element, h("p", { class: "hint" }, "A matching name may have another policy with a higher priority.")]).element,
    section("policy-delete", "Delete this policy", form([h("p", {}, "What it set is undone at once.")], "Delete", async () => {
      if (!await confirm("Delete policy", `Delete the policy ${name}?`, { label: "Delete" })) return;
      await del(path(kind, vhost, name));
      go("policies");
    }, { danger: true }), { open: false }).element,
  );
  return {
    async refresh() {
      const it = await get(path(kind, vhost, name));
      fill(about, facts([["Pattern", h("code", {}, it.pattern)], ["Apply to", it["apply-to"]], ["Definition", definition(it.definition)], ["Priority", String(it.priority)]]));
      matches.show(vhost, it.pattern, { only: affected(it["apply-to"]) });
    },
  };
}

