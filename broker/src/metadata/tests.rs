//! The metadata on a disk that can be watched, slow or broken.

use super::*;
use crate::config::{Config, cli};
use amqp::table::FieldTable;
use broker_core::ids::{ConnectionId, NodeId, VhostId};
use broker_core::meta::{BindingRequest, DeclareExchange, DeclareQueue, Destination, DestinationName};
use broker_store::disk::{DiskFile, RealDisk};
use broker_store::journal::Journal;
use parking_lot::{Condvar, Mutex};
use std::io;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;
use tempfile::TempDir;

const UUID: [u8; 16] = [7; 16];

/// A directory whose syncs are counted, can be held up, and can fail.
struct Tape {
    directory: TempDir,
    syncs: AtomicUsize,
    held: Mutex<bool>,
    gate: Condvar,
    broken: AtomicBool,
}

impl Tape {
    fn hold(&self, held: bool) {
        *self.held.lock() = held;
        self.gate.notify_all();
    }

    fn syncs(&self) -> usize {
        self.syncs.load(Ordering::Acquire)
    }
}

struct TapeDisk(Arc<Tape>);

struct TapeFile {
    file: Arc<dyn DiskFile>,
    tape: Arc<Tape>,
}

impl TapeDisk {
    fn wrap(&self, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        Arc::new(TapeFile { file, tape: Arc::clone(&self.0) })
    }
}

impl Disk for TapeDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        RealDisk.create(path).map(|file| self.wrap(file))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        RealDisk.open(path).map(|file| self.wrap(file))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.create_dir(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.sync_dir(dir)
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        RealDisk.free_bytes(dir)
    }
}

impl DiskFile for TapeFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_at(data, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut held = self.tape.held.lock();
        while *held {
            self.tape.gate.wait(&mut held);
        }
        if self.tape.broken.load(Ordering::Acquire) {
            return Err(io::Error::other("no more tape"));
        }
        self.tape.syncs.fetch_add(1, Ordering::AcqRel);
        // The system's cache is enough for these tests.
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
}

fn metadata() -> (Arc<Metadata>, Arc<Tape>) {
    let tape = Arc::new(Tape {
        directory: tempfile::tempdir().unwrap(),
        syncs: AtomicUsize::new(0),
        held: Mutex::new(false),
        gate: Condvar::new(),
        broken: AtomicBool::new(false),
    });
    (Arc::new(open(&tape, false)), tape)
}

fn reopened(tape: &Arc<Tape>) -> Metadata {
    open(tape, true)
}

