//! `stats ...` in a proxy section: the statistics page.

use super::args::Args;
use super::lexer::Word;
use super::{acl, vocabulary};
use crate::config::rules::{Acl, Condition};
use crate::config::{StatsAdmin, StatsConfig};

/// Reads what follows `stats`.
pub(super) fn directive(args: &mut Args<'_, '_>, stats: &mut StatsConfig, acls: &[Acl]) {
    let Some(word) = args.value("enable, uri, refresh, auth, ...") else { return };
    // As in HAProxy, any of these words turns the page on.
    stats.enabled = true;
    match word.text.as_str() {
        "enable" => {}
        "uri" => {
            if let Some(value) = args.value("a path") {
                if value.text.starts_with('/') {
                    stats.uri.clone_from(&value.text);
                } else {
                    let message = format!("`{}` is not a path; it begins with /", value.text);
                    args.error(value, "wrong-value", message, "");
                }
            }
        }
        "refresh" => {
            if let Some(value) = args.value("a time") {
                // Here, unlike elsewhere, a bare number is in seconds.
                match crate::config::duration::parse(&value.text, 1_000_000) {
                    Ok(time) => stats.refresh = Some(time),
                    Err(error) => args.error(value, "wrong-time", error.to_string(), ""),
                }
            }
        }
        "auth" => {
            if let Some(value) = args.value("user:password") {
                match value.text.split_once(':') {
                    Some((user, password)) => stats.auth.push((user.to_owned(), password.to_owned())),
                    None => args.error(value, "wrong-value", "write user:password", ""),
                }
            }
        }
        "realm" => stats.realm = args.value("a name").map(|value| value.text.clone()),
        "hide-version" => stats.hide_version = true,
        "show-legends" => stats.show_legends = true,
        "show-modules" => stats.show_modules = true,
        "show-node" => stats.show_node = Some(optional(args)),
        "show-desc" => {
            let mut words = Vec::new();
            while let Some(value) = args.next() {
                words.push(value.text.as_str());
            }
            stats.show_desc = Some((!words.is_empty()).then(|| words.join(" ")));
        }
        "admin" => admin(word, args, stats, acls),
        "scope" => stats.scope.extend(args.text("the name of a section, or .")),
        "maxconn" => {
            args.value("a value");
            args.warn(word, "not-used", format!("`stats {}` is not supported yet", word.text), "");
        }
        "http-request" => {
            args.error(
                word,
                "not-supported",
                "`stats http-request` rules are not supported, and leaving them out could open the page",
                "use `stats auth`",
            );
            args.skip_rest();
        }
        _ => {
            args.unknown(word, "word after stats", &[vocabulary::STATS]);
            args.skip_rest();
        }
    }
}

fn optional(args: &mut Args<'_, '_>) -> Option<String> {
    let word = args.peek().filter(|word| !vocabulary::PROXY.contains(&word.text.as_str()))?;
    args.next();
    Some(word.text.clone())
}

/// `stats admin if ...`
fn admin(word: &Word, args: &mut Args<'_, '_>, stats: &mut StatsConfig, acls: &[Acl]) {
    if args.peek().is_none() {
        args.error(word, "missing-value", "write `stats admin if TRUE` or `stats admin if LOCALHOST`", "");
        return;
    }
    let Some(condition) = acl::condition_of(args, acls) else { return args.skip_rest() };
    if let Some(what) = acl::unsupported(&condition) {
        let message = format!("`{what}` is not looked at: the page only shows");
        args.warn(word, "not-used", message, "write `stats admin if LOCALHOST`, or `if { src NETWORK }`");
        stats.admin = StatsAdmin::Never;
        return;
    }
    stats.admin = simplified(condition);
}

/// The cases with a name of their own.
fn simplified(condition: Condition) -> StatsAdmin {
    let only = match &condition.groups[..] {
        [group] => match &group[..] {
            [term] if !term.negated && !condition.negated => term.name.as_deref(),
            _ => None,
        },
        _ => None,
    };
    match only {
        Some("TRUE") => StatsAdmin::Always,
        Some("FALSE") => StatsAdmin::Never,
        Some("LOCALHOST") => StatsAdmin::Localhost,
        _ => StatsAdmin::If(condition),
    }
}
