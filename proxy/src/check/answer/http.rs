//! HTTP answers to `option httpchk`; the head is read by `httparse`.

/// Header lines of an answer at most.
const MOST_HEADERS: usize = 100;

/// What the bytes so far are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// More is needed.
    Wait,
    /// Not HTTP.
    Invalid,
    /// Enough of an answer.
    Complete(Response),
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// 100 to 999.
    pub status: u16,
    /// The text beside the status.
    pub reason: String,
    /// The body as far as it came, its chunks put together.
    pub body: Vec<u8>,
    /// The body is whole.
    pub whole: bool,
}

/// Reads an answer; with `body`, more than its head is wanted.
#[must_use]
pub fn parse(bytes: &[u8], closed: bool, body: bool) -> Answer {
    let mut rest = bytes;
    loop {
        let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
        let mut head = httparse::Response::new(&mut headers);
        let length = match head.parse(rest) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) if closed => return Answer::Invalid,
            Ok(httparse::Status::Partial) => return Answer::Wait,
            Err(_) => return Answer::Invalid,
        };
        let Some(status) = head.code.filter(|code| (100..=999).contains(code)) else {
            return Answer::Invalid;
        };
        rest = rest.get(length..).unwrap_or_default();
        if (100..200).contains(&status) && status != 101 {
            // An interim answer (RFC 9110 section 15.2).
            continue;
        }
        let mut response = Response {
            status,
            reason: super::printable(head.reason.unwrap_or_default().as_bytes()),
            body: Vec::new(),
            whole: true,
        };
        if body {
            read_body(&mut response, rest, head.headers, closed);
        }
        return Answer::Complete(response);
    }
}

fn read_body(response: &mut Response, bytes: &[u8], headers: &[httparse::Header<'_>], closed: bool) {
    let value = |name: &str| {
        let found = headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(found.value).ok()
    };
    if matches!(response.status, 204 | 304) {
        return;
    }
    if value("transfer-encoding").is_some_and(|coding| coding.to_ascii_lowercase().contains("chunked")) {
        response.whole = read_chunks(bytes, &mut response.body) || closed;
        return;
    }
    let length = value("content-length").and_then(|text| text.trim().parse::<usize>().ok());
    let end = length.map_or(bytes.len(), |length| length.min(bytes.len()));
    response.body = bytes[..end].to_vec();
    response.whole = closed || length == Some(end);
}

/// Puts chunks together (RFC 9112 section 7.1); whether the last one was seen.
fn read_chunks(mut bytes: &[u8], body: &mut Vec<u8>) -> bool {
    loop {
        match httparse::parse_chunk_size(bytes) {
            Ok(httparse::Status::Complete((_, 0))) => return true,
            Ok(httparse::Status::Complete((head, size))) => {
                let rest = bytes.get(head..).unwrap_or_default();
                let size = usize::try_from(size).unwrap_or(usize::MAX).min(rest.len());
                body.extend_from_slice(&rest[..size]);
                // The line end behind the chunk.
                bytes = rest.get(size..).and_then(|rest| rest.strip_prefix(b"\r\n")).unwrap_or_default();
            }
            // Whatever follows a broken chunk is no body.
            Ok(httparse::Status::Partial) => return false,
            Err(_) => return true,
        }
    }
}
