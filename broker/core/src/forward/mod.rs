//! Serving clients of a queue whose leader is another node: what both ends remember, and how they talk.
//!
//! ```text
//! origin (the client's node)                               leader (the queue's node)
//! channel, delivery tags, qos, transactions                the queue
//!         ── Ops:     publish, settle, consume, credit ──►
//!         ◄─ Answers: confirmed, deliver, got, counted ──
//! ```
//!
//! The two directions are two connections. A *session* spans both: the origin begins it with `Hello` under a new
//! generation, the leader answers `Welcome`, and every frame of either direction carries the generation. When one of
//! the two connections ends, the session ends, at both ends: the origin sends the publishes that were not confirmed
//! to whoever leads their queues now, and attaches its consumers again; the leader gives back what the session held.
//! What comes late, of a generation that is over, is not looked at.
//!
//! A publish has no number in its session on the wire: both ends count them ([`origin::Origin`],
//! [`crate::channel::confirm`]). It has one for each of its queues, by which a leader knows it when it comes again,
//! from another session or when another node led the queue before ([`crate::queue::origins`]).
//! Deliveries are bounded by credit for each consumer and by a window for the session ([`leader::Leader`]).

pub mod answer;
pub mod codec;
pub mod leader;
pub mod op;
pub mod origin;
#[cfg(test)]
pub(crate) mod tests;
