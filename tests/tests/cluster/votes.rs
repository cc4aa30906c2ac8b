//! Who decides: a witness as third vote, a minority that serves nobody, and going on without a majority.

use super::NEEDS;
use harness::cluster::Cluster;
use harness::ready;

#[test]
fn a_witness_is_the_third_vote_and_a_minority_serves_nobody() {
    if !ready("a witness", NEEDS) {
        return;
    }
    let cluster = Cluster::new("cluster-witness").unwrap();
    if cluster.is_rabbitmq() {
        return cluster.passed();
    }
    // They show each other certificates, too.
    cluster.secure().unwrap();
    for host in ["A", "B"] {
        cluster.start(host).unwrap();
    }
    cluster.join("B", "A").unwrap();
    cluster.wait_running("A", &["A", "B"]).unwrap();
    cluster
        .wait_warnings("A", "a missing witness", |all| {
            all.iter().any(|text| text.contains("rabbit@B can fail; if rabbit@A fails, rabbit@B pauses"))
        })
        .unwrap();
    cluster.start_witness("C", "A").unwrap();
    cluster.wait_warnings("A", "nothing", <[String]>::is_empty).unwrap();
    let status = cluster.status("A").unwrap();
    assert_eq!(status["witnesses"].to_string(), "[\"rabbit@C\"]", "{status}");
    cluster.client("fill", &[&cluster.url("B"), "kept", "10"]).unwrap();
    // Without the witness all goes on, and whoever looks is told.
    cluster.kill("C").unwrap();
    cluster
        .wait_warnings("B", "the witness that is down", |all| {
            all.iter().any(|text| text.contains("rabbit@C is down") && text.contains("one more voter"))
        })
        .unwrap();
    cluster.must("B", "add_vhost without_c").unwrap();
    cluster.start_witness("C", "A").unwrap();
    cluster.wait_warnings("A", "nothing", <[String]>::is_empty).unwrap();
    // Either broker can go.
    cluster.kill("A").unwrap();
    cluster.wait_running("B", &["B"]).unwrap();
    cluster.must("B", "add_vhost without_a").unwrap();
    cluster.start("A").unwrap();
    cluster.wait_running("B", &["A", "B"]).unwrap();
    assert!(cluster.must("A", "-q list_vhosts").unwrap().contains("without_a"));
    cluster.wait_warnings("A", "nothing", <[String]>::is_empty).unwrap();
    // Alone, B closes its port, and tells its clients why.
    std::thread::scope(|scope| {
        let told = scope.spawn(|| cluster.client("closed", &[&cluster.url("B")]).unwrap());
        cluster.wait_connections("B", 1).unwrap();
        cluster.unplug("A", true).unwrap();
        cluster.kill("C").unwrap();
        let told = told.join().unwrap();
        assert_eq!(told.trim(), "320 CONNECTION_FORCED - node paused: no contact with cluster majority");
    });
    cluster.wait_closed("B").unwrap();
    let status = cluster.must("B", "cluster_status").unwrap();
    assert!(status.contains("this node serves no clients"), "{status}");
    cluster.unplug("A", false).unwrap();
    for host in ["A", "B"] {
        cluster.wait_serving(host).unwrap();
    }
    assert_eq!(cluster.client("count", &[&cluster.url("A"), "kept"]).unwrap().trim(), "ready 10");
    // The other two are lost for good: B begins anew with what it knows, and they cannot mix in.
    cluster.kill("A").unwrap();
    cluster.wait_closed("B").unwrap();
    cluster.must("B", "stop_app").unwrap();
    let unsure = cluster.ctl("B", "broker recover").unwrap();
    assert!(unsure.code != 0 && unsure.err.contains("--new-generation"), "{unsure:?}");
    cluster.must("B", "broker recover --new-generation").unwrap();
    cluster.must("B", "start_app").unwrap();
    cluster.wait_running("B", &["B"]).unwrap();
    assert!(cluster.must("B", "-q list_vhosts").unwrap().contains("without_a"));
    assert_eq!(cluster.client("count", &[&cluster.url("B"), "kept"]).unwrap().trim(), "ready 10");
    cluster.launch("A").unwrap();
    cluster.wait_log("A", "reset rabbit@A and let it join again").unwrap();
    cluster.must("A", "stop_app").unwrap();
    cluster.must("A", "force_reset").unwrap();
    cluster.must("A", "join_cluster rabbit@B").unwrap();
    cluster.must("A", "start_app").unwrap();
    cluster.wait_running("B", &["A", "B"]).unwrap();
    cluster.passed();
}

#[test]
fn of_two_brokers_the_second_pauses_without_the_first_and_goes_on_by_force() {
    if !ready("force_boot", NEEDS) {
        return;
    }
    let cluster = Cluster::new("cluster-force").unwrap();
    if cluster.is_rabbitmq() {
        return cluster.passed();
    }
    // The file says who belongs together: the first begins, the other one waits for it.
    for host in ["B", "A"] {
        cluster.configure(host, "[cluster]\npeers = [\"rabbit@A\", \"rabbit@B\"]\n").unwrap();
        cluster.launch(host).unwrap();
    }
    for host in ["A", "B"] {
        cluster.wait_serving(host).unwrap();
        cluster.wait_running(host, &["A", "B"]).unwrap();
    }
    cluster.client("fill", &[&cluster.url("B"), "kept", "10"]).unwrap();
    cluster.kill("B").unwrap();
    cluster.wait_running("A", &["A"]).unwrap();
    cluster.must("A", "add_vhost without_b").unwrap();
    cluster.start("B").unwrap();
    assert!(cluster.must("B", "-q list_vhosts").unwrap().contains("without_b"));
    // Both lose power, and only B comes back: it waits for A until it is told not to.
    cluster.kill("B").unwrap();
    cluster.kill("A").unwrap();
    cluster.launch("B").unwrap();
    cluster.wait_control("B").unwrap();
    let running = cluster.ctl("B", "force_boot").unwrap();
    assert!(running.code != 0 && running.err.contains("stop_app"), "{running:?}");
    cluster.must("B", "stop_app").unwrap();
    cluster.must("B", "force_boot").unwrap();
    cluster.must("B", "start_app").unwrap();
    cluster.wait_running("B", &["B"]).unwrap();
    assert!(cluster.must("B", "-q list_vhosts").unwrap().contains("without_b"));
    assert_eq!(cluster.client("count", &[&cluster.url("B"), "kept"]).unwrap().trim(), "ready 10");
    cluster.passed();
}
