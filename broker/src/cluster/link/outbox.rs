//! What waits to be sent on a connection, and the task that sends it.
//!
//! Small payloads are copied behind each other into one buffer, larger ones wait as they are, and those above
//! [`CHUNK`] go in parts: with each turn one part of each, behind what else there is. One turn is one `writev`, as far
//! as the socket takes it.
//!
//! ```text
//! push ──► [tail: small frames] ──► pieces ──┐
//!     └──► large: one stream per kind        ├──► turn ──► writev
//!               or call ── a part each ──────┘
//! ```
//!
//! Frames of one kind stay in order: behind a large one, others of its kind wait.

use super::Counters;
use broker_core::link::Kind;
use broker_core::link::frame::{CHUNK, Head, Item, MAX_HEADER};
use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Poll, Waker};
use tokio::io::{AsyncWrite, AsyncWriteExt};

/// Payloads up to this length are copied.
const COPIED: usize = 4096;
/// Octets that small frames are copied into at a time.
const BUFFER: usize = 64 << 10;
/// Octets of one turn, about.
const TURN: usize = 1 << 20;
/// Slices of one `writev`.
const SLICES: usize = 64;
/// Payloads that go in parts at once. The others wait for their turn.
pub(super) const STREAMS: usize = 16;

/// What waits.
#[derive(Debug)]
pub(super) struct Outbox {
    state: Mutex<State>,
    counters: Arc<Counters>,
    limit: usize,
}

#[derive(Debug, Default)]
struct State {
    pieces: VecDeque<Bytes>,
    /// Pieces that ever went into `pieces`, and out of it.
    pushed: u64,
    popped: u64,
    tail: BytesMut,
    /// Those that go in parts, the next to send a part first.
    large: VecDeque<Large>,
    next_stream: u32,
    /// Octets of everything here and in the turn that is being written.
    octets: usize,
    writer: Option<Waker>,
    room: Vec<Waker>,
    closed: bool,
}

/// A payload that goes in parts.
#[derive(Debug)]
struct Large {
    head: Head,
    /// Its number, once its first part is gone.
    stream: Option<u32>,
    /// So many pieces have to be gone before it: they came earlier, and may be of its kind.
    after: u64,
    rest: Bytes,
    /// Frames of the same kind that came later.
    behind: VecDeque<(Head, Bytes)>,
}

/// Why something is not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum NotTaken {
    /// Too much waits.
    Full,
    /// The connection has ended.
    Closed,
}

impl Outbox {
    /// An empty one that takes nothing more while `limit` octets wait.
    pub(super) fn new(limit: usize, counters: Arc<Counters>) -> Outbox {
        Outbox { state: Mutex::new(State::default()), counters, limit }
    }

    /// Takes a payload, to be sent with the next turn.
    pub(super) fn push(&self, head: Head, payload: Bytes) -> Result<(), NotTaken> {
        self.put(|state| {
            if state.octets >= self.limit {
                return Err(NotTaken::Full);
            }
            state.octets += payload.len();
            state.push(head, payload);
            Ok(())
        })
    }

    /// Takes a sign of life. When too much waits it is none, and left out.
    pub(super) fn push_item(&self, item: Item) {
        let _ = self.put(|state| {
            if state.octets >= self.limit {
                return Err(NotTaken::Full);
            }
            state.small(item, &[]);
            Ok(())
        });
    }

    /// Waits until there is room, and takes a payload.
    pub(super) async fn push_when_room(&self, head: Head, payload: Bytes) -> Result<(), NotTaken> {
        poll_fn(|context| {
            let mut state = self.state.lock();
            if !state.closed && state.octets >= self.limit {
                state.room.push(context.waker().clone());
                return Poll::Pending;
            }
            drop(state);
            match self.push(head, payload.clone()) {
                // Another was quicker.
                Err(NotTaken::Full) => {
                    context.waker().wake_by_ref();
                    Poll::Pending
                }
                taken => Poll::Ready(taken),
            }
        })
        .await
    }

    /// Nobody waits for the answer of this call any more: what of it is not sent is not sent any more.
    pub(super) fn cancel(&self, number: u32) {
        let _ = self.put(|state| {
            let is_it = |large: &Large| matches!(large.head, Head::Call { number: its, .. } if its == number);
            let Some(at) = state.large.iter().position(is_it) else {
                state.small(Item::Cancel { number }, &[]);
                return Ok(());
            };
            if let Some(large) = state.large.remove(at) {
                state.octets -= large.rest.len();
                if let Some(stream) = large.stream {
                    state.small(Item::Abandon { stream }, &[]);
                }
            }
            Ok(())
        });
    }

