//! The input: files as one long table.
//!
//! Files are named one by one, by glob or by folder, here or in an object store; their columns are joined by name. Rows are
//! numbered from 0 through all files in order, and that number is what a row is called everywhere else.

mod arrow_file;
pub mod arrow_layout;
pub mod batch;
pub mod batches;
mod codecs;
mod column;
mod conform;
mod csv;
mod dates;
pub mod file;
pub mod footer;
mod footer_map;
pub mod format;
pub mod found;
mod group;
mod group_file;
pub mod json;
mod json_types;
mod lines;
pub mod local;
pub mod lost;
pub mod names;
pub mod own;
mod pages;
pub mod partitions;
pub mod place;
pub mod ranges;
mod records;
pub mod row;
mod schema;
mod sizes;
pub mod source;
mod text;
pub mod text_layout;
mod thrift;
mod types;
mod union;
mod unknown;
mod widen;

use crate::error::JobError;
use crate::publish::manifest::IDENTITY_KEY;
use arrow::datatypes::{Field, Schema, SchemaRef};
use batch::Batch;
use batches::Batches;
use codecs::unread_codecs;
use csv::CsvTypes;
use file::{InputFile, Layout, Refusal, broken};
use footer::{Footer, MAX_ROWS};
use format::InputFormat;
use found::Found;
use names::Search;
use own::has_state_dir;
use ranges::OpenSource;
use schema::refuse_duplicates;
use source::Source;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use text::TextTypes;
use text_layout::Dialect;
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
}

/// A file that is open for its schema.
struct Opened {
    file: InputFile,
    /// By position in the file.
    nulls: Vec<Option<u64>>,
    /// Whether a job has written it.
    output: bool,
    /// Codecs of columns that this build does not read.
    codecs: BTreeMap<String, String>,
    /// The names of a CSV file's columns.
    names: Vec<String>,
    /// Rows in which a column of a file of lines is not null.
    values: HashMap<String, u64>,
}

impl Opened {
    /// Sets the schema of a file of lines, which is that of all of them.
    fn finish(&mut self, json: &SchemaRef, csv: &CsvTypes) {
        let Layout::Text(layout) = &self.file.layout else { return };
        self.file.schema = match layout.dialect {
            Dialect::Json => json.clone(),
            Dialect::Csv(_) => Arc::new(csv.schema(&self.names)),
            Dialect::Lines => text::line_schema(),
        };
        let rows = self.file.rows();
        let values = |name: &String| self.values.get(name).copied().unwrap_or(0);
        let fields = self.file.schema.fields().iter();
        self.nulls = fields.map(|field| Some(rows.saturating_sub(values(field.name())))).collect();
        if layout.dialect == Dialect::Lines {
            self.nulls = vec![Some(0)];
        }
    }
}

/// Whether a file is lines of JSON.
fn is_json(file: &InputFile) -> bool {
    matches!(&file.layout, Layout::Text(layout) if layout.dialect == Dialect::Json)
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
        let mut types = TextTypes::default();
        for found in &found {
            opened.push(open(found, search.format, &mut types)?);
        }
        let json = Arc::new(types.json.schema());
        if json.fields().is_empty() && !search.also_empty {
            // A part without rows does no harm beside others.
            let empty = opened.iter().find(|one| one.file.rows() == 0 && is_json(&one.file));
            let empty = empty.filter(|_| opened.iter().all(|one| one.file.rows() == 0));
            empty.map_or(Ok(()), |one| {
                Err(broken(&one.file.path, "", "is empty; JSON is read as one object a line"))
            })?;
        }
        for at in 0..opened.len() {
            let (before, one) = opened.split_at_mut(at);
            let one = &mut one[0];
            one.finish(&json, &types.csv);
            refuse_duplicates(&one.file.schema, &one.file.path)?;
            if let Some(before) = before.last()
                && before.file.schema == one.file.schema
            {
                one.file.schema = before.file.schema.clone();
            }
        }
        refuse_mixed_outputs(names, &found, &opened)?;
        Input::of_files(opened)
    }

    /// One file as an input.
    ///
    /// # Errors
    /// As [`Input::open`].
    pub fn of_source(source: &Source, format: InputFormat) -> Result<Input, JobError> {
        let found = Found { source: source.clone(), searched: None, partition: Vec::new() };
        let mut types = TextTypes::default();
        let mut opened = open(&found, Some(format), &mut types)?;
        opened.finish(&Arc::new(types.json.schema()), &types.csv);
        Input::of_files(vec![opened])
    }

    /// The columns of rows that are not in files, and none of the rows.
    ///
    /// # Errors
    /// [`JobError::Usage`] if two columns have one name.
    pub fn of_schema(schema: &SchemaRef, name: &str) -> Result<Input, JobError> {
        let path = Path::new(name);
        refuse_duplicates(schema, path)?;
        let columns = FileColumns { path, schema, partition: &Vec::new() };
        let Union { schema, unreadable, places: _ } = unite(&[columns]);
        let nulls = vec![None; schema.fields().len()];
        Ok(Input { files: Vec::new(), schema, unreadable, rows: 0, nulls })
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
                .filter(|rows| *rows <= MAX_ROWS)
                .ok_or_else(|| broken(&file.path, "", "the files up to this one have more than 2^32 rows"))?;
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
        let files = opened.into_iter().map(|opened| opened.file).collect();
        Ok(Input { files, schema, unreadable, rows, nulls })
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

    /// The columns and their types, if any of these are inferred: of lines, or of the names of folders.
    pub fn inferred(&self) -> Option<String> {
        let inferred = |file: &InputFile| match &file.layout {
            Layout::Text(layout) if layout.dialect == Dialect::Lines => false,
            Layout::Text(_) => true,
            _ => !file.partition.is_empty(),
        };
        if !self.files.iter().any(inferred) {
            return None;
        }
        let column = |(at, field): (usize, &Arc<Field>)| match self.unreadable.get(&at) {
            Some(_) => format!("{} (not read)", field.name()),
            None => format!("{} {}", field.name(), field.data_type()),
        };
        Some(self.schema.fields().iter().enumerate().map(column).collect::<Vec<_>>().join(", "))
    }

    /// The names of the columns, for messages.
    pub fn column_list(&self) -> String {
        let names: Vec<_> = self.schema.fields().iter().take(20).map(|f| format!("`{}`", f.name())).collect();
        if names.is_empty() {
            return "none".into();
        }
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

    /// The same where cells may be lost: from the beginning of the first row's row group on, as what is damaged there costs
    /// the rows behind it, too, wherever reading begins.
    pub fn read_as_from_start(
        &self,
        columns: Vec<usize>,
        rows: Range<u64>,
    ) -> impl Iterator<Item = Result<Batch, JobError>> + use<'_> {
        let from = self.group_start(rows.start).min(rows.end);
        let batches = self.read(columns, from..rows.end);
        batches.filter_map(move |batch| batch.map(|batch| batch.from_row(rows.start)).transpose())
    }

    /// The first row of the row group of a row.
    fn group_start(&self, row: u64) -> u64 {
        let Some(file) = self.files.iter().rfind(|file| file.first_row <= row) else { return row };
        let mut start = file.first_row;
        for rows in file.row_groups.iter().take_while(|_| matches!(file.layout, Layout::Parquet)) {
            if start + rows > row {
                return start;
            }
            start += rows;
        }
        row
    }
}

