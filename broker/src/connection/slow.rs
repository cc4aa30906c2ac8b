//! Methods that may have to wait: for the metadata's journal, for the log, for a password hash.
//!
//! They arrive with nothing locked and one at a time; what follows them in the read buffer waits, so that the
//! order on each channel is kept.

use super::basic::{gone, precondition};
use super::frames::{decode, unimplemented_method};
use super::{Connection, Phase, reply_to};
use crate::forward::ask::{Ask, Asked};
use crate::shard::{Turn, TurnBuffers};
use amqp::frame;
use amqp::method::{Method, MethodFields, exchange, queue, tx};
use amqp::reply_code;
use broker_core::channel::confirm::Mark;
use broker_core::exception::Exception;
use broker_core::ids::QueueId;
use broker_core::message::Publish;
use broker_core::meta::checks::{self, Declared, ExchangeDeclare, QueueDeclare};
use broker_core::meta::options::QueueType;
use broker_core::meta::{BindingRequest, DestinationName, MetaCommand, MetaError, MetaReply, Permission};
use broker_core::queue::Settle;
use broker_store::Lsn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::watch::error::RecvError;

/// What the answer to a commit waits for.
struct Committed {
    /// The log position that has to become durable.
    position: Lsn,
    /// What has to be passed beside it.
    marks: Vec<Mark>,
    /// A queue refused a message.
    rejected: bool,
    /// Set when another node refused its part, at the latest when the marks are passed.
    far: Option<Arc<AtomicBool>>,
}

impl Connection {
    /// Carries out one method frame. Errors are answered here.
    pub(crate) async fn slow_frame(&mut self, number: u16, payload: &[u8]) {
        self.current_channel = number;
        let outcome = match decode(payload) {
            Ok(method) => {
                let (class_id, method_id) = (method.class_id(), method.method_id());
                let done = match method.class_id() {
                    10 => self.connection_method(number, &method).await,
                    _ if self.phase == Phase::Running && number != 0 => {
                        self.slow_method(number, &method).await
                    }
                    _ => self.out_of_order(&method),
                };
                done.map_err(|error| error.at(class_id, method_id))
            }
            Err(error) => Err(error),
        };
        if let Err(exception) = outcome {
            self.fail_now(number, &exception);
        }
    }

    fn fail_now(&mut self, number: u16, exception: &Exception) {
        let node = Arc::clone(&self.node);
        let mut turn = Turn::new(&node, std::mem::take(&mut self.buffers), node.now_ms());
        self.fail(&mut turn, number, exception);
        self.end_turn(turn);
    }

    async fn slow_method(&mut self, number: u16, method: &Method<'_>) -> Result<(), Exception> {
        match method {
            Method::QueueDeclare(declare) => self.queue_declare(number, declare).await,
            Method::QueueBind(bind) => {
                let destination = DestinationName::Queue(self.queue_name(number, bind.queue)?);
                let key = self.binding_key(number, bind.queue, bind.routing_key);
                let request = self.binding(bind.exchange, &destination, &key, bind.arguments)?;
                self.propose(MetaCommand::Bind(request)).await?;
                self.answer(number, bind.nowait, &queue::BindOk);
                Ok(())
            }
            Method::QueueUnbind(unbind) => {
                let destination = DestinationName::Queue(self.queue_name(number, unbind.queue)?);
                let key = self.binding_key(number, unbind.queue, unbind.routing_key);
                let request = self.binding(unbind.exchange, &destination, &key, unbind.arguments)?;
                self.propose(MetaCommand::Unbind(request)).await?;
                self.answer(number, false, &queue::UnbindOk);
                Ok(())
            }
            Method::QueuePurge(purge) => self.queue_purge(number, purge).await,
            Method::QueueDelete(delete) => self.queue_delete(number, delete).await,
            Method::ExchangeDeclare(declare) => self.exchange_declare(number, declare).await,
            Method::ExchangeDelete(delete) => {
                let command = self.with_access(|sm, access| {
                    checks::exchange_delete(sm, access, delete.exchange, delete.if_unused)
                })?;
                self.propose(command).await?;
                self.answer(number, delete.nowait, &exchange::DeleteOk);
                Ok(())
            }
            Method::ExchangeBind(bind) => {
                let destination = DestinationName::Exchange(Arc::from(bind.destination));
                let request = self.binding(bind.source, &destination, bind.routing_key, bind.arguments)?;
                self.propose(MetaCommand::Bind(request)).await?;
                self.answer(number, bind.nowait, &exchange::BindOk);
                Ok(())
            }
            Method::ExchangeUnbind(unbind) => {
                let destination = DestinationName::Exchange(Arc::from(unbind.destination));
                let request =
                    self.binding(unbind.source, &destination, unbind.routing_key, unbind.arguments)?;
                self.propose(MetaCommand::Unbind(request)).await?;
                self.answer(number, unbind.nowait, &exchange::UnbindOk);
                Ok(())
            }
            Method::TxCommit(_) => self.commit(number).await,
            Method::BasicConsume(_) | Method::BasicCancel(_) | Method::BasicGet(_) => {
                self.far_method(number, method).await
            }
            _ => Err(unimplemented_method()),
        }
    }

