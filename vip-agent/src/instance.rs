//! One virtual router: feeds the state machine of `crates/vrrp` and carries out its effects in order.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::task::Context;
use std::time::Duration;

use vrrp::{Alarm, Effect, InitialState, Instance, NotifyState, Received, State, Tracking};

use crate::agent::weights::Weighed;
use crate::config::{RouterConfig, VirtualAddress, VirtualRoute, VirtualRule};
use crate::host::{Host, Quiet};
use crate::net::announce;
use crate::net::arp_watch::{self, ArpWatch};
use crate::net::netlink::NetlinkError;
use crate::net::vmac::{self, Vmac};
use crate::net::vrrp_socket::{Endpoint, Incoming, MAX_BATCH, VrrpSocket};
use crate::notify::{Notification, Notifier};

mod addresses;
mod history;

use self::history::{History, Move};

/// Pause between log lines about the same kind of trouble.
const LOG_PAUSE: Duration = Duration::from_secs(30);
/// How much longer than a master-down interval a backup waits at its start, at least and at most.
const START_GRACE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(1));
/// How long after becoming master the others are asked for the address: the old master needs a moment.
const PROBE_DELAY: Duration = Duration::from_secs(1);

/// An address this agent put on an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) index: u32,
    pub(crate) vip: VirtualAddress,
}

/// Packets that could not be read, by reason.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PacketErrors {
    pub(crate) length: u64,
    pub(crate) checksum: u64,
    pub(crate) kind: u64,
    /// Without a right trailer although a key is set.
    pub(crate) hmac: u64,
}

/// Faults this program finds itself, beside the tracked scripts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct OwnFaults {
    /// The interface is down or gone.
    pub(crate) link: bool,
    /// The interface has no address adverts could come from.
    pub(crate) source: bool,
    /// Another member of the sync group has a fault.
    pub(crate) group: bool,
}

/// One virtual router of the agent.
pub(crate) struct Router {
    pub(crate) config: RouterConfig,
    pub(crate) core: Instance,
    pub(crate) faults: OwnFaults,
    pub(crate) packet_errors: PacketErrors,
    /// Taken out of the configuration; goes away when it has stopped.
    pub(crate) leaving: bool,
    pub(crate) stopped: bool,
    /// Priorities that were judged last.
    pub(crate) weighed: Option<Weighed>,
    pub(crate) history: History,
    socket: Option<VrrpSocket>,
    vmac: Option<Vmac>,
    held: Vec<Held>,
    frames: VecDeque<(u32, Vec<u8>)>,
    next_frame_at: Option<Duration>,
    lease_at: Option<Duration>,
    /// Listens for other hosts with our addresses while we hold them.
    watch: Option<ArpWatch>,
    /// When the others are asked; what they say before counts as the old master's last words.
    probe_at: Option<Duration>,
    pub(crate) address_conflicts: u64,
    conflict: Quiet,
    /// Log lines about rejected adverts, by reason.
    rejected: HashMap<&'static str, Quiet>,
    other_master: Quiet,
    mismatch: Quiet,
    learned: Quiet,
    late: Quiet,
    unsent: Quiet,
}

/// An advert interval more, so that a peer with a higher priority that starts with this one and needs longer for it is
/// heard first. With a `preempt_delay` it would have to wait for that otherwise.
fn start_grace(advert_interval: Duration) -> Duration {
    advert_interval.clamp(START_GRACE.0, START_GRACE.1)
}

/// What [`Router::carry_out`] needs besides the router.
pub(crate) struct Tools<'a> {
    pub(crate) host: &'a mut Host,
    pub(crate) notifier: &'a Notifier,
    pub(crate) now: Duration,
}

