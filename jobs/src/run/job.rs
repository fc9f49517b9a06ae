//! A job with everything checked that can be checked before weights are loaded.

use crate::batch::custom_ids::RepeatedIds;
use crate::batch::logprobs::TokenTexts;
use crate::batch::requests::BatchRequests;
use crate::batch::results::Results;
use crate::batch::structures::Structures;
use crate::choices::requests::RowChoices;
use crate::choices::{Choices, sampling_options};
use crate::counted::counted;
use crate::documents::{Documents, Parts};
use crate::error::JobError;
use crate::input::Input;
use crate::input::names::Search;
use crate::input::own::OwnOutput;
use crate::journal::identity::Identity;
use crate::log::note;
use crate::model::ModelFolders;
use crate::model::builtin::NANO;
use crate::model::generation_config::GenerationConfig;
use crate::options::engine::engine_config;
use crate::options::job::{JobOptions, ReturnColumn};
use crate::options::prompt::PromptOptions;
use crate::prompt::chat::template_texts;
use crate::prompt::markers::literals::{Literal, literals};
use crate::prompt::prompts::Prompts;
use crate::prompt::tokenizer::Tokenizer;
use crate::prompt::tokenizer::files::{TOKENIZER, TokenizerDigests, TokenizerFiles};
use crate::publish::answer_columns::AnswerColumns;
use crate::publish::choice_columns::ChoiceColumns;
use crate::publish::columns::{OutputColumns, Returns};
use crate::publish::document_columns::DocumentColumns;
use crate::publish::format::OutputFormat;
use crate::publish::parquet_types;
use crate::publish::text::LineEncoder;
use crate::run::error_limits::ErrorLimits;
use crate::run::kept::projected;
use crate::run::resume::job_date;
use crate::run::sampling::{KeepLogprobs, Sampling};
use crate::schema::AnswerSchema;
use crate::schema::chosen::Chosen;
use crate::structured::StructuredOutputs;
use crate::structured::constraint::Structure;
use crate::structured::reasoning::Reasoning;
use crate::structured::vocabulary::Vocabulary;
use engine::EngineConfig;
use engine::models::Model;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// What a job works on and with.
pub struct Job {
    pub options: JobOptions,
    pub input: Input,
    /// The number of rows of the job, from the first of the input.
    pub rows: u64,
    /// Those to answer: all, or a shard of them.
    pub range: Range<u64>,
    /// The kept columns of the input in its order.
    pub kept: Vec<usize>,
    /// The columns of the output.
    pub columns: OutputColumns,
    pub folders: ModelFolders,
    pub model: Arc<Model>,
    pub tokenizer: Arc<Tokenizer>,
    /// Of the files that it was made of.
    pub tokenizer_digests: TokenizerDigests,
    pub prompts: Prompts,
    pub sampling: Arc<Sampling>,
    /// The columns of choices, if the job scores them and generates nothing.
    pub choices: Option<Arc<Choices>>,
    /// The documents, if rows hold such; `prompts` then makes those of documents that fit into one prompt.
    pub documents: Option<Arc<Documents>>,
    /// What generated text must be.
    pub structure: Option<Structure>,
    /// What makes requests of lines, if the input is a batch.
    pub batch: Option<BatchRequests>,
    /// What a row without content asks, by which columns may be calibrated.
    pub content_free: Option<RowChoices>,
    /// The model's own.
    pub chat_template: Option<String>,
    pub max_model_len: usize,
    /// The day that templates show, in seconds since 1970.
    pub date: i64,
}

impl Job {
    /// Opens input, model and tokenizer, and checks the options against them.
    ///
    /// # Errors
    /// [`JobError::Usage`], and what is wrong with a file.
    pub fn prepare(options: JobOptions) -> Result<Job, JobError> {
        let own = OwnOutput::of(&options.output);
        let search = Search { format: options.input_format, own, also_empty: false };
        let input = Input::search(&options.input, &search)?;
        let folders = ModelFolders::find(&options.model)?;
        let model = Arc::new(Model::open(&folders.model, options.model.load_format.into())?);
        let date = job_date(&options);
        let job = Job::of(options, input, folders, model, date)?;
        let format = OutputFormat::of(&job.options.output)?;
        match format {
            _ if job.options.batch || job.options.output.is_none() => {}
            OutputFormat::Parquet => parquet_types::check(&job.columns.file_schema())?,
            OutputFormat::Jsonl | OutputFormat::Csv => {
                LineEncoder::new(format).check(&job.columns.written_schema())?
            }
        }
        Ok(job)
    }

