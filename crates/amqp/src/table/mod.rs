//! Field tables and arrays (AMQP 0-9-1 section 4.2.5.5), with the type letters RabbitMQ reads.
//!
//! ```text
//! table: ( name-length:octet name type:octet value )*      array: ( type:octet value )*
//! ```
//!
//! | letter | value | RabbitMQ's word |
//! | --- | --- | --- |
//! | `t` | octet, true unless 0 | bool |
//! | `b` `B` | 8 bits, signed, unsigned | byte, unsignedbyte |
//! | `s` `u` | 16 bits, signed, unsigned | short, unsignedshort |
//! | `I` `i` | 32 bits, signed, unsigned | signedint, unsignedint |
//! | `l` `L` | 64 bits, signed (both) | long |
//! | `f` `d` | IEEE 754, 32 and 64 bits, finite | float, double |
//! | `D` | scale octet, unsigned 32 bits | decimal |
//! | `S` `x` | long string | longstr, binary |
//! | `T` | seconds since 1970, 64 bits | timestamp |
//! | `A` `F` | array, table | array, table |
//! | `V` | nothing | void |
//!
//! [`Table`] borrows and is checked once, when it is made; [`FieldTable`] owns. Tables and arrays may lie at most
//! [`MAX_DEPTH`] deep in each other; RabbitMQ has no such limit.
//!
//! Names need not be UTF-8, for RabbitMQ does not ask for it. In a [`Table`] such a field stays what it is, but only
//! [`Table::iter_raw`] shows it; a [`FieldTable`] has U+FFFD in place of what is malformed in the name.

mod owned;
#[cfg(test)]
mod tests;

pub use owned::{FieldTable, FieldValue};

use crate::wire::{Reader, WireError};

/// How deep tables and arrays may lie in each other; a table without any in it has depth 1.
///
/// The deepest in common use is the `x-death` header: an array in a table in an array in the headers, depth 4.
pub const MAX_DEPTH: usize = 64;

/// Why octets are not a field table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// A name, a value or a length reaches beyond the end.
    #[error("a field of a table ends too early")]
    Truncated,
    /// No type has this letter.
    #[error("a table field has the unknown type {0:#04x}")]
    UnknownType(u8),
    /// A float or double is infinite or not a number; RabbitMQ refuses those too.
    #[error("a float in a table is not finite")]
    NotFinite,
    /// More than [`MAX_DEPTH`] tables and arrays in each other.
    #[error("tables and arrays are nested more than {MAX_DEPTH} deep")]
    TooDeep,
}

/// A field table that was checked and is still the octets it came as.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Table<'a> {
    octets: &'a [u8],
}

/// An array of field values that was checked and is still the octets it came as.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Array<'a> {
    octets: &'a [u8],
}

/// A field value. `Byte` to `Long` are integers of 8 to 64 bits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
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
    /// `l`, and `L` which RabbitMQ reads the same way
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
    LongStr(&'a [u8]),
    /// `x`
    Binary(&'a [u8]),
    /// `T`, in seconds since 1970
    Timestamp(u64),
    /// `A`
    Array(Array<'a>),
    /// `F`
    Table(Table<'a>),
    /// `V`
    Void,
}

impl<'a> Table<'a> {
    /// Checks the octets of a table, without the length before them.
    ///
    /// # Errors
    ///
    /// [`TableError`] when they are not a table, or one nested too deep.
    #[inline]
    pub fn parse(octets: &'a [u8]) -> Result<Self, TableError> {
        // Most tables are empty.
        if !octets.is_empty() {
            check_table(octets, MAX_DEPTH)?;
        }
        Ok(Self { octets })
    }

    /// A table of octets that have been through [`parse`](Self::parse) before, say because they come back from a
    /// store. On any others its fields make no sense.
    #[must_use]
    #[inline]
    pub fn assume_checked(octets: &'a [u8]) -> Self {
        debug_assert!(Self::parse(octets).is_ok(), "not checked before");
        Self { octets }
    }

    /// The fields in order, without those whose name is not UTF-8.
    #[must_use]
    pub fn iter(&self) -> TableIter<'a> {
        TableIter { raw: self.iter_raw() }
    }

    /// The fields in order, with the octets of their names.
    #[must_use]
    pub fn iter_raw(&self) -> RawTableIter<'a> {
        RawTableIter { reader: Reader::new(self.octets) }
    }

    /// The first field of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Value<'a>> {
        self.iter_raw().find(|(found, _)| *found == name.as_bytes()).map(|(_, value)| value)
    }

    /// The octets of the table, without the length before them.
    #[must_use]
    pub fn as_bytes(&self) -> &'a [u8] {
        self.octets
    }

    /// Whether it has no fields.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.octets.is_empty()
    }

    /// A copy that can be changed and kept.
    #[must_use]
    pub fn to_owned(&self) -> FieldTable {
        self.iter_raw()
            .map(|(name, value)| (String::from_utf8_lossy(name).into_owned(), value.to_owned()))
            .collect()
    }
}

