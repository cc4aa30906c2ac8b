//! The Debian packages on a bare Debian: installed, started as their units say, and used as the README prints it.

use harness::document::{Block, blocks};
use harness::scratch::Scratch;
use harness::{Needs, ready};
use std::io::Write as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use xtask::lab::process::run;
use xtask::package::{self, PROGRAMS, Profile};
use xtask::stack::{Cast, Maker};

/// What `systemd-analyze security` may say at most, in tenths of its exposure, and for which unit.
const EXPOSURE: [(&str, u32); 3] = [("warren-broker", 20), ("warren-proxy", 20), ("warren-vip-agent", 50)];

/// Documents whose commands are run, in this order, where the README's have been run before. Those that replace what
/// others show come last.
const DOCUMENTS: [&str; 8] = [
    "metrics.md",
    "migration.md",
    "upgrade.md",
    "backup.md",
    "tuning.md",
    "troubleshooting.md",
    "install.md",
    "security.md",
];
/// What a host has on which HAProxy and keepalived ran, with what ours take over of it.
const HAPROXY: &str = "defaults
    mode tcp
    timeout connect 5s
    timeout client 1h
    timeout server 1h
listen amqp
    bind :5670
    server A 127.0.0.1:5672 check
listen monitor
    mode http
    bind 127.0.0.1:8100
    stats uri /monitor
";
const KEEPALIVED: &str = "vrrp_instance VI_1 {
    state BACKUP
    interface eth0
    virtual_router_id 66
    virtual_ipaddress {
        192.0.2.66/24
    }
}
";
/// RabbitMQ's own export.
const DEFINITIONS: &str = include_str!("../management/ctl/rabbitmq-3.10.8.json");

/// A bare Debian of a test's own.
pub(super) struct Root {
    scratch: Scratch,
}

impl Root {
    /// With the packages in `/packages`.
    fn new(name: &str) -> Option<Self> {
        let root = Self::bare(name)?;
        std::fs::create_dir(root.path().join("packages")).unwrap();
        for path in packages() {
            std::fs::copy(path, root.path().join("packages").join(path.file_name().unwrap())).unwrap();
        }
        Some(root)
    }

    /// With nothing of ours.
    pub(super) fn bare(name: &str) -> Option<Self> {
        if Cast::from_environment().broker == Maker::Theirs || !ready(name, &[Needs::Network, Needs::Debian])
        {
            return None;
        }
        let scratch = Scratch::new(name).unwrap();
        let root = Self { scratch };
        std::fs::create_dir(root.path()).unwrap();
        let archive = xtask::install::debian_root().unwrap();
        run(Command::new("tar").arg("-xf").arg(archive).arg("-C").arg(root.path())).unwrap();
        // Written by the installer of a whole Debian.
        root.write("etc/hosts", "127.0.0.1 localhost\n");
        Some(root)
    }

    pub(super) fn path(&self) -> PathBuf {
        self.scratch.path().join("root")
    }

    /// Writes a file inside.
    pub(super) fn write(&self, path: &str, text: &str) {
        let path = self.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// Runs a script inside, with processes, mounts and a network of its own, which all end with it.
    pub(super) fn shell(&self, script: &str) -> anyhow::Result<String> {
        self.write("script", script);
        let root = self.path();
        let root = root.to_str().unwrap();
        let outer = format!(
            "mount --bind {root} {root} && mount -t proc proc {root}/proc && mount --rbind /dev {root}/dev &&
             mount -t tmpfs tmpfs {root}/run && ip link set lo up &&
             ip link add eth0 type veth peer name eth1 && ip link set eth1 arp off up && ip link set eth0 up &&
             ip addr add 192.0.2.11/24 dev eth0 &&
             exec chroot {root} /usr/bin/env -i PATH=/usr/local/bin:/usr/bin:/usr/sbin:/bin:/sbin HOME=/root LC_ALL=C \
             /bin/sh -e -u /script 2>&1"
        );
        let unshare = ["--mount", "--net", "--pid", "--uts", "--fork", "--kill-child", "--", "sh", "-c"];
        run(Command::new("unshare").args(unshare).arg(outer))
    }

    /// Collects what services tell their manager, for the stand-in of `systemctl`.
    fn listen(&self) {
        let socket = UnixDatagram::bind(self.path().join("notify.sock")).unwrap();
        let everyone = std::os::unix::fs::PermissionsExt::from_mode(0o666);
        std::fs::set_permissions(self.path().join("notify.sock"), everyone).unwrap();
        let mut file = std::fs::File::create(self.path().join("notified")).unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length) = socket.recv(&mut buffer) {
                if file.write_all(&buffer[..length]).and_then(|()| file.write_all(b"\n")).is_err() {
                    return;
                }
            }
        });
        let systemctl = self.path().join("usr/local/bin/systemctl");
        std::fs::write(&systemctl, include_str!("service.sh")).unwrap();
        std::fs::set_permissions(&systemctl, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }

    pub(super) fn passed(self) {
        self.scratch.passed();
    }
}

