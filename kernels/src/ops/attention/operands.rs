//! What the launches of an attention share.

use crate::lowering::Operand;
use crate::work::{Grouping, Work};
use engine::op::PagedAttention;

/// What the launches of an attention share.
pub(super) struct Attention<'a> {
    pub(super) op: &'a PagedAttention,
    pub(super) grouping: &'a Grouping,
    pub(super) q: Operand,
    pub(super) out: Operand,
    pub(super) work: &'a Work,
    /// The place of `work` among those of the plan.
    pub(super) index: usize,
    /// Whether an item may span several parts.
    pub(super) long: bool,
    /// What weighs scores: the kernels take exp2(scale x), and exp(x) = exp2(x log2(e)). With a cap, x is
    /// tanh(inner_scale q.k).
    pub(super) scale: f32,
    pub(super) inner_scale: f32,
}