    /// The same over an input and a model that are open, on a day (in seconds since 1970). Nothing is known of files here.
    ///
    /// # Errors
    /// As [`Job::prepare`].
    pub fn of(
        options: JobOptions,
        input: Input,
        folders: ModelFolders,
        model: Arc<Model>,
        date: i64,
    ) -> Result<Job, JobError> {
        let rows = input.rows.min(options.limit.unwrap_or(u64::MAX));
        let shard = options.shard.as_ref().and_then(|own| own.shard);
        let range = match (shard, options.rows_per_file) {
            (Some(shard), Some(per_file)) => shard.rows(rows, per_file),
            _ => 0..rows,
        };
        let max_model_len = options.engine.max_model_len.unwrap_or(model.config.max_position_embeddings);
        let tokenizer_files = TokenizerFiles::read(&folders.tokenizer)?;
        let tokenizer_digests = tokenizer_files.digests();
        let path = folders.tokenizer.join(TOKENIZER);
        let tokenizer = Tokenizer::from_files(&tokenizer_files);
        drop(tokenizer_files);
        let mut tokenizer = tokenizer.map_err(|why| JobError::Model { path: path.clone(), why })?;
        let chat_template = tokenizer.chat_template(&folders.tokenizer)?;
        let mut texts = template_texts(&options.prompt, chat_template.as_deref(), &tokenizer, date)?;
        let asks = options.columns.iter().filter_map(|column| column.ask.clone());
        texts.extend(asks.map(|text| Literal { text, looked_for: false }));
        if let Some(documents) = &options.documents {
            let (second, _) = documents.second_prompt();
            texts.extend([documents.map_prompt.as_str(), second].into_iter().flat_map(literals));
        }
        tokenizer.mark_tokens_of(&texts).map_err(|why| JobError::Model { path, why })?;
        let tokenizer = Arc::new(tokenizer);
        let vocab = model.config.vocab;
        let scores = !options.columns.is_empty();
        // Notes of documents are generated, also where their last prompts are scored.
        let generates = !scores || options.documents.is_some();
        let mut asked = if generates { options.sampling.clone() } else { sampling_options() };
        let generation = GenerationConfig::read(&folders.model, &model.config_json, asked.generation_config)?;
        if options.batch && generation.max_new_tokens.is_none() {
            // Requests say how long their answers may be, or have all the room that there is.
            asked.max_tokens = asked.max_tokens.or(u32::try_from(max_model_len.saturating_sub(1)).ok());
        }
        let sampling = Sampling::resolve(&asked, &generation, &tokenizer, vocab, max_model_len)?;
        sampling.warn(&generation, &tokenizer, vocab);
        let sampling = Arc::new(sampling.keeping(KeepLogprobs {
            tokens: options.returns.contains(&ReturnColumn::TokenLogprobs),
            alternatives: options.returns.contains(&ReturnColumn::Logprobs),
        }));
        let prompts_of = |options: &PromptOptions| {
            let template = chat_template.clone();
            Prompts::new(options, &input, tokenizer.clone(), template, max_model_len, vocab, date)
        };
        let choices = match scores {
            true => {
                let ends = end_tokens(&folders, &model, &tokenizer, max_model_len)?;
                Some(Arc::new(Choices::new(&options.columns, &tokenizer, &ends, vocab)?))
            }
            false => None,
        };
        let documents = match &options.documents {
            None => None,
            Some(own) => {
                let parts = Parts {
                    options: own,
                    input: &input,
                    tokenizer: tokenizer.clone(),
                    choices: choices.clone(),
                    max_model_len,
                    max_tokens: sampling.params.max_tokens,
                    keeps_chunks: own.map_columns || options.returns.contains(&ReturnColumn::Chunks),
                };
                let prompt = &options.prompt;
                let documents = Documents::new(parts, prompt.prompt.as_deref(), |template, given| {
                    let constant = given.is_some() || prompt.allow_constant_prompt;
                    prompts_of(&PromptOptions {
                        prompt: Some(template.into()),
                        allow_constant_prompt: constant,
                        given,
                        ..prompt.clone()
                    })
                })?;
                Some(Arc::new(documents))
            }
        };
        let prompts = match &options.documents {
            _ if options.batch => {
                let template = chat_template.clone();
                Prompts::of_batch(&options.prompt, tokenizer.clone(), template, max_model_len, vocab, date)?
            }
            Some(documents) if options.prompt.prompt.is_none() => {
                prompts_of(&documents.map_options(&options.prompt))?
            }
            _ => prompts_of(&options.prompt)?,
        };
        let batch = match options.batch {
            true => Some(BatchRequests {
                served_model_names: served_model_names(&options, &folders),
                repeated: RepeatedIds::of(&input, rows)?,
                options: options.sampling.clone(),
                generation,
                tokenizer: tokenizer.clone(),
                vocab,
                structures: Structures::new(tokenizer.clone(), vocab),
            }),
            false => None,
        };
        let answers = answers(&options)?;
        let fields = answers.as_ref().and_then(AnswerColumns::chosen);
        let structure = structure(&options, &prompts, &sampling, &tokenizer, vocab, fields)?;
        if let (Some(_), Some(end)) = (&documents, structure.as_ref().and_then(|s| s.reasoning())) {
            return Err(JobError::Usage(format!(
                "a structured output behind reasoning, which {} ends, does not go together with documents, whose notes would \
                 hold the reasoning; leave the structure out",
                end.text()
            )));
        }
        let content_free = match &choices {
            Some(choices) => choices.content_free(&prompts, &input)?,
            None => None,
        };
        let mut kept = match &options.keep {
            None if options.batch => vec![0],
            None => (0..input.schema.fields().len()).collect(),
            Some(names) => {
                let twice = names.iter().enumerate().find(|(at, name)| names[..*at].contains(name));
                if let Some((_, name)) = twice {
                    return Err(JobError::Usage(format!("--keep names the column {name} twice")));
                }
                input.columns(names, "--keep")?
            }
        };
        kept.sort_unstable();
        kept.dedup();
        let read = documents.as_ref().map_or(prompts.columns(), |documents| documents.columns());
        input.refuse_unreadable(&[kept.as_slice(), read].concat())?;
        let schema = projected(&input.schema, &kept);
        let (keep, prefix) = (options.keep.as_deref(), &options.column_prefix);
        let of_documents = options.documents.as_ref().map(|documents| {
            DocumentColumns::new(&options.returns, answers.clone().filter(|_| documents.map_columns))
        });
        let columns = match &choices {
            Some(choices) => {
                let choices = ChoiceColumns::new(choices, &options.returns, prefix);
                OutputColumns::of_choices(&schema, keep, choices, of_documents, prefix)?
            }
            None if options.batch => OutputColumns::of_results(&schema),
            None => {
                let returns = Returns::of(&options.returns);
                let n = sampling.n as usize;
                let columns = OutputColumns::new(&schema, keep, returns, n, of_documents, prefix)?;
                let end = structure.as_ref().and_then(|structure| structure.reasoning()).map(Reasoning::text);
                let columns = match end {
                    None => columns,
                    Some(end) => columns.with_reasoning(end, prefix)?,
                };
                match answers {
                    None => columns,
                    Some(answers) => columns.with_answers(answers, prefix)?,
                }
            }
        };
        Ok(Job {
            options,
            input,
            rows,
            range,
            kept,
            columns,
            folders,
            model,
            tokenizer,
            tokenizer_digests,
            prompts,
            sampling,
            choices,
            documents,
            structure,
            batch,
            content_free,
            chat_template,
            max_model_len,
            date,
        })
    }

