//! `Op::Rope`.

use crate::buffer::{Columns, Context};
use crate::kernel::Access::{Read, Write};
use crate::kernel::{Bound, Kernel, LANES, Shader, Shape};
use bytemuck::{Pod, Zeroable};
use engine::plan::{BufferId, View};
use wgpu::ComputePass;

pub(crate) static SHADER: Shader =
    Shader { name: "rope", wgsl: include_str!("rope.wgsl"), bindings: &[Write, Read, Read] };

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    rows: u32,
    heads: u32,
    head_dim: u32,
    half: u32,
    x_stride: u32,
    x_start: u32,
    table_stride: u32,
}

struct Rope {
    bound: Bound,
    x: Columns,
    head_dim: u32,
    half: u32,
    table_stride: u32,
}

pub(crate) fn compile(
    cx: &mut Context<'_>,
    x: View,
    positions: BufferId,
    table: BufferId,
    head_dim: usize,
) -> Box<dyn Kernel> {
    let (x, positions) = (cx.columns(x), cx.buffer(positions));
    let storage = cx.storage(table);
    let (half, table_stride) = (storage.desc.cols as u32 / 2, storage.stride());
    let table = cx.buffer(table);
    let bound = Bound::new(cx.gpu, &SHADER, &[], &[&x.buffer, &positions, &table]);
    Box::new(Rope { bound, x, head_dim: head_dim as u32, half, table_stride })
}

impl Kernel for Rope {
    fn encode(&self, pass: &mut ComputePass<'_>, shape: &Shape) {
        let rows = shape.dims.tokens;
        let heads = self.x.cols / self.head_dim;
        let params = Params {
            rows: rows as u32,
            heads,
            head_dim: self.head_dim,
            half: self.half,
            x_stride: self.x.stride,
            x_start: self.x.start,
            table_stride: self.table_stride,
        };
        let groups = (rows * (heads * self.half) as usize).div_ceil(LANES);
        self.bound.dispatch(pass, bytemuck::bytes_of(&params), shape.fold(groups));
    }
}
