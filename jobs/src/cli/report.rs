//! `gristmill report`.

use crate::cli::args::ReportArgs;
use crate::error::JobError;
use crate::log::print;
use crate::report::Report;

/// Writes the report of an output, and prints where it is.
///
/// # Errors
/// What is wrong with the flags or the files.
pub fn report(args: ReportArgs) -> Result<(), JobError> {
    let ReportArgs { output, state_dir, html, with_texts, truth } = args;
    output.refuse_malformed("the output")?;
    let state_dir = output.state_dir(state_dir.as_deref())?;
    let truths = match truth.truth.is_empty() {
        true => None,
        false => Some(truth.evaluation(output.to_string())?),
    };
    let html = Report { output, state_dir, html, with_texts, truths }.write()?;
    print(&format!("{}\n", html.display()))
}
