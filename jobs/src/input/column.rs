//! One column of a row group, read by itself so that what is wrong with it harms no other.

use crate::input::dates::Dates;
use crate::input::group_file::{GroupFile, ReadError, next_array};
use crate::input::lost::NOT_UTF8;
use crate::input::types::has_int96;
use arrow::array::{Array, ArrayRef, UInt64Array};
use arrow::compute::{CastOptions, cast_with_options, concat, take};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use parquet::arrow::arrow_reader::ParquetRecordBatchReader;
use std::sync::Arc;

/// Rows of one column, null where they are lost.
pub struct ColumnRows {
    /// The values.
    pub values: ArrayRef,
    /// The rows that are lost, ascending, and why.
    pub lost: Vec<(usize, String)>,
    /// Why the column's row group cannot be read past these rows.
    pub ended: Option<String>,
}

/// Reads one column of a row group.
pub struct Column {
    root: usize,
    kind: DataType,
    reader: ParquetRecordBatchReader,
    dates: Option<Dates>,
}

impl Column {
    /// Reads from a row of the row group on, `batch` rows at a time.
    pub fn open(file: &GroupFile, root: usize, from: usize, batch: usize) -> Result<Column, ReadError> {
        let kind = file.metadata.schema().field(root).data_type().clone();
        let reader = file.reader(file.bytes()?, &[root], from, batch)?;
        let dates = has_int96(file.metadata.metadata(), &[root]);
        let dates = dates.then(|| Dates::open(file, root, from, batch)).transpose()?;
        Ok(Column { root, kind, reader, dates })
    }

    /// The next rows: a batch, or what is left.
    ///
    /// # Errors
    /// [`ReadError::Overflow`], and what ends the job.
    pub fn next(&mut self, file: &GroupFile, from: usize, rows: usize) -> Result<ColumnRows, ReadError> {
        match self.read(file, rows) {
            Err(ReadError::Damaged(why)) if rows > 1 => self.one_by_one(file, from, rows, why),
            Err(ReadError::Damaged(why)) => self.ended(Vec::new(), Vec::new(), rows, why),
            other => other.map(|(values, lost)| ColumnRows { values, lost, ended: None }),
        }
    }

    fn read(&mut self, file: &GroupFile, rows: usize) -> Result<(ArrayRef, Vec<(usize, String)>), ReadError> {
        let values = next_array(file, &mut self.reader, rows)?;
        let (values, mut lost) = text_of(values, &self.kind).map_err(|e| file.failed(e.to_string()))?;
        let Some(dates) = &mut self.dates else { return Ok((values, lost)) };
        let wrong = dates.wrong(file, &values)?;
        let values =
            without(&values, wrong.iter().map(|(row, _)| *row)).map_err(|e| file.failed(e.to_string()))?;
        lost.extend(wrong);
        lost.sort_by_key(|(row, _)| *row);
        lost.dedup_by_key(|(row, _)| *row);
        Ok((values, lost))
    }

    /// Reads the rows of a batch that cannot be read whole, up to the first that cannot be read by itself.
    fn one_by_one(
        &mut self,
        file: &GroupFile,
        from: usize,
        rows: usize,
        why: String,
    ) -> Result<ColumnRows, ReadError> {
        let (mut read, mut lost): (Vec<ArrayRef>, Vec<(usize, String)>) = Default::default();
        let mut single = match Column::open(file, self.root, from, 1) {
            Err(ReadError::Damaged(_)) => return self.ended(read, lost, rows, why),
            other => other?,
        };
        while read.len() < rows {
            match single.read(file, 1) {
                Ok((values, wrong)) => {
                    lost.extend(wrong.into_iter().map(|(_, why)| (read.len(), why)));
                    read.push(values);
                }
                Err(ReadError::Damaged(why)) => return self.ended(read, lost, rows, why),
                Err(other) => return Err(other),
            }
        }
        // Every row can be read: what is wrong comes with the next.
        *self = Column::open(file, self.root, from + rows, rows)?;
        Ok(ColumnRows { values: joined(&read, &self.kind, 0)?, lost, ended: None })
    }

    fn ended(
        &self,
        read: Vec<ArrayRef>,
        mut lost: Vec<(usize, String)>,
        rows: usize,
        why: String,
    ) -> Result<ColumnRows, ReadError> {
        let good = read.len();
        lost.extend((good..rows).map(|row| (row, why.clone())));
        Ok(ColumnRows { values: joined(&read, &self.kind, rows - good)?, lost, ended: Some(why) })
    }
}

/// Arrays one after another, then so many nulls.
fn joined(arrays: &[ArrayRef], kind: &DataType, nulls: usize) -> Result<ArrayRef, ReadError> {
    let nulls = arrow::array::new_null_array(kind, nulls);
    let all: Vec<&dyn Array> = arrays.iter().chain([&nulls]).map(|array| array.as_ref()).collect();
    concat(&all).map_err(|error| ReadError::of(error.to_string()))
}

/// Makes texts of bytes. Returns the rows that are no text, and has null for them.
fn text_of(bytes: ArrayRef, kind: &DataType) -> Result<(ArrayRef, Vec<(usize, String)>), ArrowError> {
    if bytes.data_type() == kind {
        return Ok((bytes, Vec::new()));
    }
    if let Ok(text) = strictly(&bytes, kind) {
        return Ok((text, Vec::new()));
    }
    let mut lost = Vec::new();
    for row in 0..bytes.len() {
        // A slice of a list would still hold the other rows' items.
        let one = take(&bytes, &UInt64Array::from(vec![row as u64]), None)?;
        if strictly(&one, kind).is_err() {
            lost.push(row);
        }
    }
    let text = strictly(&without(&bytes, lost.iter().copied())?, kind)?;
    Ok((text, lost.into_iter().map(|row| (row, NOT_UTF8.to_string())).collect()))
}

fn strictly(array: &ArrayRef, kind: &DataType) -> Result<ArrayRef, ArrowError> {
    let options = CastOptions { safe: false, ..CastOptions::default() };
    if let DataType::Dictionary(_, value) = kind {
        let plain = cast_with_options(array, value, &options)?;
        return cast_with_options(&plain, kind, &options);
    }
    cast_with_options(array, kind, &options)
}

/// An array with null in some rows, and nothing of them below it.
fn without(array: &ArrayRef, rows: impl Iterator<Item = usize>) -> Result<ArrayRef, ArrowError> {
    let mut places: Vec<Option<u64>> = (0..array.len() as u64).map(Some).collect();
    let mut any = false;
    for row in rows {
        places[row] = None;
        any = true;
    }
    if !any {
        return Ok(Arc::clone(array));
    }
    take(array, &UInt64Array::from(places), None)
}
