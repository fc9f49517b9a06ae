//! What a job does with its rows.

use clap::ValueEnum;

/// Whether to go on with a job that was begun.
#[derive(ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Resume {
    /// Go on if there is one, else begin.
    #[default]
    Auto,
    /// Begin; refuse if there is one.
    Never,
    /// Go on; refuse if there is none.
    Require,
}

/// What to do about a row group that cannot be read.
#[derive(ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnCorrupt {
    /// The job ends.
    #[default]
    Refuse,
    /// Its rows get an error.
    RowErrors,
}

/// Columns that `--return` adds.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
#[value(rename_all = "snake_case")]
pub enum ReturnColumn {
    /// The generated tokens.
    GeneratedTokens,
    /// The log-probability of each.
    TokenLogprobs,
    /// The alternatives of each.
    Logprobs,
    /// The log-probabilities and alternatives of the prompt's tokens.
    PromptLogprobs,
}
