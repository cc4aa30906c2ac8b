//! Long random histories of a queue against a naive model: messages in a map, and nothing else.
//!
//! The model follows what the queue does and checks that it may: only the first message is delivered, expires or is
//! pushed out, marks and octets are right, a segment file goes when nothing of it is left. Segments are written and
//! read late, in any order, or not at all. Restarts fold the records of the log, old ones of which are released.
//! Bodies are large and shared, so that few messages are more than a queue keeps in memory.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use broker_core::ids::QueueId;
use broker_core::message::{Message, MessageView, Publish};
use broker_core::queue::consumers::{ConsumerRef, NewConsumer};
use broker_core::queue::dead_letter::{DeadLetter, DeadLetterTarget, Reason};
use broker_core::queue::delayed::Due;
use broker_core::queue::paged::{PageOut, Stored, Window, WindowRead};
use broker_core::queue::{
    Crowd, Delivered, Delivery, Effects, Overflow, Published, Queue, QueueConfig, Settle,
};
use broker_core::record::{self, At, DropReason, Enq, QseqRange, Record};
use broker_store::recovery::LiveSet;
use broker_store::segment::SegmentMeta;

use crate::random::Random;

/// Octets of the bodies there are.
const SIZES: [usize; 5] = [0, 100, 300 << 10, 700 << 10, 1400 << 10];
const QUEUE: QueueId = QueueId(7);

#[derive(Debug)]
enum Event {
    Delivered { handle: u32, qseq: u64, redelivered: bool, octets: usize },
    Left { reason: Reason, logged: Option<u64>, stored: Option<u64>, octets: usize },
    SegmentRemoved(Vec<u64>),
}

/// What a segment file holds.
type File = Vec<(u64, Arc<Message>, u64)>;

/// The surroundings of the queue.
struct World {
    bodies: [Arc<Message>; SIZES.len()],
    events: Vec<Event>,
    /// The log; of a message it keeps the size only.
    log: VecDeque<Vec<u8>>,
    released: u64,
    /// Consumers that take nothing now.
    full: BTreeSet<u32>,
    page_outs: Vec<PageOut>,
    unwanted: bool,
    windows: Vec<Window>,
    files: BTreeMap<u64, File>,
    read_now_fails: bool,
    wakes: Vec<u64>,
    /// Stored messages whose letters are on their way.
    letters: Vec<u64>,
}

impl World {
    fn new() -> Self {
        let body = |size| {
            let body = vec![7; size];
            let view = MessageView { exchange: "e", routing_key: "k", properties: &[0, 0], body: &body };
            Arc::new(Message::copy_from(&view, true))
        };
        Self {
            bodies: SIZES.map(body),
            events: Vec::new(),
            log: VecDeque::new(),
            released: 0,
            full: BTreeSet::new(),
            page_outs: Vec::new(),
            unwanted: false,
            windows: Vec::new(),
            files: BTreeMap::new(),
            read_now_fails: false,
            wakes: Vec::new(),
            letters: Vec::new(),
        }
    }

    fn size_of(&self, octets: usize) -> usize {
        SIZES.iter().position(|&size| size == octets).expect("a body of these")
    }

    fn append(&mut self, record: &Record<'_>) {
        let mut octets = Vec::new();
        record.encode(&mut octets);
        self.log.push_back(octets);
    }

    fn read(&self, window: &Window) -> WindowRead {
        let file = &self.files[&window.segment];
        let from = file.partition_point(|(qseq, ..)| *qseq < window.from);
        let mut sum = 0;
        let fits = file[from..].iter().take(window.messages).take_while(|(_, message, _)| {
            sum += message.body_len();
            sum <= window.bytes
        });
        let upto = from + fits.count().max(1).min(file.len() - from);
        let stored = |(qseq, message, expires_ms): &(u64, Arc<Message>, u64)| Stored {
            qseq: *qseq,
            message: Arc::clone(message),
            expires_ms: *expires_ms,
            returns: 0,
        };
        WindowRead { messages: file[from..upto].iter().map(stored).collect(), at_end: upto == file.len() }
    }
}

impl Effects for World {
    type Handle = u32;

