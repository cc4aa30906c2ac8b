//! Joining, leaving, forgetting and renaming with the words of rabbitmqctl, and with ours.

use super::NEEDS;
use harness::cluster::{Cluster, HOSTS};
use harness::ready;
use harness::transcript::differences;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// What rabbitmqctl says on three nodes that become a cluster.
const COMMANDS: &str = include_str!("commands.transcript");

#[test]
fn the_tutorials_lines_work_as_printed_and_what_a_node_had_comes_back_when_it_leaves() {
    if !ready("the tutorial's lines", NEEDS) {
        return;
    }
    let cluster = Cluster::new("cluster-lines").unwrap();
    for host in ["A", "B"] {
        cluster.start(host).unwrap();
    }
    cluster.must("B", "add_user only_on_b secret").unwrap();
    cluster.must("A", "add_user only_on_a secret").unwrap();
    cluster.client("fill", &[&cluster.url("B"), "own", "20"]).unwrap();
    // On B, as the tutorial prints it.
    let lines = [
        ("stop_app", "Stopping rabbit application on node rabbit@B ...\n"),
        ("join_cluster rabbit@A", "Clustering node rabbit@B with rabbit@A\n"),
        ("start_app", "Starting node rabbit@B ...\n"),
    ];
    for (line, printed) in lines {
        let said = cluster.must("B", line).unwrap();
        // Ours adds what became of the data of before.
        assert!(said.starts_with(printed), "{said}");
        assert!(said[printed.len()..].lines().all(|line| line.starts_with("note: ")), "{said}");
    }
    cluster.wait_running("A", &["A", "B"]).unwrap();
    cluster.wait_running("B", &["A", "B"]).unwrap();
    let status = cluster.must("B", "cluster_status").unwrap();
    for part in
        ["Cluster status of node rabbit@B ...", "Disk Nodes", "Running Nodes", "\nrabbit@A\nrabbit@B\n"]
    {
        assert!(status.contains(part), "{part} is missing in:\n{status}");
    }
    // What A had is everywhere; what B had alone is not.
    let users = cluster.must("B", "-q list_users").unwrap();
    assert!(users.contains("only_on_a") && !users.contains("only_on_b"), "{users}");
    cluster.must("B", "add_user shared secret").unwrap();
    assert!(cluster.must("A", "-q list_users").unwrap().contains("shared"));
    let queues = cluster.must("B", "-q list_queues name").unwrap();
    assert!(!queues.contains("own"), "{queues}");
    let again = cluster.ctl("B", "stop_app").unwrap();
    assert_eq!(again.code, 0, "{again:?}");
    cluster.wait_running("A", &["A"]).unwrap();
    cluster.must("B", "reset").unwrap();
    cluster.must("B", "start_app").unwrap();
    cluster.wait_running("B", &["B"]).unwrap();
    cluster.wait_running("A", &["A"]).unwrap();
    let users = cluster.must("B", "-q list_users").unwrap();
    assert!(!users.contains("only_on_a") && !users.contains("shared"), "{users}");
    if !cluster.is_rabbitmq() {
        // RabbitMQ's reset leaves nothing; the tutorial promises that the old data comes back, and here it does.
        assert!(users.contains("only_on_b"), "{users}");
        let count = || cluster.client("count", &[&cluster.url("B"), "own"]).unwrap();
        assert_eq!(count().trim(), "ready 20");
        // The same in our own words, one line each.
        cluster.must("B", "broker join A:25672").unwrap();
        cluster.wait_running("A", &["A", "B"]).unwrap();
        cluster.must("B", "broker leave").unwrap();
        cluster.wait_running("A", &["A"]).unwrap();
        assert_eq!(count().trim(), "ready 20");
    }
    cluster.passed();
}

#[test]
fn a_node_that_cannot_join_is_told_why_at_once_and_runs_on_alone() {
    if !ready("a node cannot join", NEEDS) {
        return;
    }
    let cluster = Cluster::new("cluster-refused").unwrap();
    for host in HOSTS {
        if host == "C" {
            cluster.set_cookie(host, "ANOTHERCOOKIE").unwrap();
        }
        cluster.start(host).unwrap();
    }
    let running = cluster.ctl("B", "join_cluster rabbit@A").unwrap();
    assert!(
        running.code == 64 && running.err.contains("requires the 'rabbit' app to be stopped"),
        "{running:?}"
    );
    // No such host, another secret, and what is no port of a node at all.
    for (host, other, words) in
        [("B", "rabbit@nosuch", "nosuch"), ("C", "rabbit@A", "cookie"), ("B", "rabbit@A:5672", "port")]
    {
        if cluster.is_rabbitmq() && other.contains(':') {
            continue;
        }
        cluster.must(host, "stop_app").unwrap();
        let asked = Instant::now();
        let refused = cluster.ctl(host, &format!("join_cluster {other}")).unwrap();
        println!("{host} is refused by {other} after {:.2} s", asked.elapsed().as_secs_f64());
        assert!(refused.code != 0 && refused.err.to_lowercase().contains(words), "{refused:?}");
        assert!(cluster.is_rabbitmq() || asked.elapsed() < Duration::from_secs(10), "nobody waits that long");
        cluster.must(host, "start_app").unwrap();
        cluster.wait_running(host, &[host]).unwrap();
    }
    if !cluster.is_rabbitmq() {
        // A token stands for the cookie, once, and brings it along.
        let token = cluster.must("A", "broker token -q").unwrap();
        cluster.must("C", &format!("broker join {}", token.trim())).unwrap();
        cluster.wait_running("A", &["A", "C"]).unwrap();
        cluster.must("C", "stop_app").unwrap();
        cluster.must("C", "start_app").unwrap();
        cluster.wait_running("A", &["A", "C"]).unwrap();
    }
    cluster.passed();
}

