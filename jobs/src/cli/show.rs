//! `gristmill show`: one row's prompt, as a run makes it.

use crate::cli::args::ShowArgs;
use crate::error::JobError;
use crate::journal::JournalReader;
use crate::journal::answer::Answer;
use crate::journal::schema;
use crate::log::print;
use crate::options::job::OnCorrupt;
use crate::options::model::LoadFormat;
use crate::run::job::Job;
use serde::Serialize;
use std::fmt::Write;

/// A row, from its prompt to its answer.
#[derive(Debug, Default, Serialize)]
struct ShownRow {
    row: u64,
    /// `None` if it cannot be rendered, or where the input gives token ids.
    prompt: Option<String>,
    /// `None` where the row has an error instead.
    tokens: Option<Vec<u32>>,
    /// Each token as the vocabulary writes it.
    pieces: Option<Vec<String>>,
    /// Why the row has no prompt.
    error: Option<String>,
    /// What the job has for the row, if that was asked for and is there.
    answer: Option<ShownAnswer>,
}

/// A row of the journal.
#[derive(Debug, Serialize)]
struct ShownAnswer {
    num_input_tokens: Option<u32>,
    error: Option<String>,
    completions: Vec<ShownCompletion>,
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
    let job = Job::prepare(run.job_options()?)?;
    if row >= job.input.rows {
        return Err(JobError::Usage(format!(
            "--row {row}: the input has {} rows, counted from 0",
            job.input.rows
        )));
    }
    let mut shown = ShownRow { row, ..prompt(&job, row)? };
    if answer {
        let path = schema::path(&job.options.state_dir);
        std::fs::metadata(&path).map_err(JobError::io("find", &path))?;
        let journal = JournalReader::open(&job.options.state_dir)?;
        shown.answer = journal.answers(row..row + 1)?.pop().flatten().map(ShownAnswer::from);
    }
    let text = if json {
        serde_json::to_string_pretty(&shown).map_err(|error| JobError::Internal(error.to_string()))? + "\n"
    } else {
        shown.lines(answer)
    };
    print(&text)
}

/// The prompt of a row, made as for a run.
fn prompt(job: &Job, row: u64) -> Result<ShownRow, JobError> {
    let mut shown = ShownRow::default();
    for batch in job.input.read(job.prompts.columns().to_vec(), row..row + 1) {
        let batch = match job.options.on_corrupt {
            OnCorrupt::Refuse => batch?.refuse_lost()?,
            OnCorrupt::RowErrors => batch?,
        };
        let Some(at) = row.checked_sub(batch.first_row).map(|at| at as usize) else { continue };
        if let Some(lost) = batch.lost_rows().get(&row) {
            shown.error = Some(lost.to_string());
        } else if at < batch.columns.num_rows() {
            shown.prompt = job.prompts.text_of_row(&batch.columns, at);
            match job.prompts.of_row(&batch.columns, at) {
                Ok(tokens) => {
                    let piece = |&token: &u32| job.tokenizer.written_form(token).unwrap_or_default();
                    shown.pieces = Some(tokens.iter().map(piece).collect());
                    shown.tokens = Some(tokens);
                }
                Err(error) => shown.error = Some(error.to_string()),
            }
        }
    }
    Ok(shown)
}

impl From<Answer> for ShownAnswer {
    fn from(answer: Answer) -> Self {
        let completions = answer.completions.into_iter().map(|completion| ShownCompletion {
            text: completion.text,
            finish_reason: completion.finish_reason.as_str(),
            tokens: completion.tokens,
        });
        ShownAnswer {
            num_input_tokens: answer.num_input_tokens,
            error: answer.error,
            completions: completions.collect(),
        }
    }
}

impl ShownRow {
    /// The row as text; `answer` says whether its answer was asked for.
    fn lines(&self, answer: bool) -> String {
        let mut text = format!("row {}\n", self.row);
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
        match &self.answer {
            None if answer => text += "\nno answer yet\n",
            None => {}
            Some(answer) => answer.add_lines(&mut text, self.tokens.as_ref().map(Vec::len)),
        }
        text
    }
}

impl ShownAnswer {
    fn add_lines(&self, text: &mut String, prompt: Option<usize>) {
        if let Some(error) = &self.error {
            let _ = writeln!(text, "\nerror: {error}");
        }
        for completion in &self.completions {
            let (tokens, reason) = (completion.tokens.len(), completion.finish_reason);
            let _ = writeln!(text, "\nanswer ({tokens} tokens, {reason}):\n{}", completion.text);
        }
        if let Some(then) = self.num_input_tokens.filter(|&then| Some(then as usize) != prompt) {
            let _ =
                writeln!(text, "\nthe job's prompt of this row had {then} tokens: it was begun otherwise");
        }
    }
}
