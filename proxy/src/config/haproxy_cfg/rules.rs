//! `tcp-request`, `tcp-response`, `use_backend` and `use-server`.

use super::acl;
use super::args::Args;
use super::lexer::Word;
use crate::config::ProxyConfig;
use crate::config::rules::{BackendRule, ClientAction, ClientRule, Condition, ServerRule, Stage};

/// `tcp-request ...`
///
/// `left_out_accepts` remembers, for one section, the stages with an `accept` that was left out.
pub(super) fn tcp_request(
    keyword: &Word,
    args: &mut Args<'_, '_>,
    proxy: &mut ProxyConfig,
    left_out_accepts: &mut Vec<Stage>,
) {
    let Some(stage) = args.value("connection, content or inspect-delay") else { return };
    let at = match stage.text.as_str() {
        "inspect-delay" => {
            proxy.inspect_delay = args.time("a time").or(proxy.inspect_delay);
            return;
        }
        "connection" => Stage::Connection,
        "session" => Stage::Session,
        "content" => Stage::Content,
        _ => {
            args.unknown(
                stage,
                "word after tcp-request",
                &[&["connection", "content", "session", "inspect-delay"]],
            );
            args.skip_rest();
            return;
        }
    };
    if at != Stage::Content && !proxy.has_frontend() {
        let message = format!("`tcp-request {}` cannot be in a backend", at.word());
        args.error(stage, "misplaced", message, "");
        return args.skip_rest();
    }
    let place = args.place_to_here(keyword);
    let Some(word) = args.value("accept or reject") else { return };
    let Some(action) = action(word, at, args) else { return args.skip_rest() };
    let Some(condition) = acl::condition(args, proxy) else { return args.skip_rest() };
    if let Some(what) = acl::unsupported(&condition) {
        return left_out(word, what, action, args, || left_out_accepts.push(at));
    }
    if action == ClientAction::Reject && left_out_accepts.contains(&at) {
        args.error(
            word,
            "not-supported",
            "an `accept` above it could not be carried out: this rule would keep out whom that one lets in",
            "",
        );
        return;
    }
    proxy.client_rules.push(ClientRule { stage: at, action, condition, place });
}

/// A rule that looks at what is not known here. What lets clients in may be left out when nothing after it
/// keeps them out; anything else would change who gets in.
fn left_out(word: &Word, what: &str, action: ClientAction, args: &mut Args<'_, '_>, remember: impl FnOnce()) {
    if action == ClientAction::Accept {
        args.warn(word, "not-used", format!("`{what}` is not known here: clients are let in without it"), "");
        // A later `reject` would now also hit those that this rule lets in.
        remember();
        return;
    }
    let message = format!("`{what}` cannot be tested here");
    args.error(word, "not-supported", message, "leaving the rule out would let clients in that it keeps out");
}

fn action(word: &Word, at: Stage, args: &mut Args<'_, '_>) -> Option<ClientAction> {
    match word.text.as_str() {
        "accept" => Some(ClientAction::Accept),
        "reject" => Some(ClientAction::Reject),
        "silent-drop" => {
            args.warn(word, "not-used", "`silent-drop` is carried out as `reject`", "");
            if args.take("rst-ttl") {
                args.value("a number");
            }
            Some(ClientAction::Reject)
        }
        "expect-proxy" if at == Stage::Connection => {
            args.choice("layer", &[("layer4", ())])?;
            Some(ClientAction::ExpectProxy)
        }
        text if changes_nothing(text) => {
            args.warn(word, "not-used", format!("`{text}` is not supported; the rule is read over"), "");
            None
        }
        text if is_known(text) => {
            let message =
                format!("`{text}` is not supported, and leaving it out would change where clients go");
            args.error(word, "not-supported", message, "");
            None
        }
        _ => {
            args.unknown(word, "action", &[&["accept", "reject", "expect-proxy", "silent-drop"]]);
            None
        }
    }
}

/// Actions that only count, mark or remember.
fn changes_nothing(text: &str) -> bool {
    [
        "track-sc",
        "sc-inc-",
        "sc-set-",
        "set-var",
        "unset-var",
        "set-mark",
        "set-tos",
        "set-nice",
        "set-log-level",
        "set-priority-",
        "capture",
        "ot-group",
        "send-spoe-group",
        "set-src",
        "lua.",
    ]
    .iter()
    .any(|start| text.starts_with(start))
}

fn is_known(text: &str) -> bool {
    ["set-dst", "set-dst-port", "do-resolve", "use-service", "switch-mode", "expect-netscaler-cip", "close"]
        .iter()
        .any(|name| text.split('(').next() == Some(*name))
}

/// `tcp-response ...`: contents of answers are not looked at.
pub(super) fn tcp_response(keyword: &Word, args: &mut Args<'_, '_>) {
    args.warn(keyword, "not-used", "`tcp-response`: contents are not inspected; the rule is read over", "");
    args.skip_rest();
}

/// `use_backend NAME [if|unless ...]`
pub(super) fn use_backend(args: &mut Args<'_, '_>, proxy: &mut ProxyConfig) {
    let Some(name) = args.value("the name of a backend") else { return };
    let place = args.place(name);
    if name.text.contains("%[") {
        args.error(name, "not-supported", "names of backends are not computed from requests", "");
        return args.skip_rest();
    }
    if let Some(condition) = routing(args, proxy) {
        proxy.backend_rules.push(BackendRule { backend: name.text.clone(), condition, place });
    }
}

/// `use-server NAME [if|unless ...]`
pub(super) fn use_server(args: &mut Args<'_, '_>, proxy: &mut ProxyConfig) {
    let Some(name) = args.value("the name of a server") else { return };
    let place = args.place(name);
    if let Some(condition) = routing(args, proxy) {
        proxy.server_rules.push(ServerRule { server: name.text.clone(), condition, place });
    }
}

fn routing(args: &mut Args<'_, '_>, proxy: &ProxyConfig) -> Option<Condition> {
    let first = args.peek();
    let Some(condition) = acl::condition(args, proxy) else {
        args.skip_rest();
        return None;
    };
    match (acl::unsupported(&condition), first) {
        (Some(what), Some(word)) => {
            let message = format!("`{what}` cannot be tested here");
            args.error(word, "not-supported", message, "leaving the rule out would change who goes where");
            None
        }
        _ => Some(condition),
    }
}