impl Router {
    pub(crate) fn new(config: RouterConfig) -> Self {
        let unspecified: IpAddr = if config.is_ipv6() {
            std::net::Ipv6Addr::UNSPECIFIED.into()
        } else {
            Ipv4Addr::UNSPECIFIED.into()
        };
        let mut core = config.core.clone();
        if core.initial_state == InitialState::Backup {
            core.start_grace = start_grace(core.advert_interval);
        }
        Self {
            core: Instance::new(core, unspecified),
            config,
            faults: OwnFaults::default(),
            packet_errors: PacketErrors::default(),
            leaving: false,
            stopped: false,
            weighed: None,
            history: History::default(),
            socket: None,
            vmac: None,
            held: Vec::new(),
            frames: VecDeque::new(),
            next_frame_at: None,
            lease_at: None,
            watch: None,
            probe_at: None,
            address_conflicts: 0,
            conflict: Quiet::default(),
            rejected: HashMap::new(),
            other_master: Quiet::default(),
            mismatch: Quiet::default(),
            learned: Quiet::default(),
            late: Quiet::default(),
            unsent: Quiet::default(),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.config.core.name
    }

    pub(crate) fn socket(&self) -> Option<&VrrpSocket> {
        self.socket.as_ref()
    }

    /// Whether something is there to read.
    pub(crate) fn poll_readable(&self, context: &mut Context<'_>) -> bool {
        let adverts = self.socket.as_ref().is_some_and(|socket| socket.poll_readable(context).is_ready());
        let arp = self.watch.as_ref().is_some_and(|watch| watch.poll_readable(context).is_ready());
        adverts || arp
    }

    /// Starts to listen for other hosts with our IPv4 addresses.
    fn watch_conflicts(&mut self, tools: &mut Tools<'_>) {
        let Some(link) = tools.host.link(self.main_device()).cloned() else { return };
        let addresses = self.ipv4_addresses();
        if addresses.is_empty() || link.mac == [0; 6] || self.watch.is_some() {
            return;
        }
        match ArpWatch::open(link.index) {
            Ok(watch) => {
                self.watch = Some(watch);
                self.probe_at = Some(tools.now + PROBE_DELAY);
            }
            Err(error) => {
                tracing::debug!(instance = self.name(), %error, "cannot watch for address conflicts");
            }
        }
    }

    /// Asks once who else has our addresses.
    fn probe(&mut self, tools: &mut Tools<'_>) {
        self.probe_at = None;
        let Some(link) = tools.host.link(self.main_device()).cloned() else { return };
        for address in self.ipv4_addresses() {
            if let Err(error) = tools.host.send_frame(link.index, &arp_watch::probe(address, link.mac)) {
                tracing::debug!(instance = self.name(), %error, "cannot probe");
            }
        }
    }

    fn ipv4_addresses(&self) -> Vec<Ipv4Addr> {
        let on_interface = |vip: &&VirtualAddress| self.device(vip) == self.main_device();
        let vips = self.config.addresses.iter().filter(on_interface);
        vips.filter_map(|vip| if let IpAddr::V4(address) = vip.address { Some(address) } else { None })
            .collect()
    }

    /// Reads ARP; another host that names one of our addresses is an alarm.
    pub(crate) fn look_for_conflicts(&mut self, host: &Host, now: Duration) {
        let (Some(watch), Some(link)) = (&self.watch, host.link(self.main_device())) else { return };
        let found = watch.conflicts(&self.ipv4_addresses(), link.mac);
        if self.core.state() != State::Master || self.probe_at.is_some() {
            return;
        }
        for found in found {
            self.address_conflicts += 1;
            if let Some(held_back) = self.conflict.pass(now, LOG_PAUSE) {
                let (address, mac) = (found.address, pnet::util::MacAddr::from(found.mac));
                tracing::warn!(
                    instance = self.name(), %address, %mac, held_back,
                    "another host uses the virtual address too; is an agent dead there, or deaf?"
                );
            }
        }
    }

    pub(crate) fn held(&self) -> &[Held] {
        &self.held
    }

    /// Interface an address of this router goes to.
    pub(crate) fn device<'a>(&'a self, vip: &'a VirtualAddress) -> &'a str {
        vip.dev.as_deref().unwrap_or_else(|| self.main_device())
    }

    fn main_device(&self) -> &str {
        self.vmac.as_ref().map_or(&self.config.interface, |vmac| &vmac.name)
    }

    /// Makes the interface of the virtual MAC address, when one is wanted.
    pub(crate) async fn prepare(&mut self, host: &mut Host) -> Result<(), NetlinkError> {
        if let (Some(name), None) = (&self.config.vmac, &self.vmac) {
            let base = &self.config.interface;
            let mac = vmac::mac(self.config.core.virtual_router_id, self.config.is_ipv6());
            self.vmac = Some(Vmac::make(host, base, name, mac).await?);
        }
        Ok(())
    }

    /// Compares socket, source address and link state with the host, and opens what is missing.
    ///
    /// # Errors
    ///
    /// The socket cannot be opened.
    pub(crate) fn attach(&mut self, host: &Host) -> std::io::Result<()> {
        let config = &self.config;
        let virtual_addresses: Vec<IpAddr> = config.addresses.iter().map(|vip| vip.address).collect();
        let link = host.link(&config.interface);
        let source =
            config.source.or_else(|| host.source(&config.interface, config.is_ipv6(), &virtual_addresses));
        self.faults.link = !config.ignore_link && link.is_none_or(|link| !link.up);
        self.faults.source = source.is_none();
        let (Some(link), Some(source)) = (link, source) else {
            return Ok(());
        };
        let endpoint = Endpoint {
            interface: config.interface.clone(),
            index: link.index,
            source,
            peers: config.core.unicast_peers.clone(),
            group: match source {
                IpAddr::V4(_) => host.global.multicast_v4.into(),
                IpAddr::V6(_) => host.global.multicast_v6.into(),
            },
            hmac_key: config.hmac_key.clone(),
            // Peers are reached through the interface that has an address to be answered at.
            transmit: self
                .vmac
                .as_ref()
                .filter(|_| config.core.unicast_peers.is_empty())
                .map(|vmac| vmac.name.clone()),
        };
        if self.socket.as_ref().is_none_or(|socket| *socket.endpoint() != endpoint) {
            self.core.set_local(source);
            let mut socket = VrrpSocket::open(endpoint)?;
            if let Some(before) = self.socket.take() {
                socket.remember_times_of(before);
            }
            self.socket = Some(socket);
        }
        Ok(())
    }

    /// Reads what has arrived, at most a batch; answers whether more may wait.
    pub(crate) fn receive(&mut self, now: Duration, out: &mut Vec<Effect>) -> bool {
        for _ in 0..MAX_BATCH {
            let Some(socket) = self.socket.as_mut() else { return false };
            let Some(incoming) = socket.receive() else { return false };
            if incoming.vrid == Some(self.config.core.virtual_router_id) {
                self.take(now, &incoming, out);
            }
        }
        true
    }

    fn take(&mut self, now: Duration, incoming: &Incoming, out: &mut Vec<Effect>) {
        let (kind, reason) = match &incoming.advert {
            Ok(_) if incoming.authentic.is_err() && incoming.source != self.core.local() => {
                self.packet_errors.hmac += 1;
                ("hmac", incoming.authentic.err().map(|error| error.to_string()).unwrap_or_default())
            }
            Ok(advert) => {
                let received = Received { source: incoming.source, hop_limit: incoming.hop_limit, advert };
                match self.core.receive(now, &received, out) {
                    Ok(()) | Err(vrrp::Rejected::Own) => return,
                    Err(rejected) => (rejected.kind(), rejected.to_string()),
                }
            }
            Err(error) => {
                match error {
                    vrrp::DecodeError::TooShort { .. } => self.packet_errors.length += 1,
                    vrrp::DecodeError::Checksum => self.packet_errors.checksum += 1,
                    _ => self.packet_errors.kind += 1,
                }
                ("packet", error.to_string())
            }
        };
        // Each reason by itself: a flood of one must not hide another.
        if let Some(held_back) = self.rejected.entry(kind).or_default().pass(now, LOG_PAUSE) {
            tracing::warn!(instance = self.name(), source = %incoming.source, reason, held_back, "advert rejected");
        }
    }

    /// Everything that moves priority and state, given what scripts and other links say.
    pub(crate) fn tracking(&self, tracked: Tracking) -> Tracking {
        let OwnFaults { link, source, group } = self.faults;
        let own = u32::from(link) + u32::from(source) + u32::from(group);
        Tracking { faults: tracked.faults + own, ..tracked }
    }

    /// When this router next wants to be looked at.
    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        [self.core.next_deadline(), self.next_frame_at, self.lease_at, self.probe_at]
            .into_iter()
            .flatten()
            .min()
    }

