//! The memory that a plan takes besides its buffers.

use crate::counts;
use crate::driver::card::CardLimits;
use crate::inputs::Inputs;
use crate::ops::attention::grouping;
use crate::ops::linear::quantized_bytes;
use crate::ops::sample::parts_bytes;
use crate::planes;
use crate::work::{Grouping, Tiling, WorkBytes};
use engine::op::Op;
use engine::plan::{BufferDesc, BufferKind, Dims, Plan};

/// The attentions of a plan that run on tensor cores, by tiling.
pub(crate) fn groupings(plan: &Plan, max_dims: &Dims, limits: &CardLimits) -> Vec<(Tiling, Vec<Grouping>)> {
    let mut groups: Vec<(Tiling, Vec<Grouping>)> = Vec::new();
    let attentions = plan.ops.iter().filter_map(|op| match op {
        Op::PagedAttention(op) => grouping(plan, max_dims, limits, op),
        _ => None,
    });
    for grouping in attentions {
        match groups.iter_mut().find(|(tiling, _)| *tiling == grouping.tiling) {
            Some((_, same)) => same.push(grouping),
            None => groups.push((grouping.tiling, vec![grouping])),
        }
    }
    groups
}

/// Bytes of work lists, states, staging, counts, quantised rows and parts of sampled ones, and what is lost where the card
/// rounds allocations up to `granularity`.
pub(crate) fn workspace(plan: &Plan, max_dims: &Dims, limits: &CardLimits, granularity: usize) -> usize {
    // Small allocations share one that is rounded up.
    let rounded = |bytes: usize| match bytes {
        small if small < granularity / 2 => small.max(16).next_multiple_of(512),
        large => large.next_multiple_of(granularity),
    };
    let groups = groupings(plan, max_dims, limits);
    let works = groups.iter().flat_map(|(tiling, g)| WorkBytes::new(max_dims, *tiling, g).each());
    let works = works.map(rounded).sum::<usize>();
    let tilings: Vec<Tiling> = groups.iter().map(|(tiling, _)| *tiling).collect();
    let inputs = rounded(counts::BYTES) + rounded(Inputs::max_bytes(plan, max_dims, &tilings));
    // How many pages there will be is not known yet: each buffer of them may round up by as much.
    let lost = |desc: &BufferDesc| match desc.kind {
        BufferKind::KvPage => granularity,
        _ => rounded(planes::bytes(desc, max_dims.count(desc.rows))) - desc.bytes(max_dims),
    };
    let quantized = rounded(quantized_bytes(plan, max_dims, limits));
    let parts = rounded(parts_bytes(plan, max_dims));
    works + inputs + quantized + parts + plan.buffers.iter().map(lost).sum::<usize>() + granularity
}
