//! The decoders of records and metadata over the stored fuzz corpus (`tests/fuzz/corpus`) and mutations of it.
//!
//! `UPDATE_FUZZ_CORPUS=1 cargo test -p broker-core seeds` puts the seeds below into the corpus.

#[path = "../../../../tests/fuzz/mutants.rs"]
mod mutants;

use super::*;
use crate::exchange::ExchangeType;
use crate::ids::{ConnectionId, NodeId, VhostId};
use crate::link::frame::Head;
use crate::link::greet::{Challenge, Hello, Proof, Protocols, Purpose, Reason, Refusal, Welcome};
use crate::link::{Kind, Lane};
use crate::meta::log::{LoggedChanges, RoundId};
use crate::meta::{
    ApplyTo, BATCH_BITS, BindingRequest, DeclareExchange, DeclareQueue, DestinationName, HashAlgorithm,
    MetaCommand, PasswordHash, PermissionPatterns, Policy, TopicPatterns, User, UserLimits, VhostLimits,
};
use amqp::table::FieldTable;
use mutants::Seed;
use std::collections::BTreeSet;

/// Octets that mean something: small numbers, the largest ones, flags.
const TELLING: &[u8] = b"\0\0\0\x01\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x7f\x80\x80\xff\xff\xff";

fn record_seeds() -> Vec<Seed> {
    let encode = |record: Record<'_>| {
        let mut octets = Vec::new();
        record.encode(&mut octets);
        octets
    };
    let each: Vec<Vec<u8>> = crate::record::tests::all_kinds().into_iter().map(encode).collect();
    let mut seeds =
        vec![("all".to_owned(), each.concat()), ("unknown-kind".to_owned(), vec![5, 12, 0, 1, 1, 1])];
    seeds.extend(each.into_iter().enumerate().map(|(at, octets)| (format!("kind-{at}"), octets)));
    seeds
}

fn text(text: &str) -> Arc<str> {
    text.into()
}

/// Commands that leave a vhost and something of every kind around it.
fn access_commands() -> Vec<MetaCommand> {
    let vhost = text("/");
    let user = |name: &str| User {
        name: name.into(),
        password: Some(PasswordHash { algorithm: HashAlgorithm::Sha256, hash: "aGFzaA==".to_owned() }),
        tags: vec!["administrator".to_owned()],
    };
    let policy = Policy {
        name: text("p"),
        pattern: text("^q"),
        apply_to: ApplyTo::All,
        priority: 1,
        definition: r#"{"max-length":5,"alternate-exchange":"x"}"#.to_owned(),
    };
    vec![
        MetaCommand::PutVhost {
            name: vhost.clone(),
            description: "d".to_owned(),
            tags: vec!["t".to_owned()],
            tracing: true,
            default_queue_type: Some("classic".to_owned()),
        },
        MetaCommand::AddUser { user: user("guest") },
        MetaCommand::SetPermissions {
            user: text("guest"),
            vhost: vhost.clone(),
            patterns: PermissionPatterns { configure: text(".*"), write: text(""), read: text("^a") },
        },
        MetaCommand::SetTopicPermissions {
            user: text("guest"),
            vhost: vhost.clone(),
            exchange: text("topic"),
            patterns: TopicPatterns { write: text("^a"), read: text(".*") },
        },
        MetaCommand::SetPolicy { vhost: vhost.clone(), operator: false, policy: policy.clone() },
        MetaCommand::SetPolicy { vhost: vhost.clone(), operator: true, policy },
        MetaCommand::SetParameter {
            vhost: vhost.clone(),
            component: text("shovel"),
            name: text("s"),
            value: "{}".to_owned(),
        },
        MetaCommand::SetGlobalParameter { name: text("g"), value: "1".to_owned() },
        MetaCommand::SetVhostLimits {
            vhost: vhost.clone(),
            limits: VhostLimits { max_connections: Some(9), max_queues: None },
        },
        MetaCommand::SetUserLimits {
            user: text("guest"),
            limits: UserLimits { max_connections: None, max_channels: Some(3) },
        },
    ]
}

