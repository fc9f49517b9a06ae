//! `Op::Rope`.

use super::context::{Columns, Context, ViewParams};
use super::kernel::Kernel;
use super::snippets::{INVOCATION, VIEW};
use crate::driver::pass::{Bound, Pass};
use crate::driver::shader::Access::{Read, Write};
use crate::driver::shader::Shader;
use bytemuck::{Pod, Zeroable};
use engine::device::DeviceError;
use engine::plan::{Dims, Input};

pub(crate) static SHADER: Shader = Shader {
    name: "rope",
    files: &[INVOCATION, VIEW, include_str!("rope.wgsl")],
    params: size_of::<Params>(),
    bindings: &[Write, Read, Read],
};

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    rows: u32,
    heads: u32,
    head_dim: u32,
    half: u32,
    x: ViewParams,
    table_stride: u32,
}

struct Rope {
    bound: Bound,
    x: Columns,
    head_dim: u32,
    half: u32,
    table_stride: u32,
}

pub(crate) fn compile(cx: &mut Context<'_>, op: &engine::op::Rope) -> Result<Box<dyn Kernel>, DeviceError> {
    let (x, positions) = (cx.columns(op.x)?, cx.input(Input::Positions)?);
    let (half, table_stride) = (cx.desc(op.table).cols as u32 / 2, cx.stride(op.table)?);
    let table = cx.buffer(op.table);
    let bound = Bound::new(cx.gpu, &SHADER, &[], &[&x.buffer, &positions, &table]);
    Ok(Box::new(Rope { bound, x, head_dim: op.head_dim as u32, half, table_stride }))
}

impl Kernel for Rope {
    fn encode(&self, pass: &mut Pass<'_>, dims: &Dims) {
        let rows = dims.tokens;
        let heads = self.x.cols / self.head_dim;
        let params = Params {
            rows: rows as u32,
            heads,
            head_dim: self.head_dim,
            half: self.half,
            x: self.x.params(),
            table_stride: self.table_stride,
        };
        pass.dispatch_lanes(&self.bound, &params, rows * (heads * self.half) as usize);
    }
}
