//! `proxy status`: asks a running proxy (or a HAProxy) and prints what every server does.
//!
//! The answer is the CSV table, from a stats socket or from a statistics page.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use daemon::exit::Exit;
use daemon::run::Failure;

use crate::config::{BindAddress, Config, Mode};
use crate::text_table::{Colour, Table, short, shows_colours};

/// A proxy that does not answer is given up.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest answer.
const MAX_ANSWER: u64 = 64 << 20;

/// Whom to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A unix socket.
    Socket(PathBuf),
    /// A stats socket that listens on TCP.
    Address(String),
    /// A statistics page, e.g. `http://user:password@host:8100/monitor`.
    Page(String),
}

impl Source {
    /// Reads what the user wrote: a path, an address, or a URL.
    #[must_use]
    pub fn read(text: &str) -> Self {
        if text.starts_with("http://") {
            Self::Page(text.to_owned())
        } else if text.starts_with('/') || text.starts_with('.') || !text.contains(':') {
            Self::Socket(text.into())
        } else {
            Self::Address(text.to_owned())
        }
    }

    /// The first one a configuration offers: a stats socket, else a statistics page without a password.
    #[must_use]
    pub fn of(config: &Config) -> Option<Self> {
        let sockets = config.global.stats_sockets.iter();
        let mut sockets = sockets.filter_map(|socket| match &socket.bind.address {
            BindAddress::Unix(path) => Some(Self::Socket(path.clone())),
            BindAddress::Tcp(address) => Some(Self::Address(address.to_string())),
            _ => None,
        });
        let pages = config.proxies.iter().filter(|proxy| {
            let stats = &proxy.settings.stats;
            proxy.settings.mode == Mode::Http && stats.enabled
        });
        let mut pages = pages.filter_map(|proxy| {
            let mut address = proxy.binds.first()?.address.tcp()?;
            if address.ip().is_unspecified() {
                address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
            }
            let stats = &proxy.settings.stats;
            let login = stats.auth.first().map_or_else(String::new, |(user, word)| format!("{user}:{word}@"));
            Some(Self::Page(format!("http://{login}{address}{}", stats.uri)))
        });
        sockets.next().or_else(|| pages.next())
    }

    fn ask(&self) -> Result<String, String> {
        match self {
            Self::Socket(path) => {
                let stream = UnixStream::connect(path).map_err(|error| error.to_string())?;
                let limits =
                    stream.set_read_timeout(Some(PATIENCE)).and(stream.set_write_timeout(Some(PATIENCE)));
                limits.map_err(|error| error.to_string())?;
                exchange(stream, b"show stat\n").map(text)
            }
            Self::Address(address) => exchange(connect(address)?, b"show stat\n").map(text),
            Self::Page(url) => page(url),
        }
    }
}

impl std::fmt::Display for Source {
    /// Leaves passwords out.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Socket(path) => write!(f, "{}", path.display()),
            Self::Address(address) => f.write_str(address),
            Self::Page(url) => match url.split_once('@') {
                Some((_, place)) => write!(f, "http://{place}"),
                None => f.write_str(url),
            },
        }
    }
}

fn connect(address: &str) -> Result<TcpStream, String> {
    let found = address.to_socket_addrs().map_err(|error| error.to_string())?;
    let mut last = "no address".to_owned();
    for address in found {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => {
                let limits =
                    stream.set_read_timeout(Some(PATIENCE)).and(stream.set_write_timeout(Some(PATIENCE)));
                return limits.map(|()| stream).map_err(|error| error.to_string());
            }
            Err(error) => last = error.to_string(),
        }
    }
    Err(last)
}

fn exchange(mut stream: impl Read + Write, question: &[u8]) -> Result<Vec<u8>, String> {
    stream.write_all(question).map_err(|error| error.to_string())?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer).map_err(|error| error.to_string())?;
    Ok(answer)
}

