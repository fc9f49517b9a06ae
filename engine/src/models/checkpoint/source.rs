//! Where the contents of a weight buffer come from.

use crate::models::rope::RopeParameters;

/// Where the contents of a weight buffer come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// Tensors of the checkpoint, one below the other.
    Tensors {
        /// Their names.
        names: Vec<String>,
        /// What is done with their values as they load.
        transform: Transform,
    },
    /// The table of these RoPE parameters.
    Rope(RopeParameters),
}

/// What is done with a tensor's values as they load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transform {
    /// Nothing.
    #[default]
    None,
    /// One is added, in f32: norms that multiply by `1 + w`.
    PlusOne,
}

impl Transform {
    /// Changes the values.
    pub fn apply(self, values: &mut [f32]) {
        match self {
            Transform::None => {}
            Transform::PlusOne => values.iter_mut().for_each(|v| *v += 1.0),
        }
    }
}
