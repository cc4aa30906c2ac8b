//! The reactor of a worker thread: a small single-threaded executor on epoll.
//!
//! ```text
//!  epoll_wait ──► readiness of sockets ──► tasks that waited ──► each is polled once ──┐
//!      ▲   timers that are due ─────────────────┘    ▲                                 │
//!      └──────────────────────────────── other threads wake tasks through an eventfd ◄─┘
//! ```
//!
//! What makes it cheap: sockets are tried before anybody waits for them and are registered once, edge
//! triggered, only when they made somebody wait; a waker is a number without a reference count; the clock is
//! read once a turn; a task is one allocation. Futures stay on their thread, so they need not be `Send`; their
//! wakers may be used from any thread, which is why tokio's channels and locks work here too. tokio's own
//! sockets and timers do not: they belong to tokio's reactor.

mod inbox;
mod slots;
mod socket;
mod splice;
#[cfg(test)]
mod tests;
mod timer;
mod waker;
mod wheel;

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use rustix::event::{Timespec, epoll};

use self::inbox::Inbox;
use self::slots::{Key, Slots};
use self::wheel::Wheel;

pub use self::socket::{Listener, Stream};
pub use self::splice::Pipe;
pub use self::timer::{Sleep, sleep, sleep_until, timeout};

/// Events taken from the kernel at a time.
const EVENTS: usize = 256;
/// Tasks polled before the kernel is asked again, at least.
const POLLS: usize = 64;
/// What epoll tells about the inbox instead of a socket.
const INBOX: u64 = u64::MAX;

thread_local! {
    static CORE: OnceCell<Core> = const { OnceCell::new() };
}

/// The reactor of a thread.
struct Core {
    epoll: OwnedFd,
    /// Where other threads leave tasks to wake.
    inbox: Arc<Inbox>,
    tasks: RefCell<Slots<Task>>,
    /// Tasks to poll.
    ready: RefCell<VecDeque<Key>>,
    sources: RefCell<Slots<Source>>,
    wheel: RefCell<Wheel>,
    started: Instant,
    now: Cell<Instant>,
}

struct Task {
    /// `None` while it is polled.
    future: Option<Pin<Box<dyn Future<Output = ()>>>>,
    /// It is in `ready`.
    queued: bool,
}

/// A registered socket.
#[derive(Default)]
struct Source {
    readable: bool,
    writable: bool,
    /// Errors and the end of the stream show in reads, even after a short one.
    hung_up: bool,
    failed: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// Runs a future on this thread, with all that it spawns, until it ends. What was spawned and still runs then
/// is dropped.
///
/// # Errors
/// When the system gives no epoll or eventfd.
///
/// # Panics
/// When this thread has run a reactor before.
pub fn run(main: impl Future<Output = ()> + 'static) -> io::Result<()> {
    let core = Core::new()?;
    CORE.with(|cell| {
        assert!(cell.set(core).is_ok(), "a thread runs one reactor in its life");
        let Some(core) = cell.get() else { return Ok(()) };
        let main = core.spawn(Box::pin(main));
        let ended = core.turn_until_ended(main);
        core.clear();
        inbox::close(core.inbox.id());
        ended
    })
}

/// Runs a future beside others on this thread.
///
/// # Panics
/// Outside of [`run`].
pub fn spawn(future: impl Future<Output = ()> + 'static) {
    with(|core| core.spawn(Box::pin(future)));
}

/// The time at which this turn of the reactor began; the real time outside of a reactor.
pub fn now() -> Instant {
    CORE.with(|cell| cell.get().map_or_else(Instant::now, |core| core.now.get()))
}

/// Lets all others that are ready run first.
pub async fn yield_now() {
    let mut yielded = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

fn with<T>(action: impl FnOnce(&Core) -> T) -> T {
    CORE.with(|cell| action(cell.get().expect("sockets and timers are used inside of a reactor")))
}

impl Core {
    fn new() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let inbox = Inbox::new()?;
        // Edge triggered: a write is told once, and nobody has to read the number.
        epoll::add(
            &epoll,
            inbox.event(),
            epoll::EventData::new_u64(INBOX),
            epoll::EventFlags::IN | epoll::EventFlags::ET,
        )?;
        let now = Instant::now();
        Ok(Self {
            epoll,
            inbox,
            tasks: RefCell::default(),
            ready: RefCell::default(),
            sources: RefCell::default(),
            wheel: RefCell::default(),
            started: now,
            now: Cell::new(now),
        })
    }

    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()>>>) -> Key {
        let key = self.tasks.borrow_mut().insert(Task { future: Some(future), queued: true });
        self.ready.borrow_mut().push_back(key);
        key
    }

