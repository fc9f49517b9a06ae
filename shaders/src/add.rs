//! `Op::Add`.

use crate::buffer::{Columns, Context};
use crate::kernel::Access::Write;
use crate::kernel::{Bound, Kernel, LANES, Shader, Shape};
use bytemuck::{Pod, Zeroable};
use engine::plan::View;
use wgpu::ComputePass;

/// All bindings are writable, since the output may be an operand.
pub(crate) static SHADER: Shader =
    Shader { name: "add", wgsl: include_str!("add.wgsl"), bindings: &[Write, Write, Write] };

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    rows: u32,
    cols: u32,
    a_stride: u32,
    a_start: u32,
    b_stride: u32,
    b_start: u32,
    out_stride: u32,
    out_start: u32,
}

struct Add {
    bound: Bound,
    a: Columns,
    b: Columns,
    out: Columns,
}

pub(crate) fn compile(cx: &mut Context<'_>, a: View, b: View, out: View) -> Box<dyn Kernel> {
    let (a, b, out) = (cx.columns(a), cx.columns(b), cx.columns(out));
    let bound = Bound::new(cx.gpu, &SHADER, &[], &[&a.buffer, &b.buffer, &out.buffer]);
    Box::new(Add { bound, a, b, out })
}

impl Kernel for Add {
    fn encode(&self, pass: &mut ComputePass<'_>, shape: &Shape) {
        let rows = shape.dims.count(self.out.rows);
        let params = Params {
            rows: rows as u32,
            cols: self.out.cols,
            a_stride: self.a.stride,
            a_start: self.a.start,
            b_stride: self.b.stride,
            b_start: self.b.start,
            out_stride: self.out.stride,
            out_start: self.out.start,
        };
        let groups = (rows * self.out.cols as usize).div_ceil(LANES);
        self.bound.dispatch(pass, bytemuck::bytes_of(&params), shape.fold(groups));
    }
}
