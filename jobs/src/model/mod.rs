//! Where a model's files are: a folder, a name on a hub, or this program itself.

pub mod builtin;
pub mod generation_config;
mod generation_keys;
#[cfg(feature = "hub")]
pub mod hub;

use crate::error::JobError;
use crate::options::model::{LoadFormat, ModelOptions};
use crate::store::location::refuse_url;
use engine::models::read_capped;
use std::fs::Metadata;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The folders of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelFolders {
    pub name: String,
    /// Configuration and weights.
    pub model: PathBuf,
    /// Usually the same folder.
    pub tokenizer: PathBuf,
}

impl ModelFolders {
    /// Finds the folders, fetching from a hub what is a name there.
    ///
    /// # Errors
    /// [`JobError::Usage`] without a model; [`JobError::Model`] for a path that is not a folder;
    /// [`JobError::Hub`].
    pub fn find(args: &ModelOptions) -> Result<ModelFolders, JobError> {
        let name = args.model.clone().ok_or_else(|| {
            JobError::Usage(
                "name a model with --model: a folder, org/name on the hub, or nano, which is built in".into(),
            )
        })?;
        let weights = args.load_format == LoadFormat::Auto;
        let model = folder(&name, args, weights)?;
        refuse_adapter(&model)?;
        let tokenizer = match &args.tokenizer {
            None => model.clone(),
            Some(tokenizer) => folder(tokenizer, args, false)?,
        };
        Ok(ModelFolders { name, model, tokenizer })
    }
}

/// Whether a model's files are on this machine, built in or in a folder, and not to be had from a hub.
pub fn is_here(args: &ModelOptions) -> bool {
    args.model.as_deref().is_none_or(|name| name == builtin::NANO || Path::new(name).is_dir())
}

/// Refuses the folder of a LoRA adapter, or of a model with one beside it, which transformers would put on top.
fn refuse_adapter(folder: &Path) -> Result<(), JobError> {
    let path = folder.join("adapter_config.json");
    if !path.is_file() {
        return Ok(());
    }
    let config: Option<serde_json::Value> =
        read_capped(&path, 1 << 20).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let base = config.as_ref().and_then(|config| config["base_model_name_or_path"].as_str());
    let base = base.map_or(String::new(), |base| format!(" of {base}"));
    let why = format!(
        "this is the folder of an adapter (LoRA){base}, and adapters are not supported; merge it into its base model \
         with PEFT's merge_and_unload, save that with save_pretrained, and name the folder that this makes"
    );
    Err(JobError::Model { path, why })
}

fn folder(name: &str, args: &ModelOptions, weights: bool) -> Result<PathBuf, JobError> {
    // The built-in model's name is not a path: a folder of that name is `./nano`.
    if name == builtin::NANO {
        return match &args.revision {
            Some(_) => Err(JobError::Usage("--revision is for names on the hub; nano is built in".into())),
            None => builtin::nano(),
        };
    }
    refuse_url(name).map_err(|why| JobError::Usage(format!("the model or tokenizer {why}")))?;
    let path = Path::new(name);
    let found = match std::fs::metadata(path) {
        Ok(metadata) => Some(metadata),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => None,
        Err(error) => return Err(JobError::io("look at the model", path)(error)),
    };
    if found.as_ref().is_some_and(Metadata::is_dir) {
        if args.revision.is_some() {
            return Err(JobError::Usage(format!("--revision is for names on the hub; {name} is a folder")));
        }
        return Ok(path.to_path_buf());
    }
    let fail = |why: &str| Err(JobError::Model { path: path.to_path_buf(), why: why.into() });
    if found.is_some() {
        return fail("is a file; --model takes the folder that holds config.json and the weights");
    }
    if path.is_absolute() || name.starts_with('.') || name.ends_with('/') {
        return fail("no such folder");
    }
    from_hub(name, args, weights)
}

#[cfg(feature = "hub")]
fn from_hub(name: &str, args: &ModelOptions, weights: bool) -> Result<PathBuf, JobError> {
    use crate::model::hub::{Hub, Need};
    let (name, at) = name.split_once('@').map_or((name, None), |(name, at)| (name, Some(at)));
    let revision = match (at, args.revision.as_deref()) {
        (Some(at), Some(given)) if at != given => {
            return Err(JobError::Usage(format!("--model names revision {at}, but --revision is {given}")));
        }
        (at, given) => at.or(given).unwrap_or("main"),
    };
    let need = if weights { Need::All } else { Need::NoWeights };
    Hub::from_env(args.download_dir.as_deref()).folder(name, revision, need)
}

#[cfg(not(feature = "hub"))]
fn from_hub(name: &str, _: &ModelOptions, _: bool) -> Result<PathBuf, JobError> {
    let why = "no such folder, and this build cannot fetch from a hub (feature `hub`)".into();
    Err(JobError::Model { path: name.into(), why })
}
