//! A broker process and a client that sees every frame as it comes, in order.

use amqp::content::{BasicProperties, ContentHeader};
use amqp::frame::{self, FrameKind};
use amqp::method::{Method, MethodFields, basic, channel, connection, queue};
use amqp::table::{FieldTable, FieldValue, Table};
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

/// A broker that keeps everything in memory, for the tests that run at the same time.
pub(crate) struct Broker {
    process: Child,
    /// Its AMQP port on the loopback interface.
    pub(crate) port: u16,
    http: u16,
}

impl Broker {
    /// The one that runs, or a new one.
    pub(crate) fn shared() -> Arc<Broker> {
        static RUNNING: Mutex<Weak<Broker>> = Mutex::new(Weak::new());
        let mut running = RUNNING.lock().unwrap();
        running.upgrade().unwrap_or_else(|| {
            let broker = Arc::new(Broker::start(&[]));
            *running = Arc::downgrade(&broker);
            broker
        })
    }

    /// One with options of its own.
    pub(crate) fn start(options: &[&str]) -> Broker {
        Self::launch(&[&["--ephemeral"], options].concat())
    }

    /// One with its data in a folder, to be killed and started again.
    pub(crate) fn with_data(folder: &std::path::Path) -> Broker {
        Self::launch(&["--data", folder.to_str().unwrap()])
    }

    fn launch(options: &[&str]) -> Broker {
        let mut process = Command::new(env!("CARGO_BIN_EXE_broker"))
            .args(["--bind", "127.0.0.1", "--port", "0", "--management-port", "0"])
            .args(["--node", "rabbit@wire"])
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
                    let port = |name: &str| -> Option<u16> {
                        let rest = line.split(&format!("{name}=127.0.0.1:")).nth(1)?;
                        rest.split(|octet: char| !octet.is_ascii_digit()).next()?.parse().ok()
                    };
                    if let (Some(port), Some(http)) = (port("amqp"), port("http")) {
                        let _ = sender.send((port, http));
                    }
                }
            });
        }
        let (port, http) = ports.recv_timeout(Duration::from_secs(60)).expect("the broker starts");
        Broker { process, port, http }
    }

    /// Sends a `PUT` to the HTTP API as guest and waits until it is done.
    pub(crate) fn put(&self, path: &str, body: &str) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.http)).unwrap();
        write!(
            stream,
            "PUT {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Basic Z3Vlc3Q6Z3Vlc3Q=\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 20"), "{answer}");
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

    /// The properties, decoded.
    pub(crate) fn properties(&self) -> BasicProperties {
        BasicProperties::from(amqp::content::Properties::parse(&self.properties).unwrap())
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
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Client { stream, input: Vec::new(), output: Vec::new(), events: VecDeque::new(), partial: Vec::new() }
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
                mechanism: "PLAIN",
                response: b"\0guest\0guest",
                locale: "en_US",
            },
        );
        self.send(0, &connection::TuneOk { channel_max: 2047, frame_max: 131_072, heartbeat });
        self.send(0, &connection::Open { virtual_host: "/" });
        self.expect("connection.start");
        self.expect("connection.tune");
        self.expect("connection.open-ok");
    }

    /// Opens a channel.
    pub(crate) fn open(&mut self, number: u16) {
        self.call(number, &channel::Open, "channel.open-ok");
    }

    /// Adds a method to what goes out next.
    pub(crate) fn put<'m, M: MethodFields<'m>>(&mut self, number: u16, fields: &M) {
        frame::write_fields(&mut self.output, number, fields);
    }

    /// Sends what was put.
    pub(crate) fn flush(&mut self) {
        self.stream.write_all(&std::mem::take(&mut self.output)).unwrap();
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

    /// Fails if anything but heartbeats comes within this time.
    pub(crate) fn expect_silence(&mut self, time: Duration) {
        let end = Instant::now() + time;
        let mut chunk = [0; 4096];
        while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            self.stream.set_read_timeout(Some(left)).unwrap();
            match self.stream.read(&mut chunk) {
                Ok(0) => panic!("the broker hung up"),
                Ok(count) => self.input.extend_from_slice(&chunk[..count]),
                Err(_) => break,
            }
        }
        self.stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        self.cut_frames();
        if let Some(event) = self.events.front() {
            panic!("expected nothing, got {:?}", event.method());
        }
    }

    fn read(&mut self) -> bool {
        let mut chunk = vec![0; 65536];
        match self.stream.read(&mut chunk) {
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
