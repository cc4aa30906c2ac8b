//! From the protocol header to `open-ok`, and the other methods of class connection (AMQP 0-9-1 section 1.4,
//! 2.2.4).
//!
//! ```text
//! C: AMQP 0 0 9 1   S: start    C: start-ok (SASL)    S: tune    C: tune-ok, open    S: open-ok
//! ```

use super::frames::unimplemented_method;
use super::{CLOSE_TIMEOUT, Connection, Phase};
use crate::auth::{Credentials, Mechanism, Refusal};
use crate::firehose::Client;
use crate::node::Node;
use amqp::method::{Method, connection as methods};
use amqp::table::{FieldTable, FieldValue, Table};
use amqp::{PROTOCOL_HEADER, frame, reply_code};
use broker_core::exception::Exception;
use broker_core::meta::Access;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// RabbitMQ keeps a client that failed to log in waiting, so that guessing passwords takes time.
const REFUSAL_DELAY: Duration = Duration::from_secs(3);

/// What a client may begin with, and the version that `start` then names: 0-9-1, and what clients of 0-9 and
/// 0-8 send, which RabbitMQ serves too.
const HEADERS: [(&[u8; 8], (u8, u8)); 4] = [
    (&PROTOCOL_HEADER, (0, 9)),
    (b"AMQP\x01\x01\x00\x09", (0, 9)),
    (b"AMQP\x01\x01\x08\x00", (8, 0)),
    (b"AMQP\x01\x01\x09\x01", (8, 0)),
];

impl Connection {
    /// Looks at the first octets. Returns how many belong to the header; `None` when more are needed or the
    /// client speaks something else, in which case it is told what we speak (AMQP 0-9-1 section 4.2.2).
    pub(crate) fn protocol_header(&mut self, data: &[u8]) -> Option<usize> {
        for (header, version) in HEADERS {
            if data.starts_with(header) {
                self.phase = Phase::Start;
                self.send_start(version);
                return Some(header.len());
            }
        }
        // Less than a header that may still become one.
        if HEADERS.iter().any(|(header, _)| header.starts_with(data)) {
            return None;
        }
        // A TLS record with a handshake message (RFC 8446 section 5.1).
        let tls = data.starts_with(&[0x16, 3]);
        let hint = if tls { ", but TLS: is it on the right port?" } else { "" };
        tracing::warn!(connection = &*self.info.name, "client does not speak AMQP 0-9-1{hint}");
        self.outbox.write(|buf| buf.extend_from_slice(&PROTOCOL_HEADER));
        self.outbox.flush();
        self.phase = Phase::Done;
        None
    }

    fn send_start(&mut self, (version_major, version_minor): (u8, u8)) {
        let mechanisms: Vec<&str> = Mechanism::ALL
            .into_iter()
            .filter(|mechanism| self.offers(*mechanism))
            .map(Mechanism::name)
            .collect();
        let mechanisms = mechanisms.join(" ");
        let properties = self.node.server_properties.octets(&self.node);
        let server_properties = Table::parse(&properties).expect("our own table is well formed");
        let start = methods::Start {
            version_major,
            version_minor,
            server_properties,
            mechanisms: mechanisms.as_bytes(),
            locales: b"en_US",
        };
        self.write_now(&start);
    }

    /// Whether a client is offered a mechanism. EXTERNAL only if it has a certificate: clients that prefer it
    /// would fail although they have a password too.
    fn offers(&self, mechanism: Mechanism) -> bool {
        let certificate = self.info.tls.as_ref().is_some_and(|tls| tls.peer.is_some());
        self.node.settings.auth_mechanisms.contains(&mechanism)
            && (mechanism != Mechanism::External || certificate)
    }

    fn write_now<'m, M: amqp::method::MethodFields<'m>>(&self, fields: &M) {
        self.outbox.write(|buf| frame::write_fields(buf, 0, fields));
        self.outbox.flush();
    }

