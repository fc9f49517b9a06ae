//! `gristmill evaluate`: labels against the truth.

mod differences;
pub mod figures;
mod table;
mod texts;

use crate::error::JobError;
use crate::input::Input;
use crate::input::names::Search;
use crate::log::note;
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, StringArray};
use arrow::compute::{cast, filter_record_batch};
use arrow::datatypes::{DataType, Field, Float32Type, Schema};
use differences::Differences;
use figures::{Figures, Pair, is_right};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use texts::texts;

pub use table::table;

/// What is compared with what.
#[derive(Clone, Debug)]
pub struct Evaluation {
    /// The output of a job.
    pub output: String,
    /// Columns of labels and the columns that hold their truths.
    pub truths: Vec<(String, String)>,
    /// The file of the truths, and the columns of output and file by which rows belong together; none if the output holds
    /// the truths.
    pub other: Option<(String, (String, String))>,
    /// Where rows that differ go.
    pub differences: Option<PathBuf>,
}

/// The truths of another file: for each key, a truth for each column.
type Truths = HashMap<String, Vec<Option<String>>>;

impl Evaluation {
    /// Compares, writes the rows that differ, and gives the figures of each column.
    ///
    /// # Errors
    /// [`JobError::Usage`] for columns that are not there; what cannot be read or written.
    pub fn run(&self) -> Result<Vec<Figures>, JobError> {
        if let Some(path) = &self.differences {
            Differences::refuse(path)?;
        }
        let output = Input::search(std::slice::from_ref(&self.output), &Search::also_empty())?;
        self.refuse_columns(&output)?;
        let truths = self.other.as_ref().map(|(file, (_, key))| self.truths_of(file, key)).transpose()?;
        let mut pairs: Vec<Vec<Pair>> = vec![Vec::new(); self.truths.len()];
        let mut without = vec![0; self.truths.len()];
        let mut differing = None;
        let all: Vec<usize> = (0..output.schema.fields().len()).collect();
        for batch in output.read(all, 0..output.rows) {
            let batch = batch?.refuse_lost()?.columns;
            let mut differs = vec![false; batch.num_rows()];
            let mut joined = Vec::new();
            for (i, (column, truth)) in self.truths.iter().enumerate() {
                let labels = texts(&batch, column)?;
                let truth_of = match (&self.other, &truths) {
                    (Some((_, (key, _))), Some(truths)) => looked_up(&texts(&batch, key)?, truths, i),
                    _ => texts(&batch, truth)?,
                };
                let probabilities = probabilities(&batch, column)?;
                let rows = pairs_of(&labels, &truth_of, probabilities.as_ref());
                for (pair, differs) in rows.into_iter().zip(&mut differs) {
                    let Some(pair) = pair else {
                        without[i] += 1;
                        continue;
                    };
                    *differs |= !is_right(&pair);
                    pairs[i].push(pair);
                }
                joined.push((truth, truth_of));
            }
            if let Some(path) = &self.differences {
                let rows = with_truths(&batch, joined, truths.is_some())?;
                let rows = filter_record_batch(&rows, &BooleanArray::from(differs));
                let rows = rows.map_err(|error| unexpected(&error))?;
                let writer = match &mut differing {
                    Some(writer) => writer,
                    none => none.insert(Differences::create(path, rows.schema())?),
                };
                writer.write(&rows)?;
            }
        }
        match (differing, &self.differences) {
            (Some(differing), _) => differing.finish()?,
            // Where the output has no rows the file has none.
            (None, Some(path)) => {
                let none = RecordBatch::new_empty(output.schema.clone());
                let joined = self.truths.iter().map(|(_, truth)| (truth, StringArray::new_null(0))).collect();
                let schema = with_truths(&none, joined, truths.is_some())?.schema();
                Differences::create(path, schema)?.finish()?;
            }
            (None, None) => {}
        }
        let columns = self.truths.iter().zip(pairs).zip(without);
        let figures: Vec<Figures> = columns
            .map(|(((column, truth), pairs), without)| Figures::new(column, truth, &pairs, without))
            .collect();
        figures.iter().for_each(|figures| self.warn(figures));
        Ok(figures)
    }

    /// Says where truths or labels are most likely not those that were meant.
    fn warn(&self, figures: &Figures) {
        let Figures { column, truth, rows, without_truth, .. } = figures;
        if *rows == 0 && *without_truth > 0 {
            let why = match &self.other {
                Some((_, (own, theirs))) => format!(
                    "values of `{own}` in the output are looked up among those of `{theirs}` in the file; none was found that has one"
                ),
                None => "all its values are null".into(),
            };
            note!("warning: no row has a truth in `{truth}`: {why}");
        }
        if let Some((label, of_truth)) = figures.apart() {
            note!(
                "warning: no value of `{column}` is one of `{truth}`, such as {label:?} beside {of_truth:?}; texts are compared as they \
                 are: write the truth as the choices are written"
            );
        }
    }

