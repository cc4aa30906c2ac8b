//! A running stack with a publisher and a consumer of every client library on it, each pair with a queue of its own.

use crate::account::{Balance, Published, Received, balance};
use crate::clients::{Client, Events};
use crate::programs;
use crate::scratch::Scratch;
use anyhow::{Context, Result, ensure};
use std::process::Command;
use std::time::Duration;
use xtask::lab::process::tail;
use xtask::lab::wait::until_true;
use xtask::stack::{Cast, Place, Stack, VIP};
use xtask::traffic::{self, Role};

/// How long a fault may keep a library from working before the test fails.
const LIMIT: Duration = Duration::from_secs(120);
/// Messages per second of each publisher.
const RATE: &str = "20";

/// The stack and everybody on it.
#[derive(Debug)]
pub struct Fleet {
    pairs: Vec<Pair>,
    /// The stack; faults are done to it.
    pub stack: Stack,
    scratch: Scratch,
}

#[derive(Debug)]
struct Pair {
    library: traffic::Client,
    publisher: Client,
    consumer: Client,
    confirms: Events,
    deliveries: Events,
}

/// Installs and builds every program, so that starting them needs no network.
///
/// # Errors
/// One cannot be had.
pub fn prepare() -> Result<()> {
    for library in traffic::Client::ALL {
        library.command(Role::Publish, |program| Command::new(program))?;
    }
    Ok(())
}

impl Fleet {
    /// Starts everything, with the brokers as one cluster of mirrored queues and a witness, and waits until every
    /// library has messages confirmed and delivered.
    ///
    /// # Errors
    /// Something does not start.
    pub fn start(name: &str, cast: Cast) -> Result<Self> {
        let scratch = Scratch::new(name)?;
        let stack = Stack::new(Place::network()?, cast, &programs::folder(), scratch.path())?;
        stack.start()?;
        stack.join()?;
        let url = format!("amqp://laosun:123456@{VIP}:5672/%2Flagou");
        let mut pairs = Vec::new();
        for library in traffic::Client::ALL {
            let name = library.name();
            let start = |role, part: &str, more: &[&str]| {
                let common = ["--url", &url, "--queue", name];
                let file = format!("{name}-{part}");
                Client::of(library, role, stack.place(), &file, scratch.path(), &[&common[..], more].concat())
            };
            pairs.push(Pair {
                library,
                consumer: start(Role::Consume, "consumer", &[])?,
                publisher: start(Role::Publish, "publisher", &["--name", name, "--rate", RATE])?,
                confirms: Events::of("confirm"),
                deliveries: Events::of("got"),
            });
        }
        let mut fleet = Self { pairs, stack, scratch };
        fleet.flows(20, "before the first fault")?;
        Ok(fleet)
    }

    /// Waits until every library has `more` further confirms and deliveries.
    fn flows(&mut self, more: usize, when: &str) -> Result<()> {
        let before: Vec<(usize, usize)> = self.pairs.iter_mut().map(Pair::counts).collect();
        let mut late = Vec::new();
        until_true(LIMIT, &format!("messages of every library to flow {when}"), || {
            late.clear();
            for (pair, before) in self.pairs.iter_mut().zip(&before) {
                let now = pair.counts();
                if now.0 < before.0 + more || now.1 < before.1 + more {
                    late.push((pair.library, now.0 - before.0, now.1 - before.1));
                }
            }
            late.is_empty()
        })
        .with_context(|| {
            let each = late.iter().map(|(library, confirms, deliveries)| {
                let pair = self.pairs.iter().find(|pair| pair.library == *library);
                let end = |client: &Client| {
                    format!("{}\n--\n{}", tail(&client.record(), 8), tail(&client.log(), 20))
                };
                let ends = pair.map(|pair| format!("{}\n{}", end(&pair.publisher), end(&pair.consumer)));
                let ends = ends.unwrap_or_default();
                format!("{}: {confirms} confirmed, {deliveries} delivered\n{ends}", library.name())
            });
            each.collect::<Vec<_>>().join("\n")
        })
    }

    /// Does something to the stack under traffic, waits until every library works again, and `heal`s. Prints how long
    /// each library's publisher was without a confirm.
    ///
    /// # Errors
    /// The fault cannot be done, or a library does not come back.
    pub fn suffers(
        &mut self,
        fault: &str,
        strike: impl FnOnce(&Stack) -> Result<()>,
        heal: impl FnOnce(&Stack) -> Result<()>,
    ) -> Result<()> {
        let before: Vec<usize> = self.pairs.iter_mut().map(|pair| pair.counts().0).collect();
        strike(&self.stack)?;
        self.flows(20, &format!("after: {fault}"))?;
        let outages: Vec<String> = self
            .pairs
            .iter()
            .zip(&before)
            .map(|(pair, before)| {
                let gap = Published::read(&pair.publisher.record()).longest_gap_since(*before);
                format!("{} {gap:.1}", pair.library.name())
            })
            .collect();
        println!("{fault}: outage in seconds: {}", outages.join(", "));
        heal(&self.stack)?;
        self.flows(20, &format!("after the repair of: {fault}"))
    }

    /// Ends the publishers, waits until every confirmed message has come, and holds the account of each library.
    ///
    /// # Errors
    /// A message is lost, invented, or repeated without its mark.
    pub fn closes(mut self) -> Result<()> {
        for pair in &mut self.pairs {
            pair.publisher.finish()?;
        }
        until_true(LIMIT, "every confirmed message", || {
            self.pairs.iter().all(|pair| pair.balance().lost.is_empty())
        })
        .with_context(|| format!("{:?}", self.pairs.iter().map(Pair::balance).collect::<Vec<_>>()))?;
        for pair in &mut self.pairs {
            pair.consumer.finish()?;
        }
        for pair in &self.pairs {
            let (name, balance) = (pair.library.name(), pair.balance());
            println!(
                "{name}: {} confirmed, {} received, {} redelivered, 0 lost",
                balance.confirmed, balance.received, balance.redelivered
            );
            ensure!(balance.lost.is_empty(), "{name}: confirmed and lost: {:?}", balance.lost);
            ensure!(balance.invented.is_empty(), "{name}: received and never sent: {:?}", balance.invented);
            ensure!(balance.repeated.is_empty(), "{name}: repeated without a mark: {:?}", balance.repeated);
        }
        let Self { stack, scratch, .. } = self;
        drop(stack);
        scratch.passed();
        Ok(())
    }
}

impl Pair {
    /// Confirms and deliveries so far.
    fn counts(&mut self) -> (usize, usize) {
        (self.confirms.count(&self.publisher), self.deliveries.count(&self.consumer))
    }

    fn balance(&self) -> Balance {
        // In this order: what is published later is not missed.
        let published = Published::read(&self.publisher.record());
        balance(&published, &Received::read(&self.consumer.record()))
    }
}
