//! Managing a cluster from any of its nodes: three brokers on the loopback interface.

use super::ctl::tool;
use harness::api::Api;
use harness::node::free_port;
use harness::scratch::Scratch;
use harness::wire::{Client, Login};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};
use xtask::lab::Process;
use xtask::lab::process::run;
use xtask::lab::wait::until_true;

/// How long the cluster may take to notice something.
const LIMIT: Duration = Duration::from_secs(60);
/// How long an answer may take while a node does not answer: a look waits for three seconds.
const PATIENT: Duration = Duration::from_secs(15);

struct Member {
    name: String,
    folder: PathBuf,
    process: Process,
    port: u16,
    management_port: u16,
    api: Api,
}

impl Member {
    fn start(scratch: &Scratch, name: &str, config: &str) -> Member {
        let folder = scratch.path().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let (port, management) = (free_port().unwrap(), free_port().unwrap());
        std::fs::write(folder.join("broker.toml"), config).unwrap();
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]);
        command.arg(harness::programs::folder().join("broker")).arg("--data").arg(folder.join("data"));
        command.arg("-c").arg(folder.join("broker.toml"));
        command.args(["--bind", "127.0.0.1", "--node", &format!("rabbit@{name}")]);
        command.args(["--port", &port.to_string(), "--management-port", &management.to_string()]);
        let process = Process::spawn(name, command, &folder.join("broker.log")).unwrap();
        Member {
            name: format!("rabbit@{name}"),
            folder,
            process,
            port,
            management_port: management,
            api: Api::new(management),
        }
    }

    fn runs(&self, expected: usize) -> bool {
        let Ok((200, nodes)) = self.api.ask("GET", "nodes", None) else { return false };
        let running = |node: &&Value| node["running"] == true;
        nodes.as_array().unwrap().iter().filter(running).count() == expected
    }

    fn signal(&self, signal: &str) {
        run(Command::new("kill").arg(signal).arg(self.process.pid().to_string())).unwrap();
    }

    /// Lines of `list_queues` with these options: name, node.
    fn list_queues(&self, options: &[&str]) -> Vec<String> {
        let mut line = vec!["-q".to_owned(), "--no-table-headers".to_owned(), "list_queues".to_owned()];
        line.extend(options.iter().map(|option| (*option).to_owned()));
        line.push("name".to_owned());
        let output = tool(&self.folder, "rabbitmqctl", &line);
        assert!(output.status.success(), "{output:?}");
        let mut names: Vec<String> =
            String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
        names.sort();
        names
    }
}

/// Three nodes of one cluster, which all know of each other.
fn cluster(scratch: &Scratch) -> [Member; 3] {
    let cookie = scratch.path().join("cookie");
    std::fs::write(&cookie, "ACOOKIEOFTHETESTS").unwrap();
    run(Command::new("chmod").arg("600").arg(&cookie)).unwrap();
    let ports = [(); 3].map(|()| free_port().unwrap());
    let config = |at: usize| {
        let peers = if at == 0 { String::new() } else { format!("peers = ['127.0.0.1:{}']\n", ports[0]) };
        format!(
            "[cluster]\nlisten = '127.0.0.1:{port}'\nadvertise = '127.0.0.1:{port}'\ncookie_file = '{}'\n{peers}",
            cookie.display(),
            port = ports[at]
        )
    };
    let first = Member::start(scratch, "one", &config(0));
    until_true(LIMIT, "the first node to serve", || first.runs(1)).unwrap();
    let second = Member::start(scratch, "two", &config(1));
    until_true(LIMIT, "the second node to serve", || second.runs(2)).unwrap();
    let third = Member::start(scratch, "three", &config(2));
    let all = [first, second, third];
    until_true(LIMIT, "all nodes to know all", || all.iter().all(|node| node.runs(3))).unwrap();
    all
}

fn names(list: &Value) -> Vec<&str> {
    let mut names: Vec<&str> =
        list.as_array().unwrap().iter().map(|entry| entry["name"].as_str().unwrap()).collect();
    names.sort_unstable();
    names
}

