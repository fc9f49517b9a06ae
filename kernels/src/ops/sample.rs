//! Sample: `sample_parts.cu` and `sample.cu`.

use crate::args::{DevicePtr, c_layout, c_struct, word};
use crate::driver::launch::LaunchConfig;
use crate::grid::{GridDims, block_per_row};
use crate::kernel::Kernel;
use crate::launch::Launch;
use crate::lowering::Lowering;
use engine::op::{Op, Sample};
use engine::plan::{Dims, Input, Plan};
use engine::step::{Adjustment, MAX_LOGPROBS, SampleRow};

/// Tokens of a part of a row: the sources' `PART`. Part of the numeric contract: changing it changes bits.
const PART: usize = 2048;

/// Threads of a block that looks through a part, and of one that finishes a row: the sources' `THREADS`.
const PART_THREADS: u32 = 256;
const THREADS: u32 = 512;

c_struct! {
    /// `Part` of `sample.cuh`.
    struct Part {
        raw: [u32; 2],
        mass: f32,
        best: [u32; 2],
        weight: f32,
        next: [u32; 2],
    }
}

c_struct! {
    /// The arguments of both kernels.
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
        parts: DevicePtr,
        vocab: u32,
        stride: u32,
        mask_words: u32,
        count: u32,
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

/// The kernel that looks through the parts of rows.
pub(crate) fn parts_kernel() -> Kernel {
    let text = include_str!("sample_parts.cu");
    shared_structs(Kernel::new::<Args>("sample_parts.cu", text, "sample_parts", 64))
        .define("THREADS", PART_THREADS)
}

/// The kernel that finishes rows.
pub(crate) fn kernel() -> Kernel {
    shared_structs(Kernel::new::<Args>("sample.cu", include_str!("sample.cu"), "sample", 64))
        .define("THREADS", THREADS)
        .define("MAX_LOGPROBS", MAX_LOGPROBS)
}

fn shared_structs(kernel: Kernel) -> Kernel {
    kernel.with_struct::<SampleRow>().with_struct::<Adjustment>().with_struct::<Part>().define("PART", PART)
}

/// Bytes of what is known of the parts of rows; each Sample is done with it before the next begins.
pub(crate) fn parts_bytes(plan: &Plan, max_dims: &Dims) -> usize {
    let bytes = |op: &Op| match op {
        Op::Sample(Sample { logits, .. }) => {
            max_dims.count(plan.desc(logits.buffer).rows) * logits.cols.div_ceil(PART) * size_of::<Part>()
        }
        _ => 0,
    };
    plan.ops.iter().map(bytes).max().unwrap_or(0)
}

pub(crate) fn lower(lowering: &mut Lowering, op: &Sample) -> [Launch; 2] {
    let logits = lowering.view(op.logits);
    let count = logits.cols.div_ceil(PART);
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
        parts: lowering.sample_parts,
        vocab: word(logits.cols),
        stride: word(logits.stride),
        mask_words: word(logits.cols.div_ceil(32)),
        count: word(count),
    };
    let every_part = Box::new(move |grid: &GridDims| {
        let blocks = word(grid.dims.count(logits.rows) * count);
        let block = (PART_THREADS, 1, 1);
        (blocks > 0).then_some(LaunchConfig { kernel: 0, grid: (blocks, 1, 1), block })
    });
    [
        Launch::new(vec![parts_kernel()], args, every_part),
        Launch::new(vec![kernel()], args, block_per_row(logits.rows, THREADS)),
    ]
}
