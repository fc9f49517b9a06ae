//! The input: files as one long table.
//!
//! Files are named one by one, by glob or by folder, here or in an object store; their columns are joined by name. Rows are
//! numbered from 0 through all files in order, and that number is what a row is called everywhere else.

pub mod batch;
pub mod batches;
mod column;
mod conform;
mod dates;
pub mod file;
pub mod footer;
pub mod format;
pub mod found;
mod group;
mod group_file;
pub mod local;
pub mod lost;
pub mod names;
pub mod own;
mod pages;
pub mod partitions;
pub mod place;
pub mod ranges;
pub mod row;
mod schema;
mod sizes;
pub mod source;
mod types;
mod union;
mod unknown;
mod widen;

use crate::error::JobError;
use crate::publish::manifest::IDENTITY_KEY;
use arrow::datatypes::SchemaRef;
use batches::Batches;
use file::{InputFile, Layout, Refusal, broken};
use footer::{footer, null_counts, row_counts, unread_codecs};
use found::Found;
use names::Search;
use own::has_state_dir;
use ranges::OpenSource;
use schema::refuse_duplicates;
use source::Source;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;
use types::has_days;
use union::{FileColumns, Union, unite};

/// All input files as one table.
#[derive(Clone, Debug)]
pub struct Input {
    /// The files in the order of their rows.
    pub files: Vec<InputFile>,
    /// The columns of all files.
    pub schema: SchemaRef,
    /// Why columns cannot be read, by position.
    unreadable: BTreeMap<usize, Refusal>,
    /// Rows in all.
    pub rows: u64,
    /// Nulls of each column by the footers, where they all say so.
    pub nulls: Vec<Option<u64>>,
    /// Whether every Date64 is stored as a date, in whole days, and none as a number of milliseconds.
    pub days: bool,
}

/// A file that is open for its schema.
struct Opened {
    file: InputFile,
    /// By position in the file.
    nulls: Vec<Option<u64>>,
    days: bool,
    /// Whether a job has written it.
    output: bool,
    /// Codecs of columns that this build does not read.
    codecs: BTreeMap<String, String>,
}

impl Input {
    /// Opens files, globs and folders and reads every footer.
    ///
    /// # Errors
    /// [`JobError::Usage`] if nothing is named, two columns have one name, or a folder has outputs of jobs among other
    /// files; [`JobError::Input`] for a file that is not of its format.
    pub fn open(names: &[String]) -> Result<Input, JobError> {
        Input::search(names, &Search::default())
    }

    /// The same, with what is known of the names.
    ///
    /// # Errors
    /// As [`Input::open`].
    pub fn search(names: &[String], search: &Search) -> Result<Input, JobError> {
        let found = search.find(names)?;
        let mut opened: Vec<Opened> = Vec::with_capacity(found.len());
        for found in &found {
            let mut one = open_parquet(found)?;
            refuse_duplicates(&one.file.schema, &one.file.path)?;
            if let Some(before) = opened.last()
                && before.file.schema == one.file.schema
            {
                one.file.schema = before.file.schema.clone();
            }
            opened.push(one);
        }
        refuse_mixed_outputs(names, &found, &opened)?;
        Input::of_files(opened)
    }

    fn of_files(mut opened: Vec<Opened>) -> Result<Input, JobError> {
        if opened.is_empty() {
            return Err(JobError::Usage("no input: name a file with --input".into()));
        }
        let columns = opened.iter().map(|Opened { file, .. }| FileColumns {
            path: &file.path,
            schema: &file.schema,
            partition: &file.partition,
        });
        let Union { schema, mut unreadable, places } = unite(&columns.collect::<Vec<_>>());
        let mut rows = 0u64;
        let mut nulls = vec![Some(0u64); schema.fields().len()];
        for (opened, places) in opened.iter_mut().zip(places) {
            let file = &mut opened.file;
            (file.first_row, file.places) = (rows, places);
            rows = rows
                .checked_add(file.rows())
                .ok_or_else(|| broken(&file.path, "", "its row counts add up to more than 2^64 rows"))?;
            for (all, place) in nulls.iter_mut().zip(file.places.iter()) {
                let more = match *place {
                    place::Place::Column(at) => opened.nulls.get(at).copied().flatten(),
                    place::Place::Folder(at) => {
                        Some(if file.partition[at].1.is_none() { file.rows() } else { 0 })
                    }
                    place::Place::Nowhere => None,
                };
                *all = all.zip(more).map(|(all, more)| all.saturating_add(more));
            }
            for (column, why) in &opened.codecs {
                let Ok(at) = schema.index_of(column) else { continue };
                if matches!(file.places[at], place::Place::Column(_)) {
                    unreadable
                        .entry(at)
                        .or_insert_with(|| Refusal::of_column(&file.path, column, why.clone()));
                }
            }
        }
        let days = opened.iter().all(|opened| opened.days);
        let files = opened.into_iter().map(|opened| opened.file).collect();
        Ok(Input { files, schema, unreadable, rows, nulls, days })
    }

