//! The digest of all that a wheel is made of, taken as it is compiled and by the test that holds it against the tree.

use std::io;
use std::path::{Path, PathBuf};

/// The files and folders that a wheel is made of, from the root of the repository.
pub const PARTS: [&str; 16] = [
    "Cargo.lock",
    "Cargo.toml",
    "engine/Cargo.toml",
    "engine/src",
    "jobs/Cargo.toml",
    "jobs/src",
    "kernels/Cargo.toml",
    "kernels/src",
    "nano/config.json",
    "nano/generation_config.json",
    "nano/model.safetensors",
    "nano/tokenizer.json",
    "nano/tokenizer_config.json",
    "python",
    "shaders/Cargo.toml",
    "shaders/src",
];

/// The digest (BLAKE3, in hexadecimal) of names and bytes of all files.
pub fn digest(root: &Path) -> io::Result<String> {
    let mut files = Vec::new();
    PARTS.iter().try_for_each(|part| find(&root.join(part), &mut files))?;
    files.sort();
    let mut hasher = blake3::Hasher::new();
    for file in files {
        let name = file.strip_prefix(root).unwrap_or(&file).to_string_lossy().replace('\\', "/");
        let bytes = std::fs::read(&file)?;
        for part in [name.as_bytes(), &bytes] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
    }
    Ok(hasher.finalize().to_hex().to_string())
}

/// The files of a folder, but for what Python and a build leave there.
fn find(path: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    if !path.is_dir() {
        files.push(path.to_path_buf());
        return Ok(());
    }
    for entry in std::fs::read_dir(path)? {
        let path = entry?.path();
        let left = ["so", "pyd", "whl", "pyc"].iter().any(|end| path.extension().is_some_and(|e| e == *end));
        let folder = path.file_name().is_some_and(|name| name == "__pycache__" || name == "target");
        if !left && !folder {
            find(&path, files)?;
        }
    }
    Ok(())
}
