//! Tests of following names, against a small name server on loopback.

use std::net::SocketAddr;
use std::time::Duration;

use hickory_proto::op::{Message, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, SRV};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use parking_lot::Mutex;
use tokio::net::UdpSocket;

use super::*;
use crate::config::address::{Port, ServerAddress};
use crate::config::sections::Hold;
use crate::config::{Place, ServerConfig, ServerOptions};
use crate::mutants;
use crate::syslog::Logger;

/// What the name server says: a code, addresses of every name, hosts and ports of every service.
#[derive(Debug, Clone)]
struct Zone {
    code: ResponseCode,
    addresses: Vec<[u8; 4]>,
    services: Vec<(&'static str, u16, u16)>,
}

type Shared = Arc<Mutex<Zone>>;

fn zone(addresses: &[[u8; 4]]) -> Shared {
    let addresses = addresses.to_vec();
    Arc::new(Mutex::new(Zone { code: ResponseCode::NoError, addresses, services: Vec::new() }))
}

async fn serve(zone: Shared) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut bytes = vec![0; 4096];
        loop {
            let (length, client) = socket.recv_from(&mut bytes).await.unwrap();
            let question = Message::from_vec(&bytes[..length]).unwrap();
            let answer = answer(&question, &zone.lock().clone());
            socket.send_to(&answer.to_vec().unwrap(), client).await.unwrap();
        }
    });
    address
}

fn answer(question: &Message, zone: &Zone) -> Message {
    let query = question.queries[0].clone();
    let mut message = Message::response(question.metadata.id, OpCode::Query);
    message.metadata.response_code = zone.code;
    let name = query.name.clone();
    let data: Vec<RData> = match query.query_type {
        RecordType::A => {
            zone.addresses.iter().map(|ip| RData::A(A::from(std::net::Ipv4Addr::from(*ip)))).collect()
        }
        RecordType::SRV => {
            let service = |(host, port, weight): &(&str, u16, u16)| {
                let mut host = Name::from_ascii(host).unwrap();
                host.set_fqdn(true);
                RData::SRV(SRV::new(1, *weight, *port, host))
            };
            zone.services.iter().map(service).collect()
        }
        _ => Vec::new(),
    };
    message.add_query(query);
    message.add_answers(data.into_iter().map(|data| Record::from_rdata(name.clone(), 1, data)));
    message
}

/// A section whose servers all have this name, and its follower's task.
fn follow(name: &str, servers: u32, nameserver: SocketAddr, hold: Hold) -> Arc<Backend> {
    let mut config = crate::config::Config::default();
    let mut remarks = daemon::diagnostic::Diagnostics::new();
    let mut reader = crate::config::haproxy_cfg::Reader::default();
    reader.read("backend b\n    mode tcp\n", "test", &mut config, &mut remarks);
    let mut section = config.proxies.remove(0);
    for id in 1..=servers {
        section.servers.push(ServerConfig {
            name: format!("s{id}"),
            id,
            address: ServerAddress { host: Host::Name(name.to_owned()), port: Port::Fixed(5672) },
            options: ServerOptions {
                resolvers: Some("dns".to_owned()),
                init_addr: vec![crate::config::server::InitAddr::None],
                resolve_prefer: Some(AddressFamily::Ipv4),
                ..ServerOptions::default()
            },
            template: None,
            place: Place::default(),
        });
    }
    let backend = Arc::new(Backend::new(Arc::new(section), Logger::default(), Instant::now()));
    let resolvers = Resolvers {
        nameservers: vec![Nameserver { name: "ns".to_owned(), address: nameserver, tcp: false }],
        timeout_resolve: Duration::from_millis(5),
        hold,
        ..Resolvers::new("dns", Place::default())
    };
    for follower in followers(&[resolvers], std::slice::from_ref(&backend)) {
        tokio::spawn(follower.run());
    }
    backend
}

