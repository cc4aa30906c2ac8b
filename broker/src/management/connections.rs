//! `/api/connections`.

use super::Api;
use super::asked::Asked;
use super::caller::Caller;
use super::erlang;
use super::fields::Fields;
use super::listing::Entry;
use super::rates::{Looking, Windows};
use super::reply::{Answer, Refusal, no_content};
use crate::connection::info::{ConnectionInfo, Details, Hold};
use crate::connection::outbox::Request;
use crate::metadata::json::from_table;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use broker_core::exception::Exception;
use std::sync::Arc;

/// Octets of a reason for closing that are sent to the client.
const MAX_REASON: usize = 200;

/// `/api/connections`, `/api/vhosts/{vhost}/connections` and `/api/connections/username/{user}`
pub(super) async fn list(asked: Asked) -> Answer {
    let (api, windows, found) = (&*asked.api, &asked.windows, asked.connections()?);
    let answer = |rates: &Looking<'_>| {
        let entries = found.into_iter().map(|info| ConnectionEntry { api, rates, windows, info });
        asked.query.answer(entries.collect())
    };
    api.rates.look(answer)
}

pub(super) async fn one(asked: Asked) -> Answer {
    let (api, windows) = (&*asked.api, &asked.windows);
    let info = find(api, &asked.caller, asked.part("name"))?;
    api.rates.look(|rates| asked.query.answer_one(&ConnectionEntry { api, rates, windows, info }))
}

pub(super) async fn close(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Answer {
    let info = find(&api, &caller, &name)?;
    end(&info, &caller, &headers);
    no_content()
}

/// Closes all connections of a user.
pub(super) async fn close_of_user(asked: Asked, headers: HeaderMap) -> Answer {
    asked.connections()?.iter().for_each(|info| end(info, &asked.caller, &headers));
    no_content()
}

fn end(info: &ConnectionInfo, caller: &Caller, headers: &HeaderMap) {
    let given = headers.get("x-reason").and_then(|reason| reason.to_str().ok());
    let reason = given
        .filter(|reason| !reason.is_empty() && reason.len() <= MAX_REASON)
        .unwrap_or("Closed via management plugin");
    tracing::info!(connection = &*info.name, by = %caller.name, reason, "connection closed by request");
    let exception = Exception::connection(amqp::reply_code::CONNECTION_FORCED, reason);
    info.outbox.request(Request::Close(exception));
}

/// Monitors see all connections, others their own.
pub(super) fn shows(caller: &Caller, info: &ConnectionInfo) -> bool {
    caller.is_monitor() || info.user() == caller.name
}

pub(super) fn find(api: &Api, caller: &Caller, name: &str) -> Result<Arc<ConnectionInfo>, Refusal> {
    let found = api.node.connections.list().into_iter().find(|info| *info.name == *name);
    let info = found.ok_or_else(Refusal::missing)?;
    if shows(caller, &info) {
        Ok(info)
    } else {
        Err(Refusal::not_authorised("User not authorised to access connection"))
    }
}

/// A connection in a list.
struct ConnectionEntry<'a> {
    api: &'a Api,
    rates: &'a Looking<'a>,
    windows: &'a Windows,
    info: Arc<ConnectionInfo>,
}

impl Entry for ConnectionEntry<'_> {
    fn name(&self) -> &str {
        &self.info.name
    }

    fn write(&self, fields: &mut Fields<'_>) {
        let info = &self.info;
        let details = info.details();
        let tls = info.tls.as_ref();
        let certificate = tls.and_then(|tls| tls.peer.as_ref());
        fields.field("name", &*info.name);
        fields.field("node", &self.api.node.settings.node);
        fields.field("user", &*details.user);
        fields.field("user_who_performed_action", &*details.user);
        fields.field("vhost", &*details.vhost);
        fields.field("protocol", "AMQP 0-9-1");
        fields.field("type", "network");
        fields.field("auth_mechanism", &details.mechanism);
        fields.field("peer_host", &info.peer.ip());
        fields.field("peer_port", &info.peer.port());
        fields.field("host", &info.local.ip());
        fields.field("port", &info.local.port());
        fields.field("ssl", &tls.is_some());
        fields.field("ssl_protocol", &tls.map(|tls| tls.protocol));
        fields.field("ssl_key_exchange", &tls.map(|tls| tls.key_exchange));
        fields.field("ssl_cipher", &tls.map(|tls| tls.cipher));
        fields.field("ssl_hash", &tls.map(|tls| tls.hash));
        fields.field("peer_cert_issuer", &certificate.map(|certificate| &certificate.issuer));
        fields.field("peer_cert_subject", &certificate.map(|certificate| &certificate.subject));
        fields.field("peer_cert_validity", &certificate.map(|certificate| &certificate.validity));
        fields.field("state", self.state(&details));
        fields.field("channel_max", &details.channel_max);
        fields.field("channels", &info.counters.channels.get());
        fields.field("frame_max", &details.frame_max);
        fields.field("timeout", &details.heartbeat);
        fields.field("connected_at", &info.connected_at_ms);
        if fields.wants("client_properties") {
            fields.field("client_properties", &from_table(&details.client_properties));
        }
        if let Some(name) = &details.provided_name {
            fields.field("user_provided_name", name);
        }
        let past = self.rates.connection(info.id, self.windows.data());
        fields.rated("recv_oct", info.counters.received_octets.get(), || past.details(0));
        fields.rated("send_oct", info.outbox.sent(), || past.details(1));
        fields.field("recv_cnt", &info.counters.reads.get());
        fields.field("send_cnt", &info.outbox.writes());
        fields.field("send_pend", &info.outbox.pending());
        erlang::garbage_collection(fields);
        erlang::reductions(fields, || past.details_of(|_| 0));
    }
}

impl ConnectionEntry<'_> {
    /// RabbitMQ's words: publishers that an alarm holds up are blocked, or blocking until they publish.
    fn state(&self, details: &Details) -> &'static str {
        match (details.running, self.info.hold()) {
            (false, _) => "starting",
            (true, Hold::Blocked) => "blocked",
            (true, Hold::None) => "running",
        }
    }
}
