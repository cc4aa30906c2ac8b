//! The deployment that faults happen to, and how each of them is made and undone.

use super::clock::Clock;
use super::disk::Brake;
use super::faults::{Fault, Kind, Layout};
use super::traffic::{QUEUES, QUORUM};
use crate::programs;
use crate::small_disk::SmallDisk;
use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use xtask::lab::Network;
use xtask::lab::process::{descendants, read_lossy, run};
use xtask::lab::wait::until_true;
use xtask::stack::{BALANCERS, CLIENT, Cast, Place, Stack, WITNESS};

/// Each broker's disk. It holds the log's least size and room for messages.
const DISK_MIB: u32 = 2048;
/// How long anything may take to be as it was.
const LIMIT: Duration = Duration::from_secs(90);
/// A check script starts a balancer within this.
const RESTART: Duration = Duration::from_secs(8);
/// What is left on a disk that is nearly full: less than the broker wants.
const LITTLE: u64 = 20 << 20;
/// How far a clock jumps, in seconds.
const JUMPS: [i64; 8] = [-86_400, -3600, -30, -6, 6, 30, 3600, 86_400];

/// The hosts, their programs, and what is wrong with them now.
#[derive(Debug)]
pub struct Field {
    // Dropped in this order: processes before the disks they write to.
    brakes: BTreeMap<&'static str, Brake>,
    /// The programs.
    pub stack: Stack,
    disks: BTreeMap<&'static str, SmallDisk>,
    clocks: BTreeMap<&'static str, Clock>,
    layout: Layout,
    /// The kinds of faults that can be made here.
    pub kinds: Vec<Kind>,
}

impl Field {
    /// Starts a deployment in `folder` and waits until it is whole.
    ///
    /// # Errors
    /// Something does not start.
    pub fn start(layout: Layout, folder: &Path) -> Result<Self> {
        let (place, three) = match layout {
            Layout::Two => (Place::network()?, false),
            Layout::Three => (Place::wide_network()?, true),
        };
        let stack = Stack::new(place, Cast::default(), &programs::folder(), folder)?;
        let stack = if three { stack.with_three_brokers() } else { stack };
        let (brakes, disks, clocks) = Default::default();
        let mut field = Self { brakes, stack, disks, clocks, layout, kinds: Kind::all(layout) };
        field.prepare()?;
        field.stack.start()?;
        field.stack.join()?;
        Ok(field)
    }

    /// Gives each broker a disk and a clock of its own, and strikes off what cannot be done here.
    fn prepare(&mut self) -> Result<()> {
        let (mut slow, mut clocks) = (Brake::exists(), true);
        for host in self.layout.brokers() {
            let data = self.stack.host_folder(host).join("data");
            let disk = match SmallDisk::image(&data, DISK_MIB) {
                Ok(disk) => disk,
                Err(error) => {
                    slow = false;
                    println!("note: no disk with a device, but one in memory: {error:#}");
                    SmallDisk::mount(&data, DISK_MIB)?
                }
            };
            self.disks.insert(host, disk);
            let folder = self.stack.host_folder(host);
            match Clock::new(&folder.join("clock"), &folder) {
                Ok(clock) => {
                    for (name, value) in clock.variables() {
                        self.stack.set_variable(host, name, &value);
                    }
                    self.clocks.insert(host, clock);
                }
                Err(error) => {
                    clocks = false;
                    println!("note: no clocks of their own: {error:#}");
                }
            }
        }
        for (kind, there) in [(Kind::SlowDisk, slow), (Kind::ClockJump, clocks)] {
            if !there {
                println!("note: not here: {}", kind.title());
                self.kinds.retain(|it| *it != kind);
            }
        }
        Ok(())
    }

