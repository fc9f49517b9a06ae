//! Rows of one file as rows of the input: columns by their places, in the types that hold those of all files.

use crate::error::JobError;
use crate::input::batch::Batch;
use crate::input::file::{InputFile, broken};
use crate::input::group_file::ReadError;
use crate::input::lost::LostCells;
use crate::input::partitions::repeated;
use crate::input::place::Place;
use crate::input::widen::widened;
use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Schema, SchemaRef};
use std::sync::Arc;

/// How the columns that are wanted of the input are made of those of a file.
pub struct Conform {
    /// Of the columns that are wanted.
    schema: SchemaRef,
    /// Where each is.
    places: Vec<Place>,
    /// The columns of the file that are read, ascending.
    pub columns: Arc<[usize]>,
}

impl Conform {
    /// For columns of the input, ascending, with their schema.
    pub fn new(file: &InputFile, columns: &[usize], schema: SchemaRef) -> Conform {
        let places: Vec<Place> = columns.iter().map(|&at| file.places[at]).collect();
        let in_file = |place: &Place| match place {
            Place::Column(at) => Some(*at),
            _ => None,
        };
        let mut columns: Vec<usize> = places.iter().filter_map(in_file).collect();
        columns.sort_unstable();
        Conform { schema, places, columns: columns.into() }
    }

    /// Rows of the file as rows of the input.
    ///
    /// # Errors
    /// [`JobError::Input`] for a column that is not there, or a single row that no array holds.
    pub fn apply(&self, file: &InputFile, batch: Batch) -> Result<Batch, JobError> {
        let rows = batch.columns.num_rows();
        let mut columns = Vec::with_capacity(self.places.len());
        let mut lost = Vec::new();
        for (to, (place, field)) in self.places.iter().zip(self.schema.fields()).enumerate() {
            columns.push(match place {
                Place::Folder(at) => repeated(file.partition[*at].1.as_deref(), field.data_type(), rows),
                Place::Nowhere => {
                    return Err(broken(&file.path, &format!(", column {}", field.name()), "is missing"));
                }
                Place::Column(at) => {
                    let from = self.columns.binary_search(at).unwrap_or_default();
                    let of_column = batch.lost.iter().filter(|lost| lost.column == from);
                    lost.extend(of_column.map(|lost| LostCells { column: to, ..lost.clone() }));
                    let (values, wrong) = widened(batch.columns.column(from), field.data_type())
                        .map_err(|error| self.failed(file, field.name(), error))?;
                    lost.extend(cells(file, to, field.name(), wrong));
                    values
                }
            });
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let columns = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)
            .map_err(|error| JobError::Internal(error.to_string()))?;
        Ok(Batch { first_row: batch.first_row, columns, lost })
    }

    fn failed(&self, file: &InputFile, column: &str, error: ReadError) -> JobError {
        match error {
            ReadError::Job(error) => error,
            ReadError::Damaged(why) | ReadError::Overflow(why) => {
                broken(&file.path, &format!(", column {column}"), &why)
            }
        }
    }
}

/// Cells that a wider type does not hold.
fn cells(file: &InputFile, column: usize, name: &str, wrong: Vec<(usize, String)>) -> Vec<LostCells> {
    let cell = |(row, why)| LostCells {
        column,
        name: name.to_string(),
        rows: vec![row],
        path: file.path.clone(),
        place: String::new(),
        why,
    };
    wrong.into_iter().map(cell).collect()
}

/// The schema of columns of a file, all of which may be null.
pub fn projected(file: &InputFile, columns: &[usize]) -> SchemaRef {
    let fields = columns.iter().map(|&at| file.schema.field(at).clone().with_nullable(true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}
