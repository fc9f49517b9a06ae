//! Flags that are true or false, as others write them: with the value in an argument of its own, which would be the name of a job
//! file, or as `--no-NAME`.

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, Command, Error};
use std::ffi::OsString;

/// Words that people write for true and false.
const WORDS: [(&str, bool); 6] =
    [("true", true), ("false", false), ("yes", true), ("no", false), ("on", true), ("off", false)];

/// Refuses such flags of a command line.
///
/// # Errors
/// Says what to write for the first.
pub fn refuse_apart(command: &Command, arguments: &[OsString]) -> Result<(), Error> {
    let mut called = command;
    let texts: Vec<&str> = arguments.iter().map(|argument| argument.to_str().unwrap_or_default()).collect();
    for (at, text) in texts.iter().enumerate().skip(1) {
        if let Some(command) = called.find_subcommand(text) {
            called = command;
        }
        let Some(name) = text.strip_prefix("--") else { continue };
        if name.is_empty() {
            break;
        }
        let next = texts.get(at + 1).copied().unwrap_or_default();
        if let Some(why) = apart(called, name, next) {
            return Err(called.clone().error(ErrorKind::InvalidValue, why));
        }
    }
    Ok(())
}

/// What is wrong with a flag before this argument, if it is such a flag.
fn apart(command: &Command, name: &str, next: &str) -> Option<String> {
    let flag = |name: &str| command.get_arguments().find(|arg| arg.get_long() == Some(name));
    if let Some(of) = name.strip_prefix("no-").and_then(flag) {
        return is_yes_no(of).then(|| format!("there is no --{name}; {}", instead(of, false)));
    }
    let flag = flag(name).filter(|flag| is_yes_no(flag))?;
    let (_, value) = WORDS.iter().find(|(word, _)| next.eq_ignore_ascii_case(word))?;
    Some(format!("--{name} {next}: the flag takes no value behind a space; {}", instead(flag, *value)))
}

fn is_yes_no(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::SetTrue) || arg.is_require_equals_set()
}

/// How a flag is given this value.
fn instead(arg: &Arg, value: bool) -> String {
    let name = arg.get_long().unwrap_or_default();
    match (arg.get_action(), value) {
        (ArgAction::SetTrue, true) => format!("write --{name} alone"),
        (ArgAction::SetTrue, false) => format!("leave --{name} out, which is false"),
        _ => format!("write --{name}={value}"),
    }
}
