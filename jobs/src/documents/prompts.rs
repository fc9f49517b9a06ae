//! The prompts of a document: of the whole, of chunks, and of merges.

use crate::choices::Choices;
use crate::choices::requests::RowChoices;
use crate::documents::chunks::{Cut, chunks};
use crate::documents::{Documents, LEAST_ROOM};
use crate::error::JobError;
use crate::input::Input;
use crate::input::row::value;
use crate::options::documents::{DocumentOptions, MAP, Method};
use crate::options::prompt::Given;
use crate::prompt::prompts::{GivenValue, Prompts, RowPrompt};
use crate::row_error::{RowError, RowErrorKind};
use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, StringArray, UInt64Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Schema};
use minijinja::Value;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

/// What the prompts behind the first level read besides columns.
pub fn second(options: &DocumentOptions) -> Given {
    let names: &[&str] = match (options.method, options.sources) {
        (Method::Refine, _) => &["answer", "chunk", "chunk_index"],
        (Method::MapReduce, false) => &["notes", "level"],
        (Method::MapReduce, true) => &["notes", "level", "sources"],
    };
    Given { key: options.second_prompt().1, names }
}

/// The prompt of a request.
#[derive(Clone, Debug, PartialEq)]
pub struct RequestPrompt {
    /// Of the first column, where choices are scored.
    pub tokens: Vec<u32>,
    /// What is scored, if nothing is generated.
    pub choices: Option<Arc<RowChoices>>,
}

impl RequestPrompt {
    fn of_tokens(tokens: Vec<u32>) -> RequestPrompt {
        RequestPrompt { tokens, choices: None }
    }

    /// Tokens to compute; what the prompts of columns share counts once.
    pub fn num_tokens(&self) -> usize {
        self.choices.as_ref().map_or(self.tokens.len(), |choices| choices.num_input_tokens as usize)
    }
}

/// A chunk with its prompt.
pub struct Chunk {
    /// Bytes of the document.
    pub range: Range<usize>,
    pub prompt: RequestPrompt,
}

/// The column of texts in the input.
pub fn text_column(options: &DocumentOptions, input: &Input) -> Result<usize, JobError> {
    let name = &options.column;
    let column = input.columns(std::slice::from_ref(name), "documents: column")?[0];
    let mut kind = input.schema.field(column).data_type();
    if let DataType::Dictionary(_, values) = kind {
        kind = values;
    }
    match kind {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Ok(column),
        _ => Err(JobError::Usage(format!("documents: the column {name} is {kind}; it must be a string"))),
    }
}

fn too_long(detail: String) -> RowError {
    RowError::new(RowErrorKind::PromptTooLong, detail)
}

impl Documents {
    /// Makes sure that the templates read what they are there for, and not the document itself.
    pub(super) fn check_names(&self, document: usize) -> Result<(), JobError> {
        let wrong = |why: String| Err(JobError::Usage(format!("documents: {why}")));
        if self.whole.as_ref().is_some_and(|whole| !whole.columns().contains(&document)) {
            let column = &self.options.column;
            return wrong(format!(
                "the prompt does not read the column {column}, so that documents which fit into one prompt would be \
                 answered unread; name it in the prompt, or leave the prompt out, for map-prompt to serve them"
            ));
        }
        let given = [MAP, second(&self.options)];
        for (prompts, Given { key, names }) in [&self.map, &self.second].into_iter().zip(given) {
            if prompts.columns().contains(&document) {
                let (column, name) = (&self.options.column, names[0]);
                return wrong(format!(
                    "{key} reads the column {column}, which may be of any length; it is given as {{{{ {name} }}}}"
                ));
            }
            let needed = names.iter().filter(|name| !matches!(**name, "chunk_index" | "level"));
            for name in needed {
                if !prompts.reads(name) {
                    return wrong(format!("{key} does not read `{name}`, which it is there for"));
                }
            }
        }
        Ok(())
    }

