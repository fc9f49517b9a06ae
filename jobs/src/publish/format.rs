//! The format of an output, which its name says.

use crate::error::JobError;
use crate::input::format::InputFormat;
use crate::store::location::Location;

/// The format of an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputFormat {
    Parquet,
    /// JSON lines, which are named `.json` as well.
    Jsonl,
    Csv,
}

/// Endings of files that are something else. One that is in no list may be a part of a name, as in `answers.v2`.
const OTHERS: [&str; 27] = [
    "tsv", "txt", "text", "arrow", "arrows", "feather", "ipc", "avro", "orc", "xlsx", "xls", "ods", "db",
    "sqlite", "duckdb", "html", "xml", "yaml", "yml", "md", "pkl", "npy", "h5", "gz", "zst", "zip", "lance",
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
        OutputFormat::of_name(&name).map_err(|ending| {
            JobError::Usage(format!(
                "--output {output}: .{ending} is not written; name the output .parquet, .jsonl or .csv"
            ))
        })
    }

    /// The format of a file by its name.
    ///
    /// # Errors
    /// The ending, if it stands for another format.
    pub fn of_name(name: &str) -> Result<OutputFormat, String> {
        match name.rsplit_once('.').map(|(_, ending)| ending.to_lowercase()) {
            Some(ending) if ending == "csv" => Ok(OutputFormat::Csv),
            Some(ending) if ["json", "jsonl", "ndjson"].contains(&ending.as_str()) => Ok(OutputFormat::Jsonl),
            Some(ending) if OTHERS.contains(&ending.as_str()) => Err(ending),
            _ => Ok(OutputFormat::Parquet),
        }
    }

    /// The ending of the names of parts.
    pub fn ending(self) -> &'static str {
        match self {
            OutputFormat::Parquet => "parquet",
            OutputFormat::Jsonl => "jsonl",
            OutputFormat::Csv => "csv",
        }
    }

    /// The same format as one of inputs.
    pub fn as_input(self) -> InputFormat {
        match self {
            OutputFormat::Parquet => InputFormat::Parquet,
            OutputFormat::Jsonl => InputFormat::Jsonl,
            OutputFormat::Csv => InputFormat::Csv,
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
        for (name, format) in [
            ("a.csv", OutputFormat::Csv),
            ("s3://b/a.JSON", OutputFormat::Jsonl),
            ("a.jsonl", OutputFormat::Jsonl),
            ("a.parquet.ndjson", OutputFormat::Jsonl),
        ] {
            assert_eq!(of(name).unwrap(), format, "{name}");
        }
        for name in ["a.arrow", "A.FEATHER", "s3://b/a.xlsx", "a.csv.gz", "dir/a.tsv"] {
            assert!(of(name).unwrap_err().to_string().contains("is not written"), "{name}");
        }
    }
}
