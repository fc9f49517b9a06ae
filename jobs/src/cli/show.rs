//! `gristmill show`: one row's prompt, as a run makes it.

use crate::choices::Choices;
use crate::cli::args::ShowArgs;
use crate::counted::counted;
use crate::documents::Documents;
use crate::error::JobError;
use crate::journal::JournalReader;
use crate::journal::answer::Answer;
use crate::journal::decisions::prompt_fields;
use crate::log::print;
use crate::options::model::LoadFormat;
use crate::printable::printable_lines;
use crate::prompt::prompts::RowPrompt;
use crate::run::identity::{input_digests, prompt_identity};
use crate::run::job::Job;
use crate::run::reading::read_rows;
use crate::shards::local;
use arrow::array::{AsArray, RecordBatch};
use serde::Serialize;
use std::fmt::Write;

/// A row, from its prompt to its answer.
#[derive(Debug, Default, Serialize)]
struct ShownRow {
    row: u64,
    /// The row's prompt; in a job of columns of choices that of the first column, in one of documents that of the first chunk.
    #[serde(flatten)]
    prompt: ShownPrompt,
    /// Those of the other columns.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    columns: Vec<ShownPrompt>,
    /// Those of the other chunks of a document.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    chunks: Vec<ShownPrompt>,
    /// What the job has for the row, if that was asked for and is there.
    answer: Option<ShownAnswer>,
}

/// A prompt.
#[derive(Debug, Default, Serialize)]
struct ShownPrompt {
    /// The column of choices that it asks for.
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<String>,
    /// The bytes of a document that it holds, if that does not fit into one prompt.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<[usize; 2]>,
    /// `None` if it cannot be rendered, or where the input gives token ids.
    prompt: Option<String>,
    /// `None` where the row has an error instead.
    tokens: Option<Vec<u32>>,
    /// Each token as the vocabulary writes it.
    pieces: Option<Vec<String>>,
    /// Why the row has no prompt.
    error: Option<String>,
}

/// A row of the journal.
#[derive(Debug, Serialize)]
struct ShownAnswer {
    num_input_tokens: Option<u32>,
    error: Option<String>,
    completions: Vec<ShownCompletion>,
    /// The labels of the columns of choices.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    choices: Vec<ShownChoice>,
}

#[derive(Debug, Serialize)]
struct ShownChoice {
    column: String,
    label: String,
    probability: f32,
}

#[derive(Debug, Serialize)]
struct ShownCompletion {
    text: String,
    finish_reason: &'static str,
    tokens: Vec<u32>,
}

/// Prints a row's prompt, and with `--answer` what the job's journal has for it.
///
/// # Errors
/// What is wrong with the flags or the files; [`JobError::Usage`] for a row that is not there.
pub fn show(args: ShowArgs) -> Result<(), JobError> {
    let ShowArgs { mut run, row, answer, json } = args;
    // Prompts need no weights, which a hub would have to send.
    run.model.load_format = LoadFormat::Dummy;
    if run.shard.is_some() {
        let why = "--shard: rows are counted over the whole input, and --answer looks into the shard that has the row; leave it out";
        return Err(JobError::Usage(why.into()));
    }
    if answer && run.output.is_none() {
        return Err(JobError::Usage("--answer: name the output of the job with --output".into()));
    }
    let job = Job::prepare(run.reading_options()?)?;
    if row >= job.input.rows {
        return Err(JobError::Usage(format!(
            "--row {row}: the input has {}, counted from 0",
            counted(job.input.rows, "row")
        )));
    }
    let mut shown = shown_row(&job, row)?;
    if answer {
        let journal = JournalReader::of_begun(&local::dir_of_row(&job.options.state_dir, row)?)?;
        let changed = prompt_identity(&job).differences(&prompt_fields(journal.identity()));
        if journal.is_of_this_format() && !changed.is_empty() {
            let why = "the prompts are not those of the answers, which --answer would show beside others";
            return Err(JobError::Usage(format!("{why}; give the job's own flags:\n{changed}")));
        }
        let changed = input_digests(&job)?.differences(journal.inputs());
        if !changed.is_empty() {
            let why = "the input is not that of the answers, which --answer would show beside other prompts";
            return Err(JobError::Usage(format!("{why}:\n{}", changed.trim_end())));
        }
        let answer = journal.answers(row..row + 1)?.pop().flatten();
        shown.answer = answer.map(|answer| ShownAnswer::of(answer, job.choices.as_deref()));
    }
    let text = if json {
        serde_json::to_string_pretty(&shown).map_err(|error| JobError::Internal(error.to_string()))? + "\n"
    } else {
        printable_lines(&shown.lines(answer)).into_owned()
    };
    print(&text)
}

