//! What does not go together with `--batch`.

use crate::cli::args::RunArgs;
use crate::error::JobError;
use crate::options::batch::BatchOptions;
use crate::options::columns::ColumnsOptions;
use crate::options::prompt::PromptOptions;
use crate::options::structured::StructuredOptions;
use crate::publish::format::OutputFormat;

impl RunArgs {
    /// Refuses what a batch's requests say themselves, and what their results have no place for.
    ///
    /// # Errors
    /// [`JobError::Usage`] names the flag.
    pub fn check_batch(&self) -> Result<(), JobError> {
        let BatchOptions { batch, served_model_name } = &self.batch;
        if batch.is_empty() {
            return match served_model_name.is_empty() {
                true => Ok(()),
                false => Err(JobError::Usage("--served-model-name has no effect without --batch".into())),
            };
        }
        if served_model_name.iter().any(String::is_empty) {
            return Err(JobError::Usage("--served-model-name is empty".into()));
        }
        let ColumnsOptions { choices, columns } = &self.columns;
        let StructuredOptions { json_schema, regex, grammar, structured_outputs, reasoning_end } =
            &self.structured;
        let PromptOptions {
            prompt,
            prompt_file,
            allow_constant_prompt,
            prompt_column,
            messages_column,
            prompt_tokens_column,
            system_prompt,
            raw,
            // What a chat template is, is not for a request to say.
            chat_template: _,
            chat_template_kwargs: _,
            asks: _,
            given: _,
        } = &self.prompt;
        let given = [
            ("input", !self.input.is_empty()),
            ("input-format", self.input_format.is_some()),
            ("prompt", prompt.is_some()),
            ("prompt-file", prompt_file.is_some()),
            ("allow-constant-prompt", *allow_constant_prompt),
            ("prompt-column", prompt_column.is_some()),
            ("messages-column", messages_column.is_some()),
            ("prompt-tokens-column", prompt_tokens_column.is_some()),
            ("system-prompt", system_prompt.is_some()),
            ("raw", *raw),
            ("choices", !choices.is_empty()),
            ("columns", columns.is_some()),
            ("documents", self.documents.documents.is_some()),
            ("json-schema", json_schema.is_some()),
            ("regex", regex.is_some()),
            ("grammar", grammar.is_some()),
            ("structured-outputs", structured_outputs.is_some()),
            ("reasoning-end", reasoning_end.is_some()),
            ("return", !self.returns.is_empty()),
            ("keep", self.keep.is_some()),
            ("column-prefix", !self.column_prefix.is_empty()),
            // A line that is wrong is an error result in any case.
            ("on-corrupt", self.on_corrupt.is_some()),
        ];
        if let Some((flag, _)) = given.iter().find(|(_, given)| *given) {
            return Err(JobError::Usage(format!(
                "--{flag} does not go together with --batch, whose requests say what is asked and whose results have \
                 OpenAI's fields; leave it out"
            )));
        }
        match &self.output {
            Some(output) if OutputFormat::of(output)? != OutputFormat::Jsonl => Err(JobError::Usage(
                format!("--output {output}: results of a batch are JSON lines; name the output .jsonl"),
            )),
            _ => Ok(()),
        }
    }
}
