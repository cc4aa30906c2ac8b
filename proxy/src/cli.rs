//! The command line: our own words, and haproxy's flags, which end in the same place.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use daemon::logging::LogArgs;
use daemon::manual::{CompletionArgs, ManArgs};

/// Where the configuration is looked for when none is named.
pub const DEFAULT_FILES: [&str; 3] = ["/etc/proxy/proxy.toml", "proxy.toml", "/etc/haproxy/haproxy.cfg"];

/// A TCP load balancer that reads haproxy.cfg or TOML.
#[derive(Debug, Parser)]
#[command(name = "proxy", disable_version_flag = true, args_override_self = true)]
#[expect(clippy::struct_excessive_bools, reason = "one for each flag of haproxy")]
pub struct Args {
    /// Configuration file or directory (haproxy.cfg or TOML); may be given several times
    #[arg(short = 'f', long = "config", value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// More configuration files, after `--` as haproxy has it
    #[arg(last = true, hide = true)]
    pub more_files: Vec<PathBuf>,
    /// Check the configuration and exit
    #[arg(short = 'c', long)]
    pub check: bool,
    /// Show the version and exit (-vv: with more)
    #[arg(short = 'v', long = "version", action = clap::ArgAction::Count)]
    pub version: u8,
    /// Go to the background
    #[arg(short = 'D', long)]
    pub daemon: bool,
    /// Stay in the foreground (haproxy: -db)
    #[arg(long = "foreground")]
    pub foreground: bool,
    /// Write the process id to a file
    #[arg(short = 'p', long = "pidfile", value_name = "FILE")]
    pub pidfile: Option<PathBuf>,
    /// Go to this directory before reading files
    #[arg(short = 'C', value_name = "DIR")]
    pub directory: Option<PathBuf>,
    /// Most connections of the process
    #[arg(short = 'n', value_name = "MAXCONN", allow_hyphen_values = true, value_parser = limit)]
    pub maxconn: Option<u32>,
    /// Most connections of each frontend that does not say itself (haproxy: -N)
    #[arg(
        long = "frontend-maxconn",
        value_name = "MAXCONN",
        hide = true,
        allow_hyphen_values = true,
        value_parser = limit
    )]
    pub frontend_maxconn: Option<u32>,
    /// Name of this process among peers (haproxy: -L)
    #[arg(long = "localpeer", value_name = "NAME", hide = true)]
    pub localpeer: Option<String>,
    /// Refuse to start when there is a warning (haproxy: -dW)
    #[arg(long = "zero-warning")]
    pub zero_warning: bool,
    /// No warnings about the configuration
    #[arg(short = 'q', long)]
    pub quiet: bool,
    /// Say more while starting
    #[arg(short = 'V', long)]
    pub verbose: bool,
    /// Once started, ask these processes to finish (haproxy: -sf PID...)
    #[arg(long = "finish", value_name = "PID", num_args = 0.., hide = true)]
    pub finish: Vec<i32>,
    /// Once started, stop these processes (haproxy: -st PID...)
    #[arg(long = "stop", value_name = "PID", num_args = 0.., hide = true)]
    pub stop: Vec<i32>,
    /// Take the listening sockets from this stats socket of the old process (haproxy: -x)
    #[arg(long = "old-socket", value_name = "SOCKET", hide = true)]
    pub old_socket: Option<PathBuf>,
    /// Logging flags.
    #[command(flatten)]
    pub log: LogArgs,
    /// What to do instead of running
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// A limit as haproxy reads it (atol(3)): the digits it begins with, 0 without any or below 0.
#[expect(clippy::unnecessary_wraps, reason = "clap wants it")]
fn limit(text: &str) -> Result<u32, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    Ok(if digits == 0 { 0 } else { text[..digits].parse().unwrap_or(u32::MAX) })
}

/// What to do instead of running.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Check the configuration and connect once to every server
    Check {
        /// The file; /etc/proxy/proxy.toml when not given
        file: Option<PathBuf>,
    },
    /// Write the TOML form of a haproxy.cfg, with notes about what does not come along
    Migrate {
        /// The files, in the order haproxy reads them
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// File to write; standard output when not given
        #[arg(long, short = 'o', default_value = "-")]
        output: PathBuf,
    },
    /// Make the running process read its configuration again, and say what came of it
    Reload(Target),
    /// Replace the running process by this program without losing a connection
    Upgrade(Target),
    /// Ask a running proxy and print what every server does
    Status {
        /// The configuration that names a stats socket or a statistics page
        file: Option<PathBuf>,
        /// Ask here instead: a socket's path, HOST:PORT of a stats socket, or http://HOST:PORT/monitor
        #[arg(long, value_name = "WHERE")]
        from: Option<String>,
    },
    /// Write completions for a shell
    Completions(CompletionArgs),
    /// Write the manual pages into a folder
    Man(ManArgs),
    /// Write a configuration to start from
    Init {
        /// A server, NAME=HOST:PORT; give it once for each
        #[arg(long = "backend", value_name = "NAME=HOST:PORT", required = true)]
        backends: Vec<String>,
        /// Where clients connect
        #[arg(long, default_value = ":5672")]
        listen: String,
        /// Where the statistics page is
        #[arg(long, default_value = ":8100")]
        stats: String,
        /// File to write; - for standard output
        #[arg(long, short = 'o', default_value = "/etc/proxy/proxy.toml")]
        output: PathBuf,
    },
}

