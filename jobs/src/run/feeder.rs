//! Reads the input and makes prompts, ahead of the engine and bounded.

use crate::batch::requests::{AskedRow, BatchRequests};
use crate::choices::Choices;
use crate::choices::requests::RowChoices;
use crate::documents::document::{Document, Next};
use crate::error::JobError;
use crate::input::Input;
use crate::input::batch::Batch;
use crate::journal::JournalReader;
use crate::journal::finished::FinishedRows;
use crate::journal::length_limits::LengthLimits;
use crate::options::job::OnCorrupt;
use crate::prompt::prompts::Prompts;
use crate::row_error::{RowError, RowErrorKind};
use crate::run::document_windows::{DocumentWindows, Window};
use crate::run::open_documents::OpenDocuments;
use crate::run::order::{of_prompt, order};
use crate::run::reading::read_rows;
use crate::run::request::{FailedRow, FeederResult, RowRequest};
use crate::run::sampling::Sampling;
use crate::structured::constraint::Structure;
use arrow::array::AsArray;
use std::hash::Hash;
use std::ops::Range;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

/// Rows whose prompts are made together.
const TOGETHER: usize = 64;

/// What documents need besides.
pub struct DocumentFeed<'a> {
    pub open: &'a OpenDocuments<'a>,
    /// The notes of earlier runs, if they count, and the limits by which they do.
    pub journal: Option<JournalReader>,
    pub limits: LengthLimits,
}

