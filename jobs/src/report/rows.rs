//! The rows of an output, counted in one pass over the columns that the report needs.

use crate::error::JobError;
use crate::input::Input;
use crate::input::format::InputFormat;
use crate::input::names::Search;
use crate::journal::costs::is_too_long;
use crate::journal::identity::Identity;
use crate::report::counts::Counts;
use crate::report::labels::Columns;
use crate::row_error::RowErrorKind;
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use serde_json::Value;
use std::collections::{BTreeMap, HashSet};

/// Of the rows with an error of one kind so many are named.
const NAMED: usize = 20;

/// What a row took: the name that its column has behind the prefix.
const INPUT_TOKENS: &str = "num_input_tokens";

/// What is counted of the rows.
#[derive(Default)]
pub struct Rows {
    pub rows: u64,
    pub input_tokens: Counts,
    /// None where nothing was generated.
    pub generated_tokens: Option<Counts>,
    pub finish_reasons: BTreeMap<String, u64>,
    pub errors: BTreeMap<String, ErrorRows>,
    pub columns: Columns,
    /// Of documents: chunks, levels, notes that were cut off.
    pub documents: Vec<(&'static str, Counts)>,
    /// What the report does not count, and why.
    pub notes: Vec<String>,
}

/// Rows with an error of one kind.
#[derive(Default)]
pub struct ErrorRows {
    pub rows: u64,
    /// The first of them, with the text where that may be shown.
    pub first: Vec<(u64, Option<String>)>,
}

impl Rows {
    /// Counts an output. `with_texts` says whether texts of errors are kept.
    ///
    /// # Errors
    /// [`JobError::Usage`] if it is no output of a job; what cannot be read.
    pub fn of(output: &str, identity: Option<&Identity>, with_texts: bool) -> Result<Rows, JobError> {
        if identity.is_some_and(|identity| identity.get("batch_version").is_some()) {
            return Rows::of_results(output, with_texts);
        }
        let input = Input::search(&[output.to_string()], &Search::also_empty())?;
        let schema = &input.schema;
        if input.rows == 0 && schema.fields().is_empty() {
            // Lines of JSON say nothing of columns where there is none.
            return Ok(Rows::default());
        }
        let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        let Some(prefix) = names.iter().rev().find_map(|name| name.strip_suffix(INPUT_TOKENS)) else {
            return match names.contains(&"custom_id") && names.contains(&"response") {
                true => Rows::of_results(output, with_texts),
                false => Err(JobError::Usage(format!(
                    "{output} has no column {INPUT_TOKENS}, so that it is no output of gristmill; a report is made of such"
                ))),
            };
        };
        let shape = Shape::new(&names, prefix, identity);
        let mut rows = Rows::default();
        if shape.has("num_generated_tokens") {
            rows.generated_tokens = Some(Counts::default());
        }
        rows.documents = ["num_chunks", "num_levels", "num_cut_notes"]
            .into_iter()
            .filter(|name| shape.has(name))
            .map(|name| (name, Counts::default()))
            .collect();
        if identity.is_none() && shape.has("answer") {
            rows.notes.push(
                "There may be structured answers; without the job's manifest they are not told from other columns.".into(),
            );
        }
        for (name, choices) in &shape.labels {
            rows.columns.expect(name, choices);
        }
        let read = shape.columns(&names);
        input.refuse_unreadable(&read)?;
        for batch in input.read(read, 0..input.rows) {
            let batch = batch?.refuse_lost()?;
            rows.add(batch.first_row, &batch.columns, &shape, with_texts)?;
        }
        Ok(rows)
    }

