//! Values as the tables of rabbitmqctl show them: plain at the outside, as Erlang terms within.
//!
//! | JSON | in a table |
//! | --- | --- |
//! | `"text"`, `null` | `text`, nothing |
//! | `["administrator"]` | `[administrator]` |
//! | `{"x-max-length": 2}` | `[{"x-max-length",2}]` |

use serde_json::Value;

/// A cell of a table.
pub(super) fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => escaped(text),
        Value::Array(values) => format!("[{}]", values.iter().map(cell).collect::<Vec<_>>().join(", ")),
        Value::Object(_) => term(value),
        other => other.to_string(),
    }
}

/// A value inside another one.
pub(super) fn term(value: &Value) -> String {
    match value {
        Value::Null => "undefined".to_owned(),
        Value::String(text) => format!("\"{}\"", escaped(text).replace('"', "\\\"")),
        Value::Array(values) => format!("[{}]", values.iter().map(term).collect::<Vec<_>>().join(",")),
        Value::Object(fields) => {
            let pair = |(name, value): (&String, &Value)| {
                format!("{{{},{}}}", term(&Value::from(name.as_str())), term(value))
            };
            format!("[{}]", fields.iter().map(pair).collect::<Vec<_>>().join(","))
        }
        other => other.to_string(),
    }
}

/// Control characters would tear a table, or a terminal, apart.
pub(crate) fn escaped(text: &str) -> String {
    if !text.chars().any(char::is_control) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            out.extend(character.escape_default());
        } else {
            out.push(character);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_look_as_in_rabbitmqctl() {
        assert_eq!(cell(&json!(["monitoring", "policymaker"])), "[monitoring, policymaker]");
        assert_eq!(
            cell(&json!({"x-max-length": 2, "x-overflow": "drop-head"})),
            "[{\"x-max-length\",2},{\"x-overflow\",\"drop-head\"}]"
        );
        assert_eq!(cell(&json!({})), "[]");
        assert_eq!(
            (cell(&json!(null)), cell(&json!(true)), cell(&json!(1.5))),
            (String::new(), "true".into(), "1.5".into())
        );
        assert_eq!(cell(&json!("a\tb\n\u{1b}[1m")), "a\\tb\\n\\u{1b}[1m");
    }
}
