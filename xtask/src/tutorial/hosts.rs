//! The tutorial's hosts: each with processes, files and a name of its own, so that the tutorial's lines and files work
//! there as they are printed.
//!
//! ```text
//!   A .141  B .142        broker, rabbitmqctl             ens33 is each host's interface
//!   C .143  D .144        haproxy, keepalived             /etc, /var/lib, /var/log and /run are each host's own
//!   CL .200               java, spring, curl
//! ```
//!
//! What is called `haproxy`, `keepalived` and `rabbitmqctl` there are our programs: they answer to these names.

use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use xtask::lab::process::{self, Process, run, tail};
use xtask::lab::wait::{until, until_true};
use xtask::lab::{Network, network};
use xtask::root;
use xtask::stack::VIP;

/// The hosts and the last octets of their addresses.
const HOSTS: [(&str, u8); 5] = [("A", 141), ("B", 142), ("C", 143), ("D", 144), ("CL", 200)];
/// The interface in the tutorial's files.
const INTERFACE: &str = "ens33";
/// How long a program may take to do what it was started for.
const LIMIT: Duration = Duration::from_secs(60);
/// No line runs longer.
const LIMIT_SECONDS: &str = "120";

/// Where each host's own programs are: first in the search path, also in that of scripts which an agent runs.
const PROGRAMS: &str = "/usr/local/sbin";

/// The first process of a host: gives it its name and its files, and then does what every first process has to, which
/// is to bury the others. What the kernel still shows of a dead `haproxy` would be a living one for `ps -C haproxy`.
const FIRST: &str = r#"set -e
printf %s "$1" >/proc/sys/kernel/hostname
mount --bind "$2/etc" /etc
mount --bind "$2/lib" /var/lib
mount --bind "$2/log" /var/log
mount --bind "$2/bin" /usr/local/sbin
mount -t tmpfs tmpfs /run
touch "$2/up"
trap : TERM
while :; do sleep 3600 & wait $! || :; done
"#;

/// Who plays in the tutorial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Broker,
    Proxy,
    Agent,
}

impl Role {
    pub(super) fn named(word: &str) -> Result<Self> {
        Ok(match word {
            "broker" => Self::Broker,
            "haproxy" => Self::Proxy,
            "keepalived" => Self::Agent,
            other => bail!("nobody is called `{other}`: broker, haproxy or keepalived"),
        })
    }

    /// The name of its process.
    fn process(self) -> &'static str {
        match self {
            Self::Broker => "broker",
            Self::Proxy => "haproxy",
            Self::Agent => "keepalived",
        }
    }
}

/// The hosts, running or not. Dropping them takes everything down.
pub(super) struct Hosts {
    // Dropped in this order: first the processes, then the network.
    first: Mutex<BTreeMap<String, Process>>,
    network: Network,
    folder: PathBuf,
    /// Shell functions, one for each kind of the tutorial's programs.
    functions: String,
}

impl Hosts {
    /// Makes the hosts, each with the tutorial's files. `programs` is the folder of our executables; `clients` are the
    /// tutorial's own programs, without their class, each with the name by which a line calls them.
    pub(super) fn new(folder: &Path, programs: &Path, clients: &[(&str, Command)]) -> Result<Self> {
        let network = Network::with_interface(INTERFACE)?;
        let mut functions = String::new();
        for (name, command) in clients {
            functions += &format!("{name}() {{ command {} \"$@\"; }}\n", quoted(command));
        }
        let hosts = Self { first: Mutex::default(), network, folder: folder.to_owned(), functions };
        for (host, octet) in HOSTS {
            hosts.network.add_host(host, octet)?;
            hosts.furnish(host, programs).with_context(|| format!("the files of {host}"))?;
            hosts.boot(host)?;
        }
        Ok(hosts)
    }

    fn folder(&self, host: &str) -> PathBuf {
        self.folder.join(host)
    }

