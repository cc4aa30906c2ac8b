//! What came from the broker.

use amqp::content::{BasicProperties, Properties};
use amqp::method::Method;
use amqp::table::{FieldTable, FieldValue};

/// A method that came, with its content.
#[derive(Debug, Clone)]
pub struct Received {
    /// Channel it came on.
    pub channel: u16,
    payload: Vec<u8>,
    /// Properties as they came.
    pub raw_properties: Vec<u8>,
    /// Body.
    pub body: Vec<u8>,
    /// The sizes of the frames that brought the body.
    pub frames: Vec<usize>,
}

/// A channel or connection that was closed by the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Close {
    /// Channel that was closed; 0 is the connection.
    pub channel: u16,
    /// Reply code.
    pub code: u16,
    /// Reply text.
    pub text: String,
    /// Class and method that failed, or zeros.
    pub at: (u16, u16),
}

impl Received {
    pub(super) fn new(channel: u16, payload: &[u8]) -> Self {
        Self {
            channel,
            payload: payload.to_vec(),
            raw_properties: Vec::new(),
            body: Vec::new(),
            frames: Vec::new(),
        }
    }

    /// The method.
    ///
    /// # Panics
    /// It cannot be decoded.
    #[must_use]
    pub fn method(&self) -> Method<'_> {
        Method::decode(&self.payload).expect("the broker's methods are well formed")
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.method().name()
    }

    /// The properties.
    ///
    /// # Panics
    /// They cannot be decoded.
    #[must_use]
    pub fn properties(&self) -> BasicProperties {
        BasicProperties::from(Properties::parse(&self.raw_properties).expect("properties"))
    }

    /// The headers; empty when there are none.
    #[must_use]
    pub fn headers(&self) -> FieldTable {
        self.properties().headers.unwrap_or_default()
    }

    /// A header that is text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<String> {
        self.headers().get(name).and_then(FieldValue::as_str).map(str::to_owned)
    }

    /// The events of `x-death`, newest first.
    #[must_use]
    pub fn deaths(&self) -> Vec<FieldTable> {
        let headers = self.headers();
        let events = headers.get("x-death").and_then(FieldValue::as_array).unwrap_or_default();
        events.iter().filter_map(FieldValue::as_table).cloned().collect()
    }

    /// The body as text.
    ///
    /// # Panics
    /// It is none.
    #[must_use]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a body of text")
    }

    /// The delivery tag of a delivery, a get or a confirm.
    ///
    /// # Panics
    /// It is something else.
    #[must_use]
    pub fn tag(&self) -> u64 {
        match self.method() {
            Method::BasicDeliver(it) => it.delivery_tag,
            Method::BasicGetOk(it) => it.delivery_tag,
            Method::BasicAck(it) => it.delivery_tag,
            Method::BasicNack(it) => it.delivery_tag,
            other => panic!("no delivery tag in {other:?}"),
        }
    }

    /// Whether it was delivered before.
    ///
    /// # Panics
    /// It is no message.
    #[must_use]
    pub fn redelivered(&self) -> bool {
        match self.method() {
            Method::BasicDeliver(it) => it.redelivered,
            Method::BasicGetOk(it) => it.redelivered,
            other => panic!("no message: {other:?}"),
        }
    }

    /// Exchange and routing key of a message.
    ///
    /// # Panics
    /// It is no message.
    #[must_use]
    pub fn address(&self) -> (&str, &str) {
        match self.method() {
            Method::BasicDeliver(it) => (it.exchange, it.routing_key),
            Method::BasicGetOk(it) => (it.exchange, it.routing_key),
            Method::BasicReturn(it) => (it.exchange, it.routing_key),
            other => panic!("no message: {other:?}"),
        }
    }

    /// What was closed and why.
    ///
    /// # Panics
    /// Nothing was closed.
    #[must_use]
    pub fn close(&self) -> Close {
        let channel = self.channel;
        match self.method() {
            Method::ChannelClose(it) => Close {
                channel,
                code: it.reply_code,
                text: it.reply_text.to_owned(),
                at: (it.class_id, it.method_id),
            },
            Method::ConnectionClose(it) => Close {
                channel: 0,
                code: it.reply_code,
                text: it.reply_text.to_owned(),
                at: (it.class_id, it.method_id),
            },
            other => panic!("expected a close, got {other:?}"),
        }
    }
}
