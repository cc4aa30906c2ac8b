//! What Prometheus scrapes.

use harness::node::{Node, Setup, free_port};
use harness::scratch::Scratch;
use harness::{Needs, ready};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use xtask::install;
use xtask::lab::Process;
use xtask::lab::wait::until_true;

/// The metrics that the overview dashboard of RabbitMQ's authors queries, without their prefix.
const DASHBOARD: &str = "build_info identity_info channels channels_opened_total channels_closed_total connections \
    connections_opened_total connections_closed_total disk_space_available_bytes disk_space_available_limit_bytes \
    erlang_uptime_seconds global_consumers global_publishers global_messages_received_total \
    global_messages_received_confirm_total global_messages_confirmed_total global_messages_routed_total \
    global_messages_unroutable_dropped_total global_messages_unroutable_returned_total \
    global_messages_delivered_total global_messages_delivered_consume_auto_ack_total \
    global_messages_delivered_consume_manual_ack_total global_messages_delivered_get_auto_ack_total \
    global_messages_delivered_get_manual_ack_total global_messages_get_empty_total \
    global_messages_acknowledged_total global_messages_redelivered_total process_max_fds process_open_fds \
    process_resident_memory_bytes resident_memory_limit_bytes queue_messages_ready queue_messages_unacked queues \
    queues_declared_total queues_created_total queues_deleted_total message_size_bytes_bucket \
    alarms_memory_used_watermark alarms_free_disk_space_watermark alarms_file_descriptor_limit \
    process_open_tcp_sockets process_max_tcp_sockets";

struct Scraped {
    text: String,
    values: BTreeMap<String, f64>,
}

impl Scraped {
    fn new(port: u16, path: &str) -> Self {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, text) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(" 200 "), "{path}: {head}");
        assert!(head.contains("text/plain; version=0.0.4"), "{head}");
        let sample = |line: &str| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (name.to_owned(), value.parse().unwrap())
        };
        let values = text.lines().filter(|line| !line.starts_with('#')).map(sample).collect();
        Self { text: text.to_owned(), values }
    }

    fn value(&self, name: &str) -> f64 {
        *self.values.get(name).unwrap_or_else(|| panic!("{name} is missing in:\n{}", self.text))
    }

    fn has(&self, name: &str) -> bool {
        let labelled = format!("rabbitmq_{name}{{");
        self.values.keys().any(|it| *it == format!("rabbitmq_{name}") || it.starts_with(&labelled))
    }
}

