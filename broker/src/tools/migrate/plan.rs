//! What of RabbitMQ's definitions comes along, what changes, and what has no counterpart here.

use super::summary::{entries, key};
use crate::auth;
use crate::ctl::escaped;
use crate::management::policy_check;
use crate::metadata::definitions::ImportError;
use broker_core::exchange::ExchangeType;
use broker_core::meta::access::Pattern;
use broker_core::meta::{HashAlgorithm, PasswordHash};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Lines below a note that a terminal gets.
const SHOWN: usize = 10;

/// A remark: what it is about stands first.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Note {
    kind: &'static str,
    text: String,
    details: Vec<String>,
}

impl Note {
    fn new(kind: &'static str, text: String) -> Self {
        Self { kind, text, details: Vec::new() }
    }

    fn with(mut self, details: Vec<String>) -> Self {
        self.details = details;
        self
    }

    /// With all lines below it.
    pub(super) fn whole(&self) -> String {
        self.lines(usize::MAX)
    }

    fn lines(&self, most: usize) -> String {
        // Names are those of another system: they neither steer a terminal nor begin a line.
        let mut text = format!("{:<8}{}", self.kind, escaped(&self.text));
        for detail in self.details.iter().take(most) {
            text += &format!("\n        {}", escaped(detail));
        }
        if self.details.len() > most {
            text += &format!("\n        and {} more: --report FILE lists them", self.details.len() - most);
        }
        text
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines(SHOWN))
    }
}

/// What is to be written, and what is to be said about it.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// What a node of ours takes.
    pub(super) definitions: Value,
    /// Remarks, in the order in which they are shown.
    pub(super) notes: Vec<Note>,
    /// Quorum queues.
    pub(super) quorum: Vec<String>,
}

impl Plan {
    /// Looks through definitions. `there` is what the node has, `nodes` are those of its cluster, as far as known.
    pub(super) fn make(definitions: &Value, there: Option<&Value>, nodes: &[String]) -> Self {
        let mut plan = Self { definitions: definitions.clone(), ..Self::default() };
        let users = plan.users();
        plan.vhosts();
        plan.policies(nodes);
        let exchanges = plan.exchanges();
        let queues = plan.queues();
        plan.follow(&users, &exchanges, &queues);
        plan.parameters();
        plan.global_parameters(there);
        if let Some(there) = there {
            plan.conflicts(there);
        }
        plan
    }

    /// Notes what a node that has nothing yet would refuse.
    pub(super) fn doubt(&mut self, refused: &[ImportError]) {
        if !refused.is_empty() {
            let text = "a node that has nothing of its own would refuse some of it:".to_owned();
            self.say("warn", text, refused.iter().map(ToString::to_string).collect());
        }
    }

    /// Whether a user of that name comes along.
    pub(super) fn has_user(&self, user: &str) -> bool {
        entries(&self.definitions, "users").any(|it| it["name"] == user)
    }

    fn say(&mut self, kind: &'static str, text: String, details: Vec<String>) {
        self.notes.push(Note::new(kind, text).with(details));
    }

    /// Takes the entries of a part out that `refuse` has a reason against.
    fn refuse(&mut self, part: &str, refuse: impl Fn(&Value) -> Option<String>) -> Vec<(Value, String)> {
        let Some(list) = list_mut(&mut self.definitions, part) else { return Vec::new() };
        let mut refused = Vec::new();
        list.retain(|entry| match refuse(entry) {
            Some(reason) => {
                refused.push((entry.clone(), reason));
                false
            }
            None => true,
        });
        refused
    }

