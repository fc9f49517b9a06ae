//! Linear on the tensor cores of sm_90a: `linear_sm90.cu`.

mod tile;

use super::operands::Operands;
use super::quantize;
use super::tensor::fp8;
use crate::args::{DevicePtr, c_struct, word};
use crate::driver::card::{CardLimits, TensorCores};
use crate::driver::launch::LaunchConfig;
use crate::driver::tensor_map::{BOX_BYTES, Element, Matrix, TensorMap, tensor_map};
use crate::kernel::Kernel;
use crate::launch::Launch;
use crate::lowering::Lowering;
use crate::planes::fp8_place;
use cudarc::driver::DriverError;
use engine::dtype::DType;
use engine::format::Format;
use engine::op::Activation;
use tile::{H200, Size, TILES, Tile, choose, two_byte_columns, used};

c_struct! {
    /// The arguments of `linear_sm90.cu`.
    struct Args {
        weight: TensorMap,
        x: TensorMap,
        rows: DevicePtr,
        bias: DevicePtr,
        out: DevicePtr,
        weight_scales: DevicePtr,
        x_scales: DevicePtr,
        features: u32,
        k: u32,
        out_stride: u32,
        pad: [u32; 3],
    }
}

/// Types, alignment and end of a variant of `linear_sm90.cu`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sm90Variant {
    /// Of x: bf16 or f16.
    pub(crate) x: DType,
    /// The type of x, or FP8: then x is quantised.
    pub(crate) weight: Format,
    pub(crate) bias: Option<Format>,
    pub(crate) out: Format,
    /// Whether 16 bytes of the result can be moved at once.
    pub(crate) vec: bool,
    /// Whether the result is added to what the output holds: the residual.
    pub(crate) add: bool,
    /// Whether gates of this kind multiply the up rows.
    pub(crate) gate: Option<Activation>,
}

impl Sm90Variant {
    /// The source's `FP8`.
    fn fp8(&self) -> u32 {
        fp8(self.weight)
    }

    fn wide_out(&self) -> bool {
        self.out == DType::F32.into()
    }

    /// Columns of the output that a consumer warpgroup makes.
    fn outs(&self) -> usize {
        if self.gate.is_some() { 32 } else { 64 }
    }

    /// Tokens that are transposed at a time: the source's `CHUNK`.
    fn chunk(&self, tile: &Tile) -> usize {
        let most = if self.wide_out() { &[32][..] } else { &[64, 48, 32] };
        most.iter().copied().find(|chunk| tile.tokens.is_multiple_of(*chunk)).unwrap_or(tile.tokens)
    }

    /// Bytes in which a consumer warpgroup transposes its results: the source's `ROOM`.
    fn room(&self, tile: &Tile) -> usize {
        if self.wide_out() { self.chunk(tile) * 68 * 4 } else { self.chunk(tile) * self.outs() * 2 }
    }

    /// Bytes of shared memory: slots, rooms, two mbarriers for each slot, and what aligning them may take.
    fn shared(&self, tile: &Tile) -> usize {
        let stages = tile.stages as usize;
        1024 + stages * (tile.slot() + 16) + tile.warpgroups * self.room(tile)
    }

    /// Moving single elements beside the most accumulators takes more registers than there are.
    fn fits(&self, tile: &Tile, limits: &CardLimits) -> bool {
        // So do scales of blocks, whose sums are accumulated twice.
        let most = match self.weight {
            Format::Fp8Blocks if tile.warpgroups == 3 => 96,
            Format::Fp8Blocks if self.vec => 192,
            _ if self.vec => 256,
            _ => 128,
        };
        self.shared(tile) <= limits.shared as usize && tile.tokens <= most
    }

    fn kernel(&self, tile: &Tile) -> Kernel {
        // Of a block of so many warpgroups, a thread's share of registers; at most what consumers take.
        let registers = match tile.warpgroups {
            1 => 232,
            2 => 168,
            _ => 128,
        };
        let gate = match self.gate {
            None => 0,
            Some(Activation::Silu) => 1,
            Some(Activation::GeluTanh) => 2,
        };
        Kernel::new::<Args>("linear_sm90.cu", include_str!("../linear_sm90.cu"), "linear_sm90", registers)
            .define("TX", if self.fp8() > 0 { "e4m3" } else { self.x.name() })
            .define("FP8", self.fp8())
            .define("TB", self.bias.unwrap_or(self.x.into()))
            .define("TO", self.out)
            .define("BIAS", u32::from(self.bias.is_some()))
            .define("WIDE_OUT", u32::from(self.wide_out()))
            .define("VEC", u32::from(self.vec))
            .define("ADD", u32::from(self.add))
            .define("GATE", gate)
            .define("WGS", tile.warpgroups)
            .define("TOKENS", tile.tokens)
            .define("STAGES", tile.stages)
            .shared(self.shared(tile) as u32)
    }
}

/// The tiles of `linear_sm90.cu`: consumer warpgroups, tokens, slots.
pub fn tiles() -> Vec<(usize, usize, u32)> {
    TILES.iter().map(|tile| (tile.warpgroups, tile.tokens, tile.stages)).collect()
}

/// The kernels of a variant that fit a card, with their tiles.
pub(crate) fn variants_that_fit(variant: Sm90Variant, limits: &CardLimits) -> (Vec<Tile>, Vec<Kernel>) {
    let fit = TILES.iter().filter(|tile| variant.fits(tile, limits));
    fit.map(|tile| (*tile, variant.kernel(tile))).unzip()
}