/// What the feeder works on.
pub struct Feeder<'a> {
    pub input: &'a Input,
    /// How prompts are made.
    pub prompts: &'a Prompts,
    /// The columns of choices, if rows are scored.
    pub choices: Option<&'a Choices>,
    /// The documents, if rows hold such.
    pub documents: Option<DocumentFeed<'a>>,
    /// What their text must be.
    pub structure: Option<&'a Structure>,
    /// What makes requests of lines, if the input is a batch.
    pub batch: Option<&'a BatchRequests>,
    /// How rows are answered, unless a row says otherwise.
    pub sampling: &'a Arc<Sampling>,
    /// The rows to answer.
    pub rows: Range<u64>,
    /// Rows that are not to be done again.
    pub finished: &'a FinishedRows,
    /// Rows that run alone, after all others.
    pub alone: Vec<u64>,
    /// Rows that begin after the others of their window, sorted.
    pub later: Vec<u64>,
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
        let end = self.rows.end;
        let first = self.rows.clone().find(|&row| !self.finished.contains(row)).unwrap_or(end);
        if self.feed_range(first..end, false, out).is_err() {
            return;
        }
        for &row in &self.alone {
            if self.feed_range(row..(row + 1).min(end), true, out).is_err() {
                return;
            }
        }
    }

    /// Sends the rows of ranges, until all are sent or nobody takes them.
    pub fn feed_ranges(&self, ranges: &[Range<u64>], out: &SyncSender<FeederResult>) {
        let fed = ranges.iter().try_for_each(|rows| self.feed_range(rows.clone(), false, out));
        // Whoever takes no more knows why.
        fed.unwrap_or(());
    }

    /// Sends the rows of batches as they come, until all are sent, one cannot be had, or nobody takes them.
    pub fn feed_batches(
        &self,
        batches: impl Iterator<Item = Result<Batch, JobError>>,
        out: &SyncSender<FeederResult>,
    ) {
        for batch in batches {
            let fed = match batch {
                Ok(batch) => self.feed_batch(&batch, false, out),
                Err(error) => {
                    let _ = out.send(Err(error));
                    Err(Gone)
                }
            };
            if fed.is_err() {
                return;
            }
        }
    }

    fn feed_range(&self, rows: Range<u64>, alone: bool, out: &SyncSender<FeederResult>) -> Result<(), Gone> {
        for batch in read_rows(self.input, self.columns(), rows, self.on_corrupt) {
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

    fn columns(&self) -> &[usize] {
        self.documents.as_ref().map_or(self.prompts.columns(), |feed| feed.open.documents.columns())
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
        if let Some(feed) = &self.documents {
            return self.feed_documents(feed, batch, &rows, alone, out);
        }
        for rows in rows.chunks(TOGETHER) {
            let row = |i: usize| batch.first_row + i as u64;
            if let Some(choices) = self.choices {
                let make = |i| choices.of_row(self.prompts, &batch.columns, i);
                let made = self.prompts.of_each(rows, self.threads, make);
                let made = rows.iter().zip(made).map(|(&i, asked)| self.scored(row(i), asked, alone));
                self.send_in_order(made.collect(), out)?;
                continue;
            }
            if let Some(requests) = self.batch {
                let lines = batch.columns.column(0).as_binary::<i32>();
                let make = |i: usize| requests.of_line(self.prompts, lines.value(i), row(i));
                let made = self.prompts.of_each(rows, self.threads, make);
                let made = rows.iter().zip(made).map(|(&i, asked)| {
                    asked.map_err(|error| FailedRow { row: row(i), error }).map(|mut asked| {
                        asked.request.alone = alone;
                        asked
                    })
                });
                self.send_asked(requests, made.collect(), out)?;
                continue;
            }
            let made = self.prompts.of_rows(&batch.columns, rows, self.threads);
            let made = rows.iter().zip(made).map(|(&i, prompt)| self.request(row(i), prompt, alone));
            self.send_in_order(made.collect(), out)?;
        }
        Ok(())
    }

    /// The order in which rows of a window begin. Where a worker has died, in their own, and those that were in flight then
    /// at the end: rows that crash a device are often long, and a start is to answer some row before it meets the next.
    fn in_order<P: Eq + Hash>(&self, known: &[(P, usize)], rows: &[u64]) -> Vec<usize> {
        if self.alone.is_empty() && self.later.is_empty() {
            return order(known);
        }
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_by_key(|&at| self.later.binary_search(&rows[at]).is_ok());
        order
    }

    /// Sends the rows of a window.
    fn send_in_order(
        &self,
        rows: Vec<Result<RowRequest, FailedRow>>,
        out: &SyncSender<FeederResult>,
    ) -> Result<(), Gone> {
        let (made, failed): (Vec<_>, Vec<_>) = rows.into_iter().partition(Result::is_ok);
        failed.into_iter().try_for_each(|row| self.send(row, out))?;
        let mut made: Vec<Option<RowRequest>> = made.into_iter().map(Result::ok).collect();
        let known: Vec<_> = made.iter().flatten().map(|row| of_prompt(&row.prompt)).collect();
        let rows: Vec<u64> = made.iter().flatten().map(|row| row.row).collect();
        for at in self.in_order(&known, &rows) {
            let Some(row) = made[at].take() else { continue };
            self.send(Ok(row), out)?;
        }
        Ok(())
    }

    /// Sends the rows of a window of a batch file. Structures are compiled as rows are sent, as many at once as there are threads,
    /// while there is memory for them: those of rows that were sent are given back as these end.
    fn send_asked(
        &self,
        requests: &BatchRequests,
        rows: Vec<Result<AskedRow, FailedRow>>,
        out: &SyncSender<FeederResult>,
    ) -> Result<(), Gone> {
        let (made, failed): (Vec<_>, Vec<_>) = rows.into_iter().partition(Result::is_ok);
        failed.into_iter().filter_map(Result::err).try_for_each(|row| self.send(Err(row), out))?;
        let made: Vec<AskedRow> = made.into_iter().filter_map(Result::ok).collect();
        let known: Vec<_> = made.iter().map(|asked| of_prompt(&asked.request.prompt)).collect();
        let rows: Vec<u64> = made.iter().map(|asked| asked.request.row).collect();
        let order = self.in_order(&known, &rows);
        let made: Vec<Mutex<Option<AskedRow>>> =
            made.into_iter().map(|asked| Mutex::new(Some(asked))).collect();
        for together in order.chunks(self.threads.max(1)) {
            requests.structures.room().wait();
            let compiled = self.prompts.of_each(together, self.threads, |at| {
                let asked = made[at].lock().unwrap_or_else(PoisonError::into_inner).take();
                let lost = || RowError::new(RowErrorKind::Internal, "its request was taken twice");
                requests.with_structure(asked.ok_or_else(lost)?)
            });
            for (&at, row) in together.iter().zip(compiled) {
                self.send(row.map_err(|error| FailedRow { row: rows[at], error }), out)?;
            }
        }
        Ok(())
    }

    /// Begins the documents of rows of a batch. While those of a window are sent, the next are cut.
    fn feed_documents(
        &self,
        feed: &DocumentFeed<'_>,
        batch: &Batch,
        rows: &[usize],
        alone: bool,
        out: &SyncSender<FeederResult>,
    ) -> Result<(), Gone> {
        let (documents, prompts, threads) = (feed.open.documents, self.prompts, self.threads);
        let all = &DocumentWindows { documents, prompts, columns: &batch.columns, rows, threads };
        std::thread::scope(|scope| {
            let (cut, windows) = sync_channel(0);
            let cut_all = move || all.each(|window| cut.send(window).is_ok());
            match std::thread::Builder::new().spawn_scoped(scope, cut_all) {
                Ok(_) => windows
                    .into_iter()
                    .try_for_each(|window| self.begin_documents(feed, batch, window, alone, out)),
                // Where the system starts no more threads, this one does the work.
                Err(_) => {
                    let mut sent = Ok(());
                    all.each(|window| {
                        sent = self.begin_documents(feed, batch, window, alone, out);
                        sent.is_ok()
                    });
                    sent
                }
            }
        })
    }

    /// Begins the documents of a window.
    fn begin_documents(
        &self,
        feed: &DocumentFeed<'_>,
        batch: &Batch,
        window: Window,
        alone: bool,
        out: &SyncSender<FeederResult>,
    ) -> Result<(), Gone> {
        let documents = feed.open.documents;
        let known: Vec<((), usize)> = window
            .iter()
            .map(|(_, opened)| ((), opened.as_ref().map_or(usize::MAX, |opened| opened.tokens())))
            .collect();
        let numbers: Vec<u64> = window.iter().map(|(row, _)| batch.first_row + *row as u64).collect();
        let mut opened: Vec<_> = window.into_iter().map(|(_, opened)| Some(opened)).collect();
        for at in self.in_order(&known, &numbers) {
            let row = numbers[at];
            let opened = match opened[at].take() {
                Some(Ok(opened)) => opened,
                Some(Err(error)) => {
                    self.send(Err(FailedRow { row, error }), out)?;
                    continue;
                }
                None => continue,
            };
            let notes = match feed.journal.as_ref().map(|journal| journal.notes(row, feed.limits)) {
                None => Vec::new(),
                Some(Ok(notes)) => notes,
                Some(Err(error)) => {
                    let _ = out.send(Err(error));
                    return Err(Gone);
                }
            };
            let (document, next) = Document::begin(documents, row, opened, notes, alone);
            feed.open.add(row, document);
            match next {
                Next::Requests(parts) => feed
                    .open
                    .requests(row, alone, parts)
                    .try_for_each(|request| self.send(Ok(request), out))?,
                // The finisher has the rest of what is known of it.
                Next::Fails(error) => self.send(Err(FailedRow { row, error }), out)?,
                Next::Waits | Next::Ends(_) => {}
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
                let structure = self.structure.map(|structure| structure.for_prompt(&prompt));
                Ok(RowRequest { row, part: None, prompt, sampling, structure, choices: None, alone })
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
        let sampling = self.sampling.clone();
        Ok(RowRequest { row, part: None, prompt, sampling, structure: None, choices, alone })
    }

    fn send(&self, row: Result<RowRequest, FailedRow>, out: &SyncSender<FeederResult>) -> Result<(), Gone> {
        out.send(Ok(row)).map_err(|_| Gone)
    }
}
