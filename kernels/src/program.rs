//! A plan as a list of calls: neighbouring ops that one kernel does together are fused here.

use crate::cublaslt::{self, CublasLt};
use crate::launch::{Call, Launch};
use crate::{add, attention, embed, gated, gather, linear, norm, rope, sample};
use engine::dtype::DType;
use engine::op::Op;
use engine::plan::{BufferId, Dims, Plan, Rows, View};
use std::sync::Arc;

/// Words of the counts buffer that steps fill: row counts, then three for each attention group size.
pub(crate) const STEP_COUNTS: usize = 6;
/// Where counts that no step changes begin, and how many words there are in all.
pub(crate) const FIXED_COUNTS: usize = 64;
/// Words of the counts buffer.
pub(crate) const COUNTS: usize = 128;

/// What of the card decides tile shapes and variants.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Card {
    /// Multiprocessors.
    pub(crate) sms: u32,
    /// The most shared memory of a block, in bytes.
    pub(crate) shared: u32,
}

/// Where a plan's buffers lie.
pub(crate) struct Site<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) most: &'a Dims,
    pub(crate) card: Card,
    pub(crate) addresses: &'a [u64],
    /// The counts buffer.
    pub(crate) counts: u64,
    /// Counts that no step changes, from word [`FIXED_COUNTS`] on.
    pub(crate) fixed: Vec<u32>,
    /// Attention work lists.
    pub(crate) work: &'a [crate::work::Work],
    /// What makes products in place of our own kernels.
    pub(crate) blas: Option<Arc<CublasLt>>,
}

/// A view as a kernel sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Operand {
    pub(crate) at: u64,
    pub(crate) dtype: DType,
    pub(crate) rows: Rows,
    pub(crate) start: usize,
    pub(crate) cols: usize,
    pub(crate) stride: usize,
}

impl Operand {
    /// Whether rows of the view can be moved `n` elements at a time.
    pub(crate) fn aligned(&self, n: usize) -> bool {
        self.start.is_multiple_of(n) && self.cols.is_multiple_of(n) && self.stride.is_multiple_of(n)
    }
}

/// Elements that a kernel moves together: 8, or 1 if an operand forbids it.
pub(crate) fn pack(operands: &[&Operand]) -> usize {
    if operands.iter().all(|o| o.aligned(8)) { 8 } else { 1 }
}

impl Site<'_> {
    pub(crate) fn view(&self, view: View) -> Operand {
        let desc = self.plan.desc(view.buffer);
        Operand {
            at: self.addresses[view.buffer.0] + (view.start * desc.dtype.size()) as u64,
            dtype: desc.dtype,
            rows: desc.rows,
            start: view.start,
            cols: view.cols,
            stride: desc.cols,
        }
    }

    /// A whole buffer.
    pub(crate) fn buffer(&self, id: BufferId) -> Operand {
        self.view(self.plan.view(id))
    }

    /// The address of a word that holds the count of `rows` in each step.
    pub(crate) fn rows(&mut self, rows: Rows) -> u64 {
        let word = match rows {
            Rows::Tokens => 0,
            Rows::Seqs => 1,
            Rows::SeqBounds => 2,
            Rows::Outputs => 3,
            Rows::Adjustments => 4,
            Rows::Masks => 5,
            Rows::Slots | Rows::Fixed(_) => self.fixed_word(self.most.count(rows) as u32),
        };
        self.counts + 4 * word as u64
    }

    fn fixed_word(&mut self, count: u32) -> usize {
        let place = self.fixed.iter().position(|&c| c == count).unwrap_or_else(|| {
            self.fixed.push(count);
            self.fixed.len() - 1
        });
        FIXED_COUNTS + place
    }
}

/// The ops as calls, in order.
pub(crate) fn lower(site: &mut Site) -> Vec<Call<Launch>> {
    let ops = &site.plan.ops;
    let mut calls = Vec::new();
    let mut at = 0;
    while at < ops.len() {
        if let Some((launch, taken)) = rope::fuse(site, &ops[at..]) {
            calls.push(Call::Launch(launch));
            at += taken;
        } else if let Some([linear, norm]) = fuse_residual(site.plan, &ops[at..]) {
            lower_linear(site, &linear, true, &mut calls);
            lower_one(site, &norm, &mut calls);
            at += 2;
        } else {
            lower_one(site, &ops[at], &mut calls);
            at += 1;
        }
    }
    calls
}