fn text(answer: Vec<u8>) -> String {
    String::from_utf8(answer).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// Fetches the CSV of a statistics page (HTTP/1.0, so that the end of the connection ends the answer; HAProxy sends
/// chunks all the same).
fn page(url: &str) -> Result<String, String> {
    use base64::Engine;
    let rest = url.strip_prefix("http://").unwrap_or(url);
    let (place, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
    let (login, host) = place.rsplit_once('@').map_or((None, place), |(login, host)| (Some(login), host));
    let address = if host.contains(':') { host.to_owned() } else { format!("{host}:80") };
    let login = login.map_or_else(String::new, |login| {
        let word = base64::engine::general_purpose::STANDARD.encode(login);
        format!("Authorization: Basic {word}\r\n")
    });
    let path = path.split(';').next().unwrap_or(path);
    let question = format!("GET {path};csv;norefresh HTTP/1.0\r\nHost: {host}\r\n{login}\r\n");
    let answer = exchange(connect(&address)?, question.as_bytes())?;
    let (head, body) = split(&answer, b"\r\n\r\n").ok_or("the answer is not HTTP")?;
    let head = &*String::from_utf8_lossy(head);
    match head.split(' ').nth(1) {
        Some("200") if is_chunked(head) => {
            unchunked(body).map(text).ok_or_else(|| "the answer ends before its last chunk".to_owned())
        }
        Some("200") => Ok(text(body.to_vec())),
        Some("401") => Err("the page wants a password: http://USER:PASSWORD@HOST...".to_owned()),
        Some(status) => Err(format!("the page answers with status {status}")),
        None => Err("the answer is not HTTP".to_owned()),
    }
}

fn is_chunked(head: &str) -> bool {
    let fields = head.lines().filter_map(|line| line.split_once(':'));
    let mut codings = fields.filter(|(name, _)| name.eq_ignore_ascii_case("transfer-encoding"));
    codings.any(|(_, coding)| coding.trim().eq_ignore_ascii_case("chunked"))
}

/// The content of chunks (RFC 9112 section 7.1); `None` when the last one is missing.
fn unchunked(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut whole = Vec::new();
    loop {
        let (line, after) = split(rest, b"\r\n")?;
        let size = std::str::from_utf8(line).ok()?.split(';').next()?.trim();
        let size = usize::from_str_radix(size, 16).ok()?;
        if size == 0 {
            return Some(whole);
        }
        let (chunk, after) = after.split_at_checked(size)?;
        whole.extend_from_slice(chunk);
        rest = after.strip_prefix(b"\r\n")?;
    }
}

/// What is before and after the first `mark`.
fn split<'a>(octets: &'a [u8], mark: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = octets.windows(mark.len()).position(|window| window == mark)?;
    Some((&octets[..at], &octets[at + mark.len()..]))
}

/// Asks and prints. Fails when a backend has no server that can be used.
///
/// # Errors
/// Nobody answers, or a backend is down.
pub fn run(source: &Source) -> Result<(), Failure> {
    let failed = |why: String| {
        Failure::new(Exit::Unavailable, format!("cannot ask {source}: {why}"))
            .detail("try", "--from SOCKET, --from HOST:PORT or --from http://HOST:PORT/monitor")
    };
    let answer = source.ask().map_err(failed)?;
    let rows = read(&answer).ok_or_else(|| failed("the answer is no table of statistics".to_owned()))?;
    let mut out = std::io::stdout().lock();
    // Somebody closed the pipe: they have seen enough.
    let _ = out.write_all(table(&rows).text(shows_colours()).as_bytes());
    let down: Vec<&str> = rows
        .iter()
        .filter(|row| row.get("svname") == "BACKEND" && row.get("status").starts_with("DOWN"))
        .map(|row| row.get("pxname"))
        .collect();
    if down.is_empty() {
        Ok(())
    } else {
        Err(Failure::new(Exit::Unavailable, format!("no server available: {}", down.join(", "))))
    }
}

/// A line of the answer by column.
#[derive(Debug)]
struct Row {
    names: Rc<[String]>,
    values: Vec<String>,
}

impl Row {
    fn get(&self, name: &str) -> &str {
        let at = self.names.iter().position(|known| known == name);
        at.and_then(|at| self.values.get(at)).map_or("", String::as_str)
    }

    fn number(&self, name: &str) -> u64 {
        self.get(name).parse().unwrap_or(0)
    }
}

/// The rows with the names of their columns; `None` when it is no such table.
fn read(answer: &str) -> Option<Vec<Row>> {
    let mut lines = answer.lines();
    let names: Rc<[String]> = lines.next()?.strip_prefix("# ")?.split(',').map(str::to_owned).collect();
    let rows =
        lines.filter(|line| !line.is_empty()).map(|line| Row { names: names.clone(), values: fields(line) });
    Some(rows.collect())
}

/// The fields of a line (RFC 4180).
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut characters = line.chars().peekable();
    while let Some(c) = characters.next() {
        let Some(field) = fields.last_mut() else { break };
        match (c, quoted) {
            ('"', true) if characters.peek() == Some(&'"') => {
                characters.next();
                field.push('"');
            }
            ('"', _) => quoted = !quoted,
            (',', false) => fields.push(String::new()),
            (c, _) => field.push(c),
        }
    }
    fields
}

