//! Rows of a batch: each line becomes the request that it is, or the error that its result says.

use crate::batch::body::{Ask, Body};
use crate::batch::custom_ids::RepeatedIds;
use crate::batch::envelope::{Endpoint, Envelope};
use crate::batch::sampling::RequestSampling;
use crate::batch::structures::Structures;
use crate::error::JobError;
use crate::model::generation_config::GenerationConfig;
use crate::options::sampling::SamplingOptions;
use crate::prompt::prompts::{Prompts, RowPrompt};
use crate::prompt::rendering::Rendering;
use crate::prompt::tokenizer::Tokenizer;
use crate::row_error::{RowError, RowErrorKind};
use crate::run::request::RowRequest;
use crate::run::sampling::Sampling;
use crate::structured::StructuredOutputs;
use std::sync::Arc;

/// Tokens of an answer at `/v1/completions` where nothing says how many, as at OpenAI.
const COMPLETION_TOKENS: u32 = 16;

/// What all requests of a batch are answered with.
pub struct BatchRequests {
    /// The names that a request may give the model; any of them, or none, is this one.
    pub served_model_names: Vec<String>,
    pub repeated: RepeatedIds,
    /// What holds where a request does not say otherwise.
    pub options: SamplingOptions,
    pub generation: GenerationConfig,
    pub tokenizer: Arc<Tokenizer>,
    pub vocab: usize,
    pub structures: Structures,
}

impl BatchRequests {
    /// The request of a line, and the structure that it asks for, which is compiled when it is about to run.
    ///
    /// # Errors
    /// What its result says instead of an answer.
    pub fn of_line(&self, prompts: &Prompts, line: &[u8], row: u64) -> Result<AskedRow, RowError> {
        self.asked(prompts, line, row).map(|(asked, _)| asked)
    }

    /// A request with its structure.
    ///
    /// # Errors
    /// What of it cannot be enforced.
    pub fn with_structure(&self, asked: AskedRow) -> Result<RowRequest, RowError> {
        let AskedRow { request, structured } = asked;
        let Some((field, outputs)) = structured else { return Ok(request) };
        let structure = self.structures.get(&outputs, &request.sampling.params.stop_token_ids);
        let tokens = request.prompt.len() as u32;
        let structure = structure.map_err(|why| wrong(field, &why).with_tokens(tokens))?;
        Ok(RowRequest { structure: Some(structure), ..request })
    }

    /// The prompt of a line, for people.
    ///
    /// # Errors
    /// As [`BatchRequests::of_line`].
    pub fn prompt(&self, prompts: &Prompts, line: &[u8], row: u64) -> Result<RowPrompt, RowError> {
        let (asked, rendering) = self.asked(prompts, line, row)?;
        Ok(RowPrompt { tokens: self.with_structure(asked)?.prompt, rendering })
    }

    fn asked(
        &self,
        prompts: &Prompts,
        line: &[u8],
        row: u64,
    ) -> Result<(AskedRow, Option<Rendering>), RowError> {
        let (Body { model: _, ask, sampling, structured }, endpoint) = self.body(line, row)?;
        let RowPrompt { tokens: prompt, rendering } = prompt(prompts, &ask)?;
        let tokens = prompt.len() as u32;
        let bad = |error: RowError| error.with_tokens(tokens);
        let other_end = structured.as_ref().and_then(|_| other_end(&sampling));
        let is_structured = structured.is_some();
        let sampling =
            self.sampling(sampling, endpoint, is_structured, prompts.max_model_len()).map_err(bad)?;
        if let Some((field, _)) = &structured {
            let other_end = other_end.or_else(|| self.opens_reasoning(&prompt).then_some(THINKS));
            check_end(field, &sampling, other_end).map_err(bad)?;
        }
        let (structure, sampling) = (None, Arc::new(sampling));
        let request =
            RowRequest { row, part: None, prompt, sampling, structure, choices: None, alone: false };
        Ok((AskedRow { request, structured }, rendering))
    }

    /// Whether a prompt ends with the tag by which chat templates open reasoning.
    fn opens_reasoning(&self, prompt: &[u32]) -> bool {
        const OPEN: &str = "<think>";
        let tail = &prompt[prompt.len().saturating_sub(OPEN.len() + 8)..];
        self.tokenizer.decode(tail, false).is_ok_and(|text| text.trim_end().ends_with(OPEN))
    }

