//! An output on this machine: written aside, it appears by one rename.
//!
//! Before the rename, `manifest.next` in the state_dir says what is about to appear; after it, it becomes
//! `manifest.json`. What stands at the output is known by the digests of the two, so that a start in between can finish
//! what was begun, and nothing of anybody else is ever replaced.

mod names;
mod own;

use crate::error::JobError;
use crate::files::{rename, rename_new, sync_folder, write_durably};
use crate::journal::lock::JobLock;
use crate::journal::schema;
use crate::log::note;
use crate::publish::manifest::{self, Manifest};
use crate::store::location::state_dir_beside;
use names::{There, name_of, parent_of, there};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

pub(super) use names::entries;
pub(super) use own::holds;
pub(crate) use own::is_published;

/// The folder in the state_dir where an output is written, and the name of a single file there: not one that ends in
/// `.parquet`, as nobody should take it for an input.
pub(crate) const ASIDE: &str = "publishing";
pub(super) const FILE: &str = "output";

/// The folder where parts are written if the output is another file system than the state_dir. Readers of Parquet
/// folders pass over names that begin with a dot.
const INSIDE: &str = ".gristmill";

/// The output that is being replaced, where two names cannot be exchanged.
const REPLACED: &str = "replaced";

/// A file that is renamed to see whether that can be done, and the name of none.
const PROBE: &str = ".gristmill-probe";
const NO_FILE: &str = ".gristmill-none";

/// An output on this machine.
pub(crate) struct LocalOutput<'a> {
    /// As it was asked for.
    name: &'a Path,
    /// Without a slash at its end, which would follow a link.
    path: PathBuf,
    state_dir: &'a Path,
    /// Whether it is a folder of parts, and not one file.
    folder: bool,
}

impl<'a> LocalOutput<'a> {
    /// An output with the state_dir of its job.
    pub fn new(name: &'a Path, state_dir: &'a Path, folder: bool) -> Self {
        LocalOutput { name, path: name.components().collect(), state_dir, folder }
    }

    /// Refuses a place where no output can be, and one that somebody else has taken. Changes nothing.
    ///
    /// # Errors
    /// [`JobError::Usage`], [`JobError::OutputExists`] or [`JobError::Io`].
    pub fn check(&self) -> Result<(), JobError> {
        names::refuse_name(self.name, self.folder)?;
        let parent = parent_of(&self.path);
        if schema::path(&state_dir_beside(&parent)).exists() {
            let why = "lies in the folder of parts of another job, which holds nothing else; choose another --output";
            return Err(names::usage(&self.path, why));
        }
        let known = [manifest::NAME, manifest::NEXT].iter().any(|name| self.state_dir.join(name).exists());
        match there(&self.path)? {
            There::Nothing => Ok(()),
            There::File | There::Folder if known => match JobLock::holder(self.state_dir)? {
                // Its bytes are looked at when the state_dir is locked.
                None => own::refuse_other_sizes(&self.path, self.state_dir),
                // That process may be publishing just now, and is in the way itself.
                Some(_) => Ok(()),
            },
            There::Folder if !self.folder => Err(names::is_a_folder(&self.path)),
            There::Folder if entries(&self.path)?.is_empty() => Ok(()),
            There::File | There::Folder => Err(JobError::OutputExists { path: self.path.clone() }),
            There::Link => Err(names::usage(
                &self.path,
                "is a symbolic link, which publishing would replace; name what it points to, or remove it",
            )),
            There::Other => {
                Err(names::usage(&self.path, "is neither a file nor a folder; choose another --output"))
            }
        }
    }

    /// Finishes what a kill has interrupted, refuses what somebody else has put there, and tries whether the output will
    /// be able to appear. The state_dir must be locked.
    ///
    /// # Errors
    /// As [`LocalOutput::check`].
    pub fn prepare(&self) -> Result<(), JobError> {
        own::settle(&self.path, self.state_dir, &self.state_dir.join(REPLACED))?;
        if there(&self.path)? == There::Folder {
            clear(&self.path.join(INSIDE))?;
        }
        if self.folder && self.mounted()? {
            let inside = self.path.join(INSIDE);
            create_folder(&inside)?;
            note!(
                "{} is a mount point: its parts will appear one by one, and the journal is outside of it, in {}",
                self.path.display(),
                self.state_dir.display()
            );
            return clear(&inside);
        }
        // Only a folder that is no mount point can be replaced.
        if there(&self.path)? == There::Folder && !self.folder && self.mounted()? {
            return Err(names::is_a_folder(&self.path));
        }
        let parent = parent_of(&self.path);
        if self.can_rename_into(&parent)? {
            return Ok(());
        }
        let why = format!("must be in the same file system as {}", self.state_dir.display());
        Err(names::usage(&parent, &why))
    }

    /// Makes an empty folder to write the output in, from which it can appear.
    ///
    /// # Errors
    /// [`JobError::Io`].
    pub fn aside(&self) -> Result<PathBuf, JobError> {
        if !self.folder || !self.mounted()? {
            return aside(self.state_dir);
        }
        clear(&self.state_dir.join(ASIDE))?;
        let inside = self.path.join(INSIDE);
        clear(&inside)?;
        create_folder(&inside)?;
        Ok(inside)
    }

