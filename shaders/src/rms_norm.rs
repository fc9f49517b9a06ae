//! `Op::RmsNorm`.

use crate::buffer::{Columns, Context};
use crate::kernel::Access::{Read, Write};
use crate::kernel::{Bound, Kernel, Shader, Shape};
use bytemuck::{Pod, Zeroable};
use engine::plan::{BufferId, View};
use wgpu::ComputePass;

/// Activations are writable in every binding, since the output may be the input.
pub(crate) static SHADER: Shader =
    Shader { name: "rms_norm", wgsl: include_str!("rms_norm.wgsl"), bindings: &[Write, Write, Read, Write] };

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    runs: u32,
    runs_per_row: u32,
    width: u32,
    x_stride: u32,
    x_start: u32,
    add_stride: u32,
    add_start: u32,
    out_stride: u32,
    out_start: u32,
    eps: f32,
}

struct RmsNorm {
    bound: Bound,
    x: Columns,
    add: Columns,
    out: Columns,
    width: u32,
    eps: f32,
}

pub(crate) fn compile(
    cx: &mut Context<'_>,
    x: View,
    add: Option<View>,
    weight: BufferId,
    out: View,
    width: usize,
    eps: f32,
) -> Box<dyn Kernel> {
    let has_add = f64::from(u8::from(add.is_some()));
    let (x, add, out) = (cx.columns(x), cx.columns(add.unwrap_or(x)), cx.columns(out));
    let weight = cx.buffer(weight);
    let buffers = [&x.buffer, &add.buffer, &weight, &out.buffer];
    let bound = Bound::new(cx.gpu, &SHADER, &[("HAS_ADD", has_add)], &buffers);
    Box::new(RmsNorm { bound, x, add, out, width: width as u32, eps })
}

impl Kernel for RmsNorm {
    fn encode(&self, pass: &mut ComputePass<'_>, shape: &Shape) {
        let runs_per_row = self.x.cols / self.width;
        let runs = shape.dims.count(self.x.rows) * runs_per_row as usize;
        let params = Params {
            runs: runs as u32,
            runs_per_row,
            width: self.width,
            x_stride: self.x.stride,
            x_start: self.x.start,
            add_stride: self.add.stride,
            add_start: self.add.start,
            out_stride: self.out.stride,
            out_start: self.out.start,
            eps: self.eps,
        };
        self.bound.dispatch(pass, bytemuck::bytes_of(&params), shape.fold(runs));
    }
}
