//! Policies: they change queues and exchanges that are there, beside their arguments and beside operators.

use crate::node;
use amqp::content::BasicProperties;
use amqp::method::exchange;
use harness::args;
use harness::wire::{Args, Client, Login, name};
use serde_json::{Value, json};

/// A vhost of one test, with a client in it.
struct Vhost {
    vhost: String,
    client: Client,
}

impl Vhost {
    fn new() -> Self {
        let vhost = node().api.vhost();
        let client = node().client_with(&Login { vhost: &vhost, ..Login::default() });
        Self { vhost, client }
    }

    /// Sets a policy for every name that begins with this.
    fn policy(&self, name: &str, prefix: &str, definition: &Value, priority: i32) {
        node().api.policy(&self.vhost, name, &format!("^{prefix}"), definition, priority);
    }

    fn operator(&self, name: &str, definition: &Value) {
        let body = json!({ "pattern": "^q", "definition": definition, "priority": 0, "apply-to": "queues" });
        node().api.put(&format!("operator-policies/{}/{name}", self.vhost), &body);
    }

    /// Declares a queue of the connection's own with a name that policies match.
    fn queue(&mut self, arguments: &Args) -> String {
        let queue = name("q");
        let arguments = arguments.table();
        let declare =
            amqp::method::queue::Declare { queue: &queue, exclusive: true, arguments, ..Default::default() };
        self.client.declare(1, &declare)
    }

    /// How many of five messages stay, asked until it is so many: a policy takes a moment.
    fn keeps(&mut self, queue: &str, count: usize) {
        let client = &mut self.client;
        let mut kept = 0;
        let settled = xtask::lab::wait::until_true(harness::wire::PATIENCE, "the policy", || {
            for _ in 0..5 {
                client.publish(1, queue, b"x");
            }
            kept = client.drain(1, queue).len();
            kept == count
        });
        assert!(settled.is_ok(), "{kept} messages stay instead of {count}");
    }
}

#[test]
fn a_limit_comes_and_goes_with_its_policy() {
    let mut it = Vhost::new();
    let queue = it.queue(&Args::default());
    it.keeps(&queue, 5);
    it.policy("p", "q", &json!({ "max-length": 1 }), 0);
    it.keeps(&queue, 1);
    it.policy("p", "q", &json!({ "max-length": 2 }), 0);
    it.keeps(&queue, 2);
    it.policy("p", "other", &json!({ "max-length": 2 }), 0);
    it.keeps(&queue, 5);
    it.policy("p", "q", &json!({ "max-length": 3 }), 0);
    it.keeps(&queue, 3);
    node().api.delete(&format!("policies/{}/p", it.vhost));
    it.keeps(&queue, 5);
}

#[test]
fn a_new_limit_drops_what_is_too_much() {
    let mut it = Vhost::new();
    let queue = it.queue(&Args::default());
    for body in [b"0", b"1", b"2"] {
        it.client.publish(1, &queue, body);
    }
    it.client.wait_ready(1, &queue, 3);
    it.policy("p", "q", &json!({ "max-length": 1 }), 0);
    it.client.wait_ready(1, &queue, 1);
    assert_eq!(it.client.drain(1, &queue), ["2"]);
}

#[test]
fn of_argument_and_policy_the_lower_limit_holds() {
    let mut it = Vhost::new();
    let (low, high) = (it.queue(&args! { "x-max-length" => 1 }), it.queue(&args! { "x-max-length" => 4 }));
    it.policy("p", "q", &json!({ "max-length": 2 }), 0);
    it.keeps(&high, 2);
    it.keeps(&low, 1);
}

#[test]
fn the_policy_with_the_highest_priority_holds_alone() {
    let mut it = Vhost::new();
    let queue = it.queue(&Args::default());
    it.policy("low", "q", &json!({ "max-length": 1 }), 1);
    it.policy("high", "q", &json!({ "max-length": 3 }), 2);
    it.keeps(&queue, 3);
    node().api.delete(&format!("policies/{}/high", it.vhost));
    it.keeps(&queue, 1);
}

