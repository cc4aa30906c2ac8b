//! `[log]`: where lines go, how they look, and when a log file is done with.
//!
//! As with RabbitMQ, whoever names a file gets the log there and nowhere else, unless the console is asked for too.
//! `RABBITMQ_LOGS` beats the file of the configuration: `-` is standard output, `-stderr` standard error, anything else
//! a file; commas separate several.

use super::Checker;
use super::cli::{Environment, NodeArgs};
use super::raw::{RawConfig, RawRotation};
use daemon::logging::{LogFile, LogFormat, LogOptions, LogTarget};
use std::path::{Path, PathBuf};

/// Log files that are kept beside the one that is written to, unless told otherwise.
const KEPT: i64 = 5;
const MOST_KEPT: i64 = 10_000;

/// Where the log of a node goes, as `rabbitmqctl status` says it.
pub(super) fn places(options: &LogOptions) -> Vec<String> {
    let console = match options.target {
        LogTarget::Stdout => Some("<stdout>".to_owned()),
        LogTarget::Stderr => Some("<stderr>".to_owned()),
        LogTarget::Nowhere => None,
    };
    let file = options.file.as_ref().map(|file| file.path.display().to_string());
    file.into_iter().chain(console).collect()
}

impl Checker<'_> {
    pub(super) fn log(
        &mut self,
        raw: &RawConfig,
        args: &NodeArgs,
        environment: &Environment,
        data: Option<&Path>,
    ) -> LogOptions {
        let mut options = args.log.options(LogTarget::Stdout);
        let defaults = NodeArgs::default().log;
        if let Some(format) = &raw.log.format
            && (args.log.log_format == defaults.log_format || args.log.log_format == LogFormat::Auto)
        {
            options.format = match format.get_ref().as_str() {
                "text" => LogFormat::Text,
                "json" => LogFormat::Json,
                "auto" => LogFormat::Auto,
                other => {
                    let message = format!("log format `{other}` is not known");
                    self.wrong("log-format", format, message, "use text, json or auto");
                    LogFormat::Auto
                }
            };
        }
        if let Some(level) = &raw.log.level
            && (args.log.log_level.is_empty() || args.log.log_level == "info")
        {
            options.level.clone_from(level);
        }
        options.quiet = &[crate::cluster::LIBRARY];
        options.batched = true;
        let mut file = raw.log.file.clone();
        match &environment.logs {
            Some(places) => (options.target, file) = named(places),
            None if file.is_some() && raw.log.console != Some(true) => options.target = LogTarget::Nowhere,
            None => {}
        }
        let rotated = self.rotation(&raw.log.rotation);
        options.file = file.map(|file| {
            let folder = raw.log.dir.clone().or_else(|| environment.log_base.clone());
            let folder = folder.or_else(|| data.map(|data| data.join("log"))).unwrap_or_default();
            LogFile { path: folder.join(file), ..rotated }
        });
        options
    }

    /// When a file is done with; without its place.
    fn rotation(&mut self, raw: &RawRotation) -> LogFile {
        let octets = raw.size.as_ref().and_then(|size| {
            let octets = size.get_ref().octets();
            if octets.is_none() {
                self.wrong("log", size, "not a size", "write octets or a size such as \"10MB\"");
            }
            // RabbitMQ: 0 is no limit.
            octets.filter(|octets| *octets > 0)
        });
        let period = raw.date.as_ref().filter(|date| !date.get_ref().is_empty()).and_then(|date| {
            let period = date.get_ref().parse();
            period
                .map_err(|error: daemon::logging::NoPeriod| self.wrong("log", date, error.to_string(), ""))
                .ok()
        });
        let keep = self.number(raw.count.as_ref(), KEPT, 0..=MOST_KEPT);
        LogFile { path: PathBuf::new(), octets, period, keep: usize::try_from(keep).unwrap_or(0) }
    }
}

