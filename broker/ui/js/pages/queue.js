// One queue: charts, details, consumers, bindings, and everything that can be done with its messages.

import { del, get, path, post, put } from "../api.js";
import { button, fill, h, link } from "../dom.js";
import { chart, samplesQuery } from "../chart.js";
import { bytes, count, percent, plural, shortConnection } from "../format.js";
import { form, check } from "../forms.js";
import { copiesOf, featureList, policyFacts } from "../features.js";
import { attempt, badge, confirm, facts, scroll, section } from "../parts.js";
import { LENGTHS, QUEUE } from "../rates.js";
import { go, to } from "../router.js";
import { arrow, bindToQueue, bindingTable } from "./bindings.js";
import { consumerTable } from "./consumers.js";
import { messageSections } from "./messages.js";
import { rangeChooser } from "./overview.js";
import { publishForm } from "./publish.js";
import { queueState } from "./queues.js";

export function queue(root, { vhost, name }, app) {
  const target = path("queues", vhost, name);
  const refresh = () => app.refresh();
  const lengths = chart({ title: "Queued messages", lines: LENGTHS, unit: "count" });
  const rates = chart({ title: "Message rates", lines: QUEUE, unit: "rate" });
  const about = h("div", { class: "details" });
  const consumers = h("div");
  const advice = h("p", { class: "advice", hidden: true });
  const pause = button("Pause", null);
  const pauseText = h("p", {}, "");
  const bindings = bindingTable("source", refresh);
  const consuming = section("queue-consumers", "Consumers", consumers);
  const bound = section("queue-bindings", "Bindings", [bindings.element, arrow("This queue"), bindToQueue(vhost, name, refresh)]);
  const copies = h("div");
  const mirrored = section("queue-copies", "Mirrors", copies);
  const act = async (action, done) => { await attempt(() => post(`${target}/actions`, { action }), done); refresh(); };
  let it = null;
  pause.addEventListener("click", async () => {
    const paused = it?.paused === true;
    await attempt(() => (paused ? del(`${target}/pause`) : put(`${target}/pause`)), paused ? "Resumed." : "Paused: consumers get nothing until resumed.");
    refresh();
  });
  const unused = check("Only if unused");
  const empty = check("Only if empty");
  const remove = form([h("p", {}, unused.element, " ", empty.element)], "Delete Queue", async () => {
    if (!await confirm("Delete queue", `Delete the queue ${name}, with its ${count(it?.messages ?? 0)} messages and its bindings?`, { label: "Delete", typed: name })) return;
    await del(target, { ...(unused.box.checked ? { "if-unused": true } : {}), ...(empty.box.checked ? { "if-empty": true } : {}) });
    go("queues");
  }, { danger: true });
  const purge = form([h("p", {}, "Drops all ready messages. What consumers hold unacknowledged stays.")], "Purge Messages", async () => {
    if (!await confirm("Purge", `Drop the ${count(it?.messages_ready ?? 0)} ready messages of ${name}? They cannot be brought back.`, { label: "Purge", typed: name })) return;
    await del(`${target}/contents`);
    await refresh();
  }, { danger: true });
  root.append(
    advice,
    section("queue", "Overview", [rangeChooser(app), lengths.element, rates.element, h("h3", {}, "Details"), about]).element,
    consuming.element, bound.element, mirrored.element,
    section("queue-publish", "Publish message", publishForm(vhost, "", name, refresh), { open: false }).element,
    ...messageSections(vhost, name, refresh),
    section("queue-pause", "Pause", [pauseText, pause], { open: false }).element,
    section("queue-delete", "Delete", remove, { open: false }).element,
    section("queue-purge", "Purge", purge, { open: false }).element,
  );
  return {
    async refresh() {
      const [told, all] = await Promise.all([get(target, samplesQuery("lengths", "msg_rates", "data_rates")), get(`${target}/bindings`)]);
      it = told;
      lengths.update(told);
      rates.update(told.message_stats);
      fill(about, facts([
        ["Type", told.type], ["Features", featureList(told)],
        told.owner_pid_details?.name ? ["Exclusive owner", link(to("connections", told.owner_pid_details.name), shortConnection(told.owner_pid_details.name))] : null,
      ]), policyFacts(told), facts([
        ["State", queueState(told)], ["Node", link(to("nodes", told.node), told.node)], ["Consumers", count(told.consumers)], ["Consumer capacity", percent(told.consumer_capacity)],
        told.single_active_consumer_tag ? ["Single active consumer", told.single_active_consumer_tag] : null,
      ]), sizes(told));
      const found = told.consumer_details ?? [];
      consuming.setTitle(`Consumers (${count(found.length)})`);
      fill(consumers, consumerTable(found, "channel"));
      bound.setTitle(`Bindings (${count(all.length)})`);
      bindings.update(all);
      drawCopies(mirrored, copies, told, act);
      const words = adviceFor(told);
      advice.hidden = words === "";
      if (advice.textContent !== words) advice.textContent = words;
      pause.textContent = told.paused ? "Resume" : "Pause";
      pauseText.textContent = told.paused ? "This queue is paused: consumers get nothing. Publishing and fetching single messages go on." : "While a queue is paused its consumers get nothing; publishing and fetching single messages go on. A restart of the node ends it.";
    },
    close: () => [lengths, rates].forEach((shown) => shown.close()),
  };
}

