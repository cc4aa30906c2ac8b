//! The API beside RabbitMQ's: every path that was asked of RabbitMQ 3.10.8 is asked here, in the same situation,
//! and must answer with the same status and the same fields of the same types.
//!
//! The recordings (`recorded/`) are facts: paths, names of fields, types, status codes, bodies of refusals.

use harness::api::Api;
use harness::node::{Node, Setup};
use harness::scratch::Scratch;
use harness::wire::{Client, Login};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

const FIELDS: &str = include_str!("recorded/fields.txt");
const WRITES: &str = include_str!("recorded/writes.txt");
const PAGES: &str = include_str!("recorded/pages.txt");
const DEFINITIONS: &str = include_str!("recorded/definitions.json");

/// Fields of RabbitMQ that this broker does not have, each with the reason.
const MISSING: &[(&str, &str)] = &[
    ("[].channel_details.pid", "Erlang's process"),
    // The policy that gives these in the recording is one of mirroring, which the default vhost has there.
    ("policy", "set by the test where it is looked at"),
    ("effective_policy_definition", "the same"),
    ("[].policy", "the same"),
    ("[].effective_policy_definition", "the same"),
    ("items[].policy", "the same"),
    ("[].idle_since", "only of what has been idle for a while"),
    ("idle_since", "the same"),
    ("contexts[].cowboy_opts", "options of Erlang's web server"),
    ("listeners[].socket_opts.cowboy_opts", "the same"),
    ("[].config_files[]", "the broker of this test has no configuration file"),
    ("config_files[]", "the same"),
];

/// Types that differ on purpose: the field, and what is sent instead.
const OTHER_TYPES: &[(&str, &str, &str)] = &[
    ("[].being_drained", "boolean", "RabbitMQ's null makes rabbitmqadmin 2 fail"),
    ("being_drained", "boolean", "the same"),
    ("tags", "list", "RabbitMQ writes no tags as an empty string, and some as a list"),
    ("metadata.tags", "list", "the same"),
];

/// A broker in the situation of the recording: definitions imported, clients that publish and consume.
struct Situation {
    api: Api,
    node: Node,
    _clients: Vec<Client>,
}

impl Situation {
    fn new(scratch: &Scratch) -> Self {
        let node = Node::start_with(scratch.path(), &Setup::managed()).unwrap();
        let api = Api::new(node.management_port);
        let definitions: Value = serde_json::from_str(DEFINITIONS).unwrap();
        let (status, answer) = api.ask("POST", "definitions", Some(&definitions)).unwrap();
        assert_eq!(status, 204, "{answer}");
        api.permit("/lagou", "guest", [".*", ".*", ".*"]);
        for queue in ["queue1", "exp_q"] {
            api.put(&format!("queues/%2Flagou/{queue}"), &json!({}));
        }
        let (status, answer) = api
            .ask(
                "POST",
                "bindings/%2Flagou/e/test_topic/q/queue1",
                Some(&json!({"routing_key": "product.#"})),
            )
            .unwrap();
        assert_eq!(status, 201, "{answer}");
        let login = Login { vhost: "/lagou", connection_name: "order-service", ..Login::default() };
        let mut publisher = Client::with(node.port, &login);
        publisher.confirm(1);
        publisher.publish_mandatory(1, "test_topic", "nobody.cares", b"x");
        publisher.expect("basic.return");
        publisher.expect("basic.ack");
        publisher.publish_to(1, "test_topic", "nobody", b"x");
        publisher.expect("basic.ack");
        for (exchange, key) in [("test_topic", "user.new"), ("test_topic", "product.a"), ("", "qq")] {
            publisher.publish_to(1, exchange, key, b"hello");
            publisher.expect("basic.ack");
        }
        let mut worker = Client::with(node.port, &login);
        worker.qos(1, 10, false);
        worker.consume(1, "test_work_queue", "ctag1", false);
        let tag = worker.delivery(1).tag();
        worker.ack(1, tag);
        worker.consume(1, "queue1", "ctag2", false);
        worker.delivery(1);
        assert_eq!(worker.get(1, "exp_q").map(|got| got.body), None);
        // The worker's acknowledgement was handled before this answer.
        Situation { api, node, _clients: vec![publisher, worker] }
    }

