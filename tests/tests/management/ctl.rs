//! The command line: every command that was recorded from RabbitMQ, and what ours does beyond.

use harness::api::Api;
use harness::node::{Node, Setup, free_port};
use harness::scratch::Scratch;
use harness::transcript::{Printed, differences, words};
use harness::wire::{Client, Login};
use serde_json::json;
use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;
use xtask::lab::Process;
use xtask::lab::wait::until_true;

const USERS: &str = include_str!("ctl/users.transcript");
const QUEUES: &str = include_str!("ctl/queues.transcript");

/// A tool for the node whose data is in `folder`.
fn command(folder: &Path, name: &str, arguments: &[String]) -> Command {
    let mut command = Command::new(harness::programs::folder().join("broker"));
    command.arg0(name).args(arguments);
    command.env("RABBITMQ_MNESIA_BASE", folder.join("data")).env("XDG_RUNTIME_DIR", folder);
    command.env_remove("RABBITMQ_NODENAME").env_remove("AMQP_URL");
    command
}

/// Runs a tool.
pub(super) fn tool(folder: &Path, name: &str, arguments: &[String]) -> Output {
    command(folder, name, arguments).output().expect("the tool starts")
}

fn ctl(folder: &Path, line: &str) -> Output {
    tool(folder, "rabbitmqctl", &words(line))
}

/// A command of a transcript.
fn asked(folder: &Path, mut words: Vec<String>) -> Printed {
    let name = words.remove(0);
    tool(folder, &name, &words).into()
}

