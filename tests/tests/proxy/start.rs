//! What a person is told when the balancer cannot start.

use harness::node::free_port;
use harness::programs;
use harness::ready;
use harness::scratch::Scratch;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use xtask::lab::Process;
use xtask::lab::process::{read_lossy, run};
use xtask::lab::wait::until_true;
use xtask::stack::{Cast, Maker};

/// Runs the balancer on a configuration that it must refuse and returns what it said.
fn refused(name: &str, config: &str, arguments: &[&str]) -> Option<String> {
    if Cast::from_environment().proxy == Maker::Theirs {
        return None;
    }
    let scratch = Scratch::new(name).unwrap();
    let file = scratch.path().join("haproxy.cfg");
    std::fs::write(&file, config).unwrap();
    let output =
        Command::new(programs::folder().join("proxy")).args(arguments).arg("-f").arg(&file).output().unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(!output.status.success(), "{text}");
    scratch.passed();
    Some(text)
}

#[test]
fn a_port_in_use_is_named() {
    let port = free_port().unwrap();
    let _taken = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    let config = format!("{DEFAULTS}listen x\n    bind 127.0.0.1:{port}\n    server a 127.0.0.1:1\n");
    let Some(text) = refused("proxy-port-in-use", &config, &[]) else { return };
    assert!(text.contains(&port.to_string()) && text.contains("in use"), "{text}");
}

#[test]
fn an_unknown_setting_is_shown_with_its_line_and_the_nearest_word() {
    let config = format!("{DEFAULTS}listen x\n    bind 127.0.0.1:1\n    balnce roundrobin\n");
    let Some(text) = refused("proxy-unknown-setting", &config, &["--check"]) else { return };
    for part in ["haproxy.cfg:8", "balnce", "balance"] {
        assert!(text.contains(part), "`{part}` is missing in: {text}");
    }
}

#[test]
fn a_missing_file_is_named() {
    if Cast::from_environment().proxy == Maker::Theirs {
        return;
    }
    let output =
        Command::new(programs::folder().join("proxy")).args(["-f", "/no/such.cfg"]).output().unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(!output.status.success() && text.contains("/no/such.cfg"), "{text}");
}

/// A network namespace of this test, which goes with it.
struct Namespace(String);

impl Namespace {
    fn new() -> Self {
        let own = Self(format!("proxy-bind-{}", std::process::id()));
        run(Command::new("ip").args(["netns", "add", &own.0])).unwrap();
        run(Command::new("ip").args(["-n", &own.0, "link", "set", "lo", "up"])).unwrap();
        own
    }

    /// What a web page inside answers.
    fn page(&self, port: u16) -> String {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.0, "curl", "-s", "--max-time", "5"]);
        run(command.arg(format!("http://127.0.0.1:{port}/monitor"))).unwrap_or_default()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = run(Command::new("ip").args(["netns", "del", &self.0]));
    }
}

#[test]
fn an_address_of_another_network_namespace_is_listened_on_there() {
    if !ready("bind in a namespace beside haproxy", super::NEEDS) {
        return;
    }
    let (scratch, namespace) = (Scratch::new("proxy-namespace").unwrap(), Namespace::new());
    for (name, program) in [("ours", programs::folder().join("proxy")), ("haproxy", "haproxy".into())] {
        let [inside, outside] = [free_port().unwrap(), free_port().unwrap()];
        let config = format!(
            "{DEFAULTS}listen page\n    mode http\n    bind 127.0.0.1:{inside} namespace {}\n    \
             bind 127.0.0.1:{outside}\n    stats enable\n    stats uri /monitor\n",
            namespace.0
        );
        let file = scratch.path().join(format!("{name}.cfg"));
        std::fs::write(&file, config).unwrap();
        let mut command = Command::new(program);
        command.args(["-db", "-f"]).arg(&file);
        let _balancer = Process::spawn(name, command, &file.with_extension("log")).unwrap();
        let listens = |port| TcpStream::connect(("127.0.0.1", port)).is_ok();
        until_true(Duration::from_secs(10), "the page outside", || listens(outside)).unwrap();
        assert!(namespace.page(inside).contains("Statistics Report"), "{name}: {}", namespace.page(inside));
        assert_eq!(namespace.page(outside), "", "{name}");
        assert!(!listens(inside), "{name}");
    }
    drop(namespace);
    scratch.passed();
}

/// The processors that a task may use, as the kernel lists them: `0-3,6`.
fn processors_of(task: &Path) -> String {
    let status = read_lossy(&task.join("status"));
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    list.unwrap_or_default().trim().to_owned()
}

/// Those of each worker of a process.
fn processors_of_workers(pid: u32) -> Vec<String> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().map(|task| task.unwrap().path());
    let workers = tasks.filter(|task| read_lossy(&task.join("comm")).starts_with("worker-"));
    let mut lists: Vec<String> = workers.map(|task| processors_of(&task)).collect();
    lists.sort();
    lists
}

/// How many processors a list names.
fn count(list: &str) -> usize {
    let number = |word: &str| word.parse::<usize>().unwrap();
    let of = |part: &str| part.split_once('-').map_or(1, |(first, last)| number(last) + 1 - number(first));
    list.split(',').map(of).sum()
}

#[test]
fn every_worker_has_a_processor_of_its_own_unless_told_otherwise() {
    if Cast::from_environment().proxy == Maker::Theirs {
        return;
    }
    let count = count(&processors_of(Path::new("/proc/self")));
    if !(2..64).contains(&count) {
        println!("skipped: with {count} processors there is nothing to tell, or too much");
        return;
    }
    let scratch = Scratch::new("proxy-processors").unwrap();
    for (name, global, own) in [
        ("as-many", format!("nbthread {count}"), true),
        ("more", format!("nbthread {}", count + 1), false),
        ("told", format!("nbthread {count}\n    no numa-cpu-mapping"), false),
        ("mapped", format!("nbthread {count}\n    cpu-map 1 0"), false),
    ] {
        let port = free_port().unwrap();
        let config = format!("global\n    {global}\n{DEFAULTS}listen x\n    bind 127.0.0.1:{port}\n");
        let file = scratch.path().join(format!("{name}.cfg"));
        std::fs::write(&file, config).unwrap();
        let mut command = Command::new(programs::folder().join("proxy"));
        command.arg("-f").arg(&file);
        let balancer = Process::spawn(name, command, &file.with_extension("log")).unwrap();
        until_true(Duration::from_secs(10), "the port", || TcpStream::connect(("127.0.0.1", port)).is_ok())
            .unwrap();
        let mut lists = processors_of_workers(balancer.pid());
        let all = lists.len();
        lists.dedup();
        let single = lists.iter().all(|list| list.parse::<usize>().is_ok());
        assert_eq!(lists.len() == all && single, own, "{name}: {lists:?} of {all}");
    }
    scratch.passed();
}

const DEFAULTS: &str =
    "defaults\n    mode tcp\n    timeout connect 1s\n    timeout client 1s\n    timeout server 1s\n";
