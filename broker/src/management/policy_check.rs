//! Which definitions of policies and operator policies are valid. The texts are RabbitMQ's.

use serde_json::{Map, Value};

/// What an operator policy may say; the rest is for policies.
const FOR_OPERATORS: [&str; 7] = [
    "expires",
    "message-ttl",
    "max-length",
    "max-length-bytes",
    "max-in-memory-length",
    "max-in-memory-bytes",
    "delivery-limit",
];

/// Says what is wrong with a definition.
pub(crate) fn check(definition: &Map<String, Value>, operator: bool) -> Result<(), String> {
    if definition.is_empty() {
        return Err("no policy provided".to_owned());
    }
    let known = |key: &str| (!operator && is_known(key)) || FOR_OPERATORS.contains(&key);
    let unknown: Vec<String> = definition
        .iter()
        .filter(|(key, _)| !known(key))
        .map(|(key, value)| format!("{{<<\"{key}\">>,{}}}", term(value)))
        .collect();
    if !unknown.is_empty() {
        return Err(format!("[{}] are not recognised policy settings", unknown.join(",")));
    }
    for (key, value) in definition {
        let invalid_locator = |word: &str| !matches!(word, "client-local" | "min-masters" | "random");
        if key == "queue-master-locator" && value.as_str().is_none_or(invalid_locator) {
            return Err(format!("{} invalid queue-master-locator value", term(value)));
        }
        if let Some(what) = wrong(key, value) {
            return Err(format!("{} is not a valid {what}", term(value)));
        }
    }
    check_mirroring(definition)
}

/// Whether a policy may say this.
pub(crate) fn is_known(key: &str) -> bool {
    FOR_OPERATORS.contains(&key)
        || matches!(
            key,
            "alternate-exchange"
                | "dead-letter-exchange"
                | "dead-letter-routing-key"
                | "dead-letter-strategy"
                | "queue-mode"
                | "queue-version"
                | "overflow"
                | "queue-leader-locator"
                | "queue-master-locator"
                | "consumer-timeout"
                | "ha-mode"
                | "ha-params"
                | "ha-sync-mode"
                | "ha-sync-batch-size"
                | "ha-promote-on-shutdown"
                | "ha-promote-on-failure"
                | "ha-min-in-sync"
        )
}

/// What the value is not, if it is wrong. Mirroring is looked at as a whole.
fn wrong(key: &str, value: &Value) -> Option<&'static str> {
    // Larger numbers than 64 bits hold come as numbers with a fraction; RabbitMQ takes them as they are.
    let number = |least: u64| {
        value.as_u64().is_some_and(|number| number >= least)
            || value.as_f64().is_some_and(|number| number.fract() == 0.0 && number >= u64::MAX as f64)
    };
    let word = |words: &[&str]| value.as_str().is_some_and(|word| words.contains(&word));
    let (fine, what) = match key {
        "message-ttl" => (number(0), "message TTL"),
        "expires" => (number(1), "queue expiry"),
        "max-length" => (number(0), "maximum length"),
        "max-length-bytes" => (number(0), "maximum length in bytes"),
        "max-in-memory-length" | "max-in-memory-bytes" => (number(0), "maximum memory in bytes"),
        "delivery-limit" => (number(0), "delivery limit"),
        "consumer-timeout" => (number(0), "consumer timeout"),
        "alternate-exchange" => (value.is_string(), "alternate exchange name"),
        "dead-letter-exchange" => (value.is_string(), "dead letter exchange name"),
        "dead-letter-routing-key" => (value.is_string(), "dead letter routing key"),
        "dead-letter-strategy" => (word(&["at-most-once", "at-least-once"]), "dead letter strategy"),
        "queue-mode" => (word(&["default", "lazy"]), "queue-mode value"),
        "queue-version" => (matches!(value.as_u64(), Some(1 | 2)), "queue-version value"),
        "overflow" => (word(&["drop-head", "reject-publish", "reject-publish-dlx"]), "overflow value"),
        "queue-leader-locator" => {
            (word(&["client-local", "balanced", "random", "least-leaders"]), "queue leader locator value")
        }
        "ha-mode" => (word(&["all", "exactly", "nodes"]), "ha-mode value"),
        _ => (true, ""),
    };
    (!fine).then_some(what)
}

fn check_mirroring(definition: &Map<String, Value>) -> Result<(), String> {
    let Some(mode) = definition.get("ha-mode").and_then(Value::as_str) else {
        return match definition.keys().any(|key| key.starts_with("ha-")) {
            true => {
                Err("ha-mode must be specified to specify ha-params, ha-sync-mode or ha-promote-on-shutdown"
                    .to_owned())
            }
            false => Ok(()),
        };
    };
    let params = definition.get("ha-params");
    let given = || params.map_or_else(|| "none".to_owned(), term);
    match (mode, params) {
        ("exactly", Some(count)) if count.as_u64().is_some_and(|count| count > 0) => {}
        ("exactly", _) => return Err(format!("ha-mode=\"exactly\" takes an integer, {} given", given())),
        ("nodes", Some(Value::Array(nodes))) => {
            if nodes.is_empty() {
                return Err("ha-mode=\"nodes\" list must be non-empty".to_owned());
            }
            let others: Vec<String> = nodes.iter().filter(|node| !node.is_string()).map(term).collect();
            if !others.is_empty() {
                let others = others.join(",");
                return Err(format!(
                    "ha-mode=\"nodes\" takes a list of strings, [{others}] was not a string"
                ));
            }
        }
        ("nodes", _) => return Err(format!("ha-mode=\"nodes\" takes a list, {} given", given())),
        ("all", Some(_)) => return Err("ha-mode=\"all\" does not take parameters".to_owned()),
        _ => {}
    }
    // In RabbitMQ's order: of several mistakes it names the first.
    word_of_two(definition, "ha-sync-mode", ["manual", "automatic"])?;
    at_least_one(definition, "ha-sync-batch-size")?;
    word_of_two(definition, "ha-promote-on-shutdown", ["always", "when-synced"])?;
    word_of_two(definition, "ha-promote-on-failure", ["always", "when-synced"])?;
    at_least_one(definition, "ha-min-in-sync")
}

