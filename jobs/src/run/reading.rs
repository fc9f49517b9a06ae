//! The rows of the input, as a job takes what is damaged of them.

use crate::error::JobError;
use crate::input::Input;
use crate::input::batch::Batch;
use crate::options::job::OnCorrupt;
use std::ops::Range;

/// Columns of rows; with `row-errors`, cells that cannot be read are null and named by the batch, the same ones wherever
/// reading begins.
pub fn read_rows<'a>(
    input: &'a Input,
    columns: &[usize],
    rows: Range<u64>,
    on_corrupt: OnCorrupt,
) -> Box<dyn Iterator<Item = Result<Batch, JobError>> + 'a> {
    let columns = columns.to_vec();
    match on_corrupt {
        OnCorrupt::Refuse => {
            Box::new(input.read(columns, rows).map(|batch| batch.and_then(Batch::refuse_lost)))
        }
        OnCorrupt::RowErrors => Box::new(input.read_as_from_start(columns, rows)),
    }
}
