//! Models from Hugging Face folders: `config.json` and safetensors become a plan and its weights.

mod checkpoint;
mod config;
mod decoder;
mod families;
mod files;
mod rope;

pub use checkpoint::{Checkpoint, Fp8, Source, Transform};
pub use config::{LayerConfig, ModelConfig};
pub use decoder::{Decoder, Formats, decoder};
pub use families::{Bias, Defaults, FAMILIES, Family, LayerNorms, Windows};
pub use files::{read_capped, read_model_file, refused_format};
pub use rope::{RopeParameters, RopeScaling};

use crate::device::{Device, PlanId};
use crate::dtype::DType;
use crate::error::EngineError;
use crate::plan::{BufferDesc, Rows};
use std::path::Path;

/// The maximum size of a `config.json` in bytes: parsed it takes many times as many.
const MAX_CONFIG: u64 = 1 << 20;

const EMBEDDINGS: &str = "model.embed_tokens.weight";
const HEAD: &str = "lm_head.weight";

/// Whether tensors are the embeddings or the head.
pub fn is_vocabulary(tensors: &[String]) -> bool {
    tensors.iter().any(|name| name == EMBEDDINGS || name == HEAD)
}

/// Where weights come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LoadFormat {
    /// The safetensors of the model's folder.
    #[default]
    Auto,
    /// Made-up numbers of the right shapes: `config.json` suffices, and the answers mean nothing.
    Dummy,
}

/// A model whose files have been checked and not yet loaded.
pub struct Model {
    /// What `config.json` says.
    pub config: ModelConfig,
    /// Its text.
    pub config_json: Vec<u8>,
    /// The weight files, or `None` for dummy weights.
    pub checkpoint: Option<Checkpoint>,
    /// What the user should know of the files.
    pub warnings: Vec<String>,
}

impl Model {
    /// Checks the files of a folder. Nothing but headers is read.
    ///
    /// # Errors
    /// What is missing, unknown or malformed, with the file.
    pub fn open(folder: &Path, format: LoadFormat) -> Result<Model, EngineError> {
        let file = folder.join("config.json");
        let config_json = match read_model_file(folder, "config.json", MAX_CONFIG)? {
            Some(json) => json,
            None => read_capped(&file, MAX_CONFIG)?,
        };
        let config = ModelConfig::parse(&config_json, &file)?;
        let checkpoint = match format {
            LoadFormat::Auto => Some(Checkpoint::open(folder, config.fp8)?),
            LoadFormat::Dummy => None,
        };
        Model { config, config_json, checkpoint, warnings: Vec::new() }.checked()
    }

    /// Fills the weight buffers of a compiled plan.
    ///
    /// # Errors
    /// A file that cannot be read, values that a buffer's type cannot hold, or a device that fails.
    pub fn load(&self, device: &mut dyn Device, id: PlanId, decoder: &Decoder) -> Result<(), EngineError> {
        for (buffer, source) in &decoder.weights {
            let desc = decoder.plan.desc(*buffer);
            let write =
                |row: usize, bytes: &[u8]| device.write(id, *buffer, row, bytes).map_err(EngineError::from);
            match (source, &self.checkpoint) {
                (Source::Rope(parameters), _) => load_rope(parameters, desc, write)?,
                (Source::Tensors { names, transform }, Some(checkpoint)) => {
                    checkpoint.load(names, *transform, desc, write)?;
                }
                (Source::Tensors { .. }, None) => checkpoint::dummy(desc, write)?,
            }
        }
        Ok(())
    }

    /// Checks every tensor that the model needs against the shape that the configuration gives it.
    fn checked(mut self) -> Result<Model, EngineError> {
        if let Some(checkpoint) = &mut self.checkpoint {
            if self.config.tied {
                // Of two tied tensors a file may hold either.
                checkpoint.alias(EMBEDDINGS, HEAD);
                if checkpoint.holds_both(EMBEDDINGS, HEAD)? {
                    // As transformers 5 does.
                    self.config.tied = false;
                    self.warnings.push(format!(
                        "config.json says tie_word_embeddings, but the checkpoint holds {HEAD} with other values than \
                         {EMBEDDINGS}: both are used as they are, as in transformers 5; transformers 4 and other \
                         programs take the embeddings for the head. Set tie_word_embeddings to what is meant"
                    ));
                }
            }
            let plan = decoder(&self.config, &Formats::default(), 1, 1, 1, |_| DType::F32.into());
            for (buffer, source) in &plan.weights {
                let desc = plan.plan.desc(*buffer);
                checkpoint.check(source, desc)?;
            }
        }
        Ok(self)
    }
}

/// Writes the table of RoPE parameters a stretch at a time: it may be as long as a model's context.
fn load_rope(
    parameters: &RopeParameters,
    desc: &BufferDesc,
    mut write: impl FnMut(usize, &[u8]) -> Result<(), EngineError>,
) -> Result<(), EngineError> {
    let Rows::Fixed(rows) = desc.rows else { return Ok(()) };
    let stretch = ((1 << 20) / desc.cols).max(1);
    for row in (0..rows).step_by(stretch) {
        let table = parameters.table(desc.cols, row..rows.min(row + stretch));
        write(row, &desc.format.encode(&table, desc.cols))?;
    }
    Ok(())
}