fn word_of_two(definition: &Map<String, Value>, key: &str, words: [&str; 2]) -> Result<(), String> {
    match definition.get(key) {
        Some(given) if !given.as_str().is_some_and(|word| words.contains(&word)) => {
            let [one, other] = words;
            Err(format!("{key} must be \"{one}\" or \"{other}\", got {}", term(given)))
        }
        _ => Ok(()),
    }
}

fn at_least_one(definition: &Map<String, Value>, key: &str) -> Result<(), String> {
    match definition.get(key) {
        Some(given) if given.as_u64().is_none_or(|number| number == 0) => {
            Err(format!("{key} takes an integer greater than 0, {} given", term(given)))
        }
        _ => Ok(()),
    }
}

/// A value as Erlang prints it.
fn term(value: &Value) -> String {
    match value {
        Value::String(text) => {
            let mut shown = String::new();
            amqp::erlang::push_binary(&mut shown, text.as_bytes());
            shown
        }
        Value::Array(values) => format!("[{}]", values.iter().map(term).collect::<Vec<_>>().join(",")),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(definition: &Value, operator: bool) -> Result<(), String> {
        check(definition.as_object().unwrap(), operator)
    }

    #[test]
    fn values_that_mean_nothing_are_named_in_rabbitmqs_words() {
        let cases = [
            (serde_json::json!({"max-length": -1}), "-1 is not a valid maximum length"),
            (serde_json::json!({"expires": 0}), "0 is not a valid queue expiry"),
            (serde_json::json!({"overflow": "foo"}), "<<\"foo\">> is not a valid overflow value"),
            (serde_json::json!({"queue-version": 3}), "3 is not a valid queue-version value"),
            (
                serde_json::json!({"dead-letter-strategy": "x"}),
                "<<\"x\">> is not a valid dead letter strategy",
            ),
            (serde_json::json!({"foo": 1}), "[{<<\"foo\">>,1}] are not recognised policy settings"),
            (serde_json::json!({"ha-mode": "exactly"}), "ha-mode=\"exactly\" takes an integer, none given"),
            (
                serde_json::json!({"ha-mode": "exactly", "ha-params": 0}),
                "ha-mode=\"exactly\" takes an integer, 0 given",
            ),
            (
                serde_json::json!({"ha-mode": "nodes", "ha-params": []}),
                "ha-mode=\"nodes\" list must be non-empty",
            ),
            (
                serde_json::json!({"ha-mode": "all", "ha-params": 2}),
                "ha-mode=\"all\" does not take parameters",
            ),
            (
                serde_json::json!({"ha-mode": "all", "ha-sync-mode": "never"}),
                "ha-sync-mode must be \"manual\" or \"automatic\", got <<\"never\">>",
            ),
            (
                serde_json::json!({"ha-mode": "all", "ha-promote-on-failure": true}),
                "ha-promote-on-failure must be \"always\" or \"when-synced\", got true",
            ),
            (
                serde_json::json!({"ha-mode": "all", "ha-promote-on-shutdown": "x"}),
                "ha-promote-on-shutdown must be \"always\" or \"when-synced\", got <<\"x\">>",
            ),
            (
                serde_json::json!({"ha-mode": "all", "ha-sync-batch-size": 0}),
                "ha-sync-batch-size takes an integer greater than 0, 0 given",
            ),
            (
                serde_json::json!({"ha-mode": "all", "ha-promote-on-failure": 1, "ha-sync-mode": "x"}),
                "ha-sync-mode must be \"manual\" or \"automatic\", got <<\"x\">>",
            ),
            (
                serde_json::json!({"ha-mode": "nodes", "ha-params": ["a", 1, 2]}),
                "ha-mode=\"nodes\" takes a list of strings, [1,2] was not a string",
            ),
            (
                serde_json::json!({"queue-master-locator": "x"}),
                "<<\"x\">> invalid queue-master-locator value",
            ),
            (
                serde_json::json!({"ha-mode": "all", "ha-min-in-sync": "2"}),
                "ha-min-in-sync takes an integer greater than 0, <<\"2\">> given",
            ),
        ];
        for (definition, text) in cases {
            assert_eq!(checked(&definition, false), Err(text.to_owned()));
        }
        assert_eq!(checked(&serde_json::json!({"max-length": 1, "ha-mode": "all"}), false), Ok(()));
    }

    #[test]
    fn operator_policies_set_limits_only() {
        let words = serde_json::json!({"overflow": "drop-head", "max-length": 1});
        let text = "[{<<\"overflow\">>,<<\"drop-head\">>}] are not recognised policy settings";
        assert_eq!(checked(&words, true), Err(text.to_owned()));
        assert_eq!(checked(&words, false), Ok(()));
        assert_eq!(checked(&serde_json::json!({"delivery-limit": 1, "expires": 5}), true), Ok(()));
    }
}