    fn add(
        &mut self,
        first_row: u64,
        batch: &RecordBatch,
        shape: &Shape,
        with_texts: bool,
    ) -> Result<(), JobError> {
        let column = |name: &str| batch.column_by_name(&format!("{}{name}", shape.prefix));
        self.rows += batch.num_rows() as u64;
        let mut too_long = HashSet::new();
        texts(column("error"), |row, error| {
            if is_too_long(error) {
                too_long.insert(row);
            }
            let kind = RowErrorKind::text_of(error);
            self.add_error(first_row + row as u64, kind, with_texts.then_some(error));
        })?;
        // As in the receipt: what is too long is not computed.
        numbers(column(INPUT_TOKENS), |row, number| {
            if !too_long.contains(&row) {
                self.input_tokens.add(number);
            }
        })?;
        if let Some(counts) = &mut self.generated_tokens {
            let mut of_rows = vec![None; batch.num_rows()];
            numbers(column("num_generated_tokens"), |row, number| *of_rows[row].get_or_insert(0) += number)?;
            of_rows.into_iter().flatten().for_each(|number| counts.add(number));
        }
        for (name, counts) in &mut self.documents {
            numbers(column(name), |_, number| counts.add(number))?;
        }
        texts(column("finish_reason"), |_, reason| {
            *self.finish_reasons.entry(reason.to_string()).or_default() += 1;
        })?;
        for (name, _) in &shape.labels {
            if let Some(labels) = batch.column_by_name(name) {
                let probabilities = batch.column_by_name(&format!("{name}_probability"));
                self.columns.add_labels(name, labels, probabilities);
            }
        }
        if let Some(answers) = column("answer").filter(|_| shape.structured) {
            let name = format!("{}answer", shape.prefix);
            self.columns.add_answers(&name, answers, column("answer_probabilities"), None);
        }
        Ok(())
    }

    fn add_error(&mut self, row: u64, kind: &str, text: Option<&str>) {
        let errors = self.errors.entry(kind.to_string()).or_default();
        errors.rows += 1;
        if errors.first.len() < NAMED {
            errors.first.push((row, text.map(String::from)));
        }
    }

    /// Counts the results of a batch.
    fn of_results(output: &str, with_texts: bool) -> Result<Rows, JobError> {
        let search = Search { format: Some(InputFormat::Lines), ..Search::default() };
        let input = Input::search(&[output.to_string()], &search)?;
        let mut rows = Rows { generated_tokens: Some(Counts::default()), ..Rows::default() };
        rows.notes.push("The output is that of a batch: errors are by the status of the response.".into());
        for batch in input.read(vec![0], 0..input.rows) {
            let batch = batch?.refuse_lost()?;
            let lines = cast(batch.columns.column(0), &DataType::Binary);
            let lines = lines.map_err(|error| JobError::Internal(error.to_string()))?;
            for (at, line) in lines.as_binary::<i32>().iter().enumerate() {
                let result = serde_json::from_slice(line.unwrap_or_default()).unwrap_or_default();
                rows.add_result(batch.first_row + at as u64, &result, with_texts);
            }
        }
        Ok(rows)
    }

    fn add_result(&mut self, row: u64, result: &Value, with_texts: bool) {
        self.rows += 1;
        let body = &result["response"]["body"];
        let usage = |key: &str| body["usage"][key].as_u64();
        usage("prompt_tokens").into_iter().for_each(|tokens| self.input_tokens.add(tokens));
        if let (Some(counts), Some(tokens)) = (&mut self.generated_tokens, usage("completion_tokens")) {
            counts.add(tokens);
        }
        for choice in body["choices"].as_array().into_iter().flatten() {
            let reason = choice["finish_reason"].as_str().unwrap_or("none");
            *self.finish_reasons.entry(reason.to_string()).or_default() += 1;
        }
        let (kind, error) = match (result["error"].is_null(), result["response"]["status_code"].as_u64()) {
            (true, Some(200)) => return,
            (true, Some(status)) => {
                let code =
                    body["error"]["code"].as_str().or(body["error"]["type"].as_str()).unwrap_or_default();
                (format!("status {status}, {code}"), &body["error"])
            }
            (true, None) => ("a line that is no result".into(), &Value::Null),
            (false, _) => (result["error"]["code"].as_str().unwrap_or("no code").into(), &result["error"]),
        };
        self.add_error(row, &kind, error["message"].as_str().filter(|_| with_texts));
    }