#[test]
fn an_operator_bounds_what_users_may_set() {
    let mut it = Vhost::new();
    let queue = it.queue(&Args::default());
    it.operator("o", &json!({ "max-length": 2 }));
    it.keeps(&queue, 2);
    it.policy("p", "q", &json!({ "max-length": 4 }), 5);
    it.keeps(&queue, 2);
    it.policy("p", "q", &json!({ "max-length": 1 }), 5);
    it.keeps(&queue, 1);
    node().api.delete(&format!("operator-policies/{}/o", it.vhost));
    it.policy("p", "q", &json!({ "max-length": 4 }), 5);
    it.keeps(&queue, 4);
}

#[test]
fn a_time_to_live_takes_hold_of_what_is_there() {
    let mut it = Vhost::new();
    let queue = it.queue(&Args::default());
    it.policy("p", "q", &json!({ "message-ttl": 50 }), 0);
    let client = &mut it.client;
    xtask::lab::wait::until_true(harness::wire::PATIENCE, "the policy", || {
        client.publish(1, &queue, b"x");
        std::thread::sleep(std::time::Duration::from_millis(200));
        client.drain(1, &queue).is_empty()
    })
    .unwrap();
}

#[test]
fn dead_letters_by_policy() {
    let mut it = Vhost::new();
    let dead = it.client.own_queue();
    let queue = it.queue(&Args::default());
    let definition = json!({ "dead-letter-exchange": "", "dead-letter-routing-key": dead, "max-length": 0 });
    it.policy("p", "q", &definition, 0);
    it.keeps(&queue, 0);
    let letter = it.client.get_soon(1, &dead);
    assert_eq!(letter.address(), ("", &*dead));
    assert_eq!(letter.header("x-first-death-queue").unwrap(), queue);
}

#[test]
fn an_argument_comes_before_the_policy_where_there_is_no_lower() {
    let mut it = Vhost::new();
    let (mine, theirs) = (it.client.own_queue(), it.client.own_queue());
    let queue = it.queue(&args! {
        "x-dead-letter-exchange" => "",
        "x-dead-letter-routing-key" => mine.as_str(),
    });
    let definition = json!({
        "dead-letter-exchange": "",
        "dead-letter-routing-key": theirs,
        "max-length": 0,
        "overflow": "drop-head",
    });
    it.policy("p", "q", &definition, 0);
    it.keeps(&queue, 0);
    it.client.get_soon(1, &mine);
    assert!(it.client.get(1, &theirs).is_none());
}

#[test]
fn an_overflow_by_policy() {
    let mut it = Vhost::new();
    let queue = it.queue(&Args::default());
    it.policy("p", "q", &json!({ "max-length": 1, "overflow": "reject-publish" }), 0);
    it.keeps(&queue, 1);
    it.client.confirm(1);
    let properties = BasicProperties::default();
    assert_eq!(it.client.publish_confirmed(1, &queue, &properties, b"1").name(), "basic.ack");
    assert_eq!(it.client.publish_confirmed(1, &queue, &properties, b"2").name(), "basic.nack");
    assert_eq!(it.client.drain(1, &queue), ["1"]);
}

#[test]
fn unused_queues_expire_by_policy() {
    let mut it = Vhost::new();
    let queue = it.queue(&Args::default());
    it.policy("p", "q", &json!({ "expires": 100 }), 0);
    let passive = amqp::method::queue::Declare { queue: &queue, passive: true, ..Default::default() };
    let client = &mut it.client;
    xtask::lab::wait::until_true(harness::wire::PATIENCE, "the queue to go", || {
        // Asking counts as use.
        std::thread::sleep(std::time::Duration::from_millis(300));
        client.send(1, passive);
        let answer = client.receive_on(1).unwrap();
        answer.name() == "channel.close" && answer.close().code == 404
    })
    .unwrap();
}

#[test]
fn an_alternate_exchange_by_policy() {
    let mut it = Vhost::new();
    let (exchange, queue) = (name("q-exchange"), it.queue(&Args::default()));
    it.client.exchange(1, &exchange, "direct");
    it.client.bind(1, &queue, "amq.fanout", "");
    it.policy("p", "q-exchange", &json!({ "alternate-exchange": "amq.fanout" }), 0);
    let client = &mut it.client;
    xtask::lab::wait::until_true(harness::wire::PATIENCE, "the policy", || {
        client.publish_to(1, &exchange, "nobody", b"x");
        client.get(1, &queue).is_some()
    })
    .unwrap();
    client.call(1, exchange::Delete { exchange: &exchange, ..Default::default() }, "exchange.delete-ok");
}
