//! The handshake: who logs in, with what, and where it may be stopped.

use super::{Args, Client, Close};
use crate::args;
use amqp::method::{Method, connection};
use amqp::table::{FieldTable, FieldValue};

/// What a client says in the handshake.
#[derive(Debug, Clone)]
pub struct Login<'a> {
    /// User.
    pub user: &'a str,
    /// Password.
    pub password: &'a str,
    /// Virtual host.
    pub vhost: &'a str,
    /// Limits in `tune-ok`.
    pub channel_max: u16,
    /// Limits in `tune-ok`.
    pub frame_max: u32,
    /// Heartbeat interval in `tune-ok`.
    pub heartbeat: u16,
    /// Capabilities that are announced.
    pub capabilities: &'a [&'a str],
    /// `connection_name` in the client's properties.
    pub connection_name: &'a str,
}

impl Default for Login<'_> {
    fn default() -> Self {
        Self {
            user: "guest",
            password: "guest",
            vhost: "/",
            channel_max: 2047,
            frame_max: 131_072,
            heartbeat: 0,
            capabilities: &["consumer_cancel_notify", "connection.blocked", "authentication_failure_close"],
            connection_name: "",
        }
    }
}

impl Login<'_> {
    /// The client's properties.
    #[must_use]
    pub fn properties(&self) -> Args {
        let mut capabilities = FieldTable::new();
        for name in self.capabilities {
            capabilities.insert(*name, FieldValue::Bool(true));
        }
        args! { "capabilities" => capabilities, "connection_name" => self.connection_name }
    }

    /// `tune-ok` with these limits.
    #[must_use]
    pub fn tune_ok(&self) -> connection::TuneOk {
        connection::TuneOk {
            channel_max: self.channel_max,
            frame_max: self.frame_max,
            heartbeat: self.heartbeat,
        }
    }
}

/// The response of mechanism PLAIN.
#[must_use]
pub fn plain(user: &str, password: &str) -> Vec<u8> {
    format!("\0{user}\0{password}").into_bytes()
}

impl Client {
    /// Sends the protocol header and waits for `connection.start`.
    pub fn greet(&mut self) {
        self.put_raw(&amqp::PROTOCOL_HEADER);
        self.flush();
        self.expect("connection.start");
    }

    /// Sends `start-ok` with this mechanism and response.
    pub fn send_start_ok(&mut self, login: &Login<'_>, mechanism: &str, response: &[u8]) {
        let properties = login.properties();
        self.send(
            0,
            connection::StartOk {
                client_properties: properties.table(),
                mechanism,
                response,
                locale: "en_US",
            },
        );
    }

    /// Greets and authenticates, up to `connection.tune`.
    ///
    /// # Errors
    /// The broker closed the connection and said why.
    ///
    /// # Panics
    /// It hung up or said something else.
    pub fn authenticate(&mut self, login: &Login<'_>) -> Result<(), Close> {
        self.greet();
        self.send_start_ok(login, "PLAIN", &plain(login.user, login.password));
        self.expect_or_close("connection.tune")
    }

    /// The whole handshake.
    ///
    /// # Errors
    /// The broker closed the connection and said why.
    ///
    /// # Panics
    /// It hung up or said something else.
    pub fn login(&mut self, login: &Login<'_>) -> Result<(), Close> {
        self.authenticate(login)?;
        self.frame_max = login.frame_max;
        self.put(0, login.tune_ok());
        self.send(0, connection::Open { virtual_host: login.vhost });
        self.expect_or_close("connection.open-ok")
    }

    fn expect_or_close(&mut self, name: &str) -> Result<(), Close> {
        let received = self.receive().unwrap_or_else(|| panic!("the broker hung up instead of {name}"));
        if let Method::ConnectionClose(_) = received.method() {
            return Err(received.close());
        }
        assert_eq!(received.name(), name, "{:?}", received.method());
        Ok(())
    }
}
