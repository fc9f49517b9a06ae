//! `Op::PagedAttention`.

use super::context::{Columns, Context, ViewParams};
use super::kernel::Kernel;
use super::snippets::{FLOATS, SOFT_CAP, VIEW};
use crate::buffers::blocks::format_code;
use crate::driver::pass::{Bound, Pass};
use crate::driver::shader::Access::{Read, Write};
use crate::driver::shader::Shader;
use bytemuck::{Pod, Zeroable};
use engine::device::DeviceError;
use engine::plan::{Dims, Input};

pub(crate) static SHADER: Shader = Shader {
    name: "paged_attention",
    files: &[FLOATS, VIEW, SOFT_CAP, include_str!("paged_attention.wgsl")],
    params: size_of::<Params>(),
    bindings: &[Read, Read, Read, Read, Read, Read, Write],
};

/// Query heads that one workgroup serves at most: the length of the shader's arrays.
const HEADS: u32 = 4;
/// Columns that one chunk of 32 lanes holds.
const CHUNK: u32 = 128;
/// Chunks of a head at most.
const CHUNKS: u32 = 4;
/// Attended positions times columns of one dispatch: desktop systems reset a card that works on one
/// dispatch for seconds.
const MAX_WORK: u64 = 1 << 34;

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    tokens: u32,
    seqs: u32,
    first_token: u32,
    group: u32,
    kv_heads: u32,
    head_dim: u32,
    units: u32,
    page_size: u32,
    pages_per_seq: u32,
    window: u32,
    q: ViewParams,
    out: ViewParams,
    scale: f32,
    first_head: u32,
}

/// A run of query heads of each group.
struct Heads {
    bound: Bound,
    first: u32,
}

struct PagedAttention {
    heads: Vec<Heads>,
    q: Columns,
    out: Columns,
    group: u32,
    kv_heads: u32,
    head_dim: u32,
    scale: f32,
    window: u32,
    max_work: u64,
}

/// Whether heads of this width can be served.
pub(crate) fn supports(head_dim: usize) -> Result<(), String> {
    let max = (CHUNK * CHUNKS) as usize;
    if head_dim <= max { Ok(()) } else { Err(format!("heads have {head_dim} columns; the limit is {max}")) }
}

pub(crate) fn compile(
    cx: &mut Context<'_>,
    op: &engine::op::PagedAttention,
) -> Result<Box<dyn Kernel>, DeviceError> {
    let (q, out) = (cx.columns(op.q)?, cx.columns(op.out)?);
    let head_dim = op.head_dim as u32;
    let kv_heads = cx.desc(op.k_pages).cols as u32 / head_dim;
    let group = q.cols / head_dim / kv_heads;
    let (k, v) = (cx.buffer(op.k_pages), cx.buffer(op.v_pages));
    let (positions, query_start) = (cx.input(Input::Positions)?, cx.input(Input::QueryStart)?);
    let block_tables = cx.input(Input::BlockTables)?;
    let buffers = [&q.buffer, &k, &v, &positions, &query_start, &block_tables, &out.buffer];
    let format = |id| format_code(cx.desc(id).format);
    let formats = [("K_FORMAT", format(op.k_pages)), ("V_FORMAT", format(op.v_pages))];
    let heads = (0..group).step_by(HEADS as usize).map(|first| {
        let constants = [
            formats[0],
            formats[1],
            ("HEADS", f64::from(HEADS.min(group - first))),
            ("CHUNKS", f64::from(head_dim.div_ceil(CHUNK))),
            ("SOFTCAP", f64::from(op.softcap.unwrap_or(0.0))),
        ];
        Heads { bound: Bound::new(cx.gpu, &SHADER, &constants, &buffers), first }
    });
    let heads = heads.collect();
    let window = op.window.map_or(u32::MAX, |w| w.min(u32::MAX as usize) as u32);
    let max_work = cx.options.max_work.unwrap_or(MAX_WORK);
    Ok(Box::new(PagedAttention {
        heads,
        q,
        out,
        group,
        kv_heads,
        head_dim,
        scale: op.scale,
        window,
        max_work,
    }))
}

impl Kernel for PagedAttention {
    fn encode(&self, pass: &mut Pass<'_>, dims: &Dims) {
        let work = dims.attended as u64 * u64::from(self.q.cols);
        let dispatches = work.div_ceil(self.max_work).max(1) as usize;
        let tokens = dims.tokens.div_ceil(dispatches).clamp(1, pass.max_groups);
        for first_token in (0..dims.tokens).step_by(tokens) {
            for heads in &self.heads {
                let params = Params {
                    tokens: dims.tokens as u32,
                    seqs: dims.seqs as u32,
                    first_token: first_token as u32,
                    group: self.group,
                    kv_heads: self.kv_heads,
                    head_dim: self.head_dim,
                    units: self.head_dim.div_ceil(4),
                    page_size: dims.page_size as u32,
                    pages_per_seq: dims.pages_per_seq as u32,
                    window: self.window,
                    q: self.q.params(),
                    out: self.out.params(),
                    scale: self.scale,
                    first_head: heads.first,
                };
                let count = tokens.min(dims.tokens - first_token) as u32;
                let Bound { pipeline, group } = &heads.bound;
                pass.dispatch(pipeline, group, bytemuck::bytes_of(&params), (count, self.kv_heads));
            }
        }
    }
}
