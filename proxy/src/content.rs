//! What a client has sent so far, as rules look at it (`req.ssl_sni`, `req.len`, ...).
//!
//! ```text
//! TLS record:    type (22 is handshake), version (3.x), length (2 bytes)         RFC 8446 section 5.1
//! handshake:     type (1 is client hello), length (3 bytes)                      RFC 8446 section 4
//! client hello:  version (2), random (32), session id (1 + n), ciphers (2 + n), compressions (1 + n),
//!                extensions (2 + n): each type (2), length (2), content          RFC 8446 section 4.1.2
//! server_name:   list (2 + n): each type (0 is a host name), name (2 + n)        RFC 6066 section 3
//! ```

/// What a fetch gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found<T> {
    /// This.
    Value(T),
    /// It may come with the next bytes.
    NotYet,
    /// There is none.
    Nothing,
}

/// The body of the fuzz target: what a client sends first.
pub fn fuzz(bytes: &[u8]) {
    for is_final in [false, true] {
        let content = Content::new(bytes, is_final);
        let (name, kind) = (content.server_name(), content.hello_type());
        // A name only comes with a hello, and the end of all waiting ends it.
        assert!(!matches!(name, Found::Value(_)) || kind == Found::Value(1));
        assert!(!is_final || (name != Found::NotYet && kind != Found::NotYet));
    }
}

/// The bytes so far.
#[derive(Debug, Clone, Copy)]
pub struct Content<'a> {
    bytes: &'a [u8],
    /// No more are waited for.
    is_final: bool,
}

/// Type of a TLS record that holds a handshake.
const HANDSHAKE: u8 = 22;
/// Type of a handshake message that is a client hello.
const CLIENT_HELLO: u8 = 1;

impl<'a> Content<'a> {
    /// These bytes; `is_final` when no more are waited for.
    #[must_use]
    pub fn new(bytes: &'a [u8], is_final: bool) -> Self {
        Self { bytes, is_final }
    }

    /// Whether no more bytes are waited for.
    #[must_use]
    pub fn is_final(&self) -> bool {
        self.is_final
    }

    /// How many there are (`req.len`).
    #[must_use]
    pub fn length(&self) -> Found<i64> {
        // HAProxy: the number may still change, so that a test that fails is asked again.
        Found::Value(i64::try_from(self.bytes.len()).unwrap_or(i64::MAX))
    }

    /// The type of the first handshake message, once all of it has come; 1 is a client hello (`req.ssl_hello_type`).
    #[must_use]
    pub fn hello_type(&self) -> Found<i64> {
        match self.message() {
            Found::Value((kind, _)) => Found::Value(kind.into()),
            Found::NotYet => Found::NotYet,
            Found::Nothing => Found::Nothing,
        }
    }

    /// The name in a TLS client hello (`req.ssl_sni`).
    #[must_use]
    pub fn server_name(&self) -> Found<String> {
        match self.message() {
            Found::Value((CLIENT_HELLO, hello)) => {
                let name = name_of(Cursor(&hello)).and_then(|name| std::str::from_utf8(name).ok());
                name.map_or(Found::Nothing, |name| Found::Value(name.to_owned()))
            }
            Found::NotYet => Found::NotYet,
            Found::Value(_) | Found::Nothing => Found::Nothing,
        }
    }

    /// The first handshake message: its type and what follows its head. It may be spread over several records.
    fn message(&self) -> Found<(u8, Vec<u8>)> {
        let is_tls = match *self.bytes {
            [HANDSHAKE, version, ..] => version == 3,
            [HANDSHAKE] | [] => true,
            _ => false,
        };
        if !is_tls {
            return Found::Nothing;
        }
        let mut message: Vec<u8> = Vec::new();
        let mut records = Cursor(self.bytes);
        while let Some(head) = records.take(5) {
            if head[0] != HANDSHAKE || head[1] != 3 {
                return Found::Nothing;
            }
            let length = usize::from(head[3]) << 8 | usize::from(head[4]);
            let there = length.min(records.0.len());
            message.extend_from_slice(records.take(there).unwrap_or_default());
            let mut rest = Cursor(&message);
            let Some(head) = rest.take(4) else { continue };
            let length = head[1..].iter().fold(0, |length, octet| length << 8 | usize::from(*octet));
            if let Some(body) = rest.take(length) {
                return Found::Value((head[0], body.to_vec()));
            }
        }
        self.not_yet()
    }

