//! Tests of the balancing algorithms; round robin against orders recorded from haproxy 2.6.12.

use std::time::Instant;

use super::*;
use crate::config::{Place, ServerConfig, ServerOptions, address};
use crate::server::Order;

fn servers(weights: &[u32], change: impl Fn(usize, &mut ServerOptions)) -> Vec<Arc<Server>> {
    weights
        .iter()
        .enumerate()
        .map(|(index, weight)| {
            let mut options = ServerOptions { weight: *weight, ..ServerOptions::default() };
            change(index, &mut options);
            let config = ServerConfig {
                name: char::from(b'A' + u8::try_from(index).unwrap()).to_string(),
                id: u32::try_from(index).unwrap() + 1,
                address: address::parse_server("127.0.0.1:1").unwrap(),
                options,
                template: None,
                place: Place::default(),
            };
            Arc::new(Server::new(config, "b".into(), Instant::now()))
        })
        .collect()
}

fn client(last: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, last])
}

fn order(algorithm: Algorithm, servers: &[Arc<Server>], picks: usize) -> String {
    let mut balancer = Balancer::new(algorithm, false, servers);
    names(&mut balancer, servers, picks)
}

fn names(balancer: &mut Balancer, servers: &[Arc<Server>], picks: usize) -> String {
    (0..picks)
        .map(|_| match balancer.pick(servers, client(1), None) {
            Pick::Server(index) => servers[index].name().to_owned(),
            other => format!("{other:?}"),
        })
        .collect()
}

/// (weights, order) as haproxy 2.6.12 with `nbthread 1` served connections one after another.
const RECORDED: &[(&[u32], &str)] = &[
    (&[1, 1], "ABABABABABABABABABAB"),
    (&[1, 1, 1], "ABCABCABCABCABCABCAB"),
    (&[2, 1], "AABAABAABAABAABAABAA"),
    (&[1, 2], "BBABBABBABBABBABBABB"),
    (&[3, 1], "AAABAAABAAABAAABAAAB"),
    (&[1, 2, 3], "CBCACBCBCACBCBCACBCB"),
    (&[3, 2, 1], "ABACABABACABABACABAB"),
    (&[5, 1, 1], "AAABAACAAABAACAAABAA"),
    (&[4, 4, 1], "ABABABABCABABABABCABAB"),
    (&[7, 3, 2, 1], "AABACABADACBAAABACABADACBAAABA"),
    (&[10, 20, 30], "CBCACBCBCACBCBCACBCBCACBCBCACBCBCACBCBCACBCBCACBCBCACBCBCACBCBCACBCBCACBCBCACBCB"),
    (&[256, 1], "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"),
    (&[1, 1, 1, 1, 1], "ABCDEABCDEABCDEABCDE"),
    (&[5, 3, 3], "ABACABACBACABACABACBACABAC"),
    (&[100, 60], "AABABAABAABABAABAABABAABAABABAABAABABAABAABABAABAABABAABAABABAABAABABAABAABABAAB"),
    (&[0, 1, 1], "BCBCBCBCBCBCBCBCBCBC"),
    (&[13, 7, 5], "AABACBAABCAABACABAACBAABCAABACBAABCAABACABAACBAABCAABA"),
];

#[test]
fn round_robin_goes_in_haproxys_order() {
    for (weights, recorded) in RECORDED {
        let servers = servers(weights, |_, _| {});
        assert_eq!(order(Algorithm::RoundRobin, &servers, recorded.len()), *recorded, "{weights:?}");
    }
}

#[test]
fn round_robin_is_exact_over_a_whole_turn() {
    let weights = [9, 4, 3, 1];
    let servers = servers(&weights, |_, _| {});
    let picks = order(Algorithm::RoundRobin, &servers, 17 * 5);
    for (name, weight) in "ABCD".chars().zip(weights) {
        assert_eq!(picks.matches(name).count(), usize::try_from(weight).unwrap() * 5);
    }
}

#[test]
fn full_and_avoided_servers_are_passed_over() {
    let servers = servers(&[1, 1, 1], |index, options| options.maxconn = (index == 1).then_some(1));
    servers[1].served.store(1, Relaxed);
    assert_eq!(order(Algorithm::RoundRobin, &servers, 6), "ACACAC");
    let mut balancer = Balancer::new(Algorithm::RoundRobin, false, &servers);
    for _ in 0..5 {
        assert_eq!(balancer.pick(&servers, client(1), Some(0)), Pick::Server(2));
    }
    servers[0].order(Order::Maintenance, Instant::now());
    servers[2].order(Order::Maintenance, Instant::now());
    balancer.refresh(&servers);
    assert_eq!(balancer.pick(&servers, client(1), None), Pick::AllFull);
    servers[1].served.store(0, Relaxed);
    // Rather the avoided one than none.
    assert_eq!(balancer.pick(&servers, client(1), Some(1)), Pick::Server(1));
}

