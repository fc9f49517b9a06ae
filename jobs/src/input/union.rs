//! The columns of all files as those of one table.

use crate::input::file::Refusal;
use crate::input::found::Partition;
use crate::input::partitions::partition_type;
use crate::input::place::Place;
use crate::input::unknown::unknown_type;
use crate::input::widen::{remedy, wider_field};
use arrow::datatypes::{Field, Schema, SchemaRef};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a file says of the columns.
pub struct FileColumns<'a> {
    pub path: &'a Path,
    pub schema: &'a SchemaRef,
    pub partition: &'a Partition,
}

/// The table, and what cannot be read of it.
pub struct Union {
    pub schema: SchemaRef,
    /// Why a column cannot be read, by its position.
    pub unreadable: BTreeMap<usize, Refusal>,
    /// For each file, where the columns are.
    pub places: Vec<Arc<[Place]>>,
}

struct Column {
    field: Field,
    /// The file that had it first, and in how many it is.
    first: PathBuf,
    files: usize,
    why: Option<Refusal>,
}

/// Joins the columns of files: by name, in the order in which they come, the folders' last. Types are widened; a column
/// that is not in every file, or of types that do not go together, is there and cannot be read.
pub fn unite(files: &[FileColumns<'_>]) -> Union {
    let mut columns: Vec<Column> = Vec::new();
    let mut by_name: HashMap<String, usize> = HashMap::new();
    let mut last: Option<&SchemaRef> = None;
    for file in files {
        if last.is_some_and(|last| Arc::ptr_eq(last, file.schema)) {
            columns
                .iter_mut()
                .filter(|c| file.schema.index_of(c.field.name()).is_ok())
                .for_each(|c| c.files += 1);
            continue;
        }
        last = Some(file.schema);
        for field in file.schema.fields() {
            match by_name.get(field.name()) {
                Some(&at) => add(&mut columns[at], field, file.path),
                None => {
                    by_name.insert(field.name().clone(), columns.len());
                    columns.push(begin(field, file.path));
                }
            }
        }
    }
    let (partitioned, folders) = folder_columns(files);
    for column in folders {
        // What the folder says wins over what the file says.
        match by_name.get(column.field.name()) {
            Some(&at) => columns[at] = column,
            None => columns.push(column),
        }
    }
    let mut unreadable = BTreeMap::new();
    for (at, column) in columns.iter_mut().enumerate() {
        if let Some(why) = column.why.take() {
            unreadable.insert(at, why);
        } else if column.files < files.len() {
            unreadable.insert(at, missing(column, files, &partitioned));
        }
    }
    let fields: Vec<Field> = columns.into_iter().map(|column| column.field).collect();
    let metadata = files.first().map(|file| file.schema.metadata().clone()).unwrap_or_default();
    let schema = Arc::new(Schema::new(fields).with_metadata(metadata));
    let places = places(files, &schema, &partitioned);
    Union { schema, unreadable, places }
}

fn begin(field: &Field, path: &Path) -> Column {
    let why = unknown_type(field, path);
    // Every column can hold null, as those of rows that cannot be read do in the output.
    Column { field: field.clone().with_nullable(true), first: path.into(), files: 1, why }
}

fn add(column: &mut Column, field: &Field, path: &Path) {
    column.files += 1;
    let (kind, first) = (field.data_type(), column.field.data_type());
    match wider_field(&column.field, field) {
        Some(wide) => column.field = wide,
        None if column.why.is_none() => {
            let (file, first_file) = (path.display().to_string(), column.first.display().to_string());
            let why = format!(
                "is {kind}, but it is {first} in {first_file}; {}",
                remedy(kind, &file, first, &first_file)
            );
            column.why = Some(Refusal::of_column(path, field.name(), why));
        }
        None => {}
    }
    column.why = column.why.take().or_else(|| unknown_type(field, path));
}

/// The columns that folders say, by name, and as columns.
fn folder_columns(files: &[FileColumns<'_>]) -> (HashSet<String>, Vec<Column>) {
    let mut order: Vec<&str> = Vec::new();
    // The values, and the first file.
    let mut columns: HashMap<&str, (Vec<Option<&str>>, &Path)> = HashMap::new();
    for file in files {
        for (name, value) in file.partition {
            let column = columns.entry(name).or_insert_with(|| {
                order.push(name);
                (Vec::new(), file.path)
            });
            column.0.push(value.as_deref());
        }
    }
    let made = order.iter().map(|name| {
        let (values, first) = &columns[name];
        let field = Field::new(*name, partition_type(values.iter().copied()), true);
        Column { field, first: first.to_path_buf(), files: values.len(), why: None }
    });
    let made = made.collect();
    (order.into_iter().map(String::from).collect(), made)
}

fn has(file: &FileColumns<'_>, name: &str, partitioned: &HashSet<String>) -> bool {
    match partitioned.contains(name) {
        true => file.partition.iter().any(|(folder, _)| folder == name),
        false => file.schema.index_of(name).is_ok(),
    }
}

fn missing(column: &Column, files: &[FileColumns<'_>], partitioned: &HashSet<String>) -> Refusal {
    let name = column.field.name();
    let lacking = files.iter().find(|file| !has(file, name, partitioned));
    let path = lacking.map_or(column.first.as_path(), |file| file.path);
    let why = format!(
        "is missing, but it is in {}; write it in all files, or leave it out with --keep, which names the columns that stay",
        column.first.display()
    );
    Refusal::of_column(path, name, why)
}

/// Where each file has the columns; files of one schema share the list.
fn places(files: &[FileColumns<'_>], schema: &Schema, partitioned: &HashSet<String>) -> Vec<Arc<[Place]>> {
    let mut made: Vec<Arc<[Place]>> = Vec::with_capacity(files.len());
    let names =
        |file: &FileColumns<'_>| file.partition.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    for (i, file) in files.iter().enumerate() {
        if let Some(before) = i.checked_sub(1)
            && Arc::ptr_eq(files[before].schema, file.schema)
            && names(&files[before]) == names(file)
        {
            made.push(made[before].clone());
            continue;
        }
        let place = |field: &Arc<Field>| match partitioned.contains(field.name()) {
            true => file
                .partition
                .iter()
                .position(|(n, _)| n == field.name())
                .map_or(Place::Nowhere, Place::Folder),
            false => file.schema.index_of(field.name()).map_or(Place::Nowhere, Place::Column),
        };
        made.push(schema.fields().iter().map(place).collect());
    }
    made
}
