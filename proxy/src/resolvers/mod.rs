//! Servers whose addresses come from name servers (`resolvers`, `server-template`).
//!
//! For every section and name one task asks again and again, keeps the last good answer as long as `hold`
//! says, and gives addresses to the servers. A name that begins with an underscore is a service: its SRV
//! records give hosts, ports and weights.

pub mod assign;
mod client;
pub mod counters;
pub mod hold;
pub mod message;

pub use self::client::nameservers;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use self::assign::{Wish, assign};
use self::hold::{Failure, Held};
use self::message::{Answer, Kind, Service};
use crate::backend::Backend;
use crate::check::{Cause, settle};
use crate::condition::Admin;
use crate::config::address::Host;
use crate::config::sections::{Nameserver, Resolvers};
use crate::config::server::AddressFamily;
use crate::server::Server;
use crate::syslog::level;

/// The body of the fuzz target: an answer of a name server.
#[doc(hidden)]
pub fn fuzz(bytes: &[u8]) {
    for kind in [Kind::A, Kind::Aaaa, Kind::Srv] {
        if let Some(Answer::Found(records)) = message::read(bytes, 1, "x.example", kind) {
            assert!(!records.addresses.is_empty() || !records.services.is_empty());
            assert_eq!(bytes[..2], [0, 1], "an answer to another question");
        }
    }
}

/// Follows one name for the servers of one section.
#[derive(Debug)]
pub(crate) struct Follower {
    backend: Arc<Backend>,
    servers: Vec<Arc<Server>>,
    name: String,
    section: Resolvers,
    nameservers: Vec<Nameserver>,
}

/// A host of a service with the address that was found for it.
#[derive(Debug, Clone, PartialEq)]
struct Instance {
    ip: IpAddr,
    port: u16,
    weight: u16,
}

/// One follower for each section and name that is looked up through a `resolvers` section.
pub(crate) fn followers(sections: &[Resolvers], backends: &[Arc<Backend>]) -> Vec<Follower> {
    let mut all = Vec::new();
    for backend in backends {
        let mut groups: HashMap<(String, String), Vec<Arc<Server>>> = HashMap::new();
        for server in backend.servers().iter() {
            let config = server.config();
            if let (Host::Name(name), Some(section)) = (&config.address.host, &config.options.resolvers) {
                groups.entry((section.clone(), name.clone())).or_default().push(server.clone());
            }
        }
        for ((section, name), servers) in groups {
            let Some(section) = sections.iter().find(|it| it.name == section).cloned() else {
                tracing::warn!(section, backend = %backend.name, "no such resolvers section");
                continue;
            };
            let nameservers = nameservers(&section);
            all.push(Follower { backend: backend.clone(), servers, name, section, nameservers });
        }
    }
    all
}

impl Follower {
    /// Follows until it is dropped.
    pub(crate) async fn run(self) {
        if self.name.starts_with('_') { self.follow_service().await } else { self.follow_name().await }
    }

    async fn follow_name(&self) {
        let mut held = Held::new(Instant::now());
        let prefer = self.servers.first().map_or(AddressFamily::Ipv6, |server| prefers(server));
        loop {
            let (answer, by) = self.addresses(&self.name, prefer).await;
            let now = Instant::now();
            match answer {
                Ok(addresses) => held.found(addresses, now, &self.section.hold),
                Err(failure) => held.failed(failure, now, &self.section.hold),
            }
            if let Some(addresses) = held.records() {
                let wishes: Vec<Wish> = self.servers.iter().map(|server| wish(server)).collect();
                for (server, ip) in self.servers.iter().zip(assign(&wishes, &addresses)) {
                    match ip {
                        Some(ip) => self.move_server(server, ip, None, &by),
                        None => self.lose(server, held.failure()),
                    }
                }
            }
            tokio::time::sleep(self.section.timeout_resolve).await;
        }
    }

    /// Addresses of a name: of the family that is preferred, or of the other when it has none.
    async fn addresses(&self, name: &str, prefer: AddressFamily) -> (Result<Vec<IpAddr>, Failure>, String) {
        let kinds = match prefer {
            AddressFamily::Ipv4 => [Kind::A, Kind::Aaaa],
            AddressFamily::Ipv6 => [Kind::Aaaa, Kind::A],
        };
        let mut worst = (Err(Failure::Other), String::new());
        for kind in kinds {
            let told = client::ask(&self.section, &self.nameservers, name, kind).await;
            let by = format!("{}/{}", self.section.name, told.by);
            match (hold::failure(&told.answer), told.answer) {
                (None, Answer::Found(records)) => return (Ok(records.addresses), by),
                (failure, _) => worst = (Err(failure.unwrap_or(Failure::Other)), by),
            }
            if matches!(worst.0, Err(Failure::Timeout)) {
                break;
            }
        }
        worst
    }

