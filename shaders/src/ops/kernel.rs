//! What a compiled op does in a step.

use crate::driver::pass::Pass;
use engine::plan::Dims;

/// A compiled op.
pub(crate) trait Kernel: Send {
    /// Records the op's dispatches for a step of these row counts.
    fn encode(&self, pass: &mut Pass<'_>, dims: &Dims);
}
