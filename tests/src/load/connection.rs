//! A blocking AMQP connection: handshake, calls, and a read buffer with frames cut off it.

use amqp::method::{channel, connection};
use amqp::{Frame, FrameKind, Method, frame};
use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::socket::{MsgFlags, recv};
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

/// The frame size we ask for, in octets.
pub(super) const FRAME_MAX: u32 = 131_072;

/// The only channel.
pub(super) const CHANNEL: u16 = 1;

/// How long a server may be silent while something is expected of it.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// How long one read waits, so that a consumer sees in time that nothing more will come.
const POLL: Duration = Duration::from_millis(50);

/// An idle connection keeps this little; it grows with what is read.
const FIRST_BUFFER: usize = 4096;

/// Whoever moves messages reads this many octets at once.
const LARGE_BUFFER: usize = 1 << 18;

pub(super) struct Connection {
    stream: TcpStream,
    /// How long an answer may take.
    patience: Duration,
    buffer: Vec<u8>,
    /// What of the buffer is read and not yet handed out.
    start: usize,
    end: usize,
}

/// Where a server is and who asks.
#[derive(Debug, Clone)]
pub struct Target {
    /// `host:port`.
    pub address: String,
    /// The other nodes, where there are several.
    pub others: Vec<String>,
    /// User name.
    pub user: String,
    /// Its password.
    pub password: String,
    /// Virtual host.
    pub vhost: String,
    /// The server's processes, for their processor time and memory; their descendants count with them.
    pub pids: Vec<u32>,
}

impl Target {
    /// The same server through another of its nodes, or through the last one if there are not so many.
    #[must_use]
    pub fn through(&self, index: usize) -> Self {
        let node = index.min(self.others.len()).checked_sub(1).and_then(|index| self.others.get(index));
        Self { address: node.unwrap_or(&self.address).clone(), ..self.clone() }
    }
}

impl Connection {
    /// Connects, logs in and opens channel 1.
    pub(super) fn open(target: &Target) -> Result<Self> {
        // Heartbeat 0: a connection may be idle, or busy in one write.
        Self::open_patiently(target, PATIENCE, 0)
    }

