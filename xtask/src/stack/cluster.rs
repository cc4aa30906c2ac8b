//! The brokers of the stack as one cluster: A and B with mirrored queues, a witness on C.

use super::{BROKERS, Maker, Stack};
use crate::lab::process::run;
use crate::lab::wait::until_true;
use anyhow::{Context, Result, ensure};
use std::process::Command;
use std::time::Duration;

/// What the nodes share.
const COOKIE: &str = "WARRENSTACKCOOKIE";
/// The port of nodes.
const PORT: u16 = 25_672;
/// How long they may take.
const LIMIT: Duration = Duration::from_secs(60);
/// The host of the witness.
pub const WITNESS: &str = "C";
/// Every queue of the stack's vhost is on both brokers.
const POLICY: [&str; 6] =
    ["set_policy", "-p", "/lagou", "xall", "^", "{\"ha-mode\":\"all\",\"ha-sync-mode\":\"automatic\"}"];

impl Stack {
    /// Makes A and B one cluster with mirrored queues, and C its witness. Does nothing where RabbitMQ plays.
    ///
    /// # Errors
    /// One does not join; the end of its log is part of the message.
    pub fn join(&self) -> Result<()> {
        if self.cast.broker == Maker::Theirs {
            return Ok(());
        }
        let [first, second] = BROKERS;
        let address = format!("{}:{PORT}", self.place.address(first));
        for host in BROKERS {
            // Clients are served a moment before tools are.
            until_true(LIMIT, &format!("the tools of {host} to be answered"), || {
                self.tool(host, &["ctl", "-q", "await_startup"]).is_ok()
            })?;
        }
        self.tool(second, &["join", &address]).context("B joins A")?;
        self.start_witness()?;
        self.tool(first, &[&["ctl"][..], &POLICY].concat())?;
        for host in BROKERS {
            until_true(LIMIT, "two brokers and a witness that vote", || {
                let status = self.tool(host, &["ctl", "-q", "cluster_status", "--formatter", "json"]);
                status.is_ok_and(|text| text.contains("\"warnings\":[]") && text.contains("witness@C"))
            })
            .with_context(|| {
                format!("{}\n{}", self.log_end(host, "broker"), self.log_end(WITNESS, "witness"))
            })?;
        }
        Ok(())
    }

    /// Starts the witness.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_witness(&self) -> Result<()> {
        if self.cast.broker == Maker::Theirs {
            return Ok(());
        }
        let folder = self.prepared(WITNESS)?;
        let config = self.write(WITNESS, "witness.toml", &self.cluster_table(WITNESS))?;
        let mut command = self.place.command(WITNESS, self.programs.join("broker"));
        command.arg("witness").arg("-c").arg(config).arg("--data").arg(folder.join("witness"));
        for host in BROKERS {
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
    fn tool(&self, host: &str, words: &[&str]) -> Result<String> {
        let data = self.host_folder(host).join("data");
        ensure!(data.exists(), "no broker ever ran on {host}");
        let mut command = self.place.command(host, self.programs.join("broker"));
        run(command.args(words).arg("--data").arg(data))
    }
}
