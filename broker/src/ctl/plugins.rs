//! rabbitmq-plugins: what plugins bring to RabbitMQ is built in here, or not there at all.

use super::error::CtlError;
use super::format::Rows;
use super::run::Run;
use daemon::diagnostic::suggest;
use daemon::exit::Exit;
use serde_json::{Value, json};

/// A plugin of RabbitMQ.
struct Plugin {
    name: &'static str,
    /// What it brings is always on.
    built_in: bool,
}

const fn built_in(name: &'static str) -> Plugin {
    Plugin { name, built_in: true }
}

const fn absent(name: &'static str) -> Plugin {
    Plugin { name, built_in: false }
}

const PLUGINS: &[Plugin] = &[
    absent("rabbitmq_amqp1_0"),
    absent("rabbitmq_auth_backend_cache"),
    absent("rabbitmq_auth_backend_http"),
    absent("rabbitmq_auth_backend_ldap"),
    absent("rabbitmq_auth_backend_oauth2"),
    built_in("rabbitmq_auth_mechanism_ssl"),
    built_in("rabbitmq_consistent_hash_exchange"),
    built_in("rabbitmq_delayed_message_exchange"),
    absent("rabbitmq_event_exchange"),
    absent("rabbitmq_federation"),
    absent("rabbitmq_federation_management"),
    absent("rabbitmq_jms_topic_exchange"),
    built_in("rabbitmq_management"),
    built_in("rabbitmq_management_agent"),
    absent("rabbitmq_mqtt"),
    absent("rabbitmq_peer_discovery_aws"),
    absent("rabbitmq_peer_discovery_common"),
    absent("rabbitmq_peer_discovery_consul"),
    absent("rabbitmq_peer_discovery_etcd"),
    absent("rabbitmq_peer_discovery_k8s"),
    built_in("rabbitmq_prometheus"),
    absent("rabbitmq_random_exchange"),
    absent("rabbitmq_recent_history_exchange"),
    absent("rabbitmq_sharding"),
    absent("rabbitmq_shovel"),
    absent("rabbitmq_shovel_management"),
    absent("rabbitmq_stomp"),
    absent("rabbitmq_stream"),
    absent("rabbitmq_stream_management"),
    absent("rabbitmq_top"),
    absent("rabbitmq_tracing"),
    absent("rabbitmq_trust_store"),
    built_in("rabbitmq_web_dispatch"),
    absent("rabbitmq_web_mqtt"),
    absent("rabbitmq_web_stomp"),
];

pub(super) fn list(run: &mut Run<'_>) -> Result<(), CtlError> {
    let pattern = run.arguments_from(0).first().map_or(".*", String::as_str);
    let compiled = broker_core::meta::access::Pattern::new(pattern).map_err(CtlError::bad_argument)?;
    run.say(&format!("Listing plugins with pattern \"{pattern}\" ..."))?;
    let enabled = run.parsed.has("enabled") || run.parsed.has("implicitly-enabled");
    let shown = PLUGINS
        .iter()
        .filter(|plugin| compiled.is_match(plugin.name) && (plugin.built_in || !enabled))
        .collect::<Vec<_>>();
    if run.formatter().is_machine() {
        let rows: Vec<Value> = shown
            .iter()
            .map(|plugin| json!({"name": plugin.name, "version": version(plugin), "enabled": state(plugin), "running": plugin.built_in}))
            .collect();
        return run.rows(&Rows::pick(&["name", "version", "enabled", "running"], &rows));
    }
    if run.parsed.has("minimal") {
        return shown.iter().try_for_each(|plugin| run.print(plugin.name));
    }
    run.say(" Configured: E = explicitly enabled; e = implicitly enabled\n | Status: * = running here\n |/")?;
    let width = PLUGINS.iter().map(|plugin| plugin.name.len()).max().unwrap_or(0);
    for plugin in shown {
        let mark = if plugin.built_in { "E*" } else { "  " };
        let line = format!("[{mark}] {:<width$} {}", plugin.name, version(plugin));
        run.print(line.trim_end())?;
    }
    Ok(())
}

fn version(plugin: &Plugin) -> &'static str {
    if plugin.built_in { crate::config::VERSION } else { "" }
}

fn state(plugin: &Plugin) -> &'static str {
    if plugin.built_in { "enabled" } else { "not_enabled" }
}

pub(super) fn enable(run: &mut Run<'_>) -> Result<(), CtlError> {
    let names = run.arguments_from(0);
    if names.is_empty() && !run.parsed.has("all") {
        return Err(CtlError::usage("not enough arguments."));
    }
    known(names)?;
    run.say("Enabling plugins:")?;
    for name in names {
        run.print(name)?;
    }
    if let Some(absent) =
        PLUGINS.iter().find(|plugin| !plugin.built_in && names.iter().any(|it| it == plugin.name))
    {
        let text = format!("{} is not part of this broker and can not be added", absent.name);
        return Err(CtlError::unavailable(text));
    }
    run.print(&format!("{} always on here: nothing to enable, and no restart needed.", is_or_are(names)))
}

pub(super) fn disable(run: &mut Run<'_>) -> Result<(), CtlError> {
    let names = run.arguments_from(0);
    known(names)?;
    if let Some(built_in) =
        PLUGINS.iter().find(|plugin| plugin.built_in && names.iter().any(|it| it == plugin.name))
    {
        let help = match built_in.name {
            "rabbitmq_management" => "; `enabled = false` in [management] closes its port",
            _ => "",
        };
        return Err(CtlError::unavailable(format!("{} is built in and always on{help}", built_in.name)));
    }
    run.say("Plugin configuration unchanged.")
}

pub(super) fn set(run: &mut Run<'_>) -> Result<(), CtlError> {
    enable(run)
}

pub(super) fn is_enabled(run: &mut Run<'_>) -> Result<(), CtlError> {
    let names = run.arguments_from(0);
    known(names)?;
    let node = run.node()?;
    run.say(&format!("Asking node {node} if the plugins are enabled..."))?;
    let off: Vec<&str> = PLUGINS
        .iter()
        .filter(|plugin| !plugin.built_in && names.iter().any(|name| name == plugin.name))
        .map(|plugin| plugin.name)
        .collect();
    if off.is_empty() {
        return names.iter().try_for_each(|name| run.print(&format!("Plugin {name} is enabled")));
    }
    Err(CtlError::plain(Exit::Unavailable, format!("Plugin {} is not enabled", off.join(", "))))
}

pub(super) fn directories(run: &mut Run<'_>) -> Result<(), CtlError> {
    run.print("Plugins are built in: there are no plugin directories.")
}

fn is_or_are(names: &[String]) -> String {
    match names {
        [] => "What is built in is".to_owned(),
        [one] => format!("{one} is"),
        many => format!("{} are", many.join(", ")),
    }
}

fn known(names: &[String]) -> Result<(), CtlError> {
    let Some(stranger) = names.iter().find(|name| !PLUGINS.iter().any(|plugin| plugin.name == **name)) else {
        return Ok(());
    };
    let hint = suggest(stranger, PLUGINS.iter().map(|plugin| plugin.name));
    let hint = hint.map(|near| format!("\nDid you mean {near}?")).unwrap_or_default();
    Err(CtlError::unavailable(format!("The following plugins could not be found:\n  {stranger}{hint}")))
}
