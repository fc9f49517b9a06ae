//! `Op::Linear`.

use crate::buffer::{Columns, Context, Layout};
use crate::device::Options;
use crate::gpu::Gpu;
use crate::kernel::Access::{Read, Write};
use crate::kernel::{Kernel, Shader, Shape};
use bytemuck::{Pod, Zeroable};
use engine::plan::{BufferId, View};
use wgpu::{BindGroup, ComputePass, ComputePipeline};

/// For adapters with subgroups.
pub(crate) static SHADER: Shader =
    Shader { name: "linear", wgsl: include_str!("linear.wgsl"), bindings: &[Read, Read, Read, Read, Write] };

/// For the others.
pub(crate) static WORKGROUP_SHADER: Shader = Shader {
    name: "linear_workgroup",
    wgsl: include_str!("linear_workgroup.wgsl"),
    bindings: &[Read, Read, Read, Read, Write],
};

/// The shape of a tile: rows, and lanes times columns of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tile {
    pub rows: usize,
    pub lanes: usize,
    pub cols: usize,
}

/// Tiles of software adapters, whose registers are a processor's: 8 lanes are one vector, and a wide
/// tile pays for reading a weight.
pub(crate) const SOFTWARE: &[Tile] = &[
    Tile { rows: 1, lanes: 8, cols: 4 },
    Tile { rows: 2, lanes: 8, cols: 4 },
    Tile { rows: 3, lanes: 8, cols: 4 },
    Tile { rows: 4, lanes: 8, cols: 4 },
    Tile { rows: 5, lanes: 8, cols: 4 },
    Tile { rows: 6, lanes: 8, cols: 4 },
    Tile { rows: 7, lanes: 8, cols: 4 },
    Tile { rows: 8, lanes: 8, cols: 4 },
    Tile { rows: 9, lanes: 8, cols: 4 },
    Tile { rows: 10, lanes: 8, cols: 4 },
    Tile { rows: 12, lanes: 8, cols: 4 },
    Tile { rows: 14, lanes: 8, cols: 4 },
    Tile { rows: 16, lanes: 8, cols: 4 },
    Tile { rows: 17, lanes: 8, cols: 4 },
    Tile { rows: 18, lanes: 8, cols: 4 },
    Tile { rows: 20, lanes: 8, cols: 4 },
    Tile { rows: 22, lanes: 8, cols: 4 },
    Tile { rows: 24, lanes: 8, cols: 4 },
];

/// Tiles of hardware adapters: few columns to a lane while rows are few, so that the card is filled.
pub(crate) const HARDWARE: &[Tile] = &[
    Tile { rows: 1, lanes: 64, cols: 1 },
    Tile { rows: 2, lanes: 64, cols: 1 },
    Tile { rows: 4, lanes: 64, cols: 1 },
    Tile { rows: 8, lanes: 64, cols: 1 },
    Tile { rows: 12, lanes: 64, cols: 2 },
    Tile { rows: 16, lanes: 64, cols: 2 },
    Tile { rows: 24, lanes: 64, cols: 2 },
];

/// The only tile of [`WORKGROUP_SHADER`].
pub(crate) const WORKGROUP: &[Tile] = &[Tile { rows: 8, lanes: 64, cols: 1 }];

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
    x_stride: u32,
    x_start: u32,
    out_stride: u32,
    out_start: u32,
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
fn table(gpu: &Gpu, options: &Options) -> (&'static Shader, Vec<Tile>) {
    let (shader, tiles) = match (gpu.subgroups, gpu.software) {
        (true, true) => (&SHADER, SOFTWARE),
        (true, false) => (&SHADER, HARDWARE),
        (false, _) => (&WORKGROUP_SHADER, WORKGROUP),
    };
    let wanted = |tile: &Tile| options.tile_rows.is_none_or(|rows| rows == tile.rows);
    let chosen: Vec<Tile> = tiles.iter().copied().filter(wanted).collect();
    (shader, if chosen.is_empty() { tiles.to_vec() } else { chosen })
}

