//! Makes answers of what the engine generated and hands them to the journal, or to whoever else takes them.

use crate::choices::Choices;
use crate::choices::scores::ColumnScores;
use crate::documents::document::{Document, Next};
use crate::error::JobError;
use crate::journal::answer::{Answer, Completion, FinishReason};
use crate::journal::costs::input_tokens_of;
use crate::journal::note::Part;
use crate::metrics::figures::{EngineNotes, Teller};
use crate::prompt::tokenizer::Tokenizer;
use crate::row_error::{RowError, RowErrorKind};
use crate::run::answer_sink::AnswerSink;
use crate::run::error_limits::ErrorLimits;
use crate::run::open_documents::OpenDocuments;
use crate::run::progress::{Counters, Progress};
use crate::run::request::RowRequest;
use crate::run::row::{RowOutcome, RowResult};
use crate::structured::reasoning::Reasoning;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

/// How often progress is looked at while nothing comes.
const IDLE: Duration = Duration::from_millis(100);

/// Takes rows to where their answers go.
pub struct Finisher<'a> {
    /// Makes text.
    pub tokenizer: &'a Tokenizer,
    /// Where answers go.
    pub sink: &'a Mutex<dyn AnswerSink>,
    pub counters: &'a Counters,
    /// The columns of choices, and what those are calibrated by that are.
    pub choices: Option<&'a Choices>,
    pub content_free: Vec<Option<Vec<f64>>>,
    /// What goes before the structure of the answers.
    pub reasoning: Option<&'a Reasoning>,
    /// The documents on their way, and where their next requests go.
    pub documents: Option<(&'a OpenDocuments<'a>, Sender<RowRequest>)>,
    /// How many errors are tolerated, among how many rows.
    pub limits: ErrorLimits,
    pub rows: u64,
    /// The first error seen, as the screen may show it.
    pub first_error: Option<String>,
}

