//! Carries out what queues ask of their segment files: writes them, reads them ahead of the consumers, removes
//! them once the log says durably that nobody needs them.
//!
//! ```text
//! seg/            segments of durable queues; the log knows each of them
//! seg-transient/  of queues that end with the node; emptied at every start
//! ```
//!
//! The work is done on threads for blocking work, few at a time. A queue has at most one segment being written
//! and one window being read, so what waits here is bounded by the number of queues.

use crate::alarms::Resource;
use crate::node::Node;
use crate::shard::{LocalQueue, Turn, TurnBuffers};
use amqp::content::Properties;
use broker_core::ids::QueueId;
use broker_core::message::Message;
use broker_core::queue::paged::{PageOut, Stored, Window, WindowRead};
use broker_core::record::{self, Enq};
use broker_store::Lsn;
use broker_store::disk::Disk;
use broker_store::segment::{self, Segment, SegmentBuilder, SegmentError, SegmentIndex, SegmentMeta};
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use tokio::sync::{Semaphore, mpsc};

/// Segments being written at the same time.
const WRITERS: usize = 2;
/// Windows being read at the same time.
const READERS: usize = 4;
/// Segments that stay open between two windows.
const OPEN: usize = 32;

/// What queues asked for in a turn.
#[derive(Debug, Default)]
pub(crate) struct PagingWork {
    pub(crate) page_outs: Vec<PageOut>,
    pub(crate) windows: Vec<Window>,
    pub(crate) removals: Vec<Removal>,
}

impl PagingWork {
    fn is_empty(&self) -> bool {
        self.page_outs.is_empty() && self.windows.is_empty() && self.removals.is_empty()
    }
}

/// Files that are not needed any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Removal {
    /// One segment.
    Segment {
        /// Whose.
        queue: QueueId,
        /// Its first message.
        first_qseq: u64,
        /// Of a durable queue.
        durable: bool,
    },
    /// Everything a queue has.
    Queue(QueueId),
}

#[derive(Debug)]
enum Job {
    Write(PageOut),
    Read(Window),
}

/// A segment that is being read, with its index.
struct OpenSegment {
    first_qseq: u64,
    segment: Segment,
    index: SegmentIndex,
}

/// The node's segment files.
pub(crate) struct Pager {
    disk: Arc<dyn Disk>,
    durable: PathBuf,
    transient: PathBuf,
    storage_uuid: [u8; 16],
    jobs: mpsc::UnboundedSender<Job>,
    open: Mutex<HashMap<QueueId, Arc<OpenSegment>>>,
    /// Queues whose directory exists.
    made: Mutex<HashSet<(QueueId, bool)>>,
    removals: Mutex<VecDeque<(Lsn, Removal)>>,
}

impl std::fmt::Debug for Pager {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pager").field("durable", &self.durable).finish_non_exhaustive()
    }
}

/// Where the work comes in; see [`run`].
#[derive(Debug)]
pub(crate) struct PagerInbox(mpsc::UnboundedReceiver<Job>);

