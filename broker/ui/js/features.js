// The features of queues and exchanges, with RabbitMQ's abbreviations.

import { link } from "./dom.js";
import { plain } from "./format.js";
import { badge, definition, facts } from "./parts.js";
import { to } from "./router.js";

/** Arguments that have a badge of their own: key, badge. */
const KNOWN = {
  "x-message-ttl": "TTL", "message-ttl": "TTL", "x-expires": "Exp", "expires": "Exp", "x-max-length": "Lim", "max-length": "Lim",
  "x-max-length-bytes": "Lim B", "max-length-bytes": "Lim B", "x-overflow": "Ovfl", overflow: "Ovfl", "x-delivery-limit": "DlL",
  "delivery-limit": "DlL", "x-dead-letter-exchange": "DLX", "dead-letter-exchange": "DLX", "x-dead-letter-routing-key": "DLK",
  "dead-letter-routing-key": "DLK", "x-max-priority": "Pri", "x-single-active-consumer": "SAC", "alternate-exchange": "AE",
};

/** The type of a queue is a column of its own. */
const HIDDEN = new Set(["x-queue-type"]);

/** The badges of a queue or an exchange. */
export function features(it) {
  const shown = [];
  if (it.durable) shown.push(badge("D", "durable: true"));
  if (it.auto_delete) shown.push(badge("AD", "auto-delete: true"));
  if (it.exclusive) shown.push(badge("Excl", "exclusive: true"));
  if (it.internal) shown.push(badge("I", "internal: true"));
  if (it.paused) shown.push(badge("Paused", "Consumers get nothing until it is resumed", "warn"));
  const own = it.arguments ?? {};
  const policy = it.effective_policy_definition ?? {};
  const seen = new Set();
  for (const [key, value] of [...Object.entries(own), ...Object.entries(policy)]) {
    const word = KNOWN[key];
    if (!word || seen.has(word)) continue;
    seen.add(word);
    shown.push(badge(word, `${key}: ${plain(value)}`));
  }
  const others = Object.entries(own).filter(([key]) => !KNOWN[key] && !HIDDEN.has(key));
  if (others.length > 0) shown.push(badge("Args", others.map(([key, value]) => `${key}: ${plain(value)}`).join("\n")));
  if (it.policy) shown.push(badge(it.policy, `Policy: ${it.policy}`, "policy"));
  if (it.operator_policy) shown.push(badge(it.operator_policy, `Operator policy: ${it.operator_policy}`, "policy"));
  return shown;
}

/** The same in words, for the page of one. */
export function featureList(it) {
  const flags = Object.fromEntries(["durable", "auto_delete", "exclusive", "internal"].filter((key) => it[key]).map((key) => [key.replace("_", "-"), true]));
  return definition({ ...(it.arguments ?? {}), ...flags });
}

/** Which policies apply, and what comes of them. */
export function policyFacts(it) {
  return facts([
    ["Policy", it.policy ? link(to("policies", it.vhost, it.policy), it.policy) : ""],
    ["Operator policy", it.operator_policy ? link(to("operators", it.vhost, it.operator_policy), it.operator_policy) : ""],
    ["Effective policy definition", definition(it.effective_policy_definition)],
  ]);
}

/** The nodes that hold a queue or shall, its leader first, and those of them that have every message. */
export function copiesOf(it) {
  if (!it.copies) return null;
  const all = [{ node: it.node, state: it.state === "down" ? "down" : "synchronised", leads: true }, ...it.copies];
  return { all, fine: all.filter((copy) => copy.state === "synchronised") };
}

/** How far a queue is copied, as RabbitMQ says it: "+2" for two mirrors that have every message, "+1" in red for one that has not. */
export function copies(it) {
  const { all, fine } = copiesOf(it) ?? { all: [] };
  if (all.length < 2) return null;
  const names = (some) => some.map((copy) => copy.node).join(", ");
  const mirrors = fine.filter((copy) => !copy.leads);
  const missing = all.filter((copy) => !fine.includes(copy));
  return [
    badge(`+${mirrors.length}`, mirrors.length > 0 ? `Synchronised mirrors: ${names(mirrors)}` : "There are no synchronised mirrors", mirrors.length > 0 ? "good" : ""),
    missing.length > 0 ? [" ", badge(`+${missing.length}`, `Unsynchronised mirrors: ${names(missing)}`, "bad")] : null,
  ];
}
