//! The values of an answer that are chosen among some: those of enumerations, and booleans.

use super::AnswerSchema;
use super::array::{Pairs, raw};
use super::types::{Column, Kind};
use arrow::array::{ArrayRef, Float32Array, ListArray, StructArray};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, Fields};
use serde_json::value::RawValue;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

/// Where answers have such values: the paths to them, as the column of the answers has them.
#[derive(Clone, Debug, PartialEq)]
pub enum Chosen {
    /// Here.
    Value,
    List(Box<Chosen>),
    /// In some of the properties.
    Struct(Vec<(String, Chosen)>),
}

impl AnswerSchema {
    /// Where answers have values that are chosen among some, if they have any.
    pub fn chosen(&self) -> Option<Chosen> {
        Chosen::of(&self.column().0)
    }
}

impl Chosen {
    fn of(column: &Column) -> Option<Chosen> {
        if column.chosen {
            return Some(Chosen::Value);
        }
        match &column.kind {
            Kind::List(items) => Chosen::of(items).map(|items| Chosen::List(Box::new(items))),
            Kind::Struct { properties, .. } => {
                let of = |(name, column): &(String, Column)| Some((name.clone(), Chosen::of(column)?));
                let fields: Vec<_> = properties.iter().filter_map(of).collect();
                (!fields.is_empty()).then_some(Chosen::Struct(fields))
            }
            _ => None,
        }
    }

    /// The type of a column with a number for each of the values: `float32`, structs of such and lists of such.
    pub fn data_type(&self) -> DataType {
        match self {
            Chosen::Value => DataType::Float32,
            Chosen::List(items) => DataType::List(items.item()),
            Chosen::Struct(fields) => DataType::Struct(Chosen::fields(fields)),
        }
    }

    fn item(&self) -> Arc<Field> {
        Arc::new(Field::new("item", self.data_type(), true))
    }

    fn fields(fields: &[(String, Chosen)]) -> Fields {
        fields.iter().map(|(name, chosen)| Field::new(name, chosen.data_type(), true)).collect()
    }

    /// The bytes of an answer that the values are, in the order of the text; `None` if it is no answer of the schema.
    pub fn values(&self, text: &str) -> Option<Vec<Range<usize>>> {
        let mut found = Vec::new();
        self.find(raw(text).ok()?, &mut found)?;
        let start = address(text);
        Some(
            found
                .into_iter()
                .map(|value| address(value) - start..address(value) - start + value.len())
                .collect(),
        )
    }

    fn find<'a>(&self, value: &'a RawValue, found: &mut Vec<&'a str>) -> Option<()> {
        match self {
            Chosen::Value => found.push(value.get()),
            _ if value.get() == "null" => {}
            Chosen::List(items) => {
                let values: Vec<&RawValue> = serde_json::from_str(value.get()).ok()?;
                values.into_iter().try_for_each(|value| items.find(value, found))?;
            }
            Chosen::Struct(fields) => {
                let Pairs(pairs) = serde_json::from_str(value.get()).ok()?;
                for (name, value) in pairs {
                    if let Some((_, chosen)) = fields.iter().find(|(field, _)| *field == name) {
                        chosen.find(value, found)?;
                    }
                }
            }
        }
        Some(())
    }

    /// The column of numbers for the values of answers, in the order of [`Chosen::values`]. Null where there is no answer, no
    /// such value in it, or another count of numbers.
    pub fn array(&self, answers: &[Option<(&str, &[f32])>]) -> ArrayRef {
        let mut numbers = HashMap::new();
        let mut known = |(text, given): (_, &[f32])| {
            let value = raw(text).ok()?;
            let mut found = Vec::new();
            self.find(value, &mut found).filter(|()| found.len() == given.len())?;
            numbers.extend(found.into_iter().map(address).zip(given.iter().copied()));
            Some(value)
        };
        let values: Vec<Option<&RawValue>> =
            answers.iter().map(|answer| answer.and_then(&mut known)).collect();
        self.array_of(&values, &numbers)
    }

    fn array_of(&self, values: &[Option<&RawValue>], numbers: &HashMap<usize, f32>) -> ArrayRef {
        let there = |value: &Option<&RawValue>| value.is_some_and(|value| value.get() != "null");
        let nulls = || NullBuffer::from_iter(values.iter().map(there));
        match self {
            Chosen::Value => {
                let number = |value: &&RawValue| numbers.get(&address(value.get())).copied();
                Arc::new(values.iter().map(|value| value.as_ref().and_then(number)).collect::<Float32Array>())
            }
            Chosen::List(items) => {
                let (mut flat, mut lengths) = (Vec::new(), Vec::new());
                for value in values {
                    let inner: Vec<&RawValue> =
                        value.and_then(|v| serde_json::from_str(v.get()).ok()).unwrap_or_default();
                    lengths.push(inner.len());
                    flat.extend(inner.into_iter().map(Some));
                }
                let flat = items.array_of(&flat, numbers);
                Arc::new(ListArray::new(
                    items.item(),
                    OffsetBuffer::from_lengths(lengths),
                    flat,
                    Some(nulls()),
                ))
            }
            Chosen::Struct(fields) => {
                let mut columns = vec![vec![None; values.len()]; fields.len()];
                for (row, value) in values.iter().enumerate() {
                    let pairs = value.and_then(|value| serde_json::from_str(value.get()).ok());
                    for (name, value) in pairs.map_or_else(Vec::new, |Pairs(pairs)| pairs) {
                        if let Some(at) = fields.iter().position(|(field, _)| *field == name) {
                            columns[at][row] = Some(value);
                        }
                    }
                }
                let arrays =
                    fields.iter().zip(&columns).map(|((_, chosen), values)| chosen.array_of(values, numbers));
                let arrays: Vec<ArrayRef> = arrays.collect();
                Arc::new(StructArray::new(Chosen::fields(fields), arrays, Some(nulls())))
            }
        }
    }
}

/// By which values of texts that are all there are told apart.
fn address(text: &str) -> usize {
    text.as_ptr() as usize
}
