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

/// The text of a close method as RabbitMQ writes it: `NAME - explanation`, or only the name when there is nothing
/// to explain. More than 255 octets are cut to 252 and `...` added (cut earlier where a character would be split).
#[must_use]
pub fn reply_text(code: u16, explanation: &str) -> String {
    let mut text = match name(code) {
        Some(name) if explanation.is_empty() => name.to_owned(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_codes_go_both_ways() {
        let codes =
            [200, 311, 312, 313, 320, 402, 403, 404, 405, 406, 501, 502, 503, 504, 505, 506, 530, 540, 541];
        for code in 0..=999 {
            assert_eq!(name(code).is_some(), codes.contains(&code), "{code}");
            assert_eq!(name(code).and_then(from_name).unwrap_or(code), code);
        }
        assert_eq!(name(NOT_FOUND), Some("NOT_FOUND"));
        assert_eq!(from_name("nothing"), None);
    }

    #[test]
    fn reply_texts_fit_a_short_string() {
        assert_eq!(reply_text(404, "no queue 'q' in vhost '/'"), "NOT_FOUND - no queue 'q' in vhost '/'");
        assert_eq!(reply_text(541, ""), "INTERNAL_ERROR");
        assert_eq!(reply_text(999, "what"), "what");
        let exact = "x".repeat(255 - "NOT_FOUND - ".len());
        assert_eq!(reply_text(404, &exact).len(), 255);
        let long = reply_text(404, &(exact + "x"));
        assert_eq!(long.len(), 255);
        assert!(long.ends_with("xxx..."));
        let split = reply_text(404, &"\u{20ac}".repeat(200));
        assert!(split.len() <= 255 && split.ends_with("\u{20ac}..."));
    }
}
