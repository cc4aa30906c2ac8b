//! A virtual MAC address: a macvlan interface on top of the real one (RFC 9568 section 7.3).
//!
//! The virtual addresses sit on it and adverts leave through it, so neighbours keep their entries when
//! the address moves. A few settings keep the two interfaces from speaking for each other.

use std::net::IpAddr;
use std::path::PathBuf;

use super::netlink::{Netlink, NetlinkError};
use crate::host::Host;

/// The interface of one virtual router, and the settings to put back.
#[derive(Debug)]
pub(crate) struct Vmac {
    pub(crate) name: String,
    index: u32,
    before: Vec<(PathBuf, String)>,
}

/// The virtual MAC of a virtual router (RFC 9568 section 7.3).
pub(crate) const fn mac(virtual_router_id: u8, six: bool) -> [u8; 6] {
    [0x00, 0x00, 0x5e, 0x00, if six { 0x02 } else { 0x01 }, virtual_router_id]
}

impl Vmac {
    /// Makes the interface `name` on top of `base`, or takes over the one an earlier run left behind.
    pub(crate) async fn make(
        host: &mut Host,
        base: &str,
        name: &str,
        mac: [u8; 6],
    ) -> Result<Self, NetlinkError> {
        let missing = |what: &str| NetlinkError::Lost(format!("there is no interface {what}"));
        let base_index = host.link(base).ok_or_else(|| missing(base))?.index;
        if host.link(name).is_none() {
            host.netlink.add_macvlan(name, base_index, mac).await?;
            // No link-local address of its own: it would be the same on every host. Set before it comes up.
            quietly_set(&format!("/proc/sys/net/ipv6/conf/{name}/addr_gen_mode"), "1");
            quietly_set(&format!("/proc/sys/net/ipv6/conf/{name}/accept_ra"), "0");
            host.links = host.netlink.links().await?;
            let index = host.link(name).ok_or_else(|| missing(name))?.index;
            host.netlink.bring_up(index).await?;
            host.links = host.netlink.links().await?;
        }
        let link = host.link(name).ok_or_else(|| missing(name))?;
        if link.mac != mac {
            return Err(NetlinkError::Lost(format!("{name} exists and is something else")));
        }
        let mut vmac = Self { name: name.to_owned(), index: link.index, before: Vec::new() };
        if mac == self::mac(mac[5], false) {
            vmac.set(base, "arp_ignore", "1");
            // Or the kernel would ask for neighbours in the name of the virtual address with the real MAC.
            vmac.set(base, "arp_announce", "2");
            vmac.set(name, "arp_ignore", "1");
            vmac.set(name, "rp_filter", "0");
        }
        Ok(vmac)
    }

    fn set(&mut self, interface: &str, key: &str, value: &str) {
        let path = PathBuf::from(format!("/proc/sys/net/ipv4/conf/{interface}/{key}"));
        let before = std::fs::read_to_string(&path).unwrap_or_default();
        if before.trim() == value {
            return;
        }
        match std::fs::write(&path, value) {
            Ok(()) => self.before.push((path, before)),
            Err(error) => {
                tracing::warn!(interface, key, %error, "cannot set; neighbours may learn the wrong MAC");
            }
        }
    }

    /// Takes the interface away and puts the settings back.
    pub(crate) async fn remove(self, netlink: &Netlink) {
        if let Err(error) = netlink.delete_link(self.index).await {
            tracing::warn!(interface = self.name, %error, "cannot remove the interface");
        }
        for (path, value) in self.before.iter().rev() {
            // Those of the interface itself went with it.
            let _ = std::fs::write(path, value);
        }
    }
}

/// A setting of an interface that is ours alone. Where there is no IPv6 there is nothing to set.
fn quietly_set(path: &str, value: &str) {
    let _ = std::fs::write(path, value);
}

/// The name keepalived gives such an interface.
pub(crate) fn default_name(router: u8, first: Option<&IpAddr>) -> String {
    let six = first.is_some_and(IpAddr::is_ipv6);
    format!("vrrp{}.{router}", if six { "6" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_macs_are_the_standards() {
        assert_eq!(mac(66, false), [0, 0, 0x5e, 0, 1, 0x42]);
        assert_eq!(mac(66, true), [0, 0, 0x5e, 0, 2, 0x42]);
        assert_eq!(default_name(66, Some(&[10, 0, 0, 1].into())), "vrrp.66");
    }
}
