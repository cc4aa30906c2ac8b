//! The same scene with our balancer and with HAProxy, each on loopback with a server and a log of its own.

use super::NEEDS;
use harness::node::free_port;
use harness::programs;
use harness::ready;
use harness::scratch::Scratch;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};
use xtask::lab::Process;
use xtask::lab::wait::until_true;

/// Nothing takes longer.
const PATIENCE: Duration = Duration::from_secs(15);

/// What is played.
#[derive(Clone, Copy)]
pub(crate) struct Scene {
    pub(crate) name: &'static str,
    /// Lines of the section.
    pub(crate) settings: &'static str,
    /// Words of the `bind` line.
    pub(crate) bind: &'static str,
    /// Words of the `server` line.
    pub(crate) server: &'static str,
    pub(crate) play: fn(&mut Stage),
}

/// Both balancers.
pub(crate) struct Duo {
    scratch: Scratch,
}

/// One balancer, its server and its log.
pub(crate) struct Stage {
    _balancer: Process,
    port: u16,
    server: Option<TcpListener>,
    server_port: u16,
    log: UdpSocket,
    /// What was seen and logged.
    record: Vec<String>,
    lines: usize,
    /// Connections that fill the server's queue.
    fillers: Vec<TcpStream>,
}

impl Duo {
    /// `None` when a test with HAProxy cannot run here.
    pub(crate) fn ready(name: &str) -> Option<Self> {
        ready(name, NEEDS).then(|| Self { scratch: Scratch::new(name).unwrap() })
    }

    /// Plays all scenes with both, side by side, and compares.
    pub(crate) fn compare(self, scenes: &[Scene]) {
        let records: Vec<_> = std::thread::scope(|scope| {
            let play = |ours: bool| {
                let duo = &self;
                scope.spawn(move || -> Vec<_> { scenes.iter().map(|scene| duo.play(scene, ours)).collect() })
            };
            let both = [play(true), play(false)];
            both.into_iter().map(|one| one.join().unwrap()).collect()
        });
        for (scene, (ours, theirs)) in scenes.iter().zip(records[0].iter().zip(&records[1])) {
            println!("{}: {theirs:?}", scene.name);
            assert_eq!(ours, theirs, "{} (ours, then HAProxy's)", scene.name);
        }
        self.scratch.passed();
    }

    fn play(&self, scene: &Scene, ours: bool) -> Vec<String> {
        let mut stage = Stage::build(&self.scratch, scene, ours);
        (scene.play)(&mut stage);
        if stage.lines == 0 {
            stage.line();
        }
        stage.record
    }
}

impl Stage {
    fn build(scratch: &Scratch, scene: &Scene, ours: bool) -> Self {
        let log = UdpSocket::bind("127.0.0.1:0").unwrap();
        // Ports that nobody else is given, also when the server has stopped listening.
        let (port, server_port) = (free_port().unwrap(), free_port().unwrap());
        let server = TcpListener::bind(("127.0.0.1", server_port)).unwrap();
        let config = format!(
            "global\n maxconn 1000\ndefaults\n mode tcp\n log {} format raw local0\n option tcplog\n \
             timeout connect 5s\n timeout client 20s\n timeout server 20s\nlisten l\n bind 127.0.0.1:{port} {}\n \
             {}\n server a 127.0.0.1:{server_port} {}\n",
            log.local_addr().unwrap(),
            scene.bind,
            scene.settings,
            scene.server
        );
        let name =
            format!("{}-{}", if ours { "ours" } else { "haproxy" }, scene.name.replace([' ', ','], "-"));
        let file = scratch.path().join(format!("{name}.cfg"));
        std::fs::write(&file, config).unwrap();
        let program = if ours { programs::folder().join("proxy") } else { PathBuf::from("haproxy") };
        let mut command = Command::new(program);
        if !ours {
            command.arg("-db");
        }
        command.arg("-f").arg(&file);
        let balancer = Process::spawn(&name, command, &file.with_extension("log")).unwrap();
        until_true(PATIENCE, "the balancer to listen", || listens(port)).unwrap();
        let (record, fillers) = (Vec::new(), Vec::new());
        Self { _balancer: balancer, port, server: Some(server), server_port, log, record, lines: 0, fillers }
    }

    /// A client of the balancer.
    pub(crate) fn connect(&self) -> TcpStream {
        let client = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client
    }

