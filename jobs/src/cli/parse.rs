//! The command line and the job file that it names, parsed.
//!
//! A job file is TOML with the flags' names as keys. Its keys are turned into flags, put before those of
//! the command line and parsed by the same parser, so that one rule holds for both.

use crate::cli::args::{Cli, Command};
use crate::error::JobError;
use clap::error::{ContextKind, ContextValue};
use clap::parser::ValueSource;
use clap::{ColorChoice, CommandFactory, FromArgMatches, Parser};
use engine::models::read_capped;
use std::ffi::OsString;
use std::path::Path;

/// Parses the command line and the job file that it names.
///
/// # Errors
/// The parser's own error, which knows how to show itself and its exit code, or what is wrong with the file.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Cli, ParseError> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let matches = Cli::command().color(color(&arguments)).try_get_matches_from(&arguments)?;
    let cli = Cli::from_arg_matches(&matches)?;
    let Command::Run(run) = &cli.command else { return Ok(cli) };
    let (Some(path), Some(("run", given))) = (&run.job, matches.subcommand()) else { return Ok(cli) };
    let given = |id: &str| given.value_source(id) == Some(ValueSource::CommandLine);
    let mut all: Vec<OsString> = vec!["gristmill".into(), "run".into()];
    all.extend(file_flags(path, given)?.into_iter().map(OsString::from));
    // Before `run` there can be --log-level and --color only; behind it, the command line as it stands.
    all.push(format!("--log-level={}", cli.log_level).into());
    all.push(format!("--color={}", cli.color).into());
    let run_at = arguments.iter().position(|a| a == "run").map_or(arguments.len(), |at| at + 1);
    all.extend_from_slice(&arguments[run_at..]);
    let in_file = |error: clap::Error| {
        let text = error.to_string();
        let text =
            text.strip_prefix("error: ").unwrap_or(&text).split("\n\nUsage").next().unwrap_or("").trim_end();
        ParseError::File(JobError::Usage(format!("{}: {text}", path.display())))
    };
    Cli::try_parse_from(all).map_err(in_file)
}

/// What `--color` says, which the parser needs before it has parsed.
fn color(arguments: &[OsString]) -> ColorChoice {
    let mut choice = ColorChoice::Auto;
    let texts: Vec<&str> = arguments.iter().map_while(|argument| argument.to_str()).collect();
    for (i, text) in texts.iter().enumerate() {
        let value = match text.strip_prefix("--color") {
            Some("") => texts.get(i + 1).copied(),
            Some(value) => value.strip_prefix('='),
            None => None,
        };
        choice = value.and_then(|value| value.parse().ok()).unwrap_or(choice);
    }
    choice
}

/// What is wrong with the command line or the job file.
#[derive(Debug, thiserror::Error)]
pub enum ParseError {
    /// The command line, or a call for help.
    #[error(transparent)]
    CommandLine(#[from] clap::Error),
    /// The job file.
    #[error(transparent)]
    File(#[from] JobError),
}

/// The keys of a job file as flags, but for those that the command line gives.
fn file_flags(path: &Path, given: impl Fn(&str) -> bool) -> Result<Vec<String>, JobError> {
    let wrong = |why: String| JobError::Usage(format!("{}: {why}", path.display()));
    let bytes = read_capped(path, 1 << 20)?;
    let text = String::from_utf8(bytes).map_err(|_| wrong("is not UTF-8".into()))?;
    let table: toml::Table = text.parse().map_err(|e: toml::de::Error| wrong(e.to_string()))?;
    let mut command = Cli::command();
    command.build();
    let run = command.find_subcommand("run").ok_or_else(|| wrong("there is no `run`".into()))?;
    let mut flags = Vec::new();
    for (key, value) in table {
        let name = key.replace('_', "-");
        let known = run.get_arguments().find(|arg| {
            let aliases = arg.get_all_aliases().unwrap_or_default();
            arg.get_long() == Some(name.as_str()) || aliases.contains(&name.as_str())
        });
        let Some(arg) = known.filter(|arg| !matches!(arg.get_id().as_str(), "help" | "log_level" | "color"))
        else {
            let near = nearest(&name).map_or(String::new(), |near| format!("; did you mean `{near}`?"));
            return Err(wrong(format!("unknown key `{key}`{near}")));
        };
        if !given(arg.get_id().as_str()) {
            let takes_value = arg.get_action().takes_values();
            add_flag(&mut flags, &name, &value, takes_value)
                .map_err(|why| wrong(format!("`{key}` {why}")))?;
        }
    }
    Ok(flags)
}

fn add_flag(
    flags: &mut Vec<String>,
    name: &str,
    value: &toml::Value,
    takes_value: bool,
) -> Result<(), String> {
    use toml::Value::{Array, Boolean, Table};
    match value {
        Boolean(on) if !takes_value => {
            if *on {
                flags.push(format!("--{name}"));
            }
        }
        _ if !takes_value => return Err("is either true or false".into()),
        Array(items) => items.iter().try_for_each(|item| add_flag(flags, name, item, true))?,
        Table(_) => {
            flags.push(format!("--{name}={}", serde_json::to_string(value).map_err(|e| e.to_string())?))
        }
        toml::Value::String(text) => flags.push(format!("--{name}={text}")),
        other => flags.push(format!("--{name}={other}")),
    }
    Ok(())
}

/// The flag whose name is nearest to an unknown one, by the parser's own measure.
fn nearest(name: &str) -> Option<String> {
    let error = Cli::try_parse_from(["gristmill", "run", &format!("--{name}")]).err()?;
    match error.get(ContextKind::SuggestedArg)? {
        ContextValue::String(flag) => Some(flag.trim_start_matches('-').to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
