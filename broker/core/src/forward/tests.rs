//! Both ends of a session against each other, over connections that lose what is on its way.

use super::answer::{Answer, Answers, Failure, Sent};
use super::codec::{self, ANSWERS, FarTarget, List, OPS};
use super::leader::Leader;
use super::op::{Credit, FarConsume, FarPublish, FarSettle, Op, Ops};
use super::origin::{Origin, Phase, Window};
use crate::channel::confirm::{Confirm, Confirms, Mark, Pass};
use crate::ids::QueueId;
use crate::message::MessageView;
use crate::queue::Settle;
use crate::queue::consumers::ConsumerRef;
use crate::queue::origins::{Origins, Sight};
use crate::record::PubRef;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

const VIEW: MessageView<'_> =
    MessageView { exchange: "ex", routing_key: "key", properties: &[0, 0], body: b"body" };
const QUEUE: QueueId = QueueId(0x0102_0304_0506_0708);

const TARGETS: [FarTarget; 2] =
    [FarTarget { queue: QUEUE, epoch: 3, number: 0 }, FarTarget { queue: QueueId(9), epoch: 1, number: 8 }];

/// One operation of each kind.
pub(crate) fn all_ops() -> impl Iterator<Item = Op<'static>> {
    let publish = FarPublish {
        persistent: true,
        seen: false,
        expiration_ms: None,
        priority: 4,
        targets: List::Items(&TARGETS),
        view: VIEW,
    };
    let hows = [Settle::Ack, Settle::Requeue, Settle::Release, Settle::Discard];
    let settles = hows.map(|how| {
        Op::Settle(FarSettle { queue: QUEUE, epoch: 3, how, positions: List::Items(&[1, 2, 1 << 40]) })
    });
    let consume = FarConsume {
        request: 1,
        consumer: 2,
        queue: QUEUE,
        epoch: 3,
        tag: "ctag",
        channel: 4,
        connection: "127.0.0.1:1 -> 127.0.0.1:5672",
        user: "guest",
        no_ack: true,
        exclusive: true,
        prefetch: 5,
        priority: -6,
        arguments: &[1, b'x', b't', 1],
        credit: Credit { messages: 7, octets: 8 },
    };
    let others = [
        Op::Hello { life: 12 },
        Op::Publish(publish),
        Op::Publish(FarPublish { persistent: false, expiration_ms: Some(60_000), seen: true, ..publish }),
        Op::Consume(consume),
        Op::Cancel { request: 1, consumer: 2 },
        Op::Withdraw { consumer: 2 },
        Op::Drain { queue: QUEUE },
        Op::Credit { consumer: 2, credit: Credit { messages: 9, octets: 10 } },
        Op::Received { octets: 11 },
        Op::Get { request: 1, queue: QUEUE, epoch: 3, no_ack: false },
        Op::Purge { request: 1, queue: QUEUE, epoch: 3 },
        Op::Count { request: 1, queue: QUEUE, epoch: 3, touch: true },
        Op::Reply { view: VIEW },
        Op::Expects { request: 1, address: "amq.rabbitmq.reply-to.1.1.x" },
        Op::Commit { ops: Ops(&[]) },
    ];
    others.into_iter().chain(settles)
}

/// One answer of each kind.
pub(crate) fn all_answers() -> impl Iterator<Item = Answer<'static>> {
    let sent = Sent { queue: QUEUE, epoch: 3, qseq: 77, redelivered: true, view: VIEW };
    let failures = [Failure::WrongEpoch, Failure::Gone, Failure::InUse, Failure::Locked];
    let others = [
        Answer::Welcome,
        Answer::Ready,
        Answer::Confirmed { upto: 5 },
        Answer::Refused { publish: 4, moved: true },
        Answer::Done { request: 1 },
        Answer::Counted { request: 1, messages: 2, consumers: 3 },
        Answer::Empty { request: 1 },
        Answer::Got { request: 1, remaining: 9, sent },
        Answer::Deliver { consumer: 2, sent },
        Answer::ConsumerGone { consumer: 2 },
        Answer::Alarm { reason: "low on disk" },
    ];
    others.into_iter().chain(failures.map(|failure| Answer::Failed { request: 1, failure }))
}

