//! Batch files: which, and what their requests may call the model.

/// A job with a batch takes nothing else for its input.
#[derive(clap::Args, Clone, Debug, Default, PartialEq)]
#[command(next_help_heading = "Batch files")]
pub struct BatchOptions {
    /// Answer the requests of these files, in OpenAI's batch format, and write results in its format: paths, folders or
    /// globs of JSON lines, or s3://, gs:// or az:// URLs; may be repeated.
    #[arg(long, value_name = "PATH|URL")]
    pub batch: Vec<String>,
    /// Let requests call the model by this name; may be repeated, and results have the first [default: its name on the
    /// hub, or that of its folder].
    #[arg(long, value_name = "NAME")]
    pub served_model_name: Vec<String>,
}
