//! Documents of any length: cut into chunks that fit into a prompt, each answered, and the answers merged until one is left.
//!
//! [`chunks`] says where a text is cut and [`tree`] which notes go together. [`document`] is a document on its way: it gives
//! requests and takes what was generated for them, and knows no engine.

pub mod chunks;
pub mod document;
pub mod prompts;
mod sources;
pub mod tree;

use crate::choices::Choices;
use crate::error::JobError;
use crate::input::Input;
use crate::options::documents::{DocumentOptions, MAP, Method};
use crate::options::prompt::Given;
use crate::prompt::prompts::Prompts;
use crate::prompt::tokenizer::Tokenizer;
use std::sync::Arc;

/// Tokens that a prompt must leave for a piece of text.
const LEAST_ROOM: usize = 16;

/// The documents of a job.
pub struct Documents {
    pub options: DocumentOptions,
    tokenizer: Arc<Tokenizer>,
    /// The columns of choices, if the last prompt of a document asks such and generates nothing.
    choices: Option<Arc<Choices>>,
    /// Of a document that fits, where it is not that of a chunk.
    whole: Option<Prompts>,
    map: Prompts,
    /// Of merges, or of all chunks but the first.
    second: Prompts,
    /// The column of texts, among the columns that are read.
    column: usize,
    /// The columns that are read, in the input's order.
    columns: Vec<usize>,
    max_model_len: usize,
    max_tokens: usize,
    /// Whether chunks are kept with their answers.
    keeps_chunks: bool,
}

/// What the prompts of a job of documents are made with.
pub struct Parts<'a> {
    pub options: &'a DocumentOptions,
    pub input: &'a Input,
    pub tokenizer: Arc<Tokenizer>,
    pub choices: Option<Arc<Choices>>,
    pub max_model_len: usize,
    pub max_tokens: u32,
    pub keeps_chunks: bool,
}

impl Documents {
    /// Finds the column, and makes sure that prompts leave room. `make` makes prompts of a template, and of what is
    /// given to it besides columns; `prompt` is the job's own, if it has one.
    ///
    /// # Errors
    /// [`JobError::Usage`] names the key, with the arithmetic where it is about room; [`JobError::Template`].
    pub fn new(
        parts: Parts<'_>,
        prompt: Option<&str>,
        make: impl Fn(&str, Option<Given>) -> Result<Prompts, JobError>,
    ) -> Result<Documents, JobError> {
        let Parts { options, input, tokenizer, choices, max_model_len, max_tokens, keeps_chunks } = parts;
        let document = prompts::text_column(options, input)?;
        let whole = prompt.map(|prompt| make(prompt, None)).transpose()?;
        let map = make(&options.map_prompt, Some(MAP))?;
        let (template, _) = options.second_prompt();
        let second = make(template, Some(prompts::second(options)))?;
        let mut columns = [map.columns(), second.columns(), &[document]].concat();
        columns.extend(whole.iter().flat_map(|whole| whole.columns()));
        columns.sort_unstable();
        columns.dedup();
        let documents = Documents {
            options: options.clone(),
            tokenizer,
            choices,
            whole,
            map,
            second,
            column: columns.binary_search(&document).unwrap_or_default(),
            columns,
            max_model_len,
            max_tokens: max_tokens as usize,
            keeps_chunks,
        };
        documents.check_names(document)?;
        documents.check_room(input)?;
        Ok(documents)
    }

    /// How documents are answered, on one line.
    pub fn summary(&self) -> String {
        let DocumentOptions { column, method, overlap, .. } = &self.options;
        let how = match method {
            Method::MapReduce => "map-reduce",
            Method::Refine => "refine",
        };
        let overlap = if *overlap > 0 { format!(", {overlap} tokens of overlap") } else { String::new() };
        format!("documents: {column} by {how}, prompts of up to {} tokens{overlap}", self.limit())
    }

    /// The columns that are read, in the input's order.
    pub fn columns(&self) -> &[usize] {
        &self.columns
    }

    /// Tokens of a prompt whose answer is generated, at most.
    fn limit(&self) -> usize {
        self.max_model_len.saturating_sub(self.max_tokens)
    }

    /// Whether the last prompt of a document asks columns of choices.
    pub fn scores(&self) -> bool {
        self.choices.is_some()
    }

    /// Whether a prompt may show the date.
    pub fn shows_date(&self) -> bool {
        [Some(&self.map), Some(&self.second), self.whole.as_ref()]
            .into_iter()
            .flatten()
            .any(Prompts::shows_date)
    }

    /// Refuses templates by which none of the first rows can be rendered.
    ///
    /// # Errors
    /// As [`Prompts::check_rows`].
    pub fn check_rows(&self, input: &Input, rows: u64) -> Result<(), JobError> {
        self.map.check_rows(input, rows)?;
        self.second.check_rows(input, rows)
    }
}
