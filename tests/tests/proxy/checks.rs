//! Health checks: the same states in the same order, at the same distances.

use super::{COMMON, NEEDS};
use harness::ready;
use harness::rivals::{Change, Rivals, changes};
use std::time::Duration;
use xtask::lab::wait::until_true;

/// How far the distance of two changes may differ from HAProxy's: what polling and a busy machine add.
const TOLERANCE: f64 = 0.25;

const SERVERS: &str = "
listen flapping
    bind :5672
    server plain 192.168.204.141:7001 check inter 600ms rise 2 fall 3
    server quick 192.168.204.141:7001 check inter 800ms fastinter 300ms downinter 500ms rise 3 fall 2
    server once  192.168.204.141:7001 check inter 500ms rise 1 fall 1
";

#[test]
fn a_flapping_server_goes_through_haproxys_states_at_haproxys_pace() {
    if !ready("check timing beside haproxy", NEEDS) {
        return;
    }
    let rivals = Rivals::start("proxy-checks", &format!("{COMMON}{SERVERS}")).unwrap();
    let mut watch = rivals.watch().unwrap();
    let all = |status: &str| {
        let what = format!("every server to be {status}");
        until_true(Duration::from_secs(20), &what, || {
            let now = changes(&watch.record());
            now.len() == 6 && now.values().all(|list| list.last().is_some_and(|(_, it)| it == status))
        })
        .unwrap_or_else(|error| panic!("{error}: {:?}", changes(&watch.record())));
    };
    // Nobody listens yet: everything goes down once, and from there both start alike.
    all("DOWN");
    let begin: Vec<usize> = changes(&watch.record()).values().map(Vec::len).collect();
    for _ in 0..2 {
        let server = rivals.serve("A", 7001).unwrap();
        all("UP");
        drop(server);
        all("DOWN");
    }
    watch.finish().unwrap();
    let found = changes(&watch.record());
    let since: Vec<(&String, &[Change])> =
        found.iter().zip(begin).map(|((key, list), skip)| (key, &list[skip..])).collect();
    for server in ["once", "plain", "quick"] {
        let of = |balancer: &str| {
            let key = format!("{balancer}/{server}");
            let list = since.iter().find(|(it, _)| **it == key).map(|(_, list)| *list).unwrap();
            list.iter().filter(|(_, state)| !is_between(state)).cloned().collect::<Vec<Change>>()
        };
        compare(server, &of("C"), &of("D"));
    }
    rivals.passed();
}

/// Whether all checks have passed (`DOWN 1/1`) and the server is about to be called up: `HAProxy` counts the
/// check and changes the state a moment later, and the statistics may be read in between.
fn is_between(state: &str) -> bool {
    state
        .split_once(' ')
        .and_then(|(_, count)| count.split_once('/'))
        .is_some_and(|(passed, rise)| passed == rise)
}

/// Equal states in order; and inside a run of checks (the server's own state changes in between, at a time
/// that differs in phase) equal distances.
fn compare(server: &str, ours: &[Change], theirs: &[Change]) {
    let states = |list: &[Change]| -> Vec<String> { list.iter().map(|(_, state)| state.clone()).collect() };
    assert_eq!(states(ours), states(theirs), "{server}");
    let mut worst: f64 = 0.0;
    for (mine, other) in ours.windows(2).zip(theirs.windows(2)) {
        let settled = ["UP", "DOWN"].contains(&mine[0].1.as_str());
        if !settled {
            let difference = (mine[1].0 - mine[0].0) - (other[1].0 - other[0].0);
            worst = worst.max(difference.abs());
            assert!(difference.abs() < TOLERANCE, "{server}: {mine:?} beside {other:?}");
        }
    }
    println!("{server}: {} state changes as haproxy's, distances differ by at most {worst:.3} s", ours.len());
}
