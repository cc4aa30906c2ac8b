//! The metadata with a journal that can be watched, slow or broken.

use super::*;
use crate::config::{Config, cli};
use amqp::table::FieldTable;
use broker_core::ids::{ConnectionId, VhostId};
use broker_core::meta::{BindingRequest, DeclareExchange, DeclareQueue, Destination, DestinationName};
use broker_store::disk::RealDisk;
use broker_store::journal::JournalOptions;
use parking_lot::{Condvar, Mutex};
use std::io;
use std::time::Duration;

/// Keeps what was written, can be stopped before a write, and can fail.
#[derive(Default)]
struct Tape {
    writes: Mutex<Vec<Vec<Vec<u8>>>>,
    closed: Mutex<bool>,
    gate: Condvar,
    broken: AtomicBool,
}

struct TapeJournal(Arc<Tape>);

impl Journal for TapeJournal {
    fn append(&mut self, entries: &[Vec<u8>]) -> io::Result<()> {
        let mut closed = self.0.closed.lock();
        while *closed {
            self.0.gate.wait(&mut closed);
        }
        if self.0.broken.load(Ordering::Acquire) {
            return Err(io::Error::other("no more tape"));
        }
        self.0.writes.lock().push(entries.to_vec());
        Ok(())
    }

    fn snapshot(&mut self, _state: &[u8]) -> io::Result<()> {
        Ok(())
    }
}

impl Tape {
    fn recovered(&self) -> Recovered {
        Recovered { snapshot: None, entries: self.writes.lock().iter().flatten().cloned().collect() }
    }

    fn hold(&self, closed: bool) {
        *self.closed.lock() = closed;
        self.gate.notify_all();
    }
}

fn metadata() -> (Arc<Metadata>, Arc<Tape>) {
    let tape = Arc::new(Tape::default());
    let metadata = Metadata::open(Box::new(TapeJournal(Arc::clone(&tape))), &Recovered::default()).unwrap();
    (Arc::new(metadata), tape)
}

fn reopened(tape: &Tape) -> Metadata {
    Metadata::open(Box::new(MemoryJournal), &tape.recovered()).unwrap()
}

async fn vhost(metadata: &Metadata, name: &str) -> VhostId {
    let command = MetaCommand::PutVhost {
        name: name.into(),
        description: String::new(),
        tags: Vec::new(),
        tracing: false,
        default_queue_type: None,
    };
    metadata.propose(command).await.unwrap();
    metadata.read().vhost_id(name).unwrap()
}

fn queue(vhost: VhostId, name: &str, durable: bool) -> MetaCommand {
    MetaCommand::DeclareQueue(DeclareQueue {
        vhost,
        name: name.into(),
        durable,
        auto_delete: false,
        owner: None,
        arguments: Arc::default(),
    })
}

fn exclusive(vhost: VhostId, name: &str, owner: u64) -> MetaCommand {
    MetaCommand::DeclareQueue(DeclareQueue {
        vhost,
        name: name.into(),
        durable: true,
        auto_delete: false,
        owner: Some(ConnectionId(owner)),
        arguments: Arc::default(),
    })
}

fn exchange(vhost: VhostId, name: &str, auto_delete: bool) -> MetaCommand {
    MetaCommand::DeclareExchange(DeclareExchange {
        vhost,
        name: name.into(),
        kind: broker_core::exchange::ExchangeType::Direct,
        durable: true,
        auto_delete,
        internal: false,
        arguments: Arc::default(),
    })
}

