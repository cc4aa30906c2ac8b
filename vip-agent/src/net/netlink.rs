//! Addresses and links through rtnetlink.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use futures_util::{Stream, TryStreamExt};
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressScope, CacheInfo,
};
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage, MacVlanMode};
use rtnetlink::packet_route::route::RouteMessage;
use rtnetlink::packet_route::rule::RuleMessage;
use rtnetlink::{Handle, LinkMacVlan, LinkUnspec, MulticastGroup};

use crate::config::VirtualAddress;

/// The kernel answers within this time or not at all.
const PATIENCE: Duration = Duration::from_secs(2);

/// One network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    /// Ethernet address; zero when it has none.
    pub(crate) mac: [u8; 6],
    /// Administratively up and with carrier.
    pub(crate) up: bool,
    pub(crate) addresses: Vec<LinkAddress>,
}

/// An address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LinkAddress {
    pub(crate) address: IpAddr,
    pub(crate) prefix: u8,
    /// Not the first address of its network.
    pub(crate) secondary: bool,
    /// IPv6 duplicate detection is not over; the address cannot be used yet.
    pub(crate) tentative: bool,
}

/// What the kernel reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Link { index: u32, name: String, mac: [u8; 6], up: bool },
    LinkGone { index: u32 },
    AddressAdded { index: u32, address: LinkAddress },
    AddressGone { index: u32, address: LinkAddress },
}

/// A request the kernel refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NetlinkError {
    #[error("{0}")]
    Refused(io::Error),
    #[error("the kernel did not answer: {0}")]
    Lost(String),
}

/// The socket for requests.
#[derive(Clone, Debug)]
pub(crate) struct Netlink {
    handle: Handle,
}

impl Netlink {
    /// Opens the socket and starts to listen for changes. Needs a running runtime.
    pub(crate) fn open() -> io::Result<(Self, impl Stream<Item = Event> + Unpin)> {
        use futures_util::StreamExt;
        let groups = [MulticastGroup::Link, MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv6Ifaddr];
        let (connection, handle, messages) = rtnetlink::new_multicast_connection(&groups)?;
        tokio::spawn(connection);
        let events = messages.filter_map(|(message, _)| std::future::ready(event(message)));
        Ok((Self { handle }, events))
    }

    /// Every interface with its addresses.
    pub(crate) async fn links(&self) -> Result<Vec<Link>, NetlinkError> {
        let mut links: Vec<Link> = within(async {
            self.handle.link().get().execute().map_ok(|message| link(&message)).try_collect().await
        })
        .await?;
        let addresses: Vec<AddressMessage> =
            within(async { self.handle.address().get().execute().try_collect().await }).await?;
        for message in addresses {
            if let (Some(found), Some(link)) =
                (address(&message), links.iter_mut().find(|link| link.index == message.header.index))
            {
                link.addresses.push(found);
            }
        }
        Ok(links)
    }

    /// Makes a macvlan interface on top of another.
    pub(crate) async fn add_macvlan(&self, name: &str, base: u32, mac: [u8; 6]) -> Result<(), NetlinkError> {
        let message = LinkMacVlan::new(name, base, MacVlanMode::Private).address(mac.to_vec()).build();
        within(self.handle.link().add(message).execute()).await
    }

    /// Brings an interface up.
    pub(crate) async fn bring_up(&self, index: u32) -> Result<(), NetlinkError> {
        let message = LinkUnspec::new_with_index(index).up().build();
        within(self.handle.link().set(message).execute()).await
    }

    /// Removes an interface.
    pub(crate) async fn delete_link(&self, index: u32) -> Result<(), NetlinkError> {
        within(self.handle.link().del(index).execute()).await
    }

    /// Puts `vip` on interface `index`, or renews its lifetime when it is there already. `lease` is the
    /// kernel lifetime; `None` = for ever.
    pub(crate) async fn put_address(
        &self,
        index: u32,
        vip: &VirtualAddress,
        lease: Option<Duration>,
        prefix_route: bool,
    ) -> Result<(), NetlinkError> {
        let mut request = self.handle.address().add(index, vip.address, vip.prefix).replace();
        let message = request.message_mut();
        message.header.scope = AddressScope::from(vip.scope);
        // rtnetlink works out a broadcast address; keepalived sets one only when told.
        message.attributes.retain(|attribute| !matches!(attribute, AddressAttribute::Broadcast(_)));
        if let Some(broadcast) = vip.broadcast {
            message.attributes.push(AddressAttribute::Broadcast(broadcast));
        }
        if let Some(label) = &vip.label {
            message.attributes.push(AddressAttribute::Label(label.clone()));
        }
        let mut flags = AddressFlags::empty();
        if vip.address.is_ipv6() {
            // Duplicate detection would keep the address unusable for a second.
            message.header.flags |= AddressHeaderFlags::Nodad;
            flags |= AddressFlags::Nodad;
        }
        if !prefix_route {
            flags |= AddressFlags::Noprefixroute;
        }
        if !flags.is_empty() {
            message.attributes.push(AddressAttribute::Flags(flags));
        }
        if let Some(lease) = lease {
            let mut lifetime = CacheInfo::default();
            lifetime.ifa_valid = u32::try_from(lease.as_secs()).unwrap_or(u32::MAX - 1).max(1);
            lifetime.ifa_preferred = lifetime.ifa_valid;
            message.attributes.push(AddressAttribute::CacheInfo(lifetime));
        }
        within(request.execute()).await
    }

