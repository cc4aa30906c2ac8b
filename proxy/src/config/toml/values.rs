//! Values of the TOML form that are more than a text or a number.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::config::address;

/// A table whose order is kept.
pub(super) struct Ordered<T>(pub(super) Vec<(String, T)>);

impl<T> Default for Ordered<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Ordered<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Entries<T> {
            type Value = Ordered<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table with one entry for each name")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Ordered(entries))
            }
        }
        deserializer.deserialize_map(Entries(PhantomData))
    }
}

/// A share of connections, 0 to 256.
pub(super) struct Weight(pub(super) u32);

impl<'de> Deserialize<'de> for Weight {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u32::deserialize(deserializer)? {
            weight @ 0..=256 => Ok(Self(weight)),
            weight => Err(D::Error::custom(format!("weight {weight} is not between 0 and 256"))),
        }
    }
}

/// `true` (on every retry), `false`, or a number as in `option redispatch N`.
pub(super) struct Redispatch(pub(super) Option<i32>);

impl<'de> Deserialize<'de> for Redispatch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Choice;
        impl Visitor<'_> for Choice {
            type Value = Redispatch;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, false or a number of retries")
            }
            fn visit_bool<E: Error>(self, on: bool) -> Result<Redispatch, E> {
                Ok(Redispatch(on.then_some(1)))
            }
            fn visit_i64<E: Error>(self, every: i64) -> Result<Redispatch, E> {
                let every = i32::try_from(every).map_err(|_| E::custom("number too large"))?;
                Ok(Redispatch((every != 0).then_some(every)))
            }
        }
        deserializer.deserialize_any(Choice)
    }
}

/// An address such as `":5672"`, or a list.
pub(super) struct BindList(pub(super) Vec<String>);

/// Looks at the addresses before any option, so that their mistakes come with those of other keys.
fn check_addresses(text: &str) -> Result<(), String> {
    let addresses = text.split_ascii_whitespace().next().unwrap_or_default();
    if addresses.is_empty() {
        return Err("an address is missing, e.g. \":5672\"".to_owned());
    }
    let parts = addresses.split(',').filter(|part| !part.is_empty() && !part.contains(['\'', '"', '\\']));
    parts.into_iter().try_for_each(|part| address::parse_bind(part).map(drop))
}

impl<'de> Deserialize<'de> for BindList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = BindList;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an address such as \":5672\", or a list of them")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<BindList, E> {
                check_addresses(text).map_err(E::custom)?;
                Ok(BindList(vec![text.to_owned()]))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<BindList, A::Error> {
                let mut all = Vec::new();
                while let Some(text) = list.next_element::<String>()? {
                    check_addresses(&text).map_err(A::Error::custom)?;
                    all.push(text);
                }
                Ok(BindList(all))
            }
        }
        deserializer.deserialize_any(List)
    }
}
