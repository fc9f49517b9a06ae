//! Which types the values of JSON have, over all lines.

use crate::input::unknown::with_unknown_type;
use arrow::datatypes::{DataType, Field, Schema};
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// More keys at one place are data and not names.
const KEYS: usize = 10_000;

/// Integers past this are not all doubles.
const EXACT: u64 = 1 << 53;

/// What was seen at one place.
#[derive(Debug, Default)]
pub struct Shape {
    text: bool,
    boolean: bool,
    float: bool,
    /// An integer; one below zero; the greatest magnitude of one.
    int: bool,
    negative: bool,
    greatest: u64,
    /// An integer that 64 bits do not hold.
    long: bool,
    items: Option<Box<Shape>>,
    keys: Option<Keys>,
}

/// Keys in the order in which they came, and their places by name.
type Keys = (Vec<(String, Shape)>, HashMap<String, usize>);

impl Shape {
    /// Takes a value in.
    ///
    /// # Errors
    /// What the reader of JSON finds.
    pub fn see<'de, D: Deserializer<'de>>(&mut self, value: D) -> Result<(), D::Error> {
        self.deserialize(value)
    }

    /// Takes in which integers of a value that was seen are past 64 bits, by its text: serde_json makes doubles of them,
    /// in which two may be one.
    pub fn see_long(&mut self, text: &str) {
        match text.as_bytes().first() {
            Some(b'{') => {
                let Some((keys, places)) = &mut self.keys else { return };
                for (key, value) in
                    serde_json::from_str::<HashMap<String, &RawValue>>(text).unwrap_or_default()
                {
                    if let Some(&place) = places.get(&key) {
                        keys[place].1.see_long(value.get());
                    }
                }
            }
            Some(b'[') => {
                let Some(shape) = &mut self.items else { return };
                let items = serde_json::from_str::<Vec<&RawValue>>(text).unwrap_or_default();
                items.into_iter().for_each(|item| shape.see_long(item.get()));
            }
            Some(b'-' | b'0'..=b'9') => {
                let integer = !text.contains(['.', 'e', 'E']);
                self.long |= integer && text.parse::<i64>().is_err() && text.parse::<u64>().is_err();
            }
            _ => {}
        }
    }

    /// The columns that objects with these keys are.
    pub fn schema(&self) -> Schema {
        let keys = self.keys.iter().flat_map(|(keys, _)| keys);
        let fields = keys.map(|(name, shape)| match shape.kind() {
            Ok(kind) => Field::new(name, kind, true),
            Err(what) => with_unknown_type(Field::new(name, DataType::Null, true), &what),
        });
        Schema::new(fields.collect::<Vec<_>>())
    }

    /// The type of all values, or what they are instead.
    fn kind(&self) -> Result<DataType, String> {
        let scalar = self.text || self.boolean || self.float || self.int;
        match (scalar, &self.items, &self.keys) {
            (false, None, None) => Ok(DataType::Null),
            (true, None, None) => self.scalar(),
            (false, Some(items), None) => {
                Ok(DataType::List(Arc::new(Field::new("item", items.kind()?, true))))
            }
            (false, None, Some((keys, _))) if keys.is_empty() => Err("an object without keys".into()),
            (false, None, Some((keys, _))) if keys.len() > KEYS => {
                Err(format!("an object of more than {KEYS} keys"))
            }
            (false, None, Some((keys, _))) => {
                let field = |(name, shape): &(String, Shape)| Ok(Field::new(name, shape.kind()?, true));
                Ok(DataType::Struct(keys.iter().map(field).collect::<Result<_, String>>()?))
            }
            _ => {
                let kinds = [
                    (scalar, "a text or number"),
                    (self.items.is_some(), "a list"),
                    (self.keys.is_some(), "an object"),
                ];
                let kinds: Vec<_> = kinds.into_iter().filter(|(is, _)| *is).map(|(_, kind)| kind).collect();
                Err(format!("{} in some rows and {} in others", kinds[0], kinds[1..].join(" or ")))
            }
        }
    }

    fn scalar(&self) -> Result<DataType, String> {
        let number = self.float || self.int;
        Ok(match (self.text, self.boolean, number) {
            _ if self.long => DataType::Utf8,
            (false, true, false) => DataType::Boolean,
            (false, false, true) if !self.float && self.greatest <= i64::MAX as u64 => DataType::Int64,
            (false, false, true) if !self.float && !self.negative => DataType::UInt64,
            (false, false, true) if self.float && self.greatest <= EXACT => DataType::Float64,
            // Texts, and numbers as they are written.
            _ => DataType::Utf8,
        })
    }
}

impl<'de> DeserializeSeed<'de> for &mut Shape {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for &mut Shape {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        self.boolean = true;
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        (self.int, self.negative) = (true, self.negative || value < 0);
        // One less below zero, where the range has one more.
        self.greatest = self.greatest.max(if value < 0 { !value } else { value } as u64);
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.int = true;
        self.greatest = self.greatest.max(value);
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        self.float = true;
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        self.text = true;
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let shape = self.items.get_or_insert_default();
        while items.next_element_seed(&mut **shape)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let (keys, places) = self.keys.get_or_insert_default();
        while let Some(key) = entries.next_key::<String>()? {
            let place = match places.get(&key) {
                Some(&place) => place,
                None if keys.len() > KEYS => {
                    entries.next_value::<serde::de::IgnoredAny>()?;
                    continue;
                }
                None => {
                    places.insert(key.clone(), keys.len());
                    keys.push((key, Shape::default()));
                    keys.len() - 1
                }
            };
            entries.next_value_seed(&mut keys[place].1)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn types_hold_every_value_that_was_seen() {
        let mut shape = Shape::default();
        for line in [
            r#"{"id": 1, "big": 18446744073709551615, "f": 1, "t": "x", "n": null, "l": [], "o": {"a": 1}, "e": {}}"#,
            r#"{"id": -9223372036854775808, "big": 0, "f": 0.5, "t": 7, "l": [1.5, null], "o": {"b": [true]}, "m": [1]}"#,
            r#"{"late": true, "wide": 18446744073709551615, "m": "x", "far": 9007199254740993}"#,
            r#"{"wide": -1, "far": 0.5}"#,
        ] {
            shape.see(&mut serde_json::Deserializer::from_str(line)).unwrap();
        }
        let schema = shape.schema();
        let kinds: Vec<_> =
            schema.fields().iter().map(|f| format!("{}: {}", f.name(), f.data_type())).collect();
        let object = r#"o: Struct("a": Int64, "b": List(Boolean))"#;
        let expected = [
            "id: Int64",
            "big: UInt64",
            "f: Float64",
            "t: Utf8",
            "n: Null",
            "l: List(Float64)",
            object,
            "e: Null",
            "m: Null",
            "late: Boolean",
            "wide: Utf8",
            "far: Utf8",
        ];
        assert_eq!(kinds, expected);
        for (column, what) in
            [("e", "an object without keys"), ("m", "a text or number in some rows and a list in others")]
        {
            let field = schema.field_with_name(column).unwrap();
            assert_eq!(field.metadata().values().next().map(String::as_str), Some(what));
        }
    }
}
