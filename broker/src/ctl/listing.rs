//! Queues, exchanges, bindings, connections, channels and consumers, with the columns of rabbitmqctl.
//!
//! A column has RabbitMQ's name for the command line; where the API calls it otherwise, or where it is put
//! together from several fields, [`Column`] says how.

use super::client::encoded;
use super::error::CtlError;
use super::format::Rows;
use super::run::Run;
use daemon::diagnostic::suggest;
use serde_json::{Value, json};

/// How a column comes out of an entry of the API.
#[derive(Clone, Copy)]
enum Column {
    /// The field of that name.
    Same,
    /// A field inside objects, under another name.
    Field(&'static [&'static str]),
    /// Put together; with the fields it is made of.
    Made(&'static [&'static str], fn(&Value) -> Value),
    /// There is no such thing here.
    Nothing,
}

/// What a list can show.
type Columns = &'static [(&'static str, Column)];

const QUEUE: Columns = &[
    ("name", Column::Same),
    ("vhost", Column::Same),
    ("messages", Column::Same),
    ("durable", Column::Same),
    ("auto_delete", Column::Same),
    ("arguments", Column::Same),
    ("policy", Column::Same),
    ("operator_policy", Column::Same),
    ("effective_policy_definition", Column::Same),
    ("pid", Column::Made(&["node", "name"], queue_pid)),
    ("owner_pid", Column::Made(&["owner_pid_details", "node"], owner_pid)),
    ("exclusive", Column::Same),
    ("exclusive_consumer_pid", Column::Nothing),
    ("exclusive_consumer_tag", Column::Same),
    ("single_active_consumer_pid", Column::Nothing),
    ("single_active_consumer_tag", Column::Same),
    ("messages_ready", Column::Same),
    ("messages_unacknowledged", Column::Same),
    ("messages_ready_ram", Column::Same),
    ("messages_unacknowledged_ram", Column::Same),
    ("messages_ram", Column::Same),
    ("messages_persistent", Column::Same),
    ("messages_paged_out", Column::Same),
    ("message_bytes", Column::Same),
    ("message_bytes_ready", Column::Same),
    ("message_bytes_unacknowledged", Column::Same),
    ("message_bytes_ram", Column::Same),
    ("message_bytes_persistent", Column::Same),
    ("message_bytes_paged_out", Column::Same),
    ("head_message_timestamp", Column::Same),
    ("disk_reads", Column::Nothing),
    ("disk_writes", Column::Nothing),
    ("consumers", Column::Same),
    ("consumer_utilisation", Column::Same),
    ("consumer_capacity", Column::Same),
    ("memory", Column::Same),
    ("slave_pids", Column::Made(&["slave_nodes"], mirror_pids)),
    ("synchronised_slave_pids", Column::Made(&["synchronised_slave_nodes"], synchronised_pids)),
    ("mirror_pids", Column::Made(&["slave_nodes"], mirror_pids)),
    ("synchronised_mirror_pids", Column::Made(&["synchronised_slave_nodes"], synchronised_pids)),
    ("leader", Column::Field(&["node"])),
    ("members", Column::Same),
    ("online", Column::Same),
    ("state", Column::Same),
    ("type", Column::Same),
];

const EXCHANGE: Columns = &[
    ("name", Column::Same),
    ("vhost", Column::Same),
    ("type", Column::Same),
    ("durable", Column::Same),
    ("auto_delete", Column::Same),
    ("internal", Column::Same),
    ("arguments", Column::Same),
    ("policy", Column::Same),
    ("user_who_performed_action", Column::Same),
];

const BINDING: Columns = &[
    ("source_name", Column::Field(&["source"])),
    ("source_kind", Column::Made(&[], |_| json!("exchange"))),
    ("destination_name", Column::Field(&["destination"])),
    ("destination_kind", Column::Field(&["destination_type"])),
    ("routing_key", Column::Same),
    ("arguments", Column::Same),
    ("vhost", Column::Same),
];

