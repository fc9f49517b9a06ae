//! The formats of input files, and how they are told.

use crate::error::JobError;
use clap::ValueEnum;

/// The format of an input file.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum InputFormat {
    /// Parquet.
    Parquet,
    /// JSON, one object a line.
    #[value(alias = "json", alias = "ndjson")]
    Jsonl,
    /// Fields between commas; the first line has the columns' names.
    Csv,
    /// The same between tabs.
    Tsv,
    /// Arrow IPC: a file, or a stream.
    #[value(alias = "feather", alias = "ipc")]
    Arrow,
    /// JSON lines of which each is read as bytes, whatever stands in it: the requests of a batch.
    #[value(skip)]
    Lines,
}

/// Endings of names, and what they stand for.
const ENDINGS: [(&str, InputFormat); 12] = [
    ("parquet", InputFormat::Parquet),
    ("parq", InputFormat::Parquet),
    ("pq", InputFormat::Parquet),
    ("jsonl", InputFormat::Jsonl),
    ("ndjson", InputFormat::Jsonl),
    ("json", InputFormat::Jsonl),
    ("csv", InputFormat::Csv),
    ("tsv", InputFormat::Tsv),
    ("arrow", InputFormat::Arrow),
    ("arrows", InputFormat::Arrow),
    ("feather", InputFormat::Arrow),
    ("ipc", InputFormat::Arrow),
];

/// Endings of files that are packed as a whole, which cannot be read from the middle.
const PACKED: [&str; 7] = ["gz", "bz2", "xz", "zst", "lz4", "zip", "7z"];

impl InputFormat {
    /// The format that the ending of a name says.
    pub fn of_name(name: &str) -> Option<InputFormat> {
        let ending = ending(name)?;
        ENDINGS.iter().find(|(known, _)| *known == ending).map(|(_, format)| *format)
    }

    /// The name that the flag takes.
    pub fn name(self) -> &'static str {
        match self {
            InputFormat::Parquet => "parquet",
            InputFormat::Jsonl => "jsonl",
            InputFormat::Csv => "csv",
            InputFormat::Tsv => "tsv",
            InputFormat::Arrow => "arrow",
            InputFormat::Lines => "lines",
        }
    }

    /// The format of a file by the flag, else by its name, else Parquet.
    ///
    /// # Errors
    /// [`JobError::Usage`] for a file that is packed as a whole.
    pub fn of_file(name: &str, given: Option<InputFormat>) -> Result<InputFormat, JobError> {
        if let Some(format) = given.filter(|&format| format != InputFormat::Lines) {
            return Ok(format);
        }
        match ending(name) {
            Some(ending) if PACKED.contains(&ending.as_str()) => {
                let why = "is packed as a whole, and rows are read from the middle of files too";
                Err(JobError::Usage(format!("--input {name}: .{ending} {why}; unpack it")))
            }
            _ => Ok(given.or_else(|| InputFormat::of_name(name)).unwrap_or(InputFormat::Parquet)),
        }
    }
}

/// The ending of a name without its dot, in small letters.
pub fn ending(name: &str) -> Option<String> {
    let name = name.rsplit(['/', '\\']).next()?;
    let (stem, ending) = name.rsplit_once('.')?;
    (!stem.is_empty()).then(|| ending.to_lowercase())
}

/// The format whose files a folder stands for: Parquet if it has any, else the one other that it has. A `.json` file
/// counts where nothing else is there: it often describes the others.
///
/// # Errors
/// The formats, where there are several and none is Parquet.
pub fn format_of_folder<'a>(
    names: impl Iterator<Item = &'a str>,
) -> Result<Option<InputFormat>, Vec<InputFormat>> {
    let (mut formats, mut json) = (Vec::new(), false);
    for name in names {
        match InputFormat::of_name(name) {
            Some(InputFormat::Jsonl) if ending(name).as_deref() == Some("json") => json = true,
            format => formats.extend(format),
        }
    }
    formats.sort();
    formats.dedup();
    match formats.as_slice() {
        [] => Ok(json.then_some(InputFormat::Jsonl)),
        [InputFormat::Parquet, ..] => Ok(Some(InputFormat::Parquet)),
        [one] => Ok(Some(*one)),
        _ => Err(formats),
    }
}

/// Which names of a folder are read as a format: not those in `.json` where it has other names of lines of JSON.
pub fn names_of_format<'a>(
    format: InputFormat,
    names: impl Iterator<Item = &'a str> + Clone,
) -> impl Fn(&str) -> bool {
    let is_json = |name: &str| ending(name).as_deref() == Some("json");
    let format = if format == InputFormat::Lines { InputFormat::Jsonl } else { format };
    let lines = names
        .filter(|name| !is_json(name))
        .any(|name| InputFormat::of_name(name) == Some(InputFormat::Jsonl));
    move |name| InputFormat::of_name(name) == Some(format) && !(lines && is_json(name))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_name_tells_its_format() {
        for (name, format) in [
            ("a/b.parquet", InputFormat::Parquet),
            ("b.CSV", InputFormat::Csv),
            ("b.json", InputFormat::Jsonl),
            ("data.txt", InputFormat::Parquet),
            ("a.csv/part", InputFormat::Parquet),
            (".csv", InputFormat::Parquet),
            ("s3://x/y.feather", InputFormat::Arrow),
        ] {
            assert_eq!(InputFormat::of_file(name, None).unwrap(), format, "{name}");
        }
        assert!(InputFormat::of_file("a.csv.gz", None).unwrap_err().to_string().contains("unpack it"));
        assert_eq!(InputFormat::of_file("a.gz", Some(InputFormat::Csv)).unwrap(), InputFormat::Csv);
        assert_eq!(InputFormat::of_file("a.csv", Some(InputFormat::Lines)).unwrap(), InputFormat::Lines);
        assert!(InputFormat::of_file("a.jsonl.gz", Some(InputFormat::Lines)).is_err());
    }

    #[test]
    fn a_folder_has_one_format() {
        let of = |names: &[&'static str]| format_of_folder(names.iter().copied());
        assert_eq!(of(&["a.parquet", "b.csv", "c.json"]), Ok(Some(InputFormat::Parquet)));
        assert_eq!(of(&["a.arrow", "dataset_info.json", "README.md"]), Ok(Some(InputFormat::Arrow)));
        assert_eq!(of(&["a.json", "README.md"]), Ok(Some(InputFormat::Jsonl)));
        assert_eq!(of(&["README.md"]), Ok(None));
        let names = ["a.jsonl", "manifest.json", "b.csv"];
        let read = names_of_format(InputFormat::Jsonl, names.into_iter());
        assert_eq!(names.map(read), [true, false, false]);
        assert!(names_of_format(InputFormat::Jsonl, names[1..].iter().copied())("manifest.json"));
        assert_eq!(of(&["a.csv", "b.jsonl"]), Err(vec![InputFormat::Jsonl, InputFormat::Csv]));
    }
}
