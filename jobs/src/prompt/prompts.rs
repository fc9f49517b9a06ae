//! Makes the prompts of rows.

use crate::error::JobError;
use crate::input::Input;
use crate::input::row::{column_value, row_values};
use crate::options::prompt::{Given, PromptOptions};
use crate::prompt::chat::Chat;
use crate::prompt::columns::{ASK, PromptColumns, Source, row_tokens};
use crate::prompt::messages::{each_string, json_messages, message, row_messages, with_system};
use crate::prompt::rendering::{MARK, Marking, Rendering};
use crate::prompt::template::Template;
use crate::prompt::template::names::ROW;
use crate::prompt::tokenizer::Tokenizer;
use crate::row_error::{RowError, RowErrorKind};
use arrow::array::RecordBatch;
use minijinja::Value;
use minijinja::value::ValueKind;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What prompts are made with.
pub struct Prompts {
    columns: PromptColumns,
    /// Whether columns of choices ask something, and whether the template says where.
    asks: bool,
    template_asks: bool,
    /// What the template reads besides columns.
    given: Option<Given>,
    /// The system message that goes before a conversation without one.
    system: Option<String>,
    chat: Option<Chat>,
    tokenizer: Arc<Tokenizer>,
    max_model_len: usize,
    vocab: usize,
}

/// A row's prompt, and the rendering that it was made of; none where the input gives token ids.
pub struct RowPrompt {
    pub tokens: Vec<u32>,
    pub rendering: Option<Rendering>,
}

/// A value that a template reads besides columns.
#[derive(Clone, Copy, Debug)]
pub enum GivenValue<'a> {
    Text(&'a str),
    Texts(&'a [&'a str]),
    Number(usize),
}

impl GivenValue<'_> {
    fn marked(&self, marking: &Marking) -> Value {
        match self {
            GivenValue::Text(text) => marking.value(text),
            GivenValue::Texts(texts) => texts.iter().map(|text| marking.value(text)).collect(),
            GivenValue::Number(number) => Value::from(*number),
        }
    }
}

/// What a prompt has besides the row's columns.
#[derive(Clone, Copy, Default)]
struct Besides<'a> {
    ask: Option<&'a str>,
    given: &'a [(&'a str, GivenValue<'a>)],
}

/// What is rendered.
enum Conversation {
    Text(String),
    Messages(Vec<Value>),
}

impl Prompts {
    /// Prepares templates and finds columns. `template` is the model's chat template; `max_model_len` limits
    /// the tokens of prompt and answer; `vocab` the size of the model's vocabulary; `date` the day that templates show, in
    /// seconds since 1970.
    ///
    /// # Errors
    /// [`JobError::Usage`] for options that do not go together or name no column; [`JobError::Template`].
    pub fn new(
        options: &PromptOptions,
        input: &Input,
        tokenizer: Arc<Tokenizer>,
        template: Option<String>,
        max_model_len: usize,
        vocab: usize,
        date: i64,
    ) -> Result<Prompts, JobError> {
        let columns = PromptColumns::find(options, input, date)?;
        if options.asks && matches!(columns.source, Source::Messages | Source::Tokens) {
            return Err(JobError::Usage(
                "a column's `ask` follows a prompt of text (--prompt or --prompt-column), and here prompts are \
                 conversations or tokens; leave `ask` out and let the prompt ask"
                    .into(),
            ));
        }
        let chat = Chat::find(options, &columns.source, &tokenizer, template, date)?;
        let system = options.system_prompt.clone();
        let (asks, given) = (options.asks, options.given);
        let template_asks = match &columns.source {
            Source::Template(template, _) => asks && template.variables().contains(ASK),
            _ => false,
        };
        Ok(Prompts { columns, asks, template_asks, given, system, chat, tokenizer, max_model_len, vocab })
    }

