//! The columns of the output: input columns as they are, then what was generated.

use crate::error::JobError;
use crate::journal::answer::{Answer, Completion, FinishReason};
use crate::leaves::{has_leaf, map_leaves};
use crate::options::job::ReturnColumn;
use crate::publish::answer_columns::AnswerColumns;
use crate::publish::choice_columns::ChoiceColumns;
use crate::publish::document_columns::DocumentColumns;
use crate::publish::schema_metadata::kept_metadata;
use crate::structured::reasoning::split;
use arrow::array::{
    ArrayRef, Float32Builder, Int32Array, Int32Builder, ListArray, RecordBatch, StringArray, StructArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, Fields, Float32Type, Int32Type, Schema, SchemaRef, TimeUnit};
use engine::request::TokenLogprobs;
use std::collections::HashMap;
use std::sync::Arc;

/// The optional columns (`--return`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Returns {
    /// `generated_tokens`: `list<int32>`.
    pub generated_tokens: bool,
    /// `token_logprobs`: `list<float>`, one for each generated token.
    pub token_logprobs: bool,
    /// `logprobs`: `list<list<struct<token: int32, logprob: float>>>`, the likeliest alternatives.
    pub logprobs: bool,
    /// `prompt_logprobs`: the same for each prompt token; each inner list begins with the token itself,
    /// and the first token has none (null).
    pub prompt_logprobs: bool,
}

impl Returns {
    /// Those of the flag.
    pub fn of(columns: &[ReturnColumn]) -> Returns {
        let has = |column| columns.contains(&column);
        Returns {
            generated_tokens: has(ReturnColumn::GeneratedTokens),
            token_logprobs: has(ReturnColumn::TokenLogprobs),
            logprobs: has(ReturnColumn::Logprobs),
            prompt_logprobs: has(ReturnColumn::PromptLogprobs),
        }
    }
}

/// How the output's columns are made from an input batch and its answers.
#[derive(Clone, Debug)]
pub struct OutputColumns {
    /// As readers see it.
    schema: SchemaRef,
    /// Places of the kept columns in the input.
    kept: Vec<usize>,
    generated: Generated,
}

/// What stands behind the kept columns.
#[derive(Clone, Debug)]
enum Generated {
    Text {
        returns: Returns,
        n: usize,
        /// What ends the reasoning, which has a column of its own.
        reasoning_end: Option<String>,
        /// What the texts are under a schema, which has a column of its own.
        answers: Option<AnswerColumns>,
        documents: Option<DocumentColumns>,
    },
    Choices(ChoiceColumns, Option<DocumentColumns>),
    /// Lines that are made elsewhere, of the kept columns and the answers; the output has no columns.
    Results,
}

impl OutputColumns {
    /// Plans the output of a job over inputs of one schema: all columns or `keep`, in the order given.
    /// With `n` > 1 the columns that belong to a completion are lists of `n`. `prefix` goes before the
    /// names of generated columns.
    ///
    /// # Errors
    /// [`JobError::Column`] if a kept column does not exist or a name occurs twice.
    pub fn new(
        input: &Schema,
        keep: Option<&[String]>,
        returns: Returns,
        n: usize,
        documents: Option<DocumentColumns>,
        prefix: &str,
    ) -> Result<Self, JobError> {
        let mut fields = generated_fields(returns, n, prefix);
        fields.extend(documents.iter().flat_map(|documents| documents.fields(prefix)));
        OutputColumns::plan(
            input,
            keep,
            fields,
            Generated::Text { returns, n, reasoning_end: None, answers: None, documents },
        )
    }

    /// With a column `reasoning`, the last one, for what stands before `end` in a text.
    ///
    /// # Errors
    /// [`JobError::Column`] if an input column has its name.
    pub fn with_reasoning(mut self, end: &str, prefix: &str) -> Result<Self, JobError> {
        let Generated::Text { n, reasoning_end, .. } = &mut self.generated else { return Ok(self) };
        *reasoning_end = Some(end.to_string());
        let data_type = if *n == 1 { DataType::Utf8 } else { list(DataType::Utf8) };
        self.with_field(Field::new(format!("{prefix}reasoning"), data_type, true))
    }

    /// With a column `answer` behind the others, for what the texts are under a schema, and those that belong to it.
    ///
    /// # Errors
    /// [`JobError::Column`] if an input column has the name of one.
    pub fn with_answers(mut self, columns: AnswerColumns, prefix: &str) -> Result<Self, JobError> {
        let Generated::Text { n, answers, .. } = &mut self.generated else { return Ok(self) };
        let n = *n;
        let fields = columns.fields(prefix);
        *answers = Some(columns);
        fields.into_iter().try_fold(self, |planned, field| {
            let data_type = if n == 1 { field.data_type().clone() } else { list(field.data_type().clone()) };
            planned.with_field(field.with_data_type(data_type))
        })
    }