    /// The users that do not come along.
    fn users(&mut self) -> BTreeSet<String> {
        let refused = self.refuse("users", wrong_password);
        for (user, reason) in &refused {
            self.say("skip", format!("user {}: {reason}", name(user)), Vec::new());
        }
        let mut by_hash: BTreeMap<&str, usize> = BTreeMap::new();
        let mut without = Vec::new();
        for user in entries(&self.definitions, "users") {
            let hash = user["password_hash"].as_str().unwrap_or_default();
            if !hash.is_empty() {
                let algorithm = user["hashing_algorithm"].as_str().unwrap_or(SHA_256);
                *by_hash.entry(hash_words(algorithm)).or_default() += 1;
            } else if user["password"].as_str().is_none_or(str::is_empty) {
                without.push(name(user));
            }
        }
        let kept: usize = by_hash.values().sum();
        if kept > 0 {
            let hashes: Vec<&str> = by_hash.into_keys().collect();
            let keep = if kept == 1 { "user keeps its password" } else { "users keep their passwords" };
            self.say("ok", format!("{kept} {keep} ({} hashes understood)", hashes.join(", ")), Vec::new());
        }
        if !without.is_empty() {
            self.say("note", format!("without a password, as there: {}", without.join(", ")), Vec::new());
        }
        refused.iter().map(|(user, _)| name(user)).collect()
    }

    /// Default queue types that are none here.
    fn vhosts(&mut self) {
        let mut changed = Vec::new();
        for vhost in list_mut(&mut self.definitions, "vhosts").into_iter().flatten() {
            let shown = name(vhost);
            let Some(fields) = vhost.as_object_mut() else { continue };
            match fields.get("default_queue_type").and_then(Value::as_str) {
                None | Some("classic" | "quorum") => {}
                // What newer versions write for none.
                Some("undefined") => drop(fields.remove("default_queue_type")),
                Some(other) => {
                    changed.push(format!("vhost {shown}: default queue type {other} → classic"));
                    fields.remove("default_queue_type");
                }
            }
        }
        for text in changed {
            self.say("change", text, Vec::new());
        }
    }

    fn policies(&mut self, nodes: &[String]) {
        let mut notes = Vec::new();
        let mut mirrored: Vec<(String, String)> = Vec::new();
        let Some(list) = list_mut(&mut self.definitions, "policies") else { return };
        list.retain_mut(|policy| {
            let shown = name(policy);
            let pattern = policy["pattern"].as_str().unwrap_or_default();
            if let Err(error) = Pattern::new(pattern) {
                let text = format!("policy {shown}: `{pattern}` is no regular expression here: {error}");
                notes.push(Note::new("skip", text));
                return false;
            }
            let definition = policy.get_mut("definition").and_then(Value::as_object_mut);
            let Some(definition) = definition else { return true };
            let unknown: Vec<String> =
                definition.keys().filter(|key| !policy_check::is_known(key)).cloned().collect();
            for key in &unknown {
                definition.remove(key);
            }
            if !unknown.is_empty() {
                let keys = unknown.join(", ");
                let rest =
                    if definition.is_empty() { "; nothing is left of it" } else { "; the rest is kept" };
                notes
                    .push(Note::new("skip", format!("policy {shown}: {keys} has no counterpart here{rest}")));
            }
            if definition.is_empty() {
                return false;
            }
            if let Err(reason) = policy_check::check(definition, false) {
                notes.push(Note::new("skip", format!("policy {shown}: {reason}")));
                return false;
            }
            if let Some(words) = mirror_words(definition) {
                mirrored.push((shown.clone(), words));
            }
            notes.extend(unknown_nodes(&shown, definition, nodes));
            true
        });
        if !mirrored.is_empty() {
            let names: Vec<&str> = mirrored.iter().map(|(name, _)| name.as_str()).collect();
            let words: Vec<&str> = mirrored.iter().map(|(_, words)| words.as_str()).collect();
            let kind = if names.len() == 1 { "policy" } else { "policies" };
            let text =
                format!("{kind} {} → mirrored queues (ha-mode {})", names.join(", "), words.join(" / "));
            self.notes.push(Note::new("ok", text));
        }
        self.notes.extend(notes);
    }

    /// The exchanges that do not come along, as vhost and name.
    fn exchanges(&mut self) -> BTreeSet<String> {
        let refused = self.refuse("exchanges", |exchange| {
            let kind = exchange["type"].as_str().unwrap_or_default();
            let known = |kind: &str| ExchangeType::from_name(kind).is_some();
            if !known(kind) {
                return Some(format!("type {kind} is not here"));
            }
            let delayed = exchange["arguments"]["x-delayed-type"].as_str();
            let unknown = delayed.filter(|it| kind == "x-delayed-message" && !known(it));
            unknown.map(|it| format!("x-delayed-type {it} is not here"))
        });
        self.tell_skipped("exchange", &refused);
        refused.iter().map(|(exchange, _)| key(exchange, PLACE)).collect()
    }

