// Charts over time. uPlot draws; the legend is ours: values under the cursor, a click hides a line, and all charts
// of a page share one cross-hair. Dragging zooms, a double click shows everything again.

import { button, fill, h } from "./dom.js";
import { bytes, bytesRate, clock, count, rate } from "./format.js";
import { load, save } from "./store.js";

export const RANGES = [
  [60, 5, "last minute"],
  [600, 5, "last ten minutes"],
  [3600, 60, "last hour"],
  [28800, 600, "last eight hours"],
  [86400, 1800, "last day"],
];

export const range = () => RANGES.find(([age]) => age === load("range", 60)) ?? RANGES[0];
export const setRange = (age) => save("range", age);

/** The query that asks for samples of the given kinds: `lengths`, `msg_rates`, `data_rates`, `node_stats`. */
export function samplesQuery(...kinds) {
  const [age, step] = range();
  return Object.fromEntries(kinds.flatMap((kind) => [[`${kind}_age`, age], [`${kind}_incr`, step]]));
}

const LIGHT = ["#b45309", "#1d63c9", "#b91c1c", "#15803d", "#7e22ce", "#57534e", "#0e7490", "#be185d", "#4d7c0f", "#3730a3", "#854d0e", "#334155", "#9d174d"];
const DARK = ["#fbbf24", "#7cc4ff", "#f87171", "#6ee7a0", "#d6a5ff", "#c8c2bb", "#5eead4", "#f9a8d4", "#bef264", "#a5b4fc", "#fde68a", "#cbd5e1", "#fda4af"];

/** Whether the page is dark now. */
export function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

const UNITS = { count, rate, bytes, bytesRate };

/** Steps of an axis: whole messages, powers of two for octets; uPlot chooses for rates. */
const COUNTS = Array.from({ length: 13 }, (_, power) => [1, 2, 5].map((step) => step * 10 ** power)).flat();
const OCTETS = Array.from({ length: 50 }, (_, power) => 2 ** power);
const STEPS = { count: COUNTS, bytes: OCTETS, bytesRate: OCTETS };
const SECONDS = [1, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400];
const MEMORY = 720;

/**
 * A chart of several lines. `lines` is a list of [key, label]; `unit` one of `count`, `rate`, `bytes`, `bytesRate`.
 * `update(stats)` reads RabbitMQ's statistics: `stats.KEY` and `stats.KEY_details` with rate and samples.
 */
