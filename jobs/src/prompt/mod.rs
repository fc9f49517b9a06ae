//! A row becomes a prompt: token ids, or the reason why not.

pub mod literal;
pub mod template;
pub mod tokenizer;

use crate::error::JobError;
use crate::input::Input;
use crate::input::row::{row_values, value};
use crate::options::prompt::PromptOptions;
use crate::prompt::literal::{Marking, Rendering};
use crate::prompt::template::{MARK, Template};
use crate::prompt::tokenizer::Tokenizer;
use arrow::array::{Array, RecordBatch};
use minijinja::Value;
use minijinja::value::ValueKind;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Why a row has no prompt. Written as `kind: detail`; the kinds are few and fixed.
#[derive(Clone, Debug, PartialEq)]
pub struct RowError {
    /// What kind of error it is.
    pub kind: &'static str,
    /// What is wrong with this row.
    pub detail: String,
    /// Tokens of the prompt, where it came so far.
    pub num_input_tokens: Option<u32>,
}

impl fmt::Display for RowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.detail)
    }
}

fn row_error(kind: &'static str, detail: impl Into<String>) -> RowError {
    RowError { kind, detail: detail.into(), num_input_tokens: None }
}

/// What a prompt is made of; columns are positions in [`Prompts::columns`].
enum Source {
    Template(Box<Template>),
    Column,
    Messages,
    Tokens,
}

/// A chat template with what it sees besides the messages.
struct Chat {
    template: Template,
    names: BTreeMap<String, Value>,
}

/// Makes prompts of rows.
pub struct Prompts {
    source: Source,
    columns: Vec<usize>,
    system: Option<String>,
    chat: Option<Chat>,
    tokenizer: Arc<Tokenizer>,
    max_model_len: usize,
    vocab: usize,
}

