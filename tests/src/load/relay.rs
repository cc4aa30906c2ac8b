//! The least that an AMQP server can do: a bound to hold real brokers against.
//!
//! One thread. It forwards each message to a consumer of the queue that the routing key names, and reads and
//! writes as much at once as there is. What comes from a publisher with confirms goes to a journal first,
//! which is synced (fdatasync) once for each turn of the loop; then all of the turn is confirmed. There is
//! no routing, no account of acknowledgements, no redelivery, no credit.

use amqp::method::{basic, channel, confirm, connection, queue};
use amqp::{ContentHeader, Method, PROTOCOL_HEADER, frame};
use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use std::collections::HashMap;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Octets for one read, and the longest message.
const BUFFER: usize = 1 << 19;

/// A consumer that lags this many octets behind is waited for, so that TCP slows its publisher down.
const HIGH_WATER: usize = 1 << 20;

/// Octets of the journal: more than one turn can bring.
const JOURNAL: u64 = 1 << 26;

/// The tag of every consumer.
const CONSUMER_TAG: &str = "c";

/// Serves those who connect, for ever.
///
/// # Errors
/// The journal cannot be written.
pub fn serve(listener: &TcpListener, journal: &Path) -> Result<()> {
    let epoll = Epoll::new(EpollCreateFlags::empty())?;
    let door = listener.as_raw_fd() as usize;
    epoll.add(listener, EpollEvent::new(EpollFlags::EPOLLIN, door as u64))?;
    let journal = Journal::create(journal).with_context(|| format!("create {}", journal.display()))?;
    let mut relay = Relay { peers: Vec::new(), queues: HashMap::new(), journal, spare: Vec::new() };
    let mut events = [EpollEvent::empty(); 256];
    loop {
        let count = match epoll.wait(&mut events, EpollTimeout::NONE) {
            Err(Errno::EINTR) => continue,
            count => count?,
        };
        for event in &events[..count] {
            let id = event.data() as usize;
            if id == door {
                let (stream, _) = listener.accept().context("accept a connection")?;
                stream.set_nonblocking(true)?;
                stream.set_nodelay(true)?;
                let id = stream.as_raw_fd() as usize;
                epoll.add(&stream, EpollEvent::new(EpollFlags::EPOLLIN, id as u64))?;
                relay.admit(id, stream);
            } else {
                relay.read(id);
            }
        }
        relay.flush(&epoll)?;
    }
}

struct Relay {
    /// By file descriptor.
    peers: Vec<Option<Peer>>,
    /// The consumers of each queue.
    queues: HashMap<String, Vec<usize>>,
    journal: Journal,
    /// The buffers of peers that are gone.
    spare: Vec<Vec<u8>>,
}

struct Peer {
    stream: TcpStream,
    buffer: Vec<u8>,
    end: usize,
    out: Vec<u8>,
    written: usize,
    /// Whether epoll watches for room to write.
    watched: bool,
    confirms: bool,
    published: u64,
    confirmed: u64,
    delivered: u64,
    /// Where the last message went, and its key.
    last: Option<(String, usize)>,
    gone: bool,
}

impl Relay {
    fn admit(&mut self, id: usize, stream: TcpStream) {
        if self.peers.len() <= id {
            self.peers.resize_with(id + 1, || None);
        }
        self.peers[id] = Some(Peer {
            stream,
            buffer: self.spare.pop().unwrap_or_else(|| vec![0; BUFFER]),
            end: 0,
            out: Vec::new(),
            written: 0,
            watched: false,
            confirms: false,
            published: 0,
            confirmed: 0,
            delivered: 0,
            last: None,
            gone: false,
        });
    }

    fn read(&mut self, id: usize) {
        let Some(mut peer) = self.peers[id].take() else { return };
        match peer.stream.read(&mut peer.buffer[peer.end..]) {
            Ok(0) => peer.gone = true,
            Ok(count) => peer.end += count,
            Err(error) => peer.gone = error.kind() != ErrorKind::WouldBlock,
        }
        let (buffer, end) = (std::mem::take(&mut peer.buffer), peer.end);
        let used = self.work(id, &mut peer, &buffer[..end]).unwrap_or_else(|error| {
            eprintln!("{error:#}");
            peer.gone = true;
            0
        });
        peer.buffer = buffer;
        peer.buffer.copy_within(used..peer.end, 0);
        peer.end -= used;
        self.peers[id] = Some(peer);
    }

    /// Handles whole frames and messages, and returns the octets used.
    fn work(&mut self, id: usize, peer: &mut Peer, buffer: &[u8]) -> Result<usize> {
        let mut at = 0;
        if buffer.starts_with(&PROTOCOL_HEADER) {
            at = PROTOCOL_HEADER.len();
            let start = connection::Start {
                version_minor: 9,
                mechanisms: b"PLAIN",
                locales: b"en_US",
                ..Default::default()
            };
            frame::write_fields(&mut peer.out, 0, &start);
        }
        while let Some((found, used)) = frame::parse(&buffer[at..], 0)? {
            if let Method::BasicPublish(publish) = Method::decode(found.payload)? {
                let Some(content) = content(&buffer[at + used..])? else { break };
                self.forward(peer, publish.routing_key, content)?;
                at += used + content.len();
            } else {
                self.answer(id, peer, &found)?;
                at += used;
            }
        }
        Ok(at)
    }

