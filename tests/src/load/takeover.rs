//! How long it takes until each of many mirrored queues confirms again when the node that leads them all is killed.

use super::Target;
use super::connection::Connection;
use super::figures::Line;
use super::plan::declare_queue;
use super::population::in_threads;
use super::resume::{PATIENCE, confirming, receipts, write_message};
use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};
use xtask::lab::process::{descendants, signal};

/// Messages without a confirm, at most.
const WINDOW: usize = 200;
/// How many threads declare the queues.
const DECLARERS: usize = 4;
/// Octets of a body.
const SIZE: usize = 64;
/// Before something that was refused is tried again.
const PAUSE: Duration = Duration::from_millis(1);
/// What the nodes get to become quiet before the strike.
const SETTLE: Duration = Duration::from_secs(3);

/// Declares queues on the first node, has a message confirmed in each through another one, kills the first, and tells
/// when a message that was published afterwards is confirmed in each.
///
/// # Errors
/// A queue confirms nothing for two minutes, before or after.
pub fn run(target: &Target, count: usize) -> Result<Line> {
    in_threads(DECLARERS, |index| {
        let mut connection = Connection::open(target)?;
        (index..count).step_by(DECLARERS).try_for_each(|at| declare_queue(&mut connection, &queue(at), true))
    })?;
    // With `ha-mode: all` that is when all mirrors have it: none is behind.
    Wave::new(count).run(target)?;
    std::thread::sleep(SETTLE);
    let leader = *target.pids.first().context("no process to strike")?;
    let struck = Instant::now();
    descendants(&[leader]).iter().for_each(|pid| signal(*pid, Signal::SIGKILL));
    Wave::new(count).run(target)?;
    let mut line = Line::default();
    line.add("takeover_s", struck.elapsed().as_secs_f64());
    Ok(line)
}

fn queue(index: usize) -> String {
    format!("takeover-{index}")
}

/// A message for each queue.
struct Wave {
    /// Queues that have not been sent theirs.
    waiting: VecDeque<usize>,
    /// Those that have not confirmed it, by tag.
    open: BTreeMap<u64, usize>,
}

impl Wave {
    fn new(count: usize) -> Self {
        Self { waiting: (0..count).collect(), open: BTreeMap::new() }
    }

    /// Goes on until every queue has confirmed; with a new connection when one breaks, never to the first node.
    fn run(mut self, target: &Target) -> Result<()> {
        let start = Instant::now();
        let mut node = 1;
        loop {
            match self.publish(&target.through(node), start) {
                Ok(()) => return Ok(()),
                Err(error) if start.elapsed() > PATIENCE => {
                    return Err(error)
                        .with_context(|| format!("{} queues do not confirm", self.waiting.len()));
                }
                Err(_) => node = 3 - node,
            }
            self.waiting.extend(std::mem::take(&mut self.open).into_values());
            std::thread::sleep(PAUSE);
        }
    }

    fn publish(&mut self, target: &Target, start: Instant) -> Result<()> {
        let mut connection = confirming(target)?;
        let mut tag = 0;
        while !self.waiting.is_empty() || !self.open.is_empty() {
            ensure!(start.elapsed() < PATIENCE, "no confirm for {PATIENCE:?}");
            let mut messages = Vec::new();
            while self.open.len() < WINDOW
                && let Some(index) = self.waiting.pop_front()
            {
                tag += 1;
                self.open.insert(tag, index);
                write_message(&mut messages, &queue(index), &[b'x'; SIZE]);
            }
            connection.write(&messages)?;
            if connection.wait_readable(PAUSE)? && connection.receive_now()? {
                self.read(&mut connection)?;
            }
        }
        connection.close()
    }

    fn read(&mut self, connection: &mut Connection) -> Result<()> {
        let mut refused = false;
        receipts(connection, |tags, confirmed| {
            let settled: Vec<u64> = self.open.range(tags).map(|(tag, _)| *tag).collect();
            for tag in settled {
                let Some(index) = self.open.remove(&tag) else { continue };
                if !confirmed {
                    self.waiting.push_back(index);
                    refused = true;
                }
            }
        })?;
        if refused {
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }
}