/** One sentence about what to do, when there is something to do. */
function adviceFor(it) {
  if (it.paused) return "Paused: consumers get nothing. Resume it in the section Pause.";
  if (it.messages_ready > 0 && it.consumers === 0) return `${plural(it.messages_ready, "message")} ready and no consumer: start one, or move or purge them below.`;
  if (it.messages_ready > 0 && it.messages_details?.rate > 1 && it.consumer_capacity < 0.5) return "The consumers cannot keep up: add some, or raise their prefetch.";
  return "";
}

/** The table of messages and octets by where they are. */
function sizes(it) {
  const rows = [
    ["Messages", count, ["messages", "messages_ready", "messages_unacknowledged", "messages_ram", "messages_persistent", "messages_paged_out"]],
    ["Message body bytes", bytes, ["message_bytes", "message_bytes_ready", "message_bytes_unacknowledged", "message_bytes_ram", "message_bytes_persistent", "message_bytes_paged_out"]],
  ];
  const known = ["Total", "Ready", "Unacked", "In memory", "Persistent", "Transient, Paged Out"].map((label, index) => [label, index]).filter(([, index]) => rows.some(([, , keys]) => typeof it[keys[index]] === "number"));
  return scroll("Messages by place", h("table", { class: "sizes" }, h("caption", { class: "hidden" }, "Messages by place"), h("thead", {}, h("tr", {}, h("td"), known.map(([label]) => h("th", { scope: "col", class: "number" }, label)))),
    h("tbody", {}, rows.map(([label, format, keys]) => h("tr", {}, h("th", { scope: "row" }, label), known.map(([, index]) => h("td", { class: "number" }, format(it[keys[index]]))))))));
}

/** Leader and followers of a quorum queue, or the mirrors of a classic one, and what each lacks. */
function drawCopies(shown, body, it, act) {
  const copied = copiesOf(it);
  shown.element.hidden = copied === null;
  if (copied === null) return;
  const { all, fine } = copied;
  shown.setTitle(`Mirrors (${count(fine.length)} of ${count(all.length)} synchronised)`);
  const kind = ({ state, messages_missing: missing }) => {
    if (state === "synchronised") return badge("synchronised", "Has every message", "good");
    if (state === "down") return badge("down", "The node does not run", "bad");
    return [badge("unsynchronised", "Does not have every message yet", "warn"), typeof missing === "number" ? ` lacks ${plural(missing, "message")}` : null];
  };
  const behind = it.slave_nodes && all.some((copy) => copy.state === "unsynchronised");
  fill(body, h("ul", { class: "plain-list" }, all.map((copy) => h("li", {}, link(to("nodes", copy.node), copy.node), " ", copy.leads ? [badge("leader", "Takes publishes and serves consumers"), copy.state === "down" ? [" ", kind(copy)] : null] : kind(copy)))),
    behind ? h("p", {}, button("Synchronise", () => act("sync", "Mirrors are being filled.")), " ", button("Cancel", () => act("cancel_sync", "Mirrors get new messages only."))) : null);
}
