//! Which model.

use clap::{Args, ValueEnum};
use std::path::PathBuf;

#[derive(Args, Clone, Debug, Default, PartialEq)]
#[command(next_help_heading = "Model")]
pub struct ModelOptions {
    /// Use this model: a folder, a name on the hub (`org/name` or `org/name@revision`), or `nano`, which is built in.
    #[arg(long, value_name = "FOLDER|NAME")]
    pub model: Option<String>,
    /// Revision on the hub.
    #[arg(long)]
    pub revision: Option<String>,
    /// Take the tokenizer from this folder or name [default: the model's].
    #[arg(long, value_name = "FOLDER|NAME")]
    pub tokenizer: Option<String>,
    /// Keep models from the hub here [default: the hub's own cache].
    #[arg(long, value_name = "FOLDER")]
    pub download_dir: Option<PathBuf>,
    /// Where weights come from: `dummy` makes them up and needs only config.json.
    #[arg(long, value_enum, default_value_t)]
    pub load_format: LoadFormat,
}

/// Where weights come from.
#[derive(ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LoadFormat {
    /// The model's safetensors.
    #[default]
    Auto,
    /// Random numbers.
    Dummy,
}

impl From<LoadFormat> for engine::models::LoadFormat {
    fn from(format: LoadFormat) -> Self {
        match format {
            LoadFormat::Auto => engine::models::LoadFormat::Auto,
            LoadFormat::Dummy => engine::models::LoadFormat::Dummy,
        }
    }
}
