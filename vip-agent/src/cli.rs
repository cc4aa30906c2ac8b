//! The command line: our own words, and every flag of keepalived's, under either name.
//!
//! The agent stays in the foreground. Only when called as `keepalived` without `-n` does it go to the
//! background as keepalived does, because scripts and unit files rely on it.

use std::path::PathBuf;

use clap::{ArgAction, Parser, Subcommand};
use daemon::logging::LogArgs;
use daemon::manual::{CompletionArgs, ManArgs};

/// Where keepalived and this agent look when no file is named.
pub(crate) const DEFAULT_CONFIG: &str = "/etc/keepalived/keepalived.conf";
/// The native file, looked for first unless called as keepalived.
pub(crate) const NATIVE_CONFIG: &str = "/etc/vip-agent/vip.toml";

/// Where keepalived writes its process id when not told otherwise.
pub(crate) const KEEPALIVED_PID: &str = "/run/keepalived.pid";

/// Keeps a virtual IP address on one of several hosts (VRRP versions 2 and 3).
#[derive(Debug, Parser)]
#[command(name = "vip-agent", disable_version_flag = true, args_conflicts_with_subcommands = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) action: Option<Action>,
    #[command(flatten)]
    pub(crate) run: RunArgs,
    #[command(flatten)]
    pub(crate) keepalived: KeepalivedFlags,
    #[command(flatten)]
    pub(crate) log: LogArgs,
    /// Directory of the status socket
    #[arg(long, value_name = "DIR", default_value = "/run/vip-agent", global = true)]
    pub(crate) runtime_dir: PathBuf,
}

/// What else the program does.
#[derive(Debug, Subcommand)]
pub(crate) enum Action {
    /// Runs the agent (the default)
    Run(RunArgs),
    /// Shows who is master
    Status {
        /// Prints JSON
        #[arg(long)]
        json: bool,
    },
    /// Checks a configuration file
    Check(RunArgs),
    /// Writes a keepalived.conf as native TOML, with notes
    Migrate {
        /// The file to read
        #[arg(value_name = "KEEPALIVED_CONF", default_value = DEFAULT_CONFIG)]
        file: PathBuf,
        /// Where to write; standard output when left out
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
        /// Keeps check scripts that could be replaced by a built-in check
        #[arg(long)]
        keep_script: bool,
    },
    /// Writes completions for a shell
    Completions(CompletionArgs),
    /// Writes the manual pages into a folder
    Man(ManArgs),
    /// Becomes the guard of an agent; used by the agent itself
    #[command(name = crate::guard::SUBCOMMAND, hide = true)]
    Guard,
}

/// Flags of a run.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct RunArgs {
    /// Configuration: keepalived.conf, or TOML when the name ends in .toml
    #[arg(short = 'f', long = "use-file", visible_alias = "config", value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Checks the configuration and exits: 0 good, 78 wrong
    #[arg(long)]
    pub(crate) check: bool,
    /// With --check: the other host's file, to see whether the two go together
    #[arg(long, value_name = "FILE")]
    pub(crate) peer: Option<PathBuf>,
    /// Checks the configuration as keepalived does: 0 good, 3 unreadable, 4 wrong, 5 unsafe scripts
    #[arg(short = 't', long = "config-test", value_name = "FILE", num_args = 0..=1, default_missing_value = "-", require_equals = true)]
    pub(crate) config_test: Option<PathBuf>,
    /// Stays in the foreground (the default unless called as keepalived)
    #[arg(short = 'n', long)]
    pub(crate) dont_fork: bool,
    /// File for the process id
    #[arg(short = 'p', long = "pid", value_name = "FILE")]
    pub(crate) pid: Option<PathBuf>,
    /// File for the process id, as keepalived's VRRP child would write it
    #[arg(short = 'r', long = "vrrp_pid", value_name = "FILE")]
    pub(crate) vrrp_pid: Option<PathBuf>,
    /// Leaves the virtual addresses where they are at the end
    #[arg(short = 'V', long)]
    pub(crate) dont_release_vrrp: bool,
    /// Prints the configuration as it was understood
    #[arg(short = 'd', long)]
    pub(crate) dump_conf: bool,
    /// Logs more
    #[arg(short = 'D', long)]
    pub(crate) log_detail: bool,
    /// Prints the number of the signal for STOP, RELOAD, DATA, STATS or JSON
    #[arg(long, value_name = "SIGFUNC", hide_short_help = true)]
    pub(crate) signum: Option<String>,
    /// Prints the version
    #[arg(short = 'v', long)]
    pub(crate) version: bool,
}