impl Pager {
    /// The segments below `segments`; those of an earlier life that nobody can want are removed.
    pub(crate) fn new(disk: Arc<dyn Disk>, segments: PathBuf, storage_uuid: [u8; 16]) -> (Pager, PagerInbox) {
        let transient = segments.with_file_name("seg-transient");
        if let Err(error) = std::fs::remove_dir_all(&transient)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(path = %transient.display(), %error, "could not remove what transient queues left");
        }
        let (jobs, inbox) = mpsc::unbounded_channel();
        let pager = Pager {
            disk,
            durable: segments,
            transient,
            storage_uuid,
            jobs,
            open: Mutex::default(),
            made: Mutex::default(),
            removals: Mutex::default(),
        };
        (pager, PagerInbox(inbox))
    }

    /// Takes over what queues asked for. `lsn` is where the log stands: it has heard of it up to there.
    pub(crate) fn submit(&self, work: &mut PagingWork, lsn: Lsn) {
        if work.is_empty() {
            return;
        }
        // The task ends with the node only.
        work.page_outs.drain(..).for_each(|page_out| drop(self.jobs.send(Job::Write(page_out))));
        work.windows.drain(..).for_each(|window| drop(self.jobs.send(Job::Read(window))));
        if !work.removals.is_empty() {
            self.removals.lock().extend(work.removals.drain(..).map(|removal| (lsn, removal)));
        }
    }

    /// Removes files when the log is durable up to `lsn`.
    pub(crate) fn remove_later(&self, lsn: Lsn, removal: Removal) {
        self.removals.lock().push_back((lsn, removal));
    }

    /// Removes the files that may go, now that the log is durable up to `durable`.
    pub(crate) fn remove_due(&self, durable: Lsn) {
        loop {
            let due = {
                let mut removals = self.removals.lock();
                let due = removals.front().is_some_and(|(lsn, _)| *lsn <= durable);
                if due { removals.pop_front() } else { None }
            };
            let Some((_, removal)) = due else { return };
            self.remove_now(removal);
        }
    }

    fn remove_now(&self, removal: Removal) {
        if let Err(error) = self.remove(removal) {
            tracing::error!(?removal, %error, "segment files could not be removed");
        }
    }

    fn remove(&self, removal: Removal) -> std::io::Result<()> {
        match removal {
            Removal::Segment { queue, first_qseq, durable } => {
                let mut open = self.open.lock();
                if open.get(&queue).is_some_and(|open| open.first_qseq == first_qseq) {
                    open.remove(&queue);
                }
                drop(open);
                segment::remove(&*self.disk, &self.dir(queue, durable), first_qseq)
                    .map_err(std::io::Error::other)
            }
            Removal::Queue(queue) => {
                self.open.lock().remove(&queue);
                for durable in [true, false] {
                    if self.made.lock().remove(&(queue, durable)) {
                        std::fs::remove_dir_all(self.dir(queue, durable))?;
                    }
                }
                Ok(())
            }
        }
    }

    fn dir(&self, queue: QueueId, durable: bool) -> PathBuf {
        segment::queue_dir(if durable { &self.durable } else { &self.transient }, queue.0)
    }

    /// The folder of a queue's segments, made when it is not there.
    fn make_dir(&self, queue: QueueId, durable: bool) -> Result<PathBuf, SegmentError> {
        let root = if durable { &self.durable } else { &self.transient };
        if self.made.lock().contains(&(queue, durable)) {
            return Ok(self.dir(queue, durable));
        }
        let dir = segment::create_queue_dir(&*self.disk, root, queue.0)?;
        self.made.lock().insert((queue, durable));
        Ok(dir)
    }

    fn write(&self, page_out: &PageOut, now: u64) -> Result<SegmentMeta, SegmentError> {
        let dir = self.make_dir(page_out.queue, page_out.durable)?;
        let mut builder = SegmentBuilder::new(page_out.queue.0, self.storage_uuid);
        let octets = page_out.messages.iter().map(|stored| stored.message.memory()).sum();
        builder.reserve(page_out.messages.len(), octets);
        for stored in &page_out.messages {
            let view = stored.message.view();
            let message = record::Message {
                enq_ms: now,
                expiry_ms: (stored.expires_ms != 0).then_some(stored.expires_ms),
                priority: None,
                pub_ref: None,
                delivery_count: stored.returns,
                exchange: view.exchange,
                routing_key: view.routing_key,
                properties: view.properties,
                body: view.body,
            };
            let (queue_id, epoch) = (page_out.queue.0, page_out.epoch);
            let fits = builder.push(&Enq { queue_id, epoch, off: 0, qseq: stored.qseq, message });
            debug_assert!(fits, "a queue asks for no more than a segment takes");
        }
        let meta = if page_out.durable {
            builder.write(&*self.disk, &dir)?
        } else {
            builder.write_unsynced(&*self.disk, &dir)?
        };
        Ok(meta.expect("a segment is asked for because there are messages"))
    }

    /// Reads a window of a segment.
    pub(crate) fn read(&self, window: &Window) -> Result<WindowRead, SegmentError> {
        let open = self.opened(window)?;
        let entries = open.index.entries().len();
        let from = open.index.slot_from(window.from);
        let slots = open.index.window(from, window.bytes);
        let slots = slots.start..slots.end.min(slots.start + window.messages);
        let at_end = slots.end >= entries;
        let mut messages = Vec::with_capacity(slots.len());
        open.segment.read(&open.index, slots, &mut Vec::new(), |_, enq| messages.push(stored(&enq)))?;
        if at_end {
            self.open.lock().remove(&window.queue);
        }
        Ok(WindowRead { messages, at_end })
    }

    fn opened(&self, window: &Window) -> Result<Arc<OpenSegment>, SegmentError> {
        if let Some(open) = self.open.lock().get(&window.queue)
            && open.first_qseq == window.segment
        {
            return Ok(Arc::clone(open));
        }
        let dir = self.dir(window.queue, window.durable);
        let segment = Segment::open(&*self.disk, &dir, &self.storage_uuid, window.queue.0, window.segment)?;
        let index = segment.index()?;
        let open = Arc::new(OpenSegment { first_qseq: window.segment, segment, index });
        let mut all = self.open.lock();
        if all.len() >= OPEN {
            all.clear();
        }
        all.insert(window.queue, Arc::clone(&open));
        Ok(open)
    }

    /// How many messages of a segment that recovery found are not in `gone`.
    pub(crate) fn count_live(
        &self,
        queue: QueueId,
        first_qseq: u64,
        gone: impl Fn(u64) -> bool,
    ) -> Result<u64, SegmentError> {
        let dir = self.dir(queue, true);
        let segment = Segment::open(&*self.disk, &dir, &self.storage_uuid, queue.0, first_qseq)?;
        let index = segment.index()?;
        Ok(index.entries().iter().filter(|entry| !gone(entry.qseq)).count() as u64)
    }

    /// Looks at what is on the disk at a start: removes segments that the log does not know (they were being
    /// written when the node died) and names queues that nobody knows.
    pub(crate) fn sort_out(&self, known: impl Fn(QueueId, u64) -> bool) -> Vec<QueueId> {
        let mut strangers = Vec::new();
        for name in self.disk.list(&self.durable).unwrap_or_default() {
            let Ok(id) = u64::from_str_radix(&name, 16) else { continue };
            let (queue, dir) = (QueueId(id), self.durable.join(&name));
            let segments = segment::list(&*self.disk, &dir).unwrap_or_default();
            let (wanted, unknown): (Vec<u64>, Vec<u64>) =
                segments.into_iter().partition(|first| known(queue, *first));
            if wanted.is_empty() && !unknown.is_empty() {
                strangers.push(queue);
                continue;
            }
            self.made.lock().insert((queue, true));
            for first_qseq in unknown {
                if let Err(error) = segment::remove(&*self.disk, &dir, first_qseq) {
                    tracing::warn!(%error, "an unfinished segment could not be removed");
                }
            }
        }
        strangers
    }

    /// The folder of a queue below the data directory.
    pub(crate) fn relative_dir(&self, queue: QueueId) -> PathBuf {
        let root = self.durable.file_name().unwrap_or_default();
        segment::queue_dir(Path::new(root), queue.0)
    }
}

