//! Chaos as a program, for `cargo xtask chaos`.
//!
//! ```text
//! chaos run LAYOUT SEED SECONDS CLIENT,… RECORD [--resume] [TITLE…]     the titles are those of kinds of faults
//! chaos report LAYOUT SEED CLIENT,… RECORD PLOT                          prints a section, writes the plot
//! ```
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "its output is its result")]

use anyhow::{Context, Result, bail};
use harness::chaos::faults::Kind;
use harness::chaos::record::Record;
use harness::chaos::traffic::Unaccounted;
use harness::chaos::{Options, report, run};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;
use xtask::traffic::UNACCOUNTED;

fn main() -> ExitCode {
    match carry_out() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            if error.is::<Unaccounted>() { ExitCode::from(UNACCOUNTED) } else { ExitCode::FAILURE }
        }
    }
}

fn carry_out() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match &words[..] {
        ["run", layout, seed, seconds, clients, record, rest @ ..] => {
            let titles = rest.iter().filter(|word| **word != "--resume");
            let kinds =
                titles.map(|title| Kind::titled(title).with_context(|| format!("no fault `{title}`")));
            run(&Options {
                layout: layout.parse()?,
                seed: seed.parse().context("SEED")?,
                time: Duration::from_secs_f64(seconds.parse().context("SECONDS")?),
                clients: clients.split(',').map(str::to_owned).collect(),
                kinds: kinds.collect::<Result<_>>()?,
                record: record.into(),
                resume: rest.contains(&"--resume"),
            })
        }
        ["report", layout, seed, clients, record, plot] => {
            let (layout, record) = (layout.parse()?, Record::read(record.as_ref())?);
            std::fs::write(plot, report::plot(layout, &record)).with_context(|| format!("write {plot}"))?;
            let name = Path::new(plot).file_name().unwrap_or_default().to_string_lossy();
            let clients = clients.replace(',', ", ");
            print!("{}", report::section(layout, &record, seed.parse().context("SEED")?, &clients, &name));
            Ok(())
        }
        _ => bail!("see the head of its source for what `chaos` takes"),
    }
}
