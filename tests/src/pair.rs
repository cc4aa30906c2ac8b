//! Two agents C and D around one floating address, and a client that asks for it every 5 ms.

use crate::clients::Client;
use crate::programs;
use crate::scratch::Scratch;
use anyhow::{Context, Result};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use xtask::lab::wait::until_true;
use xtask::lab::{Process, process};
use xtask::stack::{BALANCERS, Cast, Place, Stack, VIP};

const ECHO_PORT: u16 = 7;

/// The knobs of the two agents' configuration.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Priorities of C and D.
    pub priorities: [u8; 2],
    /// Instances start as BACKUP and keep what they have.
    pub nopreempt: bool,
    /// The shared secret of `auth_type PASS`, if any; version 3 has none.
    pub password: Option<&'static str>,
    /// 2 or 3.
    pub version: u8,
    /// `advert_int`.
    pub interval: &'static str,
    /// Adverts go from host to host instead of to the group.
    pub unicast: bool,
    /// More lines for `global_defs` of both hosts.
    pub globals: &'static str,
    /// More lines for the instance of both hosts.
    pub instance: &'static str,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            priorities: [100, 90],
            nopreempt: false,
            password: Some("1111"),
            version: 2,
            interval: "1",
            unicast: false,
            globals: "",
            instance: "",
        }
    }
}

/// The two agents, running.
#[derive(Debug)]
pub struct Pair {
    probe: Client,
    echoes: Mutex<Vec<Process>>,
    monitors: Vec<(String, Process)>,
    adverts: Client,
    settings: Settings,
    /// The hosts; a fault is done to them.
    pub stack: Stack,
    scratch: Scratch,
}

impl Pair {
    /// Starts both agents and waits until the address is on C.
    ///
    /// # Errors
    /// Something does not start.
    pub fn start(name: &str, cast: Cast, settings: Settings) -> Result<Self> {
        let scratch = Scratch::new(name)?;
        let stack = Stack::new(Place::network()?, cast, &programs::folder(), scratch.path())?;
        let arguments = ["--target", VIP, "--port", &ECHO_PORT.to_string()];
        let probe = Client::start(stack.place(), "probe", "probe", scratch.path(), &arguments)?;
        let adverts = Client::start(stack.place(), "adverts", "adverts", scratch.path(), &[])?;
        let mut monitors = Vec::new();
        for host in BALANCERS {
            let mut command = stack.place().command(host, "ip");
            command.args(["-ts", "-o", "-4", "monitor", "address"]);
            let log = scratch.path().join(format!("addresses-{host}.log"));
            monitors.push((host.to_owned(), Process::spawn("ip monitor", command, &log)?));
        }
        let pair = Self { probe, echoes: Mutex::default(), monitors, adverts, settings, stack, scratch };
        for host in BALANCERS {
            pair.start_echo(host)?;
        }
        pair.start_agent("C")?;
        pair.stack.wait_holder("C", Duration::from_secs(15))?;
        pair.start_agent("D")?;
        pair.listens("D")?;
        pair.answers_from("C")?;
        Ok(pair)
    }

