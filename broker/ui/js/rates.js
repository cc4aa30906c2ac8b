// The lines of the charts, with RabbitMQ's names for them.

export const LENGTHS = [
  ["messages_ready", "Ready"],
  ["messages_unacknowledged", "Unacked"],
  ["messages", "Total"],
];

const DELIVERIES = [
  ["deliver", "Deliver (manual ack)"],
  ["deliver_no_ack", "Deliver (auto ack)"],
  ["ack", "Consumer ack"],
  ["redeliver", "Redelivered"],
  ["get", "Get (manual ack)"],
  ["get_no_ack", "Get (auto ack)"],
  ["get_empty", "Get (empty)"],
];

export const MESSAGES = [
  ["publish", "Publish"],
  ["confirm", "Publisher confirm"],
  ...DELIVERIES,
  ["return_unroutable", "Unroutable (return)"],
  ["drop_unroutable", "Unroutable (drop)"],
  ["disk_reads", "Disk read"],
  ["disk_writes", "Disk write"],
];

/** A queue has no confirms and nothing unroutable. */
export const QUEUE = [["publish", "Publish"], ...DELIVERIES];

export const CHANNEL = MESSAGES.filter(([key]) => !key.startsWith("disk_"));

export const EXCHANGE = [["publish_in", "Publish (In)"], ["publish_out", "Publish (Out)"]];

export const TRAFFIC = [["recv_oct", "From client"], ["send_oct", "To client"]];

export const CHURN = {
  "Connection operations": [["connection_created", "Created"], ["connection_closed", "Closed"]],
  "Channel operations": [["channel_created", "Created"], ["channel_closed", "Closed"]],
  "Queue operations": [["queue_declared", "Declared"], ["queue_created", "Created"], ["queue_deleted", "Deleted"]],
};
