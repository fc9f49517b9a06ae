//! INT96 dates: whether 64 bits hold them. The Parquet library wraps round where they do not.

use crate::input::group_file::{GroupFile, ReadError, next_array};
use crate::input::types::with_unit;
use arrow::array::{Array, ArrayData, ArrayRef, UInt64Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, TimeUnit};
use parquet::arrow::arrow_reader::ParquetRecordBatchReader;

/// Reads a column's dates once more: as seconds, which hold every INT96, and as nanoseconds, whose lowest digits are
/// right even where they wrap.
pub struct Dates {
    seconds: ParquetRecordBatchReader,
    nanoseconds: ParquetRecordBatchReader,
}

impl Dates {
    /// Reads from a row of the row group on.
    pub fn open(file: &GroupFile, root: usize, from: usize, batch: usize) -> Result<Dates, ReadError> {
        let reader = |unit| {
            let metadata = with_unit(&file.metadata, unit).map_err(|e| file.failed(e.to_string()))?;
            file.reader(&metadata, &[root], from, batch)
        };
        Ok(Dates { seconds: reader(TimeUnit::Second)?, nanoseconds: reader(TimeUnit::Nanosecond)? })
    }

    /// The rows of the next values that are not what the file has, and why.
    pub fn wrong(&mut self, file: &GroupFile, values: &ArrayRef) -> Result<Vec<(usize, String)>, ReadError> {
        let seconds = next_array(file, &mut self.seconds, values.len())?;
        let nanoseconds = next_array(file, &mut self.nanoseconds, values.len())?;
        if same(&values.to_data(), &seconds.to_data(), &nanoseconds.to_data()).is_ok() {
            return Ok(Vec::new());
        }
        let mut wrong = Vec::new();
        for row in 0..values.len() {
            let row_of = |array: &ArrayRef| -> Result<ArrayData, ReadError> {
                let one = take(array, &UInt64Array::from(vec![row as u64]), None);
                Ok(one.map_err(|e| file.failed(e.to_string()))?.to_data())
            };
            if let Err(why) = same(&row_of(values)?, &row_of(&seconds)?, &row_of(&nanoseconds)?) {
                wrong.push((row, why));
            }
        }
        Ok(wrong)
    }
}

fn same(values: &ArrayData, seconds: &ArrayData, nanoseconds: &ArrayData) -> Result<(), String> {
    let (DataType::Timestamp(unit, _), DataType::Timestamp(TimeUnit::Second, _)) =
        (values.data_type(), seconds.data_type())
    else {
        let children = values.child_data().iter().zip(seconds.child_data()).zip(nanoseconds.child_data());
        return children.into_iter().try_for_each(|((v, s), n)| same(v, s, n));
    };
    let per_second = match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    };
    let of = |array: &ArrayData, row: usize| array.buffers()[0].typed_data::<i64>()[array.offset() + row];
    for row in (0..values.len()).filter(|&row| values.is_valid(row)) {
        let value = of(values, row);
        if value.div_euclid(per_second) != of(seconds, row) {
            return Err(format!(
                "the date is past what a timestamp in {unit:?}s holds; write the column in a coarser unit"
            ));
        }
        if of(nanoseconds, row) != value.wrapping_mul(1_000_000_000 / per_second) {
            return Err(format!(
                "the INT96 date has digits below a {unit:?}, which would be lost; write the column as a \
                 timestamp in nanoseconds"
            ));
        }
    }
    Ok(())
}