impl Args {
    /// What the command line says about the configuration; it counts more than the files.
    pub fn apply(&self, config: &mut crate::config::Config) {
        let global = &mut config.global;
        if let Some(maxconn) = self.maxconn {
            global.maxconn = (maxconn > 0).then_some(maxconn);
        }
        global.localpeer = self.localpeer.clone().or(global.localpeer.take());
        global.zero_warning |= self.zero_warning;
        global.quiet |= self.quiet;
        for proxy in config.proxies.iter_mut().filter(|proxy| proxy.has_frontend()) {
            let settings = &mut proxy.settings;
            settings.maxconn = settings.maxconn.or(self.frontend_maxconn.filter(|limit| *limit > 0));
        }
    }
}

/// Which running process is meant.
#[derive(Debug, clap::Args)]
pub struct Target {
    /// Its process id; not needed when only one runs here
    #[arg(long, value_name = "PID")]
    pub pid: Option<u32>,
}

/// Turns haproxy's flags of several letters behind one dash into ours; flags that only concern
/// HAProxy's own machinery are left out.
#[must_use]
pub fn translate(arguments: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut out = Vec::new();
    let mut arguments = arguments.into_iter().peekable();
    out.extend(arguments.next());
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "-db" | "-Ws" => out.push("--foreground".to_owned()),
            "-sf" => out.push("--finish".to_owned()),
            "-st" => out.push("--stop".to_owned()),
            "-W" | "-d" | "-de" | "-dp" | "-dr" | "-dG" | "-dS" | "-dV" | "-dR" | "-dL" | "-dZ" => {}
            "-dW" => out.push("--zero-warning".to_owned()),
            "-N" => out.push("--frontend-maxconn".to_owned()),
            "-L" => out.push("--localpeer".to_owned()),
            "-x" => out.push("--old-socket".to_owned()),
            "-m" | "-S" => {
                arguments.next();
            }
            text if text.starts_with("-dM") || text.starts_with("-dD") || text.starts_with("-dK") => {}
            _ => out.push(argument),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Args {
        let words = line.split(' ').map(str::to_owned);
        Args::try_parse_from(translate(words)).unwrap()
    }

    #[test]
    fn haproxys_flags_are_understood() {
        let args =
            parse("haproxy -Ws -f /etc/a.cfg -f b.cfg -p /run/x.pid -x /run/sock -n 100 -db -dMfoo -L me");
        assert_eq!(args.files, [PathBuf::from("/etc/a.cfg"), PathBuf::from("b.cfg")]);
        assert!(args.foreground && !args.daemon);
        assert_eq!((args.maxconn, args.pidfile), (Some(100), Some("/run/x.pid".into())));
        let args = parse("haproxy -f a.cfg -D -sf 12 34");
        assert_eq!((args.finish, args.daemon), (vec![12, 34], true));
        assert_eq!(parse("haproxy -vv").version, 2);
        assert!(parse("haproxy -W -c -q -f x -C / -V").check);
        assert_eq!(parse("haproxy -- a b").more_files.len(), 2);
        let limits =
            ["0", "-1", "abc", "5x", "99999999999"].map(|text| parse(&format!("haproxy -n {text}")).maxconn);
        assert_eq!(limits, [Some(0), Some(0), Some(0), Some(5), Some(u32::MAX)]);
        let args = parse("haproxy -f a.cfg -N 7 -L me -m 100 -dW -dKall -sf -D");
        assert_eq!((args.frontend_maxconn, args.localpeer.as_deref()), (Some(7), Some("me")));
        assert!(args.zero_warning && args.daemon && args.finish.is_empty());
    }

    #[test]
    fn the_command_line_counts_more_than_the_files() {
        let mut config = crate::config::Config::default();
        let text = "global\n maxconn 5\nlisten a\n bind :1\n maxconn 3\nlisten b\n bind :2\nbackend c\n";
        let mut remarks = daemon::diagnostic::Diagnostics::new();
        crate::config::haproxy_cfg::Reader::default().read(text, "", &mut config, &mut remarks);
        parse("haproxy -n 9 -N 7 -dW -L me").apply(&mut config);
        let limits: Vec<_> = config.proxies.iter().map(|proxy| proxy.settings.maxconn).collect();
        assert_eq!(limits, [Some(3), Some(7), None]);
        let global = &config.global;
        assert_eq!(
            (global.maxconn, global.zero_warning, global.localpeer.as_deref()),
            (Some(9), true, Some("me"))
        );
    }

    #[test]
    fn our_own_words_are_understood() {
        let args = parse("proxy init --backend A=h:1 --backend B=h:2 --listen :7 -o -");
        let status = parse("proxy status --from /run/x.sock").command;
        assert!(matches!(status, Some(Command::Status { file: None, from: Some(_) })));
        let Some(Command::Init { backends, listen, .. }) = args.command else { panic!() };
        assert_eq!((backends.len(), listen.as_str()), (2, ":7"));
        let args = parse("proxy migrate a.cfg b.cfg -o x.toml");
        assert!(matches!(args.command, Some(Command::Migrate { files, .. }) if files.len() == 2));
        assert!(matches!(parse("proxy check x.toml").command, Some(Command::Check { file: Some(_) })));
        assert_eq!(parse("proxy --config x.toml --check --log-format json").files.len(), 1);
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Args::command().debug_assert();
    }
}
