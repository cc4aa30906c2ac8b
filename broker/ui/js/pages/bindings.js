// Bindings of a queue or an exchange, drawn as From → key → To, and the form that adds one.

import { del, get, path, post } from "../api.js";
import { button, fill, h, link } from "../dom.js";
import { count, exchangeName, exchangePath } from "../format.js";
import { argumentsEditor, field, form, select, text } from "../forms.js";
import { attempt, confirm, definition, table } from "../parts.js";
import { to } from "../router.js";

/** More bindings than this are not drawn; the search narrows them down. */
const SHOWN = 200;

const letter = (binding) => (binding.destination_type === "queue" ? "q" : "e");

const sourceOf = (it) => (it.source === "" ? "(Default exchange binding)" : link(to("exchanges", it.vhost, exchangePath(it.source)), it.source));
const targetOf = (it) => link(it.destination_type === "queue" ? to("queues", it.vhost, it.destination) : to("exchanges", it.vhost, it.destination), it.destination, h("span", { class: "hint" }, ` ${it.destination_type}`));

const unbind = (it, done) => async () => {
  if (!await confirm("Unbind", `Remove the binding from ${exchangeName(it.source)} to ${it.destination} with the routing key "${it.routing_key}"?`, { label: "Unbind" })) return;
  if (await attempt(() => del(path("bindings", it.vhost, "e", exchangePath(it.source), letter(it), it.destination, it.properties_key)), "Unbound.")) await done();
};

/** A table of bindings with a search. `side` says which end is not the page's own: "source" or "destination". */
export function bindingTable(side, done) {
  const search = h("input", { type: "search", placeholder: "Filter bindings", "aria-label": "Filter bindings", oninput: () => draw() });
  const body = h("div");
  const bar = h("p", { hidden: true }, search);
  let all = [];
  function draw() {
    const wanted = search.value.toLowerCase();
    const fits = all.filter((it) => wanted === "" || [it.source, it.destination, it.routing_key].some((text) => text.toLowerCase().includes(wanted)));
    const columns = [
      side === "source" ? ["From", sourceOf] : ["To", targetOf],
      ["Routing key", (it) => h("code", {}, it.routing_key)],
      ["Arguments", (it) => definition(it.arguments)],
      ["", (it) => (it.source === "" ? "" : button("Unbind", unbind(it, done)))],
    ];
    fill(body, table("Bindings", columns, fits.slice(0, SHOWN), "no bindings"), fits.length > SHOWN ? h("p", { class: "hint" }, `${count(fits.length - SHOWN)} more: narrow them down with the filter.`) : null);
  }
  return {
    element: h("div", {}, bar, body),
    update(bindings) {
      if (JSON.stringify(bindings) === JSON.stringify(all) && body.childElementCount > 0) return;
      all = bindings;
      bar.hidden = all.length < 8;
      draw();
    },
  };
}

/** "From → This queue", or "This exchange → To". */
export const arrow = (text) => h("div", { class: "arrow" }, h("span", { "aria-hidden": "true" }, "⇓"), h("div", { class: "this" }, text));

/** Adds a binding from an exchange to this queue. */
export function bindToQueue(vhost, queue, done) {
  const source = text({ list: "exchange-names", required: true });
  const names = h("datalist", { id: "exchange-names" });
  source.addEventListener("focus", () => suggest(names, "exchanges", vhost), { once: true });
  const key = text();
  const editor = argumentsEditor("Arguments");
  const element = form([field("From exchange:", source, { required: true }), names, field("Routing key:", key), editor.element], "Bind", async () => {
    await post(path("bindings", vhost, "e", exchangePath(source.value), "q", queue), { routing_key: key.value, arguments: editor.value() });
    await done();
  }, { success: "Bound.", reset: true });
  element.addEventListener("emptied", () => editor.set({}));
  return h("div", {}, h("h3", {}, "Add binding to this queue"), element);
}

/** Adds a binding from this exchange to a queue or an exchange. */
export function bindFromExchange(vhost, exchange, done) {
  const type = select([["q", "To queue"], ["e", "To exchange"]]);
  const target = text({ list: "destination-names", required: true });
  const names = h("datalist", { id: "destination-names" });
  const follow = () => suggest(names, type.value === "q" ? "queues" : "exchanges", vhost);
  target.addEventListener("focus", follow, { once: true });
  type.addEventListener("change", follow);
  const key = text();
  const editor = argumentsEditor("Arguments");
  const element = form([field("Kind:", type), field("Destination:", target, { required: true }), names, field("Routing key:", key), editor.element], "Bind", async () => {
    await post(path("bindings", vhost, "e", exchangePath(exchange), type.value, target.value), { routing_key: key.value, arguments: editor.value() });
    await done();
  }, { success: "Bound.", reset: true });
  element.addEventListener("emptied", () => editor.set({}));
  return h("div", {}, h("h3", {}, "Add binding from this exchange"), element);
}

/** Offers the first names while somebody types. */
export async function suggest(datalist, kind, vhost) {
  try {
    const answer = await get(path(kind, vhost), { page: 1, page_size: 200, pagination: true, columns: "name" });
    fill(datalist, (answer.items ?? answer).filter((it) => it.name !== "").map((it) => h("option", { value: it.name })));
  } catch {
    // Without names the field is only a field.
  }
}
