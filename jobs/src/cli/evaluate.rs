//! `gristmill evaluate`.

use crate::cli::args::EvaluateArgs;
use crate::error::JobError;
use crate::evaluate::Evaluation;
use crate::log::print;

/// Compares an output with the truth and prints the figures.
///
/// # Errors
/// What is wrong with the flags or the files.
pub fn evaluate(args: EvaluateArgs) -> Result<(), JobError> {
    let EvaluateArgs { output, truth, truth_file, key, differences, json } = args;
    let pair = |text: &String| match text.split_once('=') {
        Some((left, right)) if !left.is_empty() && !right.is_empty() => {
            Ok((left.to_string(), right.to_string()))
        }
        _ => Err(JobError::Usage(format!("--truth {text}: write COLUMN=TRUTH, such as label=true_label"))),
    };
    let truths = truth.iter().map(pair).collect::<Result<Vec<_>, _>>()?;
    let other = match (truth_file, key) {
        (Some(file), Some(key)) => {
            let (own, theirs) = key.split_once('=').unwrap_or((&key, &key));
            Some((file, (own.to_string(), theirs.to_string())))
        }
        _ => None,
    };
    let figures = Evaluation { output, truths, other, differences }.run()?;
    let text = if json {
        serde_json::to_string_pretty(&figures).map_err(|error| JobError::Internal(error.to_string()))? + "\n"
    } else {
        figures.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    print(&text)
}
