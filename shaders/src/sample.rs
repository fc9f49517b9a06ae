//! `Op::Sample`.

use crate::buffer::{Columns, Context};
use crate::kernel::Access::{Read, Write};
use crate::kernel::{Bound, Kernel, Shader, Shape};
use bytemuck::{Pod, Zeroable};
use engine::device::DeviceError;
use engine::op::Op;
use wgpu::{BufferUsages, ComputePass};

pub(crate) static SHADER: Shader = Shader {
    name: "sample",
    wgsl: include_str!("sample.wgsl"),
    bindings: &[Read, Read, Read, Read, Write, Write, Write],
};

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    rows: u32,
    vocab: u32,
    stride: u32,
    start: u32,
    mask_words: u32,
    key_stride: u32,
}

struct Sample {
    bound: Bound,
    logits: Columns,
}

/// Allocates the keys of changed logits, one row for each output, beside the plan's own buffers.
pub(crate) fn compile(cx: &mut Context<'_>, op: &Op) -> Result<Box<dyn Kernel>, DeviceError> {
    let &Op::Sample { logits, sampling, adjustments, masks, last, out } = op else {
        unreachable!("the op is Sample")
    };
    let logits = cx.columns(logits);
    let bytes = cx.most.count(logits.rows) * logits.cols as usize * 4;
    let keys = cx.gpu.allocate("sampling keys", bytes, BufferUsages::STORAGE)?;
    let inputs = [sampling, adjustments, masks, last, out].map(|id| cx.buffer(id));
    let [sampling, adjustments, masks, last, out] = &inputs;
    let buffers = [&logits.buffer, sampling, adjustments, masks, last, out, &keys];
    let bound = Bound::new(cx.gpu, &SHADER, &[], &buffers);
    Ok(Box::new(Sample { bound, logits }))
}

impl Kernel for Sample {
    fn encode(&self, pass: &mut ComputePass<'_>, shape: &Shape) {
        let rows = shape.dims.count(self.logits.rows);
        let params = Params {
            rows: rows as u32,
            vocab: self.logits.cols,
            stride: self.logits.stride,
            start: self.logits.start,
            mask_words: self.logits.cols.div_ceil(32),
            key_stride: self.logits.cols,
        };
        self.bound.dispatch(pass, bytemuck::bytes_of(&params), shape.fold(rows));
    }
}
