//! A small blocking AMQP client: one connection, one channel.

use super::Place;
use super::url::Url;
use amqp::content::{BasicProperties, ContentHeader, Properties};
use amqp::method::{basic, channel, confirm, connection, queue};
use amqp::table::{FieldTable, FieldValue, Table};
use amqp::{FrameKind, Method, frame};
use daemon::exit::Exit;
use daemon::run::Failure;
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::path::Path;
use std::time::{Duration, Instant};

/// The only channel.
const CHANNEL: u16 = 1;
/// The largest frame we ask for.
const FRAME_MAX: u32 = 131_072;
/// How long connecting, and any answer, may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);
/// One read waits so long, so that heartbeats leave in time.
const SLICE: Duration = Duration::from_millis(200);
/// Octets that are read at once.
const READ: usize = 256 * 1024;

/// A method that came, with its content.
#[derive(Debug)]
pub(super) struct Event {
    method: Vec<u8>,
    properties: Vec<u8>,
    expected: u64,
    /// The body.
    pub(super) body: Vec<u8>,
}

impl Event {
    /// The method.
    pub(super) fn method(&self) -> Result<Method<'_>, Failure> {
        Method::decode(&self.method).map_err(malformed)
    }

    /// Properties of the message.
    pub(super) fn properties(&self) -> BasicProperties {
        Properties::parse(&self.properties).map(BasicProperties::from).unwrap_or_default()
    }
}

enum Link {
    Plain(TcpStream),
    Secure(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Link {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Link::Plain(stream) => stream.read(buffer),
            Link::Secure(stream) => stream.read(buffer),
        }
    }

    fn stream(&self) -> &TcpStream {
        match self {
            Link::Plain(stream) => stream,
            Link::Secure(stream) => &stream.sock,
        }
    }

    fn write_all(&mut self, octets: &[u8]) -> io::Result<()> {
        match self {
            Link::Plain(stream) => stream.write_all(octets),
            Link::Secure(stream) => stream.write_all(octets).and_then(|()| stream.flush()),
        }
    }
}

/// A connection with an open channel.
pub(super) struct Connection {
    link: Link,
    input: Vec<u8>,
    start: usize,
    events: VecDeque<Event>,
    partial: Option<Event>,
    output: Vec<u8>,
    frame_max: u32,
    /// How long any answer may take.
    patience: Duration,
    heartbeat: Duration,
    /// A heartbeat is sent when nothing else was for so long.
    beat: Duration,
    written: Instant,
    /// What the broker calls this connection: its `connection_name`.
    pub(super) name: String,
    /// What the broker says about itself.
    pub(super) server: FieldTable,
    /// Why the broker holds publishers back, if it does.
    pub(super) blocked: Option<String>,
}

/// Resolves and connects to one of the addresses.
pub(super) fn dial(url: &Url) -> Result<(SocketAddr, TcpStream), Failure> {
    dial_within(url, PATIENCE)
}

/// The same, where each address may take so long.
pub(super) fn dial_within(url: &Url, patience: Duration) -> Result<(SocketAddr, TcpStream), Failure> {
    let unavailable = |error: io::Error| {
        Failure::new(Exit::Unavailable, format!("cannot reach {}:{}: {error}", url.host, url.port))
            .detail("try", "broker doctor URL   says where it ends")
    };
    let addresses: Vec<SocketAddr> =
        (url.host.as_str(), url.port).to_socket_addrs().map_err(unavailable)?.collect();
    let mut last = io::Error::new(ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        match TcpStream::connect_timeout(&address, patience) {
            Ok(stream) => return Ok((address, stream)),
            Err(error) => last = error,
        }
    }
    Err(unavailable(last))
}

impl Connection {
    /// Connects to the broker that was chosen, logs in and opens a channel.
    pub(super) fn to(place: &Place) -> Result<Connection, Failure> {
        let url = Url::chosen(place.url.as_deref())?;
        let (_, stream) = dial(&url)?;
        Connection::over(stream, &url, place.cacert.as_deref())
    }

    /// The same over a connection that is there.
    pub(super) fn over(stream: TcpStream, url: &Url, cacert: Option<&Path>) -> Result<Connection, Failure> {
        Connection::over_within(stream, url, cacert, PATIENCE)
    }

