//! `acl`, `tcp-request connection|content accept|reject` and `use_backend`, as far as they look at the
//! client's address.

use super::args::Args;
use super::lexer::Word;
use crate::config::ProxyConfig;
use crate::config::rules::{
    Acl, BackendRule, ClientAction, ClientRule, Condition, Network, Stage, Term, Test,
};

/// `acl NAME src NETWORK...`
pub(super) fn acl(args: &mut Args<'_, '_>, proxy: &mut ProxyConfig) {
    let Some(name) = args.value("a name and a test") else { return };
    let Some(criterion) = args.value("a test, e.g. src 10.0.0.0/8") else { return };
    let Some(test) = test(criterion, args, &[]) else {
        args.skip_rest();
        return;
    };
    // A second `acl` of the same name adds to the first, as in HAProxy.
    match proxy.acls.iter_mut().find(|known| known.name == name.text) {
        Some(known) => known.tests.push(test),
        None => proxy.acls.push(Acl { name: name.text.clone(), tests: vec![test] }),
    }
}

/// What follows an acl's name, up to the end of the line or one of `ends`.
fn test(criterion: &Word, args: &mut Args<'_, '_>, ends: &[&str]) -> Option<Test> {
    match criterion.text.as_str() {
        "src" => {}
        "always_true" => return Some(Test::Constant(true)),
        "always_false" => return Some(Test::Constant(false)),
        other => {
            while args.peek().is_some_and(|word| !ends.contains(&word.text.as_str())) {
                args.next();
            }
            return Some(Test::Unsupported(other.to_owned()));
        }
    }
    let mut networks = Vec::new();
    while let Some(word) = args.peek().filter(|word| !ends.contains(&word.text.as_str())) {
        args.next();
        if word.text.starts_with('-') {
            args.error(
                word,
                "not-supported",
                format!("flag `{}` of acl is not supported; write the addresses", word.text),
                "",
            );
            return None;
        }
        match Network::parse(&word.text) {
            Ok(network) => networks.push(network),
            Err(message) => {
                args.error(word, "wrong-address", message, "write an address or a network, e.g. 10.0.0.0/8");
                return None;
            }
        }
    }
    if networks.is_empty() {
        args.error(criterion, "missing-value", "`src` needs addresses or networks", "");
        return None;
    }
    Some(Test::Source(networks))
}

/// `tcp-request ...`
pub(super) fn tcp_request(keyword: &Word, args: &mut Args<'_, '_>, proxy: &mut ProxyConfig) {
    let Some(stage) = args.value("connection, content or inspect-delay") else { return };
    let at = match stage.text.as_str() {
        "inspect-delay" => {
            args.time("a time");
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
    let place = args.place_to_here(keyword);
    let Some(action) = args.value("accept or reject") else { return };
    let does = match action.text.as_str() {
        "accept" => ClientAction::Accept,
        "reject" => ClientAction::Reject,
        other => {
            let message = format!(
                "`{} {} {other}` is not supported yet; leaving it out could let clients in that it keeps out",
                keyword.text, stage.text
            );
            args.error(action, "not-supported", message, "");
            args.skip_rest();
            return;
        }
    };
    if let Some(condition) = condition(args, proxy) {
        proxy.client_rules.push(ClientRule { stage: at, action: does, condition, place });
    } else {
        args.skip_rest();
    }
}

/// `use_backend NAME [if|unless ...]`
pub(super) fn use_backend(args: &mut Args<'_, '_>, proxy: &mut ProxyConfig) {
    let Some(name) = args.value("the name of a backend") else { return };
    let place = args.place(name);
    if let Some(condition) = condition(args, proxy) {
        proxy.backend_rules.push(BackendRule { backend: name.text.clone(), condition, place });
    } else {
        args.skip_rest();
    }
}

/// `[if|unless] [!]ACL ... [|| ...]` to the end of the line; `None` after an error.
fn condition(args: &mut Args<'_, '_>, proxy: &ProxyConfig) -> Option<Condition> {
    let mut condition = Condition::default();
    let Some(first) = args.next() else { return Some(condition) };
    condition.negated = match first.text.as_str() {
        "if" => false,
        "unless" => true,
        _ => {
            args.unknown(first, "word", &[&["if", "unless"]]);
            return None;
        }
    };
    let mut group = Vec::new();
    let mut wanted = true;
    while let Some(word) = args.next() {
        let mut name = word.text.as_str();
        if matches!(name, "||" | "or") {
            condition.groups.push(std::mem::take(&mut group));
            continue;
        }
        while let Some(rest) = name.strip_prefix('!') {
            (wanted, name) = (!wanted, rest);
        }
        if name.is_empty() {
            continue;
        }
        let (name, tests) = match name {
            "{" => (None, vec![anonymous(word, args)?]),
            name => (Some(name.to_owned()), named(name, word, args, proxy)?),
        };
        if let Some(Test::Unsupported(what)) = tests.iter().find(|test| matches!(test, Test::Unsupported(_)))
        {
            let message =
                format!("`{what}` looks at more than the client's address, which is not supported yet");
            args.error(word, "not-supported", message, "leaving the rule out would change who gets where");
            return None;
        }
        group.push(Term { negated: !wanted, name, tests });
        wanted = true;
    }
    condition.groups.push(group);
    if condition.groups.iter().any(Vec::is_empty) {
        args.error(first, "missing-value", format!("`{}` needs conditions", first.text), "");
        return None;
    }
    Some(condition)
}

/// `{ src 10.0.0.0/8 }`
fn anonymous(brace: &Word, args: &mut Args<'_, '_>) -> Option<Test> {
    let criterion = args.value("a test")?;
    let test = test(criterion, args, &["}"])?;
    if args.take("}") {
        return Some(test);
    }
    args.error(brace, "syntax", "`{` is not closed by `}`", "");
    None
}

fn named(name: &str, word: &Word, args: &mut Args<'_, '_>, proxy: &ProxyConfig) -> Option<Vec<Test>> {
    if let Some(known) = proxy.acls.iter().find(|known| known.name == name) {
        return Some(known.tests.clone());
    }
    match name {
        "TRUE" => return Some(vec![Test::Constant(true)]),
        "FALSE" => return Some(vec![Test::Constant(false)]),
        "LOCALHOST" => {
            return Network::parse("127.0.0.0/8").ok().map(|network| vec![Test::Source(vec![network])]);
        }
        _ => {}
    }
    let near = daemon::diagnostic::suggest(name, proxy.acls.iter().map(|known| known.name.as_str()));
    let label = near
        .map_or_else(|| "define it above with `acl`".to_owned(), |near| format!("did you mean `{near}`?"));
    args.error(word, "unknown-name", format!("there is no acl `{name}`"), &label);
    None
}
