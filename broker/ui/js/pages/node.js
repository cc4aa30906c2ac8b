// One node: what it uses of what it may.

import { get, path } from "../api.js";
import { fill, h } from "../dom.js";
import { chart, samplesQuery } from "../chart.js";
import { bytes, duration } from "../format.js";
import { facts, section, state, table, yesNo } from "../parts.js";
import { rangeChooser } from "./overview.js";

const CHARTS = [
  ["File descriptors", [["fd_used", "Used"]], "count", "fd_total"],
  ["Socket descriptors", [["sockets_used", "Used"]], "count", "sockets_total"],
  ["Memory", [["mem_used", "Used"]], "bytes", "mem_limit"],
  ["Disk space", [["disk_free", "Free"]], "bytes", "disk_free_limit"],
];

const kind = (told) => (told.type === "disc" ? "Disc" : told.type);

export function node(root, { name }, app) {
  const about = h("div");
  const plugins = h("div");
  const charts = CHARTS.map(([title, lines, unit]) => chart({ title, lines, unit, empty: "No numbers yet" }));
  const limits = charts.map(() => h("p", { class: "hint" }));
  const io = chart({ title: "I/O operations", lines: [["io_read_count", "Read"], ["io_write_count", "Write"], ["io_sync_count", "Sync"]], unit: "rate", empty: "No numbers yet" });
  const known = [
    section("node-stats", "Process statistics", [rangeChooser(app), h("div", { class: "charts" }, charts.map((it, index) => h("div", {}, it.element, limits[index])))]),
    section("node-io", "I/O statistics", io.element, { open: false }),
    section("node-advanced", "Advanced", plugins, { open: false }),
  ].map((it) => it.element);
  root.append(section("node", "Overview", about).element, ...known);
  return {
    async refresh() {
      const told = await get(path("nodes", name), samplesQuery("node_stats"));
      // A witness has no API that could tell more.
      const tells = told.running !== false && told.type !== "witness";
      known.forEach((it) => { it.hidden = !tells; });
      if (told.type === "witness") fill(about, h("p", {}, "A witness votes with the brokers, so that most votes are left when one of them is gone. It has no queues and no clients."), facts([["State", state(told.running ? "running" : "down")], ["Type", "Witness"]]));
      else fill(about, told.running === false ? facts([["State", state("down")], ["Type", kind(told)]]) : facts([
        ["State", state("running")],
        ["Uptime", duration(told.uptime)],
        ["Type", kind(told)],
        ["Process", told.os_pid],
        ["Processors", told.processors],
        ["Config file", (told.config_files ?? []).join(", ") || "none"],
        ["Database directory", told.db_dir],
        ["Log files", (told.log_files ?? []).join(", ") || "standard output"],
        ["Memory alarm", told.mem_alarm ? state("blocked", "Publishers are blocked") : "no"],
        ["Disk alarm", told.disk_free_alarm ? state("blocked", "Publishers are blocked") : "no"],
      ]));
      if (!tells) return;
      charts.forEach((it, index) => {
        it.update(told);
        const [, , unit, limit] = CHARTS[index];
        limits[index].textContent = typeof told[limit] === "number" ? `Limit: ${unit === "bytes" ? bytes(told[limit]) : told[limit].toLocaleString("en-US")}` : "";
      });
      io.update(told);
      fill(plugins,
        h("h3", {}, "Exchange types"), table("Exchange types", [["Name", (it) => it.name], ["Description", (it) => it.description], ["Enabled", (it) => yesNo(it.enabled !== false)]], told.exchange_types ?? []),
        h("h3", {}, "Authentication mechanisms"), table("Authentication mechanisms", [["Name", (it) => it.name], ["Description", (it) => it.description], ["Enabled", (it) => yesNo(it.enabled)]], told.auth_mechanisms ?? []));
    },
    close: () => [...charts, io].forEach((it) => it.close()),
  };
}
