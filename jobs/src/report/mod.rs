//! `gristmill report`: what a job took and what came out, as one HTML file.
//!
//! It is made of the output, its manifest, its receipt and its journal, as far as they are there; what is missing is said.

mod chart;
mod counts;
mod labels;
pub mod page;
mod rows;
mod sections;
mod times;

use crate::error::JobError;
use crate::evaluate::Evaluation;
use crate::files::{refuse_unwritable, rename, write_durably};
use crate::journal::JournalReader;
use crate::journal::identity::Identity;
use crate::publish::format::OutputFormat;
use crate::publish::manifest::{self, Manifest};
use crate::publish::verify::verify;
use crate::receipt;
use crate::shards;
use crate::store::location::Location;
use page::{BEGINNING, Page, Text};
use rows::Rows;
use serde_json::Value;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

/// What to make a report of.
#[derive(Clone, Debug)]
pub struct Report {
    pub output: Location,
    pub state_dir: PathBuf,
    /// Where it goes; beside the output if nothing is said.
    pub html: Option<PathBuf>,
    /// Whether texts of errors, which may quote rows, are in it.
    pub with_texts: bool,
    /// What labels are compared with, if with anything.
    pub truths: Option<Evaluation>,
}

/// What there is of a job.
struct Sources {
    manifest: Option<Manifest>,
    /// Or what is wrong with it.
    receipt: Result<Option<Value>, String>,
    /// Or why there is none.
    journal: Result<JournalReader, String>,
    rows: Rows,
}

impl Sources {
    fn identity(&self) -> Option<&Identity> {
        let journal = self.journal.as_ref().ok().map(JournalReader::identity);
        self.manifest.as_ref().map(|manifest| &manifest.identity).or(journal)
    }
}

impl Report {
    /// Makes the report and returns where it is.
    ///
    /// # Errors
    /// [`JobError::Usage`] if there is no output, or something else stands where the report goes;
    /// [`JobError::NotAsPublished`]; what cannot be read or written.
    pub fn write(&self) -> Result<PathBuf, JobError> {
        let html = self.place()?;
        refuse_others(&html)?;
        refuse_unwritable(&html)?;
        let text = self.page()?.html()?;
        let mut next = html.clone().into_os_string();
        next.push(".next");
        let next = PathBuf::from(next);
        write_durably(&next, &text)?;
        rename(&next, &html)?;
        Ok(html)
    }

    /// Where the report goes.
    fn place(&self) -> Result<PathBuf, JobError> {
        match (&self.html, &self.output) {
            (Some(html), _) => Ok(html.clone()),
            (None, Location::Local(output)) => Ok(beside(output)),
            (None, Location::Object(url)) => Err(JobError::Usage(format!(
                "{url} is in an object store, and a report is a file of this machine: say where with --html"
            ))),
        }
    }

    fn page(&self) -> Result<Page, JobError> {
        let output = self.output.to_string();
        if let Location::Local(path) = &self.output
            && !path.exists()
        {
            return Err(JobError::Usage(format!(
                "there is no output {output}, of which a report could be made; `gristmill status {output}` says how far its \
                 job is"
            )));
        }
        let manifest = Manifest::find(&self.state_dir, manifest::NAME);
        // An edited receipt is told in the page.
        if manifest.is_some()
            && let Err(error @ JobError::NotAsPublished { .. }) = verify(&self.output)
        {
            return Err(error);
        }
        let journal = match shards::local::begun(&self.state_dir) {
            Ok(Some(begun)) => {
                Err(format!("the output is of {}, each of which has a journal of its own", begun.shown()))
            }
            _ => JournalReader::of_begun(&self.state_dir).map_err(|error| error.to_string()),
        };
        let identity = manifest.as_ref().map(|manifest| manifest.identity.clone());
        let identity = identity.or_else(|| Some(journal.as_ref().ok()?.identity().clone()));
        let rows = Rows::of(&output, identity.as_ref(), self.with_texts)?;
        let sources =
            Sources { receipt: receipt::read(&self.state_dir, manifest.as_ref()), manifest, journal, rows };
        let figures = self.truths.as_ref().map(Evaluation::run).transpose()?;
        let name = match &self.output {
            Location::Local(path) => path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            Location::Object(url) => url.name().to_string(),
        };
        let version = env!("CARGO_PKG_VERSION");
        Ok(Page {
            title: Text::of(name),
            subtitle: Text::of(format!("Report of {output}, made by gristmill {version}")),
            tiles: sections::tiles(&sources),
            sections: sections::sections(&sources, figures.as_deref().unwrap_or_default(), self.with_texts),
        })
    }
}

/// `out/answers.html` beside `out/answers.parquet`.
fn beside(output: &Path) -> PathBuf {
    let name = output.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let stem = match name.rsplit_once('.') {
        // An ending that stands for no format is a part of the name, as in `answers.v2`.
        Some((stem, ending))
            if ending == "parquet" || OutputFormat::of_name(&name) != Ok(OutputFormat::Parquet) =>
        {
            stem
        }
        _ => &name,
    };
    output.with_file_name(format!("{stem}.html"))
}

/// Refuses to replace what is no report.
fn refuse_others(html: &Path) -> Result<(), JobError> {
    let mut head = Vec::new();
    let there = File::open(html).and_then(|file| file.take(BEGINNING.len() as u64).read_to_end(&mut head));
    match there {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Ok(_) if head == BEGINNING.as_bytes() => Ok(()),
        Ok(_) => Err(JobError::Usage(format!(
            "{} exists and is no report of gristmill; move it away, or choose another place with --html",
            html.display()
        ))),
        Err(error) => Err(JobError::io("replace", html)(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_lies_beside_its_output() {
        for (output, html) in [
            ("out/answers.parquet", "out/answers.html"),
            ("answers.jsonl", "answers.html"),
            ("out/answers", "out/answers.html"),
            ("out/answers.v2", "out/answers.v2.html"),
            ("out/answers.csv/", "out/answers.html"),
        ] {
            assert_eq!(beside(Path::new(output)), Path::new(html));
        }
    }
}
