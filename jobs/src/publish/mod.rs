//! Makes the output of a finished job: a pure function of the journal and the inputs.
//!
//! Parts cover fixed ranges of input rows. Batches, row groups, encodings and the footer depend on nothing
//! but the rows, so that however a job was scheduled or interrupted, its files have the same bytes. They are
//! written aside, synced, and appear by one rename; those of an object store go there one by one.

pub mod columns;
pub mod manifest;
pub(crate) mod remote;
pub mod verify;

use crate::error::JobError;
use crate::files::{rename, sync_folder, write_durably};
use crate::journal::JournalReader;
use crate::journal::identity::Identity;
use crate::publish::columns::OutputColumns;
use crate::publish::manifest::{Manifest, Part};
use crate::publish::remote::RemoteOutput;
use crate::store::location::Location;
use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{WriterProperties, WriterVersion};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Rows that are read from the journal, joined and encoded at a time.
const BATCH: u64 = 256;

/// The most rows in a row group.
const GROUP_ROWS: u64 = 8192;

/// A row group ends early when it has so many encoded bytes, which bounds memory for long rows.
const GROUP_BYTES: usize = 64 << 20;

/// What to do about rows that have no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unanswered {
    /// Refuse to publish.
    Refuse,
    /// Publish them with the finish reason "abort".
    Abort,
}

/// Where an output goes: a file, or a folder of parts.
pub enum Target {
    /// On this machine, in the file system of the working folder.
    Local(PathBuf),
    /// In an object store.
    Remote(RemoteOutput),
}

impl Target {
    /// Opens the store of an output, if it has one.
    ///
    /// # Errors
    /// [`JobError::Store`].
    pub fn open(output: &Location, work: &Path) -> Result<Self, JobError> {
        match output {
            Location::Local(path) => Ok(Target::Local(path.clone())),
            Location::Object(url) => RemoteOutput::open(url, work).map(Target::Remote),
        }
    }

    /// Refuses an output that is in the way and was not made by this job. To be asked before the work.
    ///
    /// # Errors
    /// [`JobError::OutputExists`], [`JobError::Claimed`], [`JobError::Io`] or [`JobError::Store`].
    pub fn check(&self, work: &Path) -> Result<(), JobError> {
        let output = match self {
            Target::Local(path) => path,
            Target::Remote(remote) => return remote.check(),
        };
        let exists = output.try_exists().map_err(JobError::io("look at", output))?;
        if exists && !work.join(manifest::NAME).exists() && !empty_folder(output) {
            return Err(JobError::OutputExists { path: output.to_path_buf() });
        }
        Ok(())
    }

    /// Makes sure that no other job writes to the same place of a store from now on. Here the lock on the working
    /// folder does that, which must be held in either case.
    ///
    /// # Errors
    /// As [`Target::check`].
    pub fn claim(&self) -> Result<(), JobError> {
        match self {
            Target::Local(_) => Ok(()),
            Target::Remote(remote) => remote.claim(),
        }
    }

    /// The name of the file itself.
    fn name(&self) -> String {
        match self {
            Target::Local(path) => file_name(path),
            Target::Remote(remote) => remote.name().to_string(),
        }
    }
}

