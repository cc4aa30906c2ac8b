//! What runs: the overview, nodes, connections, channels, consumers, health checks.

use crate::{Api, map, must, passed};
use rabbitmq_http_client::commons::{PaginationParams, SupportedProtocol};
use rabbitmq_http_client::responses::{Connection, ReachabilityProbeOutcome};
use serde_json::json;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long something may take.
const LIMIT: Duration = Duration::from_secs(30);

pub(crate) fn overview(api: &Api) {
    assert!(matches!(api.probe_reachability(), ReachabilityProbeOutcome::Reached(_)));
    let overview = must("overview", api.overview());
    assert_eq!(must("version", api.server_version()), overview.rabbitmq_version);
    assert!(overview.listeners.iter().any(|listener| listener.protocol == "amqp"));
    assert!(overview.object_totals.exchanges >= 7 && overview.object_totals.connections >= 1);
    let name = must("cluster name", api.get_cluster_name()).name;
    must("rename", api.set_cluster_name("renamed"));
    assert_eq!(must("cluster name", api.get_cluster_name()).name, "renamed");
    must("rename back", api.set_cluster_name(&name));
    must("tags", api.set_cluster_tags(map(json!({"region": "here"}))));
    assert_eq!(must("tags", api.get_cluster_tags()).0.get("region"), Some(&json!("here")));
    must("no tags", api.clear_cluster_tags());
    assert!(must("feature flags", api.list_feature_flags()).contains("quorum_queue"));
    must("a feature flag", api.enable_feature_flag("quorum_queue"));
    must("all feature flags", api.enable_all_stable_feature_flags());
    assert_eq!(must("whoami", api.current_user()).name, "guest");
    must("rebalancing", api.rebalance_queue_leaders());
    passed("overview");
}

pub(crate) fn nodes(api: &Api) {
    let node = must("overview", api.overview()).node;
    let nodes = must("nodes", api.list_nodes());
    assert!(nodes.iter().any(|it| it.name == node && it.os_pid > 0 && !it.being_drained));
    let info = must("a node", api.get_node_info(&node));
    assert!(info.processors > 0 && info.memory_high_watermark > 0 && info.rabbitmq_version() != "unknown");
    let memory = must("memory of a node", api.get_node_memory_footprint(&node));
    assert!(memory.breakdown.expect("it is known").total.rss > 0);
    assert!(must("plugins", api.list_all_cluster_plugins()).contains("rabbitmq_management"));
    assert!(must("plugins of a node", api.list_node_plugins(&node)).contains("rabbitmq_prometheus"));
    let attempts = must("logins", api.auth_attempts_statistics(&node));
    assert!(attempts.iter().any(|it| it.success_count > 0 && it.protocol == SupportedProtocol::HTTP));
    passed("nodes");
}

/// The connection whose client calls itself so.
fn connection_of(api: &Api, client: &str) -> Connection {
    let deadline = Instant::now() + LIMIT;
    loop {
        let all = must("connections", api.list_connections());
        let found = all.into_iter().find(|it| it.client_properties.connection_name == client);
        if let Some(connection) = found {
            return connection;
        }
        assert!(Instant::now() < deadline, "{client} is not connected");
        sleep(Duration::from_millis(50));
    }
}

pub(crate) fn connections(api: &Api) {
    let seen = connection_of(api, "seen");
    assert_eq!((&*seen.username, seen.state.as_deref()), ("guest", Some("running")));
    assert_eq!(must("get", api.get_connection_info(&seen.name)).name, seen.name);
    let page = PaginationParams::first_page(10);
    assert_eq!(must("a page", api.list_connections_paged(&page)).len(), 2);
    assert_eq!(must("to a vhost", api.list_connections_in("/")).len(), 2);
    assert_eq!(must("of a user", api.list_user_connections("guest")).len(), 2);
    channels(api, &seen);
    let closed = connection_of(api, "closed");
    must("close", api.close_connection(&closed.name, Some("by the test"), false));
    let deadline = Instant::now() + LIMIT;
    while must("connections", api.list_connections()).len() > 1 {
        assert!(Instant::now() < deadline, "a connection that is closed goes away");
        sleep(Duration::from_millis(50));
    }
    must("close nobody's", api.close_connection("nobody -> nowhere", Some("a test"), true));
    assert!(
        api.close_connection("nobody -> nowhere", None, false).expect_err("there is none").is_not_found()
    );
    passed("connections");
}

fn channels(api: &Api, connection: &Connection) {
    let own = must("channels of a connection", api.list_channels_on(&connection.name));
    let channel = &own[0];
    assert_eq!((own.len(), channel.id, channel.consumer_count), (1, 1, 1));
    assert_eq!(
        must("a channel", api.get_channel_info(&channel.name)).connection_details.name,
        connection.name
    );
    let page = PaginationParams::first_page(10);
    assert_eq!(
        must("channels", api.list_channels()).len(),
        must("a page", api.list_channels_paged(&page)).len()
    );
    assert!(!must("in a vhost", api.list_channels_in("/")).is_empty());
    must("a page in a vhost", api.list_channels_in_paged("/", &page));
    let consumers = must("consumers", api.list_consumers());
    let consumer = &consumers[0];
    assert_eq!((&*consumer.consumer_tag, &*consumer.queue.name, consumer.active), ("worker", "seen", true));
    let details = consumer.channel_details.as_ref().expect("it has a channel");
    assert_eq!((details.id, &details.connection_name), (1, &connection.name));
    assert_eq!(must("consumers in a vhost", api.list_consumers_in("/")).len(), 1);
}

pub(crate) fn health_checks(api: &Api, port: u16) {
    must("alarms", api.health_check_cluster_wide_alarms());
    must("local alarms", api.health_check_local_alarms());
    must("quorum", api.health_check_if_node_is_quorum_critical());
    must("port", api.health_check_port_listener(port));
    must("protocol", api.health_check_protocol_listener(SupportedProtocol::AMQP));
    assert!(api.health_check_port_listener(1).is_err());
    assert!(api.health_check_protocol_listener(SupportedProtocol::Stream).is_err());
    passed("health_checks");
}
