//! Linear on tensor cores: `linear.cu`.

use super::operands::Operands;
use super::quantize::{self, quantizes};
use super::tile::{Size, TILES, Tile, choose, used};
use crate::args::{DevicePtr, c_struct, word};
use crate::driver::card::CardLimits;
use crate::driver::launch::LaunchConfig;
use crate::kernel::Kernel;
use crate::launch::Launch;
use crate::lowering::Lowering;
use engine::dtype::DType;
use engine::format::Format;

c_struct! {
    /// The arguments of `linear.cu`.
    struct Args {
        rows: DevicePtr,
        x: DevicePtr,
        weight: DevicePtr,
        bias: DevicePtr,
        out: DevicePtr,
        x_scales: DevicePtr,
        n: u32,
        k: u32,
        x_stride: u32,
        out_stride: u32,
    }
}

/// Types and alignment of a variant of `linear.cu`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LinearVariant {
    /// Of x: bf16 or f16.
    pub(crate) x: DType,
    /// The type of x, or FP8.
    pub(crate) weight: Format,
    /// Whether x has been quantised for the product with an FP8 weight.
    pub(crate) quantized: bool,
    pub(crate) bias: Option<Format>,
    pub(crate) out: Format,
    /// Whether pairs of results can be stored at once.
    pub(crate) pair: bool,
    /// Whether the result is added to what the output holds: the residual.
    pub(crate) add: bool,
}

impl LinearVariant {
    /// What a slot holds of a row of the weight: FP8 elements that are widened, or 128 bytes.
    fn in_slot(&self) -> Format {
        if self.quantized { Format::Plain(self.x) } else { self.weight }
    }

    /// Whether elements of the weight are widened.
    fn widens(&self) -> bool {
        fp8(self.in_slot()) > 0
    }
}

/// The `FP8` of sources that widen such weights, and of `linear_sm90.cu`.
pub(super) fn fp8(weight: Format) -> u32 {
    match weight {
        Format::Fp8 => 1,
        Format::Fp8Blocks => 2,
        Format::Plain(_) | Format::Q8_0 => 0,
    }
}

fn kernel(tile: &Tile, variant: LinearVariant, stages: u32) -> Kernel {
    // Widening takes some.
    let registers = if variant.widens() { (tile.registers + 24).min(255) } else { tile.registers };
    let quantized = variant.quantized.then_some(("e4m3x2", 3));
    let plain = (variant.x.name(), fp8(variant.weight));
    let (x, fp8) = quantized.unwrap_or(plain);
    Kernel::new::<Args>("linear.cu", include_str!("linear.cu"), "linear", registers)
        .define("TX", x)
        .define("TW", if variant.quantized { x.into() } else { variant.weight.to_string() })
        .define("FP8", fp8)
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
        .shared(tile.slot(variant.in_slot()) * stages)
}

/// The kernels of a variant that fit a card, with their tiles.
pub(crate) fn variants_that_fit(variant: LinearVariant, limits: &CardLimits) -> (Vec<Tile>, Vec<Kernel>) {
    let fit = |tile: &Tile| {
        let stages = tile.fit(variant.in_slot(), limits.shared)?;
        // Widening FP8 in the largest tile spills on sm_120, where shared memory holds three slots of it.
        let spills = variant.widens() && tile.registers == 255 && stages < tile.stages;
        (!spills).then(|| (*tile, kernel(tile, variant, stages)))
    };
    // Beside the most accumulators there are no registers for the scales of blocks.
    let scaled = |tile: &&Tile| variant.weight != Format::Fp8Blocks || tile.registers < 255;
    TILES.iter().filter(scaled).filter_map(fit).unzip()
}

/// The launches of a Linear: of its x in FP8, if the card multiplies such factors, and of the product; `None` if the types
/// or the alignment are not those of tensor cores.
pub(super) fn lower(lowering: &mut Lowering, operands: &Operands) -> Option<Vec<Launch>> {
    let Operands { x, weight, bias, out, add, .. } = operands;
    let half = x.format.plain().filter(|dtype| matches!(dtype, DType::BF16 | DType::F16))?;
    if weight.format != x.format && fp8(weight.format) == 0 || !x.aligned(8) {
        return None;
    }
    let bias = bias.map(|bias| bias.format);
    let variant = LinearVariant {
        x: half,
        weight: weight.format,
        quantized: quantizes(weight.format, &lowering.limits),
        bias,
        out: out.format,
        pair: out.aligned(2),
        add: *add,
    };
    let (tiles, kernels) = variants_that_fit(variant, &lowering.limits);
    let (rows, sms) = (x.rows, lowering.limits.sms);
    let most = lowering.max_dims.count(rows);
    let (quantize, args) = args(lowering, operands, &variant);
    let size = Size { rows: most, k: args.k as usize, cols: out.cols, weight: variant.in_slot() };
    // Only the tiles that some row count will choose are compiled.
    let used = used(&tiles, &size, sms);
    let tiles: Vec<Tile> = used.iter().map(|&i| tiles[i]).collect();
    let kernels = used.iter().map(|&i| kernels[i].clone()).collect();
    let product = Launch::new(
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
    );
    Some(quantize.into_iter().chain([product]).collect())
}

/// The arguments, and the launch that quantises x, if the variant wants that.
fn args(lowering: &mut Lowering, operands: &Operands, variant: &LinearVariant) -> (Option<Launch>, Args) {
    let Operands { x, weight, bias, out, .. } = operands;
    let mut args = Args {
        rows: lowering.rows(x.rows),
        x: x.at,
        weight: weight.at,
        bias: bias.map_or(0, |bias| bias.at),
        out: out.at,
        x_scales: 0,
        n: word(out.cols),
        k: word(x.cols),
        x_stride: word(x.stride),
        out_stride: word(out.stride),
    };
    if !variant.quantized {
        return (None, args);
    }
    let (launch, quantized) = quantize::lower(lowering, x, variant.x);
    // Rows of both factors are padded alike, and counted in pairs.
    let pairs = word(quantized.pitch / 2);
    (args.x, args.x_scales, args.k, args.x_stride) = (quantized.elements, quantized.scales, pairs, pairs);
    (Some(launch), args)
}
