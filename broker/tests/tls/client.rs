//! A broker process and a client that sees every frame as it comes, in order.

use amqp::content::{BasicProperties, ContentHeader};
use amqp::frame::{self, FrameKind};
use amqp::method::{Method, MethodFields, basic, channel, connection, queue};
use amqp::table::{FieldTable, FieldValue, Table};
use rustls::ClientConnection;
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A broker that keeps everything in memory.
pub(crate) struct Broker {
    process: Child,
    /// Its AMQP port on the loopback interface.
    pub(crate) port: u16,
    /// Its port for AMQP over TLS, if it has one.
    pub(crate) tls_port: Option<u16>,
    /// Its HTTP port.
    pub(crate) http_port: u16,
}

impl Broker {
    /// One with options of its own.
    pub(crate) fn start(options: &[&str]) -> Broker {
        let mut process = Command::new(env!("CARGO_BIN_EXE_broker"))
            .args(["--ephemeral", "--bind", "127.0.0.1", "--port", "0", "--management-port", "0"])
            .args(["--node", "rabbit@tls"])
            .args(options)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, ports) = std::sync::mpsc::channel();
        // Both outputs are read to their end, so that the broker never waits for a reader.
        let outputs: [Box<dyn Read + Send>; 2] =
            [Box::new(process.stdout.take().unwrap()), Box::new(process.stderr.take().unwrap())];
        for output in outputs {
            let sender = sender.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    let port = |name: &str| {
                        let rest = line.split(&format!(" {name}=127.0.0.1:")).nth(1)?;
                        rest.split(' ').next()?.parse::<u16>().ok()
                    };
                    if let (Some(amqp), Some(http)) = (port("amqp"), port("http")) {
                        let _ = sender.send((amqp, port("amqps"), http));
                    }
                }
            });
        }
        let (port, tls_port, http_port) =
            ports.recv_timeout(Duration::from_secs(60)).expect("the broker starts");
        Broker { process, port, tls_port, http_port }
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// A logged in client.
    pub(crate) fn client(&self) -> Client {
        Client::new(self.port)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A method that came, with its content.
#[derive(Debug)]
pub(crate) struct Received {
    /// Channel it came on.
    pub(crate) channel: u16,
    payload: Vec<u8>,
    /// Properties as they came.
    pub(crate) properties: Vec<u8>,
    /// Body.
    pub(crate) body: Vec<u8>,
}

impl Received {
    /// The method.
    pub(crate) fn method(&self) -> Method<'_> {
        Method::decode(&self.payload).unwrap()
    }

    /// Its name.
    pub(crate) fn name(&self) -> &'static str {
        self.method().name()
    }

    /// Code and text of a `close`, whatever it closes.
    pub(crate) fn close(&self) -> (u16, String) {
        match self.method() {
            Method::ChannelClose(close) => (close.reply_code, close.reply_text.to_owned()),
            Method::ConnectionClose(close) => (close.reply_code, close.reply_text.to_owned()),
            other => panic!("expected a close, got {other:?}"),
        }
    }
}

/// A connection.
pub(crate) struct Client {
    /// The socket.
    pub(crate) stream: TcpStream,
    /// TLS on it.
    pub(crate) tls: Option<ClientConnection>,
    input: Vec<u8>,
    output: Vec<u8>,
    events: VecDeque<Received>,
    /// Methods whose content is under way.
    partial: Vec<(Received, usize)>,
}

impl Client {
    /// Connects and sends nothing.
    pub(crate) fn connect(port: u16) -> Client {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        Client::over(stream, None)
    }

    /// The same over a connection that is there.
    pub(crate) fn over(stream: TcpStream, tls: Option<ClientConnection>) -> Client {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let (input, output) = (Vec::new(), Vec::new());
        Client { stream, tls, input, output, events: VecDeque::new(), partial: Vec::new() }
    }

    /// Logs in as guest and opens channel 1.
    pub(crate) fn new(port: u16) -> Client {
        let mut client = Client::connect(port);
        client.login(0);
        client.open(1);
        client
    }

    /// The whole handshake, with every capability clients announce.
    pub(crate) fn login(&mut self, heartbeat: u16) {
        self.login_with("PLAIN", b"\0guest\0guest", heartbeat);
        self.expect("connection.start");
        self.expect("connection.tune");
        self.expect("connection.open-ok");
    }

    /// Everything that a client says in the handshake, at once.
    pub(crate) fn login_with(&mut self, mechanism: &str, response: &[u8], heartbeat: u16) {
        let mut capabilities = FieldTable::new();
        for name in ["consumer_cancel_notify", "connection.blocked", "authentication_failure_close"] {
            capabilities.insert(name, FieldValue::Bool(true));
        }
        let mut properties = FieldTable::new();
        properties.insert("capabilities", FieldValue::Table(capabilities));
        let properties = properties.to_bytes();
        self.output.extend_from_slice(&amqp::PROTOCOL_HEADER);
        self.send(
            0,
            &connection::StartOk {
                client_properties: Table::parse(&properties).unwrap(),
                mechanism,
                response,
                locale: "en_US",
            },
        );
        self.send(0, &connection::TuneOk { channel_max: 2047, frame_max: 131_072, heartbeat });
        self.send(0, &connection::Open { virtual_host: "/" });
    }

    /// Opens a channel.
    pub(crate) fn open(&mut self, number: u16) {
        self.call(number, &channel::Open, "channel.open-ok");
    }

