//! KvWrite where it does not follow a Rope: `rope.cu` without a rotation.

use crate::launch::Launch;
use crate::lowering::Lowering;
use crate::ops::rope::{Parts, lower_parts};
use engine::op::KvWrite;

pub(crate) fn lower(lowering: &mut Lowering, op: &KvWrite) -> Launch {
    let (k, v) = (lowering.view(op.k), lowering.view(op.v));
    let pages = Some((op.k_pages, op.v_pages));
    // Nothing is rotated, so all of a key's columns pass as one head.
    lower_parts(lowering, Parts { k: Some(k), v: Some(v), pages, head_dim: k.cols, ..Parts::default() })
}