    /// Takes an address away; one that is not there is fine. Answers whether it was there.
    pub(crate) async fn drop_address(
        &self,
        index: u32,
        address: IpAddr,
        prefix: u8,
    ) -> Result<bool, NetlinkError> {
        let mut message = AddressMessage::default();
        message.header.index = index;
        message.header.prefix_len = prefix;
        message.header.family = match address {
            IpAddr::V4(_) => rtnetlink::packet_route::AddressFamily::Inet,
            IpAddr::V6(_) => rtnetlink::packet_route::AddressFamily::Inet6,
        };
        message.attributes.push(AddressAttribute::Local(address));
        message.attributes.push(AddressAttribute::Address(address));
        match within(self.handle.address().del(message).execute()).await {
            Ok(()) => Ok(true),
            Err(NetlinkError::Refused(error))
                if matches!(
                    error.raw_os_error(),
                    Some(nix::libc::EADDRNOTAVAIL | nix::libc::ENODEV | nix::libc::ENXIO)
                ) =>
            {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Adds a route, or takes the place of the one to the same destination with the same metric.
    pub(crate) async fn put_route(&self, route: RouteMessage) -> Result<(), NetlinkError> {
        within(self.handle.route().add(route).replace().execute()).await
    }

    /// Takes a route away; one that is not there is fine.
    pub(crate) async fn drop_route(&self, route: RouteMessage) -> Result<(), NetlinkError> {
        match within(self.handle.route().del(route).execute()).await {
            Err(NetlinkError::Refused(error)) if error.raw_os_error() == Some(nix::libc::ESRCH) => Ok(()),
            other => other,
        }
    }
}

/// Rules of policy routing.
impl Netlink {
    /// Adds a rule; one that is there already is fine.
    pub(crate) async fn put_rule(&self, rule: RuleMessage) -> Result<(), NetlinkError> {
        let mut request = self.handle.rule().add();
        *request.message_mut() = rule;
        match within(request.execute()).await {
            Err(NetlinkError::Refused(error)) if error.raw_os_error() == Some(nix::libc::EEXIST) => Ok(()),
            other => other,
        }
    }

    /// Takes a rule away. Answers whether it was there.
    pub(crate) async fn drop_rule(&self, rule: RuleMessage) -> Result<bool, NetlinkError> {
        match within(self.handle.rule().del(rule).execute()).await {
            Ok(()) => Ok(true),
            Err(NetlinkError::Refused(error)) if error.raw_os_error() == Some(nix::libc::ENOENT) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

async fn within<T>(request: impl Future<Output = Result<T, rtnetlink::Error>>) -> Result<T, NetlinkError> {
    match tokio::time::timeout(PATIENCE, request).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(rtnetlink::Error::NetlinkError(message))) => Err(NetlinkError::Refused(message.to_io())),
        Ok(Err(error)) => Err(NetlinkError::Lost(error.to_string())),
        Err(_) => Err(NetlinkError::Lost("time is over".to_owned())),
    }
}

fn event(message: NetlinkMessage<RouteNetlinkMessage>) -> Option<Event> {
    let NetlinkPayload::InnerMessage(message) = message.payload else { return None };
    match message {
        RouteNetlinkMessage::NewLink(message) => {
            let Link { index, name, mac, up, .. } = link(&message);
            Some(Event::Link { index, name, mac, up })
        }
        RouteNetlinkMessage::DelLink(message) => Some(Event::LinkGone { index: message.header.index }),
        RouteNetlinkMessage::NewAddress(message) => {
            Some(Event::AddressAdded { index: message.header.index, address: address(&message)? })
        }
        RouteNetlinkMessage::DelAddress(message) => {
            Some(Event::AddressGone { index: message.header.index, address: address(&message)? })
        }
        _ => None,
    }
}

fn link(message: &LinkMessage) -> Link {
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        mac: [0; 6],
        up: message.header.flags.contains(LinkFlags::Up | LinkFlags::Running),
        addresses: Vec::new(),
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Address(bytes) => {
                if let Ok(mac) = bytes.as_slice().try_into() {
                    link.mac = mac;
                }
            }
            _ => {}
        }
    }
    link
}

fn address(message: &AddressMessage) -> Option<LinkAddress> {
    let mut found = None;
    for attribute in &message.attributes {
        match attribute {
            // On a point-to-point link the local address is another attribute than the address.
            AddressAttribute::Local(address) => found = Some(*address),
            AddressAttribute::Address(address) if found.is_none() => found = Some(*address),
            _ => {}
        }
    }
    Some(LinkAddress {
        address: found?,
        prefix: message.header.prefix_len,
        secondary: message.header.flags.contains(AddressHeaderFlags::Secondary),
        tentative: message.header.flags.contains(AddressHeaderFlags::Tentative),
    })
}
