//! Fields that describe Erlang's machine or RabbitMQ's storage: nothing here corresponds to them, but clients and
//! pages of RabbitMQ read them.

use super::fields::Fields;
use super::rates::Details;
use serde_json::{Map, Value, json};

/// `garbage_collection` of a process.
pub(super) fn garbage_collection(fields: &mut Fields<'_>) {
    fields.object("garbage_collection", |counts| {
        for name in ["fullsweep_after", "max_heap_size", "min_bin_vheap_size", "min_heap_size", "minor_gcs"] {
            counts.field(name, &0);
        }
    });
}

/// Steps of Erlang's machine, and their past at the times at which something else is known.
pub(super) fn reductions(fields: &mut Fields<'_>, details: impl FnOnce() -> Details) {
    fields.rated("reductions", 0, details);
}

/// What a quorum queue has beside: the nodes that hold it.
pub(super) fn quorum(fields: &mut Fields<'_>, leader: &str, members: &[String], online: &[String]) {
    fields.field("leader", leader);
    fields.field("members", members);
    fields.field("online", online);
    let files: Map<String, Value> = online.iter().map(|node| (node.clone(), Value::from(0))).collect();
    fields.field("open_files", &files);
    // Dead letters that still wait for a place to go: they go at once.
    fields.field("messages_dlx", &0);
    fields.field("message_bytes_dlx", &0);
}

/// `metrics_gc_queue_length` of a node.
pub(super) fn metrics_gc_queue_length() -> Value {
    json!({
        "channel_closed": 0, "channel_consumer_deleted": 0, "connection_closed": 0, "consumer_deleted": 0,
        "exchange_deleted": 0, "node_node_deleted": 0, "queue_deleted": 0, "vhost_deleted": 0,
    })
}

/// `backing_queue_status` of a queue with so many ready messages, and the rates at which they come, go and are
/// acknowledged.
pub(super) fn backing_queue_status(
    fields: &mut Fields<'_>,
    len: u64,
    next: u64,
    ingress: f64,
    egress: f64,
    acks: f64,
) {
    fields.field("avg_ack_egress_rate", &acks);
    fields.field("avg_ack_ingress_rate", &egress);
    fields.field("avg_egress_rate", &egress);
    fields.field("avg_ingress_rate", &ingress);
    fields.field("delta", &("delta", "undefined", 0, 0, "undefined"));
    fields.field("len", &len);
    fields.field("mode", "default");
    fields.field("next_deliver_seq_id", &next.saturating_sub(len));
    fields.field("next_seq_id", &next);
    for name in ["q1", "q2", "q3"] {
        fields.field(name, &0);
    }
    fields.field("q4", &len);
    fields.field("target_ram_count", "infinity");
    fields.field("version", &1);
}

/// `memory` of a node: what is known is the process as a whole and the messages in it.
pub(super) fn memory(resident: u64, messages: u64) -> Value {
    let other = resident.saturating_sub(messages);
    json!({
        "strategy": "rss",
        "total": {"allocated": resident, "erlang": resident, "rss": resident},
        "connection_readers": 0, "connection_writers": 0, "connection_channels": 0, "connection_other": 0,
        "queue_procs": messages, "queue_slave_procs": 0, "quorum_queue_procs": 0,
        "quorum_queue_dlx_procs": 0, "stream_queue_procs": 0, "stream_queue_replica_reader_procs": 0,
        "stream_queue_coordinator_procs": 0, "plugins": 0, "metrics": 0, "mgmt_db": 0, "mnesia": 0,
        // Newer clients insist on those of newer versions, too.
        "metadata_store": 0, "metadata_store_ets": 0, "quorum_ets": 0, "other_ets": 0, "binary": 0, "msg_index": 0, "code": 0, "atom": 0, "other_proc": other,
        "other_system": 0, "allocated_unused": 0, "reserved_unallocated": 0,
    })
}