    fn forward(&mut self, from: &mut Peer, key: &str, content: &[u8]) -> Result<()> {
        if from.confirms {
            self.journal.pending.extend_from_slice(content);
        }
        from.published += 1;
        let known = from.last.as_ref().filter(|(last, _)| last == key).map(|(_, id)| *id);
        let id = match known {
            Some(id) => id,
            None => {
                let Some(id) = self.queues.get(key).and_then(|consumers| consumers.first()) else {
                    // Nobody consumes: as with a queue that is deleted in the end.
                    return Ok(());
                };
                from.last = Some((key.to_owned(), *id));
                *id
            }
        };
        let Some(to) = &mut self.peers[id] else { bail!("the consumer of {key} left") };
        to.delivered += 1;
        frame::write_deliver(&mut to.out, 1, CONSUMER_TAG, to.delivered, false, "", key);
        to.out.extend_from_slice(content);
        Ok(())
    }

    fn answer(&mut self, id: usize, peer: &mut Peer, found: &frame::Frame<'_>) -> Result<()> {
        let method = match Method::decode(found.payload)? {
            Method::BasicAck(_) | Method::ConnectionTuneOk(_) => return Ok(()),
            Method::ConnectionStartOk(_) => {
                connection::Tune { channel_max: 2047, frame_max: 131_072, heartbeat: 0 }.into()
            }
            Method::ConnectionOpen(_) => connection::OpenOk.into(),
            Method::ConnectionClose(_) => connection::CloseOk.into(),
            Method::ChannelOpen(_) => channel::OpenOk.into(),
            Method::ChannelClose(_) => channel::CloseOk.into(),
            Method::QueueDeclare(declare) => {
                queue::DeclareOk { queue: declare.queue, message_count: 0, consumer_count: 0 }.into()
            }
            Method::QueueDelete(delete) => {
                self.queues.remove(delete.queue);
                queue::DeleteOk { message_count: 0 }.into()
            }
            Method::BasicQos(_) => basic::QosOk.into(),
            Method::BasicConsume(consume) => {
                self.queues.entry(consume.queue.to_owned()).or_default().push(id);
                basic::ConsumeOk { consumer_tag: CONSUMER_TAG }.into()
            }
            Method::ConfirmSelect(_) => {
                peer.confirms = true;
                confirm::SelectOk.into()
            }
            other => bail!("a relay does not know {other:?}"),
        };
        frame::write_method(&mut peer.out, found.channel, &method);
        Ok(())
    }

    /// The journal first, then confirms, then one write for each peer.
    fn flush(&mut self, epoll: &Epoll) -> Result<()> {
        self.journal.sync().context("write the journal")?;
        for (id, place) in self.peers.iter_mut().enumerate() {
            let Some(peer) = place else { continue };
            if peer.confirms && peer.published > peer.confirmed {
                frame::write_ack(&mut peer.out, 1, peer.published, peer.published > peer.confirmed + 1);
                peer.confirmed = peer.published;
            }
            peer.write(epoll, id)?;
            if peer.gone {
                self.spare.extend(place.take().map(|peer| peer.buffer));
                self.queues.values_mut().for_each(|consumers| consumers.retain(|it| *it != id));
            }
        }
        Ok(())
    }
}

impl Peer {
    fn write(&mut self, epoll: &Epoll, id: usize) -> Result<()> {
        while self.written < self.out.len() && !self.gone {
            match self.stream.write(&self.out[self.written..]) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if self.out.len() - self.written < HIGH_WATER {
                        break;
                    }
                    let mut room = [PollFd::new(self.stream.as_fd(), PollFlags::POLLOUT)];
                    poll(&mut room, PollTimeout::NONE)?;
                }
                Err(_) => self.gone = true,
            }
        }
        let all = self.written == self.out.len();
        if all {
            (self.written, _) = (0, self.out.clear());
        }
        if self.watched == all {
            self.watched = !all;
            let room = if all { EpollFlags::empty() } else { EpollFlags::EPOLLOUT };
            epoll.modify(&self.stream, &mut EpollEvent::new(EpollFlags::EPOLLIN | room, id as u64))?;
        }
        Ok(())
    }
}

/// A file that is full from the beginning and written round and round: a sync has octets to write, but no
/// length and no place on the disk.
struct Journal {
    file: File,
    at: u64,
    /// What this turn adds.
    pending: Vec<u8>,
}

impl Journal {
    fn create(path: &Path) -> std::io::Result<Self> {
        let mut file = File::create(path)?;
        let zeros = vec![0; 1 << 20];
        (0..JOURNAL >> 20).try_for_each(|_| file.write_all(&zeros))?;
        file.sync_all()?;
        Ok(Self { file, at: 0, pending: Vec::new() })
    }

    fn sync(&mut self) -> std::io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        if self.at + self.pending.len() as u64 > JOURNAL {
            self.at = 0;
        }
        self.file.write_all_at(&self.pending, self.at)?;
        self.at += self.pending.len() as u64;
        self.pending.clear();
        self.file.sync_data()
    }
}

/// Header and bodies of a message, once all of them are there.
fn content(buffer: &[u8]) -> Result<Option<&[u8]>> {
    let Some((header, mut end)) = frame::parse(buffer, 0)? else { return Ok(None) };
    let mut left = ContentHeader::decode(header.payload)?.body_size;
    while left > 0 {
        let Some((body, used)) = frame::parse(&buffer[end..], 0)? else { return Ok(None) };
        ensure!(!body.payload.is_empty(), "an empty body frame");
        left = left.saturating_sub(body.payload.len() as u64);
        end += used;
    }
    Ok(Some(&buffer[..end]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_forwarded_when_all_of_it_is_there() {
        let mut octets = Vec::new();
        frame::write_content_header(&mut octets, 1, 60, 5, b"\x10\x00\x02");
        frame::write_body(&mut octets, 1, b"hello", 0);
        for end in 0..octets.len() {
            assert_eq!(content(&octets[..end]).unwrap(), None);
        }
        octets.extend_from_slice(b"what follows");
        assert_eq!(content(&octets).unwrap().map(<[u8]>::len), Some(octets.len() - 12));
    }
}