    /// Refuses columns that are not there or hold no labels, before anything is read. Lines of JSON without a line have no
    /// columns, and no rows either.
    fn refuse_columns(&self, output: &Input) -> Result<(), JobError> {
        let none = RecordBatch::new_empty(output.schema.clone());
        if none.num_columns() == 0 && output.rows == 0 {
            return Ok(());
        }
        for (column, truth) in &self.truths {
            texts(&none, column)?;
            texts(&none, self.other.as_ref().map_or(truth, |(_, (key, _))| key))?;
        }
        Ok(())
    }

    /// The truths of a file by its key.
    fn truths_of(&self, file: &str, key: &str) -> Result<Truths, JobError> {
        let input = Input::open(&[file.to_string()])?;
        let mut names = vec![key.to_string()];
        names.extend(self.truths.iter().map(|(_, truth)| truth.clone()));
        let mut columns = input.columns(&names, "--truth-file")?;
        columns.sort_unstable();
        columns.dedup();
        let mut truths = Truths::new();
        for batch in input.read(columns, 0..input.rows) {
            let batch = batch?.refuse_lost()?.columns;
            let keys = texts(&batch, key)?;
            let columns: Vec<StringArray> =
                names[1..].iter().map(|name| texts(&batch, name)).collect::<Result<_, _>>()?;
            for row in (0..batch.num_rows()).filter(|&row| !keys.is_null(row)) {
                let value = |c: &StringArray| (!c.is_null(row)).then(|| c.value(row).to_string());
                let key = keys.value(row).to_string();
                if truths.insert(key, columns.iter().map(value).collect()).is_some() {
                    return Err(JobError::Usage(format!(
                        "--truth-file {file}: its rows are not told apart by `{}`: a value is there twice",
                        names[0]
                    )));
                }
            }
        }
        Ok(truths)
    }
}

/// The pair of each row; none where there is no truth.
fn pairs_of(
    labels: &StringArray,
    truths: &StringArray,
    probabilities: Option<&ArrayRef>,
) -> Vec<Option<Pair>> {
    let pair = |row: usize| {
        let truth = (!truths.is_null(row)).then(|| truths.value(row).to_string())?;
        let label = (!labels.is_null(row)).then(|| labels.value(row).to_string());
        let probability = probabilities.filter(|p| !p.is_null(row) && label.is_some());
        let probability = probability.map(|p| p.as_primitive::<Float32Type>().value(row));
        // What is no number says nothing.
        let probability = probability.filter(|probability| probability.is_finite());
        Some(Pair { truth, label, probability })
    };
    (0..truths.len()).map(pair).collect()
}

/// The truth of each row by its key.
fn looked_up(keys: &StringArray, truths: &Truths, column: usize) -> StringArray {
    let of = |key: Option<&str>| truths.get(key?)?[column].as_deref();
    keys.iter().map(of).collect()
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef, JobError> {
    batch.column_by_name(name).ok_or_else(|| {
        let schema = batch.schema();
        let names: Vec<String> = schema.fields().iter().map(|field| format!("`{}`", field.name())).collect();
        JobError::Usage(format!("there is no column `{name}`; there are {}", names.join(", ")))
    })
}

/// The probabilities of a column's labels, where the output has them.
fn probabilities(batch: &RecordBatch, name: &str) -> Result<Option<ArrayRef>, JobError> {
    let array = batch.column_by_name(&format!("{name}_probability"));
    let array = array.filter(|array| array.data_type().is_numeric());
    array.map(|array| cast(array, &DataType::Float32).map_err(|error| unexpected(&error))).transpose()
}

/// The rows with their truths behind them, where these are from another file.
fn with_truths(
    batch: &RecordBatch,
    truths: Vec<(&String, StringArray)>,
    other: bool,
) -> Result<RecordBatch, JobError> {
    if !other {
        return Ok(batch.clone());
    }
    let mut fields: Vec<Field> = batch.schema().fields().iter().map(|field| field.as_ref().clone()).collect();
    let mut columns = batch.columns().to_vec();
    for (name, truth) in truths {
        let mut name = name.clone();
        while fields.iter().any(|field| *field.name() == name) {
            name = format!("true_{name}");
        }
        fields.push(Field::new(name, DataType::Utf8, true));
        columns.push(Arc::new(truth));
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(|error| unexpected(&error))
}

fn unexpected(error: &dyn std::fmt::Display) -> JobError {
    JobError::Internal(error.to_string())
}
