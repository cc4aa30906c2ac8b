//! Sending log lines to where `log` says: syslog over UDP or a unix socket, standard output or error.
//!
//! A line is sent from the thread that made it and never waits: a full socket buffer loses the line,
//! as with HAProxy. Lines for standard output go through one thread with a bounded queue.

use std::collections::HashMap;
use std::io::Write;
use std::net::UdpSocket;
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};

use daemon::clock::LocalTime;

use crate::config::{LogFraming, LogSink, LogTarget};

/// Lines that wait for standard output at most.
const QUEUE: usize = 4096;

/// syslog severity numbers.
pub mod level {
    /// The system is unusable.
    pub const EMERG: u8 = 0;
    /// Act at once.
    pub const ALERT: u8 = 1;
    /// Warning.
    pub const WARNING: u8 = 4;
    /// Normal but significant.
    pub const NOTICE: u8 = 5;
    /// Informational.
    pub const INFO: u8 = 6;
}

/// One opened receiver.
#[derive(Debug)]
enum Channel {
    Udp(UdpSocket),
    Unix(UnixDatagram, std::path::PathBuf),
    Stdout,
    Stderr,
}

/// Where a section's lines go.
#[derive(Debug, Clone, Default)]
pub struct Logger {
    sinks: Arc<[Sink]>,
}

#[derive(Debug)]
struct Sink {
    config: LogSink,
    channel: Arc<Channel>,
    tag: Arc<str>,
}

/// Lines that could not be sent since the start.
pub static DROPPED: AtomicU64 = AtomicU64::new(0);

/// Opens each receiver once.
#[derive(Debug, Default)]
pub struct Opener {
    channels: HashMap<String, Arc<Channel>>,
}

impl Opener {
    /// A logger for `sinks`; one that cannot be opened is reported and left out.
    pub fn open(&mut self, sinks: &[LogSink], tag: &str) -> Logger {
        let tag: Arc<str> = tag.into();
        let mut opened: Vec<Sink> = Vec::new();
        for config in sinks {
            // The same receiver given twice (in global and in a section) gets a line once.
            if opened.iter().any(|sink| sink.config == *config) {
                continue;
            }
            let key = format!("{:?}", config.target);
            let channel = match self.channels.get(&key) {
                Some(channel) => channel.clone(),
                None => match open_channel(&config.target) {
                    Ok(channel) => {
                        let channel = Arc::new(channel);
                        self.channels.insert(key, channel.clone());
                        channel
                    }
                    Err(error) => {
                        tracing::warn!(target = ?config.target, %error, "cannot open log receiver");
                        continue;
                    }
                },
            };
            opened.push(Sink { config: config.clone(), channel, tag: tag.clone() });
        }
        Logger { sinks: opened.into() }
    }
}

fn open_channel(target: &LogTarget) -> std::io::Result<Channel> {
    Ok(match target {
        LogTarget::Udp(address) => {
            let local = if address.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" };
            let socket = UdpSocket::bind(local)?;
            socket.connect(address)?;
            socket.set_nonblocking(true)?;
            Channel::Udp(socket)
        }
        LogTarget::Unix(path) => {
            let socket = UnixDatagram::unbound()?;
            socket.set_nonblocking(true)?;
            // The receiver may start later or be restarted; a failure now is not final.
            let _ = socket.connect(path);
            Channel::Unix(socket, path.clone())
        }
        LogTarget::Stdout => Channel::Stdout,
        LogTarget::Stderr => Channel::Stderr,
    })
}

impl Logger {
    /// Whether nobody listens.
    pub fn is_silent(&self) -> bool {
        self.sinks.is_empty()
    }

    /// Sends one line of a severity.
    pub fn send(&self, severity: u8, text: &str) {
        for sink in self.sinks.iter().filter(|sink| severity <= sink.config.max_level) {
            let line = frame(&sink.config, severity, &sink.tag, text);
            let sent = match &*sink.channel {
                Channel::Udp(socket) => socket.send(&line).is_ok(),
                Channel::Unix(socket, path) => {
                    socket.send(&line).is_ok() || (socket.connect(path).is_ok() && socket.send(&line).is_ok())
                }
                Channel::Stdout => enqueue(false, line),
                Channel::Stderr => enqueue(true, line),
            };
            if !sent {
                DROPPED.fetch_add(1, Relaxed);
            }
        }
    }
}

