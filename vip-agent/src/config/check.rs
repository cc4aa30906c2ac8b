//! What only the whole configuration shows, whichever file it came from.

use std::collections::HashSet;

use daemon::diagnostic::{Diagnostic, Diagnostics, suggest};

use super::{AgentConfig, NotifyConfig, script_lint, script_security};

mod servers;

/// Adds remarks about the whole.
pub(crate) fn check(config: &AgentConfig, file: &str, remarks: &mut Diagnostics) {
    let mut add = |remark: Diagnostic| remarks.push(remark.in_file(file));
    if config.instances.is_empty() && !config.virtual_servers.is_empty() {
        add(Diagnostic::warning("no-instance", "there is no vrrp_instance, so no address floats"));
    }
    let mut seen = HashSet::new();
    for instance in &config.instances {
        let name = &instance.core.name;
        let (_, interface, router, _, six) = instance.key();
        if !seen.insert((interface, router, six)) {
            add(Diagnostic::error(
                "duplicate",
                format!(
                    "two instances use virtual_router_id {router} on {interface}, the second is `{name}`"
                ),
            )
            .help("give every virtual router of one network its own number"));
        }
        for track in &instance.track_scripts {
            let Some(script) = config.scripts.iter().find(|script| script.name == track.name) else {
                let near = suggest(&track.name, config.scripts.iter().map(|script| script.name.as_str()));
                let mut remark = Diagnostic::error(
                    "unknown-script",
                    format!("instance `{name}` tracks `{}`, but there is no such script", track.name),
                );
                if let Some(near) = near {
                    remark = remark.help(format!("did you mean `{near}`?"));
                }
                add(remark);
                continue;
            };
            let weight = track.weight.unwrap_or(script.weight);
            if weight < 0 && !instance.core.preempt {
                add(Diagnostic::warning(
                    "weight-nopreempt",
                    format!(
                        "`{name}`: nopreempt keeps a peer from taking over when `{}` lowers the priority",
                        track.name
                    ),
                )
                .help("take out nopreempt, or take out the weight so that a failure is a fault"));
            }
        }
    }
    let names: Vec<&str> = config.instances.iter().map(|instance| &*instance.core.name).collect();
    for group in &config.groups {
        for member in group.members.iter().filter(|member| !names.contains(&member.as_str())) {
            let mut remark = Diagnostic::error(
                "unknown-instance",
                format!("group `{}` has the member `{member}`, but there is no such instance", group.name),
            );
            if let Some(near) = suggest(member, names.iter().copied()) {
                remark = remark.help(format!("did you mean `{near}`?"));
            }
            add(remark);
        }
    }
    servers::check(config, &mut add);
    weights(config, &mut add);
    scripts(config, &mut add);
    for script in &config.scripts {
        script_lint::remarks(script).into_iter().for_each(&mut add);
    }
}

/// What a failing check can do at all. Only the peer's file, or the peer, knows the other priority.
fn weights(config: &AgentConfig, add: &mut impl FnMut(Diagnostic)) {
    for instance in &config.instances {
        let name = &instance.core.name;
        for track in &instance.track_scripts {
            let script = config.scripts.iter().find(|script| script.name == track.name);
            let weight = track.weight.or(script.map(|script| script.weight)).unwrap_or(0);
            if weight >= 0 {
                continue;
            }
            let before = instance.core.priority;
            let after = vrrp::priority::effective(before, i32::from(weight));
            let message = format!(
                "`{name}`: when `{}` fails, priority {before} becomes {after}; the address moves only to a peer \
                 with more than {after}",
                track.name
            );
            add(Diagnostic::note("weight", message)
                .help("compare with the other host's file: --check --peer FILE"));
        }
    }
}

/// Scripts that somebody else could change, and scripts that are not there.
fn scripts(config: &AgentConfig, add: &mut impl FnMut(Diagnostic)) {
    let checks =
        config.scripts.iter().map(|script| (format!("vrrp_script `{}`", script.name), &script.command));
    let notify = |name: String, notify: &NotifyConfig| {
        let NotifyConfig { any, master, backup, fault, stop } = notify.clone();
        [any, master, backup, fault, stop].into_iter().flatten().map(move |command| (name.clone(), command))
    };
    let notifies: Vec<_> = config
        .instances
        .iter()
        .flat_map(|instance| notify(format!("notify script of `{}`", instance.core.name), &instance.notify))
        .chain(
            config
                .groups
                .iter()
                .flat_map(|group| notify(format!("notify script of `{}`", group.name), &group.notify)),
        )
        .collect();
    let all = checks
        .chain(notifies.iter().map(|(name, command)| (name.clone(), command)))
        .chain(servers::commands(config));
    for (name, command) in all {
        let Some(program) = command.argv.first() else { continue };
        let user = command.user.or(config.global.script_user);
        let as_root = user.map_or_else(|| nix::unistd::geteuid().is_root(), |user| user.uid == 0);
        if let Err(reason) = script_security::runnable(program) {
            add(Diagnostic::warning("script", format!("{name}: {program} {reason}"))
                .help("it will count as failed"));
        } else if let (true, Err(reason)) = (as_root, script_security::safe_for_root(&command.argv)) {
            let message = format!("{name} runs as root, but {reason}");
            if config.global.script_security {
                add(Diagnostic::error("script-security", message).help(
                    "chown root and chmod go-w the file and the directories above it, or name another `user`",
                ));
            } else {
                add(Diagnostic::warning("script-security", message)
                    .help("whoever can change it can become root; see enable_script_security"));
            }
        }
    }
}
