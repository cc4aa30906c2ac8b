//! The load generator as a program, for `cargo xtask bench`. Prints one line of `name=value` words.
//!
//! ```text
//! load amqp ADDRESS USER PASSWORD VHOST PAIRS SECONDS SIZE WINDOW persistent|transient [PID…]
//! load tcp ADDRESS connect|ask CLIENTS SECONDS [PID…]
//! load echo PORT
//! ```
#![allow(clippy::print_stdout, reason = "its output is its result")]

use anyhow::{Context, Result, bail};
use harness::load::{amqp, tcp};
use std::time::Duration;

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match &words[..] {
        ["amqp", address, user, password, vhost, pairs, seconds, size, window, kind, pids @ ..] => {
            let plan = amqp::Plan {
                target: amqp::Target {
                    address: (*address).to_owned(),
                    user: (*user).to_owned(),
                    password: (*password).to_owned(),
                    vhost: (*vhost).to_owned(),
                },
                pairs: pairs.parse().context("PAIRS")?,
                time: Duration::from_secs_f64(seconds.parse().context("SECONDS")?),
                size: size.parse().context("SIZE")?,
                window: window.parse().context("WINDOW")?,
                persistent: *kind == "persistent",
                pids: numbers(pids)?,
            };
            println!("{}", amqp::run(&plan)?);
        }
        ["tcp", address, mode, clients, seconds, pids @ ..] => {
            let mode = if *mode == "connect" { tcp::Mode::Connect } else { tcp::Mode::Ask };
            let time = Duration::from_secs_f64(seconds.parse().context("SECONDS")?);
            println!(
                "{}",
                tcp::run(address, mode, clients.parse().context("CLIENTS")?, time, &numbers(pids)?)?
            );
        }
        ["echo", port] => tcp::echo(port.parse().context("PORT")?)?,
        _ => bail!("usage: load amqp|tcp|echo …; see the head of its source"),
    }
    Ok(())
}

fn numbers(words: &[&str]) -> Result<Vec<u32>> {
    words.iter().map(|word| word.parse().with_context(|| format!("process id `{word}`"))).collect()
}