    /// The same, where any answer may take so long.
    pub(super) fn over_within(
        stream: TcpStream,
        url: &Url,
        cacert: Option<&Path>,
        patience: Duration,
    ) -> Result<Connection, Failure> {
        let io =
            |error: io::Error| Failure::new(Exit::Unavailable, format!("the connection failed: {error}"));
        stream.set_nodelay(true).map_err(io)?;
        stream.set_read_timeout(Some(SLICE)).map_err(io)?;
        stream.set_write_timeout(Some(patience)).map_err(io)?;
        let link = if url.secure {
            secured(stream, url, cacert, patience).map_err(io)?
        } else {
            Link::Plain(stream)
        };
        let mut it = Connection {
            link,
            input: Vec::new(),
            start: 0,
            events: VecDeque::new(),
            partial: None,
            output: Vec::new(),
            frame_max: FRAME_MAX,
            patience,
            heartbeat: Duration::ZERO,
            beat: Duration::ZERO,
            written: Instant::now(),
            name: format!("broker-tools-{:08x}", rand::random::<u32>()),
            server: FieldTable::new(),
            blocked: None,
        };
        it.log_in(url)?;
        Ok(it)
    }

    fn log_in(&mut self, url: &Url) -> Result<(), Failure> {
        self.output.extend_from_slice(&amqp::PROTOCOL_HEADER);
        let start = self.answer("connection.start")?;
        if let Method::ConnectionStart(start) = start.method()? {
            self.server = start.server_properties.to_owned();
        }
        let mut capabilities = FieldTable::new();
        for name in ["connection.blocked", "consumer_cancel_notify", "authentication_failure_close"] {
            capabilities.insert(name, FieldValue::Bool(true));
        }
        let mut properties = FieldTable::new();
        properties.insert("product", FieldValue::long_str("broker tools"));
        properties.insert("version", FieldValue::long_str(env!("CARGO_PKG_VERSION")));
        properties.insert("capabilities", FieldValue::Table(capabilities));
        properties.insert("connection_name", FieldValue::long_str(self.name.as_str()));
        let octets = properties.to_bytes();
        let response = format!("\0{}\0{}", url.user, url.password);
        let start_ok = connection::StartOk {
            client_properties: Table::parse(&octets).map_err(malformed)?,
            mechanism: "PLAIN",
            response: response.as_bytes(),
            locale: "en_US",
        };
        self.put(0, start_ok);
        let tune = self.answer("connection.tune")?;
        let Method::ConnectionTune(tune) = tune.method()? else { return Err(malformed("no tune")) };
        let heartbeat = tune.heartbeat.min(60);
        if tune.frame_max != 0 {
            self.frame_max = tune.frame_max.min(FRAME_MAX);
        }
        self.heartbeat = Duration::from_secs(heartbeat.into());
        self.beat = self.heartbeat / 3;
        self.put(0, connection::TuneOk { channel_max: 1, frame_max: self.frame_max, heartbeat });
        self.put(0, connection::Open { virtual_host: &url.vhost });
        self.answer("connection.open-ok")?;
        self.call(channel::Open, "channel.open-ok").map(drop)
    }

