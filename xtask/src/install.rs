//! What has to be on the machine: Debian packages, a Python environment with pika, cargo-deny. The other client
//! libraries are in [`crate::libraries`].
//!
//! Packages that bring services are installed without starting them. Without root nothing is installed
//! and the caller is told what is missing.

use crate::lab::process::run;
use crate::{root, target};
use anyhow::{Context, Result, bail};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

/// A program that the tests need and the Debian package that holds it.
#[derive(Debug, Clone, Copy)]
pub struct Need {
    /// The program's name.
    pub program: &'static str,
    /// Debian's package.
    pub package: &'static str,
}

/// For network namespaces and the helpers around them.
pub const NETWORK: &[Need] = &[
    Need { program: "ip", package: "iproute2" },
    Need { program: "ss", package: "iproute2" },
    Need { program: "setpriv", package: "util-linux" },
    Need { program: "unshare", package: "util-linux" },
    Need { program: "ps", package: "procps" },
    Need { program: "curl", package: "curl" },
    Need { program: "nft", package: "nftables" },
];

/// The programs ours are compared with and must interoperate with.
pub const PEERS: &[Need] =
    &[Need { program: "haproxy", package: "haproxy" }, Need { program: "keepalived", package: "keepalived" }];

/// The broker ours is measured beside.
pub const RABBITMQ: &[Need] = &[Need { program: "rabbitmq-server", package: "rabbitmq-server" }];

/// For disks and links of their own.
pub const FAULTS: &[Need] = &[
    Need { program: "mkfs.ext4", package: "e2fsprogs" },
    Need { program: "mount", package: "mount" },
    Need { program: "tc", package: "iproute2" },
];

/// HAProxy's terminal view.
pub const HATOP: &[Need] = &[Need { program: "hatop", package: "hatop" }];

/// Prometheus, and its checker of metrics.
pub const PROMETHEUS: &[Need] = &[
    Need { program: "prometheus", package: "prometheus" },
    Need { program: "promtool", package: "prometheus" },
];

/// Where a program lies, also where only root's search path looks.
#[must_use]
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    let folders = path.split(':').chain(["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin"]);
    folders.map(|folder| Path::new(folder).join(program)).find(|path| path.is_file())
}

/// Installs what is missing.
///
/// # Errors
/// The programs that are still missing, and why, as one sentence.
pub fn packages(needs: &[Need]) -> Result<()> {
    let missing = |needs: &[Need]| -> Vec<Need> {
        needs.iter().filter(|need| find(need.program).is_none()).copied().collect()
    };
    let absent = missing(needs);
    if absent.is_empty() {
        return Ok(());
    }
    let mut names: Vec<&str> = absent.iter().map(|need| need.package).collect();
    names.dedup();
    let list = names.join(" ");
    if !nix::unistd::geteuid().is_root() {
        bail!("missing {list}: install with `sudo apt-get install {list}`");
    }
    if find("apt-get").is_none() {
        bail!("missing {list}, and there is no apt-get here to install them");
    }
    println!("installing Debian packages: {list}");
    apt(&names).with_context(|| format!("install {list}"))?;
    let still: Vec<&str> = missing(needs).iter().map(|need| need.program).collect();
    if still.is_empty() {
        Ok(())
    } else {
        bail!("still missing after installing {list}: {}", still.join(" "))
    }
}

/// Installs a Debian package that brings a library for an interpreter, unless this line of its language runs already.
///
/// # Errors
/// As [`packages`].
pub(crate) fn library(interpreter: &str, line: &[&str], package: &str) -> Result<()> {
    let loads = || run(Command::new(interpreter).args(line)).is_ok();
    if loads() {
        return Ok(());
    }
    if !nix::unistd::geteuid().is_root() {
        bail!("missing {package}: install with `sudo apt-get install {package}`");
    }
    println!("installing Debian packages: {package}");
    apt(&[package]).with_context(|| format!("install {package}"))?;
    if loads() { Ok(()) } else { bail!("{interpreter} does not find what {package} brings") }
}

fn apt(names: &[&str]) -> Result<()> {
    let _no_services = NoServices::new()?;
    let install = || {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive");
        command.args(["install", "-y", "-q", "--no-install-recommends"]).args(names);
        run(&mut command)
    };
    // The lists of a fresh machine are absent or old: fetch them when the first attempt fails.
    if install().is_err() {
        run(Command::new("apt-get").args(["update", "-q"]))?;
        install()?;
    }
    Ok(())
}

/// Keeps package scripts from starting services: `/usr/sbin/policy-rc.d` answers 101 ("not allowed")
/// until this is dropped, when the file that was there before comes back.
struct NoServices {
    before: Option<Vec<u8>>,
}

const POLICY: &str = "/usr/sbin/policy-rc.d";

impl NoServices {
    fn new() -> Result<Self> {
        let before = std::fs::read(POLICY).ok();
        std::fs::write(POLICY, "#!/bin/sh\nexit 101\n").context("write policy-rc.d")?;
        std::fs::set_permissions(POLICY, PermissionsExt::from_mode(0o755))?;
        Ok(Self { before })
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        let _ = match &self.before {
            Some(text) => std::fs::write(POLICY, text),
            None => std::fs::remove_file(POLICY),
        };
    }
}

/// The interpreter of a Python environment of our own, with the client libraries pinned in
/// `tests/clients/requirements.txt`. Made at the first call, made again when the file changes.
///
/// # Errors
/// No python3 with venv, or the package index cannot be reached.
pub fn python() -> Result<PathBuf> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    environment(&target().join("venv"), "tests/clients/requirements.txt")
}

