//! The output of a finished job: a pure function of the journal and the inputs.
//!
//! Parts cover fixed ranges of input rows. Batches, row groups, encodings and the footer depend on nothing
//! but the rows, so that however a job was scheduled or interrupted, its files have the same bytes. They are
//! written aside, synced, and appear by one rename; those of an object store go there one by one.

use crate::batch::results::Results;
use crate::error::JobError;
use crate::input::batch::Batch;
use crate::journal::JournalReader;
use crate::journal::answer::Answer;
use crate::journal::identity::Identity;
use crate::options::shard::{Shard, files_of, rows_of_file};
use crate::publish::columns::OutputColumns;
use crate::publish::format::OutputFormat;
use crate::publish::input_rows::InputRows;
use crate::publish::local::{LocalOutput, clear};
use crate::publish::manifest::{self, ColumnNulls, Manifest, Part, inputs_digest};
use crate::publish::part_writer::PartWriter;
use crate::publish::target::Target;
use crate::publish::unheld::refuse_unheld;
use crate::row_error::{RowError, RowErrorKind};
use arrow::array::AsArray;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{WriterProperties, WriterVersion};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

/// Rows that are read from the journal, joined and encoded at a time.
const BATCH: u64 = 256;

/// Rows of a row group, unless they are too long.
const GROUP_ROWS: u64 = 8192;

/// What to do with rows that have no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unanswered {
    /// Refuse to publish.
    Refuse,
    /// Publish them with the finish reason "abort".
    Abort,
}

/// What to publish, and where.
pub struct Publication<'a> {
    /// A file, or with `rows_per_file` a folder of parts.
    pub target: &'a Target,
    pub state_dir: &'a Path,
    /// What decided the answers; goes into the footers and the manifest.
    pub identity: &'a Identity,
    /// The number of rows of the output, from the first.
    pub rows: u64,
    /// Rows of each part but the last.
    pub rows_per_file: Option<u64>,
    /// Whose parts to write, if not all.
    pub shard: Option<Shard>,
    pub columns: &'a OutputColumns,
    /// Nulls of the input's columns by its footers, by name, where they say so.
    pub input_nulls: BTreeMap<String, u64>,
    /// What to do with rows that have no answer.
    pub unanswered: Unanswered,
    /// What makes lines of the requests of a batch and their answers, in the place of columns.
    pub results: Option<&'a Results>,
    /// Asked when all is written, before any of it appears.
    pub may_appear: &'a dyn Fn() -> Result<(), JobError>,
}

