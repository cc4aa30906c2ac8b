//! Without root: a user namespace of our own, in which this process is root over networks it makes.

use anyhow::{Context, Result};
use std::os::unix::process::CommandExt;
use std::process::Command;
use xtask::install::find;
use xtask::lab::process::run;

/// Set when the programs are built already.
pub(super) const BUILT: &str = "WARREN_UP_BUILT";

/// Set in the user namespace.
const INSIDE: &str = "WARREN_UP_INSIDE";

/// Whether this process was started by another `up`, which did the preparations.
pub(super) fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some() || std::env::var_os(BUILT).is_some()
}

/// Whether a process lives in another user namespace than this one.
pub(super) fn is_own_user_namespace(pid: u32) -> bool {
    let of = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/user")).ok();
    of(&pid.to_string()) != of("self")
}

/// Replaces this process by one in a new user namespace, unless it is root or is there already, or such
/// namespaces are not allowed. There, `/run` is private and empty: iproute2 keeps its names in it.
pub(super) fn user_namespace_if_needed(theirs: &str) -> Result<()> {
    if std::env::var_os(INSIDE).is_some() {
        run(Command::new("mount").args(["-t", "tmpfs", "tmpfs", "/run"])).context("make a private /run")?;
        return Ok(());
    }
    if nix::unistd::geteuid().is_root() || !allowed() {
        return Ok(());
    }
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--net", "--mount", "--"]);
    command.arg(std::env::current_exe()?).args(["up", "--with", theirs]).env(INSIDE, "1");
    Err(anyhow::Error::new(command.exec()).context("start unshare"))
}

/// Whether an unprivileged user may make user namespaces here, and the tools are there.
fn allowed() -> bool {
    let tools = ["ip", "setpriv", "unshare"].iter().all(|tool| find(tool).is_some());
    tools
        && run(Command::new("unshare").args(["--user", "--map-root-user", "--net", "--mount", "true"]))
            .is_ok()
}
