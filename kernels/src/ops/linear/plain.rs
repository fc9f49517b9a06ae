//! Linear for any formats and shapes: `linear_plain.cu`.

use super::operands::{Args, Operands};
use crate::driver::launch::LaunchConfig;
use crate::kernel::Kernel;
use crate::launch::Launch;
use crate::lowering::Lowering;
use engine::format::Format;

/// Rows and columns of a block's tile, and threads along each: the source's `TILE`.
const TILE: usize = 16;

pub(crate) fn plain_kernel(
    x: Format,
    weight: Format,
    bias: Option<Format>,
    out: Format,
    add: bool,
) -> Kernel {
    Kernel::new::<Args>("linear_plain.cu", include_str!("linear_plain.cu"), "linear_plain", 48)
        .define("TX", x)
        .define("TW", weight)
        .define("TB", bias.unwrap_or(x))
        .define("TO", out)
        .define("BIAS", u32::from(bias.is_some()))
        .define("ADD", u32::from(add))
        .define("TILE", TILE)
}

pub(super) fn lower(lowering: &mut Lowering, operands: &Operands) -> Launch {
    let Operands { x, weight, bias, out, add, .. } = operands;
    let kernel = plain_kernel(x.format, weight.format, bias.map(|bias| bias.format), out.format, *add);
    let (rows, n) = (x.rows, out.cols);
    let args = operands.args(lowering);
    Launch::new(
        vec![kernel],
        args,
        Box::new(move |grid| {
            let tiles = grid.dims.count(rows).div_ceil(TILE) * n.div_ceil(TILE);
            let block = (TILE as u32, TILE as u32, 1);
            (tiles > 0).then_some(LaunchConfig { kernel: 0, grid: (tiles as u32, 1, 1), block })
        }),
    )
}