const CONNECTION: Columns = &[
    ("pid", Column::Made(&["node", "name"], connection_pid)),
    ("name", Column::Same),
    ("user_provided_name", Column::Same),
    ("port", Column::Same),
    ("host", Column::Same),
    ("peer_port", Column::Same),
    ("peer_host", Column::Same),
    ("ssl", Column::Same),
    ("ssl_protocol", Column::Same),
    ("ssl_key_exchange", Column::Same),
    ("ssl_cipher", Column::Same),
    ("ssl_hash", Column::Same),
    ("peer_cert_subject", Column::Same),
    ("peer_cert_issuer", Column::Same),
    ("peer_cert_validity", Column::Same),
    ("state", Column::Same),
    ("channels", Column::Same),
    ("protocol", Column::Made(&["protocol"], protocol)),
    ("auth_mechanism", Column::Same),
    ("user", Column::Same),
    ("vhost", Column::Same),
    ("timeout", Column::Same),
    ("frame_max", Column::Same),
    ("channel_max", Column::Same),
    ("client_properties", Column::Same),
    ("connected_at", Column::Same),
    ("recv_oct", Column::Same),
    ("recv_cnt", Column::Same),
    ("send_oct", Column::Same),
    ("send_cnt", Column::Same),
    ("send_pend", Column::Same),
];

const CHANNEL: Columns = &[
    ("pid", Column::Made(&["node", "connection_details", "number", "name"], channel_pid)),
    ("connection", Column::Field(&["connection_details", "name"])),
    ("name", Column::Same),
    ("number", Column::Same),
    ("user", Column::Same),
    ("vhost", Column::Same),
    ("transactional", Column::Same),
    ("confirm", Column::Same),
    ("consumer_count", Column::Same),
    ("messages_unacknowledged", Column::Same),
    ("messages_uncommitted", Column::Same),
    ("acks_uncommitted", Column::Same),
    ("messages_unconfirmed", Column::Same),
    ("prefetch_count", Column::Same),
    ("global_prefetch_count", Column::Same),
    ("state", Column::Same),
];

const CONSUMER: Columns = &[
    ("queue_name", Column::Field(&["queue", "name"])),
    ("channel_pid", Column::Made(&["channel_details"], consumer_pid)),
    ("consumer_tag", Column::Same),
    ("ack_required", Column::Same),
    ("prefetch_count", Column::Same),
    ("active", Column::Same),
    ("activity_status", Column::Same),
    ("arguments", Column::Same),
];

pub(super) fn list_queues(run: &mut Run<'_>) -> Result<(), CtlError> {
    let columns = chosen(run, QUEUE, &["name", "messages"])?;
    let vhost = run.parsed.vhost();
    let timeout = run.timeout();
    run.say(&format!("Timeout: {timeout:.1} seconds ...\nListing queues for vhost {vhost} ..."))?;
    run.need_vhost(vhost)?;
    let which = Which::of(run)?;
    show_some(run, &["queues", vhost], &columns, &["node", "state"], |queue| which.has(queue))
}

/// Which queues of the cluster are listed.
enum Which {
    All,
    /// Those of one node.
    Of(String),
    /// Those that run, or those whose node is down.
    Running(bool),
}

impl Which {
    fn of(run: &mut Run<'_>) -> Result<Which, CtlError> {
        if run.parsed.has("local") {
            return Ok(Which::Of(run.node()?));
        }
        Ok(match (run.parsed.has("online"), run.parsed.has("offline")) {
            (true, false) => Which::Running(true),
            (false, true) => Which::Running(false),
            _ => Which::All,
        })
    }

    fn has(&self, queue: &Value) -> bool {
        match self {
            Which::All => true,
            Which::Of(node) => queue["node"] == **node,
            Which::Running(running) => (queue["state"] != "down") == *running,
        }
    }
}

pub(super) fn list_exchanges(run: &mut Run<'_>) -> Result<(), CtlError> {
    let columns = chosen(run, EXCHANGE, &["name", "type"])?;
    let vhost = run.parsed.vhost();
    run.say(&format!("Listing exchanges for vhost {vhost} ..."))?;
    run.need_vhost(vhost)?;
    show(run, &["exchanges", vhost], &columns)
}

