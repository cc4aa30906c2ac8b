// Exchanges: the list, and a form for a new one.

import { path, put } from "../api.js";
import { h, link } from "../dom.js";
import { cellRate, count, exchangeName, exchangePath } from "../format.js";
import { argumentsEditor, field, form, select, setOptions, text } from "../forms.js";
import { features } from "../features.js";
import { List } from "../list.js";
import { section } from "../parts.js";
import { to } from "../router.js";

const columns = [
  { id: "vhost", label: "Virtual host", sort: "vhost", cell: (it) => it.vhost },
  { id: "name", label: "Name", sort: "name", cell: (it) => link(to("exchanges", it.vhost, exchangePath(it.name)), exchangeName(it.name)) },
  { id: "type", label: "Type", sort: "type", cell: (it) => it.type },
  { id: "features", label: "Features", cell: features },
  { id: "in", label: "Message rate in", sort: "message_stats.publish_in_details.rate", cell: (it) => cellRate(it.message_stats, "publish_in"), kind: "number" },
  { id: "out", label: "Message rate out", sort: "message_stats.publish_out_details.rate", cell: (it) => cellRate(it.message_stats, "publish_out"), kind: "number" },
];

/** The vhost that a form starts with: the chosen one, or the first. */
export const firstVhost = (app) => app.vhost || (app.vhosts.includes("/") ? "/" : app.vhosts[0]) || "/";

/** A choice of a vhost that keeps up with the node. */
export function vhostField(app, props = {}) {
  const choice = select([firstVhost(app)], { ...props, dataset: { keep: "" } });
  const follow = () => { if (app.vhosts.length > 0) setOptions(choice, app.vhosts, choice.value || firstVhost(app)); };
  follow();
  choice.addEventListener("focus", follow);
  return { choice, follow };
}

const YES_NO = [["false", "No"], ["true", "Yes"]];

export function exchanges(root, params, app) {
  const list = new List({
    id: "exchanges", label: "Exchanges", noun: "exchanges", columns, key: (it) => `${it.vhost} ${it.name}`, name: (it) => exchangeName(it.name),
    path: () => (app.vhost === "" ? path("exchanges") : path("exchanges", app.vhost)),
    onTotal: (total) => all.setTitle(`All exchanges (${count(total)})`),
  });
  const all = section("exchanges", "All exchanges", list.element);
  const add = addForm(app, () => list.refresh());
  root.append(all.element, section("add-exchange", "Add a new exchange", add.element, { open: false }).element);
  return { refresh: () => list.refresh(), overview: add.follow };
}

function addForm(app, done) {
  const vhost = vhostField(app);
  const name = text({ maxlength: 255 });
  const type = select(["direct", "fanout", "headers", "topic"]);
  const durable = select([["true", "Durable"], ["false", "Transient"]]);
  const autoDelete = select(YES_NO);
  const internal = select(YES_NO);
  const editor = argumentsEditor("Arguments", [["Alternate exchange", "alternate-exchange", "string", "Messages that cannot be routed here go to this exchange instead."]]);
  const element = form([
    field("Virtual host:", vhost.choice), field("Name:", name, { required: true }), field("Type:", type), field("Durability:", durable),
    field("Auto delete:", autoDelete, { helpText: ["If yes, the exchange deletes itself after the last binding from it is gone."] }),
    field("Internal:", internal, { helpText: ["If yes, clients cannot publish to it: it is for bindings from other exchanges only."] }),
    editor.element,
  ], "Add exchange", async () => {
    await put(path("exchanges", vhost.choice.value, name.value), { type: type.value, durable: durable.value === "true", auto_delete: autoDelete.value === "true", internal: internal.value === "true", arguments: editor.value() });
    await done();
  }, { success: () => "Exchange added.", reset: true });
  element.addEventListener("emptied", () => { editor.set({}); vhost.follow(); });
  return {
    element: h("div", {}, element),
    follow(overview) {
      vhost.follow();
      const types = (overview.exchange_types ?? []).filter((it) => it.enabled !== false).map((it) => it.name).sort();
      if (types.length > 0) setOptions(type, types);
    },
  };
}
