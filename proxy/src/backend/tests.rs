//! Tests of choosing, waiting and giving places back.

use std::net::SocketAddr;

use super::*;
use crate::condition::{Admin, Forced};
use crate::config::{Algorithm, Place, ServerConfig, ServerOptions, Settings, address};

/// A section with servers A, B, C, ... .
fn backend(
    count: u32,
    settings: impl FnOnce(&mut Settings),
    options: impl Fn(u32, &mut ServerOptions),
) -> Arc<Backend> {
    let mut config = crate::config::Config::default();
    let mut remarks = daemon::diagnostic::Diagnostics::new();
    let mut reader = crate::config::haproxy_cfg::Reader::default();
    reader.read("backend b\n    mode tcp\n", "test", &mut config, &mut remarks);
    let mut section = config.proxies.remove(0);
    settings(&mut section.settings);
    for index in 0..count {
        let mut server = ServerOptions::default();
        options(index, &mut server);
        section.servers.push(ServerConfig {
            name: char::from(b'A' + u8::try_from(index).unwrap()).to_string(),
            id: index + 1,
            address: address::parse_server("127.0.0.1:1").unwrap(),
            options: server,
            template: None,
            place: Place::default(),
        });
    }
    Arc::new(Backend::new(Arc::new(section), Logger::default(), Instant::now()))
}

fn client(last: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, last], 1000))
}

fn now(choice: Choice) -> Lease {
    match choice {
        Choice::Now(lease) => lease,
        other => panic!("{other:?}"),
    }
}

fn wait(choice: Choice) -> Pending {
    match choice {
        Choice::Wait(pending) => pending,
        other => panic!("{other:?}"),
    }
}

/// The server somebody who waited was given, if it was.
fn given(pending: &mut Pending) -> Option<Lease> {
    pending.receiver.try_recv().ok()
}

fn waiting(backend: &Backend) -> (u32, Vec<u32>) {
    let servers = backend.servers();
    let each = servers.iter().map(|server| server.counters.pending.load(Relaxed)).collect();
    (backend.counters.pending.load(Relaxed), each)
}

fn order(backend: &Arc<Backend>, index: usize, orders: Admin, on: bool) -> Moved {
    let server = backend.servers()[index].clone();
    server.change(|condition| condition.order(orders, on, Instant::now()));
    backend.server_moved(&server, Instant::now())
}

#[test]
fn those_who_wait_are_served_in_their_order() {
    let backend = backend(2, |_| {}, |_, options| options.maxconn = Some(1));
    let first = now(backend.choose(client(1), None));
    let second = now(backend.choose(client(2), None));
    let mut waits: Vec<Pending> = (3..6).map(|last| wait(backend.choose(client(last), None))).collect();
    assert_eq!(waiting(&backend), (3, vec![0, 0]));
    let freed = second.server.clone();
    drop(second);
    let lease = given(&mut waits[0]).unwrap();
    assert!(Arc::ptr_eq(&lease.server, &freed));
    assert!(given(&mut waits[1]).is_none());
    // The second gives up; its place goes to the third.
    drop(waits.remove(1));
    assert_eq!(waiting(&backend), (1, vec![0, 0]));
    drop(first);
    assert!(given(&mut waits[1]).is_some());
    assert_eq!(waiting(&backend), (0, vec![0, 0]));
    assert_eq!(backend.counters.pending_max.load(Relaxed), 3);
}

#[test]
fn a_lease_nobody_fetched_goes_to_the_next() {
    let backend = backend(1, |_| {}, |_, options| options.maxconn = Some(1));
    let lease = now(backend.choose(client(1), None));
    let gone = wait(backend.choose(client(2), None));
    let mut next = wait(backend.choose(client(3), None));
    drop(lease);
    // The place was promised to the one who goes now.
    drop(gone);
    assert!(given(&mut next).is_some());
}

#[test]
fn who_waits_for_a_server_that_goes_down_gets_another_one() {
    let backend =
        backend(2, |settings| settings.balance = Algorithm::Source, |_, options| options.maxconn = Some(1));
    let lease = now(backend.choose(client(1), None));
    let index = backend.servers().iter().position(|server| Arc::ptr_eq(server, &lease.server)).unwrap();
    let mut bound = wait(backend.choose(client(1), None));
    assert_eq!(waiting(&backend).1[index], 1);
    let moved = order(&backend, index, Admin::FORCED_MAINTENANCE, true);
    assert_eq!(moved, Moved { lost_all: false, requeued: 1 });
    let other = given(&mut bound).unwrap();
    assert!(!Arc::ptr_eq(&other.server, &lease.server));
    assert_eq!(waiting(&backend), (0, vec![0, 0]));
}

#[test]
fn who_waits_is_served_when_a_server_comes_up() {
    let backend = backend(2, |_| {}, |_, options| options.maxconn = Some(1));
    order(&backend, 1, Admin::FORCED_MAINTENANCE, true);
    let _lease = now(backend.choose(client(1), None));
    let mut pending = wait(backend.choose(client(2), None));
    assert_eq!(order(&backend, 1, Admin::FORCED_MAINTENANCE, false).requeued, 1);
    assert_eq!(given(&mut pending).unwrap().server.name(), "B");
}

