// Virtual hosts: the list, a form for a new one, and one with its numbers and permissions.

import { del, get, path, put } from "../api.js";
import { fill, h, link } from "../dom.js";
import { chart, samplesQuery } from "../chart.js";
import { bytesRate, cellRate, count, detailRate } from "../format.js";
import { check, field, form, select, text } from "../forms.js";
import { List } from "../list.js";
import { confirm, facts, section, state, yesNo } from "../parts.js";
import { LENGTHS, MESSAGES, TRAFFIC } from "../rates.js";
import { go, to } from "../router.js";
import { rangeChooser } from "./overview.js";
import { permissionsEditor, topicEditor } from "./user.js";

const stateOf = (it) => {
  const states = Object.values(it.cluster_state ?? {});
  return state(states.length === 0 || states.every((word) => word === "running") ? "running" : "down", Object.entries(it.cluster_state ?? {}).map(([node, word]) => `${node}: ${word}`).join("\n"));
};

const columns = [
  { id: "name", label: "Name", group: "Overview", sort: "name", cell: (it) => [link(to("vhosts", it.name), it.name), it.description ? h("div", { class: "hint" }, it.description) : null] },
  { id: "users", label: "Users", group: "Overview", cell: (it) => it.users.join(", ") },
  { id: "state", label: "State", group: "Overview", cell: stateOf },
  { id: "tags", label: "Tags", group: "Overview", cell: (it) => [it.tags].flat().join(", "), off: true },
  { id: "queue_type", label: "Default queue type", group: "Overview", cell: (it) => (it.default_queue_type === "undefined" ? "" : it.default_queue_type ?? ""), off: true },
  { id: "ready", label: "Ready", group: "Messages", sort: "messages_ready", cell: (it) => count(it.messages_ready), kind: "number" },
  { id: "unacked", label: "Unacked", group: "Messages", sort: "messages_unacknowledged", cell: (it) => count(it.messages_unacknowledged), kind: "number" },
  { id: "total", label: "Total", group: "Messages", sort: "messages", cell: (it) => count(it.messages), kind: "number" },
  { id: "recv", label: "From client", group: "Network", sort: "recv_oct_details.rate", cell: (it) => bytesRate(detailRate(it, "recv_oct")), kind: "number" },
  { id: "send", label: "To client", group: "Network", sort: "send_oct_details.rate", cell: (it) => bytesRate(detailRate(it, "send_oct")), kind: "number" },
  { id: "publish", label: "publish", group: "Message rates", sort: "message_stats.publish_details.rate", cell: (it) => cellRate(it.message_stats, "publish"), kind: "number" },
  { id: "deliver", label: "deliver / get", group: "Message rates", sort: "message_stats.deliver_get_details.rate", cell: (it) => cellRate(it.message_stats, "deliver_get"), kind: "number" },
];

export function vhosts(root) {
  const list = new List({
    id: "vhosts", label: "Virtual hosts", noun: "virtual hosts", here: true, columns, key: (it) => it.name,
    read: async () => {
      const [all, permissions] = await Promise.all([get(path("vhosts")), get(path("permissions"))]);
      return all.map((it) => ({ ...it, users: permissions.filter((own) => own.vhost === it.name).map((own) => own.user).sort() }));
    },
    onTotal: (total) => all.setTitle(`All virtual hosts (${count(total)})`),
  });
  const all = section("vhosts", "All virtual hosts", list.element);
  const name = text({ maxlength: 255 });
  const description = text();
  const tags = text({ placeholder: "a, b" });
  const queueType = select([["", "Not set"], ["classic", "Classic"], ["quorum", "Quorum"]]);
  const add = form([field("Name:", name, { required: true }), field("Description:", description), field("Tags:", tags), field("Default queue type:", queueType)], "Add virtual host", async () => {
    await put(path("vhosts", name.value), { description: description.value, tags: tags.value, ...(queueType.value === "" ? {} : { default_queue_type: queueType.value }) });
    await list.refresh();
  }, { success: "Virtual host added.", reset: true });
  root.append(all.element, section("add-vhost", "Add a new virtual host", add, { open: false }).element);
  return { refresh: () => list.refresh() };
}

export function vhost(root, { name }, app) {
  const about = h("div");
  const refresh = () => app.refresh();
  const lengths = chart({ title: "Queued messages", lines: LENGTHS, unit: "count", empty: "No queues" });
  const rates = chart({ title: "Message rates", lines: MESSAGES, unit: "rate" });
  const traffic = chart({ title: "Data rates", lines: TRAFFIC, unit: "bytesRate" });
  const permissions = permissionsEditor(app, { vhost: name }, refresh);
  const topics = topicEditor(app, { vhost: name }, refresh);
  const tracing = check("Copy every message to amq.rabbitmq.trace");
  tracing.box.addEventListener("change", async () => { await put(path("vhosts", name), { tracing: tracing.box.checked }).catch(() => {}); refresh(); });
  const remove = form([h("p", {}, "With all its exchanges, queues, messages, bindings, permissions and policies. Connections to it are closed.")], "Delete this virtual host", async () => {
    if (!await confirm("Delete virtual host", `Delete ${name} with everything in it? This cannot be undone.`, { label: "Delete", typed: name })) return;
    await del(path("vhosts", name));
    go("vhosts");
  }, { danger: true });
  root.append(
    section("vhost", "Overview", [rangeChooser(app), lengths.element, rates.element, traffic.element, h("h3", {}, "Details"), about]).element,
    section("vhost-permissions", "Permissions", permissions.element).element,
    section("vhost-topics", "Topic permissions", topics.element, { open: false }).element,
    section("vhost-trace", "Tracing", h("p", {}, tracing.element), { open: false }).element,
    section("vhost-delete", "Delete this vhost", remove, { open: false }).element,
  );
  return {
    overview: () => { permissions.follow(); topics.follow(); },
    async refresh() {
      const [it, own, topic, users] = await Promise.all([
        get(path("vhosts", name), samplesQuery("lengths", "msg_rates", "data_rates")), get(path("vhosts", name, "permissions")),
        get(path("vhosts", name, "topic-permissions")), app.isAdministrator() ? get(path("users"), { columns: "name" }) : [],
      ]);
      lengths.update(it);
      rates.update(it.message_stats);
      traffic.update(it);
      tracing.box.checked = it.tracing === true;
      fill(about, facts([
        ["Description", it.description ?? ""], ["Tags", [it.tags ?? []].flat().join(", ")], ["State", stateOf(it)], ["Tracing enabled", yesNo(it.tracing)],
        ["Default queue type", it.default_queue_type === "undefined" ? "classic" : it.default_queue_type ?? "classic"],
        ["Queues", link("#/queues", "show")],
      ]));
      permissions.setUsers(users.map((user) => user.name));
      topics.setUsers(users.map((user) => user.name));
      permissions.update(own);
      topics.update(topic);
    },
    close: () => [lengths, rates, traffic].forEach((shown) => shown.close()),
  };
}