    /// What is on a host's disk.
    fn furnish(&self, host: &str, programs: &Path) -> Result<()> {
        let folder = self.folder(host);
        for part in ["lib", "log", "bin"] {
            std::fs::create_dir_all(folder.join(part))?;
        }
        // A home, as RabbitMQ's packages have it.
        std::fs::create_dir_all(folder.join("lib/rabbitmq"))?;
        let etc = folder.join("etc");
        run(Command::new("cp").arg("-a").arg("/etc").arg(&etc))?;
        let lines = HOSTS.map(|(host, octet)| format!("{}{octet} {host}\n", network::SUBNET));
        std::fs::write(etc.join("hosts"), format!("127.0.0.1 localhost\n{}", lines.concat()))?;
        let link = |program: &str, names: &[&str]| -> Result<()> {
            for name in names {
                symlink(programs.join(program), folder.join("bin").join(name))?;
            }
            Ok(())
        };
        match host {
            "A" | "B" => link("broker", &["broker", "rabbitmqctl", "rabbitmq-plugins"])?,
            "C" | "D" => {
                link("proxy", &["haproxy"])?;
                link("vip-agent", &["keepalived", "vip-agent"])?;
                let mine = if host == "D" { "-d" } else { "" };
                let files = [
                    (format!("haproxy{mine}.cfg"), "haproxy/haproxy.cfg"),
                    (format!("keepalived{mine}.conf"), "keepalived/keepalived.conf"),
                    ("haproxy_check.sh".to_owned(), "keepalived/haproxy_check.sh"),
                ];
                for (from, to) in files {
                    let (from, to) = (root().join("configs/tutorial").join(from), etc.join(to));
                    std::fs::create_dir_all(to.parent().unwrap_or(&etc))?;
                    std::fs::copy(&from, &to).with_context(|| format!("copy {}", from.display()))?;
                    let mode = if to.extension().is_some_and(|it| it == "sh") { 0o755 } else { 0o644 };
                    std::fs::set_permissions(&to, PermissionsExt::from_mode(mode))?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Switches a host on.
    fn boot(&self, host: &str) -> Result<()> {
        let folder = self.folder(host);
        let up = folder.join("up");
        let _ = std::fs::remove_file(&up);
        let mut command = self.network.command(host, "unshare");
        command.args(["--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc", "--"]);
        command.args(["bash", "-c", FIRST, "bash", host]).arg(&folder);
        let log = folder.join("first.log");
        let first = Process::spawn(host, command, &log)?;
        self.lock().insert(host.to_owned(), first);
        until_true(LIMIT, &format!("host {host}"), || up.exists())
            .with_context(|| tail(&process::read_lossy(&log), 10))
    }

    /// A command inside a host.
    fn inside(&self, host: &str) -> Result<Command> {
        let owner =
            self.lock().get(host).map(Process::pid).with_context(|| format!("there is no host {host}"))?;
        let all = process::descendants(&[owner]);
        let first = all.get(1).with_context(|| format!("host {host} is off"))?;
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", "nsenter", "--target", &first.to_string()]);
        command.args(["--mount", "--uts", "--net", "--pid", "--wd=/", "--"]);
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{PROGRAMS}:{path}"));
        command.env("HOME", "/var/lib/rabbitmq").env_remove("XDG_RUNTIME_DIR").env_remove("XDG_DATA_HOME");
        command.env("TUTORIAL_HOST", format!("{}141", network::SUBNET));
        Ok(command)
    }

    /// Runs a line on a host; also one that fails has an output.
    pub(super) fn shell(&self, host: &str, line: &str) -> Result<String> {
        let mut command = self.inside(host)?;
        command.args(["timeout", LIMIT_SECONDS, "bash", "-c", &format!("{}{line}", self.functions)]);
        let output = command.stdin(Stdio::null()).output().with_context(|| format!("run `{line}`"))?;
        Ok(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    }

    /// Runs a line on a host again and again until it ends well, and returns what it said then.
    pub(super) fn until(&self, host: &str, line: &str, limit: Duration) -> Result<String> {
        let marked = format!("{line} && echo DONE");
        let mut last = String::new();
        let found = until(limit, &format!("`{line}` to end well"), || {
            last = self.shell(host, &marked).unwrap_or_else(|error| format!("{error:#}"));
            last.strip_suffix("DONE\n").map(str::to_owned)
        });
        found.with_context(|| last.clone())
    }

    fn holds(&self, host: &str, line: &str) -> bool {
        self.shell(host, &format!("{line} >/dev/null 2>&1 && echo yes")).is_ok_and(|text| text == "yes\n")
    }

    /// Starts a program and waits until it does its work.
    pub(super) fn start(&self, host: &str, role: Role) -> Result<()> {
        let line = match role {
            // Reachable from the other hosts, as RabbitMQ is.
            Role::Broker => "setsid broker --bind 0.0.0.0 >>/var/log/broker.log 2>&1 </dev/null &",
            Role::Proxy => "haproxy -f /etc/haproxy/haproxy.cfg >>/var/log/haproxy.log 2>&1",
            Role::Agent => "keepalived >>/var/log/keepalived.log 2>&1 </dev/null",
        };
        let said = self.shell(host, line)?;
        let works = match role {
            Role::Broker => "ss -Hltn 'sport = :5672' | grep -q . && rabbitmqctl -q await_startup",
            Role::Proxy => "ss -Hltn 'sport = :5672' | grep -q .",
            Role::Agent => "test -s /run/keepalived.pid",
        };
        until_true(LIMIT, &format!("{} on {host}", role.process()), || self.holds(host, works))
            .with_context(|| format!("{said}{}", self.log_end(host, role)))
    }

    /// Sends a signal to a program on a host, and waits until it is gone.
    pub(super) fn signal(&self, host: &str, role: Role, signal: &str) -> Result<()> {
        let name = role.process();
        let pids = self.shell(host, &format!("pgrep -x {name}"))?;
        ensure!(!pids.trim().is_empty(), "no {name} runs on {host}");
        // Processes of this host only: it has a table of its own.
        self.shell(host, &format!("killall -{signal} {name}"))?;
        let gone = format!("for pid in {}; do [ ! -e /proc/$pid ] || exit 1; done", pids.replace('\n', " "));
        until_true(LIMIT, &format!("the end of {name} on {host}"), || {
            self.holds(host, &format!("( {gone} )"))
        })
    }

    /// Cuts the power of a host.
    pub(super) fn power_off(&self, host: &str) -> Result<()> {
        self.network.power_off(host)?;
        self.lock().remove(host);
        Ok(())
    }

    /// Gives a host its power back. What ran there does not come back by itself.
    pub(super) fn power_on(&self, host: &str) -> Result<()> {
        self.network.replug(host)?;
        self.boot(host)
    }

    /// Copies a file from one host to the same place on another, as `scp -p` does.
    pub(super) fn copy(&self, from: &str, to: &str, path: &str) -> Result<()> {
        let place = |host: &str| {
            let below = path.strip_prefix("/var/").with_context(|| format!("{path} is not below /var"))?;
            anyhow::Ok(self.folder(host).join(below))
        };
        run(Command::new("cp").arg("-pf").arg(place(from)?).arg(place(to)?)).map(drop)
    }

    /// Waits until this host, and nobody else, has the floating address.
    pub(super) fn wait_holder(&self, host: &str, limit: Duration) -> Result<()> {
        let holders = || -> Vec<&str> {
            let has = |host: &&str| self.network.addresses(host).iter().any(|it| it == VIP);
            ["C", "D"].into_iter().filter(has).collect()
        };
        until_true(limit, &format!("{VIP} on {host}"), || holders() == [host]).with_context(|| {
            let logs = ["C", "D"].map(|host| self.log_end(host, Role::Agent));
            format!("it is on {:?}\n{}", holders(), logs.join("\n"))
        })
    }

    fn log_end(&self, host: &str, role: Role) -> String {
        let log = self.folder(host).join("log").join(format!("{}.log", role.process()));
        format!("--- the log of {} on {host} ends:\n{}", role.process(), tail(&process::read_lossy(&log), 30))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Process>> {
        self.first.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A command as words of a shell.
fn quoted(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words = words.map(|word| format!("'{}'", word.to_string_lossy().replace('\'', r"'\''")));
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_quoted_for_a_shell() {
        let mut command = Command::new("echo");
        command.args(["a b", "it's", "*"]);
        assert_eq!(run(Command::new("sh").args(["-c", &quoted(&command)])).unwrap(), "a b it's *\n");
    }

    #[test]
    fn nobody_else_plays() {
        assert_eq!(Role::named("haproxy").unwrap().process(), "haproxy");
        assert!(Role::named("nginx").is_err());
    }
}
