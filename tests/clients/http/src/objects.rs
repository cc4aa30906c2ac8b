//! Vhosts, queues, exchanges, bindings and messages.

use crate::{Api, VHOST, map, must, passed};
use rabbitmq_http_client::commons::{BindingDestinationType, ExchangeType, PaginationParams, QueueType};
use rabbitmq_http_client::requests::{BindingDeletionParams, ExchangeParams, QueueParams, VirtualHostParams};
use serde_json::{Map, json};

pub(crate) fn vhosts(api: &Api) {
    let params = |description| VirtualHostParams {
        name: VHOST,
        description: Some(description),
        tags: Some(vec!["one", "two"]),
        default_queue_type: Some(QueueType::Classic),
        tracing: false,
    };
    must("declare", api.create_vhost(&params("of a test")));
    must("grant", api.grant_full_permissions("guest", VHOST));
    let vhost = must("get", api.get_vhost(VHOST));
    assert_eq!((&*vhost.name, vhost.description.as_deref()), (VHOST, Some("of a test")));
    assert!(vhost.tags.expect("it has tags").contains("two"));
    must("update", api.update_vhost(&params("changed")));
    assert_eq!(must("get", api.get_vhost(VHOST)).description.as_deref(), Some("changed"));
    assert!(must("list", api.list_vhosts()).iter().any(|vhost| vhost.name == VHOST));
    assert_eq!(must("page", api.list_vhosts_paged(&PaginationParams::first_page(1))).len(), 1);
    must("declare another", api.create_vhost(&VirtualHostParams::named("short-lived")));
    must("delete", api.delete_vhost("short-lived", false));
    must("delete again", api.delete_vhost("short-lived", true));
    assert!(api.delete_vhost("short-lived", false).expect_err("it is gone").is_not_found());
    passed("vhosts");
}

pub(crate) fn queues(api: &Api) {
    let arguments = map(json!({"x-max-length": 1000, "x-message-ttl": 60000}));
    let classic = QueueParams::new_durable_classic_queue("classic", Some(arguments.clone()));
    must("classic", api.declare_queue(VHOST, &classic));
    must("the same", api.declare_queue(VHOST, &classic));
    must("quorum", api.declare_quorum_queue(VHOST, "quorum"));
    must("transient", api.declare_queue(VHOST, &QueueParams::new_transient_autodelete("transient", None)));
    let queue = must("get", api.get_queue_info(VHOST, "classic"));
    assert_eq!((&*queue.name, queue.durable, &*queue.queue_type), ("classic", true, "classic"));
    assert_eq!(queue.arguments.get("x-max-length"), arguments.get("x-max-length"));
    let quorum = must("get", api.get_queue_info(VHOST, "quorum"));
    assert_eq!((quorum.members.map(|all| all.len()), quorum.leader), (Some(1), Some(quorum.node)));
    assert_eq!(must("list", api.list_queues_in(VHOST)).len(), 3);
    assert_eq!(must("quorum queues", api.list_quorum_queues_in(VHOST)).len(), 1);
    assert_eq!(must("classic queues", api.list_classic_queues_in(VHOST)).len(), 2);
    assert!(must("streams", api.list_streams()).is_empty());
    assert!(must("with details", api.list_queues_with_details()).len() >= 3);
    let page = PaginationParams::first_page(2);
    assert_eq!(must("page", api.list_queues_in_paged(VHOST, &page)).len(), 2);
    assert_eq!(must("next page", api.list_queues_in_paged(VHOST, &PaginationParams::new(2, 2))).len(), 1);
    assert_eq!(must("page of all", api.list_queues_paged(&page)).len(), 2);
    must("delete", api.delete_queue(VHOST, "transient", false));
    must("delete again", api.delete_queue(VHOST, "transient", true));
    assert!(api.get_queue_info(VHOST, "transient").expect_err("it is gone").is_not_found());
    must("one more", api.declare_classic_queue(VHOST, "more"));
    must("several", api.delete_queues(VHOST, &["more", "transient"], true));
    passed("queues");
}

