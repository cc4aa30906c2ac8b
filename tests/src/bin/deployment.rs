//! Measures a whole deployment, ours or the originals', for `cargo xtask bench stack`: two mirrored brokers behind two
//! balancers and one address. Prints a line for each load: its key, a tab, `name=value` words.
//!
//! ```text
//! deployment ours|theirs FOLDER
//! ```
#![allow(clippy::print_stdout, reason = "its output is its result")]

use anyhow::{Context, Result, bail};
use harness::account::Published;
use harness::clients::{Client, Tail};
use harness::load::figures::{Line, resident_kib};
use harness::programs;
use nix::time::{ClockId, clock_gettime};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use xtask::lab::process::run;
use xtask::lab::wait::until_true;
use xtask::stack::{BALANCERS, BROKERS, CLIENT, Cast, Place, Stack, VIP};

/// Nothing takes longer.
const LIMIT: Duration = Duration::from_secs(120);
/// Confirms that show that messages flow.
const FLOWING: usize = 200;
/// How long a fault lasts.
const HOLD: Duration = Duration::from_secs(5);
/// How often the balancer is killed, and how often the check script looks.
const KILLS: u32 = 5;
const CHECK_INTERVAL: Duration = Duration::from_secs(2);
/// The queue of what is measured beside loads.
const QUEUE: &str = "outage";

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let (cast, folder) = match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["ours", folder] => (Cast::default(), PathBuf::from(folder)),
        ["theirs", folder] => (Cast::theirs("broker,proxy,vip"), PathBuf::from(folder)),
        _ => bail!("see the head of its source for what `deployment` takes"),
    };
    let stack = Stack::new(Place::network()?, cast, &programs::folder(), &folder)?;
    stack.start()?;
    stack.join()?;
    let deployment = Deployment { stack, folder };
    deployment.first_message()?;
    deployment.load("throughput", &["persistent", "window=1000", "ack", "seconds=5"])?;
    deployment.load("latency", &["rate=1000", "persistent", "window=1000", "ack", "seconds=5"])?;
    deployment.memory();
    deployment.outages()
}

struct Deployment {
    stack: Stack,
    folder: PathBuf,
}

impl Deployment {
    /// Stops everything, starts everything at once, and waits for the first message that a client receives.
    fn first_message(&self) -> Result<()> {
        // In their own time: the rest is given five seconds.
        BROKERS.iter().try_for_each(|host| self.stack.terminate(host, "broker"))?;
        self.stack.stop();
        let mut consumer = self.client("consume", "first")?;
        let mut publisher = self.client("publish", "first")?;
        let began = Instant::now();
        self.stack.launch()?;
        let mut tail = Tail::default();
        let mut came = false;
        until_true(LIMIT, "the first message", || {
            tail.lines(&consumer, |line| came |= line.starts_with("got "));
            came
        })?;
        print("start", &[("first_s", began.elapsed().as_secs_f64())]);
        publisher.finish()?;
        consumer.finish()
    }

    /// Puts a load of `load messages` on it.
    fn load(&self, key: &str, words: &[&str]) -> Result<()> {
        let pids: Vec<String> = self.pids().iter().map(u32::to_string).collect();
        let mut command = self.stack.place().command(CLIENT, beside()?);
        command.args(["messages", &format!("{VIP}:5672"), &pids.join(","), "laosun", "123456", "/lagou"]);
        println!("{key}\t{}", run(command.args(words))?.trim());
        Ok(())
    }

    fn memory(&self) {
        let mib = |hosts: &[&str], role: &str| {
            let pids: Vec<u32> = hosts.iter().filter_map(|host| self.stack.pid(host, role)).collect();
            resident_kib(&pids) / 1024.0
        };
        let brokers = mib(&BROKERS, "broker") + mib(&BALANCERS, "witness");
        let (proxies, agents) = (mib(&BALANCERS, "proxy"), mib(&BALANCERS, "vip-agent"));
        print("memory", &[("brokers_mib", brokers), ("proxies_mib", proxies), ("agents_mib", agents)]);
    }

    /// What a publisher sees of faults.
    fn outages(&self) -> Result<()> {
        let mut consumer = self.client("consume", QUEUE)?;
        let mut publisher = self.client("publish", QUEUE)?;
        self.wait_flowing(&publisher)?;
        // One of the two leads the queue, and one has the publisher's connection.
        let mut worst: f64 = 0.0;
        for host in BROKERS {
            let outage = self.outage(&publisher, || self.stack.kill(host, "broker"))?;
            worst = worst.max(outage);
            self.stack.start_broker(host)?;
            self.stack.wait_joined(LIMIT)?;
        }
        print("broker", &[("outage_s", worst)]);
        // The check script looks every two seconds and starts it again then: what decides is when it was killed since.
        let mut outages = Vec::new();
        for kill in 0..KILLS {
            std::thread::sleep(CHECK_INTERVAL * kill / KILLS);
            outages.push(self.outage(&publisher, || self.stack.kill("C", "proxy"))?);
        }
        outages.sort_by(f64::total_cmp);
        print("proxy", &[("outage_s", outages[outages.len() / 2])]);
        let outage = self.outage(&publisher, || self.stack.power_off("C"))?;
        print("power", &[("outage_s", outage)]);
        publisher.finish()?;
        consumer.finish()
    }

    /// The longest time without a confirm around a fault, seconds.
    fn outage(&self, publisher: &Client, strike: impl FnOnce() -> Result<()>) -> Result<f64> {
        self.wait_flowing(publisher)?;
        let since = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC)?).as_secs_f64() - 0.5;
        strike()?;
        std::thread::sleep(HOLD);
        self.wait_flowing(publisher)?;
        let mut published = Published::read(&publisher.record());
        published.confirmed.retain(|(_, time)| *time >= since);
        Ok(published.longest_gap())
    }

    fn wait_flowing(&self, publisher: &Client) -> Result<()> {
        let confirms = || Published::read(&publisher.record()).confirmed.len();
        let before = confirms();
        until_true(LIMIT, "messages to flow", || confirms() >= before + FLOWING)
            .with_context(|| BROKERS.map(|host| self.stack.log_end(host, "broker")).join("\n"))
    }

    /// Our own client on the client's host.
    fn client(&self, role: &str, queue: &str) -> Result<Client> {
        let url = format!("amqp://laosun:123456@{VIP}:5672/%2Flagou");
        let mut command = self.stack.place().command(CLIENT, beside()?);
        command.args([role, "--url", &url, "--queue", queue, "--name", queue, "--rate", "200"]);
        Client::run(command, &format!("{queue}-{role}"), &self.folder)
    }

    /// All daemons.
    fn pids(&self) -> Vec<u32> {
        let roles = ["broker", "witness", "proxy", "vip-agent"];
        let hosts = BROKERS.into_iter().chain(BALANCERS);
        hosts.flat_map(|host| roles.into_iter().filter_map(move |role| self.stack.pid(host, role))).collect()
    }
}

/// The load generator, built beside this program.
fn beside() -> Result<PathBuf> {
    Ok(std::env::current_exe()?.with_file_name("load"))
}

fn print(key: &str, values: &[(&'static str, f64)]) {
    let mut line = Line::default();
    values.iter().for_each(|(name, value)| line.add(name, *value));
    println!("{key}\t{line}");
}
