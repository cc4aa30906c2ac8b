// A list of things: search, filter chips, sorting, pages, columns to choose, rows to select. Large lists are cut into
// pages, sorted and searched by the node; small ones here.

import { get, withQuery } from "./api.js";
import { button, debounced, fill, h, uid } from "./dom.js";
import { count } from "./format.js";
import { check, select, setOptions, text } from "./forms.js";
import { help, scroll } from "./parts.js";
import { current, setQuery } from "./router.js";
import { load, save } from "./store.js";

const SIZES = [20, 50, 100, 200, 500];

/**
 * `columns`: [{ id, label, group, sort, cell(row), kind, off or off(rows) }]; `key(row)` names a row. `path()` is asked for the rows;
 * with `here` all of them come at once. `chips`: [{ id, label, title, where | test(row) }]: the node picks from all rows by
 * `where`, and this page from those it shows by `test`. `actions`: [{ label, run(rows), danger }].
 */
export class List {
  constructor(options) {
    this.options = { here: false, chips: [], actions: [], extra: () => ({}), noun: "items", ...options };
    const { query } = current();
    const own = (name) => query.get(name) ?? "";
    this.page = Number.parseInt(own("page"), 10) || 1;
    this.size = load(`${options.id}.size`, 100);
    this.search = own("name");
    this.regex = own("use_regex") === "true";
    this.sort = own("sort") || options.sort || "";
    this.reverse = own("sort_reverse") === "true";
    this.chips = new Set(own("filter").split(",").filter((it) => it !== ""));
    this.selected = new Map();
    this.rows = [];
    this.build();
  }

  build() {
    const { id, label, chips } = this.options;
    const again = debounced(() => this.change({ page: 1 }), 150);
    const search = uid("search");
    this.searchField = h("input", { type: "search", id: search, value: this.search, placeholder: "Filter by name", autocomplete: "off", spellcheck: "false", class: "list-search", oninput: () => { this.search = this.searchField.value; again(); } });
    const regex = check("Regex", { checked: this.regex, onchange: () => { this.regex = regex.box.checked; again(); } });
    this.pages = select([["1", "1"]], { "aria-label": "Page", onchange: () => this.change({ page: Number(this.pages.value) }) });
    this.of = h("span", {}, "of 1");
    this.back = button("‹", () => this.change({ page: this.page - 1 }), { "aria-label": "Previous page" });
    this.next = button("›", () => this.change({ page: this.page + 1 }), { "aria-label": "Next page" });
    const size = select(SIZES.map((it) => [String(it), String(it)]), { value: String(this.size), "aria-label": "Rows on a page", onchange: () => { this.size = Number(size.value); save(`${id}.size`, this.size); this.change({ page: 1 }); } });
    this.shown = h("span", { class: "list-count", "aria-live": "polite" });
    this.problem = h("p", { class: "bad", role: "alert", hidden: true });
    this.bulk = h("div", { class: "bulk", hidden: true });
    this.head = h("thead");
    this.body = h("tbody");
    this.empty = h("p", { class: "empty", hidden: true });
    this.element = h("div", { class: "list" },
      h("div", { class: "list-bar" },
        h("span", { class: "list-find" }, h("label", { htmlFor: search, class: "hidden" }, `Filter ${label}`), this.searchField, regex.element, help("Part of the name, or, with Regex, a regular expression.", "Press / to search from anywhere on the page.")),
        chips.length > 0 ? h("span", { class: "chips", role: "group", "aria-label": "Show only" }, chips.map((chip) => this.chip(chip))) : null,
        h("span", { class: "list-pages" }, this.shown, " ", this.back, this.pages, this.of, this.next, h("span", {}, " page size "), size, this.columnChooser())),
      this.problem, this.bulk, scroll(label, h("table", { class: "rows" }, h("caption", { class: "hidden" }, label), this.head, this.body)), this.empty);
    this.drawHead();
  }

  chip(chip) {
    const element = button(chip.label, () => {
      if (this.chips.has(chip.id)) this.chips.delete(chip.id);
      else this.chips.add(chip.id);
      element.setAttribute("aria-pressed", String(this.chips.has(chip.id)));
      this.change({ page: 1 });
    }, { class: "chip", title: chip.title, "aria-pressed": String(this.chips.has(chip.id)) });
    return element;
  }

  /** The columns that are shown. */
  get columns() {
    const chosen = load(`${this.options.id}.columns`, {});
    const off = (column) => (typeof column.off === "function" ? column.off(this.rows) : column.off);
    return this.options.columns.filter((column) => chosen[column.id] ?? !off(column));
  }

