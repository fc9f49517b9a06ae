//! Models from a hub, through the cache that all Hugging Face tools share.
//!
//! `HF_ENDPOINT` names another hub, `HF_HOME` the cache, `HF_TOKEN` what to sign in with, and `HF_HUB_OFFLINE=1` keeps
//! every byte on this machine.

use crate::error::JobError;
use engine::models::refused_format;
use hf_hub::api::sync::{ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, Repo, RepoType};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The files of a model besides its weights; not every model has all of them.
const FILES: [&str; 7] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
];

/// The list of shards.
const INDEX: &str = "model.safetensors.index.json";

/// What to fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Configuration, tokenizer and weights.
    All,
    /// All but the weights.
    NoWeights,
}

/// Where a hub is and what it may do.
#[derive(Clone, Debug)]
pub struct Hub {
    /// Its address.
    pub endpoint: String,
    /// The folder of the cache.
    pub cache: PathBuf,
    /// Whether the network is not to be used.
    pub offline: bool,
    /// What to sign in with.
    pub token: Option<String>,
}

impl Hub {
    /// The hub that the environment names, with another folder for its cache if one is given.
    pub fn from_env(cache: Option<&Path>) -> Hub {
        let own = Cache::from_env();
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let offline = set("HF_HUB_OFFLINE")
            .is_some_and(|v| matches!(&*v.to_ascii_lowercase(), "1" | "true" | "yes" | "on"));
        Hub {
            endpoint: set("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".into()),
            cache: cache.map_or_else(|| own.path().clone(), Path::to_path_buf),
            offline,
            token: set("HF_TOKEN").or_else(|| own.token()),
        }
    }

    /// The folder of a model in the cache, after what is missing was fetched.
    ///
    /// # Errors
    /// [`JobError::Hub`] with what is missing and what to do.
    pub fn folder(&self, name: &str, revision: &str, need: Need) -> Result<PathBuf, JobError> {
        let model = || format!("{name}@{revision}");
        let fail = |why: String| JobError::Hub { model: model(), why, unreachable: false };
        if !is_name(name) || !is_revision(revision) {
            return Err(fail(
                "is neither a folder nor a name on the hub, which is org/name or org/name@revision".into(),
            ));
        }
        if self.offline {
            return self.cached(name, revision, need).map_err(fail);
        }
        self.fetch(name, revision, need).map_err(|Refusal { why, unreachable }| JobError::Hub {
            model: model(),
            why,
            unreachable,
        })
    }

    fn cached(&self, name: &str, revision: &str, need: Need) -> Result<PathBuf, String> {
        let repo = Cache::new(self.cache.clone()).repo(repo(name, revision));
        let missing = |file: &str| {
            let cache = self.cache.display();
            format!("{file} is not in the cache {cache}, and HF_HUB_OFFLINE is set; run once without it")
        };
        let config = repo.get("config.json").ok_or_else(|| missing("config.json"))?;
        let folder = config.parent().ok_or_else(|| missing("config.json"))?.to_path_buf();
        if need == Need::All {
            let index = folder.join(INDEX);
            let weights =
                if index.is_file() { shards(&index)? } else { ["model.safetensors".to_string()].into() };
            if let Some(file) = weights.iter().find(|file| !folder.join(file).is_file()) {
                return Err(missing(file));
            }
        }
        Ok(folder)
    }

