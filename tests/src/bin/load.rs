//! The load generator as a program, for `cargo xtask bench`. Prints one line of `name=value` words.
//!
//! ```text
//! load messages ADDRESS[,ADDRESS…] PID[,PID…] USER PASSWORD VHOST [WORD…]     the words are those of Plan::parse;
//!      of several nodes the first has the queues, the second is published to, the third consumed from
//! load resume ADDRESS,ADDRESS PID,PID… USER PASSWORD VHOST kill|freeze classic|quorum
//!      what is done to the process of the first node, and the wait until the second confirms again
//! load takeover ADDRESS,ADDRESS PID,PID… USER PASSWORD VHOST QUEUES
//!      the first node, which leads them all, is killed; the wait until each confirms again
//! load away ADDRESS,ADDRESS,ADDRESS PID,PID,PID USER PASSWORD VHOST MESSAGES PORT
//!      the last node is frozen for ten seconds; the wait until it is in sync again. PORT is that of the first HTTP API
//! load churn ADDRESS PID USER PASSWORD VHOST CLIENTS SECONDS
//! load connections ADDRESS PID USER PASSWORD VHOST COUNT
//! load queues ADDRESS PID USER PASSWORD VHOST transient|durable SECONDS
//! load idle-queues ADDRESS PID USER PASSWORD VHOST COUNT
//! load pages ADDRESS PID USER PASSWORD VHOST COUNT SECONDS     ADDRESS is that of the HTTP API
//! load fill|drain ADDRESS PID USER PASSWORD VHOST MESSAGES    a long queue; `first` waits for one of them
//! load first ADDRESS PID USER PASSWORD VHOST
//! load tcp ADDRESS PID connect|ask|pour|churn CLIENTS SECONDS
//! load tcp ADDRESS PID idle|storm COUNT
//! load relay PORT JOURNAL
//! load echo PORT
//! load publish|consume --url URL --queue QUEUE --out RECORD [--quorum] [--name NAME --rate RATE]     until SIGTERM
//! ```
#![allow(clippy::print_stdout, reason = "its output is its result")]

use anyhow::{Context, Result, bail};
use harness::load::figures::Line;
use harness::load::plan::Plan;
use harness::load::{
    Target, away, backlog, messages, pages, population, relay, resume, steady, takeover, tcp,
};
use signal_hook::consts::{SIGINT, SIGTERM};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match &words[..] {
        ["relay", port, journal] => {
            let port: u16 = port.parse().context("PORT")?;
            let listener = TcpListener::bind(("127.0.0.1", port)).context("listen")?;
            relay::serve(&listener, journal.as_ref())?;
        }
        ["publish", options @ ..] => steady::publish(&steady::Options::parse(options)?, &stop()?)?,
        ["consume", options @ ..] => steady::consume(&steady::Options::parse(options)?, &stop()?)?,
        ["echo", port] => tcp::echo(port.parse().context("PORT")?)?,
        ["tcp", address, _, "churn", clients, time] => {
            println!("{}", tcp::churn(address, count(clients)?, seconds(time)?)?);
        }
        ["tcp", address, pid, mode, clients, time] => {
            let mode = match *mode {
                "connect" => tcp::Mode::Connect,
                "ask" => tcp::Mode::Ask,
                "pour" => tcp::Mode::Pour,
                _ => bail!("there is no load `tcp {mode}` with clients and seconds"),
            };
            let pids = [pid.parse().context("PID")?];
            println!("{}", tcp::run(address, mode, count(clients)?, seconds(time)?, &pids)?);
        }
        ["tcp", address, pid, "idle", number] => {
            println!("{}", tcp::idle(address, count(number)?, pid.parse().context("PID")?)?);
        }
        ["tcp", address, pid, "storm", number] => {
            println!("{}", tcp::storm(address, count(number)?, pid.parse().context("PID")?, false)?);
        }
        [mode, address, pid, user, password, vhost, rest @ ..] => {
            let mut addresses = address.split(',').map(str::to_owned);
            let target = Target {
                address: addresses.next().context("ADDRESS")?,
                others: addresses.collect(),
                user: (*user).to_owned(),
                password: (*password).to_owned(),
                vhost: (*vhost).to_owned(),
                pids: pid.split(',').map(str::parse).collect::<Result<_, _>>().context("PID")?,
            };
            println!("{}", broker(mode, &target, rest)?);
        }
        _ => bail!("see the head of its source for what `load` takes"),
    }
    Ok(())
}

/// A flag that SIGTERM and SIGINT raise.
fn stop() -> Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        signal_hook::flag::register(signal, flag.clone()).context("catch a signal")?;
    }
    Ok(flag)
}

fn broker(mode: &str, target: &Target, words: &[&str]) -> Result<Line> {
    match (mode, words) {
        ("messages", words) => messages::run(target, &Plan::parse(words)?),
        ("churn", [clients, time]) => population::churn(target, count(clients)?, seconds(time)?),
        ("connections", [number]) => population::connections(target, count(number)?),
        ("queues", [kind, time]) => population::queues(target, *kind == "durable", seconds(time)?),
        ("fill", [number]) => backlog::fill(target, count(number)? as u64),
        ("resume", [strike, kind]) => resume::run(target, strike.parse()?, *kind == "quorum"),
        ("takeover", [number]) => takeover::run(target, count(number)?),
        ("away", [number, port]) => away::run(target, count(number)? as u64, port.parse().context("PORT")?),
        ("first", []) => backlog::first(target),
        ("drain", [number]) => backlog::drain(target, count(number)? as u64),
        ("pages", [number, time]) => pages::pages(target, count(number)?, seconds(time)?),
        ("idle-queues", [number]) => population::idle_queues(target, count(number)?),
        _ => bail!("there is no load `{mode}` with {} words", words.len()),
    }
}

fn count(word: &str) -> Result<usize> {
    word.parse().with_context(|| format!("read the number `{word}`"))
}

fn seconds(word: &str) -> Result<Duration> {
    Ok(Duration::from_secs_f64(word.parse().with_context(|| format!("read the seconds `{word}`"))?))
}
