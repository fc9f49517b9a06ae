//! `Op::KvWrite`.

use crate::buffer::{Columns, Context, Layout};
use crate::kernel::Access::{Read, Write};
use crate::kernel::{Bound, Kernel, LANES, Shader, Shape};
use crate::weight::format;
use bytemuck::{Pod, Zeroable};
use engine::plan::{BufferId, View};
use wgpu::ComputePass;

pub(crate) static SHADER: Shader = Shader {
    name: "kv_write",
    wgsl: include_str!("kv_write.wgsl"),
    bindings: &[Read, Read, Read, Write, Write],
};

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    rows: u32,
    heads: u32,
    head_dim: u32,
    units: u32,
    k_stride: u32,
    k_start: u32,
    v_stride: u32,
    v_start: u32,
}

struct KvWrite {
    bound: Bound,
    k: Columns,
    v: Columns,
    head_dim: u32,
}

pub(crate) fn compile(
    cx: &mut Context<'_>,
    k: View,
    v: View,
    slots: BufferId,
    k_pages: BufferId,
    v_pages: BufferId,
) -> Box<dyn Kernel> {
    let (k, v, slots) = (cx.columns(k), cx.columns(v), cx.buffer(slots));
    let Layout::Heads { head_dim } = cx.storage(k_pages).layout else {
        unreachable!("KV pages are laid out in heads")
    };
    let constants = [
        ("K_FORMAT", format(cx.storage(k_pages).desc.dtype)),
        ("V_FORMAT", format(cx.storage(v_pages).desc.dtype)),
    ];
    let (k_pages, v_pages) = (cx.buffer(k_pages), cx.buffer(v_pages));
    let buffers = [&k.buffer, &v.buffer, &slots, &k_pages, &v_pages];
    let bound = Bound::new(cx.gpu, &SHADER, &constants, &buffers);
    Box::new(KvWrite { bound, k, v, head_dim: head_dim as u32 })
}

impl Kernel for KvWrite {
    fn encode(&self, pass: &mut ComputePass<'_>, shape: &Shape) {
        let rows = shape.dims.tokens;
        let (heads, units) = (self.k.cols / self.head_dim, self.head_dim.div_ceil(4));
        let params = Params {
            rows: rows as u32,
            heads,
            head_dim: self.head_dim,
            units,
            k_stride: self.k.stride,
            k_start: self.k.start,
            v_stride: self.v.stride,
            v_start: self.v.start,
        };
        let groups = (rows * (heads * units) as usize).div_ceil(LANES);
        self.bound.dispatch(pass, bytemuck::bytes_of(&params), shape.fold(groups));
    }
}
