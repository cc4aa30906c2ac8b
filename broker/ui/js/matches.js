// "Matches 11 of 14 queues": what a regular expression fits, shown while it is typed. The node decides with the same
// engine that later applies it.

import { get, path } from "./api.js";
import { debounced, fill, h } from "./dom.js";
import { count } from "./format.js";

const NAMES = 8;

/**
 * A preview of which names a pattern fits. `kinds` is a list of "queues" and "exchanges". `empty` is what an empty
 * pattern means.
 */
export function preview(kinds, empty = "An empty pattern matches every name.") {
  const element = h("div", { class: "matches", "aria-live": "polite" });
  let round = 0;
  const look = debounced(async (vhost, pattern, wanted) => {
    round += 1;
    const mine = round;
    if (pattern === "" && wanted.empty) {
      fill(element, h("p", { class: "hint" }, wanted.empty));
      return;
    }
    const answers = await Promise.all(wanted.kinds.map((kind) => ask(kind, vhost, pattern)));
    if (mine !== round) return;
    fill(element, answers.map((answer) => shown(answer)), pattern === "" && empty !== "" ? h("p", { class: "hint" }, empty) : null);
  }, 200);
  return {
    element,
    /** Shows what fits now; `only` narrows the kinds, `says` replaces the answer for an empty pattern. */
    show: (vhost, pattern, { only = kinds, says = "" } = {}) => look(vhost, pattern, { kinds: only, empty: says }),
  };
}

async function ask(kind, vhost, pattern) {
  try {
    const answer = await get(path(kind, vhost), { page: 1, page_size: NAMES, name: pattern, use_regex: true, pagination: true, columns: "name" });
    return { kind, ...answer };
  } catch (error) {
    return { kind, problem: error.message };
  }
}

function shown({ kind, problem, items, filtered_count: found, total_count: total }) {
  if (problem) return h("p", { class: "bad" }, problem);
  const names = items.map((it) => it.name || "(AMQP default)");
  return h("p", {}, h("strong", {}, `Matches ${count(found)} of ${count(total)} ${kind}`), names.length > 0 ? `: ${names.join(", ")}${found > names.length ? " …" : ""}` : "");
}
