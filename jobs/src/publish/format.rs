//! The format of an output, which its name says.

use crate::error::JobError;
use crate::store::location::Location;

/// The format of an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputFormat {
    Parquet,
}

/// Endings of files that are something else. One that is in no list may be a part of a name, as in `answers.v2`.
const OTHERS: [&str; 31] = [
    "csv", "json", "jsonl", "ndjson", "tsv", "txt", "text", "arrow", "arrows", "feather", "ipc", "avro",
    "orc", "xlsx", "xls", "ods", "db", "sqlite", "duckdb", "html", "xml", "yaml", "yml", "md", "pkl", "npy",
    "h5", "gz", "zst", "zip", "lance",
];

impl OutputFormat {
    /// The format of an output by its name, which a folder of parts has too.
    ///
    /// # Errors
    /// [`JobError::Usage`] for an ending that stands for another format.
    pub fn of(output: &Location) -> Result<OutputFormat, JobError> {
        let name = match output {
            Location::Local(path) => path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            Location::Object(url) => url.name().to_string(),
        };
        match name.rsplit_once('.').map(|(_, ending)| ending.to_lowercase()) {
            Some(ending) if OTHERS.contains(&ending.as_str()) => Err(JobError::Usage(format!(
                "--output {output}: .{ending} is not written; name the output .parquet"
            ))),
            _ => Ok(OutputFormat::Parquet),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn of(name: &str) -> Result<OutputFormat, JobError> {
        OutputFormat::of(&Location::from(std::ffi::OsString::from(name)))
    }

    #[test]
    fn a_name_says_what_is_written_or_is_refused() {
        for name in ["out/a.parquet", "a", "a.v2", "2026-11.26", "s3://b/out", "a.csv/b"] {
            assert_eq!(of(name).unwrap(), OutputFormat::Parquet, "{name}");
        }
        for name in ["a.arrow", "A.FEATHER", "s3://b/a.xlsx", "a.csv.gz", "dir/a.tsv"] {
            assert!(of(name).unwrap_err().to_string().contains("is not written"), "{name}");
        }
    }
}
