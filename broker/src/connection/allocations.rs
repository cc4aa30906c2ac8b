//! Holds the promise that a message in transit allocates nothing (the hot path's first rule): counts what the
//! thread of a connection allocates while messages go from a publisher through a queue to a consumer.

use crate::alarms::Alarms;
use crate::cluster::{ClusterView, Seat};
use crate::config::Config;
use crate::config::cli::{Environment, NodeArgs};
use crate::metadata::bootstrap;
use crate::node::Node;
use crate::storage::Storage;
use amqp::frame::{self, FrameKind};
use amqp::method::{basic, channel, connection, queue};
use amqp::table::Table;
use broker_store::datadir::DataDir;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// Whether this thread's allocations are counted.
    static COUNTED: Cell<bool> = const { Cell::new(false) };
}

/// The system's allocator, with a count for threads that want it.
struct Counting;

fn count() {
    if COUNTED.try_with(Cell::get).unwrap_or(false) {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: every call goes to the system's allocator unchanged; counting does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`, and `alloc` was the system's.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `realloc`, and `alloc` was the system's.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// A client of the node under test, in a thread of its own.
struct Client {
    stream: TcpStream,
    input: Vec<u8>,
    output: Vec<u8>,
}

impl Client {
    /// Logs in, declares the queue `q` and consumes from it without acknowledgements.
    fn new(port: u16) -> Client {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut client = Client { stream, input: Vec::new(), output: Vec::new() };
        let start = connection::StartOk {
            client_properties: Table::default(),
            mechanism: "PLAIN",
            response: b"\0guest\0guest",
            locale: "en_US",
        };
        client.output.extend_from_slice(&amqp::PROTOCOL_HEADER);
        frame::write_fields(&mut client.output, 0, &start);
        let tune = connection::TuneOk { channel_max: 2047, frame_max: 131_072, heartbeat: 0 };
        frame::write_fields(&mut client.output, 0, &tune);
        frame::write_fields(&mut client.output, 0, &connection::Open { virtual_host: "/" });
        frame::write_fields(&mut client.output, 1, &channel::Open);
        let declare = queue::Declare { queue: "q", ..queue::Declare::default() };
        frame::write_fields(&mut client.output, 1, &declare);
        let consume = basic::Consume { queue: "q", no_ack: true, ..basic::Consume::default() };
        frame::write_fields(&mut client.output, 1, &consume);
        client.flush();
        // start, tune, open-ok, channel's open-ok, declare-ok, consume-ok
        client.frames(FrameKind::Method, 6);
        client
    }

    fn flush(&mut self) {
        self.stream.write_all(&self.output).unwrap();
        self.output.clear();
    }

    /// Reads until this many frames of a kind came.
    fn frames(&mut self, kind: FrameKind, mut count: usize) {
        while count > 0 {
            let mut used = 0;
            while let Some((frame, size)) = frame::parse(&self.input[used..], 131_072).unwrap() {
                used += size;
                count -= usize::from(frame.kind == kind);
            }
            self.input.drain(..used);
            if count > 0 {
                let mut chunk = [0; 65536];
                let read = self.stream.read(&mut chunk).unwrap();
                assert!(read > 0, "the node hung up");
                self.input.extend_from_slice(&chunk[..read]);
            }
        }
    }

    /// Publishes in batches, each in one write, and waits for all deliveries of a batch before the next.
    fn publish(&mut self, batches: usize, batch: usize) {
        for _ in 0..batches {
            for _ in 0..batch {
                let publish = basic::Publish { routing_key: "q", ..basic::Publish::default() };
                frame::write_fields(&mut self.output, 1, &publish);
                frame::write_content_header(&mut self.output, 1, 60, 1024, &[0, 0]);
                frame::write_body(&mut self.output, 1, &[7; 1024], 131_072);
            }
            self.flush();
            self.frames(FrameKind::Body, batch);
        }
    }
}

#[test]
fn a_message_in_transit_allocates_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (sender, ports) = std::sync::mpsc::channel();
    let data = folder.path().to_owned();
    let node = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let environment = Environment { host: "test".to_owned(), ..Environment::default() };
            let config = Config::from_text("", "", &NodeArgs::default(), &environment).unwrap();
            let Storage { directory, metadata, wal, images, segments } =
                Storage::open(DataDir::open(&data, "rabbit@test").unwrap(), &Seat::alone("rabbit@test"))
                    .unwrap();
            let place = (Arc::clone(&metadata), ClusterView::new(metadata.view(), None));
            let alarms = Alarms::new(&config.limits, &data);
            let node = Node::start(crate::start::settings(&config), alarms, place, wal, images, segments);
            bootstrap::bootstrap(&node.metadata, &config).await.unwrap();
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            sender.send(listener.local_addr().unwrap().port()).unwrap();
            let (stream, peer) = listener.accept().await.unwrap();
            let local = stream.local_addr().unwrap();
            let arrived = super::Arrived { socket: super::Socket::Plain(stream), peer, local, tls: None };
            COUNTED.set(true);
            super::serve(node, arrived).await;
            COUNTED.set(false);
            drop(directory);
        });
    });
    let mut client = Client::new(ports.recv().unwrap());
    client.publish(20, 100);
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    client.publish(100, 100);
    let batched = ALLOCATIONS.load(Ordering::Relaxed) - before;
    client.publish(1000, 1);
    let single = ALLOCATIONS.load(Ordering::Relaxed) - before - batched;
    drop(client);
    node.join().unwrap();
    // What is allocated belongs to a read, not to a message: a read of many messages costs no more.
    assert!(batched < 1_000, "{batched} allocations for 10,000 messages in 100 writes");
    assert!(single < 4_000, "{single} allocations for 1,000 messages in 1,000 writes");
}