    /// Refuses prompts that leave no room, as far as that can be known before there are rows.
    pub(super) fn check_room(&self, input: &Input) -> Result<(), JobError> {
        let (context, answer) = (self.max_model_len, self.max_tokens);
        let refuse = |key: &str, fixed: usize, needs: &str| {
            Err(JobError::Usage(format!(
                "documents: of the context of {context} tokens (--max-model-len), {answer} are for the answer (--max-tokens) \
                 and {fixed} for {key} itself, which leaves {}; {needs}. Shorten the prompt, lower --max-tokens, or raise \
                 --max-model-len",
                self.limit().saturating_sub(fixed)
            )))
        };
        if let Some(fixed) = self.fixed_tokens(&self.map, input)
            && fixed + LEAST_ROOM > self.limit()
        {
            return refuse("map-prompt", fixed, &format!("a chunk needs {LEAST_ROOM} at least"));
        }
        let (needed, needs) = self.needed_by_second();
        let key = self.options.second_prompt().1;
        if let Some(fixed) = self.fixed_tokens(&self.second, input)
            && fixed + needed > self.limit()
        {
            return refuse(key, fixed, &needs);
        }
        let Some((choices, batch)) = self.choices.as_ref().zip(self.empty_row(&self.second, input)) else {
            return Ok(());
        };
        let fixed = match self.scored(choices, &self.second, &batch, 0, &self.second.without_content()) {
            Ok(asked) => asked.longest(),
            Err(error) if error.kind == RowErrorKind::PromptTooLong => context,
            Err(_) => return Ok(()),
        };
        if fixed + answer > context {
            return Err(JobError::Usage(format!(
                "documents: of the context of {context} tokens (--max-model-len), {fixed} are for {key} with the ask and the \
                 choice of the longest column, which leaves {}; the last prompt needs room for a note of {answer} \
                 (--max-tokens). Shorten prompt or asks, lower --max-tokens, or raise --max-model-len",
                context.saturating_sub(fixed)
            )));
        }
        Ok(())
    }

    /// Tokens that prompts behind the first level must leave, and what for.
    fn needed_by_second(&self) -> (usize, String) {
        let answer = self.max_tokens;
        match self.options.method {
            Method::MapReduce => {
                (2 * answer, format!("a merge needs room for two notes of {answer} (--max-tokens)"))
            }
            Method::Refine => (
                answer + LEAST_ROOM,
                format!("it needs room for an answer of {answer} (--max-tokens) and {LEAST_ROOM} of a chunk"),
            ),
        }
    }

    /// Tokens that the prompts behind the first level have in a row without any text; 0 where that cannot be rendered.
    ///
    /// # Errors
    /// If they leave no room.
    fn check_second(&self, row: &RecordBatch) -> Result<usize, RowError> {
        let key = self.options.second_prompt().1;
        let fixed = match self.second.of_given(row, 0, &self.second.without_content()) {
            Ok(tokens) => tokens.len(),
            Err(error) if error.kind == RowErrorKind::PromptTooLong => {
                return Err(too_long(format!("{key} without any text: {}", error.detail)));
            }
            // What fails without content may not fail with it.
            Err(_) => return Ok(0),
        };
        let (needed, needs) = self.needed_by_second();
        if fixed + needed <= self.limit() {
            return Ok(fixed);
        }
        Err(too_long(format!(
            "{key} has {fixed} tokens in this row without any text; with --max-tokens {} a context of {} (--max-model-len) \
             leaves {}, and {needs}",
            self.max_tokens,
            self.max_model_len,
            self.limit().saturating_sub(fixed)
        )))
    }

    /// A row of which every column that prompts read is the empty string.
    fn empty_row(&self, prompts: &Prompts, input: &Input) -> Option<RecordBatch> {
        let names = prompts.columns().iter().map(|&column| input.schema.field(column).name());
        let empty = || Arc::new(StringArray::from(vec![""])) as ArrayRef;
        let columns: Vec<(&String, ArrayRef)> = names.map(|name| (name, empty())).collect();
        match columns.is_empty() {
            true => no_columns().ok(),
            false => RecordBatch::try_from_iter(columns).ok(),
        }
    }

    /// Tokens of a prompt of which everything is empty, if it can be rendered so.
    fn fixed_tokens(&self, prompts: &Prompts, input: &Input) -> Option<usize> {
        let batch = self.empty_row(prompts, input)?;
        match prompts.of_given(&batch, 0, &prompts.without_content()) {
            Ok(tokens) => Some(tokens.len()),
            Err(error) => (error.kind == RowErrorKind::EmptyPrompt).then_some(0),
        }
    }

    /// The text of a row of a batch of [`Documents::columns`].
    ///
    /// # Errors
    /// If there is none.
    pub fn text(&self, batch: &RecordBatch, row: usize) -> Result<String, RowError> {
        let text = value(batch.column(self.column), row, &mut |text: &str| Value::from(text))
            .map_err(|why| RowError::new(RowErrorKind::BadRow, why))?;
        let name = &self.options.column;
        match text.as_str() {
            None => {
                Err(RowError::new(RowErrorKind::NullPrompt, format!("the column {name} is null in this row")))
            }
            Some("") => Err(RowError::new(
                RowErrorKind::EmptyPrompt,
                format!("the column {name} is empty in this row"),
            )),
            Some(text) if text.chars().all(char::is_whitespace) => Err(RowError::new(
                RowErrorKind::EmptyPrompt,
                format!("the column {name} holds nothing but white space in this row"),
            )),
            Some(text) => Ok(text.to_string()),
        }
    }

