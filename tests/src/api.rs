//! The HTTP API of the broker, ours or RabbitMQ's: the way tests set up users, vhosts and policies.

use crate::wire::name;
use base64::Engine as _;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Who asks, and where.
#[derive(Debug, Clone)]
pub struct Api {
    port: u16,
    authorization: String,
}

/// What came back: the status and the body, if it was JSON.
pub type Answer = (u16, Value);

impl Api {
    /// The API on this port, as guest.
    #[must_use]
    pub fn new(port: u16) -> Self {
        Self::as_user(port, "guest", "guest")
    }

    /// The API on this port, as this user.
    #[must_use]
    pub fn as_user(port: u16, user: &str, password: &str) -> Self {
        let encoded = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
        Self { port, authorization: format!("Basic {encoded}") }
    }

    /// Asks and returns whatever is answered.
    ///
    /// # Errors
    /// There is no answer, or none that HTTP knows.
    pub fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> std::io::Result<Answer> {
        self.ask_text(method, path, &body.map(Value::to_string).unwrap_or_default())
    }

    /// The same with a body that may be no JSON.
    ///
    /// # Errors
    /// There is no answer, or none that HTTP knows.
    pub fn ask_text(&self, method: &str, path: &str, body: &str) -> std::io::Result<Answer> {
        let (status, body) = self.exchange(method, path, body)?;
        Ok((status, serde_json::from_str(&body).unwrap_or(Value::Null)))
    }

    /// Asks and returns the status and how long the answer is, without the work of reading it.
    ///
    /// # Errors
    /// There is no answer, or none that HTTP knows.
    pub fn measure(&self, path: &str) -> std::io::Result<(u16, usize)> {
        self.exchange("GET", path, "").map(|(status, body)| (status, body.len()))
    }

    fn exchange(&self, method: &str, path: &str, body: &str) -> std::io::Result<(u16, String)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        // Version 1.0: the answer ends with the connection and comes in one piece.
        let request = format!(
            "{method} /api/{path} HTTP/1.0\r\nHost: localhost\r\nAuthorization: {}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.authorization,
            body.len()
        );
        stream.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let text = String::from_utf8_lossy(&answer);
        let malformed = || std::io::Error::new(std::io::ErrorKind::InvalidData, format!("{text:.200}"));
        let (head, body) = text.split_once("\r\n\r\n").ok_or_else(malformed)?;
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(malformed)?;
        Ok((status, body.to_owned()))
    }

    /// Asks for what must be there.
    ///
    /// # Panics
    /// It is not.
    #[must_use]
    pub fn get(&self, path: &str) -> Value {
        self.must("GET", path, None)
    }

    /// Makes or changes something.
    ///
    /// # Panics
    /// It is refused.
    pub fn put(&self, path: &str, body: &Value) {
        self.must("PUT", path, Some(body));
    }

    /// Deletes something.
    ///
    /// # Panics
    /// It is refused.
    pub fn delete(&self, path: &str) {
        self.must("DELETE", path, None);
    }

    fn must(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let (status, answer) = self.ask(method, path, body).expect("the HTTP API answers");
        assert!((200..300).contains(&status), "{method} {path}: {status} {answer}");
        answer
    }

    /// Makes a vhost that no other test has, where guest may do everything.
    #[must_use]
    pub fn vhost(&self) -> String {
        let vhost = name("vhost");
        self.put(&format!("vhosts/{vhost}"), &json!({}));
        self.permit(&vhost, "guest", [".*", ".*", ".*"]);
        vhost
    }

    /// Makes a user with the password `pw`, these tags and no permissions.
    #[must_use]
    pub fn user(&self, tags: &str) -> String {
        let user = name("user");
        self.put(&format!("users/{user}"), &json!({ "password": "pw", "tags": tags }));
        user
    }

    /// Makes a user with the password `pw` and these permissions (configure, write, read) in the default
    /// vhost.
    #[must_use]
    pub fn user_with(&self, permissions: [&str; 3]) -> String {
        let user = self.user("");
        self.permit("/", &user, permissions);
        user
    }

    /// Sets a user's permissions: configure, write, read.
    pub fn permit(&self, vhost: &str, user: &str, [configure, write, read]: [&str; 3]) {
        let body = json!({ "configure": configure, "write": write, "read": read });
        self.put(&format!("permissions/{}/{user}", encoded(vhost)), &body);
    }

    /// Sets a policy of a vhost: on what, with which definition and priority.
    pub fn policy(&self, vhost: &str, policy: &str, pattern: &str, definition: &Value, priority: i32) {
        let body = json!({ "pattern": pattern, "definition": definition, "priority": priority });
        self.put(&format!("policies/{}/{policy}", encoded(vhost)), &body);
    }
}

/// A name as a part of a path.
#[must_use]
pub fn encoded(name: &str) -> String {
    let plain = |it: u8| it.is_ascii_alphanumeric() || b"-_.~".contains(&it);
    name.bytes().map(|it| if plain(it) { char::from(it).to_string() } else { format!("%{it:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_safe_in_a_path() {
        assert_eq!(encoded("/a b-1"), "%2Fa%20b-1");
    }
}
