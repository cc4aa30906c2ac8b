//! Tests of the metadata state machine.

use super::checks::{self, Declared, ExchangeDeclare, QueueDeclare};
use super::*;
use crate::exchange::ExchangeType;
use crate::ids::ConnectionId;
use amqp::table::{FieldTable, FieldValue};
use proptest::prelude::*;

const ME: ConnectionId = ConnectionId(1);
const OTHER: ConnectionId = ConnectionId(2);

/// A state machine with the vhost `/` and the user guest.
struct World {
    sm: MetaSm,
    index: u64,
    vhost: VhostId,
    access: Access,
}

impl World {
    fn new() -> World {
        let mut sm = MetaSm::new();
        for (index, command) in first_commands().iter().enumerate() {
            sm.apply(index as u64 + 1, command).unwrap();
        }
        let vhost = sm.vhost_id("/").unwrap();
        let access = Access::new(Arc::default(), "guest".into(), vhost);
        World { sm, index: 10, vhost, access }
    }

    fn apply(&mut self, command: &MetaCommand) -> Result<MetaReply, MetaError> {
        self.index += 1;
        self.sm.apply(self.index, command)
    }

    /// Declares as a channel does; the text of the refusal otherwise.
    fn declare(&mut self, name: &str, change: impl FnOnce(&mut QueueDeclare<'_>)) -> Result<QueueId, String> {
        let mut request = QueueDeclare {
            name,
            server_named: false,
            durable: true,
            exclusive: false,
            auto_delete: false,
            arguments: Arc::default(),
            connection: ME,
        };
        change(&mut request);
        match checks::queue_declare(&self.sm, &mut self.access, &request).map_err(|e| e.reply_text())? {
            Declared::Exists(id) => Ok(id),
            Declared::Create(command) => match self.apply(&command) {
                Ok(MetaReply::Queue { id, .. }) => Ok(id),
                other => Err(format!("{other:?}")),
            },
        }
    }

    fn exchange(
        &mut self,
        name: &str,
        kind: &str,
        change: impl FnOnce(&mut ExchangeDeclare<'_>),
    ) -> Result<(), String> {
        let mut request = ExchangeDeclare {
            name,
            kind,
            durable: true,
            auto_delete: false,
            internal: false,
            arguments: Arc::default(),
        };
        change(&mut request);
        match checks::exchange_declare(&self.sm, &mut self.access, &request).map_err(|e| e.reply_text())? {
            Declared::Exists(_) => Ok(()),
            Declared::Create(command) => self.apply(&command).map(drop).map_err(|e| e.to_string()),
        }
    }

    fn bind(&mut self, source: &str, to: DestinationName, key: &str) -> Result<MetaReply, MetaError> {
        self.apply(&MetaCommand::Bind(request(self.vhost, source, to, key)))
    }

    fn unbind(&mut self, source: &str, to: DestinationName, key: &str) -> Result<MetaReply, MetaError> {
        self.apply(&MetaCommand::Unbind(request(self.vhost, source, to, key)))
    }

    fn route(&self, exchange: &str, keys: &[&str]) -> Vec<QueueId> {
        let mut out = Vec::new();
        self.sm.route(self.vhost, exchange, keys, None, &mut out, &mut RouteScratch::default()).unwrap();
        out
    }
}

fn first_commands() -> Vec<MetaCommand> {
    vec![
        MetaCommand::PutVhost {
            name: "/".into(),
            description: String::new(),
            tags: Vec::new(),
            tracing: false,
            default_queue_type: None,
        },
        MetaCommand::AddUser { user: User { name: "guest".into(), password: None, tags: Vec::new() } },
        permissions("guest", ".*", ".*", ".*"),
    ]
}

fn permissions(user: &str, configure: &str, write: &str, read: &str) -> MetaCommand {
    let patterns = PermissionPatterns { configure: configure.into(), write: write.into(), read: read.into() };
    MetaCommand::SetPermissions { user: user.into(), vhost: "/".into(), patterns }
}

fn request(vhost: VhostId, source: &str, destination: DestinationName, key: &str) -> BindingRequest {
    BindingRequest {
        vhost,
        source: source.into(),
        destination,
        routing_key: key.into(),
        arguments: Arc::default(),
        connection: Some(ME),
    }
}

fn queue(name: &str) -> DestinationName {
    DestinationName::Queue(name.into())
}

fn exchange(name: &str) -> DestinationName {
    DestinationName::Exchange(name.into())
}

fn arguments(fields: &[(&str, FieldValue)]) -> Arc<FieldTable> {
    Arc::new(fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect())
}

fn int(value: i32) -> FieldValue {
    FieldValue::SignedInt(value)
}

fn text(value: &str) -> FieldValue {
    value.into()
}

/// The texts were recorded from RabbitMQ 3.10.8.
#[test]
#[expect(clippy::too_many_lines, reason = "a table of what was recorded")]
fn invalid_queue_arguments_have_rabbitmqs_texts() {
    let cases: Vec<(Vec<(&str, FieldValue)>, &str)> = vec![
        (vec![("x-message-ttl", int(-1))], "invalid arg 'x-message-ttl' for {q}: {value_negative,-1}"),
        (
            vec![("x-message-ttl", text("1"))],
            "invalid arg 'x-message-ttl' for {q}: \"expected integer, got longstr\"",
        ),
        (
            vec![("x-message-ttl", FieldValue::Long(1 << 40))],
            "invalid arg 'x-message-ttl' for {q}: {value_too_large,1099511627776}",
        ),
        (
            vec![("x-message-ttl", FieldValue::Void)],
            "invalid arg 'x-message-ttl' for {q}: \"expected integer, got void\"",
        ),
        (vec![("x-expires", int(0))], "invalid arg 'x-expires' for {q}: {value_zero,0}"),
        (vec![("x-expires", int(-1))], "invalid arg 'x-expires' for {q}: {value_negative,-1}"),
        (
            vec![("x-max-length-bytes", int(-5))],
            "invalid arg 'x-max-length-bytes' for {q}: {value_negative,-5}",
        ),
        (
            vec![("x-max-priority", int(256))],
            "invalid arg 'x-max-priority' for {q}: {max_value_exceeded,256}",
        ),
        (
            vec![("x-max-priority", true.into())],
            "invalid arg 'x-max-priority' for {q}: \"expected integer, got bool\"",
        ),
        (
            vec![("x-dead-letter-exchange", int(1))],
            "invalid type 'signedint' for arg 'x-dead-letter-exchange' in {q}",
        ),
        (
            vec![("x-dead-letter-routing-key", text("k"))],
            "invalid arg 'x-dead-letter-routing-key' for {q}: routing_key_but_no_dlx_defined",
        ),
        (
            vec![("x-dead-letter-exchange", text("")), ("x-dead-letter-routing-key", int(3))],
            "invalid arg 'x-dead-letter-routing-key' for {q}: {unacceptable_type,signedint}",
        ),
        (vec![("x-overflow", text("nope"))], "invalid arg 'x-overflow' for {q}: invalid_overflow"),
        (
            vec![("x-queue-mode", text("nope"))],
            "invalid arg 'x-queue-mode' for {q}: \"unsupported queue mode 'nope'\"",
        ),
        (
            vec![("x-queue-version", int(3))],
            "invalid arg 'x-queue-version' for {q}: \"unsupported queue version '3'\"",
        ),
        (
            vec![("x-single-active-consumer", text("yes"))],
            "invalid arg 'x-single-active-consumer' for {q}: {unacceptable_type,longstr}",
        ),
        (
            vec![("x-queue-type", text("quorum")), ("x-queue-leader-locator", text("min-masters"))],
            "invalid arg 'x-queue-leader-locator' for {q}: invalid_queue_locator_arg",
        ),
        (vec![("x-queue-type", int(1))], "invalid arg 'x-queue-type' for {q}: {unacceptable_type,signedint}"),
        (
            vec![("x-queue-type", text("nope"))],
            "invalid arg 'x-queue-type' for {q}: \"unsupported queue type 'nope'\"",
        ),
        (
            vec![("x-delivery-limit", int(-5))],
            "invalid arg 'x-delivery-limit' for {q} of queue type rabbit_classic_queue",
        ),
        (
            vec![("x-queue-type", text("quorum")), ("x-max-priority", text("a"))],
            "invalid arg 'x-max-priority' for {q} of queue type rabbit_quorum_queue",
        ),
        (
            vec![("x-message-ttl", int(-1)), ("x-dead-letter-exchange", int(1))],
            "invalid type 'signedint' for arg 'x-dead-letter-exchange' in {q}",
        ),
    ];
    let mut world = World::new();
    for (fields, expected) in cases {
        let refused = world.declare("q", |request| request.arguments = arguments(&fields)).unwrap_err();
        assert_eq!(
            refused,
            format!("PRECONDITION_FAILED - {}", expected.replace("{q}", "queue 'q' in vhost '/'"))
        );
    }
    let fine = [("x-foo", text("bar")), ("x-max-length", int(0)), ("x-message-ttl", FieldValue::Byte(100))];
    world.declare("q", |request| request.arguments = arguments(&fine)).unwrap();
}

#[test]
fn quorum_queues_are_durable_and_shared() {
    let mut world = World::new();
    let quorum = || arguments(&[("x-queue-type", text("quorum"))]);
    for (change, property) in [
        ((false, false, false), "non-durable"),
        ((true, true, false), "exclusive-owner"),
        ((true, false, true), "auto-delete"),
        ((false, true, true), "auto-delete"),
    ] {
        let refused = world.declare("q", |request| {
            (request.durable, request.exclusive, request.auto_delete) = change;
            request.arguments = quorum();
        });
        assert_eq!(
            refused.unwrap_err(),
            format!("PRECONDITION_FAILED - invalid property '{property}' for queue 'q' in vhost '/'")
        );
    }
    let refused = world.declare("amq.gen-x", |request| {
        request.server_named = true;
        request.arguments = quorum();
    });
    assert_eq!(
        refused.unwrap_err(),
        "PRECONDITION_FAILED - Cannot declare a server-named queue for type rabbit_quorum_queue"
    );
    let stream =
        world.declare("q", |request| request.arguments = arguments(&[("x-queue-type", text("stream"))]));
    assert!(stream.unwrap_err().starts_with("NOT_IMPLEMENTED - "));
}

#[test]
fn declaring_again_compares_as_rabbitmq_does() {
    type Fields = Vec<(&'static str, FieldValue)>;
    let cases: Vec<(Fields, Fields, Option<&str>)> = vec![
        (vec![("x-message-ttl", int(1000))], vec![("x-message-ttl", FieldValue::Long(1000))], None),
        (vec![("x-foo", int(1))], vec![("x-foo", int(2))], None),
        (vec![], vec![("x-queue-type", text("classic"))], None),
        (vec![("x-queue-type", text("classic"))], vec![], None),
        (
            vec![("x-message-ttl", int(1000))],
            vec![("x-message-ttl", int(2000))],
            Some("'x-message-ttl' for {q}: received '2000' but current is '1000'"),
        ),
        (
            vec![("x-message-ttl", int(1000))],
            vec![],
            Some(
                "'x-message-ttl' for {q}: received none but current is the value '1000' of type 'signedint'",
            ),
        ),
        (
            vec![],
            vec![("x-max-length", int(5))],
            Some("'x-max-length' for {q}: received the value '5' of type 'signedint' but current is none"),
        ),
        (
            vec![("x-single-active-consumer", true.into())],
            vec![],
            Some(
                "'x-single-active-consumer' for {q}: received none but current is the value 'true' of type 'bool'",
            ),
        ),
        (
            vec![("x-message-ttl", int(1000))],
            vec![("x-message-ttl", FieldValue::Double(1000.5))],
            Some("'x-message-ttl' for {q}: received '1000.5' but current is '1000'"),
        ),
        (
            vec![],
            vec![("x-queue-type", text("quorum"))],
            Some("'x-queue-type' for {q}: received the value 'quorum' of type 'longstr' but current is none"),
        ),
        (
            vec![("x-queue-type", text("quorum"))],
            vec![("x-queue-type", text("classic"))],
            Some("'x-queue-type' for {q}: received 'classic' but current is 'quorum'"),
        ),
    ];
    for (first, second, expected) in cases {
        let mut world = World::new();
        let id = world.declare("q", |request| request.arguments = arguments(&first)).unwrap();
        let outcome = world.declare("q", |request| request.arguments = arguments(&second));
        match expected {
            None => assert_eq!(outcome, Ok(id)),
            Some(text) => assert_eq!(
                outcome.unwrap_err(),
                format!(
                    "PRECONDITION_FAILED - inequivalent arg {}",
                    text.replace("{q}", "queue 'q' in vhost '/'")
                )
            ),
        }
    }
    let mut world = World::new();
    world.declare("q", |request| request.durable = false).unwrap();
    assert_eq!(
        world.declare("q", |_| {}).unwrap_err(),
        "PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'q' in vhost '/': received 'true' but current is 'false'"
    );
}

#[test]
fn exchanges_compare_and_are_protected() {
    let mut world = World::new();
    world
        .exchange("x", "direct", |x| {
            x.arguments = arguments(&[("alternate-exchange", text("a")), ("foo", int(1))]);
        })
        .unwrap();
    let with = |ae: &str| arguments(&[("alternate-exchange", text(ae))]);
    let title = "exchange 'x' in vhost '/'";
    let refused = world.exchange("x", "fanout", |_| {}).unwrap_err();
    assert_eq!(
        refused,
        format!(
            "PRECONDITION_FAILED - inequivalent arg 'type' for {title}: received 'fanout' but current is 'direct'"
        )
    );
    let refused = world.exchange("x", "direct", |x| x.arguments = with("b")).unwrap_err();
    assert_eq!(
        refused,
        format!(
            "PRECONDITION_FAILED - inequivalent arg 'alternate-exchange' for {title}: received 'b' but current is 'a'"
        )
    );
    world.exchange("x", "direct", |x| x.arguments = with("a")).expect("other arguments are not compared");
    let refused = world.exchange("x", "direct", |x| x.internal = true).unwrap_err();
    assert_eq!(
        refused,
        format!(
            "PRECONDITION_FAILED - inequivalent arg 'internal' for {title}: received 'true' but current is 'false'"
        )
    );
    for (name, kind, expected) in [
        ("", "direct", "ACCESS_REFUSED - operation not permitted on the default exchange"),
        ("amq.mine", "direct", "ACCESS_REFUSED - exchange name 'amq.mine' contains reserved prefix 'amq.*'"),
        ("y", "odd", "COMMAND_INVALID - unknown exchange type 'odd'"),
        ("y", "", "COMMAND_INVALID - invalid exchange type ''"),
    ] {
        assert_eq!(world.exchange(name, kind, |_| {}).unwrap_err(), expected);
    }
    world.exchange("amq.topic", "topic", |_| {}).expect("predeclared ones may be declared");
    let delete = |world: &mut World, name: &str| {
        checks::exchange_delete(&world.sm, &mut world.access, name, false).map_err(|e| e.reply_text())
    };
    assert_eq!(
        delete(&mut world, "amq.fanout").unwrap_err(),
        "ACCESS_REFUSED - deletion of system exchange 'amq.fanout' in vhost '/' not allowed"
    );
    let bad = world.exchange("y", "direct", |x| x.arguments = arguments(&[("alternate-exchange", int(1))]));
    assert_eq!(
        bad.unwrap_err(),
        "PRECONDITION_FAILED - invalid type 'signedint' for arg 'alternate-exchange' in exchange 'y' in vhost '/'"
    );
}

#[test]
fn names_and_exclusive_queues() {
    let mut world = World::new();
    let refused = world.declare("amq.mine", |_| {}).unwrap_err();
    assert_eq!(refused, "ACCESS_REFUSED - queue name 'amq.mine' contains reserved prefix 'amq.*'");
    world.declare("amq.gen-1", |request| request.server_named = true).unwrap();
    world.declare("q\r\n", |request| request.exclusive = true).unwrap();
    let locked = "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'q' in vhost '/'. It could be \
                  originally declared on another connection or the exclusive property value does not match that of \
                  the original declaration.";
    world
        .declare("q", |request| (request.durable, request.exclusive) = (false, true))
        .expect("durable counts for nothing");
    assert_eq!(world.declare("q", |_| {}).unwrap_err(), locked, "shared now");
    let by_other = world.declare("q", |request| (request.exclusive, request.connection) = (true, OTHER));
    assert_eq!(by_other.unwrap_err(), locked);
    assert_eq!(checks::queue_passive(&world.sm, &world.access, "q", OTHER).unwrap_err().reply_text(), locked);
    let get = checks::queue_for(&world.sm, &mut world.access, Permission::Read, "q", OTHER);
    assert_eq!(get.unwrap_err().reply_text(), locked);
    let mut bind = request(world.vhost, "amq.direct", queue("q"), "k");
    bind.connection = Some(OTHER);
    assert_eq!(
        world.apply(&MetaCommand::Bind(bind.clone())).unwrap_err().into_exception().reply_text(),
        locked
    );
    assert_eq!(
        world.apply(&MetaCommand::Unbind(bind.clone())).unwrap(),
        MetaReply::Removed(Removed::default()),
        "nothing bound"
    );
    world.bind("amq.direct", queue("q"), "k").unwrap();
    assert_eq!(world.apply(&MetaCommand::Unbind(bind)).unwrap_err().into_exception().reply_text(), locked);
    assert_eq!(world.sm.queues_owned_by(ME).len(), 1);
    let missing = checks::queue_for(&world.sm, &mut world.access, Permission::Read, "no", ME).unwrap_err();
    assert_eq!(missing.reply_text(), "NOT_FOUND - no queue 'no' in vhost '/'");
}

#[test]
fn permissions_refuse_with_rabbitmqs_texts() {
    let mut world = World::new();
    world.declare("mine-q", |_| {}).unwrap();
    world.apply(&permissions("guest", "mine", "^(?!amq\\.).*", "")).unwrap();
    let refused = world.declare("q", |_| {}).unwrap_err();
    assert_eq!(refused, "ACCESS_REFUSED - access to queue 'q' in vhost '/' refused for user 'guest'");
    world.declare("xx-mine-yy", |_| {}).expect("patterns are not anchored");
    let dlx = world
        .declare("mine", |request| request.arguments = arguments(&[("x-dead-letter-exchange", text("d"))]));
    assert_eq!(
        dlx.unwrap_err(),
        "ACCESS_REFUSED - access to queue 'mine' in vhost '/' refused for user 'guest'",
        "read on the queue"
    );
    let publish = |world: &mut World, exchange: &str| {
        checks::publish(&world.sm, &mut world.access, exchange, "k").map(|x| x.id).map_err(|e| e.reply_text())
    };
    assert_eq!(
        publish(&mut world, "").unwrap_err(),
        "ACCESS_REFUSED - access to exchange 'amq.default' in vhost '/' refused for user 'guest'"
    );
    assert_eq!(publish(&mut world, "no").unwrap_err(), "NOT_FOUND - no exchange 'no' in vhost '/'");
    world.apply(&permissions("guest", ".*", ".*", ".*")).unwrap();
    publish(&mut world, "").expect("a change of permissions counts at once");
    world.exchange("inner", "topic", |x| x.internal = true).unwrap();
    assert_eq!(
        publish(&mut world, "inner").unwrap_err(),
        "ACCESS_REFUSED - cannot publish to internal exchange 'inner' in vhost '/'"
    );
    let clear = MetaCommand::ClearPermissions { user: "guest".into(), vhost: "/".into() };
    assert!(world.access.may_open(&world.sm));
    world.apply(&clear).unwrap();
    assert!(!world.access.may_open(&world.sm));
}

#[test]
fn topic_permissions_look_at_routing_keys() {
    let mut world = World::new();
    let patterns = TopicPatterns { write: "^{username}\\.".into(), read: "^yes".into() };
    let set = MetaCommand::SetTopicPermissions {
        user: "guest".into(),
        vhost: "/".into(),
        exchange: "amq.topic".into(),
        patterns,
    };
    world.apply(&set).unwrap();
    checks::publish(&world.sm, &mut world.access, "amq.topic", "guest.1").unwrap();
    let refused = checks::publish(&world.sm, &mut world.access, "amq.topic", "no.1").unwrap_err();
    assert_eq!(
        refused.reply_text(),
        "ACCESS_REFUSED - access to topic 'no.1' in exchange 'amq.topic' in vhost '/' refused for user 'guest'"
    );
    let bind = |world: &mut World, key: &str| {
        checks::binding(&world.sm, &mut world.access, "amq.topic", &queue("q"), key, Arc::default(), ME)
    };
    assert!(bind(&mut world, "yes.#").is_ok());
    assert_eq!(
        bind(&mut world, "no.#").unwrap_err().reply_text(),
        "ACCESS_REFUSED - access to topic 'no.#' in exchange 'amq.topic' in vhost '/' refused for user 'guest'"
    );
    checks::publish(&world.sm, &mut world.access, "amq.direct", "no.1").expect("other exchanges are free");
}

#[test]
fn a_runaway_pattern_does_not_match_and_does_not_hang() {
    let pattern = access::Pattern::new("^(?=(a+)+$)(a|b|ab)*c$").unwrap();
    assert!(!pattern.is_match(&"a".repeat(200)));
    assert!(access::Pattern::new("[").is_err());
    assert!(access::Pattern::new(&"a".repeat(10_000)).is_err());
}

#[test]
fn auto_delete_exchanges_go_with_their_last_binding_in_chains() {
    let mut world = World::new();
    for name in ["a", "b", "c"] {
        world.exchange(name, "fanout", |x| x.auto_delete = true).unwrap();
    }
    let id = world.declare("q", |_| {}).unwrap();
    world.bind("a", exchange("b"), "").unwrap();
    world.bind("b", exchange("c"), "").unwrap();
    world.bind("c", queue("q"), "").unwrap();
    assert_eq!(world.route("a", &[""]), [id]);
    let reply = world.apply(&MetaCommand::DeleteQueues { ids: vec![id] }).unwrap();
    let MetaReply::Removed(removed) = reply else { panic!("{reply:?}") };
    assert_eq!((removed.queues.as_slice(), removed.exchanges.len(), removed.bindings), (&[id][..], 3, 3));
    assert!(["a", "b", "c"].iter().all(|name| world.sm.exchange_named(world.vhost, name).is_none()));
    assert!(world.sm.bindings.is_empty() && world.sm.bindings_to.is_empty());
    // One that was never bound stays; losing a binding as destination is no reason to go.
    world.exchange("d", "fanout", |x| x.auto_delete = true).unwrap();
    world.bind("amq.fanout", exchange("d"), "").unwrap();
    world.unbind("amq.fanout", exchange("d"), "").unwrap();
    assert!(world.sm.exchange_named(world.vhost, "d").is_some());
}

#[test]
fn delete_if_unused() {
    let mut world = World::new();
    world.exchange("x", "fanout", |_| {}).unwrap();
    world.declare("q", |_| {}).unwrap();
    world.bind("x", queue("q"), "").unwrap();
    let delete = |if_unused| MetaCommand::DeleteExchange {
        vhost: VhostId(1 << BATCH_BITS),
        name: "x".into(),
        if_unused,
    };
    let refused = world.apply(&delete(true)).unwrap_err().into_exception();
    assert_eq!(refused.reply_text(), "PRECONDITION_FAILED - exchange 'x' in vhost '/' in use");
    world.apply(&delete(false)).unwrap();
    assert_eq!(
        world.apply(&delete(false)).unwrap(),
        MetaReply::Removed(Removed::default()),
        "missing is fine"
    );
}

#[test]
fn routing_over_exchanges() {
    let mut world = World::new();
    let q = world.declare("q", |_| {}).unwrap();
    let p = world.declare("p", |_| {}).unwrap();
    assert_eq!(world.route("", &["q", "p", "none", "q"]), [q, p], "the default exchange, with CC");
    world.exchange("a", "fanout", |_| {}).unwrap();
    world.exchange("b", "fanout", |_| {}).unwrap();
    for (source, to) in [("a", exchange("b")), ("b", exchange("a")), ("a", queue("q")), ("b", queue("q"))] {
        world.bind(source, to, "").unwrap();
    }
    assert_eq!(world.route("a", &["any"]), [q], "once, in spite of the circle");
    world
        .exchange("ae", "direct", |x| x.arguments = arguments(&[("alternate-exchange", text("b"))]))
        .unwrap();
    world.bind("ae", queue("p"), "k").unwrap();
    assert_eq!(world.route("ae", &["k"]), [p]);
    assert_eq!(world.route("ae", &["other"]), [q], "the alternate exchange");
    world
        .exchange("lost", "direct", |x| x.arguments = arguments(&[("alternate-exchange", text("gone"))]))
        .unwrap();
    assert!(world.route("lost", &["k"]).is_empty());
    let mut out = Vec::new();
    let none = world.sm.route(world.vhost, "missing", &["k"], None, &mut out, &mut RouteScratch::default());
    assert_eq!(none, None);
    let headers =
        world.sm.route(world.vhost, "amq.headers", &[""], None, &mut out, &mut RouteScratch::default());
    assert_eq!(headers, Some(Routed { cacheable: false }));
}

#[test]
fn missing_ends_of_a_binding() {
    let mut world = World::new();
    world.declare("q", |_| {}).unwrap();
    let refused = |outcome: Result<MetaReply, MetaError>| outcome.unwrap_err().into_exception().reply_text();
    assert_eq!(refused(world.bind("nx", queue("nq"), "k")), "NOT_FOUND - no exchange 'nx' in vhost '/'");
    assert_eq!(
        refused(world.bind("amq.headers", queue("nq"), "k")),
        "NOT_FOUND - no queue 'nq' in vhost '/'"
    );
    assert!(
        world.unbind("nx", queue("nq"), "k").is_ok() && world.unbind("amq.direct", queue("q"), "k").is_ok()
    );
}

#[test]
fn limits_of_a_vhost() {
    let mut world = World::new();
    let limits = VhostLimits { max_queues: Some(1), max_connections: None };
    world.apply(&MetaCommand::SetVhostLimits { vhost: "/".into(), limits }).unwrap();
    world.declare("a", |_| {}).unwrap();
    world.declare("a", |_| {}).expect("a declare of what exists");
    let command = match checks::queue_declare(
        &world.sm,
        &mut world.access,
        &QueueDeclare {
            name: "b",
            server_named: false,
            durable: true,
            exclusive: false,
            auto_delete: false,
            arguments: Arc::default(),
            connection: ME,
        },
    ) {
        Ok(Declared::Create(command)) => command,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        world.apply(&command).unwrap_err().into_exception().reply_text(),
        "PRECONDITION_FAILED - cannot declare queue 'b': queue limit in vhost '/' (1) is reached"
    );
}

#[test]
fn a_deleted_vhost_takes_all_with_it() {
    let mut world = World::new();
    let id = world.declare("q", |_| {}).unwrap();
    world.bind("amq.direct", queue("q"), "k").unwrap();
    let reply = world.apply(&MetaCommand::DeleteVhost { name: "/".into() }).unwrap();
    assert!(matches!(reply, MetaReply::Removed(removed) if removed.queues == [id]));
    assert_eq!(world.sm.queues().count() + world.sm.exchanges.len() + world.sm.bindings.len(), 0);
    assert!(world.sm.bindings_to.is_empty());
    world.apply(&first_commands()[0]).unwrap();
    assert_ne!(world.sm.vhost_id("/"), Some(world.vhost), "another vhost of the same name");
}

#[test]
fn old_snapshots_and_damage_are_refused() {
    let world = World::new();
    let octets = world.sm.snapshot(false);
    for cut in 1..octets.len() {
        let mut sm = MetaSm::new();
        if sm.restore(&octets[..cut]).is_err() {
            assert!(sm.vhosts().next().is_none(), "nothing half restored");
        }
    }
    let mut wrong = octets.clone();
    wrong[0] = 99;
    assert_eq!(MetaSm::new().restore(&wrong), Err(snapshot::SnapshotError::Format(99)));
}

#[test]
fn a_declare_costs_the_same_beside_many_queues() {
    let mut world = World::new();
    let version = world.sm.version();
    for number in 0..20_000 {
        world.declare(&format!("q{number}"), |_| {}).unwrap();
        world.bind("amq.topic", queue(&format!("q{number}")), &format!("a.{number}.*")).unwrap();
    }
    assert!(world.sm.version() > version);
    assert_eq!(world.route("amq.topic", &["a.77.b"]).len(), 1);
}

fn commands() -> impl Strategy<Value = Vec<MetaCommand>> {
    let vhost = VhostId(1 << BATCH_BITS);
    let name = || prop_oneof![Just("a"), Just("b"), Just("c")];
    let declare_queue = (name(), any::<bool>(), any::<bool>()).prop_map(move |(name, durable, exclusive)| {
        MetaCommand::DeclareQueue(DeclareQueue {
            vhost,
            name: name.into(),
            durable,
            auto_delete: false,
            owner: exclusive.then_some(ME),
            arguments: Arc::default(),
            home: NodeId::FIRST,
            mirrors: Vec::new(),
        })
    });
    let declare_exchange =
        (name(), any::<bool>(), any::<bool>()).prop_map(move |(name, durable, auto_delete)| {
            MetaCommand::DeclareExchange(DeclareExchange {
                vhost,
                name: name.into(),
                kind: ExchangeType::Topic,
                durable,
                auto_delete,
                internal: false,
                arguments: Arc::default(),
            })
        });
    let binding =
        (name(), name(), any::<bool>(), any::<bool>()).prop_map(move |(source, to, to_queue, bind)| {
            let to = if to_queue { queue(to) } else { exchange(to) };
            let mut request = request(vhost, source, to, "#");
            request.connection = None;
            if bind { MetaCommand::Bind(request) } else { MetaCommand::Unbind(request) }
        });
    let delete_queue = (1..60_u64, any::<bool>()).prop_map(|(index, durable)| MetaCommand::DeleteQueues {
        ids: vec![QueueId((index << BATCH_BITS) | if durable { 0 } else { TRANSIENT })],
    });
    let delete_exchange = name().prop_map(move |name| MetaCommand::DeleteExchange {
        vhost,
        name: name.into(),
        if_unused: false,
    });
    let one = prop_oneof![4 => declare_queue, 4 => declare_exchange, 6 => binding, 2 => delete_queue, 1 => delete_exchange];
    prop::collection::vec(one, 0..60)
}

#[test]
fn a_queue_that_is_deleted_is_not_taken_for_one_that_is_yet_to_come() {
    let mut sm = MetaSm::new();
    for (index, command) in (1..).zip(first_commands()) {
        sm.apply(index, &command).unwrap();
    }
    let last = sm.applied();
    for kind in [0, TRANSIENT] {
        let queue = |index: u64| QueueId((index << BATCH_BITS) | 3 | kind);
        assert!(!sm.is_yet_to_come(queue(last)) && sm.is_yet_to_come(queue(last + 1)), "{kind}");
    }
}

proptest! {
    /// Equal commands make equal states; a snapshot at any point and the rest of the commands make
    /// the same state as all of them; the durable changes alone make the durable part of it.
    #[test]
    fn deterministic_and_restorable(commands in commands(), at in 0..60_usize) {
        let all: Vec<MetaCommand> = first_commands().into_iter().chain(commands).collect();
        let (mut one, mut two, mut replayed) = (MetaSm::new(), MetaSm::new(), MetaSm::new());
        for (index, command) in all.iter().enumerate() {
            let index = index as u64 + 1;
            if let Ok(plan) = one.plan(index << BATCH_BITS, command) {
                plan.changes.iter().filter(|change| change.is_durable()).for_each(|change| replayed.commit(change));
                replayed.note_applied(index);
            }
            prop_assert_eq!(one.apply(index, command), two.apply(index, command));
            if index as usize == at {
                let snapshot = two.snapshot(true);
                two = MetaSm::new();
                two.restore(&snapshot).unwrap();
                prop_assert_eq!(two.snapshot(true), snapshot);
            }
        }
        prop_assert_eq!(one.snapshot(true), two.snapshot(true));
        one.note_applied(100);
        replayed.note_applied(100);
        prop_assert_eq!(one.snapshot(false), replayed.snapshot(false));
        for (key, binding) in &one.bindings {
            prop_assert!(one.bindings_to(key.destination).any(|other| other == binding));
        }
        prop_assert_eq!(one.bindings.len(), one.bindings_to.len());
        let owned: Vec<_> = one.queues().filter_map(|queue| Some((queue.owner?, queue.id))).collect();
        prop_assert_eq!(owned, one.owned.iter().copied().collect::<Vec<_>>());
        for (id, exchange) in &one.exchanges {
            prop_assert_eq!(exchange.outgoing, one.bindings_from(*id).count());
        }
    }
}

/// The queues that a message reaches, and the routing keys of the bindings on the way to each.
fn explained(world: &World, exchange: &str, key: &str) -> Vec<(String, Vec<String>)> {
    use super::explain::Hop;
    let message = RoutedMessage { keys: &[key], headers: None, properties: None };
    let found = world.sm.explain(world.vhost, exchange, message).unwrap();
    let hop = |hop: &Hop| match hop {
        Hop::Binding(binding) => binding.routing_key.to_string(),
        Hop::ByName(name) => format!("name {name}"),
        Hop::Alternate { .. } => "alternate".to_owned(),
        Hop::Delayed(_) => "delayed".to_owned(),
    };
    let mut found: Vec<_> = found
        .queues
        .iter()
        .map(|(id, path)| (world.sm.queue(*id).unwrap().name.to_string(), path.iter().map(hop).collect()))
        .collect();
    found.sort();
    found
}

#[test]
fn the_way_of_a_message_is_told_binding_by_binding_and_ends_where_routing_ends() {
    let mut world = World::new();
    let mut arguments = FieldTable::default();
    arguments.insert("alternate-exchange", FieldValue::LongStr(b"rest".to_vec()));
    world.exchange("outer", "topic", |request| request.arguments = Arc::new(arguments)).unwrap();
    world.exchange("inner", "direct", |_| ()).unwrap();
    world.exchange("rest", "fanout", |_| ()).unwrap();
    world.declare("orders", |_| ()).unwrap();
    world.declare("all", |_| ()).unwrap();
    let queue = |name: &str| DestinationName::Queue(name.into());
    world.bind("outer", DestinationName::Exchange("inner".into()), "orders.*").unwrap();
    world.bind("outer", queue("all"), "#.eu").unwrap();
    world.bind("outer", queue("all"), "never").unwrap();
    world.bind("inner", queue("orders"), "orders.us").unwrap();
    world.bind("rest", queue("all"), "").unwrap();
    let way = |name: &str, keys: &[&str]| {
        (name.to_owned(), keys.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>())
    };
    assert_eq!(explained(&world, "outer", "orders.us"), [way("orders", &["orders.*", "orders.us"])]);
    assert_eq!(explained(&world, "outer", "orders.eu"), [way("all", &["#.eu"])]);
    assert_eq!(explained(&world, "outer", "nothing"), [way("all", &["alternate", ""])]);
    assert_eq!(explained(&world, "", "all"), [way("all", &["name all"])]);
    assert_eq!(explained(&world, "inner", "else"), []);
    for (exchange, key) in [("outer", "orders.us"), ("outer", "orders.eu"), ("outer", "nothing"), ("", "all")]
    {
        let names: Vec<String> = explained(&world, exchange, key).into_iter().map(|(name, _)| name).collect();
        let mut routed: Vec<String> = world
            .route(exchange, &[key])
            .into_iter()
            .map(|id| world.sm.queue(id).unwrap().name.to_string())
            .collect();
        routed.sort();
        assert_eq!(names, routed, "{exchange} {key}");
    }
}
