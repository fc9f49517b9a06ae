//! Options by keywords, for callers that have rows in memory: the keys of a job file, without those of files.
//!
//! They become flags and go through the parser of the command line, as a job file does, so that one rule holds for all three.

use crate::cli::args::{Cli, Command, RunArgs};
use crate::cli::job_file::{flags_of, ids, overridden, parse, read};
use crate::cli::parse::said;
use crate::error::JobError;
use crate::options::engine::EngineOptions;
use crate::options::model::ModelOptions;
use clap::{Args, Parser};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// What is of files, journals and processes, and has no meaning for rows in memory. A job file may have it, for the command
/// line; a keyword is refused.
const OF_FILES: [&str; 24] = [
    "input",
    "input_format",
    "output",
    "state_dir",
    "limit",
    "max_error_rate",
    "max_errors",
    "stop_on_errors",
    "on_corrupt",
    "rows_per_file",
    "shard",
    "resume",
    "take_over",
    "fresh",
    "retry",
    "hang_timeout",
    "in_process",
    "metrics",
    "price_per_hour",
    "compare_price",
    "batch",
    "served_model_name",
    "job",
    "job_read",
];

/// The options of a model that is loaded once, by keywords, with a job file below them.
#[derive(Clone, Debug, Default)]
pub struct Keywords {
    /// The job file.
    pub job: Option<PathBuf>,
    /// Its keys, and those that were given.
    file: toml::Table,
    given: toml::Table,
}

impl Keywords {
    /// Takes keys, over those of a job file, whose text is given or read.
    ///
    /// # Errors
    /// [`JobError::Usage`] about the file; what cannot be read.
    pub fn new(job: Option<PathBuf>, text: Option<String>, given: toml::Table) -> Result<Keywords, JobError> {
        let file = match (&job, text) {
            (None, _) => toml::Table::new(),
            (Some(path), None) => read(path)?,
            (Some(path), Some(text)) => parse(path, &text)?,
        };
        Ok(Keywords { job, file, given })
    }

    /// The same with other keys over these, none of which may be of the model or the engine.
    ///
    /// # Errors
    /// [`JobError::Usage`] names the key.
    pub fn with(&self, more: toml::Table) -> Result<Keywords, JobError> {
        let loaded = loaded();
        for key in more.keys() {
            if ids([key].into_iter()).iter().any(|id| loaded.contains(id)) {
                return Err(JobError::Usage(format!(
                    "`{key}` is of the model as it is loaded; give it to gristmill.Engine"
                )));
            }
        }
        let new = ids(more.keys());
        let mut given = self.given.clone();
        given.retain(|key, _| {
            let known = ids([&key.to_string()].into_iter());
            !known.iter().any(|id| overridden(id, |other| new.contains(other)))
        });
        given.extend(more);
        Ok(Keywords { given, ..self.clone() })
    }

    /// What they mean, as flags of `run`.
    ///
    /// # Errors
    /// [`JobError::Usage`] names the key.
    pub fn run_args(&self) -> Result<RunArgs, JobError> {
        let given = ids(self.given.keys());
        let of_file =
            |id: &str| Ok(!OF_FILES.contains(&id) && !overridden(id, |other| given.contains(other)));
        let of_keywords = |id: &str| match OF_FILES.contains(&id) {
            true => Err(format!(
                "`{id}` is of jobs that read and write files, and these rows are in memory; leave it out"
            )),
            false => Ok(true),
        };
        let folder = self.job.as_deref().and_then(Path::parent).unwrap_or(Path::new(""));
        let named = |why: String| match &self.job {
            Some(path) => JobError::Usage(format!("{}: {why}", path.display())),
            None => JobError::Usage(why),
        };
        let mut all: Vec<OsString> = vec!["gristmill".into(), "run".into()];
        all.extend(flags_of(self.file.clone(), folder, of_file).map_err(named)?);
        all.extend(flags_of(self.given.clone(), Path::new(""), of_keywords).map_err(JobError::Usage)?);
        let cli = Cli::try_parse_from(all).map_err(|error| JobError::Usage(said(&error)))?;
        match cli.command {
            Command::Run(args) => Ok(*args),
            _ => Err(JobError::Internal("keywords that are no job".into())),
        }
    }
}

/// The keys of the model and of the engine, which stay as they are once it is loaded.
fn loaded() -> Vec<String> {
    let command = EngineOptions::augment_args(ModelOptions::augment_args(clap::Command::new("")));
    command.get_arguments().map(|arg| arg.get_id().to_string()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use clap::CommandFactory;

    fn table(text: &str) -> toml::Table {
        text.parse().unwrap()
    }

    fn keywords(text: &str) -> Keywords {
        Keywords::new(None, None, table(text)).unwrap()
    }

    #[test]
    fn keys_mean_what_they_mean_in_a_job_file() {
        let engine = keywords("model = \"nano\"\ntemperature = 0\nprompt = \"{{ a }}\"");
        let run =
            engine.with(table("prompt_column = \"b\"\nmax_tokens = 5\nreturns = [\"logprobs\"]")).unwrap();
        let args = run.run_args().unwrap();
        assert_eq!((args.prompt.prompt, args.prompt.prompt_column.as_deref()), (None, Some("b")));
        assert_eq!((args.sampling.max_tokens, args.sampling.temperature), (Some(5), Some(0.0)));
        assert_eq!(args.returns.len(), 1);
        let flags =
            "gristmill run --model nano --temperature 0 --prompt-column b --max-tokens 5 --return logprobs";
        let Command::Run(same) = Cli::try_parse_from(flags.split(' ')).unwrap().command else { panic!() };
        assert_eq!(run.run_args().unwrap(), *same);
    }

    #[test]
    fn what_has_no_meaning_is_refused_by_name() {
        let refused = |given: &str, more: &str| {
            let run = keywords(given).with(table(more)).and_then(|run| run.run_args());
            run.unwrap_err().to_string()
        };
        assert!(refused("", "output = \"a\"").starts_with("`output` is of jobs that read and write files"));
        assert!(refused("", "device = \"cpu\"").contains("give it to gristmill.Engine"));
        assert!(refused("", "max_token = 1").contains("unknown key `max_token`; did you mean `max-tokens`?"));
        let hot = refused("", "temperature = \"hot\"");
        assert!(hot.contains("'--temperature") && hot.ends_with("a number such as 0.5"), "{hot}");
        assert!(refused("", "keep = []").starts_with("`keep` is an empty list"));
    }

    #[test]
    fn a_job_file_may_have_what_the_command_line_needs() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("job.toml");
        std::fs::write(&path, "input = \"a\"\noutput = \"b\"\nprompt = \"{{ a }}\"\nmodel = \"nano\"")
            .unwrap();
        let engine = Keywords::new(Some(path), None, table("model = \"other/model\"")).unwrap();
        let args = engine.run_args().unwrap();
        assert!(args.input.is_empty() && args.output.is_none());
        assert_eq!(args.model.model.as_deref(), Some("other/model"));
        let other = engine.with(table("prompt_column = \"b\"")).unwrap().run_args().unwrap();
        assert_eq!(other.prompt.prompt, None);
    }

    #[test]
    fn each_key_of_files_is_one_of_the_parser() {
        let command = Cli::command();
        let run = command.find_subcommand("run").unwrap();
        for id in OF_FILES.iter().filter(|id| **id != "job_read") {
            assert!(run.get_arguments().any(|arg| arg.get_id() == id), "{id}");
        }
    }
}
