// The strip below the tabs: what is wrong now, and what to do about it.

import { get, path } from "./api.js";
import { fill, h, link } from "./dom.js";
import { bytes, count, plural, rate } from "./format.js";
import { to } from "./router.js";

/** A queue that grows slower than this per second is not worth an alarm. */
const GROWING = 0.5;
const CHECKED = 5;

export function alertStrip(app) {
  const list = h("ul", {});
  const element = h("section", { class: "alerts", "aria-label": "Alerts" }, list);
  let before = "";
  return {
    element,
    async refresh() {
      const [nodes, growing] = await Promise.all([app.isMonitor() ? get(path("nodes")).catch(() => []) : [], growingQueues().catch(() => [])]);
      const alerts = [...nodeAlerts(nodes), ...queueAlerts(growing)];
      // The same text again would make screen readers read it again.
      const now = JSON.stringify(alerts);
      if (now === before) return;
      before = now;
      fill(list, alerts.map(({ kind, text, advice, href, label }) => h("li", { class: kind },
        h("span", { class: "mark", "aria-hidden": "true" }, kind === "good" ? "●" : "▲"),
        h("span", {}, h("strong", {}, text), advice ? ` ${advice}` : ""),
        href ? link(href, label) : null)));
    },
  };
}

/** The queues that grow most. */
async function growingQueues() {
  const answer = await get(path("queues"), { page: 1, page_size: CHECKED, sort: "messages_details.rate", sort_reverse: true, pagination: true, columns: "name,vhost,messages,messages_ready,messages_details.rate,consumers,paused,message_stats.publish_details.rate" });
  return (answer.items ?? []).filter((queue) => (queue.messages_details?.rate ?? 0) > GROWING);
}

export function nodeAlerts(nodes) {
  if (nodes.length === 0) return [];
  const alerts = [];
  // A witness only votes: it is none of the nodes that serve.
  const brokers = nodes.filter((node) => node.type !== "witness");
  const witnesses = nodes.filter((node) => node.type === "witness");
  const down = brokers.filter((node) => node.running === false);
  const mute = witnesses.filter((node) => node.running === false);
  for (const node of mute) {
    alerts.push({ kind: "bad", text: `Witness ${node.name} is not running.`, advice: "Start it: until then one broker less may stop the others.", href: to("nodes", node.name), label: "node" });
  }
  for (const node of down) {
    alerts.push({ kind: "bad", text: `Node ${node.name} is not running.`, advice: "Start it, or remove it with `forget_cluster_node` if it will not come back.", href: to("nodes", node.name), label: "node" });
  }
  for (const node of brokers.filter((it) => it.running !== false)) {
    if (node.mem_alarm) alerts.push({ kind: "bad", text: `Memory alarm on ${node.name}: publishers are blocked.`, advice: "Consume or purge the largest queues, or raise the memory limit.", href: "#/queues?sort=message_bytes&sort_reverse=true", label: "largest queues" });
    if (node.disk_free_alarm) alerts.push({ kind: "bad", text: `Disk alarm on ${node.name}: publishers are blocked, ${bytes(node.disk_free) || "too little"} free.`, advice: "Free space on the data volume; publishing goes on by itself.", href: to("nodes", node.name), label: "node" });
    if (node.fd_total > 0 && node.fd_used / node.fd_total > 0.8) alerts.push({ kind: "warn", text: `${node.name} uses ${count(node.fd_used)} of ${count(node.fd_total)} file descriptors.`, advice: "Raise LimitNOFILE, or close idle connections.", href: "#/connections", label: "connections" });
    if ((node.partitions ?? []).length > 0) alerts.push({ kind: "bad", text: `${node.name} cannot reach ${node.partitions.join(", ")}.`, advice: "Check the network between the nodes.", href: to("nodes", node.name), label: "node" });
  }
  const voting = witnesses.length === 0 ? "" : ` and ${witnesses.length - mute.length} of ${count(witnesses.length)} ${witnesses.length === 1 ? "witness" : "witnesses"}`;
  const fine = alerts.length === 0 ? ", no alarms" : "";
  alerts.unshift({ kind: down.length + mute.length > 0 ? "bad" : "good", text: `${brokers.length - down.length} of ${plural(brokers.length, "node")} up${voting}${fine}` });
  return alerts;
}

export function queueAlerts(queues) {
  return queues.map((queue) => {
    const speed = rate(queue.messages_details.rate);
    const idle = queue.consumers === 0;
    return {
      kind: "warn",
      text: `${queue.name} grows by ${speed}, ${plural(queue.messages ?? 0, "message")}.`,
      advice: queue.paused ? "It is paused: resume it." : idle ? "It has no consumer: start one, or move or purge its messages." : `Its ${plural(queue.consumers, "consumer")} cannot keep up: add some, or raise their prefetch.`,
      href: to("queues", queue.vhost, queue.name),
      label: "queue",
    };
  });
}