pub(super) fn list_bindings(run: &mut Run<'_>) -> Result<(), CtlError> {
    let all: Vec<&str> = BINDING.iter().map(|(name, _)| *name).filter(|name| *name != "vhost").collect();
    let columns = chosen(run, BINDING, &all)?;
    let vhost = run.parsed.vhost();
    run.say(&format!("Listing bindings for vhost {vhost}..."))?;
    run.need_vhost(vhost)?;
    show(run, &["bindings", vhost], &columns)
}

pub(super) fn list_connections(run: &mut Run<'_>) -> Result<(), CtlError> {
    let columns = chosen(run, CONNECTION, &["user", "peer_host", "peer_port", "state"])?;
    run.say("Listing connections ...")?;
    show(run, &["connections"], &columns)
}

pub(super) fn list_channels(run: &mut Run<'_>) -> Result<(), CtlError> {
    let default = ["pid", "user", "consumer_count", "messages_unacknowledged"];
    let columns = chosen(run, CHANNEL, &default)?;
    run.say("Listing channels ...")?;
    show(run, &["channels"], &columns)
}

pub(super) fn list_consumers(run: &mut Run<'_>) -> Result<(), CtlError> {
    let all: Vec<&str> =
        CONSUMER.iter().map(|(name, _)| *name).filter(|name| *name != "activity_status").collect();
    let columns = chosen(run, CONSUMER, &all)?;
    let vhost = run.parsed.vhost();
    run.say(&format!("Listing consumers in vhost {vhost} ..."))?;
    run.need_vhost(vhost)?;
    show(run, &["consumers", vhost], &columns)
}

pub(super) fn list_unresponsive_queues(run: &mut Run<'_>) -> Result<(), CtlError> {
    let vhost = run.vhost()?;
    run.say(&format!("Listing unresponsive queues for vhost {vhost} ..."))
}

/// Columns that were asked for, or `default`.
pub(super) fn columns(
    run: &Run<'_>,
    known: &[&'static str],
    default: &[&'static str],
) -> Result<Vec<&'static str>, CtlError> {
    let asked = run.arguments_from(0).iter().flat_map(|word| word.split(',')).filter(|word| !word.is_empty());
    let (mut columns, mut strangers) = (Vec::new(), Vec::new());
    for word in asked {
        match known.iter().find(|name| **name == word) {
            Some(name) if !columns.contains(name) => columns.push(*name),
            Some(_) => {}
            None => strangers.push(word),
        }
    }
    if let Some(first) = strangers.first() {
        let hint = suggest(first, known.iter().copied());
        let hint = hint.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
        let text = format!("Info key(s) {} are not supported{hint}", strangers.join(","));
        return Err(CtlError::usage(text));
    }
    Ok(if columns.is_empty() { default.to_vec() } else { columns })
}

fn chosen(
    run: &Run<'_>,
    known: Columns,
    default: &[&'static str],
) -> Result<Vec<(&'static str, Column)>, CtlError> {
    let names: Vec<&'static str> = known.iter().map(|(name, _)| *name).collect();
    let asked = columns(run, &names, default)?;
    Ok(asked.into_iter().filter_map(|name| known.iter().find(|(own, _)| *own == name)).copied().collect())
}

/// Asks for no more fields than the columns need.
fn show(run: &mut Run<'_>, parts: &[&str], columns: &[(&'static str, Column)]) -> Result<(), CtlError> {
    show_some(run, parts, columns, &[], |_| true)
}