/// The prompts of a row, made as for a run.
fn shown_row(job: &Job, row: u64) -> Result<ShownRow, JobError> {
    if let Some(documents) = &job.documents {
        let mut shown = chunks(job, documents, row)?.into_iter();
        let prompt = shown.next().unwrap_or_default();
        // A document that fits has a prompt for each column of choices.
        let (columns, chunks) = shown.partition(|prompt| prompt.column.is_some());
        return Ok(ShownRow { row, prompt, columns, chunks, ..ShownRow::default() });
    }
    let asks: Vec<(Option<&str>, Option<&str>)> = match &job.choices {
        None => vec![(None, None)],
        Some(choices) => choices.columns.iter().map(|c| (Some(c.name.as_str()), c.ask.as_deref())).collect(),
    };
    let mut prompts = asks.into_iter().map(|(column, ask)| prompt(job, row, column, ask));
    let prompt = prompts.next().transpose()?.unwrap_or_default();
    Ok(ShownRow { row, prompt, columns: prompts.collect::<Result<_, _>>()?, ..ShownRow::default() })
}

/// The prompts of the chunks of a row's document.
fn chunks(job: &Job, documents: &Documents, row: u64) -> Result<Vec<ShownPrompt>, JobError> {
    let mut shown = Vec::new();
    in_batch(job, row, job.columns_read(), |found| {
        let opened = found
            .map_err(str::to_string)
            .and_then(|(batch, at)| documents.open(batch, at).map_err(|error| error.to_string()));
        match opened {
            Ok(opened) => {
                let many = opened.chunks().count() > 1;
                let named = |column: Option<&String>, bytes, tokens: &[u32]| ShownPrompt {
                    column: column.cloned(),
                    bytes,
                    prompt: job.tokenizer.decode(tokens, false).ok(),
                    ..ShownPrompt::of_tokens(job, tokens.to_vec())
                };
                for (range, prompt) in opened.chunks() {
                    let bytes = many.then_some([range.start, range.end]);
                    match (&prompt.choices, &job.choices) {
                        (Some(asked), Some(choices)) => {
                            let columns = choices.columns.iter().zip(&asked.columns);
                            shown
                                .extend(columns.map(|(c, asked)| named(Some(&c.name), bytes, &asked.tokens)));
                        }
                        _ => shown.push(named(None, bytes, &prompt.tokens)),
                    }
                }
            }
            Err(error) => shown.push(ShownPrompt { error: Some(error), ..ShownPrompt::default() }),
        }
    })?;
    Ok(shown)
}

/// Reads columns of a row, and hands over its batch and its place there, or why it cannot be read.
fn in_batch(
    job: &Job,
    row: u64,
    columns: &[usize],
    mut take: impl FnMut(Result<(&RecordBatch, usize), &str>),
) -> Result<(), JobError> {
    for batch in read_rows(&job.input, columns, row..row + 1, job.options.on_corrupt) {
        let batch = batch?;
        let Some(at) = row.checked_sub(batch.first_row).map(|at| at as usize) else { continue };
        if let Some(lost) = batch.lost_rows().get(&row) {
            take(Err(&lost.to_string()));
        } else if at < batch.columns.num_rows() {
            take(Ok((&batch.columns, at)));
        }
    }
    Ok(())
}

/// The prompt of a row, made as for a run, with the question of a column.
fn prompt(job: &Job, row: u64, column: Option<&str>, ask: Option<&str>) -> Result<ShownPrompt, JobError> {
    let mut shown = ShownPrompt { column: column.map(String::from), ..ShownPrompt::default() };
    in_batch(job, row, job.prompts.columns(), |found| match found {
        Err(lost) => shown.error = Some(lost.to_string()),
        Ok((batch, at)) => {
            let mut text = job.prompts.text_of_row(batch, at, ask);
            let line = || batch.column(0).as_binary::<i32>().value(at);
            let made = match &job.batch {
                Some(requests) => requests.prompt(&job.prompts, line(), row),
                None => job.prompts.asked(batch, at, ask),
            };
            let made = match made {
                Ok(RowPrompt { tokens, rendering }) => {
                    text = text.or(rendering.map(|rendering| rendering.plain()));
                    ShownPrompt::of_tokens(job, tokens)
                }
                Err(error) => ShownPrompt { error: Some(error.to_string()), ..ShownPrompt::default() },
            };
            shown = ShownPrompt { prompt: text, column: shown.column.take(), ..made };
        }
    })?;
    Ok(shown)
}