/// What `RABBITMQ_LOGS` says.
fn named(places: &str) -> (LogTarget, Option<PathBuf>) {
    let (mut target, mut file) = (LogTarget::Nowhere, None);
    for place in places.split(',').map(str::trim).filter(|place| !place.is_empty()) {
        match place {
            "-" | "-stdout" => target = LogTarget::Stdout,
            "-stderr" => target = LogTarget::Stderr,
            path => file = Some(PathBuf::from(path)),
        }
    }
    if file.is_none() && target == LogTarget::Nowhere {
        target = LogTarget::Stdout;
    }
    (target, file)
}

#[cfg(test)]
mod tests {
    use crate::config::Config;
    use crate::config::cli::{Environment, NodeArgs};
    use daemon::logging::{LogTarget, Period};
    use std::path::{Path, PathBuf};

    fn read(text: &str, file: &str, environment: Environment) -> Config {
        let args = NodeArgs { data: Some(PathBuf::from("/data")), ..NodeArgs::default() };
        let environment = Environment { host: "host".to_owned(), ..environment };
        Config::from_text(text, file, &args, &environment).unwrap()
    }

    #[test]
    fn the_log_goes_to_standard_output_unless_a_file_is_named() {
        let config = read("", "rabbitmq.conf", Environment::default());
        assert_eq!(config.log_places(), ["<stdout>"]);
        let config = read("log.file = false\n", "rabbitmq.conf", Environment::default());
        assert_eq!(config.log_places(), ["<stdout>"]);
        let config = read("log.file = node.log\n", "rabbitmq.conf", Environment::default());
        assert_eq!(config.log_places(), ["/data/log/node.log"]);
        let text = "log.file = node.log\nlog.console = true\nlog.dir = /logs\n";
        let config = read(text, "rabbitmq.conf", Environment::default());
        assert_eq!(config.log_places(), ["/logs/node.log", "<stdout>"]);
        let text = "[log]\nfile = \"/var/log/node.log\"\nconsole = true\n";
        let config = read(text, "broker.toml", Environment::default());
        assert_eq!(config.log_places(), ["/var/log/node.log", "<stdout>"]);
    }

    #[test]
    fn rotation_is_said_in_both_forms() {
        let conf = "log.file = a.log\nlog.file.rotation.size = 10485760\nlog.file.rotation.date = $W0D23\n\
                    log.file.rotation.count = 3\n";
        let toml =
            "[log]\nfile = \"a.log\"\n[log.rotation]\nsize = \"10MiB\"\ndate = \"$W0D23\"\ncount = 3\n";
        for (text, name) in [(conf, "rabbitmq.conf"), (toml, "broker.toml")] {
            let config = read(text, name, Environment::default());
            assert!(config.warnings.is_empty(), "{}", config.warnings.render(false));
            let file = config.log.file.unwrap();
            assert_eq!((file.octets, file.period, file.keep), (Some(10 << 20), Some(Period::Week(0, 23)), 3));
        }
        let wrong =
            "log.file.rotation.size = big\nlog.file.rotation.date = noon\nlog.file.rotation.count = -1\n";
        let args = NodeArgs::default();
        let said = Config::from_text(wrong, "rabbitmq.conf", &args, &Environment::default())
            .unwrap_err()
            .render(false);
        for part in ["conf:1:26", "conf:2:26", "$D0", "conf:3:27"] {
            assert!(said.contains(part), "{part} is missing in:\n{said}");
        }
    }

    #[test]
    fn the_variables_of_rabbitmq_beat_the_file() {
        let place = |logs: &str| {
            let logs = Some(logs.to_owned());
            let base = Some(PathBuf::from("/base"));
            let environment = Environment { logs, log_base: base, ..Environment::default() };
            read("log.file = own.log\n", "rabbitmq.conf", environment)
        };
        assert_eq!(place("-").log_places(), ["<stdout>"]);
        assert_eq!(place("-stderr").log.target, LogTarget::Stderr);
        assert_eq!(place("/tmp/x.log").log_places(), ["/tmp/x.log"]);
        assert_eq!(place("x.log,-").log_places(), ["/base/x.log", "<stdout>"]);
        assert_eq!(place(",").log_places(), ["<stdout>"]);
        assert_eq!(place("x.log").log.file.unwrap().path, Path::new("/base/x.log"));
    }
}