/// The interpreter of a Python environment in `folder` with what is pinned in this file.
pub(crate) fn environment(folder: &Path, pinned: &str) -> Result<PathBuf> {
    let wanted = root().join(pinned);
    let requirements =
        std::fs::read_to_string(&wanted).with_context(|| format!("read {}", wanted.display()))?;
    let python = folder.join("bin/python");
    let stamp = folder.join("requirements.txt");
    if python.exists() && std::fs::read_to_string(&stamp).is_ok_and(|made| made == requirements) {
        return Ok(python);
    }
    if run(Command::new("python3").args(["-c", "import ensurepip, venv"])).is_err() {
        packages(&[Need { program: "python3", package: "python3" }])?;
        if !nix::unistd::geteuid().is_root() {
            bail!("python3 has no venv: install with `sudo apt-get install python3-venv`");
        }
        apt(&["python3-venv"]).context("install python3-venv")?;
    }
    println!("making a Python environment with {}", pins(&requirements));
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(folder))?;
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes", "-r"]);
    run(pip.arg(&wanted)).with_context(|| format!("install what {pinned} lists"))?;
    std::fs::write(stamp, requirements)?;
    Ok(python)
}

fn pins(requirements: &str) -> String {
    let words = requirements.lines().filter(|line| !line.starts_with('#'));
    words
        .filter_map(|line| line.split_whitespace().find(|word| word.contains("==")))
        .collect::<Vec<_>>()
        .join(", ")
}

/// Makes sure that `cargo deny` can be called.
///
/// # Errors
/// It cannot be built.
pub fn cargo_deny() -> Result<()> {
    cargo_tool("deny", "0.20.2")
}

/// Makes sure that `cargo deb` can be called.
///
/// # Errors
/// It cannot be built.
pub fn cargo_deb() -> Result<()> {
    cargo_tool("deb", "3.8.0")
}

fn cargo_tool(name: &str, version: &str) -> Result<()> {
    if run(Command::new("cargo").args([name, "--version"])).is_ok() {
        return Ok(());
    }
    let tool = format!("cargo-{name}@{version}");
    println!("installing {tool} (a few minutes, once)");
    let status = Command::new("cargo")
        .args(["install", "--locked", "--quiet", "--debug", &tool])
        .env_remove("CARGO_TARGET_DIR")
        // Building it takes longer than all it will do here, so it is optimised a little only.
        .envs([("CARGO_PROFILE_DEV_OPT_LEVEL", "1"), ("CARGO_PROFILE_DEV_DEBUG", "0")])
        .status()
        .context("start cargo install")?;
    if status.success() { Ok(()) } else { bail!("`cargo install --locked {tool}` failed") }
}

/// What makes a bare Debian.
pub const BOOTSTRAP: &[Need] = &[Need { program: "mmdebstrap", package: "mmdebstrap" }];

/// How a bare Debian is made: what the packages depend on and recommend, because the test has no network, and what it
/// looks with. Nothing there has to survive a loss of power, and nobody reads its documents.
const BARE: &[&str] = &[
    "--variant=minbase",
    "--include=systemd,nftables,iproute2,bash-completion,logrotate,curl",
    "--dpkgopt=force-unsafe-io",
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    "--dpkgopt=path-include=/usr/share/doc/warren-*",
    "--aptopt=Acquire::Languages \"none\"",
    "bookworm",
];
/// After so many days it is made anew.
const STALE: u64 = 30;

/// A bare Debian with systemd, packed, in which packages can be installed and looked at. It is kept outside of the
/// checkout, where the next one finds it.
///
/// # Errors
/// mmdebstrap or Debian's packages cannot be had.
pub fn debian_root() -> Result<PathBuf> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut hasher = DefaultHasher::new();
    BARE.hash(&mut hasher);
    let folder = cache();
    let archive = folder.join(format!("debian-root-{:016x}.tar", hasher.finish()));
    let age = std::fs::metadata(&archive).and_then(|it| it.modified()).ok().and_then(|it| it.elapsed().ok());
    if age.is_some_and(|age| age.as_secs() < STALE * 86_400) {
        return Ok(archive);
    }
    packages(BOOTSTRAP)?;
    std::fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    println!("making a bare Debian (a minute, once)");
    let (last, options) = BARE.split_last().context("a release")?;
    // Another checkout may make the same at the same time.
    let partial = folder.join(format!("debian-root-{}.partial.tar", std::process::id()));
    let mut make = Command::new("timeout");
    make.args(["600", "mmdebstrap", "--quiet", "--format=tar"]).args(options).arg(last).arg(&partial);
    let made = run(&mut make).context("make a bare Debian");
    if made.is_err() {
        let _ = std::fs::remove_file(&partial);
    }
    made?;
    std::fs::rename(&partial, &archive)?;
    Ok(archive)
}

/// Where things are kept that do not depend on the checkout.
fn cache() -> PathBuf {
    let named = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let caches = named("XDG_CACHE_HOME").or_else(|| Some(named("HOME")?.join(".cache")));
    caches.map_or_else(target, |caches| caches.join("warren"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_outside_the_search_path_of_users_are_found() {
        assert!(find("sh").is_some());
        assert!(find("no-such-program-here").is_none());
    }

    #[test]
    fn what_is_present_needs_no_installing() {
        packages(&[Need { program: "sh", package: "no-such-package" }]).unwrap();
    }

    #[test]
    fn pins_are_read_from_the_requirements() {
        assert_eq!(pins("# note\npika==1.0 \\\n    --hash=sha256:00\n"), "pika==1.0");
    }
}
