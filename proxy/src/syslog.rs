//! Sending log lines to where `log` says: syslog over UDP or a unix socket, standard output or error.
//!
//! A line is sent from the thread that made it and never waits: a full socket buffer loses the line,
//! as with HAProxy. Lines for standard output go through one thread with a bounded queue.

use std::collections::HashMap;
use std::io::Write;
use std::net::UdpSocket;
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use daemon::clock::LocalTime;

use crate::config::{LogFraming, LogSample, LogSink, LogTarget};

/// Lines that wait for standard output at most.
const QUEUE: usize = 4096;

/// syslog severity numbers.
pub mod level {
    /// The system is unusable.
    pub const EMERG: u8 = 0;
    /// Act at once.
    pub const ALERT: u8 = 1;
    /// An error.
    pub const ERR: u8 = 3;
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
    /// Name of this host in lines, when one is to be sent.
    host: Option<Arc<str>>,
    /// Lines so far, for `sample`.
    count: AtomicU32,
}

/// Lines that could not be sent since the start.
pub static DROPPED: AtomicU64 = AtomicU64::new(0);

/// Opens each receiver once.
#[derive(Debug, Default)]
pub struct Opener {
    channels: HashMap<String, Arc<Channel>>,
    host: Option<Arc<str>>,
}

impl Opener {
    /// With the name of this host in every line (`log-send-hostname`); an empty one is the system's.
    #[must_use]
    pub fn with_host(host: Option<&str>) -> Self {
        let host = host.map(|host| if host.is_empty() { host_name() } else { host }.into());
        Self { host, ..Self::default() }
    }

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
            let host = self.host.clone();
            opened.push(Sink {
                config: config.clone(),
                channel,
                tag: tag.clone(),
                host,
                count: AtomicU32::new(0),
            });
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
        self.send_with(severity, None, text);
    }

    /// Sends one line with structured data, for receivers whose framing has a place for it (`log-format-sd`).
    pub fn send_with(&self, severity: u8, structured: Option<&str>, text: &str) {
        for sink in self.sinks.iter().filter(|sink| severity <= sink.config.max_level && sink.takes()) {
            let line = frame(sink, severity, structured, text, SystemTime::now());
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

impl Sink {
    /// Whether this line is one of those that are sent.
    fn takes(&self) -> bool {
        match &self.config.sample {
            Some(sample) => is_sampled(sample, self.count.fetch_add(1, Relaxed)),
            None => true,
        }
    }
}

/// Whether the line with this number, from 0, is in one of the ranges.
fn is_sampled(sample: &LogSample, count: u32) -> bool {
    let at = count % sample.size.max(1) + 1;
    sample.ranges.iter().any(|(first, last)| (*first..=*last).contains(&at))
}

fn frame(sink: &Sink, severity: u8, structured: Option<&str>, text: &str, now: SystemTime) -> Vec<u8> {
    let Sink { config, tag, host, .. } = sink;
    let severity = severity.max(config.min_level);
    let priority = u32::from(config.facility) * 8 + u32::from(severity);
    let pid = std::process::id();
    let old = |host: &str| format!("<{priority}>{} {host}{tag}[{pid}]: ", old_date(now));
    let mut line = match config.format {
        LogFraming::Local => match host {
            Some(host) => old(&format!("{host} ")),
            None => old(""),
        },
        // Without `log-send-hostname` HAProxy has these words in the place of the name.
        LogFraming::Rfc3164 => old(&format!("{} ", host.as_deref().unwrap_or("localhost"))),
        LogFraming::Rfc5424 => {
            let structured = structured.unwrap_or("-");
            let host = host.as_deref().unwrap_or("-");
            format!("<{priority}>1 {} {host} {tag} {pid} - {structured} ", new_date(now))
        }
        LogFraming::Priority => format!("<{priority}>"),
        LogFraming::Short => format!("<{severity}>"),
        LogFraming::Timed => format!("<{severity}>{} ", new_date(now)),
        LogFraming::Iso => format!("{} ", new_date(now)),
        LogFraming::Raw => String::new(),
    }
    .into_bytes();
    // One line is one message whatever a peer put into it.
    line.extend(text.bytes().map(|byte| if byte < b' ' { b'?' } else { byte }));
    line.truncate(config.length.max(80) - 1);
    line.push(b'\n');
    line
}

/// `Nov 22 14:36:06` (RFC 3164 section 4.1.2).
fn old_date(now: SystemTime) -> String {
    let now = LocalTime::from_system(now);
    format!("{} {:2} {:02}:{:02}:{:02}", now.month_name(), now.day, now.hour, now.minute, now.second)
}

/// `2026-11-22T14:36:06.664123+00:00` (RFC 5424 section 6.2.3).
fn new_date(now: SystemTime) -> String {
    let micros = now.duration_since(UNIX_EPOCH).unwrap_or_default().subsec_micros();
    let text = LocalTime::from_system(now).rfc3339();
    match text.split_once('.') {
        // The milliseconds have three digits.
        Some((whole, rest)) => format!("{whole}.{micros:06}{}", rest.get(3..).unwrap_or_default()),
        None => text,
    }
}

/// The name of this host.
pub(crate) fn host_name() -> &'static str {
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

    /// As haproxy 2.6.12 sent them, with another process id and time.
    #[test]
    fn lines_are_framed_for_their_receiver() {
        let udp = LogTarget::Udp("127.0.0.1:514".parse().unwrap());
        let at = UNIX_EPOCH + std::time::Duration::from_micros(1_795_864_965_303_126);
        let show = |format, host: Option<&str>| {
            let mut opener = Opener::with_host(host);
            let logger = opener.open(&[sink(udp.clone(), format)], "haproxy");
            String::from_utf8(frame(&logger.sinks[0], 6, None, "a\nb", at)).unwrap()
        };
        let (pid, date, iso) = (std::process::id(), old_date(at), new_date(at));
        assert!(iso.contains(".303126"), "{iso}");
        let expected = [
            (
                LogFraming::Local,
                format!("<134>{date} haproxy[{pid}]: "),
                format!("<134>{date} hoho haproxy[{pid}]: "),
            ),
            (
                LogFraming::Rfc3164,
                format!("<134>{date} localhost haproxy[{pid}]: "),
                format!("<134>{date} hoho haproxy[{pid}]: "),
            ),
            (
                LogFraming::Rfc5424,
                format!("<134>1 {iso} - haproxy {pid} - - "),
                format!("<134>1 {iso} hoho haproxy {pid} - - "),
            ),
            (LogFraming::Priority, "<134>".to_owned(), "<134>".to_owned()),
            (LogFraming::Short, "<6>".to_owned(), "<6>".to_owned()),
            (LogFraming::Timed, format!("<6>{iso} "), format!("<6>{iso} ")),
            (LogFraming::Iso, format!("{iso} "), format!("{iso} ")),
            (LogFraming::Raw, String::new(), String::new()),
        ];
        for (format, without, with) in expected {
            assert_eq!(show(format, None), format!("{without}a?b\n"));
            assert_eq!(show(format, Some("hoho")), format!("{with}a?b\n"));
        }
        let logger = Opener::default().open(&[sink(udp.clone(), LogFraming::Raw)], "t");
        assert_eq!(frame(&logger.sinks[0], 6, None, &"x".repeat(500), at).len(), 100);
    }

    #[test]
    fn a_sample_takes_its_share() {
        let taken = |ranges: &[(u32, u32)], size: u32| -> Vec<u32> {
            let sample = LogSample { ranges: ranges.to_vec(), size };
            (0..10).filter(|count| is_sampled(&sample, *count)).collect()
        };
        assert_eq!(taken(&[(1, 1)], 3), [0, 3, 6, 9]);
        assert_eq!(taken(&[(2, 3), (5, 5)], 5), [1, 2, 4, 6, 7, 9]);
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