    /// The queues that do not come along, as vhost and name.
    fn queues(&mut self) -> BTreeSet<String> {
        let refused = self.refuse("queues", |queue| match queue_type(queue) {
            "classic" | "quorum" => None,
            "stream" => Some("streams are not here".to_owned()),
            other => Some(format!("x-queue-type={other} is not here")),
        });
        self.tell_skipped("queue", &refused);
        let quorum: Vec<(String, u64)> = entries(&self.definitions, "queues")
            .filter(|queue| queue_type(queue) == "quorum")
            .map(|queue| {
                let copies = queue["arguments"]["x-quorum-initial-group-size"].as_u64().unwrap_or(3);
                (in_vhost(queue), copies)
            })
            .collect();
        for (queue, copies) in &quorum {
            let text = format!(
                "queue {queue}: x-queue-type=quorum → mirrored, up to {copies} copies, majority confirm   (--keep-type to refuse instead)"
            );
            self.say("change", text, Vec::new());
        }
        self.quorum = quorum.into_iter().map(|(queue, _)| queue).collect();
        refused.iter().map(|(queue, _)| key(queue, PLACE)).collect()
    }

    fn tell_skipped(&mut self, what: &str, refused: &[(Value, String)]) {
        let mut by_reason: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for (entry, reason) in refused {
            by_reason.entry(reason).or_default().push(in_vhost(entry));
        }
        for (reason, names) in by_reason {
            match names.as_slice() {
                [one] => self.say("skip", format!("{what} {one}: {reason}"), Vec::new()),
                _ => self.say("skip", format!("{} {what}s: {reason}", names.len()), names),
            }
        }
    }

    /// Takes out what names something that does not come along.
    fn follow(&mut self, users: &BTreeSet<String>, exchanges: &BTreeSet<String>, queues: &BTreeSet<String>) {
        for part in ["permissions", "topic_permissions"] {
            self.refuse(part, |it| {
                let of_nobody = it["user"].as_str().is_some_and(|user| users.contains(user));
                of_nobody.then(String::new)
            });
        }
        let dangling = self.refuse("bindings", |binding| {
            let end = |field: &str| key(binding, &["vhost", field]);
            let destination = match binding["destination_type"].as_str() {
                Some("exchange") => exchanges.contains(&end("destination")),
                _ => queues.contains(&end("destination")),
            };
            (destination || exchanges.contains(&end("source"))).then(String::new)
        });
        if !dangling.is_empty() {
            let shown = dangling.iter().map(|(binding, _)| {
                let of = |field: &str| binding[field].as_str().unwrap_or_default().to_owned();
                format!("{} → {} ({})", of("source"), of("destination"), of("routing_key"))
            });
            let text = format!("{} bindings of what does not come along", dangling.len());
            self.say("skip", text, shown.collect());
        }
    }

    fn parameters(&mut self) {
        let refused = self.refuse("parameters", |parameter| {
            let component = parameter["component"].as_str().unwrap_or_default();
            let known = ["vhost-limits", "operator_policy", "policy"].contains(&component);
            (!known).then(|| component.to_owned())
        });
        let mut by_component: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for (parameter, component) in &refused {
            by_component.entry(component).or_default().push(in_vhost(parameter));
        }
        for (component, names) in by_component {
            let text = format!("parameters component={component} ({}): no such plugin here", names.len());
            self.say("skip", text, names);
        }
    }

    fn global_parameters(&mut self, there: Option<&Value>) {
        let refused = self.refuse("global_parameters", |parameter| {
            (parameter["name"] != "cluster_name").then(|| name(parameter))
        });
        // Every RabbitMQ has one of its own.
        let told: Vec<&str> = refused
            .iter()
            .map(|(_, name)| name.as_str())
            .filter(|name| *name != "internal_cluster_id")
            .collect();
        if !told.is_empty() {
            self.say("skip", format!("global parameters {}", told.join(", ")), Vec::new());
        }
        let named = |all: &Value| {
            entries(all, "global_parameters")
                .find(|it| it["name"] == "cluster_name")
                .and_then(|it| it["value"].as_str().map(str::to_owned))
        };
        let (old, new) = (there.and_then(&named), named(&self.definitions));
        if let Some(new) = new.filter(|new| there.is_some() && old.as_ref() != Some(new)) {
            self.say("change", format!("this cluster is called {new} then"), Vec::new());
        }
    }

