//! Field tables that own what is in them, to be built, changed and kept.

use super::Table;
use crate::wire::Put;

/// An ordered list of named values.
///
/// A name may occur more than once, as it may in what clients send; lookups find the first, as RabbitMQ's do.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FieldTable {
    fields: Vec<(String, FieldValue)>,
}

/// A field value that owns what is in it; the variants are those of [`Value`](super::Value).
#[derive(Debug, Clone, PartialEq)]
pub enum FieldValue {
    /// `t`
    Bool(bool),
    /// `b`
    Byte(i8),
    /// `B`
    UnsignedByte(u8),
    /// `s`
    Short(i16),
    /// `u`
    UnsignedShort(u16),
    /// `I`
    SignedInt(i32),
    /// `i`
    UnsignedInt(u32),
    /// `l`
    Long(i64),
    /// `f`
    Float(f32),
    /// `d`
    Double(f64),
    /// `D`
    Decimal {
        /// How many of the digits are behind the point.
        scale: u8,
        /// The digits.
        value: u32,
    },
    /// `S`
    LongStr(Vec<u8>),
    /// `x`
    Binary(Vec<u8>),
    /// `T`, in seconds since 1970
    Timestamp(u64),
    /// `A`
    Array(Vec<FieldValue>),
    /// `F`
    Table(FieldTable),
    /// `V`
    Void,
}

impl FieldTable {
    /// A table without fields.
    #[must_use]
    pub const fn new() -> Self {
        Self { fields: Vec::new() }
    }

    /// The first value of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&FieldValue> {
        self.fields.iter().find(|(found, _)| found == name).map(|(_, value)| value)
    }

    /// The first value of this name, to be changed in place.
    #[must_use]
    pub fn get_mut(&mut self, name: &str) -> Option<&mut FieldValue> {
        self.fields.iter_mut().find(|(found, _)| found == name).map(|(_, value)| value)
    }

    /// Whether a field has this name.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Replaces the first value of this name and returns it, or appends a field.
    ///
    /// A name has at most 255 octets on the wire; [`encode`](Self::encode) cuts a longer one.
    pub fn insert(&mut self, name: impl Into<String>, value: impl Into<FieldValue>) -> Option<FieldValue> {
        let (name, value) = (name.into(), value.into());
        match self.get_mut(&name) {
            Some(found) => Some(std::mem::replace(found, value)),
            None => {
                self.fields.push((name, value));
                None
            }
        }
    }

    /// Appends a field, even if the name is there already.
    pub fn push(&mut self, name: impl Into<String>, value: impl Into<FieldValue>) {
        self.fields.push((name.into(), value.into()));
    }

    /// Removes every field of this name and returns the value of the first.
    pub fn remove(&mut self, name: &str) -> Option<FieldValue> {
        let first = self.fields.iter().position(|(found, _)| found == name)?;
        let (_, value) = self.fields.remove(first);
        self.fields.retain(|(found, _)| found != name);
        Some(value)
    }

    /// The fields in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &FieldValue)> {
        self.fields.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// How many fields there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Whether there are no fields.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// Appends the table as it stands on the wire: its length in octets (32 bits), then its fields.
    pub fn encode(&self, out: &mut Vec<u8>) {
        with_length(out, |out| self.encode_fields(out));
    }

    /// The fields without the length before them, as [`Table::parse`] reads them.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode_fields(&mut out);
        out
    }

    fn encode_fields(&self, out: &mut Vec<u8>) {
        for (name, value) in &self.fields {
            out.put_shortstr(name);
            value.encode(out);
        }
    }
}

impl FromIterator<(String, FieldValue)> for FieldTable {
    fn from_iter<I: IntoIterator<Item = (String, FieldValue)>>(fields: I) -> Self {
        Self { fields: fields.into_iter().collect() }
    }
}

impl IntoIterator for FieldTable {
    type Item = (String, FieldValue);
    type IntoIter = std::vec::IntoIter<Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.fields.into_iter()
    }
}

impl From<Table<'_>> for FieldTable {
    fn from(table: Table<'_>) -> Self {
        table.to_owned()
    }
}

impl FieldValue {
    /// A long string.
    #[must_use]
    pub fn long_str(text: impl Into<Vec<u8>>) -> Self {
        Self::LongStr(text.into())
    }

    /// An integer of any width; a decimal, float or timestamp is not one.
    #[must_use]
    pub fn as_i64(&self) -> Option<i64> {
        match *self {
            Self::Byte(value) => Some(value.into()),
            Self::UnsignedByte(value) => Some(value.into()),
            Self::Short(value) => Some(value.into()),
            Self::UnsignedShort(value) => Some(value.into()),
            Self::SignedInt(value) => Some(value.into()),
            Self::UnsignedInt(value) => Some(value.into()),
            Self::Long(value) => Some(value),
            _ => None,
        }
    }

