//! The process that owns the running stack: starts it, shows it, serves requests, takes it down.

use super::follow::Follow;
use super::{folder, request, start_time};
use anyhow::{Context, Result, bail};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use xtask::lab::network;
use xtask::stack::{BALANCERS, BROKERS, CLIENT, Cast, Maker, Place, Stack, VIP, WITNESS};
use xtask::{root, target};

/// Between two looks at logs and requests.
const TICK: Duration = Duration::from_millis(100);

/// Between two looks at who holds the address: each costs two short processes.
const HOLDER_INTERVAL: Duration = Duration::from_millis(500);

/// The octet of the machine itself on the hosts' network.
const MACHINE: u8 = 1;

struct Supervisor {
    stack: Stack,
    follow: Follow,
    holders: Vec<&'static str>,
    off: BTreeSet<String>,
    /// The processes seen at the last look, by host and role.
    pids: BTreeMap<(&'static str, &'static str), u32>,
    looked: bool,
    /// What to know about the place: whether the machine is on the network, or why there is no address.
    remarks: Vec<String>,
    reachable: bool,
    /// A and B are one cluster.
    clustered: bool,
}

/// Runs the stack until a signal or a `down` request.
pub(super) fn run(theirs: &str) -> Result<()> {
    let stop = signals()?;
    let pid = std::process::id();
    let identity = format!("{pid} {}", start_time(pid).unwrap_or_default());
    std::fs::write(folder().join("supervisor.pid"), identity).context("write supervisor.pid")?;
    let mut supervisor = Supervisor::prepare(theirs)?;
    let outcome = supervisor.serve(&stop);
    println!("{}", supervisor.follow.note("taking everything down"));
    supervisor.stack.stop();
    supervisor.show();
    for name in ["supervisor.pid", "ready", "client"] {
        let _ = std::fs::remove_file(folder().join(name));
    }
    outcome
}

/// A flag that SIGINT, SIGTERM and SIGHUP raise. A handler, and not a blocked signal: what is started from
/// here would inherit the block and be deaf to SIGTERM.
fn signals() -> Result<Arc<AtomicBool>> {
    let raised = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        flag::register(signal, Arc::clone(&raised)).context("handle signals")?;
    }
    Ok(raised)
}

impl Supervisor {
    fn prepare(theirs: &str) -> Result<Self> {
        let mut remarks = Vec::new();
        let mut reachable = false;
        let place = match network::may() {
            Ok(()) => {
                let place = Place::network()?;
                if let Place::Network(network) = &place {
                    match network.add_machine(MACHINE) {
                        Ok(()) => reachable = std::env::var_os("WARREN_UP_INSIDE").is_none(),
                        Err(error) => remarks.push(format!("this machine is not on the network: {error:#}")),
                    }
                    std::fs::write(folder().join("client"), network.namespace(CLIENT))?;
                }
                place
            }
            Err(reason) => {
                remarks.push(format!("{reason}: running on loopback ports, without the floating address"));
                reachable = true;
                Place::Loopback
            }
        };
        let stack = Stack::new(place, Cast::theirs(theirs), &target().join("release"), &folder())?;
        let mut follow = Follow::new();
        follow.add(WITNESS, stack.log_path(WITNESS, "witness"));
        for (hosts, roles) in [(BROKERS, &["broker"][..]), (BALANCERS, &["proxy", "vip-agent", "check"][..])]
        {
            for host in hosts {
                for role in roles {
                    follow.add(host, stack.log_path(host, role));
                }
            }
        }
        Ok(Self {
            stack,
            follow,
            holders: Vec::new(),
            off: BTreeSet::new(),
            pids: BTreeMap::new(),
            looked: false,
            remarks,
            reachable,
            clustered: Cast::theirs(theirs).broker == Maker::Ours,
        })
    }

    fn serve(&mut self, stop: &AtomicBool) -> Result<()> {
        let started = Instant::now();
        if let Err(error) = self.stack.start().and_then(|()| self.stack.join()) {
            self.show();
            return Err(error);
        }
        self.look_at_holders();
        println!("{}", self.status(Some(started.elapsed())));
        std::fs::write(folder().join("status"), self.status(None))?;
        std::fs::write(folder().join("ready"), "")?;
        let mut looked = Instant::now();
        let mut down = false;
        while !stop.load(Ordering::Relaxed) {
            std::thread::sleep(TICK);
            self.show();
            self.stack.reap();
            request::answer(&folder(), |what| self.request(what, &mut down));
            if down {
                return Ok(());
            }
            if looked.elapsed() >= HOLDER_INTERVAL {
                looked = Instant::now();
                self.look_at_holders();
                self.look_at_processes();
                let _ = std::fs::write(folder().join("status"), self.status(None));
            }
        }
        Ok(())
    }

    fn show(&mut self) {
        for line in self.follow.lines() {
            println!("{line}");
        }
    }

