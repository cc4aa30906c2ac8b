//! The official client libraries: each runs the scenarios of `tests/clients/scenarios.txt` with its own program,
//! and each comes back after the death of its broker.

use crate::node;
use harness::node::{Node, Setup};
use harness::scratch::Scratch;
use harness::{Needs, ready};
use std::time::Duration;
use xtask::lab::Process;
use xtask::lab::wait::until_true;
use xtask::libraries::{JAVA_VERSIONS, Library};

/// How long a program may take on a machine that has much else to do.
const LIMIT: Duration = Duration::from_secs(180);

/// A program that runs, and where it writes.
fn start(library: Library, name: &str, scratch: &Scratch, arguments: &[&str]) -> Process {
    let mut command = library.program().unwrap();
    command.args(arguments);
    Process::spawn(name, command, &scratch.path().join(format!("{name}.log"))).unwrap()
}

fn succeeds(program: &mut Process) {
    let status = program.wait(LIMIT);
    program.kill();
    assert!(status.unwrap().success(), "{} failed:\n{}", program.name(), program.log());
}

/// The lines `ok NAME` of a program's output.
fn passed(log: &str) -> Vec<&str> {
    log.lines().filter_map(|line| line.strip_prefix("ok ")).collect()
}

/// Runs a library's program with the shared broker: it has to pass the scenarios that it knows, in order.
fn runs(library: Library, test: &str, scenarios: &[&str]) {
    if !ready(test, &[Needs::Library(library)]) {
        return;
    }
    let scratch = Scratch::new(&format!("conformance-{test}")).unwrap();
    let mut program = start(library, test, &scratch, &["scenarios", &node().url()]);
    succeeds(&mut program);
    assert_eq!(passed(&program.log()), scenarios);
    drop(program);
    scratch.passed();
}

fn all() -> Vec<&'static str> {
    include_str!("../../clients/scenarios.txt").lines().collect()
}

#[test]
fn pika_passes_every_scenario() {
    runs(Library::Pika, "pika", &all());
}

#[test]
fn amqplib_passes_every_scenario() {
    // It has no transactions.
    let known: Vec<&str> = all().into_iter().filter(|it| *it != "transactions").collect();
    runs(Library::Amqplib, "amqplib", &known);
}

#[test]
fn amqp091_go_passes_every_scenario() {
    runs(Library::Go, "amqp091-go", &all());
}

#[test]
fn the_java_client_of_the_tutorial_passes_every_scenario() {
    runs(Library::Java(JAVA_VERSIONS[0]), "java-tutorial", &all());
}

#[test]
fn the_newest_java_client_passes_every_scenario() {
    runs(Library::Java(JAVA_VERSIONS[1]), "java-newest", &all());
}

#[test]
fn celery_runs_tasks_and_survives_a_killed_worker() {
    runs(Library::Celery, "celery", &["kombu", "result", "countdown", "retry", "control", "acks_late"]);
}

#[test]
fn the_java_client_recovers_from_a_forced_close() {
    for version in JAVA_VERSIONS {
        let name = format!("java-{version}-forced");
        if !ready(&name, &[Needs::Library(Library::Java(version))]) {
            return;
        }
        let scratch = Scratch::new(&format!("conformance-{name}")).unwrap();
        let api = format!("http://127.0.0.1:{}", node().management_port);
        let mut program = start(Library::Java(version), &name, &scratch, &["forced", &node().url(), &api]);
        succeeds(&mut program);
        assert_eq!(passed(&program.log()), ["forced"]);
        drop(program);
        scratch.passed();
    }
}

#[test]
fn every_library_comes_back_after_kill_9_of_the_broker() {
    let libraries: Vec<Library> = Library::ALL.into_iter().filter(|it| *it != Library::Celery).collect();
    let needs: Vec<Needs> = libraries.iter().map(|it| Needs::Library(*it)).collect();
    if !ready("clients that come back", &needs) {
        return;
    }
    let scratch = Scratch::new("conformance-recover").unwrap();
    let broker = Node::start_with(scratch.path(), &Setup::default()).unwrap();
    let url = broker.url();
    let (sender, lapin_ready) = std::sync::mpsc::channel();
    let lapin = std::thread::spawn({
        let url = url.clone();
        move || crate::lapin::recover(&url, || sender.send(()).unwrap())
    });
    let start = |library: &Library| {
        start(*library, &format!("{library:?}").replace(['(', ')', '"'], ""), &scratch, &["recover", &url])
    };
    let mut programs: Vec<Process> = libraries.iter().map(start).collect();
    until_true(LIMIT, "every client to have a message confirmed", || {
        for program in &mut programs {
            let alive = program.is_running();
            assert!(alive, "{} ended:\n{}", program.name(), program.log());
        }
        programs.iter().all(|it| it.log().lines().any(|line| line == "ready"))
    })
    .unwrap();
    lapin_ready.recv_timeout(LIMIT).unwrap();
    let broker = broker.crash_and_restart().unwrap();
    for program in &mut programs {
        succeeds(program);
        assert_eq!(passed(&program.log()), ["recover"]);
    }
    lapin.join().unwrap();
    drop((programs, broker));
    scratch.passed();
}
