//! What of `[management]` concerns proxies and web pages: where its paths begin, and which pages of other sites may use
//! the API.

use super::Checker;
use super::raw::RawManagement;

/// How long a browser remembers what a page may do, seconds: RabbitMQ's default.
const CORS_MAX_AGE: i64 = 1800;

/// The HTTP API as proxies and web pages see it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct WebConfig {
    /// What every path begins with; empty, or with a slash at its beginning and none at its end.
    pub(crate) path_prefix: String,
    /// Origins whose pages may use the API; `*` stands for all.
    pub(crate) allow_origins: Vec<String>,
    /// How long a browser remembers that, seconds.
    pub(crate) cors_max_age: u64,
}

impl Checker<'_> {
    pub(super) fn web(&mut self, raw: &RawManagement) -> WebConfig {
        WebConfig {
            path_prefix: self.path_prefix(raw),
            allow_origins: self.allow_origins(raw),
            cors_max_age: self.number(raw.cors_max_age.as_ref(), CORS_MAX_AGE, 0..=86_400).unsigned_abs(),
        }
    }

    fn path_prefix(&mut self, raw: &RawManagement) -> String {
        let Some(written) = &raw.path_prefix else { return String::new() };
        let prefix = written.get_ref().trim_end_matches('/');
        let plain = |it: char| it.is_ascii_alphanumeric() || "/-_.~".contains(it);
        if prefix.is_empty() {
            return String::new();
        }
        if !prefix.starts_with('/') || prefix.contains("//") || !prefix.chars().all(plain) {
            let help = "write a path such as \"/broker\"";
            self.wrong("path", written, format!("no path can begin with `{prefix}`"), help);
            return String::new();
        }
        prefix.to_owned()
    }

    fn allow_origins(&mut self, raw: &RawManagement) -> Vec<String> {
        let Some(written) = &raw.allow_origins else { return Vec::new() };
        let fits = |origin: &str| {
            let host = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
            origin == "*" || host.is_some_and(|host| !host.is_empty() && !host.contains(['/', '*', ' ', '?']))
        };
        let origins: Vec<String> = written.get_ref().iter().map(|it| it.to_ascii_lowercase()).collect();
        if let Some(wrong) = origins.iter().find(|origin| !fits(origin)) {
            let help =
                "write scheme, host and, if it is not the usual one, port: \"https://tools.example:8443\"";
            self.wrong("origin", written, format!("`{wrong}` is not the origin of a page"), help);
        }
        origins
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;
    use crate::config::cli::{Environment, NodeArgs};
    use daemon::diagnostic::Diagnostics;

    fn read(file: &str, text: &str) -> Result<Config, Diagnostics> {
        let environment = Environment { host: "host".to_owned(), ..Environment::default() };
        Config::from_text(text, file, &NodeArgs::default(), &environment)
    }

    #[test]
    fn both_files_say_where_paths_begin_and_who_may_use_them() {
        let own = "[management]\npath_prefix = '/broker/'\nallow_origins = ['https://Tools.example:8443']\n\
                   cors_max_age = 60\n";
        let theirs = "management.path_prefix = /broker\nmanagement.cors.allow_origins.1 = https://tools.example:8443\n\
                      management.cors.max_age = 60\n";
        for (file, text) in [("broker.toml", own), ("rabbitmq.conf", theirs)] {
            let web = read(file, text).unwrap().web;
            assert_eq!((&*web.path_prefix, web.cors_max_age), ("/broker", 60), "{file}");
            assert_eq!(web.allow_origins, ["https://tools.example:8443"], "{file}");
        }
        let web = read("broker.toml", "[management]\npath_prefix = '/'\n").unwrap().web;
        assert_eq!((&*web.path_prefix, web.allow_origins.len(), web.cors_max_age), ("", 0, 1800));
    }

    #[test]
    fn what_no_browser_could_send_is_a_mistake() {
        let own = "[management]\npath_prefix = 'broker'\nallow_origins = ['tools.example', 'https://a/b']\n";
        let said = read("broker.toml", own).unwrap_err().render(false);
        for part in
            ["broker.toml:2:15", "\"/broker\"", "broker.toml:3:17", "`tools.example` is not the origin"]
        {
            assert!(said.contains(part), "{part} is missing in:\n{said}");
        }
    }
}