#[test]
fn what_is_written_is_read() {
    let mut octets = Vec::new();
    codec::begin(&mut octets, OPS, 42);
    all_ops().for_each(|op| op.encode(&mut octets));
    let (kind, generation, items) = codec::head(&octets).unwrap();
    assert_eq!((kind, generation), (OPS, 42));
    let read = Ops(items).map(|op| format!("{:?}", op.unwrap()));
    let name = |text: &str| text.split(['(', ' ']).next().map(str::to_owned);
    let names: Vec<_> = read.map(|text| name(&text)).collect();
    assert_eq!(names, all_ops().map(|op| name(&format!("{op:?}"))).collect::<Vec<_>>());
    let consumed = Ops(items).find_map(|op| match op {
        Ok(Op::Consume(consume)) => Some(consume),
        _ => None,
    });
    let written = all_ops().find_map(|op| match op {
        Op::Consume(consume) => Some(consume),
        _ => None,
    });
    assert_eq!(consumed, written);
    let targets = Ops(items).find_map(|op| match op {
        Ok(Op::Publish(publish)) => Some(publish.targets.iter().collect::<Vec<_>>()),
        _ => None,
    });
    assert_eq!(targets.unwrap(), TARGETS);
    assert_eq!(codec::head(&octets[..8]), Err(codec::Malformed));
}

#[test]
fn publishes_get_their_numbers_when_they_are_sent() {
    let publish = FarPublish {
        persistent: true,
        seen: false,
        expiration_ms: Some(7),
        priority: 4,
        targets: List::Items(&TARGETS),
        view: VIEW,
    };
    let mut octets = Vec::new();
    Op::Publish(publish).encode(&mut octets);
    FarPublish::number(&mut octets, |queue| queue.0 + 1).unwrap();
    let Some(Ok(Op::Publish(read))) = Ops(&octets).next() else { panic!("a publish was written") };
    let targets: Vec<FarTarget> = read.targets.iter().collect();
    assert_eq!(targets, [FarTarget { number: QUEUE.0 + 1, ..TARGETS[0] }, TARGETS[1]], "one had a number");
    assert_eq!((read.expiration_ms, read.priority, read.view.body), (Some(7), 4, VIEW.body));
    assert_eq!(FarPublish::number(&mut [1, 9], |_| 1), Err(codec::Malformed));
    assert_eq!(FarPublish::number(&mut [0, 9, 9, 9, 9], |_| 1), Err(codec::Malformed));
}

/// A queue far away, as simple as can be: ready positions, and what is held.
#[derive(Default)]
struct FarQueue {
    next: u64,
    ready: BTreeMap<u64, (u64, bool)>,
    held: BTreeMap<u64, u64>,
    /// Message numbers that were acknowledged.
    acked: BTreeSet<u64>,
    accepted: BTreeSet<u64>,
    origins: Origins,
    consumers: Vec<u64>,
}

/// Origin, leader, and the two connections between them.
struct World {
    origin: Origin<u64>,
    window: Window,
    /// What the origin's client holds: position, message number.
    unacked: VecDeque<(u64, u64)>,
    consumer: u64,
    attached: bool,
    leader: Leader,
    generation: u64,
    confirms: Confirms,
    queue: FarQueue,
    to_leader: VecDeque<Vec<u8>>,
    to_origin: VecDeque<Vec<u8>>,
    outcomes: BTreeMap<u64, bool>,
    seen: BTreeMap<u64, bool>,
    received: u64,
    published: u64,
    /// Publishes whose outcome the session that ended did not tell.
    in_doubt: VecDeque<u64>,
    random: u64,
}

impl World {
    fn new(seed: u64) -> World {
        World {
            origin: Origin::new(0),
            window: Window::default(),
            unacked: VecDeque::new(),
            consumer: 0,
            attached: false,
            leader: Leader::default(),
            generation: 0,
            confirms: Confirms::default(),
            queue: FarQueue::default(),
            to_leader: VecDeque::new(),
            to_origin: VecDeque::new(),
            outcomes: BTreeMap::new(),
            seen: BTreeMap::new(),
            received: 0,
            published: 0,
            in_doubt: VecDeque::new(),
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
        }
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % limit
    }

    fn op(&mut self, op: Op<'_>) {
        let mut frame = Vec::new();
        codec::begin(&mut frame, OPS, self.origin.generation());
        op.encode(&mut frame);
        self.to_leader.push_back(frame);
    }

    fn answer(&mut self, answer: Answer<'_>) {
        let mut frame = Vec::new();
        codec::begin(&mut frame, ANSWERS, self.generation);
        answer.encode(&mut frame);
        self.to_origin.push_back(frame);
    }

    fn begin(&mut self) {
        let lost = self.origin.begin();
        self.in_doubt.extend(lost.into_iter().map(|(_, number)| number));
        self.unacked.clear();
        self.attached = false;
        self.received = 0;
        self.op(Op::Hello { life: 1 });
    }

