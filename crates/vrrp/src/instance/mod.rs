//! The state machine of one virtual router (RFC 9568 section 6.4, RFC 3768 section 6.4).
//!
//! Deadlines are absolute times since the agent's start, so a slow turn of the program does not move the
//! ones that follow. Receiving adverts is in `receive.rs`.

use std::net::IpAddr;
use std::time::Duration;

use crate::config::InstanceConfig;
use crate::effect::{Alarm, Effect, NotifyState, Reason};
use crate::packet::Version;
use crate::priority::{OWNER, effective};
use crate::timers;

mod receive;
mod rivals;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

pub use receive::{Received, Rejected};
use rivals::Rivals;

/// How long a stopping master keeps the addresses after it heard its successor: enough for the
/// successor's gratuitous ARP, which follows its first advert.
const RELEASE_LINGER: Duration = Duration::from_millis(20);
/// Extra patience for a successor beyond the longest skew time.
const RELEASE_PATIENCE: Duration = Duration::from_millis(250);
/// A starting router with nopreempt waits this much longer: what it takes it keeps, and it must not take it
/// only because a peer of higher priority, started with it, needs longer to get going.
const NOPREEMPT_START_GRACE: Duration = Duration::from_millis(40);
/// Adverts of lower priority are answered with gratuitous ARP at most this often.
const LOWER_ANNOUNCE_PAUSE: Duration = Duration::from_millis(500);

/// State of an instance. `Releasing` is ours: a master that stops and waits for its successor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Not started, waiting for the first result of a check, or stopped.
    Init,
    /// Listens.
    Backup,
    /// Holds the addresses.
    Master,
    /// Something it depends on is broken.
    Fault,
    /// Said that it leaves and still holds the addresses.
    Releasing,
}

impl State {
    /// The word for logs, status and metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Init => "INIT",
            Self::Backup => "BACKUP",
            Self::Master => "MASTER",
            Self::Fault => "FAULT",
            Self::Releasing => "RELEASING",
        }
    }

    /// Whether the virtual addresses are on this host in this state.
    pub const fn holds_addresses(self) -> bool {
        matches!(self, Self::Master | Self::Releasing)
    }
}

/// The sum of what is tracked: weights, faults and checks without a first result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tracking {
    /// Sum of the weights that apply.
    pub adjustment: i32,
    /// Tracked things without weight that have failed, links down, faults of the group.
    pub faults: u32,
    /// Tracked things without weight that have no result yet.
    pub pending: u32,
}

impl std::ops::Add for Tracking {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            adjustment: self.adjustment + other.adjustment,
            faults: self.faults + other.faults,
            pending: self.pending + other.pending,
        }
    }
}

/// The last advert heard from another router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// Sender.
    pub source: IpAddr,
    /// Its priority.
    pub priority: u8,
    /// When, since the agent's start.
    pub at: Duration,
    /// Its interval.
    pub interval: Duration,
}

/// What happened since the start. Names as in keepalived's statistics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Adverts accepted for consideration.
    pub adverts_received: u64,
    /// Adverts sent.
    pub adverts_sent: u64,
    /// Times this instance became master.
    pub become_master: u64,
    /// Times it gave mastership up.
    pub release_master: u64,
    /// Adverts of priority 0 received.
    pub priority_zero_received: u64,
    /// Adverts of priority 0 sent.
    pub priority_zero_sent: u64,
    /// Adverts with a hop limit other than 255.
    pub hop_limit_errors: u64,
    /// Adverts of the other version.
    pub version_errors: u64,
    /// Adverts with another authentication type.
    pub auth_type_errors: u64,
    /// Adverts with another password.
    pub auth_failures: u64,
    /// Version 2 adverts with another interval.
    pub interval_errors: u64,
    /// Adverts that name other addresses.
    pub address_mismatches: u64,
    /// Adverts from hosts that are no unicast peer.
    pub unknown_peers: u64,
    /// Adverts of another master heard while master.
    pub other_masters: u64,
    /// Timers that fired late.
    pub late_timers: u64,
}