    fn with_field(mut self, field: Field) -> Result<Self, JobError> {
        let kept = &self.schema.fields()[..self.kept.len()];
        if kept.iter().any(|kept| kept.name() == field.name()) {
            return Err(taken(&field));
        }
        let fields = self.schema.fields().iter().cloned().chain([Arc::new(field)]).collect::<Fields>();
        self.schema = Arc::new(Schema::new(fields).with_metadata(self.schema.metadata().clone()));
        Ok(self)
    }

    /// Plans the output of a job that scores choices, as [`OutputColumns::new`].
    ///
    /// # Errors
    /// [`JobError::Column`] if a kept column does not exist or a name occurs twice.
    pub fn of_choices(
        input: &Schema,
        keep: Option<&[String]>,
        choices: ChoiceColumns,
        documents: Option<DocumentColumns>,
        prefix: &str,
    ) -> Result<Self, JobError> {
        let mut fields = choices.fields();
        fields.extend(documents.iter().flat_map(|documents| documents.fields(prefix)));
        for (i, field) in fields.iter().enumerate() {
            if fields[..i].iter().any(|other| other.name() == field.name()) {
                let why = "two columns of choices, or one and a column that every output has, come to this name; \
                           give the column of choices another name";
                return Err(JobError::Column { column: field.name().clone(), why: why.into() });
            }
        }
        OutputColumns::plan(input, keep, fields, Generated::Choices(choices, documents))
    }

    /// Plans the output of a batch, which is made of the columns that are kept for it and has none of them.
    pub fn of_results(input: &Schema) -> OutputColumns {
        let kept = (0..input.fields().len()).collect();
        OutputColumns { schema: Arc::new(input.clone()), kept, generated: Generated::Results }
    }

    /// How many of the kept columns are in the output; they are its first.
    pub(crate) fn kept_in_output(&self) -> usize {
        match self.generated {
            Generated::Results => 0,
            _ => self.kept.len(),
        }
    }

    fn plan(
        input: &Schema,
        keep: Option<&[String]>,
        generated_fields: Vec<Field>,
        generated: Generated,
    ) -> Result<Self, JobError> {
        let names: Vec<&str> = input.fields().iter().map(|field| field.name().as_str()).collect();
        let kept = match keep {
            None => (0..names.len()).collect(),
            Some(keep) => keep.iter().map(|name| find(&names, name)).collect::<Result<Vec<_>, _>>()?,
        };
        let mut fields: Vec<Field> = kept.iter().map(|&i| input.field(i).clone()).collect();
        for field in generated_fields {
            if fields.iter().any(|kept| kept.name() == field.name()) {
                return Err(taken(&field));
            }
            fields.push(field);
        }
        let names: Vec<&str> = kept.iter().map(|&i| names[i]).collect();
        let schema = Schema::new(fields).with_metadata(kept_metadata(input, &names));
        Ok(OutputColumns { schema: Arc::new(schema), kept, generated })
    }

    /// The schema of the output in memory.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The schema that files of the output have.
    pub fn file_schema(&self) -> SchemaRef {
        let (kept, generated) = self.schema.fields().split_at(self.kept.len());
        let kept = kept.iter().map(|field| Arc::new(in_files(field)));
        let fields: Fields = kept.chain(generated.iter().cloned()).collect();
        Arc::new(Schema::new_with_metadata(fields, self.schema.metadata().clone()))
    }

    /// Two columns of the output whose names differ in case alone, if there are such.
    pub fn alike(&self) -> Option<(&str, &str)> {
        let mut seen = HashMap::new();
        let mut names = self.schema.fields().iter().map(|field| field.name().as_str());
        names.find_map(|name| seen.insert(name.to_lowercase(), name).map(|before| (before, name)))
    }

    /// Whether a kept column is a Date64, or has one below it.
    pub fn has_date64(&self) -> bool {
        self.schema.fields().iter().any(|field| has_leaf(field, &|kind| *kind == DataType::Date64))
    }

    /// The schema of the batches that are written: dictionaries as columns of their values, of which those of many files come
    /// together, however few their keys can count. That they are dictionaries, a file's metadata says.
    pub(crate) fn written_schema(&self) -> Schema {
        let schema = self.file_schema();
        let (kept, generated) = schema.fields().split_at(self.kept.len());
        let kept = kept.iter().map(|field| Arc::new(without_dictionaries(field)));
        Schema::new(kept.chain(generated.iter().cloned()).collect::<Fields>())
    }