pub(crate) fn exchanges(api: &Api) {
    for (name, kind) in [
        ("fanout", ExchangeType::Fanout),
        ("topic", ExchangeType::Topic),
        ("direct", ExchangeType::Direct),
        ("headers", ExchangeType::Headers),
        ("hash", ExchangeType::ConsistentHashing),
    ] {
        must(name, api.declare_exchange(VHOST, &ExchangeParams::new(name, kind.clone(), true, false, None)));
        let exchange = must("get", api.get_exchange_info(VHOST, name));
        assert_eq!(
            (&*exchange.name, exchange.durable, &*exchange.exchange_type),
            (name, true, kind.as_ref())
        );
    }
    let delayed = map(json!({"x-delayed-type": "direct"}));
    let delayed = ExchangeParams::new("delayed", ExchangeType::DelayedMessage, true, false, Some(delayed));
    must("delayed", api.declare_exchange(VHOST, &delayed));
    must("list", api.list_exchanges());
    assert_eq!(must("of a vhost", api.list_exchanges_in(VHOST)).len(), 13);
    let page = PaginationParams::first_page(5);
    assert_eq!(must("page", api.list_exchanges_in_paged(VHOST, &page)).len(), 5);
    assert_eq!(must("page of all", api.list_exchanges_paged(&page)).len(), 5);
    must("delete", api.delete_exchange(VHOST, "hash", false));
    must("delete again", api.delete_exchange(VHOST, "hash", true));
    must("several", api.delete_exchanges(VHOST, &["delayed", "hash"], true));
    assert!(api.get_exchange_info(VHOST, "delayed").expect_err("it is gone").is_not_found());
    passed("exchanges");
}

pub(crate) fn bindings(api: &Api) {
    let arguments = map(json!({"x-match": "all", "kind": 1}));
    must("bind", api.bind_queue(VHOST, "classic", "topic", Some("a.#"), None));
    must("with arguments", api.bind_queue(VHOST, "classic", "headers", None, Some(arguments.clone())));
    must("exchanges", api.bind_exchange(VHOST, "direct", "fanout", None, None));
    must("list", api.list_bindings());
    must("of a vhost", api.list_bindings_in(VHOST));
    // One of them is that of the default exchange.
    let own = must("of a queue", api.list_queue_bindings(VHOST, "classic"));
    assert_eq!(own.len(), 3);
    assert_eq!(must("of a source", api.list_exchange_bindings_with_source(VHOST, "topic")).len(), 1);
    assert_eq!(
        must("of a destination", api.list_exchange_bindings_with_destination(VHOST, "direct")).len(),
        1
    );
    for binding in own.iter().filter(|binding| !binding.source.is_empty()) {
        must("unbind", api.delete_binding(&BindingDeletionParams::from_binding_info(binding), false));
        must("bind as before", api.recreate_binding(binding));
        must("bind twice", api.recreate_binding(binding));
    }
    assert_eq!(must("of a queue", api.list_queue_bindings(VHOST, "classic")).len(), 3, "each is there once");
    for (source, destination, kind, routing_key, arguments) in [
        ("topic", "classic", BindingDestinationType::Queue, "a.#", None),
        ("headers", "classic", BindingDestinationType::Queue, "", Some(arguments)),
        ("fanout", "direct", BindingDestinationType::Exchange, "", None),
    ] {
        let params = BindingDeletionParams {
            virtual_host: VHOST,
            source,
            destination,
            destination_type: kind,
            routing_key,
            arguments,
        };
        must("unbind", api.delete_binding(&params, false));
    }
    assert_eq!(must("of a queue", api.list_queue_bindings(VHOST, "classic")).len(), 1);
    passed("bindings");
}

pub(crate) fn messages(api: &Api) {
    let properties = map(json!({"delivery_mode": 2, "headers": {"n": 1}, "message_id": "m1"}));
    // The default exchange has no name: nothing between two slashes.
    let sent = must("publish", api.publish_message(VHOST, "", "classic", "hello", properties));
    assert!(sent.routed);
    let nowhere = must("to nobody", api.publish_message(VHOST, "topic", "nowhere", "", Map::new()));
    assert!(!nowhere.routed);
    for ack_mode in ["ack_requeue_true", "ack_requeue_false"] {
        let got = must(ack_mode, api.get_messages(VHOST, "classic", 5, ack_mode));
        assert_eq!((got.len(), &*got[0].payload, got[0].message_count), (1, "hello", 0));
        assert_eq!(got[0].properties.0.get("message_id"), Some(&json!("m1")));
        assert_eq!(got[0].redelivered, ack_mode == "ack_requeue_false");
    }
    must("publish", api.publish_message(VHOST, "", "classic", "again", Map::new()));
    must("purge", api.purge_queue(VHOST, "classic"));
    assert!(must("none", api.get_messages(VHOST, "classic", 1, "ack_requeue_false")).is_empty());
    passed("messages");
}
