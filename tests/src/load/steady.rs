//! A publisher and a consumer that go on through whatever happens and write down what they saw, as the client programs
//! in `tests/clients` do. Unlike those the publisher has many messages on their way at once.
//!
//! ```text
//! connected - TIME    try ID TIME    confirm ID TIME    return ID TIME    lost - TIME WHY    got ID TIME REDELIVERED
//! ```

use super::Target;
use super::connection::{CHANNEL, Connection, FRAME_MAX};
use super::plan::{declare_queue, declare_quorum_queue};
use amqp::method::{basic, confirm};
use amqp::{BasicProperties, ContentHeader, FrameKind, Method, frame};
use anyhow::{Context, Result, bail, ensure};
use nix::time::{ClockId, clock_gettime};
use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long a server may be silent while something is expected of it.
const PATIENCE: Duration = Duration::from_secs(3);
/// The heartbeat that is asked for, in seconds, and how long a server may say nothing at all.
const HEARTBEAT: u16 = 2;
const SILENCE: Duration = Duration::from_secs(4);
/// Messages without a confirm, at most.
const WINDOW: usize = 200;
/// Deliveries without an acknowledgement, at most.
const PREFETCH: u16 = 50;
/// One look at the socket.
const TICK: Duration = Duration::from_millis(2);
/// Between two attempts to connect.
const PAUSE: Duration = Duration::from_millis(50);

/// What both are told.
#[derive(Debug, Clone)]
pub struct Options {
    target: Target,
    queue: String,
    quorum: bool,
    out: PathBuf,
    /// Begins every id of a publisher.
    name: String,
    /// Messages a second.
    rate: f64,
}

impl Options {
    /// Reads `--url URL --queue QUEUE --out RECORD [--quorum] [--name NAME --rate RATE]`.
    ///
    /// # Errors
    /// Something is missing or makes no sense.
    pub fn parse(words: &[&str]) -> Result<Self> {
        let (mut quorum, mut given) = (false, BTreeMap::new());
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match *word {
                "--quorum" => quorum = true,
                "--url" | "--queue" | "--out" | "--name" | "--rate" => {
                    given.insert(*word, *words.next().with_context(|| format!("{word} needs a value"))?);
                }
                _ => bail!("`{word}` is none of --url, --queue, --out, --quorum, --name, --rate"),
            }
        }
        let one = |name: &str| given.get(name).copied().with_context(|| format!("{name} is missing"));
        Ok(Self {
            target: target(one("--url")?)?,
            queue: one("--queue")?.to_owned(),
            quorum,
            out: one("--out")?.into(),
            name: given.get("--name").copied().unwrap_or("publisher").to_owned(),
            rate: given.get("--rate").copied().unwrap_or("100").parse().context("read --rate")?,
        })
    }

    fn declare(&self, connection: &mut Connection) -> Result<()> {
        if self.quorum {
            declare_quorum_queue(connection, &self.queue)
        } else {
            declare_queue(connection, &self.queue, true)
        }
    }
}

/// `amqp://USER:PASSWORD@HOST:PORT/VHOST`; in the vhost a slash may be written as `%2F`.
fn target(url: &str) -> Result<Target> {
    let parts = || {
        let (login, place) = url.strip_prefix("amqp://")?.split_once('@')?;
        let (user, password) = login.split_once(':')?;
        let (address, vhost) = place.split_once('/')?;
        Some(Target {
            address: address.to_owned(),
            others: Vec::new(),
            user: user.to_owned(),
            password: password.to_owned(),
            vhost: vhost.replace("%2F", "/").replace("%2f", "/"),
            pids: Vec::new(),
        })
    };
    parts().with_context(|| format!("`{url}` is not like amqp://USER:PASSWORD@HOST:PORT/VHOST"))
}

/// Lines that a reader finds at once.
struct Record(File);

impl Record {
    fn open(options: &Options) -> Result<Self> {
        let file = File::options().create(true).append(true).open(&options.out);
        Ok(Self(file.with_context(|| format!("open {}", options.out.display()))?))
    }