fn open(tape: &Arc<Tape>, expect_existing: bool) -> Metadata {
    let options = JournalOptions { expect_existing, ..JournalOptions::new(UUID) };
    let disk = Arc::new(TapeDisk(Arc::clone(tape)));
    Metadata::open(disk, &tape.directory.path().join("raft"), options, &Seat::alone("rabbit@here")).unwrap()
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
        home: NodeId::FIRST,
        mirrors: Vec::new(),
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
        home: NodeId::FIRST,
        mirrors: Vec::new(),
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
    let before = tape.syncs();
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
    let syncs = tape.syncs() - before;
    assert!(syncs <= 4, "{syncs} syncs for 100 declares");
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
    metadata.attach(|_| {}, Box::new(Told(Arc::clone(&told))));
    tape.broken.store(true, Ordering::Release);
    assert!(matches!(metadata.propose(queue(v, "q", true)).await, Err(MetaError::Journal(_))));
    assert!(matches!(metadata.propose(queue(v, "p", true)).await, Err(MetaError::Journal(_))));
    assert!(metadata.read().queues().next().is_none());
    assert_eq!(*told.lock(), ["failed: failed to sync the journal: no more tape"]);
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
    metadata.attach(|_| {}, Box::new(Options(Arc::clone(&told))));
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
    for round in 0..2 {
        let options = JournalOptions { storage_uuid: UUID, expect_existing: round > 0 };
        let dir = directory.path().join("raft");
        let metadata =
            Metadata::open(Arc::new(RealDisk), &dir, options, &Seat::alone("rabbit@here")).unwrap();
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_takes_the_place_of_a_long_log() {
    let (metadata, tape) = metadata();
    let v = vhost(&metadata, "/").await;
    // Few and large: the octets count here, not the entries.
    let description = "x".repeat(3 << 20);
    for round in 0..14 {
        let command = MetaCommand::PutVhost {
            name: "/".into(),
            description: format!("{round}{description}"),
            tags: Vec::new(),
            tracing: false,
            default_queue_type: None,
        };
        metadata.propose(command).await.unwrap();
    }
    metadata.propose(queue(v, "after", true)).await.unwrap();
    let size = || -> u64 {
        let files = std::fs::read_dir(tape.directory.path().join("raft")).unwrap();
        files.map(|file| file.unwrap().metadata().unwrap().len()).sum()
    };
    // It is written while others go on.
    for _ in 0..500 {
        if size() < 20 << 20 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(size() < 20 << 20, "{} octets for a state of 3 MiB", size());
    drop(metadata);
    let again = reopened(&tape);
    assert!(again.read().queue_named(v, "after").is_some());
    assert!(again.read().vhost(v).unwrap().vhost.description.starts_with("13x"));
    again.propose(queue(v, "more", true)).await.unwrap();
    drop(again);
    assert!(reopened(&tape).read().queue_named(v, "more").is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn policies_in_the_log_apply_after_a_restart() {
    let (metadata, tape) = metadata();
    let v = vhost(&metadata, "/").await;
    metadata.propose(queue(v, "orders", true)).await.unwrap();
    let json = serde_json::json!({"policies": [
        {"vhost": "/", "name": "low", "pattern": "^ord", "definition": {"max-length": 9}, "priority": 0},
    ]});
    definitions::import(&metadata, &json, None).await.unwrap();
    drop(metadata);
    let again = reopened(&tape);
    assert_eq!(again.read().queue_named(v, "orders").unwrap().options.max_length, Some(9));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_of_another_version_is_refused() {
    let (metadata, _) = metadata();
    let refused = metadata.shared.apply(1, &[9, 1, 1]).unwrap_err();
    assert!(refused.contains("format 9, which this version does not know"), "{refused}");
    assert!(metadata.shared.apply(1, &[1, 1, 1, 7, 200]).unwrap_err().contains("damaged"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_journal_of_format_1_is_carried_over() {
    // What the version before wrote: an exchange, a queue bound to it, a user and a policy.
    const OLD: &[u8] = include_bytes!("testdata/format-1.journal");
    let directory = tempfile::tempdir().unwrap();
    let (old, new) = (directory.path().join("meta"), directory.path().join("raft"));
    std::fs::create_dir(&old).unwrap();
    std::fs::write(old.join("journal-0000000000000001.log"), OLD).unwrap();
    let uuid = 0x9162_8ddd_ccd0_c311_c0ed_4bc7_3ab5_3b42_u128.to_be_bytes();
    let options = JournalOptions { storage_uuid: uuid, expect_existing: true };
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    upgrade::carry_over(&disk, &old, &new, options, "rabbit@here").unwrap();
    for _ in 0..2 {
        let metadata = Metadata::open(Arc::clone(&disk), &new, options, &Seat::alone("rabbit@here")).unwrap();
        let sm = metadata.read();
        let v = sm.vhost_id("/").unwrap();
        let invoices = sm.queue_named(v, "invoices").unwrap();
        assert_eq!((invoices.options.max_length, invoices.options.message_ttl), (Some(10), Some(60_000)));
        assert_eq!(sm.queues().count(), 1);
        let orders = sm.exchange_named(v, "orders").unwrap().id;
        assert_eq!(sm.bindings_from(orders).count(), 1);
        assert!(sm.user("clerk").unwrap().has_tag("monitoring"));
        assert!(crate::auth::verify(sm.user("clerk").unwrap().password.as_ref().unwrap(), b"secret"));
        let id = invoices.id;
        drop(sm);
        // The identity of a deleted queue is not given again.
        let name = format!("new-{}", metadata.read().queues().count());
        metadata.propose(queue(v, &name, true)).await.unwrap();
        let new = metadata.read().queue_named(v, &name).unwrap().id;
        assert!(new > id, "{new} after {id}");
        metadata.propose(MetaCommand::DeleteQueues { ids: vec![new] }).await.unwrap();
    }
}

#[test]
fn a_damaged_journal_of_format_1_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let (old, new) = (directory.path().join("meta"), directory.path().join("raft"));
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let (journal, _) = Journal::open(Arc::clone(&disk), &old, JournalOptions::new(UUID), |_| {}).unwrap();
    journal.append(1, b"\xff\xff\xff").unwrap();
    journal.close().unwrap();
    drop(journal);
    let options = JournalOptions { expect_existing: true, ..JournalOptions::new(UUID) };
    let refused = upgrade::carry_over(&disk, &old, &new, options, "rabbit@here").unwrap_err().to_string();
    assert!(refused.contains("metadata journal entry 1 is damaged"), "{refused}");
    assert!(!new.exists());
}