    /// What is there already and is something else.
    fn conflicts(&mut self, there: &Value) {
        for (part, what, fields) in [
            ("queues", "queue", &["durable", "auto_delete", "arguments"][..]),
            ("exchanges", "exchange", &["type", "durable", "auto_delete", "internal", "arguments"][..]),
        ] {
            let known: BTreeMap<String, String> =
                entries(there, part).map(|it| (key(it, PLACE), key(it, fields))).collect();
            let different: Vec<String> = entries(&self.definitions, part)
                .filter(|it| known.get(&key(it, PLACE)).is_some_and(|known| *known != key(it, fields)))
                .map(in_vhost)
                .collect();
            for one in different {
                let text = format!("{what} {one} is here already with other properties: it stays as it is");
                self.say("warn", text, Vec::new());
            }
        }
        for (part, what, place, fields) in [
            ("policies", "policies", PLACE, &["pattern", "definition", "priority", "apply-to"][..]),
            ("permissions", "permissions of users", &["vhost", "user"], &["configure", "write", "read"]),
            ("parameters", "limits and operator policies", &["vhost", "component", "name"], &["value"]),
        ] {
            let known: BTreeMap<String, String> =
                entries(there, part).map(|it| (key(it, place), key(it, fields))).collect();
            let replaced: Vec<String> = entries(&self.definitions, part)
                .filter(|it| known.get(&key(it, place)).is_some_and(|known| *known != key(it, fields)))
                .map(|it| if it["user"].is_string() { of_user(it) } else { in_vhost(it) })
                .collect();
            if !replaced.is_empty() {
                let text = format!("{what} of this node become those from there: {}", replaced.join(", "));
                self.say("warn", text, Vec::new());
            }
        }
        let users: BTreeSet<&str> = entries(there, "users").filter_map(|it| it["name"].as_str()).collect();
        let replaced: Vec<String> =
            entries(&self.definitions, "users").map(name).filter(|it| users.contains(it.as_str())).collect();
        if !replaced.is_empty() {
            let text =
                format!("users of this node get the password and tags from there: {}", replaced.join(", "));
            self.say("warn", text, Vec::new());
        }
    }
}

/// What tells queues and exchanges apart.
const PLACE: &[&str] = &["vhost", "name"];
const SHA_256: &str = "rabbit_password_hashing_sha256";

/// A part, where there is one: asking for it by its name alone would make it.
fn list_mut<'d>(definitions: &'d mut Value, part: &str) -> Option<&'d mut Vec<Value>> {
    definitions.get_mut(part)?.as_array_mut()
}

fn name(entry: &Value) -> String {
    entry["name"].as_str().unwrap_or_default().to_owned()
}

/// The name, with the vhost where that is not `/`.
fn in_vhost(entry: &Value) -> String {
    match entry["vhost"].as_str() {
        None | Some("/") => name(entry),
        Some(vhost) => format!("{} (vhost {vhost})", name(entry)),
    }
}

/// The user, with the vhost where that is not `/`.
fn of_user(entry: &Value) -> String {
    in_vhost(&serde_json::json!({"name": entry["user"], "vhost": entry["vhost"]}))
}

fn queue_type(queue: &Value) -> &str {
    queue["arguments"]["x-queue-type"].as_str().or_else(|| queue["type"].as_str()).unwrap_or("classic")
}

fn hash_words(algorithm: &str) -> &'static str {
    match algorithm {
        "rabbit_password_hashing_sha512" => "SHA-512",
        "rabbit_password_hashing_md5" => "MD5",
        SHA_256 => "SHA-256",
        _ => "argon2id",
    }
}

/// Why a user's password can not be taken.
fn wrong_password(user: &Value) -> Option<String> {
    let hash = user["password_hash"].as_str().filter(|hash| !hash.is_empty())?;
    let algorithm = user["hashing_algorithm"].as_str().unwrap_or(SHA_256);
    let Some(known) = HashAlgorithm::from_name(algorithm) else {
        return Some(format!("the hash of its password is {algorithm}, which is not known here"));
    };
    let stored = PasswordHash { algorithm: known, hash: hash.to_owned() };
    (!auth::hash_is_well_formed(&stored)).then(|| format!("its password_hash is no hash of {algorithm}"))
}