    fn request(&mut self, what: &str, down: &mut bool) -> Result<String> {
        let text = match what.split_once(' ') {
            Some(("kill", host)) => {
                if !self.off.insert(host.to_owned()) {
                    bail!("{host} has no power already");
                }
                self.stack.power_off(host)?;
                format!("{host} has no power")
            }
            Some(("revive", host)) => {
                if !self.off.remove(host) {
                    bail!("{host} has power");
                }
                self.stack.power_on(host)?;
                format!("{host} is back")
            }
            None if what == "down" => {
                *down = true;
                return Ok(String::new());
            }
            _ => bail!("unknown request `{what}`"),
        };
        println!("{}", self.follow.note(&text));
        std::fs::write(folder().join("status"), self.status(None))?;
        Ok(format!("{text}\n"))
    }

    fn look_at_holders(&mut self) {
        let now = self.stack.holders();
        if now != self.holders {
            let before = std::mem::replace(&mut self.holders, now);
            if self.stack.place().has_vip() && !before.is_empty() {
                let line = format!("{VIP}: {} (was {})", names(&self.holders), names(&before));
                println!("{}", self.follow.note(&line));
            }
        }
    }

    /// Tells of programs that ended without being asked to, and of those that came back.
    fn look_at_processes(&mut self) {
        for host in BROKERS.into_iter().chain(BALANCERS) {
            for role in self.roles(host) {
                let now = if self.off.contains(host) { None } else { self.stack.pid(host, role) };
                let before = match now {
                    Some(pid) => self.pids.insert((host, role), pid),
                    None => self.pids.remove(&(host, role)),
                };
                let line = match (before, now) {
                    (Some(_), None) if !self.off.contains(host) => format!("{role} on {host} ended"),
                    (Some(old), Some(new)) if old != new => format!("{role} on {host} was started again"),
                    (None, Some(_)) if self.looked => format!("{role} on {host} runs"),
                    _ => continue,
                };
                println!("{}", self.follow.note(&line));
            }
        }
        self.looked = true;
    }

    /// The box that people read.
    fn status(&self, took: Option<Duration>) -> String {
        let place = self.stack.place();
        let vip = place.has_vip();
        let entry = if vip { VIP.to_owned() } else { place.address("C") };
        let mut text = String::from("\n");
        if let Some(took) = took {
            let _ = writeln!(text, "  the stack is up after {:.1} s\n", took.as_secs_f64());
        }
        let _ = writeln!(text, "  AMQP        amqp://laosun:123456@{entry}:5672/%2Flagou");
        if vip {
            let _ = writeln!(text, "  address     {VIP} on {}", names(&self.holders));
        }
        for host in BROKERS {
            let state = self.state(host);
            let management = format!("http://{}:15672/", place.address(host));
            let _ = writeln!(text, "  {host}  broker    {:15}  {management:40} {state}", place.address(host));
        }
        for host in BALANCERS {
            let state = self.state(host);
            let monitor = format!("http://{}:8100/monitor", place.address(host));
            let _ = writeln!(text, "  {host}  balancer  {:15}  {monitor:40} {state}", place.address(host));
        }
        if self.clustered {
            let _ = writeln!(
                text,
                "  cluster     A and B, a witness on C; queues of /lagou are on both (ha-mode all)"
            );
        }
        text.push('\n');
        for remark in &self.remarks {
            let _ = writeln!(text, "  note        {remark}");
        }
        if !self.reachable {
            let _ = writeln!(text, "  from here   cargo xtask up --exec curl http://{VIP}:8100/monitor");
        }
        let python = target().join("venv/bin/python");
        let client =
            format!("{} tests/clients/hello.py", python.strip_prefix(root()).unwrap_or(&python).display());
        let before = if self.reachable { "" } else { "cargo xtask up --exec " };
        let _ = writeln!(text, "  try         {before}{client} amqp://laosun:123456@{entry}:5672/%2Flagou");
        let _ =
            writeln!(text, "  break it    cargo xtask up --kill C     and back: cargo xtask up --revive C");
        let _ =
            writeln!(text, "  stop        {}", if took.is_some() { "Ctrl-C" } else { "cargo xtask down" });
        text
    }

    /// What runs on a host.
    fn roles(&self, host: &str) -> Vec<&'static str> {
        if BROKERS.contains(&host) {
            return vec!["broker"];
        }
        let agent = self.stack.place().has_vip().then_some("vip-agent");
        let witness = (host == WITNESS && self.clustered).then_some("witness");
        ["proxy"].into_iter().chain(agent).chain(witness).collect()
    }

    fn state(&self, host: &str) -> String {
        if self.off.contains(host) {
            return "no power".to_owned();
        }
        let roles = self.roles(host);
        let each = roles.iter().map(|role| match self.stack.pid(host, role) {
            Some(pid) => format!("{role} {pid}"),
            None => format!("{role} down"),
        });
        each.collect::<Vec<_>>().join(", ")
    }
}

fn names(holders: &[&str]) -> String {
    if holders.is_empty() { "nobody".to_owned() } else { holders.join(" and ") }
}
