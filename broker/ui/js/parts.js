// The small parts that pages are made of: sections that fold, lists of facts, badges, states, help, messages, dialogs.

import { button, fill, h, uid } from "./dom.js";
import { load, save } from "./store.js";

/** A section that folds. Whether it is open is remembered under `id`. */
export function section(id, title, content, { open = true } = {}) {
  const heading = h("h2", {}, title);
  const body = h("div", { class: "section-body" }, content);
  const element = h("details", { class: "section", id: `section-${id}`, open: load(`open.${id}`, open) }, h("summary", {}, heading), body);
  element.addEventListener("toggle", () => save(`open.${id}`, element.open));
  return { element, body, setTitle: (text) => { if (heading.textContent !== text) heading.textContent = text; } };
}

/** Labels and values beside each other; entries whose value is null or undefined are left out. */
export function facts(entries) {
  const shown = entries.filter((entry) => entry && entry[1] !== null && entry[1] !== undefined);
  return h("dl", { class: "facts" }, shown.map(([label, value]) => h("div", {}, h("dt", {}, label), h("dd", {}, value === "" ? "—" : value))));
}

/** A small word with its meaning as a tool tip. */
export function badge(text, title, kind = "") {
  return h("span", { class: `badge ${kind}`, title }, text);
}

/** ● for yes and ○ for no, as RabbitMQ draws it, with the words for who cannot see it. */
export function yesNo(value) {
  return h("span", { class: value ? "yes" : "no", role: "img", "aria-label": value ? "yes" : "no" }, value ? "●" : "○");
}

const GOOD = new Set(["running", "up", "enabled", "online"]);
const BAD = new Set(["down", "crashed", "stopped", "terminated", "blocked", "nodedown"]);
const WARN = new Set(["flow", "blocking", "paused", "closing", "starting", "minority", "syncing", "tuning", "opening"]);

/** A state with its colour and its word. */
export function state(word, title) {
  const kind = GOOD.has(word) ? "good" : BAD.has(word) ? "bad" : WARN.has(word) ? "warn" : "idle";
  return h("span", { class: `state ${kind}`, title }, word ?? "unknown");
}

/** "?" that opens an explanation. */
export function help(...text) {
  const id = uid("help");
  return h("span", { class: "help" },
    h("button", { type: "button", class: "help-button", popovertarget: id, "aria-label": "Help" }, "?"),
    h("span", { id, popover: "auto", class: "help-text" }, text.map((it) => h("span", { class: "help-line" }, it))));
}

/** JSON-like definitions as RabbitMQ shows them: one line per key. */
export function definition(object) {
  const entries = Object.entries(object ?? {});
  if (entries.length === 0) return "";
  return h("ul", { class: "definition" }, entries.map(([key, value]) => h("li", {}, h("span", { class: "key" }, `${key}: `), typeof value === "string" ? value : JSON.stringify(value))));
}

/** How full something is: "50 of 20000", with a bar. */
export function bar(share, text, below, { warnAt = 0.8, badAt = 0.95 } = {}) {
  const part = Math.min(1, Math.max(0, Number.isFinite(share) ? share : 0));
  const fillElement = h("span", { class: "bar-fill" });
  fillElement.style.setProperty("inline-size", `${(part * 100).toFixed(1)}%`);
  const kind = part >= badAt ? "bad" : part >= warnAt ? "warn" : "good";
  return h("div", { class: `bar ${kind}` }, h("div", { class: "bar-track" }, fillElement, h("span", { class: "bar-text" }, text)), below ? h("div", { class: "bar-below" }, below) : null);
}

/** A table from rows that are there; `columns` is a list of [heading, cell(row), class]. */
export function table(caption, columns, rows, empty = "none") {
  if (rows.length === 0) return h("p", { class: "empty" }, `… ${empty} …`);
  return scroll(caption, h("table", {},
    h("caption", { class: "hidden" }, caption),
    h("thead", {}, h("tr", {}, columns.map(([heading, , kind]) => (heading === "" ? h("td") : h("th", { scope: "col", class: kind }, heading))))),
    h("tbody", {}, rows.map((row) => h("tr", {}, columns.map(([, cell, kind]) => h("td", { class: kind }, cell(row))))))));
}

/** What may be wider than a phone scrolls by itself, with the keyboard too. */
export function scroll(label, content) {
  return h("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": label }, content);
}

/** Where messages to the reader appear. */
const messages = h("div", { class: "toasts", role: "status", "aria-live": "polite" });
document.body.append(messages);

/** Says something. Errors stay until they are read. */
export function toast(text, kind = "good") {
  const element = h("div", { class: `toast ${kind}` }, h("span", {}, text), button("×", () => element.remove(), { "aria-label": "Dismiss", class: "plain" }));
  // A dialog lies above everything else: what is said while one is open is said inside it.
  const dialogs = document.querySelectorAll("dialog[open]");
  (dialogs.length > 0 ? dialogs[dialogs.length - 1] : messages).append(element);
  if (kind === "good") setTimeout(() => element.remove(), 5000);
  while (messages.childElementCount > 4) messages.firstElementChild.remove();
}

/** Does something that may be refused, and says how it went. Returns whether it worked. */
export async function attempt(work, success) {
  try {
    const result = await work();
    const text = typeof success === "function" ? success(result) : success;
    if (text) toast(text);
    return true;
  } catch (error) {
    toast(error.message, "bad");
    return false;
  }
}

/** Opens a dialog; `build(close)` makes its content. Resolves with what `close` is given, or null. */
export function dialog(title, build, kind = "") {
  return new Promise((resolve) => {
    const heading = uid("dialog");
    const element = h("dialog", { class: kind, "aria-labelledby": heading });
    let result = null;
    const close = (value) => {
      result = value;
      element.close();
    };
    fill(element, h("h2", { id: heading }, title), build(close));
    element.addEventListener("close", () => {
      element.remove();
      resolve(result);
    });
    element.addEventListener("click", (event) => { if (event.target === element) element.close(); });
    document.body.append(element);
    element.showModal();
  });
}

/** Asks before something that cannot be undone. With `typed`, the reader has to type that text first. */
export function confirm(title, text, { label = "OK", typed = null } = {}) {
  return dialog(title, (close) => {
    const id = uid("typed");
    const ok = h("button", { type: "submit", class: "danger", disabled: typed !== null }, label);
    const input = typed === null ? null : h("input", { id, type: "text", autocomplete: "off", oninput: () => { ok.disabled = input.value !== typed; } });
    return h("form", { onsubmit: (event) => { event.preventDefault(); close(true); } },
      h("p", {}, text),
      input && h("p", { class: "field" }, h("label", { htmlFor: id }, "Type ", h("strong", {}, typed), " to confirm: "), input),
      h("div", { class: "actions" }, button("Cancel", () => close(false)), ok));
  });
}
