//! Graphs: launches that are queued as one, captured when they are first needed.

use crate::driver::failure::device_lost;
use cudarc::driver::sys::{CUgraphInstantiate_flags, CUresult, CUstreamCaptureMode};
use cudarc::driver::{CudaGraph, CudaStream, DriverError};
use engine::device::DeviceError;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// What tells one graph of a list of calls from another: token rows and output rows.
pub(crate) type GraphKey = (usize, usize);

/// The graphs of one list of calls.
#[derive(Default)]
pub(crate) struct Graphs {
    captured: HashMap<GraphKey, CudaGraph>,
    /// Keys that have run once without a graph, where cuBLASLt is among the calls.
    warm: HashSet<GraphKey>,
    /// Whether a graph has found no memory.
    no_memory: bool,
}

impl Graphs {
    /// Queues what `queue` queues, as a graph if there is memory for it. `warm_up`: run it once without a graph first,
    /// because it loads code when it first runs, which a capture forbids.
    pub(crate) fn run(
        &mut self,
        key: GraphKey,
        stream: &Arc<CudaStream>,
        warm_up: bool,
        queue: impl Fn() -> Result<(), DeviceError>,
    ) -> Result<(), DeviceError> {
        if let Some(graph) = self.captured.get(&key) {
            return graph.launch().map_err(device_lost);
        }
        if self.no_memory || warm_up && self.warm.insert(key) {
            return queue();
        }
        let Some(graph) = capture(stream, &queue)? else {
            tracing::warn!(
                "no device memory is left for more CUDA graphs: further step shapes run without; leave more memory free"
            );
            self.no_memory = true;
            return queue();
        };
        graph.launch().map_err(device_lost)?;
        self.captured.insert(key, graph);
        Ok(())
    }
}

/// Records what `queue` queues; `None` if there is no memory for the graph.
fn capture(
    stream: &Arc<CudaStream>,
    queue: impl Fn() -> Result<(), DeviceError>,
) -> Result<Option<CudaGraph>, DeviceError> {
    stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL).map_err(device_lost)?;
    let recorded = queue();
    // The capture must end even if a launch was refused.
    let graph = stream.end_capture(CUgraphInstantiate_flags(0));
    recorded?;
    let invalid = DriverError(CUresult::CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    let graph = graph.and_then(|graph| graph.ok_or(invalid));
    // Uploaded here, so that a lack of memory shows here.
    match graph.and_then(|graph| graph.upload().map(|()| graph)) {
        Err(DriverError(CUresult::CUDA_ERROR_OUT_OF_MEMORY)) => Ok(None),
        other => other.map(Some).map_err(device_lost),
    }
}