    /// A method of class connection, in whatever phase.
    ///
    /// # Errors
    /// The exception that RabbitMQ answers.
    pub(crate) async fn connection_method(
        &mut self,
        number: u16,
        method: &Method<'_>,
    ) -> Result<(), Exception> {
        if number != 0 {
            return Err(unimplemented_method());
        }
        match (self.phase, method) {
            (Phase::Start, Method::ConnectionStartOk(start)) => self.start_ok(start).await,
            (Phase::Tune, Method::ConnectionTuneOk(tune)) => self.tune_ok(tune),
            (Phase::Open, Method::ConnectionOpen(open)) => self.open(open),
            (Phase::Running | Phase::Open | Phase::Tune, Method::ConnectionClose(_)) => {
                // RabbitMQ: what the connection held is back, and its exclusive queues gone, when the client
                // reads the answer.
                self.release_all();
                self.forget_channels();
                self.node.delete_exclusive(self.info.id).await;
                self.write_now(&methods::CloseOk);
                self.enter_closing();
                Ok(())
            }
            (Phase::Closing, Method::ConnectionClose(_)) => {
                self.write_now(&methods::CloseOk);
                Ok(())
            }
            (Phase::Closing, Method::ConnectionCloseOk(_)) => {
                self.phase = Phase::Done;
                Ok(())
            }
            (Phase::Running, Method::ConnectionUpdateSecret(_)) => {
                // RabbitMQ: a password does not run out, so the internal back end takes any new secret.
                self.write_now(&methods::UpdateSecretOk);
                Ok(())
            }
            _ => self.out_of_order(method),
        }
    }

    /// A method that has no place on channel 0 in this phase.
    pub(crate) fn out_of_order(&mut self, method: &Method<'_>) -> Result<(), Exception> {
        let state = match self.phase {
            Phase::Running => "running",
            Phase::Open => "opening",
            Phase::Closing => return Ok(()),
            Phase::Header | Phase::Start | Phase::Tune | Phase::Done => {
                self.end_login(method.name());
                return Ok(());
            }
        };
        let text = format!("unexpected method in connection state {state}");
        Err(Exception::connection(reply_code::CHANNEL_ERROR, text))
    }

    async fn start_ok(&mut self, start: &methods::StartOk<'_>) -> Result<(), Exception> {
        let properties = start.client_properties.to_owned();
        let capability = |name: &str| {
            let capabilities = properties.get("capabilities").and_then(FieldValue::as_table);
            capabilities.and_then(|table| table.get(name)).and_then(FieldValue::as_bool).unwrap_or(false)
        };
        self.cancel_notify = capability("consumer_cancel_notify");
        self.blocked_notify = capability("connection.blocked");
        self.close_on_refusal = capability("authentication_failure_close");
        let provided_name = properties.get("connection_name").and_then(FieldValue::as_str).map(str::to_owned);
        self.info.update(|details| {
            details.client_properties = properties;
            details.provided_name = provided_name;
            details.mechanism = start.mechanism.to_owned();
        });
        let configured = &self.node.settings.auth_mechanisms;
        let mechanism =
            Mechanism::from_name(start.mechanism).filter(|mechanism| configured.contains(mechanism));
        let logged_in = match mechanism {
            Some(Mechanism::External) if self.info.tls.is_some() => self.external_login().await,
            Some(mechanism) => match mechanism.credentials(start.response) {
                Some(credentials) => self.login(credentials, mechanism).await,
                None => self.no_login(start.mechanism).await,
            },
            None => self.no_login(start.mechanism).await,
        };
        if !logged_in {
            return Ok(());
        }
        self.phase = Phase::Tune;
        let settings = &self.node.settings;
        self.write_now(&methods::Tune {
            channel_max: settings.channel_max,
            frame_max: settings.frame_max,
            heartbeat: settings.heartbeat,
        });
        Ok(())
    }

    /// The client wants what is not there, or did it wrongly.
    async fn no_login(&mut self, mechanism: &str) -> bool {
        tracing::error!(connection = &*self.info.name, mechanism, "unknown mechanism or malformed response");
        self.refuse(None).await;
        false
    }

    /// Checks a login. `false`: the client was told no.
    async fn login(&mut self, credentials: Credentials, mechanism: Mechanism) -> bool {
        let user = credentials.user.clone();
        let outcome = self.node.authenticate(credentials, self.info.peer.ip()).await;
        self.logged_in(&user, outcome, mechanism).await
    }

