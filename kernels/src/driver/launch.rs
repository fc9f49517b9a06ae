//! Queues one kernel.

use crate::args::ArgBytes;
use cudarc::driver::{CudaFunction, CudaStream, DriverError, result};

/// How one of several variants is launched.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LaunchConfig {
    /// Which variant.
    pub(crate) kernel: usize,
    /// Blocks.
    pub(crate) grid: (u32, u32, u32),
    /// Threads of a block.
    pub(crate) block: (u32, u32, u32),
}

/// Queues a kernel with `shared` bytes of dynamic shared memory.
pub(crate) fn launch(
    stream: &CudaStream,
    function: &CudaFunction,
    shared: u32,
    config: &LaunchConfig,
    args: &ArgBytes,
) -> Result<(), DriverError> {
    let mut params = [args.as_ptr().cast_mut().cast()];
    // SAFETY: the kernel takes one struct by value, of which `args` holds a copy in C's layout, compared with the
    // source's when the kernel was compiled; its pointers are to buffers of the plan, which outlives its steps.
    unsafe {
        result::launch_kernel(
            function.cu_function(),
            config.grid,
            config.block,
            shared,
            stream.cu_stream(),
            &mut params,
        )
    }
}
