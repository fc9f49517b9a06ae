//! The prompts of a row's columns.

use crate::choices::labels::tokens_behind;
use crate::choices::requests::{ColumnPrompt, RowChoices};
use crate::choices::trie::Trie;
use crate::choices::{ChoiceColumn, Choices};
use crate::error::JobError;
use crate::input::Input;
use crate::prompt::prompts::{Prompts, RowPrompt};
use crate::row_error::{RowError, RowErrorKind};
use arrow::array::{ArrayRef, RecordBatch, StringArray};
use std::sync::Arc;

impl Choices {
    /// The prompts and labels of a row of a batch of [`Prompts::columns`].
    ///
    /// # Errors
    /// Why the row has none: of the first column that fails.
    pub fn of_row(&self, prompts: &Prompts, batch: &RecordBatch, row: usize) -> Result<RowChoices, RowError> {
        self.of_asked(prompts, |ask| prompts.asked(batch, row, ask))
    }

    /// The prompts and labels of what `ask` makes of each column's question.
    ///
    /// # Errors
    /// As [`Choices::of_row`].
    pub fn of_asked(
        &self,
        prompts: &Prompts,
        ask: impl Fn(Option<&str>) -> Result<RowPrompt, RowError>,
    ) -> Result<RowChoices, RowError> {
        let of_column = |column: &ChoiceColumn| {
            let prompt = ask(column.ask.as_deref())?;
            let trie = column.trie_behind(prompts, &prompt)?;
            Ok(ColumnPrompt { tokens: prompt.tokens, trie })
        };
        let columns = self.columns.iter().map(of_column).collect::<Result<Vec<_>, RowError>>()?;
        let row = RowChoices::new(columns, self.end_tokens.clone());
        if row.longest() > prompts.max_model_len() {
            let detail = format!(
                "{} tokens with the longest choice; the context has {} (--max-model-len)",
                row.longest(),
                prompts.max_model_len()
            );
            return Err(RowError::new(RowErrorKind::PromptTooLong, detail).with_tokens(row.num_input_tokens));
        }
        Ok(row)
    }

    /// What is asked for a row of which every column that prompts read is the empty string; none if no column is
    /// calibrated by that.
    ///
    /// # Errors
    /// [`JobError::Usage`] if no prompt can be made of it.
    pub fn content_free(&self, prompts: &Prompts, input: &Input) -> Result<Option<RowChoices>, JobError> {
        if self.columns.iter().all(|column| column.calibrate.is_none()) {
            return Ok(None);
        }
        let refuse = |why: String| {
            JobError::Usage(format!(
                "calibrate = \"content-free\" asks about a row of which every column is the empty string, and here that \
                 cannot be: {why}"
            ))
        };
        let names = prompts.columns().iter().map(|&column| input.schema.field(column).name());
        let empty = || Arc::new(StringArray::from(vec![""])) as ArrayRef;
        // A template without columns needs no batch.
        let names: Vec<&String> = names.collect();
        let batch = match names.is_empty() {
            true => RecordBatch::try_from_iter([("", empty())]),
            false => RecordBatch::try_from_iter(names.into_iter().map(|name| (name, empty()))),
        };
        let batch = batch.map_err(|error| refuse(error.to_string()))?;
        self.of_row(prompts, &batch, 0).map(Some).map_err(|error| refuse(error.to_string()))
    }
}

impl ChoiceColumn {
    /// The labels behind a prompt: their own tokens where the chat template has ended the text before them, else those
    /// that they have when prompt and label are put into tokens together.
    fn trie_behind(&self, prompts: &Prompts, prompt: &RowPrompt) -> Result<Arc<Trie>, RowError> {
        let Some(rendering) = prompt.rendering.as_ref().filter(|_| !prompts.uses_chat_template()) else {
            return Ok(self.trie.clone());
        };
        let wrong =
            |why: String| RowError::new(RowErrorKind::Tokenizer, format!("column {}: {why}", self.name));
        let behind = |label: &String| {
            let together = prompts.together(rendering, label)?;
            tokens_behind(label, &prompt.tokens, &together).map_err(wrong)
        };
        let labels = self.labels.iter().map(behind).collect::<Result<Vec<_>, RowError>>()?;
        let trie = Trie::new(&labels).map_err(|(a, b)| {
            wrong(format!("{:?} and {:?} are the same tokens here", self.labels[a], self.labels[b]))
        })?;
        // Most often they are the same tokens, and one tree serves all rows.
        Ok(if trie == *self.trie { self.trie.clone() } else { Arc::new(trie) })
    }
}