    /// What the balancer connected to the server.
    pub(crate) fn accept(&self) -> TcpStream {
        let server = self.server.as_ref().unwrap();
        server.set_nonblocking(true).unwrap();
        let begin = Instant::now();
        let stream = loop {
            match server.accept() {
                Ok((stream, _)) => break stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock && begin.elapsed() < PATIENCE => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(error) => panic!("the server got no connection: {error}"),
            }
        };
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// A client and a server that have exchanged a word.
    pub(crate) fn talk(&self) -> (TcpStream, TcpStream) {
        let mut client = self.connect();
        client.write_all(b"hi").unwrap();
        let mut server = self.accept();
        let mut word = [0; 2];
        server.read_exact(&mut word).unwrap();
        server.write_all(b"yo").unwrap();
        client.read_exact(&mut word).unwrap();
        (client, server)
    }

    /// Notes what a read gives.
    pub(crate) fn see(&mut self, who: &str, stream: &mut TcpStream) {
        let mut buffer = [0; 4096];
        let seen = match stream.read(&mut buffer) {
            Ok(0) => "the end".to_owned(),
            Ok(count) => format!("{count} octets"),
            Err(error) => format!("{:?}", error.kind()),
        };
        self.record.push(format!("{who}: {seen}"));
    }

    /// Notes something.
    pub(crate) fn note(&mut self, text: impl Into<String>) {
        self.record.push(text.into());
    }

    /// Notes that a side sees the end of its connection, one way or the other.
    pub(crate) fn gone(&mut self, who: &str, mut stream: TcpStream) {
        let seen = matches!(stream.read(&mut [0; 1]), Ok(0))
            || stream.take_error().is_ok_and(|error| error.is_some())
            || stream.read(&mut [0; 1]).is_ok_and(|count| count == 0);
        self.record.push(format!("{who}: gone {seen}"));
    }

    /// Writes until nothing goes any more because the connection is gone.
    pub(crate) fn flood(&mut self, who: &str, mut stream: TcpStream) {
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        let error = loop {
            if let Err(error) = stream.write(&[7; 65_536]) {
                break error.kind();
            }
        };
        let gone = matches!(error, ErrorKind::BrokenPipe | ErrorKind::ConnectionReset);
        self.record.push(format!("{who}: gone {gone}"));
    }

    /// Closes with a reset.
    pub(crate) fn reset(stream: TcpStream) {
        let linger = nix::libc::linger { l_onoff: 1, l_linger: 0 };
        nix::sys::socket::setsockopt(&stream.as_fd(), nix::sys::socket::sockopt::Linger, &linger).unwrap();
    }

    /// From now on nobody listens at the server's port.
    pub(crate) fn refuse(&mut self) {
        self.server = None;
    }

    /// From now on connections to the server are not answered: its queue is full.
    pub(crate) fn ignore(&mut self) {
        let server = self.server.as_ref().unwrap();
        nix::sys::socket::listen(server, nix::sys::socket::Backlog::new(0).unwrap()).unwrap();
        let address = ([127, 0, 0, 1], self.server_port).into();
        while let Ok(filler) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
            self.fillers.push(filler);
            assert!(self.fillers.len() < 100, "the queue does not fill");
        }
    }

    /// Waits for a line in the log and notes what does not depend on time.
    pub(crate) fn line(&mut self) {
        self.log.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut buffer = [0; 2048];
        let line = loop {
            let count = self.log.recv(&mut buffer).expect("a line in the log");
            let line = String::from_utf8_lossy(&buffer[..count]).into_owned();
            // What it says about itself is no connection.
            if line.contains(" l/") || line.contains(" l ") && line.contains('[') {
                break line;
            }
        };
        self.lines += 1;
        let words: Vec<&str> = line.split_whitespace().collect();
        let told = match &words[..] {
            // A line about a greeting that went wrong has as many words.
            [client, _, frontend, server, times, bytes, code, counts, queues] if !frontend.ends_with(':') => {
                let connected = times.split('/').nth(1).is_some_and(|time| time != "-1");
                // A flood stops where buffers are full.
                let bytes = if bytes.len() > 6 { "many" } else { bytes };
                let host = client.rsplit_once(':').map_or(*client, |(host, _)| host);
                format!("{host} {frontend} {server} connected={connected} {bytes} {code} {counts} {queues}")
            }
            [_, _, rest @ ..] => rest.join(" "),
            _ => line.clone(),
        };
        self.record.push(told);
    }
}

fn listens(port: u16) -> bool {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    table.lines().any(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words.get(1).is_some_and(|it| it.ends_with(&format!(":{port:04X}"))) && words.get(3) == Some(&"0A")
    })
}
