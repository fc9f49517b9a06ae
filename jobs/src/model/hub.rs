//! Models from a hub, through the cache that all Hugging Face tools share.
//!
//! `HF_ENDPOINT` names another hub, `HF_HOME` the cache, `HF_TOKEN` what to sign in with, and `HF_HUB_OFFLINE=1` keeps
//! every byte on this machine.

use crate::error::JobError;
use hf_hub::api::sync::{ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, Repo, RepoType};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The files of a model besides its weights; not every model has all of them.
const FILES: [&str; 5] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
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
        let fail = |why: String| JobError::Hub { model: format!("{name}@{revision}"), why };
        if !is_name(name) || !is_revision(revision) {
            return Err(fail(
                "is neither a folder nor a name on the hub, which is org/name or org/name@revision".into(),
            ));
        }
        if self.offline {
            return self.cached(name, revision, need).map_err(fail);
        }
        self.fetch(name, revision, need).map_err(fail)
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

    fn fetch(&self, name: &str, revision: &str, need: Need) -> Result<PathBuf, String> {
        let api = ApiBuilder::from_cache(Cache::new(self.cache.clone()))
            .with_endpoint(self.endpoint.trim_end_matches('/').to_string())
            .with_token(self.token.clone())
            .with_progress(std::io::IsTerminal::is_terminal(&std::io::stderr()))
            .with_retries(3)
            .build()
            .map_err(|error| error.to_string())?;
        let explain = |error: ApiError| self.explain(&error);
        let info = api.repo(repo(name, revision)).info().map_err(explain)?;
        if !is_revision(&info.sha) {
            return Err(format!("{} answers with a revision that is not one: {:?}", self.endpoint, info.sha));
        }
        // All files of one commit, whatever is pushed meanwhile.
        let commit = api.repo(repo(name, &info.sha));
        let there: BTreeSet<&str> = info.siblings.iter().map(|file| file.rfilename.as_str()).collect();
        let get = |commit: &ApiRepo, file: &str| commit.get(file).map_err(explain);
        if !there.contains("config.json") {
            return Err("has no config.json, so it is not a transformers model".into());
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

    fn explain(&self, error: &ApiError) -> String {
        let text = error.to_string();
        let remedy = if text.contains("401") || text.contains("403") {
            "sign in with HF_TOKEN, and ask for access on the model's page if it is gated"
        } else if text.contains("404") {
            "check the name and the revision"
        } else {
            "check the network, or set HF_HUB_OFFLINE=1 to use the cache only"
        };
        format!("{} says: {text}; {remedy}", self.endpoint)
    }
}

fn repo(name: &str, revision: &str) -> Repo {
    Repo::with_revision(name.to_string(), RepoType::Model, revision.to_string())
}

/// The weight files to fetch.
fn weights(
    there: &BTreeSet<&str>,
    get: impl Fn(&str) -> Result<PathBuf, String>,
) -> Result<BTreeSet<String>, String> {
    if there.contains(INDEX) {
        let files = shards(&get(INDEX)?)?;
        return match files.iter().find(|file| !there.contains(file.as_str())) {
            Some(file) => Err(format!("{INDEX} names {file}, which does not exist")),
            None => Ok(files),
        };
    }
    if there.contains("model.safetensors") {
        return Ok(["model.safetensors".to_string()].into());
    }
    let pickle =
        there.iter().any(|file| file.ends_with(".bin") || file.ends_with(".pt") || file.ends_with(".pth"));
    Err(if pickle {
        "has only pickle weights, which can run code and are never read; choose a revision with safetensors"
            .into()
    } else {
        "has no model.safetensors".into()
    })
}

/// The files that an index names: plain names only.
fn shards(index: &Path) -> Result<BTreeSet<String>, String> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: std::collections::BTreeMap<String, String>,
    }
    let bytes = crate::files::read_capped(index, 64 << 20).map_err(|error| error.to_string())?;
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
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::collections::BTreeMap;
    use std::io::{BufRead, BufReader, Write};
    use std::net::{TcpListener, TcpStream};
    use std::sync::{Arc, Mutex};

    const SHA: &str = "0123456789abcdef0123456789abcdef01234567";

    /// A hub on this machine, with what it was asked for.
    struct LocalHub {
        hub: Hub,
        asked: Arc<Mutex<Vec<String>>>,
        _cache: tempfile::TempDir,
    }

    fn local_hub(files: &[(&str, &str)]) -> LocalHub {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let files: BTreeMap<String, String> =
            files.iter().map(|(n, t)| (n.to_string(), t.to_string())).collect();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = asked.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (files, log) = (files.clone(), log.clone());
                std::thread::spawn(move || serve(stream.unwrap(), &files, &log));
            }
        });
        let cache = tempfile::tempdir().unwrap();
        let hub = Hub { endpoint, cache: cache.path().into(), offline: false, token: Some("secret".into()) };
        LocalHub { hub, asked, _cache: cache }
    }

    fn serve(mut stream: TcpStream, files: &BTreeMap<String, String>, log: &Mutex<Vec<String>>) {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        loop {
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                if reader.read_line(&mut head).unwrap_or(0) == 0 {
                    return;
                }
            }
            let path = head.split(' ').nth(1).unwrap().to_string();
            log.lock().unwrap().push(path.clone());
            let (status, body) = answer(&path, files, head.contains("Bearer secret"));
            let range = head
                .to_ascii_lowercase()
                .lines()
                .find_map(|l| l.strip_prefix("range: bytes=").map(String::from));
            let (status, body, total) = match range.filter(|_| status == 200) {
                Some(range) => {
                    let (from, to) = range.split_once('-').unwrap();
                    let from: usize = from.parse().unwrap();
                    let to = to.parse().map_or(body.len(), |to: usize| (to + 1).min(body.len()));
                    (206, body[from.min(to)..to].to_string(), body.len())
                }
                None => (status, body.clone(), body.len()),
            };
            let reply = format!(
                "HTTP/1.1 {status} X\r\nContent-Length: {}\r\nContent-Range: bytes 0-0/{total}\r\nETag: \"{}\"\r\n\
                 x-repo-commit: {SHA}\r\n\r\n{body}",
                body.len(),
                path.replace('/', "_")
            );
            stream.write_all(reply.as_bytes()).unwrap();
        }
    }

    fn answer(path: &str, files: &BTreeMap<String, String>, signed_in: bool) -> (u16, String) {
        if !signed_in {
            return (401, String::new());
        }
        let api =
            [format!("/api/models/org/name/revision/{SHA}"), "/api/models/org/name/revision/main".into()];
        if api.contains(&path.to_string()) {
            let siblings: Vec<_> =
                files.keys().map(|name| serde_json::json!({ "rfilename": name })).collect();
            return (200, serde_json::json!({ "sha": SHA, "siblings": siblings }).to_string());
        }
        let file = path.strip_prefix(&format!("/org/name/resolve/{SHA}/"));
        file.and_then(|file| files.get(file)).map_or((404, String::new()), |text| (200, text.clone()))
    }

    const INDEX_TEXT: &str = r#"{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}"#;

    #[test]
    fn a_model_is_fetched_once_and_found_offline() {
        let local = local_hub(&[
            ("config.json", "{}"),
            ("tokenizer.json", "tok"),
            ("README.md", "never fetched"),
            (INDEX, INDEX_TEXT),
            ("model-1.safetensors", "one"),
            ("model-2.safetensors", "two"),
        ]);
        let offline = Hub { offline: true, ..local.hub.clone() };
        let error = offline.folder("org/name", "main", Need::All).unwrap_err().to_string();
        assert!(error.contains("org/name@main: config.json is not in the cache"), "{error}");
        assert!(local.asked.lock().unwrap().is_empty(), "offline asks nobody");
        let folder = local.hub.folder("org/name", "main", Need::All).unwrap();
        for (name, text) in [("config.json", "{}"), ("tokenizer.json", "tok"), ("model-2.safetensors", "two")]
        {
            assert_eq!(std::fs::read_to_string(folder.join(name)).unwrap(), text);
        }
        assert!(!folder.join("README.md").exists());
        let asked = local.asked.lock().unwrap().len();
        assert_eq!(local.hub.folder("org/name", "main", Need::All).unwrap(), folder);
        assert_eq!(local.asked.lock().unwrap().len(), asked + 1, "only what the newest commit is");
        assert_eq!(offline.folder("org/name", "main", Need::All).unwrap(), folder);
        assert_eq!(offline.folder("org/name", SHA, Need::NoWeights).unwrap(), folder);
    }

    #[test]
    fn what_cannot_be_used_is_refused() {
        let refuse = |files: &[(&str, &str)], need, message: &str| {
            let local = local_hub(files);
            let error = local.hub.folder("org/name", "main", need).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        };
        refuse(&[("README.md", "")], Need::All, "has no config.json");
        refuse(&[("config.json", "{}"), ("pytorch_model.bin", "")], Need::All, "has pickle weights only");
        let outside = r#"{"weight_map": {"a": "../../evil.safetensors"}}"#;
        refuse(&[("config.json", "{}"), (INDEX, outside)], Need::All, "only plain names");
        refuse(
            &[("config.json", "{}"), (INDEX, INDEX_TEXT)],
            Need::All,
            "names model-1.safetensors, which does not exist",
        );
        let local = local_hub(&[("config.json", "{}")]);
        assert!(local.hub.folder("org/name", "main", Need::NoWeights).is_ok());
        let unknown = local.hub.folder("org/other", "main", Need::All).unwrap_err().to_string();
        assert!(unknown.contains("404") && unknown.contains("check the name"), "{unknown}");
        let stranger = Hub { token: None, ..local.hub.clone() };
        let error = stranger.folder("org/name", "main", Need::All).unwrap_err().to_string();
        assert!(error.contains("HF_TOKEN"), "{error}");
        for name in ["a/b/c", "../x", "org/..", "", "org/na me", "/etc"] {
            assert!(local.hub.folder(name, "main", Need::All).is_err(), "{name}");
        }
    }
}