    async fn queue_declare(&mut self, number: u16, declare: &queue::Declare<'_>) -> Result<(), Exception> {
        let connection = self.info.id;
        if declare.queue.starts_with(reply_to::REPLY_TO) {
            return self.declare_reply_to(number, declare).await;
        }
        if declare.passive {
            // RabbitMQ: an empty name does not stand for the queue declared last here.
            let (id, name, title) = self.with_access(|sm, access| {
                checks::queue_passive(sm, access, declare.queue, connection).map(|queue| {
                    (queue.id, Arc::clone(&queue.name), sm.queue_title(queue.vhost, &queue.name))
                })
            })?;
            let found = self.declared(number, id, name, declare.nowait).await?;
            return if found { Ok(()) } else { Err(gone(&title)) };
        }
        self.node.counters.churn.queues_declared.add(1);
        let server_named = declare.queue.is_empty();
        let name = if server_named { self.node.unique_name("amq.gen-") } else { declare.queue.to_owned() };
        let request = QueueDeclare {
            name: &name,
            server_named,
            durable: declare.durable,
            exclusive: declare.exclusive,
            auto_delete: declare.auto_delete,
            arguments: Arc::new(declare.arguments.to_owned()),
            connection,
        };
        loop {
            let (id, new) =
                match self.with_access(|sm, access| checks::queue_declare(sm, access, &request))? {
                    Declared::Exists(id) => (id, false),
                    Declared::Create(command) => match self.propose(command).await? {
                        MetaReply::Queue { id, created } => (id, created),
                        other => return Err(internal(&other)),
                    },
                };
            let name = self.node.metadata.read().queue(id).map(|queue| Arc::clone(&queue.name));
            let name = name.unwrap_or_else(|| Arc::from(name_of(&request)));
            if self.declared(number, id, Arc::clone(&name), declare.nowait).await? {
                return Ok(());
            }
            if new {
                // Its time without use was over at once.
                let ok = queue::DeclareOk { queue: &name, message_count: 0, consumer_count: 0 };
                self.answer(number, declare.nowait, &ok);
                return Ok(());
            }
            // It had decided to go; once it is gone, this declare makes another one.
            self.propose(MetaCommand::DeleteQueues { ids: vec![id] }).await?;
        }
    }

    /// A declare of the pseudo queue, or of a requester's address, asks whether it is there.
    async fn declare_reply_to(&mut self, number: u16, declare: &queue::Declare<'_>) -> Result<(), Exception> {
        let mut exists = reply_to::exists(&self.node, declare.queue);
        if !exists && let Some(slot) = reply_to::slot_of(declare.queue) {
            let (node, address) = (Arc::clone(&self.node), declare.queue.to_owned());
            let asked = self.wait_for(async move { node.expects_reply_elsewhere(slot, &address).await });
            exists = asked.await?;
        }
        if !exists {
            return Err(reply_to::no_requester(declare.queue, &self.info.details().vhost));
        }
        let ok = queue::DeclareOk { queue: declare.queue, message_count: 0, consumer_count: 1 };
        self.answer(number, declare.nowait, &ok);
        Ok(())
    }

    /// Answers a declare with the queue's counters, unless the queue is about to go.
    async fn declared(
        &mut self,
        number: u16,
        id: QueueId,
        name: Arc<str>,
        nowait: bool,
    ) -> Result<bool, Exception> {
        let Some((messages, consumers)) = self.counts(id, true).await? else { return Ok(false) };
        self.channel(number)?.last_queue = Some(Arc::clone(&name));
        let ok = queue::DeclareOk {
            queue: &name,
            message_count: u32::try_from(messages).unwrap_or(u32::MAX),
            consumer_count: u32::try_from(consumers).unwrap_or(u32::MAX),
        };
        self.answer(number, nowait, &ok);
        Ok(true)
    }