    /// Prepares the chat template for a batch, whose requests are conversations or prompts.
    ///
    /// # Errors
    /// [`JobError::Template`].
    pub fn of_batch(
        options: &PromptOptions,
        tokenizer: Arc<Tokenizer>,
        template: Option<String>,
        max_model_len: usize,
        vocab: usize,
        date: i64,
    ) -> Result<Prompts, JobError> {
        let columns = PromptColumns { source: Source::Requests, positions: vec![0] };
        let chat = Chat::find(options, &columns.source, &tokenizer, template, date)?;
        let (asks, template_asks, given, system) = (false, false, None, None);
        Ok(Prompts { columns, asks, template_asks, given, system, chat, tokenizer, max_model_len, vocab })
    }

    /// Refuses templates by which none of the first rows can be rendered. Reads until it finds one that can.
    ///
    /// # Errors
    /// [`JobError::Template`] with the error of the first row that has one.
    pub fn check_rows(&self, input: &Input, rows: u64) -> Result<(), JobError> {
        let templates = [
            match &self.columns.source {
                Source::Template(template, _) => Some(template.as_ref()),
                _ => None,
            },
            self.chat.as_ref().map(|chat| &chat.template),
        ];
        // Requests of a batch have each its own error.
        if templates.iter().all(Option::is_none) || matches!(self.columns.source, Source::Requests) {
            return Ok(());
        }
        let besides = Besides { ask: self.asks.then_some(""), given: &self.without_content() };
        let (mut tried, mut first) = (0, None);
        for batch in input.read(self.columns().to_vec(), 0..rows) {
            // What cannot be read is said where the rows are answered.
            let Some(batch) = batch.ok().filter(|batch| batch.lost.is_empty()) else { return Ok(()) };
            for row in 0..batch.columns.num_rows() {
                match self.rendering(&batch.columns, row, besides) {
                    Ok(_) => return Ok(()),
                    // A row that is null says less than any other.
                    Err(error) if error.kind == RowErrorKind::Template => {
                        let null = error.detail.contains(" is null in this row");
                        let better = first.as_ref().is_none_or(|(_, _, known_null)| *known_null && !null);
                        if better {
                            first = Some((batch.first_row + row as u64, error.detail, null));
                        }
                    }
                    Err(_) => {}
                }
                tried += 1;
            }
        }
        let Some((row, error, _)) = first else { return Ok(()) };
        tracing::debug!("row {row}: {error}");
        let of = |template: &Template| {
            let why = template.without_row_text(&error)?;
            Some(JobError::Template {
                what: template.what().into(),
                why: format!("no row can be rendered ({tried} tried); row {row}: {why}"),
            })
        };
        let known = templates.into_iter().flatten().find_map(of);
        Err(known.unwrap_or_else(|| JobError::Template {
            what: "the templates".into(),
            why: format!("no row can be rendered ({tried} tried); --log-level debug shows why"),
        }))
    }

