//! `Op::Embed`.

use crate::buffer::{Columns, Context, Layout};
use crate::kernel::Access::{Read, Write};
use crate::kernel::{Bound, Kernel, LANES, Shader, Shape};
use bytemuck::{Pod, Zeroable};
use engine::plan::{BufferId, View};
use wgpu::ComputePass;

pub(crate) static SHADER: Shader =
    Shader { name: "embed", wgsl: include_str!("embed.wgsl"), bindings: &[Read, Read, Read, Write] };

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    rows: u32,
    cols: u32,
    units: u32,
    first: u32,
    count: u32,
    out_stride: u32,
    out_start: u32,
}

/// One dispatch for each shard of the table.
struct Embed {
    shards: Vec<(Bound, u32, u32)>,
    units: u32,
    out: Columns,
}

pub(crate) fn compile(
    cx: &mut Context<'_>,
    tokens: BufferId,
    last: BufferId,
    table: BufferId,
    out: View,
) -> Box<dyn Kernel> {
    let (tokens, last, out) = (cx.buffer(tokens), cx.buffer(last), cx.columns(out));
    let storage = cx.storage(table);
    let (layout, buffers) = (storage.layout, storage.shards.clone());
    // `layouts` gives every table blocks.
    let Layout::Blocks(blocks) = layout else { unreachable!("a table is laid out in blocks") };
    let shards = buffers.iter().enumerate().map(|(shard, table)| {
        let constants = [("FORMAT", blocks.format())];
        let bound = Bound::new(cx.gpu, &SHADER, &constants, &[&tokens, &last, table, &out.buffer]);
        let (first, count) = blocks.shard_rows(shard);
        (bound, first as u32, count as u32)
    });
    Box::new(Embed { shards: shards.collect(), units: blocks.units() as u32, out })
}

impl Kernel for Embed {
    fn encode(&self, pass: &mut ComputePass<'_>, shape: &Shape) {
        let rows = shape.dims.tokens;
        let groups = (rows * self.out.cols.div_ceil(8) as usize).div_ceil(LANES);
        for &(ref bound, first, count) in &self.shards {
            let params = Params {
                rows: rows as u32,
                cols: self.out.cols,
                units: self.units,
                first,
                count,
                out_stride: self.out.stride,
                out_start: self.out.start,
            };
            bound.dispatch(pass, bytemuck::bytes_of(&params), shape.fold(groups));
        }
    }
}
