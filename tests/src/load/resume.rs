//! How long confirms stay away when the node that leads a queue is killed or frozen.

use super::Target;
use super::connection::{CHANNEL, Connection, FRAME_MAX};
use super::figures::Line;
use super::plan::{declare_queue, declare_quorum_queue};
use amqp::method::{basic, confirm};
use amqp::{BasicProperties, FrameKind, Method, frame};
use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::{Duration, Instant};
use xtask::lab::process::{descendants, signal};

const QUEUE: &str = "resume";
/// Messages without a confirm, at most.
const WINDOW: usize = 100;
/// Octets of a body.
const SIZE: usize = 1024;
/// Between two messages: confirms, not rates, are measured.
const PACE: Duration = Duration::from_millis(1);
/// Confirms before anything happens.
const BEFORE: usize = 500;
/// How long confirms may stay away.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);

/// What happens to the process of the first node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strike {
    /// `kill -9`.
    Kill,
    /// SIGSTOP.
    Freeze,
}

impl FromStr for Strike {
    type Err = anyhow::Error;

    fn from_str(word: &str) -> Result<Self> {
        match word {
            "kill" => Ok(Self::Kill),
            "freeze" => Ok(Self::Freeze),
            _ => bail!("`{word}` is neither kill nor freeze"),
        }
    }
}

/// Publishes through the second node to a queue that the first one leads, strikes that one, and tells when the first
/// message that was published afterwards is confirmed. A frozen process goes on when that is known.
///
/// # Errors
/// Nothing is confirmed for two minutes, before or after.
pub fn run(target: &Target, strike: Strike, quorum: bool) -> Result<Line> {
    let mut admin = Connection::open(target)?;
    if quorum {
        declare_quorum_queue(&mut admin, QUEUE)?;
    } else {
        declare_queue(&mut admin, QUEUE, true)?;
    }
    let leader = *target.pids.first().context("no process to strike")?;
    let mut publisher = Publisher::open(&target.through(1))?;
    let deadline = Instant::now() + PATIENCE;
    while publisher.confirmed < BEFORE {
        ensure!(Instant::now() < deadline, "only {} of {BEFORE} messages are confirmed", publisher.confirmed);
        publisher.step()?;
    }
    let struck = Instant::now();
    let sign = if strike == Strike::Kill { Signal::SIGKILL } else { Signal::SIGSTOP };
    let processes = descendants(&[leader]);
    processes.iter().for_each(|pid| signal(*pid, sign));
    let resumed = wait(target, publisher, struck);
    if strike == Strike::Freeze {
        processes.iter().for_each(|pid| signal(*pid, Signal::SIGCONT));
    }
    let mut line = Line::default();
    line.add("resume_s", resumed?.as_secs_f64());
    Ok(line)
}

/// Goes on until a message is confirmed that was published after the strike; with a new connection when the old one
/// breaks.
fn wait(target: &Target, mut publisher: Publisher, struck: Instant) -> Result<Duration> {
    publisher.forget();
    let mut publisher = Some(publisher);
    let mut node = 1;
    while struck.elapsed() < PATIENCE {
        match publisher.as_mut().map(|publisher| publisher.step().map(|()| publisher.confirmed)) {
            Some(Ok(0)) => {}
            Some(Ok(_)) => return Ok(struck.elapsed()),
            Some(Err(_)) => publisher = None,
            None => {
                // The one that was struck is not asked again.
                node = if node == 1 { 2 } else { 1 };
                publisher = Publisher::open(&target.through(node)).ok();
                std::thread::sleep(PACE);
            }
        }
    }
    bail!("nothing was confirmed for {PATIENCE:?}")
}

/// A publisher with confirms that counts those of messages since it last forgot.
struct Publisher {
    connection: Connection,
    message: Vec<u8>,
    next: u64,
    /// Tags that wait for a confirm.
    open: BTreeSet<u64>,
    /// Tags below are not counted.
    counted_from: u64,
    confirmed: usize,
}

