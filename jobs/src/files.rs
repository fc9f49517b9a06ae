//! Files of this machine, written durably.

use crate::error::JobError;
use std::fs::{File, OpenOptions};
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

/// Refuses a place where a file cannot be written, before the work whose result goes there. What is there stays as it is.
pub(crate) fn refuse_unwritable(path: &Path) -> Result<(), JobError> {
    let there = std::fs::metadata(path);
    if there.as_ref().is_ok_and(|there| !there.is_file() && !there.is_dir()) {
        // A pipe would tell its reader that this is all.
        return Ok(());
    }
    let opened = OpenOptions::new().append(true).create(true).open(path);
    drop(opened.map_err(JobError::io("write", path))?);
    match there {
        Ok(_) => Ok(()),
        Err(_) => std::fs::remove_file(path).map_err(JobError::io("write", path)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_place_is_tried_and_left_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let there = folder.path().join("there");
        std::fs::write(&there, "kept").unwrap();
        refuse_unwritable(&there).unwrap();
        refuse_unwritable(&folder.path().join("new")).unwrap();
        assert_eq!(std::fs::read_to_string(&there).unwrap(), "kept");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        for bad in ["", "no/folder", "there/file"] {
            let refused = refuse_unwritable(&folder.path().join(bad)).unwrap_err();
            assert_eq!(refused.exit_code(), crate::error::EXIT_REFUSED, "{bad}: {refused}");
        }
    }
}
