//! `basic.publish`: checks, routing, hand-over to the queues, returns (AMQP 0-9-1 section 1.8.3.7).

use super::Connection;
use super::reply_to;
use super::routes::Route;
use crate::firehose::Sighting;
use crate::forward::outgoing::{FarTarget, Waiter};
use crate::shard::Turn;
use amqp::content::{PERSISTENT, Properties};
use amqp::frame;
use amqp::method::basic;
use amqp::reply_code;
use amqp::table::Value;
use broker_core::channel::content::Assembly;
use broker_core::channel::tx::TxPublish;
use broker_core::exception::Exception;
use broker_core::ids::QueueId;
use broker_core::message::{Message, MessageView, Publish};
use broker_core::meta::arguments::MAX_EXPIRY;
use broker_core::meta::{RoutedMessage, checks};
use broker_core::queue::Published;
use std::borrow::Cow;
use std::sync::Arc;

/// A publish that has arrived whole.
#[derive(Debug)]
pub(crate) enum Incoming<'a> {
    /// It lies in the read buffer.
    Borrowed(MessageView<'a>),
    /// It came in pieces and has a buffer of its own.
    Assembled(Assembly),
}

/// The flags of a publish.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    /// Return it when no queue takes it.
    pub(crate) mandatory: bool,
    /// Not implemented by RabbitMQ.
    pub(crate) immediate: bool,
}

/// What the properties say that matters on the way in.
struct Facts<'a> {
    persistent: bool,
    expiration_ms: Option<u64>,
    priority: u8,
    properties: Properties<'a>,
    headers: Option<amqp::table::Table<'a>>,
    extra_keys: Vec<&'a str>,
    has_bcc: bool,
    /// What `reply-to: amq.rabbitmq.reply-to` becomes.
    reply_address: Option<Arc<str>>,
    /// It was moved here from another broker.
    brought: Option<Brought<'a>>,
}

/// What a message was where it comes from, as `broker migrate` says in headers beside `BCC`.
#[derive(Clone, Copy)]
struct Brought<'a> {
    /// The exchange that it was published to: consumers see this one.
    exchange: &'a str,
    /// What is left of its time to live, in milliseconds, where that is known.
    time_left: Option<u64>,
}

/// The header with the exchange of a message that was moved here.
pub(crate) const BROUGHT_EXCHANGE: &str = "x-migrate-exchange";
/// The header with what is left of its time to live.
pub(crate) const BROUGHT_TTL: &str = "x-migrate-ttl";

impl Connection {
    /// Takes one publish in.
    ///
    /// # Errors
    /// The channel exception that RabbitMQ answers.
    pub(crate) fn publish(
        &mut self,
        turn: &mut Turn<'_>,
        channel: u16,
        incoming: Incoming<'_>,
        target: Target,
    ) -> Result<(), Exception> {
        if target.immediate {
            return Err(Exception::connection(reply_code::NOT_IMPLEMENTED, "immediate=true"));
        }
        match incoming {
            Incoming::Borrowed(view) => {
                let facts = self
                    .check_publish(channel, view.properties, view.body.len() as u64)
                    .map_err(|error| self.first_error(turn, &view, error))?;
                let rewritten = rewritten(&view, &facts);
                let view =
                    MessageView { properties: rewritten.as_deref().unwrap_or(view.properties), ..view };
                let publish = Publish::borrowed(view, facts.persistent, facts.expiration_ms, facts.priority);
                self.accept(turn, channel, publish, &facts, target.mandatory)
            }
            Incoming::Assembled(assembly) => {
                let properties = assembly.properties().to_vec();
                let facts =
                    self.check_publish(channel, &properties, assembly.body_len()).map_err(|error| {
                        let (exchange, routing_key) = assembly.target();
                        let view = MessageView { exchange, routing_key, properties: &properties, body: &[] };
                        self.first_error(turn, &view, error)
                    })?;
                let mut message = assembly.finish(facts.persistent);
                if let Some(rewritten) = rewritten(&message.view(), &facts) {
                    let view = MessageView { properties: &rewritten, ..message.view() };
                    message = Message::copy_from(&view, facts.persistent);
                }
                let message = Arc::new(message);
                let publish = if facts.brought.is_some() {
                    // Its exchange becomes another one: what queues get is made after that.
                    let (view, persistent) = (message.view(), facts.persistent);
                    Publish::borrowed(view, persistent, facts.expiration_ms, facts.priority)
                } else {
                    Publish::of(&message, facts.expiration_ms, facts.priority)
                };
                self.accept(turn, channel, publish, &facts, target.mandatory)
            }
        }
    }