/// The packages, made once.
fn packages() -> &'static [PathBuf] {
    static PACKAGES: OnceLock<Vec<PathBuf>> = OnceLock::new();
    PACKAGES.get_or_init(|| package::packages(Profile::Dev, &harness::programs::folder()).unwrap())
}

const INSTALL: &str = "cd /packages\napt-get install -q -y ./*.deb\n";

#[test]
fn packages_install_and_leave_and_keep_what_was_configured() {
    let Some(root) = Root::new("package-files") else { return };
    let text = root.shell(&format!(
        "{INSTALL}
         for unit in /usr/lib/systemd/system/warren-*.service; do systemd-analyze verify --man=no $unit; done
         getent passwd warren-broker warren-proxy
         stat -c '%a %U %G %n' /etc/broker/broker.toml /etc/proxy/proxy.toml /etc/vip-agent/vip.toml
         /usr/libexec/warren/rabbitmqctl version; /usr/libexec/warren/haproxy -v; broker --version
         ls /usr/share/man/man1/broker.1 /usr/share/man/man1/vip-agent-status.1
         bash -c '. /usr/share/bash-completion/completions/proxy; complete -p proxy'
         logrotate -d /etc/logrotate.d/warren-broker 2>&1 | grep -c 'rotating pattern: /var/log/broker'
         echo '# ours' >> /etc/broker/broker.toml
         mkdir -p /var/lib/broker && touch /var/lib/broker/data
         apt-get remove -q -y warren-broker warren-proxy warren-vip-agent
         tail -n 1 /etc/broker/broker.toml; ls /var/lib/broker/data
         {INSTALL}
         tail -n 1 /etc/broker/broker.toml
         apt-get purge -q -y warren-broker warren-proxy warren-vip-agent
         for gone in /etc/broker /etc/proxy /etc/vip-agent /var/lib/broker /usr/bin/broker /usr/libexec/warren; do
             if [ -e $gone ]; then echo $gone is left; ls -R $gone; exit 1; fi
         done"
    ));
    let text = text.unwrap();
    for part in [
        "640 root warren-broker /etc/broker/broker.toml",
        "640 root warren-proxy /etc/proxy/proxy.toml",
        "600 root root /etc/vip-agent/vip.toml",
        "vip-agent-status.1",
        "-F _proxy",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    assert_eq!(text.matches("# ours").count(), 2, "{text}");
    root.passed();
}

#[test]
fn units_leave_little_to_an_intruder() {
    let Some(root) = Root::new("package-security") else { return };
    for (unit, most) in EXPOSURE {
        let file = xtask::root().join("configs/debian").join(format!("{unit}.service"));
        std::fs::copy(file, root.path().join(format!("{unit}.service"))).unwrap();
        let told = root.shell(&format!(
            "systemd-analyze security --offline=true --no-pager --threshold={most} /{unit}.service"
        ));
        match told {
            Ok(text) => println!("{unit}: {}", text.lines().last().unwrap_or_default()),
            Err(error) => panic!("{unit} is exposed more than {most} tenths:\n{error:#}"),
        }
    }
    root.passed();
}

/// What the README and the other documents print for operators works as printed.
#[test]
fn what_documents_print_for_operators_works_as_printed() {
    let Some(root) = Root::new("package-readme") else { return };
    root.listen();
    root.write("etc/haproxy/haproxy.cfg", HAPROXY);
    root.write("etc/keepalived/keepalived.conf", KEEPALIVED);
    root.write("var/backups/rabbitmq-definitions.json", DEFINITIONS);
    let steps = printed(&xtask::root().join("README.md"));
    assert!(steps.contains("apt-get install") && steps.contains("warren-vip-agent"), "{steps}");
    // The packages lie where one has loaded them to; nothing is fetched.
    let steps = steps.replace("apt-get install ", "apt-get install -q -y ");
    // A machine that was booted by systemd has started what is enabled.
    let steps = steps.replacen(".deb\n", ".deb\nsystemctl start warren-broker warren-proxy\n", 1);
    // A person needs longer than the agent does to become master.
    let then = "for _ in $(seq 200); do ip addr show eth0 | grep -q 192.0.2.66/24 && break; sleep 0.1; done
broker doctor --monitor http://127.0.0.1:8100/monitor amqp://app:change-me@192.0.2.66:5670/
broker pub --create --url amqp://app:change-me@192.0.2.66:5670/ orders hello
systemctl restart warren-broker
broker get --url amqp://app:change-me@127.0.0.1:5672/ --raw --ack orders
echo the README is done";
    // A person needs longer than a balancer that was told nothing does to see that a broker is back.
    let up = "for _ in $(seq 150); do curl -s 'http://127.0.0.1:8100/monitor;csv' | grep -q '^amqp,A,.*,UP,' && break; sleep 0.2; done";
    let others: Vec<String> = DOCUMENTS
        .iter()
        .map(|name| {
            let text = printed(&xtask::root().join("docs").join(name));
            // What a newer package does by itself.
            let text = text.replace(
                "./warren-broker_*.deb\n",
                "./warren-broker_*.deb\nsystemctl restart warren-broker\n",
            );
            format!("{up}\necho now {name}\ncd /packages\n{text}\necho {name} is done\n")
        })
        .collect();
    let end = "systemctl stop warren-vip-agent
! ip addr show eth0 | grep 192.0.2.66
systemctl stop warren-proxy warren-broker
echo all went well";
    let script = format!("cd /packages\nset -x\n{steps}\n{then}\n{}\n{end}\n", others.concat());
    let text = root.shell(&script).unwrap();
    assert!(text.contains("\nhello\n") && text.ends_with("all went well\n"), "{text}");
    for part in ["PASS balancer", "amqp/A up", "PASS nodes", "PASS spread", "created "] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    for name in metrics_in(&std::fs::read_to_string(xtask::root().join("docs/metrics.md")).unwrap()) {
        assert!(text.contains(&format!("\n{name}")), "no metric is called {name}");
    }
    root.passed();
}

/// Names of metrics that a document shows.
fn metrics_in(text: &str) -> Vec<&str> {
    let prefixes = ["rabbitmq_", "haproxy_", "keepalived_"];
    let names = text.split('`').filter(|it| prefixes.iter().any(|prefix| it.starts_with(prefix)));
    let names: Vec<&str> = names.filter(|it| !it.contains(['…', ' ', '\n'])).collect();
    assert!(names.len() > 10, "{names:?}");
    names
}

#[test]
fn every_document_with_commands_to_run_is_run() {
    for path in super::documents::all() {
        let text = std::fs::read_to_string(&path).unwrap();
        if blocks(&text).iter().any(Block::is_runnable) {
            let name = path.file_name().and_then(|it| it.to_str()).unwrap();
            assert!(name == "README.md" || DOCUMENTS.contains(&name), "{name} is not among DOCUMENTS");
        }
    }
}

#[test]
fn packaged_programs_have_no_symbols() {
    if Cast::from_environment().broker == Maker::Theirs || !ready("package-symbols", &[Needs::Debian]) {
        return;
    }
    packages();
    for program in PROGRAMS {
        let sections = |path: PathBuf| run(Command::new("readelf").arg("-SW").arg(path)).unwrap();
        let packed = sections(package::folder().join("release").join(program.name));
        assert!(
            !packed.contains(".debug_info") && !packed.contains(".symtab"),
            "{}:\n{packed}",
            program.name
        );
        let kept = sections(package::symbols().join(format!("{}.debug", program.name)));
        assert!(kept.contains(".symtab"), "{}:\n{kept}", program.name);
    }
}

/// The runnable blocks of a document, as one script.
fn printed(document: &Path) -> String {
    let text = std::fs::read_to_string(document).unwrap();
    let runnable: Vec<String> =
        blocks(&text).into_iter().filter(Block::is_runnable).map(|block| block.text).collect();
    assert!(!runnable.is_empty(), "{} has no runnable block", document.display());
    runnable.join("\n")
}

#[test]
fn every_program_has_a_package() {
    let names: Vec<String> = PROGRAMS.iter().map(|program| program.package()).collect();
    assert_eq!(names, EXPOSURE.map(|(unit, _)| unit));
}