fn mirror_words(definition: &Map<String, Value>) -> Option<String> {
    let mode = definition.get("ha-mode")?.as_str()?;
    Some(match (mode, definition.get("ha-params")) {
        ("exactly", Some(count)) => format!("exactly {count}"),
        _ => mode.to_owned(),
    })
}

/// Nodes that a policy names and this cluster does not have.
fn unknown_nodes(policy: &str, definition: &Map<String, Value>, nodes: &[String]) -> Option<Note> {
    if nodes.is_empty() || definition.get("ha-mode").and_then(Value::as_str) != Some("nodes") {
        return None;
    }
    let wanted = definition.get("ha-params")?.as_array()?.iter().filter_map(Value::as_str);
    let unknown: Vec<&str> = wanted.filter(|wanted| !nodes.iter().any(|node| node == wanted)).collect();
    (!unknown.is_empty()).then(|| {
        let text = format!("policy {policy} names {}, which is no node of this cluster", unknown.join(", "));
        Note::new("warn", text)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn told(definitions: &Value, there: Option<&Value>, nodes: &[&str]) -> (Plan, String) {
        let nodes: Vec<String> = nodes.iter().map(ToString::to_string).collect();
        let plan = Plan::make(definitions, there, &nodes);
        let text: Vec<String> = plan.notes.iter().map(ToString::to_string).collect();
        (plan, text.join("\n"))
    }

    #[test]
    fn what_has_no_counterpart_is_left_out_with_what_hangs_on_it() {
        let definitions = json!({
            "users": [{"name": "x", "password_hash": "AAAA", "hashing_algorithm": "my_hash"}],
            "permissions": [{"user": "x", "vhost": "/", "configure": "", "write": "", "read": ""}],
            "vhosts": [{"name": "/", "default_queue_type": "undefined"}, {"name": "s", "default_queue_type": "stream"}],
            "queues": [
                {"vhost": "/", "name": "log", "arguments": {"x-queue-type": "stream"}},
                {"vhost": "v", "name": "q", "arguments": {}},
            ],
            "exchanges": [{"vhost": "/", "name": "r", "type": "x-random", "arguments": {}}],
            "bindings": [
                {"vhost": "/", "source": "amq.topic", "destination": "log", "destination_type": "queue", "routing_key": "#"},
                {"vhost": "v", "source": "r", "destination": "q", "destination_type": "queue", "routing_key": ""},
                {"vhost": "/", "source": "r", "destination": "q", "destination_type": "queue", "routing_key": ""},
            ],
            "parameters": [
                {"component": "shovel", "vhost": "/", "name": "s", "value": {}},
                {"component": "vhost-limits", "vhost": "/", "name": "limits", "value": {"max-queues": 1}},
            ],
            "global_parameters": [{"name": "internal_cluster_id", "value": "x"}, {"name": "mine", "value": 1}],
        });
        let (plan, text) = told(&definitions, None, &[]);
        let left = |part: &str| plan.definitions[part].as_array().unwrap().len();
        assert_eq!(
            ["users", "permissions", "queues", "exchanges", "bindings", "parameters"].map(left),
            [0, 0, 1, 0, 1, 1]
        );
        assert_eq!(left("global_parameters"), 0);
        for line in [
            "skip    user x: the hash of its password is my_hash, which is not known here",
            "change  vhost s: default queue type stream → classic",
            "skip    exchange r: type x-random is not here",
            "skip    queue log: streams are not here",
            "skip    2 bindings of what does not come along",
            "skip    parameters component=shovel (1): no such plugin here",
            "skip    global parameters mine",
        ] {
            assert!(text.lines().any(|it| it == line), "{line}\n\n{text}");
        }
        assert!(!text.contains("vhost /"), "{text}");
    }

    #[test]
    fn what_is_replaced_here_is_told() {
        let of = |count: u64, write: &str| {
            json!({
                "policies": [{"vhost": "/", "name": "ha", "pattern": "^", "apply-to": "all", "priority": 0,
                    "definition": {"ha-mode": "exactly", "ha-params": count}}],
                "permissions": [{"user": "u", "vhost": "v", "configure": "", "write": write, "read": ""}],
                "parameters": [{"component": "vhost-limits", "vhost": "/", "name": "limits", "value": {"max-queues": count}}],
            })
        };
        let (_, text) = told(&of(2, ".*"), Some(&of(3, "")), &[]);
        for line in [
            "warn    policies of this node become those from there: ha",
            "warn    permissions of users of this node become those from there: u (vhost v)",
            "warn    limits and operator policies of this node become those from there: limits",
        ] {
            assert!(text.lines().any(|it| it == line), "{line}\n\n{text}");
        }
        let (_, text) = told(&of(2, ""), Some(&of(2, "")), &[]);
        assert!(!text.contains("become those"), "{text}");
    }

    #[test]
    fn policies_lose_what_is_unknown_and_name_nodes_that_are_not_there() {
        let policy = |name: &str, definition: Value| json!({"vhost": "/", "name": name, "pattern": "^", "definition": definition, "apply-to": "all"});
        let definitions = json!({"policies": [
            policy("all", json!({"ha-mode": "all"})),
            policy("two", json!({"ha-mode": "exactly", "ha-params": 2, "federation-upstream-set": "all"})),
            policy("fed", json!({"federation-upstream": "x"})),
            policy("on", json!({"ha-mode": "nodes", "ha-params": ["rabbit@A", "rabbit@Z"]})),
            policy("bad", json!({"max-length": -1})),
            json!({"vhost": "/", "name": "re", "pattern": "(", "definition": {"expires": 1}}),
        ]});
        let (plan, text) = told(&definitions, None, &["rabbit@A"]);
        let kept: Vec<String> = entries(&plan.definitions, "policies").map(name).collect();
        assert_eq!(kept, ["all", "two", "on"]);
        for line in [
            "ok      policies all, two, on → mirrored queues (ha-mode all / exactly 2 / nodes)",
            "skip    policy two: federation-upstream-set has no counterpart here; the rest is kept",
            "skip    policy fed: federation-upstream has no counterpart here; nothing is left of it",
            "warn    policy on names rabbit@Z, which is no node of this cluster",
        ] {
            assert!(text.lines().any(|it| it == line), "{line}\n\n{text}");
        }
        assert!(text.contains("skip    policy bad: ") && text.contains("skip    policy re: "), "{text}");
    }

    #[test]
    fn what_is_here_already_and_differs_is_told() {
        let queue =
            |durable: bool| json!({"vhost": "/", "name": "q", "durable": durable, "auto_delete": false});
        let definitions = json!({
            "queues": [queue(true)], "users": [{"name": "guest"}],
            "global_parameters": [{"name": "cluster_name", "value": "old"}],
        });
        let there = json!({"queues": [queue(false)], "users": [{"name": "guest"}]});
        let (_, text) = told(&definitions, Some(&there), &[]);
        for part in
            ["warn    queue q is here already", "get the password and tags from there: guest", "called old"]
        {
            assert!(text.contains(part), "{part}\n\n{text}");
        }
        let (_, text) = told(&definitions, Some(&definitions), &[]);
        assert!(!text.contains("queue q"), "{text}");
    }

    #[test]
    fn control_characters_of_names_are_not_printed() {
        let note = Note::new("skip", "queue a\u{1b}[2J\nok      b".to_owned()).with(vec!["c\rd".to_owned()]);
        assert_eq!(note.to_string(), "skip    queue a\\u{1b}[2J\\nok      b\n        c\\rd");
        assert_eq!(note.whole(), note.to_string());
    }

    #[test]
    fn a_long_list_is_cut_on_a_terminal_and_whole_in_the_report() {
        let names: Vec<String> = (0..12).map(|number| format!("q{number}")).collect();
        let note = Note::new("skip", "12 queues: streams are not here".to_owned()).with(names);
        assert!(note.to_string().contains("q9") && !note.to_string().contains("q11"));
        assert!(note.to_string().ends_with("and 2 more: --report FILE lists them"));
        assert!(note.whole().ends_with("q11"));
    }
}
