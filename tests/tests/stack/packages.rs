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

/// A bare Debian of a test's own.
struct Root {
    scratch: Scratch,
}

impl Root {
    fn new(name: &str) -> Option<Self> {
        if Cast::from_environment().broker == Maker::Theirs || !ready(name, &[Needs::Network, Needs::Debian])
        {
            return None;
        }
        let scratch = Scratch::new(name).unwrap();
        let root = Self { scratch };
        std::fs::create_dir(root.path()).unwrap();
        let archive = xtask::install::debian_root().unwrap();
        run(Command::new("tar").arg("-xf").arg(archive).arg("-C").arg(root.path())).unwrap();
        std::fs::create_dir(root.path().join("packages")).unwrap();
        // Written by the installer of a whole Debian.
        root.write("etc/hosts", "127.0.0.1 localhost\n");
        for path in packages() {
            std::fs::copy(path, root.path().join("packages").join(path.file_name().unwrap())).unwrap();
        }
        Some(root)
    }

    fn path(&self) -> PathBuf {
        self.scratch.path().join("root")
    }

    fn write(&self, path: &str, text: &str) {
        std::fs::write(self.path().join(path), text).unwrap();
    }

    /// Runs a script inside, with processes, mounts and a network of its own, which all end with it.
    fn shell(&self, script: &str) -> anyhow::Result<String> {
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

    fn passed(self) {
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
         ! ls -d /etc/broker /etc/proxy /var/lib/broker /usr/bin/broker /usr/libexec/warren"
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

/// What the README prints for operators works as printed.
#[test]
fn the_readmes_installation_works_as_printed() {
    let Some(root) = Root::new("package-readme") else { return };
    root.listen();
    let steps = printed(&xtask::root().join("README.md"));
    assert!(steps.contains("apt-get install") && steps.contains("warren-vip-agent"), "{steps}");
    // The packages lie where one has loaded them to; nothing is fetched.
    let steps = steps.replace("apt-get install ", "apt-get install -q -y ");
    // A machine that was booted by systemd has started what is enabled.
    let steps = steps.replacen(".deb\n", ".deb\nsystemctl start warren-broker warren-proxy\n", 1);
    // A person needs longer than the agent does to become master.
    let then = "for _ in $(seq 200); do ip addr show eth0 | grep -q 192.0.2.66/24 && break; sleep 0.1; done
broker doctor amqp://app:change-me@192.0.2.66:5670/
broker pub --create --url amqp://app:change-me@192.0.2.66:5670/ orders hello
systemctl restart warren-broker
broker get --url amqp://app:change-me@127.0.0.1:5672/ --raw --ack orders
systemctl stop warren-vip-agent
! ip addr show eth0 | grep 192.0.2.66
systemctl stop warren-proxy warren-broker
echo all went well";
    let text = root.shell(&format!("cd /packages\nset -x\n{steps}\n{then}\n")).unwrap();
    assert!(text.contains("\nhello\n") && text.ends_with("all went well\n"), "{text}");
    println!("{text}");
    root.passed();
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
