//! Files of this machine, written durably.

use crate::error::JobError;
use std::fs::File;
use std::io::Write;
use std::path::Path;

/// Renames a file durably.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<(), JobError> {
    std::fs::rename(from, to).map_err(JobError::io("rename", from))?;
    sync_folder(folder_of(to))
}

/// Renames a file or folder durably to a name that nothing has. Where the system cannot make sure of that, what has come
/// to that name since it was looked at is replaced.
pub(crate) fn rename_new(from: &Path, to: &Path) -> Result<(), JobError> {
    #[cfg(any(target_os = "linux", target_os = "macos"))]
    {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        use rustix::io::Errno;
        match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            Ok(()) => return sync_folder(folder_of(to)),
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {}
            Err(error) => return Err(JobError::io("rename", from)(error.into())),
        }
    }
    rename(from, to)
}

/// The folder that a path is in.
fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
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
