// A table of consumers, of a queue or of a channel.

import { link } from "../dom.js";
import { count, shortConnection } from "../format.js";
import { definition, state, table, yesNo } from "../parts.js";
import { to } from "../router.js";

export function consumerTable(consumers, of) {
  const first = of === "queue"
    ? ["Queue", (it) => link(to("queues", it.queue.vhost, it.queue.name), it.queue.name)]
    : ["Channel", (it) => (it.channel_details?.name ? link(to("channels", it.channel_details.name), shortConnection(it.channel_details.name)) : "")];
  return table("Consumers", [
    first,
    ["Consumer tag", (it) => it.consumer_tag],
    ["Ack required", (it) => yesNo(it.ack_required), "center"],
    ["Exclusive", (it) => yesNo(it.exclusive), "center"],
    ["Prefetch count", (it) => count(it.prefetch_count), "number"],
    ["Active", (it) => yesNo(it.active), "center"],
    ["Activity status", (it) => state(it.activity_status === "single_active" ? "up" : it.activity_status, it.activity_status === "single_active" ? "The single active consumer" : undefined)],
    ["Arguments", (it) => definition(it.arguments)],
  ], consumers, "no consumers");
}
