//! `cargo xtask test`: everything, in stages, with one line at the end.
//!
//! ```text
//! build      all packages with their tests, and the programs
//! unit       unit and property tests of every package
//! doc        the examples in the documentation
//! conformance ┐
//! broker      │
//! management  │
//! cluster     │
//! proxy       │ end to end, in network namespaces of their own
//! vip         │
//! stack       ┘
//! tutorial   the tutorial, step by step
//! ```
//!
//! The conformance tests also run against RabbitMQ: in CI, and by `cargo xtask test conformance --against
//! rabbitmq`. That is how their expectations are checked.

use crate::tutorial;
use anyhow::{Context, Result, bail, ensure};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::JoinHandle;
use std::time::Instant;
use xtask::install;
use xtask::lab::process;
use xtask::libraries::{self, Library};
use xtask::traffic::{Client, Role};
use xtask::{root, target};

/// The stages by name; `--only` picks one.
const STAGES: &[&str] =
    &["unit", "doc", "conformance", "broker", "management", "cluster", "proxy", "vip", "stack", TUTORIAL];

/// The stages that run whole programs, and how many of their tests run at once: most of their time is
/// waiting for timers.
const END_TO_END: &[(&str, usize)] = &[
    (CONFORMANCE, 16),
    ("broker", 4),
    ("management", 8),
    ("cluster", 2),
    ("proxy", 2),
    ("vip", 4),
    ("stack", 2),
];

/// The tests that hold for RabbitMQ too.
const CONFORMANCE: &str = "conformance";

/// `cargo xtask tutorial` as a stage.
const TUTORIAL: &str = "tutorial";

/// What the tests have shown so far.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: usize,
    failed: usize,
    ignored: usize,
    failures: Vec<String>,
    /// Tests that failed beside the others of their stage and passed alone.
    unsteady: Vec<String>,
    listing: Listing,
}

/// Which of libtest's lists is being read.
#[derive(Debug, Default, PartialEq, Eq)]
enum Listing {
    #[default]
    None,
    Successes,
    Failures,
}

/// Runs the stages, or the one called `only`. With `strict`, as in CI, a test that is skipped fails.
///
/// # Errors
/// Something failed; the summary was printed.
pub(crate) fn run(only: Option<&str>, strict: bool) -> Result<()> {
    if let Some(name) = only {
        ensure!(STAGES.contains(&name), "there is no group `{name}`: {}", STAGES.join(", "));
    }
    let strict = strict || std::env::var("CI").is_ok_and(|value| value == "true");
    let start = Instant::now();
    let picked = |name: &str| only.is_none_or(|it| it == name);
    let mut tally = Tally::default();
    let skips = skips();
    let _ = std::fs::remove_file(&skips);
    prepare(strict)?;
    if picked(CONFORMANCE) {
        libraries(strict)?;
    }
    if picked("management") {
        for outcome in [libraries::browser("pages.js"), libraries::http_client()] {
            had(strict, outcome)?;
        }
    }
    if picked("stack") {
        traffic(strict)?;
    }
    if picked(TUTORIAL) {
        had(strict, tutorial::prepare())?;
    }
    let mut debian = if picked("stack") { debian(strict)? } else { None };
    build()?;
    if picked("unit") {
        let mut command = cargo_test();
        command.args(["--lib", "--bins"]);
        for name in integration_tests()? {
            command.args(["--test", &name]);
        }
        if install::packages(install::PEERS).is_ok() {
            // What is ignored by default needs the original programs beside ours.
            command.args(["--", "--include-ignored"]);
        }
        stage("unit", &mut command, &mut tally)?;
    }
    if picked("doc") {
        stage("doc", cargo_test().arg("--doc"), &mut tally)?;
    }
    for (name, threads) in END_TO_END.iter().filter(|(name, _)| picked(name)) {
        let before = tally.failures.len();
        if *name == "stack"
            && let Some(made) = debian.take()
        {
            had(strict, made.join().unwrap_or_else(|_| bail!("it panicked")))?;
        }
        stage(name, &mut end_to_end(name, *threads, strict)?, &mut tally)?;
        again(name, strict, before, &mut tally)?;
        if strict && *name == CONFORMANCE {
            against_rabbitmq(strict, &mut tally)?;
        }
    }
    if picked(TUTORIAL) {
        tutorial_stage(&mut tally)?;
    }
    summary(&tally, &process::read_lossy(&skips), strict, start)
}

