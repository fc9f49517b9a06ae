//! A JSON Schema of answers: what of it can be enforced, and the Arrow type of the column that they make.
//!
//! A schema is read into a tree of our own ([`node`]), by a list of what is known to be enforced exactly ([`reader`]); all
//! else is refused. llguidance is handed a schema that is written anew from the tree ([`grammar`]), so that nothing of
//! what it passes over, or understands otherwise, is ever in it. What has a type of its own becomes a column of that type
//! ([`types`], [`array`]).

mod array;
pub mod chosen;
mod conjunction;
mod containers;
mod error;
mod exclusion;
mod finite;
pub mod grammar;
mod matching;
mod negation;
mod node;
mod numbers;
mod pattern;
mod productive;
mod quoted;
mod reader;
mod strings;
mod types;

pub use error::SchemaError;
pub use finite::MAX_TEXT;
pub use reader::{LESS_DEEP, MAX_DEPTH, SMALLER};

use node::Node;
use serde_json::Value;

/// A schema that is enforced in whole.
#[derive(Clone, Debug, PartialEq)]
pub struct AnswerSchema {
    root: Node,
    /// What `$ref` leads to.
    definitions: Vec<Node>,
}

impl AnswerSchema {
    /// Reads a schema of draft 2020-12 or draft 7.
    ///
    /// # Errors
    /// The first keyword that cannot be enforced, and its place.
    pub fn read(schema: &Value) -> Result<AnswerSchema, SchemaError> {
        let (root, definitions) = reader::read(schema)?;
        productive::check(&root, &definitions)?;
        let schema = AnswerSchema { root, definitions };
        match schema.unwritable() {
            None => Ok(schema),
            Some(value) => {
                let why = format!(
                    "the value {value} has a control character, which cannot be written beside objects that allow other \
                     properties; forbid them with additionalProperties: false"
                );
                Err(SchemaError::new("", why))
            }
        }
    }
}

#[cfg(test)]
mod tests;
