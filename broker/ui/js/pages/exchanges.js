// Exchanges: the list, and a form for a new one.

import { vhostForm } from "../adding.js";
import { path, put } from "../api.js";
import { link } from "../dom.js";
import { cellRate, count, exchangeName, exchangePath } from "../format.js";
import { argumentsEditor, field, select, setOptions, text } from "../forms.js";
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
  const name = text({ maxlength: 255 });
  const type = select(["direct", "fanout", "headers", "topic"]);
  const durable = select([["true", "Durable"], ["false", "Transient"]]);
  const autoDelete = select(YES_NO);
  const internal = select(YES_NO);
  const editor = argumentsEditor("Arguments", [["Alternate exchange", "alternate-exchange", "string", "Messages that cannot be routed here go to this exchange instead."]]);
  const adding = vhostForm(app, {
    fields: [
      field("Name:", name, { required: true }), field("Type:", type), field("Durability:", durable),
      field("Auto delete:", autoDelete, { helpText: ["If yes, the exchange deletes itself after the last binding from it is gone."] }),
      field("Internal:", internal, { helpText: ["If yes, clients cannot publish to it: it is for bindings from other exchanges only."] }),
      editor.element,
    ],
    label: "Add exchange",
    async save(vhost) {
      await put(path("exchanges", vhost, name.value), { type: type.value, durable: durable.value === "true", auto_delete: autoDelete.value === "true", internal: internal.value === "true", arguments: editor.value() });
      await done();
    },
    success: "Exchange added.",
    emptied: () => editor.set({}),
  });
  return {
    element: adding.element,
    follow(overview) {
      adding.follow();
      const types = (overview.exchange_types ?? []).filter((it) => it.enabled !== false).map((it) => it.name).sort();
      if (types.length > 0) setOptions(type, types);
    },
  };
}
