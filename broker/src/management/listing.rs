//! Lists: `columns`, `sort`, `sort_reverse`, `where`, and pages with `page`, `page_size`, `name`, `use_regex`.
//!
//! Only the entries that are shown are written out; for sorting, one column of each.

use super::conditions::Conditions;
use super::fields::{Columns, Fields, write_object};
use super::reply::{Answer, Refusal, raw_json};
use broker_core::meta::access::Pattern;
use serde::Deserialize;
use serde_json::Value;
use std::cmp::Ordering;
use std::io::Write as _;
use std::ops::Range;

/// Entries a page has unless told otherwise, and at most.
const PAGE_SIZE: usize = 100;
const MAX_PAGE_SIZE: usize = 500;

/// Rows of a list by which the length of the others is guessed.
const TYPICAL: usize = 32;

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
    #[serde(rename = "where")]
    conditions: Option<String>,
    /// Only so many rows, with the counts of a page: what nodes ask each other.
    first: Option<String>,
}

/// An entry of a list that writes itself.
pub(super) trait Entry {
    /// What `name` looks for.
    fn name(&self) -> &str;

    /// Writes the fields.
    fn write(&self, fields: &mut Fields<'_>);

    /// The number that [`Entry::write`] writes at this path, or that it writes none, where that is known without
    /// writing: a long list is sorted by it in a tenth of the time. `None`: find out by writing.
    fn number(&self, _path: &str) -> Option<Option<f64>> {
        None
    }
}

impl Entry for Value {
    fn name(&self) -> &str {
        self.get("name").and_then(Value::as_str).unwrap_or_default()
    }

    fn write(&self, fields: &mut Fields<'_>) {
        if let Value::Object(all) = self {
            all.iter().for_each(|(name, value)| fields.any_field(name, value));
        }
    }
}

/// A page of a list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Page {
    pub(super) number: usize,
    pub(super) size: usize,
}

impl ListQuery {
    /// Answers with the entries as the query wants them.
    pub(super) fn answer<E: Entry>(&self, mut entries: Vec<E>) -> Answer {
        let total = entries.len();
        let columns = self.columns();
        let page = self.page()?;
        if page.is_some() {
            self.filter(&mut entries)?;
        }
        if let Some(text) = self.conditions.as_deref().filter(|text| !text.is_empty()) {
            let conditions = Conditions::parse(text).map_err(Refusal::bad_request)?;
            entries.retain(|entry| conditions.hold(entry));
        }
        let mut order: Vec<usize> = (0..entries.len()).collect();
        if let Some((key, reverse)) = self.sort() {
            let keys = column(&entries, key);
            order.sort_by(|a, b| compare(keys[*a].as_ref(), keys[*b].as_ref()));
            if reverse {
                order.reverse();
            }
        }
        let Some(page) = page else {
            let mut out = Vec::with_capacity(entries.len() * 64);
            write_list(&mut out, order.iter().map(|at| &entries[*at]), columns.as_ref());
            return raw_json(out);
        };
        write_page(&page, total, entries.len(), columns.as_ref(), |range| {
            order.get(range).unwrap_or_default().iter().map(|at| &entries[*at])
        })
    }

    /// Answers with one entry, with the wanted columns.
    pub(super) fn answer_one<E: Entry>(&self, entry: &E) -> Answer {
        let columns = self.columns();
        let mut out = Vec::new();
        write_object(&mut out, columns.as_ref(), |fields| entry.write(fields));
        raw_json(out)
    }

    /// The wanted columns; `None` means all.
    pub(super) fn columns(&self) -> Option<Columns> {
        self.columns.as_deref().map(Columns::parse)
    }

    /// The columns that are shown or sorted by; `None` means any.
    pub(super) fn named(&self) -> Option<Vec<&str>> {
        let columns = self.columns.as_deref()?;
        if self.conditions.as_deref().is_some_and(|conditions| !conditions.is_empty()) {
            return None;
        }
        let all = columns.split(',').chain(self.sort().map(|(key, _)| key));
        Some(all.filter_map(|column| column.split('.').next()).collect())
    }

