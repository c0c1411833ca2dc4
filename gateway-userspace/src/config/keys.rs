//! Which keys the tables have, as the file's shape knows them.

use std::fmt;

use serde::{
    Deserialize,
    de::{self, Deserializer, Visitor},
};

use super::file;

/// Names of keys.
type Keys = &'static [&'static str];

/// A table's name, and what tells its keys.
type KnownTable = (&'static str, fn() -> Keys);

/// The tables whose keys can be set from outside, and how to find out which those are.
pub(super) const TABLES: &[KnownTable] = &[
    ("node", keys::<file::Node>),
    ("secrets", keys::<file::Secrets>),
    ("membership", keys::<file::Membership>),
    ("peers", keys::<file::Peers>),
    ("metrics", keys::<file::Metrics>),
    ("gateway", keys::<file::Gateway>),
    ("push", keys::<file::Push>),
    ("front", keys::<file::Front>),
    ("msg", keys::<file::Msg>),
    ("openim", keys::<file::OpenIm>),
];

/// The keys of a table; none if there is no such table.
pub(super) fn of(table: &str) -> Keys {
    TABLES.iter().find(|(name, _)| *name == table).map_or(&[], |(_, keys)| keys())
}

/// Whether a table has a key.
pub(super) fn exists(table: &str, key: &str) -> bool {
    of(table).contains(&key)
}

/// The names of a structure's fields.
fn keys<T: for<'de> Deserialize<'de>>() -> Keys {
    match T::deserialize(Ask) {
        Err(Told(fields)) => fields,
        Ok(_) => &[],
    }
}

/// A format that has nothing to give: whoever asks it for a structure has said which fields that has.
struct Ask;

/// The fields.
#[derive(Debug)]
struct Told(Keys);

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("there is nothing to read")
    }
}

impl std::error::Error for Told {}

impl de::Error for Told {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self(&[])
    }
}

impl<'de> Deserializer<'de> for Ask {
    type Error = Told;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Told> {
        Err(Told(&[]))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Told> {
        Err(Told(fields))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever adds a table to the file adds it here, too.
    #[test]
    fn every_table_can_be_set() {
        let lists = ["services", "ring"];
        let tables: Vec<_> = keys::<file::File>().iter().filter(|name| !lists.contains(name)).collect();
        for table in &tables {
            assert!(TABLES.iter().any(|(name, _)| name == *table), "[{table}] is missing");
        }
        assert_eq!(tables.len(), TABLES.len());
        assert!(TABLES.iter().all(|(_, keys)| !keys().is_empty()));
        assert!(exists("node", "pin_dir") && !exists("node", "pin") && !exists("services", "name"));
    }
}
