//! Files of this machine: written durably, and read up to a limit.

use crate::error::JobError;
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

/// Renames a file durably.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<(), JobError> {
    std::fs::rename(from, to).map_err(JobError::io("rename", from))?;
    let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    sync_folder(folder)
}

/// Makes the names in a folder durable.
pub(crate) fn sync_folder(folder: &Path) -> Result<(), JobError> {
    if cfg!(windows) {
        return Ok(());
    }
    let opened = std::fs::File::open(folder).map_err(JobError::io("open", folder))?;
    opened.sync_all().map_err(JobError::io("sync", folder))
}

/// Writes a file whose bytes are on the disk when this returns.
pub(crate) fn write_durably(path: &Path, text: &str) -> Result<(), JobError> {
    let mut file = File::create(path).map_err(JobError::io("create", path))?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(JobError::io("write", path))
}

/// Reads a file that must not be larger than `cap`.
pub(crate) fn read_capped(path: &Path, cap: u64) -> Result<Vec<u8>, JobError> {
    let file = File::open(path).map_err(JobError::io("open", path))?;
    let mut bytes = Vec::new();
    file.take(cap + 1).read_to_end(&mut bytes).map_err(JobError::io("read", path))?;
    if bytes.len() as u64 > cap {
        let why = format!("is larger than {} MiB", cap >> 20);
        return Err(JobError::Model { path: path.to_path_buf(), why });
    }
    Ok(bytes)
}
