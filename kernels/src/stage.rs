//! The two stages of a step: the model's ops, and Sample, which may have to wait for masks.

use crate::driver::failure::device_lost;
use crate::driver::graph::Graphs;
use crate::grid::GridDims;
use crate::launch::{Call, Loaded, run_all};
use cudarc::driver::{CudaEvent, CudaStream};
use engine::device::DeviceError;
use std::sync::Arc;

/// Calls that are queued together, with their graphs.
pub(crate) struct Stage {
    calls: Vec<Call<Loaded>>,
    /// Whether a kernel may start before the one ahead of it is done.
    overlap: bool,
    graphs: Graphs,
}

/// The grids of a step, and whether they are those of a graph.
pub(crate) struct StepGrid {
    pub(crate) grid: GridDims,
    pub(crate) graph: bool,
}

impl Stage {
    pub(crate) fn new(calls: Vec<Call<Loaded>>, overlap: bool) -> Stage {
        Stage { calls, overlap, graphs: Graphs::default() }
    }

    /// Queues the calls of a step: as a graph if there is one for its grids, else one by one.
    ///
    /// # Errors
    /// [`DeviceError::Lost`].
    pub(crate) fn run(&mut self, stream: &Arc<CudaStream>, step: &StepGrid) -> Result<(), DeviceError> {
        let (calls, dims) = (&self.calls, &step.grid.dims);
        let queue = || run_all(calls, stream, &step.grid, self.overlap);
        if calls.is_empty() || !step.graph {
            return queue();
        }
        let warm_up = calls.iter().any(|call| matches!(call, Call::Product { .. }));
        let key = (dims.tokens, dims.outputs);
        self.graphs.run(key, stream, warm_up, queue)
    }

    /// Queues the calls one by one, each after the end of the one before, and after each the next of the events.
    ///
    /// # Errors
    /// [`DeviceError::Lost`].
    pub(crate) fn run_marked<'a>(
        &self,
        stream: &Arc<CudaStream>,
        grid: &GridDims,
        events: &mut impl Iterator<Item = &'a CudaEvent>,
    ) -> Result<(), DeviceError> {
        self.calls.iter().zip(events).try_for_each(|(call, event)| {
            call.run(stream, grid, false)?;
            event.record(stream).map_err(device_lost)
        })
    }
}
