//! What a client sees of a cluster: the same on every node.

use super::NEEDS;
use harness::cluster::{Cluster, HOSTS};
use harness::ready;

#[test]
fn clients_of_every_node_use_the_queues_of_all_and_are_told_which_node_is_down() {
    if !ready("clients of every node", NEEDS) {
        return;
    }
    let cluster = Cluster::joined("cluster-clients").unwrap();
    let urls = HOSTS.map(|host| cluster.url(host));
    let urls = urls.each_ref().map(String::as_str);
    // Whoever saw the answer to a declare may use it anywhere.
    assert_eq!(cluster.client("shared", &urls).unwrap().trim(), "shared 100");
    // Through nodes that the queue does not live on.
    assert_eq!(cluster.client("remote", &urls).unwrap().trim(), "remote 1000");
    // And when its node is down.
    cluster.client("fill", &[&cluster.url("C"), "kept", "100"]).unwrap();
    cluster.kill("C").unwrap();
    cluster.wait_running("A", &["A", "B"]).unwrap();
    let said = cluster.client("down", &[&cluster.url("A"), "kept"]).unwrap();
    let gone =
        "404 NOT_FOUND - home node 'rabbit@C' of durable queue 'kept' in vhost '/' is down or inaccessible";
    for act in ["passive", "declare", "get", "consume", "purge"] {
        assert!(said.contains(&format!("{act} {gone}\n")), "{act}:\n{said}");
    }
    // RabbitMQ confirms what it could not route; ours says that it was not taken.
    let publish = if cluster.is_rabbitmq() { "publish returned" } else { "publish refused" };
    assert!(said.contains(publish), "{said}");
    cluster.start("C").unwrap();
    cluster.wait_running("A", &HOSTS).unwrap();
    assert_eq!(cluster.client("count", &[&cluster.url("B"), "kept"]).unwrap().trim(), "ready 100");
    cluster.passed();
}
