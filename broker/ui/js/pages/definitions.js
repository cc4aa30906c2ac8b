// Export and import of definitions. An import says first what it would bring.

import { get, path, request } from "../api.js";
import { button, fill, h, uid } from "../dom.js";
import { plural } from "../format.js";
import { field, form, select, setOptions, text } from "../forms.js";
import { attempt, confirm, section, table } from "../parts.js";

export function definitions(app) {
  return [exporter(app), importer(app)];
}

const target = (vhost) => (vhost === "" ? path("definitions") : path("definitions", vhost));

/** A choice of all vhosts or one, whose options follow the node. */
function vhostChoice(app) {
  const choice = select([["", "All"]], {});
  const follow = () => setOptions(choice, [["", "All"], ...app.vhosts.map((name) => [name, name])]);
  choice.addEventListener("focus", follow);
  follow();
  return choice;
}

function exporter(app) {
  const day = new Date().toISOString().slice(0, 10);
  const file = text({ value: `definitions_${(app.overview?.node ?? "broker").replaceAll(/[^a-zA-Z0-9]/g, "_")}_${day}.json` });
  const vhost = vhostChoice(app);
  const save = async () => {
    const found = await get(target(vhost.value));
    const url = URL.createObjectURL(new Blob([JSON.stringify(found, null, 2)], { type: "application/json" }));
    h("a", { href: url, download: file.value || "definitions.json" }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
  };
  return section("export", "Export definitions", [
    h("p", {}, "Users, virtual hosts, permissions, parameters, exchanges, queues, bindings and policies. Messages are not part of it. The file holds the hashes of passwords: keep it safe."),
    form([field("Filename for download:", file), field("Virtual host:", vhost)], "Download broker definitions", save, { success: "Downloaded." }),
  ], { open: false }).element;
}

/** The lists of a definitions file and how an entry is told apart. */
const KINDS = {
  users: (it) => it.name,
  vhosts: (it) => it.name,
  permissions: (it) => `${it.user}@${it.vhost}`,
  topic_permissions: (it) => `${it.user}@${it.vhost}/${it.exchange}`,
  parameters: (it) => `${it.component}/${it.vhost}/${it.name}`,
  global_parameters: (it) => it.name,
  policies: (it) => `${it.vhost}/${it.name}`,
  queues: (it) => `${it.vhost}/${it.name}`,
  exchanges: (it) => `${it.vhost}/${it.name}`,
  bindings: (it) => `${it.vhost}/${it.source}/${it.destination_type}/${it.destination}/${it.routing_key}`,
};

/** What an import would do: per kind how many entries are new, changed or there already. */
export function difference(current, wanted) {
  return Object.entries(KINDS).filter(([kind]) => Array.isArray(wanted[kind]) && wanted[kind].length > 0).map(([kind, key]) => {
    const known = new Map((current[kind] ?? []).map((it) => [key(it), stable(it)]));
    const news = wanted[kind].filter((it) => !known.has(key(it))).map(key);
    const changed = wanted[kind].filter((it) => known.has(key(it)) && known.get(key(it)) !== stable(it)).map(key);
    return { kind, news, changed, same: wanted[kind].length - news.length - changed.length };
  });
}

/** JSON with its keys in order, so that equal things are equal texts. */
function stable(value) {
  if (Array.isArray(value)) return `[${value.map(stable).join(",")}]`;
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  return `{${Object.keys(value).sort().map((key) => `${JSON.stringify(key)}:${stable(value[key])}`).join(",")}}`;
}

function importer(app) {
  const id = uid("file");
  const file = h("input", { type: "file", id, accept: ".json,application/json" });
  const vhost = vhostChoice(app);
  const preview = h("div", { "aria-live": "polite" });
  const upload = button("Upload broker definitions", null, { class: "primary", disabled: true });
  let wanted = null;
  const look = async () => {
    wanted = null;
    upload.disabled = true;
    fill(preview);
    if (!file.files[0]) return;
    await attempt(async () => {
      try {
        wanted = JSON.parse(await file.files[0].text());
      } catch (error) {
        throw new Error(`${file.files[0].name} is not JSON: ${error.message}`);
      }
      // A file of one vhost names none in its entries.
      const own = vhost.value;
      const named = own === "" ? wanted : Object.fromEntries(Object.entries(wanted).map(([kind, list]) => [kind, Array.isArray(list) ? list.map((it) => ({ ...it, vhost: own })) : list]));
      const current = await get(target(own));
      const now = own === "" ? current : Object.fromEntries(Object.entries(current).map(([kind, list]) => [kind, Array.isArray(list) ? list.map((it) => ({ ...it, vhost: own })) : list]));
      const rows = difference(now, named);
      fill(preview, h("p", {}, wanted.rabbit_version || wanted.rabbitmq_version ? `Written by ${wanted.product_name ?? "RabbitMQ"} ${wanted.rabbitmq_version ?? wanted.rabbit_version}. ` : "", "Nothing has been changed yet. The upload would do this; what is not in the file stays as it is."),
        table("What the import would do", [["Kind", (it) => it.kind.replaceAll("_", " ")], ["New", (it) => names(it.news)], ["Changed", (it) => names(it.changed)], ["There already", (it) => it.same, "number"]], rows, "the file holds nothing that can be imported"));
      upload.disabled = rows.length === 0;
    });
  };
  file.addEventListener("change", look);
  vhost.addEventListener("change", look);
  upload.addEventListener("click", async () => {
    if (!await confirm("Import definitions", `Import ${file.files[0].name} into ${vhost.value === "" ? "the whole broker" : `virtual host ${vhost.value}`}?`, { label: "Import" })) return;
    upload.disabled = true;
    await attempt(() => request("POST", target(vhost.value), { body: wanted, seconds: 300 }), "Definitions imported.");
    await look();
    app.refresh();
  });
  return section("import", "Import definitions", [
    h("div", { class: "form" }, h("div", { class: "field" }, h("label", { htmlFor: id }, "Definitions file:"), h("div", { class: "control" }, file)), field("Virtual host:", vhost), preview, h("div", { class: "actions" }, upload)),
  ], { open: false }).element;
}

function names(list) {
  if (list.length === 0) return "—";
  const first = list.slice(0, 5).join(", ");
  return `${plural(list.length, "entry").replace("entrys", "entries")}: ${first}${list.length > 5 ? " …" : ""}`;
}
