//! Whether what stands at an output is what a job has put there: by the digests of its manifests.

use super::names::{There, entries, name_of, there};
use crate::error::JobError;
use crate::files::{rename, sync_folder};
use crate::input::source::Source;
use crate::publish::manifest::{self, Manifest, Part};
use std::path::Path;

/// Finishes a publication that a kill has interrupted, or takes it back; then refuses what no manifest of the job tells of.
///
/// # Errors
/// [`JobError::OutputExists`] or [`JobError::Io`].
pub(super) fn settle(output: &Path, state_dir: &Path, replaced: &Path) -> Result<(), JobError> {
    // Between the two renames of a system that cannot exchange names.
    if there(output)? == There::Nothing && there(replaced)? != There::Nothing {
        rename(replaced, output)?;
    }
    let (old, next) = (Manifest::find(state_dir, manifest::NAME), Manifest::find(state_dir, manifest::NEXT));
    let path = state_dir.join(manifest::NEXT);
    if let Some(next) = &next
        && holds(output, next)?
    {
        return rename(&path, &state_dir.join(manifest::NAME));
    }
    refuse_others(output, &[old.as_ref(), next.as_ref()])?;
    if let Some(next) = &next
        && there(output)? == There::Folder
    {
        withdraw(output, old.as_ref(), next)?;
    }
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(JobError::io("remove", path)(error))
        }
        _ => Ok(()),
    }
}

/// Removes the parts of a publication that put them into place one by one and was interrupted.
fn withdraw(output: &Path, old: Option<&Manifest>, next: &Manifest) -> Result<(), JobError> {
    for path in entries(output)? {
        let of = |manifest: &Manifest| named(&path, manifest).map_or(Ok(false), |part| is_part(&path, part));
        if of(next)? && !old.map_or(Ok(false), of)? {
            std::fs::remove_file(&path).map_err(JobError::io("remove", &path))?;
        }
    }
    sync_folder(output)
}

/// Refuses an output of which the name or size of anything is not in one of the manifests of the state_dir: a first look.
///
/// # Errors
/// [`JobError::OutputExists`] or [`JobError::Io`].
pub(super) fn refuse_other_sizes(output: &Path, state_dir: &Path) -> Result<(), JobError> {
    let [old, next] = [manifest::NAME, manifest::NEXT].map(|name| Manifest::find(state_dir, name));
    refuse(output, &[old.as_ref(), next.as_ref()], |path, part| Ok(has_size(path, part)))
}

/// Refuses an output of which anything is not in one of the manifests.
///
/// # Errors
/// [`JobError::OutputExists`] or [`JobError::Io`].
pub(super) fn refuse_others(output: &Path, manifests: &[Option<&Manifest>]) -> Result<(), JobError> {
    refuse(output, manifests, is_part)
}

fn refuse(
    output: &Path,
    manifests: &[Option<&Manifest>],
    is_part: fn(&Path, &Part) -> Result<bool, JobError>,
) -> Result<(), JobError> {
    let manifests = manifests.iter().filter_map(|manifest| *manifest);
    let others = |path: &Path| JobError::OutputExists { path: path.into() };
    match there(output)? {
        There::Nothing => Ok(()),
        There::File => {
            for manifest in manifests {
                if let [part] = manifest.parts.as_slice()
                    && is_part(output, part)?
                {
                    return Ok(());
                }
            }
            Err(others(output))
        }
        There::Folder => {
            let manifests: Vec<&Manifest> = manifests.collect();
            for path in entries(output)? {
                if !is_listed(&path, &manifests, is_part)? {
                    return Err(others(&path));
                }
            }
            Ok(())
        }
        There::Link | There::Other => Err(others(output)),
    }
}

/// Whether a file of a folder is a part of a manifest, or the manifest itself, which earlier versions put there.
fn is_listed(
    path: &Path,
    manifests: &[&Manifest],
    is_part: fn(&Path, &Part) -> Result<bool, JobError>,
) -> Result<bool, JobError> {
    if name_of(path) == manifest::NAME {
        return Ok(Manifest::read(path).is_ok_and(|inside| manifests.contains(&&inside)));
    }
    for manifest in manifests {
        if let Some(part) = named(path, manifest)
            && is_part(path, part)?
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The part of a file's name.
fn named<'m>(path: &Path, manifest: &'m Manifest) -> Option<&'m Part> {
    manifest.parts.iter().find(|part| part.name == name_of(path))
}

fn is_part(path: &Path, part: &Part) -> Result<bool, JobError> {
    Ok(has_size(path, part) && Source::local(path).digest()? == part.blake3)
}

fn has_size(path: &Path, part: &Part) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|found| found.is_file() && found.len() == part.bytes)
}

/// Whether an output holds all of a manifest, and nothing else.
///
/// # Errors
/// [`JobError::Io`].
pub fn holds(output: &Path, manifest: &Manifest) -> Result<bool, JobError> {
    all_are(output, manifest, is_part)
}

/// Whether an output has the names and sizes of a manifest that its state_dir has, of this identity and so many rows.
pub(crate) fn is_published(output: &Path, state_dir: &Path, identity: &str, rows: u64) -> bool {
    [manifest::NAME, manifest::NEXT].iter().filter_map(|name| Manifest::find(state_dir, name)).any(
        |manifest| {
            manifest.identity_blake3 == identity
                && manifest.rows == rows
                && all_are(output, &manifest, |path, part| Ok(has_size(path, part))).unwrap_or(false)
        },
    )
}

fn all_are(
    output: &Path,
    manifest: &Manifest,
    is_part: impl Fn(&Path, &Part) -> Result<bool, JobError>,
) -> Result<bool, JobError> {
    match (there(output)?, manifest.parts.as_slice()) {
        (There::File, [part]) => is_part(output, part),
        (There::Folder, parts) => {
            let mut names: Vec<&str> = parts.iter().map(|part| part.name.as_str()).collect();
            names.sort_unstable();
            let mut entries = entries(output)?;
            entries.retain(|path| name_of(path) != manifest::NAME);
            if !entries.iter().map(|path| name_of(path)).eq(names) {
                return Ok(false);
            }
            for part in parts {
                if !is_part(&output.join(&part.name), part)? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        _ => Ok(false),
    }
}