    fn log(&mut self, record: &Record<'_>) {
        match record {
            Record::Enq(enq) => {
                let size = [self.size_of(enq.message.body.len()) as u8];
                let message = record::Message { body: &size, ..enq.message };
                self.append(&Record::Enq(Enq { message, ..*enq }));
            }
            Record::Drop { reason, ranges, .. } => {
                let reason = match reason {
                    DropReason::Expired => Some(Reason::Expired),
                    DropReason::MaxLen => Some(Reason::MaxLength),
                    _ => None,
                };
                if let (Some(reason), Some(range)) = (reason, ranges.iter().next()) {
                    let logged = Some(range.first);
                    self.events.push(Event::Left { reason, logged, stored: None, octets: usize::MAX });
                }
                self.append(record);
            }
            _ => self.append(record),
        }
    }

    fn deliver(&mut self, to: &u32, delivery: &Delivery<'_>) -> Delivered {
        if self.full.contains(to) {
            return Delivered::Full;
        }
        let (qseq, redelivered, octets) = (delivery.qseq, delivery.redelivered, delivery.view.body.len());
        self.events.push(Event::Delivered { handle: *to, qseq, redelivered, octets });
        Delivered::Sent
    }

    fn dead_letter(&mut self, letter: DeadLetter) {
        let (logged, stored, octets) = (letter.logged_qseq, letter.stored_qseq, letter.message.body_len());
        self.events.push(Event::Left { reason: letter.reason, logged, stored, octets });
        if let Some(qseq) = logged {
            // It arrived in another queue, in the same append.
            let at = At { queue_id: QUEUE.0, epoch: letter.epoch, off: 0 };
            let ranges = QseqRange::one(qseq).into();
            self.append(&Record::Drop { at, reason: DropReason::DeadLettered, ranges });
        }
        self.letters.extend(stored);
    }

    fn due(&mut self, _: Due) {}

    fn wake_at(&mut self, _: QueueId, at_ms: u64) {
        self.wakes.push(at_ms);
    }

    fn unused(&mut self, _: QueueId) {}

    fn backlog(&mut self, _: &u32, _: usize) {}

    fn page_out(&mut self, page_out: PageOut) {
        assert!(self.page_outs.is_empty() && !self.unwanted, "one at a time");
        self.page_outs.push(page_out);
    }

    fn crowded(&mut self, _: QueueId, _: Crowd) {}

    fn read_ahead(&mut self, window: Window) {
        self.windows.push(window);
    }

    fn read_now(&mut self, window: &Window) -> Option<WindowRead> {
        (!self.read_now_fails).then(|| self.read(window))
    }

    fn remove_segment(&mut self, _: QueueId, first_qseq: u64, _: bool) {
        let file = self.files.remove(&first_qseq).expect("a segment is removed once");
        self.events.push(Event::SegmentRemoved(file.iter().map(|(qseq, ..)| *qseq).collect()));
    }

    fn log_floor(&self) -> u64 {
        self.released + self.log.len() as u64
    }
}

/// A message as the model has it.
#[derive(Debug, Clone)]
struct Known {
    qseq: u64,
    octets: usize,
    persistent: bool,
    expires_ms: u64,
    priority: u8,
    redelivered: bool,
    /// A restart may have marked it without need.
    unsure: bool,
}

#[derive(Debug)]
struct Consumer {
    handle: u32,
    reference: ConsumerRef,
    no_ack: bool,
    prefetch: usize,
}

