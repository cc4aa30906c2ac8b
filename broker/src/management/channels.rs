//! `/api/channels`.

use super::Api;
use super::asked::Asked;
use super::connections::find;
use super::consumers::consumers_of;
use super::erlang;
use super::fields::Fields;
use super::listing::Entry;
use super::rates::{Looking, Windows};
use super::reply::{Answer, Refusal};
use crate::connection::info::{ConnectionInfo, Hold};
use crate::counters::{ChannelInfo, MESSAGE_COUNTERS};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

/// `/api/channels` and `/api/vhosts/{vhost}/channels`
pub(super) async fn list(asked: Asked) -> Answer {
    shown(&asked, asked.connections()?)
}

/// `/api/connections/{name}/channels`
pub(super) async fn of_connection(asked: Asked) -> Answer {
    shown(&asked, vec![find(&asked.api, &asked.caller, asked.part("name"))?])
}

fn shown(asked: &Asked, connections: Vec<Arc<ConnectionInfo>>) -> Answer {
    let (api, windows) = (&*asked.api, &asked.windows);
    api.rates.look(|rates| {
        let channels = connections.into_iter().flat_map(|info| {
            let channels = info.channels().into_iter();
            channels.map(move |channel| ChannelEntry::new(api, rates, windows, Arc::clone(&info), channel))
        });
        asked.query.answer(channels.collect())
    })
}

pub(super) async fn one(asked: Asked) -> Answer {
    let (api, windows, name) = (&*asked.api, &asked.windows, asked.part("name"));
    let (connection, number) = name
        .strip_suffix(')')
        .and_then(|name| name.rsplit_once(" ("))
        .and_then(|(connection, number)| Some((connection, number.parse::<u16>().ok()?)))
        .ok_or_else(Refusal::missing)?;
    let info = find(api, &asked.caller, connection)?;
    let channel =
        info.channels().into_iter().find(|channel| channel.number == number).ok_or_else(Refusal::missing)?;
    let consumers: Vec<Value> = {
        let sm = api.node.metadata.read();
        let vhost = sm.vhost_id(&info.vhost()).ok_or_else(Refusal::missing)?;
        let all = sm.queues_in(vhost).flat_map(|queue| consumers_of(api, &sm, queue));
        match channel.consumers.get() {
            0 => Vec::new(),
            _ => all.filter(|consumer| consumer["channel_details"]["name"] == *name).collect(),
        }
    };
    api.rates.look(|rates| {
        let mut entry = ChannelEntry::new(api, rates, windows, info, channel);
        entry.consumers = Some(consumers);
        asked.query.answer_one(&entry)
    })
}

/// A time as RabbitMQ writes it: `2026-11-22T14:21:07.009+00:00`.
fn iso_8601(unix_ms: u64) -> String {
    let time = UNIX_EPOCH + Duration::from_millis(unix_ms);
    humantime::format_rfc3339_millis(time).to_string().replace('Z', "+00:00")
}

/// A channel in a list.
struct ChannelEntry<'a> {
    api: &'a Api,
    rates: &'a Looking<'a>,
    windows: &'a Windows,
    info: Arc<ConnectionInfo>,
    channel: Arc<ChannelInfo>,
    name: String,
    /// Its consumers, where it is shown by itself.
    consumers: Option<Vec<Value>>,
}

impl<'a> ChannelEntry<'a> {
    fn new(
        api: &'a Api,
        rates: &'a Looking<'a>,
        windows: &'a Windows,
        info: Arc<ConnectionInfo>,
        channel: Arc<ChannelInfo>,
    ) -> Self {
        let name = format!("{} ({})", info.name, channel.number);
        ChannelEntry { api, rates, windows, info, channel, name, consumers: None }
    }
}

impl Entry for ChannelEntry<'_> {
    fn name(&self) -> &str {
        &self.name
    }

    fn write(&self, fields: &mut Fields<'_>) {
        let (info, channel) = (&self.info, &self.channel);
        let (number, user) = (channel.number, info.user());
        fields.field("name", &self.name);
        fields.field("number", &number);
        fields.field("node", &self.api.node.settings.node);
        fields.field("user", &*user);
        fields.field("user_who_performed_action", &*user);
        fields.field("vhost", &*info.vhost());
        let (host, port) = (info.peer.ip(), info.peer.port());
        fields
            .field("connection_details", &json!({"name": &*info.name, "peer_host": host, "peer_port": port}));
        fields.field("state", if info.hold() == Hold::Blocked { "flow" } else { "running" });
        if let Some(since) = self.rates.channel_idle_since(info.id, number) {
            fields.field("idle_since", &iso_8601(since));
        }
        fields.field("confirm", &channel.confirms());
        fields.field("transactional", &channel.is_transactional());
        fields.field("consumer_count", &channel.consumers.get());
        fields.field("prefetch_count", &channel.prefetch.get());
        fields.field("global_prefetch_count", &channel.global_prefetch.get());
        fields.field("messages_unacknowledged", &info.outbox.unacked(number));
        fields.field("messages_unconfirmed", &channel.unconfirmed());
        fields.field("messages_uncommitted", &channel.uncommitted.get());
        fields.field("acks_uncommitted", &channel.acks_uncommitted.get());
        fields.field("pending_raft_commands", &0);
        let past = self.rates.channel(info.id, number, self.windows.messages());
        let counts = channel.messages.values();
        fields.object("message_stats", |stats| {
            for (at, (name, count)) in MESSAGE_COUNTERS.iter().zip(counts).enumerate() {
                stats.rated(name, count, || past.details(at));
            }
        });
        if let Some(consumers) = &self.consumers {
            fields.field("consumer_details", consumers);
            // What RabbitMQ shows here in its detailed mode only.
            fields.field("publishes", &json!([]));
            fields.field("deliveries", &json!([]));
        }
        erlang::garbage_collection(fields);
        erlang::reductions(fields, || past.details_of(|_| 0));
    }
}
