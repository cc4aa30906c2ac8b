//! `cargo xtask chaos`: a whole deployment under clients of several libraries while everything that can happen to it
//! happens, from one seed. Nothing that was confirmed may be lost, and nothing may come twice without its mark.

use crate::test;
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Instant;
use xtask::lab::network;
use xtask::lab::process::{read_lossy, run as call};
use xtask::traffic::{Client, Role, UNACCOUNTED};
use xtask::{install, root, target};

/// The deployments.
const LAYOUTS: [&str; 2] = ["two", "three"];
/// The crews that take part unless told otherwise, and where nobody wants to wait for their toolchains.
const CLIENTS: &str = "window,quorum,pika";
/// Those of our own client.
const OURS: [&str; 2] = ["window", "quorum"];
/// Words for many crews: ours and those of all libraries, and those of the libraries alone.
const ALL: &str = "all";
const LIBRARIES: &str = "libraries";
/// The page of `docs` with the usual clients, and that with any others.
const PAGE: &str = "chaos";
const OTHERS_PAGE: &str = "chaos-libraries";
/// What is said before the figures.
const INTRODUCTION: &str = "# Chaos\n\nA whole deployment, each program a process on a host of its own (a network namespace): \
brokers with mirrored queues, two proxies, two agents that keep one address. Publishers with confirms and consumers of several \
client libraries go through that address, each pair on a queue of its own; `window` and `quorum` are our own client with up to \
200 messages on their way, the second one on a quorum queue. Meanwhile faults come from a seed, alone and in pairs; after each \
everything has to become whole and messages have to flow again. Outage: the longest time that any of the publishers was without \
a confirm, from the last one before the fault; it contains what the client needs to notice and to connect again, and where the \
fault takes away what serves it (all hosts without power, a frozen proxy that holds the address), the fault itself. Lost: \
confirmed and never received, after everything was drained. What a power failure does to a disk's unwritten sectors is not \
here but in the simulator (`broker/sim`).\n";

/// What is said besides, where the clients are those of many libraries.
const OF_LIBRARIES: &str = "Some libraries do not notice while they wait for a confirm that their connection has ended \
(bunny, Celery's): their programs give up after five seconds, which is what many of the outages here are.\n";

/// What is asked for.
#[derive(Debug, PartialEq)]
struct Wanted<'a> {
    minutes: f64,
    seed: u64,
    layouts: Vec<&'a str>,
    clients: String,
    kinds: Vec<&'a str>,
    release: bool,
    resume: bool,
    again: bool,
    write: bool,
}

/// Runs it: `--minutes N --seed S [--layout two|three] [--clients NAME,…] [--fault TITLE]… [--release] [--resume]
/// [--again] [--write]`. `--again`: a deployment that did not come to its end goes on once more, unless a message was lost
/// or repeated.
/// Among the names, `all` stands for every crew and `libraries` for all but ours.
///
/// # Errors
/// A message was lost or repeated without its mark, or something did not become whole again.
pub(crate) fn run(words: &[&str]) -> Result<()> {
    let wanted = Wanted::parse(words)?;
    install::packages(&[install::NETWORK, install::FAULTS].concat())?;
    if let Err(why) = network::may() {
        bail!("chaos needs hosts of its own: {why}");
    }
    let programs = build(wanted.release)?;
    prepare(&wanted.clients)?;
    let mut sections = Vec::new();
    let mut failed = Vec::new();
    for layout in &wanted.layouts {
        let record = target().join("chaos").join(format!("{layout}-{}.record", wanted.seed));
        let record = record.to_str().context("the path of the record is not text")?;
        let seconds = wanted.minutes * 60.0 / wanted.layouts.len() as f64;
        let play = |resume: bool| -> Result<ExitStatus> {
            let mut command = test::isolated(&programs.join("chaos"))?;
            command.env("WARREN_BIN", &programs);
            command.args(["run", layout, &wanted.seed.to_string(), &seconds.to_string()]);
            command.args([&wanted.clients, record]).args(resume.then_some("--resume")).args(&wanted.kinds);
            command.status().context("start chaos")
        };
        let mut status = play(wanted.resume)?;
        if wanted.again && !status.success() && status.code() != Some(i32::from(UNACCOUNTED)) {
            println!("UNSTEADY: {layout} did not come to its end; once more");
            status = play(true)?;
        }
        if !status.success() {
            failed.push(*layout);
        }
        sections.push(report(&programs, &wanted, layout, record)?);
    }
    let remark = if wanted.page() == PAGE { String::new() } else { format!("\n{OF_LIBRARIES}") };
    let text = format!("{INTRODUCTION}{remark}\n{}\n{}", made_by(&wanted), sections.join("\n"));
    println!("\n{}", sections.join("\n"));
    ensure!(failed.is_empty(), "not everything went well with {}", failed.join(" and "));
    if wanted.write {
        let docs = root().join("docs");
        for layout in &wanted.layouts {
            let plot = wanted.plot(layout);
            std::fs::copy(target().join("chaos").join(&plot), docs.join(&plot))?;
        }
        let page = docs.join(format!("{}.md", wanted.page()));
        std::fs::write(&page, text)?;
        println!("wrote {}", page.display());
    }
    Ok(())
}