    /// The same for a server that may be silent: nothing takes longer than `patience`. With heartbeats, in seconds,
    /// whoever has the connection sends and misses them.
    pub(super) fn open_patiently(target: &Target, patience: Duration, heartbeat: u16) -> Result<Self> {
        let address = target.address.to_socket_addrs()?.next().context("an address")?;
        let stream = TcpStream::connect_timeout(&address, patience)
            .with_context(|| format!("connect to {}", target.address))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(POLL))?;
        stream.set_write_timeout(Some(patience))?;
        let mut it = Self { stream, patience, buffer: vec![0; FIRST_BUFFER], start: 0, end: 0 };
        it.write(&amqp::PROTOCOL_HEADER)?;
        it.expect(|method| matches!(method, Method::ConnectionStart(_)))?;
        let response = format!("\0{}\0{}", target.user, target.password);
        let start_ok = connection::StartOk {
            mechanism: "PLAIN",
            response: response.as_bytes(),
            locale: "en_US",
            ..Default::default()
        };
        it.send(0, &start_ok.into())?;
        it.expect(|method| matches!(method, Method::ConnectionTune(_)))?;
        it.send(0, &connection::TuneOk { channel_max: 16, frame_max: FRAME_MAX, heartbeat }.into())?;
        let open = connection::Open { virtual_host: &target.vhost };
        it.call(0, &open.into(), |method| matches!(method, Method::ConnectionOpenOk(_)))?;
        it.call(CHANNEL, &channel::Open.into(), |method| matches!(method, Method::ChannelOpenOk(_)))?;
        Ok(it)
    }

    /// Closes the channel. The answer comes behind everything that was sent: a server may drop what a
    /// vanished client sent.
    pub(super) fn close_channel(&mut self) -> Result<()> {
        let close = channel::Close { reply_code: 200, ..Default::default() };
        self.call(CHANNEL, &close.into(), |method| matches!(method, Method::ChannelCloseOk(_)))
    }

    /// Closes the connection.
    pub(super) fn close(mut self) -> Result<()> {
        let close = connection::Close { reply_code: 200, ..Default::default() };
        self.call(0, &close.into(), |method| matches!(method, Method::ConnectionCloseOk(_)))
    }

    /// Makes room for many messages at once.
    pub(super) fn grow(&mut self) {
        self.buffer.resize(LARGE_BUFFER, 0);
    }

    /// Sends a method and waits for its answer; anything else is an error.
    pub(super) fn call(
        &mut self,
        channel: u16,
        method: &Method<'_>,
        is: impl Fn(&Method<'_>) -> bool,
    ) -> Result<()> {
        self.send(channel, method)?;
        self.expect(is).with_context(|| format!("send {method:?}"))
    }

    fn send(&mut self, channel: u16, method: &Method<'_>) -> Result<()> {
        let mut out = Vec::new();
        frame::write_method(&mut out, channel, method);
        self.write(&out)
    }

    /// Sends whole frames.
    pub(super) fn write(&mut self, frames: &[u8]) -> Result<()> {
        self.stream.write_all(frames).context("write to the server")
    }

    fn expect(&mut self, is: impl Fn(&Method<'_>) -> bool) -> Result<()> {
        let asked = Instant::now();
        loop {
            if let Some((frame, used)) = frame::parse(&self.buffer[self.start..self.end], FRAME_MAX)? {
                self.start += used;
                if frame.kind == FrameKind::Heartbeat {
                    continue;
                }
                let method = Method::decode(frame.payload).context("read an answer")?;
                ensure!(is(&method), "an unexpected answer: {method:?}");
                return Ok(());
            }
            if !self.receive()? && asked.elapsed() > self.patience {
                bail!("no answer for {:?}", self.patience);
            }
        }
    }

    /// Hands out every whole frame that was read, but heartbeats.
    pub(super) fn frames(&mut self, mut each: impl FnMut(&Frame<'_>) -> Result<()>) -> Result<()> {
        while let Some((frame, used)) = frame::parse(&self.buffer[self.start..self.end], FRAME_MAX)? {
            self.start += used;
            if frame.kind != FrameKind::Heartbeat {
                each(&frame)?;
            }
        }
        Ok(())
    }

    /// One read; false when nothing came within [`POLL`].
    pub(super) fn receive(&mut self) -> Result<bool> {
        self.make_room();
        match self.stream.read(&mut self.buffer[self.end..]) {
            Ok(count) => self.received(count),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(false),
            Err(error) => Err(error).context("read from the server"),
        }
    }

    /// One read that does not wait; false when nothing is there.
    pub(super) fn receive_now(&mut self) -> Result<bool> {
        self.make_room();
        match recv(self.stream.as_raw_fd(), &mut self.buffer[self.end..], MsgFlags::MSG_DONTWAIT) {
            Ok(count) => self.received(count),
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(false),
            Err(error) => Err(error).context("read from the server"),
        }
    }

    fn received(&mut self, count: usize) -> Result<bool> {
        ensure!(count > 0, "the server closed the connection");
        self.end += count;
        Ok(true)
    }

    /// Waits until something can be read, at most for `limit`, which may be less than a millisecond.
    pub(super) fn wait_readable(&self, limit: Duration) -> Result<bool> {
        let mut descriptors = [PollFd::new(self.stream.as_fd(), PollFlags::POLLIN)];
        match ppoll(&mut descriptors, Some(limit.into()), None) {
            Ok(ready) => Ok(ready > 0),
            Err(Errno::EINTR) => Ok(false),
            Err(error) => Err(error).context("wait for the server"),
        }
    }

    fn make_room(&mut self) {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.start > self.buffer.len() / 2 || self.end == self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.end == self.buffer.len() {
            self.buffer.resize(self.end * 2, 0);
        }
    }
}
