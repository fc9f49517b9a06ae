//! Sample: `sample.cu`.

use crate::args::{DevicePtr, c_layout, c_struct, word};
use crate::grid::block_per_row;
use crate::kernel::Kernel;
use crate::launch::Launch;
use crate::lowering::Lowering;
use engine::op::Sample;
use engine::plan::Input;
use engine::step::{Adjustment, MAX_LOGPROBS, SampleRow};

/// Threads of a block: the source's `THREADS`.
const THREADS: u32 = 512;

c_struct! {
    /// The arguments of `sample.cu`.
    struct Args {
        rows: DevicePtr,
        logits: DevicePtr,
        sampling: DevicePtr,
        adjustments: DevicePtr,
        masks: DevicePtr,
        targets: DevicePtr,
        last: DevicePtr,
        out: DevicePtr,
        target_logprobs: DevicePtr,
        vocab: u32,
        stride: u32,
        mask_words: u32,
        pad: u32,
    }
}

c_layout!(SampleRow {
    temperature,
    top_p,
    min_p,
    top_k,
    key_lo,
    key_hi,
    position,
    seq_slot,
    target,
    mask,
    adjust_start,
    adjust_len,
    logprobs,
    target_start,
    target_len,
});
c_layout!(Adjustment { token, repetition, bias });

pub(crate) fn kernel() -> Kernel {
    Kernel::new::<Args>("sample.cu", include_str!("sample.cu"), "sample", 64)
        .with_struct::<SampleRow>()
        .with_struct::<Adjustment>()
        .define("THREADS", THREADS)
        .define("MAX_LOGPROBS", MAX_LOGPROBS)
}

pub(crate) fn lower(lowering: &mut Lowering, op: &Sample) -> Launch {
    let logits = lowering.view(op.logits);
    let args = Args {
        rows: lowering.rows(logits.rows),
        logits: logits.at,
        sampling: lowering.input(Input::Sampling),
        adjustments: lowering.input(Input::Adjustments),
        masks: lowering.input(Input::Masks),
        targets: lowering.input(Input::Targets),
        last: lowering.at(op.last),
        out: lowering.at(op.out),
        target_logprobs: lowering.at(op.target_logprobs),
        vocab: word(logits.cols),
        stride: word(logits.stride),
        mask_words: word(logits.cols.div_ceil(32)),
        pad: 0,
    };
    Launch::new(vec![kernel()], args, block_per_row(logits.rows, THREADS))
}