/// What to publish, and where.
pub struct Publication<'a> {
    /// A file, or with `rows_per_file` a folder of parts.
    pub target: &'a Target,
    /// The working folder.
    pub work: &'a Path,
    /// What decided the answers; goes into the footers and the manifest.
    pub identity: &'a Identity,
    /// The first so many rows of the input are published.
    pub rows: u64,
    /// Rows of each part but the last.
    pub rows_per_file: Option<u64>,
    /// The columns.
    pub columns: &'a OutputColumns,
    /// What to do about rows that have no answer.
    pub unanswered: Unanswered,
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
        inputs: impl Iterator<Item = Result<RecordBatch, JobError>>,
    ) -> Result<Manifest, JobError> {
        let aside = self.work.join("publishing");
        clear(&aside)?;
        std::fs::create_dir_all(&aside).map_err(JobError::io("create", &aside))?;
        let mut rows = InputRows { inputs, ready: VecDeque::new(), columns: self.columns };
        let mut unanswered = Missing::default();
        let mut parts = Vec::new();
        let mut staged = Vec::new();
        for (name, range) in self.parts() {
            let path = aside.join(&name);
            let part = self.write_part(&path, name, range, journal, &mut rows, &mut unanswered)?;
            if let Target::Remote(remote) = self.target {
                staged.extend(remote.stage(&path, &part, self.rows_per_file.is_some())?);
                std::fs::remove_file(&path).map_err(JobError::io("remove", &path))?;
            }
            parts.push(part);
        }
        if unanswered.count > 0 && self.unanswered == Unanswered::Refuse {
            clear(&aside)?;
            if let Target::Remote(remote) = self.target {
                remote.discard_uploads()?;
            }
            let Missing { count, first } = unanswered;
            return Err(JobError::Incomplete { missing: count, rows: self.rows, first });
        }
        let manifest = Manifest {
            version: env!("CARGO_PKG_VERSION").into(),
            identity: self.identity.clone(),
            identity_blake3: self.identity.digest(),
            rows: self.rows,
            aborted: unanswered.count,
            parts,
        };
        match self.target {
            Target::Local(output) => self.reveal(output, &aside, &manifest)?,
            Target::Remote(remote) => {
                remote.reveal(staged, &manifest, self.rows_per_file.is_some())?;
                clear(&aside)?;
            }
        }
        Ok(manifest)
    }

    /// The name and the rows of each part.
    fn parts(&self) -> Vec<(String, Range<u64>)> {
        let Some(per_file) = self.rows_per_file else {
            return vec![(self.target.name(), 0..self.rows)];
        };
        let per_file = per_file.max(1);
        let count = self.rows.div_ceil(per_file).max(1);
        let part =
            |i: u64| (format!("part-{i:05}.parquet"), i * per_file..((i + 1) * per_file).min(self.rows));
        (0..count).map(part).collect()
    }

    fn write_part(
        &self,
        path: &Path,
        name: String,
        range: Range<u64>,
        journal: &JournalReader,
        rows: &mut InputRows<'_, impl Iterator<Item = Result<RecordBatch, JobError>>>,
        missing: &mut Missing,
    ) -> Result<Part, JobError> {
        let wrong = |source| encode_error(path, source);
        let file = File::create(path).map_err(JobError::io("create", path))?;
        let sink = DigestWriter { file: BufWriter::new(file), hasher: blake3::Hasher::new(), bytes: 0 };
        let properties = self.properties(range.start);
        let mut writer =
            ArrowWriter::try_new(sink, self.columns.schema().clone(), Some(properties)).map_err(wrong)?;
        let mut at = range.start;
        while at < range.end {
            let end = (at + BATCH).min(range.end);
            let answers = journal.answers(at..end)?;
            missing.note(at, &answers);
            let batch = self.columns.join(&rows.take((end - at) as usize)?, &answers)?;
            writer.write(&batch).map_err(wrong)?;
            at = end;
            if (at - range.start).is_multiple_of(GROUP_ROWS) || writer.in_progress_size() >= GROUP_BYTES {
                writer.flush().map_err(wrong)?;
            }
        }
        writer.finish().map_err(wrong)?;
        // Not by `into_inner`, which would tell what the system says as the writer's own words.
        let sink = writer.inner_mut();
        let (blake3, bytes) = (sink.hasher.finalize().to_hex().to_string(), sink.bytes);
        let synced = sink.file.flush().and_then(|()| sink.file.get_ref().sync_all());
        synced.map_err(JobError::io("write", path))?;
        Ok(Part { name, first_row: range.start, rows: range.end - range.start, bytes, blake3 })
    }

    fn properties(&self, first_row: u64) -> WriterProperties {
        let identity = serde_json::to_string(self.identity).unwrap_or_default();
        let entry = |key: &str, value: String| KeyValue::new(key.to_string(), value);
        WriterProperties::builder()
            .set_created_by(format!("gristmill {}", env!("CARGO_PKG_VERSION")))
            .set_writer_version(WriterVersion::PARQUET_1_0)
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_max_row_group_row_count(Some(GROUP_ROWS as usize))
            .set_key_value_metadata(Some(vec![
                entry(manifest::IDENTITY_KEY, identity),
                entry(manifest::VERSION_KEY, env!("CARGO_PKG_VERSION").to_string()),
                entry(manifest::FIRST_ROW_KEY, first_row.to_string()),
            ]))
            .build()
    }

    /// Lets the output appear.
    fn reveal(&self, output: &Path, aside: &Path, manifest: &Manifest) -> Result<(), JobError> {
        let folder = self.rows_per_file.is_some();
        write_durably(&self.work.join("manifest.new"), &manifest.to_json())?;
        if folder {
            write_durably(&aside.join(manifest::NAME), &manifest.to_json())?;
        }
        sync_folder(aside)?;
        // The manifest goes first: it is what says that an output in place is this job's own.
        rename(&self.work.join("manifest.new"), &self.work.join(manifest::NAME))?;
        if folder {
            self.reveal_folder(aside, output)
        } else {
            rename(&aside.join(file_name(output)), output)?;
            clear(aside)
        }
    }

    /// Puts a folder in the place of the output. One cannot be renamed over a full one; where the system can
    /// exchange two names, one of both is there at every moment, and elsewhere for a moment there is none.
    fn reveal_folder(&self, aside: &Path, output: &Path) -> Result<(), JobError> {
        let replaced = self.work.join("replaced");
        clear(&replaced)?;
        if output.exists() {
            if exchange(aside, output) {
                sync_folder(self.work)?;
                sync_folder(output.parent().filter(|p| *p != Path::new("")).unwrap_or(Path::new(".")))?;
                return clear(aside);
            }
            rename(output, &replaced)?;
        }
        rename(aside, output)?;
        clear(&replaced)
    }
}

