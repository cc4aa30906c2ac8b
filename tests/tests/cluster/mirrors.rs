//! Mirrored queues: a policy makes them, also of queues that are there, and their messages outlive a node.

use super::NEEDS;
use harness::cluster::{Cluster, HOSTS, LIMIT};
use harness::ready;
use xtask::lab::wait::until_true;

/// Waits until a queue has so many mirrors in sync.
fn wait_mirrors(cluster: &Cluster, host: &str, queue: &str, count: usize) {
    let synchronised = || {
        let line = "-q list_queues --no-table-headers name synchronised_slave_pids";
        let text = cluster.must(host, line).unwrap_or_default();
        let row = text.lines().find_map(|line| line.strip_prefix(&format!("{queue}\t")).map(str::to_owned));
        row.unwrap_or_default().matches("rabbit@").count() == count
    };
    until_true(LIMIT, &format!("{count} mirrors of {queue}"), synchronised).unwrap();
}

#[test]
fn a_policy_mirrors_a_queue_that_is_there_and_a_killed_leader_costs_nothing() {
    if !ready("a mirrored queue's leader is killed", NEEDS) {
        return;
    }
    let cluster = Cluster::joined("cluster-mirrored").unwrap();
    cluster.client("fill", &[&cluster.url("A"), "before", "100"]).unwrap();
    cluster.must("B", "set_policy xall ^ '{\"ha-mode\":\"all\",\"ha-sync-mode\":\"automatic\"}'").unwrap();
    wait_mirrors(&cluster, "B", "before", 2);
    cluster.client("fill", &[&cluster.url("A"), "after", "100"]).unwrap();
    wait_mirrors(&cluster, "B", "after", 2);
    cluster.kill("A").unwrap();
    for queue in ["before", "after"] {
        let count = || cluster.client("count", &[&cluster.url("B"), queue]).unwrap_or_default();
        until_true(LIMIT, "every message", || count().trim() == "ready 100").unwrap();
        wait_mirrors(&cluster, "C", queue, 1);
    }
    cluster.start("A").unwrap();
    cluster.wait_running("B", &HOSTS).unwrap();
    for queue in ["before", "after"] {
        wait_mirrors(&cluster, "C", queue, 2);
        assert_eq!(cluster.client("count", &[&cluster.url("A"), queue]).unwrap().trim(), "ready 100");
    }
    cluster.passed();
}

#[test]
fn exactly_and_nodes_say_who_has_copies() {
    if !ready("ha-mode exactly and nodes", NEEDS) {
        return;
    }
    let cluster = Cluster::joined("cluster-exactly").unwrap();
    cluster.client("fill", &[&cluster.url("A"), "q", "10"]).unwrap();
    let policy = |definition: &str| {
        cluster.must("A", &format!("set_policy ha ^q '{definition}'")).unwrap();
    };
    policy("{\"ha-mode\":\"exactly\",\"ha-params\":2,\"ha-sync-mode\":\"automatic\"}");
    wait_mirrors(&cluster, "B", "q", 1);
    policy(
        "{\"ha-mode\":\"nodes\",\"ha-params\":[\"rabbit@A\",\"rabbit@C\"],\"ha-sync-mode\":\"automatic\"}",
    );
    let on_c = || {
        let text = cluster.must("A", "-q list_queues --no-table-headers name slave_pids").unwrap_or_default();
        text.contains("rabbit@C") && !text.contains("rabbit@B")
    };
    until_true(LIMIT, "a mirror on C alone", on_c).unwrap();
    cluster.must("A", "clear_policy ha").unwrap();
    wait_mirrors(&cluster, "B", "q", 0);
    cluster.passed();
}
