//! Everything that decides the answers of a job, resolved, and the identity that is made of it.
//!
//! What is part of the identity is destructured field by field here and in [`crate::journal::format1`], so that a new
//! field forces a decision in both.

use crate::digest::digest_bytes;
use crate::journal::identity::Identity;
use crate::journal::length_limits::{MAX_MODEL_LEN, MAX_TOKENS};
use crate::options::columns::ColumnOptions;
use crate::options::device::{Gemm, Precision};
use crate::options::documents::DocumentOptions;
use crate::options::engine::Dtype;
use crate::options::job::ReturnColumn;
use crate::structured::{LLGUIDANCE, StructuredOutputs};
use clap::ValueEnum;
use engine::request::SamplingParams;
use minijinja::Value;
use std::collections::BTreeMap;

/// Everything that decides the answers of a job.
#[derive(Clone, Debug)]
pub struct Decisions<'a> {
    pub numerics_version: u32,
    /// The family of instructions, [`engine::device::DeviceInfo::family`].
    pub device: &'static str,
    pub files: FileDigests,
    pub types: TypeNames,
    pub gemm: Gemm,
    /// Answers may depend on the rows that share their steps.
    pub outside_numeric_contract: bool,
    pub float32_matmul_precision: Precision,
    pub max_model_len: usize,
    /// The digest of the columns and their types, where these are inferred.
    pub input_schema: Option<String>,
    pub prompt: PromptDecisions<'a>,
    pub sampling: SamplingDecisions<'a>,
    pub returns: &'a [ReturnColumn],
    /// Columns of choices, for which sampling and `returns` decide nothing but the notes of documents.
    pub columns: Option<ColumnDecisions<'a>>,
    pub documents: Option<&'a DocumentOptions>,
    /// What generated text must be.
    pub structured: Option<&'a StructuredOutputs>,
    /// What ends the reasoning before it.
    pub reasoning_end: Option<&'a str>,
    /// What a batch's requests are answered by, where the input is one.
    pub batch: Option<BatchDecisions<'a>>,
}

/// What the requests of a batch are answered by, beside what they say themselves.
#[derive(Clone, Debug)]
pub struct BatchDecisions<'a> {
    /// [`crate::batch::BATCH_VERSION`].
    pub version: u32,
    pub served_model_names: &'a [String],
}

/// What columns of choices are scored by.
#[derive(Clone, Debug)]
pub struct ColumnDecisions<'a> {
    pub columns: &'a [ColumnOptions],
    pub end_token_ids: &'a [u32],
}

/// Digests of the model's files, where they are there.
#[derive(Clone, Debug, Default)]
pub struct FileDigests {
    pub config: Option<String>,
    pub tokenizer: Option<String>,
    pub tokenizer_config: Option<String>,
    /// Or "dummy".
    pub weights: String,
}

/// The types that model, device and options resolve to, by name.
#[derive(Clone, Debug)]
pub struct TypeNames {
    pub activations: &'static str,
    /// Of KV pages.
    pub kv: &'static str,
    /// The formats of weights, each once.
    pub weights: Vec<&'static str>,
    /// The format to which weights are converted, if they are.
    pub quantization: Option<&'static str>,
    /// What the flags say. Only format 1 has these.
    pub dtype_flag: Dtype,
    pub kv_cache_dtype_flag: Dtype,
}

/// What prompts are made of.
#[derive(Clone, Debug, Default)]
pub struct PromptDecisions<'a> {
    /// [`crate::prompt::PROMPTS_VERSION`], where prompts are made of text and not of token ids.
    pub version: Option<u32>,
    pub prompt: Option<&'a str>,
    pub prompt_column: Option<&'a str>,
    pub messages_column: Option<&'a str>,
    pub prompt_tokens_column: Option<&'a str>,
    /// No flag names one of these four. Only format 1 tells.
    pub is_default: bool,
    pub system_prompt: Option<&'a str>,
    /// The digest of the chat template, if it is used.
    pub chat_template: Option<String>,
    pub chat_template_kwargs: Option<&'a BTreeMap<String, Value>>,
    /// The day, where templates show it.
    pub date: Option<String>,
}

/// How rows are answered.
#[derive(Clone, Debug)]
pub struct SamplingDecisions<'a> {
    pub n: u32,
    pub seed: u64,
    pub params: &'a SamplingParams,
    pub stop: &'a [String],
    pub include_stop_str_in_output: bool,
    pub skip_special_tokens: bool,
    /// The words and the flag, which `params` has as tokens. Only format 1 has these.
    pub bad_words: &'a [String],
    pub ignore_eos: bool,
}