/// Commands that leave something of every kind in the vhost.
fn entity_commands() -> Vec<MetaCommand> {
    let vhost_id = VhostId(1 << BATCH_BITS);
    let arguments = || {
        let mut table = FieldTable::new();
        table.insert("x-max-length", 10i64);
        Arc::new(table)
    };
    let bind = |source: &str, destination| {
        MetaCommand::Bind(BindingRequest {
            vhost: vhost_id,
            source: source.into(),
            destination,
            routing_key: text("a.#"),
            arguments: arguments(),
            connection: None,
        })
    };
    let exchange = |name: &str, kind| {
        let (name, arguments) = (name.into(), arguments());
        let (durable, auto_delete, internal) = (true, false, false);
        let declare =
            DeclareExchange { vhost: vhost_id, name, kind, durable, auto_delete, internal, arguments };
        MetaCommand::DeclareExchange(declare)
    };
    let queue = |name: &str, owner: Option<ConnectionId>| {
        let (name, arguments, durable) = (name.into(), arguments(), owner.is_none());
        MetaCommand::DeclareQueue(DeclareQueue {
            vhost: vhost_id,
            name,
            durable,
            auto_delete: false,
            owner,
            arguments,
            home: NodeId::FIRST,
            mirrors: Vec::new(),
        })
    };
    vec![
        exchange("topic", ExchangeType::Topic),
        exchange("x", ExchangeType::Headers),
        queue("q", None),
        queue("mine", Some(ConnectionId(3))),
        bind("topic", DestinationName::Queue(text("q"))),
        bind("topic", DestinationName::Exchange(text("x"))),
        bind("x", DestinationName::Queue(text("mine"))),
    ]
}

fn meta() -> (MetaSm, Vec<Change>) {
    let mut sm = MetaSm::new();
    let mut changes = Vec::new();
    for (command, index) in access_commands().iter().chain(&entity_commands()).zip(1..) {
        changes.extend(sm.plan(index << BATCH_BITS, command).unwrap().changes);
        sm.apply(index, command).unwrap();
    }
    (sm, changes)
}

fn meta_snapshot_seeds() -> Vec<Seed> {
    let (sm, _) = meta();
    let empty = MetaSm::new().snapshot(false);
    vec![
        ("durable".to_owned(), sm.snapshot(false)),
        ("full".to_owned(), sm.snapshot(true)),
        ("empty".to_owned(), empty),
    ]
}

fn meta_change_seeds() -> Vec<Seed> {
    let encode = |change: &Change| postcard::to_stdvec(change).unwrap();
    let (_, changes) = meta();
    let all = changes.iter().flat_map(encode).collect();
    let removals = [
        Change::RemoveExchange { id: crate::meta::ExchangeId(11 << BATCH_BITS), durable: true },
        Change::RemoveQueue { id: crate::ids::QueueId(13 << BATCH_BITS), durable: true },
        Change::RemoveUser { name: "guest".into() },
        Change::RemoveVhost { id: VhostId(1 << BATCH_BITS), name: "/".into() },
    ];
    let gone = changes.iter().chain(&removals).flat_map(encode).collect();
    let mut seeds = vec![("all".to_owned(), all), ("gone".to_owned(), gone)];
    let large = changes.iter().filter(|change| !matches!(change, Change::PutExchange(_)));
    seeds.extend(large.zip(0..).map(|(change, at)| (format!("change-{at}"), encode(change))));
    seeds
}

/// A round with all changes, and one with the changes of each command by itself.
fn meta_command_seeds() -> Vec<Seed> {
    let (_, changes) = meta();
    let mut id = RoundId::first(7);
    let mut all = CommandWriter::new(id);
    let mut seeds = vec![("empty".to_owned(), CommandWriter::new(id).into_octets())];
    for (at, change) in changes.iter().filter(|change| change.is_durable()).enumerate() {
        let logged = LoggedChanges { index: at as u64 + 1, changes: vec![change.clone()] };
        all.push(&logged).expect("sound changes");
        id.advance();
        let mut one = CommandWriter::new(id);
        one.push(&logged).expect("sound changes");
        seeds.push((format!("round-{at}"), one.into_octets()));
    }
    seeds.push(("all".to_owned(), all.into_octets()));
    seeds.push(("unknown-format".to_owned(), vec![9, 1, 1]));
    seeds
}