    /// Renews leases and sends queued announcements that are due.
    pub(crate) async fn housekeeping(&mut self, tools: &mut Tools<'_>) {
        if self.probe_at.is_some_and(|at| at <= tools.now) {
            self.probe(tools);
        }
        if self.lease_at.is_some_and(|at| at <= tools.now) {
            self.renew_leases(tools).await;
        }
        while self.next_frame_at.is_some_and(|at| at <= tools.now) {
            self.send_next_frame(tools);
        }
    }

    /// Carries out effects in their order.
    pub(crate) async fn carry_out(&mut self, effects: Vec<Effect>, tools: &mut Tools<'_>) {
        for effect in effects {
            match effect {
                Effect::SendAdvert { priority } => self.send_advert(priority, tools.now),
                Effect::AddAddresses => self.add_addresses(tools).await,
                Effect::RemoveAddresses => self.remove_addresses(tools).await,
                Effect::Announce { repeat } => self.announce(repeat, tools),
                Effect::Transition { from, to, reason } => {
                    let (from, to) = (from.word(), to.word());
                    tracing::info!(instance = self.name(), from, to, %reason, "transition");
                    self.history.push(Move { at: tools.now, from, to, reason: reason.to_string() });
                }
                Effect::Notify(state, priority) => self.notify(state, priority, tools),
                Effect::Priority { from, to } => {
                    tracing::info!(instance = self.name(), from, to, "effective priority");
                }
                Effect::WantsMaster => {}
                Effect::Alarm(alarm) => self.alarm(alarm, tools.now),
                Effect::Stopped => {
                    if let Some(vmac) = self.vmac.take() {
                        vmac.remove(&tools.host.netlink).await;
                    }
                    self.stopped = true;
                }
            }
        }
    }

