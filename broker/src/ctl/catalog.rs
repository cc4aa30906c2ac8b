//! Every command: what it takes, what it is for, and who carries it out.

use super::run::Act;
use super::{
    absent, cluster, definitions, health, help, listing, membership, node, operations, permissions, plugins,
    policies, queues, upgrade, users, vhosts,
};

/// The programs that answer to commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tool {
    /// `rabbitmqctl`, and `broker ctl`, which has the commands of all.
    Ctl,
    /// `rabbitmq-diagnostics`.
    Diagnostics,
    /// `rabbitmq-plugins`.
    Plugins,
    /// `rabbitmq-queues`.
    Queues,
    /// `rabbitmq-upgrade`.
    Upgrade,
    /// `broker join` and its siblings.
    Broker,
}

impl Tool {
    /// What to call it in messages.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Tool::Ctl => "rabbitmqctl",
            Tool::Diagnostics => "rabbitmq-diagnostics",
            Tool::Plugins => "rabbitmq-plugins",
            Tool::Queues => "rabbitmq-queues",
            Tool::Upgrade => "rabbitmq-upgrade",
            Tool::Broker => "broker",
        }
    }

    fn mask(self) -> u8 {
        match self {
            Tool::Ctl => CTL,
            Tool::Diagnostics => DIAGNOSTICS,
            Tool::Plugins => PLUGINS,
            Tool::Queues => QUEUES,
            Tool::Upgrade => UPGRADE,
            Tool::Broker => BROKER,
        }
    }
}

const CTL: u8 = 1;
const DIAGNOSTICS: u8 = 2;
const PLUGINS: u8 = 4;
const QUEUES: u8 = 8;
const UPGRADE: u8 = 16;
const BROKER: u8 = 32;
/// What every tool has.
const ALL: u8 = CTL | DIAGNOSTICS | PLUGINS | QUEUES | UPGRADE;

/// A command.
pub(super) struct Command {
    /// Under this title in the help.
    pub(super) group: &'static str,
    /// Its name.
    pub(super) name: &'static str,
    tools: u8,
    /// Its arguments, as a usage line shows them.
    pub(super) usage: &'static str,
    /// How many arguments it needs and takes.
    pub(super) arguments: (usize, usize),
    /// Its own options.
    pub(super) switches: &'static [&'static str],
    /// It asks a node.
    pub(super) needs_node: bool,
    /// Carries it out.
    pub(super) act: Act,
    /// What it does, in a line.
    pub(super) about: &'static str,
}

impl Command {
    /// Whether the tool has the command.
    pub(super) fn is_of(&self, tool: Tool) -> bool {
        self.tools & tool.mask() != 0
    }

    /// Whether only a node that runs can carry it out. RabbitMQ: the same, asked before anything is said.
    pub(super) fn needs_running(&self) -> bool {
        const OF_WHAT_RUNS: [&str; 11] = [
            "Access Control",
            "Definitions",
            "Feature flags",
            "Parameters",
            "Policies",
            "Queues",
            "Replication",
            "Upgrade",
            "Users",
            "Virtual hosts",
            "Operations",
        ];
        OF_WHAT_RUNS.contains(&self.group)
            || self.name.starts_with("list_") && self.group != "Diagnostics"
            || ["await_online_nodes", "cluster_status", "forget_cluster_node"].contains(&self.name)
    }
}

/// The commands of a tool. `rabbitmqctl` has those of rabbitmq-diagnostics too, behind its own.
pub(super) fn of(tool: Tool) -> impl Iterator<Item = &'static Command> {
    COMMANDS.iter().filter(move |command| command.is_of(tool))
}

/// The command of that name.
pub(super) fn find(tool: Tool, name: &str) -> Option<&'static Command> {
    let of_tool = of(tool).find(|command| command.name == name);
    // What people type after `rabbitmqctl` out of habit works as well.
    let known = || COMMANDS.iter().find(|command| command.name == name && !command.is_of(Tool::Plugins));
    of_tool.or_else(|| if tool == Tool::Plugins { None } else { known() })
}

/// A tool in clap's form, for completions and manual pages.
pub(crate) fn as_clap(tool: Tool) -> clap::Command {
    let option = |short: char, long: &'static str, help: &'static str| {
        clap::Arg::new(long).short(short).long(long).global(true).help(help)
    };
    let formatters = super::format::Formatter::NAMES.map(|(name, _)| name);
    let mut all = clap::Command::new(tool.title())
        .version(env!("CARGO_PKG_VERSION"))
        .about("Manages a node of the broker")
        .disable_help_subcommand(true)
        .arg(option('n', "node", "Node of this machine, or http://user:password@host:15672"))
        .arg(option('p', "vhost", "The vhost that is meant"))
        .arg(option('t', "timeout", "Seconds to wait for an answer"))
        .arg(option('q', "quiet", "Nothing but results").action(clap::ArgAction::SetTrue))
        .arg(
            option('s', "silent", "Nothing but results, and no column names")
                .action(clap::ArgAction::SetTrue),
        )
        .arg(
            clap::Arg::new("formatter")
                .long("formatter")
                .global(true)
                .value_parser(formatters)
                .help("Form of results"),
        );
    for command in of(tool) {
        let mut own = clap::Command::new(command.name).about(command.about).override_usage(format!(
            "{} {} {}",
            tool.title(),
            command.name,
            command.usage
        ));
        for name in command.switches {
            own = own.arg(clap::Arg::new(*name).long(*name).action(clap::ArgAction::SetTrue));
        }
        all = all.subcommand(own);
    }
    all
}

