//! A running stack with publishers and consumers on it, and a fault in the middle.

use crate::account::{Balance, Published, Received, balance};
use crate::clients::Client;
use crate::programs;
use crate::scratch::Scratch;
use anyhow::{Context, Result, ensure};
use std::time::{Duration, Instant};
use xtask::lab::wait::until_true;
use xtask::stack::{Cast, Place, Stack, VIP};

/// The queue of the tests.
const QUEUE: &str = "e2e";

/// How long a fault may keep clients from working before the test fails.
const LIMIT: Duration = Duration::from_secs(60);

/// The stack, two publishers and a consumer with four connections. The publishers are spread over the
/// brokers by the balancer.
#[derive(Debug)]
pub struct World {
    publishers: Vec<Client>,
    consumer: Client,
    /// The stack; a fault is done to it.
    pub stack: Stack,
    scratch: Scratch,
}

impl World {
    /// Starts everything and waits until messages flow.
    ///
    /// # Errors
    /// Something does not start or no messages flow.
    pub fn start(name: &str, cast: Cast) -> Result<Self> {
        Self::start_with(name, cast, |_| Ok(()))
    }

    /// The same with the brokers as one cluster with mirrored queues, and a witness.
    ///
    /// # Errors
    /// As [`World::start`].
    pub fn start_joined(name: &str, cast: Cast) -> Result<Self> {
        Self::start_with(name, cast, Stack::join)
    }

    fn start_with(name: &str, cast: Cast, prepare: impl FnOnce(&Stack) -> Result<()>) -> Result<Self> {
        let scratch = Scratch::new(name)?;
        let stack = Stack::new(Place::network()?, cast, &programs::folder(), scratch.path())?;
        stack.start()?;
        prepare(&stack)?;
        let url = format!("amqp://laosun:123456@{VIP}:5672/%2Flagou");
        let common = ["--url", &url, "--queue", QUEUE];
        let client = |program: &str, name: &str, more: &[&str]| {
            Client::start(stack.place(), program, name, scratch.path(), &[&common, more].concat())
        };
        let consumer = client("consume", "consumer", &[])?;
        let publishers = ["p0", "p1"]
            .iter()
            .map(|name| client("publish", name, &["--name", name, "--rate", "100"]))
            .collect::<Result<Vec<_>>>()?;
        let world = Self { publishers, consumer, stack, scratch };
        world.flows(100, "before the fault")?;
        Ok(world)
    }

    /// What was published so far.
    fn published(&self) -> Published {
        let mut all = Published::default();
        for publisher in &self.publishers {
            all.merge(Published::read(&publisher.record()));
        }
        all
    }

    fn balance(&self) -> Balance {
        // In this order: what is published later is not missed.
        let published = self.published();
        balance(&published, &Received::read(&self.consumer.record()))
    }

    /// Waits until every publisher has `more` further confirms and the consumer as many deliveries.
    fn flows(&self, more: usize, when: &str) -> Result<()> {
        let confirms = |client: &Client| Published::read(&client.record()).confirmed.len();
        let before: Vec<usize> = self.publishers.iter().map(confirms).collect();
        let deliveries = || Received::read(&self.consumer.record()).deliveries.len();
        let received = deliveries();
        until_true(LIMIT, &format!("messages to flow {when}"), || {
            self.publishers.iter().zip(&before).all(|(client, before)| confirms(client) >= before + more)
                && deliveries() >= received + more
        })
        .with_context(|| format!("{:?}", self.balance()))
    }

    /// Does something to the stack under traffic, waits until messages flow again, `heal`s, waits until
    /// every confirmed message has come, and holds the account. Prints the measured outage.
    ///
    /// # Errors
    /// The fault cannot be done, traffic does not recover, or a message is lost, invented, or repeated
    /// without its mark.
    pub fn survives(
        mut self,
        fault: &str,
        strike: impl FnOnce(&Stack) -> Result<()>,
        heal: impl FnOnce(&Stack) -> Result<()>,
    ) -> Result<()> {
        let struck = Instant::now();
        strike(&self.stack)?;
        self.flows(200, "after the fault")?;
        let flowing = struck.elapsed();
        heal(&self.stack)?;
        self.flows(100, "after the repair")?;
        for publisher in &mut self.publishers {
            publisher.finish()?;
        }
        until_true(LIMIT, "every confirmed message", || self.balance().lost.is_empty())
            .with_context(|| format!("{:?}", self.balance()))?;
        self.consumer.finish()?;
        let balance = self.balance();
        let each = self.publishers.iter().map(|it| Published::read(&it.record()).longest_gap());
        let outage = each.fold(0.0, f64::max);
        println!(
            "{fault}: outage {outage:.2} s for a publisher (200 messages later after {:.1} s); {} confirmed, \
             {} received, {} redelivered, 0 lost",
            flowing.as_secs_f64(),
            balance.confirmed,
            balance.received,
            balance.redelivered
        );
        ensure!(balance.lost.is_empty(), "confirmed and lost: {:?}", balance.lost);
        ensure!(balance.invented.is_empty(), "received and never sent: {:?}", balance.invented);
        ensure!(balance.repeated.is_empty(), "repeated without a mark: {:?}", balance.repeated);
        let Self { stack, scratch, .. } = self;
        drop(stack);
        scratch.passed();
        Ok(())
    }
}