    /// Puts a method into what goes out next.
    pub(super) fn put<'m>(&mut self, channel: u16, method: impl Into<Method<'m>>) {
        frame::write_method(&mut self.output, channel, &method.into());
    }

    /// Sends a method on the channel and waits for its answer.
    pub(super) fn call<'m>(&mut self, method: impl Into<Method<'m>>, answer: &str) -> Result<Event, Failure> {
        self.put(CHANNEL, method);
        self.answer(answer)
    }

    /// Asks for confirms.
    pub(super) fn confirm(&mut self) -> Result<(), Failure> {
        self.call(confirm::Select::default(), "confirm.select-ok").map(drop)
    }

    /// Declares a queue; its name and how many messages it has.
    pub(super) fn declare(&mut self, declare: queue::Declare<'_>) -> Result<(String, u32), Failure> {
        let answer = self.call(declare, "queue.declare-ok")?;
        match answer.method()? {
            Method::QueueDeclareOk(ok) => Ok((ok.queue.to_owned(), ok.message_count)),
            other => Err(malformed(format!("{other:?}"))),
        }
    }

    /// How many messages and consumers a queue has that is there.
    pub(super) fn counts(&mut self, queue: &str) -> Result<(u32, u32), Failure> {
        let declare = queue::Declare { queue, passive: true, ..Default::default() };
        let answer = self.call(declare, "queue.declare-ok")?;
        match answer.method()? {
            Method::QueueDeclareOk(ok) => Ok((ok.message_count, ok.consumer_count)),
            other => Err(malformed(format!("{other:?}"))),
        }
    }

    /// Puts a message into what goes out next.
    pub(super) fn publish(&mut self, publish: basic::Publish<'_>, properties: &BasicProperties, body: &[u8]) {
        self.put(CHANNEL, publish);
        let mut raw = Vec::new();
        properties.encode(&mut raw);
        frame::write_content_header(&mut self.output, CHANNEL, 60, body.len() as u64, &raw);
        frame::write_body(&mut self.output, CHANNEL, body, self.frame_max);
    }

    /// Octets that wait to go out.
    pub(super) fn waiting(&self) -> usize {
        self.output.len()
    }

    /// Settles a delivery.
    pub(super) fn acknowledge(&mut self, delivery_tag: u64, multiple: bool) {
        self.put(CHANNEL, basic::Ack { delivery_tag, multiple });
    }

    /// Sends what was put.
    pub(super) fn flush(&mut self) -> Result<(), Failure> {
        if self.output.is_empty() {
            return Ok(());
        }
        let sent = self.link.write_all(&self.output);
        self.output.clear();
        self.written = Instant::now();
        if let Err(error) = sent {
            // The broker may have said why it hangs up.
            while let Ok(true) = self.read() {}
            self.next_known()?;
            return Err(Failure::new(Exit::Io, format!("the broker hung up: {error}")));
        }
        Ok(())
    }

    /// Waits for an answer; what else comes is kept.
    fn answer(&mut self, name: &str) -> Result<Event, Failure> {
        self.flush()?;
        let asked = Instant::now();
        let mut others = VecDeque::new();
        loop {
            let left = self.patience.saturating_sub(asked.elapsed());
            match self.next(left)? {
                Some(event) if event.method()?.name() == name => {
                    others.append(&mut self.events);
                    self.events = others;
                    return Ok(event);
                }
                Some(event) => others.push_back(event),
                None if left.is_zero() => {
                    return Err(Failure::new(
                        Exit::Unavailable,
                        format!("no {name} within {:?}", self.patience),
                    ));
                }
                None => {}
            }
        }
    }

    /// How long one read waits for something: less for who looks at two connections in turn.
    pub(super) fn look_for(&self, slice: Duration) -> Result<(), Failure> {
        let set = self.link.stream().set_read_timeout(Some(slice));
        set.map_err(|error| Failure::new(Exit::OsError, format!("cannot set a time to wait: {error}")))
    }

    /// The heartbeat that was agreed on; none is zero.
    pub(super) fn heartbeat(&self) -> Duration {
        self.heartbeat
    }

    /// Sends heartbeats so often from now on.
    pub(super) fn beat_every(&mut self, time: Duration) {
        self.beat = time;
    }

    /// Sends a heartbeat if it is time for one.
    pub(super) fn beat(&mut self) -> Result<(), Failure> {
        if self.beat > Duration::ZERO && self.written.elapsed() > self.beat {
            self.output.extend_from_slice(&[8, 0, 0, 0, 0, 0, 0, amqp::FRAME_END]);
            self.flush()?;
        }
        Ok(())
    }

    /// What comes next, or nothing within the time. What was put is sent before.
    pub(super) fn next(&mut self, wait: Duration) -> Result<Option<Event>, Failure> {
        self.flush()?;
        let since = Instant::now();
        loop {
            if let Some(event) = self.next_known()? {
                return Ok(Some(event));
            }
            self.beat()?;
            if !self.read()? && since.elapsed() >= wait {
                return Ok(None);
            }
        }
    }

    /// What has come already.
    pub(super) fn next_known(&mut self) -> Result<Option<Event>, Failure> {
        self.cut()?;
        while let Some(event) = self.events.pop_front() {
            match event.method()? {
                Method::ConnectionClose(close) => {
                    return Err(refused(close.reply_code, close.reply_text));
                }
                Method::ChannelClose(close) => return Err(refused(close.reply_code, close.reply_text)),
                Method::ConnectionBlocked(blocked) => self.blocked = Some(blocked.reason.to_owned()),
                Method::ConnectionUnblocked(_) => self.blocked = None,
                _ => return Ok(Some(event)),
            }
        }
        Ok(None)
    }

    /// Reads once; whether anything came.
    fn read(&mut self) -> Result<bool, Failure> {
        if self.start > 0 {
            self.input.drain(..self.start);
            self.start = 0;
        }
        let had = self.input.len();
        self.input.resize(had + READ, 0);
        let outcome = self.link.read(&mut self.input[had..]);
        self.input.truncate(had + *outcome.as_ref().unwrap_or(&0));
        match outcome {
            Ok(0) => Err(Failure::new(Exit::Unavailable, "the broker hung up")),
            Ok(_) => Ok(true),
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                ) =>
            {
                Ok(false)
            }
            Err(error) => Err(Failure::new(Exit::Unavailable, format!("the connection failed: {error}"))),
        }
    }

    /// Cuts whole frames off the input.
    fn cut(&mut self) -> Result<(), Failure> {
        while let Some((frame, used)) =
            frame::parse(&self.input[self.start..], self.frame_max).map_err(malformed)?
        {
            self.start += used;
            match frame.kind {
                FrameKind::Heartbeat => {}
                FrameKind::Method => {
                    let event = Event {
                        method: frame.payload.to_vec(),
                        properties: Vec::new(),
                        expected: 0,
                        body: Vec::new(),
                    };
                    let has_content =
                        matches!(event.method()?.name(), "basic.deliver" | "basic.get-ok" | "basic.return");
                    if has_content {
                        self.partial = Some(event);
                    } else {
                        self.events.push_back(event);
                    }
                }
                FrameKind::Header => {
                    let header = ContentHeader::decode(frame.payload).map_err(malformed)?;
                    let Some(event) = &mut self.partial else {
                        return Err(malformed("a header nobody asked for"));
                    };
                    event.properties = header.properties.raw().to_vec();
                    event.expected = header.body_size;
                }
                FrameKind::Body => {
                    let Some(event) = &mut self.partial else {
                        return Err(malformed("a body nobody asked for"));
                    };
                    event.body.extend_from_slice(frame.payload);
                }
            }
            let whole =
                |event: &Event| frame.kind != FrameKind::Method && event.body.len() as u64 >= event.expected;
            if self.partial.as_ref().is_some_and(whole) {
                self.events.extend(self.partial.take());
            }
        }
        Ok(())
    }

    /// Says goodbye; what was put is sent before.
    pub(super) fn close(mut self) -> Result<(), Failure> {
        self.put(0, connection::Close { reply_code: 200, reply_text: "goodbye", ..Default::default() });
        self.answer("connection.close-ok").map(drop)
    }
}

