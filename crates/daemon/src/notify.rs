//! Telling the service manager how we are (`sd_notify(3)`); every call does nothing outside systemd.

use std::time::Duration;

use sd_notify::NotifyState;

/// Start-up is complete (`READY=1`), with a line for `systemctl status`.
pub fn ready(status: &str) {
    send(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// A reload begins (`RELOADING=1`); follow it with [`ready`].
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(at) => send(&[NotifyState::Reloading, at]),
        Err(_) => send(&[NotifyState::Reloading]),
    }
}

/// The daemon begins to stop (`STOPPING=1`).
pub fn stopping() {
    send(&[NotifyState::Stopping]);
}

/// Another process is the main one from now on (`MAINPID=`).
pub fn main_pid(pid: u32) {
    send(&[NotifyState::MainPid(pid)]);
}

/// A line for `systemctl status`.
pub fn status(text: &str) {
    send(&[NotifyState::Status(text)]);
}

/// Still alive (`WATCHDOG=1`).
pub fn watchdog() {
    send(&[NotifyState::Watchdog]);
}

/// How often to call [`watchdog`]: half of what the unit file's `WatchdogSec=` allows; `None` when unset.
#[must_use]
pub fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 2)
}

fn send(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "cannot notify the service manager");
    }
}
