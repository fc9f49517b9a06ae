//! `gristmill evaluate`.

use crate::cli::args::{EvaluateArgs, TruthArgs};
use crate::error::JobError;
use crate::evaluate::Evaluation;
use crate::log::print;

/// Compares an output with the truth and prints the figures.
///
/// # Errors
/// What is wrong with the flags or the files.
pub fn evaluate(args: EvaluateArgs) -> Result<(), JobError> {
    let EvaluateArgs { output, truth, differences, json } = args;
    let figures = Evaluation { differences, ..truth.evaluation(output)? }.run()?;
    let text = if json {
        serde_json::to_string_pretty(&figures).map_err(|error| JobError::Internal(error.to_string()))? + "\n"
    } else {
        figures.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    print(&text)
}

impl TruthArgs {
    /// What is compared with what.
    ///
    /// # Errors
    /// [`JobError::Usage`] for a flag that is not of its form.
    pub fn evaluation(self, output: String) -> Result<Evaluation, JobError> {
        let pair = |text: &String| match text.split_once('=') {
            Some((left, right)) if !left.is_empty() && !right.is_empty() => {
                Ok((left.to_string(), right.to_string()))
            }
            _ => {
                Err(JobError::Usage(format!("--truth {text}: write COLUMN=TRUTH, such as label=true_label")))
            }
        };
        let truths = self.truth.iter().map(pair).collect::<Result<Vec<_>, _>>()?;
        let other = match (self.truth_file, self.key) {
            (Some(file), Some(key)) => {
                let (own, theirs) = key.split_once('=').unwrap_or((&key, &key));
                Some((file, (own.to_string(), theirs.to_string())))
            }
            _ => None,
        };
        Ok(Evaluation { output, truths, other, differences: None })
    }
}
