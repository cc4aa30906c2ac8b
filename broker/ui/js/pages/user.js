// One user: permissions and topic permissions, with what they match; password, tags, limits; deletion.

import { del, get, path, put } from "../api.js";
import { button, fill, h, link } from "../dom.js";
import { field, form, select, setOptions, text } from "../forms.js";
import { preview } from "../matches.js";
import { attempt, badge, confirm, facts, section, table, yesNo } from "../parts.js";
import { go, to } from "../router.js";
import { exchangeName } from "../format.js";
import { vhostField } from "../adding.js";
import { tagsOf, userFields } from "./users.js";

export function user(root, { name }, app) {
  const about = h("div");
  const refresh = () => app.refresh();
  const permissions = permissionsEditor(app, { user: name }, refresh);
  const topics = topicEditor(app, { user: name }, refresh);
  const update = h("div");
  let tags = null;
  const remove = form([h("p", {}, "The user's connections are closed; queues and exchanges stay.")], "Delete", async () => {
    if (name === app.user.name) throw new Error("That is yourself: have somebody else do it.");
    if (!await confirm("Delete user", `Delete the user ${name}?`, { label: "Delete", typed: name })) return;
    await del(path("users", name));
    go("users");
  }, { danger: true });
  root.append(
    section("user", "Overview", about).element,
    section("user-permissions", "Permissions", permissions.element).element,
    section("user-topics", "Topic permissions", topics.element).element,
    section("user-update", "Update this user", update, { open: false }).element,
    section("user-delete", "Delete this user", remove, { open: false }).element,
  );
  return {
    overview: () => { permissions.follow(); topics.follow(); },
    async refresh() {
      const [it, own, ownTopics] = await Promise.all([get(path("users", name)), get(path("users", name, "permissions")), get(path("users", name, "topic-permissions"))]);
      const now = tagsOf(it);
      fill(about, facts([
        ["Tags", now.length > 0 ? now.map((tag) => badge(tag)) : "none: no use of these pages"],
        ["Can log in with password", yesNo(it.password_hash !== "")],
        ["Limits", Object.entries(it.limits ?? {}).map(([key, value]) => `${key}: ${value}`).join(", ") || "none"],
        own.length === 0 ? ["Access", badge("No access", "No permissions in any virtual host", "bad")] : null,
      ]));
      permissions.update(own);
      topics.update(ownTopics);
      if (tags === now.join(",")) return;
      tags = now.join(",");
      const fields = userFields({ tags, keep: true });
      fill(update, form(fields.elements, "Update user", async () => {
        const body = fields.value();
        // To keep the password it is sent as it is stored.
        if (body.password === undefined && body.password_hash === undefined) Object.assign(body, { password_hash: it.password_hash, hashing_algorithm: it.hashing_algorithm });
        await put(path("users", name), body);
        await refresh();
      }, { success: "User updated." }));
    },
  };
}

const REGEXPS = ["configure", "write", "read"];
const capital = (word) => word[0].toUpperCase() + word.slice(1);