impl Decisions<'_> {
    /// The identity as new journals have it.
    pub(crate) fn identity(&self) -> Identity {
        let Decisions {
            numerics_version,
            device,
            files: FileDigests { config, tokenizer, tokenizer_config, weights },
            types,
            gemm,
            outside_numeric_contract,
            float32_matmul_precision,
            max_model_len,
            input_schema,
            prompt,
            sampling,
            returns,
            columns,
            documents,
            structured,
            reasoning_end,
            batch,
        } = self;
        let TypeNames {
            activations,
            kv,
            weights: weight_formats,
            quantization,
            dtype_flag: _,
            kv_cache_dtype_flag: _,
        } = types;
        let mut identity = Identity::default();
        identity.push("numerics_version", numerics_version);
        identity.push("config", config);
        identity.push("tokenizer", tokenizer);
        identity.push("tokenizer_config", tokenizer_config);
        identity.push("weights", weights);
        identity.push("device", device);
        identity.push("activations", activations);
        identity.push("kv_cache", kv);
        identity.push("weight_formats", weight_formats);
        identity.push("quantization", quantization);
        identity.push("gemm", name(gemm));
        identity.push("outside_numeric_contract", outside_numeric_contract.then_some(true));
        identity.push("float32_matmul_precision", name(float32_matmul_precision));
        identity.push(MAX_MODEL_LEN, max_model_len);
        identity.push("input_schema", input_schema);
        prompt.add_to(&mut identity);
        identity.push("documents", documents);
        if let Some(BatchDecisions { version, served_model_names }) = batch {
            identity.push("batch_version", version);
            identity.push("served_model_names", served_model_names);
        }
        match columns {
            None => {
                sampling.add_to(&mut identity);
                identity.push("return", return_names(returns));
                identity.push("structured_outputs", structured.map(shown));
                // Any request of a batch may have a structure.
                let follows = structured.is_some() || batch.is_some();
                identity.push("llguidance", follows.then_some(LLGUIDANCE));
                identity.push("reasoning_end", reasoning_end);
            }
            Some(ColumnDecisions { columns, end_token_ids }) => {
                if documents.is_some() {
                    // Notes are generated; of what is returned, only chunks are kept.
                    sampling.add_to(&mut identity);
                    let chunks = returns.iter().copied().filter(|column| !column.is_of_choices());
                    identity.push("return", return_names(&chunks.collect::<Vec<_>>()));
                }
                identity.push("columns", columns);
                identity.push("end_token_ids", end_token_ids);
            }
        }
        identity
    }
}

/// The fields of an identity that say what prompts are made of.
pub fn prompt_fields(identity: &Identity) -> Identity {
    const FIELDS: [&str; 11] = [
        "tokenizer",
        "tokenizer_config",
        "prompts_version",
        "prompt",
        "prompt_column",
        "messages_column",
        "prompt_tokens_column",
        "system_prompt",
        "chat_template",
        "chat_template_kwargs",
        DATE,
    ];
    identity.only(&FIELDS)
}

impl PromptDecisions<'_> {
    /// The fields of the identity that say what prompts are made of, with the digests of the tokenizer's files.
    pub fn identity(&self, tokenizer: &str, tokenizer_config: Option<&str>) -> Identity {
        let mut identity = Identity::default();
        identity.push("tokenizer", tokenizer);
        identity.push("tokenizer_config", tokenizer_config);
        self.add_to(&mut identity);
        identity
    }

    fn add_to(&self, identity: &mut Identity) {
        let PromptDecisions {
            version,
            prompt,
            prompt_column,
            messages_column,
            prompt_tokens_column,
            is_default: _,
            system_prompt,
            chat_template,
            chat_template_kwargs,
            date,
        } = self;
        identity.push("prompts_version", version);
        identity.push("prompt", prompt);
        identity.push("prompt_column", prompt_column);
        identity.push("messages_column", messages_column);
        identity.push("prompt_tokens_column", prompt_tokens_column);
        identity.push("system_prompt", system_prompt);
        identity.push("chat_template", chat_template);
        // A template may see the order of keys, which JSON within JSON does not promise to keep.
        let kwargs = chat_template_kwargs.map(|names| serde_json::to_string(names).unwrap_or_default());
        identity.push("chat_template_kwargs", kwargs);
        identity.push(DATE, date);
    }
}

/// The field of the identity that holds the date, where templates show it. Every format calls it so.
pub const DATE: &str = "date";

impl SamplingDecisions<'_> {
    fn add_to(&self, identity: &mut Identity) {
        let SamplingDecisions {
            n,
            seed,
            params,
            stop,
            include_stop_str_in_output,
            skip_special_tokens,
            bad_words: _,
            ignore_eos: _,
        } = self;
        let SamplingParams {
            temperature,
            top_p,
            top_k,
            min_p,
            presence_penalty,
            frequency_penalty,
            repetition_penalty,
            logit_bias,
            allowed_token_ids,
            bad_words,
            stop_token_ids,
            min_tokens,
            max_tokens,
            logprobs,
            prompt_logprobs,
            // A function of seed, row and completion.
            key: _,
        } = params;
        identity.push("n", n);
        identity.push("temperature", temperature);
        identity.push("top_p", top_p);
        identity.push("top_k", top_k);
        identity.push("min_p", min_p);
        identity.push("presence_penalty", presence_penalty);
        identity.push("frequency_penalty", frequency_penalty);
        identity.push("repetition_penalty", repetition_penalty);
        identity.push("seed", seed);
        identity.push("stop", stop);
        identity.push("stop_token_ids", stop_token_ids);
        identity.push(MAX_TOKENS, max_tokens);
        identity.push("min_tokens", min_tokens);
        identity.push("logprobs", logprobs);
        identity.push("prompt_logprobs", prompt_logprobs);
        identity.push("skip_special_tokens", skip_special_tokens);
        identity.push("include_stop_str_in_output", include_stop_str_in_output);
        identity.push("logit_bias", logit_bias);
        identity.push("allowed_token_ids", allowed_token_ids);
        identity.push("bad_words", bad_words);
    }
}

/// A structure by its kind, and its text or a digest of that.
fn shown(structured: &StructuredOutputs) -> BTreeMap<&'static str, String> {
    const SHORT: usize = 200;
    let text = Some(structured.text()).filter(|text| text.len() <= SHORT);
    let text = text.unwrap_or_else(|| format!("blake3 {}", digest_bytes(structured.text().as_bytes())));
    BTreeMap::from([(structured.kind(), text)])
}

/// The flag's name of a value.
fn name(value: &impl ValueEnum) -> Option<String> {
    value.to_possible_value().map(|value| value.get_name().to_string())
}

/// The names of columns in their own order, each once.
fn return_names(returns: &[ReturnColumn]) -> Vec<String> {
    ReturnColumn::value_variants().iter().filter(|column| returns.contains(column)).filter_map(name).collect()
}
