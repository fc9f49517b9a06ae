//! What makes two runs of this job the same: its identity and its inputs.

use crate::date;
use crate::digest::{digest_bytes, digest_file, digest_files};
use crate::error::JobError;
use crate::input::file::InputFile;
use crate::journal::identity::{Identity, InputDigest, InputDigests};
use crate::options::device::Gemm;
use crate::options::model::LoadFormat;
use crate::prompt::chat::template_or_file;
use crate::prompt::tokenizer::files::token_files;
use crate::run::job::Job;
use crate::run::resume::DATE;
use engine::format::Format;
use std::path::{Path, PathBuf};

/// Everything that decides the answers of a job on a kind of device.
///
/// # Errors
/// [`JobError::Io`] for a file that cannot be digested.
pub fn identity(job: &Job, device: &str) -> Result<Identity, JobError> {
    let mut identity = Identity::new();
    let mut file = |field: &str, path: PathBuf| -> Result<(), JobError> {
        let digest = if path.is_file() { digest_file(&path)? } else { "(none)".into() };
        identity.push(field, digest);
        Ok(())
    };
    file("config", job.folders.model.join("config.json"))?;
    for (field, path) in token_files(&job.folders.tokenizer) {
        file(field, path)?;
    }
    let weights = match job.options.model.load_format {
        LoadFormat::Auto => digest_files(&weight_files(&job.folders.model)?)?,
        LoadFormat::Dummy => "dummy".into(),
    };
    identity.push("weights", weights);
    identity.push("device", device);
    identity.push("dtype", format!("{:?}", job.options.engine.dtype));
    identity.push("kv cache dtype", format!("{:?}", job.options.engine.kv_cache_dtype));
    if let Some(quantization) = job.options.engine.quantization {
        identity.push("quantization", Format::from(quantization).name());
    }
    identity.push("gemm", gemm_named(job.options.engine.gemm));
    identity.push(
        "float32 matmul precision",
        format!("{:?}", job.options.engine.float32_matmul_precision).to_lowercase(),
    );
    identity.push("max model len", job.max_model_len.to_string());
    let p = &job.options.prompt;
    let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "(none)".into());
    identity.push("prompt", text(&p.prompt));
    identity.push("prompt column", text(&p.prompt_column));
    identity.push("messages column", text(&p.messages_column));
    identity.push("prompt tokens column", text(&p.prompt_tokens_column));
    identity.push("system prompt", text(&p.system_prompt));
    // The text, not the name of a file that may hold another text tomorrow.
    let given = p.chat_template.as_deref().map(template_or_file).transpose()?;
    let template = given.as_ref().or(job.chat_template.as_ref());
    let template = template.filter(|_| job.prompts.uses_chat_template());
    identity.push("chat template", template.map_or("(none)".into(), |text| digest_bytes(text.as_bytes())));
    identity.push("chat template kwargs", format!("{:?}", p.chat_template_kwargs));
    if job.prompts.shows_date() {
        identity.push(DATE, date::shown(job.date));
    }
    for (name, value) in job.sampling.fields() {
        identity.push(name, value);
    }
    identity.push("return", format!("{:?}", job.options.returns));
    Ok(identity)
}

/// The inputs as they are now.
///
/// # Errors
/// [`JobError::Io`] or [`JobError::Store`].
pub fn input_digests(job: &Job) -> Result<InputDigests, JobError> {
    let digest = |file: &InputFile| {
        let (size, digest) = file.source.identify()?;
        Ok(InputDigest { path: file.path.clone(), size, rows: file.rows(), digest })
    };
    Ok(InputDigests(job.input.files.iter().map(digest).collect::<Result<_, JobError>>()?))
}

/// A field of the identity: a job is not begun with one and ended with the other.
fn gemm_named(gemm: Gemm) -> &'static str {
    match gemm {
        Gemm::Builtin => "builtin",
        Gemm::Cublaslt => "cublaslt, outside the numeric contract",
    }
}

/// The weight files of a folder, sorted.
fn weight_files(folder: &Path) -> Result<Vec<PathBuf>, JobError> {
    let entries = std::fs::read_dir(folder).map_err(JobError::io("list", folder))?;
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.map(|entry| entry.path()).map_err(JobError::io("list", folder)))
        .collect::<Result<_, _>>()?;
    files.retain(|path| path.extension().is_some_and(|end| end == "safetensors"));
    files.sort();
    Ok(files)
}