    /// The same for a client whose certificate says who it is.
    async fn external_login(&mut self) -> bool {
        let peer = self.info.tls.as_ref().and_then(|tls| tls.peer.as_ref());
        let name = peer.map(|certificate| certificate.login_name(&self.node.settings.cert_login));
        let (user, outcome) = match name {
            None => (String::new(), Err(Refusal::NoCertificate)),
            Some(None) => (String::new(), Err(Refusal::NoName)),
            Some(Some(name)) => {
                let outcome = self.node.authenticate_named(&name, self.info.peer.ip());
                (name, outcome)
            }
        };
        self.logged_in(&user, outcome, Mechanism::External).await
    }

    async fn logged_in(
        &mut self,
        user: &str,
        outcome: Result<Vec<String>, Refusal>,
        mechanism: Mechanism,
    ) -> bool {
        let attempts = &self.node.counters.amqp_logins;
        if outcome.is_ok() { &attempts.succeeded } else { &attempts.failed }.add(1);
        match outcome {
            Ok(tags) => {
                self.may_impersonate = tags.iter().any(|tag| tag == "impersonator");
                self.info.update(|details| details.user = Arc::from(user));
                let connection = Arc::clone(&self.info.name);
                self.outbox.set_client(Client { connection, user: self.info.user() });
                true
            }
            Err(refusal) => {
                let name = mechanism.name();
                tracing::error!(connection = &*self.info.name, user, mechanism = name, %refusal, "login refused");
                self.refuse(Some(name)).await;
                false
            }
        }
    }

    /// Ends a connection whose login failed: with `connection.close` for clients that said they understand it,
    /// with a hang-up after a while for the others.
    async fn refuse(&mut self, mechanism: Option<&str>) {
        if let Some(mechanism) = mechanism
            && self.close_on_refusal
        {
            let text = format!(
                "ACCESS_REFUSED - Login was refused using authentication mechanism {mechanism}. For details see the broker logfile."
            );
            self.write_now(&methods::Close {
                reply_code: reply_code::ACCESS_REFUSED,
                reply_text: &text,
                class_id: 0,
                method_id: 0,
            });
            self.phase = Phase::Closing;
            self.deadline = Some(Instant::now() + CLOSE_TIMEOUT);
            return;
        }
        tokio::time::sleep(REFUSAL_DELAY).await;
        self.phase = Phase::Done;
    }

    /// Takes over what the client chose. It may lower each value but not raise it.
    fn tune_ok(&mut self, tune: &methods::TuneOk) -> Result<(), Exception> {
        let settings = &self.node.settings;
        negotiated("frame_max", amqp::FRAME_MIN_SIZE, settings.frame_max, tune.frame_max)?;
        negotiated("channel_max", 1, u32::from(settings.channel_max), u32::from(tune.channel_max))?;
        self.frame_max = tune.frame_max;
        self.channel_max = tune.channel_max;
        self.heartbeat = Duration::from_secs(u64::from(tune.heartbeat));
        self.outbox.set_frame_max(tune.frame_max);
        self.info.update(|details| {
            details.frame_max = tune.frame_max;
            details.channel_max = tune.channel_max;
            details.heartbeat = tune.heartbeat;
        });
        self.phase = Phase::Open;
        Ok(())
    }