    /// Given values that say nothing.
    pub fn without_content(&self) -> Vec<(&'static str, GivenValue<'static>)> {
        let value = |name: &&'static str| match *name {
            "notes" => (*name, GivenValue::Texts(&["", ""])),
            "sources" => (*name, GivenValue::Texts(&[])),
            "level" | "chunk_index" => (*name, GivenValue::Number(0)),
            name => (name, GivenValue::Text("")),
        };
        self.given.iter().flat_map(|given| given.names).map(value).collect()
    }

    /// Whether the template reads what is given to it by this name.
    pub fn reads(&self, name: &str) -> bool {
        matches!(&self.columns.source, Source::Template(template, _) if template.variables().contains(name))
    }

    /// The columns of the input that prompts are made of.
    pub fn columns(&self) -> &[usize] {
        &self.columns.positions
    }

    /// The tokens of prompt and answer, at most.
    pub fn max_model_len(&self) -> usize {
        self.max_model_len
    }

    /// Whether the chat template is used.
    pub fn uses_chat_template(&self) -> bool {
        self.chat.is_some()
    }

    /// Whether prompts are texts that go through no chat template.
    pub fn is_raw(&self) -> bool {
        self.chat.is_none() && !matches!(self.columns.source, Source::Tokens)
    }

    /// Whether a prompt may show the date.
    pub fn shows_date(&self) -> bool {
        let own = matches!(&self.columns.source, Source::Template(template, _) if template.shows_date());
        own || self.chat.as_ref().is_some_and(|chat| chat.template.shows_date())
    }

    /// The prompts of rows of a batch of [`Prompts::columns`], in order, made on this number of threads.
    pub fn of_rows(
        &self,
        batch: &RecordBatch,
        rows: &[usize],
        threads: usize,
    ) -> Vec<Result<Vec<u32>, RowError>> {
        self.of_each(rows, threads, |row| self.of_row(batch, row))
    }

    /// What `make` makes of rows, in order, on this number of threads.
    pub fn of_each<T: Send>(
        &self,
        rows: &[usize],
        threads: usize,
        make: impl Fn(usize) -> Result<T, RowError> + Sync,
    ) -> Vec<Result<T, RowError>> {
        let share = rows.len().div_ceil(threads.max(1)).max(1);
        let make = &make;
        std::thread::scope(|scope| {
            let one = move |rows: &[usize]| rows.iter().map(|&row| make(row)).collect::<Vec<_>>();
            let spawn = |rows| std::thread::Builder::new().spawn_scoped(scope, move || one(rows));
            let work: Vec<_> = rows.chunks(share).map(|rows| (rows, spawn(rows))).collect();
            let lost = || Err(RowError::new(RowErrorKind::Internal, "the thread that made the prompt ended"));
            let made = work.into_iter().flat_map(|(rows, thread)| {
                // Where the system starts no more threads, this one does the work.
                let Ok(thread) = thread else { return one(rows) };
                thread.join().unwrap_or_else(|_| rows.iter().map(|_| lost()).collect())
            });
            made.collect()
        })
    }

    /// The prompt of a row of a batch of [`Prompts::columns`].
    ///
    /// # Errors
    /// Why the row has none.
    pub fn of_row(&self, batch: &RecordBatch, row: usize) -> Result<Vec<u32>, RowError> {
        self.asked(batch, row, None).map(|prompt| prompt.tokens)
    }

    /// The prompt of a row with a question in it: where the template says [`ASK`], else after an empty line.
    ///
    /// # Errors
    /// Why the row has none.
    pub fn asked(&self, batch: &RecordBatch, row: usize, ask: Option<&str>) -> Result<RowPrompt, RowError> {
        let (ids, rendering) = match &self.columns.source {
            Source::Tokens => (row_tokens(batch.column(0), row, self.vocab)?, None),
            _ => {
                let rendering = self.rendering(batch, row, Besides { ask, given: &[] })?;
                (self.encode(&rendering)?, Some(rendering))
            }
        };
        self.checked(ids, rendering)
    }

    /// The prompt of a conversation in JSON, with more names for the chat template.
    ///
    /// # Errors
    /// Why there is none.
    pub fn of_messages(&self, json: &str, names: &BTreeMap<String, Value>) -> Result<RowPrompt, RowError> {
        let Some(chat) = &self.chat else {
            let why = "the model has no chat template, which messages need; name one with --chat-template";
            return Err(RowError::new(RowErrorKind::Template, why));
        };
        let mut kind = RowErrorKind::Template;
        let rendering = Rendering::of_row(self.tokenizer.markers(), |marking| {
            let messages = json_messages(json, marking).map_err(|error| {
                kind = error.kind;
                error.detail
            })?;
            let mark = |value: &Value| each_string(value, &mut |text: &str| marking.value(text));
            let names = names.iter().map(|(name, value)| (name.as_str(), mark(value)));
            chat.render_with(messages, names.collect(), true, marking)
        });
        let rendering = rendering.map_err(|why| RowError::new(kind, why))?;
        self.checked(self.encode(&rendering)?, Some(rendering))
    }

    /// The prompt of a text that goes to the model as it is.
    ///
    /// # Errors
    /// Why there is none: also a special token in the text, which would be ordinary text and not what was meant.
    pub fn of_text(&self, text: &str) -> Result<RowPrompt, RowError> {
        if let Some(special) =
            self.tokenizer.special_id(text).map_or(self.tokenizer.special_inside(text), |_| Some(text))
        {
            let why = format!(
                "`prompt` holds the special token {special}, and text is never taken for one; give token ids, or \
                 messages, which the chat template puts tokens around"
            );
            return Err(RowError::new(RowErrorKind::BadRequest, why));
        }
        let rendering =
            Rendering::of_row(self.tokenizer.markers(), |marking| Ok(marking.text(text).into_owned()));
        let rendering = rendering.map_err(|why| RowError::new(RowErrorKind::BadRequest, why))?;
        self.refuse_long(&rendering)?;
        let ids = self.tokenizer.encode_raw(&rendering);
        let ids = ids.map_err(|why| RowError::new(RowErrorKind::Tokenizer, why))?;
        self.checked(ids, Some(rendering))
    }

    /// The prompt of token ids.
    ///
    /// # Errors
    /// A token that the model does not have, none at all, or too many.
    pub fn of_tokens(&self, ids: Vec<u32>) -> Result<RowPrompt, RowError> {
        if let Some(id) = ids.iter().find(|&&id| id as usize >= self.vocab) {
            let why = format!("{id} is no token; the model's tokens are 0 to {}", self.vocab - 1);
            return Err(RowError::new(RowErrorKind::BadTokens, why));
        }
        self.checked(ids, None)
    }

    /// Refuses prompts that are empty or leave no room for an answer.
    fn checked(&self, ids: Vec<u32>, rendering: Option<Rendering>) -> Result<RowPrompt, RowError> {
        let tokens = u32::try_from(ids.len()).unwrap_or(u32::MAX);
        if ids.is_empty() {
            return Err(RowError::new(RowErrorKind::EmptyPrompt, "the prompt has no tokens"));
        }
        if ids.len() >= self.max_model_len {
            let detail = format!(
                "{tokens} tokens; the context has {} (--max-model-len), one of them for the answer{}",
                self.max_model_len,
                self.hint()
            );
            return Err(RowError::new(RowErrorKind::PromptTooLong, detail).with_tokens(tokens));
        }
        Ok(RowPrompt { tokens: ids, rendering })
    }

    /// The prompt of a row with what is given besides its columns, of any length up to where the bytes alone are too many.
    ///
    /// # Errors
    /// Why the row has none.
    pub fn of_given(
        &self,
        batch: &RecordBatch,
        row: usize,
        given: &[(&str, GivenValue<'_>)],
    ) -> Result<Vec<u32>, RowError> {
        self.asked_of_given(batch, row, None, given).map(|prompt| prompt.tokens)
    }

    /// The same with a question in it, as [`Prompts::asked`].
    ///
    /// # Errors
    /// Why the row has none.
    pub fn asked_of_given(
        &self,
        batch: &RecordBatch,
        row: usize,
        ask: Option<&str>,
        given: &[(&str, GivenValue<'_>)],
    ) -> Result<RowPrompt, RowError> {
        let rendering = self.rendering(batch, row, Besides { ask, given })?;
        let tokens = self.encode(&rendering)?;
        match tokens.is_empty() {
            true => Err(RowError::new(RowErrorKind::EmptyPrompt, "the prompt has no tokens")),
            false => Ok(RowPrompt { tokens, rendering: Some(rendering) }),
        }
    }

    /// How texts that are too long can be answered, where they can.
    fn hint(&self) -> &'static str {
        match &self.columns.source {
            Source::Template(..) | Source::Column if !self.asks && self.given.is_none() => {
                "; [documents] in a job file, or --documents, reads texts of any length chunk by chunk"
            }
            _ => "",
        }
    }

    /// The tokens of a rendering and a text behind it, put into tokens together.
    ///
    /// # Errors
    /// What the tokenizer says.
    pub fn together(&self, rendering: &Rendering, text: &str) -> Result<Vec<u32>, RowError> {
        self.ids(&rendering.followed_by(text))
    }

    /// The text of a row's prompt, if it is made of text and can be made.
    pub fn text_of_row(&self, batch: &RecordBatch, row: usize, ask: Option<&str>) -> Option<String> {
        match &self.columns.source {
            Source::Tokens | Source::Requests => None,
            _ => self
                .rendering(batch, row, Besides { ask, given: &[] })
                .ok()
                .map(|rendering| rendering.plain()),
        }
    }

    fn encode(&self, rendering: &Rendering) -> Result<Vec<u32>, RowError> {
        self.refuse_long(rendering)?;
        self.ids(rendering)
    }

    /// Refuses what cannot fit, without putting it into tokens.
    fn refuse_long(&self, rendering: &Rendering) -> Result<(), RowError> {
        let limit = self.tokenizer.max_bytes(self.max_model_len);
        if rendering.len() > limit {
            let detail = format!(
                "{} bytes; at most {limit} bytes can fit in {} tokens (--max-model-len){}",
                rendering.len(),
                self.max_model_len,
                self.hint()
            );
            return Err(RowError::new(RowErrorKind::PromptTooLong, detail));
        }
        Ok(())
    }

    fn ids(&self, rendering: &Rendering) -> Result<Vec<u32>, RowError> {
        let ids = match &self.chat {
            Some(_) => self.tokenizer.encode(rendering),
            None => self.tokenizer.encode_raw(rendering),
        };
        ids.map_err(|why| RowError::new(RowErrorKind::Tokenizer, why))
    }

    fn rendering(
        &self,
        batch: &RecordBatch,
        row: usize,
        besides: Besides<'_>,
    ) -> Result<Rendering, RowError> {
        // The kind of the last error; a rendering's error is only a text.
        let mut kind = RowErrorKind::Template;
        Rendering::of_row(self.tokenizer.markers(), |marking| {
            let messages = match &self.columns.source {
                Source::Messages => row_messages(batch.column(0), row, marking).map(Conversation::Messages),
                _ => self.row_prompt(batch, row, besides, marking).map(|prompt| match &self.chat {
                    None => Conversation::Text(prompt),
                    Some(_) => Conversation::Messages(vec![message("user", Value::from(prompt))]),
                }),
            };
            let messages = messages.map_err(|error| {
                kind = error.kind;
                error.detail
            })?;
            match (messages, &self.chat) {
                (Conversation::Text(text), _) => Ok(text),
                (Conversation::Messages(messages), Some(chat)) => {
                    chat.render(with_system(messages, self.system.as_deref()), true, marking)
                }
                (Conversation::Messages(_), None) => Err("no chat template".into()),
            }
        })
        .map_err(|why| RowError::new(kind, why))
    }

    fn row_prompt(
        &self,
        batch: &RecordBatch,
        row: usize,
        Besides { ask, given }: Besides<'_>,
        marking: &Marking,
    ) -> Result<String, RowError> {
        let behind = |prompt: String| match ask {
            Some(ask) if !self.template_asks => format!("{prompt}\n\n{ask}"),
            _ => prompt,
        };
        let mut each = |text: &str| marking.value(text);
        if let Source::Template(template, whole_row) = &self.columns.source {
            let mut context =
                row_values(batch, row, &mut each).map_err(|why| RowError::new(RowErrorKind::BadRow, why))?;
            if *whole_row {
                context.push((ROW.to_string(), Value::from_pairs(context.clone())));
            }
            context.push((MARK.to_string(), marking.mark()));
            context.extend(given.iter().map(|(name, value)| (name.to_string(), value.marked(marking))));
            if self.template_asks {
                context.push((ASK.to_string(), Value::from(ask.unwrap_or_default())));
            }
            return template
                .render(Value::from_pairs(context), marking.bytes())
                .map(behind)
                .map_err(|why| RowError::new(RowErrorKind::Template, why));
        }
        let prompt = column_value(batch.schema_ref().field(0), batch.column(0), row, &mut each);
        let prompt = prompt.map_err(|why| RowError::new(RowErrorKind::BadRow, why))?;
        match prompt.kind() {
            ValueKind::None => {
                Err(RowError::new(RowErrorKind::NullPrompt, "the prompt column is null in this row"))
            }
            _ => Ok(behind(prompt.to_string())),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