  columnChooser() {
    const id = uid("columns");
    const { columns, id: name } = this.options;
    const box = (column) => {
      const shown = check(column.group ? `${column.group}: ${column.label}` : column.label, { checked: this.columns.includes(column), onchange: () => {
        save(`${name}.columns`, { ...load(`${name}.columns`, {}), [column.id]: shown.box.checked });
        this.drawHead();
        this.drawBody();
      } });
      return h("li", {}, shown.element);
    };
    return h("span", {}, h("button", { type: "button", popovertarget: id, title: "Choose columns", "aria-label": "Choose columns" }, "+/-"), h("div", { id, popover: "auto", class: "column-chooser" }, h("strong", {}, "Columns"), h("ul", {}, columns.map(box))));
  }

  change(values) {
    Object.assign(this, values);
    setQuery({ page: this.page === 1 ? "" : this.page, name: this.search, use_regex: this.regex ? "true" : "", sort: this.sort === (this.options.sort ?? "") ? "" : this.sort, sort_reverse: this.reverse ? "true" : "", filter: [...this.chips].join(",") });
    this.refresh();
  }

  async refresh() {
    this.asked = (this.asked ?? 0) + 1;
    const { asked } = this;
    let answer;
    try {
      answer = await (this.options.here ? this.readHere() : this.readPage());
    } catch (error) {
      if (error.status !== 400) throw error;
      // What was searched for is not right: say so beside the search, and keep the rows.
      if (asked === this.asked) this.refuse(error.message);
      return;
    }
    if (asked !== this.asked) return;
    this.refuse("");
    this.answer = answer;
    const before = this.columns.length;
    this.rows = answer.items;
    this.options.onTotal?.(answer.total_count, answer);
    if (this.columns.length !== before) this.drawHead();
    this.drawBody();
    this.drawPages();
  }

  refuse(text) {
    this.problem.textContent = text;
    this.problem.hidden = text === "";
  }

  async readPage() {
    const { path, extra, fields } = this.options;
    const ask = (page) => get(withQuery(path(), { page, page_size: this.size, name: this.search, use_regex: this.regex, pagination: true, sort: this.sort, sort_reverse: this.sort ? this.reverse : "", where: this.chosen().map((chip) => chip.where).filter(Boolean).join(","), columns: fields?.join(","), ...extra() }));
    let answer;
    try {
      answer = await ask(this.page);
    } catch (error) {
      // The list became shorter than the page that was looked at.
      if (error.status !== 400 || this.page === 1) throw error;
      this.page = 1;
      answer = await ask(1);
    }
    if (Array.isArray(answer)) answer = { items: answer, total_count: answer.length, filtered_count: answer.length, page: 1, page_count: 1 };
    return { ...answer, items: answer.items.filter((row) => this.passes(row)) };
  }

  /** The chips that are pressed. */
  chosen() {
    return this.options.chips.filter((chip) => this.chips.has(chip.id));
  }

  /** Whether a row is what the pressed chips want that the node does not know. */
  passes(row) {
    return this.chosen().every((chip) => !chip.test || chip.test(row));
  }

  async readHere() {
    const all = await this.options.read();
    const name = this.options.name ?? ((row) => row.name);
    const fits = matcher(this.search, this.regex);
    const found = all.filter((row) => fits(name(row)) && this.passes(row));
    if (this.sort) found.sort((a, b) => compare(at(a, this.sort), at(b, this.sort)) * (this.reverse ? -1 : 1));
    const pages = Math.max(1, Math.ceil(found.length / this.size));
    this.page = Math.min(this.page, pages);
    return { items: found.slice((this.page - 1) * this.size, this.page * this.size), total_count: all.length, filtered_count: found.length, page: this.page, page_count: pages };
  }

  drawPages() {
    const { page_count: pages, filtered_count: found, total_count: total } = this.answer;
    // A million rows make ten thousand pages: the ones around are enough to choose from.
    const near = [...new Set([1, ...Array.from({ length: 11 }, (_, index) => this.page - 5 + index), pages])].filter((it) => it >= 1 && it <= pages);
    setOptions(this.pages, near.map((it) => [String(it), String(it)]), String(this.page));
    this.of.textContent = ` of ${count(pages)} `;
    this.back.disabled = this.page <= 1;
    this.next.disabled = this.page >= pages;
    const noun = total === 1 ? this.options.noun.replace(/ies$/, "y").replace(/s$/, "") : this.options.noun;
    const all = found === total ? `${count(total)} ${noun}` : `${count(found)} of ${count(total)} ${noun}`;
    // Chips that the node does not know pick, with several pages, from the one that is shown, and say so.
    const text = this.chosen().some((chip) => chip.test) && !this.options.here ? `${count(this.rows.length)} ${pages > 1 ? "on this page" : "shown"}, ${all}` : all;
    if (this.shown.textContent !== text) this.shown.textContent = text;
  }

