//! Answers and refusals in RabbitMQ's words.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use broker_core::exception::Exception;
use broker_core::meta::MetaError;
use serde_json::{Map, Value, json};

/// What a handler answers.
pub(super) type Answer = Result<Response, Refusal>;

/// A request that was not done.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    body: Value,
    challenge: bool,
}

impl Refusal {
    fn new(status: StatusCode, error: &str, reason: impl Into<Value>) -> Refusal {
        Refusal { status, body: json!({"error": error, "reason": reason.into()}), challenge: false }
    }

    /// 404: what the path names is not there.
    pub(super) fn missing() -> Refusal {
        Refusal::new(StatusCode::NOT_FOUND, "Object Not Found", "Not Found")
    }

    /// 404 with a reason.
    pub(super) fn not_found(reason: impl Into<Value>) -> Refusal {
        Refusal::new(StatusCode::NOT_FOUND, "not_found", reason)
    }

    /// 400.
    pub(super) fn bad_request(reason: impl Into<Value>) -> Refusal {
        Refusal::new(StatusCode::BAD_REQUEST, "bad_request", reason)
    }

    /// 401 for somebody who is logged in but may not (RabbitMQ does not use 403).
    pub(super) fn not_authorised(reason: impl Into<Value>) -> Refusal {
        Refusal::new(StatusCode::UNAUTHORIZED, "not_authorised", reason)
    }

    /// 401 with a challenge, for somebody who is not logged in.
    pub(super) fn login_failed() -> Refusal {
        let refusal = Refusal::new(StatusCode::UNAUTHORIZED, "not_authorized", "Login failed");
        Refusal { challenge: true, ..refusal }
    }

    /// The same for those who do not want a browser's own form.
    pub(super) fn without_challenge(self) -> Refusal {
        Refusal { challenge: false, ..self }
    }

    /// 503 of a health check.
    pub(super) fn unhealthy(body: Value) -> Refusal {
        Refusal { status: StatusCode::SERVICE_UNAVAILABLE, body, challenge: false }
    }

    /// 503: the node that it concerns does not answer.
    pub(super) fn unavailable(reason: impl Into<Value>) -> Refusal {
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "node_unavailable", reason)
    }

    /// 500.
    pub(super) fn internal(reason: &str) -> Refusal {
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "internal_server_error", reason)
    }
}

impl From<Exception> for Refusal {
    fn from(exception: Exception) -> Refusal {
        match exception.code {
            amqp::reply_code::NOT_FOUND => Refusal::not_found(exception.text),
            amqp::reply_code::ACCESS_REFUSED => Refusal::not_authorised("Access refused."),
            _ => Refusal::bad_request(exception.text),
        }
    }
}

impl From<MetaError> for Refusal {
    fn from(error: MetaError) -> Refusal {
        match error {
            MetaError::Exception(exception) => exception.into(),
            MetaError::NoSuchVhost(_) | MetaError::NoSuchUser(_) | MetaError::NoSuchEntry { .. } => {
                Refusal::missing()
            }
            MetaError::Journal(reason) => Refusal::internal(&reason),
            MetaError::UserExists(_)
            | MetaError::Invalid(_)
            | MetaError::NoSuchMember(_)
            | MetaError::MemberExists(_)
            | MetaError::Stale { .. }
            | MetaError::OnlyCopies(_) => Refusal::bad_request(error.to_string()),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = with_status(self.status, &self.body);
        if self.challenge {
            let realm = HeaderValue::from_static("Basic realm=\"RabbitMQ Management\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, realm);
        }
        response
    }
}

/// 200 with JSON.
pub(super) fn json(value: &Value) -> Answer {
    Ok(with_status(StatusCode::OK, value))
}

/// 200 with JSON that is written already.
pub(super) fn raw_json(text: Vec<u8>) -> Answer {
    Ok(with_text(StatusCode::OK, text))
}

/// 201 for what is new, 204 for what was there.
pub(super) fn put_status(created: bool) -> Answer {
    Ok(if created { StatusCode::CREATED } else { StatusCode::NO_CONTENT }.into_response())
}

/// 204.
pub(super) fn no_content() -> Answer {
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn with_status(status: StatusCode, value: &Value) -> Response {
    with_text(status, value.to_string())
}

fn with_text(status: StatusCode, text: impl Into<Body>) -> Response {
    let mut response = Response::new(text.into());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A request's body as JSON object; an empty body is an empty object.
pub(super) fn parse_body(body: &[u8]) -> Result<Value, Refusal> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(json!({}));
    }
    match serde_json::from_slice(body) {
        Ok(value @ Value::Object(_)) => Ok(value),
        _ => Err(Refusal::bad_request("not_json")),
    }
}

/// A text field that must be there.
pub(super) fn required<'a>(body: &'a Value, key: &str) -> Result<&'a str, Refusal> {
    match body.get(key) {
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err(Refusal::bad_request(format!("{key} must be a string"))),
        None => Err(Refusal::bad_request(format!("[{{key_missing,{key}}}]"))),
    }
}

/// A number that need not be there; text is read as older clients send it.
pub(super) fn count_of(body: &Value, key: &str, default: u64) -> Result<u64, Refusal> {
    let number = match body.get(key) {
        None | Some(Value::Null) => return Ok(default),
        Some(Value::String(text)) => text.parse().ok(),
        Some(value) => value.as_u64(),
    };
    number.ok_or_else(|| Refusal::bad_request(format!("{key} must be a number that is not negative")))
}

/// The body of a request that sets one limit.
pub(super) fn limit_value(body: &[u8]) -> Result<i64, Refusal> {
    let body = parse_body(body)?;
    body.get("value").and_then(Value::as_i64).ok_or_else(|| Refusal::bad_request("[{key_missing,value}]"))
}

/// Limits with one of them set, or taken away; `known` are those that there are.
pub(super) fn with_limit(
    mut limits: Map<String, Value>,
    limit: &str,
    value: Option<i64>,
    known: &[&str],
) -> Result<Map<String, Value>, Refusal> {
    if !known.contains(&limit) {
        return Err(Refusal::bad_request(format!("Unrecognised limit: {limit}")));
    }
    limits.remove(limit);
    if let Some(value) = value {
        limits.insert(limit.to_owned(), Value::from(value));
    }
    Ok(limits)
}

/// A flag; text is read as older clients send it.
pub(super) fn flag(body: &Value, key: &str, default: bool) -> Result<bool, Refusal> {
    match body.get(key) {
        None => Ok(default),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(Value::String(text)) if text == "true" => Ok(true),
        Some(Value::String(text)) if text == "false" => Ok(false),
        Some(_) => Err(Refusal::bad_request(format!("{key} must be a boolean"))),
    }
}
