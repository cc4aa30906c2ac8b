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
    /// The shared secret of `auth_type PASS`, if any.
    pub password: Option<&'static str>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { priorities: [100, 90], nopreempt: false, password: Some("1111") }
    }
}

/// The two agents, running.
#[derive(Debug)]
pub struct Pair {
    probe: Client,
    echoes: Mutex<Vec<Process>>,
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
        let pair = Self { probe, echoes: Mutex::default(), settings, stack, scratch };
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
        until_true(Duration::from_secs(10), &format!("the agent on {host} to listen"), || {
            network.ip(host, "maddr show dev eth0").is_ok_and(|text| text.contains("224.0.0.18"))
        })?;
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

    fn configuration(&self, host: &str) -> String {
        let settings = &self.settings;
        let priority = settings.priorities[usize::from(host == "D")];
        let state = if host == "C" && !settings.nopreempt { "MASTER" } else { "BACKUP" };
        let mut text = format!(
            "global_defs {{\n    router_id {host}\n    script_user root\n}}\n\
             vrrp_script check {{\n    script \"/etc/warren/check.sh\"\n    interval 1\n    weight -20\n}}\n\
             vrrp_instance VI_1 {{\n    state {state}\n    interface eth0\n    virtual_router_id 66\n    \
             priority {priority}\n    advert_int 1\n"
        );
        if settings.nopreempt {
            text.push_str("    nopreempt\n");
        }
        if let Some(password) = settings.password {
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
        until_true(Duration::from_secs(15), &format!("answers from {host}"), || {
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
        let before = self.probe.record().len();
        strike(self)?;
        self.answers_from(then)?;
        self.stack.wait_holder(then, Duration::from_secs(2))?;
        let record = self.probe.record();
        let mut times: Vec<f64> = record[before.saturating_sub(200)..]
            .lines()
            .filter(|line| line.starts_with("got "))
            .filter_map(|line| line.split(' ').nth(2)?.parse().ok())
            .collect();
        times.sort_by(f64::total_cmp);
        Ok(times.windows(2).map(|pair| pair[1] - pair[0]).fold(0.0, f64::max))
    }

    /// The test passed: everything goes.
    pub fn passed(self) {
        let Self { stack, scratch, .. } = self;
        drop(stack);
        scratch.passed();
    }
}