/// Flags of keepalived's; most need nothing done here.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Flags of keepalived; most change nothing here")]
pub(crate) struct KeepalivedFlags {
    /// Only VRRP: no virtual servers
    #[arg(short = 'P', long, hide_short_help = true)]
    vrrp: bool,
    /// Only health checks
    #[arg(short = 'C', hide_short_help = true)]
    checkers: bool,
    /// No BFD
    #[arg(short = 'B', long = "no_bfd", hide_short_help = true)]
    no_bfd: bool,
    /// All subsystems
    #[arg(long, hide_short_help = true)]
    all: bool,
    /// Logs to the console
    #[arg(short = 'l', long, hide_short_help = true)]
    log_console: bool,
    /// Syslog facility
    #[arg(short = 'S', long, value_name = "N", hide_short_help = true)]
    log_facility: Option<String>,
    /// Log file
    #[arg(short = 'g', long, value_name = "FILE", num_args = 0..=1, require_equals = true, hide_short_help = true)]
    log_file: Option<Option<PathBuf>>,
    /// Flushes the log file
    #[arg(long, hide_short_help = true)]
    flush_log_file: bool,
    /// No syslog
    #[arg(short = 'G', long, hide_short_help = true)]
    no_syslog: bool,
    /// Drops the addresses on transitions by signal
    #[arg(short = 'X', long, hide_short_help = true)]
    release_vips: bool,
    /// Leaves the rules of virtual servers at the end
    #[arg(short = 'I', long, hide_short_help = true)]
    pub(crate) dont_release_ipvs: bool,
    /// Does not start children again
    #[arg(short = 'R', long, hide_short_help = true)]
    dont_respawn: bool,
    /// Pid file of the health checker
    #[arg(short = 'c', long = "checkers_pid", value_name = "FILE", hide_short_help = true)]
    checkers_pid: Option<PathBuf>,
    /// Pid file of BFD
    #[arg(short = 'b', long = "bfd_pid", value_name = "FILE", hide_short_help = true)]
    bfd_pid: Option<PathBuf>,
    /// Logs address changes
    #[arg(short = 'a', long, hide_short_help = true)]
    address_monitoring: bool,
    /// All files must be there
    #[arg(short = 'e', long, hide_short_help = true)]
    all_config: bool,
    /// What lines of keepalived.conf that start with @ are for; default: the first part of the host's name
    #[arg(short = 'i', long, value_name = "ID", hide_short_help = true)]
    pub(crate) config_id: Option<String>,
    /// File mode mask
    #[arg(short = 'u', long, value_name = "MASK", hide_short_help = true)]
    umask: Option<String>,
    /// SNMP
    #[arg(short = 'x', long, hide_short_help = true)]
    snmp: bool,
    /// SNMP socket
    #[arg(short = 'A', long, value_name = "SOCKET", hide_short_help = true)]
    snmp_agent_socket: Option<String>,
    /// Core dumps
    #[arg(short = 'm', long, action = ArgAction::Count, hide_short_help = true)]
    core_dump: u8,
}

/// keepalived's signal for a dump in JSON.
pub(crate) fn json_signal() -> i32 {
    nix::libc::SIGRTMIN() + 2
}

impl KeepalivedFlags {
    /// `-P` without `-C`: keepalived starts no health checker then.
    pub(crate) fn only_vrrp(&self) -> bool {
        self.vrrp && !self.checkers && !self.all
    }
}
