//! Decode steps as graphs: steps of about as many rows run the same launches, so that one graph serves them all.

use crate::failure::lost;
use crate::launch::{Call, Extent, Loaded, WorkCount, run_all};
use crate::work::most_work;
use cudarc::driver::sys::{CUgraphInstantiate_flags, CUresult, CUstreamCaptureMode};
use cudarc::driver::{CudaGraph, CudaStream, result};
use engine::device::DeviceError;
use engine::plan::Dims;
use engine::step::Step;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// A plan's graphs, each captured when a step first needs it.
#[derive(Default)]
pub(crate) struct Graphs {
    /// By rows and outputs of their extent.
    captured: HashMap<(usize, usize), CudaGraph>,
    /// Extents that have run once without being a graph, where cuBLASLt has a part in them.
    warm: HashSet<(usize, usize)>,
    /// Whether a graph has found no memory.
    no_room: bool,
}

impl Graphs {
    /// Queues the calls of a decode step's extent, as a graph if there is memory for it.
    pub(crate) fn run(
        &mut self,
        calls: &[Call<Loaded>],
        stream: &Arc<CudaStream>,
        extent: &Extent,
    ) -> Result<(), DeviceError> {
        let key = (extent.dims.tokens, extent.dims.outputs);
        if let Some(graph) = self.captured.get(&key) {
            return graph.launch().map_err(lost);
        }
        // cuBLASLt loads its kernels when it first runs a shape, which a capture forbids.
        let products = calls.iter().any(|call| matches!(call, Call::Product(_)));
        if self.no_room || products && self.warm.insert(key) {
            return run_all(calls, stream, extent);
        }
        let Some(graph) = capture(calls, stream, extent)? else {
            tracing::warn!(
                "no memory is left for more decode graphs: other steps go without; lower --gpu-memory-utilization"
            );
            self.no_room = true;
            return run_all(calls, stream, extent);
        };
        graph.launch().map_err(lost)?;
        self.captured.insert(key, graph);
        Ok(())
    }
}

/// Records the calls of an extent; `None` if there is no memory for the graph.
fn capture(
    calls: &[Call<Loaded>],
    stream: &Arc<CudaStream>,
    extent: &Extent,
) -> Result<Option<CudaGraph>, DeviceError> {
    stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL).map_err(lost)?;
    let recorded = run_all(calls, stream, extent);
    // The capture must end even if a launch was refused.
    let graph = stream.end_capture(CUgraphInstantiate_flags(0));
    recorded?;
    let invalid = result::DriverError(CUresult::CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    let graph = graph.and_then(|graph| graph.ok_or(invalid));
    // Uploaded here, so that it is here that memory falls short.
    match graph.and_then(|graph| graph.upload().map(|()| graph)) {
        Err(result::DriverError(CUresult::CUDA_ERROR_OUT_OF_MEMORY)) => Ok(None),
        other => other.map(Some).map_err(lost),
    }
}

/// The least bucket that holds so many rows: steps of about a sixteenth, so that padding stays cheap.
pub(crate) fn bucket(rows: usize) -> usize {
    let step = (rows.next_power_of_two() / 16).max(1);
    rows.next_multiple_of(step)
}

/// The extent of the graph that can run this step, or `None` if it is no decode step: one token for each
/// sequence.
pub(crate) fn extent(step: &Step, most: &Dims, groups: &[usize]) -> Option<Extent> {
    let dims = step.dims();
    if dims.tokens == 0 || dims.tokens != dims.seqs {
        return None;
    }
    let rows = bucket(dims.tokens).min(most.seqs).min(most.tokens);
    let outputs = if dims.outputs == 0 { 0 } else { rows.min(most.outputs) };
    if dims.outputs > outputs || rows < dims.tokens {
        return None;
    }
    let dims = Dims { tokens: rows, seqs: rows, outputs, ..*most };
    let work = groups
        .iter()
        .map(|&group| {
            let most = most_work(&dims, group);
            WorkCount { prefill: 0, ..most }
        })
        .collect();
    Some(Extent { dims, work })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_hold_their_rows_and_waste_little() {
        for rows in 1..=1024 {
            let bucket = bucket(rows);
            assert!(bucket >= rows && bucket - rows < rows.div_ceil(8).max(1), "{rows} in {bucket}");
        }
    }
}
