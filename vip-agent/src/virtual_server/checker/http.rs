//! `HTTP_GET` and `SSL_GET`: every page is fetched, its status and the digest of its body compared.

use md5::{Digest, Md5};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{Target, tls};
use crate::config::virtual_server::{HttpCheck, HttpVersion, Page};

/// Longest head, and longest body, that is read.
const MAX_HEAD: usize = 64 * 1024;
const MAX_BODY: u64 = 16 * 1024 * 1024;

/// Asks for every page.
pub(super) async fn ask(check: &HttpCheck, target: &Target) -> Result<(), String> {
    for page in &check.pages {
        let found = one(check, page, target).await;
        found.map_err(|reason| format!("{}{}: {reason}", target.address, page.path))?;
    }
    Ok(())
}

async fn one(check: &HttpCheck, page: &Page, target: &Target) -> Result<(), String> {
    let stream = target.connect().await?;
    if check.tls {
        let name = page.virtualhost.as_deref().filter(|_| check.sni);
        let stream = tls::connect(stream, name, target.address.ip()).await?;
        fetch(stream, check.version, page, target).await
    } else {
        fetch(stream, check.version, page, target).await
    }
}

fn request(version: HttpVersion, page: &Page, target: &Target) -> String {
    let number = if version == HttpVersion::V11 { "1.1" } else { "1.0" };
    let close = if version == HttpVersion::V10 { "" } else { "Connection: close\r\n" };
    let host = page.virtualhost.clone().unwrap_or_else(|| target.address.to_string());
    format!("GET {} HTTP/{number}\r\nUser-Agent: vip-agent\r\n{close}Host: {host}\r\n\r\n", page.path)
}

async fn fetch(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    version: HttpVersion,
    page: &Page,
    target: &Target,
) -> Result<(), String> {
    let text = request(version, page, target);
    stream.write_all(text.as_bytes()).await.map_err(|error| error.to_string())?;
    stream.flush().await.map_err(|error| error.to_string())?;
    let mut answer = Vec::new();
    let head = read_head(&mut stream, &mut answer).await?;
    let (status, length) = parse_head(&answer[..head])?;
    if !page.status.is_empty() && !page.status.iter().any(|(first, last)| (*first..=*last).contains(&status))
    {
        return Err(format!("HTTP status {status}"));
    }
    let Some(wanted) = &page.digest else { return Ok(()) };
    // keepalived, and genhash, digest what comes after the head as it is.
    let mut digest = Md5::new();
    let begun = &answer[head..];
    let begun = &begun[..begun.len().min(length.unwrap_or(MAX_BODY) as usize)];
    digest.update(begun);
    let mut left = length.unwrap_or(MAX_BODY).min(MAX_BODY) - begun.len() as u64;
    let mut buffer = [0; 8192];
    while left > 0 {
        let most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let count = match stream.read(&mut buffer[..most]).await {
            Ok(0) => break,
            Ok(count) => count,
            // Without a length, the end of the connection is the end of the body, however it ends.
            Err(_) if length.is_none() => break,
            Err(error) => return Err(error.to_string()),
        };
        digest.update(&buffer[..count]);
        left -= count as u64;
    }
    let found: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    if found == *wanted { Ok(()) } else { Err(format!("digest {found}")) }
}

/// Reads up to the blank line, and perhaps beyond; answers where the head ends.
async fn read_head(stream: &mut (impl AsyncRead + Unpin), answer: &mut Vec<u8>) -> Result<usize, String> {
    let mut buffer = [0; 4096];
    loop {
        if let Some(at) = answer.windows(4).position(|window| window == b"\r\n\r\n") {
            return Ok(at + 4);
        }
        if answer.len() > MAX_HEAD {
            return Err("the head of the answer is too long".to_owned());
        }
        match stream.read(&mut buffer).await {
            Ok(0) => return Err("closed without an HTTP answer".to_owned()),
            Ok(count) => answer.extend_from_slice(&buffer[..count]),
            Err(error) => return Err(error.to_string()),
        }
    }
}

/// Status code and length of the body.
pub(in crate::virtual_server) fn parse_head(head: &[u8]) -> Result<(u16, Option<u64>), String> {
    let text = String::from_utf8_lossy(head);
    let mut lines = text.lines();
    let status = lines
        .next()
        .and_then(|line| line.strip_prefix("HTTP/"))
        .and_then(|rest| rest.split(' ').nth(1))
        .and_then(|code| code.parse().ok())
        .ok_or("no HTTP answer")?;
    let length = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    Ok((status, length))
}