    /// Takes a reloaded configuration with the same key.
    pub(crate) async fn reload(&mut self, config: RouterConfig, tools: &mut Tools<'_>) {
        let before = std::mem::replace(&mut self.config, config);
        let mut effects = Vec::new();
        self.core.reload(tools.now, self.config.core.clone(), &mut effects);
        // The group of the adverts is in no instance: the socket is looked at even if this one stays as it was.
        if let Err(error) = self.attach(tools.host) {
            tracing::error!(instance = self.name(), %error, "cannot reopen the socket");
        }
        if before == self.config {
            return;
        }
        if self.core.state().holds_addresses() {
            let gone: Vec<Held> =
                self.held.iter().filter(|held| !self.config.addresses.contains(&held.vip)).cloned().collect();
            for held in gone {
                self.drop_held(&held, tools).await;
            }
            let stays = |route: &VirtualRoute| self.config.routes.contains(route);
            let gone: Vec<VirtualRoute> = before.routes.into_iter().filter(|route| !stays(route)).collect();
            self.remove_routes(&gone, tools).await;
            let stays = |rule: &VirtualRule| self.config.rules.contains(rule);
            let gone: Vec<VirtualRule> = before.rules.into_iter().filter(|rule| !stays(rule)).collect();
            self.remove_rules(&gone, tools).await;
            self.add_addresses(tools).await;
        }
        self.carry_out(effects, tools).await;
    }

