//! Which model.

use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// The model.
#[derive(Args, Clone, Debug, Default, PartialEq)]
#[command(next_help_heading = "Model")]
pub struct ModelOptions {
    /// A folder, a name on the hub (`org/name` or `org/name@revision`), or `nano` for the built-in model.
    #[arg(long, value_name = "FOLDER|NAME")]
    pub model: Option<String>,
    /// The revision on the hub.
    #[arg(long)]
    pub revision: Option<String>,
    /// A folder or name to take the tokenizer from [default: the model's].
    #[arg(long, value_name = "FOLDER|NAME")]
    pub tokenizer: Option<String>,
    /// Where models from the hub are kept [default: the hub's own cache].
    #[arg(long, value_name = "FOLDER")]
    pub download_dir: Option<PathBuf>,
    /// Where weights come from; `dummy` makes them up and needs config.json only.
    #[arg(long, value_enum, default_value_t)]
    pub load_format: LoadFormat,
}

/// Where weights come from.
#[derive(ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LoadFormat {
    /// The model's safetensors.
    #[default]
    Auto,
    /// Made up.
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
