//! Adverts of other routers: checks (RFC 9568 section 7.1) and what each state does with them (6.4.2, 6.4.3).

use std::net::IpAddr;
use std::time::Duration;

use super::{Heard, Instance, LOWER_ANNOUNCE_PAUSE, RELEASE_LINGER, State};
use crate::effect::{Alarm, Effect, Reason};
use crate::ip::HOP_LIMIT;
use crate::packet::{Advert, Auth, Version};
use crate::priority::OWNER;

/// A decoded advert and how it came.
#[derive(Clone, Copy, Debug)]
pub struct Received<'a> {
    /// Sender.
    pub source: IpAddr,
    /// Time to live or hop limit on arrival.
    pub hop_limit: u8,
    /// The advert.
    pub advert: &'a Advert,
}

/// Why an advert was not considered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// It came through a router, or from a forger elsewhere (RFC 9568 section 7.1).
    #[error("hop limit {0} instead of 255")]
    HopLimit(u8),
    /// Our own advert came back.
    #[error("sent by this host")]
    Own,
    /// Not one of `unicast_peer`.
    #[error("the sender is no unicast peer")]
    UnknownPeer,
    /// The other version of VRRP.
    #[error("VRRP version {theirs}, ours is {ours}")]
    Version {
        /// In the packet.
        theirs: u8,
        /// Configured.
        ours: u8,
    },
    /// Another authentication type.
    #[error("authentication type {theirs}, ours is {ours}")]
    AuthType {
        /// In the packet.
        theirs: u8,
        /// Configured.
        ours: u8,
    },
    /// Another password.
    #[error("wrong password")]
    Password,
    /// Version 2 wants equal intervals (RFC 3768 section 7.1).
    #[error("advertisement interval {theirs:?}, ours is {ours:?}")]
    Interval {
        /// In the packet.
        theirs: Duration,
        /// Configured.
        ours: Duration,
    },
}

impl Rejected {
    /// One word for the reason, as in the names of the counters.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::HopLimit(_) => "hop_limit",
            Self::Own => "own",
            Self::UnknownPeer => "unknown_peer",
            Self::Version { .. } => "version",
            Self::AuthType { .. } => "auth_type",
            Self::Password => "auth",
            Self::Interval { .. } => "interval",
        }
    }
}

impl Instance {
    /// Takes an advert for this virtual router id.
    ///
    /// # Errors
    ///
    /// [`Rejected`] when the advert must not be considered; it is counted and changes nothing.
    pub fn receive(
        &mut self,
        now: Duration,
        received: &Received<'_>,
        out: &mut Vec<Effect>,
    ) -> Result<(), Rejected> {
        self.check(received)?;
        let advert = received.advert;
        let interval = Duration::from_millis(u64::from(advert.interval_cs) * 10);
        let heard = Heard { source: received.source, priority: advert.priority, at: now, interval };
        self.heard = Some(heard);
        self.counters.adverts_received += 1;
        self.counters.priority_zero_received += u64::from(advert.priority == 0);
        self.compare_addresses(received, out);
        match self.state {
            State::Init | State::Fault => {}
            State::Backup => self.receive_as_backup(now, heard, out),
            State::Master => self.receive_as_master(now, heard, out),
            State::Releasing if advert.priority > 0 => {
                let soon = now + RELEASE_LINGER;
                self.release_at = Some(self.release_at.map_or(soon, |at| at.min(soon)));
            }
            State::Releasing => {}
        }
        Ok(())
    }

    fn receive_as_backup(&mut self, now: Duration, heard: Heard, out: &mut Vec<Effect>) {
        if let Some((first, second)) = self.rivals.heard(now, &heard) {
            out.push(Effect::Alarm(Alarm::TwoMasters { first, second }));
        }
        if heard.priority == 0 {
            // RFC 9568 section 6.4.2: the master leaves, wait the skew time only.
            self.preempt_at = None;
            if self.wanted.is_none() {
                self.shorten_master_down(now, Reason::MasterLeft);
            }
        } else if !self.config.preempt || heard.priority >= self.effective_priority {
            self.preempt_at = None;
            self.accept_master(now, heard, out);
        } else if self.config.preempt_delay.is_zero() {
            // A lower master is not heard (section 6.4.2); the timer runs on. If it is the master we
            // accepted until now, its priority fell, and there is no reason to wait that long.
            let degraded = self.master.is_some_and(|master| {
                master.source == heard.source && master.priority >= self.effective_priority
            });
            if degraded && self.config.fast_handover && self.wanted.is_none() {
                self.shorten_master_down(now, Reason::MasterDegraded);
            }
        } else {
            if self.wanted == Some(Reason::PreemptDelayOver) {
                // The delay is over; only the group holds this instance back.
                return;
            }
            let delay = self.config.preempt_delay;
            self.preempt_at.get_or_insert(now + delay);
            self.accept_master(now, heard, out);
        }
    }

