//! The chat template: a conversation becomes one text.

use crate::error::JobError;
use crate::log::note;
use crate::options::prompt::PromptOptions;
use crate::prompt::columns::Source;
use crate::prompt::markers::Markers;
use crate::prompt::markers::literals::{Literal, literals};
use crate::prompt::messages::{message, with_text};
use crate::prompt::rendering::{MARK, Marking};
use crate::prompt::template::Template;
use crate::prompt::tokenizer::Tokenizer;
use minijinja::Value;
use std::collections::BTreeMap;

/// A chat template and the names that it sees besides the messages.
pub struct Chat {
    pub template: Template,
    pub names: BTreeMap<String, Value>,
    /// The template reads lists of parts, so that a content need not be put together.
    pub takes_parts: bool,
}

impl Chat {
    /// Takes the template that the options give, or else the model's; none for prompts that go to the model as they are.
    ///
    /// # Errors
    /// [`JobError::Usage`] for options that exclude each other or need a template that does not exist;
    /// [`JobError::Template`].
    pub fn find(
        options: &PromptOptions,
        source: &Source,
        tokenizer: &Tokenizer,
        template: Option<String>,
        date: i64,
    ) -> Result<Option<Chat>, JobError> {
        let clash = |a: &str, b: &str| Err(JobError::Usage(format!("{a} does not go together with {b}")));
        let tokens = matches!(source, Source::Tokens);
        let messages = matches!(source, Source::Messages);
        let plain = if tokens { "--prompt-tokens-column" } else { "--raw" };
        if options.system_prompt.as_deref().is_some_and(|text| text.contains("{{") || text.contains("{%")) {
            note!(
                "warning: --system-prompt is not a template: what stands in braces goes to the model as it is. For a system \
                 message made of columns, use --messages-column"
            );
        }
        if options.raw && messages {
            return clash("--messages-column", "--raw");
        }
        if tokens || options.raw {
            return match (&options.system_prompt, &options.chat_template) {
                (Some(_), _) => clash("--system-prompt", plain),
                (_, Some(_)) => clash("--chat-template", plain),
                _ => Ok(None),
            };
        }
        let Some(text) = options.chat_template.as_ref().or(template.as_ref()) else {
            let needs = if messages { "--messages-column" } else { "--system-prompt" };
            if messages || options.system_prompt.is_some() {
                let why = format!(
                    "{needs} needs a chat template, and the model has none; name one with --chat-template"
                );
                return Err(JobError::Usage(why));
            }
            return Ok(None);
        };
        Chat::new(options, text, tokenizer, date).map(Some)
    }

    /// The chat template of this text.
    fn new(options: &PromptOptions, text: &str, tokenizer: &Tokenizer, date: i64) -> Result<Chat, JobError> {
        let what =
            if options.chat_template.is_some() { "--chat-template" } else { "the model's chat template" };
        let template = Template::new(what, text, date)?;
        let mut names: BTreeMap<String, Value> =
            ["tools", "documents"].map(|name| (name.to_string(), Value::from(()))).into();
        names.extend(
            tokenizer
                .special_token_names()
                .iter()
                .map(|(name, text)| (name.clone(), Value::from(text.as_str()))),
        );
        let given = options.chat_template_kwargs.iter().flatten();
        names.extend(given.map(|(name, value)| (name.clone(), value.clone())));
        let mut chat = Chat { template, names, takes_parts: true };
        chat.takes_parts = chat.reads_parts();
        Ok(chat)
    }

    /// Whether the template writes the texts of a list of parts, and nothing else of it.
    fn reads_parts(&self) -> bool {
        let part = |text| Value::from_pairs([("type", Value::from("text")), ("text", Value::from(text))]);
        let content = Value::from(vec![part("first part"), part("second part")]);
        let rendered =
            self.render(vec![message("user", content)], true, &Marking::plain(&Markers::default()));
        let text = rendered.unwrap_or_default();
        let holds = |part: &str| text.contains(part);
        holds("first part") && holds("second part") && !holds("'text'") && !holds("\"text\"")
    }

    /// Renders a conversation; with `generation` up to where the answer begins.
    ///
    /// # Errors
    /// What the template says.
    pub fn render(
        &self,
        messages: Vec<Value>,
        generation: bool,
        marking: &Marking,
    ) -> Result<String, String> {
        self.render_with(messages, Vec::new(), generation, marking)
    }

    /// The same with more names, which come before those of the job.
    ///
    /// # Errors
    /// What the template says.
    pub fn render_with(
        &self,
        messages: Vec<Value>,
        names: Vec<(&str, Value)>,
        generation: bool,
        marking: &Marking,
    ) -> Result<String, String> {
        let more = names;
        let messages = if self.takes_parts {
            Value::from(messages)
        } else {
            messages.into_iter().map(with_text).collect()
        };
        let own = [
            ("messages", messages),
            ("add_generation_prompt", Value::from(generation)),
            (MARK, marking.mark()),
        ];
        let names = self.names.iter().map(|(name, value)| (name.as_str(), value.clone()));
        self.template.render(Value::from_pairs(own.into_iter().chain(names).chain(more)), marking.bytes())
    }
}

/// The texts of the templates that make prompts: what they hold, and what a chat template writes of a few
/// conversations, where it puts tokens together. `template` is the model's chat template.
///
/// # Errors
/// [`JobError::Template`].
pub fn template_texts(
    options: &PromptOptions,
    template: Option<&str>,
    tokenizer: &Tokenizer,
    date: i64,
) -> Result<Vec<Literal>, JobError> {
    let mut texts = options.prompt.as_deref().map(literals).unwrap_or_default();
    let used = !options.raw && options.prompt_tokens_column.is_none();
    if let Some(source) = options.chat_template.as_deref().or(template).filter(|_| used) {
        texts.extend(literals(source));
        let chat = Chat::new(options, source, tokenizer, date)?;
        let none = Markers::default();
        for roles in [&["user"][..], &["system", "user"], &["user", "assistant", "user"], &["user", "tool"]] {
            let messages = roles.iter().map(|role| message(role, Value::from("x"))).collect();
            // What a template refuses, it does not write.
            let rendered = chat.render(messages, true, &Marking::plain(&none));
            texts.extend(rendered.ok().map(|text| Literal { text, looked_for: false }));
        }
    }
    Ok(texts)
}

#[cfg(test)]
mod tests;