fn meta_members_seeds() -> Vec<Seed> {
    let set = |ids: &[u64]| ids.iter().copied().collect::<BTreeSet<u64>>();
    let one = Members { voters: vec![set(&[1])], nodes: [(1, "rabbit@a".to_owned())].into() };
    let nodes = (1..=3).map(|id| (id, format!("rabbit@{id}"))).collect();
    let joint = Members { voters: vec![set(&[1, 2]), set(&[1, 2, 3])], nodes };
    let entry = |members: &Members| members.encode().expect("sound members");
    let head = |at, members: &Members| encode_members_at(&(at, members.clone())).expect("sound members");
    vec![
        ("one".to_owned(), entry(&one)),
        ("joint".to_owned(), entry(&joint)),
        ("none-at".to_owned(), head(None, &Members::default())),
        ("one-at".to_owned(), head(Some((0, 1, 0)), &one)),
        ("joint-at".to_owned(), head(Some((u64::MAX, 3, 1 << 40)), &joint)),
    ]
}

fn link_frame_seeds() -> Vec<Seed> {
    let frame = |item: Item, payload: &[u8]| {
        let mut out = Vec::new();
        item.encode(payload.len(), &mut out);
        out.extend_from_slice(payload);
        out
    };
    let call = Head::Call { kind: Kind::Raft, number: 7, patience_ms: 500 };
    let forward = Head::Frame { kind: Kind::Forward };
    let begin = |stream, head| frame(Item::Begin { stream, total: 6, head }, b"abc");
    let more = |stream| frame(Item::More { stream }, b"def");
    vec![
        ("frame".to_owned(), frame(Item::Whole(forward), b"payload")),
        ("call".to_owned(), frame(Item::Whole(call), b"question")),
        ("answer".to_owned(), frame(Item::Whole(Head::Answer { number: 7 }), b"answer")),
        ("failed".to_owned(), frame(Item::Whole(Head::Failed { number: 7 }), b"no")),
        (
            "signs".to_owned(),
            [
                frame(Item::Ping { token: 1 << 40 }, b""),
                frame(Item::Pong { token: 9 }, b""),
                frame(Item::Cancel { number: 7 }, b""),
            ]
            .concat(),
        ),
        ("parts".to_owned(), [begin(1, forward), begin(2, call), more(2), more(1)].concat()),
        ("abandoned".to_owned(), [begin(1, call), frame(Item::Abandon { stream: 1 }, b"")].concat()),
        ("huge".to_owned(), frame(Item::Begin { stream: 1, total: u64::MAX, head: call }, b"a")),
        ("long".to_owned(), vec![0xff; 8]),
    ]
}

fn link_greet_seeds() -> Vec<Seed> {
    let protocol = Protocols { oldest: 1, newest: 2 };
    let claim = Claim { cluster_id: 1 << 100, addresses: vec!["a:25672".to_owned()], expires: 1_800_000_000 };
    let who = Who {
        cluster_id: 7,
        generation: 1,
        node: Some(NodeId(2)),
        incarnation: 3,
        name: "rabbit@a".to_owned(),
        addresses: claim.addresses.clone(),
        version: "0.1.0".to_owned(),
        features: 1,
        session: 3 << 32 | 1,
        expects: Some(NodeId(1)),
        clock_ms: 1_800_000_000_000,
    };
    let octets = who.encode().expect("a node");
    let greet = |message: Greet| message.encode().expect("a message");
    let hello = |purpose, token| greet(Greet::Hello(Hello { nonce: [1; 32], protocol, purpose, token }));
    vec![
        ("hello".to_owned(), hello(Purpose::Lane(Lane::Data), None)),
        ("ask".to_owned(), hello(Purpose::Ask, Some(claim.clone()))),
        ("challenge".to_owned(), greet(Greet::Challenge(Challenge { nonce: [2; 32], protocol }))),
        ("proof".to_owned(), greet(Greet::Proof(Proof { who: octets.clone(), macs: vec![[3; 32]; 2] }))),
        (
            "welcome".to_owned(),
            greet(Greet::Welcome(Welcome { who: octets.clone(), sealed: Some(vec![4; 30]), mac: [5; 32] })),
        ),
        (
            "refusal".to_owned(),
            greet(Greet::Refusal(Refusal { reason: Reason::Cookie, text: "the cookies differ".to_owned() })),
        ),
        ("who".to_owned(), octets),
        ("claim".to_owned(), claim.encode().expect("a claim")),
    ]
}

