//! How long a mirror that was away needs to be in sync again, and how much it is sent for that.

use super::Target;
use super::backlog;
use super::connection::{CHANNEL, Connection};
use super::figures::{Clock, Line};
use super::plan::{Consuming, Plan, Receipt};
use super::publisher::Publisher;
use crate::api::{Api, encoded};
use amqp::Method;
use amqp::method::queue;
use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use std::cell::Cell;
use std::collections::HashMap;
use std::process::Command;
use std::time::{Duration, Instant};
use xtask::lab::process::{descendants, run as call, signal};
use xtask::lab::wait::until_true;

/// How long it is away.
const AWAY: Duration = Duration::from_secs(10);
/// How long publishing goes on after that.
const AFTER: Duration = Duration::from_secs(10);
/// Messages a second meanwhile.
const RATE: f64 = 5000.0;
const LIMIT: Duration = Duration::from_secs(120);

/// Fills a queue of the first node with so many messages, freezes the third node for ten seconds, and tells how long it
/// takes after that until the queue has all its mirrors in sync, while 5000 messages a second are published all the time;
/// and how many octets that node got for each octet of a body that was published from the freeze on. `port` is that of the
/// first node's HTTP API.
///
/// # Errors
/// The queue does not lose its mirror, or does not get it back.
pub fn run(target: &Target, messages: u64, port: u16) -> Result<Line> {
    backlog::fill(target, messages)?;
    let meanwhile = Plan {
        persistent: true,
        receipt: Receipt::Confirm(1000),
        consuming: Consuming::Nobody,
        rate: RATE,
        time: AWAY + AFTER,
        ..Plan::default()
    };
    let queue = meanwhile.queue(0);
    let api = Api::as_user(port, &target.user, &target.password);
    let path = format!("queues/{}/{queue}", encoded(&target.vhost));
    let mirrors = || {
        let (_, answer) = api.ask("GET", &path, None).unwrap_or_default();
        answer["synchronised_slave_nodes"].as_array().map_or(0, Vec::len)
    };
    let all = target.others.len();
    until_true(LIMIT, "mirrors in sync", || mirrors() == all)?;
    let mirror = descendants(&[*target.pids.last().context("no process to freeze")?]);
    let mut connection = Connection::open(target)?;
    std::thread::scope(|scope| {
        let publisher = scope.spawn(|| Publisher::open(&meanwhile, target, Clock::start(), 0)?.run());
        let (before, octets) = (length(&mut connection, &queue)?, received(&mirror)?);
        mirror.iter().for_each(|pid| signal(*pid, Signal::SIGSTOP));
        std::thread::sleep(AWAY);
        let kept = mirrors();
        let (meantime, thawed) = (received(&mirror)?, Instant::now());
        mirror.iter().for_each(|pid| signal(*pid, Signal::SIGCONT));
        ensure!(kept < all, "a mirror that says nothing for {AWAY:?} still counts as one in sync");
        until_true(LIMIT, "mirrors in sync again", || mirrors() == all)?;
        let mut line = Line::default();
        line.add("synchronised_s", thawed.elapsed().as_secs_f64());
        let bodies = (length(&mut connection, &queue)? - before) as f64 * meanwhile.size as f64;
        let octets = more(&octets, &meantime) + more(&meantime, &received(&mirror)?);
        line.add("received_ratio", octets as f64 / bodies);
        publisher.join().map_err(|_| anyhow::anyhow!("the publisher panicked"))??;
        Ok(line)
    })
}

/// Messages in a queue.
fn length(connection: &mut Connection, queue: &str) -> Result<u64> {
    let declare = queue::Declare { queue, passive: true, ..Default::default() };
    let count = Cell::new(0);
    connection.call(CHANNEL, &declare.into(), |method| match method {
        Method::QueueDeclareOk(ok) => {
            count.set(u64::from(ok.message_count));
            true
        }
        _ => false,
    })?;
    Ok(count.get())
}

/// Octets that each TCP connection of these processes has received, by its two addresses.
fn received(pids: &[u32]) -> Result<HashMap<String, u64>> {
    Ok(parse(&call(Command::new("ss").arg("-tinHOp"))?, pids))
}

/// Reads what `ss -tinHOp` prints: a line for each connection.
fn parse(text: &str, pids: &[u32]) -> HashMap<String, u64> {
    let is_theirs = |line: &&str| pids.iter().any(|pid| line.contains(&format!("pid={pid},")));
    let count = |line: &str| {
        let mut words = line.split_whitespace();
        let octets = words.clone().find_map(|word| word.strip_prefix("bytes_received:"))?.parse().ok()?;
        Some((format!("{} {}", words.nth(3)?, words.next()?), octets))
    };
    text.lines().filter(is_theirs).filter_map(count).collect()
}

/// How many octets came since; connections that have gone meanwhile do not count.
fn more(before: &HashMap<String, u64>, now: &HashMap<String, u64>) -> u64 {
    now.iter().map(|(at, octets)| octets - before.get(at).copied().unwrap_or(0).min(*octets)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: &str = "ESTAB 0 0 127.0.0.1:15927 127.0.0.1:40010 users:((\"broker\",pid=77,fd=9)) cubic rto:204 \
bytes_sent:10 bytes_acked:10 bytes_received:1500 segs_out:3\n\
ESTAB 0 0 127.0.0.1:15924 127.0.0.1:40011 users:((\"broker\",pid=7,fd=9)) cubic bytes_received:99\n\
ESTAB 0 0 127.0.0.1:15925 127.0.0.1:40012 users:((\"broker\",pid=77,fd=10)) cubic rto:204\n";

    #[test]
    fn what_a_process_has_received_is_read_connection_by_connection() {
        let found = parse(LINES, &[77]);
        assert_eq!(found, HashMap::from([("127.0.0.1:15927 127.0.0.1:40010".to_owned(), 1500)]));
        let later = parse(&LINES.replace("1500", "1800").replace("pid=7,", "pid=77,"), &[77]);
        assert_eq!(more(&found, &later), 300 + 99);
    }
}