    fn wake(&self, key: Key) {
        if let Some(task) = self.tasks.borrow_mut().get_mut(key)
            && !std::mem::replace(&mut task.queued, true)
        {
            self.ready.borrow_mut().push_back(key);
        }
    }

    fn turn_until_ended(&self, main: Key) -> io::Result<()> {
        let mut events: Vec<epoll::Event> = Vec::with_capacity(EVENTS);
        loop {
            self.poll_ready();
            if self.tasks.borrow_mut().get_mut(main).is_none() {
                return Ok(());
            }
            events.clear();
            let wait = self.longest_wait();
            let limit = wait.map(|milliseconds| Timespec {
                tv_sec: milliseconds / 1000,
                tv_nsec: milliseconds % 1000 * 1_000_000,
            });
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), limit.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            self.now.set(Instant::now());
            for event in &events {
                self.take_event(*event);
            }
            self.wake_timers();
        }
    }

    /// Polls tasks that are ready, and those that become ready by that, up to a bound.
    fn poll_ready(&self) {
        let most = self.ready.borrow().len().max(POLLS);
        for _ in 0..most {
            let Some(key) = self.ready.borrow_mut().pop_front() else { return };
            let taken = self.tasks.borrow_mut().get_mut(key).and_then(|task| {
                task.queued = false;
                task.future.take()
            });
            let Some(mut future) = taken else { continue };
            let waker = waker::of(self.inbox.id(), key);
            // A mistake in one task must not take the others with it; the panic has been printed.
            let state = std::panic::catch_unwind(AssertUnwindSafe(|| {
                future.as_mut().poll(&mut Context::from_waker(&waker))
            }))
            .unwrap_or(Poll::Ready(()));
            // Dropped outside of the borrow: what a future owns may use the reactor when it goes.
            match state {
                Poll::Ready(()) => {
                    let gone = self.tasks.borrow_mut().remove(key);
                    drop((future, gone));
                }
                Poll::Pending => {
                    if let Some(task) = self.tasks.borrow_mut().get_mut(key) {
                        task.future = Some(future);
                    }
                }
            }
        }
    }

    /// Milliseconds until something is due; `None` is "nothing".
    fn longest_wait(&self) -> Option<i64> {
        if !self.ready.borrow().is_empty() {
            return Some(0);
        }
        let next = self.wheel.borrow().next()?;
        // Up to the end of that millisecond, and not a turn too early.
        let passed = self.now.get().saturating_duration_since(self.started).as_micros();
        let due = (u128::from(next) * 1000).saturating_sub(passed).div_ceil(1000);
        Some(i64::try_from(due).unwrap_or(i64::MAX).min(3_600_000))
    }

    fn take_event(&self, event: epoll::Event) {
        let (flags, data) = (event.flags, event.data.u64());
        if data == INBOX {
            for key in self.inbox.take() {
                self.wake(key);
            }
            return;
        }
        let mut sources = self.sources.borrow_mut();
        let Some(source) = sources.get_mut(Key::from_u64(data)) else { return };
        let broken = flags.intersects(epoll::EventFlags::ERR | epoll::EventFlags::HUP);
        let ended = flags.contains(epoll::EventFlags::RDHUP) || broken;
        source.hung_up |= ended;
        source.failed |= flags.contains(epoll::EventFlags::ERR);
        let (mut reader, mut writer) = (None, None);
        if ended || flags.contains(epoll::EventFlags::IN) {
            source.readable = true;
            reader = source.reader.take();
        }
        if broken || flags.contains(epoll::EventFlags::OUT) {
            source.writable = true;
            writer = source.writer.take();
        }
        drop(sources);
        for waker in [reader, writer].into_iter().flatten() {
            waker.wake();
        }
    }

    fn wake_timers(&self) {
        let tick = self.tick_of(self.now.get());
        loop {
            let due = self.wheel.borrow_mut().expire(tick);
            match due {
                Some(waker) => waker.wake(),
                None => return,
            }
        }
    }

    /// Whole milliseconds from the start of the reactor to a moment.
    fn tick_of(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.started).as_millis()).unwrap_or(u64::MAX)
    }

    /// Drops all tasks, while the reactor is still there for what they own.
    fn clear(&self) {
        loop {
            let all = std::mem::take(&mut *self.tasks.borrow_mut());
            if all.is_empty() {
                break;
            }
            drop(all);
        }
        self.ready.borrow_mut().clear();
    }
}
