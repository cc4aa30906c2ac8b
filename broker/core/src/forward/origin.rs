//! The origin's end of a session with one leader: publishes on their way, and credit for its consumers.

use super::op::Credit;
use std::collections::VecDeque;

/// Octets of publishes that may be unconfirmed before publishers wait.
pub const WINDOW_OCTETS: usize = 16 << 20;
/// Publishes that may be unconfirmed before publishers wait.
pub const WINDOW_PUBLISHES: usize = 32 << 10;
/// Messages that a consumer may be sent before they have reached its client's socket.
const CONSUMER_MESSAGES: u64 = 1024;
/// The same in octets.
const CONSUMER_OCTETS: u64 = 512 << 10;

/// How far a session is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Phase {
    /// There is none.
    #[default]
    Down,
    /// `Hello` was sent.
    Greeting,
    /// `Welcome` came.
    Open,
}

/// A publish that is not confirmed yet.
#[derive(Debug)]
struct Sent<W> {
    octets: usize,
    /// Who has to hear of it; taken when a queue refused it.
    waiter: Option<W>,
}

/// Sessions with one leader, one after the other. `W` says who waits for a publish.
#[derive(Debug)]
pub struct Origin<W> {
    phase: Phase,
    generation: u64,
    /// Publishes up to this one are confirmed.
    confirmed: u64,
    sent: VecDeque<Sent<W>>,
    octets: usize,
}

impl<W> Origin<W> {
    /// Nothing has begun. Generations count from `seed`, which must be higher than those of an earlier life of
    /// this process.
    pub fn new(seed: u64) -> Origin<W> {
        Origin { phase: Phase::Down, generation: seed, confirmed: 0, sent: VecDeque::new(), octets: 0 }
    }

    /// How far the session is.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// The session's generation.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Begins a session: `Hello` has to be sent under the new generation. Returns who waited for what the one
    /// before had not confirmed, with the number of the publish.
    pub fn begin(&mut self) -> Vec<(u64, W)> {
        let lost = self.end();
        self.generation += 1;
        self.phase = Phase::Greeting;
        lost
    }

    /// The session is over. Returns who waited for what it had not confirmed, with the number of the publish.
    pub fn end(&mut self) -> Vec<(u64, W)> {
        self.phase = Phase::Down;
        let first = std::mem::take(&mut self.confirmed) + 1;
        self.octets = 0;
        let numbered = self.sent.drain(..).zip(first..);
        numbered.filter_map(|(sent, number)| Some((number, sent.waiter?))).collect()
    }

    /// `Welcome` came. `false`: not for the session of now.
    pub fn welcome(&mut self, generation: u64) -> bool {
        let mine = self.phase == Phase::Greeting && generation == self.generation;
        if mine {
            self.phase = Phase::Open;
        }
        mine
    }

    /// Whether an answer belongs to the session of now.
    pub fn is_current(&self, generation: u64) -> bool {
        self.phase == Phase::Open && generation == self.generation
    }

    /// A publish is sent. Returns its number.
    pub fn publish(&mut self, octets: usize, waiter: W) -> u64 {
        self.octets += octets;
        self.sent.push_back(Sent { octets, waiter: Some(waiter) });
        self.confirmed + self.sent.len() as u64
    }

    /// The leader is done with publishes up to this one. Returns who waited and was not refused; what the leader
    /// never got is not believed.
    pub fn confirm(&mut self, upto: u64) -> impl Iterator<Item = W> + '_ {
        let count = usize::try_from(upto.saturating_sub(self.confirmed)).unwrap_or(usize::MAX);
        let count = count.min(self.sent.len());
        self.confirmed += count as u64;
        let octets = &mut self.octets;
        self.sent.drain(..count).filter_map(move |sent| {
            *octets -= sent.octets;
            sent.waiter
        })
    }

    /// Publishes up to this one are confirmed.
    pub fn confirmed(&self) -> u64 {
        self.confirmed
    }

    /// A queue refused a publish. Returns who waits for it.
    pub fn refuse(&mut self, publish: u64) -> Option<W> {
        let at = usize::try_from(publish.checked_sub(self.confirmed + 1)?).ok()?;
        self.sent.get_mut(at)?.waiter.take()
    }

    /// Whether publishers have to wait.
    pub fn is_full(&self) -> bool {
        self.octets >= WINDOW_OCTETS || self.sent.len() >= WINDOW_PUBLISHES
    }

    /// Publishes not confirmed.
    pub fn unconfirmed(&self) -> usize {
        self.sent.len()
    }
}

