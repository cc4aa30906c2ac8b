//! Load on a TCP balancer with a server behind it: short connections, question and answer, bulk data, idle
//! connections, a storm. One thread and epoll, so that the generator costs little beside the balancer.

use super::figures::{Latencies, Line, cpu_seconds, resident_kib};
use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, connect, socket};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

/// Octets of a question.
const SIZE: usize = 64;
/// The first octet of a connection that asks for octets without end.
const POUR: u8 = b'P';
/// Octets of one write or read of bulk data.
const CHUNK: usize = 256 * 1024;
/// How long the balancer may put its memory in order before it is measured.
const SETTLE: Duration = Duration::from_secs(2);
/// A storm opens at most so many connections at a time.
const STORM: usize = 500;
/// Nothing here takes longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// A connection for each question.
    Connect,
    /// Many questions over one connection.
    Ask,
    /// Octets without end from the server.
    Pour,
}

/// A server for everything here: answers octets with themselves, or pours, for ever. One thread.
///
/// # Errors
/// The port is taken.
pub fn echo(port: u16) -> Result<()> {
    let listener =
        TcpListener::bind(("127.0.0.1", port)).with_context(|| format!("listen on port {port}"))?;
    // The standard library asks for a short queue; storms need a long one.
    nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::new(4096)?)?;
    listener.set_nonblocking(true)?;
    let epoll = Epoll::new(EpollCreateFlags::empty())?;
    let door = listener.as_raw_fd() as usize;
    epoll.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, door as u64))?;
    let mut peers: Vec<Option<(TcpStream, bool)>> = Vec::new();
    let mut buffer = vec![POUR; CHUNK];
    let mut events = [EpollEvent::empty(); 512];
    loop {
        for event in wait(&epoll, &mut events, EpollTimeout::NONE)? {
            let id = event.data() as usize;
            if id == door {
                while let Ok((stream, _)) = listener.accept() {
                    stream.set_nonblocking(true)?;
                    stream.set_nodelay(true)?;
                    let id = stream.as_raw_fd() as usize;
                    epoll.add(&stream, EpollEvent::new(EpollFlags::EPOLLIN, id as u64))?;
                    if peers.len() <= id {
                        peers.resize_with(id + 1, || None);
                    }
                    peers[id] = Some((stream, false));
                }
            } else if let Some(place) = peers.get_mut(id)
                && let Some(peer) = place
                && !serve(&epoll, peer, &mut buffer)?
            {
                *place = None;
            }
        }
    }
}

/// Whether the peer is still there.
fn serve(epoll: &Epoll, (stream, pours): &mut (TcpStream, bool), buffer: &mut [u8]) -> Result<bool> {
    if *pours {
        return Ok(!matches!(stream.write(buffer), Err(error) if error.kind() != ErrorKind::WouldBlock));
    }
    let mut question = [0; 4096];
    match stream.read(&mut question) {
        Ok(0) => Ok(false),
        Ok(_) if question[0] == POUR => {
            *pours = true;
            let mut event = EpollEvent::new(EpollFlags::EPOLLOUT, stream.as_raw_fd() as u64);
            epoll.modify(&*stream, &mut event)?;
            Ok(true)
        }
        // The questions are short: an answer always fits.
        Ok(count) => Ok(stream.write_all(&question[..count]).is_ok()),
        Err(error) => Ok(error.kind() == ErrorKind::WouldBlock),
    }
}

fn wait<'a>(epoll: &Epoll, events: &'a mut [EpollEvent], limit: EpollTimeout) -> Result<&'a [EpollEvent]> {
    match epoll.wait(events, limit) {
        Err(Errno::EINTR) => Ok(&[]),
        count => Ok(&events[..count?]),
    }
}

/// A client at work.
struct Client {
    stream: TcpStream,
    began: Instant,
    asked: bool,
    got: usize,
}

/// All clients and what they measured.
struct Crowd {
    address: SockaddrIn,
    epoll: Epoll,
    clients: Vec<Option<Client>>,
    latencies: Latencies,
    octets: u64,
    mode: Mode,
    buffer: Vec<u8>,
    /// A connection that ends without its answer is counted, and is no error.
    tolerant: bool,
    lost: usize,
}

