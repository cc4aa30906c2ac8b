// The frame around the pages: login, header, tabs, alerts, and which page is open.

import { login, logout, path, whenLoggedOut, whoami, get } from "./api.js";
import { button, fill, h, isTyping, link } from "./dom.js";
import { alertStrip } from "./alerts.js";
import { isDark } from "./chart.js";
import { select, setOptions } from "./forms.js";
import { clock } from "./format.js";
import { finder, keyboardHelp } from "./finder.js";
import { INTERVALS, Live } from "./live.js";
import { section } from "./parts.js";
import { ADMIN, ROUTES, TABS } from "./pages.js";
import { current, go, match, to } from "./router.js";
import { load, save } from "./store.js";

/** What pages know of the reader and of the node. */
const app = {
  user: null,
  overview: null,
  vhosts: [],
  /** The vhost that lists are limited to; empty for all. */
  vhost: "",
  refresh: () => live.now(),
  isAdministrator: () => app.user.tags.includes("administrator"),
  isMonitor: () => app.user.tags.some((tag) => tag === "administrator" || tag === "monitoring"),
  isPolicymaker: () => app.user.tags.some((tag) => tag === "administrator" || tag === "policymaker"),
};

let page = null;
let shell = null;
const live = new Live(work, report);

async function work() {
  const opened = page;
  // What one question is refused does not take the answers of the others away.
  const answers = await Promise.allSettled([
    get(path("overview"), opened?.overviewQuery?.()),
    get(path("vhosts"), { columns: "name" }),
    opened?.refresh?.(),
  ]);
  if (opened !== page || !shell) return;
  const [overview, vhosts] = answers;
  if (vhosts.status === "fulfilled") app.vhosts = vhosts.value.map((vhost) => vhost.name).sort();
  if (overview.status === "fulfilled") {
    app.overview = overview.value;
    opened?.overview?.(overview.value);
    shell.update();
  }
  const problem = answers.find((answer) => answer.status === "rejected");
  if (problem) throw problem.reason;
  await shell.alerts.refresh();
}

function report(error) {
  if (!shell) return;
  shell.refreshed.textContent = error ? "" : `Refreshed ${clock(new Date())}`;
  const gone = error?.status === 404 && current().parts.length > 1;
  shell.trouble.hidden = !error;
  shell.trouble.textContent = !error ? "" : gone ? "This is not there (any more)." : error.status === 0 ? `Not up to date: ${error.message}.` : error.message;
  if (error && error.status === undefined) console.error(error);
}

function buildShell() {
  const interval = select(INTERVALS.map(([seconds, label]) => [String(seconds), label]), { value: String(live.seconds), "aria-label": "Refresh", onchange: () => live.setInterval(Number(interval.value)) });
  const vhost = select([["", "All"]], { id: "vhost", onchange: () => { app.vhost = vhost.value; save("vhost", app.vhost); open(); } });
  const refreshed = h("span", { class: "refreshed" });
  const trouble = h("p", { class: "trouble", role: "alert", hidden: true });
  const version = h("span", { class: "version" });
  const cluster = h("strong");
  const alerts = alertStrip(app);
  const tabs = TABS.filter((tab) => !tab.needs || tab.needs(app)).map((tab) => [tab, link(tab.href, tab.label)]);
  const admin = h("nav", { class: "side", "aria-label": "Admin", hidden: true }, ADMIN.filter((it) => !it.needs || it.needs(app)).map((it) => link(it.href, it.label)));
  const main = h("main", { id: "main", tabindex: "-1" });
  fill(document.body,
    h("a", { href: "#main", class: "skip", onclick: (event) => { event.preventDefault(); main.focus(); } }, "Skip to the page"),
    h("header", { class: "top" },
      h("div", { class: "brand" }, link("#/", "Warren"), version),
      h("div", { class: "tools" },
        h("span", { class: "tool" }, refreshed, interval),
        h("span", { class: "tool" }, h("label", { htmlFor: "vhost" }, "Virtual host"), vhost),
        h("span", { class: "tool" }, "Cluster ", cluster),
        h("span", { class: "tool" },
          button("Find…", () => finder(app), { title: "Find a queue, exchange, connection, user or page (Ctrl+K)" }),
          button("◐", flipTheme, { title: "Light or dark (t)", "aria-label": "Switch between light and dark" }),
          button("⌨", keyboardHelp, { title: "Keyboard (?)", "aria-label": "Keyboard shortcuts" })),
        h("span", { class: "tool" }, "User ", app.isAdministrator() ? link(to("users", app.user.name), app.user.name) : h("strong", {}, app.user.name), button("Log out", leave)))),
    h("nav", { class: "tabs", "aria-label": "Main" }, tabs.map(([, element]) => element)),
    alerts.element, trouble,
    h("div", { class: "columns" }, main, admin),
    h("footer", {}, link("api/overview", "HTTP API"), link("api/openapi.json", "OpenAPI"), button("Keyboard", keyboardHelp, { class: "plain" })),
    toasts);
  return {
    main, refreshed, trouble, alerts, admin,
    update() {
      const overview = app.overview;
      version.textContent = `${overview.product_name ?? "Warren"} ${overview.product_version ?? ""}`;
      cluster.textContent = overview.cluster_name ?? "";
      setOptions(vhost, [["", "All"], ...app.vhosts.map((name) => [name, name])], app.vhost);
      if (app.vhost !== vhost.value) app.vhost = vhost.value;
    },
    mark(tab) {
      for (const [entry, element] of tabs) {
        if (entry.id === tab) element.setAttribute("aria-current", "page");
        else element.removeAttribute("aria-current");
      }
      admin.hidden = tab !== "admin";
      const { parts } = current();
      for (const element of admin.children) {
        const own = element.getAttribute("href").split("/")[1];
        if (own === parts[0] || (own === "policies" && parts[0] === "operators")) element.setAttribute("aria-current", "page");
        else element.removeAttribute("aria-current");
      }
    },
  };
}