fn forward_ops_seeds() -> Vec<Seed> {
    let ops = crate::forward::tests::all_ops();
    let mut all = Vec::new();
    ops.for_each(|op| op.encode(&mut all));
    let mut seeds = vec![("all".to_owned(), all.clone()), ("unknown".to_owned(), vec![99, 1])];
    let mut commit = Vec::new();
    Op::Commit { ops: Ops(&all) }.encode(&mut commit);
    seeds.push(("commit".to_owned(), commit));
    let each = crate::forward::tests::all_ops().enumerate().map(|(at, op)| {
        let mut octets = Vec::new();
        op.encode(&mut octets);
        (format!("op-{at}"), octets)
    });
    seeds.extend(each);
    seeds
}

fn forward_answers_seeds() -> Vec<Seed> {
    let mut all = Vec::new();
    let mut seeds = Vec::new();
    for (at, answer) in crate::forward::tests::all_answers().enumerate() {
        let mut octets = Vec::new();
        answer.encode(&mut octets);
        all.extend_from_slice(&octets);
        seeds.push((format!("answer-{at}"), octets));
    }
    seeds.push(("all".to_owned(), all));
    seeds.push(("unknown".to_owned(), vec![99, 1]));
    seeds
}

#[test]
fn the_stored_corpus_has_all_seeds() {
    for (target, seeds) in [
        ("core_forward_ops", forward_ops_seeds()),
        ("core_forward_answers", forward_answers_seeds()),
        ("core_record", record_seeds()),
        ("core_meta_snapshot", meta_snapshot_seeds()),
        ("core_meta_change", meta_change_seeds()),
        ("core_meta_command", meta_command_seeds()),
        ("core_meta_members", meta_members_seeds()),
        ("core_link_frame", link_frame_seeds()),
        ("core_link_greet", link_greet_seeds()),
    ] {
        mutants::check_seeds(target, &seeds);
    }
}

#[test]
fn operations_from_other_nodes_survive_the_corpus_and_its_mutations() {
    mutants::run("core_forward_ops", 30_000, TELLING, forward_ops);
}

#[test]
fn answers_from_other_nodes_survive_the_corpus_and_its_mutations() {
    mutants::run("core_forward_answers", 30_000, TELLING, forward_answers);
}

#[test]
fn records_survive_the_corpus_and_its_mutations() {
    mutants::run("core_record", 40_000, TELLING, record);
}

#[test]
fn snapshots_of_metadata_survive_the_corpus_and_its_mutations() {
    mutants::run("core_meta_snapshot", 1500, TELLING, meta_snapshot);
}

#[test]
fn commands_of_the_log_survive_the_corpus_and_its_mutations() {
    mutants::run("core_meta_command", 3000, TELLING, meta_command);
}

#[test]
fn members_of_the_cluster_survive_the_corpus_and_its_mutations() {
    mutants::run("core_meta_members", 20_000, TELLING, meta_members);
}

#[test]
fn changes_of_metadata_survive_the_corpus_and_its_mutations() {
    mutants::run("core_meta_change", 4000, TELLING, meta_change);
}

#[test]
fn frames_of_links_survive_the_corpus_and_its_mutations() {
    mutants::run("core_link_frame", 40_000, TELLING, link_frame);
}

#[test]
fn greetings_of_links_survive_the_corpus_and_its_mutations() {
    mutants::run("core_link_greet", 40_000, TELLING, link_greet);
}