    /// The schema of the kept input columns, as they are written.
    pub(crate) fn kept_schema(&self) -> SchemaRef {
        Arc::new(Schema::new(self.written_schema().fields()[..self.kept.len()].to_vec()))
    }

    /// The kept columns of an input batch, as they are written.
    ///
    /// # Errors
    /// [`JobError::Column`] if the batch is not of the schema that was planned, or has a value that the type that is written does
    /// not hold.
    pub(crate) fn keep(&self, batch: &RecordBatch) -> Result<RecordBatch, JobError> {
        self.select(batch, self.kept_schema())
    }

    /// The kept columns of an input batch, as readers see them.
    ///
    /// # Errors
    /// [`JobError::Column`] if the batch is not of the schema that was planned.
    pub(crate) fn keep_as_they_are(&self, batch: &RecordBatch) -> Result<RecordBatch, JobError> {
        self.select(batch, Arc::new(Schema::new(self.schema.fields()[..self.kept.len()].to_vec())))
    }

    fn select(&self, batch: &RecordBatch, schema: SchemaRef) -> Result<RecordBatch, JobError> {
        let mut columns = Vec::with_capacity(self.kept.len());
        for (field, &i) in schema.fields().iter().zip(&self.kept) {
            let wrong = |why: String| JobError::Column { column: field.name().clone(), why };
            let array = batch.columns().get(i).ok_or_else(|| wrong("the input lacks it now".into()))?;
            let array = cast_if_needed(array, field.data_type()).map_err(|e| wrong(e.to_string()))?;
            columns.push(array);
        }
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let kept = RecordBatch::try_new_with_options(schema, columns, &options);
        kept.map_err(|error| JobError::Column { column: "(all)".into(), why: error.to_string() })
    }

    /// Joins kept input columns with the answers to the same rows. A row without an answer has the finish
    /// reason "abort".
    ///
    /// # Errors
    /// [`JobError::Column`] if an answer has not `n` completions.
    pub(crate) fn join(
        &self,
        kept: &RecordBatch,
        answers: &[Option<Answer>],
    ) -> Result<RecordBatch, JobError> {
        let mut columns = kept.columns().to_vec();
        columns.extend(match &self.generated {
            Generated::Text { returns, n, reasoning_end, answers: typed, documents } => {
                let more = (reasoning_end.as_deref(), typed.as_ref(), documents.as_ref());
                text_columns(answers, *returns, *n, more)?
            }
            Generated::Choices(choices, documents) => {
                let mut arrays = choices.arrays(answers);
                arrays.extend(documents.iter().flat_map(|documents| documents.arrays(answers)));
                arrays
            }
            Generated::Results => Vec::new(),
        });
        let generated = self.schema.fields().iter().skip(kept.num_columns()).cloned();
        let fields = kept.schema().fields().iter().cloned().chain(generated).collect::<Fields>();
        let schema = Schema::new(fields).with_metadata(self.schema.metadata().clone());
        RecordBatch::try_new(Arc::new(schema), columns)
            .map_err(|error| JobError::Column { column: "(all)".into(), why: error.to_string() })
    }
}