    fn write(&mut self, lines: &mut String) -> Result<()> {
        self.0.write_all(lines.as_bytes()).context("write the record")?;
        lines.clear();
        Ok(())
    }
}

/// Adds a line.
fn note(lines: &mut String, event: &str, id: impl Display, more: impl Display) -> Result<()> {
    use std::fmt::Write as _;
    writeln!(lines, "{event} {id} {:.6} {more}", now()?)?;
    Ok(())
}

/// The machine's monotonic clock, which all records use.
fn now() -> Result<f64> {
    Ok(Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC)?).as_secs_f64())
}

/// Goes on over one connection after another until told to stop.
fn again_and_again(
    options: &Options,
    stop: &Arc<AtomicBool>,
    mut act: impl FnMut(&mut Record, &AtomicBool) -> Result<()>,
) -> Result<()> {
    let mut record = Record::open(options)?;
    while !stop.load(Ordering::Relaxed) {
        if let Err(error) = act(&mut record, stop) {
            let mut lines = String::new();
            note(&mut lines, "lost", "-", format!("{error:#}").replace('\n', " "))?;
            record.write(&mut lines)?;
            std::thread::sleep(PAUSE);
        }
    }
    Ok(())
}

/// Publishes persistent messages at a steady rate, each with its id as body.
///
/// # Errors
/// The record cannot be written.
pub fn publish(options: &Options, stop: &Arc<AtomicBool>) -> Result<()> {
    let mut number = 0;
    again_and_again(options, stop, |record, stop| {
        let mut session = Publishing::open(options, number)?;
        let ended = session.run(options, record, stop);
        number = session.number;
        ended
    })
}

struct Publishing {
    link: Link,
    number: u64,
    /// The tag of the next message.
    tag: u64,
    /// Numbers that wait for a confirm, by tag, and since when.
    open: BTreeMap<u64, (u64, Instant)>,
}

impl Publishing {
    fn open(options: &Options, number: u64) -> Result<Self> {
        let mut link = Link::open(options)?;
        let select = confirm::Select::default();
        link.connection.call(CHANNEL, &select.into(), |it| matches!(it, Method::ConfirmSelectOk(_)))?;
        Ok(Self { link, number, tag: 1, open: BTreeMap::new() })
    }

    fn run(&mut self, options: &Options, record: &mut Record, stop: &AtomicBool) -> Result<()> {
        let (start, mut sent, mut lines) = (Instant::now(), 0_u64, String::new());
        let mut stopped: Option<Instant> = None;
        note(&mut lines, "connected", "-", "")?;
        loop {
            if stop.load(Ordering::Relaxed) {
                let since = *stopped.get_or_insert_with(Instant::now);
                if self.open.is_empty() || since.elapsed() > PATIENCE {
                    return Ok(());
                }
            }
            let due = (start.elapsed().as_secs_f64() * options.rate) as u64;
            let count = (due.saturating_sub(sent) as usize).min(WINDOW - self.open.len());
            if stopped.is_none() && count > 0 {
                self.send(options, record, count, &mut lines)?;
                // What could not be sent in time is not made up for.
                sent = if self.open.len() == WINDOW { due } else { sent + count as u64 };
            }
            self.receive(options, &mut lines)?;
            record.write(&mut lines)?;
            let oldest = self.open.values().next();
            ensure!(
                oldest.is_none_or(|(_, since)| since.elapsed() < PATIENCE),
                "no confirm for {PATIENCE:?}"
            );
        }
    }

    fn send(
        &mut self,
        options: &Options,
        record: &mut Record,
        count: usize,
        lines: &mut String,
    ) -> Result<()> {
        let mut frames = Vec::new();
        let mut properties = Vec::new();
        BasicProperties { delivery_mode: Some(2), ..Default::default() }.encode(&mut properties);
        for _ in 0..count {
            self.number += 1;
            let id = format!("{}-{}", options.name, self.number);
            note(lines, "try", &id, "")?;
            let publish = basic::Publish { routing_key: &options.queue, ..Default::default() };
            frame::write_fields(&mut frames, CHANNEL, &publish);
            frame::write_content_header(&mut frames, CHANNEL, 60, id.len() as u64, &properties);
            frame::write_body(&mut frames, CHANNEL, id.as_bytes(), FRAME_MAX);
            self.open.insert(self.tag, (self.number, Instant::now()));
            self.tag += 1;
        }
        // What may have been sent is on record before it is.
        record.write(lines)?;
        self.link.connection.write(&frames)
    }