  drawHead() {
    const { columns } = this;
    const groups = [];
    for (const column of columns) {
      const last = groups[groups.length - 1];
      if (last && last.name === (column.group ?? "")) last.span += 1;
      else groups.push({ name: column.group ?? "", span: 1 });
    }
    const selects = this.options.actions.length > 0;
    this.allBox = selects ? h("input", { type: "checkbox", "aria-label": "Select all rows on this page", onchange: () => this.selectAll(this.allBox.checked) }) : null;
    const cell = (column) => {
      if (column.label === "") return h("td");
      if (!column.sort) return h("th", { scope: "col", class: column.kind }, column.label);
      const active = this.sort === column.sort;
      return h("th", { scope: "col", class: column.kind, "aria-sort": active ? (this.reverse ? "descending" : "ascending") : "none" },
        button([column.label, active ? (this.reverse ? " ▼" : " ▲") : ""], () => {
          // Numbers are looked at from the largest down.
          const reverse = active ? !this.reverse : column.kind === "number";
          this.sort = column.sort;
          this.reverse = reverse;
          this.drawHead();
          this.change({ page: 1 });
          this.head.querySelector("th[aria-sort='ascending'] button, th[aria-sort='descending'] button")?.focus();
        }, { class: "sort" }));
    };
    fill(this.head,
      groups.some((group) => group.name !== "") ? h("tr", { class: "groups" }, selects ? h("td") : null, groups.map((group) => (group.name === "" ? h("td", { colspan: group.span }) : h("th", { colspan: group.span, scope: "colgroup" }, group.name)))) : null,
      h("tr", {}, selects ? h("td", { class: "tick" }, this.allBox) : null, columns.map(cell)));
  }

  drawBody() {
    const { columns } = this;
    const focus = this.focused();
    const { key, actions } = this.options;
    for (const id of this.selected.keys()) if (!this.rows.some((row) => key(row) === id)) this.selected.delete(id);
    fill(this.body, this.rows.map((row) => {
      const id = key(row);
      const tick = actions.length > 0 ? h("td", { class: "tick" }, h("input", { type: "checkbox", checked: this.selected.has(id), "aria-label": `Select ${this.options.name?.(row) ?? row.name}`, onchange: (event) => this.select(row, event.target.checked) })) : null;
      return h("tr", { dataset: { key: id }, class: this.options.rowKind?.(row) }, tick, columns.map((column) => h("td", { class: column.kind }, column.cell(row))));
    }));
    this.empty.hidden = this.rows.length > 0;
    this.empty.textContent = this.search === "" && this.chips.size === 0 ? `… no ${this.options.noun} …` : `… no ${this.options.noun} like that …`;
    this.drawBulk();
    if (focus) [...this.body.children].find((row) => row.dataset.key === focus.key)?.querySelectorAll("a, button, input")[focus.index]?.focus({ preventScroll: true });
  }

  /** Which row and which of its links has the keyboard, so that a new table can give it back. */
  focused() {
    const row = document.activeElement?.closest?.("tr");
    if (!row || row.parentElement !== this.body) return null;
    return { key: row.dataset.key, index: [...row.querySelectorAll("a, button, input")].indexOf(document.activeElement) };
  }

  select(row, chosen) {
    if (chosen) this.selected.set(this.options.key(row), row);
    else this.selected.delete(this.options.key(row));
    this.drawBulk();
  }

  selectAll(chosen) {
    for (const row of this.rows) if (chosen) this.selected.set(this.options.key(row), row);
    if (!chosen) this.selected.clear();
    this.drawBody();
  }

  drawBulk() {
    if (this.allBox) this.allBox.checked = this.rows.length > 0 && this.selected.size === this.rows.length;
    const chosen = [...this.selected.values()];
    this.bulk.hidden = chosen.length === 0;
    if (chosen.length === 0) return;
    fill(this.bulk, h("strong", {}, `${count(chosen.length)} selected`), this.options.actions.map((action) => button(action.label, async () => {
      if (await action.run(chosen)) this.selected.clear();
      await this.refresh();
    }, { class: action.danger ? "danger" : "" })), button("Clear", () => this.selectAll(false), { class: "plain" }));
  }
}

let several = false;
/** Whether all that was ever listed is of one node: then nobody needs its name. */
export function ofOneNode(rows) {
  several ||= rows.some((row) => row.node !== rows[0].node);
  return !several;
}

/** Whether a name fits what is searched for. */
export function matcher(search, regex) {
  if (search === "") return () => true;
  if (!regex) return (name) => String(name).toLowerCase().includes(search.toLowerCase());
  try {
    const pattern = new RegExp(search);
    return (name) => pattern.test(name);
  } catch (error) {
    const refusal = new Error(`invalid regex: ${error.message}`);
    refusal.status = 400;
    throw refusal;
  }
}

const at = (row, key) => key.split(".").reduce((value, part) => value?.[part], row);

function compare(a, b) {
  if (typeof a === "number" && typeof b === "number") return a - b;
  return String(a ?? "").localeCompare(String(b ?? ""), "en", { numeric: true });
}
