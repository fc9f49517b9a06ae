//! Reads the input and makes prompts, ahead of the engine and bounded.

use crate::batch::requests::BatchRequests;
use crate::choices::Choices;
use crate::choices::requests::RowChoices;
use crate::input::Input;
use crate::input::batch::Batch;
use crate::journal::finished::FinishedRows;
use crate::options::job::OnCorrupt;
use crate::prompt::prompts::Prompts;
use crate::row_error::{RowError, RowErrorKind};
use crate::run::request::{FailedRow, FeederResult, RowRequest};
use crate::run::sampling::Sampling;
use crate::structured::constraint::Structure;
use arrow::array::AsArray;
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

/// Rows whose prompts are made together.
const TOGETHER: usize = 64;

/// What the feeder works on.
pub struct Feeder<'a> {
    pub input: &'a Input,
    /// How prompts are made.
    pub prompts: &'a Prompts,
    /// The columns of choices, if rows are scored.
    pub choices: Option<&'a Choices>,
    /// What makes requests of lines, if the input is a batch.
    pub batch: Option<&'a BatchRequests>,
    /// What their text must be.
    pub structure: Option<&'a Structure>,
    /// How rows are answered, unless a row says otherwise.
    pub sampling: &'a Arc<Sampling>,
    /// The number of rows of the job, from the first.
    pub rows: u64,
    /// Rows that are not to be done again.
    pub finished: &'a FinishedRows,
    /// Rows that run alone, after all others.
    pub alone: Vec<u64>,
    /// What to do about rows that cannot be read.
    pub on_corrupt: OnCorrupt,
    /// Threads that make prompts.
    pub threads: usize,
}

/// Nobody receives rows any more: the job has ended.
struct Gone;

impl Feeder<'_> {
    /// Sends every row that is not finished, in order, until all are sent or nobody takes them.
    pub fn feed(&self, out: &SyncSender<FeederResult>) {
        let first = (0..self.rows).find(|&row| !self.finished.contains(row)).unwrap_or(self.rows);
        if self.feed_range(first..self.rows, false, out).is_err() {
            return;
        }
        for &row in &self.alone {
            if self.feed_range(row..(row + 1).min(self.rows), true, out).is_err() {
                return;
            }
        }
    }

    fn feed_range(&self, rows: Range<u64>, alone: bool, out: &SyncSender<FeederResult>) -> Result<(), Gone> {
        for batch in self.input.read(self.prompts.columns().to_vec(), rows) {
            let batch = match self.on_corrupt {
                OnCorrupt::Refuse => batch.and_then(Batch::refuse_lost),
                OnCorrupt::RowErrors => batch,
            };
            match batch {
                Ok(batch) => self.feed_batch(&batch, alone, out)?,
                Err(error) => {
                    let _ = out.send(Err(error));
                    return Err(Gone);
                }
            }
        }
        Ok(())
    }

    fn takes(&self, row: u64, alone: bool) -> bool {
        !self.finished.contains(row) && (alone || !self.alone.contains(&row))
    }

    fn feed_batch(&self, batch: &Batch, alone: bool, out: &SyncSender<FeederResult>) -> Result<(), Gone> {
        let lost = batch.lost_rows();
        for (&row, detail) in lost.iter().filter(|(row, _)| self.takes(**row, alone)) {
            let error = RowError::new(RowErrorKind::Unreadable, detail);
            self.send(Err(FailedRow { row, error }), out)?;
        }
        let rows: Vec<usize> = (0..batch.columns.num_rows())
            .filter(|&i| self.takes(batch.first_row + i as u64, alone))
            .filter(|&i| !lost.contains_key(&(batch.first_row + i as u64)))
            .collect();
        for rows in rows.chunks(TOGETHER) {
            let row = |i: usize| batch.first_row + i as u64;
            if let Some(choices) = self.choices {
                let make = |i| choices.of_row(self.prompts, &batch.columns, i);
                let made = self.prompts.of_each(rows, self.threads, make);
                for (&i, asked) in rows.iter().zip(made) {
                    self.send(self.scored(row(i), asked, alone), out)?;
                }
                continue;
            }
            if let Some(requests) = self.batch {
                let lines = batch.columns.column(0).as_binary::<i32>();
                let make = |i: usize| requests.of_line(self.prompts, lines.value(i), row(i));
                let made = self.prompts.of_each(rows, self.threads, make);
                for (&i, asked) in rows.iter().zip(made) {
                    let asked = asked.map(|request| RowRequest { alone, ..request });
                    self.send(asked.map_err(|error| FailedRow { row: row(i), error }), out)?;
                }
                continue;
            }
            let made = self.prompts.of_rows(&batch.columns, rows, self.threads);
            for (&i, prompt) in rows.iter().zip(made) {
                self.send(self.request(row(i), prompt, alone), out)?;
            }
        }
        Ok(())
    }

    fn request(
        &self,
        row: u64,
        prompt: Result<Vec<u32>, RowError>,
        alone: bool,
    ) -> Result<RowRequest, FailedRow> {
        let sampling = self.sampling.clone();
        match prompt {
            Ok(prompt) => {
                let structure = self.structure.cloned();
                Ok(RowRequest { row, prompt, sampling, structure, choices: None, alone })
            }
            Err(error) => Err(FailedRow { row, error }),
        }
    }

    fn scored(
        &self,
        row: u64,
        asked: Result<RowChoices, RowError>,
        alone: bool,
    ) -> Result<RowRequest, FailedRow> {
        let asked = asked.map_err(|error| FailedRow { row, error })?;
        let prompt = asked.columns[0].tokens.clone();
        let choices = Some(Arc::new(asked));
        Ok(RowRequest { row, prompt, sampling: self.sampling.clone(), structure: None, choices, alone })
    }

    fn send(&self, row: Result<RowRequest, FailedRow>, out: &SyncSender<FeederResult>) -> Result<(), Gone> {
        out.send(Ok(row)).map_err(|_| Gone)
    }
}
