//! Sample: `sample.cu`.

use crate::kernel::Kernel;
use crate::launch::{Args, Launch, block_per_row};
use crate::program::Site;
use engine::plan::{BufferId, View};

/// Threads of a block: the source's `THREADS`.
const THREADS: u32 = 512;

pub(crate) fn kernel() -> Kernel {
    Kernel::new("sample.cu", include_str!("sample.cu"), "sample", 64)
}

/// `inputs`: sampling, adjustments, masks, last tokens, and the result.
pub(crate) fn lower(site: &mut Site, logits: View, inputs: [BufferId; 5]) -> Launch {
    let logits = site.view(logits);
    let [sampling, adjustments, masks, last, out] = inputs.map(|id| site.addresses[id.0]);
    Launch {
        kernels: vec![kernel()],
        args: Args::default()
            .pointer(site.rows(logits.rows))
            .pointer(logits.at)
            .pointer(sampling)
            .pointer(adjustments)
            .pointer(masks)
            .pointer(last)
            .pointer(out)
            .word(logits.cols)
            .word(logits.stride)
            .word(logits.cols.div_ceil(32)),
        shape: block_per_row(logits.rows, THREADS),
    }
}
