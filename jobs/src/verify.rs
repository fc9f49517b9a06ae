//! Checks a published output against its manifest.

use crate::error::JobError;
use crate::identity::digest_file;
use crate::journal::working_folder;
use crate::manifest::{self, Manifest, Part};
use parquet::file::metadata::{FileMetaData, ParquetMetaDataReader};
use std::fs::File;
use std::path::{Path, PathBuf};

/// Checks that an output is whole and as it was published: names, sizes, digests, rows, and the identity in
/// each footer.
///
/// # Errors
/// [`JobError::Io`] if there is no manifest; [`JobError::NotAsPublished`] with all that is wrong.
pub fn verify(output: &Path) -> Result<Manifest, JobError> {
    let beside = working_folder(output).join(manifest::NAME);
    let inside = output.join(manifest::NAME);
    let manifest = Manifest::read(if output.is_dir() { &inside } else { &beside })?;
    let mut problems = Vec::new();
    if output.is_dir() && beside.exists() && Manifest::read(&beside)? != manifest {
        problems.push(format!("{} and {} differ", inside.display(), beside.display()));
    }
    if manifest.identity.digest() != manifest.identity_blake3 {
        problems.push("the manifest's identity is not that of its digest".to_string());
    }
    let mut next = 0;
    for part in &manifest.parts {
        if part.first_row != next {
            problems.push(format!("{}: it begins at row {}, not {next}", part.name, part.first_row));
        }
        next = part.first_row + part.rows;
        let path = if output.is_dir() { output.join(&part.name) } else { output.to_path_buf() };
        if let Err(problem) = check_part(&path, part, &manifest) {
            problems.push(format!("{}: {problem}", path.display()));
        }
    }
    if next != manifest.rows {
        problems.push(format!("the parts have {next} rows, the manifest says {}", manifest.rows));
    }
    problems.extend(strangers(output, &manifest)?);
    if problems.is_empty() {
        return Ok(manifest);
    }
    Err(JobError::NotAsPublished { output: output.to_path_buf(), problems: problems.join("\n") })
}

fn check_part(path: &Path, part: &Part, manifest: &Manifest) -> Result<(), String> {
    let size = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    if size != part.bytes {
        return Err(format!("it has {size} bytes, {} were published", part.bytes));
    }
    let digest = digest_file(path).map_err(|error| error.to_string())?;
    if digest != part.blake3 {
        return Err(format!("its BLAKE3 is {digest}, {} was published", part.blake3));
    }
    let file = File::open(path).map_err(|error| error.to_string())?;
    let footer = ParquetMetaDataReader::new().parse_and_finish(&file).map_err(|error| error.to_string())?;
    let footer = footer.file_metadata();
    if footer.num_rows() != part.rows as i64 {
        return Err(format!("it has {} rows, {} were published", footer.num_rows(), part.rows));
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
fn strangers(output: &Path, manifest: &Manifest) -> Result<Vec<String>, JobError> {
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

#[cfg(test)]
mod tests;
