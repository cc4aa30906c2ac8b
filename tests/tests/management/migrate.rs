//! `broker migrate`: definitions from a file and from a RabbitMQ that runs, and its messages.

use crate::node;
use amqp::content::BasicProperties;
use amqp::method::{Method, queue};
use amqp::table::FieldValue;
use harness::api::Api;
use harness::node::{Node, Setup};
use harness::scratch::Scratch;
use harness::wire::{Client, Login, Received, name};
use harness::{Needs, against_rabbitmq, args, ready, table};
use serde_json::{Value, json};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use xtask::install;
use xtask::lab::wait::until_true;

/// Messages of the queue that is moved while the mover is killed.
const MANY: usize = 20_000;
/// Messages that may be on their way at most, as `broker migrate` has them.
const WINDOW: usize = 256;

fn migrate(arguments: &[&str]) -> Command {
    let mut command = Command::new(harness::programs::folder().join("broker"));
    command.arg("migrate").args(arguments).env_remove("AMQP_URL").env_remove("RABBITMQ_NODENAME");
    command
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

/// Runs it to its end, which must be a good one.
fn migrated(arguments: &[&str]) -> String {
    let output = migrate(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}\n{}", told(&output));
    told(&output)
}

fn api_url(port: u16) -> String {
    format!("http://guest:guest@127.0.0.1:{port}")
}

#[test]
fn definitions_of_a_file_are_told_before_they_are_written() {
    if against_rabbitmq() {
        return;
    }
    let scratch = Scratch::new("migrate-file").unwrap();
    let (vhost, user) = (name("moved"), name("mover"));
    let file = scratch.path().join("definitions.json");
    let definitions = json!({
        "rabbitmq_version": "3.10.8", "product_name": "RabbitMQ", "vhosts": [{"name": vhost}],
        "users": [{"name": user, "password_hash": "8nmLrgC/pTHxLBSLLNSWRhwjxVE4Er7ELOr+v/8ZbKd7tLBY",
            "hashing_algorithm": "rabbit_password_hashing_sha256", "tags": ["management"]}],
        "permissions": [{"user": user, "vhost": vhost, "configure": ".*", "write": ".*", "read": ".*"}],
        "queues": [
            {"vhost": vhost, "name": "qq", "durable": true, "auto_delete": false, "arguments": {"x-queue-type": "quorum"}},
            {"vhost": vhost, "name": "log", "durable": true, "auto_delete": false, "arguments": {"x-queue-type": "stream"}},
        ],
        "exchanges": [], "bindings": [{"vhost": vhost, "source": "amq.topic", "destination": "log",
            "destination_type": "queue", "routing_key": "#", "arguments": {}}],
        "policies": [{"vhost": vhost, "name": "xall", "pattern": "^", "apply-to": "all",
            "definition": {"ha-mode": "all"}, "priority": 0}],
        "parameters": [{"vhost": vhost, "component": "shovel", "name": "s", "value": {}}],
    });
    std::fs::write(&file, definitions.to_string()).unwrap();
    let (file, to) = (file.to_str().unwrap(), api_url(node().management_port));
    let said = migrated(&["--definitions", file, "--node", &to]);
    for part in [
        "read    definitions.json  RabbitMQ 3.10.8 · users 1 · vhosts 1 · queues 2",
        "ok      1 user keeps its password (SHA-256 hashes understood)",
        "ok      policy xall → mirrored queues (ha-mode all)",
        "change  queue qq (vhost",
        "skip    queue log (vhost",
        "skip    1 bindings of what does not come along",
        "skip    parameters component=shovel (1)",
        "would create 1 user, 1 vhost, 1 queue, 1 policy",
        "Nothing was written. Run again with --apply.",
    ] {
        assert!(said.contains(part), "{part}\n\n{said}");
    }
    let vhosts = |api: &Api| api.get("vhosts?columns=name").to_string();
    assert!(!vhosts(&node().api).contains(&format!("\"{vhost}\"")), "nothing was written");
    let refused =
        migrate(&["--definitions", file, "--node", &to, "--apply", "--keep-type"]).output().unwrap();
    assert!(!refused.status.success() && told(&refused).contains("is a quorum queue"), "{}", told(&refused));
    let report = scratch.path().join("report.txt");
    let said =
        migrated(&["--definitions", file, "--node", &to, "--apply", "--report", report.to_str().unwrap()]);
    assert!(said.ends_with("created 1 user, 1 vhost, 1 queue, 1 policy, 1 permissions.\n"), "{said}");
    assert!(std::fs::read_to_string(&report).unwrap().contains("skip    parameters component=shovel"));
    assert_eq!(node().api.get(&format!("queues/{vhost}"))[0]["name"], "qq");
    let said = migrated(&["--definitions", file, "--node", &to]);
    assert!(said.contains("would create nothing new."), "{said}");
    node().api.delete(&format!("vhosts/{vhost}"));
    node().api.delete(&format!("users/{user}"));
    scratch.passed();
}

#[test]
fn what_a_node_would_refuse_is_told_before_anything_is_written() {
    if against_rabbitmq() {
        return;
    }
    let scratch = Scratch::new("migrate-refused").unwrap();
    let vhost = name("refused");
    let file = scratch.path().join("definitions.json");
    let to = api_url(node().management_port);
    let queue = |name: &str, arguments: Value| json!({"vhost": vhost, "name": name, "durable": true, "auto_delete": false, "arguments": arguments});
    for (queue, reason) in [
        (
            queue("good", json!({"x-message-ttl": -1})),
            "queue 'good': 406 PRECONDITION_FAILED - invalid arg 'x-message-ttl'",
        ),
        (
            queue("bad", json!({"x-queue-type": "quorum", "x-max-priority": 5})),
            "queue 'bad': 406 PRECONDITION_FAILED - invalid arg 'x-max-priority'",
        ),
        (
            json!({"name": "nowhere", "durable": true, "auto_delete": false, "arguments": {}}),
            "an entry has no vhost",
        ),
        (
            json!({"vhost": "no such", "name": "q", "durable": true, "auto_delete": false, "arguments": {}}),
            "vhost 'no such' does not exist",
        ),
    ] {
        let definitions = json!({"vhosts": [{"name": vhost}], "queues": [queue]});
        std::fs::write(&file, definitions.to_string()).unwrap();
        for more in [&[][..], &["--apply"]] {
            let words = [&["--definitions", file.to_str().unwrap(), "--node", &to], more].concat();
            let output = migrate(&words).output().unwrap();
            let said = told(&output);
            assert_eq!(output.status.code(), Some(65), "{said}");
            assert!(said.contains(reason) && said.contains("nothing was written"), "{reason}\n\n{said}");
        }
        let (status, _) = node().api.ask("GET", &format!("vhosts/{vhost}"), None).unwrap();
        assert_eq!(status, 404, "not even the vhost is there");
    }
    scratch.passed();
}

#[test]
fn definitions_may_change_the_password_they_are_written_with() {
    if against_rabbitmq() {
        return;
    }
    let scratch = Scratch::new("migrate-password").unwrap();
    let (user, queue) = (name("boss"), name("kept"));
    let api = &node().api;
    api.put(&format!("users/{user}"), &json!({"password": "old", "tags": "administrator"}));
    let file = scratch.path().join("definitions.json");
    let definitions = json!({
        "users": [{"name": user, "password": "new", "tags": "administrator"}],
        "vhosts": [{"name": "/"}],
        "queues": [{"vhost": "/", "name": queue, "durable": true, "auto_delete": false, "arguments": {}}],
    });
    std::fs::write(&file, definitions.to_string()).unwrap();
    let to = format!("http://{user}:old@127.0.0.1:{}", node().management_port);
    let said = migrated(&["--definitions", file.to_str().unwrap(), "--node", &to, "--apply"]);
    assert!(
        said.contains("created 1 queue.") && said.contains(&format!("note    user {user} has the password")),
        "{said}"
    );
    assert_eq!(Api::as_user(node().management_port, &user, "new").get("whoami")["name"], json!(user));
    assert_eq!(api.get(&format!("queues/%2F/{queue}"))["name"], json!(queue));
    api.delete(&format!("queues/%2F/{queue}"));
    api.delete(&format!("users/{user}"));
    scratch.passed();
}

#[test]
fn what_a_message_was_elsewhere_may_only_say_who_may_impersonate() {
    if against_rabbitmq() {
        return;
    }
    let mut client = node().client();
    let queue = client.own_queue();
    let headers = table! {
        "BCC" => FieldValue::Array(vec![FieldValue::long_str(queue.as_str())]),
        "x-migrate-exchange" => "elsewhere",
    };
    let properties = BasicProperties { headers: Some(headers), ..Default::default() };
    client.publish_with(1, "", "no-such-queue", &properties, b"x");
    let text = "header 'x-migrate-exchange' refused for user 'guest', who lacks the tag impersonator";
    client.expect_channel_close(1, 403, text, (60, 40));
}

fn publish(client: &mut Client, exchange: &str, key: &str, properties: &BasicProperties, body: &str) {
    client.publish_with(1, exchange, key, properties, body.as_bytes());
    assert_eq!(client.expect_on(1, "basic.ack").name(), "basic.ack");
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// The vhost on the RabbitMQ, with queues and messages in it.
fn fill(theirs: &Node, vhost: &str) -> BasicProperties {
    let api = Api::new(theirs.management_port);
    api.put(&format!("vhosts/{vhost}"), &json!({}));
    api.put(&format!("permissions/{vhost}/guest"), &json!({"configure": ".*", "write": ".*", "read": ".*"}));
    api.put("users/alice", &json!({"password": "secret", "tags": "management"}));
    api.put(&format!("permissions/{vhost}/alice"), &json!({"configure": "", "write": "a.*", "read": ".*"}));
    api.put(&format!("vhost-limits/{vhost}/max-queues"), &json!({"value": 50}));
    api.put(
        &format!("policies/{vhost}/two"),
        &json!({"pattern": "^many$", "definition": {"ha-mode": "exactly", "ha-params": 2}}),
    );
    let login = Login { vhost, ..Login::default() };
    let mut client = Client::with(theirs.port, &login);
    for (queue, arguments) in [
        ("many", args! {}),
        ("kept", args! { "x-queue-type" => "quorum" }),
        ("waiting", args! { "x-message-ttl" => 3_600_000 }),
    ] {
        let declare =
            queue::Declare { queue, durable: true, arguments: arguments.table(), ..Default::default() };
        client.declare(1, &declare);
    }
    client.exchange(1, "events", "topic");
    client.bind(1, "kept", "events", "order.#");
    client.confirm(1);
    let properties = BasicProperties {
        content_type: Some(b"application/json".to_vec()),
        headers: Some(
            table! { "trace" => "abc", "CC" => FieldValue::Array(vec![FieldValue::long_str("nowhere")]) },
        ),
        delivery_mode: Some(2),
        priority: Some(3),
        correlation_id: Some(b"c".to_vec()),
        reply_to: Some(b"answers".to_vec()),
        message_id: Some(b"m".to_vec()),
        timestamp: Some(seconds()),
        kind: Some(b"order".to_vec()),
        user_id: Some(b"guest".to_vec()),
        app_id: Some(b"shop".to_vec()),
        ..Default::default()
    };
    publish(&mut client, "events", "order.new", &properties, "{\"id\":1}");
    let persistent = BasicProperties { delivery_mode: Some(2), ..Default::default() };
    // Without confirms, which would stand between what is asked.
    client.open(2);
    for number in 0..MANY {
        client.publish_with(2, "", "many", &persistent, number.to_string().as_bytes());
    }
    client.wait_ready(1, "many", u32::try_from(MANY).unwrap());
    properties
}

/// One hour to live: for one it ends in some seconds, one has it before it, and one says a time by which it would be over.
fn wait_there(client: &mut Client) {
    for (age, body) in [(3588, "old"), (0, "young"), (3601, "alive")] {
        let timestamp = Some(seconds() - age);
        let properties = BasicProperties { delivery_mode: Some(2), timestamp, ..Default::default() };
        publish(client, "", "waiting", &properties, body);
    }
}

/// Everything that is in a queue, which is left empty.
fn everything(client: &mut Client, queue: &str) -> Vec<Received> {
    std::iter::from_fn(|| client.get(1, queue)).collect()
}

/// Definitions of the running RabbitMQ: told, then written.
fn definitions_move(from: &str, to: &str, ours: &Node) {
    let said = migrated(&["--from-running", from, "--node", to]);
    for part in [
        "RabbitMQ 3.",
        "policy two → mirrored queues (ha-mode exactly 2)",
        "change  queue kept (vhost shop)",
        "3 queues",
    ] {
        assert!(said.contains(part), "{part}\n\n{said}");
    }
    let api = Api::new(ours.management_port);
    assert_eq!(api.ask("GET", "vhosts/shop", None).unwrap().0, 404, "nothing was written");
    let said = migrated(&["--from-running", from, "--node", to, "--apply"]);
    assert!(said.contains("created ") && said.contains("messages lie there"), "{said}");
    assert_eq!(api.get("vhost-limits/shop")[0]["value"], json!({"max-queues": 50}));
    assert_eq!(Api::as_user(ours.management_port, "alice", "secret").get("whoami")["name"], "alice");
    assert_eq!(api.get("permissions/shop/alice")["write"], "a.*");
}

#[test]
fn a_running_rabbitmq_moves_over_with_its_messages_whatever_is_killed() {
    let needs = [Needs::Programs(install::RABBITMQ)];
    if against_rabbitmq() || !ready("migrate", &needs) {
        return;
    }
    let scratch = Scratch::new("migrate-running").unwrap();
    let [ours, theirs] = ["ours", "theirs"].map(|name| scratch.path().join(name));
    std::fs::create_dir(&ours).unwrap();
    std::fs::create_dir(&theirs).unwrap();
    let theirs = Node::start_with(&theirs, &Setup::original()).unwrap();
    let ours = Node::start_with(&ours, &Setup::managed()).unwrap();
    let published = fill(&theirs, "shop");
    let (from, to) = (api_url(theirs.management_port), api_url(ours.management_port));
    let amqp = format!("amqp://guest:guest@127.0.0.1:{}/shop", theirs.port);

    let api = Api::new(ours.management_port);
    // RabbitMQ counts its messages every few seconds.
    let original = Api::new(theirs.management_port);
    let counted = || original.get("queues/shop/many")["messages"].as_u64() == u64::try_from(MANY).ok();
    until_true(Duration::from_secs(30), "what RabbitMQ says of its messages", counted).unwrap();
    definitions_move(&from, &to, &ours);

    let said = migrated(&["--from-amqp", &amqp, "--node", &to]);
    assert!(said.contains(&format!("would move {} messages of 3 queues", MANY + 1)), "{said}");
    let mut here = Client::with(ours.port, &Login { vhost: "shop", ..Login::default() });
    let mut there = Client::with(theirs.port, &Login { vhost: "shop", ..Login::default() });
    assert_eq!(here.counts(1, "many").0, 0, "nothing was moved");

    // Killed in the middle, and run again.
    let mut command = migrate(&["--from-amqp", &amqp, "--node", &to, "--queue", "many", "--drain"]);
    let mut mover = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    until_true(Duration::from_secs(60), "messages to move", || here.counts(1, "many").0 > 1000).unwrap();
    mover.kill().unwrap();
    mover.wait().unwrap();
    let moved = here.counts(1, "many").0;
    println!("killed when {moved} of {MANY} messages had moved");
    let said = migrated(&["--from-amqp", &amqp, "--node", &to, "--drain"]);
    println!("{said}");
    assert!(said.contains("moved   "), "{said}");

    there.confirm(1);
    wait_there(&mut there);
    // As a user that the operator made, instead of one of the move's own.
    api.put("users/mover", &json!({"password": "m/v r", "tags": "impersonator"}));
    api.put("permissions/shop/mover", &json!({"configure": ".*", "write": ".*", "read": ".*"}));
    let mover = format!("amqp://mover:m%2Fv%20r@127.0.0.1:{}", ours.port);
    let places = ["--from-amqp", &amqp, "--to-amqp", &mover, "--node", &to];
    migrated(&[&places[..], &["--queue", "waiting", "--drain"]].concat());

    let bodies: Vec<usize> =
        everything(&mut here, "many").iter().map(|it| it.text().parse().unwrap()).collect();
    let mut firsts: Vec<usize> = Vec::new();
    for body in &bodies {
        // Again is what was on its way when the mover was killed.
        if firsts.last().is_none_or(|last| body > last) {
            firsts.push(*body);
        }
    }
    assert!(firsts.iter().copied().eq(0..MANY), "each is here, in order");
    assert!(bodies.len() <= MANY + WINDOW, "{} of {MANY}", bodies.len());
    for queue in ["many", "kept", "waiting"] {
        assert_eq!(there.counts(1, queue).0, 0, "{queue} is empty there");
    }

    let kept = everything(&mut here, "kept");
    let [kept] = kept.as_slice() else { panic!("{} messages", kept.len()) };
    let Method::BasicGetOk(got) = kept.method() else { panic!("{}", kept.name()) };
    assert_eq!((got.exchange, got.routing_key, kept.text()), ("events", "order.new", "{\"id\":1}"));
    let mut properties = kept.properties();
    // A quorum queue, there as here, counts deliveries in it.
    assert!(properties.headers.as_mut().unwrap().remove("x-delivery-count").is_some());
    assert_eq!(properties, published);

    // The hour of the older one goes on where it was: it ends soon, and the others' do not.
    here.wait_ready(1, "waiting", 2);
    let waiting = everything(&mut here, "waiting");
    assert_eq!(waiting.iter().map(Received::text).collect::<Vec<_>>(), ["young", "alive"]);
    api.delete("users/mover");
    let users: Value = api.get("users?columns=name");
    let exchanges = api.get("exchanges/shop?columns=name").to_string();
    // The one that was killed could take nothing away.
    assert!(users.to_string().matches("broker-migrate").count() <= 1, "{users}");
    assert!(exchanges.matches("broker-migrate").count() <= 1, "{exchanges}");
    drop((ours, theirs));
    scratch.passed();
}
