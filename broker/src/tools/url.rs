//! Addresses of brokers: `amqp://user:password@host:port/vhost`.

use crate::ctl::decoded;
use daemon::exit::Exit;
use daemon::run::Failure;

/// Where a broker is and who asks.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Url {
    /// By TLS.
    pub(super) secure: bool,
    /// Name or address.
    pub(super) host: String,
    /// Port.
    pub(super) port: u16,
    /// Login name.
    pub(super) user: String,
    /// Password; not to be shown.
    pub(super) password: String,
    /// Vhost.
    pub(super) vhost: String,
}

impl Url {
    /// The address that was given, or else that of `AMQP_URL`, or else this machine's.
    pub(super) fn chosen(given: Option<&str>) -> Result<Url, Failure> {
        let environment = std::env::var("AMQP_URL").ok().filter(|url| !url.is_empty());
        let text = given.or(environment.as_deref()).unwrap_or("amqp://localhost");
        Url::parse(text).ok_or_else(|| {
            // The text may hold a password.
            Failure::new(Exit::Usage, "the address of the broker can not be understood")
                .detail("write", "amqp://user:password@host:5672/vhost   (%2F is the vhost /)")
        })
    }

    /// Reads an address. As everywhere, no path means the vhost `/`.
    pub(super) fn parse(text: &str) -> Option<Url> {
        let (scheme, rest) = text.split_once("://")?;
        let secure = match scheme {
            "amqp" => false,
            "amqps" => true,
            _ => return None,
        };
        let rest = rest.split(['?', '#']).next()?;
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, place) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, password) = login.split_once(':').unwrap_or((login, ""));
        let (user, password) = if login.is_empty() { ("guest", "guest") } else { (user, password) };
        let (host, port) = match place.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, port.parse().ok()?),
            _ => (place, if secure { 5671 } else { 5672 }),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return None;
        }
        let vhost = if path.is_empty() { "/".to_owned() } else { decoded(path)? };
        Some(Url {
            secure,
            host: host.to_owned(),
            port,
            user: decoded(user)?,
            password: decoded(password)?,
            vhost,
        })
    }
}

impl std::fmt::Display for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.secure { "amqps" } else { "amqp" };
        write!(f, "{scheme}://{}@{}:{}", self.user, self.host, self.port)
    }
}

impl std::fmt::Debug for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_client_libraries_read_them() {
        let url = Url::parse("amqp://u%40:p%2F@h:1/%2Flagou?heartbeat=5").unwrap();
        assert_eq!((url.user.as_str(), url.password.as_str(), url.vhost.as_str()), ("u@", "p/", "/lagou"));
        assert_eq!((url.host.as_str(), url.port), ("h", 1));
        assert!(!format!("{url:?}").contains("p/"));
        let url = Url::parse("amqps://[::1]").unwrap();
        assert_eq!(
            (url.host.as_str(), url.port, url.vhost.as_str(), url.user.as_str()),
            ("::1", 5671, "/", "guest")
        );
        assert!(Url::parse("http://x").is_none() && Url::parse("amqp://").is_none());
    }
}
