//! `Op::RmsNorm`.

use super::context::{Columns, Context, ViewParams};
use super::kernel::Kernel;
use super::snippets::{INVOCATION, SUM, VIEW};
use crate::driver::pass::{Bound, Pass};
use crate::driver::shader::Access::{Read, Write};
use crate::driver::shader::Shader;
use bytemuck::{Pod, Zeroable};
use engine::device::DeviceError;
use engine::plan::Dims;

/// Activations are writable in every binding, since the output may be the input.
pub(crate) static SHADER: Shader = Shader {
    name: "rms_norm",
    files: &[INVOCATION, VIEW, SUM, include_str!("rms_norm.wgsl")],
    params: size_of::<Params>(),
    bindings: &[Write, Write, Read, Write],
};

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    runs: u32,
    runs_per_row: u32,
    width: u32,
    x: ViewParams,
    add: ViewParams,
    out: ViewParams,
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
    op: &engine::op::RmsNorm,
) -> Result<Box<dyn Kernel>, DeviceError> {
    let has_add = f64::from(u8::from(op.add.is_some()));
    let (x, add, out) = (cx.columns(op.x)?, cx.columns(op.add.unwrap_or(op.x))?, cx.columns(op.out)?);
    let weight = cx.buffer(op.weight);
    let buffers = [&x.buffer, &add.buffer, &weight, &out.buffer];
    let bound = Bound::new(cx.gpu, &SHADER, &[("HAS_ADD", has_add)], &buffers);
    Ok(Box::new(RmsNorm { bound, x, add, out, width: op.width as u32, eps: op.eps }))
}

impl Kernel for RmsNorm {
    fn encode(&self, pass: &mut Pass<'_>, dims: &Dims) {
        let runs_per_row = self.x.cols / self.width;
        let runs = dims.count(self.x.rows) * runs_per_row as usize;
        let params = Params {
            runs: runs as u32,
            runs_per_row,
            width: self.width,
            x: self.x.params(),
            add: self.add.params(),
            out: self.out.params(),
            eps: self.eps,
        };
        pass.dispatch_groups(&self.bound, &params, runs);
    }
}
