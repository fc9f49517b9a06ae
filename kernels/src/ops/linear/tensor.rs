//! Linear on tensor cores: `linear.cu`.

use super::operands::{Args, Operands};
use super::tile::{Size, TILES, Tile, choose, used};
use crate::driver::card::CardLimits;
use crate::driver::launch::LaunchConfig;
use crate::kernel::Kernel;
use crate::launch::Launch;
use crate::lowering::Lowering;
use engine::dtype::DType;
use engine::format::Format;

/// Types and alignment of a variant of `linear.cu`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LinearVariant {
    /// Of x: bf16 or f16.
    pub(crate) x: DType,
    /// The type of x, or FP8.
    pub(crate) weight: Format,
    pub(crate) bias: Option<Format>,
    pub(crate) out: Format,
    /// Whether pairs of results can be stored at once.
    pub(crate) pair: bool,
    /// Whether the result is added to what the output holds: the residual.
    pub(crate) add: bool,
}

/// The sources' `FP8`.
pub(super) fn fp8(weight: Format) -> u32 {
    match weight {
        Format::Fp8 => 1,
        Format::Fp8Blocks => 2,
        Format::Plain(_) | Format::Q8_0 => 0,
    }
}

fn kernel(tile: &Tile, variant: LinearVariant, stages: u32) -> Kernel {
    // Widening takes some.
    let registers = if fp8(variant.weight) > 0 { (tile.registers + 24).min(255) } else { tile.registers };
    Kernel::new::<Args>("linear.cu", include_str!("linear.cu"), "linear", registers)
        .define("TX", variant.x)
        .define("TW", variant.weight)
        .define("FP8", fp8(variant.weight))
        .define("TB", variant.bias.unwrap_or(variant.x.into()))
        .define("TO", variant.out)
        .define("BIAS", u32::from(variant.bias.is_some()))
        .define("PAIR", u32::from(variant.pair))
        .define("ADD", u32::from(variant.add))
        .define("BM", tile.rows)
        .define("BN", tile.cols)
        .define("WM", tile.warps.0)
        .define("WN", tile.warps.1)
        .define("STAGES", stages)
        .shared(tile.slot(variant.weight) * stages)
}

/// The kernels of a variant that fit a card, with their tiles.
pub(crate) fn variants_that_fit(variant: LinearVariant, limits: &CardLimits) -> (Vec<Tile>, Vec<Kernel>) {
    let fit = |tile: &Tile| {
        let stages = tile.fit(variant.weight, limits.shared)?;
        // Widening FP8 in the largest tile spills on sm_120, where shared memory holds three slots of it.
        let spills = fp8(variant.weight) > 0 && tile.registers == 255 && stages < tile.stages;
        (!spills).then(|| (*tile, kernel(tile, variant, stages)))
    };
    // Beside the most accumulators there are no registers for the scales of blocks.
    let scaled = |tile: &&Tile| variant.weight != Format::Fp8Blocks || tile.registers < 255;
    TILES.iter().filter(scaled).filter_map(fit).unzip()
}

/// `None` if the types or the alignment are not those of tensor cores.
pub(super) fn lower(lowering: &mut Lowering, operands: &Operands) -> Option<Launch> {
    let Operands { x, weight, bias, out, add, .. } = operands;
    let half = x.format.plain().filter(|dtype| matches!(dtype, DType::BF16 | DType::F16))?;
    if weight.format != x.format && fp8(weight.format) == 0 || !x.aligned(8) {
        return None;
    }
    let bias = bias.map(|bias| bias.format);
    let variant = LinearVariant {
        x: half,
        weight: weight.format,
        bias,
        out: out.format,
        pair: out.aligned(2),
        add: *add,
    };
    let (tiles, kernels) = variants_that_fit(variant, &lowering.limits);
    let (rows, sms) = (x.rows, lowering.limits.sms);
    let most = lowering.max_dims.count(rows);
    let size = Size { rows: most, k: x.cols, cols: out.cols, weight: weight.format };
    // Only the tiles that some row count will choose are compiled.
    let used = used(&tiles, &size, sms);
    let tiles: Vec<Tile> = used.iter().map(|&i| tiles[i]).collect();
    let kernels = used.iter().map(|&i| kernels[i].clone()).collect();
    let args = operands.args(lowering);
    Some(Launch::new(
        kernels,
        args,
        Box::new(move |grid| {
            let size = Size { rows: grid.dims.count(rows), ..size };
            let kernel = choose(&tiles, &size, sms);
            let tile = &tiles[kernel];
            let grid = (tile.count(&size) as u32, 1, 1);
            let block = (32 * tile.warps.0 * tile.warps.1, 1, 1);
            (size.rows > 0).then_some(LaunchConfig { kernel, grid, block })
        }),
    ))
}