struct Run {
    random: Random,
    config: QueueConfig,
    durable: bool,
    queue: Queue<u32>,
    world: World,
    now: u64,
    next: u64,
    ready: BTreeMap<(Reverse<u8>, u64), Known>,
    /// What is handed out, and to whom; `None` for a get.
    held: BTreeMap<u64, (Known, Option<u32>)>,
    consumers: Vec<Consumer>,
    next_handle: u32,
    /// After a restart octets are known only about until all was read.
    octets_unsure: bool,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let target = DeadLetterTarget { exchange: "dlx".into(), routing_key: None };
        let config = QueueConfig {
            message_ttl_ms: random.one_in(4).then_some(40_000),
            max_length: random.one_in(3).then(|| 20 + random.below(200)),
            max_length_bytes: random.one_in(4).then_some(60 << 20),
            overflow: [
                Overflow::DropHead,
                Overflow::DropHead,
                Overflow::RejectPublish,
                Overflow::RejectPublishDlx,
            ][random.below(4) as usize],
            dead_letter: (!random.one_in(4)).then_some(target),
            max_priority: random.one_in(6).then_some(5),
            ..QueueConfig::default()
        };
        let durable = !random.one_in(4) || config.dead_letter.is_none();
        let queue = Queue::new(QUEUE, "/".into(), "q".into(), durable, config.clone(), 0);
        Self {
            random,
            config,
            durable,
            queue,
            world: World::new(),
            now: 1,
            next: 1,
            ready: BTreeMap::new(),
            held: BTreeMap::new(),
            consumers: Vec::new(),
            next_handle: 1,
            octets_unsure: false,
        }
    }

    fn step(&mut self) {
        match self.random.below(100) {
            0..40 => self.publish(),
            40..48 => self.get(),
            48..62 => self.settle(),
            62..66 => self.consume(),
            66..70 => self.leave(),
            70..74 => self.stall_or_resume(),
            74..80 => self.pass_time(),
            80..86 => self.serve_page_out(),
            86..94 => self.serve_window(),
            94..96 => self.queue.page_out(self.now, &mut self.world),
            96 => self.letters_arrive(),
            97 if self.random.one_in(6) => self.purge(),
            98 if self.random.one_in(5) => self.release_log(),
            99 if self.random.one_in(8) => self.restart(),
            _ => {}
        }
        self.follow(&mut VecDeque::new(), None);
        self.check_counts();
    }

    fn over_limit(&self, extra: usize, octets: usize) -> bool {
        let bytes: usize = self.ready.values().map(|known| known.octets).sum();
        self.config.max_length.is_some_and(|max| (self.ready.len() + extra) as u64 > max)
            || self.config.max_length_bytes.is_some_and(|max| (bytes + octets) as u64 > max)
    }

    fn publish(&mut self) {
        for _ in 0..=self.random.below(6) {
            let size = self.random.below(SIZES.len() as u64) as usize;
            let persistent = self.config.dead_letter.is_none() || !self.random.one_in(3);
            let expiration = self.random.one_in(8).then(|| self.random.below(30_000));
            let priority = self.random.below(8) as u8;
            let body = Arc::clone(&self.world.bodies[size]);
            let refused = self.config.overflow != Overflow::DropHead && self.over_limit(1, SIZES[size]);
            let mut publish = Publish::of(&body, expiration, priority);
            publish.persistent = persistent;
            let published = self.queue.publish(self.now, &mut publish, &mut self.world);
            if self.octets_unsure && self.config.max_length_bytes.is_some() {
                // Either may be: the queue knows its octets only about.
            } else {
                assert_eq!(published == Published::Rejected, refused);
            }
            if published == Published::Rejected {
                let letter = self.world.events.pop();
                let expected =
                    self.config.overflow == Overflow::RejectPublishDlx && self.config.dead_letter.is_some();
                assert_eq!(letter.is_some(), expected, "{letter:?}");
                continue;
            }
            let ttl = [self.config.message_ttl_ms, expiration].into_iter().flatten().min();
            let known = Known {
                qseq: self.next,
                octets: SIZES[size],
                persistent,
                expires_ms: ttl.map_or(0, |ttl| self.now + ttl),
                priority: self.config.max_priority.map_or(0, |max| priority.min(max)),
                redelivered: false,
                unsure: false,
            };
            self.next += 1;
            let direct = self.ready.is_empty().then_some(known.qseq);
            self.put_ready(known);
            self.follow(&mut VecDeque::new(), direct);
        }
    }

    fn get(&mut self) {
        let no_ack = self.random.one_in(2);
        self.world.read_now_fails = self.random.one_in(5);
        let got = self.queue.get(self.now, no_ack, &mut self.world);
        // What expired went before it, what expired behind it after it.
        let Some(got) = got else {
            self.follow(&mut VecDeque::new(), None);
            assert!(self.ready.is_empty() || self.world.read_now_fails);
            return;
        };
        let mut expired = std::mem::take(&mut self.world.events);
        while self.first().is_some_and(|first| first != got.qseq) {
            assert!(!expired.is_empty(), "got {} where {:?} is first", got.qseq, self.first());
            self.world.events = vec![expired.remove(0)];
            self.follow(&mut VecDeque::new(), None);
        }
        let known = self.take_first();
        check_mark(&known, got.redelivered);
        assert_eq!((got.qseq, got.message.body_len()), (known.qseq, known.octets));
        if !no_ack {
            self.held.insert(known.qseq, (Known { redelivered: true, ..known }, None));
        }
        self.world.events = expired;
        self.follow(&mut VecDeque::new(), None);
    }

    fn settle(&mut self) {
        let how = [Settle::Ack, Settle::Ack, Settle::Requeue, Settle::Release, Settle::Discard]
            [self.random.below(5) as usize];
        let mut chosen: Vec<u64> = self.held.keys().copied().filter(|_| self.random.one_in(3)).collect();
        if self.random.one_in(2) {
            chosen.reverse();
        }
        let mut letters = VecDeque::new();
        for qseq in &chosen {
            let (known, _) = self.held.remove(qseq).expect("it is held");
            match how {
                Settle::Requeue | Settle::Release => self.put_ready(known),
                Settle::Discard if self.config.dead_letter.is_some() => letters.push_back(known),
                _ => {}
            }
        }
        self.queue.settle(self.now, how, &chosen, &mut self.world);
        self.follow(&mut letters, None);
        assert!(letters.is_empty(), "dead letters are missing");
    }

    fn consume(&mut self) {
        if self.consumers.len() >= 4 {
            return;
        }
        let (handle, no_ack, prefetch) =
            (self.next_handle, self.random.one_in(3), self.random.below(30) as u32);
        self.next_handle += 1;
        let new = NewConsumer { handle, tag: "c".into(), no_ack, prefetch, priority: 0, exclusive: false };
        let reference = self.queue.consume(self.now, new, &mut self.world);
        self.consumers.push(Consumer { handle, reference, no_ack, prefetch: prefetch as usize });
    }

    /// A consumer is cancelled, or its channel closes and what it holds comes back.
    fn leave(&mut self) {
        if self.consumers.is_empty() {
            return;
        }
        let at = self.random.below(self.consumers.len() as u64) as usize;
        let consumer = self.consumers.swap_remove(at);
        if self.random.one_in(2) {
            assert_eq!(
                self.queue.cancel(self.now, consumer.reference, &mut self.world),
                Some(consumer.handle)
            );
            return;
        }
        self.queue.withdraw(self.now, consumer.reference, &mut self.world);
        let of_it = |(_, (_, holder)): &(&u64, &(Known, Option<u32>))| *holder == Some(consumer.handle);
        let back: Vec<u64> = self.held.iter().filter(of_it).map(|(qseq, _)| *qseq).collect();
        for qseq in &back {
            let (known, _) = self.held.remove(qseq).expect("it is held");
            self.put_ready(known);
        }
        self.queue.settle(self.now, Settle::Release, &back, &mut self.world);
    }

    fn stall_or_resume(&mut self) {
        if self.consumers.is_empty() {
            return;
        }
        let at = self.random.below(self.consumers.len() as u64) as usize;
        let (handle, reference) = (self.consumers[at].handle, self.consumers[at].reference);
        if !self.world.full.remove(&handle) {
            self.world.full.insert(handle);
        } else {
            self.queue.resume(self.now, reference, &mut self.world);
        }
    }

    fn pass_time(&mut self) {
        self.now += self.random.below(4000);
        self.tick_when_due();
    }

    fn tick_when_due(&mut self) {
        let before = self.world.wakes.len();
        self.world.wakes.retain(|at| *at > self.now);
        if self.world.wakes.len() < before {
            self.queue.tick(self.now, &mut self.world);
        }
    }

    fn serve_page_out(&mut self) {
        if self.world.unwanted {
            self.world.unwanted = false;
            return self.queue.page_out_removed(self.now, &mut self.world);
        }
        let Some(page_out) = self.world.page_outs.pop() else { return };
        if self.random.one_in(6) {
            return self.queue.page_out_failed(self.now, &mut self.world);
        }
        self.write(&page_out);
    }

    fn write(&mut self, page_out: &PageOut) {
        let message = |it: &Stored| (it.qseq, Arc::clone(&it.message), it.expires_ms);
        let file: File = page_out.messages.iter().map(message).collect();
        let first_qseq = page_out.first_qseq();
        let body_bytes = file.iter().map(|(_, message, _)| message.body_len() as u64).sum();
        let meta = SegmentMeta {
            queue_id: QUEUE.0,
            first_qseq,
            last_qseq: file.last().expect("a segment has messages").0,
            messages: file.len() as u32,
            bytes: body_bytes,
            body_bytes,
            earliest_expiry_ms: None,
        };
        assert!(self.world.files.insert(first_qseq, file).is_none(), "segments do not overlap");
        let freed = self.queue.paged_out(self.now, page_out, &meta.encode(), &mut self.world);
        if freed.is_none() {
            self.world.files.remove(&first_qseq);
            self.world.unwanted = true;
        }
    }

    fn serve_window(&mut self) {
        if self.world.windows.is_empty() {
            return;
        }
        let at = self.random.below(self.world.windows.len() as u64) as usize;
        let window = self.world.windows.swap_remove(at);
        if self.random.one_in(6) || !self.world.files.contains_key(&window.segment) {
            return self.queue.read_failed(self.now, &window, &mut self.world);
        }
        let read = self.world.read(&window);
        self.queue.arrived(self.now, &window, read, &mut self.world);
    }

    fn letters_arrive(&mut self) {
        for qseq in std::mem::take(&mut self.world.letters) {
            self.queue.letter_gone(qseq, &mut self.world);
        }
    }

    fn purge(&mut self) {
        assert_eq!(self.queue.purge(&mut self.world), self.ready.len() as u64);
        self.ready.clear();
    }

    /// Says again what old records say, and forgets those.
    fn release_log(&mut self) {
        // As the node does: nothing is released while a dead letter is on its way.
        self.letters_arrive();
        let floor = self.world.log_floor();
        while self.queue.relocate(self.now, floor, &mut self.world) > 0 {}
        self.queue.log_open(&mut self.world);
        let count = (floor - self.world.released) as usize;
        self.world.log.drain(..count);
        self.world.released = floor;
    }

    /// The process ends, and another one begins with the log and the segment files.
    fn restart(&mut self) {
        if !self.durable {
            return;
        }
        self.follow(&mut VecDeque::new(), None);
        let mut live = LiveSet::new();
        live.apply(0, Record::QOpen { at: At { queue_id: QUEUE.0, epoch: 1, off: 0 }, next_qseq: 1, hwm: 0 });
        for (octets, lsn) in self.world.log.iter().zip(self.world.released + 1..) {
            live.apply(lsn, Record::decode(octets).expect("a record that was written").0);
        }
        let image = live.finish().pop().expect("the queue");
        self.world.files.retain(|first, _| image.segments.contains_key(first));
        let known = std::mem::take(&mut self.ready).into_values();
        let known: Vec<Known> =
            known.chain(std::mem::take(&mut self.held).into_values().map(|(known, _)| known)).collect();
        for known in known.into_iter().filter(|known| known.persistent) {
            self.put_ready(Known { unsure: true, ..known });
        }
        self.consumers.clear();
        let world = &mut self.world;
        (world.page_outs, world.windows, world.letters, world.wakes) = Default::default();
        world.unwanted = false;
        world.full.clear();
        let mut queue = Queue::new(QUEUE, "/".into(), "q".into(), true, self.config.clone(), self.now);
        queue.restore_positions(image.epoch.max(1), image.next_off, image.next_qseq, image.hwm);
        queue.restore_epochs(image.epochs());
        for (first_qseq, note) in image.segments {
            let meta =
                SegmentMeta::decode(QUEUE.0, first_qseq, note.last_qseq, &note.meta).expect("it was written");
            let gone = |(qseq, ..): &&(u64, Arc<Message>, u64)| !note.dropped.contains(*qseq);
            let live = world.files[&first_qseq].iter().filter(gone).count() as u64;
            self.octets_unsure |= live < u64::from(meta.messages);
            queue.restore_segment(note.restored(&meta), live);
        }
        for (qseq, message) in image.messages {
            let body = Arc::clone(&world.bodies[usize::from(message.body[0])]);
            let (priority, expires) = (message.priority.unwrap_or(0), message.expiry_ms.unwrap_or(0));
            queue.restore(qseq, body, priority, expires, message.delivery_count, message.lsn - 1);
        }
        assert!(image.next_qseq <= self.next);
        self.queue = queue;
        // Positions of transient messages are given out again.
        self.next = image.next_qseq;
        self.queue.touch(self.now, &mut self.world);
        self.queue.tick(self.now, &mut self.world);
    }

    fn put_ready(&mut self, known: Known) {
        let before = self.ready.insert((Reverse(known.priority), known.qseq), known);
        assert!(before.is_none(), "{before:?} is there twice");
    }

    fn first(&self) -> Option<u64> {
        self.ready.first_key_value().map(|((_, qseq), _)| *qseq)
    }

    fn take_first(&mut self) -> Known {
        self.ready.pop_first().expect("something is ready").1
    }

    /// Checks what the queue did since. `letters` are rejected messages; `direct` the one that was just published into
    /// an empty queue, which goes to a consumer however short its life is.
    fn follow(&mut self, letters: &mut VecDeque<Known>, direct: Option<u64>) {
        for event in std::mem::take(&mut self.world.events) {
            match event {
                Event::Delivered { handle, qseq, redelivered, octets } => {
                    let known = self.take_first();
                    assert_eq!((qseq, octets), (known.qseq, known.octets), "{known:?}");
                    check_mark(&known, redelivered);
                    let alive = known.expires_ms == 0 || known.expires_ms > self.now;
                    assert!(alive || direct == Some(qseq), "{known:?} is delivered at {}", self.now);
                    let of_handle = self.consumers.iter().find(|consumer| consumer.handle == handle);
                    // One that is not noted yet is being added.
                    let no_ack =
                        of_handle.map_or_else(|| self.new_is_no_ack(handle), |consumer| consumer.no_ack);
                    if !no_ack {
                        self.held.insert(qseq, (Known { redelivered: true, ..known }, Some(handle)));
                    }
                }
                Event::Left { reason, logged, stored, octets } => {
                    let known = match reason {
                        Reason::Rejected => letters.pop_front().expect("nothing else was rejected"),
                        Reason::MaxLength => {
                            assert!(
                                self.octets_unsure || self.over_limit(0, 0),
                                "pushed out within the limits"
                            );
                            self.take_first()
                        }
                        _ => {
                            let known = self.take_first();
                            assert!(
                                known.expires_ms != 0 && known.expires_ms <= self.now,
                                "{known:?} at {}",
                                self.now
                            );
                            known
                        }
                    };
                    assert_eq!(logged, (self.durable && known.persistent).then_some(known.qseq));
                    assert!(stored.is_none_or(|stored| stored == known.qseq));
                    assert!(octets == known.octets || octets == usize::MAX);
                }
                Event::SegmentRemoved(positions) => {
                    for qseq in positions {
                        let ready = self.ready.values().any(|known| known.qseq == qseq);
                        assert!(!ready && !self.held.contains_key(&qseq), "{qseq} is in a file that goes");
                    }
                }
            }
        }
    }

    fn new_is_no_ack(&self, handle: u32) -> bool {
        let mut consumers = self.queue.consumers().iter();
        consumers.find(|consumer| consumer.handle == handle).is_some_and(|consumer| consumer.no_ack)
    }

    fn check_counts(&self) {
        assert_eq!(self.queue.ready_count(), self.ready.len() as u64);
        assert_eq!(self.queue.unacked_count(), self.held.len() as u64);
        let octets = |known: &Known| known.octets as u64;
        assert_eq!(
            self.queue.unacked_bytes(),
            self.held.values().map(|(known, _)| octets(known)).sum::<u64>()
        );
        if !self.octets_unsure {
            assert_eq!(self.queue.ready_bytes(), self.ready.values().map(octets).sum::<u64>());
        }
    }

    /// Does all that is asked for, until nothing is; then nothing may be left undone.
    fn settle_down(&mut self) {
        for _ in 0..100_000 {
            if self.world.unwanted {
                self.world.unwanted = false;
                self.queue.page_out_removed(self.now, &mut self.world);
            } else if let Some(page_out) = self.world.page_outs.pop() {
                self.write(&page_out);
            } else if let Some(window) = self.world.windows.pop() {
                if self.world.files.contains_key(&window.segment) {
                    let read = self.world.read(&window);
                    self.queue.arrived(self.now, &window, read, &mut self.world);
                } else {
                    self.queue.read_failed(self.now, &window, &mut self.world);
                }
            } else if !self.world.letters.is_empty() {
                self.letters_arrive();
            } else if let Some(&at) = self.world.wakes.iter().min().filter(|at| **at <= self.now + 2000) {
                self.now = self.now.max(at);
                self.tick_when_due();
            } else {
                break;
            }
            self.follow(&mut VecDeque::new(), None);
        }
        self.check_counts();
        if self.config.overflow == Overflow::DropHead {
            assert!(self.octets_unsure || !self.over_limit(0, 0), "more than the limits allow stays");
        }
        let expired =
            self.ready.values().next().filter(|known| known.expires_ms != 0 && known.expires_ms <= self.now);
        assert!(expired.is_none(), "{expired:?} stays at {}", self.now);
        for consumer in self.consumers.iter().filter(|consumer| !self.world.full.contains(&consumer.handle)) {
            let held = self.held.values().filter(|(_, holder)| *holder == Some(consumer.handle)).count();
            let could = consumer.no_ack || consumer.prefetch == 0 || held < consumer.prefetch;
            let stalled = self.queue.consumers().capacity() == 0.0;
            assert!(!could || stalled || self.ready.is_empty(), "{consumer:?} waits for {:?}", self.first());
        }
    }

    /// Empties the queue: nothing stays anywhere.
    fn finish(&mut self) {
        self.settle_down();
        for consumer in std::mem::take(&mut self.consumers) {
            self.queue.cancel(self.now, consumer.reference, &mut self.world);
            self.follow(&mut VecDeque::new(), None);
        }
        let held: Vec<u64> = std::mem::take(&mut self.held).into_keys().collect();
        self.queue.settle(self.now, Settle::Ack, &held, &mut self.world);
        self.follow(&mut VecDeque::new(), None);
        let new = NewConsumer {
            handle: 0,
            tag: "c".into(),
            no_ack: true,
            prefetch: 0,
            priority: 0,
            exclusive: false,
        };
        self.queue.consume(self.now, new, &mut self.world);
        self.follow(&mut VecDeque::new(), None);
        self.settle_down();
        assert_eq!(
            (self.queue.ready_count(), self.queue.ready_bytes(), self.queue.logged_bytes()),
            (0, 0, 0)
        );
        assert_eq!(self.queue.resident_bytes(), 0);
        assert!(self.world.files.is_empty(), "files stay: {:?}", self.world.files.keys());
    }
}

fn check_mark(known: &Known, redelivered: bool) {
    assert!(
        redelivered == known.redelivered || (redelivered && known.unsure),
        "{known:?} marked {redelivered}"
    );
}

/// Prints the seed of a run that failed.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed: {}", self.0);
        }
    }
}

fn run(seed: u64, steps: u64) {
    let _seed = Seed(seed);
    let mut run = Run::new(seed);
    for step in 1..=steps {
        run.step();
        if step % 500 == 0 {
            run.settle_down();
        }
    }
    run.finish();
}

#[test]
fn a_queue_does_what_a_naive_model_does() {
    let seeds = std::env::var("QUEUE_MODEL_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(60);
    for seed in 0..seeds {
        run(seed, 600);
    }
    for seed in 1000..1003 {
        run(seed, 10_000);
    }
}
