//! Reads the rows of input files in batches.

use crate::error::JobError;
use crate::input::Input;
use crate::input::arrow_file::ArrowGroup;
use crate::input::batch::Batch;
use crate::input::conform::{Conform, projected};
use crate::input::file::{InputFile, Layout, broken};
use crate::input::footer::Footer;
use crate::input::group::Group;
use crate::input::group_file::GroupFile;
use crate::input::ranges::OpenSource;
use crate::input::text::TextGroup;
use arrow::datatypes::{Schema, SchemaRef};
use std::ops::Range;
use std::sync::Arc;

/// Reads files in order, a row group at a time. After an error there are no more batches.
pub struct Batches<'a> {
    input: &'a Input,
    columns: Arc<[usize]>,
    schema: SchemaRef,
    next: u64,
    end: u64,
    open: Option<OpenGroup>,
}

/// A row group that is being read, and the file that it is of.
struct OpenGroup {
    at: usize,
    group: RowGroup,
    conform: Conform,
}

/// By the format.
enum RowGroup {
    Parquet(Box<Group>),
    Text(Box<TextGroup>),
    Arrow(ArrowGroup),
}

impl RowGroup {
    fn end(&self) -> u64 {
        match self {
            RowGroup::Parquet(group) => group.end,
            RowGroup::Text(group) => group.end,
            RowGroup::Arrow(group) => group.end,
        }
    }

    fn source(&self) -> &OpenSource {
        match self {
            RowGroup::Parquet(group) => &group.file().source,
            RowGroup::Text(group) => group.source(),
            RowGroup::Arrow(group) => group.source(),
        }
    }

    fn read(&mut self, file: &InputFile, next: u64) -> Result<Batch, JobError> {
        match self {
            RowGroup::Parquet(group) => group.read(next),
            RowGroup::Text(group) => group.read(file, next),
            RowGroup::Arrow(group) => Ok(group.read(next)),
        }
    }
}

impl Iterator for Batches<'_> {
    type Item = Result<Batch, JobError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next >= self.end {
            return None;
        }
        let batch = self.next_batch();
        match &batch {
            Ok(batch) => self.next += batch.columns.num_rows() as u64,
            Err(_) => self.next = self.end,
        }
        Some(batch)
    }
}

impl<'a> Batches<'a> {
    /// Reads columns of rows, in the input's order.
    pub fn new(input: &'a Input, mut columns: Vec<usize>, rows: Range<u64>) -> Batches<'a> {
        columns.sort_unstable();
        columns.dedup();
        let fields: Vec<_> = columns.iter().map(|&at| input.schema.field(at).clone()).collect();
        let (schema, end) = (Arc::new(Schema::new(fields)), rows.end.min(input.rows));
        Batches { input, columns: columns.into(), schema, next: rows.start, end, open: None }
    }

    fn next_batch(&mut self) -> Result<Batch, JobError> {
        let mut open = match self.open.take() {
            Some(open) if self.next < open.group.end() => open,
            before => self.open_group(before)?,
        };
        let file = &self.input.files[open.at];
        let batch = open.conform.apply(file, open.group.read(file, self.next)?)?;
        self.open = Some(open);
        Ok(batch)
    }

    /// Opens the row group of the next row, in the file that is open if it is there.
    fn open_group(&self, before: Option<OpenGroup>) -> Result<OpenGroup, JobError> {
        let at = self.input.files.iter().rposition(|f| f.first_row <= self.next && f.rows() > 0);
        let at = at.ok_or_else(|| JobError::Internal("a row before the first file".into()))?;
        let file = &self.input.files[at];
        let (mut group, mut start) = (0, file.first_row);
        while start + file.row_groups[group] <= self.next {
            start += file.row_groups[group];
            group += 1;
        }
        let end = self.end.min(start + file.row_groups[group]);
        let before = before.filter(|before| before.at == at).map(|before| before.group);
        let conform = Conform::new(file, &self.columns, self.schema.clone());
        let (columns, schema) = (conform.columns.clone(), projected(file, &conform.columns));
        let source = |before: Option<RowGroup>| match before {
            Some(before) => Ok(before.source().clone()),
            None => open_source(file),
        };
        let group = match &file.layout {
            Layout::Parquet => {
                let wanted = (end - start) as usize;
                let opened = match before {
                    Some(RowGroup::Parquet(before)) => before.file().of_group(group, wanted)?,
                    _ => open_parquet(file, group, wanted)?,
                };
                RowGroup::Parquet(Box::new(Group::open(opened, columns, schema, (start, end), self.next)?))
            }
            Layout::Text(layout) => {
                let (file, layout) = ((file, source(before)?), (layout.clone(), group));
                let group = TextGroup::open(file, layout, columns, schema, (start, end), self.next)?;
                RowGroup::Text(Box::new(group))
            }
            Layout::Arrow(layout) => {
                let file = (file, source(before)?);
                RowGroup::Arrow(ArrowGroup::open(file, (layout, group), &columns, schema, (start, end))?)
            }
        };
        Ok(OpenGroup { at, group, conform })
    }
}

/// Opens a file again, which must be as it was.
fn open_source(file: &InputFile) -> Result<OpenSource, JobError> {
    let source = file.source.open()?;
    file.check(&source)?;
    Ok(source)
}

fn open_parquet(file: &InputFile, group: usize, wanted: usize) -> Result<GroupFile, JobError> {
    let source = open_source(file)?;
    let footer = Footer::read(&source, &file.path)?;
    if footer.row_counts()? != file.row_groups || **footer.file().schema() != *file.schema {
        let why = "changed while the job ran; start again with the file at rest";
        return Err(broken(&file.path, "", why));
    }
    GroupFile::open(Arc::new(file.clone()), source, Arc::new(footer), group, wanted)
}
