//! What prompts are made of.

use crate::error::JobError;
use crate::input::json;
use crate::prompt::template::SOURCE_BYTES;
use engine::file::open_regular;
use minijinja::Value;
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

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
    /// Take conversations from this column: lists of structs with `role` and `content` (or `from` and `value`), or
    /// JSON text of such lists.
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
    #[arg(long, value_name = "JSON", value_parser = json::parse::<BTreeMap<String, Value>>)]
    pub chat_template_kwargs: Option<BTreeMap<String, Value>>,
    /// Whether columns ask something, each for itself: a template may say `{{ ask }}`.
    #[arg(skip)]
    pub asks: bool,
    /// What the template reads besides columns.
    #[arg(skip)]
    pub given: Option<Given>,
}

/// Names that a template of a job of documents reads besides columns.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Given {
    /// The key of the template.
    pub key: &'static str,
    pub names: &'static [&'static str],
}

impl PromptOptions {
    /// The options with the texts of the templates in place of the names of their files: what is read once cannot change.
    ///
    /// # Errors
    /// [`JobError::Usage`] for a file that is missing, too large or not UTF-8; [`JobError::Io`].
    pub fn with_template_text(mut self) -> Result<PromptOptions, JobError> {
        self.chat_template = self.chat_template.as_deref().map(text_or_file).transpose()?;
        self.with_prompt_text()
    }

    fn with_prompt_text(mut self) -> Result<PromptOptions, JobError> {
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
        let text = template_text(&path, wrong)?;
        self.prompt = Some(text.strip_prefix('\u{feff}').map(String::from).unwrap_or(text));
        Ok(self)
    }
}

/// The text of a chat template, given as it is or as the name of a file.
fn text_or_file(given: &str) -> Result<String, JobError> {
    let path = Path::new(given);
    if given.contains(['{', '\n']) {
        return Ok(given.to_string());
    }
    let wrong = |why: String| JobError::Usage(format!("--chat-template {given}: {why}"));
    if !path.try_exists().map_err(JobError::io("read", path))? {
        return Err(wrong(
            "there is no such file, and as a template it would ask every row the same; name a file, or give a template \
             that reads `messages`"
                .into(),
        ));
    }
    let text = template_text(path, wrong)?;
    if text.trim().is_empty() {
        return Err(wrong("is empty; a template reads `messages`".into()));
    }
    Ok(text)
}

/// The text of a file.
fn template_text(path: &Path, wrong: impl Fn(String) -> JobError) -> Result<String, JobError> {
    let mut text = Vec::new();
    let read = open_regular(path).and_then(|file| file.take(SOURCE_BYTES as u64 + 1).read_to_end(&mut text));
    match read {
        Ok(bytes) if bytes > SOURCE_BYTES => Err(wrong(format!("is longer than {SOURCE_BYTES} bytes"))),
        Ok(_) => String::from_utf8(text).map_err(|_| wrong("is not UTF-8; save it as UTF-8".into())),
        Err(error) if error.kind() == ErrorKind::NotFound => Err(wrong(error.to_string())),
        Err(error) => Err(JobError::io("read", path)(error)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_template_file_that_is_missing_is_no_template() {
        let error = text_or_file("nofile.jinja").unwrap_err().to_string();
        assert!(error.contains("--chat-template nofile.jinja: there is no such file"), "{error}");
        assert_eq!(text_or_file("{{ messages }}").unwrap(), "{{ messages }}");
    }
}
