//! Brokers on hosts A, B and C that know each other by name, and their command line.
//!
//! ```text
//!   A .141 rabbit@A      B .142 rabbit@B      C .143 rabbit@C      one cookie, three /etc/hosts
//! ```
//!
//! Ours, or RabbitMQ with `WARREN_THEIRS=broker`: what is expected of a cluster has to hold for both.

use crate::clients::{Client, script};
use crate::programs;
use crate::scratch::Scratch;
use crate::transcript::{Printed, words};
use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use xtask::lab::wait::until_true;
use xtask::lab::{Network, Process, process};
use xtask::stack::{CLIENT, Cast, Maker, Place};

/// The hosts.
pub const HOSTS: [&str; 3] = ["A", "B", "C"];
/// How long anything may take before a test fails.
pub const LIMIT: Duration = Duration::from_secs(60);
/// What all nodes share.
const COOKIE: &str = "WARRENCOOKIEWARRENCOOKIE";
/// Who may log in from everywhere.
const USER: &str = "laosun";
const PASSWORD: &str = "123456";
/// RabbitMQ's configuration.
const RABBITMQ: &str = "listeners.tcp.default = 5672\ndefault_user = laosun\ndefault_pass = 123456\n\
log.console = true\nlog.console.level = info\nlog.file = false\n";

/// The brokers, running or not.
#[derive(Debug)]
pub struct Cluster {
    // Dropped in this order: first the processes, then the hosts.
    processes: Mutex<BTreeMap<String, Process>>,
    /// The hosts.
    pub place: Place,
    maker: Maker,
    scratch: Scratch,
}

impl Cluster {
    /// Makes the hosts and starts nothing.
    ///
    /// # Errors
    /// They cannot be made.
    pub fn new(name: &str) -> Result<Self> {
        let scratch = Scratch::new(name)?;
        let place = Place::network()?;
        let maker = Cast::from_environment().broker;
        let cluster = Self { processes: Mutex::default(), place, maker, scratch };
        for host in HOSTS {
            cluster.prepare(host)?;
        }
        Ok(cluster)
    }

    /// All three, running and joined, with RabbitMQ's lines.
    ///
    /// # Errors
    /// One does not start or join.
    pub fn joined(name: &str) -> Result<Self> {
        let cluster = Self::new(name)?;
        for host in HOSTS {
            cluster.start(host)?;
        }
        for host in ["B", "C"] {
            cluster.join(host, "A")?;
        }
        Ok(cluster)
    }

    /// The tutorial's lines on a host.
    ///
    /// # Errors
    /// One fails.
    pub fn join(&self, host: &str, other: &str) -> Result<()> {
        for line in ["stop_app", &format!("join_cluster rabbit@{other}"), "start_app"] {
            self.must(host, line)?;
        }
        Ok(())
    }

    fn prepare(&self, host: &str) -> Result<()> {
        let folder = self.folder(host);
        std::fs::create_dir_all(folder.join("bin"))?;
        // Each has a second name, for when it is renamed.
        let lines = HOSTS.map(|host| format!("{} {host} {host}2\n", self.place.address(host)));
        std::fs::write(folder.join("hosts"), format!("127.0.0.1 localhost\n{}", lines.concat()))?;
        self.set_cookie(host, COOKIE)?;
        match self.maker {
            Maker::Ours => {
                for tool in
                    ["rabbitmqctl", "rabbitmq-queues", "rabbitmq-upgrade", "rabbitmq-diagnostics", "broker"]
                {
                    let program = programs::folder().join("broker");
                    std::os::unix::fs::symlink(program, folder.join("bin").join(tool))?;
                }
            }
            Maker::Theirs => {
                std::fs::write(folder.join("rabbitmq.conf"), RABBITMQ)?;
                std::fs::write(folder.join("enabled_plugins"), "[].\n")?;
            }
        }
        Ok(())
    }