    fn put(&self, put: impl FnOnce(&mut State) -> Result<(), NotTaken>) -> Result<(), NotTaken> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(NotTaken::Closed);
        }
        put(&mut state)?;
        self.counters.waiting.store(state.octets, Ordering::Relaxed);
        let writer = state.writer.take();
        drop(state);
        if let Some(writer) = writer {
            writer.wake();
        }
        Ok(())
    }

    /// Takes nothing more.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        // The closed one stays; what waited is gone.
        let before = std::mem::replace(&mut *state, State { closed: true, ..State::default() });
        self.counters.waiting.store(0, Ordering::Relaxed);
        drop(state);
        before.writer.into_iter().chain(before.room).for_each(Waker::wake);
    }

    /// Waits until there is something, and moves one turn of it into `turn`. Returns by how much less will wait
    /// when it is written.
    async fn turn(&self, turn: &mut Vec<Bytes>) -> usize {
        poll_fn(|context| {
            let mut state = self.state.lock();
            let octets = state.turn(turn);
            if octets > 0 {
                return Poll::Ready(octets);
            }
            match &mut state.writer {
                Some(writer) => writer.clone_from(context.waker()),
                writer => *writer = Some(context.waker().clone()),
            }
            Poll::Pending
        })
        .await
    }

    fn written(&self, octets: usize) {
        let mut state = self.state.lock();
        state.octets = state.octets.saturating_sub(octets);
        self.counters.waiting.store(state.octets, Ordering::Relaxed);
        if state.octets < self.limit && !state.room.is_empty() {
            let room = std::mem::take(&mut state.room);
            drop(state);
            room.into_iter().for_each(Waker::wake);
        }
    }

    /// Sends what is there, and what comes, until the connection fails.
    pub(super) async fn send_all(&self, mut socket: impl AsyncWrite + Unpin) -> io::Error {
        let mut turn = Vec::new();
        loop {
            let octets = self.turn(&mut turn).await;
            let sent = async {
                write_all(&mut socket, &mut turn).await?;
                socket.flush().await
            };
            if let Err(error) = sent.await {
                return error;
            }
            self.counters.sent.fetch_add(octets as u64, Ordering::Relaxed);
            self.written(octets);
        }
    }
}

impl State {
    /// The octets of `payload` are counted already.
    fn push(&mut self, head: Head, payload: Bytes) {
        if let Head::Frame { kind } = head
            && let Some(large) = self.large.iter_mut().find(|large| large.is_of(kind))
        {
            large.behind.push_back((head, payload));
        } else if payload.len() > CHUNK {
            self.begin(head, payload, VecDeque::new());
        } else {
            self.whole(head, payload);
        }
    }

    fn begin(&mut self, head: Head, rest: Bytes, behind: VecDeque<(Head, Bytes)>) {
        self.end_tail();
        self.large.push_back(Large { head, stream: None, after: self.pushed, rest, behind });
    }

    fn whole(&mut self, head: Head, payload: Bytes) {
        if payload.len() <= COPIED {
            self.small(Item::Whole(head), &payload);
        } else {
            self.header(Item::Whole(head), payload.len(), 0);
            self.end_tail();
            self.piece(payload);
        }
    }

    fn small(&mut self, item: Item, payload: &[u8]) {
        self.header(item, payload.len(), payload.len());
        self.tail.extend_from_slice(payload);
    }

    /// Writes what stands before `payload` octets into the tail, with room behind it.
    fn header(&mut self, item: Item, payload: usize, room: usize) {
        if self.tail.capacity() - self.tail.len() < MAX_HEADER + room {
            self.end_tail();
            self.tail.reserve(BUFFER);
        }
        let before = self.tail.len();
        item.encode(payload, &mut self.tail);
        self.octets += self.tail.len() - before;
    }

    fn end_tail(&mut self) {
        if !self.tail.is_empty() {
            let tail = self.tail.split().freeze();
            self.piece(tail);
        }
    }

    fn piece(&mut self, piece: Bytes) {
        self.pushed += 1;
        self.pieces.push_back(piece);
    }

    /// Moves one turn into `turn`, and says how many octets that are.
    fn turn(&mut self, turn: &mut Vec<Bytes>) -> usize {
        self.end_tail();
        let mut moved = 0;
        while moved < TURN
            && let Some(piece) = self.pieces.pop_front()
        {
            self.popped += 1;
            moved += piece.len();
            turn.push(piece);
        }
        // At least one part, however much else there is.
        for _ in 0..self.large.len().min(STREAMS) {
            moved += self.part(turn);
            if moved >= TURN {
                break;
            }
        }
        moved
    }

