//! Putting together what several nodes answered.

use super::super::fields::{Columns, write_object};
use super::super::listing::{Entry as _, ListQuery, Page, compare, write_list, write_page};
use super::super::reply::{Answer, Refusal, raw_json};
use serde_json::{Map, Value};
use std::collections::HashMap;

/// Pairs of a query that are not for each node.
const OURS: [&str; 4] = ["page", "page_size", "columns", "first"];

/// Those that choose rows of a list and what is shown of them.
const CHOOSING: [&str; 5] = ["sort", "sort_reverse", "name", "use_regex", "where"];

/// What of the rows of a list are numbers of each node, and by what rows are found.
pub(super) const SUMMED_COLUMNS: &str = "name,vhost,cluster_state,message_stats,messages,messages_details,\
    messages_ready,messages_ready_details,messages_unacknowledged,messages_unacknowledged_details,recv_oct,\
    recv_oct_details,send_oct,send_oct_details";

/// Whether what is shown with this query has numbers of each node.
pub(super) fn wants_sums(query: &ListQuery) -> bool {
    let summed = |name: &str| {
        let of_overview = ["object_totals", "queue_totals", "churn_rates"];
        SUMMED_COLUMNS.split(',').skip(2).chain(of_overview).chain(COLLECTED).any(|it| it == name)
    };
    query.named().is_none_or(|names| names.into_iter().any(summed))
}

/// A list's query without what chooses rows and columns: all of it, with the windows of rates that were asked for.
pub(super) fn without_list_query(raw: &str) -> String {
    let stays = |pair: &&str| {
        let name = pair.split('=').next().unwrap_or_default();
        !name.is_empty() && !OURS.contains(&name) && !CHOOSING.contains(&name)
    };
    raw.split('&').filter(stays).collect::<Vec<_>>().join("&")
}

/// What pages of all nodes are sorted by, unless told otherwise: a page has to begin where the one before ends.
const PAGES_BY: &str = "name";

/// What each node is asked, so that its answer can be put together with the others': its first rows, as many as can
/// be on the page, with the column by which they are sorted.
pub(super) fn query_of_each(query: &ListQuery, raw: &str) -> Result<String, Refusal> {
    let named = |pair: &&str, name: &str| pair.split('=').next() == Some(name);
    let value = |name: &str| {
        let pair = raw.split('&').find(|pair| named(pair, name))?;
        pair.split_once('=').map(|(_, value)| value).filter(|value| !value.is_empty())
    };
    let mut pairs: Vec<String> = raw
        .split('&')
        .filter(|pair| !pair.is_empty() && !OURS.iter().any(|name| named(pair, name)))
        .map(str::to_owned)
        .collect();
    let mut sort = value("sort");
    if let Some(Page { number, size }) = query.page()? {
        if sort.is_none() {
            pairs.push(format!("sort={PAGES_BY}"));
            sort = Some(PAGES_BY);
        }
        pairs.push(format!("first={}", number.saturating_mul(size)));
    }
    if let Some(columns) = value("columns") {
        let sort = sort.map_or(String::new(), |sort| format!(",{sort}"));
        pairs.push(format!("columns={columns}{sort}"));
    }
    Ok(pairs.join("&"))
}

/// One list of those of all nodes, each of which was asked with [`query_of_each`]; a `short` one is sorted in any case.
pub(super) fn lists(query: &ListQuery, parts: &[Vec<u8>], short: bool) -> Answer {
    let page = query.page()?;
    let sort = query.sort().or((short || page.is_some()).then_some((PAGES_BY, false)));
    if page.is_none() && sort.is_none() {
        return raw_json(concatenated(parts));
    }
    let (mut total, mut filtered) = (0, 0);
    let mut rows: Vec<Value> = Vec::new();
    for part in parts {
        match serde_json::from_slice(part) {
            Ok(Value::Array(some)) => rows.extend(some),
            Ok(Value::Object(mut answer)) => {
                let count =
                    |name: &str| answer.get(name).and_then(Value::as_u64).unwrap_or_default() as usize;
                (total, filtered) = (total + count("total_count"), filtered + count("filtered_count"));
                if let Some(Value::Array(some)) = answer.remove("items") {
                    rows.extend(some);
                }
            }
            _ => {}
        }
    }
    if let Some((key, reverse)) = sort {
        rows.sort_by(|a, b| {
            let order = compare(at_path(a, key), at_path(b, key));
            if reverse { order.reverse() } else { order }
        });
    }
    let columns = query.columns();
    match page {
        Some(page) => write_page(&page, total, filtered, columns.as_ref(), |range| {
            rows.get(range).unwrap_or(&[]).iter()
        }),
        None => {
            let mut out = Vec::new();
            write_list(&mut out, rows.iter(), columns.as_ref());
            raw_json(out)
        }
    }
}