    /// Moves the output from `aside` to its place.
    ///
    /// # Errors
    /// [`JobError::OutputExists`] if somebody has put something else there meanwhile; [`JobError::Io`].
    pub fn reveal(&self, aside: &Path, manifest: &Manifest) -> Result<(), JobError> {
        sync_folder(aside)?;
        let old = Manifest::find(self.state_dir, manifest::NAME);
        own::refuse_others(&self.path, &[old.as_ref()])?;
        let next = self.state_dir.join(manifest::NEXT);
        write_durably(&next, &manifest.to_json())?;
        sync_folder(self.state_dir)?;
        let replaced = self.state_dir.join(REPLACED);
        if aside.starts_with(&self.path) {
            self.fill(aside, old.as_ref(), manifest)?;
        } else {
            let new = if self.folder { aside.to_path_buf() } else { aside.join(FILE) };
            if !self.replace(&new, &replaced)? {
                self.fill(aside, old.as_ref(), manifest)?;
            }
        }
        rename(&next, &self.state_dir.join(manifest::NAME))?;
        clear(&replaced)?;
        clear(aside)
    }

    /// Puts a file or folder in the place of the output; `false` if that is no place of its own, as that of a mount.
    /// Where the system can exchange two names, one of the two exists at every moment; elsewhere, for a moment, neither
    /// does.
    fn replace(&self, new: &Path, replaced: &Path) -> Result<bool, JobError> {
        let done = match there(&self.path)? {
            There::Nothing => return self.appear(new).map(|()| true),
            // A rename over a file is an exchange for all who look.
            There::File if !self.folder => std::fs::rename(new, &self.path),
            _ if exchange(new, &self.path) => Ok(()),
            _ => {
                clear(replaced)?;
                match std::fs::rename(&self.path, replaced) {
                    Ok(()) => return self.appear(new).map(|()| true),
                    failed => failed,
                }
            }
        };
        match done {
            Ok(()) => {
                sync_folder(new.parent().unwrap_or(self.state_dir))?;
                sync_folder(&parent_of(&self.path)).map(|()| true)
            }
            Err(error) if self.folder && is_another_mount(&error) => Ok(false),
            Err(error) => Err(JobError::io("replace", &self.path)(error)),
        }
    }

    /// Lets the output appear where nothing is.
    fn appear(&self, new: &Path) -> Result<(), JobError> {
        match rename_new(new, &self.path) {
            Err(JobError::Io { source, .. }) if source.kind() == ErrorKind::AlreadyExists => {
                Err(JobError::OutputExists { path: self.path.clone() })
            }
            other => other,
        }
    }

    /// Puts the parts into the folder one by one: all that can be done in a mount.
    fn fill(&self, aside: &Path, old: Option<&Manifest>, manifest: &Manifest) -> Result<(), JobError> {
        let stays = |name: &str| manifest.parts.iter().any(|part| part.name == name);
        for name in entries(&self.path)?.iter().map(|path| name_of(path)).filter(|name| !stays(name)) {
            let listed = old.is_some_and(|old| old.parts.iter().any(|part| part.name == name));
            if listed || name == manifest::NAME {
                let path = self.path.join(name);
                std::fs::remove_file(&path).map_err(JobError::io("remove", &path))?;
            }
        }
        for part in &manifest.parts {
            let (from, to) = (aside.join(&part.name), self.path.join(&part.name));
            std::fs::rename(&from, &to).map_err(JobError::io("rename", &from))?;
        }
        sync_folder(&self.path)
    }

    /// Whether the output is a folder to which nothing of the state_dir can be renamed: another file system. That is asked
    /// for a file that is not there, so that a kill leaves nothing in the output.
    fn mounted(&self) -> Result<bool, JobError> {
        if there(&self.path)? != There::Folder {
            return Ok(false);
        }
        match std::fs::rename(self.state_dir.join(NO_FILE), self.path.join(NO_FILE)) {
            Err(error) if is_another_mount(&error) => Ok(true),
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(JobError::io("rename a file into", &self.path)(error))
            }
            _ => Ok(false),
        }
    }

    /// Whether a file of the state_dir can be renamed into a folder.
    fn can_rename_into(&self, folder: &Path) -> Result<bool, JobError> {
        let (from, to) = (self.state_dir.join(PROBE), folder.join(PROBE));
        std::fs::File::create(&from).map_err(JobError::io("create", &from))?;
        let renamed = std::fs::rename(&from, &to);
        // Two jobs may try the same folder at the same time.
        let _ = std::fs::remove_file(if renamed.is_ok() { &to } else { &from });
        match renamed {
            Ok(()) => Ok(true),
            Err(error) if is_another_mount(&error) => Ok(false),
            Err(error) => Err(JobError::io("rename a file into", folder)(error)),
        }
    }
}

/// Makes an empty folder in a state_dir to write an output in.
///
/// # Errors
/// [`JobError::Io`].
pub(crate) fn aside(state_dir: &Path) -> Result<PathBuf, JobError> {
    let aside = state_dir.join(ASIDE);
    clear(&aside)?;
    create_folder(&aside)?;
    Ok(aside)
}

fn is_another_mount(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::CrossesDevices | ErrorKind::ResourceBusy)
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

fn create_folder(folder: &Path) -> Result<(), JobError> {
    std::fs::create_dir_all(folder).map_err(JobError::io("create", folder))
}

/// Removes a file, or a folder with everything in it, if it exists.
///
/// # Errors
/// [`JobError::Io`].
pub(crate) fn clear(path: &Path) -> Result<(), JobError> {
    let removed = match std::fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(JobError::io("remove", path)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
