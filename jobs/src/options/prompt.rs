//! What prompts are made of.

use crate::error::JobError;
use crate::prompt::template::SOURCE_BYTES;
use minijinja::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// At most one of the first five is given; without any, the column `prompt` or `messages` is used.
#[derive(clap::Args, Clone, Debug, Default, PartialEq)]
#[command(next_help_heading = "Prompts")]
pub struct PromptOptions {
    /// Make prompts with this template over the row's columns, such as '{{ question }}', or with the one in a
    /// file: `@FILE`.
    #[arg(long, alias = "prompt-template", value_name = "TEMPLATE", allow_hyphen_values = true)]
    pub prompt: Option<String>,
    /// Make prompts with the template in this file.
    #[arg(long, value_name = "FILE", conflicts_with = "prompt")]
    pub prompt_file: Option<PathBuf>,
    /// Accept a template that uses no column, so that every row has the same prompt.
    #[arg(long)]
    pub allow_constant_prompt: bool,
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

impl PromptOptions {
    /// The options with the text of the template in place of the name of its file.
    ///
    /// # Errors
    /// [`JobError::Usage`] for a file that cannot be read, is too large or is not UTF-8.
    pub fn with_template_text(mut self) -> Result<PromptOptions, JobError> {
        let named = self.prompt.as_deref().and_then(|prompt| prompt.strip_prefix('@')).map(PathBuf::from);
        let (path, flag, hint) = match (named, self.prompt_file.take()) {
            (Some(path), _) => {
                let hint =
                    "; a prompt that begins with @ names a file: write {{ '@' }} for the character itself";
                (path, format!("--prompt {}", self.prompt.as_deref().unwrap_or_default()), hint)
            }
            (None, Some(path)) => {
                let flag = format!("--prompt-file {}", path.display());
                (path, flag, "")
            }
            (None, None) => return Ok(self),
        };
        let wrong = |why: String| JobError::Usage(format!("{flag}: {why}{hint}"));
        let bytes = std::fs::metadata(&path).map_err(|error| wrong(error.to_string()))?.len();
        if bytes > SOURCE_BYTES as u64 {
            return Err(wrong(format!("is {bytes} bytes long; at most {SOURCE_BYTES} are accepted")));
        }
        let text = std::fs::read(&path).map_err(|error| wrong(error.to_string()))?;
        let text = String::from_utf8(text).map_err(|_| wrong("is not UTF-8; save it as UTF-8".into()))?;
        self.prompt = Some(text.strip_prefix('\u{feff}').map(String::from).unwrap_or(text));
        Ok(self)
    }
}

fn parse_object(text: &str) -> Result<BTreeMap<String, Value>, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}