    /// The columns of the input that prompts are made of.
    pub fn columns_read(&self) -> &[usize] {
        self.documents.as_ref().map_or(self.prompts.columns(), |documents| documents.columns())
    }

    /// Whether a prompt may show the date.
    pub fn shows_date(&self) -> bool {
        self.prompts.shows_date() || self.documents.as_ref().is_some_and(|documents| documents.shows_date())
    }

    /// Prints what was resolved.
    pub fn print(&self) {
        note!(
            "model: {} ({}, {} tokens of context); input: {} of {} in {}",
            self.folders.name,
            self.model.config.architecture,
            self.max_model_len,
            self.rows,
            counted(self.input.rows, "row"),
            counted(self.input.files.len() as u64, "file")
        );
        if let Some(columns) = self.input.inferred() {
            note!("columns of the input, as they were inferred: {columns}");
        }
        let how = if self.prompts.uses_chat_template() {
            "through the chat template"
        } else {
            "without a chat template"
        };
        for warning in self.warnings() {
            tracing::warn!("{warning}");
        }
        if let Some((one, other)) = self.columns.alike() {
            tracing::warn!(
                "the output's columns `{one}` and `{other}` differ in case alone, and DuckDB and Spark cannot tell them apart; rename \
                 one, or leave it out with --keep"
            );
        }
        let documents = self.documents.as_ref().map(|documents| documents.summary() + "; ");
        let documents = documents.unwrap_or_default();
        match &self.choices {
            Some(choices) if self.documents.is_some() => {
                let (columns, sampling) = (choices.summary(), self.sampling.summary());
                note!("prompts: {how}; {documents}columns: {columns}; sampling of notes: {sampling}");
            }
            Some(choices) => note!("prompts: {how}; columns: {}", choices.summary()),
            None if self.options.batch => {
                let names = self.served_model_names().join(", ");
                let sampling = self.sampling.summary();
                note!(
                    "batch: messages {how}; the model is called {names}; where a request says nothing else: {sampling}"
                );
            }
            None => {
                let kind = self.options.structured.as_ref().map(|structured| structured.kind());
                let after = self.reasoning().map_or(String::new(), |end| format!(" behind {}", end.text()));
                let structured =
                    kind.map_or(String::new(), |kind| format!("; structured outputs: {kind}{after}"));
                let sampling = self.sampling.summary();
                note!("prompts: {how}; {documents}sampling: {sampling}{structured}");
            }
        }
    }