/// One virtual router.
#[derive(Debug)]
pub struct Instance {
    config: InstanceConfig,
    local: IpAddr,
    state: State,
    tracking: Tracking,
    effective_priority: u8,
    /// Interval of the current master, learned in version 3.
    master_interval: Duration,
    /// The master last accepted.
    master: Option<Heard>,
    heard: Option<Heard>,
    last_transition: Duration,
    master_down_at: Option<Duration>,
    /// Why the master-down timer was shortened.
    shortened: Option<Reason>,
    advert_at: Option<Duration>,
    announce_at: Option<Duration>,
    announce_again: u32,
    refresh_at: Option<Duration>,
    preempt_at: Option<Duration>,
    release_at: Option<Duration>,
    lower_announced_at: Option<Duration>,
    address_mismatch: bool,
    rivals: Rivals,
    /// Member of a sync group: asks before it becomes master.
    grouped: bool,
    /// Would be master if its group let it, and why.
    wanted: Option<Reason>,
    started: bool,
    counters: Counters,
}

impl Instance {
    /// An instance in INIT. `local` is the address its adverts come from, which decides ties.
    pub fn new(config: InstanceConfig, local: IpAddr) -> Self {
        Self {
            local,
            state: State::Init,
            tracking: Tracking::default(),
            effective_priority: config.priority,
            master_interval: config.advert_interval,
            master: None,
            heard: None,
            last_transition: Duration::ZERO,
            master_down_at: None,
            shortened: None,
            advert_at: None,
            announce_at: None,
            announce_again: 0,
            refresh_at: None,
            preempt_at: None,
            release_at: None,
            lower_announced_at: None,
            address_mismatch: false,
            rivals: Rivals::default(),
            grouped: false,
            wanted: None,
            started: false,
            counters: Counters::default(),
            config,
        }
    }

    /// State now.
    pub fn state(&self) -> State {
        self.state
    }

    /// Configuration in force.
    pub fn config(&self) -> &InstanceConfig {
        &self.config
    }

    /// Base priority with all weights.
    pub fn effective_priority(&self) -> u8 {
        self.effective_priority
    }

    /// What the tracked things say.
    pub fn tracking(&self) -> Tracking {
        self.tracking
    }

    /// The last advert of another router, whether accepted or not.
    pub fn heard(&self) -> Option<Heard> {
        self.heard
    }

    /// When the state last changed.
    pub fn last_transition(&self) -> Duration {
        self.last_transition
    }

    /// Counters since the start.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Address adverts come from.
    pub fn local(&self) -> IpAddr {
        self.local
    }

    /// The interface got another primary address.
    pub fn set_local(&mut self, local: IpAddr) {
        self.local = local;
    }

    /// Whether this instance is a member of a sync group. Then it says [`Effect::WantsMaster`] instead of
    /// becoming master by a timer, and waits for [`Instance::follow_group`].
    pub fn set_grouped(&mut self, grouped: bool) {
        self.grouped = grouped;
    }

    /// Whether only its group keeps this instance from being master.
    pub fn wants_master(&self) -> bool {
        self.wanted.is_some()
    }

    /// The master last accepted; `None` while there is none.
    pub fn master(&self) -> Option<Heard> {
        self.master
    }

    /// How long the peers wait before one of them takes over from a dead master, seen from here.
    pub fn master_down_interval(&self) -> Duration {
        timers::master_down(
            self.config.version,
            self.effective_priority,
            self.master_interval,
            self.config.down_timer_adverts,
        )
    }

    /// Leaves INIT, as far as the tracked things allow. Addresses of an earlier run are swept first.
    pub fn start(&mut self, now: Duration, out: &mut Vec<Effect>) {
        if self.state != State::Init {
            return;
        }
        self.started = true;
        self.effective_priority = effective(self.config.priority, self.tracking.adjustment);
        out.push(Effect::RemoveAddresses);
        if self.tracking.faults > 0 {
            self.move_to(State::Fault, Reason::Start, now, out);
            out.push(Effect::Notify(NotifyState::Fault, self.effective_priority));
        } else if self.tracking.pending == 0 {
            self.enter(Reason::Start, now, out);
        }
    }

