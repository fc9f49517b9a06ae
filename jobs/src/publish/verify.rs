//! Checks a published output against its manifest.

use crate::error::JobError;
use crate::input::source::Source;
use crate::publish::manifest::{self, Manifest, Part};
use crate::publish::remote::manifest_key;
use crate::store::location::state_dir_beside;
use crate::store::location::{Location, ObjectUrl};
use crate::store::object::Object;
use crate::store::{self, bucket::Bucket, error::StoreError};
use parquet::file::metadata::{FileMetaData, ParquetMetaDataReader};
use parquet::file::reader::Length;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Checks that an output is whole and as it was published: names, sizes, digests, rows, and the identity in
/// each footer.
///
/// # Errors
/// [`JobError::Io`] or [`JobError::Store`] if there is no manifest; [`JobError::NotAsPublished`] with all that is
/// wrong.
pub fn verify(output: &Location) -> Result<Manifest, JobError> {
    let (manifest, problems) = match output {
        Location::Local(path) => verify_local(path)?,
        Location::Object(url) => verify_remote(url)?,
    };
    if problems.is_empty() {
        return Ok(manifest);
    }
    Err(JobError::NotAsPublished { output: output.to_string().into(), problems: problems.join("\n") })
}

fn verify_local(output: &Path) -> Result<(Manifest, Vec<String>), JobError> {
    let beside = state_dir_beside(output).join(manifest::NAME);
    let inside = output.join(manifest::NAME);
    let manifest = Manifest::read(if output.is_dir() { &inside } else { &beside })?;
    let mut problems = Vec::new();
    if output.is_dir() && beside.exists() && Manifest::read(&beside)? != manifest {
        problems.push(format!("{} and {} differ", inside.display(), beside.display()));
    }
    problems.extend(check_parts(&manifest, |part| {
        Ok(Source::Local(if output.is_dir() { output.join(&part.name) } else { output.to_path_buf() }))
    }));
    problems.extend(unpublished_files(output, &manifest)?);
    Ok((manifest, problems))
}

fn verify_remote(url: &ObjectUrl) -> Result<(Manifest, Vec<String>), JobError> {
    let bucket = store::open(url)?;
    let inside = url.with_key(manifest_key(url, true));
    let beside = url.with_key(manifest_key(url, false));
    let folder = bucket.head(&inside.key)?.is_some();
    let at = if folder { inside } else { beside };
    let Some(text) = bucket.get(&at.key)? else {
        return Err(JobError::Store { doing: "find", url: at.to_string(), error: StoreError::NoObject });
    };
    let manifest = Manifest::parse(&text, Path::new(&at.to_string()))?;
    let part_url = |part: &Part| {
        if folder { url.with_key(format!("{}/{}", url.key, part.name)) } else { url.clone() }
    };
    let mut problems =
        check_parts(&manifest, |part| Object::find(&bucket, part_url(part)).map(Source::Object));
    if folder {
        problems.extend(unpublished_objects(&bucket, url, &manifest)?);
    }
    Ok((manifest, problems))
}

/// Checks what the manifest says of itself, and each part.
fn check_parts(manifest: &Manifest, find: impl Fn(&Part) -> Result<Source, JobError>) -> Vec<String> {
    let mut problems = Vec::new();
    if manifest.identity.digest() != manifest.identity_blake3 {
        problems.push("the manifest's identity is not that of its digest".to_string());
    }
    let mut next = 0;
    for part in &manifest.parts {
        if part.first_row != next {
            problems.push(format!("{}: it begins at row {}, not {next}", part.name, part.first_row));
        }
        next = part.first_row + part.rows;
        let checked = find(part).map_err(|error| error.to_string()).and_then(|source| {
            check_part(&source, part, manifest)
                .map_err(|problem| format!("{}: {problem}", source.name().display()))
        });
        problems.extend(checked.err());
    }
    if next != manifest.rows {
        problems.push(format!("the parts have {next} rows, but the manifest has {}", manifest.rows));
    }
    problems
}

fn check_part(source: &Source, part: &Part, manifest: &Manifest) -> Result<(), String> {
    let open = source.open().map_err(|error| error.to_string())?;
    let size = open.len();
    if size != part.bytes {
        return Err(format!("it has {size} bytes, but {} were published", part.bytes));
    }
    let digest = source.digest().map_err(|error| error.to_string())?;
    if digest != part.blake3 {
        return Err(format!("its BLAKE3 is {digest}, but {} was published", part.blake3));
    }
    let footer = ParquetMetaDataReader::new().parse_and_finish(&open).map_err(|error| error.to_string())?;
    let footer = footer.file_metadata();
    if footer.num_rows() != part.rows as i64 {
        return Err(format!("it has {} rows, but {} were published", footer.num_rows(), part.rows));
    }
    let identity = serde_json::to_string(&manifest.identity).map_err(|error| error.to_string())?;
    for (key, wanted) in [
        (manifest::IDENTITY_KEY, identity),
        (manifest::VERSION_KEY, manifest.version.clone()),
        (manifest::FIRST_ROW_KEY, part.first_row.to_string()),
    ] {
        if value(footer, key) != Some(&wanted) {
            return Err(format!("its footer's {key} is not {wanted}"));
        }
    }
    Ok(())
}

fn value<'a>(footer: &'a FileMetaData, key: &str) -> Option<&'a String> {
    footer.key_value_metadata()?.iter().find(|entry| entry.key == key)?.value.as_ref()
}

/// Files of the output folder that were not published.
fn unpublished_files(output: &Path, manifest: &Manifest) -> Result<Vec<String>, JobError> {
    if !output.is_dir() {
        return Ok(Vec::new());
    }
    let entries = output.read_dir().map_err(JobError::io("list", output))?;
    let paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<PathBuf>, _>>();
    let mut paths = paths.map_err(JobError::io("list", output))?;
    paths.sort();
    let known = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default();
        name == manifest::NAME || manifest.parts.iter().any(|part| name == part.name.as_str())
    };
    Ok(paths
        .iter()
        .filter(|path| !known(path))
        .map(|path| format!("{}: not published", path.display()))
        .collect())
}

/// Objects below the output that were not published.
fn unpublished_objects(
    bucket: &Arc<dyn Bucket>,
    url: &ObjectUrl,
    manifest: &Manifest,
) -> Result<Vec<String>, JobError> {
    let key = |name: &str| format!("{}/{name}", url.key);
    let mut found = bucket.list(&url.key, true)?;
    found.retain(|object| {
        object.key != key(manifest::NAME) && !manifest.parts.iter().any(|part| object.key == key(&part.name))
    });
    Ok(found.iter().map(|object| format!("{}: not published", url.with_key(&*object.key))).collect())
}

#[cfg(test)]
mod tests;