fn frame(config: &LogSink, severity: u8, tag: &str, text: &str) -> Vec<u8> {
    let severity = severity.max(config.min_level);
    let priority = u32::from(config.facility) * 8 + u32::from(severity);
    let pid = std::process::id();
    let now = LocalTime::now();
    let mut line = match config.format {
        LogFraming::Local | LogFraming::Rfc3164 => {
            let host = match config.format {
                LogFraming::Rfc3164 => format!("{} ", host_name()),
                _ => String::new(),
            };
            format!(
                "<{priority}>{} {:2} {:02}:{:02}:{:02} {host}{tag}[{pid}]: ",
                now.month_name(),
                now.day,
                now.hour,
                now.minute,
                now.second
            )
        }
        LogFraming::Rfc5424 => format!("<{priority}>1 {} {} {tag} {pid} - - ", now.rfc3339(), host_name()),
        LogFraming::Priority => format!("<{priority}>"),
        LogFraming::Short => format!("<{severity}>"),
        LogFraming::Timed => format!("<{severity}>{} ", now.rfc3339()),
        LogFraming::Iso => format!("{} ", now.rfc3339()),
        LogFraming::Raw => String::new(),
    }
    .into_bytes();
    // One line is one message whatever a peer put into it.
    line.extend(text.bytes().map(|byte| if byte < b' ' { b'?' } else { byte }));
    line.truncate(config.length.max(80) - 1);
    line.push(b'\n');
    line
}

fn host_name() -> &'static str {
    static NAME: OnceLock<String> = OnceLock::new();
    NAME.get_or_init(|| {
        nix::unistd::gethostname().map_or_else(|_| "-".to_owned(), |name| name.to_string_lossy().into_owned())
    })
}

/// Hands a line to the writing thread, which starts at the first line.
fn enqueue(to_stderr: bool, line: Vec<u8>) -> bool {
    /// For standard error, and the line.
    type Written = (bool, Vec<u8>);
    static WRITER: OnceLock<Option<SyncSender<Written>>> = OnceLock::new();
    let writer = WRITER.get_or_init(|| {
        let (sender, receiver) = sync_channel::<Written>(QUEUE);
        let thread = std::thread::Builder::new().name("log".to_owned()).spawn(move || {
            for (to_stderr, line) in receiver {
                // A closed output loses lines; the proxy goes on.
                let _ = if to_stderr {
                    std::io::stderr().write_all(&line)
                } else {
                    let mut out = std::io::stdout().lock();
                    out.write_all(&line).and_then(|()| out.flush())
                };
            }
        });
        thread.is_ok().then_some(sender)
    });
    writer.as_ref().is_some_and(|sender| sender.try_send((to_stderr, line)).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sink(target: LogTarget, format: LogFraming) -> LogSink {
        LogSink { target, format, facility: 16, max_level: 6, min_level: 0, length: 100, sample: None }
    }

    #[test]
    fn lines_are_framed_for_their_receiver() {
        let udp = LogTarget::Udp("127.0.0.1:514".parse().unwrap());
        let show =
            |format| String::from_utf8(frame(&sink(udp.clone(), format), 6, "haproxy", "a\nb")).unwrap();
        assert_eq!(show(LogFraming::Raw), "a?b\n");
        assert_eq!(show(LogFraming::Short), "<6>a?b\n");
        let old = show(LogFraming::Local);
        assert!(
            old.starts_with("<134>") && old.ends_with(&format!(" haproxy[{}]: a?b\n", std::process::id())),
            "{old}"
        );
        assert!(show(LogFraming::Rfc5424).starts_with("<134>1 20"));
        assert_eq!(frame(&sink(udp, LogFraming::Raw), 6, "t", &"x".repeat(500)).len(), 100);
    }

    #[test]
    fn a_udp_receiver_gets_what_its_level_allows() {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        receiver.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
        let target = LogTarget::Udp(receiver.local_addr().unwrap());
        let logger = Opener::default().open(&[sink(target, LogFraming::Short)], "haproxy");
        logger.send(7, "debug");
        logger.send(level::INFO, "hello");
        let mut buffer = [0; 200];
        let length = receiver.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"<6>hello\n");
    }

    #[test]
    fn a_unix_receiver_that_comes_later_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let logger = Opener::default().open(&[sink(LogTarget::Unix(path.clone()), LogFraming::Raw)], "t");
        logger.send(level::INFO, "lost");
        let receiver = UnixDatagram::bind(&path).unwrap();
        logger.send(level::INFO, "found");
        let mut buffer = [0; 200];
        let length = receiver.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"found\n");
    }
}