    /// The tracked things changed. Weights move the priority, faults move the state.
    pub fn track(&mut self, now: Duration, tracking: Tracking, out: &mut Vec<Effect>) {
        self.tracking = tracking;
        if self.started {
            self.update_priority(now, out);
        }
        match self.state {
            State::Init if !self.started => {}
            State::Init if tracking.faults > 0 => {
                self.move_to(State::Fault, Reason::Fault, now, out);
                out.push(Effect::Notify(NotifyState::Fault, self.effective_priority));
            }
            State::Init if tracking.pending == 0 => {
                self.enter(Reason::Start, now, out);
            }
            State::Backup | State::Master if tracking.faults > 0 => self.fail(now, Reason::Fault, out),
            State::Fault if tracking.faults == 0 && tracking.pending == 0 => {
                self.enter(Reason::FaultOver, now, out);
            }
            _ => {}
        }
    }

    /// Fires every timer that is due. Hand in all received adverts before, so that a stalled program does
    /// not take a master for dead whose adverts wait in the socket.
    pub fn timer(&mut self, now: Duration, out: &mut Vec<Effect>) {
        if let Some(due) = self.next_deadline().filter(|due| *due <= now) {
            let late = now - due;
            if late > self.config.advert_interval / 2 && late > Duration::from_millis(50) {
                self.counters.late_timers += 1;
                out.push(Effect::Alarm(Alarm::LateTimer { late }));
            }
        }
        if take_due(&mut self.release_at, now) {
            self.release(now, out);
        }
        if take_due(&mut self.preempt_at, now) && self.state == State::Backup {
            self.want_master(Reason::PreemptDelayOver, now, out);
        }
        if take_due(&mut self.master_down_at, now) && self.state == State::Backup {
            let reason = self.shortened.take().unwrap_or(Reason::MasterDown);
            self.want_master(reason, now, out);
        }
        if self.state != State::Master {
            return;
        }
        if let Some(due) = self.advert_at.filter(|due| *due <= now) {
            self.send(self.effective_priority, out);
            // Keep the beat; after a stall of more than one interval start a new one, without a burst.
            let next = due + self.config.advert_interval;
            self.advert_at = Some(if next > now { next } else { now + self.config.advert_interval });
        }
        if take_due(&mut self.announce_at, now) {
            out.push(Effect::Announce { repeat: self.announce_again });
        }
        if let Some(due) = self.refresh_at.filter(|due| *due <= now) {
            out.push(Effect::Announce { repeat: self.config.announce.refresh_repeat });
            let next = due + self.config.announce.refresh;
            self.refresh_at = Some(next.max(now));
        }
    }

