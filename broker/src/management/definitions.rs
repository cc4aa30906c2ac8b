//! `/api/definitions`.

use super::Api;
use super::caller::Caller;
use super::reply::{Answer, Refusal, json, no_content, parse_body};
use crate::metadata::definitions::{ImportError, export, export_vhost, import};
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, header};
use serde::Deserialize;
use serde_json::{Value, json as object};
use std::sync::Arc;

/// `download`: the name under which a browser saves the answer.
#[derive(Debug, Deserialize)]
pub(super) struct Download {
    download: Option<String>,
}

impl Download {
    fn answer(&self, definitions: &Value) -> Answer {
        let mut response = json(definitions)?;
        if let Some(name) = &self.download {
            let plain = |it: &char| it.is_ascii_alphanumeric() || "-_.@".contains(*it);
            let name: String = name.chars().filter(plain).take(255).collect();
            let value = HeaderValue::from_str(&format!("attachment; filename=\"{name}\""))
                .map_err(|_| Refusal::bad_request("the name can not be used"))?;
            response.headers_mut().insert(header::CONTENT_DISPOSITION, value);
        }
        Ok(response)
    }
}

pub(super) async fn all(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Query(download): Query<Download>,
) -> Answer {
    caller.administrator()?;
    let settings = &api.node.settings;
    download.answer(&export(&api.node.metadata.read(), &settings.product, &settings.version))
}

pub(super) async fn of_vhost(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Path(vhost): Path<String>,
    Query(download): Query<Download>,
) -> Answer {
    caller.administrator()?;
    let settings = &api.node.settings;
    let sm = api.node.metadata.read();
    let id = caller.own_vhost(&sm, &vhost)?;
    let exported = export_vhost(&sm, id, &settings.product, &settings.version);
    download.answer(&exported.ok_or_else(Refusal::missing)?)
}

pub(super) async fn import_all(
    caller: Caller,
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    caller.administrator()?;
    take(&api, &caller, &parse_body(sent(&headers, &body)?)?, None).await
}

pub(super) async fn import_vhost(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Path(vhost): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    caller.administrator()?;
    caller.own_vhost(&api.node.metadata.read(), &vhost)?;
    take(&api, &caller, &parse_body(sent(&headers, &body)?)?, Some(&vhost)).await
}

/// The definitions in a body: all of it, or the file of a form (`multipart/form-data`, RFC 7578).
fn sent<'b>(headers: &HeaderMap, body: &'b [u8]) -> Result<&'b [u8], Refusal> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let Some(parameters) = kind.strip_prefix("multipart/form-data") else { return Ok(body) };
    let boundary = parameters.split(';').find_map(|it| it.trim().strip_prefix("boundary="));
    let boundary = boundary.map(|it| it.trim_matches('"')).filter(|it| !it.is_empty() && it.len() <= 70);
    let boundary = boundary.ok_or_else(|| Refusal::bad_request("the form has no boundary"))?;
    file_part(body, boundary).ok_or_else(|| Refusal::bad_request("the form has no file"))
}

/// The content of the part called `file`.
fn file_part<'b>(body: &'b [u8], boundary: &str) -> Option<&'b [u8]> {
    let line = [b"\r\n--", boundary.as_bytes()].concat();
    let mut rest = body.strip_prefix(&line[2..])?;
    loop {
        rest = rest.strip_prefix(b"\r\n")?;
        let end = find(rest, &line)?;
        let blank = find(&rest[..end], b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&rest[..blank]).to_lowercase();
        if head.contains("name=\"file\"") || head.contains("name=file") {
            return Some(&rest[blank + 4..end]);
        }
        rest = &rest[end + line.len()..];
    }
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|window| window == wanted)
}

async fn take(api: &Api, caller: &Caller, body: &Value, vhost: Option<&str>) -> Answer {
    match import(&api.node.metadata, body, vhost).await {
        Ok(report) => {
            tracing::info!(by = %caller.name, %report, "definitions imported");
            no_content()
        }
        Err(ImportError::NoSuchVhost(name)) => Err(Refusal::bad_request(object!(["no_such_vhost", name]))),
        Err(error) => Err(Refusal::bad_request(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_of_a_form_is_found_among_other_fields() {
        let form = b"--XX\r\nContent-Disposition: form-data; name=\"redirect\"\r\n\r\n/#/import\r\n--XX\r\n\
            Content-Disposition: form-data; name=\"file\"; filename=\"a.json\"\r\nContent-Type: application/json\r\n\r\n\
            {\"a\":\r\n1}\r\n--XX--\r\n";
        assert_eq!(file_part(form, "XX"), Some(&b"{\"a\":\r\n1}"[..]));
        assert_eq!(file_part(form, "YY"), None);
        assert_eq!(file_part(&form[..120], "XX"), None);
        let mut headers = HeaderMap::new();
        assert_eq!(sent(&headers, b"{}").unwrap(), b"{}");
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("multipart/form-data; boundary=XX"));
        assert!(sent(&headers, form).is_ok());
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("multipart/form-data"));
        assert!(sent(&headers, form).is_err());
    }
}