    /// The columns of a row that prompts behind the first level read.
    pub(super) fn row_of_second(&self, batch: &RecordBatch, row: usize) -> Result<RecordBatch, RowError> {
        let internal =
            |error: arrow::error::ArrowError| RowError::new(RowErrorKind::Internal, error.to_string());
        let batch = self.projected(&self.second, batch)?;
        if batch.num_columns() == 0 {
            return no_columns().map_err(internal);
        }
        let row = UInt64Array::from(vec![row as u64]);
        // A slice would hold all texts of the batch.
        let columns = batch.columns().iter().map(|column| take(column, &row, None)).collect::<Result<_, _>>();
        RecordBatch::try_new(batch.schema(), columns.map_err(internal)?).map_err(internal)
    }

    /// The columns that prompts read.
    fn projected(&self, prompts: &Prompts, batch: &RecordBatch) -> Result<RecordBatch, RowError> {
        let places = prompts.columns().iter().filter_map(|column| self.columns.binary_search(column).ok());
        let projected = batch.project(&places.collect::<Vec<_>>());
        projected.map_err(|error| RowError::new(RowErrorKind::Internal, error.to_string()))
    }

    /// The prompt of a document that fits into one; none if it does not.
    pub(super) fn whole_prompt(
        &self,
        batch: &RecordBatch,
        row: usize,
        text: &str,
    ) -> Result<Option<RequestPrompt>, RowError> {
        match &self.whole {
            Some(whole) => self.prompt(whole, &self.projected(whole, batch)?, row, true, &[]),
            None => {
                let given = [("chunk", GivenValue::Text(text)), ("chunk_index", GivenValue::Number(0))];
                self.prompt(&self.map, &self.projected(&self.map, batch)?, row, true, &given)
            }
        }
    }

