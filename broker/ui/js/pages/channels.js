// Channels: the list, and one with its rates and consumers.

import { get, path } from "../api.js";
import { fill, h, link } from "../dom.js";
import { chart, samplesQuery } from "../chart.js";
import { cellRate, count, shortConnection } from "../format.js";
import { List, ofOneNode } from "../list.js";
import { badge, facts, section, state } from "../parts.js";
import { CHANNEL } from "../rates.js";
import { to } from "../router.js";
import { consumerTable } from "./consumers.js";

const mode = (it) => [it.confirm ? badge("C", "Confirms are on") : null, it.transactional ? badge("T", "Transactional") : null];

const prefetch = (it) => [it.prefetch_count > 0 ? h("div", {}, count(it.prefetch_count)) : null, it.global_prefetch_count > 0 ? h("div", {}, `${count(it.global_prefetch_count)} (global)`) : null];

export const channelColumns = [
  { id: "name", label: "Channel", group: "Overview", sort: "name", cell: (it) => link(to("channels", it.name), shortConnection(it.name)) },
  { id: "node", label: "Node", group: "Overview", sort: "node", cell: (it) => it.node, off: ofOneNode },
  { id: "vhost", label: "Virtual host", group: "Overview", sort: "vhost", cell: (it) => it.vhost },
  { id: "user", label: "User name", group: "Overview", sort: "user", cell: (it) => it.user },
  { id: "mode", label: "Mode", group: "Overview", cell: mode },
  { id: "state", label: "State", group: "Overview", sort: "state", cell: (it) => state(it.idle_since ? "idle" : it.state, it.idle_since ? `Idle since ${it.idle_since}` : undefined) },
  { id: "unconfirmed", label: "Unconfirmed", group: "Details", sort: "messages_unconfirmed", cell: (it) => count(it.messages_unconfirmed), kind: "number" },
  { id: "prefetch", label: "Prefetch", group: "Details", sort: "prefetch_count", cell: prefetch, kind: "number" },
  { id: "unacked", label: "Unacked", group: "Details", sort: "messages_unacknowledged", cell: (it) => count(it.messages_unacknowledged), kind: "number" },
  { id: "consumers", label: "Consumers", group: "Details", sort: "consumer_count", cell: (it) => count(it.consumer_count), kind: "number", off: true },
  { id: "publish", label: "publish", group: "Message rates", sort: "message_stats.publish_details.rate", cell: (it) => cellRate(it.message_stats, "publish"), kind: "number" },
  { id: "confirm", label: "confirm", group: "Message rates", sort: "message_stats.confirm_details.rate", cell: (it) => cellRate(it.message_stats, "confirm"), kind: "number" },
  { id: "drop", label: "unroutable (drop)", group: "Message rates", sort: "message_stats.drop_unroutable_details.rate", cell: (it) => cellRate(it.message_stats, "drop_unroutable"), kind: "number" },
  { id: "return", label: "unroutable (return)", group: "Message rates", sort: "message_stats.return_unroutable_details.rate", cell: (it) => cellRate(it.message_stats, "return_unroutable"), kind: "number", off: true },
  { id: "deliver", label: "deliver / get", group: "Message rates", sort: "message_stats.deliver_get_details.rate", cell: (it) => cellRate(it.message_stats, "deliver_get"), kind: "number" },
  { id: "redelivered", label: "redelivered", group: "Message rates", sort: "message_stats.redeliver_details.rate", cell: (it) => cellRate(it.message_stats, "redeliver"), kind: "number", off: true },
  { id: "ack", label: "ack", group: "Message rates", sort: "message_stats.ack_details.rate", cell: (it) => cellRate(it.message_stats, "ack"), kind: "number" },
];

export function channels(root, params, app) {
  const list = new List({
    id: "channels", label: "Channels", noun: "channels", columns: channelColumns, key: (it) => it.name,
    path: () => (app.vhost === "" ? path("channels") : path("vhosts", app.vhost, "channels")),
    chips: [
      { id: "unacked", label: "has unacked", title: "Channels that hold messages", where: "messages_unacknowledged>0" },
      { id: "no_prefetch", label: "no prefetch", title: "Consumers without a limit on unacknowledged messages", where: "consumer_count>0,prefetch_count=0,global_prefetch_count=0" },
    ],
    onTotal: (total) => all.setTitle(`All channels (${count(total)})`),
  });
  const all = section("channels", "All channels", list.element);
  root.append(all.element);
  return { refresh: () => list.refresh() };
}

export function channel(root, { name }) {
  const about = h("div");
  const consumers = h("div");
  const rates = chart({ title: "Message rates", lines: CHANNEL, unit: "rate" });
  const consuming = section("channel-consumers", "Consumers", consumers);
  root.append(section("channel", "Overview", [rates.element, h("h3", {}, "Details"), about]).element, consuming.element);
  return {
    async refresh() {
      const it = await get(path("channels", name), samplesQuery("msg_rates"));
      rates.update(it.message_stats);
      fill(about, facts([
        ["Connection", link(to("connections", it.connection_details?.name ?? ""), shortConnection(it.connection_details?.name))],
        ["Virtual host", it.vhost], ["Username", it.user], ["Node", it.node], ["State", state(it.idle_since ? "idle" : it.state)],
        ["Mode", it.confirm ? "confirms" : it.transactional ? "transactional" : "plain"],
        ["Prefetch count", it.prefetch_count ? count(it.prefetch_count) : "unlimited"], ["Global prefetch count", it.global_prefetch_count ? count(it.global_prefetch_count) : "unlimited"],
        ["Messages unacknowledged", count(it.messages_unacknowledged)], ["Messages unconfirmed", count(it.messages_unconfirmed)],
        ["Messages uncommitted", count(it.messages_uncommitted)], ["Acks uncommitted", count(it.acks_uncommitted)],
      ]));
      const found = it.consumer_details ?? [];
      consuming.setTitle(`Consumers (${count(found.length)})`);
      fill(consumers, consumerTable(found, "queue"));
    },
    close: () => rates.close(),
  };
}