impl ShownAnswer {
    fn of(answer: Answer, columns: Option<&Choices>) -> Self {
        let scored = columns.iter().flat_map(|choices| &choices.columns).zip(&answer.choices);
        let choices = scored.filter_map(|(column, scores)| {
            let label = scores.label();
            let probability = scores.logprobs.get(label).map(|_| scores.probability(label))?;
            Some(ShownChoice {
                column: column.name.clone(),
                label: column.labels.get(label)?.clone(),
                probability,
            })
        });
        let choices = choices.collect();
        let completions = answer.completions.into_iter().map(|completion| ShownCompletion {
            text: completion.text,
            finish_reason: completion.finish_reason.as_str(),
            tokens: completion.tokens,
        });
        ShownAnswer {
            num_input_tokens: answer.num_input_tokens,
            error: answer.error,
            completions: completions.collect(),
            choices,
        }
    }
}

impl ShownRow {
    /// The row as text; `answer` says whether its answer was asked for.
    fn lines(&self, answer: bool) -> String {
        let mut text = format!("row {}\n", self.row);
        std::iter::once(&self.prompt)
            .chain(&self.columns)
            .chain(&self.chunks)
            .for_each(|prompt| prompt.add_lines(&mut text));
        match &self.answer {
            None if answer => text += "\nno answer yet\n",
            None => {}
            Some(answer) => {
                answer.add_lines(&mut text);
                if self.prompt.column.is_none() && self.chunks.is_empty() {
                    answer.compare(&mut text, self.prompt.tokens.as_ref().map(Vec::len));
                }
            }
        }
        text
    }
}

impl ShownPrompt {
    fn of_tokens(job: &Job, tokens: Vec<u32>) -> ShownPrompt {
        let piece = |&token: &u32| job.tokenizer.written_form(token).unwrap_or_default();
        let pieces = Some(tokens.iter().map(piece).collect());
        ShownPrompt { pieces, tokens: Some(tokens), ..ShownPrompt::default() }
    }

    fn add_lines(&self, text: &mut String) {
        if let Some(column) = &self.column {
            let _ = writeln!(text, "\ncolumn {column}:");
        }
        if let Some([start, end]) = self.bytes {
            let _ = writeln!(text, "\nbytes {start} to {end}:");
        }
        if let Some(prompt) = &self.prompt {
            let _ = writeln!(text, "\nprompt:\n{prompt}");
        }
        if let (Some(tokens), Some(pieces)) = (&self.tokens, &self.pieces) {
            let _ = writeln!(text, "\n{} tokens:", tokens.len());
            for (token, piece) in tokens.iter().zip(pieces) {
                let _ = writeln!(text, "{token:>8}  {piece}");
            }
        }
        if let Some(error) = &self.error {
            let _ = writeln!(text, "\nno prompt: {error}");
        }
    }
}

impl ShownAnswer {
    fn add_lines(&self, text: &mut String) {
        if let Some(error) = &self.error {
            let _ = writeln!(text, "\nerror: {error}");
        }
        for completion in &self.completions {
            let (tokens, reason) = (completion.tokens.len(), completion.finish_reason);
            let _ = writeln!(text, "\nanswer ({tokens} tokens, {reason}):\n{}", completion.text);
        }
        for choice in &self.choices {
            let ShownChoice { column, label, probability } = choice;
            let _ = writeln!(text, "\n{column}: {label} ({probability:.4})");
        }
    }

    /// Says if the row's prompt had another number of tokens when it was answered.
    fn compare(&self, text: &mut String, prompt: Option<usize>) {
        if let Some(then) = self.num_input_tokens.filter(|&then| Some(then as usize) != prompt) {
            let _ =
                writeln!(text, "\nthe job's prompt of this row had {then} tokens: it was begun otherwise");
        }
    }
}