/// Fails unless promtool finds nothing to say, where it is installed.
fn check_with_promtool(scraped: &Scraped) {
    if !ready("promtool check metrics", &[Needs::Programs(install::PROMETHEUS)]) {
        return;
    }
    let mut child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(scraped.text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    // Exit code 3 is for remarks of style, about RabbitMQ's own names.
    assert!(output.status.code() != Some(1), "{said}");
}

#[test]
fn the_names_of_the_dashboards_are_there_and_count_what_happened() {
    let scratch = Scratch::new("metrics").unwrap();
    let setup = Setup { management: true, metrics_port: free_port().unwrap(), ..Setup::default() };
    let node = Node::start_with(scratch.path(), &setup).unwrap();
    let mut client = harness::wire::Client::new(node.port);
    let api = harness::api::Api::new(node.management_port);
    api.put("queues/%2F/q%22uoted", &serde_json::json!({}));
    api.put(
        "queues/%2F/dead",
        &serde_json::json!({"arguments": {"x-message-ttl": 0, "x-dead-letter-exchange": "none"}}),
    );
    client.confirm(1);
    for number in 0..3 {
        client.publish(1, "q\"uoted", format!("{number}").as_bytes());
        client.expect("basic.ack");
    }
    client.publish(1, "dead", b"x");
    client.expect("basic.ack");
    client.publish_mandatory(1, "", "nowhere", b"x");
    client.expect("basic.return");
    client.expect("basic.ack");
    let got = client.get_unacked(1, "q\"uoted").tag();
    client.ack(1, got);
    client.consume(1, "q\"uoted", "me", true);
    assert_eq!(client.deliveries(1, 2), ["1", "2"]);
    assert!(client.get(1, "dead").is_none());

    let all = Scraped::new(setup.metrics_port, "/metrics");
    let missing: Vec<&str> = DASHBOARD.split_whitespace().filter(|name| !all.has(name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    let counted =
        |name: &str| all.value(&format!("rabbitmq_global_messages_{name}_total{{protocol=\"amqp091\"}}"));
    for (name, count) in [
        ("received", 5.0),
        ("received_confirm", 5.0),
        ("confirmed", 5.0),
        ("routed", 4.0),
        ("unroutable_returned", 1.0),
        ("unroutable_dropped", 0.0),
        ("delivered", 3.0),
        ("delivered_consume_auto_ack", 2.0),
        ("delivered_get_manual_ack", 1.0),
        ("acknowledged", 1.0),
        ("get_empty", 1.0),
    ] {
        assert_eq!(counted(name), count, "{name}");
    }
    assert_eq!(all.value("rabbitmq_confirm_latency_seconds_count"), 5.0);
    assert_eq!(all.value("rabbitmq_confirm_latency_seconds_bucket{le=\"+Inf\"}"), 5.0);
    assert_eq!(all.value("rabbitmq_message_size_bytes_bucket{le=\"100\"}"), 5.0);
    assert_eq!(all.value("rabbitmq_message_size_bytes_sum"), 5.0);
    let expired = "rabbitmq_global_messages_dead_lettered_expired_total{queue_type=\"rabbit_classic_queue\",\
                   dead_letter_strategy=\"at_most_once\"}";
    assert_eq!(all.value(expired), 1.0);
    assert_eq!((all.value("rabbitmq_queues"), all.value("rabbitmq_consumers")), (2.0, 1.0));
    assert!(all.text.contains("rabbitmq_identity_info{rabbitmq_node=\"rabbit@test\""));
    check_with_promtool(&all);

    let each = Scraped::new(setup.metrics_port, "/metrics/per-object");
    assert_eq!(each.value("rabbitmq_queue_consumers{vhost=\"/\",queue=\"q\\\"uoted\"}"), 1.0);
    check_with_promtool(&each);
    let path = "/metrics/detailed?family=queue_coarse_metrics&family=vhost_status&vhost=%2F";
    let some = Scraped::new(setup.metrics_port, path);
    assert_eq!(some.value("rabbitmq_detailed_queue_messages{vhost=\"/\",queue=\"dead\"}"), 0.0);
    assert_eq!(some.value("rabbitmq_cluster_vhost_status{vhost=\"/\"}"), 1.0);
    assert!(!some.has("detailed_queue_consumers"), "only what was asked for");
    check_with_promtool(&some);
    let none = Scraped::new(setup.metrics_port, "/metrics/detailed?family=queue_coarse_metrics&vhost=other");
    assert!(!none.text.contains("queue=\"dead\""));
    drop(node);
    scratch.passed();
}

/// Starts Prometheus, which scrapes a broker in every way, with its data in `folder`. Returns its own port.
fn prometheus(folder: &Path, metrics_port: u16) -> (Process, u16) {
    let job = |name: &str, path: &str, more: &str| {
        format!(
            "  - job_name: {name}\n    metrics_path: {path}\n    static_configs:\n      - targets: \
             ['127.0.0.1:{metrics_port}']\n{more}"
        )
    };
    let families = "    params:\n      family: [queue_coarse_metrics, queue_metrics, connection_coarse_metrics, \
                    channel_metrics, vhost_status]\n";
    let config = format!(
        "global:\n  scrape_interval: 1s\n  scrape_timeout: 1s\nscrape_configs:\n{}{}{}",
        job("aggregated", "/metrics", ""),
        job("per_object", "/metrics/per-object", ""),
        job("detailed", "/metrics/detailed", families)
    );
    let file = folder.join("prometheus.yml");
    std::fs::write(&file, config).unwrap();
    let port = free_port().unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--", "prometheus", "--log.level=debug"]);
    command.arg(format!("--config.file={}", file.display()));
    command.arg(format!("--storage.tsdb.path={}", folder.join("tsdb").display()));
    command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
    (Process::spawn("prometheus", command, &folder.join("prometheus.log")).unwrap(), port)
}

#[test]
fn prometheus_scrapes_every_way_without_an_error() {
    if !ready("prometheus scrapes", &[Needs::Programs(install::PROMETHEUS)]) {
        return;
    }
    let scratch = Scratch::new("prometheus").unwrap();
    let setup = Setup { management: true, metrics_port: free_port().unwrap(), ..Setup::default() };
    let node = Node::start_with(scratch.path(), &setup).unwrap();
    let mut client = harness::wire::Client::new(node.port);
    // A name with everything that has to be escaped in a label.
    let queue = "a \"b\\c";
    let path = format!("queues/%2F/{}", harness::api::encoded(queue));
    harness::api::Api::new(node.management_port).put(&path, &serde_json::json!({}));
    client.confirm(1);
    for _ in 0..3 {
        client.publish(1, queue, b"x");
        client.expect("basic.ack");
    }
    client.consume(1, queue, "me", false);
    let (mut process, port) = prometheus(scratch.path(), setup.metrics_port);
    // It has paths below /api, too.
    let api = harness::api::Api::new(port);
    let mut targets = serde_json::Value::Null;
    until_true(Duration::from_secs(60), "every way to be scraped", || {
        assert!(process.is_running(), "{}", process.log());
        let Ok((200, answer)) = api.ask("GET", "v1/targets", None) else { return false };
        targets = answer["data"]["activeTargets"].clone();
        let all = targets.as_array().unwrap();
        all.len() == 3 && all.iter().all(|target| target["health"] != "unknown")
    })
    .unwrap();
    for target in targets.as_array().unwrap() {
        assert_eq!((&target["health"], &target["lastError"]), (&"up".into(), &"".into()), "{target}");
    }
    let mut found = serde_json::Value::Null;
    // What was counted is seen in the next scrape.
    until_true(Duration::from_secs(30), "the messages in Prometheus", || {
        let query = "v1/query?query=rabbitmq_queue_messages_unacked%7Bjob%3D%22per_object%22%7D";
        found = api.get(query)["data"]["result"][0].clone();
        found["value"][1] == "3"
    })
    .unwrap();
    assert_eq!(found["metric"]["queue"], queue);
    process.terminate();
    process.wait(Duration::from_secs(30)).unwrap();
    let log = process.log();
    for wrong in ["Error on ingesting", "Append failed", "Scrape failed", "level=error"] {
        assert!(!log.contains(wrong), "{wrong} in:\n{log}");
    }
    drop(node);
    scratch.passed();
}