/// The tutorial in a process of its own, in namespaces as the tests have them.
fn tutorial_stage(tally: &mut Tally) -> Result<()> {
    let me = target().join("debug/xtask");
    let runner = runner(&me)?;
    let mut command = match &runner[..] {
        [] => Command::new(&me),
        [first, rest @ ..] => {
            let mut command = Command::new(first);
            command.args(rest).arg(&me);
            command
        }
    };
    command.arg(TUTORIAL).env("WARREN_BIN", target().join("debug")).current_dir(root());
    stage(TUTORIAL, &mut command, tally)
}

/// Begins to make what the tests of the packages need, beside everything that comes before them.
fn debian(strict: bool) -> Result<Option<JoinHandle<Result<()>>>> {
    // Installed now: whatever else is installed later would find apt's lock taken.
    if had(strict, install::packages(install::BOOTSTRAP))?.is_none() {
        return Ok(None);
    }
    Ok(Some(std::thread::spawn(|| install::cargo_deb().and_then(|()| install::debian_root().map(drop)))))
}

/// The command that runs the end-to-end tests of this name.
fn end_to_end(name: &str, threads: usize, strict: bool) -> Result<Command> {
    let mut command = cargo_test();
    command.args(["--test", name, "--", "--show-output"]);
    command.arg(format!("--test-threads={threads}"));
    command.env("WARREN_BIN", target().join("debug")).env("WARREN_SKIPS", skips());
    if strict {
        command.env("WARREN_NO_SKIP", "1");
    }
    isolate(&mut command)?;
    Ok(command)
}

/// The file in which tests that cannot run say so.
fn skips() -> PathBuf {
    target().join("skipped.txt")
}

/// The conformance tests with RabbitMQ in the role of our broker.
fn against_rabbitmq(strict: bool, tally: &mut Tally) -> Result<()> {
    install::packages(install::RABBITMQ)?;
    // Each start of a RabbitMQ takes seconds of both cores: more at once run into each other's patience.
    let mut command = end_to_end(CONFORMANCE, 6, strict)?;
    stage("conformance (RabbitMQ)", command.env("WARREN_THEIRS", "broker"), tally)
}

/// `cargo xtask test conformance --against rabbitmq`: nothing of ours is built but the tests.
fn only_against_rabbitmq() -> Result<()> {
    let start = Instant::now();
    let mut tally = Tally::default();
    let _ = std::fs::remove_file(skips());
    libraries(false)?;
    against_rabbitmq(false, &mut tally)?;
    summary(&tally, &process::read_lossy(&skips()), false, start)
}

/// `cargo xtask test crash --kills N`: the broker is killed so often while messages go through it.
fn crash(kills: usize) -> Result<()> {
    let start = Instant::now();
    let mut tally = Tally::default();
    let _ = std::fs::remove_file(skips());
    prepare(true)?;
    build()?;
    let mut command = end_to_end("broker", 1, true)?;
    command.arg("every_confirmed_message_survives_kill_9").env("WARREN_KILLS", kills.to_string());
    stage("crash", &mut command, &mut tally)?;
    summary(&tally, &process::read_lossy(&skips()), true, start)
}

/// What tests need, or a note that it cannot be had: they say themselves what they skip. With `strict` that is an
/// error.
fn had<T>(strict: bool, made: Result<T>) -> Result<Option<T>> {
    match made {
        Ok(made) => Ok(Some(made)),
        Err(error) if strict => Err(error),
        Err(error) => {
            println!("note: {error:#}");
            Ok(None)
        }
    }
}

/// Installs what the end-to-end tests need. What is missing makes tests be skipped, which they say.
fn prepare(strict: bool) -> Result<()> {
    let needs = [install::NETWORK, install::PEERS, install::HATOP, install::PROMETHEUS].concat();
    had(strict, install::packages(&needs))?;
    had(strict, install::python())?;
    Ok(())
}

/// Installs the official client libraries and builds what the conformance tests run with them: the tests have
/// no network but their own.
fn libraries(strict: bool) -> Result<()> {
    for library in Library::ALL {
        had(strict, library.program())?;
    }
    Ok(())
}

