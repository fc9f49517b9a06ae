//! What makes two runs of this job the same: its identity and its inputs.

use crate::batch::BATCH_VERSION;
use crate::date;
use crate::digest::{digest_bytes, digest_files};
use crate::error::JobError;
use crate::input::file::InputFile;
use crate::input::partitions::shown;
use crate::journal::decisions::{
    BatchDecisions, ColumnDecisions, Decisions, FileDigests, PromptDecisions, SamplingDecisions, TypeNames,
};
use crate::journal::identity::{Identity, InputDigest, InputDigests, JobIdentity, numerics_version};
use crate::options::engine::{EngineOptions, engine_config};
use crate::options::job::JobOptions;
use crate::options::model::{LoadFormat, ModelOptions};
use crate::options::prompt::PromptOptions;
use crate::options::sampling::SamplingOptions;
use crate::prompt::PROMPTS_VERSION;
use crate::run::job::Job;
use crate::structured::reasoning::Reasoning;
use engine::Types;
use engine::device::DeviceInfo;
use engine::file::VerifiedFile;
use engine::format::Format;
use std::path::Path;
use std::sync::Arc;

/// The identity of a job on a device: everything that decides its answers, and nothing else.
///
/// Options are taken apart field by field, so that a new one forces a decision; so are flags in
/// [`crate::cli::args::RunArgs::job_options`].
///
/// # Errors
/// [`JobError::Io`] for a file that cannot be digested; [`JobError::Engine`] for a type that the device does not take.
pub fn identity(job: &Job, device: &DeviceInfo) -> Result<JobIdentity, JobError> {
    let JobOptions {
        // Inputs have digests of their own.
        input: _,
        input_format: _,
        // The job has the names resolved.
        batch: _,
        served_model_names: _,
        // Paths, and how much of the job to do and to publish.
        output: _,
        state_dir: _,
        limit: _,
        keep: _,
        column_prefix: _,
        rows_per_file: _,
        shard: _,
        // How many errors to take, and what to do about what was begun.
        max_error_rate: _,
        max_errors: _,
        stop_on_errors: _,
        on_corrupt: _,
        resume: _,
        take_over: _,
        fresh: _,
        retry: _,
        // Answers are the same without.
        share_prompts: _,
        prices: _,
        metrics: _,
        returns,
        columns,
        documents,
        structured,
        // The job has it resolved.
        reasoning_end: _,
        prompt,
        sampling,
        model,
        engine,
    } = &job.options;
    let decisions = Decisions {
        numerics_version: numerics_version(device.kind),
        device: device.family,
        files: file_digests(job, model)?,
        types: type_names(job, device, engine)?,
        gemm: engine.gemm,
        outside_numeric_contract: device.breaks_contract.is_some(),
        float32_matmul_precision: engine.float32_matmul_precision,
        max_model_len: job.max_model_len,
        input_schema: job.input.inferred().map(|schema| digest_bytes(schema.as_bytes())),
        prompt: prompt_decisions(job, prompt),
        sampling: sampling_decisions(job, sampling),
        returns,
        columns: job
            .choices
            .as_ref()
            .map(|choices| ColumnDecisions { columns, end_token_ids: &choices.end_tokens }),
        documents: documents.as_ref(),
        structured: structured.as_ref(),
        reasoning_end: job.reasoning().map(Reasoning::text),
        batch: job.batch.as_ref().map(|batch| BatchDecisions {
            version: BATCH_VERSION,
            served_model_names: &batch.served_model_names,
        }),
    };
    Ok(decisions.job_identity())
}

/// The part of the identity that says what prompts are made of, but for the input: it needs neither weights nor a device.
pub fn prompt_identity(job: &Job) -> Identity {
    let files = &job.tokenizer_digests;
    prompt_decisions(job, &job.options.prompt).identity(&files.tokens, files.config.as_deref())
}

/// Of what was loaded: texts that were read once, and weights whose every read is held against their digest.
fn file_digests(job: &Job, options: &ModelOptions) -> Result<FileDigests, JobError> {
    // A model is its files, wherever they come from.
    let ModelOptions { model: _, revision: _, tokenizer: _, download_dir: _, load_format } = options;
    let loaded = job.model.checkpoint.as_ref().map_or(&[][..], |checkpoint| checkpoint.files());
    Ok(FileDigests {
        config: Some(digest_bytes(&job.model.config_json)),
        tokenizer: Some(job.tokenizer_digests.tokens.clone()),
        tokenizer_config: job.tokenizer_digests.config.clone(),
        weights: match load_format {
            LoadFormat::Auto => digest_files(&weight_files(&job.folders.model, loaded)?)?,
            LoadFormat::Dummy => "dummy".into(),
        },
    })
}

