//! A blocking AMQP connection: handshake, a read buffer with frames cut off it, a write buffer.

use amqp::method::{channel, connection};
use amqp::{Frame, FrameKind, Method, frame};
use anyhow::{Context, Result, bail};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// The frame size we ask for, in octets.
pub(super) const FRAME_MAX: u32 = 131_072;

/// The only channel.
pub(super) const CHANNEL: u16 = 1;

pub(super) struct Connection {
    stream: TcpStream,
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
    /// User name.
    pub user: String,
    /// Its password.
    pub password: String,
    /// Virtual host.
    pub vhost: String,
}

impl Connection {
    /// Connects, logs in and opens channel 1.
    pub(super) fn open(target: &Target) -> Result<Self> {
        let stream =
            TcpStream::connect(&target.address).with_context(|| format!("connect to {}", target.address))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let mut it = Self { stream, buffer: vec![0; 1 << 18], start: 0, end: 0 };
        it.stream.write_all(&amqp::PROTOCOL_HEADER)?;
        it.expect("connection.start", |method| matches!(method, Method::ConnectionStart(_)))?;
        let response = format!("\0{}\0{}", target.user, target.password);
        let start_ok = connection::StartOk {
            mechanism: "PLAIN",
            response: response.as_bytes(),
            locale: "en_US",
            ..Default::default()
        };
        it.send(&start_ok.into())?;
        it.expect("connection.tune", |method| matches!(method, Method::ConnectionTune(_)))?;
        it.send(&connection::TuneOk { channel_max: 16, frame_max: FRAME_MAX, heartbeat: 0 }.into())?;
        it.send(&connection::Open { virtual_host: &target.vhost }.into())?;
        it.expect("connection.open-ok", |method| matches!(method, Method::ConnectionOpenOk(_)))?;
        it.send_on(CHANNEL, &channel::Open.into())?;
        it.expect("channel.open-ok", |method| matches!(method, Method::ChannelOpenOk(_)))?;
        Ok(it)
    }

    fn send(&mut self, method: &Method<'_>) -> Result<()> {
        self.send_on(0, method)
    }

    /// Sends a method.
    pub(super) fn send_on(&mut self, channel: u16, method: &Method<'_>) -> Result<()> {
        let mut out = Vec::new();
        frame::write_method(&mut out, channel, method);
        self.write(&out)
    }

    /// Sends whole frames.
    pub(super) fn write(&mut self, frames: &[u8]) -> Result<()> {
        self.stream.write_all(frames).context("write to the server")
    }

    /// Waits for a method; anything else is an error.
    pub(super) fn expect(&mut self, what: &str, is: impl Fn(&Method<'_>) -> bool) -> Result<()> {
        loop {
            let frame = self.next()?;
            if frame.kind == FrameKind::Heartbeat {
                continue;
            }
            let method = Method::decode(frame.payload).with_context(|| format!("read {what}"))?;
            if is(&method) {
                return Ok(());
            }
            bail!("expected {what}, got {method:?}");
        }
    }

    /// Whether a whole frame waits in the buffer, so that [`Connection::next`] will not block.
    pub(super) fn has_frame(&self) -> bool {
        matches!(frame::parse(&self.buffer[self.start..self.end], FRAME_MAX), Ok(Some(_)))
    }

    /// The next frame; blocks until there is one.
    pub(super) fn next(&mut self) -> Result<Frame<'_>> {
        // Two looks at the buffer: the borrow of the first may not outlive the read in between.
        while !self.has_frame() {
            frame::parse(&self.buffer[self.start..self.end], FRAME_MAX).context("read a frame")?;
            self.fill()?;
        }
        let Some((frame, used)) = frame::parse(&self.buffer[self.start..self.end], FRAME_MAX)? else {
            bail!("a frame went away");
        };
        self.start += used;
        Ok(frame)
    }

    fn fill(&mut self) -> Result<()> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.end == self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        let count = self.stream.read(&mut self.buffer[self.end..]).context("read from the server")?;
        if count == 0 {
            bail!("the server closed the connection");
        }
        self.end += count;
        Ok(())
    }
}
