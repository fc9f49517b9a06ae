//! PagedAttention: on tensor cores, or by the plain kernel for other types and head widths.

mod plain;
mod sm90;
mod tensor;

pub(crate) use plain::plain_kernel;
pub(crate) use sm90::kernel as sm90_kernel;
pub(crate) use tensor::{AttentionVariant, grouping, kernel, merge_kernel};

use crate::launch::Launch;
use crate::lowering::Lowering;
use engine::op::PagedAttention;

pub(crate) fn lower(lowering: &mut Lowering, op: &PagedAttention) -> Vec<Launch> {
    match grouping(lowering.plan, lowering.max_dims, &lowering.limits, op) {
        Some(grouping) => tensor::lower(lowering, op, &grouping),
        None => vec![plain::lower(lowering, op)],
    }
}