impl Publication<'_> {
    /// Writes the output from the journal and all batches of the input, in order.
    ///
    /// # Errors
    /// [`JobError::Incomplete`] if a row has no answer and that is not allowed; [`JobError::JournalDamaged`]
    /// if an answer is not what was written; errors of `inputs`; [`JobError::Io`], [`JobError::Encode`] and
    /// [`JobError::Column`]; of a store [`JobError::Store`], and [`JobError::OutputExists`] if another job has
    /// published there meanwhile. The output is then as it was before.
    pub fn publish(
        &self,
        journal: &JournalReader,
        inputs: impl Iterator<Item = Result<Batch, JobError>>,
    ) -> Result<Manifest, JobError> {
        let folder = self.rows_per_file.is_some();
        let aside = self.target.aside(self.state_dir, folder)?;
        let published = self.publish_from(&aside, folder, journal, inputs);
        if published.is_err() {
            // What is half written may be what fills the disk, and is written anew in any case.
            let _ = clear(&aside);
        }
        published
    }

    /// Writes the output to a folder, from which it appears.
    fn publish_from(
        &self,
        aside: &Path,
        folder: bool,
        journal: &JournalReader,
        inputs: impl Iterator<Item = Result<Batch, JobError>>,
    ) -> Result<Manifest, JobError> {
        let mut staged = Vec::new();
        let written = self.write_parts(aside, journal, inputs, |path, part| {
            if let Target::Remote(remote) = self.target {
                staged.extend(remote.stage(path, part, folder)?);
                std::fs::remove_file(path).map_err(JobError::io("remove", path))?;
            }
            Ok(())
        });
        if let (Err(JobError::Incomplete { .. }), Target::Remote(remote)) = (&written, self.target) {
            remote.discard_uploads()?;
        }
        let WrittenParts { parts, nulls, unreadable, aborted } = written?;
        let manifest = Manifest {
            version: env!("CARGO_PKG_VERSION").into(),
            identity: self.identity.clone(),
            identity_blake3: self.identity.digest(),
            inputs_blake3: Some(inputs_digest(journal.inputs())),
            rows: self.rows,
            aborted,
            unreadable,
            nulls,
            parts,
        };
        (self.may_appear)()?;
        match self.target {
            Target::Local(output) => {
                LocalOutput::new(output, self.state_dir, folder).reveal(aside, &manifest)?;
            }
            Target::Remote(remote) => {
                remote.reveal(staged, &manifest, folder)?;
                clear(aside)?;
            }
        }
        Ok(manifest)
    }

    /// Writes the parts to a folder, and hands over each as it is there.
    ///
    /// # Errors
    /// As [`Publication::publish`].
    pub(crate) fn write_parts(
        &self,
        aside: &Path,
        journal: &JournalReader,
        inputs: impl Iterator<Item = Result<Batch, JobError>>,
        mut take: impl FnMut(&Path, &Part) -> Result<(), JobError>,
    ) -> Result<WrittenParts, JobError> {
        let folder = self.rows_per_file.is_some();
        let mut rows = InputRows::new(inputs, self.columns);
        let mut unanswered = Missing::default();
        let mut parts = Vec::new();
        for (name, range) in self.parts() {
            let path = aside.join(self.target.name_aside(&name, folder));
            let part = self.write_part(&path, name, range, journal, &mut rows, &mut unanswered)?;
            take(&path, &part)?;
            parts.push(part);
        }
        let Missing { count, first, unreadable } = unanswered;
        if count > 0 && self.unanswered == Unanswered::Refuse {
            return Err(JobError::Incomplete { missing: count, rows: self.rows, first });
        }
        Ok(WrittenParts { parts, nulls: self.nulls(rows.nulls()), unreadable, aborted: count })
    }

    /// Adds what the input's footers say.
    fn nulls(&self, mut nulls: Vec<ColumnNulls>) -> Vec<ColumnNulls> {
        for column in &mut nulls {
            column.input = self.input_nulls.get(&column.column).copied();
        }
        nulls
    }

    /// The format, which the output's name says; another name than that of a format was refused before.
    fn format(&self) -> OutputFormat {
        OutputFormat::of_name(&self.target.name()).unwrap_or(OutputFormat::Parquet)
    }

    /// The name and the rows of each part.
    fn parts(&self) -> Vec<(String, Range<u64>)> {
        let Some(per_file) = self.rows_per_file else {
            return vec![(self.target.name(), 0..self.rows)];
        };
        let files = files_of(self.rows, per_file);
        let files = self.shard.map_or(0..files, |shard| shard.files(files));
        files.map(|at| (part_name(at, self.format()), rows_of_file(at, self.rows, per_file))).collect()
    }

    fn write_part(
        &self,
        path: &Path,
        name: String,
        range: Range<u64>,
        journal: &JournalReader,
        rows: &mut InputRows<'_, impl Iterator<Item = Result<Batch, JobError>>>,
        missing: &mut Missing,
    ) -> Result<Part, JobError> {
        let schema = self.columns.file_schema();
        let mut writer = PartWriter::create(path, self.format(), &schema, self.properties(range.start))?;
        let mut at = range.start;
        while at < range.end {
            let end = (at + BATCH).min(range.end);
            let mut answers = journal.answers(at..end)?;
            missing.note(at, &answers);
            let mut answers = answers.as_mut_slice();
            while at < end {
                let kept = rows.take((end - at) as usize)?;
                if self.format() == OutputFormat::Parquet {
                    refuse_unheld(&kept, at)?;
                }
                let (now, later) = answers.split_at_mut(kept.num_rows());
                for (row, answer) in (at..).zip(&mut *now) {
                    missing.unreadable += u64::from(note_error(answer, rows.error(row)));
                }
                match self.results {
                    Some(results) => {
                        let lines = kept.column(0).as_binary::<i32>();
                        for (row, (line, answer)) in (at..).zip(lines.iter().zip(&*now)) {
                            let line = line.unwrap_or_default();
                            writer.write_line(&results.line(row, line, answer.as_ref())?)?;
                        }
                    }
                    None => writer.write(&self.columns.join(&kept, now)?, at)?,
                }
                at += now.len() as u64;
                answers = later;
            }
            if (at - range.start).is_multiple_of(GROUP_ROWS) {
                writer.end_group()?;
            }
        }
        let (blake3, bytes) = writer.finish()?;
        Ok(Part { name, first_row: range.start, rows: range.end - range.start, bytes, blake3 })
    }

    fn properties(&self, first_row: u64) -> WriterProperties {
        let identity = serde_json::to_string(self.identity).unwrap_or_default();
        let entry = |key: &str, value: String| KeyValue::new(key.to_string(), value);
        let mut entries = vec![
            entry(manifest::IDENTITY_KEY, identity),
            entry(manifest::VERSION_KEY, env!("CARGO_PKG_VERSION").to_string()),
            entry(manifest::FIRST_ROW_KEY, first_row.to_string()),
        ];
        // Also for readers that know nothing of Arrow's schema.
        let metadata = self.columns.schema().metadata().iter();
        entries.extend(metadata.map(|(key, value)| entry(key, value.clone())));
        WriterProperties::builder()
            .set_created_by(format!("gristmill {}", env!("CARGO_PKG_VERSION")))
            .set_writer_version(WriterVersion::PARQUET_1_0)
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_max_row_group_row_count(Some(GROUP_ROWS as usize))
            // A Date64 as a number without a type is what the writer makes of it else.
            .set_coerce_types(self.columns.has_date64())
            .set_key_value_metadata(Some(entries))
            .build()
    }
}

/// Parts that are written.
pub(crate) struct WrittenParts {
    pub parts: Vec<Part>,
    pub nulls: Vec<ColumnNulls>,
    /// Rows that have an answer and an error besides, as a kept cell of theirs cannot be read.
    pub unreadable: u64,
    /// Rows without an answer.
    pub aborted: u64,
}

/// The name of a file of a folder of parts.
pub(crate) fn part_name(at: u64, format: OutputFormat) -> String {
    format!("part-{at:05}.{}", format.ending())
}

/// Gives a row that has an answer the error of its kept cells; whether it had none before.
pub(crate) fn note_error(answer: &mut Option<Answer>, error: Option<String>) -> bool {
    let (Some(answer), Some(error)) = (answer, error) else { return false };
    if answer.error.is_some() {
        return false;
    }
    answer.error = Some(RowError::new(RowErrorKind::Unreadable, error).to_string());
    true
}

/// Rows without an answer, and those that lack a kept cell beside it.
#[derive(Default)]
struct Missing {
    count: u64,
    first: u64,
    unreadable: u64,
}

impl Missing {
    fn note<T>(&mut self, start: u64, answers: &[Option<T>]) {
        for (row, _) in (start..).zip(answers).filter(|(_, answer)| answer.is_none()) {
            if self.count == 0 {
                self.first = row;
            }
            self.count += 1;
        }
    }
}

#[cfg(test)]
mod tests;