#[test]
fn commands_answer_as_recorded_and_a_node_that_is_down_for_good_is_forgotten() {
    if !ready("a node is forgotten", NEEDS) {
        return;
    }
    let cluster = Cluster::new("cluster-forget").unwrap();
    for host in HOSTS {
        cluster.start(host).unwrap();
    }
    let found = differences(COMMANDS, &BTreeMap::new(), |mut words| {
        let host = words.remove(0);
        cluster.ctl_words(&host, words).unwrap()
    });
    assert!(found.is_empty(), "{}", found.join("\n"));
    cluster.wait_running("A", &HOSTS).unwrap();
    cluster.client("fill", &[&cluster.url("C"), "only_there", "1"]).unwrap();
    cluster.kill("C").unwrap();
    cluster.wait_running("A", &["A", "B"]).unwrap();
    if !cluster.is_rabbitmq() {
        let refused = cluster.ctl("A", "forget_cluster_node rabbit@C").unwrap();
        assert!(refused.code != 0 && refused.err.contains("only_there"), "what would be lost: {refused:?}");
        cluster.must("A", "forget_cluster_node --accept-loss rabbit@C").unwrap();
    } else {
        cluster.must("A", "forget_cluster_node rabbit@C").unwrap();
    }
    let says_nothing_of_it = |warnings: &[String]| warnings.iter().all(|it| !it.contains("rabbit@C"));
    cluster.wait_warnings("B", "everything but the forgotten node", says_nothing_of_it).unwrap();
    let status = cluster.must("B", "-q cluster_status --formatter json").unwrap();
    assert!(!status.contains("rabbit@C"), "{status}");
    if !cluster.is_rabbitmq() {
        // It comes back and is told; a reset makes it one that can join.
        cluster.launch("C").unwrap();
        cluster.wait_log("C", "is no member of the cluster, says rabbit@A").unwrap();
        cluster.wait_control("C").unwrap();
        cluster.must("C", "stop_app").unwrap();
        cluster.must("C", "force_reset").unwrap();
        cluster.must("C", "join_cluster rabbit@A").unwrap();
        cluster.must("C", "start_app").unwrap();
        cluster.wait_running("A", &HOSTS).unwrap();
    }
    cluster.passed();
}

#[test]
fn a_node_is_drained_for_maintenance_and_another_one_is_renamed() {
    if !ready("maintenance and another name", NEEDS) {
        return;
    }
    let cluster = Cluster::joined("cluster-maintenance").unwrap();
    if cluster.is_rabbitmq() {
        return cluster.passed();
    }
    cluster.client("fill", &[&cluster.url("B"), "kept", "50"]).unwrap();
    std::thread::scope(|scope| {
        let told = scope.spawn(|| cluster.client("closed", &[&cluster.url("B")]).unwrap());
        cluster.wait_connections("B", 1).unwrap();
        let said = cluster.must("B", "rabbitmq-upgrade drain").unwrap();
        assert!(said.starts_with("Will put node rabbit@B into maintenance mode."), "{said}");
        assert_eq!(told.join().unwrap().trim(), "320 CONNECTION_FORCED - Node was put into maintenance mode");
    });
    cluster.wait_closed("B").unwrap();
    let status = cluster.status("A").unwrap();
    assert_eq!(status["maintenance_status"]["rabbit@B"], "marked for maintenance", "{status}");
    // What only it has is there, through the others.
    assert_eq!(cluster.client("count", &[&cluster.url("A"), "kept"]).unwrap().trim(), "ready 50");
    cluster.must("B", "rabbitmq-upgrade revive").unwrap();
    cluster.wait_serving("B").unwrap();
    cluster.wait_warnings("A", "nothing", <[String]>::is_empty).unwrap();

    cluster.client("fill", &[&cluster.url("C"), "moving", "50"]).unwrap();
    cluster.must("C", "stop_app").unwrap();
    let wrong = cluster.ctl("C", "rename_cluster_node rabbit@A rabbit@A2").unwrap();
    assert!(wrong.code != 0 && wrong.err.contains("rabbit@C is not among the names"), "{wrong:?}");
    let taken = cluster.ctl("C", "rename_cluster_node rabbit@C rabbit@A").unwrap();
    assert_ne!(taken.code, 0, "{taken:?}");
    cluster.must("C", "rename_cluster_node rabbit@C rabbit@C2").unwrap();
    cluster.must("C", "start_app").unwrap();
    let status = || cluster.status("A").unwrap()["running_nodes"].to_string();
    xtask::lab::wait::until_true(harness::cluster::LIMIT, "the new name", || {
        status() == "[\"rabbit@A\",\"rabbit@B\",\"rabbit@C2\"]"
    })
    .unwrap();
    for host in ["A", "C"] {
        assert_eq!(cluster.client("count", &[&cluster.url(host), "moving"]).unwrap().trim(), "ready 50");
    }
    cluster.passed();
}