impl Crowd {
    fn new(address: &str, mode: Mode) -> Result<Self> {
        let address: SocketAddrV4 = address.parse().with_context(|| format!("read the address {address}"))?;
        let epoll = Epoll::new(EpollCreateFlags::empty())?;
        let latencies = Latencies::default();
        Ok(Self {
            address: address.into(),
            epoll,
            clients: Vec::new(),
            latencies,
            octets: 0,
            mode,
            buffer: vec![0; CHUNK],
            tolerant: false,
            lost: 0,
        })
    }

    /// Begins a connection in a place.
    fn open(&mut self, place: usize) -> Result<()> {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let stream = TcpStream::from(socket(AddressFamily::Inet, SockType::Stream, flags, None)?);
        let began = Instant::now();
        match connect(stream.as_raw_fd(), &self.address) {
            Ok(()) | Err(Errno::EINPROGRESS) => {}
            Err(error) => bail!("cannot connect: {error}"),
        }
        stream.set_nodelay(true)?;
        let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLET;
        self.epoll.add(&stream, EpollEvent::new(flags, place as u64))?;
        if self.clients.len() <= place {
            self.clients.resize_with(place + 1, || None);
        }
        self.clients[place] = Some(Client { stream, began, asked: false, got: 0 });
        Ok(())
    }

    /// Goes on with a client after an event; says whether it has its answer.
    fn advance(&mut self, event: &EpollEvent) -> Result<bool> {
        let Some(Some(client)) = self.clients.get_mut(event.data() as usize) else { return Ok(false) };
        if !client.asked && event.events().contains(EpollFlags::EPOLLOUT) {
            let question = [if self.mode == Mode::Pour { POUR } else { 7 }; SIZE];
            client.stream.write_all(&question).context("ask")?;
            client.asked = true;
        }
        let buffer = if self.mode == Mode::Pour { &mut self.buffer[..] } else { &mut self.buffer[..SIZE] };
        loop {
            match client.stream.read(buffer) {
                Ok(0) => bail!("the connection ended before the answer"),
                Ok(count) if self.mode == Mode::Pour => self.octets += count as u64,
                Ok(count) => client.got += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error).context("read the answer"),
            }
            if self.mode != Mode::Pour && client.got >= SIZE {
                self.latencies.add(client.began.elapsed());
                return Ok(true);
            }
        }
    }

    /// Asks again over the same connection.
    fn again(&mut self, place: usize) -> Result<()> {
        let Some(Some(client)) = self.clients.get_mut(place) else { return Ok(()) };
        client.got = 0;
        client.began = Instant::now();
        client.stream.write_all(&[7; SIZE]).context("ask again")
    }

    /// Takes events until `done` says so; it is told of each answer.
    fn run(&mut self, mut done: impl FnMut(&mut Self, Option<usize>) -> Result<bool>) -> Result<()> {
        let mut events = [EpollEvent::empty(); 512];
        let mut last = Instant::now();
        loop {
            let limit = EpollTimeout::try_from(Duration::from_millis(100))?;
            let events = wait(&self.epoll, &mut events, limit)?.to_vec();
            for event in &events {
                let answered = match self.advance(event) {
                    Err(_) if self.tolerant => {
                        self.lost += 1;
                        true
                    }
                    other => other?,
                };
                last = Instant::now();
                if answered && done(self, Some(event.data() as usize))? {
                    return Ok(());
                }
            }
            if done(self, None)? {
                return Ok(());
            }
            ensure!(last.elapsed() < PATIENCE, "no answer");
        }
    }
}

