//! What the state machine wants done, in this order.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use crate::instance::State;

/// One thing to do for an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Send one advert with this priority to the group or to every peer.
    SendAdvert {
        /// 0 = leaving.
        priority: u8,
    },
    /// Put the virtual addresses on their interfaces.
    AddAddresses,
    /// Take them away, also when they are left over from an earlier run.
    RemoveAddresses,
    /// Send gratuitous ARP, or neighbour advertisements, for every address.
    Announce {
        /// Packets per address.
        repeat: u32,
    },
    /// The state changed; log it.
    Transition {
        /// State before.
        from: State,
        /// State now.
        to: State,
        /// Why.
        reason: Reason,
    },
    /// Run the notify scripts of this state.
    Notify(NotifyState, u8),
    /// The effective priority changed.
    Priority {
        /// Before.
        from: u8,
        /// Now.
        to: u8,
    },
    /// A member of a sync group would be master now; it stays BACKUP until the whole group can be.
    WantsMaster,
    /// Something an operator should hear of.
    Alarm(Alarm),
    /// The instance has stopped and holds nothing any more.
    Stopped,
}

/// State names of notify scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotifyState {
    /// `notify_master`.
    Master,
    /// `notify_backup`.
    Backup,
    /// `notify_fault`.
    Fault,
    /// `notify_stop`.
    Stop,
}

impl NotifyState {
    /// The word keepalived passes to notify scripts.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Master => "MASTER",
            Self::Backup => "BACKUP",
            Self::Fault => "FAULT",
            Self::Stop => "STOP",
        }
    }
}

/// Why a state changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// First state after the start.
    Start,
    /// Priority 255 owns the addresses.
    Owner,
    /// No advert within the master-down interval.
    MasterDown,
    /// The master said with priority 0 that it leaves.
    MasterLeft,
    /// The master's priority fell below ours.
    MasterDegraded,
    /// A master of lower priority was left alone for `preempt_delay`.
    PreemptDelayOver,
    /// Another master won.
    HigherAdvert {
        /// Its address.
        source: IpAddr,
        /// Its priority.
        priority: u8,
    },
    /// A tracked thing without weight failed, or the link is down.
    Fault,
    /// The fault is over.
    FaultOver,
    /// The sync group moved.
    SyncGroup,
    /// The agent stops.
    Stop,
    /// The successor was heard, or did not come in time.
    Released,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start => f.write_str("start"),
            Self::Owner => f.write_str("priority 255 owns the addresses"),
            Self::MasterDown => f.write_str("no advert within the master down interval"),
            Self::MasterLeft => f.write_str("the master left with priority 0"),
            Self::MasterDegraded => f.write_str("the master's priority fell below ours"),
            Self::PreemptDelayOver => f.write_str("preempt_delay is over"),
            Self::HigherAdvert { source, priority } => {
                write!(f, "advert of priority {priority} from {source}")
            }
            Self::Fault => f.write_str("a tracked check or the link failed"),
            Self::FaultOver => f.write_str("every fault is over"),
            Self::SyncGroup => f.write_str("the sync group moved"),
            Self::Stop => f.write_str("stop"),
            Self::Released => f.write_str("addresses released"),
        }
    }
}

/// Something an operator should hear of. The agent limits how often it logs them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alarm {
    /// A timer fired this long after its time: the machine or the agent was stopped or overloaded.
    LateTimer {
        /// How late.
        late: Duration,
    },
    /// Another router also says that it is master, and ours wins.
    OtherMaster {
        /// Its address.
        source: IpAddr,
        /// Its priority.
        priority: u8,
    },
    /// The master names other addresses than this configuration. The advert counts all the same.
    AddressMismatch {
        /// Sender.
        source: IpAddr,
    },
    /// The master's version 3 interval differs from ours; its interval is used while it is master.
    IntervalLearned {
        /// Its interval.
        interval: Duration,
    },
    /// Two other routers have said for longer than two intervals that they are master: a split brain
    /// between them, which this backup can see.
    TwoMasters {
        /// One of them.
        first: IpAddr,
        /// The other one.
        second: IpAddr,
    },
    /// Two routers claim to own the addresses with priority 255.
    TwoOwners {
        /// The other one.
        source: IpAddr,
    },
}
