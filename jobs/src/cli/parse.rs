//! The command line and the job file that it names, parsed.
//!
//! A job file is TOML with the flags' names as keys. Its keys are turned into flags, put before those of
//! the command line and parsed by the same parser, so that one rule holds for both.

use crate::cli::args::{Cli, Command};
use crate::cli::job_file;
use crate::cli::yes_no::refuse_apart;
use crate::digest::digest_bytes;
use crate::error::JobError;
use crate::log::LogFormat;
use clap::parser::ValueSource;
use clap::{ColorChoice, CommandFactory, FromArgMatches, Parser, ValueEnum};
use std::ffi::OsString;

/// Parses the command line and the job file that it names.
///
/// # Errors
/// The parser's own error, which knows how to show itself and its exit code, or what is wrong with the file.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Cli, ParseError> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    parse_with_file(&arguments).map(|(cli, _)| cli)
}

/// The flags of a command line of `run`, those of the job file that it names before its own, and what they mean. No file is named
/// any more, so that they say the same where that file is not.
///
/// # Errors
/// As [`parse`].
pub fn parse_to_flags(arguments: &[OsString]) -> Result<(Cli, Vec<OsString>), ParseError> {
    let (cli, all) = parse_with_file(arguments)?;
    let (Command::Run(run), Some(all)) = (&cli.command, all) else {
        return Ok((cli, arguments.iter().skip(2).cloned().collect()));
    };
    let job = run.job.as_ref().map(|path| path.as_os_str());
    let without = |at: usize| {
        let mut flags = all.clone();
        flags.remove(at);
        flags
    };
    // Which of the arguments of that text is the job file, only the parser knows.
    let named = (2..all.len()).filter(|&at| Some(all[at].as_os_str()) == job).map(without).find(|flags| {
        let parsed = Cli::try_parse_from(flags);
        parsed.is_ok_and(|cli| matches!(cli.command, Command::Run(run) if run.job.is_none()))
    });
    Ok((cli, named.unwrap_or(all).split_off(2)))
}

/// The command line, parsed, and as it stands with the flags of the job file if it names one.
fn parse_with_file(arguments: &[OsString]) -> Result<(Cli, Option<Vec<OsString>>), ParseError> {
    let mut command = Cli::command().color(color(arguments));
    // Commands know how they are called once they are built.
    command.build();
    refuse_apart(&command, arguments)?;
    let matches = command.try_get_matches_from(arguments)?;
    let cli = Cli::from_arg_matches(&matches)?;
    let job = match &cli.command {
        Command::Run(run) | Command::RunShards(run) => &run.job,
        Command::Show(show) => &show.run.job,
        Command::Plan(plan) => &plan.run.job,
        Command::Publish(publish) => &publish.run.job,
        _ => return Ok((cli, None)),
    };
    let (Some(path), Some((name, given))) = (job, matches.subcommand()) else { return Ok((cli, None)) };
    let given = |id: &str| {
        given.try_contains_id(id).is_ok() && given.value_source(id) == Some(ValueSource::CommandLine)
    };
    let mut all: Vec<OsString> = vec!["gristmill".into(), name.into()];
    let flags = job_file::flags(path, given)?;
    let read = digest_bytes(format!("{flags:?}").as_bytes());
    all.extend(flags);
    // Before the command there can be --log-level, --log-format and --color only; behind it, the command line as it stands.
    all.extend(cli.log_level.as_ref().map(|level| format!("--log-level={level}").into()));
    all.push(format!("--color={}", cli.color).into());
    all.push(format!("--log-format={}", cli.log_format.name()).into());
    let command_at = arguments.iter().position(|a| a == name).map_or(arguments.len(), |at| at + 1);
    all.extend_from_slice(&arguments[command_at..]);
    let in_file = |error| ParseError::File(JobError::Usage(format!("{}: {}", path.display(), said(&error))));
    let mut cli = Cli::try_parse_from(&all).map_err(in_file)?;
    if let Command::Run(run) | Command::RunShards(run) = &mut cli.command {
        run.job_read = Some(read);
    }
    Ok((cli, Some(all)))
}

/// What the parser says of values that no command line has given, without how to call the command.
pub(super) fn said(error: &clap::Error) -> String {
    let text = error.to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let ends = ["\n\nUsage", "\n\nFor more information"];
    let end = ends.iter().filter_map(|end| text.find(end)).min();
    text[..end.unwrap_or(text.len())].trim_end().into()
}

/// What `--color` says, which the parser needs before it has parsed.
fn color(arguments: &[OsString]) -> ColorChoice {
    values_of("--color", arguments).filter_map(|value| value.parse().ok()).last().unwrap_or(ColorChoice::Auto)
}

/// What `--log-format` says, which is needed where the parser fails.
pub(crate) fn log_format(arguments: &[OsString]) -> LogFormat {
    let formats = values_of("--log-format", arguments);
    formats.filter_map(|value| LogFormat::from_str(value, false).ok()).last().unwrap_or_default()
}

/// The values of a flag, before anything is parsed.
fn values_of<'a>(flag: &'a str, arguments: &'a [OsString]) -> impl Iterator<Item = &'a str> {
    let texts: Vec<&str> = arguments.iter().map_while(|argument| argument.to_str()).collect();
    let value = move |i: usize| match texts[i].strip_prefix(flag) {
        Some("") => texts.get(i + 1).copied(),
        Some(value) => value.strip_prefix('='),
        None => None,
    };
    let count = arguments.iter().map_while(|argument| argument.to_str()).count();
    (0..count).filter_map(value)
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

#[cfg(test)]
mod tests;
