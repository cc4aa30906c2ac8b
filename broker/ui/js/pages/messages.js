// The messages of a queue: look without touching, get, send dead letters back, move.

import { path, post } from "../api.js";
import { button, fill, h } from "../dom.js";
import { bytes, count, duration, exchangeName, plural, time } from "../format.js";
import { field, form, number, select, text } from "../forms.js";
import { confirm, definition, section } from "../parts.js";
import { suggest } from "./bindings.js";

const PAGE = 20;
const TRUNCATE = 50_000;

export function messageSections(vhost, name, refresh) {
  return [
    section("queue-peek", "Look at messages", peek(vhost, name), { open: false }).element,
    section("queue-get", "Get messages", getForm(vhost, name, refresh), { open: false }).element,
    section("queue-requeue", "Requeue dead letters", requeueForm(vhost, name, refresh), { open: false }).element,
    section("queue-move", "Move messages", moveForm(vhost, name, refresh), { open: false }).element,
  ];
}

function peek(vhost, name) {
  const shown = h("div", { "aria-live": "polite" });
  const back = button("‹ Before", () => turn(-PAGE));
  const next = button("After ›", () => turn(PAGE));
  const pages = h("p", { hidden: true }, back, " ", next);
  let offset = 0;
  async function look() {
    const found = await post(path("queues", vhost, name, "peek"), { count: PAGE, offset, encoding: "auto", truncate: TRUNCATE });
    pages.hidden = found.length < PAGE && offset === 0;
    back.disabled = offset === 0;
    next.disabled = found.length < PAGE;
    fill(shown, found.length === 0 ? h("p", { class: "empty" }, offset === 0 ? "… no ready messages …" : "… no more …") : found.map((it, index) => message(it, (it.position ?? offset + index) + 1, "Position")));
  }
  function turn(by) {
    offset = Math.max(0, offset + by);
    element.requestSubmit();
  }
  const element = form([h("p", {}, "Nothing changes: no order, no redelivered flag, no counter. Ready messages only.")], "Look", look);
  return [element, shown, pages];
}

const MODES = [
  ["ack_requeue_true", "Nack message requeue true"],
  ["ack_requeue_false", "Automatic ack"],
  ["reject_requeue_true", "Reject requeue true"],
  ["reject_requeue_false", "Reject requeue false"],
];

function getForm(vhost, name, refresh) {
  const mode = select(MODES);
  const encoding = select([["auto", "Auto string / base64"], ["base64", "base64"]]);
  const howMany = number({ value: 1, min: 1, max: 1000 });
  const shown = h("div", { "aria-live": "polite" });
  const element = form([
    h("p", { class: "warn-text" }, "Warning: getting messages from a queue is a destructive action: it changes their order and marks them as redelivered. \"Look at messages\" does not."),
    field("Ack Mode:", mode, { helpText: ["Nack and reject with requeue put the messages back.", "Automatic ack removes them.", "Reject without requeue drops or dead letters them."] }),
    field("Encoding:", encoding), field("Messages:", howMany),
  ], "Get Message(s)", async () => {
    const removes = mode.value === "ack_requeue_false" || mode.value === "reject_requeue_false";
    if (removes && !await confirm("Get messages", `This removes ${plural(Number(howMany.value), "message")} from ${name}.`, { label: "Get" })) return;
    const found = await post(path("queues", vhost, name, "get"), { count: Number(howMany.value), ackmode: mode.value, encoding: encoding.value, truncate: TRUNCATE });
    fill(shown, found.length === 0 ? h("p", { class: "empty" }, "… queue is empty …") : [
      h("p", {}, `${plural(found.length, "message")}; ${count(found[found.length - 1].message_count)} left behind the last one.`),
      found.map((it, index) => message(it, index + 1, "Message")),
    ]);
    await refresh();
  });
  return [element, shown];
}

function requeueForm(vhost, name, refresh) {
  const howMany = number({ min: 1, placeholder: "all" });
  const result = h("p", { "aria-live": "polite" });
  return [form([
    h("p", {}, "Sends dead letters back to the queue in which each died last. Messages without a history, or whose queue is gone, stay."),
    field("Messages:", howMany),
  ], "Requeue to source", async () => {
    if (!await confirm("Requeue dead letters", `Send ${howMany.value === "" ? "all" : howMany.value} dead letters of ${name} back to where they came from?`, { label: "Requeue" })) return;
    const told = await post(path("queues", vhost, name, "requeue"), howMany.value === "" ? {} : { count: Number(howMany.value) }, { seconds: 300 });
    const targets = Object.entries(told.targets ?? {}).map(([queue, moved]) => `${count(moved)} to ${queue}`).join(", ");
    result.textContent = `${plural(told.moved ?? 0, "message")} sent back${targets ? ` (${targets})` : ""}, ${count(told.skipped ?? 0)} left here.`;
    await refresh();
  }), result];
}

