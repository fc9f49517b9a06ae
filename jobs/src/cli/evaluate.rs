//! `gristmill evaluate`.

use crate::cli::args::{EvaluateArgs, TruthArgs};
use crate::error::JobError;
use crate::evaluate::figures::Figures;
use crate::evaluate::{Evaluation, table};
use crate::log::print;
use crate::receipt::spent::Spent;
use crate::store::location::Location;
use std::ffi::OsString;

/// Compares an output with the truth and prints the figures.
///
/// # Errors
/// What is wrong with the flags or the files.
pub fn evaluate(args: EvaluateArgs) -> Result<(), JobError> {
    let EvaluateArgs { output, truth, differences, price_per_hour, json } = args;
    let mut figures = Evaluation { differences, ..truth.evaluation(output.clone())? }.run()?;
    price(&mut figures, &output, price_per_hour)?;
    let text = if json {
        serde_json::to_string_pretty(&figures).map_err(|error| JobError::Internal(error.to_string()))? + "\n"
    } else {
        table(&figures)
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

/// Adds what a right label cost, by the receipt of the job.
///
/// # Errors
/// [`JobError::Usage`] if a price was given and there is no receipt that it could be of.
fn price(figures: &mut [Figures], output: &str, price_per_hour: Option<f64>) -> Result<(), JobError> {
    let state_dir = Location::from(OsString::from(output)).state_dir(None)?;
    let spent = Spent::of(&state_dir, price_per_hour);
    let spent = spent.or_else(|why| match price_per_hour {
        Some(price) => Err(JobError::Usage(format!("--price-per-hour {price}: {why}"))),
        None => {
            tracing::warn!("what a right label cost is not said: {why}");
            Ok(None)
        }
    })?;
    for figures in figures {
        figures.money_per_right_label =
            spent.and_then(|spent| spent.per_right_label(figures.right, figures.rows));
    }
    Ok(())
}