impl<'a> IntoIterator for Table<'a> {
    type Item = (&'a str, Value<'a>);
    type IntoIter = TableIter<'a>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl std::fmt::Debug for Table<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<'a> Array<'a> {
    /// The values in order.
    #[must_use]
    pub fn iter(&self) -> ArrayIter<'a> {
        ArrayIter { reader: Reader::new(self.octets) }
    }

    /// The octets of the array, without the length before them.
    #[must_use]
    pub fn as_bytes(&self) -> &'a [u8] {
        self.octets
    }

    /// Whether it has no values.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.octets.is_empty()
    }

    /// A copy that can be changed and kept.
    #[must_use]
    pub fn to_owned(&self) -> Vec<FieldValue> {
        self.iter().map(|value| value.to_owned()).collect()
    }
}

impl<'a> IntoIterator for Array<'a> {
    type Item = Value<'a>;
    type IntoIter = ArrayIter<'a>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl std::fmt::Debug for Array<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Iterator over the fields of a [`Table`] that have proper names.
#[derive(Debug, Clone)]
pub struct TableIter<'a> {
    raw: RawTableIter<'a>,
}

impl<'a> Iterator for TableIter<'a> {
    type Item = (&'a str, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        self.raw.find_map(|(name, value)| Some((std::str::from_utf8(name).ok()?, value)))
    }
}

/// Iterator over all fields of a [`Table`].
#[derive(Debug, Clone)]
pub struct RawTableIter<'a> {
    reader: Reader<'a>,
}

impl<'a> Iterator for RawTableIter<'a> {
    type Item = (&'a [u8], Value<'a>);

    // `Table::parse` has been here before, so neither name nor value fails; if one did, the table would end.
    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let name = self.reader.shortbytes().ok()?;
        Some((name, read_value(&mut self.reader).ok()?))
    }
}

/// Iterator over an [`Array`].
#[derive(Debug, Clone)]
pub struct ArrayIter<'a> {
    reader: Reader<'a>,
}

impl<'a> Iterator for ArrayIter<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        read_value(&mut self.reader).ok()
    }
}

