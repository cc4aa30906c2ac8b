//! The rules that a simulation breaks, to show that it would notice.
//!
//! A core's parameter says which one; the cores that a broker runs break none, and what this module asks is decided
//! when they are compiled.

/// A rule of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Rule {
    /// A follower that is about to join the in-sync set counts from before it is proposed.
    JoinersCount = 1,
    /// A follower counts until its removal is decided.
    RemovalIsDecided = 2,
    /// A follower is proposed when it has all that may have been confirmed.
    JoinersHaveAll = 3,
    /// A follower that lacks older messages counts as having none of the stream.
    FillsCount = 4,
    /// What was said in another stream does not count.
    StreamsAreApart = 5,
    /// A follower refuses the leader of an older epoch than it knows.
    OldEpochsAreRefused = 6,
    /// A message that is filled in must still be missing.
    FillsDoNotRevive = 7,
    /// What the leader does not have is deleted.
    StrangersAreDeleted = 8,
    /// Nothing is acknowledged before it is synced.
    AcksFollowSyncs = 9,
    /// A refused record is not acknowledged.
    RefusalsAreHeard = 10,
}

impl Rule {
    /// No rule is broken.
    pub const NONE: u8 = 0;

    pub(super) const fn holds<const BROKEN: u8>(self) -> bool {
        self as u8 != BROKEN
    }
}
