//! Queues one kernel.

use crate::args::ArgBytes;
use cudarc::driver::sys::{
    CUlaunchAttribute, CUlaunchAttributeID, CUlaunchAttributeValue, CUlaunchConfig, cuLaunchKernelEx,
};
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

/// Queues a kernel that waits itself for the kernels before it (`wait_for_kernels_before` in `ptx.cuh`): it may start as soon
/// as all blocks of the one before have allowed it. What else lies between the two is waited for as ever.
pub(crate) fn launch_early(
    stream: &CudaStream,
    function: &CudaFunction,
    shared: u32,
    config: &LaunchConfig,
    args: &ArgBytes,
) -> Result<(), DriverError> {
    let mut params = [args.as_ptr().cast_mut().cast()];
    let mut attribute = CUlaunchAttribute {
        id: CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION,
        pad: [0; 4],
        value: CUlaunchAttributeValue { pad: [0; 64] },
    };
    attribute.value.programmaticStreamSerializationAllowed = 1;
    let (grid, block) = (config.grid, config.block);
    let config = CUlaunchConfig {
        gridDimX: grid.0,
        gridDimY: grid.1,
        gridDimZ: grid.2,
        blockDimX: block.0,
        blockDimY: block.1,
        blockDimZ: block.2,
        sharedMemBytes: shared,
        hStream: stream.cu_stream(),
        attrs: &mut attribute,
        numAttrs: 1,
    };
    // SAFETY: as above; the driver copies the configuration.
    unsafe { cuLaunchKernelEx(&config, function.cu_function(), params.as_mut_ptr(), std::ptr::null_mut()) }
        .result()
}