    /// Adds a method to what goes out next.
    pub(crate) fn put<'m, M: MethodFields<'m>>(&mut self, number: u16, fields: &M) {
        frame::write_fields(&mut self.output, number, fields);
    }

    /// Adds octets to what goes out next.
    pub(crate) fn put_raw(&mut self, octets: &[u8]) {
        self.output.extend_from_slice(octets);
    }

    /// Takes what was put, to send it by other means.
    pub(crate) fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }

    /// Sends what was put.
    pub(crate) fn flush(&mut self) {
        let output = std::mem::take(&mut self.output);
        match &mut self.tls {
            Some(tls) => rustls::Stream::new(tls, &mut self.stream).write_all(&output).unwrap(),
            None => self.stream.write_all(&output).unwrap(),
        }
    }

    /// Sends a method.
    pub(crate) fn send<'m, M: MethodFields<'m>>(&mut self, number: u16, fields: &M) {
        self.put(number, fields);
        self.flush();
    }

    /// Sends a method and waits for its answer, which must come next.
    pub(crate) fn call<'m, M: MethodFields<'m>>(
        &mut self,
        number: u16,
        fields: &M,
        answer: &str,
    ) -> Received {
        self.send(number, fields);
        let received = self.expect(answer);
        assert_eq!(received.channel, number);
        received
    }

    /// Adds a publish to what goes out next.
    pub(crate) fn put_publish(
        &mut self,
        number: u16,
        publish: &basic::Publish<'_>,
        properties: &BasicProperties,
        body: &[u8],
    ) {
        self.put(number, publish);
        let mut raw = Vec::new();
        properties.encode(&mut raw);
        frame::write_content_header(&mut self.output, number, 60, body.len() as u64, &raw);
        frame::write_body(&mut self.output, number, body, 131_072);
    }

    /// Publishes to a queue by its name.
    pub(crate) fn publish(&mut self, number: u16, routing_key: &str, body: &[u8]) {
        let publish = basic::Publish { routing_key, ..basic::Publish::default() };
        self.put_publish(number, &publish, &BasicProperties::default(), body);
        self.flush();
    }

    /// Declares a queue and returns its name.
    pub(crate) fn declare(&mut self, number: u16, declare: &queue::Declare<'_>) -> String {
        let received = self.call(number, declare, "queue.declare-ok");
        let Method::QueueDeclareOk(ok) = received.method() else { unreachable!() };
        ok.queue.to_owned()
    }

    /// Declares a queue of the connection's own.
    pub(crate) fn own_queue(&mut self) -> String {
        self.declare(1, &queue::Declare { exclusive: true, ..queue::Declare::default() })
    }

    /// Starts to consume from a queue.
    pub(crate) fn consume(&mut self, number: u16, queue: &str, consumer_tag: &str, no_ack: bool) {
        let consume = basic::Consume { queue, consumer_tag, no_ack, ..basic::Consume::default() };
        self.call(number, &consume, "basic.consume-ok");
    }

    /// What comes next; it must have this name.
    pub(crate) fn expect(&mut self, name: &str) -> Received {
        let received = self.next().unwrap_or_else(|| panic!("the broker hung up instead of {name}"));
        assert_eq!(received.name(), name, "{:?}", received.method());
        received
    }

    /// What comes next. `None` when the broker hangs up.
    pub(crate) fn next(&mut self) -> Option<Received> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(event);
            }
            self.cut_frames();
            if self.events.is_empty() && !self.read() {
                return None;
            }
        }
    }

    fn read(&mut self) -> bool {
        let mut chunk = vec![0; 65536];
        let read = match &mut self.tls {
            Some(tls) => rustls::Stream::new(tls, &mut self.stream).read(&mut chunk),
            None => self.stream.read(&mut chunk),
        };
        match read {
            Ok(0) => false,
            Ok(count) => {
                self.input.extend_from_slice(&chunk[..count]);
                true
            }
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => false,
            Err(error) => panic!("nothing came: {error}"),
        }
    }

    fn cut_frames(&mut self) {
        let mut used = 0;
        while let Some((frame, size)) = frame::parse(&self.input[used..], 131_072).unwrap() {
            used += size;
            let at = self.partial.iter().position(|(received, _)| received.channel == frame.channel);
            match (frame.kind, at) {
                (FrameKind::Heartbeat, _) => {}
                (FrameKind::Method, None) => {
                    let (channel, payload) = (frame.channel, frame.payload.to_vec());
                    let received = Received { channel, payload, properties: Vec::new(), body: Vec::new() };
                    match received.name() {
                        "basic.deliver" | "basic.get-ok" | "basic.return" => self.partial.push((received, 0)),
                        _ => self.events.push_back(received),
                    }
                }
                (FrameKind::Header, Some(at)) => {
                    let header = ContentHeader::decode(frame.payload).unwrap();
                    self.partial[at].0.properties = header.properties.raw().to_vec();
                    self.partial[at].1 = header.body_size as usize;
                    self.content_ends(at);
                }
                (FrameKind::Body, Some(at)) => {
                    self.partial[at].0.body.extend_from_slice(frame.payload);
                    self.content_ends(at);
                }
                other => panic!("frame out of order: {other:?}"),
            }
        }
        self.input.drain(..used);
    }

    fn content_ends(&mut self, at: usize) {
        if self.partial[at].0.body.len() == self.partial[at].1 {
            let (received, _) = self.partial.remove(at);
            self.events.push_back(received);
        }
    }
}
