//! Files of this machine, written durably.

use crate::error::JobError;
use std::fs::File;
use std::io::Write;
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