fn table(rows: &[Row]) -> Table {
    let head = [
        "NAME",
        "STATUS",
        "LAST CHECK",
        "WEIGHT",
        "SESSIONS",
        "MAX",
        "TOTAL",
        "QUEUE",
        "IN",
        "OUT",
        "ERRORS",
    ];
    let mut table = Table::new(&head, &[3, 4, 5, 6, 7, 8, 9, 10]);
    for row in rows {
        let server = row.get("svname");
        let is_sum = matches!(server, "FRONTEND" | "BACKEND");
        let name = if is_sum { row.get("pxname").to_owned() } else { format!("  {server}") };
        let name = if is_sum { format!("{name} {}", server.to_lowercase()) } else { name };
        let status = row.get("status");
        let colour = match status.split(' ').next().unwrap_or_default() {
            "UP" if status.contains('/') => Colour::Yellow,
            "UP" | "OPEN" => Colour::Green,
            "DOWN" | "FULL" | "STOP" => Colour::Red,
            "no" => Colour::Dim,
            _ => Colour::Yellow,
        };
        let check = match (row.get("check_status"), row.get("last_chk")) {
            ("", _) => String::new(),
            (word, "") => word.to_owned(),
            (word, info) => format!("{word} {info}"),
        };
        let plain = |text: String| (text, Colour::Plain);
        let count = |name: &str| {
            plain(if row.get(name).is_empty() { String::new() } else { short(row.number(name)) })
        };
        let errors = row.number("ereq") + row.number("econ") + row.number("eresp");
        table.row(vec![
            plain(name),
            (status.to_owned(), colour),
            (check, Colour::Dim),
            count("weight"),
            count("scur"),
            count("smax"),
            count("stot"),
            count("qcur"),
            count("bin"),
            count("bout"),
            (short(errors), if errors > 0 { Colour::Yellow } else { Colour::Plain }),
        ]);
    }
    table
}

/// What `proxy status` is to ask: the given place, else what the configuration says.
///
/// # Errors
/// Neither says anything.
pub fn source(
    given: Option<&str>,
    config: impl FnOnce() -> Result<Config, Failure>,
) -> Result<Source, Failure> {
    if let Some(text) = given {
        return Ok(Source::read(text));
    }
    Source::of(&config()?).ok_or_else(|| {
        Failure::new(Exit::Config, "the configuration has neither a stats socket nor a statistics page")
            .detail("add", "`stats socket /run/proxy.sock level admin` to global, or say --from")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_told_apart() {
        assert_eq!(Source::read("/run/x.sock"), Source::Socket("/run/x.sock".into()));
        assert_eq!(Source::read("127.0.0.1:9999"), Source::Address("127.0.0.1:9999".to_owned()));
        let page = Source::read("http://admin:secret@h:8100/monitor");
        assert_eq!(page, Source::Page("http://admin:secret@h:8100/monitor".to_owned()));
        assert_eq!(page.to_string(), "http://h:8100/monitor");
    }

    #[test]
    fn chunks_are_put_together() {
        assert!(is_chunked("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked"));
        assert!(!is_chunked("HTTP/1.1 200 OK\r\nContent-Length: 5"));
        assert_eq!(
            unchunked(b"4;x=y\r\n# px\r\nB\r\nname,svnam\n\r\n0\r\n\r\n").unwrap(),
            b"# pxname,svnam\n"
        );
        for broken in ["", "4\r\n# px\r\n", "4\r\n# p", "z\r\n", "ffffffffffffffff\r\nx\r\n", "1\r\nxy"] {
            assert!(unchunked(broken.as_bytes()).is_none(), "{broken}");
        }
    }

    #[test]
    fn a_table_is_read_and_shown() {
        let answer = "# pxname,svname,status,last_chk,check_status,scur,bin,\n\
                      r,FRONTEND,OPEN,,,2,1536000,\nr,A,UP 1/3,\"a \"\"b\"\", c\",L7OK,1,5,\nr,BACKEND,DOWN,,,0,5,\n\n";
        let rows = read(answer).unwrap();
        assert_eq!(rows[1].get("last_chk"), "a \"b\", c");
        let text = table(&rows).text(false);
        assert!(text.contains("r frontend"), "{text}");
        assert!(
            text.lines().any(|line| line.starts_with("  A") && line.contains("L7OK a \"b\", c")),
            "{text}"
        );
        assert!(read("Unknown command").is_none());
    }
}