    /// When [`Instance::timer`] wants to be called next.
    pub fn next_deadline(&self) -> Option<Duration> {
        [
            self.master_down_at,
            self.advert_at,
            self.announce_at,
            self.refresh_at,
            self.preempt_at,
            self.release_at,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// The agent stops, or the instance is taken out of the configuration. A master says so with priority
    /// 0 and keeps the addresses until its successor speaks (if `graceful_release`), at most a skew time
    /// and a little. The list ends with [`Effect::Stopped`], now or at a later [`Instance::timer`].
    pub fn stop(&mut self, now: Duration, out: &mut Vec<Effect>) {
        self.started = false;
        match self.state {
            State::Releasing => self.release(now, out),
            State::Master => {
                self.send(0, out);
                self.counters.release_master += 1;
                self.clear_timers();
                self.move_to(State::Releasing, Reason::Stop, now, out);
                if self.config.graceful_release {
                    let longest_skew = timers::skew(self.config.version, 1, self.config.advert_interval);
                    self.release_at = Some(now + longest_skew + RELEASE_PATIENCE);
                } else {
                    self.release(now, out);
                }
            }
            State::Init | State::Backup | State::Fault => {
                self.clear_timers();
                self.move_to(State::Init, Reason::Stop, now, out);
                out.push(Effect::Notify(NotifyState::Stop, self.effective_priority));
                out.push(Effect::Stopped);
            }
        }
    }

    /// Follows its sync group to MASTER or BACKUP.
    pub fn follow_group(&mut self, now: Duration, master: bool, out: &mut Vec<Effect>) {
        match (self.state, master) {
            (State::Backup, true) => {
                let reason = self.wanted.unwrap_or(Reason::SyncGroup);
                self.become_master(reason, now, out);
            }
            (State::Master, false) => {
                self.send(0, out);
                self.yield_mastership(Reason::SyncGroup, now, out);
            }
            _ => {}
        }
    }

    /// Takes a reloaded configuration. Version, virtual router id and family must be unchanged (the agent
    /// makes a new instance otherwise). The addresses on the interface are compared by the agent.
    pub fn reload(&mut self, now: Duration, config: InstanceConfig, out: &mut Vec<Effect>) {
        if config == self.config {
            return;
        }
        let before = std::mem::replace(&mut self.config, config);
        self.update_priority(now, out);
        self.address_mismatch = false;
        if self.state == State::Backup && self.master.is_none() {
            self.master_interval = self.config.advert_interval;
        }
        if self.state == State::Master {
            self.master_interval = self.config.advert_interval;
            let list_changed = before.addresses != self.config.addresses;
            if list_changed || before.advert_interval != self.config.advert_interval {
                self.send(self.effective_priority, out);
                self.advert_at = Some(now + self.config.advert_interval);
            }
            if list_changed {
                self.announce_rounds(now, out);
            }
            let refresh = self.config.announce.refresh;
            if before.announce.refresh != refresh {
                self.refresh_at = (!refresh.is_zero()).then(|| now + refresh);
            }
        }
    }

    fn update_priority(&mut self, now: Duration, out: &mut Vec<Effect>) {
        let before = self.effective_priority;
        let after = effective(self.config.priority, self.tracking.adjustment);
        if before == after {
            return;
        }
        let old_interval = self.master_down_interval();
        self.effective_priority = after;
        out.push(Effect::Priority { from: before, to: after });
        // The skew time follows the priority, the base of the timer stays.
        if let (None, Some(due)) = (&self.shortened, self.master_down_at) {
            self.master_down_at = Some(due + self.master_down_interval() - old_interval);
        }
        if self.state == State::Master && after < before {
            // Tell the backups now rather than with the next beat.
            self.send(after, out);
            self.advert_at = Some(now + self.config.advert_interval);
        }
    }

    /// From INIT or FAULT into play.
    fn enter(&mut self, reason: Reason, now: Duration, out: &mut Vec<Effect>) {
        if self.config.priority == OWNER {
            self.become_master(Reason::Owner, now, out);
            return;
        }
        self.master = None;
        self.master_interval = self.config.advert_interval;
        self.move_to(State::Backup, reason, now, out);
        self.reset_master_down(now);
        if let (Reason::Start, Some(at)) = (reason, self.master_down_at) {
            let least = if self.config.preempt { Duration::ZERO } else { NOPREEMPT_START_GRACE };
            self.master_down_at = Some(at + self.config.start_grace.max(least));
        }
        out.push(Effect::Notify(NotifyState::Backup, self.effective_priority));
    }

    /// A timer says that this instance should be master.
    fn want_master(&mut self, reason: Reason, now: Duration, out: &mut Vec<Effect>) {
        if self.grouped {
            self.clear_timers();
            self.wanted = Some(reason);
            out.push(Effect::WantsMaster);
        } else {
            self.become_master(reason, now, out);
        }
    }

    fn become_master(&mut self, reason: Reason, now: Duration, out: &mut Vec<Effect>) {
        self.clear_timers();
        self.master = None;
        self.master_interval = self.config.advert_interval;
        self.counters.become_master += 1;
        // The addresses first: a master that is replaced gives them up as soon as it hears the advert.
        out.push(Effect::AddAddresses);
        self.send(self.effective_priority, out);
        self.move_to(State::Master, reason, now, out);
        self.announce_rounds(now, out);
        self.advert_at = Some(now + self.config.advert_interval);
        let refresh = self.config.announce.refresh;
        self.refresh_at = (!refresh.is_zero()).then(|| now + refresh);
        out.push(Effect::Notify(NotifyState::Master, self.effective_priority));
    }

    /// MASTER to BACKUP.
    fn yield_mastership(&mut self, reason: Reason, now: Duration, out: &mut Vec<Effect>) {
        self.counters.release_master += 1;
        self.clear_timers();
        out.push(Effect::RemoveAddresses);
        self.move_to(State::Backup, reason, now, out);
        self.reset_master_down(now);
        out.push(Effect::Notify(NotifyState::Backup, self.effective_priority));
    }

    /// BACKUP or MASTER to FAULT.
    fn fail(&mut self, now: Duration, reason: Reason, out: &mut Vec<Effect>) {
        if self.state == State::Master {
            self.counters.release_master += 1;
            self.send(0, out);
            out.push(Effect::RemoveAddresses);
        }
        self.clear_timers();
        self.move_to(State::Fault, reason, now, out);
        out.push(Effect::Notify(NotifyState::Fault, self.effective_priority));
    }

    fn release(&mut self, now: Duration, out: &mut Vec<Effect>) {
        self.clear_timers();
        out.push(Effect::RemoveAddresses);
        self.move_to(State::Init, Reason::Released, now, out);
        out.push(Effect::Notify(NotifyState::Stop, self.effective_priority));
        out.push(Effect::Stopped);
    }

    fn announce_rounds(&mut self, now: Duration, out: &mut Vec<Effect>) {
        let announce = &self.config.announce;
        if announce.repeat > 0 {
            out.push(Effect::Announce { repeat: announce.repeat });
            self.announce_again = announce.repeat;
            self.announce_at = (!announce.delay.is_zero()).then(|| now + announce.delay);
        }
    }

    fn send(&mut self, priority: u8, out: &mut Vec<Effect>) {
        self.counters.adverts_sent += 1;
        self.counters.priority_zero_sent += u64::from(priority == 0);
        out.push(Effect::SendAdvert { priority });
    }

    fn move_to(&mut self, to: State, reason: Reason, now: Duration, out: &mut Vec<Effect>) {
        let from = std::mem::replace(&mut self.state, to);
        self.last_transition = now;
        out.push(Effect::Transition { from, to, reason });
    }

    fn reset_master_down(&mut self, now: Duration) {
        self.shortened = None;
        self.wanted = None;
        self.master_down_at = Some(now + self.master_down_interval());
    }

    /// Lets the master-down timer end one skew time from now, unless it ends before.
    fn shorten_master_down(&mut self, now: Duration, reason: Reason) {
        let skew = timers::skew(self.config.version, self.effective_priority, self.master_interval);
        let due = now + skew;
        if self.master_down_at.is_none_or(|at| due < at) {
            self.master_down_at = Some(due);
            self.shortened = Some(reason);
        }
    }

    fn clear_timers(&mut self) {
        self.master_down_at = None;
        self.shortened = None;
        self.advert_at = None;
        self.announce_at = None;
        self.refresh_at = None;
        self.preempt_at = None;
        self.release_at = None;
        self.wanted = None;
    }

    /// Version 2 has no learned interval.
    fn learns_interval(&self) -> bool {
        self.config.version == Version::V3
    }
}

fn take_due(timer: &mut Option<Duration>, now: Duration) -> bool {
    let due = timer.is_some_and(|at| at <= now);
    if due {
        *timer = None;
    }
    due
}
