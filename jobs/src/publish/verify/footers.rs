//! Checks an output whose manifest is not there: by what the footers of its files say.

use super::{Verified, value};
use crate::input::source::Source;
use crate::publish::format::OutputFormat;
use crate::publish::manifest;
use parquet::file::metadata::ParquetMetaDataReader;
use std::collections::BTreeMap;

/// What the footer of a part says.
struct Footer {
    name: String,
    identity: String,
    version: String,
    rows: u64,
}

/// Checks that files are parts of one job, and that no row is missing between them. Their bytes, and what may be missing at
/// the end, are not known without the manifest.
pub(super) fn check(files: impl Iterator<Item = Source>, manifest: &str) -> (Verified, Vec<String>) {
    let mut problems = Vec::new();
    let mut parts: BTreeMap<u64, Footer> = BTreeMap::new();
    for file in files {
        let name = file.name().display().to_string();
        let read = read(&file, name.clone()).map_err(|problem| format!("{name}: {problem}"));
        match read {
            Ok((first_row, part)) => {
                if let Some(other) = parts.insert(first_row, part) {
                    problems.push(format!("{name}: it begins at row {first_row}, as {} does", other.name));
                }
            }
            Err(problem) => problems.push(problem),
        }
    }
    let mut next = 0;
    for (&first_row, part) in &parts {
        if first_row != next {
            problems.push(format!("{}: it begins at row {first_row}, not {next}", part.name));
        }
        next = first_row.saturating_add(part.rows);
    }
    if let Some(first) = parts.values().next() {
        let other = |part: &&Footer| part.identity != first.identity || part.version != first.version;
        let others = parts.values().filter(other);
        problems
            .extend(others.map(|part| format!("{}: it is of another job than {}", part.name, first.name)));
    } else if problems.is_empty() {
        problems.push("it is empty, and there is no manifest of it".into());
    }
    (Verified { rows: next, files: parts.len(), without_manifest: Some(manifest.into()) }, problems)
}

/// The first row of a part, and what else its footer says.
fn read(file: &Source, name: String) -> Result<(u64, Footer), String> {
    if OutputFormat::of_name(&name).is_ok_and(|format| format != OutputFormat::Parquet) {
        return Err(
            "without the manifest, nothing tells what was published in a file that is not Parquet".into()
        );
    }
    let open = file.open().map_err(|error| error.to_string())?;
    let footer = ParquetMetaDataReader::new().parse_and_finish(&open).map_err(|error| error.to_string())?;
    let footer = footer.file_metadata();
    let text = |key: &str| {
        let value = value(footer, key).cloned();
        value.ok_or_else(|| format!("it is not an output of gristmill: its footer has no {key}"))
    };
    let first_row = text(manifest::FIRST_ROW_KEY)?;
    let first_row = first_row.parse().map_err(|_| format!("its first row is {first_row:?}"))?;
    let rows = u64::try_from(footer.num_rows()).map_err(|_| format!("it has {} rows", footer.num_rows()))?;
    let (identity, version) = (text(manifest::IDENTITY_KEY)?, text(manifest::VERSION_KEY)?);
    Ok((first_row, Footer { name, identity, version, rows }))
}