    /// By which column rows are sorted, and whether backwards.
    pub(super) fn sort(&self) -> Option<(&str, bool)> {
        let key = self.sort.as_deref().filter(|key| !key.is_empty())?;
        Some((key, self.sort_reverse.as_deref() == Some("true")))
    }

    /// The wanted page; `None` means everything.
    pub(super) fn page(&self) -> Result<Option<Page>, Refusal> {
        if let Some(first) = &self.first {
            return Ok(Some(Page { number: 1, size: number(first, "first")? }));
        }
        let Some(page) = &self.page else { return Ok(None) };
        let size = match &self.page_size {
            Some(size) => number(size, "page_size")?.min(MAX_PAGE_SIZE),
            None => PAGE_SIZE,
        };
        Ok(Some(Page { number: number(page, "page")?, size }))
    }

    fn filter<E: Entry>(&self, entries: &mut Vec<E>) -> Result<(), Refusal> {
        let Some(wanted) = self.name.as_deref().filter(|name| !name.is_empty()) else { return Ok(()) };
        if self.use_regex.as_deref() == Some("true") {
            let pattern = Pattern::new(wanted)
                .map_err(|error| Refusal::bad_request(format!("invalid regex: {error}")))?;
            entries.retain(|entry| pattern.is_match(entry.name()));
        } else {
            let wanted = wanted.to_lowercase();
            entries.retain(|entry| entry.name().to_lowercase().contains(&wanted));
        }
        Ok(())
    }
}

/// Answers with a page of rows that were counted; `shown` gives those in a range.
pub(super) fn write_page<'e, E: Entry + 'e, I: ExactSizeIterator<Item = &'e E>>(
    page: &Page,
    total: usize,
    filtered: usize,
    columns: Option<&Columns>,
    shown: impl FnOnce(Range<usize>) -> I,
) -> Answer {
    let Page { number, size } = *page;
    let pages = filtered.div_ceil(size).max(1);
    if number > pages {
        return Err(Refusal::bad_request(format!(
            "page_out_of_range, page: {number} size: {size} len: {filtered}"
        )));
    }
    let shown = shown((number - 1) * size..filtered.min(number.saturating_mul(size)));
    let mut out = Vec::new();
    // Writing to memory does not fail.
    let _ = write!(
        out,
        "{{\"total_count\":{total},\"item_count\":{},\"filtered_count\":{filtered},\"page\":{number},\
         \"page_size\":{size},\"page_count\":{pages},\"items\":",
        shown.len(),
    );
    write_list(&mut out, shown, columns);
    out.push(b'}');
    raw_json(out)
}

/// Writes rows as a list.
pub(super) fn write_list<'e, E: Entry + 'e>(
    out: &mut Vec<u8>,
    entries: impl Iterator<Item = &'e E>,
    columns: Option<&Columns>,
) {
    out.push(b'[');
    let (begin, rows) = (out.len(), entries.size_hint().0);
    for (at, entry) in entries.enumerate() {
        if at > 0 {
            out.push(b',');
        }
        if at == TYPICAL {
            // The others are about as long: nothing is moved while they are written.
            let each = (out.len() - begin) / TYPICAL;
            out.reserve((each + each / 8) * rows.saturating_sub(TYPICAL));
        }
        write_object(out, columns, |fields| entry.write(fields));
    }
    out.push(b']');
}

/// One column of each entry, to sort by.
fn column<E: Entry>(entries: &[E], path: &str) -> Vec<Option<Value>> {
    let columns = Columns::parse(path);
    let mut out = Vec::new();
    let of = |entry: &E| {
        if let Some(number) = entry.number(path) {
            return number.map(Value::from);
        }
        out.clear();
        write_object(&mut out, Some(&columns), |fields| entry.write(fields));
        // Nothing but the column was written, and the objects in which it is.
        let mut found = out.as_slice();
        for key in path.split('.') {
            found = found
                .strip_prefix(b"{\"")?
                .strip_prefix(key.as_bytes())?
                .strip_prefix(b"\":")?
                .strip_suffix(b"}")?;
        }
        serde_json::from_slice(found).ok()
    };
    entries.iter().map(of).collect()
}

/// How two values of a column are ordered.
pub(super) fn compare(a: Option<&Value>, b: Option<&Value>) -> Ordering {
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
