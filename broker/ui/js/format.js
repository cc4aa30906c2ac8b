// Numbers, sizes, rates and times as people read them, with RabbitMQ's rules where it has some.

const MISSING = "";

/** 12345 as "12,345". */
export function count(value) {
  return typeof value === "number" && Number.isFinite(value) ? Math.round(value).toLocaleString("en-US") : MISSING;
}

/** Octets as "4.2 KiB". */
export function bytes(value) {
  if (typeof value !== "number" || !Number.isFinite(value)) return MISSING;
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let size = Math.abs(value);
  let unit = 0;
  while (size >= 1024 && unit < units.length - 1) {
    size /= 1024;
    unit += 1;
  }
  const sign = value < 0 ? "-" : "";
  return `${sign}${size < 10 && unit > 0 ? size.toFixed(1) : Math.round(size)} ${units[unit]}`;
}

/** 3.84 as "3.8/s". */
export function rate(value) {
  if (typeof value !== "number" || !Number.isFinite(value)) return MISSING;
  return `${rateNumber(value)}/s`;
}

export function rateNumber(value) {
  const size = Math.abs(value);
  if (size === 0) return "0.00";
  if (size < 1) return value.toFixed(2);
  if (size < 10) return value.toFixed(1);
  return Math.round(value).toLocaleString("en-US");
}

export const bytesRate = (value) => (typeof value === "number" ? `${bytes(value)}/s` : MISSING);

/** The rate in `stats.NAME_details`; undefined when there is none. */
export const detailRate = (stats, name) => stats?.[`${name}_details`]?.rate;

/** A rate for a table cell: nothing for what never happened, a number for what stopped. */
export function cellRate(stats, name) {
  const value = detailRate(stats, name);
  return value === undefined ? MISSING : rate(value);
}

/** Milliseconds as "3d 4h", "9m 54s". */
export function duration(ms) {
  if (typeof ms !== "number" || !Number.isFinite(ms)) return MISSING;
  const seconds = Math.max(0, Math.floor(ms / 1000));
  const parts = [
    [Math.floor(seconds / 86400), "d"],
    [Math.floor(seconds / 3600) % 24, "h"],
    [Math.floor(seconds / 60) % 60, "m"],
    [seconds % 60, "s"],
  ];
  const first = parts.findIndex(([number]) => number > 0);
  if (first < 0) return ms > 0 && ms < 1000 ? `${Math.round(ms)}ms` : "0s";
  return parts.slice(first, first + 2).map(([number, unit]) => `${number}${unit}`).join(" ");
}

const two = (number) => String(number).padStart(2, "0");

/** A point in time as "2026-11-22 14:29:33", in the reader's time zone. */
export function time(ms) {
  if (typeof ms !== "number" && typeof ms !== "string") return MISSING;
  const date = new Date(ms);
  if (Number.isNaN(date.getTime())) return String(ms);
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} ${clock(date)}`;
}

export const clock = (date) => `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;

export const percent = (share) => (typeof share === "number" ? `${Math.round(share * 100)}%` : MISSING);

/** A vhost's or exchange's name in text. */
export const exchangeName = (name) => (name === "" || name === undefined ? "(AMQP default)" : name);

/** The name an exchange has in paths. */
export const exchangePath = (name) => (name === "" ? "amq.default" : name);

/** "127.0.0.1:35462" of "127.0.0.1:35462 -> 127.0.0.1:5672", keeping a channel's number. */
export function shortConnection(name) {
  const text = name ?? "";
  const arrow = text.indexOf("->");
  if (arrow < 0) return text;
  const channel = /\(\d+\)$/.exec(text);
  return text.slice(0, arrow).trim() + (channel ? ` ${channel[0]}` : "");
}

/** JSON for a cell: objects compact, text as it is. */
export const plain = (value) => (typeof value === "string" ? value : JSON.stringify(value));

/** "1 message", "2 messages". */
export const plural = (number, word) => `${count(number)} ${word}${number === 1 ? "" : "s"}`;
