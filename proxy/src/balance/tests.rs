//! Tests of the balancing algorithms; round robin against orders recorded from haproxy 2.6.12.

use std::net::IpAddr;

use super::*;
use crate::condition::Admin;
use crate::config::{HashFunction, HashKey, Place, ServerConfig, ServerOptions, address};
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

fn set(server: &Server, order: Order) {
    let now = Instant::now();
    server.change(|condition| match order {
        Order::Maintenance => condition.order(Admin::FORCED_MAINTENANCE, true, now),
        Order::Drain => condition.order(Admin::FORCED_DRAIN, true, now),
        Order::Ready => condition.order(Admin::FORCED_MAINTENANCE, false, now),
    });
}

fn client(last: u8) -> Visitor {
    IpAddr::from([10, 0, 0, last]).into()
}

fn order(algorithm: Algorithm, servers: &[Arc<Server>], picks: usize) -> String {
    let mut balancer = Balancer::new(Rule::plain(algorithm), servers);
    names(&mut balancer, servers, picks)
}

fn names(balancer: &mut Balancer, servers: &[Arc<Server>], picks: usize) -> String {
    (0..picks)
        .map(|_| match balancer.pick(servers, &client(1), None, 0) {
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
    let mut balancer = Balancer::new(Rule::plain(Algorithm::RoundRobin), &servers);
    for _ in 0..5 {
        assert_eq!(balancer.pick(&servers, &client(1), Some(0), 0), Pick::Server(2));
    }
    set(&servers[0], Order::Maintenance);
    set(&servers[2], Order::Maintenance);
    balancer.refresh(&servers);
    assert_eq!(balancer.pick(&servers, &client(1), None, 0), Pick::AllFull);
    servers[1].served.store(0, Relaxed);
    // Rather the avoided one than none.
    assert_eq!(balancer.pick(&servers, &client(1), Some(1), 0), Pick::Server(1));
}

#[test]
fn backups_come_in_only_when_nobody_else_is_left() {
    let servers = servers(&[1, 1, 1], |index, options| options.backup = index > 0);
    let mut balancer = Balancer::new(Rule::plain(Algorithm::RoundRobin), &servers);
    assert_eq!(names(&mut balancer, &servers, 3), "AAA");
    set(&servers[0], Order::Drain);
    balancer.refresh(&servers);
    assert_eq!(names(&mut balancer, &servers, 3), "BBB");
    let mut all = Balancer::new(Rule { all_backups: true, ..Rule::plain(Algorithm::RoundRobin) }, &servers);
    assert_eq!(names(&mut all, &servers, 4), "BCBC");
    set(&servers[1], Order::Maintenance);
    set(&servers[2], Order::Maintenance);
    all.refresh(&servers);
    assert_eq!(all.pick(&servers, &client(1), None, 0), Pick::Nobody);
}

#[test]
fn least_connections_follow_the_load_and_the_weight() {
    let servers = servers(&[1, 2], |_, _| {});
    let mut balancer = Balancer::new(Rule::plain(Algorithm::LeastConn), &servers);
    let mut counts = [0, 0];
    for _ in 0..30 {
        let Pick::Server(index) = balancer.pick(&servers, &client(1), None, 0) else { panic!() };
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
    let mut balancer = Balancer::new(Rule::plain(Algorithm::First), &servers);
    let picks: Vec<_> = (0..5)
        .map(|_| {
            let pick = balancer.pick(&servers, &client(1), None, 0);
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
    let mut balancer = Balancer::new(Rule::plain(Algorithm::Source), &servers);
    let first = balancer.pick(&servers, &client(7), None, 0);
    assert_eq!(balancer.pick(&servers, &client(7), None, 0), first);
    let Pick::Server(index) = first else { panic!() };
    servers[index].served.store(1, Relaxed);
    assert_eq!(balancer.pick(&servers, &client(7), None, 0), Pick::Full(index));
    let seen: std::collections::HashSet<_> =
        (0..30).map(|last| format!("{:?}", balancer.pick(&servers, &client(last), None, 0))).collect();
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
    let mut balancer = Balancer::new(Rule::plain(Algorithm::RoundRobin), &servers);
    set(&servers[1], Order::Maintenance);
    balancer.refresh(&servers);
    assert_eq!(names(&mut balancer, &servers, 50), "A".repeat(50));
    set(&servers[1], Order::Ready);
    balancer.refresh(&servers);
    let picks = names(&mut balancer, &servers, 20);
    assert!((9..=11).contains(&picks.matches('B').count()), "{picks}");
}

/// (algorithm, hash type, servers of 64 clients with weights 3, 2, 1, and with weights 10, 20, 30), as haproxy
/// 2.6.12 chose them. `hash-type consistent` alone means sdbm with avalanche.
const HASHED: &[(Algorithm, HashType, &str, &str)] = &[
    (
        Algorithm::Source,
        HashType { method: HashMethod::MapBased, function: HashFunction::Sdbm, avalanche: false },
        "CBCBCAAAAAABABABCBCBCBCBCAAAAAABABABCBAAABABABCBCBAAAAABABAAABAB",
        "CBCBCACACACBCBCBCBCBCBCBCACACACBCBCBCBCACBCBCBCBCBCACACBCBCACBCB",
    ),
    (
        Algorithm::Source,
        HashType { method: HashMethod::MapBased, function: HashFunction::Sdbm, avalanche: true },
        "ACAAAABABAAAAAAABABBBABAAABACABBCCBCACABBBACAACAABACBBBACBCBCBBC",
        "CCACCCBCBACCCACCBCBBBCBCCABCCCBBCCBCACCBBBCCCCCAABACBBBCCBCBCBBC",
    ),
    (
        Algorithm::Source,
        HashType { method: HashMethod::Consistent, function: HashFunction::Sdbm, avalanche: true },
        "BABAABAAACBBABABAAAAABABCABABBABAAAAABAAABAABABAABABCCAAAAABACAA",
        "CCCCCCACCBCBBCBCBCCCBCCCBACCBCCBCBCAACCCCCACBACCCBCACBACACCCCBAC",
    ),
    (
        Algorithm::Source,
        HashType { method: HashMethod::Consistent, function: HashFunction::Sdbm, avalanche: false },
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB",
    ),
    (
        Algorithm::Hash(HashKey::Source),
        HashType { method: HashMethod::MapBased, function: HashFunction::Sdbm, avalanche: false },
        "BAACBACBABBABAABAACBBAACBACBABBABAABABABBABAABAACBACBABBABABBABA",
        "BCACBACBCBBCBCABCACBBCACBACBCBBCBCABCBCBBCBCABCACBACBCBBCBCBBCBC",
    ),
    (
        Algorithm::Hash(HashKey::Source),
        HashType { method: HashMethod::MapBased, function: HashFunction::Djb2, avalanche: false },
        "ABCAACAABAABABCABCAAABABCABCAACAABAABABACAABAABABCABCAACAABCABCA",
        "CBCACCACBCCBCBCCBCACCBCBCCBCACCACBCCBCBCCACBCCBCBCCBCACCACBCCBCA",
    ),
    (
        Algorithm::Hash(HashKey::Source),
        HashType { method: HashMethod::MapBased, function: HashFunction::Wt6, avalanche: true },
        "BBBBABABCAACCBABABBACBAACCAABCAABCACAABABBBBBAAAAACAAACCAABCAAAB",
        "BBBBABCBCAACCBCBCBBCCBACCCACBCCCBCCCCCBCBBBBBCAACCCCAACCAABCAACB",
    ),
    (
        Algorithm::Hash(HashKey::Source),
        HashType { method: HashMethod::MapBased, function: HashFunction::Crc32, avalanche: false },
        "AABCACBABCACABBCCAAACAACBAABCABAAAAABAABACCCCCABAAAAAABAABAAAAAA",
        "ACBCACBCBCCCCBBCCACACACCBCCBCCBCCCACBCABACCCCCABACCACCBACBACAAAC",
    ),
    (
        Algorithm::Hash(HashKey::Source),
        HashType { method: HashMethod::Consistent, function: HashFunction::Sdbm, avalanche: true },
        "BBAAAAAABABBBAAABAAAABBBAAAACABBBCABAABACAACACCBAABBABAACCBCAAAA",
        "CCCBACBCBCCBBACACBCBBBCBCCBCBCBBBCCCCCCBCCCCBCCBBCCCBBBBBBBBABCB",
    ),
    (
        Algorithm::Hash(HashKey::Source),
        HashType { method: HashMethod::Consistent, function: HashFunction::Crc32, avalanche: true },
        "ABAABABACABBBAABABCABCBBBCBAAABBAAAABBAAACCBABAAAABAAACCBBAACAAA",
        "BBCABCBCBCCBBCCACACBBCCCCCBBCCBCABCACCAACBCBACBAAACCCACBCCAACACC",
    ),
    (
        Algorithm::Hash(HashKey::SourcePort),
        HashType { method: HashMethod::MapBased, function: HashFunction::Sdbm, avalanche: false },
        "BABCAABABCAABABCAABABCAABABCAABABCAABABCAABABCAABABCAABABCAABABC",
        "BCBCACBCBCACBCBCACBCBCACBCBCACBCBCACBCBCACBCBCACBCBCACBCBCACBCBC",
    ),
    (
        Algorithm::Hash(HashKey::Destination),
        HashType { method: HashMethod::Consistent, function: HashFunction::Djb2, avalanche: false },
        "BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB",
        "CCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCC",
    ),
];

#[test]
fn hashes_lead_to_the_servers_haproxy_leads_them_to() {
    let visitor = |number: u16| {
        let byte = |value: u16| u8::try_from(value % 256).unwrap();
        let ip = IpAddr::from([127, byte(number % 5), byte(number * 7), byte(1 + number * 13 % 250)]);
        Visitor {
            source: std::net::SocketAddr::new(ip, 20_000 + number),
            destination: Some(([127, 0, 0, 1], 9500).into()),
        }
    };
    for (algorithm, hash_type, light, heavy) in HASHED {
        for (weights, recorded) in [([3, 2, 1], light), ([10, 20, 30], heavy)] {
            let servers = servers(&weights, |_, _| {});
            let rule = Rule { hash_type: *hash_type, ..Rule::plain(*algorithm) };
            let mut balancer = Balancer::new(rule, &servers);
            let chosen: String = (0..64)
                .map(|number| match balancer.pick(&servers, &visitor(number), None, 0) {
                    Pick::Server(index) => servers[index].name().to_owned(),
                    other => format!("{other:?}"),
                })
                .collect();
            assert_eq!(chosen, **recorded, "{algorithm:?} {hash_type:?} {weights:?}");
        }
    }
}

#[test]
fn fixed_turns_and_least_connections_go_in_haproxys_order() {
    for (weights, recorded) in
        [(&[3, 2, 1], "AABABCAABABCAABABCAABABC"), (&[10, 20, 30], "ACBCBCACBCBCACBCBCACBCBC")]
    {
        let servers = servers(weights, |_, _| {});
        assert_eq!(order(Algorithm::StaticRoundRobin, &servers, recorded.len()), recorded);
    }
    // Every connection stays.
    let servers = servers(&[1, 2, 3], |_, _| {});
    let mut balancer = Balancer::new(Rule::plain(Algorithm::LeastConn), &servers);
    let chosen: String = (0..24)
        .map(|_| {
            let Pick::Server(index) = balancer.pick(&servers, &client(1), None, 0) else { panic!() };
            servers[index].served.fetch_add(1, Relaxed);
            servers[index].name().to_owned()
        })
        .collect();
    assert_eq!(chosen, "ABCCBCCBCABCCBCABCCBCABC");
}

#[test]
fn a_bounded_hash_passes_over_who_has_more_than_its_share() {
    let servers = servers(&[1, 1, 1, 1], |_, _| {});
    let hash_type = HashType { method: HashMethod::Consistent, avalanche: true, ..HashType::default() };
    let rule = Rule { hash_type, balance_factor: 150, ..Rule::plain(Algorithm::Source) };
    let mut balancer = Balancer::new(rule, &servers);
    // All connections of one client stay; none of the four gets more than one and a half fourths of them.
    for sessions in 0..40 {
        let Pick::Server(index) = balancer.pick(&servers, &client(1), None, sessions) else { panic!() };
        servers[index].served.fetch_add(1, Relaxed);
    }
    let most = servers.iter().map(|server| server.served.load(Relaxed)).max().unwrap();
    assert!((14..=16).contains(&most), "{most}");
}