    fn not_yet<T>(&self) -> Found<T> {
        if self.is_final { Found::Nothing } else { Found::NotYet }
    }
}

/// The name in a client hello, without the head of its message.
fn name_of<'a>(mut hello: Cursor<'a>) -> Option<&'a [u8]> {
    hello.take(34)?;
    hello.block(1)?;
    hello.block(2)?;
    hello.block(1)?;
    let mut extensions = Cursor(hello.block(2)?);
    while let Some(kind) = extensions.take(2) {
        let content = extensions.block(2)?;
        if kind == [0, 0] {
            let mut names = Cursor(Cursor(content).block(2)?);
            while let Some(kind) = names.take(1) {
                let name = names.block(2)?;
                if kind == [0] {
                    return Some(name);
                }
            }
            return None;
        }
    }
    None
}

/// Bytes that are taken off from the front.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    /// A content with its length, of so many bytes, in front.
    fn block(&mut self, size: usize) -> Option<&'a [u8]> {
        let length = self.take(size)?.iter().fold(0, |length, octet| length << 8 | usize::from(*octet));
        self.take(length)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;

    use rustls::pki_types::ServerName;

    use super::*;

    /// The first flight of a client that asks for this name.
    pub(crate) fn hello(name: &str) -> Vec<u8> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn a_name_is_found_once_all_of_it_has_come() {
        let bytes = hello("a.example.org");
        for length in 0..bytes.len() {
            let content = Content::new(&bytes[..length], false);
            assert_eq!(content.server_name(), Found::NotYet, "{length} bytes");
            assert_eq!(content.hello_type(), Found::NotYet, "{length} bytes");
        }
        let found = Found::Value("a.example.org".to_owned());
        assert_eq!(Content::new(&bytes, false).server_name(), found);
        assert_eq!(Content::new(&bytes, true).hello_type(), Found::Value(1));
        assert_eq!(Content::new(&bytes[..20], true).server_name(), Found::Nothing);
        assert_eq!(Content::new(&bytes[..20], true).hello_type(), Found::Nothing);
        // An address is no name.
        assert_eq!(Content::new(&hello("127.0.0.1"), false).server_name(), Found::Nothing);
    }

    #[test]
    fn a_hello_in_several_records_and_a_broken_one_end_well() {
        let whole = hello("a.example.org");
        let (head, body) = whole.split_at(5);
        let mut split = Vec::new();
        for part in body.chunks(40) {
            split.extend([head[0], head[1], head[2], 0, u8::try_from(part.len()).unwrap()]);
            split.extend_from_slice(part);
        }
        assert_eq!(Content::new(&split, false).server_name(), Found::Value("a.example.org".to_owned()));
        for at in 0..whole.len() {
            for value in [0, 1, 255, whole[at] ^ 0x80] {
                let mut broken = whole.clone();
                broken[at] = value;
                let _ = Content::new(&broken, true).server_name();
            }
        }
    }

    #[test]
    fn mutations_of_the_corpus_end_well() {
        crate::mutants::run("proxy_client_hello", 20_000, b"\0\x01\x03\x16\x02\x04\xff\x7f", fuzz);
    }

    #[test]
    fn what_is_no_tls_is_not_waited_for() {
        for bytes in [&b"AMQP\0\0\x09\x01"[..], b"GET / HTTP/1.1\r\n", &[22, 2, 0, 0, 1, 1]] {
            let content = Content::new(bytes, false);
            assert_eq!((content.server_name(), content.hello_type()), (Found::Nothing, Found::Nothing));
        }
        // Another handshake message than a hello.
        let other = Content::new(&[22, 3, 1, 0, 4, 2, 0, 0, 0], false);
        assert_eq!((other.server_name(), other.hello_type()), (Found::Nothing, Found::Value(2)));
        assert_eq!(Content::new(&[], false).length(), Found::Value(0));
    }
}