    fn fetch(&self, name: &str, revision: &str, need: Need) -> Result<PathBuf, Refusal> {
        let api = ApiBuilder::from_cache(Cache::new(self.cache.clone()))
            .with_endpoint(self.endpoint.trim_end_matches('/').to_string())
            .with_token(self.token.clone())
            .with_progress(std::io::IsTerminal::is_terminal(&std::io::stderr()) && !crate::log::is_json())
            .with_retries(3)
            .build()
            .map_err(|error| error.to_string())?;
        let explain = |error: ApiError| self.explain(&error);
        let info = api.repo(repo(name, revision)).info().map_err(explain)?;
        if !is_revision(&info.sha) {
            return Err(
                format!("{} answers with a revision that is not one: {:?}", self.endpoint, info.sha).into()
            );
        }
        // All files of one commit, whatever is pushed meanwhile.
        let commit = api.repo(repo(name, &info.sha));
        let there: BTreeSet<&str> = info.siblings.iter().map(|file| file.rfilename.as_str()).collect();
        let get = |commit: &ApiRepo, file: &str| commit.get(file).map_err(explain);
        if !there.contains("config.json") {
            return Err("has no config.json, so it is not a transformers model".to_string().into());
        }
        let mut folder = PathBuf::new();
        for file in FILES.into_iter().filter(|file| there.contains(file)) {
            let path = get(&commit, file)?;
            folder = path.parent().map(Path::to_path_buf).unwrap_or_default();
        }
        if need == Need::All {
            for file in weights(&there, |file| get(&commit, file))? {
                get(&commit, &file)?;
            }
        }
        // So that the name finds this commit without the network, too.
        let named = Cache::new(self.cache.clone()).repo(repo(name, revision));
        named.create_ref(&info.sha).map_err(|error| error.to_string())?;
        Ok(folder)
    }

    fn explain(&self, error: &ApiError) -> Refusal {
        let text = error.to_string();
        let (remedy, unreachable) = if text.contains("401") || text.contains("403") {
            ("sign in with HF_TOKEN, and ask for access on the model's page if it is gated", false)
        } else if text.contains("404") {
            ("check the name and the revision", false)
        } else {
            ("check the network, or set HF_HUB_OFFLINE=1 to use only the cache", true)
        };
        Refusal { why: format!("{} says: {text}; {remedy}", self.endpoint), unreachable }
    }
}

/// Why a model was not fetched.
struct Refusal {
    why: String,
    /// Whether that may pass.
    unreachable: bool,
}

impl From<String> for Refusal {
    fn from(why: String) -> Refusal {
        Refusal { why, unreachable: false }
    }
}

fn repo(name: &str, revision: &str) -> Repo {
    Repo::with_revision(name.to_string(), RepoType::Model, revision.to_string())
}

/// The weight files to fetch.
fn weights<E: From<String>>(
    there: &BTreeSet<&str>,
    get: impl Fn(&str) -> Result<PathBuf, E>,
) -> Result<BTreeSet<String>, E> {
    if there.contains(INDEX) {
        let files = shards(&get(INDEX)?)?;
        return match files.iter().find(|file| !there.contains(file.as_str())) {
            Some(file) => Err(format!("{INDEX} names {file}, which does not exist").into()),
            None => Ok(files),
        };
    }
    if there.contains("model.safetensors") {
        return Ok(["model.safetensors".to_string()].into());
    }
    let refused = there.iter().find_map(|file| refused_format(Path::new(file)).map(|why| (file, why)));
    let why = match refused {
        Some((file, why)) => format!("has no model.safetensors, and {file} {why}"),
        None => "has no model.safetensors".into(),
    };
    Err(why.into())
}

/// The files that an index names: plain names only.
fn shards(index: &Path) -> Result<BTreeSet<String>, String> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: std::collections::BTreeMap<String, String>,
    }
    let bytes = engine::models::read_capped(index, 64 << 20).map_err(|error| error.to_string())?;
    let index: Index = serde_json::from_slice(&bytes).map_err(|error| format!("{INDEX}: {error}"))?;
    let files: BTreeSet<String> = index.weight_map.into_values().collect();
    match files.iter().find(|file| file.contains(['/', '\\']) || !file.ends_with(".safetensors")) {
        Some(file) => {
            Err(format!("{INDEX} names {file:?}; only plain names of safetensors files are accepted"))
        }
        None => Ok(files),
    }
}

/// `org/name` or `name`, of letters, digits, `-`, `_` and `.`.
fn is_name(name: &str) -> bool {
    let part = |part: &str| is_revision(part) && !part.contains('/');
    name.split('/').count() <= 2 && name.split('/').all(part)
}

fn is_revision(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
    !text.is_empty()
        && text.len() <= 128
        && text.chars().all(plain)
        && !text.contains("..")
        && !text.starts_with(['/', '.'])
}

#[cfg(test)]
mod tests;