    /// Moves one part of the first of the large into `turn`. Those that are under way are always the first
    /// [`STREAMS`] of them.
    fn part(&mut self, turn: &mut Vec<Bytes>) -> usize {
        if self.large.front().is_none_or(|large| large.after > self.popped) {
            return 0;
        }
        let Some(mut large) = self.large.pop_front() else { return 0 };
        let part = large.rest.split_to(large.rest.len().min(CHUNK));
        let item = match large.stream {
            Some(stream) => Item::More { stream },
            None => {
                let stream = self.next_stream;
                self.next_stream = stream.wrapping_add(1);
                large.stream = Some(stream);
                Item::Begin { stream, total: (part.len() + large.rest.len()) as u64, head: large.head }
            }
        };
        let mut header = BytesMut::with_capacity(MAX_HEADER);
        item.encode(part.len(), &mut header);
        self.octets += header.len();
        let moved = header.len() + part.len();
        turn.push(header.freeze());
        turn.push(part);
        if !large.rest.is_empty() {
            let at = self.large.len().min(STREAMS - 1);
            self.large.insert(at, large);
            return moved;
        }
        // Those behind it go on, up to the next large one.
        while let Some((head, payload)) = large.behind.pop_front() {
            if payload.len() > CHUNK {
                self.begin(head, payload, large.behind);
                break;
            }
            self.whole(head, payload);
        }
        moved
    }
}

impl Large {
    fn is_of(&self, kind: Kind) -> bool {
        self.head == Head::Frame { kind }
    }
}