    /// Makes a fault.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn strike(&mut self, fault: &Fault) -> Result<()> {
        let Fault { host, other, amount, .. } = *fault;
        let stack = &self.stack;
        match fault.kind {
            Kind::BrokerKilled => stack.kill(host, "broker"),
            Kind::BrokerFrozen => stack.freeze(host, "broker", true),
            Kind::BrokerStopped => stack.terminate(host, "broker"),
            Kind::BrokerDrained => stack.named_tool(host, "rabbitmq-upgrade", &["drain"]).map(drop),
            Kind::AppStopped => stack.tool(host, &["ctl", "stop_app"]).map(drop),
            Kind::BrokerPower | Kind::BalancerPower => stack.power_off(host),
            Kind::WitnessKilled => stack.kill(host, "witness"),
            Kind::ProxyKilled => stack.kill(host, "proxy"),
            Kind::ProxyFrozen => stack.freeze(host, "proxy", true),
            Kind::ProxyReloaded => {
                self.toggle(host, "haproxy.cfg", ["maxconn 4000", "maxconn 4001"])?;
                self.stack.signal(host, "proxy", Signal::SIGUSR2)
            }
            Kind::AgentKilled => stack.kill_alone(host, "vip-agent"),
            Kind::AgentFrozen => stack.freeze(host, "vip-agent", true),
            Kind::AgentStopped => stack.terminate(host, "vip-agent"),
            Kind::AgentReloaded => {
                self.toggle(host, "keepalived.conf", ["weight -20", "weight -21"])?;
                self.stack.signal(host, "vip-agent", Signal::SIGHUP)
            }
            Kind::CutOff => self.network()?.unplug(host),
            Kind::LinkCut => {
                self.filter(host, fault, &self.from(other))?;
                self.filter(other, fault, &self.from(host))
            }
            Kind::OneWay => self.filter(host, fault, &self.from(other)),
            Kind::Flapping => self.flap(host, amount),
            Kind::Loss => {
                let share = format!("numgen random mod 100 < {} ", 10 + amount % 40);
                self.filter(host, fault, &share)?;
                let from = self.from(host);
                self.others(host).iter().try_for_each(|it| self.filter(it, fault, &format!("{from}{share}")))
            }
            Kind::SlowLink => self.network()?.slow_link(host, true),
            Kind::Split => self.network()?.isolate(&BALANCERS, true),
            Kind::SlowDisk => self.slow(host, amount),
            Kind::FullDisk => self.disk(host)?.fill(if amount % 2 == 0 { 0 } else { LITTLE }),
            Kind::ClockJump => {
                let at = usize::try_from(amount).unwrap_or(0) % JUMPS.len();
                self.clock(host)?.set(JUMPS[at])
            }
            Kind::Rolling => self.roll(),
            Kind::AllPower => self.layout.brokers().iter().try_for_each(|host| self.stack.power_off(host)),
        }
    }

    /// Undoes a fault; the first half of it, which needs nobody's consent. [`Field::ask`] is the other.
    ///
    /// # Errors
    /// It cannot be undone.
    pub fn heal(&mut self, fault: &Fault) -> Result<()> {
        let Fault { host, other, amount, .. } = *fault;
        let stack = &self.stack;
        match fault.kind {
            Kind::BrokerKilled | Kind::BrokerStopped => stack.start_broker(host),
            Kind::BrokerFrozen => stack.freeze(host, "broker", false),
            Kind::BrokerPower => {
                self.network()?.replug(host)?;
                self.stack.start_broker(host)
            }
            Kind::WitnessKilled => stack.start_witness(),
            Kind::ProxyFrozen => stack.freeze(host, "proxy", false),
            Kind::AgentKilled | Kind::AgentStopped => stack.start_agent(host),
            Kind::AgentFrozen => stack.freeze(host, "vip-agent", false),
            Kind::BalancerPower => {
                self.network()?.replug(host)?;
                if host == WITNESS {
                    self.stack.start_witness()?;
                }
                self.stack.start_proxy(host)?;
                self.stack.start_agent(host)
            }
            Kind::CutOff => self.network()?.replug(host),
            Kind::LinkCut => {
                self.unfilter(host, fault)?;
                self.unfilter(other, fault)
            }
            Kind::OneWay => self.unfilter(host, fault),
            Kind::Loss => {
                self.unfilter(host, fault)?;
                self.others(host).iter().try_for_each(|it| self.unfilter(it, fault))
            }
            Kind::SlowLink => self.network()?.slow_link(host, false),
            Kind::Split => self.network()?.isolate(&BALANCERS, false),
            Kind::SlowDisk => {
                self.brakes.remove(host);
                Ok(())
            }
            Kind::FullDisk => self.disk(host)?.relieve(),
            Kind::ClockJump => self.clock(host)?.set(0),
            Kind::AllPower => {
                let mut hosts = self.layout.brokers().to_vec();
                let first = usize::try_from(amount).unwrap_or(0) % hosts.len();
                hosts.rotate_left(first);
                hosts.into_iter().try_for_each(|host| {
                    self.network()?.replug(host)?;
                    self.stack.start_broker(host)
                })
            }
            Kind::BrokerDrained
            | Kind::AppStopped
            | Kind::ProxyKilled
            | Kind::ProxyReloaded
            | Kind::AgentReloaded
            | Kind::Flapping
            | Kind::Rolling => Ok(()),
        }
    }

    /// Undoes what a broker has to be asked for; it may need the others for it, so they are healed before.
    ///
    /// # Errors
    /// It does not do it.
    pub fn ask(&self, fault: &Fault) -> Result<()> {
        let ask: &dyn Fn() -> Result<String> = match fault.kind {
            Kind::BrokerDrained => &|| self.stack.named_tool(fault.host, "rabbitmq-upgrade", &["revive"]),
            Kind::AppStopped => &|| self.stack.tool(fault.host, &["ctl", "start_app"]),
            _ => return Ok(()),
        };
        let mut said = String::new();
        until_true(LIMIT, &format!("the end of {fault}"), || match ask() {
            Ok(_) => true,
            Err(error) => {
                said = format!("{error:#}");
                false
            }
        })
        .with_context(|| said)
    }

    /// Waits until everything is as it was. What a check script gave up is started again, as an operator would; a broker
    /// that ended by itself is an error.
    ///
    /// # Errors
    /// A program ended by itself, or the deployment does not become whole.
    pub fn wait_whole(&self) -> Result<()> {
        let brokers = self.layout.brokers().iter().map(|host| (*host, "broker"));
        let witness = (self.layout == Layout::Two).then_some((WITNESS, "witness"));
        for (host, role) in brokers.chain(witness) {
            let runs = self.stack.pid(host, role).is_some();
            ensure!(runs, "the {role} on {host} ended by itself\n{}", self.stack.log_end(host, role));
        }
        for host in BALANCERS {
            let runs = || self.stack.pid(host, "proxy").is_some();
            if until_true(RESTART, "the check script", runs).is_err() {
                self.stack.start_proxy(host)?;
            }
            if self.stack.pid(host, "vip-agent").is_none() {
                self.stack.start_agent(host)?;
            }
        }
        self.stack.wait_whole(LIMIT)?;
        let mut lacking = String::new();
        until_true(LIMIT, "mirrors in sync", || {
            lacking = self.out_of_sync().unwrap_or_default();
            lacking.is_empty()
        })
        .with_context(|| lacking)?;
        let alone = || self.stack.holders().len() == 1;
        until_true(LIMIT, "one holder of the address", alone).with_context(|| {
            let logs = BALANCERS.map(|host| self.stack.log_end(host, "vip-agent"));
            format!("{:?}\n{}", self.stack.holders(), logs.join("\n"))
        })
    }

    /// The queues that have not all their mirrors in sync, in words.
    fn out_of_sync(&self) -> Option<String> {
        let columns =
            ["-q", "list_queues", "-p", "/lagou", "--no-table-headers", "name", "synchronised_slave_pids"];
        let text = match self.stack.tool(self.layout.brokers()[0], &[&["ctl"][..], &columns].concat()) {
            Ok(text) => text,
            Err(error) => return Some(format!("{error:#}")),
        };
        let mirrors = self.layout.brokers().len() - 1;
        // Quorum queues have members instead, and no such column.
        let is_mirrored =
            |line: &str| line.starts_with(QUEUES) && !line.starts_with(&format!("{QUEUES}{QUORUM}"));
        let lacks = |line: &&str| is_mirrored(line) && line.matches("rabbit@").count() < mirrors;
        let lacking: Vec<&str> = text.lines().filter(lacks).collect();
        (!lacking.is_empty()).then(|| lacking.join("; "))
    }

    /// What the programs said that none of them should ever say.
    #[must_use]
    pub fn panics(&self) -> Vec<String> {
        let brokers = self.layout.brokers().iter().map(|host| (*host, "broker"));
        let balancers = BALANCERS.into_iter().flat_map(|host| [(host, "proxy"), (host, "vip-agent")]);
        brokers
            .chain([(WITNESS, "witness")])
            .chain(balancers)
            .flat_map(|(host, role)| {
                let log = read_lossy(&self.stack.log_path(host, role));
                let found = log.lines().filter(|line| line.contains("panicked at"));
                found.map(|line| format!("{role} on {host}: {line}")).collect::<Vec<_>>()
            })
            .collect()
    }

    /// How many messages lie in the queues, or may come back to them.
    ///
    /// # Errors
    /// No broker answers.
    pub fn left(&self) -> Result<Vec<(String, u64)>> {
        let words = ["ctl", "-q", "list_queues", "-p", "/lagou", "--no-table-headers", "name", "messages"];
        let text = self.stack.tool(self.layout.brokers()[0], &words)?;
        let row = |line: &str| {
            let (name, count) = line.split_once('\t')?;
            // Clients may have queues of their own for other purposes.
            name.starts_with(QUEUES).then_some((name.to_owned(), count.trim().parse().ok()?))
        };
        Ok(text.lines().filter_map(row).collect())
    }

    /// Cuts a link again and again.
    fn flap(&self, host: &str, amount: u64) -> Result<()> {
        let network = self.network()?;
        let pause = |number: u64| {
            let millis = 40 + (amount * 7 + number * 131) % 350;
            std::thread::sleep(Duration::from_millis(millis));
        };
        for number in 0..3 + amount % 5 {
            network.unplug(host)?;
            pause(number);
            network.replug(host)?;
            pause(number + 50);
        }
        Ok(())
    }

    /// One broker after the other, as for an upgrade.
    fn roll(&self) -> Result<()> {
        for host in self.layout.brokers() {
            self.stack.terminate(host, "broker")?;
            self.stack.start_broker(host)?;
            self.stack.wait_whole(LIMIT)?;
        }
        Ok(())
    }

    fn slow(&mut self, host: &'static str, amount: u64) -> Result<()> {
        let pid = self.stack.pid(host, "broker").context("no broker runs there")?;
        let name = format!("warren-{}-{host}", std::process::id());
        let device = self.disk(host)?.device()?;
        let brake = Brake::put_on(&name, &device, 1 + amount % 10, &descendants(&[pid]))?;
        self.brakes.insert(host, brake);
        Ok(())
    }

    /// Replaces one text in a host's file by the other.
    fn toggle(&self, host: &str, file: &str, [one, other]: [&str; 2]) -> Result<()> {
        let path = self.stack.host_folder(host).join(file);
        let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let text = if text.contains(one) { text.replace(one, other) } else { text.replace(other, one) };
        std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))
    }

    /// Drops at a host what comes in and fits.
    fn filter(&self, host: &str, fault: &Fault, fits: &str) -> Result<()> {
        let table = table(fault);
        let rules = format!(
            "table ip {table} {{ chain input {{ type filter hook input priority 0; iif != lo {fits}drop; }}; }}"
        );
        run(self.stack.place().command(host, "nft").arg(rules)).map(drop)
    }

    fn unfilter(&self, host: &str, fault: &Fault) -> Result<()> {
        run(self.stack.place().command(host, "nft").args(["delete", "table", "ip", &table(fault)])).map(drop)
    }

    /// What fits what comes from a host.
    fn from(&self, host: &str) -> String {
        format!("ip saddr {} ", self.stack.place().address(host))
    }

    /// All hosts but this one.
    fn others(&self, host: &str) -> Vec<&'static str> {
        let all = self.layout.brokers().iter().copied().chain(BALANCERS).chain([CLIENT]);
        all.filter(|it| *it != host).collect()
    }

    fn clock(&self, host: &str) -> Result<&Clock> {
        self.clocks.get(host).with_context(|| format!("{host} has no clock of its own"))
    }

    fn disk(&self, host: &str) -> Result<&SmallDisk> {
        self.disks.get(host).with_context(|| format!("{host} has no disk of its own"))
    }

    fn network(&self) -> Result<&Network> {
        match self.stack.place() {
            Place::Network(network) => Ok(network),
            Place::Loopback => bail!("faults need hosts"),
        }
    }
}

/// The name of a fault's rules: of two faults at once, each has a host of its own.
fn table(fault: &Fault) -> String {
    format!("chaos_{}", fault.host)
}
