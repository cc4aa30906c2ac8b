//! Measures how long a client is without an answer when the floating address moves, with our agent on both hosts and with
//! keepalived on both, for `cargo xtask failover`. Prints the rows of a Markdown table.
//!
//! ```text
//! failover RUNS [WORD…]       the scenarios whose names have all these words; all of them without any
//! ```
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "its output is its result")]

use anyhow::{Context, Result, bail};
use harness::pair::{Pair, Settings};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};
use xtask::lab::Network;
use xtask::lab::wait::until_true;
use xtask::stack::{Cast, Maker, Place};

/// Longer than any neighbour entry of a client lives on without an answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// What happens to C, the holder, and how all is put back.
struct Scenario {
    name: &'static str,
    settings: Settings,
    /// Other work on every core.
    busy: bool,
    strike: fn(&Pair) -> Result<()>,
    /// Who answers in the end.
    then: &'static str,
    restore: fn(&Pair) -> Result<()>,
}

fn power_off(pair: &Pair) -> Result<()> {
    pair.stack.power_off("C")
}

fn power_on(pair: &Pair) -> Result<()> {
    pair.power_on("C")
}

fn start(pair: &Pair) -> Result<()> {
    pair.start_agent("C")
}

fn network(pair: &Pair) -> Result<&Network> {
    match pair.stack.place() {
        Place::Network(network) => Ok(network),
        Place::Loopback => bail!("a floating address needs hosts"),
    }
}

/// Takes down what a killed agent may have left on C.
fn clean_start(pair: &Pair) -> Result<()> {
    let _ = network(pair)?.ip("C", "addr del 192.168.204.66/24 dev eth0");
    pair.start_agent("C")
}

fn split(pair: &Pair) -> Result<()> {
    network(pair)?.isolate(&["C", "D"], true)?;
    until_true(PATIENCE, "both to be master", || pair.stack.holders() == ["C", "D"])?;
    pair.answers_from("D")
}

/// Ends the split right after an advert of D, the loser, so that it hears the winner first.
fn heal(pair: &Pair) -> Result<()> {
    let heard = || pair.adverts().iter().filter(|(from, _)| from == "192.168.204.144").count();
    let before = heard();
    until_true(PATIENCE, "an advert of D", || heard() > before)?;
    network(pair)?.isolate(&["C", "D"], false)
}

fn scenarios() -> Vec<Scenario> {
    let second = Settings::default;
    let tenth = || Settings { version: 3, interval: "0.1", ..Settings::default() };
    let one = |name, settings, strike: fn(&Pair) -> Result<()>, restore: fn(&Pair) -> Result<()>| Scenario {
        name,
        settings,
        busy: false,
        strike,
        then: "D",
        restore,
    };
    vec![
        one("holder loses power", second(), power_off, power_on),
        one("holder loses power, version 3, 0.1 s", tenth(), power_off, power_on),
        Scenario {
            busy: true,
            ..one("holder loses power, version 3, 0.1 s, every core busy", tenth(), power_off, power_on)
        },
        one("orderly stop", second(), |pair| pair.stack.terminate("C", "vip-agent"), start),
        one("agent killed, its host lives", second(), |pair| pair.stack.kill("C", "vip-agent"), clean_start),
        one(
            "check fails, weight -20",
            second(),
            |pair| pair.fail_check("C", true),
            |pair| pair.fail_check("C", false),
        ),
        Scenario {
            then: "C",
            ..one("partition heals, the winner is heard first", second(), heal, |_| Ok(()))
        },
    ]
}

/// One side's figures.
#[derive(Default)]
struct Figures {
    silences: Vec<f64>,
    changes: usize,
    /// Two hosts had the address when the client was served again, and still had it seconds later.
    both: bool,
}

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let runs: usize = words.first().context("how many runs?")?.parse().context("RUNS")?;
    println!("| what happens to the holder | | ours | keepalived |");
    println!("| --- | --- | ---: | ---: |");
    for scenario in
        scenarios().iter().filter(|it| words[1..].iter().all(|word| it.name.contains(word.as_str())))
    {
        let ours = measure(scenario, Maker::Ours, runs)?;
        let theirs = measure(scenario, Maker::Theirs, runs)?;
        let row = |what: &str, figure: &dyn Fn(&Figures) -> String| {
            println!("| {} | {what} | {} | {} |", scenario.name, figure(&ours), figure(&theirs));
        };
        row("outage, median, s", &|it| format!("{:.3}", median(&it.silences)));
        row("outage, worst, s", &|it| format!("{:.3}", it.silences.iter().copied().fold(0.0, f64::max)));
        row("changes of the host that answers", &|it| it.changes.to_string());
        if ours.both || theirs.both {
            row("address on both hosts afterwards", &|it| if it.both { "yes" } else { "no" }.to_owned());
        }
    }
    Ok(())
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

fn measure(scenario: &Scenario, maker: Maker, runs: usize) -> Result<Figures> {
    let cast = Cast { agent_c: maker, agent_d: maker, ..Cast::default() };
    let name = format!("failover-{maker:?}").to_lowercase();
    let pair = Pair::start(&name, cast, scenario.settings.clone())?;
    let mut figures = Figures::default();
    let stop = AtomicBool::new(false);
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let result = std::thread::scope(|scope| {
        for _ in 0..if scenario.busy { cores } else { 0 } {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let result = (0..runs).try_for_each(|run| {
            once(scenario, &pair, &mut figures)
                .with_context(|| format!("{} ({maker:?}), run {run}", scenario.name))
        });
        stop.store(true, Ordering::Relaxed);
        result
    });
    result?;
    pair.passed();
    Ok(figures)
}

fn once(scenario: &Scenario, pair: &Pair, figures: &mut Figures) -> Result<()> {
    if scenario.then == "C" {
        split(pair)?;
    }
    // Any phase of the adverts.
    let nanoseconds = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.subsec_nanos();
    std::thread::sleep(Duration::from_millis(u64::from(nanoseconds / 1000 % 1000)));
    let from = pair.record_end();
    let silence = pair.silence(scenario.then, PATIENCE, scenario.strike)?;
    eprintln!("{}: {silence:.3} s", scenario.name);
    figures.silences.push(silence);
    let alone = pair.stack.wait_holder(scenario.then, Duration::from_secs(5)).is_ok();
    figures.changes += pair.changes(from);
    figures.both |= !alone;
    (scenario.restore)(pair)?;
    pair.answers_from("C")?;
    pair.stack.wait_holder("C", Duration::from_secs(5))
}
