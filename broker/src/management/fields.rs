//! Writing JSON objects field by field, only those that the query's `columns` ask for: a list of ten thousand queues
//! is written without building ten thousand trees first.

use super::rates::Details;
use serde::Serialize;
use serde_json::Value;

/// Parts that the name of a column may have. Nothing that is shown is deeper.
const DEEPEST: usize = 64;

/// What of an entry is wanted: `name,message_stats.publish` is a name, and one field of an object.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Columns(Vec<(String, Option<Columns>)>);

impl Columns {
    /// Columns as a query names them.
    pub(super) fn parse(text: &str) -> Columns {
        let mut columns = Columns::default();
        let fits = |column: &&str| !column.is_empty() && column.split('.').nth(DEEPEST).is_none();
        text.split(',').filter(fits).for_each(|column| columns.add(column));
        columns
    }

    fn add(&mut self, column: &str) {
        let (head, rest) = column.split_once('.').map_or((column, None), |(head, rest)| (head, Some(rest)));
        let known = self.0.iter().position(|(known, _)| known == head);
        let at = known.unwrap_or_else(|| {
            self.0.push((head.to_owned(), Some(Columns::default())));
            self.0.len() - 1
        });
        match (rest, &mut self.0[at].1) {
            (None, all) => *all = None,
            (Some(rest), Some(inner)) => inner.add(rest),
            // Who wants all of it wants this, too.
            (Some(_), None) => {}
        }
    }

    /// What of the field `name` is wanted: nothing, all (`None`), or some fields of it.
    ///
    /// There are few columns, and nearly all names differ in length: looking at each is the quickest.
    fn get(&self, name: &str) -> Option<&Option<Columns>> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, inner)| inner)
    }
}

/// An object that is being written.
pub(super) struct Fields<'a> {
    out: &'a mut Vec<u8>,
    columns: Option<&'a Columns>,
    empty: bool,
}

/// Writes an object with the wanted columns.
pub(super) fn write_object(
    out: &mut Vec<u8>,
    columns: Option<&Columns>,
    write: impl FnOnce(&mut Fields<'_>),
) {
    out.push(b'{');
    write(&mut Fields { out, columns, empty: true });
    out.push(b'}');
}

impl Fields<'_> {
    /// Whether a field is wanted, if it takes work to find out.
    pub(super) fn wants(&self, name: &str) -> bool {
        self.columns.is_none_or(|columns| columns.get(name).is_some())
    }

    /// Writes a field.
    pub(super) fn field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) {
        self.put(name, Self::key, value);
    }

    /// Writes a field whose name is not one of ours.
    pub(super) fn any_field<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) {
        self.put(name, Self::any_key, value);
    }

    #[inline]
    fn put<'n, T: Serialize + ?Sized>(
        &mut self,
        name: &'n str,
        key: impl FnOnce(&mut Self, &'n str),
        value: &T,
    ) {
        match self.columns.map(|columns| columns.get(name)) {
            None | Some(Some(None)) => {
                key(self, name);
                self.value(value);
            }
            Some(Some(Some(inner))) => {
                if let Ok(Value::Object(fields)) = serde_json::to_value(value) {
                    key(self, name);
                    write_object(self.out, Some(inner), |within| {
                        fields.iter().for_each(|(name, value)| within.any_field(name, value));
                    });
                }
            }
            Some(None) => {}
        }
    }

    #[inline]
    fn value<T: Serialize + ?Sized>(&mut self, value: &T) {
        let before = self.out.len();
        if serde_json::to_writer(&mut *self.out, value).is_err() {
            // Nothing that is shown here fails to be written; an answer stays JSON in any case.
            self.out.truncate(before);
            self.out.extend_from_slice(b"null");
        }
    }

    /// Writes an object.
    pub(super) fn object(&mut self, name: &'static str, write: impl FnOnce(&mut Fields<'_>)) {
        let inner = match self.columns.map(|columns| columns.get(name)) {
            None | Some(Some(None)) => None,
            Some(Some(Some(inner))) => Some(inner),
            Some(None) => return,
        };
        self.key(name);
        write_object(self.out, inner, write);
    }

    /// Writes a number and its details.
    pub(super) fn rated(&mut self, name: &'static str, value: u64, details: impl FnOnce() -> Details) {
        self.field(name, &value);
        let Some(columns) = self.columns else {
            self.separate();
            self.out.push(b'"');
            self.out.extend_from_slice(name.as_bytes());
            self.out.extend_from_slice(b"_details\":");
            return self.value(&details());
        };
        if columns.0.iter().any(|(known, _)| known.strip_suffix("_details") == Some(name)) {
            self.any_field(&format!("{name}_details"), &details());
        }
    }

    /// A key of ours: nothing in it needs escaping.
    #[inline]
    fn key(&mut self, name: &str) {
        debug_assert!(
            name.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"_-".contains(&octet)),
            "{name}"
        );
        self.separate();
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    /// A key of a table may need escaping.
    fn any_key(&mut self, name: &str) {
        self.separate();
        self.value(name);
        self.out.push(b':');
    }

    #[inline]
    fn separate(&mut self) {
        if !std::mem::replace(&mut self.empty, false) {
            self.out.push(b',');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn written(columns: Option<&str>) -> Value {
        let columns = columns.map(Columns::parse);
        let mut out = Vec::new();
        write_object(&mut out, columns.as_ref(), |fields| {
            fields.field("name", "q\"1");
            fields.field("arguments", &json!({"a": {"b": 1, "c": 2}, "d": 3}));
            fields.any_field("an \"argument\"", &1);
            fields.object("stats", |stats| {
                stats.rated("ack", 5, || Details::STILL);
                stats.field("get", &7);
            });
        });
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn all_fields_are_written_or_those_that_are_asked_for() {
        assert_eq!(
            written(None),
            json!({"name": "q\"1", "arguments": {"a": {"b": 1, "c": 2}, "d": 3}, "an \"argument\"": 1,
                   "stats": {"ack": 5, "ack_details": {"rate": 0.0}, "get": 7}})
        );
        assert_eq!(
            written(Some("name,stats.ack_details.rate,arguments.a.c,nothing,")),
            json!({"name": "q\"1", "arguments": {"a": {"c": 2}}, "stats": {"ack_details": {"rate": 0.0}}})
        );
        assert_eq!(
            written(Some("stats.get,stats")),
            json!({"stats": {"ack": 5, "ack_details": {"rate": 0.0}, "get": 7}})
        );
        assert_eq!(written(Some("")), json!({}));
    }

    #[test]
    fn a_column_as_deep_as_an_address_is_long_is_none() {
        let deep = format!("name,{}a", "a.".repeat(100_000));
        assert_eq!(Columns::parse(&deep), Columns::parse("name"));
        assert_ne!(Columns::parse(&format!("{}a", "a.".repeat(DEEPEST - 1))), Columns::default());
    }
}
