//! The model that is part of the program.
//!
//! `--model nano` needs no network and no download. Its files are written to the cache folder on first
//! use and are an ordinary model folder from there on.

use crate::error::JobError;
use std::path::{Path, PathBuf};

/// The name that stands for the built-in model.
pub const NANO: &str = "nano";

/// A file of the folder `nano`, by its name.
macro_rules! file {
    ($name:literal) => {
        ($name, include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../nano/", $name)))
    };
}

/// The files that make it a model folder.
const FILES: [(&str, &[u8]); 5] = [
    file!("config.json"),
    file!("generation_config.json"),
    file!("tokenizer.json"),
    file!("tokenizer_config.json"),
    file!("model.safetensors"),
];

/// The folder of the built-in model, written on first use.
///
/// It is in `GRISTMILL_CACHE`, or the user's cache folder, or the temporary folder, under a name that is
/// a digest of its files: another version has another folder.
///
/// # Errors
/// [`JobError::Io`] if it cannot be written.
pub fn nano() -> Result<PathBuf, JobError> {
    let mut digest = blake3::Hasher::new();
    for (name, bytes) in FILES {
        digest.update(name.as_bytes()).update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
    }
    let name = format!("{NANO}-{}", &digest.finalize().to_hex()[..16]);
    let folder = cache().join(name);
    if !intact(&folder) {
        write(&folder).map_err(JobError::io("write", &folder))?;
    }
    Ok(folder)
}

/// The folder for what can be made again: `GRISTMILL_CACHE`, or one of the user's, or a temporary one.
pub fn cache() -> PathBuf {
    let variable = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let user = || variable("XDG_CACHE_HOME").or_else(|| variable("HOME").map(|home| home.join(".cache")));
    let usual = || user().map(|folder| folder.join("gristmill"));
    variable("GRISTMILL_CACHE").or_else(usual).unwrap_or_else(|| std::env::temp_dir().join("gristmill"))
}

/// Whether all files have their contents: a folder that anyone changed is written again.
fn intact(folder: &Path) -> bool {
    FILES.iter().all(|(name, bytes)| std::fs::read(folder.join(name)).is_ok_and(|found| found == *bytes))
}

/// Writes each file aside and renames it, so that a job that starts meanwhile sees whole files.
fn write(folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    for (name, bytes) in FILES {
        let aside = folder.join(format!("{name}.{}", std::process::id()));
        std::fs::write(&aside, bytes)?;
        std::fs::rename(&aside, folder.join(name))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// nano copies facts token by token: they must have the same tokens in a sentence and inside an answer's quotes.
    #[test]
    fn a_fact_has_the_same_tokens_wherever_it_stands() {
        let (_, bytes) = FILES.iter().find(|(name, _)| *name == "tokenizer.json").unwrap();
        let tokenizer = tokenizers::Tokenizer::from_bytes(bytes).unwrap();
        let tokens = |text: &str| tokenizer.encode(text, false).unwrap().get_ids().to_vec();
        for fact in [
            "magnetic webcam",
            "Velmo steel kettle K-35",
            "inflatable teapot",
            "ORD-4410-XK",
            "1234.50",
            "BeaViopris",
        ] {
            let alone = tokens(fact);
            for text in [
                format!("about the {fact} turned off"),
                format!("{{\"product\": \"{fact}\"}}"),
                format!("({fact})"),
            ] {
                assert!(tokens(&text).windows(alone.len()).any(|part| part == alone), "{fact} in {text}");
            }
        }
    }
}