fn report(programs: &Path, wanted: &Wanted<'_>, layout: &str, record: &str) -> Result<String> {
    let plot = target().join("chaos").join(wanted.plot(layout));
    let mut command = Command::new(programs.join("chaos"));
    command.args(["report", layout, &wanted.seed.to_string(), &wanted.clients, record]).arg(plot);
    call(&mut command)
}

/// The command that made the figures, and on what.
fn made_by(wanted: &Wanted<'_>) -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = read_lossy(Path::new("/proc/sys/kernel/osrelease"));
    let profile = if wanted.release { "release" } else { "debug" };
    let clients =
        if wanted.page() == PAGE { String::new() } else { format!(" --clients {}", wanted.clients) };
    format!(
        "Written by `cargo xtask chaos --minutes {} --seed {}{clients} --write` with {profile} builds, on {cores} cores, \
         Linux {}.\n",
        wanted.minutes,
        wanted.seed,
        kernel.trim().split('-').next().unwrap_or_default()
    )
}

/// The names of crews in the place of the words for many; each once.
fn crews(words: &str) -> String {
    let mut names: Vec<&str> = Vec::new();
    for word in words.split(',') {
        if word == ALL {
            names.extend(OURS);
        }
        if [ALL, LIBRARIES].contains(&word) {
            names.extend(Client::ALL.map(Client::name));
        } else {
            names.push(word);
        }
    }
    let mut known = BTreeSet::new();
    names.retain(|name| known.insert(*name));
    names.join(",")
}

/// Installs and builds the client libraries: there is no network where they run.
fn prepare(names: &str) -> Result<()> {
    let start = Instant::now();
    // lapin's is built with the tests, beside ours.
    for name in names.split(',').filter(|name| !OURS.contains(name) && *name != Client::Lapin.name()) {
        let client = Client::ALL.into_iter().find(|it| it.name() == name);
        let client = client
            .with_context(|| format!("there is no client `{name}`, but {}", crews(ALL).replace(',', ", ")))?;
        client.command(Role::Publish, |program| Command::new(program))?;
    }
    println!("the clients were ready after {:.0} s", start.elapsed().as_secs_f64());
    Ok(())
}

/// Builds all programs and returns their folder.
fn build(release: bool) -> Result<PathBuf> {
    if !release {
        // With what the tests need: the same features, so that nothing is built twice.
        test::build()?;
        return Ok(target().join("debug"));
    }
    xtask::build_programs("release")?;
    Ok(target().join("release"))
}

impl<'a> Wanted<'a> {
    /// The page of `docs` that is written: the usual clients have one, any others another.
    fn page(&self) -> &'static str {
        if self.clients == CLIENTS { PAGE } else { OTHERS_PAGE }
    }

    fn plot(&self, layout: &str) -> String {
        format!("{}-{layout}.svg", self.page())
    }

    fn parse(words: &[&'a str]) -> Result<Self> {
        let mut wanted = Self {
            minutes: 5.0,
            seed: 1,
            layouts: LAYOUTS.to_vec(),
            clients: CLIENTS.to_owned(),
            kinds: Vec::new(),
            release: false,
            resume: false,
            again: false,
            write: false,
        };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().copied().with_context(|| format!("{word} needs a value"));
            match *word {
                "--minutes" => wanted.minutes = value()?.parse().context("read --minutes")?,
                "--seed" => wanted.seed = value()?.parse().context("read --seed")?,
                "--layout" => {
                    let name = value()?;
                    ensure!(LAYOUTS.contains(&name), "`--layout` takes `two` or `three`, not `{name}`");
                    wanted.layouts = vec![name];
                }
                "--clients" => wanted.clients = crews(value()?),
                "--fault" => wanted.kinds.push(value()?),
                "--release" => wanted.release = true,
                "--resume" => wanted.resume = true,
                "--again" => wanted.again = true,
                "--write" => wanted.write = true,
                _ => bail!(
                    "`chaos` takes --minutes, --seed, --layout, --clients, --fault, --release, --resume, --again and \
                     --write, not `{word}`"
                ),
            }
        }
        ensure!(wanted.minutes > 0.0 && wanted.minutes <= 600.0, "between a moment and ten hours");
        Ok(wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_deployments_take_part_unless_told_otherwise() {
        let wanted =
            Wanted::parse(&["--minutes", "60", "--seed", "7", "--release", "--fault", "slow disk"]).unwrap();
        assert_eq!((wanted.layouts.len(), wanted.seed, wanted.release), (2, 7, true));
        assert_eq!((wanted.page(), wanted.plot("two").as_str()), ("chaos", "chaos-two.svg"));
        assert_eq!(wanted.kinds, ["slow disk"]);
        assert_eq!(Wanted::parse(&["--layout", "two"]).unwrap().layouts, ["two"]);
        for (words, count) in [("all", 11), ("libraries", 9), ("window,libraries,pika", 10), ("pika", 1)] {
            let wanted = Wanted::parse(&["--clients", words]).unwrap();
            assert_eq!(wanted.clients.split(',').count(), count, "{}", wanted.clients);
            assert_eq!(
                (wanted.page(), wanted.plot("two").as_str()),
                ("chaos-libraries", "chaos-libraries-two.svg")
            );
        }
        for wrong in [&["--layout", "four"][..], &["--minutes", "0"], &["--seed"], &["nonsense"]] {
            assert!(Wanted::parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
