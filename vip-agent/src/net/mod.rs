//! Sockets of the agent: netlink, VRRP, and link-layer announcements.

pub(crate) mod announce;
pub(crate) mod arp_watch;
pub(crate) mod netlink;
pub(crate) mod packet_socket;
pub(crate) mod routes;
pub(crate) mod rules;
pub(crate) mod vmac;
pub(crate) mod vrrp_socket;