    /// RabbitMQ looks at exchange and permissions before it looks at the properties: of several errors that
    /// one is told.
    fn first_error(&mut self, turn: &mut Turn<'_>, view: &MessageView<'_>, error: Exception) -> Exception {
        turn.close();
        let sm = self.node.metadata.read();
        let Some(access) = self.access.as_mut() else { return error };
        checks::publish(&sm, access, view.exchange, view.routing_key).err().unwrap_or(error)
    }

    /// The checks that look at the message only, in RabbitMQ's order.
    fn check_publish<'a>(
        &self,
        channel: u16,
        properties: &'a [u8],
        size: u64,
    ) -> Result<Facts<'a>, Exception> {
        let limit = self.node.settings.max_message_size;
        if size > limit {
            let text = format!("message size {size} is larger than configured max size {limit}");
            return Err(Exception::channel(reply_code::PRECONDITION_FAILED, text));
        }
        let properties = Properties::parse(properties)
            .map_err(|_| Exception::connection(reply_code::FRAME_ERROR, "cannot decode content header"))?;
        let mut facts = Facts {
            persistent: properties.delivery_mode() == Some(PERSISTENT),
            expiration_ms: None,
            priority: properties.priority().unwrap_or(0),
            properties,
            headers: properties.headers(),
            extra_keys: Vec::new(),
            has_bcc: false,
            reply_address: self.reply_address(channel, properties.reply_to())?,
            brought: None,
        };
        if let Some(user_id) = properties.user_id() {
            self.check_user_id(user_id)?;
        }
        if let Some(expiration) = properties.expiration() {
            facts.expiration_ms = Some(parse_expiration(expiration)?);
        }
        if let Some(mode) = properties.delivery_mode()
            && !matches!(mode, 1 | PERSISTENT)
        {
            let text = format!("invalid message: {{delivery_mode_unknown,{mode}}}");
            return Err(Exception::channel(reply_code::PRECONDITION_FAILED, text));
        }
        if let Some(headers) = &facts.headers {
            for name in ["CC", "BCC"] {
                match headers.get(name) {
                    None => {}
                    Some(Value::Array(keys)) => {
                        facts.extra_keys.extend(keys.iter().filter_map(|key| key.as_str()));
                        facts.has_bcc |= name == "BCC";
                    }
                    Some(other) => {
                        let kind = other.type_name();
                        let text =
                            format!("invalid message: {{unacceptable_type_in_header,\"{name}\",{kind}}}");
                        return Err(Exception::channel(reply_code::PRECONDITION_FAILED, text));
                    }
                }
            }
            if facts.has_bcc && headers.get(BROUGHT_EXCHANGE).is_some() {
                let brought = self.brought(headers)?;
                facts.expiration_ms = brought.time_left.or(facts.expiration_ms);
                facts.brought = Some(brought);
            }
        }
        Ok(facts)
    }

    /// What the headers of a message that was moved here say. Who may say so could say anything about a message.
    #[cold]
    fn brought<'a>(&self, headers: &amqp::table::Table<'a>) -> Result<Brought<'a>, Exception> {
        if !self.may_impersonate {
            let text = format!(
                "header '{BROUGHT_EXCHANGE}' refused for user '{}', who lacks the tag impersonator",
                self.info.user()
            );
            return Err(Exception::channel(reply_code::ACCESS_REFUSED, text));
        }
        let exchange = headers.get(BROUGHT_EXCHANGE).and_then(|it| it.as_str());
        let exchange = exchange.filter(|name| name.len() <= 255).ok_or_else(|| {
            let text = format!("header '{BROUGHT_EXCHANGE}' is no name of an exchange");
            Exception::channel(reply_code::PRECONDITION_FAILED, text)
        })?;
        let time_left = headers.get(BROUGHT_TTL).and_then(|it| it.as_i64());
        let in_range = |ms: &i64| (0..=MAX_EXPIRY).contains(ms);
        Ok(Brought { exchange, time_left: time_left.filter(in_range).map(|ms| ms as u64) })
    }

    /// RabbitMQ: `user-id` must name the user who publishes, unless that user may impersonate.
    fn check_user_id(&self, user_id: &[u8]) -> Result<(), Exception> {
        let user = self.info.user();
        if user_id == user.as_bytes() || self.may_impersonate {
            return Ok(());
        }
        let claimed = String::from_utf8_lossy(user_id);
        let text = format!("user_id property set to '{claimed}' but authenticated user was '{user}'");
        Err(Exception::channel(reply_code::PRECONDITION_FAILED, text))
    }

    fn accept<'a>(
        &mut self,
        turn: &mut Turn<'_>,
        channel: u16,
        mut publish: Publish<'a>,
        facts: &Facts<'a>,
        mandatory: bool,
    ) -> Result<(), Exception> {
        if let Some(open) = self.channels.get(&channel) {
            open.info.messages.publish.bump(1);
        }
        let mut targets = std::mem::take(&mut self.targets);
        let routed = self.route(turn, &publish.view, facts, &mut targets);
        let outcome = routed.and_then(|()| {
            let reply = publish.view.exchange.is_empty() && reply_to::is_reply(publish.view.routing_key);
            if let Some(brought) = &facts.brought {
                publish.view.exchange = brought.exchange;
            }
            let replied = reply && self.deliver_reply(turn, &publish.view);
            let transactional = self.channels.get(&channel).is_some_and(|open| open.transaction.is_some());
            let only_delayed = facts.has_bcc
                && self.delay_with_bcc(turn, channel, &publish, facts, &mut targets, transactional)?;
            if transactional && !replied {
                if only_delayed {
                    return Ok(());
                }
                return self.collect(channel, &mut publish, &targets, mandatory);
            }
            let done = replied || only_delayed;
            let rejected = !done && self.hand_over(turn, channel, &mut publish, &targets, mandatory);
            if let Some(confirms) = self.channels.get_mut(&channel).and_then(|open| open.confirms.as_mut()) {
                let numbered = confirms.number();
                if rejected {
                    confirms.reject();
                }
                if let Some(open) = self.channels.get(&channel) {
                    open.info.numbered.set(numbered);
                }
                self.tally.numbered();
                self.confirming = true;
            }
            Ok(())
        });
        self.targets = targets;
        outcome
    }

    /// Hands a message with a `BCC` header over where it is delayed: there the header stays until the message is
    /// routed. Returns whether it goes nowhere else.
    fn delay_with_bcc(
        &mut self,
        turn: &mut Turn<'_>,
        channel: u16,
        publish: &Publish<'_>,
        facts: &Facts<'_>,
        targets: &mut Vec<QueueId>,
        transactional: bool,
    ) -> Result<bool, Exception> {
        let delaying = self.route_scratch.delaying().to_vec();
        if delaying.is_empty() {
            return Ok(false);
        }
        targets.retain(|queue| !delaying.contains(queue));
        let mut properties = amqp::content::BasicProperties::from(facts.properties);
        if let Some(address) = &facts.reply_address {
            properties.reply_to = Some(address.as_bytes().to_vec());
        }
        let mut raw = Vec::new();
        properties.encode(&mut raw);
        let view = MessageView { properties: &raw, ..publish.view };
        let mut whole = Publish::borrowed(view, publish.persistent, publish.expiration_ms, publish.priority);
        if transactional {
            self.collect(channel, &mut whole, &delaying, false)?;
        } else {
            self.hand_over(turn, channel, &mut whole, &delaying, false);
        }
        Ok(targets.is_empty())
    }

    /// Keeps a publish until `tx.commit`.
    fn collect(
        &mut self,
        channel: u16,
        publish: &mut Publish<'_>,
        targets: &[QueueId],
        mandatory: bool,
    ) -> Result<(), Exception> {
        let limit = self.node.settings.max_transaction_size;
        let Some(open) = self.channels.get_mut(&channel) else { return Ok(()) };
        let Some(transaction) = open.transaction.as_mut() else { return Ok(()) };
        let size = transaction.publish(TxPublish {
            message: publish.share(),
            expiration_ms: publish.expiration_ms,
            priority: publish.priority,
            mandatory,
            targets: targets.to_vec(),
        });
        open.info.uncommitted.bump(1);
        if size > limit {
            let text = format!("transaction of {size} octets is larger than the limit of {limit}");
            return Err(Exception::channel(reply_code::PRECONDITION_FAILED, text));
        }
        Ok(())
    }

    /// Gives a message to its queues. Returns whether one of them refused it.
    pub(crate) fn hand_over(
        &mut self,
        turn: &mut Turn<'_>,
        channel: u16,
        publish: &mut Publish<'_>,
        targets: &[QueueId],
        mandatory: bool,
    ) -> bool {
        if turn.is_tracing() {
            self.tell_firehose(turn, channel, &publish.view, targets);
        }
        let mut rejected = false;
        let mut taken = 0;
        for queue in targets {
            if turn.has_detours() && !turn.is_pinned() && turn.goes_behind_detours(*queue) {
                taken += 1;
                continue;
            }
            match turn.queue(*queue, |queue, now, fx| queue.publish(now, publish, fx)) {
                Some(Published::Accepted { .. }) => taken += 1,
                Some(Published::Rejected) => {
                    taken += 1;
                    rejected = true;
                }
                None => {
                    let far = turn.far_target(*queue);
                    taken += u32::from(far != FarTarget::Unknown);
                    rejected |= far == FarTarget::NoLeader;
                }
            }
        }
        if turn.has_far_targets() {
            self.forward(turn, channel, publish);
        }
        if taken == 0 {
            if mandatory {
                self.return_message(turn, channel, &publish.view);
            }
            if let Some(open) = self.channels.get(&channel) {
                let messages = &open.info.messages;
                if mandatory { &messages.return_unroutable } else { &messages.drop_unroutable }.bump(1);
            }
        }
        rejected
    }

    /// Sends a message to the nodes that lead its other queues.
    #[cold]
    fn forward(&self, turn: &mut Turn<'_>, channel: u16, publish: &Publish<'_>) {
        let confirms = self.channels.get(&channel).and_then(|open| open.confirms.as_ref());
        let waiter = confirms.map_or(Waiter::Nobody, |confirms| {
            let tag = confirms.next_number();
            Waiter::Publisher { connection: self.info.id, channel, tag }
        });
        turn.forward(publish, &waiter);
    }

    #[cold]
    fn tell_firehose(&self, turn: &mut Turn<'_>, channel: u16, view: &MessageView<'_>, targets: &[QueueId]) {
        let (Some(access), Some(client)) = (self.access.as_ref(), self.outbox.client()) else { return };
        turn.saw(Sighting::published(view, access.vhost(), targets, client.clone(), channel));
    }

    fn return_message(&mut self, turn: &mut Turn<'_>, channel: u16, view: &MessageView<'_>) {
        let returned = basic::Return {
            reply_code: reply_code::NO_ROUTE,
            reply_text: "NO_ROUTE",
            exchange: view.exchange,
            routing_key: view.routing_key,
        };
        let first = self
            .outbox
            .write_content(channel, view, None, |buf, _| frame::write_fields(buf, channel, &returned));
        turn.touch(&self.outbox, first);
    }

    /// Finds the queues, from memory where possible. The shard is let go before the metadata is looked at.
    fn route(
        &mut self,
        turn: &mut Turn<'_>,
        view: &MessageView<'_>,
        facts: &Facts<'_>,
        targets: &mut Vec<QueueId>,
    ) -> Result<(), Exception> {
        let node = Arc::clone(&self.node);
        let version = node.metadata.version();
        let simple = facts.extra_keys.is_empty();
        if simple && let Some(route) = self.routes.find(version, view.exchange, view.routing_key) {
            targets.clear();
            targets.extend_from_slice(&route.queues);
            self.tally.publish(&route.exchange, targets.len(), view.body.len());
            return Ok(());
        }
        turn.close();
        let sm = node.metadata.read();
        let Some(access) = self.access.as_mut() else { return Ok(()) };
        checks::publish(&sm, access, view.exchange, view.routing_key)?;
        let mut keys = vec![view.routing_key];
        keys.extend_from_slice(&facts.extra_keys);
        let (headers, properties) = (facts.headers.as_ref(), Some(&facts.properties));
        let message = RoutedMessage { keys: &keys, headers, properties };
        let routed =
            sm.route_message(access.vhost(), view.exchange, message, targets, &mut self.route_scratch);
        let Some(exchange) = sm.exchange_named(access.vhost(), view.exchange) else { return Ok(()) };
        let exchange = node.counters.exchange(exchange.id);
        self.tally.publish(&exchange, targets.len(), view.body.len());
        if simple && routed.is_some_and(|routed| routed.cacheable) {
            let route = Route { queues: targets.clone(), exchange };
            self.routes.insert(sm.version(), view.exchange, view.routing_key, route);
        }
        Ok(())
    }
}