#[test]
fn a_full_line_for_one_server_turns_people_away() {
    let backend = backend(
        1,
        |settings| settings.balance = Algorithm::Source,
        |_, options| (options.maxconn, options.maxqueue) = (Some(1), Some(1)),
    );
    let _lease = now(backend.choose(client(1), None));
    let _waits = wait(backend.choose(client(1), None));
    assert!(matches!(backend.choose(client(1), None), Choice::Nobody));
}

#[test]
fn the_limit_of_a_server_grows_with_the_sessions_of_its_backend() {
    let backend = backend(
        1,
        |settings| settings.fullconn = Some(10),
        |_, options| (options.minconn, options.maxconn) = (Some(1), Some(4)),
    );
    let _first = now(backend.choose(client(1), None));
    let mut second = wait(backend.choose(client(2), None));
    // Half of `fullconn`: half of `maxconn`.
    backend.counters.current.store(5, Relaxed);
    backend.server_changed(Instant::now());
    assert!(given(&mut second).is_some());
}

#[test]
fn everybody_down_is_everybody_up_when_failing_open() {
    let backend = backend(2, |settings| settings.fail_open = true, |_, options| options.check = true);
    let down = |index: usize| {
        let server = backend.servers()[index].clone();
        server.force(Forced::Down, Instant::now());
        backend.server_moved(&server, Instant::now())
    };
    assert!(!down(0).lost_all);
    assert_eq!(now(backend.choose(client(1), None)).server.name(), "B");
    assert!(down(1).lost_all, "the section counts as down");
    let names: Vec<String> =
        (0..4).map(|_| now(backend.choose(client(1), None)).server.name().to_owned()).collect();
    assert_eq!(names.iter().filter(|name| *name == "A").count(), 2);
    assert!(!backend.availability(Instant::now()).0);
    // Who is in maintenance stays there.
    order(&backend, 0, Admin::FORCED_MAINTENANCE, true);
    assert_eq!(now(backend.choose(client(1), None)).server.name(), "B");
}

#[test]
fn weights_change_at_run_time_with_haproxys_words() {
    let backend = backend(1, |_| {}, |_, options| options.weight = 40);
    let server = backend.servers()[0].clone();
    let set = |text: &str| backend.change_weight(&server, text).map(|()| server.weight());
    assert_eq!(set("50%"), Ok(20));
    assert_eq!(set("100%"), Ok(40));
    assert_eq!(set("1000%"), Ok(256));
    assert_eq!(set("0"), Ok(0));
    assert_eq!(set("7"), Ok(7));
    assert!(set("300").unwrap_err().starts_with("Absolute weight can only be"));
    assert!(set("").unwrap_err().starts_with("Require <weight>"));
    assert!(set("7x").unwrap_err().starts_with("Trailing garbage"));
    assert!(set("-1%").unwrap_err().starts_with("Relative weight must be positive"));
    let fixed = self::backend(1, |settings| settings.balance = Algorithm::Source, |_, o| o.weight = 40);
    let server = fixed.servers()[0].clone();
    assert!(fixed.change_weight(&server, "50%").unwrap_err().contains("static LB algorithm"));
    assert_eq!(fixed.change_weight(&server, "0%"), Ok(()));
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    /// Whatever happens in whatever order, nobody is counted twice or forgotten, and no limit is exceeded.
    #[test]
    fn places_and_those_who_wait_add_up(steps in proptest::collection::vec((0u8..6, 0usize..8), 1..120)) {
        let balances = [Algorithm::RoundRobin, Algorithm::Source, Algorithm::LeastConn];
        let balance = balances[steps.len() % 3];
        let backend = backend(3, |settings| settings.balance = balance, |_, options| options.maxconn = Some(2));
        let (mut leases, mut waits): (Vec<Lease>, Vec<Pending>) = (Vec::new(), Vec::new());
        for (step, which) in steps {
            match step {
                0 | 1 => match backend.choose(client(u8::try_from(which).unwrap()), None) {
                    Choice::Now(lease) => leases.push(lease),
                    Choice::Wait(pending) => waits.push(pending),
                    Choice::Nobody => {}
                },
                2 if !leases.is_empty() => drop(leases.swap_remove(which % leases.len())),
                3 if !waits.is_empty() => drop(waits.swap_remove(which % waits.len())),
                4 => drop(order(&backend, which % 3, Admin::FORCED_MAINTENANCE, true)),
                5 => drop(order(&backend, which % 3, Admin::FORCED_MAINTENANCE, false)),
                _ => {}
            }
            let mut at = 0;
            while at < waits.len() {
                match given(&mut waits[at]) {
                    Some(lease) => {
                        leases.push(lease);
                        drop(waits.swap_remove(at));
                    }
                    None => at += 1,
                }
            }
            let servers = backend.servers();
            let served: u32 = servers.iter().map(|server| server.served.load(Relaxed)).sum();
            proptest::prop_assert_eq!(usize::try_from(served).unwrap(), leases.len());
            proptest::prop_assert!(servers.iter().all(|server| server.served.load(Relaxed) <= 2));
            proptest::prop_assert_eq!(backend.pending_count(), waits.len());
        }
        for index in 0..3 {
            order(&backend, index, Admin::FORCED_MAINTENANCE, false);
        }
        leases.clear();
        while !waits.is_empty() {
            let before = waits.len();
            waits.retain_mut(|pending| given(pending).is_none());
            proptest::prop_assert!(waits.len() < before, "somebody waits while places are free");
        }
    }
}