/// Lists that are written already, one behind the other.
fn concatenated(parts: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::with_capacity(parts.iter().map(Vec::len).sum::<usize>() + 2);
    out.push(b'[');
    for part in parts {
        let inner = part.trim_ascii();
        let inner = inner.strip_prefix(b"[").and_then(|inner| inner.strip_suffix(b"]")).unwrap_or_default();
        if !inner.is_empty() {
            if out.len() > 1 {
                out.push(b',');
            }
            out.extend_from_slice(inner);
        }
    }
    out.push(b']');
    out
}

fn at_path<'v>(row: &'v Value, path: &str) -> Option<&'v Value> {
    path.split('.').try_fold(row, |found, key| found.get(key))
}

/// What of an object is added up over the nodes, and what is collected.
const ADDED: [&str; 7] = [
    "message_stats",
    "queue_totals",
    "churn_rates",
    "messages",
    "messages_ready",
    "messages_unacknowledged",
    "recv_oct",
];
const ADDED_OBJECTS: [&str; 3] = ["connections", "channels", "consumers"];
const COLLECTED: [&str; 2] = ["listeners", "contexts"];

/// Adds what other nodes have to the overview, to a vhost or exchange, or to each of a list of them.
pub(super) fn sums(own: &mut Value, others: &[Value]) {
    match own {
        Value::Array(rows) => {
            let mut same: HashMap<(String, String), Vec<&Value>> = HashMap::new();
            for row in others.iter().filter_map(Value::as_array).flatten() {
                same.entry(key(row)).or_default().push(row);
            }
            for row in rows {
                if let Some(found) = same.remove(&key(row))
                    && let Value::Object(fields) = row
                {
                    found.iter().filter_map(|it| it.as_object()).for_each(|it| add_object(fields, it));
                }
            }
        }
        Value::Object(fields) => {
            others.iter().filter_map(Value::as_object).for_each(|other| add_object(fields, other));
        }
        _ => {}
    }
}

/// By what a row is found in another node's list.
fn key(row: &Value) -> (String, String) {
    let text = |name: &str| row.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    (text("vhost"), text("name"))
}

/// The alarms of all refusals of the health check, if there are any.
pub(super) fn alarms(refusals: &[Vec<u8>]) -> Option<Value> {
    let mut refusals = refusals.iter().filter_map(|refusal| serde_json::from_slice::<Value>(refusal).ok());
    let mut first = refusals.next()?;
    if let Some(all) = first.get_mut("alarms").and_then(Value::as_array_mut) {
        for mut other in refusals {
            all.extend(other["alarms"].as_array_mut().map(std::mem::take).into_iter().flatten());
        }
    }
    Some(first)
}

fn add_object(own: &mut Map<String, Value>, other: &Map<String, Value>) {
    for (name, value) in other {
        let added = ADDED.iter().any(|it| name == it || name.strip_suffix("_details") == Some(*it))
            || matches!(name.as_str(), "send_oct" | "send_oct_details");
        match own.get_mut(name) {
            Some(own) if added => add(own, value),
            // Nothing was counted here yet.
            None if added => {
                own.insert(name.clone(), value.clone());
            }
            Some(Value::Object(own)) if name == "object_totals" => {
                for name in ADDED_OBJECTS {
                    if let (Some(own), Some(value)) = (own.get_mut(name), value.get(name)) {
                        add(own, value);
                    }
                }
            }
            Some(Value::Object(own)) if name == "cluster_state" => {
                own.extend(
                    value
                        .as_object()
                        .into_iter()
                        .flatten()
                        .map(|(node, state)| (node.clone(), state.clone())),
                );
            }
            Some(Value::Array(own)) if COLLECTED.contains(&name.as_str()) => {
                own.extend(value.as_array().into_iter().flatten().cloned());
            }
            _ => {}
        }
    }
}

/// Adds numbers, in objects and samples too; samples have the times of this node.
fn add(own: &mut Value, other: &Value) {
    match (own, other) {
        (Value::Object(own), Value::Object(other)) => {
            for (name, value) in other {
                match own.get_mut(name) {
                    _ if name == "timestamp" => {}
                    Some(own) => add(own, value),
                    None => {
                        own.insert(name.clone(), value.clone());
                    }
                }
            }
        }
        (Value::Array(own), Value::Array(other)) => {
            own.iter_mut().zip(other).for_each(|(own, other)| add(own, other));
        }
        (Value::Number(own), Value::Number(other)) => {
            let whole = own.as_u64().zip(other.as_u64()).and_then(|(a, b)| a.checked_add(b));
            let sum = whole.map(Into::into).or_else(|| {
                let (a, b) = own.as_f64().zip(other.as_f64())?;
                serde_json::Number::from_f64(a + b)
            });
            if let Some(sum) = sum {
                *own = sum;
            }
        }
        _ => {}
    }
}

/// One object with the wanted columns.
pub(super) fn object(columns: Option<&Columns>, value: &Value) -> Answer {
    let mut out = Vec::new();
    write_object(&mut out, columns, |fields| value.write(fields));
    raw_json(out)
}