/// The tile for a row count: of those that waste the fewest rows after splitting into as few tiles as
/// the tallest allows, the lowest.
pub(crate) fn choose(tiles: &[Tile], rows: usize) -> usize {
    let tallest = tiles.iter().map(|t| t.rows).max().unwrap_or(1);
    let needed = rows.div_ceil(rows.div_ceil(tallest).max(1));
    tiles.iter().position(|t| t.rows >= needed).unwrap_or(tiles.len() - 1)
}

pub(crate) fn compile(
    cx: &mut Context<'_>,
    x: View,
    weight: BufferId,
    bias: Option<BufferId>,
    out: View,
    options: &Options,
) -> Box<dyn Kernel> {
    let (x, out) = (cx.columns(x), cx.columns(out));
    let storage = cx.storage(weight);
    let (layout, buffers) = (storage.layout, storage.shards.clone());
    // `layouts` gives every weight of a Linear blocks.
    let Layout::Blocks(blocks) = layout else { unreachable!("a weight is laid out in blocks") };
    let has_bias = bias.is_some();
    let bias = bias.map_or_else(|| cx.gpu.empty(), |id| cx.buffer(id));
    let (shader, table) = table(cx.gpu, options);
    let tiles = table.into_iter().map(|tile| {
        let mut constants = vec![
            ("FORMAT", blocks.format()),
            ("LANES", tile.lanes as f64),
            ("HAS_BIAS", f64::from(u8::from(has_bias))),
        ];
        if cx.gpu.subgroups {
            constants.extend([
                ("ROWS", tile.rows as f64),
                ("COLS", tile.cols as f64),
                ("ALIGNED", f64::from(u8::from(x.start.is_multiple_of(4) && x.stride.is_multiple_of(4)))),
                ("RAGGED", f64::from(u8::from(!x.cols.is_multiple_of(32)))),
            ]);
        }
        (tile, cx.gpu.pipeline(shader, &constants))
    });
    let tiles = tiles.collect();
    let shards = buffers.iter().enumerate().map(|(shard, weight)| {
        let (first, cols) = blocks.shard_rows(shard);
        let group = cx.gpu.bind(shader, &[&x.buffer, &x.buffer, weight, &bias, &out.buffer]);
        Shard { group, first: first as u32, cols: cols as u32 }
    });
    let shards = shards.collect();
    let max_work = options.max_work.unwrap_or(MAX_WORK);
    Box::new(Linear { shards, tiles, x, out, units: blocks.units() as u32, max_work })
}

impl Kernel for Linear {
    fn encode(&self, pass: &mut ComputePass<'_>, shape: &Shape) {
        let rows = shape.dims.count(self.x.rows);
        if rows == 0 {
            return;
        }
        let tiles: Vec<Tile> = self.tiles.iter().map(|t| t.0).collect();
        let (tile, pipeline) = &self.tiles[choose(&tiles, rows)];
        for shard in &self.shards {
            let per_row = u64::from(self.x.cols) * u64::from(shard.cols);
            let row_tiles = (self.max_work / per_row / tile.rows as u64).clamp(1, shape.max_groups as u64);
            let col_tiles = (shard.cols as usize).div_ceil(tile.lanes * tile.cols);
            for first in (0..rows).step_by(row_tiles as usize * tile.rows) {
                let params = Params {
                    rows: rows as u32,
                    first: first as u32,
                    inner: self.x.cols,
                    units: self.units,
                    cols: shard.cols,
                    shard: shard.first,
                    x_stride: self.x.stride,
                    x_start: self.x.start,
                    out_stride: self.out.stride,
                    out_start: self.out.start,
                };
                let here = (rows - first).div_ceil(tile.rows).min(row_tiles as usize);
                pass.set_pipeline(pipeline);
                pass.set_bind_group(0, &shard.group, &[]);
                pass.set_immediates(0, bytemuck::bytes_of(&params));
                pass.dispatch_workgroups(here as u32, col_tiles as u32, 1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_shared_out_over_even_tiles() {
        let rows = |n| SOFTWARE[choose(SOFTWARE, n)].rows;
        assert_eq!([1, 8, 9, 17, 24].map(rows), [1, 8, 9, 17, 24]);
        // 25 rows are two tiles of 14, not one of 24 and a row alone; 64 are three of 22.
        assert_eq!([25, 32, 33, 64, 1000].map(rows), [14, 16, 17, 22, 24]);
    }
}