    fn accept_master(&mut self, now: Duration, heard: Heard, out: &mut Vec<Effect>) {
        if self.learns_interval() && !heard.interval.is_zero() {
            if heard.interval != self.master_interval && heard.interval != self.config.advert_interval {
                out.push(Effect::Alarm(Alarm::IntervalLearned { interval: heard.interval }));
            }
            self.master_interval = heard.interval;
        }
        self.master = Some(heard);
        self.reset_master_down(now);
    }

    fn receive_as_master(&mut self, now: Duration, heard: Heard, out: &mut Vec<Effect>) {
        let Heard { source, priority, .. } = heard;
        if priority == 0 {
            // RFC 9568 section 6.4.3: say at once who is master.
            self.send(self.effective_priority, out);
            self.advert_at = Some(now + self.config.advert_interval);
            return;
        }
        self.counters.other_masters += 1;
        if priority == OWNER && self.effective_priority == OWNER {
            out.push(Effect::Alarm(Alarm::TwoOwners { source }));
        }
        let theirs_wins = priority > self.effective_priority
            || (priority == self.effective_priority && source > self.local);
        if theirs_wins {
            if self.config.advert_before_yielding {
                self.send(self.effective_priority, out);
            }
            self.master_interval = self.config.advert_interval;
            self.yield_mastership(Reason::HigherAdvert { source, priority }, now, out);
            self.accept_master(now, heard, out);
            return;
        }
        out.push(Effect::Alarm(Alarm::OtherMaster { source, priority }));
        if self.config.answer_lower_priority {
            self.send(self.effective_priority, out);
            self.advert_at = Some(now + self.config.advert_interval);
        }
        let announce = self.config.announce;
        let paused = self.lower_announced_at.is_some_and(|at| now < at + LOWER_ANNOUNCE_PAUSE);
        if announce.lower_priority_repeat > 0 && !paused {
            self.lower_announced_at = Some(now);
            out.push(Effect::Announce { repeat: announce.lower_priority_repeat });
            if !announce.lower_priority_delay.is_zero() {
                self.announce_again = announce.lower_priority_repeat;
                self.announce_at = Some(now + announce.lower_priority_delay);
            }
        }
    }

    fn check(&mut self, received: &Received<'_>) -> Result<(), Rejected> {
        let Received { source, hop_limit, advert } = *received;
        let config = &self.config;
        if source == self.local {
            return Err(Rejected::Own);
        }
        if config.unicast_peers.is_empty() {
            if hop_limit != HOP_LIMIT {
                self.counters.hop_limit_errors += 1;
                return Err(Rejected::HopLimit(hop_limit));
            }
        } else if !config.unicast_peers.contains(&source) {
            self.counters.unknown_peers += 1;
            return Err(Rejected::UnknownPeer);
        }
        if advert.version != config.version {
            self.counters.version_errors += 1;
            let (theirs, ours) = (advert.version.number(), config.version.number());
            return Err(Rejected::Version { theirs, ours });
        }
        if config.version == Version::V2 {
            self.check_version_2(advert)?;
        }
        Ok(())
    }

    fn check_version_2(&mut self, advert: &Advert) -> Result<(), Rejected> {
        match (&advert.auth, &self.config.auth) {
            (Auth::None, Auth::None) => {}
            (Auth::Simple(theirs), Auth::Simple(ours)) if theirs == ours => {}
            (Auth::Simple(_), Auth::Simple(_)) => {
                self.counters.auth_failures += 1;
                return Err(Rejected::Password);
            }
            (theirs, ours) => {
                self.counters.auth_type_errors += 1;
                return Err(Rejected::AuthType { theirs: theirs.number(), ours: ours.number() });
            }
        }
        let theirs = Duration::from_millis(u64::from(advert.interval_cs) * 10);
        if theirs != self.config.advert_interval {
            self.counters.interval_errors += 1;
            return Err(Rejected::Interval { theirs, ours: self.config.advert_interval });
        }
        Ok(())
    }

    /// RFC 9568 section 7.1: a different list may be logged and must not stop the protocol. Dropping such
    /// adverts, as keepalived does, splits the pair while a new address is rolled out.
    fn compare_addresses(&mut self, received: &Received<'_>, out: &mut Vec<Effect>) {
        let (theirs, ours) = (&received.advert.addresses, &self.config.addresses);
        let same = theirs.len() == ours.len() && theirs.iter().all(|address| ours.contains(address));
        if !same {
            self.counters.address_mismatches += 1;
            if !self.address_mismatch {
                out.push(Effect::Alarm(Alarm::AddressMismatch { source: received.source }));
            }
        }
        self.address_mismatch = !same;
    }
}
