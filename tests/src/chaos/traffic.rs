//! Publishers and consumers of several libraries through the virtual address, and the account of their messages.

use crate::account::{Account, Balance};
use crate::clients::{Client, Tail};
use anyhow::{Context, Result, bail, ensure};
use nix::time::{ClockId, clock_gettime};
use std::path::Path;
use std::time::{Duration, Instant};
use xtask::lab::process;
use xtask::lab::wait::until_true;
use xtask::stack::{CLIENT, Place, VIP};
use xtask::traffic::{Client as Library, Role};

/// How long messages may take to flow again, and the last of them to come.
const LIMIT: Duration = Duration::from_secs(90);
/// How long the first of them may take, and what each crew adds to that: eleven start more slowly than three.
const START: Duration = Duration::from_secs(60);
const START_EACH: Duration = Duration::from_secs(10);
/// Confirms and deliveries of each crew that show that it works.
const FLOWING: u64 = 8;
/// Messages a second of a publisher with many on their way, and of one that waits for each.
const MANY: &str = "200";
const FEW: &str = "20";

/// The crews with our own client: many messages on their way, on a mirrored queue and on a quorum queue.
pub const WINDOW: &str = "window";
/// See [`WINDOW`].
pub const QUORUM: &str = "quorum";

/// How the names of the crews' queues begin.
pub const QUEUES: &str = "chaos-";

/// A publisher and the consumer of its queue.
#[derive(Debug)]
struct Crew {
    publisher: Client,
    published: Tail,
    consumer: Client,
    received: Tail,
    watch: Watch,
    deliveries: u64,
}

/// When a publisher's messages were confirmed, in seconds.
#[derive(Debug, Default, Clone, Copy)]
struct Watch {
    confirms: u64,
    last: f64,
    since: f64,
    longest: f64,
}

impl Watch {
    fn confirm(&mut self, time: f64) {
        if self.confirms > 0 && time > self.since {
            self.longest = self.longest.max(time - self.last);
        }
        self.last = time;
        self.confirms += 1;
    }
}

/// A message is lost, invented, or repeated without its mark.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unaccounted(String);

/// All crews.
#[derive(Debug)]
pub struct Traffic {
    crews: Vec<Crew>,
    account: Account,
}

impl Traffic {
    /// Starts the crews of these names and waits until messages flow.
    ///
    /// # Errors
    /// A client does not start, or nothing flows.
    pub fn start(place: &Place, folder: &Path, names: &[String]) -> Result<Self> {
        let url = format!("amqp://laosun:123456@{VIP}:5672/%2Flagou");
        let mut crews = Vec::new();
        for name in names {
            let queue = format!("{QUEUES}{name}");
            let common = ["--url", &url, "--queue", &queue];
            let rate = if [WINDOW, QUORUM].contains(&name.as_str()) { MANY } else { FEW };
            let start = |role: &str, more: &[&str]| {
                let mut command = command(place, name, role)?;
                command.args(common).args(more);
                Client::run(command, &format!("{name}-{role}"), folder)
            };
            let consumer = start("consume", &[])?;
            let publisher = start("publish", &["--name", name, "--rate", rate])?;
            let (published, received, watch) = Default::default();
            crews.push(Crew { publisher, published, consumer, received, watch, deliveries: 0 });
        }
        let mut traffic = Self { crews, account: Account::default() };
        let crews = u32::try_from(traffic.crews.len()).unwrap_or(u32::MAX);
        traffic.wait_flowing_within(START + START_EACH * crews, "at the beginning")?;
        Ok(traffic)
    }

