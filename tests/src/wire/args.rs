//! Arguments of methods, and headers of messages.

use amqp::table::{FieldTable, FieldValue, Table};

/// A field table with its octets, from which a method can borrow. Made by [`args!`](crate::args).
#[derive(Debug, Clone, Default)]
pub struct Args {
    octets: Vec<u8>,
}

impl Args {
    /// The arguments as a method takes them.
    ///
    /// # Panics
    /// Never: they were encoded by us.
    #[must_use]
    pub fn table(&self) -> Table<'_> {
        Table::parse(&self.octets).expect("our own encoding")
    }

    /// Arguments that are octets of the test's choice: names, types and values.
    #[must_use]
    pub fn raw(octets: &[u8]) -> Self {
        Self { octets: octets.to_vec() }
    }
}

impl From<FieldTable> for Args {
    fn from(table: FieldTable) -> Self {
        Self { octets: table.to_bytes() }
    }
}

impl From<&[(&str, FieldValue)]> for Args {
    fn from(fields: &[(&str, FieldValue)]) -> Self {
        let mut table = FieldTable::new();
        for (name, value) in fields {
            table.push(*name, value.clone());
        }
        table.into()
    }
}

/// A field table: `table! { "x-message-ttl" => 1000, "x-overflow" => "drop-head" }`.
#[macro_export]
macro_rules! table {
    ($($name:expr => $value:expr),* $(,)?) => {{
        #[allow(unused_mut, reason = "an empty table is not changed")]
        let mut table = amqp::table::FieldTable::new();
        $(table.push($name, $value);)*
        table
    }};
}

/// Arguments for a method, written as in [`table!`](crate::table!).
#[macro_export]
macro_rules! args {
    ($($fields:tt)*) => { $crate::wire::Args::from($crate::table! { $($fields)* }) };
}
