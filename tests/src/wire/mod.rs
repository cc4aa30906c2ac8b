//! A client that sees every frame as it comes and sends whatever it is told to, also what no client should.
//!
//! [`Client`] holds the connection, cuts frames and joins content; `calls` has shorthand for the methods that
//! tests use most, `expect` what a test says about an answer, `args` the arguments of methods.

mod args;
mod calls;
mod expect;
mod login;
mod received;

pub use args::Args;
pub use calls::queue_in;
pub use login::{Login, plain};
pub use received::{Close, Received};

use amqp::content::{BasicProperties, ContentHeader};
use amqp::frame::{self, FrameKind};
use amqp::method::{Method, basic};
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// How long an answer may take.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// What is expected where this broker differs from RabbitMQ on purpose, by a line in `docs/differences.md`.
#[must_use]
pub fn ours_or_theirs<T>(ours: T, theirs: T) -> T {
    if crate::against_rabbitmq() { theirs } else { ours }
}

/// A name that no other test has.
#[must_use]
pub fn name(kind: &str) -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(1);
    format!("{kind}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A connection.
#[derive(Debug)]
pub struct Client {
    /// The socket.
    pub stream: TcpStream,
    /// How many heartbeats came.
    pub heartbeats: usize,
    /// The largest frame that was agreed on.
    pub frame_max: u32,
    input: Vec<u8>,
    output: Vec<u8>,
    events: VecDeque<Received>,
    /// Methods whose content is under way, with the size of their body.
    partial: Vec<(Received, u64)>,
}

impl Client {
    /// Connects and sends nothing.
    ///
    /// # Panics
    /// Nobody listens.
    #[must_use]
    pub fn connect(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("the broker listens");
        stream.set_nodelay(true).expect("a socket option");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket option");
        Self {
            stream,
            heartbeats: 0,
            frame_max: 131_072,
            input: Vec::new(),
            output: Vec::new(),
            events: VecDeque::new(),
            partial: Vec::new(),
        }
    }

    /// Logs in as guest and opens channel 1.
    #[must_use]
    pub fn new(port: u16) -> Self {
        Self::with(port, &Login::default())
    }

    /// Logs in and opens channel 1.
    ///
    /// # Panics
    /// The broker refuses.
    #[must_use]
    pub fn with(port: u16, login: &Login<'_>) -> Self {
        let mut client = Self::connect(port);
        if let Err(close) = client.login(login) {
            panic!("the login was refused: {close:?}");
        }
        client.open(1);
        client
    }

    /// Adds a method to what goes out next.
    pub fn put<'m>(&mut self, number: u16, method: impl Into<Method<'m>>) {
        frame::write_method(&mut self.output, number, &method.into());
    }

    /// Adds octets to what goes out next.
    pub fn put_raw(&mut self, octets: &[u8]) {
        self.output.extend_from_slice(octets);
    }

    /// Adds a frame of any kind to what goes out next.
    pub fn put_frame(&mut self, kind: u8, number: u16, payload: &[u8]) {
        self.output.push(kind);
        self.output.extend_from_slice(&number.to_be_bytes());
        self.output.extend_from_slice(&u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes());
        self.output.extend_from_slice(payload);
        self.output.push(amqp::FRAME_END);
    }

    /// Adds a content header without properties to what goes out next.
    pub fn put_header(&mut self, number: u16, body_size: u64) {
        frame::write_content_header(&mut self.output, number, 60, body_size, &[0, 0]);
    }

    /// Adds a publish with its content to what goes out next.
    pub fn put_publish(
        &mut self,
        number: u16,
        publish: &basic::Publish<'_>,
        properties: &BasicProperties,
        body: &[u8],
    ) {
        self.put(number, *publish);
        let mut raw = Vec::new();
        properties.encode(&mut raw);
        frame::write_content_header(&mut self.output, number, 60, body.len() as u64, &raw);
        frame::write_body(&mut self.output, number, body, self.frame_max);
    }

    /// Takes what was put, to send it by other means.
    pub fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }

    /// Sends what was put.
    ///
    /// # Panics
    /// The broker hung up.
    pub fn flush(&mut self) {
        let output = self.take_output();
        self.stream.write_all(&output).expect("the broker reads");
    }

    /// Sends a method.
    pub fn send<'m>(&mut self, number: u16, method: impl Into<Method<'m>>) {
        self.put(number, method);
        self.flush();
    }

    /// What comes next. `None` when the broker hangs up.
    pub fn receive(&mut self) -> Option<Received> {
        self.take(|_| true)
    }

    /// What comes next on a channel. `None` when the broker hangs up.
    pub fn receive_on(&mut self, number: u16) -> Option<Received> {
        self.take(|received| received.channel == number)
    }

    /// The next one of which this holds.
    fn take(&mut self, wanted: impl Fn(&Received) -> bool) -> Option<Received> {
        loop {
            if let Some(at) = self.events.iter().position(&wanted) {
                return self.events.remove(at);
            }
            if !self.read() {
                return None;
            }
        }
    }

    /// Reads once and cuts the frames; `false` when the broker hung up.
    fn read(&mut self) -> bool {
        match self.read_or_wait() {
            Ok(open) => open,
            Err(error) => panic!("nothing came: {error}; waiting: {:?}", self.names()),
        }
    }

    fn read_or_wait(&mut self) -> std::io::Result<bool> {
        let mut chunk = vec![0; 65536];
        match self.stream.read(&mut chunk) {
            Ok(0) => Ok(false),
            Ok(count) => {
                self.input.extend_from_slice(&chunk[..count]);
                self.cut_frames();
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Octets as they come, past all framing: for the answer to what is no AMQP.
    ///
    /// # Panics
    /// Less comes.
    pub fn read_raw(&mut self, count: usize) -> Vec<u8> {
        let mut octets = vec![0; count];
        self.stream.read_exact(&mut octets).expect("octets from the broker");
        octets
    }

    /// The names of what has come and was not asked for.
    fn names(&self) -> Vec<&'static str> {
        self.events.iter().map(Received::name).collect()
    }

    fn cut_frames(&mut self) {
        let mut used = 0;
        while let Some((frame, size)) =
            frame::parse(&self.input[used..], self.frame_max).expect("the broker's frames are well formed")
        {
            used += size;
            let at = self.partial.iter().position(|(received, _)| received.channel == frame.channel);
            match (frame.kind, at) {
                (FrameKind::Heartbeat, _) => self.heartbeats += 1,
                (FrameKind::Method, None) => {
                    let received = Received::new(frame.channel, frame.payload);
                    match received.name() {
                        "basic.deliver" | "basic.get-ok" | "basic.return" => self.partial.push((received, 0)),
                        _ => self.events.push_back(received),
                    }
                }
                (FrameKind::Header, Some(at)) => {
                    let header = ContentHeader::decode(frame.payload).expect("a content header");
                    self.partial[at].0.raw_properties = header.properties.raw().to_vec();
                    self.partial[at].1 = header.body_size;
                    Self::content_ends(&mut self.partial, &mut self.events, at);
                }
                (FrameKind::Body, Some(at)) => {
                    self.partial[at].0.body.extend_from_slice(frame.payload);
                    self.partial[at].0.frames.push(frame.payload.len());
                    Self::content_ends(&mut self.partial, &mut self.events, at);
                }
                other => panic!("frame out of order: {other:?}"),
            }
        }
        self.input.drain(..used);
    }

    fn content_ends(partial: &mut Vec<(Received, u64)>, events: &mut VecDeque<Received>, at: usize) {
        if partial[at].0.body.len() as u64 == partial[at].1 {
            let (received, _) = partial.remove(at);
            events.push_back(received);
        }
    }
}