    fn publish(&mut self) {
        if self.origin.phase() != Phase::Open {
            return;
        }
        self.published += 1;
        self.send(self.published);
    }

    fn send_again(&mut self) {
        if self.origin.phase() == Phase::Open
            && let Some(number) = self.in_doubt.pop_front()
        {
            self.send(number);
        }
    }

    fn send(&mut self, number: u64) {
        let body = number.to_le_bytes();
        let publish = FarPublish {
            persistent: true,
            seen: false,
            expiration_ms: None,
            priority: 0,
            targets: List::Items(&[FarTarget { queue: QUEUE, epoch: 1, number }]),
            view: MessageView { body: &body, ..VIEW },
        };
        self.op(Op::Publish(publish));
        self.origin.publish(8, number);
    }

    fn consume(&mut self) {
        if self.origin.phase() != Phase::Open || self.attached {
            return;
        }
        self.consumer += 1;
        self.attached = true;
        let credit = self.window.begin(Some(3));
        let consume = FarConsume {
            request: 0,
            consumer: self.consumer,
            queue: QUEUE,
            epoch: 1,
            tag: "t",
            channel: 1,
            connection: "",
            user: "",
            no_ack: false,
            exclusive: false,
            prefetch: 0,
            priority: 0,
            arguments: &[],
            credit,
        };
        self.op(Op::Consume(consume));
    }

    fn settle(&mut self, how: Settle) {
        let Some((position, number)) = self.unacked.pop_front() else { return };
        self.op(Op::Settle(FarSettle { queue: QUEUE, epoch: 1, how, positions: List::Items(&[position]) }));
        if how == Settle::Ack {
            self.seen.insert(number, true);
        }
        if let Some(credit) = self.window.renew(Some(3 - self.unacked.len() as u32), 0) {
            let consumer = self.consumer;
            self.op(Op::Credit { consumer, credit });
        }
    }

    /// The leader's end of what the session held.
    fn release(&mut self) {
        self.queue.consumers.clear();
        for (_, positions) in self.leader.end() {
            for position in positions {
                let number = self.queue.held.remove(&position).expect("what a session holds is held");
                self.queue.ready.insert(position, (number, true));
            }
        }
        assert!(self.queue.held.is_empty(), "one session only");
    }

    fn drain(&mut self) {
        for consumer in self.queue.consumers.clone() {
            while let Some((position, (number, redelivered))) = self.queue.ready.pop_first() {
                if !self.leader.may_send(consumer, (QUEUE, ConsumerRef::far(consumer))) {
                    self.queue.ready.insert(position, (number, redelivered));
                    break;
                }
                self.leader.sent(consumer, 8);
                self.leader.hold(QUEUE, position);
                self.queue.held.insert(position, number);
                let body = number.to_le_bytes();
                let view = MessageView { body: &body, ..VIEW };
                let sent = Sent { queue: QUEUE, epoch: 1, qseq: position, redelivered, view };
                self.answer(Answer::Deliver { consumer, sent });
            }
        }
    }

    fn leader_turn(&mut self) {
        let Some(frame) = self.to_leader.pop_front() else { return };
        let (_, generation, items) = codec::head(&frame).unwrap();
        for op in Ops(items).map(Result::unwrap) {
            if matches!(op, Op::Hello { .. }) {
                self.release();
                self.generation = generation;
                self.confirms = Confirms::default();
                self.answer(Answer::Welcome);
            } else if generation != self.generation {
                continue;
            }
            match op {
                Op::Publish(publish) => {
                    let number = u64::from_le_bytes(publish.view.body.try_into().unwrap());
                    self.confirms.number();
                    let reference = PubRef { origin: 1, seq: publish.targets.iter().next().unwrap().number };
                    if number.is_multiple_of(7) {
                        self.confirms.reject();
                    } else if self.queue.origins.look(reference) == Sight::New {
                        self.queue.next += 1;
                        self.queue.origins.note(reference);
                        assert!(self.queue.accepted.insert(number), "{number} came twice");
                        self.queue.ready.insert(self.queue.next, (number, false));
                    }
                    let mut found = Vec::new();
                    let none = |_: Mark| Pass::Passed;
                    self.confirms.end_batch(0, &[], 0, none, |confirm| found.push(confirm));
                    for confirm in found {
                        match confirm {
                            Confirm::Ack { tag, .. } => self.answer(Answer::Confirmed { upto: tag }),
                            Confirm::Nack { tag } => {
                                self.answer(Answer::Refused { publish: tag, moved: false });
                                self.answer(Answer::Confirmed { upto: tag });
                            }
                        }
                    }
                }
                Op::Consume(consume) => {
                    self.leader.add(consume.consumer, consume.credit);
                    self.queue.consumers.push(consume.consumer);
                }
                Op::Credit { consumer, credit } => {
                    self.leader.credit(consumer, credit);
                }
                Op::Received { octets } => {
                    self.leader.received(octets);
                }
                Op::Settle(settle) => {
                    let mut positions: Vec<u64> = settle.positions.iter().collect();
                    self.leader.settle(settle.queue, &mut positions);
                    for position in positions {
                        let number = self.queue.held.remove(&position).unwrap();
                        match settle.how {
                            Settle::Ack => assert!(self.queue.acked.insert(number)),
                            _ => assert_eq!(self.queue.ready.insert(position, (number, true)), None),
                        }
                    }
                }
                _ => {}
            }
        }
        self.drain();
    }

