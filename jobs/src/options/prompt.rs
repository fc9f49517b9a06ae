//! What prompts are made of.

use minijinja::Value;
use std::collections::BTreeMap;

/// Where prompts come from: one of the first four, or else the column `prompt` or `messages`.
#[derive(clap::Args, Clone, Debug, Default, PartialEq)]
#[command(next_help_heading = "Prompts")]
pub struct PromptOptions {
    /// A template over the row's columns, such as '{{ question }}'.
    #[arg(long, alias = "prompt-template", value_name = "TEMPLATE", allow_hyphen_values = true)]
    pub prompt: Option<String>,
    /// The column that holds the prompt.
    #[arg(long, value_name = "COLUMN")]
    pub prompt_column: Option<String>,
    /// A column of conversations: lists of structs with `role` and `content`.
    #[arg(long, value_name = "COLUMN")]
    pub messages_column: Option<String>,
    /// A column of lists of token ids.
    #[arg(long, value_name = "COLUMN")]
    pub prompt_tokens_column: Option<String>,
    /// A system message before the prompt.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub system_prompt: Option<String>,
    /// Use the prompt as it is, without the model's chat template.
    #[arg(long)]
    pub raw: bool,
    /// A chat template, or a file that holds one, in place of the model's.
    #[arg(long, value_name = "TEMPLATE|FILE", allow_hyphen_values = true)]
    pub chat_template: Option<String>,
    /// Names that the chat template sees, as a JSON object.
    #[arg(long, value_name = "JSON", value_parser = parse_object)]
    pub chat_template_kwargs: Option<BTreeMap<String, Value>>,
}

fn parse_object(text: &str) -> Result<BTreeMap<String, Value>, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}