    /// The octets of a long string or a binary.
    #[must_use]
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Self::LongStr(octets) | Self::Binary(octets) => Some(octets),
            _ => None,
        }
    }

    /// A long string, when it is UTF-8.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::LongStr(octets) => std::str::from_utf8(octets).ok(),
            _ => None,
        }
    }

    /// A bool.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        match *self {
            Self::Bool(value) => Some(value),
            _ => None,
        }
    }

    /// The values of an array.
    #[must_use]
    pub fn as_array(&self) -> Option<&[FieldValue]> {
        match self {
            Self::Array(values) => Some(values),
            _ => None,
        }
    }

    /// A table.
    #[must_use]
    pub fn as_table(&self) -> Option<&FieldTable> {
        match self {
            Self::Table(table) => Some(table),
            _ => None,
        }
    }

    /// RabbitMQ's word for the type, as it appears in its close texts.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Bool(_) => "bool",
            Self::Byte(_) => "byte",
            Self::UnsignedByte(_) => "unsignedbyte",
            Self::Short(_) => "short",
            Self::UnsignedShort(_) => "unsignedshort",
            Self::SignedInt(_) => "signedint",
            Self::UnsignedInt(_) => "unsignedint",
            Self::Long(_) => "long",
            Self::Float(_) => "float",
            Self::Double(_) => "double",
            Self::Decimal { .. } => "decimal",
            Self::LongStr(_) => "longstr",
            Self::Binary(_) => "binary",
            Self::Timestamp(_) => "timestamp",
            Self::Array(_) => "array",
            Self::Table(_) => "table",
            Self::Void => "void",
        }
    }

    /// Appends the type letter and the value. A 64-bit integer goes out as `l`, whichever letter it came with.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Bool(value) => out.extend_from_slice(&[b't', u8::from(*value)]),
            Self::Byte(value) => out.extend_from_slice(&[b'b', value.to_be_bytes()[0]]),
            Self::UnsignedByte(value) => out.extend_from_slice(&[b'B', *value]),
            Self::Short(value) => tagged(out, b's', &value.to_be_bytes()),
            Self::UnsignedShort(value) => tagged(out, b'u', &value.to_be_bytes()),
            Self::SignedInt(value) => tagged(out, b'I', &value.to_be_bytes()),
            Self::UnsignedInt(value) => tagged(out, b'i', &value.to_be_bytes()),
            Self::Long(value) => tagged(out, b'l', &value.to_be_bytes()),
            Self::Float(value) => tagged(out, b'f', &value.to_be_bytes()),
            Self::Double(value) => tagged(out, b'd', &value.to_be_bytes()),
            Self::Decimal { scale, value } => {
                out.extend_from_slice(&[b'D', *scale]);
                out.put_u32(*value);
            }
            Self::LongStr(octets) => {
                out.put_u8(b'S');
                out.put_longstr(octets);
            }
            Self::Binary(octets) => {
                out.put_u8(b'x');
                out.put_longstr(octets);
            }
            Self::Timestamp(value) => tagged(out, b'T', &value.to_be_bytes()),
            Self::Array(values) => {
                out.put_u8(b'A');
                with_length(out, |out| values.iter().for_each(|value| value.encode(out)));
            }
            Self::Table(table) => {
                out.put_u8(b'F');
                table.encode(out);
            }
            Self::Void => out.put_u8(b'V'),
        }
    }
}

impl From<&str> for FieldValue {
    fn from(text: &str) -> Self {
        Self::LongStr(text.as_bytes().to_vec())
    }
}

impl From<String> for FieldValue {
    fn from(text: String) -> Self {
        Self::LongStr(text.into_bytes())
    }
}

impl From<bool> for FieldValue {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<i32> for FieldValue {
    fn from(value: i32) -> Self {
        Self::SignedInt(value)
    }
}

impl From<i64> for FieldValue {
    fn from(value: i64) -> Self {
        Self::Long(value)
    }
}

impl From<FieldTable> for FieldValue {
    fn from(table: FieldTable) -> Self {
        Self::Table(table)
    }
}

impl From<Vec<FieldValue>> for FieldValue {
    fn from(values: Vec<FieldValue>) -> Self {
        Self::Array(values)
    }
}

fn tagged(out: &mut Vec<u8>, letter: u8, octets: &[u8]) {
    out.push(letter);
    out.extend_from_slice(octets);
}

/// Appends a 32-bit length and what `content` appends.
fn with_length(out: &mut Vec<u8>, content: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.put_u32(0);
    content(out);
    let length = (out.len() - start - 4) as u32;
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}