function moveForm(vhost, name, refresh) {
  const target = text({ list: "move-names" });
  const names = h("datalist", { id: "move-names" });
  target.addEventListener("focus", () => suggest(names, "queues", vhost), { once: true });
  const howMany = number({ min: 1, placeholder: "all" });
  const result = h("p", { "aria-live": "polite" });
  return [form([h("p", {}, "Moves ready messages to another queue of this virtual host, oldest first. Each leaves this queue when the other has it."), field("Destination queue:", target, { required: true }), names, field("Messages:", howMany)], "Move messages", async () => {
    if (!await confirm("Move messages", `Move ${howMany.value === "" ? "all ready" : howMany.value} messages from ${name} to ${target.value}?`, { label: "Move" })) return;
    const told = await post(path("queues", vhost, name, "move"), { destination: target.value, ...(howMany.value === "" ? {} : { count: Number(howMany.value) }) }, { seconds: 300 });
    result.textContent = `${plural(told.moved ?? 0, "message")} moved to ${target.value}${told.refused ? `, ${count(told.refused)} refused by it` : ""}.`;
    await refresh();
  }), result];
}

/** One message: where it came from, its way through dead letter exchanges, properties, and the body in three views. */
function message(it, position, word) {
  const properties = Array.isArray(it.properties) ? {} : { ...it.properties };
  const headers = { ...(properties.headers ?? {}) };
  const deaths = Array.isArray(headers["x-death"]) ? headers["x-death"] : [];
  delete headers["x-death"];
  delete properties.headers;
  const labels = [["Exchange", exchangeName(it.exchange)], ["Routing Key", h("code", {}, it.routing_key)], ["Redelivered", it.redelivered ? "●" : "○"]];
  if (typeof it.age_ms === "number") labels.push(["Age", duration(it.age_ms)]);
  if (deaths.length > 0) labels.push(["Way here", deathPath(deaths)]);
  labels.push(["Properties", definition(properties) || "none"], ["Headers", definition(headers) || "none"]);
  return h("article", { class: "message" }, h("h3", {}, `${word} ${count(position)}`), definitionList(labels), payload(it));
}

const definitionList = (entries) => h("dl", { class: "facts" }, entries.map(([label, value]) => h("div", {}, h("dt", {}, label), h("dd", {}, value))));

/** "orders → (expired, 2×) → dlx_queue": the entries of x-death, oldest first. */
export function deathPath(deaths) {
  const oldestFirst = [...deaths].reverse();
  return h("span", { class: "death" }, oldestFirst.map((death, index) => [
    index > 0 ? " → " : "",
    h("span", { class: "step" }, death.queue ?? "?"),
    h("span", { class: "via", title: `exchange ${exchangeName(death.exchange)}, routing keys ${(death["routing-keys"] ?? []).join(", ")}${death.time ? `, ${time(Number(death.time) * 1000)}` : ""}` }, ` → (${death.reason ?? "?"}${death.count > 1 ? `, ${count(death.count)}×` : ""})`),
  ]), " → here");
}

function payload(it) {
  const box = h("pre", { class: "payload-text", tabindex: "0", "aria-label": "Payload" });
  const views = [["Text", () => asText(it)], ["JSON", () => asJson(it)], ["Hex", () => asHex(it)]].filter(([label]) => label !== "JSON" || asJson(it) !== null);
  const preferred = views.some(([label]) => label === "JSON") ? "JSON" : it.payload_encoding === "base64" ? "Hex" : "Text";
  const buttons = views.map(([label, view]) => button(label, () => show(label, view), { class: "chip" }));
  function show(label, view) {
    box.textContent = view();
    buttons.forEach((it) => it.setAttribute("aria-pressed", String(it.textContent === label)));
  }
  show(...views.find(([label]) => label === preferred));
  const shownBytes = octets(it).length;
  return h("div", { class: "payload-box" }, h("div", { class: "payload-head" }, h("strong", {}, "Payload"), ` ${bytes(it.payload_bytes)}${shownBytes < it.payload_bytes ? `, the first ${bytes(shownBytes)} shown` : ""} `, buttons), box);
}

function octets(it) {
  if (it.payload_encoding !== "base64") return new TextEncoder().encode(it.payload);
  try {
    return Uint8Array.from(atob(it.payload), (letter) => letter.charCodeAt(0));
  } catch {
    return new TextEncoder().encode(it.payload);
  }
}

const asText = (it) => (it.payload_encoding === "base64" ? new TextDecoder("utf-8").decode(octets(it)) : it.payload);

function asJson(it) {
  try {
    const value = JSON.parse(asText(it));
    return typeof value === "object" && value !== null ? JSON.stringify(value, null, 2) : null;
  } catch {
    return null;
  }
}

/** Sixteen octets in a line: offset, hex, letters. */
function asHex(it) {
  const all = octets(it).slice(0, 4096);
  const lines = [];
  for (let at = 0; at < all.length; at += 16) {
    const part = [...all.slice(at, at + 16)];
    const hex = part.map((octet) => octet.toString(16).padStart(2, "0")).join(" ");
    const letters = part.map((octet) => (octet >= 32 && octet < 127 ? String.fromCharCode(octet) : ".")).join("");
    lines.push(`${at.toString(16).padStart(6, "0")}  ${hex.padEnd(47)}  ${letters}`);
  }
  return lines.join("\n");
}