/// The generated columns of a job that generates text.
fn text_columns(
    answers: &[Option<Answer>],
    returns: Returns,
    n: usize,
    (reasoning_end, typed, documents): (Option<&str>, Option<&AnswerColumns>, Option<&DocumentColumns>),
) -> Result<Vec<ArrayRef>, JobError> {
    let rows = answers.len();
    // One entry for each completion of each row, also of rows that have none.
    let mut completions: Vec<Option<&Completion>> = Vec::with_capacity(rows * n);
    let mut reasons = Vec::with_capacity(rows * n);
    for answer in answers {
        let there = answer.as_ref().map_or(&[][..], |answer| &answer.completions);
        if !there.is_empty() && there.len() != n {
            let why = format!("a row has {} completions, the job has n = {}", there.len(), n);
            return Err(JobError::Column { column: "generated_text".into(), why });
        }
        let none = if answer.is_some() { FinishReason::Error } else { FinishReason::Abort };
        for i in 0..n {
            completions.push(there.get(i));
            reasons.push(there.get(i).map_or(none, |completion| completion.finish_reason).as_str());
        }
    }
    let text = |c: &&Completion| -> Option<String> {
        match reasoning_end {
            None => Some(c.text.clone()),
            Some(end) => split(&c.text, end).1.map(str::to_string),
        }
    };
    let texts: StringArray = completions.iter().map(|c| c.as_ref().and_then(text)).collect();
    let notes =
        |row: usize| answers[row].as_ref().and_then(|a| a.document.as_ref()).map_or(0, |d| d.num_note_tokens);
    let count = |(i, c): (usize, &Option<&Completion>)| c.map_or(0, |c| c.tokens.len() as u64) + notes(i / n);
    let counts: Int32Array = completions.iter().enumerate().map(|c| i32::try_from(count(c)).ok()).collect();
    let inputs: Int32Array =
        answers.iter().map(|a| a.as_ref().and_then(|a| a.num_input_tokens).map(|n| n as i32)).collect();
    let errors: StringArray = answers.iter().map(|a| a.as_ref().and_then(|a| a.error.as_deref())).collect();
    let typed = typed.map(|typed| {
        let whole = |row: usize| answers[row].as_ref().is_some_and(|answer| answer.error.is_none());
        let texts: Vec<Option<&str>> =
            texts.iter().enumerate().map(|(i, text)| text.filter(|_| whole(i / n))).collect();
        let probabilities: Vec<&[f32]> = completions
            .iter()
            .map(|completion| {
                completion.map_or(&[][..], |completion| completion.field_probabilities.as_slice())
            })
            .collect();
        typed.arrays(&texts, &probabilities, |i| i / n)
    });
    let mut columns: Vec<ArrayRef> = vec![
        per_row(n, Arc::new(texts)),
        per_row(n, Arc::new(StringArray::from(reasons))),
        Arc::new(inputs),
        per_row(n, Arc::new(counts)),
        Arc::new(errors),
    ];
    if returns.generated_tokens {
        columns.push(per_row(n, tokens(&completions)));
    }
    if returns.token_logprobs {
        columns.push(per_row(n, token_logprobs(&completions)));
    }
    if returns.logprobs {
        columns.push(per_row(
            n,
            alternatives(
                completions
                    .iter()
                    .map(|c| c.map(|c| c.logprobs.iter().map(|top| Some(top.clone())).collect())),
            ),
        ));
    }
    if returns.prompt_logprobs {
        columns.push(alternatives(answers.iter().map(|answer| {
            let positions = answer.as_ref()?.prompt_logprobs.as_ref()?;
            Some(positions.iter().map(|position| position.as_ref().map(with_itself)).collect())
        })));
    }
    columns.extend(documents.iter().flat_map(|documents| documents.arrays(answers)));
    if let Some(end) = reasoning_end {
        let reasoning: StringArray = completions.iter().map(|c| c.map(|c| split(&c.text, end).0)).collect();
        columns.push(per_row(n, Arc::new(reasoning)));
    }
    columns.extend(typed.into_iter().flatten().map(|array| per_row(n, array)));
    Ok(columns)
}

/// What is wrong with a generated column that an input column is called as.
fn taken(field: &Field) -> JobError {
    let why = "an input column has this name; leave it out with --keep, or choose other names for the generated columns \
               with --column-prefix";
    JobError::Column { column: field.name().clone(), why: why.into() }
}

/// Gathers an entry for each completion into lists of `n`, if `n` is not 1.
fn per_row(n: usize, flat: ArrayRef) -> ArrayRef {
    if n == 1 {
        return flat;
    }
    let offsets = OffsetBuffer::from_repeated_length(n, flat.len() / n);
    Arc::new(ListArray::new(item(flat.data_type().clone()), offsets, flat, None))
}

fn find(names: &[&str], name: &str) -> Result<usize, JobError> {
    let found = names.iter().position(|n| *n == name);
    found.ok_or_else(|| JobError::Column {
        column: name.to_string(),
        why: format!("--keep names it, but the input has only {}", names.join(", ")),
    })
}

/// A field with the values of its dictionaries in their place.
pub(crate) fn without_dictionaries(field: &Field) -> Field {
    map_leaves(field, &mut |leaf| match leaf.data_type() {
        DataType::Dictionary(_, values) => leaf.clone().with_data_type((**values).clone()),
        _ => leaf.clone(),
    })
}

/// A field as files have it. Dictionaries have no order: theirs is that in which values are first written, not that of the
/// input. Seconds, of which Parquet knows nothing, are milliseconds.
fn in_files(field: &Field) -> Field {
    map_leaves(field, &mut |leaf| {
        let kind = match leaf.data_type() {
            DataType::Dictionary(keys, values) => {
                DataType::Dictionary(keys.clone(), Box::new(without_seconds(values)))
            }
            kind => without_seconds(kind),
        };
        leaf.clone().with_data_type(kind).with_dict_is_ordered(false)
    })
}