/// The same for the programs that publish and consume; the one in Rust is built with the tests.
fn traffic(strict: bool) -> Result<()> {
    for client in Client::ALL.into_iter().filter(|it| *it != Client::Lapin) {
        had(strict, client.command(Role::Publish, |program| Command::new(program)))?;
    }
    Ok(())
}

/// Builds the programs and all tests in one go. Whatever is run later is picked from the whole workspace too:
/// another selection of packages has other features, and cargo would build everything once more.
pub(crate) fn build() -> Result<()> {
    println!("── build");
    let arguments = ["build", "--quiet", "--workspace", "--lib", "--bins", "--tests"];
    let status = xtask::cargo().args(arguments).current_dir(root()).status().context("start cargo")?;
    ensure!(status.success(), "`cargo {}` failed", arguments.join(" "));
    Ok(())
}

fn cargo_test() -> Command {
    let mut command = xtask::cargo();
    command.args(["test", "--no-fail-fast", "--quiet", "--workspace"]).current_dir(root());
    command
}

/// The names of the integration tests that stand beside the packages they test, as opposed to the end-to-end
/// tests in `tests`: `proxy/tests/reload.rs` is `reload`, `broker/tests/tls/main.rs` is `tls`.
fn integration_tests() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for package in ["broker", "proxy", "vip-agent", "xtask"] {
        let Ok(entries) = std::fs::read_dir(root().join(package).join("tests")) else { continue };
        for entry in entries {
            let path = entry?.path();
            if path.extension().is_some_and(|it| it == "rs") || path.join("main.rs").exists() {
                names.extend(path.file_stem().and_then(|it| it.to_str()).map(str::to_owned));
            }
        }
    }
    Ok(names)
}

/// Lets the test binaries of a cargo command run in namespaces of their own, where that is allowed.
fn isolate(command: &mut Command) -> Result<()> {
    // Not `current_exe`: the build has put a new file in the place of the running one.
    let runner = runner(&target().join("debug/xtask"))?;
    if !runner.is_empty() {
        let triple = host_triple()?.to_uppercase().replace(['-', '.'], "_");
        command.env(format!("CARGO_TARGET_{triple}_RUNNER"), runner.join(" "));
    }
    Ok(())
}

/// A command that runs in namespaces of its own, where that is allowed.
///
/// # Errors
/// The path of this program is not text.
pub(crate) fn isolated(program: &Path) -> Result<Command> {
    let runner = runner(&target().join("debug/xtask"))?;
    let Some((first, rest)) = runner.split_first() else { return Ok(Command::new(program)) };
    let mut command = Command::new(first);
    command.args(rest).arg(program);
    Ok(command)
}

/// The words before a command that is to run so; none where it is not allowed. `me` is this program.
fn runner(me: &Path) -> Result<Vec<String>> {
    let mut runner = vec!["unshare"];
    if !nix::unistd::geteuid().is_root() {
        runner.extend(["--user", "--map-root-user"]);
    }
    runner.extend(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"]);
    if process::run(Command::new(runner[0]).args(&runner[1..]).arg("true")).is_err() {
        return Ok(Vec::new());
    }
    runner.extend([me.to_str().context("the path of xtask is not text")?, "inside"]);
    Ok(runner.into_iter().map(str::to_owned).collect())
}

/// `cargo xtask inside PROGRAM…`: the inner half of [`runner`]. Gives the namespace a private `/run` and a
/// loopback interface, and becomes the program.
///
/// # Errors
/// The program cannot be started.
pub(crate) fn inside(words: &[&str]) -> Result<()> {
    use std::os::unix::process::CommandExt;
    let [program, arguments @ ..] = words else { bail!("`inside` needs a program") };
    process::run(Command::new("mount").args(["-t", "tmpfs", "tmpfs", "/run"]))?;
    process::run(Command::new("ip").args(["link", "set", "lo", "up"]))?;
    Err(anyhow::Error::new(Command::new(program).args(arguments).exec()).context(format!("start {program}")))
}

fn host_triple() -> Result<String> {
    let text = process::run(Command::new("rustc").arg("-vV"))?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("rustc does not tell its host")
}

/// Runs one stage, shows its output and counts its results.
fn stage(name: &str, command: &mut Command, tally: &mut Tally) -> Result<()> {
    println!("── {name}");
    let (start, busy) = (Instant::now(), processor_seconds());
    let before = tally.passed + tally.failed;
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("start {}", process::describe(command)))?;
    let output = child.stdout.take().context("the tests have no output")?;
    let failed_before = tally.failed;
    for line in BufReader::new(output).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        if count(&line, name, tally) {
            println!("{line}");
        }
    }
    let status = child.wait()?;
    if !status.success() && tally.failed == failed_before {
        tally.failed += 1;
        tally.failures.push(format!("{name}: ended with {status}"));
    }
    let seconds = start.elapsed().as_secs_f64();
    let busy = processor_seconds() - busy;
    println!(
        "   {} tests in {seconds:.0} s, {busy:.0} s of processors",
        tally.passed + tally.failed - before
    );
    Ok(())
}