fn message(queue: &str, payload: &str) -> Value {
    json!({"properties": {"delivery_mode": 2}, "routing_key": queue, "payload": payload, "payload_encoding": "string"})
}

#[test]
fn every_node_answers_for_all_of_them() {
    let scratch = Scratch::new("managed-cluster").unwrap();
    let nodes = cluster(&scratch);
    let [one, two, three] = &nodes;
    for (node, queue) in [(one, "q1"), (two, "q2"), (three, "q3")] {
        node.api.put(&format!("queues/%2F/{queue}"), &json!({"durable": true}));
    }
    let mut clients: Vec<Client> =
        nodes.iter().map(|node| Client::with(node.port, &Login::default())).collect();
    // A client of the first node consumes from a queue that the third one leads.
    clients[0].consume(1, "q3", "far", true);
    for node in &nodes {
        let api = &node.api;
        let queues = api.get("queues");
        assert_eq!(names(&queues), ["q1", "q2", "q3"]);
        let homes: Vec<(&str, &str)> = queues
            .as_array()
            .unwrap()
            .iter()
            .map(|queue| (queue["node"].as_str().unwrap(), queue["state"].as_str().unwrap()))
            .collect();
        for other in &nodes {
            assert!(homes.contains(&(&other.name, "running")), "{homes:?}");
        }
        let page = api.get("queues?page=2&page_size=2&sort=name&columns=name");
        assert_eq!((&page["total_count"], names(&page["items"])), (&json!(3), vec!["q3"]), "{page}");
        assert_eq!(api.get("connections").as_array().unwrap().len(), 3);
        assert_eq!(api.get("channels").as_array().unwrap().len(), 3);
        let consumers = api.get("consumers");
        assert_eq!(consumers[0]["channel_details"]["node"], "rabbit@one", "{consumers}");
        assert_eq!(consumers.as_array().unwrap().len(), 1);
        assert_eq!(api.get("queues/%2F/q3")["consumer_details"][0]["consumer_tag"], "far");
        let totals = &api.get("overview")["object_totals"];
        let expected = json!({"queues": 3, "exchanges": 7, "connections": 3, "channels": 3, "consumers": 1});
        assert_eq!(*totals, expected);
        assert_eq!(api.get("nodes/rabbit@two")["name"], "rabbit@two");
        let listed = api.get("nodes?columns=name");
        assert_eq!(listed, json!([{"name": "rabbit@one"}, {"name": "rabbit@three"}, {"name": "rabbit@two"}]));
        assert_eq!(api.get("cluster-name"), json!({"name": "rabbit@one"}), "the first gives the name");
        assert_eq!(node.list_queues(&[]), ["q1", "q2", "q3"]);
        let own = queues.as_array().unwrap().iter().find(|it| it["node"] == *node.name).unwrap();
        assert_eq!(node.list_queues(&["--local"]), [own["name"].as_str().unwrap()]);
        assert_eq!(node.list_queues(&["--online"]), ["q1", "q2", "q3"]);
        assert!(node.list_queues(&["--offline"]).is_empty());
        assert_eq!(api.get("health/checks/alarms"), json!({"status": "ok"}));
        let (status, _) = api.ask("GET", "healthchecks/node/rabbit@three", None).unwrap();
        assert_eq!(status, 200);
    }
    messages_go_through_any_node(&nodes);
    a_session_counts_on_all_nodes(&nodes);
    // The queue of the test is where it was asked for first.
    for node in &nodes {
        assert_eq!(node.api.get("aliveness-test/%2F"), json!({"status": "ok"}));
    }
    // A connection to the third node is closed by the first.
    let far = three.api.get("connections?columns=name,node");
    let far = far.as_array().unwrap().iter().find(|it| it["node"] == "rabbit@three").unwrap();
    let path = format!("connections/{}", harness::api::encoded(far["name"].as_str().unwrap()));
    assert_eq!(one.api.get(&path)["node"], "rabbit@three");
    one.api.delete(&path);
    clients[2].expect("connection.close");
    one.api.delete("queues/%2F/q2");
    assert_eq!(names(&two.api.get("queues")), ["aliveness-test", "q1", "q3"]);
    mirrors_are_filled_when_somebody_asks(&nodes);
    scratch.passed();
}