/// All of them, by group.
#[rustfmt::skip]
pub(super) const COMMANDS: &[Command] = &[
    Command { group: "Help", name: "autocomplete", tools: ALL, usage: "[prefix]", arguments: (0, 1), switches: &["list-commands"], needs_node: false, act: help::autocomplete, about: "Names the commands that begin with a prefix" },
    Command { group: "Help", name: "help", tools: ALL, usage: "[<command>]", arguments: (0, 1), switches: &["list-commands"], needs_node: false, act: help::help, about: "Shows how a command is used" },
    Command { group: "Help", name: "version", tools: ALL, usage: "", arguments: (0, 0), switches: &[], needs_node: false, act: node::version, about: "Shows the version whose behaviour these tools have" },
    Command { group: "Nodes", name: "await_startup", tools: CTL | DIAGNOSTICS, usage: "[--timeout <timeout>]", arguments: (0, 0), switches: &[], needs_node: true, act: node::await_startup, about: "Waits until the node is ready" },
    Command { group: "Nodes", name: "wait", tools: CTL, usage: "[<pidfile>] [--timeout <timeout>]", arguments: (0, 1), switches: &[], needs_node: true, act: node::wait, about: "Waits until the node is ready, by its process id file" },
    Command { group: "Nodes", name: "stop", tools: CTL, usage: "[--idempotent] [<pidfile>]", arguments: (0, 1), switches: &["idempotent"], needs_node: true, act: node::stop, about: "Stops the node and waits until its process is gone" },
    Command { group: "Nodes", name: "shutdown", tools: CTL, usage: "[--wait]", arguments: (0, 0), switches: &["wait", "no-wait"], needs_node: true, act: node::shutdown, about: "Stops the node and waits until its process is gone" },
    Command { group: "Nodes", name: "stop_app", tools: CTL, usage: "", arguments: (0, 0), switches: &[], needs_node: true, act: membership::stop_app, about: "Stops serving; the process and its control socket stay" },
    Command { group: "Nodes", name: "start_app", tools: CTL, usage: "", arguments: (0, 0), switches: &[], needs_node: true, act: membership::start_app, about: "Serves again after stop_app" },
    Command { group: "Nodes", name: "reset", tools: CTL, usage: "", arguments: (0, 0), switches: &[], needs_node: true, act: membership::reset, about: "Leaves the cluster and empties a stopped node" },
    Command { group: "Nodes", name: "force_reset", tools: CTL, usage: "", arguments: (0, 0), switches: &[], needs_node: true, act: membership::force_reset, about: "The same when the other nodes can not be told" },
    Command { group: "Nodes", name: "rotate_logs", tools: CTL, usage: "", arguments: (0, 0), switches: &[], needs_node: true, act: absent::nothing, about: "Does nothing: the log goes to standard output" },
    Command { group: "Cluster", name: "cluster_status", tools: CTL | DIAGNOSTICS, usage: "[--timeout <timeout>]", arguments: (0, 0), switches: &[], needs_node: true, act: cluster::cluster_status, about: "Shows the nodes of the cluster, their versions, alarms and listeners" },
    Command { group: "Cluster", name: "await_online_nodes", tools: CTL, usage: "<count> [--timeout <timeout>]", arguments: (1, 1), switches: &[], needs_node: true, act: cluster::await_online_nodes, about: "Waits until so many nodes are online" },
    Command { group: "Cluster", name: "join_cluster", tools: CTL, usage: "[--disc|--ram] <existing_cluster_member>", arguments: (1, 1), switches: &["disc", "ram"], needs_node: true, act: membership::join_cluster, about: "Makes a stopped node a member of another one's cluster" },
    Command { group: "Cluster", name: "forget_cluster_node", tools: CTL, usage: "[--offline] [--accept-loss] <existing_cluster_member>", arguments: (1, 1), switches: &["offline", "accept-loss"], needs_node: true, act: membership::forget_cluster_node, about: "Removes a node that does not come back" },
    Command { group: "Cluster", name: "change_cluster_node_type", tools: CTL, usage: "<disc | ram>", arguments: (1, 1), switches: &[], needs_node: true, act: membership::change_cluster_node_type, about: "Changes nothing: nodes keep their data on disk" },
    Command { group: "Cluster", name: "rename_cluster_node", tools: CTL, usage: "<oldnode1> <newnode1> [oldnode2] [newnode2] ...", arguments: (2, usize::MAX), switches: &[], needs_node: true, act: membership::rename_cluster_node, about: "Gives a stopped node another name, and tells the other nodes" },
    Command { group: "Cluster", name: "update_cluster_nodes", tools: CTL, usage: "<existing_cluster_member_to_seed_from>", arguments: (1, 1), switches: &[], needs_node: true, act: membership::update_cluster_nodes, about: "Changes nothing: nodes know the addresses of all members" },
    Command { group: "Cluster", name: "force_boot", tools: CTL, usage: "", arguments: (0, 0), switches: &[], needs_node: true, act: membership::force_boot, about: "Lets a stopped node start without those that were there when it stopped" },
    Command { group: "Cluster", name: "join", tools: BROKER, usage: "<address>|<token>", arguments: (1, 1), switches: &[], needs_node: true, act: membership::join, about: "Stops, joins the cluster of that node, and starts: three lines of rabbitmqctl in one" },
    Command { group: "Cluster", name: "leave", tools: BROKER, usage: "", arguments: (0, 0), switches: &[], needs_node: true, act: membership::leave, about: "Leaves the cluster and takes up again the data from before joining" },
    Command { group: "Cluster", name: "token", tools: BROKER, usage: "[--minutes <n>]", arguments: (0, 0), switches: &["minutes"], needs_node: true, act: membership::token, about: "Makes a token with which another node can join" },
    Command { group: "Cluster", name: "recover", tools: BROKER, usage: "--new-generation", arguments: (0, 0), switches: &["new-generation"], needs_node: true, act: membership::recover, about: "Goes on without a majority that is lost for good" },
    Command { group: "Upgrade", name: "await_online_quorum_plus_one", tools: UPGRADE, usage: "[--timeout <timeout>]", arguments: (0, 0), switches: &[], needs_node: true, act: upgrade::await_online_quorum_plus_one, about: "Waits until quorum queues have a majority without this node" },
    Command { group: "Upgrade", name: "await_online_synchronized_mirror", tools: UPGRADE, usage: "[--timeout <timeout>]", arguments: (0, 0), switches: &[], needs_node: true, act: upgrade::await_online_synchronized_mirror, about: "Waits until mirrored queues are in sync elsewhere" },
    Command { group: "Upgrade", name: "drain", tools: UPGRADE, usage: "", arguments: (0, 0), switches: &[], needs_node: true, act: upgrade::drain, about: "Puts the node into maintenance mode: it serves no clients" },
    Command { group: "Upgrade", name: "revive", tools: UPGRADE, usage: "", arguments: (0, 0), switches: &[], needs_node: true, act: upgrade::revive, about: "Ends maintenance mode" },
    Command { group: "Upgrade", name: "post_upgrade", tools: UPGRADE, usage: "", arguments: (0, 0), switches: &[], needs_node: true, act: upgrade::post_upgrade, about: "Spreads the leaders of queues over all nodes again" },
    Command { group: "Replication", name: "add_member", tools: QUEUES, usage: "[--vhost <vhost>] <queue> <node>", arguments: (2, 2), switches: &[], needs_node: true, act: queues::add_member, about: "Gives a node a copy of a quorum queue" },
    Command { group: "Replication", name: "delete_member", tools: QUEUES, usage: "[--vhost <vhost>] <queue> <node>", arguments: (2, 2), switches: &[], needs_node: true, act: queues::delete_member, about: "Takes the copy of a quorum queue from a node" },
    Command { group: "Replication", name: "grow", tools: QUEUES, usage: "<node> <all | even> [--vhost-pattern <pattern>] [--queue-pattern <pattern>] [--errors-only]", arguments: (2, 2), switches: &["vhost-pattern", "queue-pattern", "errors-only"], needs_node: true, act: queues::grow, about: "Gives a node a copy of every quorum queue that fits" },
    Command { group: "Replication", name: "shrink", tools: QUEUES, usage: "<node> [--errors-only]", arguments: (1, 1), switches: &["errors-only"], needs_node: true, act: queues::shrink, about: "Takes all copies of quorum queues from a node" },
    Command { group: "Replication", name: "rebalance", tools: QUEUES, usage: "<all|classic|quorum> [--vhost-pattern <pattern>] [--queue-pattern <pattern>]", arguments: (1, 1), switches: &["vhost-pattern", "queue-pattern"], needs_node: true, act: queues::rebalance, about: "Spreads the leaders of queues over all nodes" },
    Command { group: "Replication", name: "quorum_status", tools: QUEUES, usage: "[--vhost <vhost>] <queue>", arguments: (1, 1), switches: &[], needs_node: true, act: queues::quorum_status, about: "Shows the members of a quorum queue" },
    Command { group: "Replication", name: "sync_queue", tools: CTL, usage: "[--vhost <vhost>] <queue>", arguments: (1, 1), switches: &[], needs_node: true, act: operations::sync_queue, about: "Makes the mirrors of a queue synchronise" },
    Command { group: "Replication", name: "cancel_sync_queue", tools: CTL, usage: "[--vhost <vhost>] <queue>", arguments: (1, 1), switches: &[], needs_node: true, act: operations::cancel_sync_queue, about: "Stops synchronising the mirrors of a queue" },
    Command { group: "Users", name: "add_user", tools: CTL, usage: "<username> <password>", arguments: (1, 2), switches: &["generate", "admin", "pre-hashed-password"], needs_node: true, act: users::add_user, about: "Adds a user without permissions; --generate makes the password, --admin an administrator of all vhosts" },
    Command { group: "Users", name: "authenticate_user", tools: CTL, usage: "<username> <password>", arguments: (1, 2), switches: &[], needs_node: true, act: users::authenticate_user, about: "Checks a password" },
    Command { group: "Users", name: "change_password", tools: CTL, usage: "<username> <password>", arguments: (1, 2), switches: &[], needs_node: true, act: users::change_password, about: "Changes a password" },
    Command { group: "Users", name: "clear_password", tools: CTL, usage: "<username>", arguments: (1, 1), switches: &[], needs_node: true, act: users::clear_password, about: "Takes a password away: the user can no longer log in by one" },
    Command { group: "Users", name: "delete_user", tools: CTL, usage: "<username>", arguments: (1, 1), switches: &[], needs_node: true, act: users::delete_user, about: "Deletes a user" },
    Command { group: "Users", name: "list_users", tools: CTL, usage: "[--no-table-headers] [--timeout <timeout>]", arguments: (0, 0), switches: &[], needs_node: true, act: users::list_users, about: "Lists users with their tags" },
    Command { group: "Users", name: "set_user_tags", tools: CTL, usage: "<username> <tag> [...]", arguments: (1, usize::MAX), switches: &[], needs_node: true, act: users::set_user_tags, about: "Sets the tags of a user: administrator, monitoring, policymaker, management" },
    Command { group: "Users", name: "set_user_limits", tools: CTL, usage: "<username> <definition>", arguments: (2, 2), switches: &[], needs_node: true, act: users::set_user_limits, about: "Limits connections and channels of a user" },
    Command { group: "Users", name: "clear_user_limits", tools: CTL, usage: "<username> <limit>|all", arguments: (2, 2), switches: &[], needs_node: true, act: users::clear_user_limits, about: "Takes limits of a user away" },
    Command { group: "Users", name: "list_user_limits", tools: CTL, usage: "[--user <username>] [--global]", arguments: (0, 0), switches: &["user", "global"], needs_node: true, act: users::list_user_limits, about: "Lists limits of users" },
    Command { group: "Access Control", name: "set_permissions", tools: CTL, usage: "[--vhost <vhost>] <username> <conf> <write> <read>", arguments: (4, 4), switches: &[], needs_node: true, act: permissions::set_permissions, about: "Sets what a user may configure, write and read in a vhost" },
    Command { group: "Access Control", name: "clear_permissions", tools: CTL, usage: "[--vhost <vhost>] <username>", arguments: (1, 1), switches: &[], needs_node: true, act: permissions::clear_permissions, about: "Takes the permissions of a user in a vhost away" },
    Command { group: "Access Control", name: "list_permissions", tools: CTL, usage: "[--vhost <vhost>] [--no-table-headers] [--timeout <timeout>]", arguments: (0, 0), switches: &[], needs_node: true, act: permissions::list_permissions, about: "Lists permissions in a vhost" },
    Command { group: "Access Control", name: "list_user_permissions", tools: CTL, usage: "[--no-table-headers] <username>", arguments: (1, 1), switches: &[], needs_node: true, act: permissions::list_user_permissions, about: "Lists the permissions of a user" },
    Command { group: "Access Control", name: "set_topic_permissions", tools: CTL, usage: "[--vhost <vhost>] <username> <exchange> <write> <read>", arguments: (4, 4), switches: &[], needs_node: true, act: permissions::set_topic_permissions, about: "Sets which routing keys a user may write and read on a topic exchange" },
    Command { group: "Access Control", name: "clear_topic_permissions", tools: CTL, usage: "[--vhost <vhost>] <username> [<exchange>]", arguments: (1, 2), switches: &[], needs_node: true, act: permissions::clear_topic_permissions, about: "Takes topic permissions of a user away" },
    Command { group: "Access Control", name: "list_topic_permissions", tools: CTL, usage: "[--vhost <vhost>] [--no-table-headers]", arguments: (0, 0), switches: &[], needs_node: true, act: permissions::list_topic_permissions, about: "Lists topic permissions in a vhost" },
    Command { group: "Access Control", name: "list_user_topic_permissions", tools: CTL, usage: "[--no-table-headers] <username>", arguments: (1, 1), switches: &[], needs_node: true, act: permissions::list_user_topic_permissions, about: "Lists the topic permissions of a user" },
    Command { group: "Access Control", name: "list_vhosts", tools: CTL, usage: "[--no-table-headers] [<column> ...]", arguments: (0, usize::MAX), switches: &[], needs_node: true, act: vhosts::list_vhosts, about: "Lists vhosts" },
    Command { group: "Monitoring, observability and health checks", name: "list_queues", tools: CTL, usage: "[--vhost <vhost>] [--online] [--offline] [--local] [--no-table-headers] [<column>, ...] [--timeout <timeout>]", arguments: (0, usize::MAX), switches: &["online", "offline", "local"], needs_node: true, act: listing::list_queues, about: "Lists queues" },
    Command { group: "Monitoring, observability and health checks", name: "list_exchanges", tools: CTL, usage: "[--vhost <vhost>] [--no-table-headers] [<column> ...]", arguments: (0, usize::MAX), switches: &[], needs_node: true, act: listing::list_exchanges, about: "Lists exchanges" },
    Command { group: "Monitoring, observability and health checks", name: "list_bindings", tools: CTL, usage: "[--vhost <vhost>] [--no-table-headers] [<column> ...]", arguments: (0, usize::MAX), switches: &[], needs_node: true, act: listing::list_bindings, about: "Lists bindings" },
    Command { group: "Monitoring, observability and health checks", name: "list_connections", tools: CTL, usage: "[--no-table-headers] [<column> ...]", arguments: (0, usize::MAX), switches: &[], needs_node: true, act: listing::list_connections, about: "Lists connections" },
    Command { group: "Monitoring, observability and health checks", name: "list_channels", tools: CTL, usage: "[--no-table-headers] [<column> ...]", arguments: (0, usize::MAX), switches: &[], needs_node: true, act: listing::list_channels, about: "Lists channels" },
    Command { group: "Monitoring, observability and health checks", name: "list_consumers", tools: CTL, usage: "[--vhost <vhost>] [--no-table-headers] [<column> ...]", arguments: (0, usize::MAX), switches: &[], needs_node: true, act: listing::list_consumers, about: "Lists consumers" },
    Command { group: "Monitoring, observability and health checks", name: "list_unresponsive_queues", tools: CTL | DIAGNOSTICS, usage: "[--local] [--vhost <vhost>] [<column> ...]", arguments: (0, usize::MAX), switches: &["online", "offline", "local"], needs_node: true, act: listing::list_unresponsive_queues, about: "Lists queues that do not answer; queues here always do" },
    Command { group: "Monitoring, observability and health checks", name: "ping", tools: CTL | DIAGNOSTICS, usage: "[--timeout <timeout>]", arguments: (0, 0), switches: &[], needs_node: true, act: node::ping, about: "Checks that the node answers" },
    Command { group: "Monitoring, observability and health checks", name: "status", tools: CTL | DIAGNOSTICS, usage: "[--timeout <timeout>]", arguments: (0, 0), switches: &["unit"], needs_node: true, act: node::status, about: "Shows what a node says about itself" },
    Command { group: "Monitoring, observability and health checks", name: "report", tools: CTL, usage: "", arguments: (0, 0), switches: &[], needs_node: true, act: node::report, about: "Writes everything that helps with a question about this node" },
    Command { group: "Monitoring, observability and health checks", name: "node_health_check", tools: CTL | DIAGNOSTICS, usage: "", arguments: (0, 0), switches: &[], needs_node: true, act: health::node_health_check, about: "Deprecated: see check_alarms and its siblings" },
    Command { group: "Diagnostics", name: "alarms", tools: DIAGNOSTICS, usage: "", arguments: (0, 0), switches: &[], needs_node: true, act: health::list_alarms, about: "Lists alarms" },
    Command { group: "Diagnostics", name: "check_alarms", tools: DIAGNOSTICS, usage: "", arguments: (0, 0), switches: &[], needs_node: true, act: health::check_alarms, about: "Fails when there is an alarm in the cluster" },
    Command { group: "Diagnostics", name: "check_local_alarms", tools: DIAGNOSTICS, usage: "", arguments: (0, 0), switches: &[], needs_node: true, act: health::check_local_alarms, about: "Fails when there is an alarm on this node" },
    Command { group: "Diagnostics", name: "check_certificate_expiration", tools: DIAGNOSTICS, usage: "--within <period> --unit <unit>", arguments: (0, 0), switches: &["unit", "within"], needs_node: true, act: health::check_certificate_expiration, about: "Fails when a certificate of a listener runs out soon" },
    Command { group: "Diagnostics", name: "check_if_node_is_mirror_sync_critical", tools: DIAGNOSTICS | QUEUES, usage: "", arguments: (0, 0), switches: &[], needs_node: true, act: health::check_mirror_sync, about: "Fails when stopping this node would lose messages of mirrored queues" },
    Command { group: "Diagnostics", name: "check_if_node_is_quorum_critical", tools: DIAGNOSTICS | QUEUES, usage: "", arguments: (0, 0), switches: &[], needs_node: true, act: health::check_quorum, about: "Fails when stopping this node would cost quorum queues their majority" },
    Command { group: "Diagnostics", name: "check_port_connectivity", tools: DIAGNOSTICS, usage: "", arguments: (0, 0), switches: &[], needs_node: true, act: health::check_port_connectivity, about: "Connects to every listener" },
    Command { group: "Diagnostics", name: "check_port_listener", tools: DIAGNOSTICS, usage: "<port>", arguments: (1, 1), switches: &[], needs_node: true, act: health::check_port_listener, about: "Fails when nothing listens on a port" },
    Command { group: "Diagnostics", name: "check_protocol_listener", tools: DIAGNOSTICS, usage: "<protocol>", arguments: (1, 1), switches: &[], needs_node: true, act: health::check_protocol_listener, about: "Fails when nothing listens for a protocol" },
    Command { group: "Diagnostics", name: "check_running", tools: DIAGNOSTICS, usage: "", arguments: (0, 0), switches: &[], needs_node: true, act: health::check_running, about: "Fails unless the node runs" },
    Command { group: "Diagnostics", name: "check_virtual_hosts", tools: DIAGNOSTICS, usage: "", arguments: (0, 0), switches: &[], needs_node: true, act: health::check_virtual_hosts, about: "Fails when a vhost does not run" },
    Command { group: "Diagnostics", name: "erlang_version", tools: DIAGNOSTICS, usage: "", arguments: (0, 0), switches: &[], needs_node: true, act: health::erlang_version, about: "Refused: there is no Erlang" },
    Command { group: "Diagnostics", name: "is_booting", tools: DIAGNOSTICS, usage: "", arguments: (0, 0), switches: &[], needs_node: true, act: health::is_booting, about: "Says whether the node is starting" },
    Command { group: "Diagnostics", name: "is_running", tools: DIAGNOSTICS, usage: "", arguments: (0, 0), switches: &[], needs_node: true, act: health::is_running, about: "Says whether the node runs" },
    Command { group: "Diagnostics", name: "listeners", tools: DIAGNOSTICS, usage: "", arguments: (0, 0), switches: &[], needs_node: true, act: health::listeners, about: "Lists listeners" },
    Command { group: "Diagnostics", name: "list_network_interfaces", tools: DIAGNOSTICS, usage: "", arguments: (0, 0), switches: &[], needs_node: true, act: health::list_network_interfaces, about: "Lists the network interfaces of this machine" },
    Command { group: "Diagnostics", name: "log_location", tools: DIAGNOSTICS, usage: "[--all]", arguments: (0, 0), switches: &["all"], needs_node: true, act: health::log_location, about: "Says where the log goes" },
    Command { group: "Diagnostics", name: "log_tail", tools: DIAGNOSTICS, usage: "[-N|--number <N>]", arguments: (0, 0), switches: &["number"], needs_node: true, act: health::log_tail, about: "Shows the last lines of the log" },
    Command { group: "Diagnostics", name: "maybe_stuck", tools: DIAGNOSTICS, usage: "", arguments: (0, 0), switches: &[], needs_node: true, act: health::maybe_stuck, about: "Looks at every queue of the node" },
    Command { group: "Diagnostics", name: "memory_breakdown", tools: DIAGNOSTICS, usage: "[--unit <unit>]", arguments: (0, 0), switches: &["unit"], needs_node: true, act: health::memory_breakdown, about: "Shows what memory is used for" },
    Command { group: "Diagnostics", name: "os_env", tools: DIAGNOSTICS, usage: "", arguments: (0, 0), switches: &[], needs_node: true, act: health::os_env, about: "Lists the environment variables that the node reads" },
    Command { group: "Diagnostics", name: "resolve_hostname", tools: DIAGNOSTICS, usage: "<hostname> [--address-family <ipv4 | ipv6>]", arguments: (1, 1), switches: &["address-family"], needs_node: true, act: health::resolve_hostname, about: "Resolves a host name" },
    Command { group: "Diagnostics", name: "server_version", tools: DIAGNOSTICS, usage: "", arguments: (0, 0), switches: &[], needs_node: true, act: health::server_version, about: "Shows the node's version" },
    Command { group: "Parameters", name: "set_parameter", tools: CTL, usage: "[--vhost <vhost>] <component_name> <name> <value>", arguments: (3, 3), switches: &[], needs_node: true, act: policies::set_parameter, about: "Sets a runtime parameter" },
    Command { group: "Parameters", name: "clear_parameter", tools: CTL, usage: "[--vhost <vhost>] <component_name> <name>", arguments: (2, 2), switches: &[], needs_node: true, act: policies::clear_parameter, about: "Clears a runtime parameter" },
    Command { group: "Parameters", name: "list_parameters", tools: CTL, usage: "[--vhost <vhost>] [--no-table-headers]", arguments: (0, 0), switches: &[], needs_node: true, act: policies::list_parameters, about: "Lists runtime parameters" },
    Command { group: "Parameters", name: "set_global_parameter", tools: CTL, usage: "<name> <value>", arguments: (2, 2), switches: &[], needs_node: true, act: policies::set_global_parameter, about: "Sets a global runtime parameter" },
    Command { group: "Parameters", name: "clear_global_parameter", tools: CTL, usage: "<name>", arguments: (1, 1), switches: &[], needs_node: true, act: policies::clear_global_parameter, about: "Clears a global runtime parameter" },
    Command { group: "Parameters", name: "list_global_parameters", tools: CTL, usage: "[--no-table-headers]", arguments: (0, 0), switches: &[], needs_node: true, act: policies::list_global_parameters, about: "Lists global runtime parameters" },
    Command { group: "Policies", name: "set_policy", tools: CTL, usage: "[--vhost <vhost>] [--priority <priority>] [--apply-to <apply-to>] <name> <pattern> <definition>", arguments: (3, 3), switches: &["priority", "apply-to"], needs_node: true, act: policies::set_policy, about: "Sets a policy" },
    Command { group: "Policies", name: "clear_policy", tools: CTL, usage: "[--vhost <vhost>] <name>", arguments: (1, 1), switches: &[], needs_node: true, act: policies::clear_policy, about: "Clears a policy" },
    Command { group: "Policies", name: "list_policies", tools: CTL, usage: "[--vhost <vhost>] [--no-table-headers]", arguments: (0, 0), switches: &[], needs_node: true, act: policies::list_policies, about: "Lists policies" },
    Command { group: "Policies", name: "set_operator_policy", tools: CTL, usage: "[--vhost <vhost>] [--priority <priority>] [--apply-to <apply-to>] <name> <pattern> <definition>", arguments: (3, 3), switches: &["priority", "apply-to"], needs_node: true, act: policies::set_operator_policy, about: "Sets a policy that users' policies can not go beyond" },
    Command { group: "Policies", name: "clear_operator_policy", tools: CTL, usage: "[--vhost <vhost>] <name>", arguments: (1, 1), switches: &[], needs_node: true, act: policies::clear_operator_policy, about: "Clears an operator policy" },
    Command { group: "Policies", name: "list_operator_policies", tools: CTL, usage: "[--vhost <vhost>] [--no-table-headers]", arguments: (0, 0), switches: &[], needs_node: true, act: policies::list_operator_policies, about: "Lists operator policies" },
    Command { group: "Virtual hosts", name: "add_vhost", tools: CTL, usage: "<vhost> [--description <description>] [--tags \"<tag1>,<tag2>,<...>\"] [--default-queue-type <type>]", arguments: (1, 1), switches: &["description", "tags", "default-queue-type"], needs_node: true, act: vhosts::add_vhost, about: "Adds a vhost" },
    Command { group: "Virtual hosts", name: "delete_vhost", tools: CTL, usage: "<vhost>", arguments: (1, 1), switches: &[], needs_node: true, act: vhosts::delete_vhost, about: "Deletes a vhost with everything in it" },
    Command { group: "Virtual hosts", name: "set_vhost_tags", tools: CTL, usage: "<vhost> <tag> [...]", arguments: (1, usize::MAX), switches: &[], needs_node: true, act: vhosts::set_vhost_tags, about: "Sets the tags of a vhost" },
    Command { group: "Virtual hosts", name: "restart_vhost", tools: CTL, usage: "[--vhost <vhost>]", arguments: (0, 0), switches: &[], needs_node: true, act: vhosts::restart_vhost, about: "Says whether a vhost runs" },
    Command { group: "Virtual hosts", name: "set_vhost_limits", tools: CTL, usage: "[--vhost <vhost>] <definition>", arguments: (1, 1), switches: &[], needs_node: true, act: vhosts::set_vhost_limits, about: "Limits connections and queues of a vhost" },
    Command { group: "Virtual hosts", name: "clear_vhost_limits", tools: CTL, usage: "[--vhost <vhost>]", arguments: (0, 0), switches: &[], needs_node: true, act: vhosts::clear_vhost_limits, about: "Takes the limits of a vhost away" },
    Command { group: "Virtual hosts", name: "list_vhost_limits", tools: CTL, usage: "[--vhost <vhost>] [--global] [--no-table-headers]", arguments: (0, 0), switches: &["global"], needs_node: true, act: vhosts::list_vhost_limits, about: "Lists the limits of a vhost" },
    Command { group: "Virtual hosts", name: "trace_on", tools: CTL, usage: "[--vhost <vhost>]", arguments: (0, 0), switches: &[], needs_node: true, act: vhosts::trace_on, about: "Copies messages of a vhost to amq.rabbitmq.trace" },
    Command { group: "Virtual hosts", name: "trace_off", tools: CTL, usage: "[--vhost <vhost>]", arguments: (0, 0), switches: &[], needs_node: true, act: vhosts::trace_off, about: "Ends that" },
    Command { group: "Configuration and Environment", name: "environment", tools: CTL | DIAGNOSTICS, usage: "[--timeout <timeout>]", arguments: (0, 0), switches: &[], needs_node: true, act: node::environment, about: "Shows the settings of the node" },
    Command { group: "Configuration and Environment", name: "set_cluster_name", tools: CTL, usage: "<name>", arguments: (1, 1), switches: &[], needs_node: true, act: operations::set_cluster_name, about: "Sets the name of the cluster" },
    Command { group: "Configuration and Environment", name: "set_disk_free_limit", tools: CTL, usage: "<disk_limit> | mem_relative <fraction>", arguments: (1, 2), switches: &[], needs_node: true, act: operations::set_disk_free_limit, about: "Sets the disk alarm until the next start" },
    Command { group: "Configuration and Environment", name: "set_log_level", tools: CTL, usage: "<log_level>", arguments: (1, 1), switches: &[], needs_node: true, act: operations::set_log_level, about: "Sets the level of the log until the next start" },
    Command { group: "Configuration and Environment", name: "set_vm_memory_high_watermark", tools: CTL, usage: "<fraction> | absolute <value>", arguments: (1, 2), switches: &[], needs_node: true, act: operations::set_vm_memory_high_watermark, about: "Sets the memory alarm until the next start" },
    Command { group: "Configuration and Environment", name: "encode", tools: CTL, usage: "<value> <passphrase>", arguments: (0, usize::MAX), switches: &[], needs_node: false, act: absent::no_encoding, about: "Refused: values are not encrypted" },
    Command { group: "Configuration and Environment", name: "decode", tools: CTL, usage: "<value> <passphrase>", arguments: (0, usize::MAX), switches: &[], needs_node: false, act: absent::no_encoding, about: "Refused: values are not encrypted" },
    Command { group: "Definitions", name: "export_definitions", tools: CTL, usage: "<file_path | \"-\"> [--format <json>]", arguments: (1, 1), switches: &["format"], needs_node: true, act: definitions::export_definitions, about: "Writes everything but messages to a file" },
    Command { group: "Definitions", name: "import_definitions", tools: CTL, usage: "<file_path | \"-\"> [--format <json>] [--skip-if-unchanged]", arguments: (1, 1), switches: &["format", "skip-if-unchanged"], needs_node: true, act: definitions::import_definitions, about: "Adds what a file of definitions has" },
    Command { group: "Feature flags", name: "list_feature_flags", tools: CTL, usage: "[--no-table-headers] [<column> ...]", arguments: (0, usize::MAX), switches: &[], needs_node: true, act: node::list_feature_flags, about: "Lists feature flags" },
    Command { group: "Feature flags", name: "enable_feature_flag", tools: CTL, usage: "<all | feature_flag>", arguments: (1, 1), switches: &[], needs_node: true, act: node::enable_feature_flag, about: "Enables a feature flag; all are" },
    Command { group: "Operations", name: "close_connection", tools: CTL, usage: "<connection pid> <explanation>", arguments: (2, 2), switches: &[], needs_node: true, act: operations::close_connection, about: "Closes a connection, by its pid or its name" },
    Command { group: "Operations", name: "close_all_connections", tools: CTL, usage: "[--vhost <vhost> --limit <limit>] [-n <node> --global] [--per-connection-delay <delay>] <explanation>", arguments: (1, 1), switches: &["global", "limit", "per-connection-delay"], needs_node: true, act: operations::close_all_connections, about: "Closes all connections of a vhost, or of the node" },
    Command { group: "Operations", name: "close_all_user_connections", tools: CTL, usage: "<username> <explanation>", arguments: (2, 2), switches: &["limit", "per-connection-delay"], needs_node: true, act: operations::close_all_user_connections, about: "Closes all connections of a user" },
    Command { group: "Operations", name: "force_gc", tools: CTL, usage: "", arguments: (0, 0), switches: &[], needs_node: true, act: operations::force_gc, about: "Gives memory that is free back to the system" },
    Command { group: "Operations", name: "suspend_listeners", tools: CTL, usage: "", arguments: (0, 0), switches: &[], needs_node: true, act: operations::suspend_listeners, about: "Refuses new client connections" },
    Command { group: "Operations", name: "resume_listeners", tools: CTL, usage: "", arguments: (0, 0), switches: &[], needs_node: true, act: operations::resume_listeners, about: "Takes client connections again" },
    Command { group: "Operations", name: "eval", tools: CTL, usage: "<expression>", arguments: (0, usize::MAX), switches: &[], needs_node: false, act: absent::no_code, about: "Refused: there is no Erlang here" },
    Command { group: "Operations", name: "eval_file", tools: CTL, usage: "<expression>", arguments: (0, usize::MAX), switches: &[], needs_node: false, act: absent::no_code, about: "Refused: there is no Erlang here" },
    Command { group: "Operations", name: "exec", tools: CTL, usage: "<expression>", arguments: (0, usize::MAX), switches: &[], needs_node: false, act: absent::no_code, about: "Refused: there is no Erlang here" },
    Command { group: "Queues", name: "delete_queue", tools: CTL, usage: "[--vhost <vhost>] <queue_name> [--if-empty|-e] [--if-unused|-u] [--timeout <timeout>]", arguments: (1, 1), switches: &["if-empty", "if-unused"], needs_node: true, act: operations::delete_queue, about: "Deletes a queue" },
    Command { group: "Queues", name: "purge_queue", tools: CTL, usage: "[--vhost <vhost>] <queue>", arguments: (1, 1), switches: &[], needs_node: true, act: operations::purge_queue, about: "Drops the messages of a queue that are ready" },
    Command { group: "Deprecated", name: "hipe_compile", tools: CTL, usage: "<directory>", arguments: (0, 1), switches: &[], needs_node: false, act: absent::nothing, about: "Does nothing" },
    Command { group: "Plugins", name: "list", tools: PLUGINS, usage: "[pattern] [--verbose] [--minimal] [--enabled] [--implicitly-enabled]", arguments: (0, 1), switches: &["verbose", "minimal", "enabled", "implicitly-enabled"], needs_node: false, act: plugins::list, about: "Lists plugins of RabbitMQ and whether what they bring is here" },
    Command { group: "Plugins", name: "enable", tools: PLUGINS, usage: "<plugin1> [ <plugin2>] | --all [--offline] [--online]", arguments: (0, usize::MAX), switches: &["all", "offline", "online"], needs_node: false, act: plugins::enable, about: "Says that a plugin is always on" },
    Command { group: "Plugins", name: "disable", tools: PLUGINS, usage: "<plugin1>|--all [ <plugin2>] [--offline] [--online]", arguments: (0, usize::MAX), switches: &["all", "offline", "online"], needs_node: false, act: plugins::disable, about: "Refused for what is built in" },
    Command { group: "Plugins", name: "set", tools: PLUGINS, usage: "<plugin1> [ <plugin2>] [--offline] [--online]", arguments: (0, usize::MAX), switches: &["offline", "online"], needs_node: false, act: plugins::set, about: "As enable" },
    Command { group: "Plugins", name: "is_enabled", tools: PLUGINS, usage: "<plugin1> [ <plugin2>] [--offline] [--online]", arguments: (1, usize::MAX), switches: &["offline", "online"], needs_node: true, act: plugins::is_enabled, about: "Fails unless the plugins are on" },
    Command { group: "Plugins", name: "directories", tools: PLUGINS, usage: "", arguments: (0, 0), switches: &["offline", "online"], needs_node: false, act: plugins::directories, about: "Says that there are none" },
];