    fn body(&self, line: &[u8], row: u64) -> Result<(Body, Endpoint), RowError> {
        let bad_line = |why: String| RowError::new(RowErrorKind::BadLine, why);
        let envelope = Envelope::read(line).map_err(|bad| bad_line(bad.message))?;
        if let Some(first) = self.repeated.first(row) {
            return Err(bad_line(format!("its custom_id is that of request {first}, counted from 0")));
        }
        let body = Body::read(envelope.endpoint, &envelope.body)
            .map_err(|why| RowError::new(RowErrorKind::BadRequest, why))?;
        if let Some(model) = body.model.as_ref().filter(|model| !model.is_empty())
            && !self.served_model_names.contains(model)
        {
            let served = self.served_model_names.join("`, `");
            let why = format!(
                "`model` is {model:?}, and this job serves `{served}`; a job of its own that is begun with \
                 --served-model-name serves other names, and this one keeps its own"
            );
            return Err(RowError::new(RowErrorKind::UnknownModel, why));
        }
        Ok((body, envelope.endpoint))
    }

    /// How a request is answered.
    fn sampling(
        &self,
        asked: RequestSampling,
        endpoint: Endpoint,
        is_structured: bool,
        max_model_len: usize,
    ) -> Result<Sampling, RowError> {
        let own_seed = asked.seed.is_some();
        let (mut options, keep) = if is_structured {
            // What ends other answers of the job does not end one that ends with its structure.
            let (stop, stop_token_ids) = (Vec::new(), Vec::new());
            asked.over(&SamplingOptions { stop, stop_token_ids, ignore_eos: false, ..self.options.clone() })
        } else {
            asked.over(&self.options)
        };
        let room = u32::try_from(max_model_len.saturating_sub(1)).unwrap_or(u32::MAX);
        let given = options.max_tokens.or(self.generation.max_new_tokens);
        let default = match endpoint {
            Endpoint::Chat => room,
            Endpoint::Completions => COMPLETION_TOKENS,
        };
        // An answer ends at the end of the context in any case.
        options.max_tokens = Some(given.unwrap_or(default).min(room));
        let sampling =
            Sampling::resolve(&options, &self.generation, &self.tokenizer, self.vocab, max_model_len);
        let sampling =
            sampling.map_err(|error| RowError::new(RowErrorKind::BadRequest, field_error(error)))?;
        Ok(sampling.of_request(keep, own_seed))
    }
}

/// A request whose structure is not compiled yet.
pub struct AskedRow {
    pub request: RowRequest,
    /// The field that asks for a structure, and which.
    pub structured: Option<(&'static str, StructuredOutputs)>,
}

/// What is wrong with a structure.
fn wrong(field: &str, why: &str) -> RowError {
    RowError::new(RowErrorKind::BadRequest, format!("`{field}`: {why}"))
}

/// The structure of a request alone may end its answer.
fn check_end(field: &str, sampling: &Sampling, other_end: Option<&str>) -> Result<(), RowError> {
    if let Some(why) = other_end {
        return Err(wrong(field, why));
    }
    if !sampling.text.stop.is_empty() {
        let why = format!(
            "stop_strings of generation_config.json ({:?}) could end the text before it is whole; give \
             --generation-config none",
            sampling.text.stop
        );
        return Err(wrong(field, &why));
    }
    Ok(())
}

const THINKS: &str = "the chat template opens <think>, and a structure would keep the model from thinking; leave it out, or let \
                      the template open nothing (chat_template_kwargs)";

/// What of a request with a structure would end its answer elsewhere.
fn other_end(asked: &RequestSampling) -> Option<&'static str> {
    if asked.stop.as_ref().is_some_and(|stop| !stop.is_empty()) {
        Some("a stop string could end the text before it is whole; leave out `stop`")
    } else if asked.stop_token_ids.as_ref().is_some_and(|ids| !ids.is_empty()) {
        Some("a stop token could end the text before it is whole; leave out `stop_token_ids`")
    } else if asked.ignore_eos == Some(true) {
        Some("`ignore_eos` leaves the text no end; leave it out")
    } else {
        None
    }
}

fn prompt(prompts: &Prompts, ask: &Ask) -> Result<RowPrompt, RowError> {
    match ask {
        Ask::Messages(messages, names) => prompts.of_messages(messages, names),
        Ask::Text(text) => prompts.of_text(text),
        Ask::Tokens(tokens) => prompts.of_tokens(tokens.clone()),
    }
}

/// An error about a flag as one about the field of the same name.
fn field_error(error: JobError) -> String {
    let text = error.to_string();
    let Some((flag, rest)) = text.strip_prefix("--").and_then(|flag| flag.split_once(' ')) else {
        return text;
    };
    format!("`{}` {rest}", flag.trim_end_matches(':').replace('-', "_"))
}