/// Processor time of all children that have ended; what a stage leaves unused of two cores could be another stage's.
fn processor_seconds() -> f64 {
    use nix::sys::time::TimeValLike;
    let Ok(usage) = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_CHILDREN) else {
        return 0.0;
    };
    (usage.user_time() + usage.system_time()).num_milliseconds() as f64 / 1000.0
}

/// Failed tests of a stage that are run once more.
const SECOND_CHANCES: usize = 3;

/// Runs the failed tests of an end-to-end stage once more, each alone: whole programs with real clocks on a machine
/// that is busy can miss a deadline. What passes then does not fail the run; the summary names it, because it is a
/// test or a program to be looked at. When more than a few fail, something is broken, and nothing is run again.
fn again(name: &str, strict: bool, before: usize, tally: &mut Tally) -> Result<()> {
    let failed = tally.failures.split_off(before.min(tally.failures.len()));
    if failed.len() > SECOND_CHANCES {
        tally.failures.extend(failed);
        return Ok(());
    }
    for failure in failed {
        let Some(test) = failure.strip_prefix(&format!("{name}: ")).filter(|test| !test.contains(' ')) else {
            tally.failures.push(failure);
            continue;
        };
        let mut alone = Tally::default();
        let mut command = end_to_end(name, 1, strict)?;
        command.args(["--exact", test]);
        stage(&format!("{name}, once more: {test}"), &mut command, &mut alone)?;
        if alone.failed == 0 && alone.passed == 1 {
            tally.failed -= 1;
            tally.passed += 1;
            tally.unsteady.push(failure);
        } else {
            tally.failures.push(failure);
        }
    }
    Ok(())
}

/// Takes the numbers from a line of libtest's output; whether the line is worth showing.
fn count(line: &str, stage: &str, tally: &mut Tally) -> bool {
    if let Some(rest) = line.strip_prefix("test result: ") {
        let number = |word: &str| -> usize {
            let before = rest.split(word).next().unwrap_or_default().trim_end();
            before.rsplit([' ', '.']).next().and_then(|digits| digits.parse().ok()).unwrap_or(0)
        };
        tally.listing = Listing::None;
        tally.passed += number(" passed");
        tally.failed += number(" failed");
        tally.ignored += number(" ignored");
        return false;
    }
    if let Some((passed, failed)) = closing(line) {
        tally.passed += passed;
        tally.failed += failed;
        return true;
    }
    if let Some(step) = line.strip_prefix("  FAIL ") {
        tally.failures.push(format!("{stage}: {step}"));
    }
    match line {
        "successes:" => tally.listing = Listing::Successes,
        "failures:" => tally.listing = Listing::Failures,
        _ => {}
    }
    // Each list of names stands behind the outputs of its tests, indented; these may be indented, too.
    let is_name = |name: &&str| {
        name.chars().all(|it| it.is_alphanumeric() || it == '_' || it == ':') && !name.is_empty()
    };
    if let Some(name) = line.strip_prefix("    ").filter(is_name) {
        if tally.listing == Listing::Successes {
            return false;
        }
        let failure = format!("{stage}: {name}");
        if tally.listing == Listing::Failures && !tally.failures.contains(&failure) {
            tally.failures.push(failure);
        }
    }
    let quiet = line.is_empty()
        || line.starts_with("running ")
        || line.starts_with("successes:")
        || line.starts_with("---- ")
        || is_progress(line)
        || is_log(line);
    !quiet
}

/// The numbers of a line `N passed, N failed`, which is how the tutorial closes.
fn closing(line: &str) -> Option<(usize, usize)> {
    let (passed, failed) = line.split_once(" passed, ")?;
    Some((passed.parse().ok()?, failed.strip_suffix(" failed")?.parse().ok()?))
}