    fn open(&mut self, open: &methods::Open<'_>) -> Result<(), Exception> {
        let user = self.info.user();
        let vhost = open.virtual_host;
        let not_allowed = |text: String| Exception::connection(reply_code::NOT_ALLOWED, text);
        let access = {
            let sm = self.node.metadata.read();
            let Some(id) = sm.vhost_id(vhost) else {
                return Err(not_allowed(format!("vhost {vhost} not found")));
            };
            let mut access = Access::new(Arc::clone(self.node.metadata.patterns()), Arc::clone(&user), id);
            if !access.may_open(&sm) {
                return Err(not_allowed(format!("access to vhost '{vhost}' refused for user '{user}'")));
            }
            let limit = sm.vhost(id).and_then(|state| state.limits().max_connections);
            let open_in_vhost = |details: &super::info::Details| details.running && &*details.vhost == vhost;
            if let Some(limit) = limit
                && self.node.connections.count(open_in_vhost) >= limit
            {
                let text = format!(
                    "access to vhost '{vhost}' refused for user '{user}': connection limit ({limit}) is reached"
                );
                return Err(not_allowed(text));
            }
            let limit = sm.user_limits(&user).max_connections;
            let open_by_user = |details: &super::info::Details| details.running && details.user == user;
            if let Some(limit) = limit
                && self.node.connections.count(open_by_user) >= limit
            {
                let text = format!(
                    "connection refused for user '{user}': user connection limit ({limit}) is reached"
                );
                return Err(not_allowed(text));
            }
            access
        };
        self.access = Some(access);
        self.info.update(|details| {
            details.vhost = Arc::from(vhost);
            details.running = true;
        });
        self.phase = Phase::Running;
        self.node.counters.churn.connections_opened.add(1);
        self.deadline = None;
        self.write_now(&methods::OpenOk);
        let blocked = self.node.blocked();
        self.tell_blocked(blocked.borrow().as_deref());
        tracing::info!(connection = &*self.info.name, user = %user, vhost, "accepted AMQP connection");
        Ok(())
    }
}

/// RabbitMQ's rule for a negotiated value: 0 means "no limit", which a limited server does not grant.
fn negotiated(field: &str, min: u32, server: u32, client: u32) -> Result<(), Exception> {
    let text = if client != 0 && client < min {
        format!("negotiated {field} = {client} is lower than the minimum allowed value ({min})")
    } else if server != 0 && (client == 0 || client > server) {
        format!("negotiated {field} = {client} is higher than the maximum allowed value ({server})")
    } else {
        return Ok(());
    };
    Err(Exception::connection(reply_code::NOT_ALLOWED, text))
}

/// What a client learns about us, as octets. It is the same for all of them until the cluster gets another name.
#[derive(Debug, Default)]
pub(crate) struct ServerProperties(Mutex<Option<(String, Arc<[u8]>)>>);

impl ServerProperties {
    fn octets(&self, node: &Node) -> Arc<[u8]> {
        let cluster_name = node.cluster_name();
        let mut known = self.0.lock();
        if let Some((name, octets)) = &*known
            && *name == cluster_name
        {
            return Arc::clone(octets);
        }
        let octets: Arc<[u8]> = server_properties(node, &cluster_name).to_bytes().into();
        *known = Some((cluster_name, Arc::clone(&octets)));
        octets
    }
}

/// Clients choose semantics by product and version.
fn server_properties(node: &Node, cluster_name: &str) -> FieldTable {
    let mut capabilities = FieldTable::new();
    for name in [
        "publisher_confirms",
        "exchange_exchange_bindings",
        "basic.nack",
        "consumer_cancel_notify",
        "connection.blocked",
        "consumer_priorities",
        "authentication_failure_close",
        "per_consumer_qos",
        "direct_reply_to",
    ] {
        capabilities.insert(name, FieldValue::Bool(true));
    }
    let mut properties = FieldTable::new();
    let text = |value: &str| FieldValue::long_str(value);
    properties.insert("capabilities", FieldValue::Table(capabilities));
    properties.insert("cluster_name", text(cluster_name));
    properties.insert("copyright", text("Copyright (c) The Warren authors. Licensed MIT OR Apache-2.0."));
    properties.insert("information", text("Warren, an AMQP 0-9-1 broker"));
    properties.insert("platform", text("Rust"));
    properties.insert("product", text(&node.settings.product));
    properties.insert("version", text(&node.settings.version));
    properties
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_may_be_lowered_and_not_raised() {
        assert!(negotiated("frame_max", 4096, 131_072, 4096).is_ok());
        assert!(negotiated("frame_max", 4096, 131_072, 131_072).is_ok());
        let text = |client| negotiated("frame_max", 4096, 131_072, client).unwrap_err().text;
        assert_eq!(text(1000), "negotiated frame_max = 1000 is lower than the minimum allowed value (4096)");
        assert_eq!(
            text(200_000),
            "negotiated frame_max = 200000 is higher than the maximum allowed value (131072)"
        );
        assert_eq!(text(0), "negotiated frame_max = 0 is higher than the maximum allowed value (131072)");
        assert!(negotiated("channel_max", 1, 0, 0).is_ok());
    }
}
