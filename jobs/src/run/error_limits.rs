//! How many error rows a job tolerates.

use crate::error::JobError;
use crate::journal::endings::Endings;
use crate::options::job::JobOptions;

/// How many error rows a job tolerates.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ErrorLimits {
    /// As a share of the rows (`--max-error-rate`).
    pub rate: f64,
    /// As a number (`--max-errors`).
    pub count: Option<u64>,
    /// Whether more of them end the job at once (`--stop-on-errors`).
    pub stop: bool,
    /// Whether the job runs in shards, which are begun and run again one by one.
    pub in_shards: bool,
}

impl ErrorLimits {
    /// Those of a job.
    pub fn of(options: &JobOptions) -> ErrorLimits {
        let JobOptions { max_error_rate, max_errors, stop_on_errors, .. } = options;
        ErrorLimits {
            rate: *max_error_rate,
            count: *max_errors,
            stop: *stop_on_errors,
            in_shards: options.shard.is_some(),
        }
    }

    /// The limit that this number of errors among these rows exceeds, as its flag.
    pub fn exceeded(&self, errors: u64, rows: u64) -> Option<String> {
        if let Some(limit) = self.count.filter(|&limit| errors > limit) {
            return Some(format!("--max-errors {limit}"));
        }
        (errors as f64 > self.rate * rows as f64).then(|| format!("--max-error-rate {}", self.rate))
    }

    /// Refuses too many errors, of which `first` is the first. `column` is where all of them can be read, once they are published.
    ///
    /// # Errors
    /// [`JobError::TooManyErrors`].
    pub fn check(&self, errors: u64, rows: u64, first: String, column: Option<&str>) -> Result<(), JobError> {
        let Some(limit) = self.exceeded(errors, rows) else { return Ok(()) };
        let remedy = match (column, self.in_shards) {
            (Some(column), in_shards) => {
                let (again, end) = match in_shards {
                    false => ("--retry errors runs these rows again", ""),
                    true => ("`run --shard` with --retry errors runs those of a shard again", ", and then publish again"),
                };
                format!(
                    "All rows are published. Read why in {column}. {again}, with a greater --max-model-len those that are \
                     too long, with a greater --max-tokens those that are incomplete{end}; with another prompt or input it is \
                     another job, for another --output or with --fresh"
                )
            }
            (None, false) => "No output was written. Fix the cause and begin again with --fresh; or run the same command \
                              without --stop-on-errors: it goes on and publishes every row, with its `error`"
                .into(),
            (None, true) => "No output was written. Fix the cause and begin all shards anew, for another --output; or run the \
                             same command without --stop-on-errors: every row is then published, with its `error`"
                .into(),
        };
        Err(JobError::TooManyErrors { errors, rows, limit, first, remedy })
    }
}

/// The first row that has an error, of endings that are [`Endings::shown`].
pub fn first_error(endings: &Endings) -> String {
    match &endings.first_error {
        Some((row, error)) => format!("row {row}, {error}"),
        None => "kept cells cannot be read".into(),
    }
}

/// Where the errors of rows can be read.
pub fn place_of_errors(options: &JobOptions) -> String {
    match options {
        JobOptions { batch: true, output, .. } => format!("the `error` of its result in {output}"),
        JobOptions { column_prefix, output, .. } => format!("the column {column_prefix}error of {output}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_errors_as_the_limit_are_tolerated() {
        let limits = ErrorLimits { rate: 0.5, count: None, stop: false, in_shards: false };
        assert_eq!(limits.exceeded(50, 100), None);
        assert_eq!(limits.exceeded(51, 100).as_deref(), Some("--max-error-rate 0.5"));
        assert_eq!(limits.exceeded(0, 0), None);
        let none = ErrorLimits { rate: 1.0, count: Some(0), stop: false, in_shards: false };
        assert_eq!(none.exceeded(1, 100).as_deref(), Some("--max-errors 0"));
    }

    #[test]
    fn the_first_error_shows_no_text_of_its_row() {
        let of = |error: &str| {
            first_error(&Endings { first_error: Some((3, error.to_string())), ..Endings::default() }.shown())
        };
        assert_eq!(of("null prompt: column q is null"), "row 3, null prompt: column q is null");
        let hidden = of("template error: a secret");
        assert!(hidden.starts_with("row 3, template error (") && !hidden.contains("secret"), "{hidden}");
    }
}