/// Writes all of `turn`, many pieces at a time, and empties it.
async fn write_all(socket: &mut (impl AsyncWrite + Unpin), turn: &mut Vec<Bytes>) -> io::Result<()> {
    let (mut at, mut begun) = (0, 0);
    while at < turn.len() {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let count = (turn.len() - at).min(SLICES);
        for (slice, piece) in slices.iter_mut().zip(&turn[at..]) {
            *slice = IoSlice::new(piece);
        }
        slices[0] = IoSlice::new(&turn[at][begun..]);
        let mut written = socket.write_vectored(&slices[..count]).await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        while at < turn.len() && written >= turn[at].len() - begun {
            written -= turn[at].len() - begun;
            (at, begun) = (at + 1, 0);
        }
        begun += written;
    }
    turn.clear();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use broker_core::link::assemble::{Assembler, Limits};
    use broker_core::link::frame::{Step, decode};

    const LIMIT: usize = 8 << 20;

    fn outbox() -> Outbox {
        Outbox::new(LIMIT, Arc::default())
    }

    fn frame(kind: Kind) -> Head {
        Head::Frame { kind }
    }

    fn payload(number: u32, octets: usize) -> Bytes {
        let mut payload = number.to_le_bytes().to_vec();
        payload.resize(octets, number as u8);
        payload.into()
    }

    /// Empties the outbox turn by turn, and reads what was sent: what is complete after each turn.
    fn sent(outbox: &Outbox) -> Vec<Vec<(Head, u32, usize)>> {
        let limits = Limits { payload: 1 << 30, streams: STREAMS, sum: 1 << 32 };
        let (mut assembler, mut octets, mut turns) = (Assembler::new(limits), Vec::new(), Vec::new());
        loop {
            let mut turn = Vec::new();
            let moved = outbox.state.lock().turn(&mut turn);
            if moved == 0 {
                break;
            }
            outbox.written(moved);
            assert_eq!(moved, turn.iter().map(Bytes::len).sum::<usize>());
            turn.iter().for_each(|piece| octets.extend_from_slice(piece));
            let mut complete = Vec::new();
            let mut at = 0;
            while let Step::Item(item, range) = decode(&octets[at..]).unwrap() {
                let payload = octets[at + range.start..at + range.end].to_vec();
                at += range.end;
                let whole = match item {
                    Item::Whole(head) => Some((head, Bytes::from(payload))),
                    Item::Begin { stream, total, head } => {
                        assembler.begin(stream, total, head, &payload).unwrap();
                        None
                    }
                    Item::More { stream } => assembler.more(stream, &payload).unwrap(),
                    Item::Abandon { stream } => {
                        assembler.abandon(stream).unwrap();
                        None
                    }
                    _ => None,
                };
                complete.extend(whole.map(|(head, payload)| {
                    let number = payload.first_chunk().map_or(0, |number| u32::from_le_bytes(*number));
                    (head, number, payload.len())
                }));
            }
            octets.drain(..at);
            turns.push(complete);
        }
        assert_eq!(outbox.state.lock().octets, 0, "octets are counted that are gone");
        assert_eq!(assembler.held(), 0);
        turns
    }

    #[test]
    fn frames_of_a_kind_keep_their_order_whatever_their_length() {
        let outbox = outbox();
        let sizes = [10, COPIED, COPIED + 1, CHUNK, CHUNK + 1, 10, 3 * CHUNK, 3 * CHUNK, 200, 5000];
        for number in 0..70 {
            let octets = sizes[number as usize % sizes.len()];
            let kind = if number % 3 == 0 { Kind::Fill } else { Kind::Replicate };
            // Beyond the limit there is more than one turn.
            outbox
                .put(|state| {
                    state.octets += octets;
                    state.push(frame(kind), payload(number, octets));
                    Ok(())
                })
                .unwrap();
        }
        let sent: Vec<_> = sent(&outbox).concat();
        assert_eq!(sent.len(), 70);
        for kind in [Kind::Fill, Kind::Replicate] {
            let numbers = sent.iter().filter(|(head, ..)| *head == frame(kind)).map(|(_, number, _)| *number);
            let numbers: Vec<u32> = numbers.collect();
            assert!(numbers.is_sorted(), "{kind:?}: {numbers:?}");
        }
        assert!(sent.iter().all(|(_, number, octets)| *octets == sizes[*number as usize % sizes.len()]));
    }

    #[test]
    fn a_large_payload_holds_up_its_own_kind_only() {
        let outbox = outbox();
        outbox.push(frame(Kind::Replicate), payload(1, 20 * CHUNK)).unwrap();
        outbox.push(frame(Kind::Replicate), payload(2, 10)).unwrap();
        outbox.push(frame(Kind::Forward), payload(3, 10)).unwrap();
        outbox.push(Head::Answer { number: 9 }, payload(4, 10)).unwrap();
        let turns = sent(&outbox);
        let first: Vec<u32> = turns[0].iter().map(|(_, number, _)| *number).collect();
        assert_eq!(first, [3, 4]);
        let all: Vec<u32> = turns.concat().iter().map(|(_, number, _)| *number).collect();
        assert_eq!(all, [3, 4, 1, 2]);
        assert!(turns.len() > 4, "20 chunks in {} turns", turns.len());
    }

    #[test]
    fn more_large_calls_than_go_at_once_wait_for_each_other() {
        let outbox = outbox();
        let call = |number| Head::Call { kind: Kind::Raft, number, patience_ms: 1 };
        for number in 0..20 {
            outbox.push(call(number), payload(number, CHUNK + 1 + number as usize)).unwrap();
        }
        assert_eq!(sent(&outbox).concat().len(), 20);
    }

    #[test]
    fn a_call_that_nobody_waits_for_is_not_sent_to_its_end() {
        let outbox = outbox();
        let call = |number| Head::Call { kind: Kind::Raft, number, patience_ms: 1 };
        outbox.push(call(1), payload(1, 30 * CHUNK)).unwrap();
        let mut turn = Vec::new();
        let moved = outbox.state.lock().turn(&mut turn);
        outbox.written(moved);
        outbox.push(call(2), payload(2, 3 * CHUNK)).unwrap();
        outbox.cancel(1);
        outbox.cancel(2);
        let mut turn = Vec::new();
        let moved = outbox.state.lock().turn(&mut turn);
        outbox.written(moved);
        assert_eq!(decode(&turn.concat()), Ok(Step::Item(Item::Abandon { stream: 0 }, 9..9)));
        assert_eq!(outbox.state.lock().octets, 0);
    }

    #[test]
    fn what_waits_is_bounded() {
        let outbox = outbox();
        let mut taken = 0;
        while outbox.push(frame(Kind::Forward), payload(0, 256)).is_ok() {
            taken += 1;
        }
        assert!((LIMIT / 300..=LIMIT / 256).contains(&taken), "{taken}");
        assert_eq!(outbox.push(frame(Kind::Forward), payload(0, 1)), Err(NotTaken::Full));
        assert!(outbox.counters.waiting.load(Ordering::Relaxed) >= LIMIT);
        assert_eq!(sent(&outbox).concat().len(), taken);
        outbox.push(frame(Kind::Forward), payload(0, 1)).unwrap();
        outbox.close();
        assert_eq!(outbox.push(frame(Kind::Forward), payload(0, 1)), Err(NotTaken::Closed));
    }
}