/// Runs `clients` for a time and returns the figures.
///
/// # Errors
/// A connection fails.
pub fn run(address: &str, mode: Mode, clients: usize, time: Duration, pids: &[u32]) -> Result<Line> {
    let mut crowd = Crowd::new(address, mode)?;
    for place in 0..clients {
        crowd.open(place)?;
    }
    // What is held for the whole time is not part of it.
    let mut started = None;
    let mut base = (0.0, 0, Instant::now());
    crowd.run(|crowd, answered| {
        if started.is_none() && base.2.elapsed() > Duration::from_millis(200) {
            started = Some(());
            base = (cpu_seconds(pids), crowd.octets, Instant::now());
            crowd.latencies = Latencies::default();
        }
        if let Some(place) = answered {
            match mode {
                Mode::Connect => crowd.open(place)?,
                _ => crowd.again(place)?,
            }
        }
        Ok(started.is_some() && base.2.elapsed() >= time)
    })?;
    let (cpu, seconds) = (cpu_seconds(pids) - base.0, base.2.elapsed().as_secs_f64());
    let mut line = Line::default();
    if mode == Mode::Pour {
        let gigabytes = (crowd.octets - base.1) as f64 / 1e9;
        line.add("rate", gigabytes / seconds);
        line.add("cpu_per_gigabyte", cpu / gigabytes);
        return Ok(line);
    }
    let count = crowd.latencies.count() as f64;
    line.add("rate", count / seconds);
    line.add("cpu_each_us", cpu / count * 1e6);
    line.add_latencies("latency_p50_ms", "latency_p99_ms", &mut crowd.latencies);
    Ok(line)
}

/// Opens connections that each asked once, holds them, and tells what each costs in memory.
///
/// # Errors
/// A connection fails.
pub fn idle(address: &str, count: usize, pid: u32) -> Result<Line> {
    let mut crowd = Crowd::new(address, Mode::Ask)?;
    crowd.open(0)?;
    crowd.run(|_, answered| Ok(answered.is_some()))?;
    std::thread::sleep(SETTLE);
    let before = resident_kib(&[pid]);
    let mut next = 1;
    let mut answers = 0;
    for _ in 0..64.min(count) {
        crowd.open(next)?;
        next += 1;
    }
    crowd.run(|crowd, answered| {
        if answered.is_some() {
            answers += 1;
            if next <= count {
                crowd.open(next)?;
                next += 1;
            }
        }
        Ok(answers == count)
    })?;
    std::thread::sleep(SETTLE);
    let growth = resident_kib(&[pid]) - before;
    let mut line = Line::default();
    line.add("kib_each", growth / count as f64);
    line.add("kib_before", before);
    Ok(line)
}

/// `clients` come again and again with a question, for a time; tells how many were answered and how many lost
/// their connection.
///
/// # Errors
/// The system has no more sockets.
pub fn churn(address: &str, clients: usize, time: Duration) -> Result<Line> {
    let mut crowd = Crowd::new(address, Mode::Connect)?;
    crowd.tolerant = true;
    let start = Instant::now();
    for place in 0..clients {
        crowd.open(place)?;
    }
    let mut ended = 0;
    crowd.run(|crowd, answered| {
        if let Some(place) = answered {
            ended += 1;
            crowd.open(place)?;
        }
        Ok(start.elapsed() >= time)
    })?;
    let mut line = Line::default();
    line.add("answered", (ended - crowd.lost) as f64);
    line.add("lost", crowd.lost as f64);
    Ok(line)
}

/// So many clients come, up to 500 at once, each with a question; tells when all had their answers. With
/// `tolerant` those that lose their connection are counted, else that is an error.
///
/// # Errors
/// A connection fails.
pub fn storm(address: &str, count: usize, pid: u32, tolerant: bool) -> Result<Line> {
    let mut crowd = Crowd::new(address, Mode::Connect)?;
    crowd.tolerant = tolerant;
    let (cpu, start) = (cpu_seconds(&[pid]), Instant::now());
    let at_once = STORM.min(count);
    for place in 0..at_once {
        crowd.open(place)?;
    }
    let (mut opened, mut answers) = (at_once, 0);
    crowd.run(|crowd, answered| {
        if let Some(place) = answered {
            answers += 1;
            if opened < count {
                crowd.open(place)?;
                opened += 1;
            } else {
                crowd.clients[place] = None;
            }
        }
        Ok(answers == count)
    })?;
    let mut line = Line::default();
    line.add("seconds", start.elapsed().as_secs_f64());
    line.add("lost", crowd.lost as f64);
    line.add("cpu_each_us", (cpu_seconds(&[pid]) - cpu) / count as f64 * 1e6);
    line.add_latencies("latency_p50_ms", "latency_p99_ms", &mut crowd.latencies);
    Ok(line)
}
