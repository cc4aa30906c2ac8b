// Fields of forms, and the editor for arguments.

import { append, button, fill, h, uid } from "./dom.js";
import { attempt, help } from "./parts.js";

/** A label with its control. */
export function field(label, control, { required = false, hint = null, helpText = null } = {}) {
  const id = control.id || uid("field");
  if (!control.id) control.id = id;
  if (required) control.required = true;
  return h("div", { class: "field" },
    h("label", { htmlFor: id }, label, required ? h("span", { class: "mandatory", "aria-hidden": "true" }, " *") : null),
    h("div", { class: "control" }, control, helpText ? help(helpText) : null, hint ? h("div", { class: "hint" }, hint) : null));
}

/** Several controls under one name. */
export function group(label, ...controls) {
  return h("fieldset", { class: "field" }, h("legend", {}, label), h("div", { class: "control" }, controls));
}

export const text = (props = {}) => h("input", { type: "text", autocomplete: "off", spellcheck: "false", ...props });
export const number = (props = {}) => h("input", { type: "number", min: "0", ...props });

/** `options` is a list of values or of [value, label]. */
export function select(options, props = {}) {
  const { value, ...rest } = props;
  const element = h("select", rest);
  setOptions(element, options, value);
  return element;
}

/** Gives a select other options; what is chosen stays chosen where it still exists. */
export function setOptions(element, options, value = element.value) {
  const pairs = options.map((option) => (Array.isArray(option) ? option : [option, option]));
  const same = element.options.length === pairs.length && pairs.every(([key], index) => element.options[index].value === key);
  if (!same) fill(element, pairs.map(([key, label]) => h("option", { value: key }, label)));
  if (value !== undefined && pairs.some(([key]) => key === value)) element.value = value;
}

export function check(label, props = {}) {
  const id = uid("check");
  const box = h("input", { type: "checkbox", id, ...props });
  return { box, element: h("span", { class: "check" }, box, h("label", { htmlFor: id }, label)) };
}

/** A form that does `work` when sent, once at a time, says `success`, and is emptied when `reset`. */
export function form(fields, label, work, { success = null, reset = false, kind = "", danger = false } = {}) {
  const submit = h("button", { type: "submit", class: danger ? "danger" : "primary" }, label);
  const element = h("form", { class: `form ${kind}`, novalidate: false });
  append(element, [fields, h("div", { class: "actions" }, submit)]);
  element.addEventListener("submit", async (event) => {
    event.preventDefault();
    submit.disabled = true;
    const worked = await attempt(work, success);
    submit.disabled = false;
    if (worked && reset) {
      // Who adds one thing to a virtual host often adds another.
      const kept = [...element.querySelectorAll("[data-keep]")].map((control) => [control, control.value]);
      element.reset();
      kept.forEach(([control, value]) => { control.value = value; });
      element.dispatchEvent(new Event("emptied"));
    }
  });
  return element;
}

const TYPES = [["string", "String"], ["number", "Number"], ["boolean", "Boolean"], ["list", "List"]];

/**
 * Edits a table of arguments: name = value, with a type. `quick` lists [label, name, type, help] that a click adds.
 * `value()` returns the object and throws when a number is none.
 */
export function argumentsEditor(label, quick = [], onchange = () => {}) {
  const rows = h("div", { class: "arguments" });
  const add = (name = "", value = "", type = "string") => {
    const key = text({ value: name, "aria-label": `${label}: name`, class: "argument-name" });
    const field = text({ value, "aria-label": `${label}: value`, class: "argument-value" });
    const kind = select(TYPES, { value: type, "aria-label": `${label}: type` });
    const row = h("div", { class: "argument" }, key, " = ", field, kind, button("×", () => { row.remove(); if (rows.childElementCount === 0) add(); onchange(); }, { class: "plain", "aria-label": `${label}: remove` }));
    row.addEventListener("input", () => {
      // There is always an empty row to go on in.
      if (row === rows.lastElementChild && key.value !== "") add();
      onchange();
    });
    rows.append(row);
    return { row, key, field };
  };
  const quickAdd = ([, name, type]) => {
    const existing = [...rows.children].find((row) => row.firstElementChild.value === name);
    if (existing) return existing.querySelector(".argument-value").focus();
    const last = rows.lastElementChild;
    if (last && last.firstElementChild.value === "") last.remove();
    const made = add(name, type === "boolean" ? "true" : "", type);
    add();
    made.field.focus();
    onchange();
    return undefined;
  };
  const element = h("fieldset", { class: "field" }, h("legend", {}, label), h("div", { class: "control" }, rows,
    quick.length > 0 ? h("div", { class: "quick" }, h("span", {}, "Add "), quick.map((it) => h("span", { class: "quick-item" }, button(it[0], () => quickAdd(it), { class: "plain" }), it[3] ? help(it[3]) : null))) : null));
  const set = (object) => {
    rows.replaceChildren();
    for (const [name, value] of Object.entries(object ?? {})) add(name, shown(value), typeOf(value));
    add();
  };
  set({});
  return { element, set, value: () => read(rows, label) };
}

const typeOf = (value) => (Array.isArray(value) ? "list" : typeof value === "number" ? "number" : typeof value === "boolean" ? "boolean" : "string");
const shown = (value) => (Array.isArray(value) ? value.map((it) => (typeof it === "string" ? it : JSON.stringify(it))).join(", ") : typeof value === "object" ? JSON.stringify(value) : String(value));

function read(rows, label) {
  const object = {};
  for (const row of rows.children) {
    const [name, value, type] = row.querySelectorAll("input, select");
    if (name.value !== "") object[name.value] = typed(value.value, type.value, name.value);
    else if (value.value !== "") throw new Error(`${label}: the value "${value.value}" has no name`);
  }
  return object;
}

function typed(value, type, name) {
  if (type === "number") {
    const number = Number(value);
    if (value.trim() === "" || !Number.isFinite(number)) throw new Error(`${name} has to be a number, but is "${value}"`);
    return number;
  }
  if (type === "boolean") {
    if (value !== "true" && value !== "false") throw new Error(`${name} has to be true or false, but is "${value}"`);
    return value === "true";
  }
  if (type === "list") return value.split(",").map((it) => it.trim()).filter((it) => it !== "");
  return value;
}