/// Exchanges two names, if the system and the file system can.
#[cfg(any(target_os = "linux", target_os = "macos"))]
fn exchange(a: &Path, b: &Path) -> bool {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE).is_ok()
}

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
fn exchange(_: &Path, _: &Path) -> bool {
    false
}

/// An error of the Parquet writer; one of the system below it is told as such.
fn encode_error(path: &Path, error: ParquetError) -> JobError {
    let source = match error {
        ParquetError::External(cause) => match cause.downcast() {
            Ok(io) => return JobError::io("write", path)(*io),
            Err(cause) => ParquetError::External(cause),
        },
        other => other,
    };
    JobError::Encode { path: path.to_path_buf(), source }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn empty_folder(path: &Path) -> bool {
    path.read_dir().is_ok_and(|mut entries| entries.next().is_none())
}

/// Removes a folder with all that is in it, if it is there.
fn clear(folder: &Path) -> Result<(), JobError> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(JobError::io("remove", folder)(error))
        }
        _ => Ok(()),
    }
}

/// Rows without an answer.
#[derive(Default)]
struct Missing {
    count: u64,
    first: u64,
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

/// The kept columns of the input, in batches of any size wished for.
struct InputRows<'a, I> {
    inputs: I,
    ready: VecDeque<RecordBatch>,
    columns: &'a OutputColumns,
}

impl<I: Iterator<Item = Result<RecordBatch, JobError>>> InputRows<'_, I> {
    /// The next `rows` rows.
    fn take(&mut self, rows: usize) -> Result<RecordBatch, JobError> {
        let mut slices = Vec::new();
        let mut wanted = rows;
        while wanted > 0 {
            let Some(batch) = self.ready.pop_front() else {
                let batch = self.inputs.next().ok_or_else(|| JobError::Column {
                    column: "(all)".into(),
                    why: "the input has fewer rows now than when the job was begun".into(),
                })?;
                self.ready.push_back(self.columns.keep(&batch?)?);
                continue;
            };
            let len = batch.num_rows().min(wanted);
            slices.push(batch.slice(0, len));
            if len < batch.num_rows() {
                self.ready.push_front(batch.slice(len, batch.num_rows() - len));
            }
            wanted -= len;
        }
        concat_batches(&self.columns.kept_schema(), &slices)
            .map_err(|error| JobError::Column { column: "(all)".into(), why: error.to_string() })
    }
}

/// A file that is digested while it is written.
struct DigestWriter {
    file: BufWriter<File>,
    hasher: blake3::Hasher,
    bytes: u64,
}

impl Write for DigestWriter {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        let written = self.file.write(buffer)?;
        self.hasher.update(&buffer[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests;
