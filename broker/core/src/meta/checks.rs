//! What a channel must ask before it acts on a queue or exchange, in RabbitMQ's order.
//!
//! These are reads: the caller holds the [`MetaSm`] shared. What must be created comes back as a
//! [`MetaCommand`] to propose; it is checked again when it is applied, so nothing depends on the
//! state being the same by then.

use super::access::{Access, Permission};
use super::command::{BindingRequest, DeclareExchange, DeclareQueue, DestinationName};
use super::entities::{ExchangeId, Queue};
use super::{Exchange, MetaCommand, MetaSm, arguments, equivalence};
use crate::exception::Exception;
use crate::exchange::{self, ExchangeType};
use crate::ids::{ConnectionId, NodeId, QueueId};
use amqp::reply_code;
use amqp::table::{FieldTable, FieldValue};
use std::borrow::Cow;
use std::sync::Arc;

/// What a declare leads to.
#[derive(Clone, PartialEq, Debug)]
pub enum Declared<Id> {
    /// It exists and is equivalent.
    Exists(Id),
    /// It must be made: propose this.
    Create(MetaCommand),
}

/// A `queue.declare` that is not passive.
#[derive(Clone, Debug)]
pub struct QueueDeclare<'a> {
    /// Its name; the caller has put a generated one where the client sent none.
    pub name: &'a str,
    /// The name was generated, so it may begin with `amq.`.
    pub server_named: bool,
    /// As sent.
    pub durable: bool,
    /// As sent.
    pub exclusive: bool,
    /// As sent.
    pub auto_delete: bool,
    /// As sent.
    pub arguments: Arc<FieldTable>,
    /// The connection that asks.
    pub connection: ConnectionId,
}

/// An `exchange.declare` that is not passive.
#[derive(Clone, Debug)]
pub struct ExchangeDeclare<'a> {
    /// Its name.
    pub name: &'a str,
    /// The type's name.
    pub kind: &'a str,
    /// As sent.
    pub durable: bool,
    /// As sent.
    pub auto_delete: bool,
    /// As sent.
    pub internal: bool,
    /// As sent.
    pub arguments: Arc<FieldTable>,
}

/// Checks a `queue.declare`.
pub fn queue_declare(
    sm: &MetaSm,
    access: &mut Access,
    request: &QueueDeclare<'_>,
) -> Result<Declared<QueueId>, Exception> {
    let vhost = access.vhost();
    let name = strip_cr_lf(request.name);
    if request.server_named {
        arguments::validate_server_named(&request.arguments)?;
    } else {
        check_name("queue", &name)?;
    }
    access.check_queue(sm, Permission::Configure, &name)?;
    let declare = DeclareQueue {
        vhost,
        name: Arc::from(&*name),
        durable: request.durable,
        auto_delete: request.auto_delete,
        owner: request.exclusive.then_some(request.connection),
        arguments: Arc::clone(&request.arguments),
        home: NodeId::FIRST,
        mirrors: Vec::new(),
    };
    if let Some(queue) = sm.queue_named(vhost, &name) {
        equivalence::queue(sm, queue, &declare)?;
        return Ok(Declared::Exists(queue.id));
    }
    if let Some(FieldValue::LongStr(target)) = request.arguments.get("x-dead-letter-exchange") {
        access.check_queue(sm, Permission::Read, &name)?;
        access.check_exchange(sm, Permission::Write, &String::from_utf8_lossy(target))?;
    }
    arguments::validate_queue(sm, &declare)?;
    Ok(Declared::Create(MetaCommand::DeclareQueue(declare)))
}

/// Checks a passive `queue.declare`: the queue exists and no other connection has it exclusively.
pub fn queue_passive<'a>(
    sm: &'a MetaSm,
    access: &Access,
    name: &str,
    connection: ConnectionId,
) -> Result<&'a Queue, Exception> {
    let queue = sm.existing_queue(access.vhost(), &strip_cr_lf(name))?;
    exclusive_access(sm, queue, connection)?;
    Ok(queue)
}

/// Finds a queue to act on: get, consume and purge need [`Permission::Read`], delete needs
/// [`Permission::Configure`]. For a delete, a 404 means that there is nothing to do.
pub fn queue_for<'a>(
    sm: &'a MetaSm,
    access: &mut Access,
    permission: Permission,
    name: &str,
    connection: ConnectionId,
) -> Result<&'a Queue, Exception> {
    // RabbitMQ takes the name as it is sent here, except in a delete.
    let name = match permission {
        Permission::Configure => strip_cr_lf(name),
        _ => Cow::Borrowed(name),
    };
    access.check_queue(sm, permission, &name)?;
    let queue = sm.existing_queue(access.vhost(), &name)?;
    exclusive_access(sm, queue, connection)?;
    Ok(queue)
}

/// Checks an `exchange.declare`.
pub fn exchange_declare(
    sm: &MetaSm,
    access: &mut Access,
    request: &ExchangeDeclare<'_>,
) -> Result<Declared<ExchangeId>, Exception> {
    let vhost = access.vhost();
    let kind = ExchangeType::from_name(request.kind).ok_or_else(|| exchange::unknown_type(request.kind))?;
    let name = strip_cr_lf(request.name);
    not_default_exchange(&name)?;
    access.check_exchange(sm, Permission::Configure, &name)?;
    let declare = DeclareExchange {
        vhost,
        name: Arc::from(&*name),
        kind,
        durable: request.durable,
        auto_delete: request.auto_delete,
        internal: request.internal,
        arguments: Arc::clone(&request.arguments),
    };
    if let Some(exchange) = sm.exchange_named(vhost, &name) {
        equivalence::exchange(sm, exchange, &declare)?;
        return Ok(Declared::Exists(exchange.id));
    }
    check_name("exchange", &name)?;
    arguments::validate_exchange(sm, &declare)?;
    if let Some(alternate) = arguments::alternate_exchange(&request.arguments) {
        access.check_exchange(sm, Permission::Read, &name)?;
        access.check_exchange(sm, Permission::Write, &alternate)?;
    }
    Ok(Declared::Create(MetaCommand::DeclareExchange(declare)))
}

