//! An output on this machine: written aside, it appears by one rename.

use crate::error::JobError;
use crate::files::{rename, sync_folder, write_durably};
use crate::publish::manifest::{self, Manifest};
use std::path::Path;

/// Moves an output from `aside` to its place.
///
/// # Errors
/// [`JobError::Io`].
pub(super) fn reveal(
    state_dir: &Path,
    output: &Path,
    aside: &Path,
    manifest: &Manifest,
    folder: bool,
) -> Result<(), JobError> {
    write_durably(&state_dir.join("manifest.new"), &manifest.to_json())?;
    if folder {
        write_durably(&aside.join(manifest::NAME), &manifest.to_json())?;
    }
    sync_folder(aside)?;
    // The manifest goes first: it marks an output in place as this job's own.
    rename(&state_dir.join("manifest.new"), &state_dir.join(manifest::NAME))?;
    if folder {
        reveal_folder(state_dir, aside, output)
    } else {
        rename(&aside.join(file_name(output)), output)?;
        clear(aside)
    }
}

/// Puts a folder in the place of the output. One cannot be renamed over a full one; where the system can
/// exchange two names, one of the two exists at every moment; elsewhere, for a moment, neither does.
fn reveal_folder(state_dir: &Path, aside: &Path, output: &Path) -> Result<(), JobError> {
    let replaced = state_dir.join("replaced");
    clear(&replaced)?;
    if output.exists() {
        if exchange(aside, output) {
            sync_folder(state_dir)?;
            sync_folder(output.parent().filter(|p| *p != Path::new("")).unwrap_or(Path::new(".")))?;
            return clear(aside);
        }
        rename(output, &replaced)?;
    }
    rename(aside, output)?;
    clear(&replaced)
}
/// Exchanges two names, if the system and the file system can.
#[cfg(any(target_os = "linux", target_os = "macos"))]
fn exchange(a: &Path, b: &Path) -> bool {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE).is_ok()
}

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
fn exchange(_: &Path, _: &Path) -> bool {
    false
}

/// The last part of a path.
pub(super) fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Whether it is a folder without anything in it.
pub(super) fn is_empty_folder(path: &Path) -> bool {
    path.read_dir().is_ok_and(|mut entries| entries.next().is_none())
}

/// Removes a folder with everything in it, if it exists.
///
/// # Errors
/// [`JobError::Io`].
pub(super) fn clear(folder: &Path) -> Result<(), JobError> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(JobError::io("remove", folder)(error))
        }
        _ => Ok(()),
    }
}
