//! PagedAttention: on tensor cores, or by the plain kernel for other types and head widths.

mod plain;
mod tensor;

pub(crate) use plain::plain_kernel;
pub(crate) use tensor::{AttentionVariant, grouping, kernel, merge_kernel};

use crate::launch::Launch;
use crate::lowering::Lowering;
use engine::op::Op;

pub(crate) fn lower(lowering: &mut Lowering, op: &Op) -> Vec<Launch> {
    match grouping(lowering.plan, lowering.max_dims, lowering.limits.shared, op) {
        Some(grouping) => tensor::lower(lowering, op, &grouping),
        None => plain::lower(lowering, op).into_iter().collect(),
    }
}