    /// From now on the longest time without a confirm is measured anew.
    ///
    /// # Errors
    /// There is no clock.
    pub fn watch(&mut self) -> Result<()> {
        self.look();
        let now = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC)?).as_secs_f64();
        for crew in &mut self.crews {
            (crew.watch.since, crew.watch.longest) = (now, 0.0);
        }
        Ok(())
    }

    /// The longest time without a confirm since [`Traffic::watch`], in seconds, and whose it was.
    #[must_use]
    pub fn outage(&self) -> (f64, &str) {
        let all = self.crews.iter().map(|crew| (crew.watch.longest, crew.publisher.name()));
        all.max_by(|one, other| one.0.total_cmp(&other.0)).unwrap_or_default()
    }

    /// Waits until every publisher has further confirms and every consumer further deliveries.
    ///
    /// # Errors
    /// One has not, or has ended.
    pub fn wait_flowing(&mut self, when: &str) -> Result<()> {
        self.wait_flowing_within(LIMIT, when)
    }

    fn wait_flowing_within(&mut self, limit: Duration, when: &str) -> Result<()> {
        let before: Vec<[u64; 2]> = self.crews.iter().map(Crew::counts).collect();
        let start = Instant::now();
        loop {
            self.look();
            for crew in &mut self.crews {
                for client in [&mut crew.publisher, &mut crew.consumer] {
                    ensure!(client.is_running(), "{} ended:\n{}", client.name(), end(&client.log()));
                }
            }
            let mut lacking = Vec::new();
            for (crew, before) in self.crews.iter().zip(&before) {
                let [confirms, deliveries] = crew.counts();
                for (client, now, before) in
                    [(&crew.publisher, confirms, before[0]), (&crew.consumer, deliveries, before[1])]
                {
                    if now < before + FLOWING {
                        lacking.push(client);
                    }
                }
            }
            if lacking.is_empty() {
                return Ok(());
            }
            if start.elapsed() > limit {
                let said = lacking
                    .iter()
                    .map(|it| format!("{}:\n{}\n{}", it.name(), end(&it.record()), end(&it.log())));
                bail!("no messages flow {when} for {limit:?}:\n{}", said.collect::<Vec<_>>().join("\n"));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until everything that is confirmed by now has come, and holds the account so far.
    ///
    /// # Errors
    /// [`Unaccounted`].
    pub fn settle(&mut self) -> Result<Balance> {
        self.look();
        let even = until_true(LIMIT, "every confirmed message", || {
            self.crews.iter_mut().for_each(|crew| crew.take(&mut self.account));
            self.account.is_even()
        });
        if even.is_err() {
            let lost = self.account.balance().lost;
            bail!(Unaccounted(format!("confirmed and lost: {} messages: {}", lost.len(), few(&lost))));
        }
        // What was received was tried before: it is on record by now.
        self.look_at_publishers();
        let balance = self.account.balance();
        for (wrong, ids) in
            [("received and never sent", &balance.invented), ("repeated without a mark", &balance.repeated)]
        {
            ensure!(ids.is_empty(), Unaccounted(format!("{wrong}: {}", few(ids))));
        }
        Ok(balance)
    }

    /// Stops the publishers, then does what [`Traffic::settle`] does, then stops the consumers.
    ///
    /// # Errors
    /// As there; or a client does not end well.
    pub fn finish(&mut self) -> Result<Balance> {
        for crew in &mut self.crews {
            crew.publisher.finish()?;
        }
        self.settle()
    }

    /// Stops the consumers; nothing is left for them.
    ///
    /// # Errors
    /// One does not end well, or got something since.
    pub fn end(&mut self) -> Result<Balance> {
        for crew in &mut self.crews {
            crew.consumer.finish()?;
        }
        self.settle()
    }

    fn look(&mut self) {
        self.look_at_publishers();
        self.crews.iter_mut().for_each(|crew| crew.take(&mut self.account));
    }

    fn look_at_publishers(&mut self) {
        for crew in &mut self.crews {
            let (watch, account) = (&mut crew.watch, &mut self.account);
            crew.published.lines(&crew.publisher, |line| {
                account.published_line(line);
                if let Some(time) = line.strip_prefix("confirm ").and_then(|rest| rest.split(' ').nth(1)) {
                    watch.confirm(time.parse().unwrap_or_default());
                }
            });
        }
    }
}

impl Crew {
    /// Confirms and deliveries so far.
    fn counts(&self) -> [u64; 2] {
        [self.watch.confirms, self.deliveries]
    }

    /// What the consumer got.
    fn take(&mut self, account: &mut Account) {
        let deliveries = &mut self.deliveries;
        self.received.lines(&self.consumer, |line| {
            account.received_line(line);
            *deliveries += u64::from(line.starts_with("got "));
        });
    }
}

/// The program that plays a role of a crew, on the client's host.
fn command(place: &Place, name: &str, role: &str) -> Result<std::process::Command> {
    if [WINDOW, QUORUM].contains(&name) {
        // Built beside this one.
        let program = std::env::current_exe()?.with_file_name("load");
        let mut command = place.command(CLIENT, program);
        command.arg(role).args((name == QUORUM).then_some("--quorum"));
        return Ok(command);
    }
    let library = Library::ALL.into_iter().find(|it| it.name() == name);
    let library = library.with_context(|| format!("there is no client `{name}`"))?;
    let role = if role == "publish" { Role::Publish } else { Role::Consume };
    library.command(role, |program| place.command(CLIENT, program))
}

/// The end of a text.
fn end(text: &str) -> String {
    process::tail(text, 12)
}

/// Some of many ids.
fn few(ids: &[String]) -> String {
    let more = if ids.len() > 20 { ", …" } else { "" };
    format!("{}{more}", ids[..ids.len().min(20)].join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_time_without_a_confirm_counts_from_the_one_before_the_fault() {
        let mut watch = Watch::default();
        for time in [1.0, 9.0, 9.5] {
            watch.confirm(time);
        }
        watch = Watch { since: 10.0, longest: 0.0, ..watch };
        for time in [9.9, 12.0, 12.1] {
            watch.confirm(time);
        }
        assert!((watch.longest - 2.1).abs() < 1e-9, "{watch:?}");
    }
}