/// The properties that consumers see, where they differ from what was published: without the `BCC` header,
/// with the requester's address for direct replies.
fn rewritten(view: &MessageView<'_>, facts: &Facts<'_>) -> Option<Vec<u8>> {
    if !facts.has_bcc && facts.reply_address.is_none() {
        return None;
    }
    let mut properties = amqp::content::BasicProperties::from(Properties::parse(view.properties).ok()?);
    if facts.has_bcc
        && let Some(headers) = properties.headers.as_mut()
    {
        headers.remove("BCC");
        if facts.brought.is_some() {
            headers.remove(BROUGHT_EXCHANGE);
            headers.remove(BROUGHT_TTL);
            if headers.is_empty() {
                properties.headers = None;
            }
        }
    }
    if let Some(address) = &facts.reply_address {
        properties.reply_to = Some(address.as_bytes().to_vec());
    }
    let mut raw = Vec::with_capacity(view.properties.len() + 64);
    properties.encode(&mut raw);
    Some(raw)
}

/// The `expiration` property: milliseconds as decimal digits. The texts are RabbitMQ's.
fn parse_expiration(value: &[u8]) -> Result<u64, Exception> {
    let text: Cow<'_, str> = String::from_utf8_lossy(value);
    let digits = text
        .bytes()
        .enumerate()
        .take_while(|(at, octet)| octet.is_ascii_digit() || (*at == 0 && matches!(octet, b'-' | b'+')));
    let digits = digits.count();
    let reason = match text[..digits].parse::<i128>() {
        Err(_) => "no_integer".to_owned(),
        Ok(_) if digits < text.len() => format!("{{leftover_string,\"{}\"}}", &text[digits..]),
        Ok(number) if number < 0 => format!("{{value_negative,{number}}}"),
        Ok(number) if number > i128::from(MAX_EXPIRY) => format!("{{value_too_large,{number}}}"),
        Ok(number) => return Ok(number as u64),
    };
    Err(Exception::channel(reply_code::PRECONDITION_FAILED, format!("invalid expiration '{text}': {reason}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expirations_are_decimal_digits_and_the_refusals_are_rabbitmqs() {
        assert_eq!(parse_expiration(b"0"), Ok(0));
        assert_eq!(parse_expiration(b"60000"), Ok(60000));
        assert_eq!(parse_expiration(b"+60000"), Ok(60000));
        assert_eq!(parse_expiration(b"315360000000"), Ok(315_360_000_000));
        let text = |value: &[u8]| parse_expiration(value).unwrap_err().text;
        assert_eq!(text(b""), "invalid expiration '': no_integer");
        assert_eq!(
            text(b"315360000001"),
            "invalid expiration '315360000001': {value_too_large,315360000001}"
        );
        assert_eq!(text(b"abc"), "invalid expiration 'abc': no_integer");
        assert_eq!(text(b"-1"), "invalid expiration '-1': {value_negative,-1}");
        assert_eq!(text(b"1.5"), "invalid expiration '1.5': {leftover_string,\".5\"}");
        assert_eq!(text(b"10s"), "invalid expiration '10s': {leftover_string,\"s\"}");
    }
}