const toasts = document.querySelector(".toasts");

/** Opens the page of the address. */
function open() {
  if (!app.user) return showLogin();
  const found = match(ROUTES, current().parts);
  page?.close?.();
  page = null;
  shell ??= buildShell();
  shell.trouble.hidden = true;
  shell.refreshed.textContent = "";
  const title = found ? found.route.title(found.params) : "Not found";
  document.title = `${title} · ${app.overview?.cluster_name ?? "Warren"}`;
  const root = h("div", { class: "page" });
  fill(shell.main, h("h1", {}, found?.route.heading ? found.route.heading(found.params) : title), root);
  shell.mark(found?.route.tab);
  if (found) page = found.route.open(root, found.params, app);
  else root.append(section("lost", "There is no such page", link("#/", "To the overview")).element);
  window.scrollTo(0, 0);
  return live.now();
}

function showLogin(text = "") {
  live.stop();
  page?.close?.();
  page = null;
  shell = null;
  app.user = null;
  document.title = "Log in";
  const name = h("input", { id: "username", name: "username", type: "text", autocomplete: "username", required: true, autofocus: true, autocapitalize: "none", spellcheck: "false" });
  const password = h("input", { id: "password", name: "password", type: "password", autocomplete: "current-password", required: true });
  const problem = h("p", { class: "bad", role: "alert" }, text);
  const submit = h("button", { type: "submit", class: "primary" }, "Log in");
  const send = async (event) => {
    event.preventDefault();
    submit.disabled = true;
    problem.textContent = "";
    try {
      app.user = await login(name.value, password.value);
      enter();
    } catch (error) {
      problem.textContent = error.status === 401 ? (error.message === "Login failed" ? "Login failed: wrong user name or password." : error.message) : error.message;
      password.value = "";
      password.focus();
    }
    submit.disabled = false;
  };
  fill(document.body, h("main", { class: "login" },
    h("h1", {}, "Warren"),
    h("form", { onsubmit: send },
      h("div", { class: "field" }, h("label", { htmlFor: "username" }, "Username:"), name),
      h("div", { class: "field" }, h("label", { htmlFor: "password" }, "Password:"), password),
      problem, h("div", { class: "actions" }, submit))), toasts);
  name.focus();
}

function enter() {
  app.user.tags = Array.isArray(app.user.tags) ? app.user.tags : String(app.user.tags ?? "").split(",");
  app.vhost = load("vhost", "");
  if (current().parts[0] === "login") go();
  open();
}

async function leave() {
  await logout();
  showLogin();
}

function flipTheme() {
  const theme = isDark() ? "light" : "dark";
  document.documentElement.dataset.theme = theme;
  save("theme", theme);
  document.dispatchEvent(new Event("theme"));
}

/** Keys for the whole page. `g` waits for the letter of a tab. */
let waitsForTab = false;
document.addEventListener("keydown", (event) => {
  if (!app.user || document.querySelector("dialog[open]")) return;
  if ((event.ctrlKey || event.metaKey) && event.key === "k") {
    event.preventDefault();
    finder(app);
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target)) return;
  if (waitsForTab) {
    waitsForTab = false;
    const tab = TABS.find((it) => it.letter === event.key);
    if (tab) location.hash = tab.href;
    return;
  }
  const row = event.target.closest?.("tbody tr");
  const actions = {
    g: () => { waitsForTab = true; setTimeout(() => { waitsForTab = false; }, 1500); },
    r: () => live.now(),
    t: flipTheme,
    "?": keyboardHelp,
    "/": () => { const search = shell.main.querySelector("input[type=search]"); if (search) search.focus(); else finder(app); },
    j: () => step(row, 1),
    k: () => step(row, -1),
  };
  const action = actions[event.key];
  if (!action) return;
  event.preventDefault();
  action();
});

/** To the first link of the next or the previous row. */
function step(row, by) {
  const rows = [...shell.main.querySelectorAll("table.rows tbody tr")];
  const next = rows[row ? rows.indexOf(row) + by : 0];
  next?.querySelector("a")?.focus();
}

whenLoggedOut(() => { if (app.user) showLogin("The session has ended. Log in again."); });
window.addEventListener("hashchange", open);

try {
  app.user = await whoami();
  enter();
} catch (error) {
  showLogin(error.status === 0 ? error.message : "");
}
