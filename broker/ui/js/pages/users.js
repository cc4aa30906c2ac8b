// Users: the list, and the form for a new one.

import { del, get, path, post, put } from "../api.js";
import { fill, h, link } from "../dom.js";
import { count } from "../format.js";
import { field, form, select, text } from "../forms.js";
import { List } from "../list.js";
import { attempt, badge, confirm, section, yesNo } from "../parts.js";
import { to } from "../router.js";

export const TAGS = [
  ["administrator", "Admin", "May do everything."],
  ["monitoring", "Monitoring", "Sees everything."],
  ["policymaker", "Policymaker", "Sets policies in the own virtual hosts."],
  ["management", "Management", "Uses these pages for the own virtual hosts."],
];

export const tagsOf = (user) => (Array.isArray(user.tags) ? user.tags : String(user.tags ?? "").split(",")).filter((tag) => tag !== "");

export function users(root, params, app) {
  const list = new List({
    id: "users", label: "Users", noun: "users", here: true, key: (it) => it.name,
    columns: [
      { id: "name", label: "Name", sort: "name", cell: (it) => link(to("users", it.name), it.name) },
      { id: "tags", label: "Tags", sort: "tags", cell: (it) => tagsOf(it).map((tag) => badge(tag)) },
      { id: "vhosts", label: "Can access virtual hosts", cell: (it) => (it.vhosts.length > 0 ? it.vhosts.join(", ") : badge("No access", "This user has no permissions: no connection of theirs is let in. Set some on the user's page.", "bad")) },
      { id: "limits", label: "Limits", cell: (it) => Object.entries(it.limits ?? {}).map(([key, value]) => `${key}: ${value}`).join(", ") },
      { id: "password", label: "Has password", cell: (it) => yesNo(it.password_hash !== ""), kind: "center" },
    ],
    read: async () => {
      const [all, permissions] = await Promise.all([get(path("users")), get(path("permissions"))]);
      const byUser = grouped(permissions);
      return all.map((it) => ({ ...it, vhosts: (byUser.get(it.name) ?? []).map((own) => own.vhost).sort() }));
    },
    chips: [{ id: "no_access", label: "no access", title: "Users without permissions", test: (it) => it.vhosts.length === 0 }],
    actions: [{ label: "Delete", danger: true, run: async (rows) => {
      const names = rows.map((it) => it.name);
      if (!await confirm("Delete users", `Delete ${names.join(", ")}? Their connections are closed.`, { label: "Delete", typed: "delete" })) return false;
      if (names.includes(app.user.name)) return attempt(() => Promise.reject(new Error("That includes yourself: have somebody else do it.")));
      return attempt(() => post(path("users", "bulk-delete"), { users: names }), "Deleted.");
    } }],
    onTotal: (total) => all.setTitle(`All users (${count(total)})`),
  });
  const all = section("users", "All users", list.element);
  root.append(all.element, section("add-user", "Add a user", addForm(() => list.refresh()), { open: false }).element);
  return { refresh: () => list.refresh() };
}

function grouped(permissions) {
  const groups = new Map();
  for (const it of permissions) groups.set(it.user, [...(groups.get(it.user) ?? []), it]);
  return groups;
}

/** Fields for a password and tags, for a new user and for a changed one. */
export function userFields({ tags = "", keep = false } = {}) {
  const kind = select([["password", "Password:"], ["hash", "Password hash:"], ["none", keep ? "Remove password" : "No password"], ...(keep ? [["keep", "Keep password"]] : [])], { "aria-label": "Kind of password", value: keep ? "keep" : "password", onchange: () => draw() });
  const password = h("input", { type: "password", autocomplete: "new-password", "aria-label": "Password" });
  const again = h("input", { type: "password", autocomplete: "new-password", "aria-label": "Password again" });
  const hash = text({ "aria-label": "Password hash" });
  const place = h("span", { class: "passwords" });
  function draw() {
    if (kind.value === "password") fill(place, password, h("span", { class: "hint" }, " again "), again);
    else if (kind.value === "hash") fill(place, hash, h("span", { class: "hint" }, " base64 of salt and SHA-256, as RabbitMQ exports it"));
    else fill(place, h("span", { class: "hint" }, kind.value === "none" ? "The user can only log in with a certificate." : ""));
  }
  draw();
  const tag = text({ value: tags });
  const flip = (word) => () => {
    const now = tag.value.split(",").map((it) => it.trim()).filter((it) => it !== "");
    tag.value = (now.includes(word) ? now.filter((it) => it !== word) : [...now, word]).join(",");
  };
  return {
    elements: [
      h("fieldset", { class: "field" }, h("legend", {}, "Password"), h("div", { class: "control" }, kind, " ", place)),
      field("Tags:", tag),
      h("div", { class: "field" }, h("span", {}), h("div", { class: "quick" }, "Set ", TAGS.map(([word, label, title]) => h("button", { type: "button", class: "plain", title, onclick: flip(word) }, label)), h("button", { type: "button", class: "plain", title: "No use of these pages; AMQP only.", onclick: () => { tag.value = ""; } }, "None"))),
    ],
    reset: () => draw(),
    value() {
      const body = { tags: tag.value };
      if (kind.value === "password") {
        if (password.value === "") throw new Error("The password is empty.");
        if (password.value !== again.value) throw new Error("The two passwords differ.");
        body.password = password.value;
      } else if (kind.value === "hash") {
        if (hash.value.trim() === "") throw new Error("The password hash is empty.");
        body.password_hash = hash.value.trim();
      } else if (kind.value === "none") {
        body.password_hash = "";
      }
      return body;
    },
  };
}

function addForm(done) {
  const name = text({ maxlength: 255 });
  const fields = userFields();
  const element = form([field("Username:", name, { required: true }), fields.elements], "Add user", async () => {
    await put(path("users", name.value), fields.value());
    await done();
  }, { success: "User added. It has no permissions yet: set some on its page.", reset: true });
  element.addEventListener("emptied", fields.reset);
  return element;
}