/// The same for some entries, which are chosen by `more` fields.
fn show_some(
    run: &mut Run<'_>,
    parts: &[&str],
    columns: &[(&'static str, Column)],
    more: &[&'static str],
    shown: impl Fn(&Value) -> bool,
) -> Result<(), CtlError> {
    let mut fields: Vec<&str> = more.to_vec();
    for (name, column) in columns {
        match column {
            Column::Same => fields.push(name),
            Column::Field(path) => fields.extend(path.first()),
            Column::Made(made_of, _) => fields.extend(*made_of),
            Column::Nothing => {}
        }
    }
    // An entry without any field would be none.
    fields.push("name");
    let entries = run.list_with(parts, &fields.join(","))?;
    let row = |entry: &Value| columns.iter().map(|(name, column)| column.of(name, entry)).collect();
    let rows = Rows {
        columns: columns.iter().map(|(name, _)| (*name).to_owned()).collect(),
        rows: entries.iter().filter(|entry| shown(entry)).map(row).collect(),
    };
    run.rows(&rows)
}

impl Column {
    fn of(self, name: &str, entry: &Value) -> Value {
        match self {
            Column::Same => entry[name].clone(),
            Column::Field(path) => path.iter().fold(entry, |value, field| &value[*field]).clone(),
            Column::Made(_, make) => make(entry),
            Column::Nothing => Value::Null,
        }
    }
}

/// RabbitMQ has process ids of Erlang there. Ours name the node and the thing, and hold no space.
fn pid(node: &Value, parts: &[&Value]) -> Value {
    let mut text = format!("<{}", node.as_str().unwrap_or("node"));
    for part in parts {
        text.push('.');
        match part.as_str() {
            Some(name) => text.push_str(&name.split(" -> ").map(handled).collect::<Vec<_>>().join("-")),
            None => text.push_str(&part.to_string()),
        }
    }
    text.push('>');
    Value::from(text)
}

fn handled(name: &str) -> String {
    // The ends of a connection stay readable.
    if name.chars().all(|it| it.is_ascii_alphanumeric() || "-_.:[]".contains(it)) {
        name.to_owned()
    } else {
        encoded(name)
    }
}

fn queue_pid(entry: &Value) -> Value {
    pid(&entry["node"], &[&entry["name"]])
}

fn owner_pid(entry: &Value) -> Value {
    match &entry["owner_pid_details"]["name"] {
        Value::Null => Value::Null,
        name => pid(&entry["node"], &[name]),
    }
}

/// Also the way `close_connection` finds a connection again.
pub(super) fn connection_pid(entry: &Value) -> Value {
    pid(&entry["node"], &[&entry["name"]])
}

fn channel_pid(entry: &Value) -> Value {
    pid(&entry["node"], &[&entry["connection_details"]["name"], &entry["number"]])
}

fn consumer_pid(entry: &Value) -> Value {
    let channel = &entry["channel_details"];
    pid(&channel["node"], &[&channel["connection_name"], &channel["number"]])
}

fn protocol(entry: &Value) -> Value {
    match entry["protocol"].as_str() {
        Some("AMQP 0-9-1") => Value::from("{0,9,1}"),
        _ => entry["protocol"].clone(),
    }
}

fn mirror_pids(entry: &Value) -> Value {
    as_pids(&entry["slave_nodes"])
}

fn synchronised_pids(entry: &Value) -> Value {
    as_pids(&entry["synchronised_slave_nodes"])
}

fn as_pids(nodes: &Value) -> Value {
    match nodes {
        Value::Array(nodes) => nodes.iter().map(|node| pid(node, &[])).collect(),
        _ => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_are_chosen_by_their_node_and_by_whether_it_runs() {
        let here = json!({"node": "rabbit@a", "state": "running"});
        let gone = json!({"node": "rabbit@b", "state": "down"});
        let chosen = |which: Which| [which.has(&here), which.has(&gone)];
        assert_eq!(chosen(Which::All), [true, true]);
        assert_eq!(chosen(Which::Of("rabbit@a".to_owned())), [true, false]);
        assert_eq!(chosen(Which::Running(true)), [true, false]);
        assert_eq!(chosen(Which::Running(false)), [false, true]);
    }

    #[test]
    fn what_stands_for_a_process_id_has_no_space() {
        let entry = json!({"node": "rabbit@a", "name": "127.0.0.1:57102 -> 127.0.0.1:5690"});
        assert_eq!(connection_pid(&entry), "<rabbit@a.127.0.0.1:57102-127.0.0.1:5690>");
        let entry =
            json!({"node": "rabbit@a", "connection_details": {"name": "[::1]:1 -> [::1]:2"}, "number": 3});
        assert_eq!(channel_pid(&entry), "<rabbit@a.[::1]:1-[::1]:2.3>");
        assert_eq!(queue_pid(&json!({"node": "rabbit@a", "name": "a b"})), "<rabbit@a.a%20b>");
        assert_eq!(mirror_pids(&json!({"slave_nodes": ["rabbit@b"]})), json!(["<rabbit@b>"]));
    }
}