    /// The positions of columns by name.
    ///
    /// # Errors
    /// [`JobError::Usage`] with the columns that there are.
    pub fn columns(&self, names: &[String], flag: &str) -> Result<Vec<usize>, JobError> {
        names
            .iter()
            .map(|name| {
                self.schema.index_of(name).map_err(|_| {
                    JobError::Usage(format!(
                        "{flag}: the input has no column `{name}`; it has {}",
                        self.column_list()
                    ))
                })
            })
            .collect()
    }

    /// Refuses columns that cannot be read: those of a type that is not known or a codec that is not in this build, that
    /// are not in every file, or whose types do not go together.
    ///
    /// # Errors
    /// [`JobError::Input`] about the first.
    pub fn refuse_unreadable(&self, columns: &[usize]) -> Result<(), JobError> {
        columns.iter().try_for_each(|at| self.unreadable.get(at).map_or(Ok(()), |why| Err(why.error())))
    }

    /// The names of the columns, for messages.
    pub fn column_list(&self) -> String {
        let names: Vec<_> = self.schema.fields().iter().take(20).map(|f| format!("`{}`", f.name())).collect();
        let more = self.schema.fields().len().saturating_sub(20);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        names.join(", ") + &more
    }

    /// Reads the columns of the rows, a batch at a time.
    ///
    /// Cells that cannot be read are null and named by the batch; an error ends the reading.
    pub fn read(&self, columns: Vec<usize>, rows: Range<u64>) -> Batches<'_> {
        Batches::new(self, columns, rows)
    }
}

/// Opens a file that was found.
fn open_parquet(found: &Found) -> Result<Opened, JobError> {
    let Found { source, partition, searched: _ } = found.clone();
    let path = source.name();
    let open = source.open()?;
    let stamp = match &open {
        OpenSource::Local(file) => Some(file.stamp()?),
        OpenSource::Object(_) => None,
    };
    let metadata = footer(&open, &path)?;
    let row_groups = row_counts(&path, &metadata)?;
    let entries = metadata.metadata().file_metadata().key_value_metadata();
    let output = entries.is_some_and(|entries| entries.iter().any(|entry| entry.key == IDENTITY_KEY));
    let (nulls, days, codecs) = (null_counts(&metadata), has_days(&metadata), unread_codecs(&metadata));
    let (schema, places) = (metadata.schema().clone(), Arc::from([]));
    let layout = Layout::Parquet;
    let file = InputFile { layout, schema, places, partition, source, path, first_row: 0, row_groups, stamp };
    Ok(Opened { file, nulls, days, output, codecs })
}

/// Refuses outputs of jobs that were found among files which are none: their rows would be answered twice.
fn refuse_mixed_outputs(names: &[String], found: &[Found], opened: &[Opened]) -> Result<(), JobError> {
    let mut sound: HashMap<usize, bool> = HashMap::new();
    let is_output = |opened: &Opened| {
        opened.output || matches!(&opened.file.source, Source::Local(path) if has_state_dir(path))
    };
    for (searched, opened) in found.iter().map(|found| found.searched).zip(opened) {
        let Some(at) = searched else { continue };
        let output = is_output(opened);
        if *sound.entry(at).or_insert(output) != output {
            let path = opened.file.path.display();
            let (this, others) = if output { ("is the output", "are none") } else { ("is no output", "are") };
            return Err(JobError::Usage(format!(
                "--input {}: {path} {this} of a job, and other files there {others}, so that rows would be answered twice; \
                 move outputs to a folder of their own, or name the files",
                names[at]
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests;
