//! `Op::GatherRows`.

use crate::buffer::{Columns, Context};
use crate::kernel::Access::{Read, Write};
use crate::kernel::{Bound, Kernel, LANES, Shader, Shape};
use bytemuck::{Pod, Zeroable};
use engine::plan::{BufferId, View};
use wgpu::ComputePass;

pub(crate) static SHADER: Shader =
    Shader { name: "gather_rows", wgsl: include_str!("gather_rows.wgsl"), bindings: &[Read, Read, Write] };

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    rows: u32,
    cols: u32,
    x_stride: u32,
    x_start: u32,
    out_stride: u32,
    out_start: u32,
}

struct GatherRows {
    bound: Bound,
    x: Columns,
    out: Columns,
}

pub(crate) fn compile(cx: &mut Context<'_>, x: View, rows: BufferId, out: View) -> Box<dyn Kernel> {
    let (x, out, rows) = (cx.columns(x), cx.columns(out), cx.buffer(rows));
    let bound = Bound::new(cx.gpu, &SHADER, &[], &[&x.buffer, &rows, &out.buffer]);
    Box::new(GatherRows { bound, x, out })
}

impl Kernel for GatherRows {
    fn encode(&self, pass: &mut ComputePass<'_>, shape: &Shape) {
        let rows = shape.dims.count(self.out.rows);
        let params = Params {
            rows: rows as u32,
            cols: self.out.cols,
            x_stride: self.x.stride,
            x_start: self.x.start,
            out_stride: self.out.stride,
            out_start: self.out.start,
        };
        let groups = (rows * self.out.cols as usize).div_ceil(LANES);
        self.bound.dispatch(pass, bytemuck::bytes_of(&params), shape.fold(groups));
    }
}
