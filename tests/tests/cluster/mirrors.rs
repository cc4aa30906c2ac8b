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

/// Sets a policy on A; the definition stands without its braces.
fn set_policy(cluster: &Cluster, name: &str, pattern: &str, definition: &str) {
    cluster.must("A", &format!("set_policy {name} {pattern} '{{{definition}}}'")).unwrap();
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
fn a_node_that_stops_waits_for_a_mirror_that_is_about_to_be_in_sync() {
    if !ready("a leader is stopped while its mirror catches up", NEEDS) {
        return;
    }
    let cluster = Cluster::joined("cluster-catching-up").unwrap();
    cluster.client("fill", &[&cluster.url("A"), "q", "0"]).unwrap();
    set_policy(
        &cluster,
        "two",
        "^",
        "\"ha-mode\":\"nodes\",\"ha-params\":[\"rabbit@A\",\"rabbit@B\"],\"ha-sync-mode\":\"automatic\"",
    );
    wait_mirrors(&cluster, "A", "q", 1);
    cluster.kill("B").unwrap();
    cluster.client("fill", &[&cluster.url("A"), "q", "4000"]).unwrap();
    wait_mirrors(&cluster, "A", "q", 0);
    cluster.start("B").unwrap();
    cluster.must("A", "stop_app").unwrap();
    assert_eq!(cluster.client("count", &[&cluster.url("C"), "q"]).unwrap().trim(), "ready 4000");

    // A drain that waits for a mirror which is not told to catch up, and is called off meanwhile.
    cluster.must("A", "start_app").unwrap();
    cluster.wait_serving("A").unwrap();
    wait_mirrors(&cluster, "B", "q", 1);
    set_policy(&cluster, "two", "^", "\"ha-mode\":\"nodes\",\"ha-params\":[\"rabbit@A\",\"rabbit@B\"]");
    cluster.kill("A").unwrap();
    cluster.client("fill", &[&cluster.url("B"), "q", "10"]).unwrap();
    cluster.start("A").unwrap();
    cluster.wait_running("B", &HOSTS).unwrap();
    std::thread::scope(|scope| {
        let drain = scope.spawn(|| cluster.must("B", "rabbitmq-upgrade drain"));
        let state = || cluster.status("A").unwrap()["maintenance_status"]["rabbit@B"].clone();
        until_true(LIMIT, "maintenance", || state() == "marked for maintenance").unwrap();
        cluster.must("B", "rabbitmq-upgrade revive").unwrap();
        drain.join().unwrap().unwrap();
    });
    cluster.wait_serving("B").unwrap();
    assert_eq!(cluster.client("count", &[&cluster.url("B"), "q"]).unwrap().trim(), "ready 4010");
    // It would wait a second for the mirror that does not catch up.
    cluster.stop_impatiently("B").unwrap();
    cluster.wait_log("B", "told again to stop").unwrap();
    cluster.passed();
}

#[test]
fn policies_say_who_has_copies_and_who_takes_over_without_them() {
    if !ready("modes of mirroring", NEEDS) {
        return;
    }
    let cluster = Cluster::joined("cluster-exactly").unwrap();
    cluster.client("fill", &[&cluster.url("A"), "q", "10"]).unwrap();
    let policy =
        |name: &str, pattern: &str, definition: &str| set_policy(&cluster, name, pattern, definition);
    policy("ha", "^q$", "\"ha-mode\":\"exactly\",\"ha-params\":2,\"ha-sync-mode\":\"automatic\"");
    wait_mirrors(&cluster, "B", "q", 1);
    policy(
        "ha",
        "^q$",
        "\"ha-mode\":\"nodes\",\"ha-params\":[\"rabbit@B\",\"rabbit@C\"],\"ha-sync-mode\":\"automatic\"",
    );
    // Its leader is not in the list: it stays until one of the list has everything.
    let is_at = |host: &str, mirror: &str| {
        let text =
            cluster.must("A", "-q list_queues --no-table-headers name pid slave_pids").unwrap_or_default();
        let row: Vec<&str> =
            text.lines().find(|line| line.starts_with("q\t")).unwrap_or_default().split('\t').collect();
        let holds = |column: usize, host: &str| row.get(column).is_some_and(|it| it.contains(host));
        holds(1, &format!("rabbit@{host}")) && holds(2, &format!("rabbit@{mirror}")) && !holds(2, "rabbit@A")
    };
    until_true(LIMIT, "the queue on B and C", || is_at("B", "C") || is_at("C", "B")).unwrap();
    assert_eq!(cluster.client("count", &[&cluster.url("A"), "q"]).unwrap().trim(), "ready 10");
    cluster.must("A", "clear_policy ha").unwrap();
    wait_mirrors(&cluster, "B", "q", 0);

    cluster.passed();
}

#[test]
fn without_a_mirror_in_sync_a_queue_waits_unless_its_policy_says_otherwise() {
    if !ready("promotion by policy", NEEDS) {
        return;
    }
    let cluster = Cluster::joined("cluster-promotion").unwrap();
    let policy =
        |name: &str, pattern: &str, definition: &str| set_policy(&cluster, name, pattern, definition);
    // A quorum queue needs no policy. Of the others only A has what came before they were mirrored.
    cluster.client("quorum", &[&cluster.url("A"), "majority", "10"]).unwrap();
    let waits = if cluster.is_rabbitmq() { ",\"ha-promote-on-failure\":\"when-synced\"" } else { "" };
    for (queue, more) in [
        ("waits", waits),
        ("stopped", ",\"ha-promote-on-shutdown\":\"always\",\"ha-promote-on-failure\":\"when-synced\""),
        ("failed", ",\"ha-promote-on-failure\":\"always\""),
    ] {
        cluster.client("fill", &[&cluster.url("A"), queue, "10"]).unwrap();
        policy(
            queue,
            &format!("^{queue}$"),
            &format!("\"ha-mode\":\"all\",\"ha-sync-mode\":\"manual\"{more}"),
        );
        let mirrors = || {
            let line = "-q list_queues --no-table-headers name slave_pids";
            let text = cluster.must("B", line).unwrap_or_default();
            let row = text.lines().find(|line| line.starts_with(queue)).unwrap_or_default().to_owned();
            row.matches("rabbit@").count() == 2
        };
        until_true(LIMIT, "two mirrors that are not in sync", mirrors).unwrap();
    }
    let ready = |queue: &str| cluster.client("count", &[&cluster.url("B"), queue]).unwrap_or_default();
    let down = |queue: &str| {
        let said = cluster.client("down", &[&cluster.url("B"), queue]).unwrap_or_default();
        said.contains("passive 404") && said.contains("is down or inaccessible")
    };
    let becomes = |queue: &str, count: &str| {
        until_true(LIMIT, &format!("{queue} to have {count} messages"), || {
            ready(queue).trim() == format!("ready {count}")
        })
        .unwrap();
    };
    cluster.stop("A").unwrap();
    cluster.wait_running("B", &["B", "C"]).unwrap();
    becomes("majority", "10");
    becomes("stopped", "0");
    for queue in ["waits", "failed"] {
        until_true(LIMIT, &format!("{queue} to wait for its node"), || down(queue)).unwrap();
    }
    cluster.start("A").unwrap();
    cluster.wait_running("B", &HOSTS).unwrap();
    becomes("waits", "10");
    becomes("failed", "10");
    cluster.kill("A").unwrap();
    cluster.wait_running("B", &["B", "C"]).unwrap();
    becomes("majority", "10");
    becomes("failed", "0");
    until_true(LIMIT, "the queue to wait for its node", || down("waits")).unwrap();
    cluster.start("A").unwrap();
    becomes("waits", "10");
    // An operator may order what the policy leaves to one.
    wait_mirrors(&cluster, "B", "waits", 0);
    cluster.must("B", "sync_queue waits").unwrap();
    wait_mirrors(&cluster, "B", "waits", 2);
    cluster.passed();
}