    /// Gives a host another cookie than the others have; a node has to be started anew for it.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn set_cookie(&self, host: &str, cookie: &str) -> Result<()> {
        let path = self.folder(host).join(".erlang.cookie");
        let _ = std::fs::remove_file(&path);
        std::fs::write(&path, cookie)?;
        Ok(std::fs::set_permissions(&path, PermissionsExt::from_mode(0o400))?)
    }

    /// Gives a host's broker a configuration file, to be read at its next start. Ours only.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn configure(&self, host: &str, text: &str) -> Result<()> {
        Ok(std::fs::write(self.folder(host).join("broker.toml"), text)?)
    }

    fn with_config(&self, host: &str, command: &mut Command) {
        let file = self.folder(host).join("broker.toml");
        if file.exists() {
            command.arg("-c").arg(file);
        }
    }

    /// Lets the nodes show each other certificates, from their next start on. Ours only.
    ///
    /// # Errors
    /// The certificates cannot be made.
    pub fn secure(&self) -> Result<()> {
        let folder = self.scratch.path().join("nodes");
        let names = HOSTS.map(|host| format!("rabbit@{host}"));
        let mut command = self.command("A", &programs::folder().join("broker"));
        process::run(command.arg("ca").arg(&folder).args(&names))?;
        for (host, name) in HOSTS.iter().zip(&names) {
            let file = |file: &str| folder.join(file).display().to_string();
            let (cert, key) = (file(&format!("{name}.pem")), file(&format!("{name}.key")));
            let ca = file("ca.pem");
            self.configure(
                host,
                &format!("[cluster.tls]\ncert = \"{cert}\"\nkey = \"{key}\"\nca = \"{ca}\"\n"),
            )?;
        }
        Ok(())
    }

    /// The folder of a host.
    #[must_use]
    pub fn folder(&self, host: &str) -> PathBuf {
        self.scratch.path().join(host)
    }

    /// Whether RabbitMQ plays the broker.
    #[must_use]
    pub fn is_rabbitmq(&self) -> bool {
        self.maker == Maker::Theirs
    }

    /// A command on a host, under its name.
    fn command(&self, host: &str, program: &Path) -> Command {
        let folder = self.folder(host);
        let mut command = self.place.named(host, &folder.join("hosts"), program);
        command.env("HOME", &folder).env("RABBITMQ_NODENAME", format!("rabbit@{host}"));
        match self.maker {
            Maker::Ours => {
                command.env("RABBITMQ_MNESIA_BASE", folder.join("data")).env("XDG_RUNTIME_DIR", &folder);
                command.env("RABBITMQ_DEFAULT_USER", USER).env("RABBITMQ_DEFAULT_PASS", PASSWORD);
            }
            Maker::Theirs => {
                let files = [
                    ("RABBITMQ_CONFIG_FILE", "rabbitmq.conf"),
                    ("RABBITMQ_ADVANCED_CONFIG_FILE", "none.config"),
                    ("RABBITMQ_CONF_ENV_FILE", "none.conf"),
                    ("RABBITMQ_MNESIA_BASE", "data"),
                    ("RABBITMQ_LOG_BASE", "log"),
                    ("RABBITMQ_ENABLED_PLUGINS_FILE", "enabled_plugins"),
                    ("RABBITMQ_PID_FILE", "rabbitmq.pid"),
                ];
                for (name, file) in files {
                    command.env(name, folder.join(file));
                }
                command.env("RUNNING_UNDER_SYSTEMD", "1").env("ERL_CRASH_DUMP_SECONDS", "0");
            }
        }
        command
    }

    /// Starts the broker of a host, and waits until it serves.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(&self, host: &str) -> Result<()> {
        self.launch(host)?;
        self.wait_serving(host)
    }

    /// Starts the broker of a host without waiting.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn launch(&self, host: &str) -> Result<()> {
        let folder = self.folder(host);
        let command = match self.maker {
            Maker::Ours => {
                let mut command = self.command(host, &programs::folder().join("broker"));
                command.args(["--bind", "0.0.0.0"]).arg("--data").arg(folder.join("data"));
                self.with_config(host, &mut command);
                command
            }
            Maker::Theirs => self.command(host, "/usr/lib/rabbitmq/bin/rabbitmq-server".as_ref()),
        };
        let process = Process::spawn(&format!("broker on {host}"), command, &folder.join("broker.log"))?;
        self.lock().insert(host.to_owned(), process);
        Ok(())
    }

    /// Starts the third vote on a host: a witness of the cluster of `of`. Ours only.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_witness(&self, host: &str, of: &str) -> Result<()> {
        let folder = self.folder(host);
        let mut command = self.command(host, &programs::folder().join("broker"));
        command.args(["witness", "--bind", "0.0.0.0", "--join", &format!("{of}:25672")]);
        command.arg("--data").arg(folder.join("data"));
        self.with_config(host, &mut command);
        let process = Process::spawn(&format!("witness on {host}"), command, &folder.join("broker.log"))?;
        self.lock().insert(host.to_owned(), process);
        Ok(())
    }

    /// Waits until clients are served on a host, and its tools are answered.
    ///
    /// # Errors
    /// The limit passed, or the broker ended.
    pub fn wait_serving(&self, host: &str) -> Result<()> {
        let mut ended = false;
        until_true(LIMIT, &format!("the broker on {host}"), || {
            ended = !self.lock().get_mut(host).is_some_and(Process::is_running);
            ended || self.place.listens(host, 5672)
        })
        .and_then(|()| if ended { bail!("the broker on {host} ended") } else { Ok(()) })
        .with_context(|| self.log_end(host))?;
        self.must(host, "await_startup").map(drop)
    }

    /// Waits until a host's tools are answered, whether it serves clients or not.
    ///
    /// # Errors
    /// The limit passed.
    pub fn wait_control(&self, host: &str) -> Result<()> {
        let answers = || self.ctl(host, "rabbitmq-diagnostics os_env").is_ok_and(|printed| printed.code == 0);
        until_true(LIMIT, &format!("the control socket of {host}"), answers)
            .with_context(|| self.log_end(host))
    }

    /// Waits until a host's log has these words.
    ///
    /// # Errors
    /// The limit passed.
    pub fn wait_log(&self, host: &str, words: &str) -> Result<()> {
        let log = self.folder(host).join("broker.log");
        until_true(LIMIT, &format!("`{words}` in the log of {host}"), || {
            process::read_lossy(&log).contains(words)
        })
        .with_context(|| self.log_end(host))
    }

    /// Waits until a host serves no clients.
    ///
    /// # Errors
    /// The limit passed.
    pub fn wait_closed(&self, host: &str) -> Result<()> {
        until_true(LIMIT, &format!("{host} to close its port"), || !self.place.listens(host, 5672))
            .with_context(|| self.log_end(host))
    }

    /// The end of a broker's log.
    #[must_use]
    pub fn log_end(&self, host: &str) -> String {
        let log = process::read_lossy(&self.folder(host).join("broker.log"));
        format!("--- the log of {host} ends:\n{}", process::tail(&log, 30))
    }

    /// Runs a line of rabbitmqctl or of another tool on a host: the first word may name the tool.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn ctl(&self, host: &str, line: &str) -> Result<Printed> {
        self.ctl_words(host, words(line))
    }

    /// The same for a line taken apart.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn ctl_words(&self, host: &str, mut all: Vec<String>) -> Result<Printed> {
        let tools = ["rabbitmqctl", "rabbitmq-queues", "rabbitmq-upgrade", "rabbitmq-diagnostics", "broker"];
        let tool = match all.first() {
            Some(first) if tools.contains(&first.as_str()) => all.remove(0),
            _ => "rabbitmqctl".to_owned(),
        };
        let program = match self.maker {
            Maker::Ours => self.folder(host).join("bin").join(&tool),
            Maker::Theirs => Path::new("/usr/lib/rabbitmq/bin").join(&tool),
        };
        let mut command = self.command(host, &program);
        if self.maker == Maker::Ours {
            // Its data says which node it is, also when it was renamed.
            command.env_remove("RABBITMQ_NODENAME");
        }
        let output = command.args(all).output();
        output.map(Printed::from).with_context(|| format!("start {tool}"))
    }

    /// The same for a line that must work; returns what it printed.
    ///
    /// # Errors
    /// It fails.
    pub fn must(&self, host: &str, line: &str) -> Result<String> {
        let printed = self.ctl(host, line)?;
        ensure!(printed.code == 0, "[{host}] {line}: {printed:?}\n{}", self.log_end(host));
        Ok(printed.out)
    }

    /// What `cluster_status` says on a host.
    ///
    /// # Errors
    /// It fails.
    pub fn status(&self, host: &str) -> Result<serde_json::Value> {
        let text = self.must(host, "-q cluster_status --formatter json")?;
        serde_json::from_str(&text).with_context(|| text.clone())
    }

    /// What a host has to warn of.
    ///
    /// # Errors
    /// `cluster_status` fails.
    pub fn warnings(&self, host: &str) -> Result<Vec<String>> {
        let status = self.status(host)?;
        let all = status["warnings"].as_array().into_iter().flatten();
        Ok(all.filter_map(|text| text.as_str().map(str::to_owned)).collect())
    }

    /// Waits until what a host warns of is as it should be.
    ///
    /// # Errors
    /// The limit passed.
    pub fn wait_warnings(&self, host: &str, what: &str, fits: impl Fn(&[String]) -> bool) -> Result<()> {
        until_true(LIMIT, &format!("{host} to warn of {what}"), || {
            self.warnings(host).is_ok_and(|all| fits(&all))
        })
        .with_context(|| format!("{:?}\n{}", self.warnings(host), self.log_end(host)))
    }

    /// Waits until a host has so many clients.
    ///
    /// # Errors
    /// The limit passed.
    pub fn wait_connections(&self, host: &str, count: usize) -> Result<()> {
        until_true(LIMIT, &format!("{count} clients of {host}"), || {
            let text = self.must(host, "-q list_connections --no-table-headers name state");
            text.is_ok_and(|text| text.lines().filter(|line| line.contains("running")).count() == count)
        })
    }

    /// The nodes that a host sees running.
    ///
    /// # Errors
    /// `cluster_status` fails.
    pub fn running(&self, host: &str) -> Result<Vec<String>> {
        let status = self.status(host)?;
        let names = status["running_nodes"].as_array().into_iter().flatten();
        let mut names: Vec<String> = names.filter_map(|name| name.as_str().map(str::to_owned)).collect();
        names.sort();
        Ok(names)
    }

    /// Waits until a host sees these nodes running, and no others.
    ///
    /// # Errors
    /// The limit passed.
    pub fn wait_running(&self, host: &str, hosts: &[&str]) -> Result<()> {
        let wanted: Vec<String> = hosts.iter().map(|host| format!("rabbit@{host}")).collect();
        until_true(LIMIT, &format!("{host} to see {wanted:?}"), || {
            self.running(host).is_ok_and(|seen| seen == wanted)
        })
        .with_context(|| self.log_end(host))
    }

    /// Where a client finds a host's broker.
    #[must_use]
    pub fn url(&self, host: &str) -> String {
        format!("amqp://{USER}:{PASSWORD}@{}:5672/%2F", self.place.address(host))
    }

    /// Runs `nodes.py ACT WORDS…` on the client host.
    ///
    /// # Errors
    /// It fails.
    pub fn client(&self, act: &str, words: &[&str]) -> Result<String> {
        let mut command = self.place.command(CLIENT, xtask::install::python()?);
        process::run(command.arg("-B").arg(script("nodes")).arg(act).args(words))
    }

    /// Starts a client program against these hosts.
    ///
    /// # Errors
    /// It does not start.
    pub fn start_client(&self, program: &str, name: &str, hosts: &[&str], more: &[&str]) -> Result<Client> {
        let urls: Vec<String> = hosts.iter().map(|host| self.url(host)).collect();
        let urls = urls.join(",");
        let arguments = [&["--url", urls.as_str()], more].concat();
        Client::start(&self.place, program, name, self.scratch.path(), &arguments)
    }

    /// `kill -9`.
    ///
    /// # Errors
    /// It does not run.
    pub fn kill(&self, host: &str) -> Result<()> {
        self.lock().get_mut(host).with_context(|| format!("no broker on {host}"))?.kill();
        Ok(())
    }

    /// SIGTERM, and the wait for the end.
    ///
    /// # Errors
    /// It does not run or does not end.
    pub fn stop(&self, host: &str) -> Result<()> {
        let mut processes = self.lock();
        let process = processes.get_mut(host).with_context(|| format!("no broker on {host}"))?;
        process.terminate();
        process.wait(Duration::from_secs(30)).map(drop)
    }

    /// SIGTERM again and again, until it has ended.
    ///
    /// # Errors
    /// It does not run or does not end.
    pub fn stop_impatiently(&self, host: &str) -> Result<()> {
        let mut processes = self.lock();
        let process = processes.get_mut(host).with_context(|| format!("no broker on {host}"))?;
        until_true(Duration::from_secs(30), "the end", || {
            process.terminate();
            !process.is_running()
        })
    }

    /// Freezes a broker, or lets it go on.
    ///
    /// # Errors
    /// It does not run.
    pub fn freeze(&self, host: &str, frozen: bool) -> Result<()> {
        let pid = self.lock().get(host).with_context(|| format!("no broker on {host}"))?.pid();
        let sign = if frozen { Signal::SIGSTOP } else { Signal::SIGCONT };
        for pid in process::descendants(&[pid]) {
            process::signal(pid, sign);
        }
        Ok(())
    }

    /// Cuts the power of a host; [`Cluster::power_on`] gives it back, without starting anything.
    ///
    /// # Errors
    /// No such host.
    pub fn power_off(&self, host: &str) -> Result<()> {
        self.network()?.power_off(host)?;
        if let Some(process) = self.lock().get_mut(host) {
            process.kill();
        }
        Ok(())
    }

    /// See [`Cluster::power_off`].
    ///
    /// # Errors
    /// No such host.
    pub fn power_on(&self, host: &str) -> Result<()> {
        self.network()?.replug(host)
    }

    /// Cuts a host off from all others in silence, or lets it back.
    ///
    /// # Errors
    /// No such host.
    pub fn unplug(&self, host: &str, out: bool) -> Result<()> {
        if out { self.network()?.unplug(host) } else { self.network()?.replug(host) }
    }

    /// Lets nothing of `from` arrive at `to`; the other way stays open.
    ///
    /// # Errors
    /// nft refuses.
    pub fn deafen(&self, to: &str, from: &str) -> Result<()> {
        let rules = format!(
            "table ip deaf {{ chain input {{ type filter hook input priority 0; ip saddr {} drop; }}; }}",
            self.place.address(from)
        );
        self.nft(to, &rules)
    }

    /// Ends that.
    ///
    /// # Errors
    /// nft refuses.
    pub fn hear(&self, host: &str) -> Result<()> {
        self.nft(host, "delete table ip deaf")
    }

    fn nft(&self, host: &str, rules: &str) -> Result<()> {
        process::run(self.place.command(host, "nft").arg(OsString::from(rules))).map(drop)
    }

    fn network(&self) -> Result<&Network> {
        match &self.place {
            Place::Network(network) => Ok(network),
            Place::Loopback => bail!("a cluster needs hosts"),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Process>> {
        self.processes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The test passed: everything goes.
    pub fn passed(self) {
        let Self { processes, place, scratch, .. } = self;
        drop(processes);
        drop(place);
        scratch.passed();
    }
}