/// Opens a file that was found.
fn open(found: &Found, format: Option<InputFormat>, types: &mut TextTypes) -> Result<Opened, JobError> {
    let Found { source, partition, searched: _ } = found.clone();
    let path = source.name();
    let format = InputFormat::of_file(&path.to_string_lossy(), format)?;
    let open = source.open()?;
    let mut opened = Opened {
        file: InputFile {
            layout: Layout::Parquet,
            schema: Arc::new(Schema::empty()),
            places: Arc::from([]),
            partition,
            source,
            path: path.clone(),
            first_row: 0,
            row_groups: Vec::new(),
        },
        nulls: Vec::new(),
        output: false,
        codecs: BTreeMap::new(),
        names: Vec::new(),
        values: HashMap::new(),
    };
    let dialect = match format {
        InputFormat::Parquet => {
            opened.read_footer(&open)?;
            return Ok(opened);
        }
        InputFormat::Arrow => {
            let (layout, rows) = arrow_file::scan(&open, &path)?;
            opened.file.schema = layout.schema.clone();
            opened.nulls = vec![None; layout.schema.fields().len()];
            (opened.file.layout, opened.file.row_groups) = (Layout::Arrow(Arc::new(layout)), rows);
            opened.file.check(&open)?;
            return Ok(opened);
        }
        InputFormat::Jsonl => Dialect::Json,
        InputFormat::Lines => Dialect::Lines,
        InputFormat::Csv => Dialect::Csv(b','),
        InputFormat::Tsv => Dialect::Csv(b'\t'),
    };
    // What is read from here on is what was digested.
    opened.file.source.identify()?;
    let scanned = text::scan(&open, &path, dialect, types)?;
    (opened.file.layout, opened.file.row_groups) = (Layout::Text(Arc::new(scanned.layout)), scanned.rows);
    (opened.names, opened.values) = (scanned.names, scanned.values);
    opened.file.check(&open)?;
    Ok(opened)
}

impl Opened {
    fn read_footer(&mut self, open: &OpenSource) -> Result<(), JobError> {
        let footer = Footer::read(open, &self.file.path)?;
        let metadata = footer.file();
        self.file.row_groups = footer.row_counts()?;
        self.file.schema = metadata.schema().clone();
        let entries = metadata.metadata().file_metadata().key_value_metadata();
        self.output = entries.is_some_and(|entries| entries.iter().any(|entry| entry.key == IDENTITY_KEY));
        self.nulls = footer.null_counts();
        if !self.file.row_groups.is_empty() {
            self.codecs = unread_codecs(&footer.group(0)?);
        }
        Ok(())
    }
}

/// Refuses outputs of jobs that were found among files which are none: their rows would be answered twice.
fn refuse_mixed_outputs(names: &[String], found: &[Found], opened: &[Opened]) -> Result<(), JobError> {
    let mut sound: HashMap<usize, bool> = HashMap::new();
    let is_output = |opened: &Opened| {
        opened.output || matches!(&opened.file.source, Source::Local(file) if has_state_dir(file.path()))
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
