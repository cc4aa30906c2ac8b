//! The checked configuration of one virtual router.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::packet::{Advert, Auth, ChecksumMode, MAX_INTERVAL_V3_CS, Version};

/// The state keepalived's `state` asks for. It matters for `nopreempt` only; an instance starts as BACKUP
/// unless its priority is 255.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InitialState {
    /// `state MASTER`.
    Master,
    /// `state BACKUP`, the default.
    #[default]
    Backup,
}

/// How often gratuitous ARP (or unsolicited neighbour advertisements) repeat. Names as in keepalived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announce {
    /// `garp_master_repeat`: packets per address at once.
    pub repeat: u32,
    /// `garp_master_delay`: pause before the second round; zero = no second round.
    pub delay: Duration,
    /// `garp_master_refresh`: period of further rounds while master; zero = none.
    pub refresh: Duration,
    /// `garp_master_refresh_repeat`.
    pub refresh_repeat: u32,
    /// `garp_lower_prio_repeat`: packets after an advert of lower priority.
    pub lower_priority_repeat: u32,
    /// `garp_lower_prio_delay`: pause before their second round.
    pub lower_priority_delay: Duration,
}

impl Default for Announce {
    fn default() -> Self {
        let five_seconds = Duration::from_secs(5);
        Self {
            repeat: 5,
            delay: five_seconds,
            refresh: Duration::ZERO,
            refresh_repeat: 1,
            lower_priority_repeat: 5,
            lower_priority_delay: five_seconds,
        }
    }
}

/// One virtual router as the state machine needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceConfig {
    /// Name for logs and notify scripts.
    pub name: Arc<str>,
    /// Protocol version spoken; packets of the other one are rejected.
    pub version: Version,
    /// 1..=255.
    pub virtual_router_id: u8,
    /// 1..=255; 255 is the owner of the addresses.
    pub priority: u8,
    /// Time between adverts: whole seconds up to 255 s in version 2, centiseconds up to 40.95 s in 3.
    pub advert_interval: Duration,
    /// What `state` said.
    pub initial_state: InitialState,
    /// False with `nopreempt`: a master of lower priority is left alone.
    pub preempt: bool,
    /// How long a master of lower priority is left alone.
    pub preempt_delay: Duration,
    /// Password of version 2.
    pub auth: Auth,
    /// The addresses named in adverts, in the order of the configuration.
    pub addresses: Vec<IpAddr>,
    /// Peers adverts are exchanged with; empty = multicast.
    pub unicast_peers: Vec<IpAddr>,
    /// Checksum of version 3 over IPv4.
    pub checksum: ChecksumMode,
    /// Gratuitous ARP.
    pub announce: Announce,
    /// Adverts a master may miss before it is given up (`down_timer_adverts`, 3).
    pub down_timer_adverts: u32,
    /// Answer an advert of lower priority at once (`lower_prio_no_advert` turns it off).
    pub answer_lower_priority: bool,
    /// Send one more advert before yielding to a higher one, so that the winner hears of us and renews
    /// the neighbours' entries (`higher_prio_send_advert`; keepalived's default is off, ours on).
    pub advert_before_yielding: bool,
    /// Take over one skew time after the master's advertised priority fell below ours, instead of after a
    /// master-down interval.
    pub fast_handover: bool,
    /// How much longer than a master-down interval a backup waits at its start for the others: they may need longer to
    /// get going, and a peer with `preempt_delay` would leave what this one took alone.
    pub start_grace: Duration,
    /// On stop, keep the addresses until the successor has announced itself.
    pub graceful_release: bool,
}

impl InstanceConfig {
    /// An instance with keepalived's defaults.
    pub fn new(name: &str, virtual_router_id: u8, addresses: Vec<IpAddr>) -> Self {
        Self {
            name: name.into(),
            version: Version::V2,
            virtual_router_id,
            priority: 100,
            advert_interval: Duration::from_secs(1),
            initial_state: InitialState::Backup,
            preempt: true,
            preempt_delay: Duration::ZERO,
            auth: Auth::None,
            addresses,
            unicast_peers: Vec::new(),
            checksum: ChecksumMode::PseudoHeader,
            announce: Announce::default(),
            down_timer_adverts: 3,
            answer_lower_priority: true,
            advert_before_yielding: true,
            fast_handover: true,
            start_grace: Duration::ZERO,
            graceful_release: true,
        }
    }

    /// The advert this instance sends with `priority`.
    pub fn advert(&self, priority: u8) -> Advert {
        let centiseconds = (self.advert_interval.as_millis() / 10).min(u128::from(u16::MAX)) as u16;
        let interval_cs = match self.version {
            Version::V2 => centiseconds,
            Version::V3 => centiseconds.min(MAX_INTERVAL_V3_CS),
        };
        Advert {
            version: self.version,
            vrid: self.virtual_router_id,
            priority,
            interval_cs,
            auth: if self.version == Version::V2 { self.auth } else { Auth::None },
            addresses: self.addresses.clone(),
        }
    }
}