fn secured(stream: TcpStream, url: &Url, cacert: Option<&Path>, patience: Duration) -> io::Result<Link> {
    let name = ServerName::try_from(url.host.clone()).map_err(io::Error::other)?;
    // A handshake does not go on where a read left it.
    stream.set_read_timeout(Some(patience))?;
    let session = ClientConnection::new(crate::ctl::trusting(cacert)?, name).map_err(io::Error::other)?;
    let mut stream = StreamOwned::new(session, stream);
    stream.conn.complete_io(&mut stream.sock)?;
    stream.sock.set_read_timeout(Some(SLICE))?;
    Ok(Link::Secure(Box::new(stream)))
}

/// How a refusal begins; its code follows.
const REFUSED: &str = "the broker refused:";

/// Whether the broker refused with this code. The text after it may have any number in it.
pub(super) fn is_refusal(failure: &Failure, code: u16) -> bool {
    failure.message.starts_with(&format!("{REFUSED} {code} "))
}

fn refused(code: u16, text: &str) -> Failure {
    let failure = Failure::new(Exit::Unavailable, format!("{REFUSED} {code} {text}"));
    match code {
        403 if text.contains("Login") || text.contains("login") => failure
            .detail("try", "another user or password; guest may log in from the broker's own host only"),
        404 => failure.detail("try", "broker ctl list_queues   or let it be made: --create"),
        _ => failure,
    }
}

fn malformed(error: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::DataError, format!("the broker does not speak AMQP 0-9-1 as expected: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_in_a_name_is_no_reply_code() {
        let failure = refused(403, "ACCESS_REFUSED - access to queue 'orders 404 x' refused");
        assert!(is_refusal(&failure, 403) && !is_refusal(&failure, 404));
    }
}
