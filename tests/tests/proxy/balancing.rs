//! Who gets a connection, and what the statistics say about it.

use super::{COMMON, NEEDS};
use harness::ready;
use harness::rivals::Rivals;
use std::collections::BTreeMap;
use std::time::Duration;
use xtask::lab::wait::until_true;

const CONFIG: &str = "
listen even
    bind :7100
    balance roundrobin
    server a 192.168.204.141:7001
    server b 192.168.204.142:7001
listen weighted
    bind :7101
    balance roundrobin
    server a 192.168.204.141:7001 weight 3
    server b 192.168.204.142:7001 weight 1
listen dead
    bind :7102
    balance roundrobin
    retries 2
    option redispatch 1
    server gone 192.168.204.141:7999
    server b 192.168.204.142:7001
listen spare
    bind :7103
    server a 192.168.204.141:7998 check inter 300ms fall 1
    server b 192.168.204.142:7001 backup
";

fn start(name: &str) -> Option<Rivals> {
    ready(name, NEEDS).then(|| Rivals::start(name, &format!("{COMMON}{CONFIG}")).unwrap())
}

fn counts(names: &[String]) -> BTreeMap<&str, usize> {
    names.iter().fold(BTreeMap::new(), |mut counts, name| {
        *counts.entry(name.as_str()).or_default() += 1;
        counts
    })
}

#[test]
fn connections_go_round_by_weight_and_around_a_dead_server_as_in_haproxy() {
    let Some(rivals) = start("proxy-balancing") else { return };
    let _servers = [rivals.serve("A", 7001).unwrap(), rivals.serve("B", 7001).unwrap()];
    for balancer in ["C", "D"] {
        let even = rivals.ask(balancer, 7100, 10).unwrap();
        assert!(even.windows(2).all(|pair| pair[0] != pair[1]), "{balancer}: {even:?}");
        assert_eq!(counts(&even), BTreeMap::from([("A", 5), ("B", 5)]), "{balancer}");
        let weighted = rivals.ask(balancer, 7101, 16).unwrap();
        assert_eq!(counts(&weighted), BTreeMap::from([("A", 12), ("B", 4)]), "{balancer}: {weighted:?}");
        assert!(!weighted.windows(4).any(|four| four.iter().all(|it| it == "A")), "{balancer}: {weighted:?}");
        let around = rivals.ask(balancer, 7102, 6).unwrap();
        assert_eq!(counts(&around), BTreeMap::from([("B", 6)]), "{balancer}");
        until_true(Duration::from_secs(5), "the backup server", || {
            rivals.ask(balancer, 7103, 1).is_ok_and(|names| names == ["B"])
        })
        .unwrap();
    }
    rivals.passed();
}

/// The columns of the statistics that tell what was configured and what happened.
const COLUMNS: [&str; 17] = [
    "pxname", "svname", "scur", "slim", "stot", "econ", "wretr", "wredis", "status", "weight", "act", "bck",
    "pid", "iid", "sid", "type", "mode",
];

#[test]
fn the_statistics_have_haproxys_columns_and_values() {
    let Some(rivals) = start("proxy-statistics") else { return };
    let _servers = [rivals.serve("A", 7001).unwrap(), rivals.serve("B", 7001).unwrap()];
    for balancer in ["C", "D"] {
        rivals.ask(balancer, 7100, 4).unwrap();
        rivals.ask(balancer, 7102, 4).unwrap();
        until_true(Duration::from_secs(5), "the dead server to be down", || {
            rivals
                .page(balancer, "/monitor;csv")
                .is_ok_and(|text| text.contains("spare,a,") && text.contains(",DOWN,"))
        })
        .unwrap();
    }
    let ours = table(&rivals.page("C", "/monitor;csv").unwrap());
    let theirs = table(&rivals.page("D", "/monitor;csv").unwrap());
    let names = |table: &[BTreeMap<String, String>]| -> Vec<String> {
        table.first().map(|row| row.keys().cloned().collect()).unwrap_or_default()
    };
    assert_eq!(names(&ours), names(&theirs));
    // The statistics' own proxy has no meaning to compare: it counts its own page views.
    let others = |table: Vec<BTreeMap<String, String>>| -> Vec<Vec<String>> {
        table
            .into_iter()
            .filter(|row| row["pxname"] != "monitor")
            .map(|row| COLUMNS.iter().map(|column| format!("{column}={}", row[*column])).collect())
            .collect()
    };
    for (mine, other) in others(ours).into_iter().zip(others(theirs)) {
        assert_eq!(mine, other);
    }
    for (path, part) in [("/monitor", "Statistics Report"), ("/monitor;csv", "text/plain")] {
        for balancer in ["C", "D"] {
            let page = rivals.page(balancer, path).unwrap();
            assert!(page.starts_with("HTTP/1.1 200") && page.contains(part), "{balancer}{path}: {page}");
        }
    }
    rivals.passed();
}

/// The rows of a CSV page with its HTTP header in front.
fn table(page: &str) -> Vec<BTreeMap<String, String>> {
    let body = page.split_once("\r\n\r\n").map_or(page, |(_, body)| body);
    let mut lines = body.lines();
    let names: Vec<&str> = lines.next().unwrap_or_default().trim_start_matches("# ").split(',').collect();
    let row =
        |line: &str| names.iter().map(ToString::to_string).zip(line.split(',').map(str::to_owned)).collect();
    lines.filter(|line| !line.is_empty()).map(row).collect()
}
