//! Reply codes of connection.close, channel.close and basic.return (AMQP 0-9-1 section 1.2).

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal;)*) => {
        $($(#[$doc])* pub const $name: u16 = $code;)*

        /// The name of a code, such as `NOT_FOUND` for 404.
        #[must_use]
        pub fn name(code: u16) -> Option<&'static str> {
            match code {
                $($code => Some(stringify!($name)),)*
                _ => None,
            }
        }

        /// The code of a name, such as 404 for `NOT_FOUND`.
        #[must_use]
        pub fn from_name(name: &str) -> Option<u16> {
            match name {
                $(stringify!($name) => Some($code),)*
                _ => None,
            }
        }
    };
}

codes! {
    /// Closed without an error.
    REPLY_SUCCESS = 200;
    /// The content is larger than the other side accepts.
    CONTENT_TOO_LARGE = 311;
    /// A mandatory message reached no queue.
    NO_ROUTE = 312;
    /// An immediate message reached no consumer.
    NO_CONSUMERS = 313;
    /// An operator or the server closed the connection.
    CONNECTION_FORCED = 320;
    /// The virtual host does not exist.
    INVALID_PATH = 402;
    /// Not permitted.
    ACCESS_REFUSED = 403;
    /// The thing named does not exist.
    NOT_FOUND = 404;
    /// Somebody else has it exclusively.
    RESOURCE_LOCKED = 405;
    /// Something about the request or the state forbids it.
    PRECONDITION_FAILED = 406;
    /// A malformed frame.
    FRAME_ERROR = 501;
    /// A frame with illegal values.
    SYNTAX_ERROR = 502;
    /// A method that makes no sense here.
    COMMAND_INVALID = 503;
    /// Work on a channel that is not open, or the like.
    CHANNEL_ERROR = 504;
    /// A frame that was not expected here.
    UNEXPECTED_FRAME = 505;
    /// Not enough of something.
    RESOURCE_ERROR = 506;
    /// Forbidden by the rules of the server.
    NOT_ALLOWED = 530;
    /// The server does not have this.
    NOT_IMPLEMENTED = 540;
    /// The server failed.
    INTERNAL_ERROR = 541;
}

/// Whether a code closes the whole connection; the others close one channel (AMQP 0-9-1 section 1.2).
#[must_use]
pub fn is_hard_error(code: u16) -> bool {
    matches!(code, CONNECTION_FORCED | INVALID_PATH | FRAME_ERROR..=RESOURCE_ERROR | NOT_ALLOWED..=INTERNAL_ERROR)
}

/// The text of a close method as RabbitMQ writes it: `NAME - explanation`, with more than 255 octets cut to
/// 252 and `...` added (cut earlier where a character would be split).
#[must_use]
pub fn reply_text(code: u16, explanation: &str) -> String {
    let mut text = match name(code) {
        Some(name) => format!("{name} - {explanation}"),
        None => explanation.to_owned(),
    };
    if text.len() > 255 {
        let end = (0..=252).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
        text.truncate(end);
        text.push_str("...");
    }
    text
}
