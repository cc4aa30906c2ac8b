//! Our balancer on C and HAProxy on D with the same configuration, servers on A and B.

use crate::clients::{Client, script};
use crate::programs;
use crate::scratch::Scratch;
use anyhow::{Result, ensure};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;
use xtask::lab::wait::until_true;
use xtask::lab::{Process, process};
use xtask::stack::{CLIENT, Cast, Maker, Place};

/// The two balancers and their hosts.
#[derive(Debug)]
pub struct Rivals {
    balancers: Vec<Process>,
    /// The hosts.
    pub place: Place,
    scratch: Scratch,
}

/// A change of a server's status: when, in seconds, and to what.
pub type Change = (f64, String);

impl Rivals {
    /// Starts both with this `haproxy.cfg` and waits until their port 8100 is open.
    ///
    /// # Errors
    /// One does not start; its log is part of the message.
    pub fn start(name: &str, config: &str) -> Result<Self> {
        let scratch = Scratch::new(name)?;
        let place = Place::network()?;
        let file = scratch.path().join("haproxy.cfg");
        std::fs::write(&file, config)?;
        let ours = match Cast::from_environment().proxy {
            Maker::Ours => (programs::folder().join("proxy"), vec!["-f"]),
            Maker::Theirs => (PathBuf::from("haproxy"), vec!["-db", "-f"]),
        };
        let mut balancers = Vec::new();
        for (host, (program, arguments)) in
            [("C", ours), ("D", (PathBuf::from("haproxy"), vec!["-db", "-f"]))]
        {
            let mut command = place.command(host, program);
            command.args(arguments).arg(&file);
            let mut process = Process::spawn(host, command, &scratch.path().join(format!("{host}.log")))?;
            let mut alive = true;
            until_true(Duration::from_secs(10), "the balancer", || {
                alive = process.is_running();
                !alive || place.listens(host, 8100)
            })?;
            ensure!(alive, "the balancer on {host} ended:\n{}", process.log());
            balancers.push(process);
        }
        Ok(Self { balancers, place, scratch })
    }

    /// Starts a server that greets with its host's name.
    ///
    /// # Errors
    /// It does not start.
    pub fn serve(&self, host: &str, port: u16) -> Result<Process> {
        let mut command = self.place.command(host, "python3");
        command.arg("-B").arg(script("tcp")).args(["serve", host, &port.to_string()]);
        let log = self.scratch.path().join(format!("server-{host}.log"));
        let _ = std::fs::remove_file(&log);
        let server = Process::spawn("server", command, &log)?;
        until_true(Duration::from_secs(10), "the server", || server.log().contains("ready"))?;
        Ok(server)
    }

    /// Makes `count` connections to a port of a balancer, one after another, and returns who greeted.
    ///
    /// # Errors
    /// The client cannot be started.
    pub fn ask(&self, balancer: &str, port: u16, count: usize) -> Result<Vec<String>> {
        let mut command = self.place.command(CLIENT, "python3");
        command.arg("-B").arg(script("tcp"));
        command.args(["ask", &self.place.address(balancer), &port.to_string(), &count.to_string()]);
        Ok(process::run(&mut command)?.lines().map(str::to_owned).collect())
    }

    /// A page of a balancer's port 8100.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn page(&self, balancer: &str, path: &str) -> Result<String> {
        let url = format!("http://{}:8100{path}", self.place.address(balancer));
        process::run(self.place.command(CLIENT, "curl").args(["-sS", "-m", "5", "-i", &url]))
    }

    /// Starts to write down each change of a server on either balancer.
    ///
    /// # Errors
    /// The client cannot be started.
    pub fn watch(&self) -> Result<Client> {
        let page = |host: &str| format!("{host}=http://{}:8100/monitor;csv", self.place.address(host));
        let pages = ["C", "D"].map(page);
        let arguments: Vec<&str> = pages.iter().map(String::as_str).collect();
        Client::start(&self.place, "watch", "watch", self.scratch.path(), &arguments)
    }

    /// The test passed: everything goes.
    pub fn passed(self) {
        let Self { balancers, place, scratch } = self;
        drop(balancers);
        drop(place);
        scratch.passed();
    }
}

/// Reads what [`Rivals::watch`] wrote: the changes of each `BALANCER/SERVER`, in order.
#[must_use]
pub fn changes(record: &str) -> BTreeMap<String, Vec<Change>> {
    let mut all: BTreeMap<String, Vec<Change>> = BTreeMap::new();
    for line in record.rsplit_once('\n').map_or("", |(whole, _)| whole).lines() {
        let words: Vec<&str> = line.split(' ').collect();
        if let ["status", key, time, status] = words[..] {
            let time = time.parse().unwrap_or_default();
            all.entry(key.to_owned()).or_default().push((time, status.replace('_', " ")));
        }
    }
    all
}
