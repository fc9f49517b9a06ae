//! Files of a model's folder that nobody has vouched for: read up to a limit, inside the folder only, never pickles.

use crate::error::EngineError;
use crate::file::{FileError, open_regular};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

/// How the names of pickles end.
const PICKLES: &[&str] = &["bin", "pt", "pth", "ckpt"];

const IS_PICKLE: &str = "is a pickle, which can run code and is never read; save the model as safetensors with \
                         transformers' save_pretrained";
const IS_GGUF: &str = "is of the GGUF format, and only safetensors are read; take the model's safetensors";

/// Reads a file that must not be longer than `max` bytes.
///
/// # Errors
/// A file that cannot be read, or is longer.
pub fn read_capped(file: &Path, max: u64) -> Result<Vec<u8>, EngineError> {
    let mut bytes = Vec::new();
    let read = open_regular(file).and_then(|handle| handle.take(max + 1).read_to_end(&mut bytes));
    read.map_err(|source| failed("read", file, source))?;
    if bytes.len() as u64 > max {
        let why = format!("is longer than {max} bytes, which no sound one is");
        return Err(EngineError::Config { file: file.to_owned(), why });
    }
    Ok(bytes)
}

/// Reads a file of a model's folder up to a limit; none if there is none of that name.
///
/// # Errors
/// As [`read_capped`]; also a link that leads out of the folder. Only a system that says that there is no such file
/// means that there is none.
pub fn read_model_file(folder: &Path, name: &str, max: u64) -> Result<Option<Vec<u8>>, EngineError> {
    let file = folder.join(name);
    if !exists(&file)? {
        return Ok(None);
    }
    inside(folder, &file)?;
    read_capped(&file, max).map(Some)
}

/// Whether there is anything of that name, be it a link to nothing.
pub(super) fn exists(file: &Path) -> Result<bool, EngineError> {
    match file.symlink_metadata() {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(failed("look at", file, error)),
    }
}

pub(super) fn failed(doing: &'static str, file: &Path, source: std::io::Error) -> EngineError {
    EngineError::File(FileError::System { doing, path: file.to_owned(), source })
}

/// Why a file of this name is not read as weights, if its ending says so.
pub fn refused_format(name: &Path) -> Option<&'static str> {
    let extension = name.extension()?;
    if extension == "gguf" {
        return Some(IS_GGUF);
    }
    PICKLES.iter().any(|pickle| extension == *pickle).then_some(IS_PICKLE)
}

/// Why a file that begins with these bytes is not read, if it is a pickle under another name.
pub(super) fn refused_start(start: [u8; 8]) -> Option<&'static str> {
    let zip = start.starts_with(b"PK\x03\x04");
    let pickle = start[0] == 0x80 && start[1] <= 5;
    (zip || pickle).then_some(IS_PICKLE)
}

/// Refuses links that lead out of the folder, but for those of a hub cache (`snapshots/* -> blobs/`).
pub(super) fn inside(folder: &Path, file: &Path) -> Result<(), EngineError> {
    let io = |source| failed("find", file, source);
    let (target, home) = (file.canonicalize().map_err(io)?, folder.canonicalize().map_err(io)?);
    let snapshots = home.parent().filter(|p| p.ends_with("snapshots"));
    let blobs = snapshots.and_then(Path::parent).map(|p| p.join("blobs"));
    if target.starts_with(&home) || blobs.is_some_and(|b| target.starts_with(b)) {
        return Ok(());
    }
    let why = format!("is a link to {}, outside its folder", target.display());
    Err(EngineError::Weights { file: file.to_owned(), why })
}

/// Says that a weight file is missing, and what is there in its place.
pub(super) fn missing(folder: &Path, file: PathBuf) -> EngineError {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let other = entries.map(|e| e.path()).find_map(|path| refused_format(&path).map(|why| (path, why)));
    let (file, why) = other
        .unwrap_or((file, "is missing; to run without weights, use the load format dummy (random weights)"));
    EngineError::Weights { file, why: why.into() }
}
