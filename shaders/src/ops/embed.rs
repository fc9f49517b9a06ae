//! `Op::Embed`.

use super::context::{Columns, Context, ViewParams};
use super::kernel::Kernel;
use super::snippets::{FLOATS, INVOCATION, VIEW, WEIGHT};
use crate::buffers::blocks::format_code;
use crate::driver::pass::{Bound, Pass};
use crate::driver::shader::Access::{Read, Write};
use crate::driver::shader::Shader;
use bytemuck::{Pod, Zeroable};
use engine::device::DeviceError;
use engine::plan::{Dims, Input};

pub(crate) static SHADER: Shader = Shader {
    name: "embed",
    files: &[INVOCATION, VIEW, FLOATS, WEIGHT, include_str!("embed.wgsl")],
    params: size_of::<Params>(),
    bindings: &[Read, Read, Read, Write],
};

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    rows: u32,
    cols: u32,
    units: u32,
    first: u32,
    count: u32,
    out: ViewParams,
}

/// One dispatch for each shard of the table.
struct Embed {
    shards: Vec<Shard>,
    units: u32,
    out: Columns,
}

/// A shard of the table: its buffers, its first row, and how many rows it has.
struct Shard {
    bound: Bound,
    first: u32,
    count: u32,
}

pub(crate) fn compile(cx: &mut Context<'_>, op: &engine::op::Embed) -> Result<Box<dyn Kernel>, DeviceError> {
    let (tokens, last, out) = (cx.input(Input::Tokens)?, cx.buffer(op.last), cx.columns(op.out)?);
    let (blocks, buffers) = cx.blocks(op.table)?;
    let constants = [("FORMAT", format_code(blocks.format)), ("SCALE", f64::from(op.scale))];
    let shards = buffers.iter().enumerate().map(|(shard, table)| {
        let bound = Bound::new(cx.gpu, &SHADER, &constants, &[&tokens, &last, table, &out.buffer]);
        let (first, count) = blocks.shard_rows(shard);
        Shard { bound, first: first as u32, count: count as u32 }
    });
    Ok(Box::new(Embed { shards: shards.collect(), units: blocks.units() as u32, out }))
}

impl Kernel for Embed {
    fn encode(&self, pass: &mut Pass<'_>, dims: &Dims) {
        let rows = dims.tokens;
        for &Shard { ref bound, first, count } in &self.shards {
            let params = Params {
                rows: rows as u32,
                cols: self.out.cols,
                units: self.units,
                first,
                count,
                out: self.out.params(),
            };
            pass.dispatch_lanes(bound, &params, rows * self.out.cols.div_ceil(8) as usize);
        }
    }
}
