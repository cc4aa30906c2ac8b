//! The brokers of the stack as one cluster with mirrored queues: A and B with a witness on C, or three brokers.
//! RabbitMQ, where it plays the brokers, as A and B alone.

use super::{Maker, Stack, rabbitmq_environment};
use crate::lab::process::run;
use crate::lab::wait::until_true;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// What the nodes share.
const COOKIE: &str = "WARRENSTACKCOOKIE";
/// The port of nodes.
const PORT: u16 = 25_672;
/// How long they may take.
const LIMIT: Duration = Duration::from_secs(60);
/// No command of ours takes longer, in seconds.
const TOOL_LIMIT: &str = "60";
/// The host of the witness.
pub const WITNESS: &str = "C";
/// Every queue of the stack's vhost is on all brokers.
const POLICY: [&str; 6] =
    ["set_policy", "-p", "/lagou", "xall", "^", "{\"ha-mode\":\"all\",\"ha-sync-mode\":\"automatic\"}"];

impl Stack {
    /// Makes the brokers one cluster with mirrored queues; of two, C is the witness.
    ///
    /// # Errors
    /// One does not join; the end of its log is part of the message.
    pub fn join(&self) -> Result<()> {
        let (first, others) = self.brokers.split_first().context("a stack has brokers")?;
        match self.cast.broker {
            Maker::Ours => {
                let address = format!("{}:{PORT}", self.place.address(first));
                for host in self.brokers {
                    // Clients are served a moment before tools are.
                    until_true(LIMIT, &format!("the tools of {host} to be answered"), || {
                        self.tool(host, &["ctl", "-q", "await_startup"]).is_ok()
                    })?;
                }
                for host in others {
                    self.tool(host, &["join", &address]).with_context(|| format!("{host} joins {first}"))?;
                }
                if self.has_witness() {
                    self.start_witness()?;
                }
                self.tool(first, &[&["ctl"][..], &POLICY].concat())?;
                self.wait_whole(LIMIT)
            }
            Maker::Theirs => {
                let address = format!("rabbit@{first}");
                for host in others {
                    for words in [&["stop_app"][..], &["join_cluster", &address], &["start_app"]] {
                        run(self.rabbitmq(host, "rabbitmqctl")?.args(words))?;
                    }
                }
                run(self.rabbitmq(first, "rabbitmqctl")?.args(POLICY)).map(drop)
            }
        }
    }

    /// Whether there is to be a witness: of two brokers of ours.
    fn has_witness(&self) -> bool {
        self.cast.broker == Maker::Ours && self.brokers.len() == 2
    }

    /// Whether there is a witness that was started before.
    pub(super) fn had_witness(&self) -> bool {
        self.has_witness() && self.host_folder(WITNESS).join("witness").exists()
    }

    /// Waits until the brokers see each other and their queues are in sync, whoever made them.
    ///
    /// # Errors
    /// The limit passed.
    pub fn wait_joined(&self, limit: Duration) -> Result<()> {
        if self.cast.broker == Maker::Ours {
            return self.wait_whole(limit);
        }
        let online = self.brokers.len().to_string();
        for host in self.brokers {
            let most = limit.as_secs().to_string();
            for words in [&["await_startup"][..], &["await_online_nodes", &online]] {
                // A node that is only being started is not there for its tool.
                until_true(limit, &format!("{} of {host}", words[0]), || {
                    let tool = self.rabbitmq(host, "rabbitmqctl");
                    tool.is_ok_and(|mut it| run(it.arg("-q").args(words).args(["-t", &most])).is_ok())
                })?;
            }
        }
        let first = self.brokers.first().context("a stack has brokers")?;
        until_true(limit, "mirrors in sync", || {
            let words =
                ["-q", "list_queues", "-p", "/lagou", "--no-table-headers", "synchronised_slave_pids"];
            let listed = self.rabbitmq(first, "rabbitmqctl").and_then(|mut command| run(command.args(words)));
            listed.is_ok_and(|text| text.lines().all(|line| line.contains("rabbit@")))
        })
    }

    /// Waits until [`Stack::lacks`] nothing.
    ///
    /// # Errors
    /// The limit passed; what is lacking and the ends of the logs are part of the message.
    pub fn wait_whole(&self, limit: Duration) -> Result<()> {
        let mut lacking = String::new();
        until_true(limit, "the cluster to be whole", || {
            lacking = self.lacks().unwrap_or_default();
            lacking.is_empty()
        })
        .with_context(|| {
            let logs: Vec<String> = self.brokers.iter().map(|host| self.log_end(host, "broker")).collect();
            let witness = if self.has_witness() { self.log_end(WITNESS, "witness") } else { String::new() };
            format!("{lacking}\n{}\n{witness}", logs.join("\n"))
        })
    }