    /// The prompt of a request, or none if it is too long; the last one of a document asks what columns of choices ask.
    fn prompt(
        &self,
        prompts: &Prompts,
        batch: &RecordBatch,
        row: usize,
        is_last: bool,
        given: &[(&str, GivenValue<'_>)],
    ) -> Result<Option<RequestPrompt>, RowError> {
        let made = match self.choices.as_ref().filter(|_| is_last) {
            None => prompts.of_given(batch, row, given).map(RequestPrompt::of_tokens),
            Some(choices) => self.scored(choices, prompts, batch, row, given).map(|asked| RequestPrompt {
                tokens: asked.columns[0].tokens.clone(),
                choices: Some(Arc::new(asked)),
            }),
        };
        match made {
            Ok(prompt) => Ok(Some(prompt).filter(|prompt| self.room_beside(prompt).is_some())),
            Err(error) if error.kind == RowErrorKind::PromptTooLong => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn scored(
        &self,
        choices: &Choices,
        prompts: &Prompts,
        batch: &RecordBatch,
        row: usize,
        given: &[(&str, GivenValue<'_>)],
    ) -> Result<RowChoices, RowError> {
        choices.of_asked(prompts, |ask| -> Result<RowPrompt, RowError> {
            prompts.asked_of_given(batch, row, ask, given)
        })
    }

    /// Tokens that a prompt leaves for more text; none if it is too long itself.
    pub(super) fn room_beside(&self, prompt: &RequestPrompt) -> Option<usize> {
        match &prompt.choices {
            None => self.limit().checked_sub(prompt.tokens.len()),
            // No note is generated behind it.
            Some(choices) => self.max_model_len.checked_sub(choices.longest()),
        }
    }

    fn map_prompt(
        &self,
        batch: &RecordBatch,
        row: usize,
        chunk: &str,
        index: usize,
    ) -> Result<Vec<u32>, RowError> {
        let given = [("chunk", GivenValue::Text(chunk)), ("chunk_index", GivenValue::Number(index))];
        self.map.of_given(batch, row, &given)
    }

    /// The chunks of a document that does not fit into one prompt.
    pub(super) fn chunks(&self, batch: &RecordBatch, row: usize, text: &str) -> Result<Vec<Chunk>, RowError> {
        let whole_batch = batch;
        let batch = self.projected(&self.map, batch)?;
        let fixed = match self.map_prompt(&batch, row, "", 0) {
            Err(error) if error.kind == RowErrorKind::EmptyPrompt => 0,
            made => made?.len(),
        };
        let second = self.check_second(&self.row_of_second(whole_batch, row)?)?;
        let room = match self.options.method {
            Method::MapReduce => self.limit().saturating_sub(fixed),
            // The other prompts hold the answer, too, and are as long as theirs is.
            Method::Refine => self.limit().saturating_sub(fixed.max(second) + self.max_tokens),
        };
        if room < LEAST_ROOM {
            return Err(too_long(format!(
                "map-prompt has {fixed} tokens in this row without a chunk; with --max-tokens {} a context of {} \
                 (--max-model-len) leaves {room}, and a chunk needs {LEAST_ROOM}",
                self.max_tokens, self.max_model_len
            )));
        }
        let mut todo = VecDeque::from(self.cut(text, 0..text.len(), room)?);
        if todo.len() == 1 && self.choices.is_some() && self.options.method == Method::Refine {
            // Too long only with what the columns ask, which is asked behind a later chunk.
            todo = self.split(text, 0..text.len())?.into();
        }
        let mut found: Vec<Chunk> = Vec::with_capacity(todo.len());
        while let Some(range) = todo.pop_front() {
            let made = self.map_prompt(&batch, row, &text[range.clone()], found.len());
            let (number, Range { start, end }) = (found.len(), range.clone());
            let named = |error: RowError| RowError {
                detail: format!("chunk {number} (bytes {start} to {end}): {}", error.detail),
                ..error
            };
            let made = made.map(RequestPrompt::of_tokens).map_err(named)?;
            match self.room_beside(&made) {
                Some(_) => found.push(Chunk { range, prompt: made }),
                None => self.split(text, range)?.into_iter().rev().for_each(|piece| todo.push_front(piece)),
            }
        }
        Ok(found)
    }

    /// A chunk whose prompt is too long after all, in two or more.
    pub(super) fn split(&self, text: &str, range: Range<usize>) -> Result<Vec<Range<usize>>, RowError> {
        let mut room = self.starts(&text[range.clone()])?.len() / 2;
        while room > 0 {
            let pieces = self.cut(text, range.clone(), room)?;
            if pieces.len() > 1 {
                return Ok(pieces);
            }
            room /= 2;
        }
        Err(too_long(format!(
            "bytes {} to {} cannot be cut further, and their prompt has more than the {} tokens that the context of {} \
             (--max-model-len) leaves with --max-tokens {}",
            range.start,
            range.end,
            self.limit(),
            self.max_model_len,
            self.max_tokens
        )))
    }

    fn cut(&self, text: &str, range: Range<usize>, budget: usize) -> Result<Vec<Range<usize>>, RowError> {
        let overlap = self.options.overlap.min(budget / 2);
        let cut = Cut { budget, overlap, format: self.options.format };
        let tokens = |text: &str| self.tokenizer.token_starts(text);
        let pieces = chunks(&text[range.clone()], cut, tokens)
            .map_err(|why| RowError::new(RowErrorKind::Tokenizer, why))?;
        Ok(pieces.into_iter().map(|piece| range.start + piece.start..range.start + piece.end).collect())
    }

    fn starts(&self, text: &str) -> Result<Vec<usize>, RowError> {
        self.tokenizer.token_starts(text).map_err(|why| RowError::new(RowErrorKind::Tokenizer, why))
    }

    /// The prompt of a merge, or of the last one, or none if it is too long.
    pub(super) fn merge_prompt(
        &self,
        row: &RecordBatch,
        notes: &[&str],
        level: u32,
        sources: &[&str],
        is_last: bool,
    ) -> Result<Option<RequestPrompt>, RowError> {
        let given = [
            ("notes", GivenValue::Texts(notes)),
            ("level", GivenValue::Number(level as usize)),
            ("sources", GivenValue::Texts(sources)),
        ];
        let count = if self.options.sources { 3 } else { 2 };
        self.prompt(&self.second, row, 0, is_last, &given[..count])
    }

    /// The prompt that goes on from an answer with a chunk, or none if it is too long.
    pub(super) fn refine_prompt(
        &self,
        row: &RecordBatch,
        answer: &str,
        chunk: &str,
        index: usize,
        is_last: bool,
    ) -> Result<Option<RequestPrompt>, RowError> {
        let given = [
            ("answer", GivenValue::Text(answer)),
            ("chunk", GivenValue::Text(chunk)),
            ("chunk_index", GivenValue::Number(index)),
        ];
        self.prompt(&self.second, row, 0, is_last, &given)
    }

    /// Tokens of a text alone.
    pub(super) fn count(&self, text: &str) -> Result<usize, RowError> {
        Ok(self.starts(text)?.len())
    }

    /// Tokens that a prompt may have.
    pub(super) fn most(&self) -> usize {
        self.limit()
    }
}

/// A row without columns.
fn no_columns() -> Result<RecordBatch, arrow::error::ArrowError> {
    let one = RecordBatchOptions::new().with_row_count(Some(1));
    RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &one)
}
