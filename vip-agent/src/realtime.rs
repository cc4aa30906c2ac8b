//! Being on time on a busy machine: real-time scheduling and locked memory, when allowed.

use std::mem;
use std::time::Duration;

use nix::libc;
use nix::sys::mman::{MlockAllFlags, mlockall};
use nix::sys::resource::{Resource, setrlimit};

/// A runaway loop may use the processor this long without a pause before the kernel ends it.
const LONGEST_RUN_MICROSECONDS: u64 = 2_000_000;
/// How often the agent pauses, and how long. Somebody who floods it with packets or requests keeps it from ever
/// waiting by itself, and the kernel would take that for a runaway loop and kill it.
const PAUSE_EVERY: Duration = Duration::from_millis(500);
const PAUSE: Duration = Duration::from_micros(20);

/// Asks for both; what is refused is logged and done without. The lowest priority, 1, is above every ordinary process
/// already.
pub(crate) fn enable(priority: i32) {
    if let Err(error) = setrlimit(Resource::RLIMIT_RTTIME, LONGEST_RUN_MICROSECONDS, LONGEST_RUN_MICROSECONDS)
    {
        tracing::debug!(%error, "cannot limit real-time run length");
    }
    match round_robin(priority) {
        Ok(()) => {
            tracing::debug!(priority, "real-time scheduling");
            tokio::spawn(pause_now_and_then());
        }
        Err(error) => {
            tracing::info!(%error, "no real-time scheduling; adverts may be late on a busy machine");
        }
    }
    // Without the privilege a lock of future memory would make allocations fail.
    if !nix::unistd::geteuid().is_root() {
        tracing::info!("memory is not locked; it may be swapped out");
    } else if let Err(error) = mlockall(MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE) {
        tracing::info!(%error, "memory is not locked; it may be swapped out");
    }
}

/// A loop that is stuck does not come by here, so the kernel's limit still ends it.
async fn pause_now_and_then() {
    loop {
        tokio::time::sleep(PAUSE_EVERY).await;
        // Only a call that blocks the thread counts as a pause.
        std::thread::sleep(PAUSE);
    }
}

fn round_robin(priority: i32) -> std::io::Result<()> {
    // SAFETY: `sched_param` is a plain C struct for which all zero bytes are a valid value.
    let mut parameter: libc::sched_param = unsafe { mem::zeroed() };
    parameter.sched_priority = priority;
    // Scripts must not inherit it.
    let policy = libc::SCHED_RR | libc::SCHED_RESET_ON_FORK;
    // SAFETY: the pointer is valid for the call and only read.
    if unsafe { libc::sched_setscheduler(0, policy, &raw const parameter) } == 0 {
        Ok(())
    } else {
        Err(std::io::Error::last_os_error())
    }
}
