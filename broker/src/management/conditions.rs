//! Conditions on the fields of entries, the `where` of a list: `messages>0,state=running|state=idle`.
//!
//! All that a comma separates must hold, and one of those that `|` separates. A condition is the path of a field, as in
//! `columns`, and what it is compared with: `=`, `!=`, `<`, `<=`, `>`, `>=` and a number, `true`, `false`, `null` or
//! text. A path alone asks whether the entry has something there. What an entry lacks is not less and not more than
//! anything.

use super::fields::{Columns, write_object};
use super::listing::Entry;
use serde_json::Value;
use std::cmp::Ordering;

/// Conditions of one query, at most.
const MOST: usize = 20;
/// Octets of one query's conditions, at most.
const LONGEST: usize = 1000;
/// The longer ones first: `<=` begins with `<`.
const COMPARISONS: [(&str, Comparison); 6] = [
    ("!=", Comparison::Differs),
    ("<=", Comparison::AtMost),
    (">=", Comparison::AtLeast),
    ("=", Comparison::Equals),
    ("<", Comparison::Below),
    (">", Comparison::Above),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Equals,
    Differs,
    Below,
    AtMost,
    Above,
    AtLeast,
}

#[derive(Debug, PartialEq)]
struct Condition {
    path: String,
    /// `None` asks whether there is something at all.
    test: Option<(Comparison, Value)>,
}

/// Conditions that all have to hold; of each, one alternative.
#[derive(Debug)]
pub(super) struct Conditions {
    all: Vec<Vec<Condition>>,
    columns: Columns,
}

impl Conditions {
    /// Conditions as a query writes them, or what is wrong with them.
    pub(super) fn parse(text: &str) -> Result<Conditions, String> {
        if text.len() > LONGEST {
            return Err(format!("where has at most {LONGEST} octets"));
        }
        let mut all = Vec::new();
        for alternatives in text.split(',').filter(|it| !it.is_empty()) {
            all.push(alternatives.split('|').map(Condition::parse).collect::<Result<Vec<_>, _>>()?);
        }
        if all.iter().map(Vec::len).sum::<usize>() > MOST {
            return Err(format!("where has at most {MOST} conditions"));
        }
        let paths: Vec<&str> = all.iter().flatten().map(|condition| condition.path.as_str()).collect();
        let columns = Columns::parse(&paths.join(","));
        Ok(Conditions { all, columns })
    }

    /// Whether an entry is wanted.
    pub(super) fn hold<E: Entry>(&self, entry: &E) -> bool {
        let mut out = Vec::new();
        write_object(&mut out, Some(&self.columns), |fields| entry.write(fields));
        let Ok(entry) = serde_json::from_slice(&out) else { return false };
        self.all.iter().all(|alternatives| alternatives.iter().any(|condition| condition.holds(&entry)))
    }
}

impl Condition {
    fn parse(text: &str) -> Result<Condition, String> {
        let found = text.find(['!', '<', '>', '=']).map(|at| text.split_at(at));
        let (path, test) = match found {
            None => (text, None),
            Some((path, rest)) => {
                let known = COMPARISONS.iter().find_map(|(sign, comparison)| {
                    rest.strip_prefix(sign).map(|value| (*comparison, literal(value)))
                });
                (path, Some(known.ok_or_else(|| wrong(text))?))
            }
        };
        if path.is_empty() {
            return Err(wrong(text));
        }
        Ok(Condition { path: path.to_owned(), test })
    }

    fn holds(&self, entry: &Value) -> bool {
        let own = self.path.split('.').try_fold(entry, |value, key| value.get(key));
        let Some((comparison, wanted)) = &self.test else { return own.is_some_and(is_something) };
        let order = own.and_then(|own| compare(own, wanted));
        match comparison {
            Comparison::Equals => order == Some(Ordering::Equal),
            Comparison::Differs => order != Some(Ordering::Equal),
            Comparison::Below => order == Some(Ordering::Less),
            Comparison::AtMost => order.is_some_and(Ordering::is_le),
            Comparison::Above => order == Some(Ordering::Greater),
            Comparison::AtLeast => order.is_some_and(Ordering::is_ge),
        }
    }
}

fn wrong(text: &str) -> String {
    format!("condition '{text}' in where is not understood; write it as field=value, field>5 or field")
}

fn literal(text: &str) -> Value {
    match serde_json::from_str(text) {
        Ok(value @ (Value::Number(_) | Value::Bool(_) | Value::Null)) => value,
        _ => Value::from(text),
    }
}

/// Whether a field says something: not null, false, 0 or empty.
fn is_something(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(flag) => *flag,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    }
}

/// The order of two values of the same kind.
fn compare(a: &Value, b: &Value) -> Option<Ordering> {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64()?.partial_cmp(&b.as_f64()?),
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        // What looks like a number may be a name: a queue called 7.
        (Value::String(a), Value::Number(b)) => (*a == b.to_string()).then_some(Ordering::Equal),
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
        (Value::Null, Value::Null) => Some(Ordering::Equal),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn holds(text: &str, entry: &Value) -> bool {
        Conditions::parse(text).unwrap().hold(entry)
    }

    #[test]
    fn entries_are_picked_by_their_fields() {
        let entry = json!({
            "name": "7", "messages": 3, "consumers": 0, "state": "idle", "durable": true, "policy": null,
            "arguments": {"x-dead-letter-exchange": ""}, "effective": {"dead-letter-exchange": "dead"},
        });
        for yes in [
            "",
            "messages>0",
            "messages>=3,messages<=3,messages<3.5",
            "messages!=4",
            "consumers=0",
            "state=running|state=idle",
            "durable=true,durable",
            "policy=null",
            "name=7",
            "arguments.x-dead-letter-exchange|effective.dead-letter-exchange",
            "nothing!=1",
        ] {
            assert!(holds(yes, &entry), "{yes}");
        }
        for no in [
            "messages>3",
            "messages=3,consumers>0",
            "state=running",
            "state>5",
            "consumers",
            "policy",
            "arguments.x-dead-letter-exchange",
            "nothing=1",
            "nothing<1",
            "messages.of=1",
            "durable=yes",
        ] {
            assert!(!holds(no, &entry), "{no}");
        }
    }

    #[test]
    fn what_is_not_understood_is_told() {
        for bad in ["=5", "a,>3", "a!5", "a||b"] {
            assert!(Conditions::parse(bad).unwrap_err().contains("is not understood"), "{bad}");
        }
        assert!(Conditions::parse(&"a,".repeat(MOST + 1)).unwrap_err().contains("conditions"));
        assert!(Conditions::parse(&"a".repeat(LONGEST + 1)).unwrap_err().contains("octets"));
    }
}
