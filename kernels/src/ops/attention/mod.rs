//! PagedAttention: on tensor cores, or by the plain kernel for other types and head widths.

mod few;
mod operands;
mod plain;
mod sm90;
mod tensor;
mod variant;

pub(crate) use few::kernel as few_kernel;
pub(crate) use plain::plain_kernel;
pub(crate) use sm90::kernel as sm90_kernel;
pub(crate) use tensor::{grouping, kernel, merge_kernel};
pub(crate) use variant::AttentionVariant;

use crate::launch::Launch;
use crate::lowering::Lowering;
use engine::op::PagedAttention;

pub(crate) fn lower(lowering: &mut Lowering, op: &PagedAttention) -> Vec<Launch> {
    match grouping(lowering.plan, lowering.max_dims, &lowering.limits, op) {
        Some(grouping) => tensor::lower(lowering, op, &grouping),
        None => vec![plain::lower(lowering, op)],
    }
}