#[test]
fn backups_come_in_only_when_nobody_else_is_left() {
    let servers = servers(&[1, 1, 1], |index, options| options.backup = index > 0);
    let mut balancer = Balancer::new(Algorithm::RoundRobin, false, &servers);
    assert_eq!(names(&mut balancer, &servers, 3), "AAA");
    servers[0].order(Order::Drain, Instant::now());
    balancer.refresh(&servers);
    assert_eq!(names(&mut balancer, &servers, 3), "BBB");
    let mut all = Balancer::new(Algorithm::RoundRobin, true, &servers);
    assert_eq!(names(&mut all, &servers, 4), "BCBC");
    servers[1].order(Order::Maintenance, Instant::now());
    servers[2].order(Order::Maintenance, Instant::now());
    all.refresh(&servers);
    assert_eq!(all.pick(&servers, client(1), None), Pick::Nobody);
}

#[test]
fn least_connections_follow_the_load_and_the_weight() {
    let servers = servers(&[1, 2], |_, _| {});
    let mut balancer = Balancer::new(Algorithm::LeastConn, false, &servers);
    let mut counts = [0, 0];
    for _ in 0..30 {
        let Pick::Server(index) = balancer.pick(&servers, client(1), None) else { panic!() };
        servers[index].served.fetch_add(1, Relaxed);
        counts[index] += 1;
    }
    assert_eq!(counts, [10, 20]);
    // Ties go in turn.
    let servers = self::servers(&[1, 1, 1], |_, _| {});
    assert_eq!(order(Algorithm::LeastConn, &servers, 6), "ABCABC");
}

#[test]
fn first_fills_one_after_the_other() {
    let servers = servers(&[1, 1], |_, options| options.maxconn = Some(2));
    let mut balancer = Balancer::new(Algorithm::First, false, &servers);
    let picks: Vec<_> = (0..5)
        .map(|_| {
            let pick = balancer.pick(&servers, client(1), None);
            if let Pick::Server(index) = pick {
                servers[index].served.fetch_add(1, Relaxed);
            }
            pick
        })
        .collect();
    assert_eq!(picks, [Pick::Server(0), Pick::Server(0), Pick::Server(1), Pick::Server(1), Pick::AllFull]);
}

#[test]
fn source_keeps_a_client_on_its_server() {
    let servers = servers(&[1, 1, 1], |_, options| options.maxconn = Some(1));
    let mut balancer = Balancer::new(Algorithm::Source, false, &servers);
    let first = balancer.pick(&servers, client(7), None);
    assert_eq!(balancer.pick(&servers, client(7), None), first);
    let Pick::Server(index) = first else { panic!() };
    servers[index].served.store(1, Relaxed);
    assert_eq!(balancer.pick(&servers, client(7), None), Pick::Full(index));
    let seen: std::collections::HashSet<_> =
        (0..30).map(|last| format!("{:?}", balancer.pick(&servers, client(last), None))).collect();
    assert_eq!(seen.len(), 3);
}

#[test]
fn random_draws_everybody_by_weight() {
    let servers = servers(&[3, 1, 0], |_, _| {});
    let picks = order(Algorithm::Random(1), &servers, 4000);
    let count = |name| picks.matches(name).count();
    assert!((2700..3300).contains(&count('A')) && count('C') == 0, "{} {}", count('A'), count('C'));
    servers[0].served.store(1000, Relaxed);
    assert_eq!(order(Algorithm::Random(32), &servers, 20).matches('B').count(), 20);
}

#[test]
fn a_server_that_returns_gets_its_share_and_no_more() {
    let servers = servers(&[1, 1], |_, _| {});
    let mut balancer = Balancer::new(Algorithm::RoundRobin, false, &servers);
    servers[1].order(Order::Maintenance, Instant::now());
    balancer.refresh(&servers);
    assert_eq!(names(&mut balancer, &servers, 50), "A".repeat(50));
    servers[1].order(Order::Ready, Instant::now());
    balancer.refresh(&servers);
    let picks = names(&mut balancer, &servers, 20);
    assert!((9..=11).contains(&picks.matches('B').count()), "{picks}");
}
