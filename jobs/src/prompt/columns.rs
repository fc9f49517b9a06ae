//! The columns that prompts are made of.

use crate::error::JobError;
use crate::input::Input;
use crate::input::row::{refused_column, value};
use crate::log::note;
use crate::options::prompt::PromptOptions;
pub use crate::prompt::columns::names::ASK;
use crate::prompt::columns::names::{constant, in_single_braces, printed, read_columns, with_hint};
use crate::prompt::messages::{COLUMN_OF_MESSAGES, is_conversation, may_hold_messages};
use crate::prompt::template::Template;
use crate::row_error::{RowError, RowErrorKind};
use arrow::array::Array;
use arrow::datatypes::DataType;
use minijinja::Value;

/// What a prompt is made of. All but a template take the first column of a batch.
pub enum Source {
    /// A template, and whether it reads the columns as `row` too.
    Template(Box<Template>, bool),
    Column,
    Messages,
    Tokens,
    /// Requests of a batch, which are read elsewhere.
    Requests,
}

mod names;

/// What a prompt is made of, and where that stands in the input.
pub struct PromptColumns {
    pub source: Source,
    /// Positions in the input; a batch has these columns in the input's order.
    pub positions: Vec<usize>,
}

impl PromptColumns {
    /// Finds the columns that the options name, or else the column `prompt` or `messages`.
    ///
    /// # Errors
    /// [`JobError::Usage`] for two sources or none, or a column of another type; [`JobError::Template`].
    pub fn find(options: &PromptOptions, input: &Input, date: i64) -> Result<PromptColumns, JobError> {
        let given = [
            ("--prompt", &options.prompt),
            ("--prompt-column", &options.prompt_column),
            ("--messages-column", &options.messages_column),
            ("--prompt-tokens-column", &options.prompt_tokens_column),
        ];
        let mut given = given.into_iter().filter_map(|(flag, value)| Some((flag, value.as_deref()?)));
        let has = |name| input.schema.column_with_name(name).is_some();
        let holds_messages = |name: &str| {
            let field = input.schema.column_with_name(name);
            field.is_some_and(|(_, field)| is_conversation(field.data_type()))
        };
        let (flag, value) = match (given.next(), given.next()) {
            (Some((a, _)), Some((b, _))) => {
                return Err(JobError::Usage(format!(
                    "{a} and {b} both say what the prompt is; give one of them"
                )));
            }
            (Some(one), None) => one,
            (None, _) if has("prompt") && has("messages") => {
                return Err(JobError::Usage(
                    "the input has a column prompt and a column messages; say which one prompts are made of: \
                     --prompt-column prompt or --messages-column messages"
                        .into(),
                ));
            }
            (None, _) if has("prompt") && holds_messages("prompt") => ("--messages-column", "prompt"),
            (None, _) if has("prompt") => ("--prompt-column", "prompt"),
            (None, _) if has("messages") => ("--messages-column", "messages"),
            (None, _) => {
                let mut fields = input.schema.fields().iter().map(|field| field.name());
                let hint = fields.find(|name| holds_messages(name)).map_or(String::new(), |name| {
                    format!("; column {name} holds conversations: --messages-column {name}")
                });
                return Err(JobError::Usage(format!(
                    "say what the prompt is: --prompt '{{{{ column }}}}', --prompt-column, --messages-column or \
                     --prompt-tokens-column; the input has {}{hint}",
                    input.column_list()
                )));
            }
        };
        if flag == "--prompt" {
            let what = options.given.map_or(flag, |given| given.key);
            let template =
                Template::prompt(what, value, date).map_err(|error| with_hint(error, value, input))?;
            let given = options.given.map_or(&[][..], |given| given.names);
            let columns = read_columns(&template, input, given, options.asks)?;
            if columns.positions.is_empty() && !options.allow_constant_prompt {
                return Err(constant(value, input));
            }
            if let Some(name) = in_single_braces(value, input) {
                note!("warning: {what}: {{{name}}} is plain text; the column is written {}", printed(name));
            }
            let source = Source::Template(Box::new(template), columns.whole_row);
            return Ok(PromptColumns { source, positions: columns.positions });
        }
        let columns = input.columns(&[value.to_string()], flag)?;
        let field = input.schema.field(columns[0]);
        let kind = field.data_type();
        let (source, fits, wanted) = match flag {
            "--messages-column" => (Source::Messages, may_hold_messages(kind), COLUMN_OF_MESSAGES),
            "--prompt-tokens-column" => (Source::Tokens, is_list(kind), "a list of token ids"),
            _ => (Source::Column, !kind.is_nested() || is_dictionary(kind), "a string"),
        };
        if flag == "--prompt-column"
            && fits
            && let Some(why) = refused_column(field)
        {
            return Err(JobError::Usage(format!("{flag} {value}: the column is {kind}; {why}")));
        }
        if !fits {
            return Err(JobError::Usage(format!(
                "{flag} {value}: the column is {kind}; it must be {wanted}{}",
                if flag == "--prompt-column" && is_conversation(kind) {
                    format!("; for conversations give --messages-column {value}")
                } else {
                    String::new()
                }
            )));
        }
        Ok(PromptColumns { source, positions: columns })
    }
}

fn is_list(kind: &DataType) -> bool {
    use DataType::{FixedSizeList, LargeList, List};
    matches!(kind, List(_) | LargeList(_) | FixedSizeList(..))
}

fn is_dictionary(kind: &DataType) -> bool {
    matches!(kind, DataType::Dictionary(..))
}

/// The token ids of a row of a column of lists, checked against the size of the vocabulary.
///
/// # Errors
/// What is wrong with the row.
pub fn row_tokens(column: &dyn Array, row: usize, vocab: usize) -> Result<Vec<u32>, RowError> {
    let bad = |why: String| RowError::new(RowErrorKind::BadTokens, why);
    let list = value(column, row, &mut |text: &str| Value::from(text)).map_err(bad)?;
    if list.is_none() {
        return Err(RowError::new(RowErrorKind::NullPrompt, "the tokens column is null in this row"));
    }
    let items = list.try_iter().map_err(|e| bad(e.to_string()))?;
    let ids = items.enumerate().map(|(i, item)| {
        let id = item.as_i64().ok_or_else(|| bad(format!("item {i} is {item}, not a token id")))?;
        let known = u32::try_from(id).ok().filter(|&id| (id as usize) < vocab);
        known.ok_or_else(|| bad(format!("item {i} is {id}; the model's tokens are 0 to {}", vocab - 1)))
    });
    ids.collect()
}
