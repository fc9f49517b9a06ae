//! `Op::GatedMul`.

use crate::buffer::{Columns, Context};
use crate::kernel::Access::{Read, Write};
use crate::kernel::{Bound, Kernel, LANES, Shader, Shape};
use bytemuck::{Pod, Zeroable};
use engine::op::Activation;
use engine::plan::View;
use wgpu::ComputePass;

pub(crate) static SHADER: Shader =
    Shader { name: "gated_mul", wgsl: include_str!("gated_mul.wgsl"), bindings: &[Read, Write] };

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

struct GatedMul {
    bound: Bound,
    x: Columns,
    out: Columns,
}

pub(crate) fn compile(cx: &mut Context<'_>, x: View, out: View, act: Activation) -> Box<dyn Kernel> {
    let (x, out) = (cx.columns(x), cx.columns(out));
    let act = match act {
        Activation::Silu => 0.0,
        Activation::GeluTanh => 1.0,
    };
    let bound = Bound::new(cx.gpu, &SHADER, &[("ACTIVATION", act)], &[&x.buffer, &out.buffer]);
    Box::new(GatedMul { bound, x, out })
}

impl Kernel for GatedMul {
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
