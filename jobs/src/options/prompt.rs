//! What prompts are made of.

use minijinja::Value;
use std::collections::BTreeMap;

/// At most one of the first four is given; without any, the column `prompt` or `messages` is used.
#[derive(clap::Args, Clone, Debug, Default, PartialEq)]
#[command(next_help_heading = "Prompts")]
pub struct PromptOptions {
    /// Make prompts with this template over the row's columns, such as '{{ question }}'.
    #[arg(long, alias = "prompt-template", value_name = "TEMPLATE", allow_hyphen_values = true)]
    pub prompt: Option<String>,
    /// Take prompts from this column.
    #[arg(long, value_name = "COLUMN")]
    pub prompt_column: Option<String>,
    /// Take conversations from this column: lists of structs with `role` and `content`.
    #[arg(long, value_name = "COLUMN")]
    pub messages_column: Option<String>,
    /// Take prompts from this column of lists of token ids.
    #[arg(long, value_name = "COLUMN")]
    pub prompt_tokens_column: Option<String>,
    /// Put this system message before the prompt.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub system_prompt: Option<String>,
    /// Use the prompt as it is, without the model's chat template.
    #[arg(long)]
    pub raw: bool,
    /// Use this chat template, or the one in this file, instead of the model's.
    #[arg(long, value_name = "TEMPLATE|FILE", allow_hyphen_values = true)]
    pub chat_template: Option<String>,
    /// Give these names to the chat template, as a JSON object.
    #[arg(long, value_name = "JSON", value_parser = parse_object)]
    pub chat_template_kwargs: Option<BTreeMap<String, Value>>,
}

fn parse_object(text: &str) -> Result<BTreeMap<String, Value>, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}
