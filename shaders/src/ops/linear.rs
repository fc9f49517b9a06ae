//! `Op::Linear`.

use super::context::{Columns, Context, ViewParams};
use super::kernel::Kernel;
use super::snippets::{FLOATS, LINEAR_INTERFACE, VIEW, WEIGHT};
use super::tiles::{HARDWARE, SOFTWARE, Tile, WORKGROUP, choose};
use crate::buffers::blocks::format_code;
use crate::driver::gpu::Gpu;
use crate::driver::pass::Pass;
use crate::driver::shader::Access::{self, Read, Write};
use crate::driver::shader::Shader;
use crate::options::Options;
use bytemuck::{Pod, Zeroable};
use engine::device::DeviceError;
use engine::plan::Dims;
use wgpu::{BindGroup, ComputePipeline};

const BINDINGS: &[Access] = &[Read, Read, Read, Read, Write];

/// For adapters with subgroups.
pub(crate) static SHADER: Shader = Shader {
    name: "linear",
    files: &[FLOATS, VIEW, WEIGHT, LINEAR_INTERFACE, include_str!("linear.wgsl")],
    params: size_of::<Params>(),
    bindings: BINDINGS,
};

/// For the others.
pub(crate) static WORKGROUP_SHADER: Shader = Shader {
    name: "linear_workgroup",
    files: &[FLOATS, VIEW, WEIGHT, LINEAR_INTERFACE, include_str!("linear_workgroup.wgsl")],
    params: size_of::<Params>(),
    bindings: BINDINGS,
};

/// Multiply-adds of one dispatch: desktop systems reset a card that works on one dispatch for seconds.
const MAX_WORK: u64 = 1 << 36;

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    rows: u32,
    first: u32,
    inner: u32,
    units: u32,
    cols: u32,
    shard: u32,
    x: ViewParams,
    out: ViewParams,
}

/// A shard of the weight: its buffers, its first column of the output, and how many it makes.
struct Shard {
    group: BindGroup,
    first: u32,
    cols: u32,
}

struct Linear {
    shards: Vec<Shard>,
    tiles: Vec<(Tile, ComputePipeline)>,
    x: Columns,
    out: Columns,
    units: u32,
    max_work: u64,
}

/// The tiles of an adapter, and the shader that they are constants of.
fn tiles(gpu: &Gpu, options: &Options) -> (&'static Shader, Vec<Tile>) {
    let (shader, tiles) = match (gpu.subgroups, gpu.software) {
        (true, true) => (&SHADER, SOFTWARE),
        (true, false) => (&SHADER, HARDWARE),
        (false, _) => (&WORKGROUP_SHADER, WORKGROUP),
    };
    let wanted = |tile: &Tile| options.tile_rows.is_none_or(|rows| rows == tile.rows);
    let chosen: Vec<Tile> = tiles.iter().copied().filter(wanted).collect();
    (shader, if chosen.is_empty() { tiles.to_vec() } else { chosen })
}

pub(crate) fn compile(cx: &mut Context<'_>, op: &engine::op::Linear) -> Result<Box<dyn Kernel>, DeviceError> {
    let (x, out) = (cx.columns(op.x)?, cx.columns(op.out)?);
    let (blocks, buffers) = cx.blocks(op.weight)?;
    let units = blocks.units();
    let flag = |set: bool| f64::from(u8::from(set));
    let mut constants = vec![("FORMAT", format_code(blocks.format)), ("HAS_BIAS", flag(op.bias.is_some()))];
    if cx.gpu.subgroups {
        constants.push(("ALIGNED", flag(x.start.is_multiple_of(4) && x.stride.is_multiple_of(4))));
        constants.push(("RAGGED", flag(x.cols as usize != units * 8)));
    }
    let (shader, tiles) = tiles(cx.gpu, cx.options);
    let tiles = tiles.into_iter().map(|tile| {
        let mut constants = constants.clone();
        constants.push(("LANES", tile.lanes as f64));
        if cx.gpu.subgroups {
            constants.extend([("ROWS", tile.rows as f64), ("COLS", tile.cols as f64)]);
        }
        (tile, cx.gpu.pipeline(shader, &constants))
    });
    let tiles = tiles.collect();
    let bias = op.bias.map_or_else(|| cx.gpu.empty(), |id| cx.buffer(id));
    let shards = buffers.iter().enumerate().map(|(shard, weight)| {
        let (first, cols) = blocks.shard_rows(shard);
        let group = cx.gpu.bind(shader, &[&x.buffer, &x.buffer, weight, &bias, &out.buffer]);
        Shard { group, first: first as u32, cols: cols as u32 }
    });
    let shards = shards.collect();
    let max_work = cx.options.max_work.unwrap_or(MAX_WORK);
    Ok(Box::new(Linear { shards, tiles, x, out, units: units as u32, max_work }))
}

impl Kernel for Linear {
    fn encode(&self, pass: &mut Pass<'_>, dims: &Dims) {
        let rows = dims.count(self.x.rows);
        if rows == 0 {
            return;
        }
        let (tile, pipeline) = &self.tiles[choose(self.tiles.iter().map(|t| t.0), rows)];
        for shard in &self.shards {
            let per_row = u64::from(self.x.cols) * u64::from(shard.cols);
            let row_tiles = (self.max_work / per_row / tile.rows as u64).clamp(1, pass.max_groups as u64);
            let col_tiles = (shard.cols as usize).div_ceil(tile.lanes * tile.cols);
            for first in (0..rows).step_by(row_tiles as usize * tile.rows) {
                let params = Params {
                    rows: rows as u32,
                    first: first as u32,
                    inner: self.x.cols,
                    units: self.units,
                    cols: shard.cols,
                    shard: shard.first,
                    x: self.x.params(),
                    out: self.out.params(),
                };
                let row_tiles = (rows - first).div_ceil(tile.rows).min(row_tiles as usize);
                let groups = (row_tiles as u32, col_tiles as u32);
                pass.dispatch(pipeline, &shard.group, bytemuck::bytes_of(&params), groups);
            }
        }
    }
}