/// A node that answers tools too: it listens for clients a moment before.
fn start(folder: &Path) -> Node {
    let node = Node::start_with(folder, &Setup::managed()).unwrap();
    let waited = ctl(folder, "await_startup -t 60");
    assert!(waited.status.success(), "{}", text(&waited));
    node
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

#[test]
fn users_permissions_and_policies_answer_as_recorded() {
    let scratch = Scratch::new("ctl-users").unwrap();
    let node = start(scratch.path());
    let found = differences(USERS, &BTreeMap::new(), |words| asked(scratch.path(), words));
    assert!(found.is_empty(), "{}", found.join("\n"));
    drop(node);
    scratch.passed();
}

#[test]
fn queues_connections_and_diagnostics_answer_as_recorded() {
    let scratch = Scratch::new("ctl-queues").unwrap();
    let node = start(scratch.path());
    std::fs::write(scratch.path().join("rabbitmq-3.10.8.json"), include_str!("ctl/rabbitmq-3.10.8.json"))
        .unwrap();
    let masks =
        BTreeMap::from([("folder", scratch.path().display().to_string()), ("port", node.port.to_string())]);
    // The first command makes the vhost that the clients are in.
    let (import, others) = QUEUES.split_once("\n\n$ rabbitmqctl set_policy").unwrap();
    let line = import.rsplit_once("$ rabbitmqctl ").unwrap().1.lines().next().unwrap();
    let imported = ctl(scratch.path(), &line.replace("{folder}", &masks["folder"]));
    assert_eq!(imported.status.code(), Some(0), "{}", text(&imported));
    let login = Login { user: "laosun", password: "123123", vhost: "/lagou", ..Login::default() };
    let mut clients = [Client::with(node.port, &login), Client::with(node.port, &login)];
    for (number, client) in clients.iter_mut().enumerate() {
        let tag = format!("ctag-{number}");
        let consume = amqp::method::basic::Consume {
            queue: "test_work_queue",
            consumer_tag: &tag,
            ..Default::default()
        };
        client.send(1, consume);
        client.expect("basic.consume-ok");
    }
    let api = Api::new(node.management_port);
    for queue in ["lazy_q", "lazy_q", "lazy_q", "test_work_queue"] {
        ctl(scratch.path(), "set_permissions -p /lagou guest .* .* .*");
        let message =
            json!({"properties": {}, "routing_key": queue, "payload": "x", "payload_encoding": "string"});
        let (status, answer) =
            api.ask("POST", "exchanges/%2Flagou/amq.default/publish", Some(&message)).unwrap();
        assert_eq!((status, &answer["routed"]), (200, &json!(true)));
    }
    ctl(scratch.path(), "clear_permissions -p /lagou guest");
    let [first, _] = &mut clients;
    first.expect("basic.deliver");
    let found = differences(&format!("$ rabbitmqctl set_policy{others}"), &masks, |words| {
        asked(scratch.path(), words)
    });
    assert!(found.is_empty(), "{}", found.join("\n"));
    drop((clients, node));
    scratch.passed();
}

#[test]
fn a_node_is_found_asked_and_stopped_without_a_password() {
    let scratch = Scratch::new("ctl-node").unwrap();
    let mut node = start(scratch.path());
    let folder = scratch.path();
    let (ours, theirs) =
        (ctl(folder, "-q -n rabbit@test list_users"), ctl(folder, "-q -n rabbit list_users"));
    assert_eq!((text(&ours).as_str(), ours.status.code()), ("user\ttags\nguest\t[administrator]\n", Some(0)));
    assert_eq!(text(&theirs), text(&ours), "a name without a host is enough");
    // Over the network, with a password.
    let url = format!("http://guest:guest@127.0.0.1:{}", node.management_port);
    let remote = ctl(folder, &format!("-q -n {url} list_users"));
    assert_eq!(text(&remote), text(&ours));
    let refused = ctl(folder, &format!("-n {} list_users", url.replace("guest:guest", "guest:wrong")));
    assert!(!refused.status.success() && text(&refused).contains("Login failed"), "{}", text(&refused));
    let local_only = ctl(folder, &format!("-n {url} stop"));
    assert!(text(&local_only).contains("own machine only"), "{}", text(&local_only));
    assert!(node.process.is_running());
    // Settings of the running node.
    assert_eq!(ctl(folder, "set_vm_memory_high_watermark 0.5").status.code(), Some(0));
    assert_eq!(ctl(folder, "set_disk_free_limit 10MB").status.code(), Some(0));
    assert_eq!(ctl(folder, "set_vm_memory_high_watermark 7").status.code(), Some(65));
    let environment = text(&ctl(folder, "environment --formatter json"));
    let environment: serde_json::Value = serde_json::from_str(&environment).unwrap();
    assert_eq!(environment["limits.disk_free"], json!(10_000_000));
    assert_eq!(environment["node.name"], json!("rabbit@test"));
    assert_eq!(ctl(folder, "set_log_level debug").status.code(), Some(0));
    assert_ne!(ctl(folder, "set_log_level loud").status.code(), Some(0));
    // Mistakes name the nearest.
    assert!(text(&ctl(folder, "list_queues nam")).contains("did you mean name?"));
    assert!(text(&ctl(folder, "list_users --quite")).contains("did you mean --quiet?"));
    let stopped = ctl(folder, "stop");
    assert_eq!(
        (stopped.status.code(), text(&stopped).as_str()),
        (Some(0), "Stopping and halting node rabbit@test ...\n")
    );
    assert!(!node.process.is_running(), "stop waits for the end");
    let gone = ctl(folder, "list_users");
    assert_eq!(gone.status.code(), Some(69));
    assert!(!folder.join("data/run/control.sock").exists());
    scratch.passed();
}

#[test]
fn listeners_can_be_suspended_and_connections_closed() {
    let scratch = Scratch::new("ctl-listeners").unwrap();
    let node = start(scratch.path());
    let folder = scratch.path();
    let mut client = Client::new(node.port);
    assert_eq!(ctl(folder, "suspend_listeners").status.code(), Some(0));
    let mut refused = Client::connect(node.port);
    refused.put_raw(&amqp::PROTOCOL_HEADER);
    refused.flush();
    assert!(refused.receive().is_none(), "nobody comes in");
    assert_eq!(ctl(folder, "resume_listeners").status.code(), Some(0));
    drop(Client::new(node.port));
    let pids = text(&ctl(folder, "-s list_connections pid"));
    let pid = pids
        .lines()
        .find(|pid| pid.starts_with("<rabbit@test.127.0.0.1:"))
        .unwrap_or_else(|| panic!("{pids}"));
    let local = client.stream.local_addr().unwrap().port();
    let own = pids.lines().find(|pid| pid.contains(&format!(":{local}-"))).unwrap_or(pid);
    let closed = tool(folder, "rabbitmqctl", &["close_connection", own, "maintenance"].map(str::to_owned));
    assert_eq!(closed.status.code(), Some(0), "{}", text(&closed));
    let close = client.expect("connection.close");
    assert!(format!("{:?}", close.method()).contains("maintenance"), "{:?}", close.method());
    let missing = ctl(folder, "close_connection <rabbit@test.0.0.0> gone");
    assert_eq!(missing.status.code(), Some(69), "{}", text(&missing));
    drop(node);
    scratch.passed();
}

/// Starts a node with nothing but its place given, and these variables.
fn start_plain(folder: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Process {
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", "--"])
        .arg(harness::programs::folder().join("broker"))
        .args(arguments);
    command.env("RABBITMQ_MNESIA_BASE", folder.join("data")).env("XDG_RUNTIME_DIR", folder);
    command.env_remove("RABBITMQ_NODENAME").envs(variables.iter().copied());
    let log = folder.join(format!("broker-{}-{}.log", arguments.len(), variables.len()));
    let mut process = Process::spawn("broker", command, &log).unwrap();
    until_true(Duration::from_secs(60), "the node to be ready", || {
        assert!(process.is_running(), "the node ended: {}", process.log());
        process.log().contains("Server startup complete")
    })
    .unwrap();
    process
}

#[test]
fn a_node_keeps_its_name_when_its_host_is_renamed() {
    let scratch = Scratch::new("ctl-renamed").unwrap();
    let folder = scratch.path();
    let ports = [free_port().unwrap().to_string(), free_port().unwrap().to_string()];
    let arguments = ["--bind", "127.0.0.1", "--port", &ports[0], "--management-port", &ports[1]];
    // As if the host had been called so.
    let mut first = start_plain(folder, &[&arguments[..], &["--node", "rabbit@before"]].concat(), &[]);
    assert_eq!(ctl(folder, "add_user kept secret").status.code(), Some(0));
    assert_eq!(ctl(folder, "stop").status.code(), Some(0));
    first.wait(Duration::from_secs(30)).unwrap();
    let pid_file = folder.join("pid");
    let variables = [("RABBITMQ_PID_FILE", pid_file.to_str().unwrap())];
    let second = start_plain(folder, &arguments, &variables);
    let users = text(&ctl(folder, "-s list_users"));
    assert!(users.contains("kept\t[]"), "{users}");
    let status = text(&ctl(folder, "cluster_status"));
    assert!(status.contains("Cluster status of node rabbit@before"), "{status}");
    let waited = tool(folder, "rabbitmqctl", &["wait".to_owned(), pid_file.display().to_string()]);
    assert!(waited.status.success(), "{}", text(&waited));
    assert_eq!(std::fs::read_to_string(&pid_file).unwrap().trim(), second.pid().to_string());
    drop(second);
    scratch.passed();
}

#[test]
fn rabbitmq_conf_and_the_variables_of_the_container_image_start_a_node() {
    let scratch = Scratch::new("ctl-conf").unwrap();
    let folder = scratch.path();
    let [amqp, http] = [free_port().unwrap(), free_port().unwrap()];
    let definitions = folder.join("definitions.json");
    std::fs::write(&definitions, include_str!("ctl/rabbitmq-3.10.8.json")).unwrap();
    let file = folder.join("rabbitmq.conf");
    let conf = format!(
        "listeners.tcp.local = 127.0.0.1:{amqp}\nmanagement.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {http}\n\
         load_definitions = {}\nhearbeat = 10\n",
        definitions.display()
    );
    std::fs::write(&file, &conf).unwrap();
    let check = |path: &Path| {
        tool(folder, "broker", &["--check".to_owned(), "-c".to_owned(), path.display().to_string()])
    };
    let checked = check(&file);
    assert!(
        checked.status.success() && text(&checked).contains("did you mean `heartbeat`?"),
        "{}",
        text(&checked)
    );
    let wrong = folder.join("wrong.conf");
    std::fs::write(&wrong, "heartbeat = soon\nframe_max = big\n").unwrap();
    let checked = check(&wrong);
    assert_eq!(checked.status.code(), Some(78), "{}", text(&checked));
    assert!(
        text(&checked).contains("wrong.conf:1:13") && text(&checked).contains("wrong.conf:2:13"),
        "{}",
        text(&checked)
    );
    let without_end = folder.join("rabbitmq");
    let log = folder.join("logs/node.log");
    let places = format!("{},-", log.display());
    let variables = [
        ("RABBITMQ_LOGS", &*places),
        ("RABBITMQ_CONFIG_FILE", without_end.to_str().unwrap()),
        ("RABBITMQ_NODENAME", "hare@conf"),
        ("RABBITMQ_VM_MEMORY_HIGH_WATERMARK", "0.3"),
    ];
    let process = start_plain(folder, &[], &variables);
    let status = ctl(folder, "-n hare@conf list_vhosts --silent");
    assert!(text(&status).contains("/lagou"), "{}", text(&status));
    drop(Client::with(
        amqp,
        &Login { user: "laosun", password: "123123", vhost: "/lagou", ..Login::default() },
    ));
    let environment = text(&ctl(folder, "environment --formatter json"));
    assert!(environment.contains("\"node.name\":\"hare@conf\""), "{environment}");
    let listed = text(&tool(folder, "rabbitmq-diagnostics", &words("os_env -q")));
    assert!(listed.contains("RABBITMQ_VM_MEMORY_HIGH_WATERMARK=0.3"), "{listed}");
    let found = text(&tool(folder, "rabbitmq-diagnostics", &words("log_location -q")));
    assert_eq!(found, format!("{}\n<stdout>\n", log.display()));
    let written = std::fs::read_to_string(&log).unwrap();
    let line = written.lines().find(|line| line.contains("Server startup complete")).unwrap();
    assert!(line.starts_with("20") && process.log().contains("Server startup complete"), "{line}");
    drop(process);
    scratch.passed();
}

#[test]
fn everyday_tools_publish_consume_measure_and_check() {
    let scratch = Scratch::new("ctl-tools").unwrap();
    let node = start(scratch.path());
    let url = format!("amqp://guest:guest@127.0.0.1:{}", node.port);
    let run = |line: &str| {
        let mut all = words(line);
        all.extend(["--url".to_owned(), url.clone()]);
        tool(scratch.path(), "broker", &all)
    };
    let refused = run("pub orders '{\"id\":1}'");
    assert!(!refused.status.success() && text(&refused).contains("reached no queue"), "{}", text(&refused));
    let published = run("pub orders '{\"id\":1}' --create -n 3 -H kind=test --content-type application/json");
    assert!(
        text(&published).starts_with("published 3 messages to orders  confirmed in "),
        "{}",
        text(&published)
    );
    let got = text(&run("get orders"));
    assert!(
        got.contains("content-type=application/json")
            && got.contains("{\"id\":1}")
            && got.contains("2 left behind it"),
        "{got}"
    );
    let consumed = text(&run("sub orders --count 3 --raw"));
    assert_eq!(consumed, "{\"id\":1}\n{\"id\":1}\n{\"id\":1}\n");
    assert!(text(&run("get orders")).contains("orders is empty"));
    let missing = run("sub nosuch --count 1");
    assert!(text(&missing).contains("404") && text(&missing).contains("list_queues"), "{}", text(&missing));
    let measured = run("bench --seconds 1");
    assert!(
        measured.status.success() && text(&measured).contains("lost 0  duplicated 0"),
        "{}",
        text(&measured)
    );
    let doctor = tool(scratch.path(), "broker", &["doctor".to_owned(), url.clone()]);
    assert!(doctor.status.success(), "{}", text(&doctor));
    for step in ["PASS dns", "PASS tcp", "PASS amqp handshake", "PASS round trip"] {
        assert!(text(&doctor).contains(step), "{step}: {}", text(&doctor));
    }
    let usage = tool(scratch.path(), "broker", &["doctor".to_owned(), "--nonsense".to_owned()]);
    assert_eq!(usage.status.code(), Some(64), "{}", text(&usage));
    let wrong = tool(scratch.path(), "broker", &["doctor".to_owned(), url.replace(":guest@", ":wrong@")]);
    assert!(
        !wrong.status.success()
            && text(&wrong).contains("FAIL amqp handshake")
            && text(&wrong).contains("fix:"),
        "{}",
        text(&wrong)
    );
    let top = tool(scratch.path(), "broker", &["top".to_owned(), "--once".to_owned()]);
    assert!(top.status.success() && text(&top).contains("orders"), "{}", text(&top));
    let pages = scratch.path().join("man");
    let written = tool(scratch.path(), "broker", &["man".to_owned(), pages.display().to_string()]);
    assert!(written.status.success(), "{}", text(&written));
    for (page, word) in
        [("broker.1", "management"), ("rabbitmqctl.1", "list_queues"), ("broker-pub.1", "expiration")]
    {
        let text = std::fs::read_to_string(pages.join(page)).unwrap();
        assert!(text.replace("\\-", "-").replace('\\', "").contains(word), "{word} is missing in {page}");
    }
    let completions = tool(scratch.path(), "broker", &words("completions bash --program rabbitmqctl"));
    assert!(text(&completions).contains("list_queues"));
    drop(node);
    scratch.passed();
}

/// What a program writes to a terminal, until `enough` of it is there, or it ends.
fn on_a_terminal(
    folder: &Path,
    line: &str,
    variables: &[(&str, &str)],
    enough: impl Fn(&str) -> bool,
) -> String {
    let program = harness::programs::folder().join("broker");
    let shown = folder.join(format!("terminal-{}", free_port().unwrap()));
    let mut command = Command::new("script");
    command.args(["-qefc", &format!("exec {} {line}", program.display())]).arg(&shown);
    command.env("RABBITMQ_MNESIA_BASE", folder.join("data")).env("XDG_RUNTIME_DIR", folder);
    command.env_remove("NO_COLOR").envs(variables.iter().copied());
    let mut process = Process::spawn("script", command, &folder.join("script.log")).unwrap();
    let read = || String::from_utf8_lossy(&std::fs::read(&shown).unwrap_or_default()).into_owned();
    until_true(Duration::from_secs(60), "what the terminal shows", || {
        enough(&read()) || !process.is_running()
    })
    .unwrap();
    drop(process);
    read()
}

/// `broker` with these words, for the broker at `url`, which is told by AMQP_URL instead of --url.
fn everyday(folder: &Path, url: &str, line: &str) -> Command {
    let mut command = command(folder, "broker", &words(line));
    command.env("AMQP_URL", url);
    command
}

fn bench_does_what_its_options_say(api: &Api, broker: &dyn Fn(&str) -> Command) {
    let run = |line: &str| broker(line).output().unwrap();
    let small = run("bench --seconds 1 --size 30000");
    assert!(small.status.success(), "{}", text(&small));
    let large = run("bench --seconds 1 --size 30001");
    assert!(
        !large.status.success() && text(&large).contains("larger than configured max size 30000"),
        "{}",
        text(&large)
    );
    let found = || {
        let queues = api.get("queues?columns=name,durable");
        let mut all = queues.as_array().cloned().unwrap_or_default().into_iter();
        all.find(|it| it["name"].as_str().is_some_and(|name| name.starts_with("bench-")))
    };
    for (options, durable, most) in [("--persistent --unconfirmed 2", true, 2), ("", false, 1000)] {
        until_true(Duration::from_secs(30), "the last one's queue to go", || found().is_none()).unwrap();
        let mut bench = broker(&format!("bench --seconds 4 {options}"));
        bench.stdout(std::process::Stdio::null());
        let mut bench = bench.spawn().unwrap();
        until_true(Duration::from_secs(30), "the queue of the measurement", || found().is_some()).unwrap();
        assert_eq!(found().unwrap()["durable"], json!(durable), "{options}");
        let mut highest = 0;
        while bench.try_wait().unwrap().is_none() {
            let channels = api.get("channels?columns=messages_unconfirmed");
            let waiting = channels
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|it| it["messages_unconfirmed"].as_u64());
            highest = waiting.chain([highest]).max().unwrap();
        }
        assert!(highest <= most, "{highest} unconfirmed with {options}");
        assert!(bench.wait().unwrap().success());
    }
}

fn screens_are_as_many_and_as_large_as_wanted(folder: &Path, broker: &dyn Fn(&str) -> Command) {
    let run = |line: &str| broker(line).output().unwrap();
    let published = run("pub second hello --create");
    assert!(published.status.success(), "{}", text(&published));
    let rows = |options: &str| {
        let shown = run(&format!("top --once {options}"));
        assert!(shown.status.success(), "{}", text(&shown));
        text(&shown).lines().filter(|line| line.starts_with("kept ") || line.starts_with("second ")).count()
    };
    assert_eq!((rows(""), rows("--queues 1")), (2, 1));
    let screens = |text: &str| text.matches("\u{1b}[H").count();
    let shown = on_a_terminal(folder, "top --delay 0.1", &[], |text| screens(text) > 2);
    assert!(screens(&shown) > 2, "{shown}");
    // The second would come in an hour.
    let began = std::time::Instant::now();
    let waited = |_: &str| began.elapsed() > Duration::from_secs(3);
    let shown = on_a_terminal(folder, "top --delay 3600", &[], waited);
    assert_eq!(screens(&shown), 1, "{shown}");
    let bold = "\u{1b}[1m";
    let coloured =
        |variables: &[(&str, &str)]| on_a_terminal(folder, "ctl status", variables, |_| false).contains(bold);
    assert_eq!((coloured(&[]), coloured(&[("NO_COLOR", "1")])), (true, false));
}

#[test]
fn everyday_tools_do_what_their_options_say() {
    let scratch = Scratch::new("ctl-options").unwrap();
    let folder = scratch.path();
    let setup = Setup { ours: "[amqp]\nmax_message_size = 30000\n", ..Setup::managed() };
    let node = Node::start_with(folder, &setup).unwrap();
    let url = format!("amqp://guest:guest@127.0.0.1:{}", node.port);
    let broker = |line: &str| everyday(folder, &url, line);
    let run = |line: &str| broker(line).output().unwrap();
    let published = run("pub kept hello --create -n 2");
    assert!(published.status.success(), "{}", text(&published));
    let elsewhere = broker("pub kept hello").env("AMQP_URL", "amqp://127.0.0.1:1").output().unwrap();
    assert!(!elsewhere.status.success(), "the variable is obeyed: {}", text(&elsewhere));

    let api = Api::new(node.management_port);
    let seen = run("sub kept --count 2 --keep");
    assert!(seen.status.success() && text(&seen).ends_with("seen 2\n"), "{}", text(&seen));
    let ready = || api.get("queues/%2F/kept")["messages_ready"] == 2;
    until_true(Duration::from_secs(30), "the messages to be back", ready).unwrap();

    bench_does_what_its_options_say(&api, &broker);
    screens_are_as_many_and_as_large_as_wanted(folder, &broker);

    let named = ctl(folder, "set_cluster_name mine");
    assert!(named.status.success(), "{}", text(&named));
    let doctor = |port: u16| run(&format!("doctor {url} --api http://guest:guest@127.0.0.1:{port}"));
    let (own, other) = (doctor(node.management_port), doctor(super::node().management_port));
    assert!(own.status.success() && text(&own).contains("PASS nodes"), "{}", text(&own));
    assert!(
        text(&other).contains("WARN api")
            && !text(&other).contains("PASS nodes")
            && text(&other).contains("the address leads to cluster mine"),
        "{}",
        text(&other)
    );
    drop(node);
    scratch.passed();
}
