// Publishing one message, and asking beforehand which queues it would reach.

import { path, post } from "../api.js";
import { fill, h, link } from "../dom.js";
import { exchangeName, exchangePath, plural } from "../format.js";
import { argumentsEditor, field, form, select, text } from "../forms.js";
import { toast } from "../parts.js";
import { to } from "../router.js";

const PROPERTIES = ["content_type", "content_encoding", "priority", "correlation_id", "reply_to", "expiration", "message_id", "timestamp", "type", "user_id", "app_id", "cluster_id"];
const NUMBERS = new Set(["priority", "timestamp"]);

/** A form that publishes to an exchange; with `fixedKey` to one queue. */
export function publishForm(vhost, exchange, fixedKey, done) {
  const key = fixedKey === undefined ? text() : null;
  const mode = select([["1", "1 - Non-persistent"], ["2", "2 - Persistent"]]);
  const headers = argumentsEditor("Headers");
  const properties = argumentsEditor("Properties", PROPERTIES.map((name) => [name, name, NUMBERS.has(name) ? "number" : "string"]));
  const payload = h("textarea", { rows: 6, class: "payload", spellcheck: "false" });
  const encoding = select([["string", "String (default)"], ["base64", "Base64"]]);
  const send = async () => {
    const own = properties.value();
    const known = new Set(PROPERTIES);
    const wrong = Object.keys(own).find((name) => !known.has(name));
    if (wrong) throw new Error(`There is no property ${wrong}; own values go into the headers.`);
    const answer = await post(path("exchanges", vhost, exchangePath(exchange), "publish"), {
      properties: { ...own, delivery_mode: Number(mode.value), headers: headers.value() },
      routing_key: fixedKey ?? key.value,
      payload: payload.value,
      payload_encoding: encoding.value,
    });
    await done?.();
    if (answer.routed) toast("Message published.");
    else toast("Message published, but not routed: no queue took it. \"Explain\" shows why.", "warn");
  };
  return form([
    fixedKey === undefined ? field("Routing key:", key) : h("p", {}, "Message will be published to the default exchange with routing key ", h("strong", {}, fixedKey), ", routing it to this queue."),
    field("Delivery mode:", mode), headers.element, properties.element, field("Payload:", payload), field("Payload encoding:", encoding),
  ], "Publish message", send);
}

/** "Which queues would this message reach": the way of a message without sending it. */
export function explainForm(vhost, exchange) {
  const key = text();
  const headers = argumentsEditor("Headers");
  const result = h("div", { class: "explained", "aria-live": "polite" });
  const element = form([field("Routing key:", key), headers.element], "Explain", async () => {
    const told = await post(path("explain", vhost, exchangePath(exchange)), { routing_key: key.value, headers: headers.value() });
    fill(result, explained(told, vhost, exchange));
  });
  return h("div", {}, h("p", {}, "Which queues would a message reach? Nothing is published."), element, result);
}

function explained(told, vhost, exchange) {
  if (!told.routed) {
    return h("p", { class: "warn-text" }, h("strong", {}, "It would reach no queue. "), told.alternate ? `The alternate exchange ${told.alternate} takes it no further.` : "It would be returned when mandatory, and dropped otherwise. Add a binding, or an alternate exchange.");
  }
  return [
    h("p", {}, h("strong", {}, `It would reach ${plural(told.queues.length, "queue")}`), told.alternate ? ` by way of the alternate exchange ${told.alternate}` : "", ":"),
    h("ul", { class: "ways" }, told.queues.map((queue) => h("li", {}, way(queue, vhost, exchange)))),
  ];
}

function way(queue, vhost, exchange) {
  const steps = queue.path ?? [];
  const here = h("span", { class: "step" }, exchangeName(exchange === "amq.default" ? "" : exchange));
  if (steps.length === 0) return [here, " → ", link(to("queues", queue.vhost ?? vhost, queue.name), queue.name)];
  return [here, steps.map((step) => {
    const target = step.destination_type === "queue" ? link(to("queues", vhost, step.destination), step.destination) : link(to("exchanges", vhost, step.destination), step.destination);
    return h("span", { class: "hop" }, h("span", { class: "via", title: step.reason }, " → ", step.reason ?? step.routing_key, " → "), target);
  })];
}
