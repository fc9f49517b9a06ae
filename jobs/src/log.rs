//! What is printed: logs and notes to standard error, results to standard output.

use crate::error::JobError;
use crate::printable::printable_lines;
use anstream::AutoStream;
use clap::ColorChoice;
use std::io::{ErrorKind, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;
use terminal_size::{Height, Width};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// The environment variable of many programs that says what to log.
const RUST_LOG: &str = "RUST_LOG";

/// What is logged unless somebody says otherwise.
const USUAL: &str = "warn";

/// How logs and notes are written to standard error.
#[derive(clap::ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// As people read them.
    #[default]
    Text,
    /// An object of JSON on each line, with timestamp, level and message.
    Json,
}

impl LogFormat {
    /// The value of `--log-format`.
    pub const fn name(self) -> &'static str {
        match self {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        }
    }
}

/// Whether lines are objects of JSON.
static JSON: AtomicBool = AtomicBool::new(false);

/// Whether lines of standard error are objects of JSON from now on.
pub(crate) fn set_format(format: LogFormat) {
    JSON.store(format == LogFormat::Json, Ordering::Relaxed);
}

/// Whether lines of standard error are objects of JSON. It may be asked by a signal handler.
pub(crate) fn is_json() -> bool {
    JSON.load(Ordering::Relaxed)
}

/// Starts logging. `filter` is a level or a filter as in `RUST_LOG`, which counts where there is none. Row text is logged
/// at `debug` and `trace` only.
///
/// # Errors
/// [`JobError::Usage`] for a malformed filter.
pub fn start(filter: Option<&str>, color: ColorChoice, format: LogFormat) -> Result<(), JobError> {
    set_format(format);
    let parse = |filter: &str| EnvFilter::builder().parse(filter);
    let filter = match (filter, std::env::var(RUST_LOG)) {
        (Some(filter), _) => {
            parse(filter).map_err(|error| JobError::Usage(format!("--log-level {filter}: {error}")))?
        }
        (None, Ok(filter)) if !filter.is_empty() => parse(&filter).unwrap_or_else(|error| {
            note!("warning: {RUST_LOG}={filter}: {error}; logging at {USUAL}");
            EnvFilter::new(USUAL)
        }),
        (None, _) => EnvFilter::new(USUAL),
    };
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // It would print errors of printing, and fail at that.
    let subscriber = subscriber.with_target(false).with_ansi(colored(color)).log_internal_errors(false);
    // Only the first call of a process can succeed; a second one keeps the first's filter.
    let _ = match format {
        LogFormat::Text => subscriber.try_init(),
        LogFormat::Json => {
            std::panic::set_hook(Box::new(|panic| print_event("ERROR", &panic.to_string(), &[])));
            let json = subscriber.json().flatten_event(true);
            json.with_current_span(false).with_span_list(false).try_init()
        }
    };
    Ok(())
}

/// Reads the filter of `--log-level`. A bare word is a level there: as the name of a part it would log all of it, and
/// nothing else.
pub(crate) fn log_filter(text: &str) -> Result<String, String> {
    let level = |part: &str| {
        part.contains(['=', '[']) || !part.trim().is_empty() && part.trim().parse::<LevelFilter>().is_ok()
    };
    match text.split(',').find(|part| !level(part)) {
        Some(part) => Err(format!("{part:?} is not off, error, warn, info, debug or trace")),
        None => EnvFilter::builder().parse(text).map(|_| text.to_string()).map_err(|error| error.to_string()),
    }
}

/// Makes writes beyond a limit of file sizes fail, as they do on a full disk. They would end the process, which for
/// standard error is no reason to.
#[cfg(unix)]
pub(crate) fn survive_file_limits() {
    // SAFETY: it installs no handler, and nothing here depends on what SIGXFSZ does.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

#[cfg(not(unix))]
pub(crate) fn survive_file_limits() {}

/// Whether standard error gets colours: if asked for, else as the parser of the command line does it.
fn colored(color: ColorChoice) -> bool {
    match color {
        ColorChoice::Always => true,
        ColorChoice::Never => false,
        ColorChoice::Auto => AutoStream::choice(&std::io::stderr()) != anstream::ColorChoice::Never,
    }
}

/// Prints a line to standard error. If nobody can read it any more, that is no reason to end a job.
macro_rules! note {
    ($($line:tt)*) => { $crate::log::print_note(&format!($($line)*)) };
}
pub(crate) use note;

/// Prints a line to standard error, in a terminal broken between words.
pub(crate) fn print_note(line: &str) {
    if is_json() {
        let (level, message) = match line.split_once(": ") {
            Some(("error", message)) => ("ERROR", message),
            Some(("warning", message)) => ("WARN", message),
            _ => ("INFO", line),
        };
        return print_event(level, message, &[]);
    }
    // It may quote names of files and columns.
    let line = &*printable_lines(line);
    let mut error = std::io::stderr();
    let line = filled(line, terminal_size::terminal_size_of(&error));
    let _ = error.write_all((line + "\n").as_bytes());
}

/// Prints an object of JSON with a message, and numbers by name, to standard error.
pub(crate) fn print_event(level: &str, message: &str, numbers: &[(&str, u64)]) {
    let timestamp = humantime::format_rfc3339_micros(SystemTime::now()).to_string();
    let mut event = serde_json::json!({"timestamp": timestamp, "level": level, "message": message});
    numbers.iter().for_each(|&(name, number)| event[name] = number.into());
    let _ = std::io::stderr().write_all(format!("{event}\n").as_bytes());
}

/// Lines as a terminal of a size shows them whole; as they are elsewhere, for programs that read them.
fn filled(lines: &str, size: Option<(Width, Height)>) -> String {
    size.map_or_else(|| lines.to_string(), |(width, _)| fill(lines, usize::from(width.0)))
}

fn fill(line: &str, width: usize) -> String {
    let options = textwrap::Options::new(width)
        .subsequent_indent("  ")
        .break_words(false)
        .word_separator(textwrap::WordSeparator::AsciiSpace)
        .word_splitter(textwrap::WordSplitter::NoHyphenation);
    let lines: Vec<String> = line.split('\n').map(|line| textwrap::fill(line, &options)).collect();
    lines.join("\n")
}

/// Prints lines of a result to standard output, in a terminal broken between words.
///
/// # Errors
/// [`JobError::Io`].
pub(crate) fn print_filled(lines: &str) -> Result<(), JobError> {
    print(&filled(lines, terminal_size::terminal_size_of(std::io::stdout())))
}

/// Prints a result to standard output. A reader that has seen enough (`| head`) is no error.
///
/// # Errors
/// [`JobError::Io`].
pub(crate) fn print(text: &str) -> Result<(), JobError> {
    let mut output = std::io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(JobError::io("write to", "standard output")(error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_level_is_a_level_or_a_filter() {
        for good in ["warn", "DEBUG", "off", "jobs=debug,warn", "info,engine=trace"] {
            assert_eq!(log_filter(good), Ok(good.to_string()));
        }
        for wrong in ["nonsense", "", "warn,loud", "jobs=loud"] {
            assert!(log_filter(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn lines_break_between_words() {
        let line = "engine: two threads of a /path/that/is/long.parquet\nsecond line";
        assert_eq!(fill(line, 20), "engine: two threads\n  of a\n  /path/that/is/long.parquet\nsecond line");
    }
}