    /// What the user should know of the model's files.
    pub fn warnings(&self) -> Vec<String> {
        let raw = if self.prompts.is_raw() { self.tokenizer.raw_warnings() } else { Vec::new() };
        self.model.warnings.iter().chain(self.tokenizer.warnings()).chain(&raw).cloned().collect()
    }

    /// What the requests of a batch may call the model.
    pub fn served_model_names(&self) -> &[String] {
        self.batch.as_ref().map_or(&[], |batch| &batch.served_model_names)
    }

    /// What makes results of a batch of its requests and their answers.
    pub fn results(&self, identity: &Identity) -> Option<Results> {
        let batch = self.batch.as_ref()?;
        let texts = TokenTexts::new(self.tokenizer.clone(), batch.vocab);
        let name = batch.served_model_names.first().map_or("", String::as_str);
        Some(Results::new(identity, name, self.date, texts))
    }

    /// The nulls of the input's columns by its footers, if the job takes all rows.
    pub fn input_nulls(&self) -> BTreeMap<String, u64> {
        if self.rows < self.input.rows {
            return BTreeMap::new();
        }
        let columns = self.input.schema.fields().iter().zip(&self.input.nulls);
        columns.filter_map(|(field, nulls)| Some((field.name().clone(), (*nulls)?))).collect()
    }

    /// How the model runs. Tokens are forced where answers have structures, as requests of a batch may have.
    pub fn engine_config(&self) -> EngineConfig {
        let force_tokens = self.structure.is_some() || self.options.batch;
        EngineConfig { force_tokens, ..engine_config(&self.options.engine) }
    }

    /// What goes before the structure of the answers.
    pub fn reasoning(&self) -> Option<&Reasoning> {
        self.structure.as_ref()?.reasoning()
    }

    /// How many error rows the job tolerates.
    pub fn error_limits(&self) -> ErrorLimits {
        ErrorLimits::of(&self.options)
    }
}