/// Checks a passive `exchange.declare`.
pub fn exchange_passive<'a>(sm: &'a MetaSm, access: &Access, name: &str) -> Result<&'a Exchange, Exception> {
    let name = strip_cr_lf(name);
    not_default_exchange(&name)?;
    sm.existing_exchange(access.vhost(), &name)
}

/// Checks an `exchange.delete`; the answer is what to propose.
pub fn exchange_delete(
    sm: &MetaSm,
    access: &mut Access,
    name: &str,
    if_unused: bool,
) -> Result<MetaCommand, Exception> {
    let vhost = access.vhost();
    let name = strip_cr_lf(name);
    not_default_exchange(&name)?;
    if name.starts_with("amq.") {
        return Err(Exception::channel(
            reply_code::ACCESS_REFUSED,
            format!("deletion of system {} not allowed", sm.exchange_title(vhost, &name)),
        ));
    }
    access.check_exchange(sm, Permission::Configure, &name)?;
    Ok(MetaCommand::DeleteExchange { vhost, name: Arc::from(&*name), if_unused })
}

/// Checks a bind or unbind of a queue or exchange: write on the destination, read on the source.
/// The answer is the request to propose as [`MetaCommand::Bind`] or [`MetaCommand::Unbind`].
pub fn binding(
    sm: &MetaSm,
    access: &mut Access,
    source: &str,
    destination: &DestinationName,
    routing_key: &str,
    arguments: Arc<FieldTable>,
    connection: ConnectionId,
) -> Result<BindingRequest, Exception> {
    let source = strip_cr_lf(source);
    let destination = match destination {
        DestinationName::Queue(name) => {
            let name = strip_cr_lf(name);
            access.check_queue(sm, Permission::Write, &name)?;
            DestinationName::Queue(Arc::from(&*name))
        }
        DestinationName::Exchange(name) => {
            let name = strip_cr_lf(name);
            access.check_exchange(sm, Permission::Write, &name)?;
            not_default_exchange(&name)?;
            DestinationName::Exchange(Arc::from(&*name))
        }
    };
    not_default_exchange(&source)?;
    access.check_exchange(sm, Permission::Read, &source)?;
    if let Some(exchange) = sm.exchange_named(access.vhost(), &source)
        && exchange.kind == ExchangeType::Topic
    {
        access.check_topic(sm, Permission::Read, &source, routing_key)?;
    }
    Ok(BindingRequest {
        vhost: access.vhost(),
        source: Arc::from(&*source),
        destination,
        routing_key: Arc::from(routing_key),
        arguments,
        connection: Some(connection),
    })
}

/// Checks a publish: write permission, the exchange exists, is open to clients, and the routing
/// key is permitted on a topic exchange.
pub fn publish<'a>(
    sm: &'a MetaSm,
    access: &mut Access,
    exchange: &str,
    routing_key: &str,
) -> Result<&'a Exchange, Exception> {
    access.check_exchange(sm, Permission::Write, exchange)?;
    let found = sm.existing_exchange(access.vhost(), exchange)?;
    if found.internal {
        return Err(Exception::channel(
            reply_code::ACCESS_REFUSED,
            format!("cannot publish to internal {}", sm.exchange_title(access.vhost(), exchange)),
        ));
    }
    if found.kind == ExchangeType::Topic {
        access.check_topic(sm, Permission::Write, exchange, routing_key)?;
    }
    Ok(found)
}

/// 405 when another connection has the queue exclusively.
pub fn exclusive_access(sm: &MetaSm, queue: &Queue, connection: ConnectionId) -> Result<(), Exception> {
    match queue.owner {
        Some(owner) if owner != connection => Err(locked(sm, queue)),
        _ => Ok(()),
    }
}

/// RabbitMQ's 405.
pub(super) fn locked(sm: &MetaSm, queue: &Queue) -> Exception {
    Exception::channel(
        reply_code::RESOURCE_LOCKED,
        format!(
            "cannot obtain exclusive access to locked {}. It could be originally declared on another \
             connection or the exclusive property value does not match that of the original declaration.",
            sm.queue_title(queue.vhost, &queue.name)
        ),
    )
}

pub(super) fn queue_limit_reached(queue: &str, vhost: &str, limit: u64) -> Exception {
    Exception::channel(
        reply_code::PRECONDITION_FAILED,
        format!("cannot declare queue '{queue}': queue limit in vhost '{vhost}' ({limit}) is reached"),
    )
}

fn not_default_exchange(name: &str) -> Result<(), Exception> {
    if name.is_empty() {
        return Err(Exception::channel(
            reply_code::ACCESS_REFUSED,
            "operation not permitted on the default exchange",
        ));
    }
    Ok(())
}

fn check_name(kind: &str, name: &str) -> Result<(), Exception> {
    if name.starts_with("amq.") {
        return Err(Exception::channel(
            reply_code::ACCESS_REFUSED,
            format!("{kind} name '{name}' contains reserved prefix 'amq.*'"),
        ));
    }
    Ok(())
}

/// RabbitMQ drops carriage returns and line feeds from names.
pub fn strip_cr_lf(name: &str) -> Cow<'_, str> {
    if name.contains(['\r', '\n']) {
        Cow::Owned(name.chars().filter(|c| !matches!(c, '\r' | '\n')).collect())
    } else {
        Cow::Borrowed(name)
    }
}
