//! Managing a cluster from any of its nodes: three brokers on the loopback interface.

use super::ctl::tool;
use harness::api::Api;
use harness::node::free_port;
use harness::scratch::Scratch;
use harness::transcript::words;
use harness::wire::{Client, Login};
use harness::{Needs, ready};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};
use xtask::install;
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
        Member::start_as(scratch, name, config, &[])
    }

    /// With these words before its options.
    fn start_as(scratch: &Scratch, name: &str, config: &str, role: &[&str]) -> Member {
        let folder = scratch.path().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let (port, management) = (free_port().unwrap(), free_port().unwrap());
        std::fs::write(folder.join("broker.toml"), config).unwrap();
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]);
        command.arg(harness::programs::folder().join("broker")).args(role);
        command.arg("--data").arg(folder.join("data"));
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

    /// What a line of rabbitmqctl prints that must work.
    fn ctl(&self, line: &str) -> String {
        let output = tool(&self.folder, "rabbitmqctl", &words(line));
        assert!(output.status.success(), "{line}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Names of `list_queues` with these options.
    fn list_queues(&self, options: &[&str]) -> Vec<String> {
        let text = self.ctl(&format!("-q --no-table-headers list_queues {} name", options.join(" ")));
        let mut names: Vec<String> = text.lines().map(str::to_owned).collect();
        names.sort();
        names
    }
}

/// The lines with which nodes at these ports are one cluster; the first begins it.
fn configs<const COUNT: usize>(scratch: &Scratch, ports: [u16; COUNT]) -> [String; COUNT] {
    let cookie = scratch.path().join("cookie");
    std::fs::write(&cookie, "ACOOKIEOFTHETESTS").unwrap();
    run(Command::new("chmod").arg("600").arg(&cookie)).unwrap();
    ports.map(|port| {
        let first = ports[0];
        let peers = if port == first { String::new() } else { format!("peers = ['127.0.0.1:{first}']\n") };
        let cookie = cookie.display();
        format!(
            "[cluster]\nlisten = '127.0.0.1:{port}'\nadvertise = '127.0.0.1:{port}'\ncookie_file = '{cookie}'\n{peers}"
        )
    })
}

/// Three nodes of one cluster, which all know of each other.
fn cluster(scratch: &Scratch) -> [Member; 3] {
    let configs = configs(scratch, [(); 3].map(|()| free_port().unwrap()));
    let first = Member::start(scratch, "one", &configs[0]);
    until_true(LIMIT, "the first node to serve", || first.runs(1)).unwrap();
    let second = Member::start(scratch, "two", &configs[1]);
    until_true(LIMIT, "the second node to serve", || second.runs(2)).unwrap();
    let third = Member::start(scratch, "three", &configs[2]);
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
    let copies = |node: &Member| node.api.get("queues/%2F/mirrored?columns=copies")["copies"].clone();
    let copy = |name: &str, state: &str, missing: u64| json!({"node": name, "state": state, "messages_missing": missing});
    let expected = |state: &str, missing: u64| {
        json!([copy("rabbit@two", state, missing), copy("rabbit@three", state, missing)])
    };
    until_true(LIMIT, "the mirrors to say what they lack", || copies(two) == expected("unsynchronised", 1))
        .unwrap();
    assert_eq!(sync("nosuch").unwrap().0, 400);
    assert_eq!(sync("cancel_sync").unwrap().0, 204);
    assert_eq!(sync("sync").unwrap().0, 204);
    for node in [one, two, three] {
        let filled = || listed(node, "synchronised_slave_nodes") == 2;
        until_true(LIMIT, "the mirrors to be in sync", filled).unwrap();
        assert_eq!(copies(node), expected("synchronised", 0), "every node answers what the leader knows");
    }
    let shown = one.ctl(
        "-q list_queues --no-table-headers name slave_pids synchronised_slave_pids mirror_pids synchronised_mirror_pids",
    );
    let mirrors = "[<rabbit@two>, <rabbit@three>]";
    let line = format!("mirrored\t{}", [mirrors; 4].join("\t"));
    assert!(shown.lines().any(|shown| shown == line), "{shown}");
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

/// Two brokers and the third vote of their cluster.
fn with_witness(scratch: &Scratch) -> [Member; 3] {
    let ports = [(); 3].map(|()| free_port().unwrap());
    let configs = configs(scratch, ports);
    let first = Member::start(scratch, "one", &configs[0]);
    until_true(LIMIT, "the first node to serve", || first.runs(1)).unwrap();
    let second = Member::start(scratch, "two", &configs[1]);
    until_true(LIMIT, "the second node to serve", || second.runs(2)).unwrap();
    let join = format!("127.0.0.1:{}", ports[0]);
    let (lines, _) = configs[2].split_once("peers").unwrap();
    let witness = Member::start_as(scratch, "three", lines, &["witness", "--join", &join]);
    let all = [first, second, witness];
    until_true(LIMIT, "the brokers to know the witness", || all[..2].iter().all(|node| node.runs(3)))
        .unwrap();
    // It votes a moment before its start is over.
    all[2].ctl("await_startup");
    all
}

#[test]
fn a_witness_is_shown_as_one_and_is_no_broker() {
    let scratch = Scratch::new("managed-witness").unwrap();
    let nodes = with_witness(&scratch);
    let [one, two, _] = &nodes;
    let witness = json!({
        "name": "rabbit@three", "type": "witness", "running": true, "being_drained": false, "partitions": [],
    });
    for node in [one, two] {
        let api = &node.api;
        let kinds = json!([
            {"name": "rabbit@one", "type": "disc"}, {"name": "rabbit@three", "type": "witness"},
            {"name": "rabbit@two", "type": "disc"},
        ]);
        assert_eq!(api.get("nodes?columns=name,type"), kinds);
        assert_eq!(api.get("nodes/rabbit@three"), witness);
        assert_eq!(api.get("nodes/rabbit@three/memory"), json!({"memory": "not_available"}));
        assert_eq!(api.get("healthchecks/node/rabbit@three"), json!({"status": "ok"}));
        assert_eq!(api.ask("GET", "auth/attempts/rabbit@three", None).unwrap().0, 404);
        let overview = api.get("overview");
        let listeners = overview["listeners"].as_array().unwrap();
        assert!(listeners.iter().all(|it| it["node"] != "rabbit@three"), "{overview}");
        let state = api.get("vhosts/%2F")["cluster_state"].clone();
        assert_eq!(state, json!({"rabbit@one": "running", "rabbit@two": "running"}));
    }
    one.api.put("queues/%2F/mirrored", &json!({"durable": true}));
    one.api.put("queues/%2F/agreed", &json!({"durable": true, "arguments": {"x-queue-type": "quorum"}}));
    for _ in 0..5 {
        let sent = two.api.ask("POST", "exchanges/%2F/amq.default/publish", Some(&message("mirrored", "m")));
        assert_eq!(sent.unwrap(), (200, json!({"routed": true})));
    }
    one.api.policy("/", "all", "^mirrored$", &json!({"ha-mode": "all", "ha-sync-mode": "manual"}), 0);
    // A copy of everything is a copy on every broker.
    let copies = |queue: &str| one.api.get(&format!("queues/%2F/{queue}?columns=copies"))["copies"].clone();
    let lacking = json!([{"node": "rabbit@two", "state": "unsynchronised", "messages_missing": 5}]);
    until_true(LIMIT, "the mirror to say what it lacks", || copies("mirrored") == lacking).unwrap();
    let agreed = json!([{"node": "rabbit@two", "state": "synchronised", "messages_missing": 0}]);
    until_true(LIMIT, "the member to be there", || copies("agreed") == agreed).unwrap();
    tools_tell_it_apart(&nodes);
    if ready("cluster.js", &[Needs::Browser, Needs::Programs(install::RABBITMQ)]) {
        let shown = super::browser::shown("cluster.js", scratch.path(), one.management_port, one.port);
        let theirs =
            ["cluster_overview", "cluster_witness", "cluster_broker", "cluster_queues", "cluster_queue"];
        let ours = ["login", "overview", "witness", "broker", "cluster", "queues"];
        assert_eq!(shown, [&ours[..], &theirs, &["queue"]].concat());
    }
    let [one, _, mut witness] = nodes;
    witness.process.kill();
    let gone = || one.api.get("nodes/rabbit@three")["running"] == false;
    until_true(LIMIT, "the witness to be missed", gone).unwrap();
    assert_eq!(one.api.ask("GET", "healthchecks/node/rabbit@three", None).unwrap().0, 503);
    scratch.passed();
}

fn tools_tell_it_apart([one, two, witness]: &[Member; 3]) {
    let remote = format!("http://guest:guest@127.0.0.1:{}", one.management_port);
    for (node, options) in [(one, ""), (two, ""), (witness, ""), (two, &*format!("-n {remote}"))] {
        let text = node.ctl(&format!("-q {options} cluster_status --formatter json"));
        let status: Value = serde_json::from_str(&text).unwrap();
        let names = |field: &str| {
            let mut names: Vec<&str> =
                status[field].as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
            names.sort_unstable();
            names
        };
        assert_eq!(names("witnesses"), ["rabbit@three"], "{status}");
        for field in ["disk_nodes", "running_nodes"] {
            assert_eq!(names(field), ["rabbit@one", "rabbit@two"], "{field}: {status}");
        }
        for field in ["listeners", "versions", "maintenance_status"] {
            let of: Vec<&String> = status[field].as_object().unwrap().keys().collect();
            assert_eq!(of, ["rabbit@one", "rabbit@two"], "{field}: {status}");
        }
        assert_eq!(status["cluster_name"], "rabbit@one", "{status}");
        for name in ["rabbit@one", "rabbit@two"] {
            let protocols: Vec<&Value> =
                status["listeners"][name].as_array().unwrap().iter().map(|it| &it["protocol"]).collect();
            assert!(protocols.contains(&&json!("amqp")), "{name}: {status}");
            assert_eq!(status["versions"][name]["rabbitmq_version"], "3.10.8", "{status}");
        }
    }
    let output = tool(&witness.folder, "rabbitmqctl", &words("list_queues"));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("is a witness"), "{output:?}");
    let text = one.ctl("cluster_status");
    assert!(text.contains("Witnesses\n\nrabbit@three\n"), "{text}");
    one.ctl("await_online_nodes 2");
    let output = tool(&one.folder, "rabbitmqctl", &words("await_online_nodes 3 -t 1"));
    assert!(!output.status.success(), "a witness is no node that is waited for: {output:?}");
    let shown = one.ctl("-q list_queues --no-table-headers name slave_pids synchronised_slave_pids");
    assert!(shown.lines().any(|line| line == "mirrored\t[<rabbit@two>]\t[]"), "{shown}");
}