fn stored(enq: &Enq<'_>) -> Stored {
    let message = &enq.message;
    let persistent =
        Properties::parse(message.properties).is_ok_and(|properties| properties.delivery_mode() == Some(2));
    Stored {
        qseq: enq.qseq,
        message: Arc::new(Message::copy_from(&message.view(), persistent)),
        expires_ms: message.expiry_ms.unwrap_or(0),
        returns: message.delivery_count,
    }
}

/// Does what comes in until the node is gone.
pub(crate) async fn run(node: Weak<Node>, inbox: PagerInbox) {
    let PagerInbox(mut inbox) = inbox;
    let (writers, readers) = (Arc::new(Semaphore::new(WRITERS)), Arc::new(Semaphore::new(READERS)));
    while let Some(job) = inbox.recv().await {
        let places = if matches!(job, Job::Write(_)) { &writers } else { &readers };
        let (places, node) = (Arc::clone(places), Weak::clone(&node));
        tokio::spawn(async move {
            let Ok(_place) = places.acquire().await else { return };
            let Some(node) = node.upgrade() else { return };
            let done = tokio::task::spawn_blocking(move || match job {
                Job::Write(page_out) => write(&node, &page_out),
                Job::Read(window) => read(&node, &window),
            });
            if let Err(error) = done.await {
                tracing::error!(%error, "work on a segment failed");
            }
        });
    }
}

fn write(node: &Node, page_out: &PageOut) {
    let written = node.pager.write(page_out, node.now_ms());
    let mut turn = Turn::new(node, TurnBuffers::default(), node.now_ms());
    let (id, durable, first_qseq) = (page_out.queue, page_out.durable, page_out.first_qseq());
    match written {
        Ok(meta) => {
            node.alarms.set(Resource::Segments, false);
            let meta = meta.encode();
            let outcome = turn.held(id, |queue, now, fx| queue.paged_out(now, page_out, &meta, fx));
            turn.close();
            match outcome {
                // The messages are freed when nobody waits for the queue.
                Some(Some(freed)) => drop(freed),
                Some(None) => {
                    node.pager.remove_now(Removal::Segment { queue: id, first_qseq, durable });
                    turn.held(id, LocalQueue::page_out_removed);
                }
                None => node.pager.remove_later(0, Removal::Queue(id)),
            }
        }
        Err(error) => {
            if error.is_full() {
                tracing::debug!(queue = %id, %error, "messages stay in memory: no room for a segment");
                node.alarms.set(Resource::Segments, true);
            } else {
                tracing::error!(queue = %id, %error, "messages stay in memory: a segment could not be written");
            }
            turn.held(id, LocalQueue::page_out_failed);
        }
    }
    turn.finish();
}

fn read(node: &Node, window: &Window) {
    let read = node.pager.read(window);
    let mut turn = Turn::new(node, TurnBuffers::default(), node.now_ms());
    match read {
        Ok(read) => turn.held(window.queue, |queue, now, fx| queue.arrived(now, window, read, fx)),
        Err(error) => {
            let known = turn.held(window.queue, |queue, now, fx| queue.read_failed(now, window, fx));
            if known.is_some() {
                tracing::error!(queue = %window.queue, %error, "messages can not be read from their segment");
            }
            known
        }
    };
    turn.finish();
}