export function chart({ title, lines, unit, kind = unit === "rate" || unit === "bytesRate" ? "rates" : "values", limit = null, empty = "Currently idle" }) {
  const format = UNITS[unit];
  const canvas = h("div", { class: "chart-canvas", role: "img" });
  const legend = h("ul", { class: "legend" });
  const note = h("p", { class: "chart-empty", hidden: true }, empty);
  const when = h("span", { class: "chart-time" });
  // The charts of a page are zoomed together, by uPlot; so they are shown whole together.
  const everything = () => document.dispatchEvent(new Event("whole"));
  const whole = button("Show all", everything, { class: "plain", hidden: true });
  const body = h("div", { class: "chart-body" }, canvas, h("div", { class: "chart-side" }, h("div", { class: "chart-note" }, when, whole), legend));
  const element = h("figure", { class: "chart" }, h("figcaption", {}, title), note, body);
  const off = new Set(load(`chart.${title}`, []));
  let plot = null;
  let zoomed = false;
  let now = [];
  let data = [[]];
  const remembered = [];

  const entries = lines.map(([key, label], index) => {
    const value = h("span", { class: "legend-value" });
    const swatch = h("span", { class: `swatch line-${index % LIGHT.length}`, "aria-hidden": "true" });
    const toggle = h("button", { type: "button", class: "legend-toggle", "aria-pressed": String(!off.has(key)), title: "Hide or show", onclick: () => flip(key, index) }, swatch, label);
    const item = h("li", {}, toggle, value);
    return { key, value, item, toggle };
  });
  fill(legend, entries.map((entry) => entry.item));

  function flip(key, index) {
    if (off.has(key)) off.delete(key);
    else off.add(key);
    save(`chart.${title}`, [...off]);
    entries[index].toggle.setAttribute("aria-pressed", String(!off.has(key)));
    plot?.setSeries(index + 1, { show: !off.has(key) });
  }

  const reset = () => plot?.setData(data, true);

  /** Told of every change of the range that is shown, whoever made it. */
  function ranged(self, scale) {
    const times = data[0];
    if (scale !== "x" || times.length === 0) return;
    const { min, max } = self.scales.x;
    zoomed = min > times[0] || max < times[times.length - 1];
    whole.hidden = !zoomed;
  }

  function show(index) {
    const at = index === null || index === undefined ? null : index;
    when.textContent = at === null ? "" : clock(new Date(data[0][at] * 1000));
    entries.forEach((entry, line) => {
      const value = at === null ? now[line] : data[line + 1][at];
      entry.value.textContent = format(value ?? undefined) || "—";
    });
  }

  function draw() {
    if (plot || typeof uPlot === "undefined" || canvas.clientWidth === 0) return;
    const color = (index) => (isDark() ? DARK : LIGHT)[index % LIGHT.length];
    const ink = () => (isDark() ? "#b9b4ae" : "#57534e");
    const grid = { stroke: () => (isDark() ? "#3b3936" : "#e5e2dc"), width: 1 };
    const axis = { stroke: ink, grid, ticks: grid, font: "11px system-ui, sans-serif" };
    plot = new uPlot({
      width: canvas.clientWidth,
      height: 150,
      legend: { show: false },
      cursor: { sync: { key: "page", setSeries: false }, drag: { x: true, y: false }, points: { size: 6 } },
      scales: { x: { time: true }, y: { range: (_, low, high) => [Math.min(0, low ?? 0), Math.max(1, (high ?? 0) * 1.05)] } },
      axes: [
        { ...axis, space: 70, size: 26, incrs: SECONDS, values: (_, ticks) => ticks.map((tick) => clock(new Date(tick * 1000))) },
        { ...axis, size: 62, ...(STEPS[unit] ? { incrs: STEPS[unit] } : {}), values: (_, ticks) => ticks.map((tick) => format(tick)) },
      ],
      series: [{}, ...entries.map((entry, index) => ({ label: lines[index][1], show: !off.has(entry.key), stroke: () => color(index), width: 1.6, points: { show: false }, spanGaps: true }))],
      hooks: {
        setCursor: [(self) => show(self.cursor.idx)],
        setScale: [ranged],
      },
    }, data, canvas);
    plot.over.addEventListener("dblclick", everything);
  }

  const watcher = new ResizeObserver(() => {
    if (plot && canvas.clientWidth > 0) plot.setSize({ width: canvas.clientWidth, height: 150 });
    else draw();
  });
  watcher.observe(canvas);
  const repaint = () => plot?.redraw();
  document.addEventListener("theme", repaint);
  document.addEventListener("whole", reset);

  function update(stats) {
    const known = stats ?? {};
    const present = lines.some(([key]) => known[key] !== undefined);
    note.hidden = present;
    body.hidden = !present;
    if (!present) return;
    now = lines.map(([key]) => (kind === "rates" ? known[`${key}_details`]?.rate : known[key]));
    data = sampled(known, lines, kind) ?? remember(remembered, now);
    if (limit) limit(element, known);
    if (plot) plot.setData(data, !zoomed);
    else draw();
    if (plot?.cursor.idx === null || plot?.cursor.idx === undefined) show(null);
    canvas.setAttribute("aria-label", `${title}: ${lines.map(([, label], index) => `${label} ${format(now[index]) || "none"}`).join(", ")}`);
  }

  const close = () => {
    watcher.disconnect();
    document.removeEventListener("theme", repaint);
    document.removeEventListener("whole", reset);
    plot?.destroy();
  };
  return { element, update, close };
}

/** Times and values out of the samples of an answer; null when it has none. Rates are the slope between two samples. */
export function sampled(stats, lines, kind) {
  const series = lines.map(([key]) => [...(stats[`${key}_details`]?.samples ?? [])].sort((a, b) => a.timestamp - b.timestamp));
  const longest = series.reduce((best, it) => (it.length > best.length ? it : best), []);
  if (longest.length < 2) return null;
  const times = longest.map((sample) => sample.timestamp);
  const from = kind === "rates" ? 1 : 0;
  const values = series.map((samples) => {
    const at = new Map(samples.map((sample) => [sample.timestamp, sample.sample]));
    return times.slice(from).map((time, index) => {
      const value = at.get(time);
      if (value === undefined) return null;
      if (kind !== "rates") return value;
      const before = at.get(times[index]);
      return before === undefined ? null : Math.max(0, ((value - before) * 1000) / (time - times[index]));
    });
  });
  return [times.slice(from).map((time) => time / 1000), ...values];
}

/** For what has no samples: what this page saw itself. */
function remember(kept, now) {
  kept.push([Date.now() / 1000, ...now.map((value) => value ?? null)]);
  if (kept.length > MEMORY) kept.shift();
  return now.reduce((columns, _, index) => [...columns, kept.map((row) => row[index + 1])], [kept.map((row) => row[0])]);
}
