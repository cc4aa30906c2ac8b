// Connections: the list, and one with its channels, its client and a button that closes it.

import { del, get, path } from "../api.js";
import { fill, h, link } from "../dom.js";
import { chart, samplesQuery } from "../chart.js";
import { bytes, bytesRate, count, detailRate, duration, shortConnection, time } from "../format.js";
import { field, form, text } from "../forms.js";
import { List, ofOneNode } from "../list.js";
import { attempt, confirm, definition, facts, section, state, yesNo } from "../parts.js";
import { TRAFFIC } from "../rates.js";
import { go, to } from "../router.js";
import { channelColumns } from "./channels.js";

const nameOf = (it) => [link(to("connections", it.name), shortConnection(it.name)), it.user_provided_name ? h("div", { class: "hint" }, it.user_provided_name) : null];

export const connectionColumns = [
  { id: "vhost", label: "Virtual host", group: "Overview", sort: "vhost", cell: (it) => it.vhost ?? "" },
  { id: "name", label: "Name", group: "Overview", sort: "name", cell: nameOf },
  { id: "node", label: "Node", group: "Overview", sort: "node", cell: (it) => it.node, off: ofOneNode },
  { id: "user", label: "User name", group: "Overview", sort: "user", cell: (it) => it.user },
  { id: "state", label: "State", group: "Overview", sort: "state", cell: (it) => state(it.state) },
  { id: "ssl", label: "SSL / TLS", group: "Details", sort: "ssl", cell: (it) => yesNo(it.ssl), kind: "center" },
  { id: "cipher", label: "SSL details", group: "Details", cell: (it) => [it.ssl_protocol, it.ssl_cipher].filter(Boolean).join(" "), off: true },
  { id: "protocol", label: "Protocol", group: "Details", sort: "protocol", cell: (it) => it.protocol },
  { id: "channels", label: "Channels", group: "Details", sort: "channels", cell: (it) => count(it.channels), kind: "number" },
  { id: "client", label: "Client", group: "Details", cell: (it) => clientOf(it), off: true },
  { id: "age", label: "Connected", group: "Details", sort: "connected_at", cell: (it) => duration(Date.now() - it.connected_at), off: true },
  { id: "recv", label: "From client", group: "Network", sort: "recv_oct_details.rate", cell: (it) => bytesRate(detailRate(it, "recv_oct")), kind: "number" },
  { id: "send", label: "To client", group: "Network", sort: "send_oct_details.rate", cell: (it) => bytesRate(detailRate(it, "send_oct")), kind: "number" },
];

function clientOf(it) {
  const client = it.client_properties ?? {};
  return [client.product, client.version].filter((part) => typeof part === "string").join(" ");
}

const close = (name, reason) => del(path("connections", name), null, { "x-reason": reason || "Closed via management plugin" });

export function connections(root, params, app) {
  const list = new List({
    id: "connections", label: "Connections", noun: "connections", columns: connectionColumns, key: (it) => it.name,
    path: () => (app.vhost === "" ? path("connections") : path("vhosts", app.vhost, "connections")),
    chips: [
      { id: "blocked", label: "blocked", title: "Publishers that an alarm holds back", where: "state=blocked|state=blocking" },
      { id: "no_channels", label: "no channels", title: "Connections that nobody uses", where: "channels=0" },
    ],
    actions: [{ label: "Force close", danger: true, run: async (rows) => {
      if (!await confirm("Force close", `Close ${count(rows.length)} connections? Their clients are told CONNECTION_FORCED; most connect again.`, { label: "Force close" })) return false;
      return attempt(() => Promise.all(rows.map((it) => close(it.name))), "Closed.");
    } }],
    onTotal: (total) => all.setTitle(`All connections (${count(total)})`),
  });
  const all = section("connections", "All connections", list.element);
  root.append(all.element);
  return { refresh: () => list.refresh() };
}

export function connection(root, { name }, app) {
  const about = h("div");
  const client = h("div");
  const traffic = chart({ title: "Data rates", lines: TRAFFIC, unit: "bytesRate" });
  const channels = new List({
    id: "connection-channels", label: "Channels of this connection", noun: "channels", here: true, columns: channelColumns.filter((column) => column.id !== "vhost" && column.id !== "user"), key: (it) => it.name,
    read: () => get(path("connections", name, "channels")).catch((error) => { if (error.status === 404) return []; throw error; }),
    onTotal: (total) => listed.setTitle(`Channels (${count(total)})`),
  });
  const listed = section("connection-channels", "Channels", channels.element);
  const reason = text({ value: "", placeholder: "Closed via management plugin", maxlength: 200 });
  root.append(
    section("connection", "Overview", [traffic.element, h("h3", {}, "Details"), about]).element,
    listed.element,
    section("connection-client", "Client properties", client).element,
    section("connection-close", "Close this connection", form([field("Reason:", reason)], "Force Close", async () => {
      await close(name, reason.value);
      go("connections");
    }, { success: "Connection closed.", danger: true }), { open: false }).element,
  );
  return {
    async refresh() {
      const [it] = await Promise.all([get(path("connections", name), samplesQuery("data_rates")), channels.refresh()]);
      traffic.update(it);
      fill(about, facts([
        ["Name", it.user_provided_name ?? null], ["Virtual host", it.vhost], ["Username", app.isAdministrator() ? link(to("users", it.user), it.user) : it.user],
        ["State", state(it.state)], ["Node", it.node], ["From", `${it.peer_host}:${it.peer_port}`], ["To", `${it.host}:${it.port}`],
        ["Protocol", it.protocol], ["Authentication", it.auth_mechanism], ["Connected at", `${time(it.connected_at)} (${duration(Date.now() - it.connected_at)})`],
        ["Heartbeat", it.timeout ? `${it.timeout}s` : "off"], ["Frame max", `${bytes(it.frame_max)}`], ["Channel limit", count(it.channel_max)],
        ["From client", bytes(it.recv_oct)], ["To client", bytes(it.send_oct)],
        ["SSL / TLS", it.ssl ? [it.ssl_protocol, it.ssl_key_exchange, it.ssl_cipher, it.ssl_hash].filter(Boolean).join(" · ") : "no"],
        it.peer_cert_subject ? ["Peer certificate", h("div", {}, it.peer_cert_subject, h("div", { class: "hint" }, `issued by ${it.peer_cert_issuer}, valid ${it.peer_cert_validity}`))] : null,
      ]));
      const { capabilities, ...other } = it.client_properties ?? {};
      fill(client, definition(other) || "none", capabilities ? [h("h3", {}, "Capabilities"), definition(capabilities)] : null);
    },
    close: () => traffic.close(),
  };
}