/// A Linear whose result the next op, a norm, adds to the residual: the Linear that adds it itself, and the norm that
/// finds it done. The result rounds once and not twice, and crosses memory once less.
fn fuse_residual(plan: &Plan, ops: &[Op]) -> Option<[Op; 2]> {
    let [
        Op::Linear { x, weight, bias, out },
        Op::RmsNorm { x: residual, add: Some(added), weight: scale, out: normed, width, eps },
        rest @ ..,
    ] = ops
    else {
        return None;
    };
    let same_type = plan.desc(out.buffer).dtype == plan.desc(residual.buffer).dtype;
    if added != out || x.buffer == residual.buffer || !same_type || is_read(plan, out.buffer, rest) {
        return None;
    }
    let (x, weight, bias, out) = (*x, *weight, *bias, *residual);
    let (scale, normed, width, eps) = (*scale, *normed, *width, *eps);
    Some([
        Op::Linear { x, weight, bias, out },
        Op::RmsNorm { x: out, add: None, weight: scale, out: normed, width, eps },
    ])
}

/// Whether some op reads a buffer before one writes all of it.
fn is_read(plan: &Plan, buffer: BufferId, ops: &[Op]) -> bool {
    for op in ops {
        if op.reads().iter().any(|view| view.buffer == buffer) {
            return true;
        }
        if op.writes().contains(&plan.view(buffer)) {
            return false;
        }
    }
    false
}

/// `add`: the Linear adds to what its output holds.
fn lower_linear(site: &mut Site, op: &Op, add: bool, calls: &mut Vec<Call<Launch>>) {
    let Op::Linear { x, weight, bias, out } = *op else { return };
    let one_type = site.view(x).dtype == site.buffer(weight).dtype;
    match site.blas.clone().filter(|_| one_type && !(add && bias.is_some())) {
        Some(blas) => calls.extend(cublaslt::lower(site, &blas, (x, weight, bias, out), add)),
        None => calls.push(Call::Launch(linear::lower(site, (x, weight, bias, out), add))),
    }
}

fn lower_one(site: &mut Site, op: &Op, calls: &mut Vec<Call<Launch>>) {
    let launch = match *op {
        Op::Linear { .. } => return lower_linear(site, op, false, calls),
        Op::PagedAttention { .. } => {
            return calls.extend(attention::lower(site, op).into_iter().map(Call::Launch));
        }
        Op::Embed { tokens, last, table, out } => embed::lower(site, tokens, last, table, out),
        Op::RmsNorm { x, add, weight, out, width, eps } => norm::lower(site, x, add, weight, out, width, eps),
        Op::Rope { x, positions, table, head_dim } => rope::lower_rope(site, x, positions, table, head_dim),
        Op::KvWrite { k, v, slots, k_pages, v_pages } => {
            rope::lower_write(site, k, v, slots, k_pages, v_pages)
        }
        Op::GatedMul { x, out, act } => gated::lower(site, x, out, act),
        Op::Add { a, b, out } => add::lower(site, a, b, out),
        Op::GatherRows { x, rows, out } => gather::lower(site, x, rows, out),
        Op::Sample { logits, sampling, adjustments, masks, last, out } => {
            sample::lower(site, logits, [sampling, adjustments, masks, last, out])
        }
    };
    calls.push(Call::Launch(launch));
}

/// Whether the kernels can run an op.
///
/// # Errors
/// What they lack.
pub(crate) fn supports(plan: &Plan, op: &Op) -> Result<(), String> {
    op.check(plan)?;
    let dtype = |v: View| plan.desc(v.buffer).dtype;
    match *op {
        Op::KvWrite { k, v, k_pages, v_pages, .. } => {
            let pages = |id: BufferId| plan.desc(id).dtype;
            if dtype(k) != dtype(v) || pages(k_pages) != pages(v_pages) {
                return Err("keys and values are of different types".into());
            }
        }
        Op::PagedAttention { q, k_pages, v_pages, out, head_dim, scale, .. } => {
            if plan.desc(k_pages).dtype != plan.desc(v_pages).dtype || dtype(q) != dtype(out) {
                return Err("keys and values, or queries and results, are of different types".into());
            }
            if head_dim > 512 {
                return Err(format!("a head has {head_dim} columns; the kernels go to 512"));
            }
            if scale.is_nan() || scale <= 0.0 {
                return Err(format!("scores are scaled by {scale}, which is not positive"));
            }
        }
        Op::Sample { logits, .. } if dtype(logits) != DType::F32 => {
            return Err(format!("logits are {}, not f32", dtype(logits)));
        }
        _ => {}
    }
    Ok(())
}