impl<'a> Value<'a> {
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
    pub fn as_bytes(&self) -> Option<&'a [u8]> {
        match *self {
            Self::LongStr(octets) | Self::Binary(octets) => Some(octets),
            _ => None,
        }
    }

    /// A long string, when it is UTF-8.
    #[must_use]
    pub fn as_str(&self) -> Option<&'a str> {
        match *self {
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

    /// A copy that can be changed and kept.
    #[must_use]
    pub fn to_owned(&self) -> FieldValue {
        match *self {
            Self::Bool(value) => FieldValue::Bool(value),
            Self::Byte(value) => FieldValue::Byte(value),
            Self::UnsignedByte(value) => FieldValue::UnsignedByte(value),
            Self::Short(value) => FieldValue::Short(value),
            Self::UnsignedShort(value) => FieldValue::UnsignedShort(value),
            Self::SignedInt(value) => FieldValue::SignedInt(value),
            Self::UnsignedInt(value) => FieldValue::UnsignedInt(value),
            Self::Long(value) => FieldValue::Long(value),
            Self::Float(value) => FieldValue::Float(value),
            Self::Double(value) => FieldValue::Double(value),
            Self::Decimal { scale, value } => FieldValue::Decimal { scale, value },
            Self::LongStr(octets) => FieldValue::LongStr(octets.to_vec()),
            Self::Binary(octets) => FieldValue::Binary(octets.to_vec()),
            Self::Timestamp(value) => FieldValue::Timestamp(value),
            Self::Array(array) => FieldValue::Array(array.to_owned()),
            Self::Table(table) => FieldValue::Table(table.to_owned()),
            Self::Void => FieldValue::Void,
        }
    }
}

impl From<WireError> for TableError {
    fn from(error: WireError) -> Self {
        match error {
            WireError::Table(error) => error,
            WireError::Truncated | WireError::Trailing(_) | WireError::NotUtf8 => Self::Truncated,
        }
    }
}

/// Goes through a table once; `depth` is how many levels it and what lies in it may have.
fn check_table(octets: &[u8], depth: usize) -> Result<(), TableError> {
    let depth = depth.checked_sub(1).ok_or(TableError::TooDeep)?;
    let mut reader = Reader::new(octets);
    while !reader.rest().is_empty() {
        reader.shortbytes()?;
        check_value(&mut reader, depth)?;
    }
    Ok(())
}

fn check_array(octets: &[u8], depth: usize) -> Result<(), TableError> {
    let depth = depth.checked_sub(1).ok_or(TableError::TooDeep)?;
    let mut reader = Reader::new(octets);
    while !reader.rest().is_empty() {
        check_value(&mut reader, depth)?;
    }
    Ok(())
}

fn check_value(reader: &mut Reader<'_>, depth: usize) -> Result<(), TableError> {
    match read_value(reader)? {
        Value::Table(table) => check_table(table.octets, depth),
        Value::Array(array) => check_array(array.octets, depth),
        Value::Float(value) if !value.is_finite() => Err(TableError::NotFinite),
        Value::Double(value) if !value.is_finite() => Err(TableError::NotFinite),
        _ => Ok(()),
    }
}

/// Reads one value; what lies in a table or array is not looked at.
#[inline]
fn read_value<'a>(reader: &mut Reader<'a>) -> Result<Value<'a>, TableError> {
    Ok(match reader.u8()? {
        b't' => Value::Bool(reader.u8()? != 0),
        b'b' => Value::Byte(i8::from_be_bytes(reader.array()?)),
        b'B' => Value::UnsignedByte(reader.u8()?),
        b's' => Value::Short(i16::from_be_bytes(reader.array()?)),
        b'u' => Value::UnsignedShort(reader.u16()?),
        b'I' => Value::SignedInt(i32::from_be_bytes(reader.array()?)),
        b'i' => Value::UnsignedInt(reader.u32()?),
        b'l' | b'L' => Value::Long(i64::from_be_bytes(reader.array()?)),
        b'f' => Value::Float(f32::from_be_bytes(reader.array()?)),
        b'd' => Value::Double(f64::from_be_bytes(reader.array()?)),
        b'D' => Value::Decimal { scale: reader.u8()?, value: reader.u32()? },
        b'S' => Value::LongStr(reader.longstr()?),
        b'x' => Value::Binary(reader.longstr()?),
        b'T' => Value::Timestamp(reader.u64()?),
        b'A' => Value::Array(Array { octets: reader.longstr()? }),
        b'F' => Value::Table(Table { octets: reader.longstr()? }),
        b'V' => Value::Void,
        letter => return Err(TableError::UnknownType(letter)),
    })
}