    fn origin_turn(&mut self) {
        let Some(frame) = self.to_origin.pop_front() else { return };
        let (_, generation, items) = codec::head(&frame).unwrap();
        for answer in Answers(items).map(Result::unwrap) {
            match answer {
                Answer::Ready => self.begin(),
                Answer::Welcome => {
                    self.origin.welcome(generation);
                }
                _ if !self.origin.is_current(generation) => {}
                Answer::Confirmed { upto } => {
                    for number in self.origin.confirm(upto) {
                        assert_eq!(self.outcomes.insert(number, true), None);
                    }
                }
                Answer::Refused { publish, .. } => {
                    let number = self.origin.refuse(publish).expect("refused once");
                    assert_eq!(self.outcomes.insert(number, false), None);
                }
                Answer::Deliver { sent, .. } => {
                    let number = u64::from_le_bytes(sent.view.body.try_into().unwrap());
                    self.window.receive();
                    self.window.passed_on(8);
                    self.received += 8;
                    assert!(self.unacked.len() < 3, "more than the channel's limit");
                    let before = self.seen.entry(number).or_default();
                    assert!(!*before || !self.queue.acked.contains(&number), "{number} was acknowledged");
                    self.unacked.push_back((sent.qseq, number));
                    let octets = self.received;
                    self.op(Op::Received { octets });
                }
                _ => {}
            }
        }
    }

    /// A connection breaks: what is on its way is lost, and both ends notice.
    fn cut(&mut self) {
        if self.below(2) == 0 {
            // Origin to leader: the leader gives everything back, the origin greets anew.
            self.to_leader.clear();
            self.release();
            self.generation = u64::MAX;
            self.begin();
        } else {
            // Leader to origin: the leader says so once it is back.
            self.to_origin.clear();
            self.answer(Answer::Ready);
        }
    }

    fn step(&mut self) {
        match self.below(100) {
            0..17 => self.publish(),
            17..20 => self.send_again(),
            20..25 => self.consume(),
            25..40 => self.settle(Settle::Ack),
            40..45 => self.settle(Settle::Requeue),
            45..70 => self.leader_turn(),
            70..98 => self.origin_turn(),
            _ => self.cut(),
        }
    }
}

#[test]
fn nothing_is_lost_or_doubled_whatever_the_connections_lose() {
    for seed in 1..300 {
        let mut world = World::new(seed);
        world.begin();
        (0..2000).for_each(|_| world.step());
        // The network is whole again.
        while !world.to_leader.is_empty()
            || !world.to_origin.is_empty()
            || !world.in_doubt.is_empty()
            || world.origin.phase() != Phase::Open
        {
            world.send_again();
            world.leader_turn();
            world.origin_turn();
            if world.to_leader.is_empty() && world.to_origin.is_empty() && world.origin.phase() != Phase::Open
            {
                world.begin();
            }
        }
        assert_eq!(
            world.outcomes.len() as u64,
            world.published,
            "each publish has one outcome (seed {seed})"
        );
        for (number, confirmed) in &world.outcomes {
            assert_eq!(*confirmed, world.queue.accepted.contains(number), "{number} of seed {seed}");
        }
        world.consume();
        while world.queue.acked.len() < world.queue.accepted.len() {
            let before = (world.to_leader.len(), world.to_origin.len(), world.unacked.len());
            world.leader_turn();
            world.origin_turn();
            world.settle(Settle::Ack);
            let idle = before == (0, 0, 0) && world.to_leader.is_empty();
            assert!(!idle, "stuck with {} ready (seed {seed})", world.queue.ready.len());
        }
        assert!(world.published > 100, "seed {seed} did something");
    }
}