impl Finisher<'_> {
    /// Takes rows until no more come. Ending early closes the channel, which ends the job.
    ///
    /// # Errors
    /// [`JobError::TooManyErrors`], or what the journal says.
    pub fn run(
        &mut self,
        rows: &Receiver<RowOutcome>,
        progress: &mut Progress,
        mut told: Option<(&mut Teller, &EngineNotes)>,
    ) -> Result<(), JobError> {
        loop {
            match rows.recv_timeout(IDLE) {
                Ok(outcome) => self.finish(outcome)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            progress.show(self.counters);
            told.iter_mut().for_each(|(teller, notes)| teller.tell(notes));
        }
    }

    fn finish(&mut self, outcome: RowOutcome) -> Result<(), JobError> {
        let RowOutcome { row, part, result, shared } = outcome;
        let result = result.and_then(|result| self.answer(row, result));
        if let Some((open, _)) = &self.documents
            && let Some(document) = open.take(row)
        {
            return self.carry_on(document, row, part, result, shared);
        }
        if part.is_some() {
            return Err(JobError::Internal(format!("the document of row {row} is lost")));
        }
        let (answer, error) = match result {
            Ok(answered) => answered,
            Err(error) => (Answer::failed(row, error.num_input_tokens, error.to_string()), Some(error)),
        };
        let c = self.counters;
        Counters::add(&c.input_tokens, input_tokens_of(&answer));
        Counters::add(&c.generated_tokens, answer.num_generated_tokens());
        self.end(row, answer, error, shared)
    }

    /// Takes what was generated for a part of a document; without a part, the document has failed already.
    fn carry_on(
        &mut self,
        mut document: Document,
        row: u64,
        part: Option<Part>,
        result: Result<(Answer, Option<RowError>), RowError>,
        shared: bool,
    ) -> Result<(), JobError> {
        // Only the answer itself has a structure, which may be broken off.
        let (result, incomplete) = match result {
            Ok((answer, incomplete)) => (Ok(answer), incomplete),
            Err(error) => (Err(error), None),
        };
        let Some((open, next_requests)) = &self.documents else { return Ok(()) };
        if let Ok(answer) = &result {
            Counters::add(&self.counters.input_tokens, u64::from(answer.num_input_tokens.unwrap_or(0)));
            Counters::add(&self.counters.generated_tokens, answer.num_generated_tokens());
        }
        let next = match (part, result) {
            (Some(part), result) => {
                let note = result.as_ref().ok().and_then(|answer| document.note(part, answer));
                note.map_or(Ok(()), |note| self.lock()?.append_note(note, shared))?;
                document.take(open.documents, part, result)
            }
            (None, Err(error)) => Next::Fails(error),
            (None, Ok(_)) => return Err(JobError::Internal(format!("row {row} is answered twice"))),
        };
        match next {
            Next::Waits => open.put_back(row, document),
            Next::Requests(parts) => {
                let alone = document.alone;
                open.put_back(row, document);
                // Nobody receives them where the job ends.
                open.requests(row, alone, parts).for_each(|request| _ = next_requests.send(request));
            }
            Next::Ends(answer) => {
                self.end(row, answer, incomplete, shared && document.fits())?;
                self.documents.iter().for_each(|(open, _)| open.end());
            }
            Next::Fails(error) => {
                let answer = document.failed(error.clone());
                self.end(row, answer, Some(error), shared && document.fits())?;
                self.documents.iter().for_each(|(open, _)| open.end());
            }
        }
        Ok(())
    }

    /// Ends a row.
    fn end(
        &mut self,
        row: u64,
        answer: Answer,
        error: Option<RowError>,
        shared: bool,
    ) -> Result<(), JobError> {
        let c = self.counters;
        Counters::add(&c.finished, 1);
        Counters::add(&c.shared, shared.into());
        self.lock()?.append(answer, shared)?;
        match error {
            Some(error) => self.count_error(row, &error),
            None => Ok(()),
        }
    }

    fn lock(&self) -> Result<MutexGuard<'_, dyn AnswerSink + 'static>, JobError> {
        self.sink.lock().map_err(|_| JobError::Internal("a thread ended while it used the journal".into()))
    }

    fn count_error(&mut self, row: u64, error: &RowError) -> Result<(), JobError> {
        let c = self.counters;
        Counters::add(&c.errors, 1);
        tracing::debug!(%error, "a row has no answer");
        let first = self.first_error.get_or_insert_with(|| format!("row {row}, {}", error.shown()));
        if !self.limits.stop {
            return Ok(());
        }
        // The share is of all rows, so that whether a job stops does not hang on which rows come first.
        self.limits.check(Counters::get(&c.errors), self.rows, first.clone(), None)
    }

    /// The answer, and what is wrong with it.
    fn answer(&self, row: u64, result: RowResult) -> Result<(Answer, Option<RowError>), RowError> {
        if let (Some(choices), Some(asked)) = (self.choices, &result.choices) {
            let labels = asked.label_logprobs(result.completions.iter().map(|c| c.scores.as_slice()));
            let scores = choices.scores(&labels, &self.content_free);
            if !scores.iter().all(ColumnScores::are_finite) {
                let why = "the choices have no probability";
                let error = RowError::new(RowErrorKind::NotFinite, why);
                return Err(error.with_tokens(result.num_input_tokens));
            }
            let answer = Answer::failed(row, Some(result.num_input_tokens), "");
            return Ok((Answer { choices: scores, error: None, ..answer }, None));
        }
        let RowResult {
            num_input_tokens,
            completions,
            prompt_logprobs,
            choices: _,
            structure,
            keep: _,
            prompt: _,
        } = result;
        let (mut finished, mut endless) = (Vec::with_capacity(completions.len()), None);
        for generated in completions {
            let skip_special_tokens = generated.text.skips_special_tokens();
            let text = generated.text.finish(self.tokenizer);
            let wrong = |why| RowError::new(RowErrorKind::Tokenizer, why).with_tokens(num_input_tokens);
            let (tokens, mut text, stopped) = text.map_err(wrong)?;
            if let (Some(structure), Some(reasoning)) = (&structure, self.reasoning) {
                let thought;
                (text, thought) = match structure.reasoning() {
                    Some(reasoning) => reasoning.join(&tokens, skip_special_tokens).map_err(wrong)?,
                    // The prompt has ended it.
                    None => (format!("{}{text}", reasoning.text()), true),
                };
                endless = endless.or((!thought).then_some(finished.len()));
            }
            let reason = if stopped { Some(FinishReason::Stop) } else { generated.reason };
            finished.push(Completion {
                text,
                tokens,
                finish_reason: reason.unwrap_or(FinishReason::Abort),
                token_logprobs: generated.token_logprobs,
                logprobs: generated.logprobs,
                field_probabilities: generated.field_probabilities,
            });
        }
        let error = structure.and_then(|_| incomplete(&finished, endless, self.reasoning));
        let answer = Answer {
            row,
            num_input_tokens: Some(num_input_tokens),
            completions: finished,
            prompt_logprobs,
            choices: Vec::new(),
            document: None,
            error: error.as_ref().map(RowError::to_string),
        };
        Ok((answer, error))
    }
}

/// What is wrong with completions that were cut off before their structure's end.
/// The completion `endless` did not end its reasoning.
fn incomplete(
    completions: &[Completion],
    endless: Option<usize>,
    reasoning: Option<&Reasoning>,
) -> Option<RowError> {
    let cut = completions.iter().position(|c| c.finish_reason == FinishReason::Length);
    let at = endless.or(cut)?;
    let which = if completions.len() > 1 { format!("completion {} ", at + 1) } else { "the answer ".into() };
    let tokens = completions[at].tokens.len();
    let detail = match (endless, reasoning) {
        (Some(_), Some(end)) => {
            format!("{which}is {tokens} tokens of reasoning, which {} does not end", end.text())
        }
        _ => format!("{which}was cut off after {tokens} tokens, before its structure's end"),
    };
    Some(RowError::new(RowErrorKind::Incomplete, detail))
}