/// As behind a balancer, which chooses another node for each request.
fn a_session_counts_on_all_nodes([one, two, three]: &[Member; 3]) {
    let ask = |node: &Member, request: &str, more: &str| {
        let mut stream = TcpStream::connect(("127.0.0.1", node.management_port)).unwrap();
        let head = "host: localhost\r\nconnection: close\r\n";
        write!(stream, "{request} HTTP/1.1\r\n{head}{more}").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let form = "content-type: application/x-www-form-urlencoded\r\ncontent-length: 29\r\n\r\n\
                username=guest&password=guest";
    let answer = ask(one, "POST /api/login", form);
    let cookie = answer.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
    let cookie = format!("cookie: {}\r\n\r\n", cookie.split(';').next().unwrap());
    let knows = |node: &Member| ask(node, "GET /api/whoami", &cookie).starts_with("HTTP/1.1 200");
    for node in [one, two, three, two, one] {
        assert!(knows(node), "{}", node.name);
    }
    ask(three, "POST /api/logout", &format!("content-length: 0\r\n{cookie}"));
    for node in [two, one, three] {
        assert!(!knows(node), "{}", node.name);
    }
    let invented = format!("cookie: broker_session={}\r\n\r\n", "a".repeat(43));
    assert!(ask(two, "GET /api/whoami", &invented).starts_with("HTTP/1.1 401"));
}

fn mirrors_are_filled_when_somebody_asks([one, two, three]: &[Member; 3]) {
    one.api.put("queues/%2F/mirrored", &json!({"durable": true}));
    let sent = two.api.ask("POST", "exchanges/%2F/amq.default/publish", Some(&message("mirrored", "m")));
    assert_eq!(sent.unwrap(), (200, json!({"routed": true})));
    three.api.policy("/", "mirrors", "^mirrored$", &json!({"ha-mode": "all", "ha-sync-mode": "manual"}), 0);
    let listed = |node: &Member, field: &str| {
        let queue = node.api.get("queues/%2F/mirrored");
        queue[field].as_array().map_or(0, Vec::len)
    };
    until_true(LIMIT, "the mirrors to be there", || listed(two, "slave_nodes") == 2).unwrap();
    let sync =
        |action: &str| two.api.ask("POST", "queues/%2F/mirrored/actions", Some(&json!({"action": action})));
    assert_eq!(sync("nosuch").unwrap().0, 400);
    assert_eq!(sync("cancel_sync").unwrap().0, 204);
    assert_eq!(sync("sync").unwrap().0, 204);
    for node in [one, two, three] {
        let filled = || listed(node, "synchronised_slave_nodes") == 2;
        until_true(LIMIT, "the mirrors to be in sync", filled).unwrap();
    }
}

fn messages_go_through_any_node(nodes: &[Member; 3]) {
    let [one, two, three] = nodes;
    for payload in ["a", "b", "c", "d"] {
        let sent = one.api.ask("POST", "exchanges/%2F/amq.default/publish", Some(&message("q2", payload)));
        assert_eq!(sent.unwrap(), (200, json!({"routed": true})));
    }
    assert_eq!(three.api.get("queues/%2F/q2")["messages"], 4);
    let overview = three.api.get("overview");
    assert_eq!(overview["queue_totals"]["messages"], 4);
    let published = overview["message_stats"]["publish"].as_u64().unwrap();
    assert_eq!(one.api.get("overview")["message_stats"]["publish"], published, "the same from everywhere");
    assert!(published >= 4, "{published}");
    let exchange = three.api.get("exchanges/%2F/amq.default");
    assert!(exchange["message_stats"]["publish_in"].as_u64().unwrap() >= 4, "{exchange}");
    let vhosts = three.api.get("vhosts?sort=messages&sort_reverse=true&columns=name,messages,cluster_state");
    assert_eq!(vhosts[0]["messages"], 4, "{vhosts}");
    assert_eq!(vhosts[0]["cluster_state"].as_object().unwrap().len(), 3, "{vhosts}");
    let get = json!({"count": 1, "ackmode": "ack_requeue_false", "encoding": "auto"});
    let (status, got) = three.api.ask("POST", "queues/%2F/q2/get", Some(&get)).unwrap();
    assert_eq!((status, &got[0]["payload"]), (200, &json!("a")));
    // From the second node's queue to the first one's, asked of the third.
    let moved = three.api.ask("POST", "queues/%2F/q2/move", Some(&json!({"destination": "q1", "count": 2})));
    assert_eq!(moved.unwrap(), (200, json!({"moved": 2, "refused": 0, "messages_ready": 1})));
    assert_eq!(two.api.get("queues/%2F/q1")["messages"], 2);
    let (status, got) = two.api.ask("POST", "queues/%2F/q1/get", Some(&get)).unwrap();
    assert_eq!((status, &got[0]["payload"]), (200, &json!("b")));
    one.api.delete("queues/%2F/q2/contents");
    assert_eq!(one.api.get("queues/%2F/q2")["messages"], 0);
}

#[test]
fn a_node_that_is_frozen_or_dead_is_shown_as_such_and_holds_nobody_up() {
    let scratch = Scratch::new("managed-cluster-faults").unwrap();
    let [one, two, mut three] = cluster(&scratch);
    for (node, queue) in [(&one, "here"), (&three, "there"), (&three, "gone")] {
        node.api.put(&format!("queues/%2F/{queue}"), &json!({"durable": true}));
    }
    three.signal("-STOP");
    for path in
        ["queues", "overview", "nodes", "nodes/rabbit@three", "queues/%2F/there", "vhosts", "connections"]
    {
        let began = Instant::now();
        let (status, answer) = one.api.ask("GET", path, None).unwrap();
        assert_eq!(status, 200, "{path}: {answer}");
        assert!(began.elapsed() < PATIENT, "{path} took {:?}", began.elapsed());
    }
    until_true(LIMIT, "the others to notice", || two.runs(2)).unwrap();
    three.process.kill();
    let down = two.api.get("nodes/rabbit@three");
    assert_eq!((&down["name"], &down["running"]), (&json!("rabbit@three"), &json!(false)));
    until_true(LIMIT, "the queue to be down", || two.api.get("queues/%2F/there")["state"] == "down").unwrap();
    let listed = one.api.get("queues?columns=name,node,state");
    let there = listed.as_array().unwrap().iter().find(|it| it["name"] == "there").unwrap();
    assert_eq!(*there, json!({"name": "there", "node": "rabbit@three", "state": "down"}));
    assert_eq!(one.list_queues(&["--offline"]), ["gone", "there"]);
    assert_eq!(two.list_queues(&["--online"]), ["here"]);
    let get = json!({"count": 1, "ackmode": "ack_requeue_false", "encoding": "auto"});
    let (status, refusal) = one.api.ask("POST", "queues/%2F/there/get", Some(&get)).unwrap();
    let text = "home node 'rabbit@three' of durable queue 'there' in vhost '/' is down or inaccessible";
    assert_eq!((status, &refusal["reason"]), (404, &json!(text)));
    let (status, _) = two.api.ask("DELETE", "queues/%2F/there/contents", None).unwrap();
    assert_eq!(status, 404, "what cannot be emptied is not said to be empty");
    let (status, _) = two.api.ask("DELETE", "queues/%2F/there?if-empty=true", None).unwrap();
    assert_eq!(status, 503, "nobody knows whether it is empty");
    two.api.delete("queues/%2F/gone");
    assert_eq!(names(&one.api.get("queues")), ["here", "there"]);
    let (status, refusal) = one.api.ask("GET", "healthchecks/node/rabbit@three", None).unwrap();
    assert_eq!(status, 503, "{refusal}");
    scratch.passed();
}
