//! Places where an output can be, and what is there.

use crate::error::JobError;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// What stands at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum There {
    Nothing,
    File,
    Folder,
    Link,
    /// A device, a FIFO or a socket.
    Other,
}

/// Looks at a path without following it.
///
/// # Errors
/// [`JobError::Io`].
pub fn there(path: &Path) -> Result<There, JobError> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.is_file() => Ok(There::File),
        Ok(found) if found.is_dir() => Ok(There::Folder),
        Ok(found) if found.is_symlink() => Ok(There::Link),
        Ok(_) => Ok(There::Other),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(There::Nothing),
        Err(error) => Err(JobError::io("look at", path)(error)),
    }
}

/// Refuses a path that cannot name an output: the state_dir is named after it.
///
/// # Errors
/// [`JobError::Usage`].
pub(super) fn refuse_name(path: &Path, folder: bool) -> Result<(), JobError> {
    if path.as_os_str().is_empty() {
        return Err(JobError::Usage(
            "--output is empty; name a file, or a folder with --rows-per-file".into(),
        ));
    }
    if path.file_name().is_none() {
        return Err(usage(
            path,
            "names no file or folder of its own; give it a name, as in ./answers.parquet",
        ));
    }
    let text = path.as_os_str().as_encoded_bytes();
    if !folder && (text.ends_with(b"/") || text.ends_with(b"/.") || (cfg!(windows) && text.ends_with(b"\\")))
    {
        let why = "is the name of a folder; leave its slash out for one file, or give --rows-per-file for a folder of \
                   parts";
        return Err(usage(path, why));
    }
    Ok(())
}

/// The error of a folder where a file is to go.
pub(super) fn is_a_folder(path: &Path) -> JobError {
    let file = path.join("answers.parquet");
    let why = format!(
        "is a folder; name a file in it, as {}, or give --rows-per-file for a folder of parts",
        file.display()
    );
    usage(path, &why)
}

pub(super) fn usage(path: &Path, why: &str) -> JobError {
    JobError::Usage(format!("--output {}: {why}", path.display()))
}

/// The folder that a path is in.
pub(super) fn parent_of(path: &Path) -> PathBuf {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new(".")).to_path_buf()
}

/// What is in an output folder, but for what a new file system has and what is written aside.
///
/// # Errors
/// [`JobError::Io`].
pub fn entries(folder: &Path) -> Result<Vec<PathBuf>, JobError> {
    let listed = folder.read_dir().map_err(JobError::io("list", folder))?;
    let paths = listed.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>();
    let mut paths = paths.map_err(JobError::io("list", folder))?;
    paths.retain(|path| {
        let name = name_of(path);
        !(path.is_dir() && (name == "lost+found" || name == super::INSIDE))
    });
    paths.sort();
    Ok(paths)
}

/// The last part of a path.
pub(super) fn name_of(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}
