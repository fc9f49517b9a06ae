//! KvWrite where it does not follow a Rope: `rope.cu` without a rotation.

use crate::launch::Launch;
use crate::lowering::Lowering;
use crate::ops::rope::{Parts, lower_parts};
use engine::plan::{BufferId, View};

pub(crate) fn lower(
    lowering: &mut Lowering,
    k: View,
    v: View,
    slots: BufferId,
    k_pages: BufferId,
    v_pages: BufferId,
) -> Launch {
    let (k, v) = (lowering.view(k), lowering.view(v));
    let pages = Some((slots, k_pages, v_pages));
    // Nothing is rotated, so all of a key's columns pass as one head.
    lower_parts(lowering, Parts { k: Some(k), v: Some(v), pages, head_dim: k.cols, ..Parts::default() })
}
