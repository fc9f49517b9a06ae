//! Dictionaries of few keys, whose values of many files come together in one: a file that has more of them than its keys can count
//! says that its keys are wider, since it could not be read otherwise.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Field, Fields, Schema};
use arrow::error::ArrowError;
use arrow::row::{OwnedRow, RowConverter, SortField};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// The values of a file so far, for each dictionary of few keys, by its place in the schema.
#[derive(Default)]
pub(crate) struct NarrowDictionaries {
    values: HashMap<Vec<usize>, Values>,
}

enum Values {
    Few(RowConverter, HashSet<OwnedRow>),
    TooMany,
}

impl NarrowDictionaries {
    /// Notes the values of rows, whose dictionaries are written as these.
    ///
    /// # Errors
    /// As Arrow finds them.
    pub fn note(&mut self, fields: &Fields, columns: &[ArrayRef]) -> Result<(), ArrowError> {
        let at = &mut Vec::new();
        fields
            .iter()
            .zip(columns)
            .enumerate()
            .try_for_each(|(i, (field, array))| self.visit(at, i, field, array))
    }

    fn visit(
        &mut self,
        at: &mut Vec<usize>,
        i: usize,
        field: &Field,
        array: &ArrayRef,
    ) -> Result<(), ArrowError> {
        at.push(i);
        match field.data_type() {
            DataType::Dictionary(keys, _) if array.data_type() != field.data_type() => {
                if let Some(most) = few(keys) {
                    self.add(at, array, most)?;
                }
            }
            DataType::List(item) => self.visit(at, 0, item, array.as_list::<i32>().values())?,
            DataType::LargeList(item) => self.visit(at, 0, item, array.as_list::<i64>().values())?,
            DataType::FixedSizeList(item, _) => {
                self.visit(at, 0, item, array.as_fixed_size_list().values())?
            }
            DataType::Struct(fields) => {
                for (i, (field, array)) in fields.iter().zip(array.as_struct().columns()).enumerate() {
                    self.visit(at, i, field, array)?;
                }
            }
            DataType::Map(entries, _) => {
                let pairs: ArrayRef = Arc::new(array.as_map().entries().clone());
                self.visit(at, 0, entries, &pairs)?;
            }
            _ => {}
        }
        at.pop();
        Ok(())
    }

    fn add(&mut self, at: &[usize], array: &ArrayRef, most: usize) -> Result<(), ArrowError> {
        if !self.values.contains_key(at) {
            let rows = RowConverter::new(vec![SortField::new(array.data_type().clone())])?;
            self.values.insert(at.to_vec(), Values::Few(rows, HashSet::new()));
        }
        let Some(values) = self.values.get_mut(at) else { return Ok(()) };
        let Values::Few(converter, seen) = values else { return Ok(()) };
        let rows = converter.convert_columns(std::slice::from_ref(array))?;
        seen.extend((0..array.len()).filter(|row| array.is_valid(*row)).map(|row| rows.row(row).owned()));
        if seen.len() > most {
            *values = Values::TooMany;
        }
        Ok(())
    }

    /// The schema of the file.
    pub fn schema(&self, schema: &Schema) -> Schema {
        Schema::new(self.widen(&mut Vec::new(), schema.fields())).with_metadata(schema.metadata().clone())
    }

    fn widen(&self, at: &mut Vec<usize>, fields: &Fields) -> Fields {
        fields.iter().enumerate().map(|(i, field)| self.widen_one(at, i, field)).collect()
    }

    fn widen_one(&self, at: &mut Vec<usize>, i: usize, field: &Arc<Field>) -> Arc<Field> {
        at.push(i);
        let kind = match field.data_type() {
            DataType::Dictionary(_, values) if matches!(self.values.get(at), Some(Values::TooMany)) => {
                DataType::Dictionary(Box::new(DataType::Int32), values.clone())
            }
            DataType::List(item) => DataType::List(self.widen_one(at, 0, item)),
            DataType::LargeList(item) => DataType::LargeList(self.widen_one(at, 0, item)),
            DataType::FixedSizeList(item, size) => {
                DataType::FixedSizeList(self.widen_one(at, 0, item), *size)
            }
            DataType::Map(entries, sorted) => DataType::Map(self.widen_one(at, 0, entries), *sorted),
            DataType::Struct(fields) => DataType::Struct(self.widen(at, fields)),
            other => other.clone(),
        };
        at.pop();
        Arc::new(Field::clone(field).with_data_type(kind))
    }
}

/// How many values keys of less than 32 bits can count.
fn few(keys: &DataType) -> Option<usize> {
    match keys {
        DataType::Int8 => Some(1 << 7),
        DataType::UInt8 => Some(1 << 8),
        DataType::Int16 => Some(1 << 15),
        DataType::UInt16 => Some(1 << 16),
        _ => None,
    }
}