/// The tokens that end an answer, by which choices are scored: the model's own, whatever the flags of sampling say.
fn end_tokens(
    folders: &ModelFolders,
    model: &Model,
    tokenizer: &Tokenizer,
    max_model_len: usize,
) -> Result<Vec<u32>, JobError> {
    let options = sampling_options();
    let generation = GenerationConfig::read(&folders.model, &model.config_json, options.generation_config)?;
    let sampling = Sampling::resolve(&options, &generation, tokenizer, model.config.vocab, max_model_len)?;
    Ok(sampling.params.stop_token_ids)
}

/// The column of answers under a JSON Schema.
fn answers(options: &JobOptions) -> Result<Option<AnswerColumns>, JobError> {
    let Some(StructuredOutputs::Json(schema)) = &options.structured else { return Ok(None) };
    let schema = AnswerSchema::read(schema).map_err(|error| JobError::Usage(format!("json: {error}")))?;
    let untyped = schema.untyped();
    if !untyped.is_empty() {
        let places = untyped.join(", ");
        tracing::warn!("strings of JSON, as the schema gives them no type of their own: {places}");
    }
    let fields = schema.chosen();
    let columns = AnswerColumns::new(schema);
    if !options.returns.contains(&ReturnColumn::FieldProbabilities) {
        return Ok(Some(columns));
    }
    let why = "--return field_probabilities: the schema has no enumeration and no boolean that is a column";
    fields.map(|fields| Some(columns.with_fields(fields))).ok_or_else(|| JobError::Usage(why.into()))
}

/// Compiles the structure of the answers, if they have one.
fn structure(
    options: &JobOptions,
    prompts: &Prompts,
    sampling: &Sampling,
    tokenizer: &Arc<Tokenizer>,
    vocab: usize,
    fields: Option<Arc<Chosen>>,
) -> Result<Option<Structure>, JobError> {
    let Some(outputs) = &options.structured else { return Ok(None) };
    if !sampling.text.stop.is_empty() {
        return Err(JobError::Usage(format!(
            "stop_strings of generation_config.json ({:?}) could end a structured output before it is whole; give \
             --generation-config none",
            sampling.text.stop
        )));
    }
    let wrong = |why: String| JobError::Usage(format!("structured outputs: {}: {why}", outputs.kind()));
    let vocabulary = Vocabulary::new(tokenizer, vocab, &sampling.params.stop_token_ids).map_err(wrong)?;
    let vocabulary = Arc::new(vocabulary);
    let structure = Structure::compile(outputs, &vocabulary).map_err(wrong)?;
    let structure = structure.with_fields(fields);
    let opened = || opens_reasoning(prompts, tokenizer).then(|| THINK_END.to_string());
    let Some(end) = options.reasoning_end.clone().or_else(opened) else { return Ok(Some(structure)) };
    let reasoning = Reasoning::new(&end, &vocabulary);
    let reasoning = reasoning.map_err(|why| JobError::Usage(format!("--reasoning-end {end}: {why}")))?;
    Ok(Some(structure.after(reasoning)))
}

/// What ends the reasoning that chat templates open.
const THINK_END: &str = "</think>";

/// Whether the chat template opens reasoning at the end of each prompt.
fn opens_reasoning(prompts: &Prompts, tokenizer: &Tokenizer) -> bool {
    let Ok(prompt) = prompts.of_messages(r#"[{"role": "user", "content": "a"}]"#, &BTreeMap::new()) else {
        return false;
    };
    let tail = &prompt.tokens[prompt.tokens.len().saturating_sub(THINK_END.len() + 8)..];
    tokenizer.decode(tail, false).is_ok_and(|text| text.trim_end().ends_with("<think>"))
}

/// What the requests of a batch may call the model: by the flag, else its name on a hub or that of its folder.
fn served_model_names(options: &JobOptions, folders: &ModelFolders) -> Vec<String> {
    if !options.served_model_names.is_empty() {
        return options.served_model_names.clone();
    }
    let path = Path::new(&folders.name);
    let folder = path.canonicalize().ok().filter(|path| path.is_dir() && folders.name != NANO);
    let name =
        folder.as_ref().and_then(|path| path.file_name()).map(|name| name.to_string_lossy().into_owned());
    let on_hub = || folders.name.split('@').next().unwrap_or_default().to_string();
    vec![name.unwrap_or_else(on_hub)]
}