fn binding(vhost: VhostId, source: &str, to: &str, arguments: FieldTable) -> BindingRequest {
    BindingRequest {
        vhost,
        source: source.into(),
        destination: DestinationName::Queue(to.into()),
        routing_key: "k".into(),
        arguments: Arc::new(arguments),
        connection: None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn durable_things_survive_and_others_do_not() {
    let (metadata, tape) = metadata();
    let v = vhost(&metadata, "/").await;
    for command in [
        queue(v, "durable", true),
        queue(v, "transient", false),
        exclusive(v, "exclusive", 7),
        exchange(v, "x", false),
        MetaCommand::Bind(binding(v, "x", "durable", FieldTable::new())),
        MetaCommand::Bind(binding(v, "x", "transient", FieldTable::new())),
    ] {
        metadata.propose(command).await.unwrap();
    }
    let id = metadata.read().queue_named(v, "durable").unwrap().id;
    assert_eq!(metadata.read().queues().count(), 3);
    assert_eq!(metadata.read().queues_owned_by(ConnectionId(7)).len(), 1);
    drop(metadata);

    let again = reopened(&tape);
    let sm = again.read();
    assert_eq!(sm.queues().map(|queue| queue.name.to_string()).collect::<Vec<_>>(), ["durable"]);
    assert_eq!(sm.queue_named(v, "durable").unwrap().id, id, "the identity stays");
    assert_eq!(sm.bindings_to(Destination::Queue(id)).count(), 1);
    let x = sm.exchange_named(v, "x").unwrap().id;
    assert_eq!(sm.bindings_from(x).count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn identities_are_not_reused_after_a_restart() {
    let (metadata, tape) = metadata();
    let v = vhost(&metadata, "/").await;
    metadata.propose(queue(v, "a", true)).await.unwrap();
    let old = metadata.read().queue_named(v, "a").unwrap().id;
    metadata.propose(MetaCommand::DeleteQueues { ids: vec![old] }).await.unwrap();
    drop(metadata);
    let again = reopened(&tape);
    again.propose(queue(v, "a", true)).await.unwrap();
    let new = again.read().queue_named(v, "a").unwrap().id;
    assert!(new > old, "{new} after {old}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proposals_that_wait_together_share_one_write() {
    let (metadata, tape) = metadata();
    let v = vhost(&metadata, "/").await;
    let before = tape.writes.lock().len();
    tape.hold(true);
    let tasks: Vec<_> = (0..100)
        .map(|number| {
            let metadata = Arc::clone(&metadata);
            tokio::spawn(async move { metadata.propose(queue(v, &format!("q{number}"), true)).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(metadata.read().queues().count(), 0, "nothing is seen before it is durable");
    tape.hold(false);
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert_eq!(metadata.read().queues().count(), 100);
    let writes = tape.writes.lock().len() - before;
    assert!(writes <= 4, "{writes} writes for 100 declares");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_flight_is_waited_for() {
    let (metadata, tape) = metadata();
    let v = vhost(&metadata, "/").await;
    tape.hold(true);
    let ask = |command: MetaCommand| {
        let metadata = Arc::clone(&metadata);
        tokio::spawn(async move { metadata.propose(command).await })
    };
    let first = ask(queue(v, "q", true));
    tokio::time::sleep(Duration::from_millis(50)).await;
    // A transient declare of the same name must not slip past the durable one.
    let second = ask(queue(v, "q", false));
    // Nor may a binding miss the queue that is about to exist.
    let third = ask(MetaCommand::Bind(binding(v, "amq.direct", "q", FieldTable::new())));
    // What has nothing to do with it does not wait.
    let other = ask(queue(v, "other", false)).await.unwrap().unwrap();
    assert!(matches!(other, MetaReply::Queue { created: true, .. }));
    tape.hold(false);
    assert!(matches!(first.await.unwrap().unwrap(), MetaReply::Queue { created: true, .. }));
    let refused = second.await.unwrap().unwrap_err().into_exception();
    assert_eq!(
        refused.text,
        "inequivalent arg 'durable' for queue 'q' in vhost '/': received 'false' but current is 'true'"
    );
    assert_eq!(third.await.unwrap().unwrap(), MetaReply::Created(true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_of_two_unbinds_in_one_round_takes_the_exchange_along() {
    let (metadata, tape) = metadata();
    let v = vhost(&metadata, "/").await;
    for command in [
        exchange(v, "x", true),
        queue(v, "a", true),
        queue(v, "b", true),
        MetaCommand::Bind(binding(v, "x", "a", FieldTable::new())),
        MetaCommand::Bind(binding(v, "x", "b", FieldTable::new())),
    ] {
        metadata.propose(command).await.unwrap();
    }
    let outcomes = metadata
        .propose_all(vec![
            MetaCommand::Unbind(binding(v, "x", "a", FieldTable::new())),
            MetaCommand::Unbind(binding(v, "x", "b", FieldTable::new())),
        ])
        .await
        .unwrap();
    assert!(outcomes.iter().all(Result::is_ok));
    assert!(metadata.read().exchange_named(v, "x").is_none());
    drop(metadata);
    assert!(reopened(&tape).read().exchange_named(v, "x").is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn losing_the_last_binding_by_a_transient_queue_is_durable() {
    let (metadata, tape) = metadata();
    let v = vhost(&metadata, "/").await;
    metadata.propose(exchange(v, "x", true)).await.unwrap();
    metadata.propose(queue(v, "t", false)).await.unwrap();
    metadata.propose(MetaCommand::Bind(binding(v, "x", "t", FieldTable::new()))).await.unwrap();
    let id = metadata.read().queue_named(v, "t").unwrap().id;
    let reply = metadata.propose(MetaCommand::DeleteQueues { ids: vec![id] }).await.unwrap();
    let MetaReply::Removed(removed) = reply else { panic!("{reply:?}") };
    assert_eq!((removed.queues.len(), removed.exchanges.len(), removed.bindings), (1, 1, 1));
    drop(metadata);
    assert!(reopened(&tape).read().exchange_named(v, "x").is_none(), "it must not come back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_journal_refuses_everything_durable() {
    struct Told(Arc<Mutex<Vec<String>>>);
    impl Hook for Told {
        fn on_applied(&self, applied: &Applied<'_>) {
            self.0.lock().extend(applied.changes.iter().map(|change| format!("{change:?}")));
        }
        fn on_journal_failure(&self, error: &str) {
            self.0.lock().push(format!("failed: {error}"));
        }
    }
    let (metadata, tape) = metadata();
    let told = Arc::new(Mutex::new(Vec::new()));
    let v = vhost(&metadata, "/").await;
    metadata.set_hook(Box::new(Told(Arc::clone(&told))));
    tape.broken.store(true, Ordering::Release);
    assert!(matches!(metadata.propose(queue(v, "q", true)).await, Err(MetaError::Journal(_))));
    assert!(matches!(metadata.propose(queue(v, "p", true)).await, Err(MetaError::Journal(_))));
    assert!(metadata.read().queues().next().is_none());
    assert_eq!(*told.lock(), ["failed: no more tape"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn policies_apply_to_what_exists_and_what_comes() {
    struct Options(Arc<Mutex<Vec<QueueId>>>);
    impl Hook for Options {
        fn on_applied(&self, applied: &Applied<'_>) {
            for change in applied.changes {
                if let Change::PutQueue(spec) = change {
                    assert_eq!(
                        applied.sm.queue(spec.id).unwrap().options.max_length,
                        Some(5),
                        "known from the start"
                    );
                }
            }
            self.0.lock().extend(applied.new_options);
        }
        fn on_journal_failure(&self, _error: &str) {}
    }
    let (metadata, _tape) = metadata();
    let v = vhost(&metadata, "/").await;
    metadata.propose(queue(v, "orders", true)).await.unwrap();
    let id = metadata.read().queue_named(v, "orders").unwrap().id;
    let told = Arc::new(Mutex::new(Vec::new()));
    metadata.set_hook(Box::new(Options(Arc::clone(&told))));
    let json = serde_json::json!({"policies": [
        {"vhost": "/", "name": "low", "pattern": "^ord", "definition": {"max-length": 9}, "priority": 0},
        {"vhost": "/", "name": "high", "pattern": "^ord", "definition": {"max-length": 5}, "priority": 1},
    ]});
    definitions::import(&metadata, &json, None).await.unwrap();
    assert_eq!(metadata.read().queue(id).unwrap().options.max_length, Some(5));
    assert_eq!(metadata.read().queue(id).unwrap().policies.policy.as_deref(), Some("high"));
    assert_eq!(*told.lock(), [id, id]);
    metadata.propose(queue(v, "ordinary", false)).await.unwrap();
    let clear = MetaCommand::ClearPolicy { vhost: "/".into(), operator: false, name: "high".into() };
    metadata.propose(clear).await.unwrap();
    assert_eq!(metadata.read().queue(id).unwrap().options.max_length, Some(9));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn definitions_survive_a_round_trip() {
    let json: serde_json::Value = serde_json::from_str(include_str!("testdata/definitions.json")).unwrap();
    let (first, _) = metadata();
    definitions::import(&first, &json, None).await.unwrap();
    let exported = definitions::export(&first.read(), "RabbitMQ", "3.10.8");
    for key in [
        "users",
        "vhosts",
        "permissions",
        "topic_permissions",
        "parameters",
        "policies",
        "queues",
        "exchanges",
        "bindings",
    ] {
        let sorted = |value: &serde_json::Value| {
            let mut all: Vec<String> =
                value[key].as_array().unwrap().iter().map(ToString::to_string).collect();
            all.sort();
            all
        };
        assert_eq!(sorted(&exported), sorted(&json), "{key}");
    }
    // A client made this binding with a 32-bit integer; the export has lost the width.
    let v = first.read().vhost_id("/shop").unwrap();
    let mut arguments = FieldTable::new();
    arguments.insert("x-match", "all");
    arguments.insert("n", 1_i32);
    let mut request = binding(v, "by_header", "orders", arguments);
    request.routing_key = "".into();
    assert_eq!(first.propose(MetaCommand::Bind(request)).await.unwrap(), MetaReply::Created(false));
    let bindings = exported["bindings"].as_array().unwrap().len();
    definitions::import(&first, &exported, None).await.unwrap();
    let again = definitions::export(&first.read(), "RabbitMQ", "3.10.8");
    assert_eq!(again["bindings"].as_array().unwrap().len(), bindings, "no binding twice");
    assert_eq!(again, exported);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn definitions_with_mistakes_name_them() {
    let (metadata, _) = metadata();
    vhost(&metadata, "/").await;
    for (json, expected) in [
        (serde_json::json!({"queues": [{"name": "x", "vhost": "nope"}]}), "vhost 'nope' does not exist"),
        (serde_json::json!({"queues": 7}), "invalid type"),
        (
            serde_json::json!({"queues": [{"name": "x", "vhost": "/", "arguments": {"x-expires": 0}}]}),
            "queue 'x': 406 PRECONDITION_FAILED",
        ),
        (
            serde_json::json!({"policies": [{"vhost": "/", "name": "p", "pattern": "[", "definition": {}}]}),
            "'[' is not a regular expression",
        ),
        (
            serde_json::json!({"exchanges": [{"name": "x", "vhost": "/", "type": "odd"}]}),
            "unknown type 'odd'",
        ),
        (
            serde_json::json!({"users": [{"name": "u", "password_hash": "xyz"}]}),
            "password_hash is not a hash",
        ),
    ] {
        let error = definitions::import(&metadata, &json, None).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_node_gets_guest_and_the_configured_users_on_disk() {
    let directory = tempfile::tempdir().unwrap();
    let text = "[[vhosts]]\nname = '/lagou'\n[[users]]\nname = 'laosun'\npassword = '123456'\n\
                permissions = [{ vhost = '/lagou', configure = '.*', write = '.*', read = '.*' }]\n";
    let environment = cli::Environment { host: "here".to_owned(), ..cli::Environment::default() };
    let config = Config::from_text(text, "", &cli::NodeArgs::default(), &environment).unwrap();
    let options = |existing| JournalOptions { storage_uuid: [7; 16], expect_existing: existing };
    for round in 0..2 {
        let (journal, recovered, _) =
            FileJournal::open(Arc::new(RealDisk), &directory.path().join("meta"), options(round > 0))
                .unwrap();
        let metadata = Metadata::open(Box::new(journal), &recovered).unwrap();
        assert_eq!(bootstrap::bootstrap(&metadata, &config).await.unwrap(), round == 0);
        let sm = metadata.read();
        let guest = sm.user("guest").unwrap();
        assert!(guest.has_tag("administrator"));
        assert!(crate::auth::verify(guest.password.as_ref().unwrap(), b"guest"));
        let v = sm.vhost_id("/lagou").unwrap();
        assert!(sm.vhost(v).unwrap().permissions_of("laosun").is_some());
        assert!(sm.exchange_named(v, "amq.topic").is_some());
        assert!(sm.vhost(sm.vhost_id("/").unwrap()).unwrap().permissions_of("guest").is_some());
    }
}
