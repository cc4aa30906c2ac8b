//! A thread that stays outside: it reads files, looks names up and opens sockets for a reload.
//!
//! It is started before `chroot` and keeps the file system as it was then (a thread may have a root
//! directory of its own once it no longer shares it, unshare(2) `CLONE_FS`), so that a reload finds
//! the configuration, certificates and log sockets where they were at the start. User and group are those
//! of the process: what the process gave up, it gave up. And what blocks, blocks nobody else.

use std::sync::mpsc::{Sender, channel};

use daemon::exit::Exit;
use daemon::run::Failure;
use tokio::sync::oneshot;

type Errand = Box<dyn FnOnce() + Send>;

/// The thread; it ends when this is dropped.
#[derive(Debug, Clone)]
pub struct Keeper {
    errands: Sender<Errand>,
    /// Whether it keeps a root directory of its own.
    is_outside: bool,
}

impl Keeper {
    /// Starts it.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn start() -> Result<Self, Failure> {
        let (errands, inbox) = channel::<Errand>();
        let (told, outside) = channel();
        std::thread::Builder::new()
            .name("keeper".to_owned())
            .spawn(move || {
                let unshared = nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS);
                let _ = told.send(unshared.is_ok());
                for errand in inbox {
                    errand();
                }
            })
            .map_err(|error| Failure::new(Exit::OsError, format!("cannot start a thread: {error}")))?;
        Ok(Self { errands, is_outside: outside.recv().unwrap_or(false) })
    }

    /// Whether files outside of a later `chroot` can be read.
    #[must_use]
    pub fn is_outside(&self) -> bool {
        self.is_outside
    }

    /// Runs something there. `None` when it panicked.
    pub async fn run<T: Send + 'static>(&self, errand: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let (sender, receiver) = oneshot::channel();
        let errand = move || {
            // One that panics must not end the thread for good; the caller sees that nothing came.
            if let Ok(result) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(errand)) {
                let _ = sender.send(result);
            }
        };
        self.errands.send(Box::new(errand)).ok()?;
        receiver.await.ok()
    }

    /// Runs something there that nobody waits for.
    pub fn later(&self, errand: impl FnOnce() + Send + 'static) {
        let errand = move || drop(std::panic::catch_unwind(std::panic::AssertUnwindSafe(errand)));
        let _ = self.errands.send(Box::new(errand));
    }
}
