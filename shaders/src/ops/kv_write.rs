//! `Op::KvWrite`.

use super::context::{Columns, Context, ViewParams};
use super::kernel::Kernel;
use super::snippets::{FLOATS, INVOCATION, VIEW};
use crate::buffers::blocks::format_code;
use crate::driver::pass::{Bound, Pass};
use crate::driver::shader::Access::{Read, Write};
use crate::driver::shader::Shader;
use bytemuck::{Pod, Zeroable};
use engine::device::DeviceError;
use engine::plan::{Dims, Input};

pub(crate) static SHADER: Shader = Shader {
    name: "kv_write",
    files: &[INVOCATION, VIEW, FLOATS, include_str!("kv_write.wgsl")],
    params: size_of::<Params>(),
    bindings: &[Read, Read, Read, Write, Write],
};

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    rows: u32,
    heads: u32,
    head_dim: u32,
    units: u32,
    k: ViewParams,
    v: ViewParams,
}

struct KvWrite {
    bound: Bound,
    k: Columns,
    v: Columns,
    head_dim: u32,
}

pub(crate) fn compile(
    cx: &mut Context<'_>,
    op: &engine::op::KvWrite,
) -> Result<Box<dyn Kernel>, DeviceError> {
    let (k, v, slots) = (cx.columns(op.k)?, cx.columns(op.v)?, cx.input(Input::KvSlots)?);
    let head_dim = cx.head_dim(op.k_pages)?;
    let format = |id| format_code(cx.desc(id).format);
    let constants = [("K_FORMAT", format(op.k_pages)), ("V_FORMAT", format(op.v_pages))];
    let (k_pages, v_pages) = (cx.buffer(op.k_pages), cx.buffer(op.v_pages));
    let buffers = [&k.buffer, &v.buffer, &slots, &k_pages, &v_pages];
    let bound = Bound::new(cx.gpu, &SHADER, &constants, &buffers);
    Ok(Box::new(KvWrite { bound, k, v, head_dim }))
}

impl Kernel for KvWrite {
    fn encode(&self, pass: &mut Pass<'_>, dims: &Dims) {
        let rows = dims.tokens;
        let (heads, units) = (self.k.cols / self.head_dim, self.head_dim.div_ceil(4));
        let params = Params {
            rows: rows as u32,
            heads,
            head_dim: self.head_dim,
            units,
            k: self.k.params(),
            v: self.v.params(),
        };
        pass.dispatch_lanes(&self.bound, &params, rows * (heads * units) as usize);
    }
}
