//! Errors of the driver as the engine's.

use cudarc::driver::result::DriverError;
use cudarc::driver::sys::CUresult;
use engine::device::{DeviceError, DeviceKind, MemoryUse};

/// A driver call that failed while the device worked. The context cannot be trusted after it.
pub(crate) fn device_lost(error: DriverError) -> DeviceError {
    let text = |s: Result<&std::ffi::CStr, DriverError>| {
        s.map(|s| s.to_string_lossy().into_owned()).unwrap_or_else(|_| format!("{:?}", error.0))
    };
    DeviceError::Lost {
        device: DeviceKind::Cuda,
        why: format!("{} ({})", text(error.error_string()), text(error.error_name())),
    }
}

/// An allocation that failed: out of memory, or worse.
pub(crate) fn allocation_failed(
    error: DriverError,
    what: &str,
    needed: usize,
    memory_use: MemoryUse,
) -> DeviceError {
    if error.0 != CUresult::CUDA_ERROR_OUT_OF_MEMORY {
        return device_lost(error);
    }
    let available = cudarc::driver::result::mem_get_info().map_or(0, |(free, _)| free);
    DeviceError::OutOfMemory { what: what.into(), needed, available, memory_use }
}