    async fn follow_service(&self) {
        let mut held = Held::new(Instant::now());
        let mut hosts: HashMap<String, Held<IpAddr>> = HashMap::new();
        let mut given: Vec<Option<Instance>> = vec![None; self.servers.len()];
        loop {
            let told = client::ask(&self.section, &self.nameservers, &self.name, Kind::Srv).await;
            let by = format!("{}/{}", self.section.name, told.by);
            let now = Instant::now();
            match (hold::failure(&told.answer), told.answer) {
                (None, Answer::Found(records)) => held.found(records.services, now, &self.section.hold),
                (failure, _) => {
                    held.failed(failure.unwrap_or(Failure::Other), now, &self.section.hold);
                }
            }
            if let Some(services) = held.records() {
                let instances = self.instances(&services, &mut hosts).await;
                hosts.retain(|host, _| services.iter().any(|service| service.host == *host));
                self.give_out(&mut given, &instances, &by, held.failure());
            }
            tokio::time::sleep(self.section.timeout_resolve).await;
        }
    }

    /// Finds an address for each host of a service.
    async fn instances(
        &self,
        services: &[Service],
        hosts: &mut HashMap<String, Held<IpAddr>>,
    ) -> Vec<Instance> {
        let prefer = self.servers.first().map_or(AddressFamily::Ipv6, |server| prefers(server));
        let mut instances = Vec::new();
        for service in services {
            let host = hosts.entry(service.host.clone()).or_insert_with(|| Held::new(Instant::now()));
            if service.addresses.is_empty() {
                match self.addresses(&service.host, prefer).await.0 {
                    Ok(addresses) => host.found(addresses, Instant::now(), &self.section.hold),
                    Err(failure) => host.failed(failure, Instant::now(), &self.section.hold),
                }
            } else {
                host.found(service.addresses.clone(), Instant::now(), &self.section.hold);
            }
            let known = host.records().unwrap_or_default();
            let wanted = |ip: &&IpAddr| ip.is_ipv6() == (prefer == AddressFamily::Ipv6);
            if let Some(ip) = known.iter().find(wanted).or_else(|| known.first()) {
                let instance = Instance { ip: *ip, port: service.port, weight: service.weight };
                if !instances.contains(&instance) {
                    instances.push(instance);
                }
            }
        }
        instances
    }

    /// Servers keep their instance while it is there; the others take the free ones in order.
    fn give_out(
        &self,
        given: &mut [Option<Instance>],
        instances: &[Instance],
        by: &str,
        failure: Option<Failure>,
    ) {
        let same = |one: &Instance, other: &Instance| one.ip == other.ip && one.port == other.port;
        for place in given.iter_mut() {
            let kept = place.take();
            *place = kept.and_then(|old| instances.iter().find(|new| same(&old, new)).cloned());
        }
        for at in 0..given.len() {
            if given[at].is_none() {
                let free = instances.iter().find(|new| !given.iter().flatten().any(|taken| same(taken, new)));
                given[at] = free.cloned();
            }
        }
        for (server, instance) in self.servers.iter().zip(given.iter()) {
            match instance {
                Some(instance) => {
                    self.move_server(server, instance.ip, Some(instance.port), by);
                    self.weigh(server, instance.weight);
                }
                None => self.lose(server, failure),
            }
        }
    }

    /// A weight of DNS, 0 to 65535, becomes one of ours, 0 to 256, as in HAProxy.
    fn weigh(&self, server: &Arc<Server>, weight: u16) {
        let weight = u32::from(weight).div_ceil(256);
        if !server.config().options.resolve_ignore_weight && server.weight() != weight {
            server.set_weight(weight);
            self.backend.server_changed(Instant::now());
        }
    }

    /// Gives a server an address, and takes it out of maintenance when that was for want of one.
    fn move_server(&self, server: &Arc<Server>, ip: IpAddr, port: Option<u16>, by: &str) {
        let before = server.known_address();
        let same =
            before.is_some_and(|before| before.ip() == ip && port.is_none_or(|port| port == before.port()));
        if !same {
            server.set_ip(ip, port);
            let old = before.map_or_else(|| "(none)".to_owned(), |before| before.ip().to_string());
            if before.is_none_or(|before| before.ip() != ip) {
                let text = format!("{} changed its IP from {old} to {ip} by {by}.", server.full_name());
                self.backend.logger().send(level::NOTICE, &text);
                tracing::info!("{text}");
            }
        }
        let transition = server.order(|condition| {
            condition.order(Admin::NO_ADDRESS, false, Instant::now());
        });
        if transition.is_change() {
            let name = server.full_name();
            let text = format!("Server {name} administratively READY thanks to valid DNS answer.");
            self.backend.logger().send(level::NOTICE, &text);
        }
        settle(&self.backend, server, transition, Cause::Operator);
    }

    /// There is no address for a server.
    fn lose(&self, server: &Arc<Server>, failure: Option<Failure>) {
        let reason = failure.map_or("No IP for server ", Failure::words);
        let transition = server.change(|condition| condition.order(Admin::NO_ADDRESS, true, Instant::now()));
        settle(&self.backend, server, transition, Cause::Reason(reason));
    }
}

fn prefers(server: &Server) -> AddressFamily {
    server.config().options.resolve_prefer.unwrap_or(AddressFamily::Ipv6)
}

fn wish(server: &Server) -> Wish {
    let config = server.config();
    let options = &config.options;
    Wish {
        current: server.known_address().map(|address| address.ip()),
        prefer: prefers(server),
        nets: options.resolve_net.clone(),
        allow_dup: options.resolve_allow_dup_ip,
    }
}

#[cfg(test)]
mod tests;
