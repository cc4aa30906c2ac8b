//! Numbered messages with lapin, the AMQP client for Rust, through whatever happens: it makes a new connection itself.
//! The record is that of `tests/clients/publish.py` and `consume.py`.
//!
//! ```text
//! lapin-traffic publish|consume --url URL --queue QUEUE --out RECORD [--name NAME] [--rate PER_SECOND]
//! ```

use anyhow::{Context, Result, bail};
use futures_util::StreamExt;
use futures_util::future::{Either, select};
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};
use nix::time::{ClockId, clock_gettime};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::File;
use std::future::Future;
use std::io::Write as _;
use std::pin::pin;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// No answer of a broker takes longer.
const PATIENCE: Duration = Duration::from_secs(5);

struct Traffic {
    options: BTreeMap<String, String>,
    record: File,
    number: Cell<u64>,
}

fn main() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let role = words.next().context("publish or consume")?;
    let words: Vec<String> = words.collect();
    let pairs = words.chunks_exact(2);
    let options: BTreeMap<_, _> =
        pairs.map(|pair| (pair[0].trim_start_matches("--").to_owned(), pair[1].clone())).collect();
    let out = options.get("out").context("--out RECORD")?;
    let record =
        File::options().create(true).append(true).open(out).with_context(|| format!("open {out}"))?;
    let traffic = Traffic { options, record, number: Cell::new(0) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut stop = signal(SignalKind::terminate())?;
        let work = async {
            loop {
                let ended = match role.as_str() {
                    "publish" => traffic.publish().await,
                    "consume" => traffic.consume().await,
                    other => bail!("publish or consume, not {other}"),
                };
                let why = ended.map_or_else(|error| format!("{error:#}"), |()| "the end".to_owned());
                traffic.note("lost", "-", &why.replace('\n', " "))?;
                sleep(Duration::from_millis(50)).await;
            }
        };
        match select(pin!(stop.recv()), pin!(work)).await {
            Either::Left(_) => Ok(()),
            Either::Right((ended, _)) => ended,
        }
    })
}

impl Traffic {
    fn note(&self, event: &str, ident: &str, more: &str) -> Result<()> {
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC)?;
        let line = format!("{event} {ident} {}.{:06} {more}\n", now.tv_sec(), now.tv_nsec() / 1000);
        Ok((&self.record).write_all(line.as_bytes())?)
    }

    fn option(&self, name: &str) -> Result<&str> {
        self.options.get(name).map(String::as_str).with_context(|| format!("--{name}"))
    }

    async fn open(&self) -> Result<(Connection, Channel)> {
        let url = format!("{}?heartbeat=2&connection_timeout={}", self.option("url")?, PATIENCE.as_millis());
        let connection = soon(Connection::connect(&url, ConnectionProperties::default())).await?;
        let channel = soon(connection.create_channel()).await?;
        let durable = QueueDeclareOptions { durable: true, ..Default::default() };
        soon(channel.queue_declare(self.option("queue")?.into(), durable, FieldTable::default())).await?;
        Ok((connection, channel))
    }

    async fn publish(&self) -> Result<()> {
        let (_connection, channel) = self.open().await?;
        soon(channel.confirm_select(ConfirmSelectOptions::default())).await?;
        let rate: f64 = self.options.get("rate").map_or(Ok(100.0), |rate| rate.parse())?;
        let (name, queue) = (self.option("name")?, self.option("queue")?);
        self.note("connected", "-", "")?;
        loop {
            let due = Instant::now() + Duration::from_secs_f64(1.0 / rate);
            self.number.set(self.number.get() + 1);
            let ident = format!("{name}-{}", self.number.get());
            let properties =
                BasicProperties::default().with_delivery_mode(2).with_message_id(ident.as_str().into());
            let options = BasicPublishOptions { mandatory: true, ..Default::default() };
            self.note("try", &ident, "")?;
            let sent = channel.basic_publish("".into(), queue.into(), options, ident.as_bytes(), properties);
            let answer = soon(async { sent.await?.await }).await?;
            let event = if matches!(answer, Confirmation::Ack(None)) { "confirm" } else { "return" };
            self.note(event, &ident, "")?;
            sleep_until(due).await;
        }
    }

    async fn consume(&self) -> Result<()> {
        let (_connection, channel) = self.open().await?;
        soon(channel.basic_qos(50, BasicQosOptions::default())).await?;
        let options = BasicConsumeOptions::default();
        let consumer =
            channel.basic_consume(self.option("queue")?.into(), "".into(), options, FieldTable::default());
        let mut consumer = soon(consumer).await?;
        while let Some(delivery) = consumer.next().await {
            let delivery = delivery?;
            let again = if delivery.redelivered { "1" } else { "0" };
            self.note("got", &String::from_utf8_lossy(&delivery.data), again)?;
            soon(delivery.ack(BasicAckOptions::default())).await?;
        }
        Ok(())
    }
}

async fn soon<T>(answer: impl Future<Output = lapin::Result<T>>) -> Result<T> {
    Ok(timeout(PATIENCE, answer).await.context("no answer")??)
}
