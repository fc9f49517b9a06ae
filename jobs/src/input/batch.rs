//! Rows as they are read.

use crate::error::JobError;
use crate::input::lost::LostCells;
use arrow::array::RecordBatch;
use std::collections::BTreeMap;

/// Rows that follow one another in the input.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The number of the first.
    pub first_row: u64,
    pub columns: RecordBatch,
    /// The cells that cannot be read.
    pub lost: Vec<LostCells>,
}

impl Batch {
    /// Rows that can all be read.
    pub fn whole(first_row: u64, columns: RecordBatch) -> Batch {
        Batch { first_row, columns, lost: Vec::new() }
    }

    /// Its rows from this one on, if it has any.
    pub fn from_row(mut self, row: u64) -> Option<Batch> {
        let (rows, before) = (self.columns.num_rows() as u64, row.saturating_sub(self.first_row));
        if before == 0 || before >= rows {
            return (before == 0).then_some(self);
        }
        for lost in &mut self.lost {
            lost.rows = lost.rows.iter().filter_map(|at| at.checked_sub(before as usize)).collect();
        }
        self.lost.retain(|lost| !lost.rows.is_empty());
        let columns = self.columns.slice(before as usize, (rows - before) as usize);
        Some(Batch { first_row: row, columns, lost: self.lost })
    }

    /// Its first rows, so many of them.
    pub fn first(&self, rows: usize) -> Batch {
        let mut lost = self.lost.clone();
        lost.iter_mut().for_each(|lost| lost.rows.retain(|&row| row < rows));
        lost.retain(|lost| !lost.rows.is_empty());
        Batch { first_row: self.first_row, columns: self.columns.slice(0, rows), lost }
    }

    /// Some of its columns.
    ///
    /// # Errors
    /// [`JobError::Internal`] for a column that is not there.
    pub fn project(&self, columns: &[usize]) -> Result<Batch, JobError> {
        let lost = self.lost.iter().filter_map(|lost| {
            let column = columns.iter().position(|&at| at == lost.column)?;
            Some(LostCells { column, ..lost.clone() })
        });
        let lost = lost.collect();
        let columns = self.columns.project(columns).map_err(|error| JobError::Internal(error.to_string()))?;
        Ok(Batch { first_row: self.first_row, columns, lost })
    }

    /// The rows that have cells that cannot be read, and what is wrong with them.
    pub fn lost_rows(&self) -> BTreeMap<u64, String> {
        let mut rows: BTreeMap<u64, String> = BTreeMap::new();
        for lost in &self.lost {
            for row in lost.rows.iter().map(|&row| self.first_row + row as u64) {
                let error = lost.error_of(row);
                let text = rows.entry(row).or_default();
                // A line that is wrong as a whole is said once, and not by column.
                if !text.ends_with(&error) {
                    *text = if text.is_empty() { error } else { format!("{text}; {error}") };
                }
            }
        }
        rows
    }

    /// Refuses cells that cannot be read.
    ///
    /// # Errors
    /// [`JobError::Input`] about the first.
    pub fn refuse_lost(self) -> Result<Batch, JobError> {
        match self.lost.first() {
            Some(lost) => Err(lost.refusal(self.first_row)),
            None => Ok(self),
        }
    }
}
