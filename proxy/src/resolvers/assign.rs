//! Which server of a section gets which address of a name; pure.
//!
//! A server keeps its address while the name has it. One without gets the first that no other server of
//! the section has, of the family it prefers; with `allow-dup-ip` the first at all.

use std::net::IpAddr;

use crate::config::rules::Network;
use crate::config::server::AddressFamily;

/// A server that wants an address.
#[derive(Debug, Clone)]
pub struct Wish {
    /// The address it has.
    pub current: Option<IpAddr>,
    /// The family taken first.
    pub prefer: AddressFamily,
    /// Networks whose addresses are taken first (`resolve-net`).
    pub nets: Vec<Network>,
    /// Others may have the same one.
    pub allow_dup: bool,
}

/// Gives each server an address, or none.
#[must_use]
pub fn assign(wishes: &[Wish], addresses: &[IpAddr]) -> Vec<Option<IpAddr>> {
    let mut given: Vec<Option<IpAddr>> = Vec::with_capacity(wishes.len());
    let mut taken: Vec<IpAddr> = Vec::new();
    for wish in wishes {
        let kept = wish
            .current
            .filter(|current| addresses.contains(current) && (wish.allow_dup || !taken.contains(current)));
        taken.extend(kept);
        given.push(kept);
    }
    for (place, wish) in given.iter_mut().zip(wishes).filter(|(place, _)| place.is_none()) {
        let free = |ip: &&IpAddr| wish.allow_dup || !taken.contains(ip);
        let found = addresses.iter().filter(free).min_by_key(|ip| rank(wish, **ip)).copied();
        taken.extend(found);
        *place = found;
    }
    given
}

/// Smaller is better: in a preferred network, then of the preferred family.
fn rank(wish: &Wish, ip: IpAddr) -> (bool, bool) {
    let near = wish.nets.iter().any(|net| net.contains(ip));
    let family = ip.is_ipv6() == (wish.prefer == AddressFamily::Ipv6);
    (!near, !family)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn wish(current: Option<&str>) -> Wish {
        Wish { current: current.map(ip), prefer: AddressFamily::Ipv6, nets: Vec::new(), allow_dup: false }
    }

    #[test]
    fn servers_keep_what_they_have_and_share_the_rest() {
        let addresses = [ip("10.0.0.1"), ip("10.0.0.2"), ip("10.0.0.3")];
        let wishes = [wish(None), wish(Some("10.0.0.1")), wish(Some("10.0.0.9")), wish(None)];
        let given = assign(&wishes, &addresses);
        assert_eq!(given, [Some(ip("10.0.0.2")), Some(ip("10.0.0.1")), Some(ip("10.0.0.3")), None]);
    }

    #[test]
    fn two_servers_share_an_address_only_when_allowed() {
        let addresses = [ip("10.0.0.1")];
        let both = [wish(Some("10.0.0.1")), wish(Some("10.0.0.1"))];
        assert_eq!(assign(&both, &addresses), [Some(ip("10.0.0.1")), None]);
        let allowed = both.map(|wish| Wish { allow_dup: true, ..wish });
        assert_eq!(assign(&allowed, &addresses), [Some(ip("10.0.0.1")); 2]);
    }

    #[test]
    fn networks_and_families_are_preferred_in_this_order() {
        let addresses = [ip("10.0.0.1"), ip("10.1.0.1"), ip("2001:db8::1")];
        assert_eq!(assign(&[wish(None)], &addresses), [Some(ip("2001:db8::1"))]);
        let four = Wish { prefer: AddressFamily::Ipv4, ..wish(None) };
        assert_eq!(assign(std::slice::from_ref(&four), &addresses), [Some(ip("10.0.0.1"))]);
        let near = Wish { nets: vec![Network::parse("10.1.0.0/16").unwrap()], ..wish(None) };
        assert_eq!(assign(&[near], &addresses), [Some(ip("10.1.0.1"))]);
    }
}