    fn receive(&mut self, options: &Options, lines: &mut String) -> Result<()> {
        if !self.link.receive()? {
            return Ok(());
        }
        let open = &mut self.open;
        self.link.connection.frames(|frame| {
            ensure!(frame.kind == FrameKind::Method, "expected a confirm, got {frame:?}");
            let (event, tag, multiple) = match Method::decode(frame.payload)? {
                Method::BasicAck(basic::Ack { delivery_tag, multiple }) => {
                    ("confirm", delivery_tag, multiple)
                }
                Method::BasicNack(basic::Nack { delivery_tag, multiple, .. }) => {
                    ("return", delivery_tag, multiple)
                }
                other => bail!("expected a confirm, got {other:?}"),
            };
            let first = if multiple { 0 } else { tag };
            let settled: Vec<u64> = open.range(first..=tag).map(|(tag, _)| *tag).collect();
            ensure!(!settled.is_empty(), "a confirm of nothing: {tag}");
            for tag in settled {
                if let Some((number, _)) = open.remove(&tag) {
                    note(lines, event, format_args!("{}-{number}", options.name), "")?;
                }
            }
            Ok(())
        })
    }
}

/// Consumes and acknowledges each message.
///
/// # Errors
/// The record cannot be written.
pub fn consume(options: &Options, stop: &Arc<AtomicBool>) -> Result<()> {
    again_and_again(options, stop, |record, stop| {
        let mut link = Link::open(options)?;
        let qos = basic::Qos { prefetch_count: PREFETCH, ..Default::default() };
        link.connection.call(CHANNEL, &qos.into(), |it| matches!(it, Method::BasicQosOk(_)))?;
        let consume = basic::Consume { queue: &options.queue, ..Default::default() };
        link.connection.call(CHANNEL, &consume.into(), |it| matches!(it, Method::BasicConsumeOk(_)))?;
        let (mut inbound, mut lines) = (Inbound::default(), String::new());
        note(&mut lines, "connected", "-", "")?;
        record.write(&mut lines)?;
        while !stop.load(Ordering::Relaxed) {
            if link.receive()? {
                link.connection.frames(|frame| inbound.frame(frame, &mut lines))?;
                // On record before the broker may forget it.
                record.write(&mut lines)?;
                link.connection.write(&inbound.acks)?;
                inbound.acks.clear();
            }
        }
        Ok(())
    })
}

/// A delivery that is being read.
#[derive(Default)]
struct Inbound {
    tag: u64,
    redelivered: bool,
    left: u64,
    body: Vec<u8>,
    acks: Vec<u8>,
}

impl Inbound {
    fn frame(&mut self, frame: &frame::Frame<'_>, lines: &mut String) -> Result<()> {
        match frame.kind {
            FrameKind::Method => match Method::decode(frame.payload).context("read a delivery")? {
                Method::BasicDeliver(deliver) => {
                    (self.tag, self.redelivered) = (deliver.delivery_tag, deliver.redelivered);
                }
                other => bail!("expected a delivery, got {other:?}"),
            },
            FrameKind::Header => {
                self.left = ContentHeader::decode(frame.payload)?.body_size;
                self.body.clear();
            }
            FrameKind::Body => {
                self.body.extend_from_slice(frame.payload);
                self.left = self.left.saturating_sub(frame.payload.len() as u64);
                if self.left == 0 {
                    let id = String::from_utf8_lossy(&self.body);
                    note(lines, "got", id, u8::from(self.redelivered))?;
                    frame::write_ack(&mut self.acks, CHANNEL, self.tag, false);
                }
            }
            FrameKind::Heartbeat => {}
        }
        Ok(())
    }
}