    /// A recorded path with the names of this broker.
    fn path(&self, recorded: &str) -> String {
        let connections = self.api.get("connections?columns=name");
        let connection = connections[1]["name"].as_str().unwrap();
        recorded
            .replace("NODE", "rabbit@test")
            .replace("AMQP", &self.node.port.to_string())
            .replace("CONNECTION", &harness::api::encoded(connection))
            .replace("CHANNEL", &harness::api::encoded(&format!("{connection} (1)")))
    }
}

type Types = BTreeMap<String, BTreeSet<String>>;

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "list",
        Value::Object(_) => "object",
    }
}

fn walk(value: &Value, path: &str, types: &mut Types) {
    types.entry(path.to_owned()).or_default().insert(type_of(value).to_owned());
    let last = path.rsplit('.').next().unwrap_or_default();
    if ["arguments", "client_properties", "definition", "effective_policy_definition", "value"]
        .contains(&last)
    {
        return;
    }
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let name = name.replace("rabbit@test", "NODE");
                let inner = if path.is_empty() { name } else { format!("{path}.{name}") };
                walk(value, &inner, types);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| walk(value, &format!("{path}[]"), types)),
        _ => {}
    }
}

/// What differs between what was recorded and what is answered.
fn differences(recorded: &Types, answered: &Types) -> Vec<String> {
    let mut found = Vec::new();
    for (field, types) in recorded {
        let missing = MISSING.iter().any(|(name, _)| field == name || field.starts_with(&format!("{name}.")));
        match answered.get(field) {
            None if missing => {}
            // An empty list or object here shows nothing of its elements.
            None => found.push(format!("{field} is missing")),
            Some(ours) => {
                let other =
                    |kind: &String| OTHER_TYPES.iter().any(|(name, to, _)| field == name && kind == to);
                for kind in ours.iter().filter(|kind| !types.contains(*kind) && !other(kind)) {
                    // Where RabbitMQ had nothing to show, what it would show is not known.
                    let unknown = types.iter().all(|kind| kind == "null") || kind == "null";
                    if !unknown {
                        found.push(format!("{field} is {kind}, not {types:?}"));
                    }
                }
            }
        }
    }
    found
}

#[test]
fn every_recorded_path_answers_with_the_recorded_status_fields_and_types() {
    let scratch = Scratch::new("recorded-fields").unwrap();
    let it = Situation::new(&scratch);
    let mut wrong = Vec::new();
    let mut requests: Vec<(&str, u16, Types)> = Vec::new();
    for line in FIELDS.lines().filter(|line| !line.starts_with('#')) {
        if let Some(request) = line.strip_prefix("GET ") {
            let (path, status) = request.rsplit_once(' ').unwrap();
            requests.push((path, status.parse().unwrap(), Types::new()));
        } else {
            let (field, types) = line.trim().rsplit_once(' ').unwrap();
            let field = if field == "." { "" } else { field };
            let types = types.split('|').map(str::to_owned).collect();
            requests.last_mut().unwrap().2.insert(field.to_owned(), types);
        }
    }
    assert!(requests.len() > 60, "{} recorded requests", requests.len());
    for (recorded, status, fields) in &requests {
        let path = it.path(recorded);
        let (answered, body) = it.api.ask("GET", &path, None).unwrap();
        if answered != *status {
            wrong.push(format!("GET {path}: {answered} instead of {status}: {body}"));
            continue;
        }
        let mut types = Types::new();
        walk(&body, "", &mut types);
        wrong.extend(differences(fields, &types).into_iter().map(|text| format!("GET {path}: {text}")));
    }
    for path in PAGES.lines().filter(|line| !line.starts_with('#')) {
        let path = path.replace("ux1%40localhost", "rabbit%40test");
        let (status, body) = it.api.ask("GET", &path, None).unwrap();
        if status != 200 || body.is_null() {
            wrong.push(format!("GET {path}, which RabbitMQ's pages ask for: {status} {body}"));
        }
    }
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
    drop(it);
    scratch.passed();
}

/// A recorded change: method, path, body, status, header lines and the body of the answer.
struct Write<'a> {
    method: &'a str,
    path: &'a str,
    body: &'a str,
    status: u16,
    answer: Option<Value>,
}

fn writes() -> Vec<Write<'static>> {
    WRITES
        .split("\n\n")
        .filter_map(|block| {
            let mut lines = block.trim().lines();
            let request = lines.next()?.strip_prefix("> ")?;
            let (method, rest) = request.split_once(' ')?;
            let (path, body) = rest.split_once(' ').unwrap_or((rest, ""));
            let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
            let answer = lines
                .find(|line| line.starts_with(['{', '[']))
                .and_then(|line| serde_json::from_str(line).ok());
            Some(Write { method, path: path.strip_prefix("/api/")?, body, status, answer })
        })
        .collect()
}