/// The variant for operands, or `None` if the card, the types or the alignment are not those of bulk copies.
fn variant(limits: &CardLimits, operands: &Operands) -> Option<Sm90Variant> {
    let Operands { x, weight, bias, out, add, gate } = operands;
    let half = x.format.plain().filter(|dtype| matches!(dtype, DType::BF16 | DType::F16))?;
    let out_type = out.format.plain()?;
    // Results are rounded to the type of x, or kept.
    let plain_out = out_type == half || out_type == DType::F32 && gate.is_none();
    if limits.tensor_cores != TensorCores::Wgmma
        || weight.format != x.format && fp8(weight.format) == 0
        || !x.aligned(8)
        || !plain_out
    {
        return None;
    }
    let vec = out.aligned(16 / out_type.size());
    let bias = bias.map(|bias| bias.format);
    Some(Sm90Variant { x: half, weight: weight.format, bias, out: out.format, vec, add: *add, gate: *gate })
}

/// Whether a Linear with these operands would run here.
pub(super) fn runs(lowering: &Lowering, operands: &Operands) -> bool {
    variant(&lowering.limits, operands).is_some() && lowering.max_dims.count(operands.x.rows) > 0
}

/// The launches of a Linear: of its x in FP8, if the weight is that, and of the product; `None` if the card, the types or
/// the alignment are not those of bulk copies.
pub(super) fn lower(lowering: &mut Lowering, operands: &Operands) -> Option<Vec<Launch>> {
    let variant = variant(&lowering.limits, operands)?;
    if !runs(lowering, operands) {
        return None;
    }
    let (tiles, kernels) = variants_that_fit(variant, &lowering.limits);
    let (rows, sms) = (operands.x.rows, lowering.limits.sms);
    let features = operands.weight_rows();
    let k = two_byte_columns(operands.x.cols, variant.weight);
    let size = Size { rows: lowering.max_dims.count(rows), k, features };
    let (quantize, factors) = factors(lowering, operands, &variant);
    // Only the tiles that some row count will choose are compiled.
    let used = match lowering.linears.tile {
        Some(only) => (0..tiles.len()).filter(|&i| (tiles[i].warpgroups, tiles[i].tokens) == only).collect(),
        None => used(&tiles, &size, sms),
    };
    let tiles: Vec<Tile> = used.iter().map(|&i| tiles[i]).collect();
    let args: Result<Vec<Args>, DriverError> =
        tiles.iter().map(|tile| args(lowering, operands, &factors, tile)).collect();
    let args = args.map_err(|error| lowering.refused = Some(error)).ok()?;
    let kernels = used.iter().map(|&i| kernels[i].clone());
    let product = Launch::of_variants(
        kernels.zip(args).collect(),
        Box::new(move |grid| {
            let size = Size { rows: grid.dims.count(rows), ..size };
            let kernel = choose(&tiles, &size, sms, &H200);
            let tile = &tiles[kernel];
            let blocks = tile.count(&size).min(sms as usize) as u32;
            let block = (128 * (tile.warpgroups as u32 + 1), 1, 1);
            (blocks > 0).then_some(LaunchConfig { kernel, grid: (blocks, 1, 1), block })
        }),
    );
    Some(quantize.into_iter().chain([product]).collect())
}

/// The two matrices that are multiplied, and the scales of their rows in FP8.
struct Factors {
    weight: Matrix,
    x: Matrix,
    weight_scales: DevicePtr,
    x_scales: DevicePtr,
}

/// The factors, and the launch that makes x one of them, if it must be quantised.
fn factors(lowering: &mut Lowering, operands: &Operands, variant: &Sm90Variant) -> (Option<Launch>, Factors) {
    let Operands { x, weight, .. } = operands;
    let (x_rows, features, cols) = (lowering.max_dims.count(x.rows), operands.weight_rows(), x.cols);
    if variant.fp8() > 0 {
        let (launch, quantized) = quantize::lower(lowering, x, variant.x);
        let matrix = |at, rows, stride| Matrix { at, element: Element::E4m3, rows, cols, stride };
        let (pitch, scales) = fp8_place(features, cols);
        let factors = Factors {
            weight: matrix(weight.at, features, pitch),
            x: matrix(quantized.elements, x_rows, quantized.pitch),
            weight_scales: weight.at + scales as u64,
            x_scales: quantized.scales,
        };
        return (Some(launch), factors);
    }
    let element = if variant.x == DType::F16 { Element::F16 } else { Element::BF16 };
    let matrix = |at, rows, stride: usize| Matrix { at, element, rows, cols, stride: 2 * stride };
    let (weight, x) = (matrix(weight.at, features, weight.stride), matrix(x.at, x_rows, x.stride));
    (None, Factors { weight, x, weight_scales: 0, x_scales: 0 })
}

/// The arguments for a tile: its boxes differ.
fn args(
    lowering: &mut Lowering,
    operands: &Operands,
    factors: &Factors,
    tile: &Tile,
) -> Result<Args, DriverError> {
    let Operands { x, bias, out, .. } = operands;
    const _: () = assert!(BOX_BYTES == 128);
    Ok(Args {
        weight: tensor_map(&factors.weight, tile.features() as u32)?,
        x: tensor_map(&factors.x, tile.tokens as u32)?,
        rows: lowering.rows(x.rows),
        bias: bias.map_or(0, |bias| bias.at),
        out: out.at,
        weight_scales: factors.weight_scales,
        x_scales: factors.x_scales,
        features: word(factors.weight.rows),
        k: word(factors.weight.cols),
        out_stride: word(out.stride),
        pad: [0; 3],
    })
}
