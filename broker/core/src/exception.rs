//! Protocol errors as values (AMQP 0-9-1 section 1.2; RabbitMQ's codes and texts).
//!
//! An `Exception` says which scope ends (channel or connection), the reply code and the text. The
//! text is kept without its `NOT_FOUND - ` prefix; [`Exception::reply_text`] adds it. The failing
//! class and method are filled in where the method is known.

use amqp::reply_code;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What an exception closes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Scope {
    /// `channel.close`: the connection and its other channels live on.
    Channel,
    /// `connection.close`.
    Connection,
}

/// A protocol error that ends a channel or a connection.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Exception {
    /// What it closes.
    pub scope: Scope,
    /// Reply code, see [`amqp::reply_code`].
    pub code: u16,
    /// Text without the code's name in front.
    pub text: String,
    /// Class of the failing method, 0 when no method is to blame.
    pub class_id: u16,
    /// Method that failed, 0 when no method is to blame.
    pub method_id: u16,
}

impl Exception {
    /// An exception that closes the channel.
    pub fn channel(code: u16, text: impl Into<String>) -> Self {
        Exception { scope: Scope::Channel, code, text: text.into(), class_id: 0, method_id: 0 }
    }

    /// An exception that closes the connection.
    pub fn connection(code: u16, text: impl Into<String>) -> Self {
        Exception { scope: Scope::Connection, code, text: text.into(), class_id: 0, method_id: 0 }
    }

    /// Names the method that failed, unless one is named already.
    #[must_use]
    pub fn at(mut self, class_id: u16, method_id: u16) -> Self {
        if self.class_id == 0 {
            self.class_id = class_id;
            self.method_id = method_id;
        }
        self
    }

    /// The text as sent: `NOT_FOUND - no queue 'q' in vhost '/'`, cut to what a short string holds.
    pub fn reply_text(&self) -> String {
        reply_code::reply_text(self.code, &self.text)
    }
}

impl fmt::Display for Exception {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code, self.reply_text())
    }
}

impl std::error::Error for Exception {}
