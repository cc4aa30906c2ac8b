// "Find…": one box for queues, exchanges, connections, users and pages; and the list of keys.

import { get, path } from "./api.js";
import { button, debounced, fill, h } from "./dom.js";
import { exchangeName, exchangePath, shortConnection } from "./format.js";
import { dialog } from "./parts.js";
import { ADMIN, TABS } from "./pages.js";
import { to } from "./router.js";

const EACH = 6;

export function finder(app) {
  return dialog("Find", (close) => {
    const list = h("ul", { class: "found" });
    const status = h("p", { class: "hint", role: "status" });
    const field = h("input", { type: "search", "aria-label": "Find a queue, exchange, connection, user or page", placeholder: "Name of a queue, exchange, connection, user or page", class: "wide", autofocus: true });
    let round = 0;
    const show = (entries) => fill(list, entries.map(([kind, name, where, href]) => h("li", {}, h("a", { href, onclick: () => close(null) }, h("span", { class: "badge" }, kind), " ", name, where ? h("span", { class: "hint" }, ` in ${where}`) : null))));
    const search = debounced(async () => {
      round += 1;
      const mine = round;
      const wanted = field.value.trim();
      const pages = [...TABS, ...ADMIN].filter((it) => it.label.toLowerCase().includes(wanted.toLowerCase())).map((it) => ["page", it.label, "", it.href]);
      const found = wanted === "" ? [] : (await Promise.all([
        some("queues", wanted, (it) => ["queue", it.name, it.vhost, to("queues", it.vhost, it.name)]),
        some("exchanges", wanted, (it) => ["exchange", exchangeName(it.name), it.vhost, to("exchanges", it.vhost, exchangePath(it.name))]),
        some("connections", wanted, (it) => ["connection", it.user_provided_name ?? shortConnection(it.name), it.vhost, to("connections", it.name)]),
        app.isAdministrator() ? some("users", wanted, (it) => ["user", it.name, "", to("users", it.name)]) : [],
      ])).flat();
      if (mine !== round) return;
      show([...found, ...pages]);
      status.textContent = found.length + pages.length === 0 ? "Nothing has such a name." : "";
    });
    field.addEventListener("input", search);
    field.addEventListener("keydown", (event) => {
      if (event.key === "ArrowDown") { event.preventDefault(); list.querySelector("a")?.focus(); }
      if (event.key === "Enter") { event.preventDefault(); list.querySelector("a")?.click(); }
    });
    list.addEventListener("keydown", (event) => {
      const links = [...list.querySelectorAll("a")];
      const at = links.indexOf(document.activeElement);
      if (event.key === "ArrowDown") { event.preventDefault(); links[at + 1]?.focus(); }
      if (event.key === "ArrowUp") { event.preventDefault(); (links[at - 1] ?? field).focus(); }
    });
    search();
    return [field, status, list, h("div", { class: "actions" }, button("Close", () => close(null)))];
  }, "find");
}

/** The first few with such a name; nothing when they may not be seen. */
async function some(kind, name, entry) {
  try {
    const answer = await get(path(kind), { page: 1, page_size: EACH, name, use_regex: false, pagination: true });
    return (answer.items ?? answer.filter((it) => it.name.includes(name)).slice(0, EACH)).map(entry);
  } catch {
    return [];
  }
}

const KEYS = [
  ["/", "search this list"], ["Ctrl+K", "find a queue, exchange, connection, user or page"], ["j, k", "next and previous row"],
  ["Enter", "open what is marked"], ["r", "refresh now"], ["t", "light or dark"], ["Esc", "close a dialog"], ["?", "this list"],
];

export function keyboardHelp() {
  const tabs = TABS.map((tab) => [`g ${tab.letter}`, tab.label]);
  return dialog("Keyboard", (close) => [
    h("dl", { class: "facts keys" }, [...KEYS, ...tabs].map(([keys, meaning]) => h("div", {}, h("dt", {}, h("kbd", {}, keys)), h("dd", {}, meaning)))),
    h("div", { class: "actions" }, button("Close", () => close(null), { autofocus: true })),
  ]);
}