fn type_names(job: &Job, device: &DeviceInfo, options: &EngineOptions) -> Result<TypeNames, JobError> {
    let EngineOptions {
        // The device's family says what matters of it.
        device: _,
        // How much to do at once, and in how much memory.
        threads: _,
        max_num_seqs: _,
        max_num_batched_tokens: _,
        block_size: _,
        gpu_memory_utilization: _,
        kv_cache_memory_bytes: _,
        enable_prefix_caching: _,
        // The job has it resolved.
        max_model_len: _,
        gemm: _,
        float32_matmul_precision: _,
        dtype,
        kv_cache_dtype,
        quantization,
    } = options;
    let Types { activations, kv, weights } = Types::resolve(&job.model, device, &engine_config(options))?;
    Ok(TypeNames {
        activations: activations.name(),
        kv: kv.name(),
        weights: weights.iter().map(|format| format.name()).collect(),
        quantization: quantization.map(Format::name),
        dtype_flag: *dtype,
        kv_cache_dtype_flag: *kv_cache_dtype,
    })
}

fn prompt_decisions<'a>(job: &'a Job, options: &'a PromptOptions) -> PromptDecisions<'a> {
    let PromptOptions {
        prompt,
        prompt_column,
        messages_column,
        prompt_tokens_column,
        system_prompt,
        // Shows in whether the chat template is used.
        raw: _,
        chat_template,
        chat_template_kwargs,
        // Its text is in `prompt`.
        prompt_file: _,
        // Refuses or not.
        allow_constant_prompt: _,
        // Shows in the columns.
        asks: _,
        // Shows in the documents.
        given: _,
    } = options;
    let template = chat_template.as_ref().or(job.chat_template.as_ref());
    let template = template.filter(|_| job.prompts.uses_chat_template());
    let mut decisions = PromptDecisions {
        version: prompt_tokens_column.is_none().then_some(PROMPTS_VERSION),
        prompt: prompt.as_deref(),
        prompt_column: prompt_column.as_deref(),
        messages_column: messages_column.as_deref(),
        prompt_tokens_column: prompt_tokens_column.as_deref(),
        is_default: job.batch.is_none()
            && [prompt, prompt_column, messages_column, prompt_tokens_column].iter().all(|o| o.is_none()),
        system_prompt: system_prompt.as_deref(),
        chat_template: template.map(|text| digest_bytes(text.as_bytes())),
        chat_template_kwargs: chat_template_kwargs.as_ref(),
        // Results of a batch show it, too.
        date: (job.shows_date() || job.batch.is_some()).then(|| date::shown(job.date)),
    };
    if decisions.is_default && job.documents.is_none() {
        let column =
            job.prompts.columns().first().map(|&column| job.input.schema.field(column).name().as_str());
        match column {
            Some("messages") => decisions.messages_column = column,
            _ => decisions.prompt_column = column,
        }
    }
    decisions
}

fn sampling_decisions<'a>(job: &'a Job, options: &'a SamplingOptions) -> SamplingDecisions<'a> {
    let SamplingOptions {
        // The job has these resolved.
        n: _,
        temperature: _,
        top_p: _,
        top_k: _,
        min_p: _,
        presence_penalty: _,
        frequency_penalty: _,
        repetition_penalty: _,
        stop: _,
        stop_token_ids: _,
        max_tokens: _,
        min_tokens: _,
        logprobs: _,
        prompt_logprobs: _,
        skip_special_tokens: _,
        include_stop_str_in_output: _,
        logit_bias: _,
        allowed_token_ids: _,
        // Shows in the resolved values.
        generation_config: _,
        seed,
        bad_words,
        ignore_eos,
    } = options;
    let sampling = &job.sampling;
    SamplingDecisions {
        n: sampling.n,
        seed: *seed,
        params: &sampling.params,
        stop: &sampling.text.stop,
        include_stop_str_in_output: sampling.text.include_stop_str_in_output,
        skip_special_tokens: sampling.text.skip_special_tokens,
        bad_words,
        ignore_eos: *ignore_eos,
    }
}

/// What the inputs are, to which every later read is held.
///
/// # Errors
/// [`JobError::Io`], [`JobError::Changed`] or [`JobError::Store`].
pub fn input_digests(job: &Job) -> Result<InputDigests, JobError> {
    let digest = |file: &InputFile| {
        let (size, mut digest) = file.source.identify()?;
        digest += &shown(&file.partition);
        Ok(InputDigest { path: file.path.clone(), size, rows: file.rows(), digest })
    };
    Ok(InputDigests(job.input.files.iter().map(digest).collect::<Result<_, JobError>>()?))
}

/// The weight files of a folder: those that are loaded, and all others.
fn weight_files(folder: &Path, loaded: &[Arc<VerifiedFile>]) -> Result<Vec<Arc<VerifiedFile>>, JobError> {
    let mut files = loaded.to_vec();
    for entry in std::fs::read_dir(folder).map_err(JobError::io("list", folder))? {
        let path = entry.map_err(JobError::io("list", folder))?.path();
        let weights = path.extension().is_some_and(|end| end == "safetensors");
        if weights && loaded.iter().all(|file| file.path() != path) {
            files.push(Arc::new(VerifiedFile::new(path)));
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests;