    /// Rows that have an error.
    pub fn error_rows(&self) -> u64 {
        self.errors.values().map(|errors| errors.rows).sum()
    }
}

/// Which columns of an output are a job's own.
struct Shape {
    prefix: String,
    /// With the prefix, and the choices as far as they are known.
    labels: Vec<(String, Vec<String>)>,
    structured: bool,
    /// The columns to read.
    own: Vec<String>,
}

impl Shape {
    fn new(names: &[&str], prefix: &str, identity: Option<&Identity>) -> Shape {
        let value = |field: &str| serde_json::from_str::<Value>(&identity?.get(field)?.value).ok();
        let choices = value("columns").and_then(|columns| {
            let choice = |choice: &Value| choice.as_str().map(String::from);
            let column = |column: &Value| {
                let choices = column["choices"].as_array()?.iter().filter_map(choice).collect();
                Some((format!("{prefix}{}", column["name"].as_str()?), choices))
            };
            columns.as_array()?.iter().map(column).collect::<Option<Vec<(String, Vec<String>)>>>()
        });
        // Without the identity, two columns side by side tell it.
        let beside = || {
            let pairs = names.windows(2).filter(|pair| pair[1] == format!("{}_probability", pair[0]));
            pairs.map(|pair| (pair[0].to_string(), Vec::new())).collect()
        };
        let labels: Vec<(String, Vec<String>)> = match identity {
            Some(_) => choices.unwrap_or_default(),
            None => beside(),
        };
        let structured = identity.is_some_and(|identity| identity.get("structured_outputs").is_some());
        let fixed = [
            INPUT_TOKENS,
            "num_generated_tokens",
            "finish_reason",
            "error",
            "num_chunks",
            "num_levels",
            "num_cut_notes",
        ];
        let answers = ["answer", "answer_probabilities"];
        let mut own: Vec<String> = fixed
            .iter()
            .chain(answers.iter().filter(|_| structured))
            .map(|name| format!("{prefix}{name}"))
            .collect();
        own.extend(labels.iter().flat_map(|(label, _)| [label.clone(), format!("{label}_probability")]));
        own.retain(|name| names.contains(&name.as_str()));
        Shape { prefix: prefix.into(), labels, structured, own }
    }

    fn has(&self, name: &str) -> bool {
        self.own.iter().any(|own| own.strip_prefix(&self.prefix) == Some(name))
    }

    fn columns(&self, names: &[&str]) -> Vec<usize> {
        (0..names.len()).filter(|&at| self.own.iter().any(|own| own == names[at])).collect()
    }
}

/// Hands on the numbers of a column that are there, with their rows; of lists each number.
fn numbers(array: Option<&ArrayRef>, mut each: impl FnMut(usize, u64)) -> Result<(), JobError> {
    items(array, &DataType::Int64, |row, array| {
        for number in array.as_primitive::<Int64Type>().iter().flatten() {
            each(row, u64::try_from(number).unwrap_or(0));
        }
    })
}

/// The same of texts.
fn texts(array: Option<&ArrayRef>, mut each: impl FnMut(usize, &str)) -> Result<(), JobError> {
    items(array, &DataType::Utf8, |row, array| {
        array.as_string::<i32>().iter().flatten().for_each(|text| each(row, text));
    })
}

fn items(
    array: Option<&ArrayRef>,
    kind: &DataType,
    mut each: impl FnMut(usize, &ArrayRef),
) -> Result<(), JobError> {
    let Some(array) = array else { return Ok(()) };
    let cast = |array: &ArrayRef| {
        cast(array, kind)
            .map_err(|error| JobError::Usage(format!("a column is not as gristmill writes it: {error}")))
    };
    match array.as_list_opt::<i32>() {
        Some(lists) => (0..lists.len()).filter(|&row| lists.is_valid(row)).try_for_each(|row| {
            each(row, &cast(&lists.value(row))?);
            Ok(())
        }),
        None => {
            let array = cast(array)?;
            (0..array.len()).for_each(|row| each(row, &array.slice(row, 1)));
            Ok(())
        }
    }
}
