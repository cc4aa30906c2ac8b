//! Lists: `columns`, `sort`, `sort_reverse`, and pages with `page`, `page_size`, `name`, `use_regex`.

use super::reply::{Answer, Refusal, json};
use broker_core::meta::access::Pattern;
use serde::Deserialize;
use serde_json::{Map, Value, json as object};
use std::cmp::Ordering;

/// Entries a page has unless told otherwise, and at most.
const PAGE_SIZE: usize = 100;
const MAX_PAGE_SIZE: usize = 500;

/// The query of a list.
#[derive(Debug, Default, Deserialize)]
pub(super) struct ListQuery {
    columns: Option<String>,
    sort: Option<String>,
    sort_reverse: Option<String>,
    page: Option<String>,
    page_size: Option<String>,
    name: Option<String>,
    use_regex: Option<String>,
}

impl ListQuery {
    /// Answers with the entries as the query wants them.
    pub(super) fn answer(&self, mut entries: Vec<Value>) -> Answer {
        let total = entries.len();
        if self.page.is_some() {
            self.filter(&mut entries)?;
        }
        if let Some(key) = &self.sort {
            entries.sort_by(|a, b| compare(at(a, key), at(b, key)));
            if self.sort_reverse.as_deref() == Some("true") {
                entries.reverse();
            }
        }
        let Some(page) = &self.page else {
            return json(&Value::Array(self.project(entries)));
        };
        let page: usize = number(page, "page")?;
        let size = match &self.page_size {
            Some(size) => number(size, "page_size")?.min(MAX_PAGE_SIZE),
            None => PAGE_SIZE,
        };
        let filtered = entries.len();
        let pages = filtered.div_ceil(size).max(1);
        if page > pages {
            return Err(Refusal::bad_request(format!(
                "page_out_of_range, page: {page} size: {size} len: {filtered}"
            )));
        }
        let items: Vec<Value> = entries.into_iter().skip((page - 1) * size).take(size).collect();
        json(&object!({
            "filtered_count": filtered, "item_count": items.len(), "items": self.project(items),
            "page": page, "page_count": pages, "page_size": size, "total_count": total,
        }))
    }

    /// Answers with one entry, with the wanted columns.
    pub(super) fn answer_one(&self, entry: Value) -> Answer {
        let mut one = self.project(vec![entry]);
        json(&one.pop().unwrap_or(Value::Null))
    }

    fn filter(&self, entries: &mut Vec<Value>) -> Result<(), Refusal> {
        let Some(wanted) = self.name.as_deref().filter(|name| !name.is_empty()) else { return Ok(()) };
        let name = |entry: &Value| entry.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
        if self.use_regex.as_deref() == Some("true") {
            let pattern = Pattern::new(wanted)
                .map_err(|error| Refusal::bad_request(format!("invalid regex: {error}")))?;
            entries.retain(|entry| pattern.is_match(&name(entry)));
        } else {
            let wanted = wanted.to_lowercase();
            entries.retain(|entry| name(entry).to_lowercase().contains(&wanted));
        }
        Ok(())
    }

    fn project(&self, entries: Vec<Value>) -> Vec<Value> {
        let Some(columns) = &self.columns else { return entries };
        let columns: Vec<&str> = columns.split(',').filter(|column| !column.is_empty()).collect();
        entries
            .into_iter()
            .map(|entry| {
                let mut kept = Map::new();
                for column in &columns {
                    keep(&entry, column, &mut kept);
                }
                Value::Object(kept)
            })
            .collect()
    }
}

/// Copies `a.b.c` from an entry.
fn keep(entry: &Value, column: &str, kept: &mut Map<String, Value>) {
    let (head, rest) = column.split_once('.').map_or((column, None), |(head, rest)| (head, Some(rest)));
    let Some(value) = entry.get(head) else { return };
    match rest {
        None => {
            kept.insert(head.to_owned(), value.clone());
        }
        Some(rest) => {
            let inner = kept.entry(head.to_owned()).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(inner) = inner {
                keep(value, rest, inner);
            }
        }
    }
}

fn at<'a>(entry: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(entry, |value, key| value.get(key))
}

fn compare(a: Option<&Value>, b: Option<&Value>) -> Ordering {
    match (a, b) {
        (Some(Value::Number(a)), Some(Value::Number(b))) => {
            a.as_f64().partial_cmp(&b.as_f64()).unwrap_or(Ordering::Equal)
        }
        (Some(Value::String(a)), Some(Value::String(b))) => a.cmp(b),
        (Some(Value::Bool(a)), Some(Value::Bool(b))) => a.cmp(b),
        (None, Some(_)) => Ordering::Less,
        (Some(_), None) => Ordering::Greater,
        (None, None) => Ordering::Equal,
        (Some(a), Some(b)) => a.to_string().cmp(&b.to_string()),
    }
}

fn number(text: &str, what: &str) -> Result<usize, Refusal> {
    match text.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(Refusal::bad_request(format!("{what} must be a positive number"))),
    }
}
