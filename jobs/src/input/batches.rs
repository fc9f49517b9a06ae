//! Reads the rows of input files in batches.

use crate::error::JobError;
use crate::input::Input;
use crate::input::batch::Batch;
use crate::input::file::broken;
use crate::input::footer::Footer;
use crate::input::group::Group;
use crate::input::group_file::GroupFile;
use crate::input::schema::agree;
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
    open: Option<(usize, Group)>,
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
        let (at, mut group) = match self.open.take() {
            Some((at, group)) if self.next < group.end => (at, group),
            before => self.open_group(before)?,
        };
        let batch = group.read(self.next)?;
        self.open = Some((at, group));
        Ok(batch)
    }

    /// Opens the row group of the next row, in the file that is open if it is there.
    fn open_group(&self, before: Option<(usize, Group)>) -> Result<(usize, Group), JobError> {
        let at = self.input.files.iter().rposition(|f| f.first_row <= self.next && f.rows() > 0);
        let at = at.ok_or_else(|| JobError::Internal("a row before the first file".into()))?;
        let file = &self.input.files[at];
        let (mut group, mut start) = (0, file.first_row);
        while start + file.row_groups[group] <= self.next {
            start += file.row_groups[group];
            group += 1;
        }
        let end = self.end.min(start + file.row_groups[group]);
        let opened = match before {
            Some((same, before)) if same == at => before.file().of_group(group, (end - start) as usize)?,
            _ => self.open_file(at, group, (end - start) as usize)?,
        };
        let group = Group::open(opened, self.columns.clone(), self.schema.clone(), (start, end), self.next)?;
        Ok((at, group))
    }

    fn open_file(&self, at: usize, group: usize, wanted: usize) -> Result<GroupFile, JobError> {
        let file = &self.input.files[at];
        let source = file.source.open()?;
        file.check(&source)?;
        let footer = Footer::read(&source, &file.path)?;
        if footer.row_counts()? != file.row_groups {
            let why = "changed while the job ran; start again with the file at rest";
            return Err(broken(&file.path, "", why));
        }
        agree(&self.input.schema, &self.input.files[0].path, footer.file().schema(), &file.path)?;
        GroupFile::open(Arc::new(file.clone()), source, Arc::new(footer), group, wanted)
    }
}