/// An answer without the hashes in `properties_key`: those are of Erlang's terms.
fn without_hashes(answer: &Value) -> Value {
    let mut answer = answer.clone();
    for entry in answer.as_array_mut().into_iter().flatten() {
        if let Some(key) = entry.get_mut("properties_key") {
            *key = json!(key.as_str().and_then(|key| key.split('~').next()));
        }
    }
    answer
}

#[test]
fn every_recorded_change_is_answered_with_the_recorded_status_and_body() {
    let scratch = Scratch::new("recorded-writes").unwrap();
    let node = Node::start_with(scratch.path(), &Setup::managed()).unwrap();
    let api = Api::new(node.management_port);
    // In the recording this user had a limit.
    api.put("users/op", &json!({"password": "pw", "tags": "management"}));
    api.put("user-limits/op/max-connections", &json!({"value": 10}));
    let writes = writes();
    // What follows was asked by another user, and with a wrong password.
    let end = writes.iter().position(|write| (write.method, write.path) == ("GET", "users")).unwrap();
    assert!(end >= 50, "{end} recorded changes");
    let mut wrong = Vec::new();
    for Write { method, path, body, status, answer } in &writes[..end] {
        let what = format!("{method} {path} {body}");
        let (answered, got) = api.ask_text(method, path, body).unwrap();
        if answered != *status {
            wrong.push(format!("{what}: {answered} instead of {status}: {got}"));
        } else if let Some(answer) = answer {
            // A reason may be in other words where RabbitMQ's shows Erlang terms; definitions are a test's own.
            let erlang =
                answer["reason"].as_str().is_some_and(|reason| reason.starts_with("Validation failed"));
            let same = match erlang {
                true => {
                    got["error"] == answer["error"]
                        && got["reason"]
                            .as_str()
                            .is_some_and(|reason| reason.starts_with("Validation failed\n\n"))
                }
                false => without_hashes(&got) == without_hashes(answer) || path.starts_with("definitions?"),
            };
            if !same {
                wrong.push(format!("{what}: {got}\n    instead of {answer}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
    drop(node);
    scratch.passed();
}

#[test]
fn an_export_of_rabbitmq_comes_back_as_it_was_and_a_second_import_changes_nothing() {
    let scratch = Scratch::new("recorded-definitions").unwrap();
    let node = Node::start_with(scratch.path(), &Setup::managed()).unwrap();
    let api = Api::new(node.management_port);
    let given: Value = serde_json::from_str(DEFINITIONS).unwrap();
    let import = |definitions: &Value| {
        let (status, answer) = api.ask("POST", "definitions", Some(definitions)).unwrap();
        assert_eq!(status, 204, "{answer}");
    };
    // A binding of a client's own, with an integer of another width than JSON gives it.
    import(&given);
    let first = api.get("definitions");
    for part in
        ["users", "vhosts", "permissions", "topic_permissions", "policies", "queues", "exchanges", "bindings"]
    {
        for entry in given[part].as_array().unwrap() {
            let names = |it: &Value| {
                let keys = [
                    "name",
                    "vhost",
                    "user",
                    "source",
                    "destination",
                    "routing_key",
                    "exchange",
                    "arguments",
                ];
                keys.iter().all(|key| it.get(*key) == entry.get(*key))
            };
            let found: Vec<&Value> = first[part].as_array().unwrap().iter().filter(|it| names(it)).collect();
            assert_eq!(found.len(), 1, "{part}: {entry}");
            for (key, value) in entry.as_object().unwrap() {
                assert_eq!(&found[0][key], value, "{part} {key}: {entry}");
            }
        }
    }
    import(&first);
    import(&given);
    assert_eq!(api.get("definitions"), first);
    let vhost = api.get("definitions/%2Flagou");
    assert_eq!(vhost["queues"].as_array().map(Vec::len), first["queues"].as_array().map(Vec::len));
    assert!(vhost["queues"][0].get("vhost").is_none(), "a vhost's own export does not name it");
    let (status, answer) = api.ask("POST", "definitions/%2Flagou", Some(&vhost)).unwrap();
    assert_eq!(status, 204, "{answer}");
    assert_eq!(api.get("definitions"), first);
    drop(node);
    scratch.passed();
}