    /// What a cluster of ours lacks, in words: every broker runs, serves, sees all others, and has nothing to warn of.
    #[must_use]
    pub fn lacks(&self) -> Option<String> {
        self.brokers.iter().find_map(|host| {
            if !self.place.listens(host, 5672) {
                return Some(format!("{host} serves nobody"));
            }
            let said = self.tool(host, &["ctl", "-q", "cluster_status", "--formatter", "json"]);
            let status = match said.and_then(|text| Ok(serde_json::from_str::<Value>(&text)?)) {
                Ok(status) => status,
                Err(error) => return Some(format!("{host} does not answer: {error:#}")),
            };
            let list = |key: &str| -> Vec<String> {
                let all = status[key].as_array().into_iter().flatten();
                all.filter_map(|it| it.as_str().map(str::to_owned)).collect()
            };
            let running = list("running_nodes");
            let missing = self.brokers.iter().find(|it| !running.contains(&format!("rabbit@{it}")));
            if let Some(missing) = missing {
                return Some(format!("{host} does not see {missing}"));
            }
            if self.has_witness() && !list("witnesses").contains(&format!("witness@{WITNESS}")) {
                return Some(format!("{host} knows no witness"));
            }
            list("warnings").first().map(|text| format!("{host} warns: {text}"))
        })
    }

    /// Starts the witness.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_witness(&self) -> Result<()> {
        if !self.has_witness() {
            return Ok(());
        }
        let folder = self.prepared(WITNESS)?;
        let config = self.write(WITNESS, "witness.toml", &self.cluster_table(WITNESS))?;
        let mut command = self.place.command(WITNESS, self.programs.join("broker"));
        command.arg("witness").arg("-c").arg(config).arg("--data").arg(folder.join("witness"));
        for host in self.brokers {
            command.args(["--join", &format!("{}:{PORT}", self.place.address(host))]);
        }
        command.args(["--node", &format!("witness@{WITNESS}"), "--bind", &self.place.bind(WITNESS)]);
        self.with_cookie(&mut command);
        self.spawn(WITNESS, "witness", command)
    }

    /// The lines of a host's configuration that concern the cluster.
    pub(super) fn cluster_table(&self, host: &str) -> String {
        format!("\n[cluster]\nlisten = \":{PORT}\"\nadvertise = \"{}\"\n", self.place.address(host))
    }

    pub(super) fn with_cookie(&self, command: &mut Command) {
        command.env("RABBITMQ_ERLANG_COOKIE", COOKIE);
    }

    /// Runs `broker WORDS…` for the node of a host.
    ///
    /// # Errors
    /// It fails, or takes longer than a minute.
    pub fn tool(&self, host: &str, words: &[&str]) -> Result<String> {
        self.run_tool(host, &self.programs.join("broker"), words)
    }

    /// Runs another of a broker's tools, such as `rabbitmq-upgrade`, for the node of a host.
    ///
    /// # Errors
    /// It fails, or takes longer than a minute.
    pub fn named_tool(&self, host: &str, tool: &str, words: &[&str]) -> Result<String> {
        // The program is told by its name what it is.
        let link = self.prepared(host)?.join(tool);
        if !link.exists() {
            symlink(self.programs.join("broker"), &link)?;
        }
        self.run_tool(host, &link, words)
    }

    fn run_tool(&self, host: &str, program: &Path, words: &[&str]) -> Result<String> {
        let data = self.host_folder(host).join("data");
        ensure!(data.exists(), "no broker ever ran on {host}");
        let mut command = self.place.command(host, "timeout");
        run(command.arg(TOOL_LIMIT).arg(program).args(words).arg("--data").arg(data))
    }

    /// A program of RabbitMQ's for the node of a host. In namespaces the hosts have their names, so that nodes find
    /// each other.
    pub(super) fn rabbitmq(&self, host: &str, program: &str) -> Result<Command> {
        let folder = self.prepared(host)?;
        let program = Path::new("/usr/lib/rabbitmq/bin").join(program);
        if !self.place.has_vip() {
            let mut command = self.place.command(host, program);
            rabbitmq_environment(&mut command, &folder, host);
            return Ok(command);
        }
        let lines = self.brokers.iter().map(|it| format!("{} {it}\n", self.place.address(it)));
        let hosts =
            self.write(host, "hosts", &format!("127.0.0.1 localhost\n{}", lines.collect::<String>()))?;
        let cookie = folder.join(".erlang.cookie");
        if !cookie.exists() {
            std::fs::write(&cookie, COOKIE)?;
            std::fs::set_permissions(&cookie, PermissionsExt::from_mode(0o400))?;
        }
        let mut command = self.place.named(host, &hosts, program);
        rabbitmq_environment(&mut command, &folder, host);
        command.env("RABBITMQ_NODENAME", format!("rabbit@{host}"));
        command.env_remove("ERL_EPMD_ADDRESS").env_remove("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS");
        // The shell script becomes the server instead of waiting for it, so that a signal reaches it.
        command.env("RUNNING_UNDER_SYSTEMD", "1").env("ERL_CRASH_DUMP_SECONDS", "0");
        Ok(command)
    }
}
