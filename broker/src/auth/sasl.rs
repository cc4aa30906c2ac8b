//! What a client sends in `connection.start-ok`: PLAIN (RFC 4616), AMQPLAIN and EXTERNAL (RFC 4422 appendix A).

use amqp::table::{Table, Value};
use std::fmt;

/// How a client says who it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mechanism {
    /// RFC 4422 appendix A: the certificate of the TLS connection says who it is.
    External,
    /// RFC 4616: `NUL authcid NUL password`; RabbitMQ takes no authzid before it.
    Plain,
    /// RabbitMQ's older one: a field table without its length, with LOGIN and PASSWORD.
    AmqPlain,
}

impl Mechanism {
    /// All of them, in the order in which RabbitMQ offers them.
    pub(crate) const ALL: [Mechanism; 3] = [Mechanism::External, Mechanism::Plain, Mechanism::AmqPlain];

    /// The mechanism called `name`.
    pub(crate) fn from_name(name: &str) -> Option<Mechanism> {
        Mechanism::ALL.into_iter().find(|mechanism| mechanism.name() == name)
    }

    /// Its name on the wire.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Mechanism::External => "EXTERNAL",
            Mechanism::Plain => "PLAIN",
            Mechanism::AmqPlain => "AMQPLAIN",
        }
    }

    /// Reads a response; `None` when it is malformed, or when the mechanism has no password.
    pub(crate) fn credentials(self, response: &[u8]) -> Option<Credentials> {
        match self {
            Mechanism::External => None,
            Mechanism::Plain => plain(response),
            Mechanism::AmqPlain => amqplain(response),
        }
    }
}

/// A user name and a password. `Debug` does not show the password.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Credentials {
    /// Login name.
    pub(crate) user: String,
    password: Vec<u8>,
}

impl Credentials {
    /// Credentials from elsewhere, such as HTTP.
    pub(crate) fn new(user: impl Into<String>, password: impl Into<Vec<u8>>) -> Credentials {
        Credentials { user: user.into(), password: password.into() }
    }

    /// The password; not to be logged.
    pub(crate) fn password(&self) -> &[u8] {
        &self.password
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

fn plain(response: &[u8]) -> Option<Credentials> {
    let mut parts = response.split(|octet| *octet == 0);
    let (identity, user, password) = (parts.next()?, parts.next()?, parts.next()?);
    // RabbitMQ: nobody acts for somebody else.
    if parts.next().is_some() || !identity.is_empty() {
        return None;
    }
    Some(Credentials { user: String::from_utf8(user.to_vec()).ok()?, password: password.to_vec() })
}

fn amqplain(response: &[u8]) -> Option<Credentials> {
    let table = Table::parse(response).ok()?;
    let user = table.get("LOGIN")?.as_str()?.to_owned();
    match table.get("PASSWORD")? {
        Value::LongStr(password) => Some(Credentials { user, password: password.to_vec() }),
        _ => None,
    }
}
