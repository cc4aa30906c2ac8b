//! Requests to the leader of a queue, for which a connection waits.

use super::Home;
use super::consumer::FarConsumer;
use super::peer::{Getter, Told, What};
use crate::node::Node;
use amqp::reply_code;
use broker_core::exception::Exception;
use broker_core::forward::answer::Failure;
use broker_core::forward::op::Op;
use broker_core::ids::{NodeId, QueueId};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// How long a request waits for a leader that is about to change, or whose connection is about to come. That a node has
/// failed is found out, and another one leads, in half of that.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the leader may take to answer.
const ANSWER: Duration = Duration::from_secs(30);
/// How often it is looked again.
const AGAIN: Duration = Duration::from_millis(20);

/// What is asked of a queue's leader.
#[derive(Clone, Debug)]
pub(crate) enum Ask {
    /// To fetch a message.
    Get(Getter),
    /// To drop what is ready.
    Purge,
    /// How many messages and consumers there are.
    Count {
        /// It counts as a use of the queue.
        touch: bool,
    },
    /// To deliver to a consumer, which gets this number.
    Consume(u64, FarConsumer),
}

/// What came of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Asked {
    /// The queue is led here: ask it.
    Here,
    /// The leader carried it out.
    Done,
    /// Its numbers.
    Counted {
        /// Messages.
        messages: u64,
        /// Consumers.
        consumers: u64,
    },
    /// The queue does not exist any more.
    Gone,
    /// A consumer has it for itself.
    InUse,
    /// It can not be fetched from.
    Locked,
}

impl Node {
    /// Whether a queue is led by another node, or by none.
    pub(crate) fn is_far(&self, queue: QueueId) -> bool {
        match self.forward.home(queue) {
            Some(Home::At { .. } | Home::Nowhere { .. }) => true,
            // It was led here a moment ago, or will be.
            Some(Home::Here { .. }) => self.with_queue(queue, |_| ()).is_none(),
            None => false,
        }
    }

    /// Asks the leader of a queue, wherever that is.
    ///
    /// # Errors
    /// RabbitMQ's 404 when no node leads it.
    pub(crate) async fn ask(&self, queue: QueueId, ask: &Ask) -> Result<Asked, Exception> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let down = match self.forward.home(queue) {
                Some(Home::Here { .. }) if self.is_far(queue) => self.forward.me(),
                None | Some(Home::Here { .. }) => return Ok(Asked::Here),
                // This node leads it again as soon as the others know that it has started.
                Some(Home::Nowhere { last }) if self.forward.is_me(last) => last,
                Some(Home::Nowhere { last }) => return Err(self.is_down(queue, last)),
                Some(Home::At { node, epoch }) => match self.ask_once(node, epoch, queue, ask).await {
                    Some(Told::Done) => return Ok(Asked::Done),
                    Some(Told::Counted { messages, consumers }) => {
                        return Ok(Asked::Counted { messages, consumers });
                    }
                    Some(Told::Failed(Failure::Gone)) => return Ok(Asked::Gone),
                    Some(Told::Failed(Failure::InUse)) => return Ok(Asked::InUse),
                    Some(Told::Failed(Failure::Locked)) => return Ok(Asked::Locked),
                    Some(Told::Failed(Failure::WrongEpoch)) | None => node,
                },
            };
            if Instant::now() >= deadline {
                return Err(self.is_down(queue, down));
            }
            sleep(AGAIN).await;
        }
    }

    async fn ask_once(&self, node: NodeId, epoch: u32, queue: QueueId, ask: &Ask) -> Option<Told> {
        let forward = &self.forward;
        let told = match ask {
            Ask::Get(getter) => {
                let no_ack = getter.no_ack;
                forward.request(node, What::Get(getter.clone()), |request, send| {
                    send(&Op::Get { request, queue, epoch, no_ack });
                })?
            }
            Ask::Purge => forward.request(node, What::Plain, |request, send| {
                send(&Op::Purge { request, queue, epoch });
            })?,
            Ask::Count { touch } => forward.request(node, What::Plain, |request, send| {
                send(&Op::Count { request, queue, epoch, touch: *touch });
            })?,
            Ask::Consume(number, consumer) => {
                let (tell, told) = tokio::sync::oneshot::channel();
                self.send_consume(node, epoch, *number, consumer.clone(), Some(tell)).ok()?;
                told
            }
        };
        let told = timeout(ANSWER, told).await.ok().and_then(Result::ok);
        if told.is_none()
            && let Ask::Consume(number, _) = ask
        {
            // The session ended meanwhile: it is not to be attached twice.
            forward.drop_consumer(*number);
        }
        told
    }

    /// Ends a consumer of a queue elsewhere; comes back when everything sent to it is with its client.
    pub(crate) async fn cancel_far(&self, number: u64) {
        self.forward.forget_detached(number);
        let Some(node) = self.forward.leader_of_consumer(number) else { return };
        self.note_leaving(node, number);
        let told = self.forward.request(node, What::Cancel(number), |request, send| {
            send(&Op::Cancel { request, consumer: number });
        });
        if let Some(told) = told {
            // An answer that does not come means that the session has ended, and the consumer with it.
            let _ = timeout(ANSWER, told).await;
        }
        self.forward.drop_consumer(number);
    }

    /// Whether a requester of direct replies waits on another node.
    pub(crate) async fn expects_reply_elsewhere(&self, slot: u16, address: &str) -> bool {
        let Some(around) = self.forward.around.get().filter(|around| !around.is_alone()) else {
            return false;
        };
        let Some(node) = around.with_slot(slot) else { return false };
        let asked = self.forward.request(node, What::Plain, |request, send| {
            send(&Op::Expects { request, address });
        });
        let Some(told) = asked else { return false };
        matches!(timeout(PATIENCE, told).await, Ok(Ok(Told::Done)))
    }

    /// RabbitMQ's answer when no node leads a queue.
    pub(crate) fn is_down(&self, queue: QueueId, last: NodeId) -> Exception {
        let node = self.forward.name(last);
        let sm = self.metadata.read();
        let (name, vhost, durable) = match sm.queue(queue) {
            Some(queue) => (&*queue.name, sm.vhost_name(queue.vhost), queue.durable),
            None => ("", "", true),
        };
        let kind = if durable { "durable queue" } else { "queue" };
        let text =
            format!("home node '{node}' of {kind} '{name}' in vhost '{vhost}' is down or inaccessible");
        Exception::channel(reply_code::NOT_FOUND, text)
    }
}