/// Whether a line is libtest's row of dots, perhaps with a count behind it.
fn is_progress(line: &str) -> bool {
    let dots = line.trim_end_matches(|it: char| it.is_ascii_digit() || it == '/' || it == ' ');
    !dots.is_empty() && dots.chars().all(|it| it == '.' || it == 'F' || it == 'i')
}

/// Whether a line is one of a daemon's log, which a test that runs one in its own process cannot keep back.
fn is_log(line: &str) -> bool {
    let line = line.trim_start_matches('.').as_bytes();
    line.len() > 9
        && line[..8].iter().enumerate().all(|(index, it)| match index {
            2 | 5 => *it == b':',
            _ => it.is_ascii_digit(),
        })
}

fn summary(tally: &Tally, skips: &str, strict: bool, start: Instant) -> Result<()> {
    println!("──");
    for failure in &tally.failures {
        println!("FAILED: {failure}");
    }
    for test in &tally.unsteady {
        println!("UNSTEADY: {test} failed beside the others and passed alone");
    }
    for skip in skips.lines() {
        println!("SKIPPED: {skip}");
    }
    let skipped = skips.lines().count() + tally.ignored;
    // A test that skips itself has passed in libtest's eyes.
    let passed = tally.passed.saturating_sub(skips.lines().count());
    println!("{:.0} s", start.elapsed().as_secs_f64());
    println!("{passed} passed, {} failed, {skipped} skipped", tally.failed);
    ensure!(tally.failed == 0, "{} tests failed", tally.failed);
    ensure!(!strict || skipped == 0, "nothing may be skipped here");
    Ok(())
}

/// `cargo xtask test` with its arguments.
///
/// # Errors
/// As [`run`].
pub(crate) fn command(words: &[&str]) -> Result<()> {
    match words {
        [] => run(None, false),
        ["--only", name] | [name] if !name.starts_with('-') => run(Some(name), false),
        [CONFORMANCE, "--against", "rabbitmq"] => only_against_rabbitmq(),
        ["crash", "--kills", kills] => crash(kills.parse().with_context(|| format!("`{kills}` kills"))?),
        _ => bail!(
            "`test` takes `GROUP` ({}), `{CONFORMANCE} --against rabbitmq` or `crash --kills N`, not `{}`",
            STAGES.join(", "),
            words.join(" ")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_results_of_libtest_are_added_up() {
        let mut tally = Tally::default();
        for line in ["successes:", "    ours::a_good_test", "failures:", "    ours::holder_loses_power"] {
            count(line, "vip", &mut tally);
        }
        let line =
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.1s";
        assert!(!count(line, "unit", &mut tally));
        count("test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured", "vip", &mut tally);
        count("    ],", "vip", &mut tally);
        count("    ours::holder_loses_power", "vip", &mut tally);
        assert_eq!((tally.passed, tally.failed, tally.ignored), (14, 1, 1));
        assert_eq!(tally.failures, ["vip: ours::holder_loses_power"]);
    }

    #[test]
    fn the_closing_line_of_the_tutorial_is_counted() {
        let mut tally = Tally::default();
        assert!(count("71 passed, 2 failed", "tutorial", &mut tally));
        assert!(count("  ok   [A]# rabbitmqctl list_users  (0.1 s)", "tutorial", &mut tally));
        assert!(count("  FAIL holder C  (30.0 s)", "tutorial", &mut tally));
        assert_eq!((tally.passed, tally.failed), (71, 2));
        assert_eq!(tally.failures, ["tutorial: holder C  (30.0 s)"]);
    }

    #[test]
    fn measured_outages_are_shown_and_dots_are_not() {
        let mut tally = Tally::default();
        assert!(count("agent stopped: outage 0.65 s", "vip", &mut tally));
        assert!(!count("..............", "vip", &mut tally));
        assert!(!count("running 15 tests", "vip", &mut tally));
        assert!(!count("...08:01:21 info  node started", "unit", &mut tally));
        assert_eq!(tally, Tally::default());
    }

    #[test]
    fn an_unknown_group_is_refused_with_the_known_ones() {
        let error = run(Some("nothing"), false).unwrap_err().to_string();
        assert!(error.contains("stack"), "{error}");
    }
}
