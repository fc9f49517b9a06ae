//! What the launches of an attention share.

use crate::args::{DevicePtr, c_struct, word};
use crate::grid::WorkList;
use crate::lowering::{Lowering, Operand};
use crate::work::{Grouping, Work};
use engine::op::PagedAttention;
use engine::plan::Input;

c_struct! {
    /// The arguments of `attention.cu` and of `attention_few.cu`.
    pub(super) struct Args {
        count: DevicePtr,
        items: DevicePtr,
        q: DevicePtr,
        k_pages: DevicePtr,
        v_pages: DevicePtr,
        positions: DevicePtr,
        query_start: DevicePtr,
        block_tables: DevicePtr,
        out: DevicePtr,
        states: DevicePtr,
        kv_heads: u32,
        group: u32,
        state_rows: u32,
        q_stride: u32,
        out_stride: u32,
        pages_per_seq: u32,
        page_size: u32,
        window: u32,
        scale: f32,
        inner_scale: f32,
    }
}

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

impl Attention<'_> {
    /// The arguments of a launch for a list's items.
    pub(super) fn args(&self, lowering: &mut Lowering, list: WorkList) -> Args {
        Args {
            count: lowering.counts.work(self.index, list),
            items: self.work.list(list).at,
            q: self.q.at,
            k_pages: lowering.at(self.op.k_pages),
            v_pages: lowering.at(self.op.v_pages),
            positions: lowering.input(Input::Positions),
            query_start: lowering.input(Input::QueryStart),
            block_tables: lowering.input(Input::BlockTables),
            out: self.out.at,
            states: self.work.states.at,
            kv_heads: word(self.grouping.kv_heads),
            group: word(self.work.tiling.group),
            state_rows: word(self.work.state_rows),
            q_stride: word(self.q.stride),
            out_stride: word(self.out.stride),
            pages_per_seq: word(lowering.max_dims.pages_per_seq),
            page_size: word(lowering.max_dims.page_size),
            window: word(self.op.window.unwrap_or(0)),
            scale: self.scale,
            inner_scale: self.inner_scale,
        }
    }
}
