//! Chaos: a whole deployment under clients of several libraries, while everything that can happen to it happens, for
//! `cargo xtask chaos`. Every fault comes from a seed.
//!
//! ```text
//!  round:  [ strike (strike) hold heal, whole?, flowing? ] × n, then: did everything that was confirmed come?
//! ```
//!
//! What was found is on record after each round, so that an hour that was ended goes on where it was.

pub mod clock;
pub mod disk;
pub mod faults;
pub mod field;
pub mod record;
pub mod report;
pub mod traffic;

use crate::account::Balance;
use crate::scratch::Scratch;
use anyhow::{Context, Result, bail, ensure};
use faults::{Episode, Fate, Kind, Layout};
use field::Field;
use record::{Entry, Record, Round};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use traffic::Traffic;
use xtask::lab::wait::until_true;

/// Episodes between two looks at the account.
const ROUND: usize = 12;
/// How long what nobody wants any more may take to leave the queues.
const LIMIT: Duration = Duration::from_secs(60);

/// What is wanted.
#[derive(Debug, Clone)]
pub struct Options {
    /// The deployment.
    pub layout: Layout,
    /// What decides about faults.
    pub seed: u64,
    /// How long it goes on; the last episode may take longer.
    pub time: Duration,
    /// The crews.
    pub clients: Vec<String>,
    /// Only these kinds of faults; all when there are none.
    pub kinds: Vec<Kind>,
    /// Where it is written down.
    pub record: PathBuf,
    /// Goes on with what is on record.
    pub resume: bool,
}

/// Runs it.
///
/// # Errors
/// A message was lost or repeated without its mark, or something did not become whole again. The logs of all programs
/// stay where the message says.
pub fn run(options: &Options) -> Result<()> {
    let mut record = Record::open(&options.record, options.resume)?;
    if record.seconds() >= options.time.as_secs_f64() {
        println!("all of it is on record in {}", options.record.display());
        return Ok(());
    }
    let scratch = Scratch::new(&format!("chaos-{}-{}", options.layout.name(), options.seed))?;
    println!("{}, seed {}", options.layout.title(), options.seed);
    let field = Field::start(options.layout, scratch.path())?;
    let kinds = if options.kinds.is_empty() { field.kinds.clone() } else { options.kinds.clone() };
    ensure!(kinds.iter().all(|kind| field.kinds.contains(kind)), "not all of {kinds:?} can be made here");
    let mut fate = Fate::new(options.seed, options.layout, kinds);
    for _ in 0..record.episodes() {
        fate.next_episode();
    }
    let mut clients = options.clients.clone();
    if options.layout == Layout::Two {
        // Of two members both are needed for a majority: it would show nothing but that.
        clients.retain(|name| name != traffic::QUORUM);
    }
    let traffic = Traffic::start(field.stack.place(), scratch.path(), &clients)?;
    let mut run = Run { field, traffic, fate, totals: Balance::default(), known: BTreeSet::new() };
    while record.seconds() < options.time.as_secs_f64() {
        run.round(&mut record, options.time)?;
    }
    run.end(&mut record)?;
    drop(run);
    scratch.passed();
    Ok(())
}

struct Run {
    // Dropped in this order: the clients before what they talk to.
    traffic: Traffic,
    field: Field,
    fate: Fate,
    /// The account after the last round.
    totals: Balance,
    /// Lines that were told already.
    known: BTreeSet<String>,
}

impl Run {
    /// Episodes until the round or the time is over; then the account.
    fn round(&mut self, record: &mut Record, time: Duration) -> Result<()> {
        let start = Instant::now();
        let mut entries = Vec::new();
        while entries.len() < ROUND && record.seconds() + start.elapsed().as_secs_f64() < time.as_secs_f64() {
            let episode = self.fate.next_episode();
            entries.push(self.episode(&episode).with_context(|| format!("after: {episode}"))?);
        }
        let balance = self.traffic.settle()?;
        self.check_logs()?;
        let round = self.since_last(balance, start.elapsed());
        println!(
            "     {} confirmed, {} received, {} redelivered, 0 lost, 0 repeated without a mark",
            round.confirmed, round.received, round.redelivered
        );
        record.add(&entries, &round)
    }

    /// What came since the last round.
    fn since_last(&mut self, balance: Balance, time: Duration) -> Round {
        let before = std::mem::replace(&mut self.totals, balance);
        let now = &self.totals;
        Round {
            seconds: time.as_secs_f64(),
            confirmed: now.confirmed - before.confirmed,
            received: now.received - before.received,
            redelivered: now.redelivered - before.redelivered,
        }
    }

    /// One or two faults, and the time until nothing reminds of them.
    fn episode(&mut self, episode: &Episode) -> Result<Entry> {
        self.traffic.watch()?;
        let began = Instant::now();
        let mut struck = Vec::new();
        for (index, fault) in episode.faults.iter().enumerate() {
            if index > 0 {
                std::thread::sleep(Duration::from_millis(episode.between_ms));
            }
            match self.field.strike(fault) {
                Ok(()) => struck.push(fault.kind),
                // It was refused, or met a program that was on its way down or up.
                Err(error) => println!("     {fault}: not done: {}", one_line(&error)),
            }
        }
        std::thread::sleep(Duration::from_millis(episode.hold_ms));
        let mut order: Vec<_> = episode.faults.iter().collect();
        if episode.nested {
            order.reverse();
        }
        for fault in &order {
            if let Err(error) = self.field.heal(fault)
                && struck.contains(&fault.kind)
            {
                bail!("{fault} cannot be undone: {error:#}");
            }
        }
        let healed = Instant::now();
        order.iter().try_for_each(|fault| self.field.ask(fault))?;
        self.field.wait_whole()?;
        let whole = healed.elapsed().as_secs_f64();
        self.traffic.wait_flowing("after the repair")?;
        let (outage, whose) = self.traffic.outage();
        println!(
            "{:4.0} s {episode}: no confirm for {outage:.2} s ({whose}), whole {whole:.1} s after the repair",
            began.elapsed().as_secs_f64()
        );
        Ok(Entry { kinds: struck, outage, whole })
    }

    fn check_logs(&mut self) -> Result<()> {
        let new: Vec<String> =
            self.field.panics().into_iter().filter(|line| self.known.insert(line.clone())).collect();
        ensure!(new.is_empty(), "programs panicked:\n{}", new.join("\n"));
        Ok(())
    }

    /// Drains everything.
    fn end(&mut self, record: &mut Record) -> Result<()> {
        let start = Instant::now();
        self.traffic.finish()?;
        let mut left = Vec::new();
        until_true(LIMIT, "empty queues", || {
            left = self.field.left().unwrap_or_default();
            !left.is_empty() && left.iter().all(|(_, count)| *count == 0)
        })
        .with_context(|| format!("{left:?}"))?;
        let balance = self.traffic.end()?;
        self.check_logs()?;
        let rest = self.since_last(balance, start.elapsed());
        record.add(&[], &rest)
    }
}

/// An error without its logs.
fn one_line(error: &anyhow::Error) -> String {
    format!("{error:#}").lines().next().unwrap_or_default().to_owned()
}
