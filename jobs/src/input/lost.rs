//! Cells that cannot be read.

use crate::error::JobError;
use crate::input::file::broken;
use std::path::PathBuf;

/// What is wrong with a text.
pub const NOT_UTF8: &str = "the text is not UTF-8";

/// Cells of one column of a batch that cannot be read; the batch has null in their place.
#[derive(Clone, Debug)]
pub struct LostCells {
    /// The column's position in the batch.
    pub column: usize,
    /// Its name; empty where the line is wrong as a whole.
    pub name: String,
    /// The rows in the batch, ascending.
    pub rows: Vec<usize>,
    /// The file.
    pub path: PathBuf,
    /// Where in the file, as in "row group 3" or "line 17"; empty where it cannot be told.
    pub place: String,
    /// What is wrong with them.
    pub why: String,
}

impl LostCells {
    /// What the row of this number gets for an error.
    pub fn error_of(&self, row: u64) -> String {
        let LostCells { name, why, path, .. } = self;
        let column = if name.is_empty() { String::new() } else { format!("column {name}, ") };
        format!("{column}row {row}: {why} ({}{})", path.display(), self.after_path())
    }

    fn after_path(&self) -> String {
        if self.place.is_empty() { String::new() } else { format!(", {}", self.place) }
    }

    /// The error of a job that takes no such cells; `first_row` is that of the batch.
    pub fn refusal(&self, first_row: u64) -> JobError {
        if self.name.is_empty() {
            let why = format!(
                "{}; with --on-corrupt row-errors such rows get an `error`; or mend the line",
                self.why
            );
            return broken(&self.path, &self.after_path(), &why);
        }
        let place = format!("{}, column {}", self.after_path(), self.name);
        let first = first_row + self.rows.first().map_or(0, |&row| row as u64);
        let which = match self.rows.len() {
            0 | 1 => format!("row {first}"),
            n => format!("{n} rows from row {first} on"),
        };
        let why = format!(
            "{which}: {}; with --on-corrupt row-errors such rows get an `error`, and null in this column; or write \
             the file anew",
            self.why
        );
        broken(&self.path, &place, &why)
    }
}
