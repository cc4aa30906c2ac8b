//! Counting: what definitions have, and what a node lacks of them.

use super::source::Read;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt;

/// The parts of definitions, with the fields that tell one thing from another.
const PARTS: [(&str, &[&str]); 8] = [
    ("users", &["name"]),
    ("vhosts", &["name"]),
    ("queues", &["vhost", "name"]),
    ("exchanges", &["vhost", "name"]),
    ("bindings", &["vhost", "source", "destination_type", "destination", "routing_key", "arguments"]),
    ("policies", &["vhost", "name"]),
    ("permissions", &["vhost", "user"]),
    ("topic_permissions", &["vhost", "user", "exchange"]),
];

/// What definitions have, on one line.
pub(super) fn read_line(read: &Read) -> String {
    let all = &read.definitions;
    let version = ["rabbitmq_version", "rabbit_version"].iter().find_map(|key| all[key].as_str());
    let product = all["product_name"].as_str().unwrap_or("RabbitMQ");
    let mut parts = vec![format!("{product} {}", version.unwrap_or("of an unknown version"))];
    for (part, _) in PARTS {
        let count = entries(all, part).count();
        if count > 0 && part != "permissions" {
            parts.push(format!("{} {count}", part.replace('_', " ")));
        }
    }
    let limits = entries(all, "parameters").filter(|it| it["component"] == "vhost-limits").count();
    let of_users =
        entries(all, "users").filter(|it| it["limits"].as_object().is_some_and(|it| !it.is_empty()));
    let limits = limits + of_users.count();
    if limits > 0 {
        parts.push(format!("limits {limits}"));
    }
    format!("{:<8}{}  {}", "read", read.from, parts.join(" · "))
}

/// The entries of a part.
pub(super) fn entries<'d>(definitions: &'d Value, part: &str) -> impl Iterator<Item = &'d Value> {
    definitions[part].as_array().into_iter().flatten()
}

/// How many of each part a node lacks.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Difference(Vec<(&'static str, usize)>);

impl Difference {
    /// What of `wanted` is not in `there`; everything, where nothing is known of that.
    pub(super) fn between(wanted: &Value, there: Option<&Value>) -> Self {
        let mut all = Vec::new();
        for (part, keys) in PARTS {
            let known: BTreeSet<String> = match there {
                Some(there) => entries(there, part).map(|entry| key(entry, keys)).collect(),
                None => BTreeSet::new(),
            };
            let lacking: BTreeSet<String> = entries(wanted, part)
                .map(|entry| key(entry, keys))
                .filter(|key| !known.contains(key))
                .collect();
            if !lacking.is_empty() {
                all.push((part, lacking.len()));
            }
        }
        Self(all)
    }

    /// Nothing is lacking.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("nothing new");
        }
        let parts: Vec<String> =
            self.0.iter().map(|(part, count)| format!("{count} {}", words(part, *count))).collect();
        f.write_str(&parts.join(", "))
    }
}

/// The name of a part for so many.
fn words(part: &str, count: usize) -> String {
    let plural = part.replace('_', " ");
    match count {
        1 if plural == "policies" => "policy".to_owned(),
        1 if !plural.ends_with("permissions") => plural.trim_end_matches('s').to_owned(),
        _ => plural,
    }
}

/// What tells an entry from the others of its part. What is left out is the same as nothing, an empty list or a no.
pub(super) fn key(entry: &Value, fields: &[&str]) -> String {
    let of = |field: &&str| match &entry[*field] {
        Value::Array(none) if none.is_empty() => String::new(),
        Value::Object(none) if none.is_empty() => String::new(),
        Value::Null | Value::Bool(false) => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    fields.iter().map(of).collect::<Vec<_>>().join("\u{1f}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_a_node_lacks_is_counted_by_what_tells_things_apart() {
        let wanted = json!({
            "users": [{"name": "a"}, {"name": "b"}],
            "queues": [{"vhost": "/", "name": "q", "durable": true}, {"vhost": "v", "name": "q"}],
            "bindings": [{"vhost": "/", "source": "x", "destination_type": "queue", "destination": "q",
                "routing_key": "k", "arguments": {}}],
        });
        let there = json!({
            "users": [{"name": "a", "tags": "x"}],
            "queues": [{"vhost": "v", "name": "q"}],
            "bindings": [{"vhost": "/", "source": "x", "destination_type": "queue", "destination": "q",
                "routing_key": "k", "arguments": []}],
        });
        assert_eq!(Difference::between(&wanted, Some(&there)).to_string(), "1 user, 1 queue");
        assert_eq!(Difference::between(&wanted, None).to_string(), "2 users, 2 queues, 1 binding");
        assert_eq!(Difference::between(&there, Some(&there)).to_string(), "nothing new");
    }

    #[test]
    fn the_line_about_a_file_counts_what_people_look_for() {
        let definitions = json!({
            "rabbitmq_version": "3.10.8", "product_name": "RabbitMQ",
            "users": [{"name": "a", "limits": {"max-channels": 3}}], "vhosts": [{"name": "/"}],
            "topic_permissions": [{}], "parameters": [{"component": "vhost-limits"}], "permissions": [{}],
        });
        let read = Read { from: "d.json".to_owned(), definitions, queues: None, hint: None };
        assert_eq!(
            read_line(&read),
            "read    d.json  RabbitMQ 3.10.8 · users 1 · vhosts 1 · topic permissions 1 · limits 2"
        );
    }
}
