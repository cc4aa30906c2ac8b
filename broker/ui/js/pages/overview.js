// Overview: totals, nodes, churn, ports, and definitions out and in.

import { del, get, path } from "../api.js";
import { fill, h, link } from "../dom.js";
import { RANGES, chart, range, samplesQuery, setRange } from "../chart.js";
import { bytes, count, duration } from "../format.js";
import { form, select } from "../forms.js";
import { badge, bar, scroll, section, state, table, yesNo } from "../parts.js";
import { CHURN, LENGTHS, MESSAGES } from "../rates.js";
import { to } from "../router.js";
import { definitions } from "./definitions.js";

export function overview(root, params, app) {
  const lengths = chart({ title: "Queued messages", lines: LENGTHS, unit: "count" });
  const messages = chart({ title: "Message rates", lines: MESSAGES, unit: "rate" });
  const churn = Object.entries(CHURN).map(([title, lines]) => chart({ title, lines, unit: "rate", empty: "No numbers yet" }));
  const counts = h("ul", { class: "counts" });
  const nodes = h("div");
  const ports = h("div");
  const contexts = h("div");
  const monitor = app.isMonitor();
  root.append(
    section("totals", "Totals", [rangeChooser(app), lengths.element, messages.element, h("h3", {}, "Global counts"), counts]).element,
    monitor ? section("nodes", "Nodes", nodes).element : "",
    section("churn", "Churn statistics", h("div", { class: "charts" }, churn.map((it) => it.element)), { open: false }).element,
    monitor ? section("ports", "Ports and contexts", [h("h3", {}, "Listening ports"), ports, h("h3", {}, "Web contexts"), contexts], { open: false }).element : "",
    ...(app.isAdministrator() ? [...definitions(app), resetting(app)] : []),
  );
  return {
    overviewQuery: () => samplesQuery("lengths", "msg_rates"),
    overview(told) {
      lengths.update(told.queue_totals);
      messages.update(told.message_stats);
      churn.forEach((it) => it.update(told.churn_rates));
      const totals = told.object_totals ?? {};
      fill(counts, [["Connections", "connections", "#/connections"], ["Channels", "channels", "#/channels"], ["Exchanges", "exchanges", "#/exchanges"], ["Queues", "queues", "#/queues"], ["Consumers", "consumers", null]]
        .map(([label, key, href]) => h("li", {}, href ? link(href, `${label}: `, h("strong", {}, count(totals[key] ?? 0))) : h("span", {}, `${label}: `, h("strong", {}, count(totals[key] ?? 0))))));
      fill(ports, table("Listening ports", [
        ["Protocol", (it) => it.protocol], ["Bound to", (it) => it.ip_address], ["Port", (it) => it.port, "number"],
      ], told.listeners ?? []));
      fill(contexts, table("Web contexts", [
        ["Context", (it) => it.description], ["Bound to", (it) => it.ip ?? ""], ["Port", (it) => it.port, "number"], ["SSL", (it) => yesNo(!Array.isArray(it.ssl_opts) || it.ssl_opts.length > 0)], ["Path", (it) => it.path],
      ], told.contexts ?? []));
    },
    async refresh() {
      if (!monitor) return;
      fill(nodes, nodeTable(await get(path("nodes"))));
    },
    close: () => [lengths, messages, ...churn].forEach((it) => it.close()),
  };
}

/** Forgets what charts and rates are made of. */
function resetting(app) {
  return section("reset", "Reset statistics", form([h("p", {}, "Charts and rates start anew. What counts messages goes on counting.")], "Reset statistics", async () => {
    await del(path("reset"));
    app.refresh();
  }, { success: "Statistics reset." }), { open: false }).element;
}

/** The choice of how much of the past the charts show. */
export function rangeChooser(app) {
  const chooser = select(RANGES.map(([age, , label]) => [String(age), label]), { value: String(range()[0]), "aria-label": "Charts show the", onchange: () => { setRange(Number(chooser.value)); app.refresh(); } });
  return h("p", { class: "range" }, "Charts show the ", chooser, h("span", { class: "hint" }, " Drag to zoom, double click to show all, click a name to hide its line."));
}

function nodeTable(nodes) {
  const shared = (node, used, total, format, below) => (typeof node[used] === "number" ? bar(node[used] / node[total], format(node[used]), node[total] ? `${format(node[total])} ${below}` : null) : "");
  const cells = (node) => {
    if (node.running === false) return [h("td", { colspan: 5, class: "bad" }, "Node not running")];
    if (node.type === "witness") return [h("td", { colspan: 5 }, "Votes, and has no queues and no clients")];
    return [
      h("td", {}, shared(node, "fd_used", "fd_total", count, "available")),
      h("td", {}, shared(node, "sockets_used", "sockets_total", count, "available")),
      h("td", {}, shared(node, "mem_used", "mem_limit", bytes, "high watermark"), node.mem_alarm ? state("blocked", "Memory alarm") : null),
      h("td", {}, diskBar(node), node.disk_free_alarm ? state("blocked", "Disk alarm") : null),
      h("td", {}, duration(node.uptime)),
    ];
  };
  return scroll("Nodes", h("table", {}, h("caption", { class: "hidden" }, "Nodes"),
    h("thead", {}, h("tr", {}, ["Name", "File descriptors", "Socket descriptors", "Memory", "Disk space", "Uptime", "Info"].map((it) => h("th", { scope: "col" }, it)))),
    h("tbody", {}, nodes.map((node) => h("tr", {}, h("td", {}, link(to("nodes", node.name), node.name)), cells(node),
      h("td", {}, node.rates_mode ? badge(node.rates_mode, "How rates are collected") : null, badge(node.type ?? "disc", "Kind of node"), node.processors ? badge(String(node.processors), "Processors") : null, node.being_drained ? badge("draining", "The node hands its work over", "warn") : null))))));
}

/** Free space: the bar is full when the limit is reached. */
export function diskBar(node) {
  if (typeof node.disk_free !== "number") return "";
  const share = node.disk_free > 0 ? (node.disk_free_limit ?? 0) / node.disk_free : 1;
  return bar(share, bytes(node.disk_free), node.disk_free_limit ? `${bytes(node.disk_free_limit)} low watermark` : null);
}