    async fn queue_purge(&mut self, number: u16, purge: &queue::Purge<'_>) -> Result<(), Exception> {
        let name = self.queue_name(number, purge.queue)?;
        let connection = self.info.id;
        let id = self.with_access(|sm, access| {
            checks::queue_for(sm, access, Permission::Read, &name, connection).map(|queue| queue.id)
        })?;
        let asked = if self.node.is_far(id) { self.ask(id, Ask::Purge).await? } else { Asked::Here };
        let purged = match asked {
            Asked::Here => self.at_queue(id, |queue, _, fx| queue.purge(fx)).unwrap_or(0),
            Asked::Counted { messages, .. } => messages,
            _ => 0,
        };
        let message_count = u32::try_from(purged).unwrap_or(u32::MAX);
        self.answer(number, purge.nowait, &queue::PurgeOk { message_count });
        Ok(())
    }

    async fn queue_delete(&mut self, number: u16, delete: &queue::Delete<'_>) -> Result<(), Exception> {
        let name = self.queue_name(number, delete.queue)?;
        let connection = self.info.id;
        let found = self.with_access(|sm, access| {
            checks::queue_for(sm, access, Permission::Configure, &name, connection)
                .map(|queue| (queue.id, sm.queue_title(queue.vhost, &queue.name), queue.options.queue_type))
        });
        let (id, title, kind) = match found {
            Ok(found) => found,
            // RabbitMQ: deleting what is not there is fine.
            Err(error) if error.code == reply_code::NOT_FOUND => {
                self.answer(number, delete.nowait, &queue::DeleteOk { message_count: 0 });
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let (if_unused, if_empty) = (delete.if_unused, delete.if_empty);
        if kind == QueueType::Quorum && (if_unused || if_empty) {
            let flag = if if_unused { "if-unused" } else { "if-empty" };
            let text = format!(
                "cannot delete {title}. queue.delete operations with {flag} flag set are not supported by quorum queues"
            );
            return Err(Exception::connection(reply_code::NOT_IMPLEMENTED, text));
        }
        let (count, consumers) = match self.counts(id, false).await {
            Ok(counted) => counted.unwrap_or((0, 0)),
            // RabbitMQ: a queue whose node is down can be deleted.
            Err(error) if error.code == reply_code::NOT_FOUND && !if_unused && !if_empty => (0, 0),
            Err(error) => return Err(error),
        };
        if if_unused && consumers > 0 {
            return Err(precondition(format!("{title} in use")));
        }
        if if_empty && count > 0 {
            return Err(precondition(format!("{title} not empty")));
        }
        self.propose(MetaCommand::DeleteQueues { ids: vec![id] }).await?;
        let message_count = u32::try_from(count).unwrap_or(u32::MAX);
        self.answer(number, delete.nowait, &queue::DeleteOk { message_count });
        Ok(())
    }

    async fn exchange_declare(
        &mut self,
        number: u16,
        declare: &exchange::Declare<'_>,
    ) -> Result<(), Exception> {
        if declare.passive {
            self.with_access(|sm, access| {
                checks::exchange_passive(sm, access, declare.exchange).map(|_| ())
            })?;
        } else {
            let request = ExchangeDeclare {
                name: declare.exchange,
                kind: declare.kind,
                durable: declare.durable,
                auto_delete: declare.auto_delete,
                internal: declare.internal,
                arguments: Arc::new(declare.arguments.to_owned()),
            };
            let declared = self.with_access(|sm, access| checks::exchange_declare(sm, access, &request))?;
            if let Declared::Create(command) = declared {
                self.propose(command).await?;
            }
        }
        self.answer(number, declare.nowait, &exchange::DeclareOk);
        Ok(())
    }

    /// RabbitMQ: binding the queue declared last by an empty name with an empty key uses its name as the key.
    fn binding_key(&self, number: u16, queue: &str, routing_key: &str) -> Arc<str> {
        if queue.is_empty()
            && routing_key.is_empty()
            && let Ok(name) = self.queue_name(number, queue)
        {
            return name;
        }
        Arc::from(routing_key)
    }

    fn binding(
        &mut self,
        source: &str,
        destination: &DestinationName,
        routing_key: &str,
        arguments: amqp::table::Table<'_>,
    ) -> Result<BindingRequest, Exception> {
        let connection = self.info.id;
        let arguments = Arc::new(arguments.to_owned());
        self.with_access(|sm, access| {
            checks::binding(sm, access, source, destination, routing_key, arguments, connection)
        })
    }

    /// `tx.commit`: routes, then does everything in one go at all shards concerned, so that the log has it in
    /// one piece; answers when that is durable.
    async fn commit(&mut self, number: u16) -> Result<(), Exception> {
        let Committed { position, marks, rejected, far } = self.commit_at_shards(number)?;
        let (node, mut durable) = (Arc::clone(&self.node), self.durable.clone());
        let written = self.wait_for(async move {
            while node.wal.durable_lsn() < position {
                durable.changed().await?;
            }
            Ok::<_, RecvError>(marks.is_empty() || node.gates.passed(&marks).await)
        });
        let Ok(passed) = written.await? else {
            return Err(Exception::connection(reply_code::INTERNAL_ERROR, "the log has failed"));
        };
        let refused = far.is_some_and(|far| far.load(Ordering::Acquire));
        if rejected || refused || !passed {
            // RabbitMQ: what the other queues took stays there.
            return Err(precondition("partial tx completion"));
        }
        self.answer(number, false, &tx::CommitOk);
        Ok(())
    }

    /// Does what the transaction holds.
    fn commit_at_shards(&mut self, number: u16) -> Result<Committed, Exception> {
        let open = self.channel(number)?;
        let Some(transaction) = open.transaction.as_mut() else {
            return Err(precondition("channel is not transactional"));
        };
        let transaction = transaction.take();
        open.info.end_transaction();
        let counted = Arc::clone(&open.info);
        let node = Arc::clone(&self.node);
        let mut turn = Turn::new(&node, std::mem::take(&mut self.buffers), node.now_ms());
        let targets = transaction.publishes.iter().flat_map(|publish| &publish.targets);
        let settled = transaction.settlements.iter().flat_map(|(_, settled)| settled);
        let touched = targets.copied().chain(settled.map(|(_, unacked)| unacked.queue));
        turn.begin_commit(touched.clone());
        turn.pin(touched);
        let mut targets = transaction.publishes.iter().flat_map(|publish| &publish.targets);
        let is_held_back = targets.any(|queue| turn.is_held_back(*queue));
        let mut rejected = is_held_back;
        for publish in transaction.publishes.iter().filter(|_| !is_held_back) {
            let mut incoming = Publish::of(&publish.message, publish.expiration_ms, publish.priority);
            rejected |= self.hand_over(&mut turn, number, &mut incoming, &publish.targets, publish.mandatory);
        }
        for (how, mut settled) in transaction.settlements {
            // Where nothing is published, what was to be settled goes back to its place.
            let how = if is_held_back { Settle::Release } else { how };
            if how == Settle::Ack {
                counted.messages.ack.bump(settled.len() as u64);
            }
            super::channel::settle(&mut turn, how, &mut settled);
        }
        turn.close();
        let far = turn.end_commit();
        self.resume_limited(&mut turn, number);
        turn.close();
        turn.send_forwarded();
        let (position, marks) = (turn.position(), turn.marks().to_vec());
        self.end_turn(turn);
        Ok(Committed { position, marks, rejected, far })
    }

    /// Reads the metadata with the user's permissions.
    fn with_access<R>(
        &mut self,
        read: impl FnOnce(&broker_core::meta::MetaSm, &mut broker_core::meta::Access) -> Result<R, Exception>,
    ) -> Result<R, Exception> {
        let sm = self.node.metadata.read();
        let Some(access) = self.access.as_mut() else { return Err(unimplemented_method()) };
        read(&sm, access)
    }

    async fn propose(&mut self, command: MetaCommand) -> Result<MetaReply, Exception> {
        let node = Arc::clone(&self.node);
        let made = self.wait_for(async move { node.metadata.propose(command).await }).await?;
        made.map_err(MetaError::into_exception)
    }

    /// Works on one queue in a turn of its own.
    pub(super) fn at_queue<R>(
        &mut self,
        id: QueueId,
        work: impl FnOnce(&mut crate::shard::LocalQueue, u64, &mut TurnBuffers) -> R,
    ) -> Option<R> {
        let node = Arc::clone(&self.node);
        let mut turn = Turn::new(&node, std::mem::take(&mut self.buffers), node.now_ms());
        let result = turn.queue(id, work);
        self.end_turn(turn);
        result
    }

    /// Sends an answer, unless the client asked for none.
    fn answer<'m, M: MethodFields<'m>>(&self, number: u16, nowait: bool, fields: &M) {
        if !nowait && self.outbox.write(|buf| frame::write_fields(buf, number, fields)) {
            self.outbox.flush();
        }
    }
}

fn name_of<'a>(request: &QueueDeclare<'a>) -> &'a str {
    request.name
}

fn internal(reply: &MetaReply) -> Exception {
    Exception::connection(reply_code::INTERNAL_ERROR, format!("unexpected answer {reply:?}"))
}