/** The permissions of a user (`fixed.user`) or in a vhost (`fixed.vhost`), and the form that sets them. */
export function permissionsEditor(app, fixed, refresh) {
  const body = h("div");
  const vhost = fixed.vhost === undefined ? vhostField(app) : null;
  const who = fixed.user === undefined ? select([]) : null;
  const fields = REGEXPS.map((word) => [word, text({ value: ".*" }), preview(["queues", "exchanges"])]);
  const names = () => ({ user: fixed.user ?? who.value, vhost: fixed.vhost ?? vhost.choice.value });
  const look = () => fields.forEach(([, input, matches]) => matches.show(names().vhost, input.value, { says: "Matches nothing (an empty expression allows only names made by the server)." }));
  fields.forEach(([, input]) => input.addEventListener("input", look));
  vhost?.choice.addEventListener("change", look);
  const remove = (it) => async () => {
    if (!await confirm("Clear permission", `Take all permissions in ${it.vhost} from ${it.user}?`, { label: "Clear" })) return;
    if (await attempt(() => del(path("permissions", it.vhost, it.user)), "Permissions cleared.")) refresh();
  };
  const edit = (it) => () => {
    if (vhost) vhost.choice.value = it.vhost;
    if (who) who.value = it.user;
    fields.forEach(([word, input]) => { input.value = it[word]; });
    look();
    fields[0][1].focus();
  };
  const element = h("div", {}, h("h3", {}, "Current permissions"), body, h("h3", {}, "Set permission"),
    form([
      vhost ? field("Virtual Host:", vhost.choice) : field("User:", who),
      fields.map(([word, input, matches]) => [field(`${capital(word)} regexp:`, input, { hint: matches.element })]),
    ], "Set permission", async () => {
      const { user: name, vhost: host } = names();
      await put(path("permissions", host, name), Object.fromEntries(fields.map(([word, input]) => [word, input.value])));
      refresh();
    }, { success: "Permissions set." }));
  let looked = "";
  return {
    element,
    follow() {
      vhost?.follow();
      // The names are looked up when the page opens and when the vhost becomes known.
      const { vhost: host } = names();
      if (looked !== host) { looked = host; look(); }
    },
    setUsers: (list) => who && setOptions(who, list),
    update(list) {
      fill(body, table("Current permissions", [
        fixed.user === undefined ? ["User", (it) => link(to("users", it.user), it.user)] : ["Virtual host", (it) => link(to("vhosts", it.vhost), it.vhost)],
        ...REGEXPS.map((word) => [`${capital(word)} regexp`, (it) => h("code", {}, it[word])]),
        ["", (it) => [button("Edit", edit(it)), " ", button("Clear", remove(it))]],
      ], list, "no permissions"));
    },
  };
}

/** The same for topic permissions. */
export function topicEditor(app, fixed, refresh) {
  const body = h("div");
  const vhost = fixed.vhost === undefined ? vhostField(app) : null;
  const who = fixed.user === undefined ? select([]) : null;
  const exchange = select([["", "(AMQP default)"]]);
  const write = text({ value: ".*" });
  const read = text({ value: ".*" });
  const names = () => ({ user: fixed.user ?? who.value, vhost: fixed.vhost ?? vhost.choice.value });
  let known = "";
  async function follow() {
    vhost?.follow();
    const { vhost: host } = names();
    if (known === host) return;
    known = host;
    const found = await get(path("exchanges", host), { page: 1, page_size: 500, pagination: true, columns: "name" }).catch(() => ({ items: [] }));
    setOptions(exchange, (found.items ?? found).map((it) => [it.name, exchangeName(it.name)]));
  }
  vhost?.choice.addEventListener("change", follow);
  const remove = (it) => async () => {
    if (!await confirm("Clear topic permissions", `Clear all topic permissions of ${it.user} in ${it.vhost}?`, { label: "Clear" })) return;
    if (await attempt(() => del(path("topic-permissions", it.vhost, it.user)), "Topic permissions cleared.")) refresh();
  };
  const element = h("div", {}, h("h3", {}, "Current topic permissions"), body, h("h3", {}, "Set topic permission"),
    form([vhost ? field("Virtual Host:", vhost.choice) : field("User:", who), field("Exchange:", exchange), field("Write regexp:", write, { hint: "Which routing keys may be published." }), field("Read regexp:", read, { hint: "Which routing keys may be bound." })], "Set topic permission", async () => {
      const { user: name, vhost: host } = names();
      await put(path("topic-permissions", host, name), { exchange: exchange.value, write: write.value, read: read.value });
      refresh();
    }, { success: "Topic permission set." }));
  return {
    element, follow,
    setUsers: (list) => who && setOptions(who, list),
    update(list) {
      fill(body, table("Current topic permissions", [
        fixed.user === undefined ? ["User", (it) => link(to("users", it.user), it.user)] : ["Virtual host", (it) => it.vhost],
        ["Exchange", (it) => exchangeName(it.exchange)], ["Write regexp", (it) => h("code", {}, it.write)], ["Read regexp", (it) => h("code", {}, it.read)],
        ["", (it) => button("Clear", remove(it))],
      ], list, "no topic permissions"));
    },
  };
}
