//! The kernel's own balancer (IPVS), for what rules of nftables cannot do: schedulers that count connections.
//!
//! `message` writes generic netlink, this file tells what has to change from one picture to the next. A kernel
//! without IPVS refuses the family, and [`available`] says so.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::rules::Plan;
use crate::config::virtual_server::{Listen, Method, Persistence, Protocol};

mod message;
mod socket;

pub(crate) use self::socket::{Kernel, available};

/// A range of addresses becomes one service each; more than this is refused.
const MAX_RANGE: u128 = 256;

/// What makes a service: two with the same key cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    Address { address: IpAddr, port: u16, protocol: u16 },
    Mark { mark: u32, six: bool },
}

/// How a service works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    scheduler: &'static str,
    persistence: Option<Persistence>,
    method: Method,
    /// Weight of each real server.
    servers: BTreeMap<(IpAddr, u16), u32>,
}

/// Everything this process has, or wants, in the kernel.
pub(crate) type Picture = BTreeMap<Key, Entry>;

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step<'a> {
    /// A left-over one of the same key is replaced.
    NewService(Key, &'a Entry),
    SetService(Key, &'a Entry),
    DelService(Key),
    NewServer(Key, (IpAddr, u16), &'a Entry),
    SetServer(Key, (IpAddr, u16), &'a Entry),
    DelServer(Key, (IpAddr, u16)),
}

/// The picture of the services that need IPVS.
pub(crate) fn picture(plans: &[Plan<'_>]) -> Picture {
    let mut picture = Picture::new();
    for plan in plans {
        let config = plan.config;
        let Some(scheduler) = config.algorithm.kernel() else { continue };
        let protocol = match config.protocol {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        };
        let entry = Entry {
            scheduler,
            persistence: config.persistence,
            method: config.method,
            servers: plan.shares.iter().map(|share| ((share.address, share.port), share.weight)).collect(),
        };
        for listen in &config.listen {
            match *listen {
                Listen::Mark(mark) => {
                    picture.insert(Key::Mark { mark, six: config.is_ipv6() }, entry.clone());
                }
                Listen::Address { first, last, port } => {
                    for address in each(first, last) {
                        picture.insert(Key::Address { address, port, protocol }, entry.clone());
                    }
                }
            }
        }
    }
    picture
}

/// The addresses from `first` to `last`.
fn each(first: IpAddr, last: IpAddr) -> Vec<IpAddr> {
    match (first, last) {
        (IpAddr::V4(first), IpAddr::V4(last)) => {
            let range = u32::from(first)..=u32::from(last);
            range.take(MAX_RANGE as usize).map(|address| IpAddr::V4(address.into())).collect()
        }
        (IpAddr::V6(first), IpAddr::V6(last)) => {
            let range = u128::from(first)..=u128::from(last);
            range.take(MAX_RANGE as usize).map(|address| IpAddr::V6(address.into())).collect()
        }
        _ => Vec::new(),
    }
}

/// What leads from one picture to the next. Services and servers that stay are not touched, so that their
/// connections go on.
pub(crate) fn steps<'a>(before: &Picture, after: &'a Picture) -> Vec<Step<'a>> {
    let mut steps = Vec::new();
    for key in before.keys().filter(|key| !after.contains_key(key)) {
        steps.push(Step::DelService(*key));
    }
    for (key, entry) in after {
        let known = before.get(key);
        match known {
            None => steps.push(Step::NewService(*key, entry)),
            Some(old) if (old.scheduler, old.persistence) != (entry.scheduler, entry.persistence) => {
                steps.push(Step::SetService(*key, entry));
            }
            Some(_) => {}
        }
        for (server, weight) in &entry.servers {
            match known.and_then(|known| known.servers.get(server).map(|weight| (*weight, known.method))) {
                None => steps.push(Step::NewServer(*key, *server, entry)),
                Some(old) if old != (*weight, entry.method) => {
                    steps.push(Step::SetServer(*key, *server, entry));
                }
                Some(_) => {}
            }
        }
        for server in known.into_iter().flat_map(|known| known.servers.keys()) {
            if !entry.servers.contains_key(server) {
                steps.push(Step::DelServer(*key, *server));
            }
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(scheduler: &'static str, servers: &[(u8, u32)]) -> Entry {
        let servers = servers.iter().map(|(octet, weight)| ((IpAddr::from([10, 0, 0, *octet]), 80), *weight));
        Entry { scheduler, persistence: None, method: Method::Nat, servers: servers.collect() }
    }

    fn key(octet: u8) -> Key {
        Key::Address { address: [10, 0, 0, octet].into(), port: 80, protocol: 6 }
    }

    #[test]
    fn only_what_changes_is_told() {
        let server = |octet: u8| (IpAddr::from([10, 0, 0, octet]), 80);
        let first = Picture::from([(key(1), entry("wlc", &[(11, 1), (12, 1)])), (key(2), entry("lc", &[]))]);
        let steps_of = |before: &Picture, after: &Picture| format!("{:?}", steps(before, after));
        assert_eq!(
            steps(&Picture::new(), &first),
            [
                Step::NewService(key(1), &first[&key(1)]),
                Step::NewServer(key(1), server(11), &first[&key(1)]),
                Step::NewServer(key(1), server(12), &first[&key(1)]),
                Step::NewService(key(2), &first[&key(2)]),
            ]
        );
        assert_eq!(steps_of(&first, &first), "[]");
        let second = Picture::from([(key(1), entry("sed", &[(11, 0), (13, 1)]))]);
        assert_eq!(
            steps(&first, &second),
            [
                Step::DelService(key(2)),
                Step::SetService(key(1), &second[&key(1)]),
                Step::SetServer(key(1), server(11), &second[&key(1)]),
                Step::NewServer(key(1), server(13), &second[&key(1)]),
                Step::DelServer(key(1), server(12)),
            ]
        );
    }

    #[test]
    fn a_range_is_one_service_for_each_address() {
        let all = each([10, 0, 0, 250].into(), [10, 0, 1, 1].into());
        assert_eq!(all.len(), 8);
        assert_eq!(all[7], IpAddr::from([10, 0, 1, 1]));
        assert_eq!(each([0, 0, 0, 0].into(), [255, 255, 255, 255].into()).len(), 256);
    }
}