impl Prompts {
    /// Prepares templates and finds columns. `template` is the model's chat template; `max_model_len` the most
    /// tokens of prompt and answer; `vocab` the size of the model's vocabulary; `date` what templates tell, in
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
        let (source, columns) = source(options, input, date)?;
        let chat = chat(options, &source, &tokenizer, template, date)?;
        let system = options.system_prompt.clone();
        Ok(Prompts { source, columns, system, chat, tokenizer, max_model_len, vocab })
    }

    /// The columns of the input that prompts are made of.
    pub fn columns(&self) -> &[usize] {
        &self.columns
    }

    /// Whether the chat template is used.
    pub fn uses_chat_template(&self) -> bool {
        self.chat.is_some()
    }

    /// Whether a prompt may tell the date.
    pub fn tell_date(&self) -> bool {
        let own = matches!(&self.source, Source::Template(template) if template.tells_date());
        own || self.chat.as_ref().is_some_and(|chat| chat.template.tells_date())
    }

    /// The prompts of rows of a batch of [`Prompts::columns`], in order, made on so many threads.
    pub fn of_rows(
        &self,
        batch: &RecordBatch,
        rows: &[usize],
        threads: usize,
    ) -> Vec<Result<Vec<u32>, RowError>> {
        let share = rows.len().div_ceil(threads.max(1)).max(1);
        std::thread::scope(|scope| {
            let one =
                move |rows: &[usize]| rows.iter().map(|&row| self.of_row(batch, row)).collect::<Vec<_>>();
            let work: Vec<_> =
                rows.chunks(share).map(|rows| (rows, scope.spawn(move || one(rows)))).collect();
            let lost = || Err(row_error("internal error", "the thread that made the prompt ended"));
            let made = work.into_iter().flat_map(|(rows, thread)| {
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
        let ids = match &self.source {
            Source::Tokens => self.token_ids(batch.column(0), row)?,
            _ => self.encode(&self.rendering(batch, row)?)?,
        };
        let tokens = u32::try_from(ids.len()).unwrap_or(u32::MAX);
        if ids.is_empty() {
            return Err(row_error("empty prompt", "the prompt has no tokens"));
        }
        if ids.len() >= self.max_model_len {
            let detail = format!(
                "{tokens} tokens; the context has {} (--max-model-len), one of them for the answer",
                self.max_model_len
            );
            return Err(RowError { num_input_tokens: Some(tokens), ..row_error("prompt too long", detail) });
        }
        Ok(ids)
    }

    fn encode(&self, rendering: &Rendering) -> Result<Vec<u32>, RowError> {
        let most = self.tokenizer.most_bytes(self.max_model_len);
        if rendering.len() > most {
            let detail = format!(
                "{} bytes; {} tokens (--max-model-len) are never made from more than {most}",
                rendering.len(),
                self.max_model_len
            );
            return Err(row_error("prompt too long", detail));
        }
        self.tokenizer.encode(rendering).map_err(|why| row_error("tokenizer error", why))
    }

    fn rendering(&self, batch: &RecordBatch, row: usize) -> Result<Rendering, RowError> {
        // The kind of the last error; a rendering's error is a text only.
        let mut kind = "template error";
        Rendering::of_row(self.tokenizer.markers(), |marking| {
            let messages = match &self.source {
                Source::Messages => self.row_messages(batch, row, marking),
                _ => self.row_prompt(batch, row, marking).map(|prompt| match &self.chat {
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
                    chat.render(self.with_system(messages), true, marking)
                }
                (Conversation::Messages(_), None) => Err("no chat template".into()),
            }
        })
        .map_err(|why| row_error(kind, why))
    }

    fn row_prompt(&self, batch: &RecordBatch, row: usize, marking: &Marking) -> Result<String, RowError> {
        let mut each = |text: &str| marking.value(text);
        if let Source::Template(template) = &self.source {
            let mut context = row_values(batch, row, &mut each).map_err(|why| row_error("bad row", why))?;
            context.push((MARK.to_string(), marking.mark()));
            return template
                .render(Value::from_pairs(context), marking.bytes())
                .map_err(|why| row_error("template error", why));
        }
        let prompt = value(batch.column(0), row, &mut each).map_err(|why| row_error("bad row", why))?;
        match prompt.kind() {
            ValueKind::None => Err(row_error("null prompt", "the prompt column is null in this row")),
            _ => Ok(prompt.to_string()),
        }
    }

    fn row_messages(
        &self,
        batch: &RecordBatch,
        row: usize,
        marking: &Marking,
    ) -> Result<Conversation, RowError> {
        let bad = |why: String| row_error("bad messages", why);
        let column = value(batch.column(0), row, &mut |text: &str| marking.value(text)).map_err(bad)?;
        if column.is_none() {
            return Err(row_error("null prompt", "the messages column is null in this row"));
        }
        // Roles are names that templates compare, so they are taken unmarked.
        let plain = value(batch.column(0), row, &mut |text: &str| Value::from(text)).map_err(bad)?;
        let n = column.len().unwrap_or(0);
        if n == 0 {
            return Err(bad("the list is empty".into()));
        }
        let messages = (0..n).map(|i| {
            let item = |list: &Value| list.get_item_by_index(i).map_err(|e| bad(e.to_string()));
            checked_message(&item(&column)?, &item(&plain)?).map_err(|why| bad(format!("message {i}: {why}")))
        });
        messages.collect::<Result<_, _>>().map(Conversation::Messages)
    }

    fn with_system(&self, mut messages: Vec<Value>) -> Vec<Value> {
        let has_one = messages
            .first()
            .and_then(|m| m.get_attr("role").ok())
            .is_some_and(|r| r.as_str() == Some("system"));
        if let Some(system) = self.system.as_ref().filter(|_| !has_one) {
            messages.insert(0, message("system", Value::from(system.as_str())));
        }
        messages
    }

    fn token_ids(&self, column: &dyn Array, row: usize) -> Result<Vec<u32>, RowError> {
        let bad = |why: String| row_error("bad tokens", why);
        let list = value(column, row, &mut |text: &str| Value::from(text)).map_err(bad)?;
        if list.is_none() {
            return Err(row_error("null prompt", "the tokens column is null in this row"));
        }
        let items = list.try_iter().map_err(|e| bad(e.to_string()))?;
        let ids = items.enumerate().map(|(i, item)| {
            let id = item.as_i64().ok_or_else(|| bad(format!("item {i} is {item}, not a token id")))?;
            let known = u32::try_from(id).ok().filter(|&id| (id as usize) < self.vocab);
            known.ok_or_else(|| {
                bad(format!("item {i} is {id}; the model's tokens are 0 to {}", self.vocab - 1))
            })
        });
        ids.collect()
    }
}

/// What is rendered.
enum Conversation {
    Text(String),
    Messages(Vec<Value>),
}

impl Chat {
    fn render(&self, messages: Vec<Value>, generation: bool, marking: &Marking) -> Result<String, String> {
        let own = [
            ("messages", Value::from(messages)),
            ("add_generation_prompt", Value::from(generation)),
            (MARK, marking.mark()),
        ];
        let names = self.names.iter().map(|(name, value)| (name.as_str(), value.clone()));
        self.template.render(Value::from_pairs(own.into_iter().chain(names)), marking.bytes())
    }
}

fn message(role: &str, content: Value) -> Value {
    Value::from_pairs([("role", Value::from(role)), ("content", content)])
}

/// A message of a row with its role unmarked.
fn checked_message(marked: &Value, plain: &Value) -> Result<Value, String> {
    let role = plain.get_attr("role").map_err(|e| e.to_string())?;
    let role = role.as_str().ok_or("it has no role")?;
    let name = !role.is_empty() && role.len() <= 64;
    if !name || !role.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-')) {
        return Err(format!("its role is {role:?}; a role is a name such as user"));
    }
    let content = marked.get_attr("content").map_err(|e| e.to_string())?;
    let calls = marked.get_attr("tool_calls").map_err(|e| e.to_string())?;
    if (content.is_none() || content.is_undefined()) && !calls.is_true() {
        return Err("it has no content".into());
    }
    let keys = marked.try_iter().map_err(|e| e.to_string())?;
    let pairs = keys.map(|key| {
        let value = if key.as_str() == Some("role") {
            Value::from(role)
        } else {
            marked.get_item(&key).unwrap_or_default()
        };
        (key, value)
    });
    Ok(Value::from_pairs(pairs.collect::<Vec<_>>()))
}

fn source(options: &PromptOptions, input: &Input, date: i64) -> Result<(Source, Vec<usize>), JobError> {
    let given = [
        ("--prompt", &options.prompt),
        ("--prompt-column", &options.prompt_column),
        ("--messages-column", &options.messages_column),
        ("--prompt-tokens-column", &options.prompt_tokens_column),
    ];
    let mut given = given.into_iter().filter_map(|(flag, value)| Some((flag, value.as_deref()?)));
    let has = |name| input.schema.column_with_name(name).is_some();
    let (flag, value) = match (given.next(), given.next()) {
        (Some((a, _)), Some((b, _))) => {
            return Err(JobError::Usage(format!(
                "{a} and {b} both say what the prompt is; give one of them"
            )));
        }
        (Some(one), None) => one,
        (None, _) if has("prompt") => ("--prompt-column", "prompt"),
        (None, _) if has("messages") => ("--messages-column", "messages"),
        (None, _) => {
            return Err(JobError::Usage(format!(
                "say what the prompt is: --prompt '{{{{ column }}}}', --prompt-column, --messages-column or \
                 --prompt-tokens-column; the input has {}",
                input.column_list()
            )));
        }
    };
    if flag == "--prompt" {
        let template = Template::new("--prompt", value, date)?;
        let names: Vec<String> = template.variables().into_iter().collect();
        let columns = input.columns(&names, "--prompt")?;
        return Ok((Source::Template(Box::new(template)), columns));
    }
    let columns = input.columns(&[value.to_string()], flag)?;
    let kind = input.schema.field(columns[0]).data_type();
    let (source, fits, wanted) = match flag {
        "--messages-column" => (Source::Messages, is_list(kind), "a list of structs with role and content"),
        "--prompt-tokens-column" => (Source::Tokens, is_list(kind), "a list of token ids"),
        _ => (Source::Column, !kind.is_nested() || is_dictionary(kind), "a string"),
    };
    if !fits {
        return Err(JobError::Usage(format!("{flag} {value}: the column is {kind}; it must be {wanted}")));
    }
    Ok((source, columns))
}

fn is_list(kind: &arrow::datatypes::DataType) -> bool {
    use arrow::datatypes::DataType::{FixedSizeList, LargeList, List};
    matches!(kind, List(_) | LargeList(_) | FixedSizeList(..))
}

fn is_dictionary(kind: &arrow::datatypes::DataType) -> bool {
    matches!(kind, arrow::datatypes::DataType::Dictionary(..))
}

fn chat(
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
    let given = options.chat_template.as_deref().map(template_or_file).transpose()?;
    let Some(text) = given.as_ref().or(template.as_ref()) else {
        let needs = if messages { "--messages-column" } else { "--system-prompt" };
        if messages || options.system_prompt.is_some() {
            let why = format!(
                "{needs} needs a chat template, and the model has none; name one with --chat-template"
            );
            return Err(JobError::Usage(why));
        }
        return Ok(None);
    };
    let what = if options.chat_template.is_some() { "--chat-template" } else { "the model's chat template" };
    let template = Template::new(what, text, date)?;
    let mut names: BTreeMap<String, Value> =
        ["tools", "documents"].map(|name| (name.to_string(), Value::from(()))).into();
    names.extend(tokenizer.special_token_names().into_iter().map(|(name, text)| (name, Value::from(text))));
    let given = options.chat_template_kwargs.iter().flatten();
    names.extend(given.map(|(name, value)| (name.clone(), value.clone())));
    Ok(Some(Chat { template, names }))
}

/// A template given as such, or as the name of a file.
pub(crate) fn template_or_file(given: &str) -> Result<String, JobError> {
    let path = std::path::Path::new(given);
    if given.contains(['{', '\n']) || !path.is_file() {
        return Ok(given.to_string());
    }
    std::fs::read_to_string(path).map_err(JobError::io("read", path))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::input::write_parquet;
    use crate::prompt::tokenizer::tests::byte_level;
    use arrow::array::*;
    use arrow::datatypes::Field;

    const CHAT: &str = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content | trim }}<|im_end|>{% endfor %}\
                        {% if add_generation_prompt %}<|im_start|>a{% endif %}";

    fn table(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true)))
            .unwrap()
    }

    fn strings(values: &[Option<&str>]) -> ArrayRef {
        Arc::new(StringArray::from(values.to_vec()))
    }

    fn prompts(
        options: &PromptOptions,
        table: &RecordBatch,
        chat: Option<&str>,
    ) -> Result<Vec<String>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("in.parquet");
        write_parquet(&path, table, 100);
        let input = Input::open(&[path.to_str().unwrap().into()]).unwrap();
        let tokenizer = Arc::new(byte_level());
        let prompts = Prompts::new(options, &input, tokenizer.clone(), chat.map(String::from), 64, 270, 0);
        let prompts = prompts.map_err(|e| e.to_string())?;
        let batch = input.read(prompts.columns().to_vec(), 0..100).next().unwrap().unwrap().columns;
        let rows: Vec<usize> = (0..batch.num_rows()).collect();
        let shown = prompts.of_rows(&batch, &rows, 3).into_iter().map(|prompt| match prompt {
            Ok(ids) => tokenizer.decode(&ids, false).unwrap(),
            Err(error) => format!("! {error}"),
        });
        Ok(shown.collect())
    }

    #[test]
    fn a_prompt_template_sees_the_columns_it_names() {
        let table = table(vec![
            ("q", strings(&[Some("ä"), None, Some("<|im_end|> hello")])),
            ("unused", Arc::new(BinaryArray::from(vec![&b""[..]; 3]))),
            ("n", Arc::new(Int32Array::from(vec![1, 2, 3]))),
        ]);
        let options = PromptOptions { prompt: Some("{{ q }}/{{ n }}".into()), ..PromptOptions::default() };
        let plain = prompts(&options, &table, None).unwrap();
        assert_eq!(plain, ["ä/1", "None/2", "<|im_end|> hello/3"]);
        let chat = prompts(&options, &table, Some(CHAT)).unwrap();
        assert_eq!(chat[2], "<|im_start|>user\n<|im_end|> hello/3<|im_end|><|im_start|>a");
        let missing = PromptOptions { prompt: Some("{{ quest }}".into()), ..PromptOptions::default() };
        let error = prompts(&missing, &table, None).unwrap_err();
        assert_eq!(error, "--prompt: the input has no column `quest`; it has `q`, `unused`, `n`");
    }

    #[test]
    fn bad_rows_are_errors_of_their_own() {
        let long = "x y ".repeat(100);
        let longer = "x y ".repeat(1000);
        let table =
            table(vec![("text", strings(&[None, Some(&long), Some(&longer), Some(""), Some("hello")]))]);
        let options = PromptOptions { prompt_column: Some("text".into()), ..PromptOptions::default() };
        let shown = prompts(&options, &table, None).unwrap();
        assert_eq!(shown[0], "! null prompt: the prompt column is null in this row");
        assert!(shown[1].starts_with("! prompt too long: 400 tokens; the context has 64"), "{}", shown[1]);
        assert!(shown[2].starts_with("! prompt too long: 4000 bytes"), "{}", shown[2]);
        assert!(shown[3].starts_with("! empty prompt"), "{}", shown[3]);
        assert_eq!(shown[4], "hello");
        let refuse = "{{ raise_exception('no') if messages[0].content == 'hello' }}x";
        let shown = prompts(&options, &table, Some(refuse)).unwrap();
        assert_eq!(shown[4], "! template error: the model's chat template: invalid operation: no (line 1)");
        assert_eq!(shown[3], "x");
    }

    fn messages(rows: &[&[(&str, Option<&str>)]]) -> ArrayRef {
        let fields = vec![
            Field::new("content", arrow::datatypes::DataType::Utf8, true),
            Field::new("role", arrow::datatypes::DataType::Utf8, true),
        ];
        let mut list = ListBuilder::new(StructBuilder::from_fields(fields, 0));
        for row in rows {
            for (role, content) in *row {
                let message = list.values();
                message.field_builder::<StringBuilder>(0).unwrap().append_option(*content);
                message.field_builder::<StringBuilder>(1).unwrap().append_value(role);
                message.append(true);
            }
            list.append(true);
        }
        list.append_null();
        Arc::new(list.finish())
    }

    #[test]
    fn conversations_go_through_the_chat_template() {
        let list = messages(&[
            &[("user", Some("hi <|im_start|>")), ("assistant", Some("yo"))],
            &[("system", Some("be")), ("user", Some("x"))],
            &[],
            &[("user", None)],
            &[("<|im_end|>", Some("x"))],
        ]);
        let table = table(vec![("messages", list)]);
        let options = PromptOptions { system_prompt: Some("S".into()), ..PromptOptions::default() };
        let shown = prompts(&options, &table, Some(CHAT)).unwrap();
        assert_eq!(
            shown[0],
            "<|im_start|>system\nS<|im_end|><|im_start|>user\nhi <|im_start|><|im_end|><|im_start|>assistant\nyo<|im_end|>\
             <|im_start|>a"
        );
        assert_eq!(shown[1], "<|im_start|>system\nbe<|im_end|><|im_start|>user\nx<|im_end|><|im_start|>a");
        assert_eq!(shown[2], "! bad messages: the list is empty");
        assert_eq!(shown[3], "! bad messages: message 0: it has no content");
        assert!(shown[4].starts_with("! bad messages: message 0: its role is"), "{}", shown[4]);
        assert!(shown[5].starts_with("! null prompt"), "{}", shown[5]);
        assert!(
            prompts(&options, &table, None).unwrap_err().contains("--messages-column needs a chat template")
        );
    }

    #[test]
    fn token_ids_are_checked() {
        let mut list = ListBuilder::new(Int64Builder::new());
        for ids in [&[72i64, 73][..], &[-1], &[270], &[]] {
            list.append_value(ids.iter().map(|&id| Some(id)));
        }
        list.append_value([None]);
        let table = table(vec![("ids", Arc::new(list.finish()))]);
        let options = PromptOptions { prompt_tokens_column: Some("ids".into()), ..PromptOptions::default() };
        let shown = prompts(&options, &table, Some(CHAT)).unwrap();
        assert_eq!(shown[0], "HI");
        for (row, text) in
            [(1, "item 0 is -1"), (2, "tokens are 0 to 269"), (3, "empty prompt"), (4, "item 0 is None")]
        {
            assert!(shown[row].contains(text), "{}", shown[row]);
        }
        let both = PromptOptions { prompt: Some("x".into()), ..options.clone() };
        assert!(prompts(&both, &table, None).unwrap_err().contains("both say what the prompt is"));
        let system = PromptOptions { system_prompt: Some("x".into()), ..options };
        assert!(prompts(&system, &table, None).unwrap_err().contains("does not go together"));
    }

    fn golden<T: serde::de::DeserializeOwned>(file: &str) -> T {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden");
        serde_json::from_slice(&std::fs::read(format!("{folder}/{file}")).unwrap()).unwrap()
    }

    /// A part of each case, with its keys in the order of the file.
    fn part_of(file: &str, cases: &str, part: &str) -> Vec<Value> {
        let cases = golden::<Value>(file).get_attr(cases).unwrap();
        cases.try_iter().unwrap().map(|case| case.get_attr(part).unwrap()).collect()
    }

    fn golden_tokenizer() -> Tokenizer {
        Tokenizer::open(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/qwen3").as_ref()).unwrap()
    }

    /// A value with every string but a role's marked.
    fn marked(value: &Value, marking: &Marking) -> Value {
        match value.kind() {
            ValueKind::String => marking.value(value.as_str().unwrap()),
            ValueKind::Seq => value.try_iter().unwrap().map(|item| marked(&item, marking)).collect(),
            ValueKind::Map => Value::from_pairs(value.try_iter().unwrap().map(|key| {
                let value = value.get_item(&key).unwrap();
                let is_role = key.as_str() == Some("role");
                (key, if is_role { value } else { marked(&value, marking) })
            })),
            _ => value.clone(),
        }
    }

    fn rendered(
        chat: &Chat,
        markers: &crate::prompt::literal::Markers,
        messages: &Value,
        case: &serde_json::Value,
    ) -> Result<Rendering, String> {
        let generation = case["add_generation_prompt"].as_bool().unwrap();
        Rendering::of_row(markers, |marking| {
            let messages = messages.try_iter().unwrap().map(|m| marked(&m, marking)).collect();
            chat.render(messages, generation, marking)
        })
    }

    /// 2026-03-07T09:05:00, the time of the golden files.
    const THEN: i64 = 1_772_874_300;

    #[test]
    fn chat_templates_render_as_in_transformers() {
        let none = crate::prompt::literal::Markers::default();
        let marks = byte_level().markers().clone();
        for name in ["chatml", "dated-generation", "llama2", "llama3", "mistral", "qwen-tools"] {
            let path = format!("templates/{name}.json");
            let file: serde_json::Value = golden(&path);
            let (messages, variables) =
                (part_of(&path, "cases", "messages"), part_of(&path, "cases", "variables"));
            assert_eq!(file["now"], "2026-03-07T09:05:00");
            let template = Template::new(name, file["template"].as_str().unwrap(), THEN).unwrap();
            let mut names: BTreeMap<String, Value> =
                ["tools", "documents"].map(|n| (n.into(), Value::from(()))).into();
            for token in ["bos_token", "eos_token"] {
                names.extend(file[token].as_str().map(|text| (token.to_string(), Value::from(text))));
            }
            let mut chat = Chat { template, names };
            for ((case, messages), variables) in
                file["cases"].as_array().unwrap().iter().zip(messages).zip(variables)
            {
                let plain = chat.names.clone();
                for name in variables.try_iter().unwrap() {
                    chat.names.insert(name.to_string(), variables.get_item(&name).unwrap());
                }
                for markers in [&none, &marks] {
                    match (rendered(&chat, markers, &messages, case), case["expected"].as_str()) {
                        (Ok(rendering), Some(expected)) => {
                            assert_eq!(rendering.plain(), expected, "{name} {case}")
                        }
                        (Err(why), None) => {
                            assert!(why.contains(case["error"].as_str().unwrap()), "{name}: {why} {case}");
                        }
                        (got, expected) => panic!("{name}: {got:?} {expected:?} {case}"),
                    }
                }
                chat.names = plain;
            }
        }
    }

    #[test]
    fn conversations_have_the_token_ids_of_transformers() {
        let tokenizer = golden_tokenizer();
        let file: serde_json::Value = golden("chat.json");
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/qwen3").as_ref();
        let own = tokenizer.chat_template(folder).unwrap().unwrap();
        let spaced = file["spaced_chat_template"].as_str().unwrap().to_string();
        for (template, cases) in [(own, "conversations"), (spaced, "spaced_conversations")] {
            let names =
                tokenizer.special_token_names().into_iter().map(|(name, text)| (name, Value::from(text)));
            let chat =
                Chat { template: Template::new("chat", &template, 0).unwrap(), names: names.collect() };
            for (case, messages) in
                file[cases].as_array().unwrap().iter().zip(part_of("chat.json", cases, "messages"))
            {
                let rendering = rendered(&chat, tokenizer.markers(), &messages, case).unwrap();
                assert_eq!(rendering.plain(), case["text"].as_str().unwrap(), "{}", case["name"]);
                let ids = tokenizer.encode(&rendering).unwrap();
                assert_eq!(serde_json::json!(ids), case["ids"], "{}", case["name"]);
            }
        }
        for case in file["texts"].as_array().unwrap() {
            let text = case["text"].as_str().unwrap();
            let rendering =
                Rendering::of_row(tokenizer.markers(), |m| Ok(m.text(text).into_owned())).unwrap();
            assert_eq!(serde_json::json!(tokenizer.encode(&rendering).unwrap()), case["ids"], "{text}");
        }
        for case in file["decoded"].as_array().unwrap() {
            let ids: Vec<u32> = serde_json::from_value(case["ids"].clone()).unwrap();
            assert_eq!(tokenizer.decode(&ids, true).unwrap(), case["text"].as_str().unwrap());
            let all = case["text_with_special_tokens"].as_str().unwrap();
            assert_eq!(tokenizer.decode(&ids, false).unwrap(), all);
        }
    }
}
