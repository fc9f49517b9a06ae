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
    graphs: Graphs,
}

/// The grids of a step, and whether they are those of a graph.
pub(crate) struct StepGrid {
    pub(crate) grid: GridDims,
    pub(crate) graph: bool,
}

impl Stage {
    pub(crate) fn new(calls: Vec<Call<Loaded>>) -> Stage {
        Stage { calls, graphs: Graphs::default() }
    }

    /// Queues the calls of a step: as a graph if there is one for its grids, else one by one.
    ///
    /// # Errors
    /// [`DeviceError::Lost`].
    pub(crate) fn run(&mut self, stream: &Arc<CudaStream>, step: &StepGrid) -> Result<(), DeviceError> {
        let (calls, dims) = (&self.calls, &step.grid.dims);
        if calls.is_empty() || !step.graph {
            return run_all(calls, stream, &step.grid);
        }
        let warm_up = calls.iter().any(|call| matches!(call, Call::Product { .. }));
        let key = (dims.tokens, dims.outputs);
        self.graphs.run(key, stream, warm_up, || run_all(calls, stream, &step.grid))
    }

    /// Queues the calls one by one, and after each the next of the events.
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
            call.run(stream, grid)?;
            event.record(stream).map_err(device_lost)
        })
    }
}
