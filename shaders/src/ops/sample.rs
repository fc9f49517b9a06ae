//! `Op::Sample`.

use super::context::{Columns, Context, ViewParams};
use super::kernel::Kernel;
use super::snippets::{INVOCATION, SAMPLE_ROW, SUM, VIEW};
use crate::driver::gpu::allocated;
use crate::driver::pass::{Bound, Pass};
use crate::driver::shader::Access::{Read, Write};
use crate::driver::shader::Shader;
use bytemuck::{Pod, Zeroable};
use engine::device::{DeviceError, MemoryUse};
use engine::op::Op;
use engine::plan::{Dims, Input, Plan, View};
use wgpu::BufferUsages;

pub(crate) static SHADER: Shader = Shader {
    name: "sample",
    files: &[INVOCATION, VIEW, SUM, SAMPLE_ROW, include_str!("sample.wgsl")],
    params: size_of::<Params>(),
    bindings: &[Read, Read, Read, Read, Write, Write, Write],
};

/// A shader of its own: an adapter need not offer more than eight bindings.
pub(crate) static TARGETS: Shader = Shader {
    name: "targets",
    files: &[INVOCATION, VIEW, SUM, SAMPLE_ROW, include_str!("targets.wgsl")],
    params: size_of::<TargetParams>(),
    bindings: &[Read, Read, Read, Write],
};

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct TargetParams {
    rows: u32,
    vocab: u32,
    logits: ViewParams,
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    rows: u32,
    vocab: u32,
    logits: ViewParams,
    mask_words: u32,
    key_stride: u32,
}

struct Sample {
    bound: Bound,
    targets: Bound,
    logits: Columns,
}

/// Bytes of the keys of changed logits, one row for each output, which lie beside the plan's buffers.
fn key_bytes(logits: View, max_dims: &Dims) -> usize {
    max_dims.outputs * logits.cols * 4
}

/// Bytes that the op allocates beside the plan's buffers.
pub(crate) fn workspace(plan: &Plan, max_dims: &Dims) -> usize {
    let keys = plan.ops.iter().filter_map(|op| match *op {
        Op::Sample(op) => Some(allocated(key_bytes(op.logits, max_dims))),
        _ => None,
    });
    keys.sum()
}

pub(crate) fn compile(cx: &mut Context<'_>, op: &engine::op::Sample) -> Result<Box<dyn Kernel>, DeviceError> {
    let bytes = key_bytes(op.logits, cx.max_dims);
    let keys = cx.gpu.allocate("sampling keys", bytes, BufferUsages::STORAGE, MemoryUse::Activations)?;
    let logits = cx.columns(op.logits)?;
    let (sampling, adjustments) = (cx.input(Input::Sampling)?, cx.input(Input::Adjustments)?);
    let (masks, last, out) = (cx.input(Input::Masks)?, cx.buffer(op.last), cx.buffer(op.out));
    let buffers = [&logits.buffer, &sampling, &adjustments, &masks, &last, &out, &keys];
    let bound = Bound::new(cx.gpu, &SHADER, &[], &buffers);
    let (targets, reported) = (cx.input(Input::Targets)?, cx.buffer(op.target_logprobs));
    let targets = Bound::new(cx.gpu, &TARGETS, &[], &[&logits.buffer, &sampling, &targets, &reported]);
    Ok(Box::new(Sample { bound, targets, logits }))
}

impl Kernel for Sample {
    fn encode(&self, pass: &mut Pass<'_>, dims: &Dims) {
        let rows = dims.count(self.logits.rows);
        let params = Params {
            rows: rows as u32,
            vocab: self.logits.cols,
            logits: self.logits.params(),
            mask_words: self.logits.cols.div_ceil(32),
            key_stride: self.logits.cols,
        };
        pass.dispatch_groups(&self.bound, &params, rows);
        if dims.targets > 0 {
            let params = TargetParams { rows: params.rows, vocab: params.vocab, logits: params.logits };
            pass.dispatch_groups(&self.targets, &params, rows);
        }
    }
}