fn without_seconds(kind: &DataType) -> DataType {
    match kind {
        DataType::Timestamp(TimeUnit::Second, zone) => {
            DataType::Timestamp(TimeUnit::Millisecond, zone.clone())
        }
        DataType::Time32(TimeUnit::Second) => DataType::Time32(TimeUnit::Millisecond),
        kind => kind.clone(),
    }
}

fn cast_if_needed(array: &ArrayRef, wanted: &DataType) -> Result<ArrayRef, arrow::error::ArrowError> {
    // A value that the type does not hold is no null.
    let options = CastOptions { safe: false, ..CastOptions::default() };
    if array.data_type() == wanted { Ok(array.clone()) } else { cast_with_options(array, wanted, &options) }
}

fn item(data_type: DataType) -> Arc<Field> {
    Arc::new(Field::new("item", data_type, true))
}

fn list(data_type: DataType) -> DataType {
    DataType::List(item(data_type))
}

fn pair_fields() -> Fields {
    vec![Field::new("token", DataType::Int32, true), Field::new("logprob", DataType::Float32, true)].into()
}

fn generated_fields(returns: Returns, n: usize, prefix: &str) -> Vec<Field> {
    let field = |name: &str, data_type| Field::new(format!("{prefix}{name}"), data_type, true);
    let per_row = |data_type| if n == 1 { data_type } else { list(data_type) };
    let top = list(list(DataType::Struct(pair_fields())));
    let mut fields = vec![
        field("generated_text", per_row(DataType::Utf8)),
        field("finish_reason", per_row(DataType::Utf8)),
        field("num_input_tokens", DataType::Int32),
        field("num_generated_tokens", per_row(DataType::Int32)),
        field("error", DataType::Utf8),
    ];
    let mut optional = |wanted, name, data_type| {
        if wanted {
            fields.push(field(name, data_type));
        }
    };
    optional(returns.generated_tokens, "generated_tokens", per_row(list(DataType::Int32)));
    optional(returns.token_logprobs, "token_logprobs", per_row(list(DataType::Float32)));
    optional(returns.logprobs, "logprobs", per_row(top.clone()));
    optional(returns.prompt_logprobs, "prompt_logprobs", top);
    fields
}

fn tokens(completions: &[Option<&Completion>]) -> ArrayRef {
    let tokens = |c: &Completion| c.tokens.iter().map(|&token| Some(token as i32)).collect::<Vec<_>>();
    Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(completions.iter().map(|c| c.map(tokens))))
}

fn token_logprobs(completions: &[Option<&Completion>]) -> ArrayRef {
    let logprobs = |c: &Completion| c.token_logprobs.iter().map(|&l| Some(l)).collect::<Vec<_>>();
    Arc::new(ListArray::from_iter_primitive::<Float32Type, _, _>(completions.iter().map(|c| c.map(logprobs))))
}

/// A prompt token and its alternatives.
fn with_itself(position: &TokenLogprobs) -> Vec<(u32, f32)> {
    [(position.token, position.logprob)].into_iter().chain(position.top.iter().copied()).collect()
}

/// Lists (one for each entry) of lists (one for each position) of pairs.
fn alternatives(entries: impl Iterator<Item = Option<Vec<Option<Vec<(u32, f32)>>>>>) -> ArrayRef {
    let mut inner_lengths = Vec::new();
    let mut outer_lengths = Vec::new();
    let (mut inner_valid, mut outer_valid) = (Vec::new(), Vec::new());
    let (mut ids, mut logprobs) = (Int32Builder::new(), Float32Builder::new());
    for entry in entries {
        outer_valid.push(entry.is_some());
        let positions = entry.unwrap_or_default();
        outer_lengths.push(positions.len());
        for position in positions {
            inner_valid.push(position.is_some());
            let pairs = position.unwrap_or_default();
            inner_lengths.push(pairs.len());
            for (token, logprob) in pairs {
                ids.append_value(token as i32);
                logprobs.append_value(logprob);
            }
        }
    }
    let pairs =
        StructArray::new(pair_fields(), vec![Arc::new(ids.finish()), Arc::new(logprobs.finish())], None);
    let inner = nested(Arc::new(pairs), inner_lengths, inner_valid);
    nested(inner, outer_lengths, outer_valid)
}

fn nested(values: ArrayRef, lengths: Vec<usize>, valid: Vec<bool>) -> ArrayRef {
    let field = item(values.data_type().clone());
    Arc::new(ListArray::new(
        field,
        OffsetBuffer::from_lengths(lengths),
        values,
        Some(NullBuffer::from(valid)),
    ))
}