/// What a consumer's leader may send, and what it has sent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Window {
    granted: Credit,
    received: Credit,
}

impl Window {
    /// Credit for a consumer that begins. `room` is what its channel's limit leaves, if there is one.
    pub fn begin(&mut self, room: Option<u32>) -> Credit {
        *self = Window::default();
        self.granted = self.wanted(room);
        self.granted
    }

    /// A delivery came. Its octets count only once it is on the way to the client: [`Window::passed_on`].
    pub fn receive(&mut self) {
        self.received.messages += 1;
    }

    /// A delivery is on the way to the client.
    pub fn passed_on(&mut self, octets: usize) {
        self.received.octets += octets as u64;
    }

    /// More credit, if it is time for some. `parked` deliveries wait here for the client.
    pub fn renew(&mut self, room: Option<u32>, parked: usize) -> Option<Credit> {
        let mut wanted = self.wanted(room);
        wanted.messages = wanted.messages.saturating_sub(parked as u64);
        // Half a window at a time, except where a channel's limit counts every message.
        let step = if room.is_some() { 1 } else { CONSUMER_MESSAGES / 2 };
        let due = wanted.messages >= self.granted.messages + step
            || wanted.octets >= self.granted.octets + CONSUMER_OCTETS / 2;
        if !due {
            return None;
        }
        self.granted.messages = self.granted.messages.max(wanted.messages);
        self.granted.octets = self.granted.octets.max(wanted.octets);
        Some(self.granted)
    }

    fn wanted(&self, room: Option<u32>) -> Credit {
        let messages = room.map_or(CONSUMER_MESSAGES, |room| u64::from(room).min(CONSUMER_MESSAGES));
        Credit { messages: self.received.messages + messages, octets: self.received.octets + CONSUMER_OCTETS }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn publishes_are_numbered_and_the_window_opens_as_they_are_confirmed() {
        let mut origin = Origin::new(7);
        assert_eq!(origin.begin(), Vec::<(u64, u32)>::new());
        assert!(!origin.welcome(7) && origin.welcome(8) && !origin.welcome(8));
        assert_eq!(
            (origin.publish(10, 1), origin.publish(WINDOW_OCTETS, 2), origin.publish(1, 3)),
            (1, 2, 3)
        );
        assert!(origin.is_full());
        assert_eq!(origin.refuse(2), Some(2));
        assert_eq!(origin.refuse(2), None);
        assert_eq!(origin.refuse(9), None);
        assert_eq!(origin.confirm(2).collect::<Vec<_>>(), [1]);
        assert!(!origin.is_full());
        assert_eq!(origin.confirm(1).count(), 0);
        assert_eq!(origin.confirm(u64::MAX).collect::<Vec<_>>(), [3]);
        assert_eq!((origin.confirmed(), origin.unconfirmed()), (3, 0));
    }

    #[test]
    fn a_new_session_gives_up_what_the_one_before_had_not_confirmed() {
        let mut origin = Origin::new(0);
        origin.begin();
        origin.welcome(1);
        origin.publish(1, 'a');
        origin.publish(1, 'b');
        assert_eq!(origin.confirm(1).count(), 1);
        assert_eq!(origin.begin(), [(2, 'b')]);
        assert!(!origin.is_current(1) && !origin.is_current(2));
        assert!(origin.welcome(2) && origin.is_current(2));
        assert_eq!(origin.publish(1, 'c'), 1);
        assert_eq!(origin.end(), [(1, 'c')]);
        assert_eq!(origin.phase(), Phase::Down);
    }

    #[test]
    fn credit_follows_what_the_client_takes() {
        let mut window = Window::default();
        assert_eq!(window.begin(None), Credit { messages: 1024, octets: 512 << 10 });
        for _ in 0..511 {
            window.receive();
            window.passed_on(10);
        }
        assert_eq!(window.renew(None, 0), None);
        window.receive();
        assert_eq!(window.renew(None, 1), None, "what is parked takes up room");
        window.passed_on(10);
        assert_eq!(window.renew(None, 0).unwrap().messages, 1536);
        window.receive();
        window.passed_on(256 << 10);
        assert!(window.renew(None, 0).unwrap().octets >= 768 << 10);
    }

    #[test]
    fn a_channels_limit_is_counted_message_by_message() {
        let mut window = Window::default();
        assert_eq!(window.begin(Some(2)).messages, 2);
        window.receive();
        assert_eq!(window.renew(Some(1), 0), None);
        window.receive();
        assert_eq!(window.renew(Some(0), 0), None);
        assert_eq!(window.renew(Some(1), 0).unwrap().messages, 3);
    }
}