impl Publisher {
    fn open(target: &Target) -> Result<Self> {
        let connection = confirming(target)?;
        let mut message = Vec::new();
        write_message(&mut message, QUEUE, &[b'x'; SIZE]);
        Ok(Self { connection, message, next: 1, open: BTreeSet::new(), counted_from: 1, confirmed: 0 })
    }

    /// Counts only what is published from now on. The window is open for it.
    fn forget(&mut self) {
        self.open.clear();
        self.counted_from = self.next;
        self.confirmed = 0;
    }

    /// Publishes if the window allows, and reads what came.
    fn step(&mut self) -> Result<()> {
        if self.open.len() < WINDOW {
            self.open.insert(self.next);
            self.next += 1;
            self.connection.write(&self.message)?;
        }
        if self.connection.wait_readable(PACE)? && self.connection.receive_now()? {
            self.read()?;
        }
        Ok(())
    }

    fn read(&mut self) -> Result<()> {
        let (open, counted, from) = (&mut self.open, &mut self.confirmed, self.counted_from);
        receipts(&mut self.connection, |tags, confirmed| {
            let settled: Vec<u64> = open.range(tags).copied().collect();
            for tag in settled {
                open.remove(&tag);
                // A queue without a leader may refuse for a while: that is no confirm.
                *counted += usize::from(confirmed && tag >= from);
            }
        })
    }
}

/// A connection whose channel confirms.
pub(super) fn confirming(target: &Target) -> Result<Connection> {
    let mut connection = Connection::open(target)?;
    let select = confirm::Select::default();
    connection.call(CHANNEL, &select.into(), |it| matches!(it, Method::ConfirmSelectOk(_)))?;
    Ok(connection)
}

/// The frames of a persistent message for a queue.
pub(super) fn write_message(out: &mut Vec<u8>, queue: &str, body: &[u8]) {
    let publish = basic::Publish { routing_key: queue, ..Default::default() };
    frame::write_fields(out, CHANNEL, &publish);
    let mut properties = Vec::new();
    BasicProperties { delivery_mode: Some(2), ..Default::default() }.encode(&mut properties);
    frame::write_content_header(out, CHANNEL, 60, body.len() as u64, &properties);
    frame::write_body(out, CHANNEL, body, FRAME_MAX);
}

/// Reads what came of receipts: the tags of each, and whether it is a confirm or a refusal.
pub(super) fn receipts(
    connection: &mut Connection,
    mut settle: impl FnMut(RangeInclusive<u64>, bool),
) -> Result<()> {
    connection.frames(|frame| {
        ensure!(frame.kind == FrameKind::Method, "expected a confirm, got {frame:?}");
        let (tag, multiple, confirmed) = match Method::decode(frame.payload)? {
            Method::BasicAck(basic::Ack { delivery_tag, multiple }) => (delivery_tag, multiple, true),
            Method::BasicNack(basic::Nack { delivery_tag, multiple, .. }) => (delivery_tag, multiple, false),
            other => bail!("expected a confirm, got {other:?}"),
        };
        settle(if multiple { 0 } else { tag }..=tag, confirmed);
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::super::relay;
    use super::*;
    use std::net::TcpListener;

    /// The relay stands for the node that goes on; a process that sleeps for the one that is killed.
    #[test]
    fn the_first_confirm_after_the_strike_ends_the_wait() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let journal = std::env::temp_dir().join(format!("resume-{}", std::process::id()));
        let path = journal.clone();
        std::thread::spawn(move || relay::serve(&listener, &path).unwrap());
        let mut victim = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        let guest = || "guest".to_owned();
        let target = Target {
            others: vec![address.clone()],
            address,
            user: guest(),
            password: guest(),
            vhost: "/".to_owned(),
            pids: vec![victim.id()],
        };
        let line = run(&target, Strike::Kill, false).unwrap().to_string();
        assert!(line.starts_with("resume_s="), "{line}");
        assert!(!victim.wait().unwrap().success(), "it was killed");
        let _ = std::fs::remove_file(journal);
    }
}