    fn send_advert(&mut self, priority: u8, now: Duration) {
        let advert = self.config.core.advert(priority);
        let mode = self.config.core.checksum;
        let Some(socket) = self.socket.as_mut() else { return };
        if let Err(error) = socket.send(&advert, mode)
            && let Some(held_back) = self.unsent.pass(now, LOG_PAUSE)
        {
            tracing::warn!(instance = self.name(), %error, held_back, "cannot send an advert");
        }
    }

    /// Queues `repeat` rounds of announcements and sends them, spread out when `garp_interval` says so.
    fn announce(&mut self, repeat: u32, tools: &mut Tools<'_>) {
        let mut round = Vec::new();
        for held in &self.held {
            if let Some(link) = tools.host.links.iter().find(|link| link.index == held.index) {
                round.push((held.index, announce::frame(held.vip.address, link.mac)));
            }
        }
        for _ in 0..repeat {
            self.frames.extend(round.iter().cloned());
        }
        self.next_frame_at = Some(tools.now);
        while self.next_frame_at.is_some_and(|at| at <= tools.now) {
            self.send_next_frame(tools);
        }
    }

    fn send_next_frame(&mut self, tools: &mut Tools<'_>) {
        let interval = tools.host.global.garp_interval;
        match self.frames.pop_front() {
            Some((index, frame)) => {
                if let Err(error) = tools.host.send_frame(index, &frame) {
                    tracing::debug!(instance = self.name(), %error, "cannot announce");
                }
                self.next_frame_at = Some(tools.now + interval);
            }
            None => self.next_frame_at = None,
        }
    }

    fn notify(&self, state: NotifyState, priority: u8, tools: &Tools<'_>) {
        tools.notifier.tell(Notification {
            is_group: false,
            name: self.name().to_owned(),
            state,
            priority,
            config: self.config.notify.clone(),
            user: tools.host.global.script_user,
        });
    }

    fn alarm(&mut self, alarm: Alarm, now: Duration) {
        let name = self.config.core.name.clone();
        match alarm {
            Alarm::LateTimer { late } => {
                if let Some(held_back) = self.late.pass(now, LOG_PAUSE) {
                    let late_ms = late.as_millis() as u64;
                    tracing::warn!(instance = %name, late_ms, held_back, "a timer was late; is this machine overloaded?");
                }
            }
            Alarm::OtherMaster { source, priority } => {
                if let Some(held_back) = self.other_master.pass(now, LOG_PAUSE) {
                    tracing::warn!(instance = %name, %source, priority, held_back, "another master on the network; this one wins");
                }
            }
            Alarm::AddressMismatch { source } => {
                let ours = self.config.core.addresses.len();
                // Two senders with different lists, or one who forges, would have it told with every advert.
                if let Some(held_back) = self.mismatch.pass(now, LOG_PAUSE) {
                    tracing::warn!(instance = %name, %source, ours, held_back, "the master names other virtual addresses than this configuration");
                }
            }
            Alarm::IntervalLearned { interval } => {
                let interval_ms = interval.as_millis() as u64;
                if let Some(held_back) = self.learned.pass(now, LOG_PAUSE) {
                    tracing::warn!(instance = %name, interval_ms, held_back, "the master's advert interval is used, it differs from advert_int");
                }
            }
            Alarm::TwoMasters { first, second } => {
                tracing::warn!(instance = %name, %first, %second, "two other hosts are both master; can they hear each other?");
            }
            Alarm::TwoOwners { source } => {
                tracing::error!(instance = %name, %source, "two routers have priority 255; give one of them less");
            }
        }
    }

    /// Whether the core is in play.
    pub(crate) fn is_running(&self) -> bool {
        !self.stopped && self.core.state() != State::Init
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_waits_for_a_peer_that_starts_with_it_and_not_for_long() {
        let millis = |interval| start_grace(Duration::from_millis(interval)).as_millis();
        assert_eq!([10, 100, 500, 1000, 40_000].map(millis), [200, 200, 500, 1000, 1000]);
    }
}