/// Waits until the servers are like this: address, or status for those without.
async fn until(backend: &Backend, wanted: &[&str]) {
    let seen = || -> Vec<String> {
        let one = |server: &Arc<Server>| match server.known_address() {
            Some(address) if server.is_usable() => address.to_string(),
            _ => server.condition().status(),
        };
        backend.servers().iter().map(one).collect()
    };
    for _ in 0..2000 {
        if seen() == wanted {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{:?} and not {wanted:?}", seen());
}

#[tokio::test]
async fn servers_share_the_addresses_of_their_name() {
    let zone = zone(&[[10, 0, 0, 1], [10, 0, 0, 2]]);
    let backend = follow("rabbit.example", 3, serve(zone.clone()).await, Hold::default());
    until(&backend, &["10.0.0.1:5672", "10.0.0.2:5672", "MAINT (resolution)"]).await;
    zone.lock().addresses = vec![[10, 0, 0, 2], [10, 0, 0, 3], [10, 0, 0, 4]];
    // The second keeps its address; with `hold obsolete 0` the first changes at once.
    until(&backend, &["10.0.0.3:5672", "10.0.0.2:5672", "10.0.0.4:5672"]).await;
    zone.lock().addresses = vec![[10, 0, 0, 3]];
    until(&backend, &["10.0.0.3:5672", "MAINT (resolution)", "MAINT (resolution)"]).await;
}

#[tokio::test]
async fn the_last_good_answer_is_kept_and_then_let_go() {
    let zone = zone(&[[10, 0, 0, 1]]);
    let hold = Hold { nx: Duration::ZERO, ..Hold::default() };
    let backend = follow("rabbit.example", 1, serve(zone.clone()).await, hold);
    until(&backend, &["10.0.0.1:5672"]).await;
    // Held for 30 s: many bad answers later it is still there.
    zone.lock().code = ResponseCode::Refused;
    tokio::time::sleep(Duration::from_millis(100)).await;
    until(&backend, &["10.0.0.1:5672"]).await;
    zone.lock().code = ResponseCode::NXDomain;
    until(&backend, &["MAINT (resolution)"]).await;
    zone.lock().code = ResponseCode::NoError;
    until(&backend, &["10.0.0.1:5672"]).await;
}

#[tokio::test]
async fn a_service_gives_ports_and_weights_too() {
    let zone = zone(&[[10, 0, 0, 9]]);
    zone.lock().services = vec![("a.example", 5001, 256), ("b.example", 5002, 65_535)];
    let backend = follow("_amqp._tcp.example", 3, serve(zone.clone()).await, Hold::default());
    until(&backend, &["10.0.0.9:5001", "10.0.0.9:5002", "MAINT (resolution)"]).await;
    let weights: Vec<u32> = backend.servers().iter().map(|server| server.weight()).collect();
    assert_eq!(weights[..2], [1, 256]);
    zone.lock().services = vec![("b.example", 5002, 0)];
    until(&backend, &["MAINT (resolution)", "10.0.0.9:5002", "MAINT (resolution)"]).await;
    assert_eq!(backend.servers()[1].weight(), 0);
}

/// Answers to the questions of the fuzz target.
fn seeds() -> Vec<mutants::Seed> {
    let zone = zone(&[[10, 0, 0, 1], [10, 0, 0, 2]]);
    zone.lock().services = vec![("a.example", 5001, 256), ("b.example", 5002, 65_535)];
    let of = |kind, code| {
        let zone = Zone { code, ..zone.lock().clone() };
        let question = message::question(1, "x.example", kind, 512).unwrap();
        answer(&Message::from_vec(&question).unwrap(), &zone).to_vec().unwrap()
    };
    vec![
        ("addresses".to_owned(), of(Kind::A, ResponseCode::NoError)),
        ("services".to_owned(), of(Kind::Srv, ResponseCode::NoError)),
        ("no-name".to_owned(), of(Kind::Aaaa, ResponseCode::NXDomain)),
    ]
}

#[test]
fn the_seeds_of_the_fuzz_target_are_stored() {
    mutants::check_seeds("proxy_dns_answer", &seeds());
}

#[test]
fn no_answer_of_a_name_server_makes_us_panic() {
    mutants::run("proxy_dns_answer", 20_000, b"\0\x01\x03\x05\x1c\x21\x81\x84\xc0\x0c\xff", fuzz);
}