/// A connection with a queue, with heartbeats both ways.
struct Link {
    connection: Connection,
    heard: Instant,
    beaten: Instant,
}

impl Link {
    fn open(options: &Options) -> Result<Self> {
        let mut connection = Connection::open_patiently(&options.target, PATIENCE, HEARTBEAT)?;
        options.declare(&mut connection)?;
        Ok(Self { connection, heard: Instant::now(), beaten: Instant::now() })
    }

    /// Reads what is there, or waits a little; whether something came.
    fn receive(&mut self) -> Result<bool> {
        if self.beaten.elapsed() > Duration::from_secs(u64::from(HEARTBEAT)) / 2 {
            self.beaten = Instant::now();
            let mut beat = Vec::new();
            frame::write_heartbeat(&mut beat);
            self.connection.write(&beat)?;
        }
        let came = self.connection.wait_readable(TICK)? && self.connection.receive_now()?;
        if came {
            self.heard = Instant::now();
        }
        ensure!(self.heard.elapsed() < SILENCE, "nothing was heard for {SILENCE:?}");
        Ok(came)
    }
}

#[cfg(test)]
mod tests {
    use super::super::relay;
    use super::*;
    use crate::account::{Published, Received, balance};
    use std::net::TcpListener;

    #[test]
    fn options_are_read() {
        let words = ["--url", "amqp://u:p@192.168.204.66:5672/%2Flagou", "--queue", "q", "--out", "r"];
        let options =
            Options::parse(&[&words[..], &["--name", "n", "--rate", "5", "--quorum"]].concat()).unwrap();
        let target = options.target;
        assert_eq!((target.address.as_str(), target.vhost.as_str()), ("192.168.204.66:5672", "/lagou"));
        assert!(options.quorum && options.name == "n" && (options.rate - 5.0).abs() < 1e-9);
        assert!(Options::parse(&words[..4]).is_err() && Options::parse(&["--nonsense"]).is_err());
    }

    /// The relay forwards what is published and keeps nothing.
    #[test]
    fn what_is_published_is_received_and_both_are_on_record() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("amqp://guest:guest@{}/%2F", listener.local_addr().unwrap());
        let file = |name: &str| std::env::temp_dir().join(format!("steady-{}-{name}", std::process::id()));
        let journal = file("journal");
        std::thread::spawn(move || relay::serve(&listener, &journal).unwrap());
        let options = |name: &str| {
            let out = file(name);
            let _ = std::fs::remove_file(&out);
            let words = ["--url", &url, "--queue", "q", "--out", out.to_str().unwrap(), "--rate", "500"];
            Options::parse(&words).unwrap()
        };
        let stops: [Arc<AtomicBool>; 2] = Default::default();
        let (publisher, consumer) = (options("published"), options("received"));
        let read = |options: &Options| std::fs::read_to_string(&options.out).unwrap_or_default();
        std::thread::scope(|scope| {
            scope.spawn(|| consume(&consumer, &stops[1]).unwrap());
            // The relay has nobody to forward to before.
            let attached = || read(&consumer).contains("connected ");
            xtask::lab::wait::until_true(Duration::from_secs(20), "a consumer", attached).unwrap();
            scope.spawn(|| publish(&publisher, &stops[0]).unwrap());
            let came = || Received::read(&read(&consumer)).deliveries.len() >= 100;
            xtask::lab::wait::until_true(Duration::from_secs(20), "deliveries", came).unwrap();
            stops[0].store(true, Ordering::Relaxed);
            let even = || {
                let found = balance(&Published::read(&read(&publisher)), &Received::read(&read(&consumer)));
                found.lost.is_empty()
            };
            xtask::lab::wait::until_true(Duration::from_secs(20), "the rest", even).unwrap();
            stops[1].store(true, Ordering::Relaxed);
        });
        let found = balance(&Published::read(&read(&publisher)), &Received::read(&read(&consumer)));
        assert!(
            found.confirmed >= 100 && found.repeated.is_empty() && found.invented.is_empty(),
            "{found:?}"
        );
        for name in ["journal", "published", "received"] {
            let _ = std::fs::remove_file(file(name));
        }
    }
}