    /// Starts the agent of a host.
    ///
    /// # Errors
    /// It does not start.
    pub fn start_agent(&self, host: &str) -> Result<()> {
        std::fs::create_dir_all(self.stack.host_folder(host))?;
        let check = self.stack.host_folder(host).join("check.sh");
        std::fs::write(&check, "#!/bin/sh\n[ ! -e \"$(dirname \"$0\")/fail\" ]\n")?;
        std::fs::set_permissions(&check, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        self.stack.start_agent_with(host, &self.configuration(host))
    }

    fn start_echo(&self, host: &str) -> Result<()> {
        let mut command = self.stack.place().command(host, "python3");
        command.arg("-B").arg(crate::clients::script("echo")).args([host, &ECHO_PORT.to_string()]);
        let log = self.scratch.path().join(format!("echo-{host}.log"));
        let _ = std::fs::remove_file(&log);
        let echo = Process::spawn("echo", command, &log)?;
        until_true(Duration::from_secs(10), "the echo server", || echo.log().contains("ready"))?;
        self.echoes.lock().unwrap_or_else(PoisonError::into_inner).push(echo);
        Ok(())
    }

    /// A host without power gets it back.
    ///
    /// # Errors
    /// A program does not start.
    pub fn power_on(&self, host: &str) -> Result<()> {
        if let Place::Network(network) = self.stack.place() {
            network.replug(host)?;
        }
        self.start_echo(host)?;
        self.start_agent(host)
    }

    /// Waits until the agent of a host hears adverts: it joined their group, and one interval passed, told
    /// by the probe's answers.
    fn listens(&self, host: &str) -> Result<()> {
        let Place::Network(network) = self.stack.place() else { return Ok(()) };
        let group = || network.ip(host, "maddr show dev eth0").is_ok_and(|text| text.contains("224.0.0.18"));
        if !self.settings.unicast {
            until_true(Duration::from_secs(10), &format!("the agent on {host} to listen"), group)?;
        }
        let answers = || self.probe.record().lines().count();
        let before = answers();
        until_true(Duration::from_secs(10), "two adverts", || answers() > before + 400)
    }

    /// Makes the check script of a host fail, or pass again.
    ///
    /// # Errors
    /// The flag file cannot be written.
    pub fn fail_check(&self, host: &str, fail: bool) -> Result<()> {
        let flag: PathBuf = self.stack.host_folder(host).join("fail");
        if fail { std::fs::write(flag, "") } else { std::fs::remove_file(flag) }.context("switch the check")
    }

    /// The configuration of a host.
    #[must_use]
    pub fn configuration(&self, host: &str) -> String {
        let settings = &self.settings;
        let priority = settings.priorities[usize::from(host == "D")];
        let state = if host == "C" && !settings.nopreempt { "MASTER" } else { "BACKUP" };
        let (globals, instance) = (settings.globals, settings.instance);
        let (version, interval) = (settings.version, settings.interval);
        let mut text = format!(
            "global_defs {{\n    router_id {host}\n    script_user root\n    vrrp_version {version}\n{globals}}}\n\
             vrrp_script check {{\n    script \"/etc/warren/check.sh\"\n    interval 1\n    weight -20\n}}\n\
             vrrp_instance VI_1 {{\n    state {state}\n    interface eth0\n    virtual_router_id 66\n    \
             priority {priority}\n    advert_int {interval}\n{instance}"
        );
        if settings.nopreempt {
            text.push_str("    nopreempt\n");
        }
        if settings.unicast {
            let place = self.stack.place();
            let peer = if host == "C" { "D" } else { "C" };
            let (own, peer) = (place.address(host), place.address(peer));
            let _ = write!(text, "    unicast_src_ip {own}\n    unicast_peer {{\n        {peer}\n    }}\n");
        }
        if let Some(password) = settings.password.filter(|_| settings.version == 2) {
            let _ = writeln!(
                text,
                "    authentication {{\n        auth_type PASS\n        auth_pass {password}\n    }}"
            );
        }
        let _ = write!(
            text,
            "    track_script {{\n        check\n    }}\n    virtual_ipaddress {{\n        {VIP}/24\n    }}\n}}\n"
        );
        text
    }

    /// Waits until the client is answered by this host and no other.
    ///
    /// # Errors
    /// 15 s passed.
    pub fn answers_from(&self, host: &str) -> Result<()> {
        self.answers_from_within(host, Duration::from_secs(15))
    }

    fn answers_from_within(&self, host: &str, limit: Duration) -> Result<()> {
        until_true(limit, &format!("answers from {host}"), || {
            let record = self.probe.record();
            let last: Vec<&str> = record.lines().rev().skip(1).take(20).collect();
            last.len() == 20 && last.iter().all(|line| line.starts_with(&format!("got {host} ")))
        })
        .map_err(|error| {
            let logs: Vec<String> = BALANCERS.iter().map(|it| self.stack.log_end(it, "vip-agent")).collect();
            error.context(format!("{}\n{}", process::tail(&self.probe.record(), 5), logs.join("\n")))
        })
    }

    /// Does something, waits until the host `then` answers and holds the address alone, and returns the
    /// longest silence that the client saw since, in seconds.
    ///
    /// # Errors
    /// The address does not move.
    pub fn moves(&self, then: &str, strike: impl FnOnce(&Self) -> Result<()>) -> Result<f64> {
        self.moves_within(then, Duration::from_secs(2), strike)
    }

    /// As [`Pair::moves`], where the other host may keep the address for `limit` beside the new holder.
    ///
    /// # Errors
    /// The address does not move.
    pub fn moves_within(
        &self,
        then: &str,
        limit: Duration,
        strike: impl FnOnce(&Self) -> Result<()>,
    ) -> Result<f64> {
        let from = self.probe.record().len();
        self.silence(then, Duration::from_secs(15), strike)?;
        self.stack.wait_holder(then, limit)?;
        Ok(self.longest_silence(from))
    }

    /// Does something, waits until the host `then` answers, whoever holds the address, and returns the longest silence
    /// that the client saw since, in seconds.
    ///
    /// # Errors
    /// `then` does not answer within `limit`.
    pub fn silence(
        &self,
        then: &str,
        limit: Duration,
        strike: impl FnOnce(&Self) -> Result<()>,
    ) -> Result<f64> {
        let from = self.probe.record().len();
        strike(self)?;
        self.answers_from_within(then, limit)?;
        Ok(self.longest_silence(from))
    }

    /// How often the host that answers has changed since this place in the record.
    #[must_use]
    pub fn changes(&self, from: usize) -> usize {
        let record = self.probe.record();
        let hosts: Vec<&str> =
            record[from..].lines().filter_map(|line| line.strip_prefix("got ")?.split(' ').next()).collect();
        hosts.windows(2).filter(|pair| pair[0] != pair[1]).count()
    }

    /// The end of the client's record, for [`Pair::changes`].
    #[must_use]
    pub fn record_end(&self) -> usize {
        let record = self.probe.record();
        record.rfind('\n').map_or(0, |at| at + 1)
    }

    fn longest_silence(&self, from: usize) -> f64 {
        let record = self.probe.record();
        // A few answers from before, so that a silence has a beginning.
        let mut times: Vec<f64> = record[from.saturating_sub(200)..]
            .lines()
            .filter(|line| line.starts_with("got "))
            .filter_map(|line| line.split(' ').nth(2)?.parse().ok())
            .collect();
        times.sort_by(f64::total_cmp);
        times.windows(2).map(|pair| pair[1] - pair[0]).fold(0.0, f64::max)
    }

    /// What the client's side of the network heard so far: sender and priority of each advert, oldest first.
    #[must_use]
    pub fn adverts(&self) -> Vec<(String, u8)> {
        let record = self.adverts.record();
        let advert = |line: &str| {
            let mut words = line.strip_prefix("advert ")?.split(' ');
            let source = words.next()?.to_owned();
            Some((source, words.nth(1)?.parse().ok()?))
        };
        record.lines().filter_map(advert).collect()
    }

    /// When the floating address came to a host and when it went since `since`: time and whether it went. The times
    /// can be compared as text.
    #[must_use]
    pub fn address_events(&self, host: &str, since: &str) -> Vec<(String, bool)> {
        let Some((_, monitor)) = self.monitors.iter().find(|(name, _)| name == host) else {
            return Vec::new();
        };
        let event = |line: &str| {
            let (time, what) = line.strip_prefix('[')?.split_once(']')?;
            what.contains(&format!(" {VIP}/")).then(|| (time.to_owned(), what.contains("Deleted")))
        };
        let all = monitor.log();
        all.lines().filter_map(event).filter(|(time, _)| time.as_str() > since).collect()
    }

    /// The time of the last event of any address, as [`Pair::address_events`] has it.
    #[must_use]
    pub fn last_event(&self) -> String {
        let times = BALANCERS.iter().flat_map(|host| self.address_events(host, ""));
        times.map(|(time, _)| time).max().unwrap_or_default()
    }

    /// The log of a host's agent.
    #[must_use]
    pub fn agent_log(&self, host: &str) -> String {
        process::read_lossy(&self.stack.log_path(host, "vip-agent"))
    }

    /// Writes another configuration for a host's agent and asks it to reload.
    ///
    /// # Errors
    /// It does not run.
    pub fn reload(&self, host: &str, text: &str) -> Result<()> {
        let folder = self.stack.host_folder(host);
        let text = text.replace("/etc/warren", &folder.to_string_lossy());
        std::fs::write(folder.join("keepalived.conf"), text)?;
        let pid = self.stack.pid(host, "vip-agent").context("the agent does not run")?;
        process::signal(pid, nix::sys::signal::Signal::SIGHUP);
        Ok(())
    }

    /// The test passed: everything goes.
    pub fn passed(self) {
        let Self { stack, scratch, .. } = self;
        drop(stack);
        scratch.passed();
    }
}
