//! One test for each behaviour in `tests/clients/basics.py`.

use harness::node::Node;
use harness::scratch::Scratch;
use harness::{Needs, clients, ready};

fn case(name: &str) {
    if !ready(name, &[Needs::Python]) {
        return;
    }
    let scratch = Scratch::new(&format!("broker-{name}")).unwrap();
    let node = Node::start(scratch.path()).unwrap();
    let pid = node.process.pid().to_string();
    clients::run("basics", &[name, &node.port.to_string(), &pid]).unwrap();
    drop(node);
    scratch.passed();
}

macro_rules! cases {
    ($($name:ident)+) => { $(#[test] fn $name() { case(stringify!($name)); })+ };
}

cases! {
    server_tells_its_capabilities
    wrong_password_is_refused_with_403
    unknown_vhost_is_refused_with_530
    malformed_frame_end_closes_with_501
    frame_longer_than_negotiated_closes_with_501
    method_on_a_closed_channel_is_504
    unknown_method_does_not_hurt_others
    silent_client_is_dropped_after_two_heartbeats
    idle_client_with_heartbeats_stays
    sigterm_closes_clients_with_320
    every_exchange_type_routes
    exchanges_bind_to_exchanges
    missing_queue_is_404
    publish_to_a_missing_exchange_is_404
    declaring_a_queue_otherwise_is_406
    exclusive_queue_of_another_connection_is_405
    auto_delete_queue_goes_with_its_last_consumer
    purge_and_delete_count_messages
    consumers_learn_that_their_queue_is_gone
    properties_and_body_come_back_unchanged
    large_and_empty_bodies_pass
    get_of_an_empty_queue_is_empty
    unroutable_mandatory_message_is_returned
    unacked_messages_return_marked_in_their_order
    nack_and_reject_requeue_or_drop
    unknown_delivery_tag_is_406
    prefetch_bounds_what_is_unacked
    work_is_shared_between_consumers
    confirms_cover_every_publish
    transactions_commit_and_roll_back
    consumer_tag_twice_is_530
}
